"""From a label map to regions: run lengths, boxes, 8-connected components. Pure NumPy.

Runs go down the columns, as COCO's code of a mask does: from one pass come box, area, components and code.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import runlength
from pipeline.ingest.reslice import transposed

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
    columns: Ints
    """Column of each run, from left to right."""
    starts: Ints
    stops: Ints
    """Half-open rows of each run, downwards within a column."""
    specks: int = 0
    """px that were taken out of it, in parts below the bound."""
    speck: bool = False
    """Nothing but parts below the bound: given whole, to be counted and left out."""


class _Runs(NamedTuple):
    """Runs of one label within a column: slice after slice, column after column."""

    slices: Ints
    values: NDArray[Any]
    columns: Ints
    starts: Ints
    stops: Ints

    def at(self, index: Any) -> "_Runs":
        return _Runs(*(part[index] for part in self))


AT_ONCE = 1 << 20
"""px of slices that are worked on together: as many as stay in the cache."""


def find(labels: NDArray[Any], per_component: bool, despeckle: int = 0) -> list[Found]:
    """Return what a slice of a label map holds, by label id, then by component in reading order.

    Args:
        labels: `(y, x)` integers; 0 is background.
        per_component: One region per 8-connected component instead of one per label.
        despeckle: 8-connected parts of fewer px are taken out of their region.
    """
    return next(find_all([labels], per_component, despeckle))


def find_all(
    sheets: Iterable[NDArray[Any]], per_component: bool, despeckle: int = 0, x0: int = 0, y0: int = 0
) -> Iterator[list[Found]]:
    """Yield what `find` returns for each of some slices of one size.

    Args:
        sheets: As `find` takes them.
        per_component: As `find`.
        despeckle: As `find`.
        x0: Column at which they begin, where they are a part of larger slices.
        y0: Row.
    """
    waiting = list[NDArray[Any]]()
    for sheet in sheets:
        waiting.append(sheet)
        if len(waiting) * sheet.size >= AT_ONCE:
            yield from _found(waiting, per_component, despeckle, x0, y0)
            waiting = []
    if waiting:
        yield from _found(waiting, per_component, despeckle, x0, y0)


def _found(
    sheets: Sequence[NDArray[Any]], per_component: bool, despeckle: int, x0: int, y0: int
) -> Iterator[list[Found]]:
    found: list[list[Found]] = [[] for _ in sheets]
    runs = _runs(sheets, x0, y0)
    if len(runs.values):
        parts = _components(runs) if per_component or despeckle else None
        small = None if parts is None else np.bincount(parts, runs.stops - runs.starts)[parts] < despeckle
        if parts is not None and per_component:
            order, numbers = _by_component(runs, parts)
        else:
            order, numbers = np.lexsort((runs.values, runs.slices)), None
        runs = runs.at(order)
        first = _changes(runs.slices, runs.values, *([] if numbers is None else [numbers]))
        edges = [*first.tolist(), len(order)]
        small = small[order] if despeckle and small is not None else None
        for n, (index, one) in enumerate(
            zip(runs.slices[first].tolist(), _measured(runs, first, numbers), strict=True)
        ):
            found[index].append(one if small is None else _despeckled(one, small[edges[n] : edges[n + 1]]))
    yield from found


def _changes(*keys: NDArray[Any]) -> Ints:
    """Return where groups of equal keys begin."""
    change = keys[0][1:] != keys[0][:-1]
    for key in keys[1:]:
        change |= key[1:] != key[:-1]
    return np.append(0, np.flatnonzero(change) + 1)


def _measured(runs: _Runs, first: Ints, numbers: Ints | None) -> Iterator[Found]:
    """Yield a region for each group of runs that follow each other."""
    last = np.append(first[1:], len(runs.columns))
    columns, starts, stops = runs.columns, runs.starts, runs.stops
    measured = zip(
        runs.values[first].tolist(),
        [None] * len(first) if numbers is None else numbers[first].tolist(),
        columns[first].tolist(),
        np.minimum.reduceat(starts, first).tolist(),
        (columns[last - 1] + 1).tolist(),
        np.maximum.reduceat(stops, first).tolist(),
        np.add.reduceat(stops - starts, first).tolist(),
        first.tolist(),
        last.tolist(),
        strict=True,
    )
    for value, number, x0, y0, x1, y1, area, begin, end in measured:
        part = slice(begin, end)
        yield Found(int(value), number, x0, y0, x1, y1, area, columns[part], starts[part], stops[part])


def _despeckled(found: Found, small: NDArray[np.bool_]) -> Found:
    """Take the runs of small parts out of a region, unless there are no others."""
    if small.all():
        return found._replace(speck=True)
    if not small.any():
        return found
    runs = _Runs(found.columns, found.columns, found.columns, found.starts, found.stops).at(~small)
    (kept,) = _measured(runs, np.zeros(1, np.int64), None)
    return kept._replace(value=found.value, component=found.component, specks=found.area - kept.area)


def _runs(sheets: Sequence[NDArray[Any]], x0: int, y0: int) -> _Runs:
    # a mask of a slide stands alone and is large: it is not copied once more
    columns = np.stack([transposed(sheet) for sheet in sheets]) if len(sheets) > 1 else transposed(sheets[0])[None]
    _, width, height = columns.shape
    flat = columns.reshape(-1)
    change = flat[1:] != flat[:-1]
    change[height - 1 :: height] = True
    edges = np.flatnonzero(change) + 1
    begins, ends = np.append(0, edges), np.append(edges, len(flat))
    values = flat[begins]
    held = np.flatnonzero(values)
    begins, ends, values = begins[held], ends[held], values[held]
    column = begins // height
    shift = column * height - y0
    index = column // width
    return _Runs(index, values, column - index * width + x0, begins - shift, ends - shift)


def _components(runs: _Runs) -> Ints:
    """Return for each run the number of the first run of its 8-connected component."""
    one, other = _touching(runs)
    number = np.arange(len(runs.columns))
    while True:
        least = np.minimum(number[one], number[other])
        np.minimum.at(number, one, least)
        np.minimum.at(number, other, least)
        number = number[number]  # what stands for a run may itself be stood for
        if (number[one] == number[other]).all():
            return number


def _touching(runs: _Runs) -> tuple[Ints, Ints]:
    """Return the pairs of runs of one label in neighbouring columns that touch, corners included."""
    span, width = int(runs.stops.max()) + 2, int(runs.columns.max()) + 2
    down = (runs.slices * width + runs.columns) * span  # a column of its own lies between two slices
    low = np.searchsorted(down + runs.stops, down + span + runs.starts)
    high = np.searchsorted(down + runs.starts, down + span + runs.stops, "right")
    count = np.maximum(high - low, 0)
    one = np.repeat(np.arange(len(count)), count)
    other = np.arange(len(one)) - np.repeat(np.cumsum(count) - count - low, count)
    same = runs.values[one] == runs.values[other]
    return one[same], other[same]


def _by_component(runs: _Runs, parts: Ints) -> tuple[Ints, Ints]:
    """Return the order of runs by label, then by component in reading order, and each component's number in it."""
    # the first px of a component in reading order: its topmost one, of those the one most to the left
    reading = runs.starts * (int(runs.columns.max()) + 1) + runs.columns
    topmost = np.full(len(parts), np.iinfo(np.int64).max)
    np.minimum.at(topmost, parts, reading)
    order = np.lexsort((topmost[parts], runs.values, runs.slices))
    count = np.zeros(len(order), np.int64)
    count[_changes(parts[order])[1:]] = 1
    count = np.cumsum(count)
    labels = _changes(runs.slices[order], runs.values[order])
    return order, count - np.repeat(count[labels], np.diff(labels, append=len(order)))


class Coded(NamedTuple):
    """A region in px of a stored picture."""

    code: str
    """COCO run-length code."""
    area: int
    """px."""


def codes(found: Sequence[Found], width: int, height: int, scale_x: float = 1.0, scale_y: float = 1.0) -> list[Coded]:
    """Code regions of slices of one size for pictures of one size.

    Args:
        found: Of any number of slices.
        width: Of the pictures, px.
        height: Of the pictures, px.
        scale_x: px of a picture per px of its slice; each takes the px of the slice that its centre lies in.
        scale_y: The same.
    """
    if not found:
        return []
    columns, starts, stops = (np.concatenate(runs) for runs in zip(*(one[_RUNS] for one in found), strict=True))
    first = np.cumsum([0] + [len(one.columns) for one in found[:-1]])
    if scale_y != 1.0:
        rows = _firsts(height, scale_y)
        starts, stops = rows[starts], rows[stops]
    if scale_x != 1.0:
        columns, starts, stops, first = _widened(columns, starts, stops, first, _firsts(width, scale_x))
    areas = np.add.reduceat(stops - starts, first).tolist()
    down = columns * height
    return list(map(Coded, runlength.encode_runs(down + starts, down + stops, first, width * height), areas))


_RUNS = slice(Found._fields.index("columns"), Found._fields.index("stops") + 1)


def _firsts(size: int, scale: float) -> Ints:
    """Return the first px of a picture's side for each px of the slice's, and at its end the side's length."""
    source = np.floor((np.arange(size) + 0.5) / scale)
    return np.searchsorted(source, np.arange(round(size / scale) + 1))


def _widened(columns: Ints, starts: Ints, stops: Ints, first: Ints, at: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Repeat each run of a column of the slice in every column of the picture that is made of it."""
    times = at[columns + 1] - at[columns]
    region = np.repeat(np.repeat(np.arange(len(first)), np.diff(first, append=len(columns))), times)
    wide = np.repeat(at[columns] - np.cumsum(times) + times, times) + np.arange(times.sum())
    starts, stops = np.repeat(starts, times), np.repeat(stops, times)
    order = np.lexsort((starts, wide, region))
    return wide[order], starts[order], stops[order], np.searchsorted(region, np.arange(len(first)))
