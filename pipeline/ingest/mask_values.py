"""From the values of a mask to labels: binary, indexed, coloured, every value an object. Pure NumPy.

What is neither here nor there (soft edges without a threshold, label ids out of a JPEG) is refused, never guessed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable

Values = NDArray[Any]
"""`(y, x)` grey or `(y, x, 3)` RGB."""

NEAR = 48
"""Of 255: as far as a JPEG takes a colour from where it was."""
FAR_SHARE = 0.2
"""Of a JPEG's pixels may be near no value of the list: edges."""
SOFT_VALUES = 16
"""Values from which on a mask is one with soft edges, and not one of a few labels."""
MOST_UNKNOWN, MOST_OBJECTS = 64, 10_000
"""In one mask; beyond it the file is something else."""


class Labelled(NamedTuple):
    """What a mask says of its pixels."""

    array: NDArray[Any]
    """`(y, x)` ids; 0 is background."""
    names: Mapping[int, str]
    """Id to raw label. Ids are not the values of the file."""
    unknown: Mapping[int, str]
    """Ids that the descriptor does not name, to what stands in the file: `7`, `#ff0000`."""
    flags: tuple[str, ...] = ()
    """`full_mask`: no pixel of a binary mask is background."""
    history: tuple[str, ...] = ()


def grey(values: Values, lossy: bool) -> NDArray[Any] | None:
    """Return the one channel of a grey mask, None for colours; the channels of a JPEG may differ a little."""
    if values.ndim == 2:
        return values
    first, others = values[..., 0], (values[..., 1], values[..., 2])
    if lossy:
        same = all(np.abs(first.astype(np.int64) - other).max() <= SOFT_VALUES for other in others)
    else:
        same = all((first == other).all() for other in others)
    return first if same else None


def binary(values: Values, raw: str, threshold: float | None, invert: bool, lossy: bool) -> Labelled:
    """Read a mask of one label: foreground is what is not 0, or what reaches the threshold.

    A mask whose edges a JPEG or a resampling has made soft is cut half way between black and white.

    Raises:
        Unusable: `not_binary`; `interpolated_mask`: values between whole numbers.
    """
    inside, history = _foreground(values, threshold, lossy)
    if invert:
        inside, history = ~inside, (*history, "mask inverted")
    return Labelled(inside.view(np.uint8), {1: raw}, {}, ("full_mask",) if inside.all() else (), history)


def _foreground(values: Values, threshold: float | None, lossy: bool) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    one = grey(values, lossy)
    if threshold is not None:
        brightest = values.max(axis=2) if one is None else one
        return np.asarray(brightest >= threshold), (f"mask from {threshold:g} on",)
    numbers = _packed(values) if one is None else _integers(one)
    found, counts = _counted(numbers)
    if len(found) == 1 or (len(found) == 2 and found[0] == 0):
        return np.asarray(numbers != 0), ()
    if one is None:
        raise Unusable("not_binary", f"{len(found)} colours; say encoding: colour, with colours")
    top = 255 if found[-1] <= 255 else 65535
    if not _has_two_ends(found, counts, top, lossy):
        raise Unusable("not_binary", f"{_shown(found.tolist())}; say threshold, or encoding: indexed")
    return np.asarray(numbers > top // 2), (f"mask from {top // 2 + 1} on",)


def _has_two_ends(found: NDArray[Any], counts: NDArray[np.int64], top: int, lossy: bool) -> bool:
    """Is a mask black and white but for its edges?

    Few values without a JPEG's ringing are labels: of 0, 1 and 255 the last may mean that nobody looked.
    """
    if found[0] < 0 or found[-1] > top:
        return False
    low, high = counts[found <= top // 4].sum(), counts[found >= top - top // 4].sum()
    edges = counts.sum() - low - high
    soft = lossy or len(found) >= SOFT_VALUES or (found[found != 0] >= top - top // 4).all()
    return bool(soft and high > 0 and edges <= high)


def indexed(values: NDArray[Any], names: Mapping[int, str], lossy: bool) -> Labelled:
    """Read a mask whose values are label ids; 0 is background unless it is named.

    Raises:
        Unusable: `interpolated_mask`; `unknown_label_id`: so many values that they can not be label ids.
    """
    numbers = _integers(values)
    if lossy:
        levels = sorted({0, *names})
        if min(np.diff(levels), default=255) <= 2 * NEAR:
            raise Unusable("interpolated_mask", "a JPEG does not keep label ids this near to each other")
        numbers = np.array([0, *levels])[_nearest(numbers[..., None], [(level,) for level in levels]) + 1]
    return _numbered(numbers, names, str)


def coloured(values: Values, colours: Mapping[tuple[int, int, int], str], lossy: bool) -> Labelled:
    """Read a mask whose colours are labels, exactly, of a JPEG nearly; black is background unless it is named.

    Raises:
        Unusable: `unknown_label_id`: so many colours that they can not be labels, or a JPEG's are near none of them.
    """
    shown = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    numbers = np.rint(shown / 257).astype(np.int64) if shown.dtype == np.uint16 else _integers(shown)
    if numbers.min() < 0 or numbers.max() > 255:
        raise Unusable("bad_annotation", f"colours go from {numbers.min()} to {numbers.max()}, not from 0 to 255")
    names = {_number(colour): raw for colour, raw in colours.items()}
    if lossy:
        levels = list(dict.fromkeys([*colours, (0, 0, 0)]))
        packed = np.array([0, *map(_number, levels)])[_nearest(numbers, levels) + 1]
    else:
        packed = _packed(numbers)
    return _numbered(packed, names, "#{:06x}".format)


def instances(values: Values, raw: str) -> Labelled:
    """Read a mask of which every value above 0, or every colour but black, is an object.

    Raises:
        Unusable: `bad_annotation`: too many.
    """
    numbers = _packed(values) if values.ndim == 3 else _integers(values)
    objects, _ = _counted(numbers)
    objects = objects[objects > 0]
    if len(objects) > MOST_OBJECTS:
        raise Unusable("bad_annotation", f"{len(objects)} objects in one mask; at most {MOST_OBJECTS}")
    return Labelled(_replaced(numbers, objects), dict.fromkeys(range(1, len(objects) + 1), raw), {})


def united(masks: Sequence[Labelled]) -> tuple[Labelled, ...]:
    """Join the binary masks of each label: where any of them is."""
    joined: dict[str, Labelled] = {}
    for mask in masks:
        (raw,) = (*mask.names.values(), *mask.unknown.values())
        known = joined.get(raw)
        joined[raw] = mask._replace(array=known.array | mask.array) if known else mask
    return tuple(joined.values())


# ---- numbers


def _integers(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers; 0.99999997 is 1."""
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    if values.dtype.itemsize < 8 and values.dtype.kind in "ui":
        return values
    if not (np.abs(values) <= 2**53).all():
        raise Unusable("bad_annotation", "values that are no numbers, or too large for label ids")
    whole = np.rint(values) if values.dtype.kind == "f" else values
    if not (np.abs(values - whole) <= 1e-3).all():
        raise Unusable("interpolated_mask", "values between whole numbers: labels were interpolated; say threshold")
    return whole.astype(np.int64)


def _number(colour: tuple[int, int, int]) -> int:
    return (colour[0] << 16) | (colour[1] << 8) | colour[2]


def _packed(colours: NDArray[Any]) -> NDArray[np.int64]:
    """Return one number for each colour: `#rrggbb`, of 16 bits `#rrrrggggbbbb`."""
    red, green, blue = (_integers(colours[..., n]).astype(np.int64) for n in range(3))
    bits = 16 if colours.dtype == np.uint16 else 8
    return (red << 2 * bits) | (green << bits) | blue


def _numbered(numbers: NDArray[Any], names: Mapping[int, str], said: Callable[[int], str]) -> Labelled:
    """Give every value an id; 0 has none unless it is named."""
    present, _ = _counted(numbers)
    unknown = [value for value in present.tolist() if value not in names and value != 0]
    if len(unknown) > MOST_UNKNOWN:
        raise Unusable("unknown_label_id", f"{_shown([said(value) for value in unknown])} are not listed")
    listed = sorted([*names, *unknown])
    named = {n: names[value] for n, value in enumerate(listed, 1) if value in names}
    others = {n: said(value) for n, value in enumerate(listed, 1) if value not in names}
    return Labelled(_replaced(numbers, np.array(listed, np.int64)), named, others)


def _counted(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the values that there are, sorted, and how often."""
    if not _is_short(numbers):
        return np.unique(numbers, return_counts=True)
    counts = np.bincount(numbers.ravel())  # ten times as fast as sorting
    found = np.flatnonzero(counts)
    return found, counts[found]


def _is_short(numbers: NDArray[Any]) -> bool:
    return numbers.dtype.kind == "u" and numbers.dtype.itemsize <= 2


def _replaced(numbers: NDArray[Any], listed: NDArray[Any]) -> NDArray[np.int32]:
    """Replace each number by its place in a sorted list, from 1; what is not in it becomes 0."""
    if not len(listed):
        return np.zeros(numbers.shape, np.int32)
    if _is_short(numbers):
        table = np.zeros(65536, np.int32)
        places = np.arange(1, len(listed) + 1, dtype=np.int32)
        short = (listed >= 0) & (listed < len(table))
        table[listed[short]] = places[short]
        return np.asarray(table[numbers])
    at = np.minimum(np.searchsorted(listed, numbers), len(listed) - 1)
    return np.where(listed[at] == numbers, at + 1, 0).astype(np.int32)


def _nearest(numbers: NDArray[Any], levels: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """Return for each pixel of a JPEG, `(y, x, channel)`, the number of the level it is near to, -1 for none."""
    best = np.full(numbers.shape[:2], NEAR + 1, np.int64)
    nearest = np.full(numbers.shape[:2], -1, np.int64)
    for n, level in enumerate(levels):
        distance = np.abs(numbers.astype(np.int64) - np.array(level)).max(axis=2)
        nearest[distance < best] = n
        best = np.minimum(best, distance)
    share = np.count_nonzero(nearest < 0) / nearest.size
    if share > FAR_SHARE:
        raise Unusable("unknown_label_id", f"{share:.0%} of a JPEG's pixels are near no value that is listed")
    return nearest


def _shown(values: Sequence[Any]) -> str:
    return f"{len(values)} values ({', '.join(map(str, values[:6]))}{', …' if len(values) > 6 else ''})"
