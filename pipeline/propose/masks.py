"""Pictures with masks and volumes with label maps, told by names and folders."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import Unusable
from pipeline.ingest import header_labels
from pipeline.propose import pairs
from pipeline.propose.files import Files, Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Keys
from pipeline.propose.levels import folders
from pipeline.propose.pairs import Beside, Pair
from pipeline.propose.words import MASK, ROLES, words
from pipeline.vocabulary import Vocabulary

STRUCTURE = "structure"
"""What a mask shows that nothing names."""
ASK_IDS = "the ids and what they are; medgloss check tells which it finds"


def annotations(files: Files, left: Sequence[Pair], seen: Seen, vocabulary: Vocabulary, flat: bool) -> list[Part]:
    """Return the annotations that lie in masks; of each arrangement of their files one.

    Args:
        files: The cases.
        left: Masks and whose they are.
        seen: The folder.
        vocabulary: Tells what a name means.
        flat: Masks of pictures, not of volumes.
    """
    known = set(files.paths)
    left = [pair for pair in left if pair.case in known]
    found: list[Part] = []
    while left and len(found) < 4:
        beside, rest = _largest(left, files)
        if beside is None:
            break
        found.append(_flat(beside, seen, vocabulary) if flat else _volumes(beside, files, seen, vocabulary))
        left = rest
    return _told_apart(found)


def _told_apart(parts: Sequence[Part]) -> list[Part]:
    """Give masks of several kinds that nothing names different labels."""
    unnamed = [part for part in parts if part.keys.get("label") == STRUCTURE]
    if len(unnamed) < 2:
        return list(parts)
    labels = {id(part): f"{STRUCTURE} {number}" for number, part in enumerate(unnamed, 1)}
    return [part._replace(keys={**part.keys, "label": labels.get(id(part), part.keys.get("label"))}) for part in parts]


def _largest(left: Sequence[Pair], files: Files) -> tuple[Beside | None, list[Pair]]:
    """Return where the masks of the folder that holds most lie, and the pairs that are elsewhere."""
    places = Counter(_arrangement(pair) for pair in left)
    most = min(places, key=lambda place: (-places[place], place))
    alike = [pair for pair in left if _arrangement(pair) == most]
    found = pairs.path_of(alike, files.names, files.levels, files.key)
    if found is None or _ambiguous(found):
        tails = Counter(pair.tail for pair in alike)
        usual = min(tails, key=lambda tail: (-tails[tail], tail))
        alike = [pair for pair in alike if pair.tail == usual]
        found = pairs.path_of(alike, files.names, files.levels, files.key)
    taken = {pair.other for pair in alike}
    return found, [pair for pair in left if pair.other not in taken]


def _arrangement(pair: Pair) -> tuple[str, ...]:
    """Return how deep a mask lies, and what of its folders' names are words for a mask."""
    above = folders(pair.other)
    return (str(len(above)), *(word for name in above for word in words(name) if word in MASK))


def _ambiguous(found: Beside) -> bool:
    """Return whether a case has two files that nothing tells apart."""
    counts = Counter(pair.case for pair in found.pairs)
    return max(counts.values()) > 1 and not (found.label or found.many)


def _flat(beside: Beside, seen: Seen, vocabulary: Vocabulary) -> Part:
    keys: Keys = {"kind": "mask", "path": beside.template}
    others = tuple(pair.other for pair in beside.pairs)
    if beside.label:
        said = "what a mask shows is what {label} captures of its path; masks are binary"
        return Part(keys | ({"spaces": "+"} if any("+" in other for other in others) else {}), others, (said,))
    if _has_palette(seen.root / others[0]):
        keys |= {"encoding": "indexed", "labels": {"1": f"{STRUCTURE} 1"}}
        said = "the masks have a palette: their values are ids of labels"
        return Part(keys, others, (said,), {"labels": ASK_IDS})
    keys["label"] = _named(beside.pairs[0], vocabulary) or STRUCTURE
    said = "masks are binary, all of one label; where their values are ids: encoding: indexed, labels: {1: …, 2: …}"
    return Part(keys, others, (said,), {"label": "what the masks show"})


def _named(pair: Pair, vocabulary: Vocabulary) -> str | None:
    """Return what a mask shows, where its name has a word of the vocabulary that its case's name has not."""
    told = {*words(pair.case), *ROLES}
    said = [word for word in words(f"{pair.tail} {pair.other.rpartition('/')[0]}") if word not in told]
    return next((word for word in said if vocabulary.meaning(word).concept), None)


def _has_palette(path: Path) -> bool:
    """Return whether a PNG's header says that its values are indices."""
    try:
        with path.open("rb") as file:
            head = file.read(26)
    except OSError:
        return False
    return head.startswith(b"\x89PNG") and len(head) == 26 and head[25] == 3


def _volumes(beside: Beside, files: Files, seen: Seen, vocabulary: Vocabulary) -> Part:
    others = tuple(pair.other for pair in beside.pairs)
    lacking = len({pair.case for pair in beside.pairs}) < len(files.paths)
    optional: Keys = {"optional": "true"} if lacking else {}
    if beside.label and not beside.many:
        said = "the name of a file is the structure that it shows"
        return Part({"kind": "mask_per_class", "path": beside.template, **optional}, others, (said,))
    keys: Keys = {"kind": "labelmap", "path": beside.template, **optional}
    named = _in_header(seen.root / others[0])
    if named:
        keys |= {"labels_from": "header", "labels": {name: name for name in sorted(set(named.values()))}}
        return Part(keys, others, ("label maps name their ids in their headers",))
    keys["labels"] = {"1": _named(beside.pairs[0], vocabulary) or f"{STRUCTURE} 1"}
    return Part(keys, others, ("nothing names the ids of the label maps",), {"labels": ASK_IDS})


def _in_header(path: Path) -> dict[int, str] | None:
    try:
        return header_labels.names(path)
    except Unusable:
        return None
