"""From a label map to regions: run lengths, boxes, 8-connected components. Pure NumPy."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Found(NamedTuple):
    """A class, or one of its components, on one slice."""

    value: int
    """Label id."""
    component: int | None
    x0: int
    y0: int
    x1: int
    y1: int
    area: int
    """px."""
    rows: Ints
    """Row of each run."""
    starts: Ints
    stops: Ints
    """Half-open columns of each run."""
    specks: int = 0
    """px that were taken out of it, in parts below the bound."""
    speck: bool = False
    """Nothing but parts below the bound: given whole, to be counted and left out."""


def find(labels: NDArray[Any], per_component: bool, despeckle: int = 0) -> Iterator[Found]:
    """Yield what a slice of a label map holds, by label id, then by component in reading order.

    Args:
        labels: `(y, x)` integers; 0 is background.
        per_component: One region per 8-connected component instead of one per label.
        despeckle: 8-connected parts of fewer px are taken out of their region.
    """
    values, rows, starts, stops = _runs(labels)
    if not len(values):
        return
    parts = _components(values, rows, starts, stops) if per_component or despeckle else values
    groups = parts if per_component else values
    order = np.lexsort((rows, groups)) if not per_component else np.lexsort((groups, values))
    small = np.bincount(parts, stops - starts)[parts][order] < despeckle if despeckle else None
    values, rows, starts, stops, groups = (a[order] for a in (values, rows, starts, stops, groups))
    edges = np.flatnonzero(np.r_[True, (groups[1:] != groups[:-1]) | (values[1:] != values[:-1])])
    number, last = -1, None
    for begin, end in zip(edges, np.r_[edges[1:], len(values)], strict=True):
        value = int(values[begin])
        number = number + 1 if value == last else 0
        last = value
        part = slice(begin, end)
        found = _found(value, number if per_component else None, rows[part], starts[part], stops[part])
        yield found if small is None else _despeckled(found, small[part])


def _found(value: int, component: int | None, rows: Ints, starts: Ints, stops: Ints) -> Found:
    box = int(starts.min()), int(rows.min()), int(stops.max()), int(rows.max()) + 1
    return Found(value, component, *box, int((stops - starts).sum()), rows, starts, stops)


def _despeckled(found: Found, small: NDArray[np.bool_]) -> Found:
    """Take the runs of small parts out of a region, unless there are no others."""
    if small.all():
        return found._replace(speck=True)
    if not small.any():
        return found
    kept = _found(found.value, found.component, found.rows[~small], found.starts[~small], found.stops[~small])
    return kept._replace(specks=found.area - kept.area)


def _runs(labels: NDArray[Any]) -> tuple[Ints, Ints, Ints, Ints]:
    """Return value, row, first column and end of every run of one label within a row, in reading order."""
    width = labels.shape[1]
    flat = np.ascontiguousarray(labels).reshape(-1)
    change = flat[1:] != flat[:-1]
    change[width - 1 :: width] = True
    begins = np.r_[0, np.flatnonzero(change) + 1]
    ends = np.r_[begins[1:], len(flat)]
    values = flat[begins].astype(np.int64)
    kept = values != 0
    begins, ends, values = begins[kept], ends[kept], values[kept]
    rows = begins // width
    return values, rows, begins - rows * width, ends - rows * width


def _components(values: Ints, rows: Ints, starts: Ints, stops: Ints) -> Ints:
    """Return for each run the number of the first run of its component: union-find over touching runs."""
    parent = list(range(len(values)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    row_begin = np.searchsorted(rows, np.arange(int(rows.max()) + 3)) if len(rows) else np.zeros(1, int)
    for run in range(len(values)):
        row = int(rows[run])
        for below in range(int(row_begin[row + 1]), int(row_begin[row + 2])):
            if starts[below] > stops[run]:
                break
            if stops[below] >= starts[run] and values[below] == values[run]:
                one, other = root(run), root(below)
                parent[max(one, other)] = min(one, other)
    return np.array([root(run) for run in range(len(values))], np.int64)


def mask_of(found: Found) -> NDArray[np.bool_]:
    """Return a region's mask within its box, `(y, x)`."""
    mask = np.zeros((found.y1 - found.y0, found.x1 - found.x0), bool)
    for row, start, stop in zip(found.rows - found.y0, found.starts - found.x0, found.stops - found.x0, strict=True):
        mask[row, start:stop] = True
    return mask
