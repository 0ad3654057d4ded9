"""LabelMe: one JSON file a picture with named shapes, in px from the top left edge.

Flags of the picture that are set are labels of the whole picture. Polygons of one group and label are one region.
"""

import base64
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources import shapes
from sources.annotation import Given, Mark, Marks, Ring, only_one
from sources.descriptor import AnnotationSpec
from sources.safe_json import parsed
from sources.shapes import Shape, Size

ORIGIN: Origin = "detection"
PER_CASE = True
NO_AREA = ("point", "points", "line", "linestrip")


class Spec(AnnotationSpec):
    """Keys of LabelMe shapes."""

    kind: Literal["labelme"]
    path: str
    """Template of the JSON file."""


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the shapes of a picture; None where it has no file.

    Raises:
        Unusable: `ambiguous_annotation`; `bad_annotation`, the file is not the JSON it should be.
    """
    if not given.files:
        return None
    only_one(given)
    try:
        data = parsed((given.root / given.files[0]).read_bytes())
        found, flags = data["shapes"], data.get("flags") or {}
        if not isinstance(found, list) or not isinstance(flags, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unusable("bad_annotation", "not LabelMe JSON: it has no list of shapes") from None
    size = shapes.size(data.get("imageWidth"), data.get("imageHeight"))
    whole = (shapes.marked(flag, Shape) for flag, is_set in flags.items() if is_set is True)
    return Marks((*whole, *_marks(found, size)), size)


def _marks(found: list[Any], size: Size | None) -> Iterator[Mark]:
    """Yield a mark for each shape, or for all polygons of a group where the first of them stands."""
    groups = dict[str, list[dict[str, Any]]]()
    for n, shape in enumerate(found):
        shape = shape if isinstance(shape, dict) else {}
        group, name = shapes.label(shape.get("group_id")), shapes.label(shape.get("label"))
        key = f"group {group} {name}" if group and _type(shape) == "polygon" else f"shape {n}"
        groups.setdefault(key, []).append(shape)
    for parts in groups.values():
        yield shapes.marked(parts[0].get("label"), _shape, parts, size)


def _type(shape: dict[str, Any]) -> str:
    return shapes.label(shape.get("shape_type")) or "polygon"  # files of before 2018 have polygons only


def _shape(parts: list[dict[str, Any]], size: Size | None) -> Shape:
    kind, points = _type(parts[0]), parts[0].get("points") or ()
    if kind in ("polygon", "rotation", "oriented_rectangle"):
        return Shape(rings=tuple(shapes.ring(part.get("points") or ()) for part in parts))
    if kind == "rectangle":
        return shapes.spanned(points)
    if kind == "circle":
        return Shape(rings=(_circle(points),))
    if kind == "mask":
        return _masked(parts[0].get("mask"), points, size)
    if kind in NO_AREA:
        raise Unusable("not_an_area", f"a {kind} has no area")
    raise Unusable("unsupported_shape", "its shape_type is none of those that are read")


def _circle(points: Any) -> Ring:
    (x, y), (u, v) = _two(points)
    radius = math.hypot(u - x, v - y)
    return shapes.ellipse(x, y, radius, radius)


def _two(points: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    try:
        (x, y), (u, v) = points
        return (shapes.number(x), shapes.number(y)), (shapes.number(u), shapes.number(v))
    except (TypeError, ValueError):
        raise Unusable("bad_outline", "should be two points of two numbers each") from None


def _masked(mask: Any, points: Any, size: Size | None) -> Shape:
    """Return the code of a mask that is stored as a PNG of its box."""
    (x, y), _ = _two(points)
    try:
        left, top = round(x), round(y)
        if not (isinstance(mask, str) and mask):
            raise ValueError
        data = base64.b64decode(mask, validate=True)
    except (ValueError, OverflowError):
        raise Unusable("bad_outline", "the mask is no PNG in base64, or its corner is no number") from None
    pixels = pictures.decode(data).pixels
    painted = np.asarray(np.atleast_3d(pixels).any(axis=2))
    return Shape(code=shapes.coded(painted, left, top, size))
