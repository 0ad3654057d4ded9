"""From outlines to pixels: even-odd, and a pixel belongs when its centre lies inside.

Left and top edges belong, right and bottom ones do not: the rectangle (4, 1)-(8, 3) holds columns 4 to 7 and rows 1
to 2, and of two outlines that share an edge each centre belongs to one. cv2.fillPoly would paint the edge itself: 15
px for this rectangle's 8.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable

MAX_PIXELS = 200_000_000
"""Of the box of an outline: one byte of memory each."""
MAX_CROSSINGS = 200_000_000
"""Of edges with rows of pixels; a drawn outline has some ten for each row."""
FARTHEST = 1e9
"""px; beyond it a coordinate is no place in a picture."""
AT_ONCE = 1_000_000
"""Crossings that are worked on together."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Filled(NamedTuple):
    """The pixels of outlines."""

    mask: NDArray[np.bool_]
    """`(y, x)`, within their box."""
    x0: int
    y0: int
    """Where the box lies in the picture."""


class _Edges(NamedTuple):
    """Edges that cross the centre line of a row, from their upper to their lower end."""

    x: Floats
    y: Floats
    """Of the upper end."""
    across: Floats
    down: Floats
    """From there to the lower end, px."""
    first: Ints
    stop: Ints
    """Half-open rows whose centre line it crosses."""

    @property
    def rows(self) -> Ints:
        return self.stop - self.first

    def of(self, index: Any) -> "_Edges":
        return _Edges(
            self.x[index], self.y[index], self.across[index], self.down[index], self.first[index], self.stop[index]
        )


def fill(rings: Sequence[Any], width: int, height: int) -> Filled | None:
    """Return the pixels whose centre an odd number of rings goes round, or None where there are none.

    Args:
        rings: Each `(n, 2)`: x, y of its corners in px, closed by itself. They may touch, cross and leave the picture;
            fewer than three corners hold nothing.
        width: Of the picture, px.
        height: Of the picture, px.

    Raises:
        Unusable: `bad_annotation`: a coordinate is no number, or farther than 10⁹ px; `too_large`.
    """
    edges = _edges(rings, height)
    if not len(edges.x):
        return None
    ends = _columns(np.concatenate([_at(edges, edges.first), _at(edges, edges.stop - 1)]), 0, width)
    left, right = int(ends.min()), int(ends.max())
    top, bottom = int(edges.first.min()), int(edges.stop.max())
    if (right - left) * (bottom - top) > MAX_PIXELS:
        raise Unusable("too_large", f"an outline's box is {right - left}x{bottom - top} px; at most {MAX_PIXELS} px")
    crossings = int(edges.rows.sum())
    if crossings > MAX_CROSSINGS:
        raise Unusable("too_large", f"an outline crosses rows {crossings} times; at most {MAX_CROSSINGS}")
    # one column more: an edge to the right of the box turns nothing in it
    turns = np.zeros((bottom - top, right - left + 1), np.uint8)
    for rows, columns in _crossings(edges, left, right):
        np.add.at(turns, (rows - top, columns), np.uint8(1))  # may pass 255: odd stays odd
    np.cumsum(turns, axis=1, dtype=np.uint8, out=turns)
    turns &= 1
    return _trimmed(turns[:, :-1].view(np.bool_), left, top)


def _edges(rings: Sequence[Any], height: int) -> _Edges:
    begins, ends = list[Floats](), list[Floats]()
    for ring in rings:
        corners = np.asarray(ring, np.float64).reshape(-1, 2)
        if not (np.abs(corners) <= FARTHEST).all():
            raise Unusable("bad_annotation", f"an outline has a coordinate that is no number up to {FARTHEST:g} px")
        if len(corners) > 2:
            begins.append(corners)
            ends.append(np.roll(corners, -1, axis=0))
    one = np.concatenate([np.empty((0, 2)), *begins])
    other = np.concatenate([np.empty((0, 2)), *ends])
    # from the upper end down, whichever way it was drawn: two outlines agree on the edge they share
    down = (one[:, 1] <= other[:, 1])[:, None]
    upper, lower = np.where(down, one, other), np.where(down, other, one)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    kept = first < stop
    upper, lower, first, stop = upper[kept], lower[kept], first[kept], stop[kept]
    span = lower - upper
    return _Edges(upper[:, 0], upper[:, 1], span[:, 0], span[:, 1], first, stop)


def _at(edges: _Edges, rows: Ints) -> Floats:
    """Return the x at which edges cross the centre line of a row, px."""
    x: Floats = edges.x + (rows + 0.5 - edges.y) / edges.down * edges.across
    return x


def _crossings(edges: _Edges, left: int, right: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield row, and first column of the box whose centre is not left of the edge, for every crossing."""
    upto = np.cumsum(edges.rows)
    begin = 0
    while begin < len(upto):
        done = upto[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(upto, done + AT_ONCE, "right")))
        part = edges.of(slice(begin, end))
        each = np.repeat(np.arange(end - begin), part.rows)
        rows = np.arange(len(each)) - np.repeat(upto[begin:end] - part.rows - done, part.rows) + part.first[each]
        yield rows, _columns(_at(part.of(each), rows), left, right) - left
        begin = end


def _columns(x: Floats, left: int, right: int) -> Ints:
    """Return the first column whose centre is not left of x."""
    columns: Ints = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
    return columns


def _trimmed(mask: NDArray[np.bool_], x0: int, y0: int) -> Filled | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    tight = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Filled(tight, x0 + int(columns[0]), y0 + int(rows[0]))
