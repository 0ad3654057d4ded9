"""Which file belongs to which: masks to pictures, label maps to volumes, annotation files to what they annotate.

By folders without their words for a role (`train/images` and `train/masks` are both `train`), and by names: the other
file's name is the case's, with something before or behind it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.propose import patterns
from pipeline.propose.levels import Levels, folders
from pipeline.propose.words import Key, around, bare, breaks, common_end, common_start, key_of, says_mask
from sources import templates
from sources.listing import built_in
from sources.templates import Paths

MOST_EXAMPLES = 2000
MOST_CHECKED = 300
_FEW = 0.5
_FEWEST_ALIKE = 3
_CHANGED = re.compile("flip|rot|aug|crop|left|right|small|large|thumb|copy|blur|noise|gr[ae]y|resiz", re.IGNORECASE)
"""Words for another picture of the same, which is no mask."""

Keys = Mapping[str, Key]
"""Path of a case's file to what its name is made of."""


class Pair(NamedTuple):
    """A file and the case that it belongs to."""

    case: str
    other: str
    tail: str
    """What stands behind the case's name in the other's."""


class Beside(NamedTuple):
    """Where the other files of cases lie."""

    template: str
    label: bool
    many: bool
    pairs: tuple[Pair, ...]


def keys(paths: Iterable[str]) -> dict[str, Key]:
    """Return what the names of cases are made of."""
    return {path: key_of(built_in(path)["stem"]) for path in paths}


def apart(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what may be pictures and what may be masks, by the words in their names and folders.

    Folders that all of them share say nothing: they are left out of account.
    """
    shared = len(common_folders(paths))
    is_mask = {
        path: any(says_mask(part) for part in (*folders(path)[shared:], built_in(path)["stem"])) for path in paths
    }
    if not any(is_mask.values()):
        is_mask = dict.fromkeys(paths, False) | dict.fromkeys(_with_tails(paths), True)
    return [path for path in paths if not is_mask[path]], [path for path in paths if is_mask[path]]


def _with_tails(paths: Sequence[str]) -> list[str]:
    """Return files beside most of the others that are called like them, with the same more: `x.jpg`, `x_1stHO.png`."""
    stems = {(folders(path), built_in(path)["stem"]) for path in paths}
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        above, stem = folders(path), built_in(path)["stem"]
        base = next((stem[:at] for at in reversed(breaks(stem)[:-1]) if (above, stem[:at]) in stems), None)
        if base is not None and re.search("[A-Za-z]{2}", stem[len(base) :]) and not _CHANGED.search(stem[len(base) :]):
            found[stem[len(base) :]].append(path)
    others = {tail: of for tail, of in found.items() if len(of) >= _FEWEST_ALIKE}
    bases = len(paths) - sum(map(len, others.values()))
    return [path for of in others.values() if len(of) >= 0.8 * bases for path in of]


def common_folders(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the folders that all files lie in."""
    if not paths:
        return ()
    first, last = folders(min(paths)), folders(max(paths))
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def paired(cases: Sequence[str], others: Sequence[str]) -> tuple[Keys, list[Pair]]:
    """Return what the names of cases are made of, and whose the other files are; those of no case are left out."""
    of_cases = keys(cases)
    found = _paired(of_cases, others)
    if len(found) >= _FEW * len(others) or len(cases) < 2:
        return of_cases, found
    cut = without_affixes(cases)
    again = _paired(cut, others, len(common_start([built_in(path)["stem"] for path in others])))
    return (cut, again) if len(again) > len(found) else (of_cases, found)


def of_names(names: Keys, others: Sequence[str]) -> list[Pair]:
    """Return whose the other files are, where the names of cases are known."""
    return _paired(names, others)


def without_affixes(paths: Sequence[str]) -> dict[str, Key]:
    """Count what all names begin or end with as no part of a case's name: `21_training`, `22_training`."""
    stems = [built_in(path)["stem"] for path in paths]
    start = common_start(stems)
    end = common_end([stem[len(start) :] for stem in stems])
    cut = (stem[len(start) : len(stem) - len(end)] for stem in stems)
    return {path: Key(start, key, end) for path, key in zip(paths, cut, strict=True)}


def _place(path: str) -> tuple[str, ...]:
    return tuple(name for name in map(bare, folders(path)) if name)


def _paired(of_cases: Keys, others: Sequence[str], start: int = 0) -> list[Pair]:
    near: dict[tuple[tuple[str, ...], str], str | None] = {}
    far: dict[str, str | None] = {}
    alone: dict[tuple[str, ...], str | None] = {}
    for path, key in of_cases.items():
        place = _place(path)
        for name in {key.key, built_in(path)["stem"]} - {""}:
            near[place, name] = None if (place, name) in near else path
            far[name] = None if name in far else path
        alone[place] = None if place in alone else path
    found = []
    for other in others:
        pair = _by_name(other, near, far, start) or _by_folder(other, alone)
        if pair:
            found.append(pair)
    return found


def _by_name(
    other: str, near: Mapping[tuple[tuple[str, ...], str], str | None], far: Mapping[str, str | None], shared: int
) -> Pair | None:
    stem, place = built_in(other)["stem"], _place(other)
    before = len(key_of(stem).before) if key_of(stem).key else 0
    for start in dict.fromkeys((0, before, shared)):
        for at in reversed(breaks(stem[start:])):
            name = stem[start : start + at]
            for depth in range(len(place), -1, -1):
                case = near.get((place[:depth], name))
                if case:
                    return Pair(case, other, stem[start + at :])
            if far.get(name):
                return Pair(far[name] or "", other, stem[start + at :])
    return None


def _by_folder(other: str, alone: Mapping[tuple[str, ...], str | None]) -> Pair | None:
    """Pair a file with the only case of its folder, or of the folder above."""
    place = _place(other)
    for depth in range(len(place), max(-1, len(place) - 2), -1):
        case = alone.get(place[:depth])
        if case:
            return Pair(case, other, built_in(other)["stem"])
    return None


def path_of(pairs: Sequence[Pair], of_cases: Keys, levels: Levels, key: str) -> Beside | None:
    """Return the template of the other files, given what is captured of a case, or None where there is none.

    Args:
        pairs: Those of one kind.
        of_cases: What names of cases are made of.
        levels: Of the folders of cases.
        key: What a case's name is captured as.
    """
    near = [pair for pair in pairs if pair.case.count("/") == levels.depth]
    if not near:
        return None
    depth, _ = Counter(pair.other.count("/") for pair in near).most_common(1)[0]
    alike = [pair for pair in near if pair.other.count("/") == depth]
    examples = alike[:: max(1, len(alike) // MOST_EXAMPLES)]
    known = levels.columns([pair.case for pair in examples])
    names = [_name_of(pair, of_cases) for pair in examples]
    if key and all(names):
        known[key] = names
    file = _file(examples, names if key and all(names) else [""] * len(examples), key, known)
    if file is None:
        return None
    above, label = _folders(examples, known, file.label)
    if above is None:
        return None
    template = f"{above}{file.template}{patterns.ending([pair.other for pair in alike])}"
    if _mixes(template, pairs, of_cases, levels, key if all(names) else ""):
        return None
    return Beside(template, file.label or label, file.many, tuple(alike))


def _mixes(template: str, pairs: Sequence[Pair], of_cases: Keys, levels: Levels, key: str) -> bool:
    """Return whether a template would give cases the files of others: of two folders with the same names, say."""
    owner = {pair.other: pair.case for pair in pairs}
    others = Paths(sorted(owner))
    checked = [path for path in of_cases if path.count("/") == levels.depth]
    for case in checked[:: max(1, len(checked) // MOST_CHECKED)]:
        captures = {**levels.of(case), **({key: of_cases[case].key} if key else {})}
        if any(owner[other] != case for other, _ in templates.find(template, others, captures)):
            return True
    return False


def _name_of(pair: Pair, of_cases: Keys) -> str:
    """Return the part of a case's name that stands in the other's."""
    key = of_cases[pair.case].key
    return key if key and key in built_in(pair.other)["stem"] else ""


def _file(examples: Sequence[Pair], names: Sequence[str], key: str, known: patterns.Columns) -> patterns.Tail | None:
    stems = [built_in(pair.other)["stem"] for pair in examples]
    whole = patterns.explained(stems, known)
    if whole is not None:
        return patterns.Tail(whole)
    parts = [stem.partition(name) if name else ("", "", stem) for stem, name in zip(stems, names, strict=True)]
    before = patterns.explained([part[0] for part in parts], known)
    behind = patterns.tail([part[2] for part in parts])
    if before is None or behind is None:
        return None
    middle = f"{{{key}}}" if any(names) else ""
    return behind._replace(template=f"{before}{middle}{behind.template}")


def _folders(examples: Sequence[Pair], known: patterns.Columns, labelled: bool) -> tuple[str | None, bool]:
    """Return the template of the folders above the others, and whether one of them captures a label."""
    template, label = "", False
    for column in zip(*(folders(pair.other) for pair in examples), strict=True):
        piece = patterns.explained(column, known)
        if piece is None and (labelled or label):
            return None, False
        if piece is None:
            before, behind = around(sorted(set(column)))
            piece, label = f"{patterns.literal(before)}{{label}}{patterns.literal(behind)}", True
        template += f"{piece}/"
    return template, label
