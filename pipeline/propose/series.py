"""DICOM: which folders are series, which files pictures of their own, and which mark others (SEG, RTSTRUCT)."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.errors import Unusable, UserError
from pipeline.ingest import dicom
from pipeline.ingest.dicom_pixels import text
from pipeline.propose import files as case_files
from pipeline.propose import pairs, patterns
from pipeline.propose.files import Base, Files, Part
from pipeline.propose.folder import Seen
from pipeline.propose.levels import Levels, by_depth, levels
from pipeline.propose.pairs import Pair
from pipeline.propose.words import Key
from pipeline.vocabulary import Vocabulary
from sources import templates

SLICES = frozenset(("CT", "MR", "PT"))
"""Modalities whose files are slices of a volume."""
MARKS = {"SEG": "seg", "RTSTRUCT": "rtstruct"}
NO_PICTURES = frozenset(
    ("RTPLAN", "RTDOSE", "RTRECORD", "PLAN", "SR", "PR", "KO", "REG", "FID", "RWV", "ANN", "DOC", "STAIN", "SMR", "ECG")
)
MOST_HEADERS = 400
MOST_NAMED = 8
"""Files that are named one by one where they are no pictures."""


class Alike(NamedTuple):
    """Files of one folder whose names differ in numbers alone."""

    folder: str
    shape: str
    """Of their names: `#` for a number."""
    paths: tuple[str, ...]
    code: str
    """Modality as the header of the first says it; empty where it can not be read."""


def bases(seen: Seen, vocabulary: Vocabulary) -> Iterator[Base]:
    """Yield what a folder of DICOM files may be."""
    groups = _groups(seen)
    pictures = [group for group in groups if group.code not in MARKS and group.code not in NO_PICTURES]
    if not pictures:
        return
    volumes = [group for group in pictures if _is_series(group, groups)]
    if 2 * sum(len(group.paths) for group in volumes) >= sum(len(group.paths) for group in pictures):
        base = _series(volumes, groups, vocabulary)
    else:
        paths = sorted(path for group in pictures for path in group.paths)
        files = case_files.described(paths, case_files.whole(paths), vocabulary)
        deep = any(group.code in SLICES for group in pictures)
        base = Base(files, {"cases": case_files.cases(files, form="series")}, deep=deep)
    exclude = _exclude(base.files, [group for group in groups if group not in pictures], pictures)
    keys = {**base.keys, "cases": {**base.keys["cases"], **({"exclude": exclude} if exclude else {})}}
    yield base._replace(keys={**keys, **_modality(pictures, base.files.levels, vocabulary)})


def _is_series(group: Alike, groups: Sequence[Alike]) -> bool:
    """Return whether files are slices: of a modality that has them, and most pictures of their folder, or marked."""
    near = [other for other in groups if other.folder == group.folder]
    beside = sum(len(other.paths) for other in near if other.code not in (*MARKS, *NO_PICTURES))
    marked = any(other.code in MARKS for other in near)
    return group.code in (*SLICES, "") and (len(group.paths) > 1 or marked) and 2 * len(group.paths) >= beside


def _exclude(files: Files, others: Sequence[Alike], wanted: Sequence[Alike]) -> list[str]:
    """Return templates of what fits the templates of cases and is no picture."""
    stray = case_files.strays(files.match, (), [path for group in others for path in group.paths])
    if len(stray) <= MOST_NAMED:
        return [patterns.literal(path) for path in stray]
    shapes = sorted({re.sub("[0-9]+", "*", path.rpartition("/")[2]) for path in stray})
    pictures = [path for group in wanted for path in group.paths]
    found = []
    for template in (f"**/{patterns.literal(shape)}" for shape in shapes):
        if any(templates.match(template, path) is not None for path in pictures):
            found += [patterns.literal(path) for path in stray if templates.match(template, path) is not None]
        else:
            found.append(template)
    return found


def _groups(seen: Seen) -> list[Alike]:
    """Return DICOM files by folder and shape of name; of each group one header is read."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in seen.of("series"):
        folder, _, name = path.rpartition("/")
        alike[folder, re.sub("[0-9]+", "#", name)].append(path)
    found = []
    for number, ((folder, shape), paths) in enumerate(sorted(alike.items())):
        code = _code(seen, paths[0]) if number < MOST_HEADERS else ""
        found.append(Alike(folder, shape, tuple(paths), code))
    return found


def _code(seen: Seen, path: str) -> str:
    try:
        dataset = dicom.read_file(seen.root / path, defer=True)
    except Unusable:
        return ""
    return dicom.modality(dataset) or text(dataset, "Modality")


def _modality(pictures: Sequence[Alike], above: Levels, vocabulary: Vocabulary) -> dict[str, str]:
    """Return the modality where all headers that were read say the same, or a folder's name says what they say."""
    said = {group.paths[0]: vocabulary.terms.dicom_modalities.get(group.code) for group in pictures if group.code}
    different = set(said.values())
    if len(different) == 1:
        one = different.pop()
        return {"modality": one} if one else {}
    near = [(above.of(path), key) for path, key in said.items() if path.count("/") == above.depth]
    telling = (name for name in above.places if all(_means(captures[name], key, vocabulary) for captures, key in near))
    name = next(telling, None)
    return {"modality": f"{{{name}}}"} if name else {}


def _means(name: str, modality: str | None, vocabulary: Vocabulary) -> bool:
    try:
        return vocabulary.modality(name, "") == modality
    except UserError:
        return False


def _series(volumes: Sequence[Alike], groups: Sequence[Alike], vocabulary: Vocabulary) -> Base:
    """Return volumes that are a folder each, and the objects that mark them."""
    depths = by_depth([group.paths[0] for group in volumes])
    main = set(depths[0])
    taken = [group for group in volumes if group.paths[0] in main]
    above = levels([group.paths[0] for group in taken], vocabulary, deep=True)
    match = above.template + _names(taken, groups)
    names = {path: Key("", path.split("/")[_own(above)], "") for path in main}
    files = Files(tuple(sorted(main)), names, above, "", (match,))
    keys = {"cases": {"match": match, "form": "series", "id": _id(above, taken)}}
    assumed = [
        "a folder holds the slices of one series; where it holds several, name what tells them apart in cases.id"
    ]
    parts = []
    for code, kind in MARKS.items():
        marks = sorted(path for group in groups if group.code == code for path in group.paths)
        part = _marking(kind, marks, files) if marks else None
        parts += [part] if part else []
    return Base(files, keys, parts, tuple(assumed), True)


def _own(above: Levels) -> int:
    """Return the place of the folder that tells one series from another."""
    return max(above.places.values(), default=0)


def _id(above: Levels, taken: Sequence[Alike]) -> str:
    if above.places:
        return "/".join(f"{{{name}}}" for name in above.places)
    return patterns.literal(taken[0].folder.rpartition("/")[2]) or "series"


def _names(taken: Sequence[Alike], groups: Sequence[Alike]) -> str:
    """Return the template of the slices' names: by their shape, where other files lie in their folders."""
    folders = {group.folder for group in taken}
    others = [group for group in groups if group.folder in folders and group not in taken]
    shapes = Counter(group.shape for group in taken)
    if others and len(shapes) == 1:
        return next(iter(shapes)).replace("#", "{number:[0-9]+}", 1).replace("#", "*")
    return "*" + patterns.ending([path for group in taken for path in group.paths]).removeprefix("*")


def _marking(kind: str, marks: Sequence[str], files: Files) -> Part | None:
    """Return the annotation of objects that mark series, where it can be told whose they are."""
    found = _whose(marks, files)
    counts = Counter(pair.case for pair in found)
    once = [pair for pair in found if counts[pair.case] == 1]
    if not once:
        once = sorted(found, key=lambda pair: (len(pair.other), pair.other))[:1]
    beside = pairs.path_of(once, files.names, files.levels, "")
    if beside is None or beside.label:
        return None
    optional = {"optional": "true"} if len(beside.pairs) < len(files.paths) else {}
    return Part({"kind": kind, "path": beside.template, **optional}, tuple(marks))


def _whose(marks: Sequence[str], files: Files) -> list[Pair]:
    """Pair each with the series whose folders it shares most of, or with the only one."""
    if len(files.paths) == 1:
        return [Pair(files.paths[0], mark, "") for mark in marks]
    owners: dict[tuple[str, ...], str] = {}
    for path in files.paths:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            start = tuple(parts[:depth])
            owners[start] = "" if start in owners else path
    found = []
    for mark in marks:
        parts = mark.split("/")[:-1]
        starts = [tuple(parts[:depth]) for depth in range(len(parts), 0, -1)]
        owner = next((owners[start] for start in starts if start in owners), "")
        found += [Pair(owner, mark, "")] if owner else []
    return found
