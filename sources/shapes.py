"""From what annotation files write to marks: names, numbers, boxes and outlines, each checked once.

Coordinates are px of the source picture or, where a format has them so, shares of its width and height.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import runlength
from pipeline.errors import Unusable
from pipeline.records import Box
from sources.annotation import Mark, Ring

FARTHEST = 1e7
"""px; no picture is that wide."""
MAX_PIXELS = 200_000_000
"""Of a picture whose pixels a file labels one by one."""
CORNERS = 180
"""Of an ellipse: at a radius of 1000 px the outline is up to 0.2 px off, and not at its four ends."""

Size = tuple[int, int]
"""Width and height in px."""


class Shape(NamedTuple):
    """A place on a picture; all empty: the whole picture."""

    box: Box | None = None
    rings: tuple[Ring, ...] = ()
    code: str | None = None


def marked(raw: Any, shape: Callable[..., Shape], *given: Any, reader: str | None = None) -> Mark:
    """Name a shape; what is wrong with the name or the shape stands in the mark.

    Args:
        raw: The label as the file has it.
        shape: Makes the shape of the other arguments; what it refuses it refuses by `Unusable`.
        given: What the shape is made of.
        reader: Who says so, as a pseudonym.
    """
    name = label(raw)
    try:
        if not name:
            raise Unusable("unlabelled", "the region has no label")
        box, rings, code = shape(*given)
    except Unusable as fault:
        return Mark(name, problem=(fault.reason, fault.detail), reader=reader)
    return Mark(name, box, rings=rings, code=code, reader=reader)


def label(raw: Any) -> str:
    """Return a label as text that can be stored; empty where there is none."""
    text = str(raw) if isinstance(raw, str | int | float) else ""
    return text.encode("utf-8", "replace").decode().strip()


def number(value: Any) -> float:
    """Return a number, also one that is written as text.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a {type(value).__name__} is not a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def size(width: Any, height: Any) -> Size | None:
    """Return the size that a file gives for its picture, or None where it is none: 0, a text, a fraction, a giant."""
    try:
        sides = number(width), number(height)
    except ValueError:
        return None
    if not all(1 <= side <= FARTHEST and side == int(side) for side in sides):
        return None
    return int(sides[0]), int(sides[1])


# ---- boxes


def box(x0: Any, y0: Any, x1: Any, y1: Any) -> Box:
    """Return a box.

    Raises:
        Unusable: `bad_box`: not four numbers; `box_zero_size`: no width or no height.
    """
    try:
        found = Box(number(x0), number(y0), number(x1), number(y1))
    except ValueError:
        raise Unusable("bad_box", "a coordinate is not a number") from None
    if not all(abs(value) <= FARTHEST for value in found):
        raise Unusable("bad_box", f"a coordinate is not a number up to {FARTHEST:g} px")
    if found.x1 <= found.x0 or found.y1 <= found.y0:
        said = f"x {found.x0:g} to {found.x1:g}, y {found.y0:g} to {found.y1:g}"
        raise Unusable("box_zero_size", f"{said}: the maximum must be above the minimum")
    return found


def spanned(points: Iterable[Sequence[Any]]) -> Shape:
    """Return the box between two opposite corners, or of four; an outline where the four do not lie upright.

    Raises:
        Unusable: `bad_box`, `bad_outline` or `box_zero_size`.
    """
    corners = _points(points)
    if len(corners) == 5 and corners[0] == corners[4]:
        corners = corners[:4]
    if len(corners) not in (2, 4):
        raise Unusable("bad_box", f"a rectangle has 2 or 4 corners, this one {len(corners)}")
    columns, rows = {x for x, _ in corners}, {y for _, y in corners}
    if len(corners) == 4 and (len(columns) > 2 or len(rows) > 2):
        return Shape(rings=(ring(corners),))
    return Shape(box(min(columns), min(rows), max(columns), max(rows)))


# ---- outlines


def ring(points: Iterable[Sequence[Any]]) -> Ring:
    """Return a closed outline.

    Raises:
        Unusable: `bad_outline`: not at least three points of two numbers each; `box_zero_size`: it lies on a line.
    """
    corners = _points(points)
    if len(corners) < 3:
        raise Unusable("bad_outline", f"an outline has at least 3 corners, this one {len(corners)}")
    columns, rows = zip(*corners, strict=True)
    if max(columns) == min(columns) or max(rows) == min(rows):
        raise Unusable("box_zero_size", f"all {len(corners)} corners of the outline lie on one line")
    return corners


def flat_ring(values: Any) -> Ring:
    """Return the outline of a flat list x, y, x, y and so on.

    Raises:
        Unusable: `bad_outline`; `box_zero_size`.
    """
    if not isinstance(values, list | tuple) or len(values) % 2:
        raise Unusable("bad_outline", "an outline should be a list of an even number of coordinates")
    return ring(list(zip(values[::2], values[1::2], strict=True)))


def _points(points: Any) -> Ring:
    try:
        found = tuple((number(x), number(y)) for x, y in points)
    except (TypeError, ValueError):
        raise Unusable("bad_outline", "a corner should be two numbers") from None
    if not all(abs(value) <= FARTHEST for point in found for value in point):
        raise Unusable("bad_outline", f"a coordinate is not a number up to {FARTHEST:g} px")
    return found


def ellipse(x: float, y: float, across: float, down: float) -> Ring:
    """Return the outline of an upright ellipse.

    Args:
        x: Of its centre.
        y: Of its centre.
        across: Radius along x.
        down: Radius along y.
    """
    steps = (2 * math.pi * step / CORNERS for step in range(CORNERS))
    return ring([(x + across * math.cos(step), y + down * math.sin(step)) for step in steps])


def turned(points: Iterable[Sequence[float]], x: float, y: float, degrees: float) -> Ring:
    """Turn an outline clockwise, as it is seen, about a point; px, not shares."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return ring([(x + (u - x) * cosine - (v - y) * sine, y + (u - x) * sine + (v - y) * cosine) for u, v in points])


def corners(found: Box) -> Ring:
    """Return the outline of a box."""
    x0, y0, x1, y1 = found
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def holds(outline: Ring, x: float, y: float) -> bool:
    """Return whether a point lies within an outline."""
    inside = False
    for (u, v), (s, t) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if (v > y) != (t > y) and x < u + (y - v) / (t - v) * (s - u):
            inside = not inside
    return inside


# ---- pixels


def coded(mask: NDArray[np.bool_], x0: int, y0: int, of: Size | None) -> str:
    """Return the run-length code of a mask over its whole picture; what lies outside is cut off.

    Args:
        mask: `(y, x)`.
        x0: Column of the picture at which it begins.
        y0: Row of the picture at which it begins.
        of: The picture's size.

    Raises:
        Unusable: `bad_outline`: the size is not known; `too_large`; `box_zero_size`: no pixel is set.
    """
    if of is None:
        raise Unusable("bad_outline", "a mask needs the width and height of its picture in the file")
    if of[0] * of[1] > MAX_PIXELS:
        raise Unusable("too_large", f"a mask of {of[0]}x{of[1]} px; at most {MAX_PIXELS} px")
    mask = mask[max(0, -y0) : max(0, of[1] - y0), max(0, -x0) : max(0, of[0] - x0)]
    x0, y0 = max(0, x0), max(0, y0)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise Unusable("box_zero_size", "the mask holds no pixel of the picture")
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return runlength.encode(tight, x0 + int(columns[0]), y0 + int(rows[0]), *of)
