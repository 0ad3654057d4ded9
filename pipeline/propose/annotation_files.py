"""Files of annotations, told by how they begin: one a picture (VOC, LabelMe, YOLO …) or one for many (COCO …)."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import Unusable, UserError
from pipeline.propose import pairs, patterns
from pipeline.propose.files import Base, Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Keys
from pipeline.records import Case
from sources import safe_json, safe_xml
from sources.descriptor import layout
from sources.listing import built_in

MOST_BYTES = 512 << 20
"""Of a file that is read to tell what it is."""
_NAMES = ("data.yaml", "dataset.yaml", "classes.txt", "obj.names", "labels.txt")
_YOLO = re.compile(r"\s*\d+(\.0)?(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_OF_MANY = ("coco", "labelstudio", "cvat")
_ASPECT = ("name", "path", "stem")


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
    for form in ("xml", "json", "text"):
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
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return {"xml": _of_xml, "json": _of_json, "text": _of_text}[form](data)


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
    lines = [line for line in data[:20_000].decode("utf-8-sig", "replace").splitlines() if line.strip()]
    return "yolo" if lines and all(_YOLO.fullmatch(line) for line in lines[:20]) else None


# ---- one file a case


def _of_one(kind: str, paths: Sequence[str], base: Base, seen: Seen) -> Iterator[Part]:
    found = pairs.of_names(base.files.names, paths)
    beside = pairs.path_of(found, base.files.names, base.files.levels, base.files.key)
    if beside is None or beside.label or beside.many:
        return
    keys: Keys = {"kind": kind, "path": beside.template}
    others = tuple(pair.other for pair in beside.pairs)
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
    yield from (int(float(line.split()[0])) for line in lines if _YOLO.fullmatch(line))


# ---- one file for many cases


def _of_many(kind: str, paths: Sequence[str], cases: Sequence[Case], seen: Seen) -> Iterator[Part]:
    """Yield an annotation for each file, or one for all where a capture of the cases tells which is whose."""
    by_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_name[case.captures["name"].casefold()].append(case)
    found = []
    for path in paths:
        listed = _listed(kind, path, seen)
        pictures = [(name, case) for name in listed if (case := _case_of(name, path, by_name)) is not None]
        match = _match(pictures)
        if match and 2 * len(pictures) >= len(listed):
            found.append((path, match, pictures))
    where = [(path, case) for path, _, pictures in found for _, case in pictures[:50]]
    one = patterns.explained([path for path, _ in where], _columns([case for _, case in where])) if found else None
    if one and "{" in one and len(found) > 1 and len({match for _, match, _ in found}) == 1:
        yield Part({"kind": kind, "path": one, "match": found[0][1]}, tuple(path for path, _, _ in found))
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


def _case_of(name: str, path: str, by_name: Mapping[str, Sequence[Case]]) -> Case | None:
    """Return the case that a name means: of several the one whose path ends in it, or that shares the file's words."""
    told = name.replace("\\", "/")
    alike = by_name.get(told.rpartition("/")[2].casefold(), ())
    if len(alike) > 1:
        alike = [case for case in alike if f"/{case.captures['path']}".endswith(f"/{told}")] if "/" in told else alike
    if len(alike) > 1:
        stem = built_in(path)["stem"]
        alike = [
            case for case in alike
            if any(part and (part in stem or part in path.split("/")) for part in case.captures["folder"].split("/"))
        ]  # fmt: skip
    return alike[0] if len(alike) == 1 else None


def _match(pictures: Sequence[tuple[str, Case]]) -> str | None:
    examples = pictures[:: max(1, len(pictures) // pairs.MOST_EXAMPLES)]
    if not examples:
        return None
    names = [name for name, _ in examples]
    cases = [case for _, case in examples]
    for aspect in ("name", "path", "stem"):
        if all(case.captures[aspect] == name for name, case in examples):
            return f"{{{aspect}}}"
    return patterns.explained(names, _columns(cases))


def _columns(cases: Sequence[Case]) -> dict[str, list[str]]:
    names = set.intersection(*(set(case.captures) for case in cases)) if cases else set()
    left_out = {"path", "suffix", "folder"}
    return {name: [case.captures[name] for case in cases] for name in sorted(names - left_out)}
