"""COCO: one JSON file for many pictures; boxes as x, y, width, height from the top left edge, polygons, run lengths.

The plan reads the JSON once and hands each case its own entries, so that one more picture touches one shard.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from pipeline import runlength
from pipeline.errors import Unusable, UserError
from pipeline.records import Box, Case, Origin
from sources import shapes
from sources.annotation import Given, Mark, Marks, Ring
from sources.descriptor import AnnotationSpec
from sources.safe_json import parsed, parsed_but
from sources.shapes import Shape, Size

ORIGIN: Origin = "detection"


class Spec(AnnotationSpec):
    """Keys of COCO boxes and outlines."""

    kind: Literal["coco"]
    path: str
    """Template of the JSON file."""
    match: str = "{name}"
    """Template of the `file_name` that a case looks up."""
    keep_crowd: bool = False
    boxes_from: Literal["bbox", "segmentation"] = "bbox"
    """`segmentation`: boxes are those of the outlines, whatever the file's boxes say."""


def index(spec: Spec, path: Path) -> dict[str, str]:
    """Return `file_name` to what the file says of it, as JSON; boxes of an image that is not listed stand apart.

    Raises:
        UserError: It is not COCO JSON.
    """
    marks, used = defaultdict[str, list[str]](list), defaultdict[str, set[str]](set)

    def take(entry: Any) -> None:
        entry = entry if isinstance(entry, dict) else {}
        image = _id(entry.get("image_id"))
        # written anew, so that a file that was only laid out otherwise gives the same case
        marks[image].append(json.dumps(entry, separators=(",", ":")))
        used[image].add(_id(entry.get("category_id")))

    try:
        data = parsed_but(path.read_bytes(), "annotations", take)
        names = _named([(category["id"], shapes.label(category["name"])) for category in data["categories"]])
        _named([(image["id"], image["file_name"]) for image in data["images"]])
        if data.get("annotations"):
            raise ValueError("annotations should be a list")
        listed = _listed(data["images"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path.name}: not COCO JSON ({type(error).__name__}: {error})") from None
    except OSError as error:
        raise UserError(f"{path.name}: {error.strerror or error}") from None
    images = {image for _, of_name in listed.values() for image in of_name}
    listed |= {f"image {image}": (None, [image]) for image in marks if image not in images}
    return {name: _note(size, of_name, marks, used, names) for name, (size, of_name) in listed.items()}


def _id(value: Any) -> str:
    """Return an id as text: 7, 7.0 and "7" are one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, int | str) else f"of type {type(value).__name__}"


def _named(pairs: list[tuple[Any, str]]) -> dict[str, str]:
    """Return id to name; where two things had one id, nobody could tell whose an annotation is."""
    found = dict[str, str]()
    for number, name in pairs:
        if found.setdefault(_id(number), name) != name:
            raise ValueError(f"the id {_id(number)} stands for two names")
    return found


def _listed(images: list[Any]) -> dict[str, tuple[Size | None, list[str]]]:
    """Return file name to size and image ids: a name may stand twice, as when two readers' exports were joined."""
    found = dict[str, tuple[Size | None, list[str]]]()
    for image in images:
        name = image["file_name"].replace("\\", "/")
        size = shapes.size(image.get("width"), image.get("height"))
        found.setdefault(name, (size, []))[1].append(_id(image["id"]))
    return found


def _note(
    size: Size | None,
    images: list[str],
    marks: dict[str, list[str]],
    used: dict[str, set[str]],
    names: dict[str, str],
) -> str:
    """Return what the file says of one picture; its annotations stay as they are written."""
    known = {category: names[category] for image in images for category in sorted(used[image]) if category in names}
    texts = ",".join(text for image in images for text in marks.pop(image, ()))
    return f'{{"size":{json.dumps(size)},"names":{json.dumps(known)},"marks":[{texts}]}}'


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes and outlines of a picture; None where the JSON does not list it.

    Raises:
        Unusable: `bad_annotation`.
    """
    if given.note is None:
        return None
    try:
        entry = parsed(given.note)
    except ValueError:
        raise Unusable("bad_annotation", "what the JSON says of the picture is nested too deeply") from None
    marks = [mark if isinstance(mark, dict) else {} for mark in entry["marks"]]
    size = shapes.size(*entry["size"]) if entry["size"] else _coded_size(marks)
    seen = set[str]()
    return Marks(tuple(_mark(mark, entry["names"], size, spec, seen) for mark in marks), size)


def _coded_size(marks: list[dict[str, Any]]) -> Size | None:
    """Return the picture's size that a run-length code speaks of, where the entry of the picture gives none."""
    outlines = (mark.get("segmentation") for mark in marks)
    sizes = (_size_of(outline) for outline in outlines if isinstance(outline, dict))
    return next((size for size in sizes if size), None)


def _size_of(outline: dict[str, Any]) -> Size | None:
    size = outline.get("size")
    return shapes.size(*size[::-1]) if isinstance(size, list) and len(size) == 2 else None


def _mark(entry: dict[str, Any], names: dict[str, str], size: Size | None, spec: Spec, seen: set[str]) -> Mark:
    category, box = _id(entry.get("category_id")), entry.get("bbox")
    raw = names.get(category, f"category {category}")
    mark = shapes.marked(raw, _shape, box, entry.get("segmentation"), size, spec.boxes_from)
    same = " ".join(shapes.label(part) for part in (entry.get("id"), category, *(box if isinstance(box, list) else ())))
    if category not in names:
        mark = Mark(mark.raw, problem=("unknown_class", "its category is not in the file's list"))
    elif entry.get("id") is not None and same in seen:
        mark = Mark(raw, problem=("duplicate_annotation", "one of the same id, category and box stands above"))
    elif entry.get("iscrowd") in (1, "1") and not spec.keep_crowd:
        mark = Mark(raw, problem=("crowd", "a crowd, not one object; keep_crowd: true keeps it"))
    seen.add(same)
    return mark


def _shape(box: Any, outline: Any, size: Size | None, boxes_from: str) -> Shape:
    rings, code = _outline(outline, size)
    outlined = bool(rings) or code is not None
    if boxes_from == "segmentation" and not outlined:
        raise Unusable("bad_outline", "there is no outline to take the box from")
    if boxes_from == "segmentation" or (outlined and not box):
        return Shape(None, rings, code)
    return Shape(_box(box), rings, code)


def _box(box: Any) -> Box:
    try:
        x, y, width, height = (shapes.number(value) for value in box)
    except (TypeError, ValueError):
        raise Unusable("bad_box", "should be x, y, width, height") from None
    if not (width > 0 and height > 0):
        raise Unusable("box_zero_size", f"x {x:g}, y {y:g}, width {width:g}, height {height:g}")
    return shapes.box(x, y, x + width, y + height)


def _outline(outline: Any, size: Size | None) -> tuple[tuple[Ring, ...], str | None]:
    """Return the rings or the code of a `segmentation`; neither where it is left empty, or holds points and lines."""
    if not outline:
        return (), None
    if isinstance(outline, dict):
        return (), _code(outline, size)
    if not isinstance(outline, list):
        raise Unusable("bad_outline", f"should be polygons or a run-length code, is of type {type(outline).__name__}")
    parts = outline if isinstance(outline[0], list) else [outline]
    if not all(isinstance(part, list) for part in parts):
        raise Unusable("bad_outline", "should be a list of polygons")
    return tuple(shapes.flat_ring(part) for part in parts if len(part) >= 6), None


def _code(outline: dict[str, Any], size: Size | None) -> str:
    of, counts = _size_of(outline), outline.get("counts")
    if of is None or of[0] * of[1] > shapes.MAX_PIXELS:
        raise Unusable("bad_outline", "a run-length code needs the height and width of its picture")
    if of != size:
        raise Unusable("size_mismatch", f"the run-length code is of {of[0]}x{of[1]} px, the picture of {size}")
    try:
        if isinstance(counts, list):
            return runlength.from_counts([int(shapes.number(count)) for count in counts], *of)
        return runlength.checked(counts if isinstance(counts, str) else "", *of)
    except (ValueError, OverflowError) as error:
        raise Unusable("bad_outline", f"the run-length code is broken: {error}") from None
