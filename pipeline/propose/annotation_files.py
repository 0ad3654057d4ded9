"""Files of annotations, told by how they begin: one a picture (VOC, LabelMe, YOLO …) or one for many (COCO …)."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import Unusable, UserError
from pipeline.propose import naming, pairs, patterns
from pipeline.propose.files import Base, Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Keys
from pipeline.records import Case
from sources import safe_json, safe_xml
from sources.descriptor import layout

MOST_BYTES = 512 << 20
"""Of a file that is read to tell what it is."""
MOST_START = 20_000
"""Bytes of a text that tell what it is."""
_NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names", "labels.txt")
_YOLO = re.compile(r"\s*[0-9]{1,6}(\.0)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_OF_MANY = ("coco", "labelstudio", "cvat")


def parts(base: Base, cases: Sequence[Case], seen: Seen) -> Iterator[Part]:
    """Yield the annotations that files beside the cases hold."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for path, kind in _kinds(seen):
        of_kind[kind].append(path)
    for kind, paths in sorted(of_kind.items()):
        found = _of_many(kind, paths, cases, seen) if kind in _OF_MANY else _of_one(kind, paths, base, seen)
        yield from found


# ---- what a file is


def _kinds(seen: Seen) -> Iterator[tuple[str, str]]:
    """Yield annotation files and their kinds; where a folder has many of a form, the first speaks for the others."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for form in ("xml", "json", "text", "table"):
        for path in seen.of(form):
            groups[path.rpartition("/")[0], form].append(path)
    for (_, form), paths in sorted(groups.items()):
        if len(paths) <= 12:
            each = ((path, _kind(seen.root / path, form)) for path in paths)
            yield from ((path, kind) for path, kind in each if kind)
            continue
        kinds = [kind for kind in (_kind(seen.root / path, form) for path in paths[:5]) if kind]
        if kinds:
            yield from ((path, max(kinds, key=kinds.count)) for path in paths)


def _kind(path: Path, form: str) -> str | None:
    whole = form in ("xml", "json")
    try:
        if whole and path.stat().st_size > MOST_BYTES:
            return None
        with path.open("rb") as file:
            data = file.read(-1 if whole else MOST_START)
    except OSError:
        return None
    return {"xml": _of_xml, "json": _of_json, "text": _of_text, "table": _of_table}[form](data)


def _of_xml(data: bytes) -> str | None:
    try:
        root = safe_xml.parsed(data, "XML")
    except Unusable:
        return None
    if root.tag == "annotation":
        return "voc" if root.find("object") is not None or root.find("size") is not None else None
    return {"annotations": "cvat", "Annotations": "aperio", "ASAP_Annotations": "aperio"}.get(root.tag)


def _of_json(data: bytes) -> str | None:
    try:
        found = safe_json.parsed(data)
    except ValueError:
        return None
    if isinstance(found, Mapping):
        lists = [key for key in ("images", "annotations", "categories", "shapes") if isinstance(found.get(key), list)]
        return "labelme" if "shapes" in lists else "coco" if len(lists) == 3 else None
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, Mapping):
        return None
    exported = isinstance(first.get("data"), Mapping) and ("annotations" in first or "completions" in first)
    return "labelstudio" if exported or {"annotator", "annotation_id", "image"} <= first.keys() else None


def _of_text(data: bytes) -> str | None:
    lines = [line for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    if lines and all(_YOLO.fullmatch(line) for line in lines[:20]):
        return "yolo"
    return _of_table(data)


def _of_table(data: bytes) -> str | None:
    header, rows = _head(data)
    return "intervals" if len(header) > 1 and rows and _positions(header) else None


def _head(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Return the column names and the first rows of a table of one video."""
    lines = [line for line in data.decode("utf-8-sig", "replace").splitlines() if line.strip()]
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    cells = [[cell.strip() for cell in line.split(delimiter)] for line in lines[:20]]
    return (cells[0], cells[1:]) if cells else ([], [])


def _positions(header: Sequence[str]) -> list[str]:
    """Return the columns of a frame, or of beginning and end; none where these names are not there."""
    folded = {name.lower(): name for name in header}
    for wanted in (("frame",), ("start", "end"), ("begin", "end"), ("from", "to"), ("start_time", "end_time")):
        if all(name in folded for name in wanted):
            return [folded[name] for name in wanted]
    return []


def _intervals(path: Path) -> Part:
    header, rows = _head(path.read_bytes()[:MOST_START])
    where = _positions(header)
    others = [name for name in header if name not in where]
    keys: Keys = {"frame": where[0]} if len(where) == 1 else {"from": where[0], "to": where[1]}
    ask: dict[str, str] = {}
    if len(where) == 2:
        timed = any(":" in row[header.index(where[0])] for row in rows if len(row) == len(header))
        keys["unit"] = "timecode" if timed else "seconds"
        ask["unit"] = "frames, seconds or timecode"
    if len(others) == 1:
        return Part({**keys, "label": others[0]}, (), (), ask)
    return Part({**keys, "present": others, **({"until_next": "true"} if len(where) == 1 else {})}, (), (), ask)


# ---- one file a case


def _of_one(kind: str, paths: Sequence[str], base: Base, seen: Seen) -> Iterator[Part]:
    found = pairs.of_names(base.files.names, paths)
    beside = pairs.path_of(found, base.files.names, base.files.levels, base.files.key)
    if beside is None or beside.label or beside.many:
        return
    keys: Keys = {"kind": kind, "path": beside.template}
    others = tuple(pair.other for pair in beside.pairs)
    if kind == "intervals":
        of_video = _intervals(seen.root / others[0])
        yield of_video._replace(keys={**keys, **of_video.keys}, others=others)
        return
    if kind != "yolo":
        yield Part(keys, others)
        return
    names = sorted((path.count("/"), path) for path in seen.paths if _is_names(path))
    if names:
        yield Part({**keys, "names": names[0][1]}, (*others, names[0][1]))
        return
    classes = sorted({number for path in others[:500] for number in _classes(seen.root / path)})
    labels = {str(number): f"class {number}" for number in classes or [0]}
    yield Part({**keys, "labels": labels}, others, ("no file names the classes",), {"labels": "what the classes are"})


def _is_names(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in _NAMES or name.endswith(".names")


def _classes(path: Path) -> Iterator[int]:
    try:
        lines = path.read_text("utf-8-sig", "replace").splitlines()
    except OSError:
        return
    yield from (int(line.split()[0].partition(".")[0]) for line in lines if _YOLO.fullmatch(line))


# ---- one file for many cases


def _of_many(kind: str, paths: Sequence[str], cases: Sequence[Case], seen: Seen) -> Iterator[Part]:
    """Yield an annotation for each file, or one for all where a capture of the cases tells which is whose."""
    named = naming.by_name(cases)
    found = []
    for path in paths:
        listed = _listed(kind, path, seen)
        whose = ((name, naming.case_of(name, path, named)) for name in listed)
        pictures = [(name, case) for name, case in whose if case is not None]
        match = naming.match(pictures)
        if match and 2 * len(pictures) >= len(listed):
            found.append((path, match, [case for _, case in pictures]))
    matches, where = {match for _, match, _ in found}, [(path, case) for path, _, of in found for case in of[:50]]
    one = patterns.explained([path for path, _ in where], naming.columns([case for _, case in where]))
    if one and "{" in one and len(found) > 1 and len(matches) == 1:
        yield Part({"kind": kind, "path": one, "match": matches.pop()}, tuple(path for path, _, _ in found))
        return
    for path, match, _ in found:
        yield Part({"kind": kind, "path": path, "match": match}, (path,))


def _listed(kind: str, path: str, seen: Seen) -> list[str]:
    """Return the names of pictures that a file speaks of."""
    module: Any = layout(kind)
    try:
        listed: Mapping[str, str] = module.index(module.Spec(kind=kind, path="-"), seen.root / path)
    except UserError:
        return []
    return sorted(listed)
