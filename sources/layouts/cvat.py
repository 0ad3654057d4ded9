"""CVAT XML 1.1: one file for many pictures (`CVAT for images`), or one for a video (`CVAT for video`); px.

Boxes, polygons, ellipses, masks and tags are read. A track of a video has a shape for each frame, which CVAT has filled
in between the key frames.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from pipeline.errors import Unusable, UserError
from pipeline.records import Case, Origin
from sources import shapes
from sources.annotation import Given, Mark, Marks, Ring
from sources.descriptor import AnnotationSpec
from sources.safe_json import parsed
from sources.safe_xml import Element
from sources.safe_xml import parsed as xml
from sources.shapes import Shape, Size

ORIGIN: Origin = "detection"
NO_AREA = ("polyline", "points", "skeleton", "cuboid")
DRAWN = ("box", "polygon", "ellipse", "mask", *NO_AREA)
BOX, ELLIPSE, MASK = ("xtl", "ytl", "xbr", "ybr"), ("cx", "cy", "rx", "ry"), ("left", "top", "width", "height")
KEPT = (*BOX, *ELLIPSE, *MASK, "points", "rle", "rotation")


class Spec(AnnotationSpec):
    """Keys of CVAT shapes and tracks."""

    kind: Literal["cvat"]
    path: str
    """Template of the XML file."""
    match: str = "{name}"
    """Template of the picture's or video's name that a case looks up; without a capture, the path alone tells which
    video the tracks are of."""


def index(spec: Spec, path: Path) -> dict[str, str]:
    """Return picture or video name to what the file says of it, as JSON.

    Raises:
        UserError: It is not CVAT XML.
    """
    try:
        tree = xml(path.read_bytes(), "CVAT")
    except Unusable as error:
        raise UserError(f"{path.name}: {error.detail}") from None
    except OSError as error:
        raise UserError(f"{path.name}: {error.strerror or error}") from None
    if tree.tag != "annotations":
        raise UserError(f"{path.name}: not CVAT XML 1.1; its root should be <annotations>")
    found = dict[str, dict[str, Any]]()
    for image in tree.findall("image"):
        size = shapes.size(image.get("width"), image.get("height"))
        entry = found.setdefault(image.get("name", ""), {"size": size, "marks": []})
        entry["marks"] += [[shape.get("label"), *_kept(shape), None] for shape in image if shape.tag in (*DRAWN, "tag")]
    tracks = tree.findall("track")
    if tracks or not found:
        drawn = ((track.get("label"), shape) for track in tracks for shape in track if _is_there(shape))
        marks = [[label, *_kept(shape), shape.get("frame", "")] for label, shape in drawn]
        found[_video(spec, tree)] = {"size": _size_of_video(tree), "marks": marks}
    return {name: json.dumps(entry, separators=(",", ":")) for name, entry in found.items()}


def _kept(shape: Element) -> tuple[str, dict[str, str]]:
    """Return tag and numbers; attributes of people's own are left out."""
    return shape.tag, {key: shape.attrib[key] for key in KEPT if key in shape.attrib}


def _is_there(shape: Element) -> bool:
    return shape.tag in DRAWN and shape.get("outside") != "1"


def _video(spec: Spec, tree: Element) -> str:
    if "{" not in spec.match:
        return spec.match
    return PurePosixPath((tree.findtext("meta/source") or "video").strip().replace("\\", "/")).name


def _size_of_video(tree: Element) -> Size | None:
    said = next(tree.iter("original_size"), None)
    return None if said is None else shapes.size(said.findtext("width"), said.findtext("height"))


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the shapes and tags of a picture or a video; None where the file does not list it."""
    if given.note is None:
        return None
    entry = parsed(given.note)
    size = shapes.size(*entry["size"]) if entry["size"] else None
    return Marks(tuple(_marks(entry["marks"], size)), size)


def _marks(entries: list[Any], size: Size | None) -> Iterator[Mark]:
    for raw, kind, value, frame in entries:
        mark = shapes.marked(raw, _shape, kind, value, size)
        if frame is None:
            yield mark
        elif frame.isdecimal() and len(frame) < 10:
            yield replace(mark, frames=(int(frame), int(frame) + 1))
        else:
            yield Mark(mark.raw, problem=("bad_annotation", "the shape's frame is not a number"))


def _shape(kind: str, value: dict[str, str], size: Size | None) -> Shape:
    if kind == "tag":
        return Shape()
    if kind in NO_AREA:
        raise Unusable("not_an_area", f"a {kind} has no area")
    if kind == "mask":
        return Shape(code=_code(value, size))
    if kind == "polygon":
        points = (point.split(",") for point in value.get("points", "").split(";"))
        return Shape(rings=(shapes.ring(points),))
    if kind == "ellipse":
        x, y, across, down = (_number(value.get(key)) for key in ELLIPSE)
        return Shape(rings=(_turned(shapes.ellipse(x, y, across, down), x, y, value),))
    box = shapes.box(*(value.get(key) for key in BOX))
    if "rotation" not in value:
        return Shape(box)
    return Shape(rings=(_turned(shapes.corners(box), (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, value),))


def _number(said: str | None) -> float:
    try:
        found = shapes.number(said)
    except ValueError:
        found = math.nan
    if not abs(found) <= shapes.FARTHEST:
        raise Unusable("bad_outline", "its centre, radius or rotation is not a number")
    return found


def _turned(outline: Ring, x: float, y: float, value: dict[str, str]) -> Ring:
    """Turn an outline clockwise about its centre."""
    return shapes.turned(outline, x, y, _number(value["rotation"])) if "rotation" in value else outline


def _code(value: dict[str, str], size: Size | None) -> str:
    """Return the code of a mask: run lengths of its box, row by row, background first."""
    try:
        counts = [int(count) for count in value.get("rle", "").split(",")]
        left, top, width, height = (int(value.get(key, "")) for key in MASK)
    except ValueError:
        raise Unusable("bad_outline", "the mask's run lengths and box should be whole numbers") from None
    if not 0 < width * height <= shapes.MAX_PIXELS or width < 0 or min(counts) < 0 or sum(counts) != width * height:
        raise Unusable("bad_outline", f"the mask's run lengths add up to {sum(counts)}; its box is {width}x{height} px")
    painted = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return shapes.coded(painted.reshape(height, width), left, top, size)
