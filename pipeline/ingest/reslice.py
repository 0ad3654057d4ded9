"""Slices of an array in memory of their own, whatever order its axes are stored in.

Plainly, a slice is `np.ascontiguousarray(slices.take(array, axis, number))`. Element by element that costs more than
all the rest of ingest where the slice runs against the order of storage, so whole lines are moved instead.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SAME_SIZE: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}
"""Bytes of an element to a type that OpenCV moves: it never looks at the values."""


Shade = Callable[[NDArray[Any]], NDArray[Any]]
"""What is done to every element by itself: intensities to grey."""


def sheets(stack: NDArray[Any], wanted: Iterable[int], shade: Shade | None = None) -> Iterator[NDArray[Any]]:
    """Return slices, each in one piece of memory: plainly, `np.ascontiguousarray(shade(stack[number]))`.

    Args:
        stack: `(slice, row, column)`; a view, its axes in any order and direction.
        wanted: Numbers of slices.
        shade: Applied while an element is moved, in the order of storage.
    """
    numbers = list(wanted)
    back = [stride < 0 for stride in stack.strides]
    straight = stack[tuple(slice(None, None, -1 if turned else 1) for turned in back)]
    if back[0]:
        numbers = [len(stack) - 1 - number for number in numbers]
    across, rows = _across(straight), back[1]
    if rows and not shade and straight.strides[1] > straight.strides[2]:  # whole lines are copied in any order
        straight, rows = straight[:, ::-1], False
    if across and len(numbers) * 8 > len(stack):
        taken = _regrouped(straight, numbers, shade)
    else:
        taken = (_alone(straight[number], shade) for number in numbers)
    return (_flipped(sheet, rows, back[2]) for sheet in taken)


def _alone(sheet: NDArray[Any], shade: Shade | None) -> NDArray[Any]:
    if abs(sheet.strides[0]) < sheet.strides[1]:
        return transposed(shade(sheet.T) if shade else sheet.T)
    return np.ascontiguousarray(shade(sheet) if shade else sheet)


def _across(straight: NDArray[Any]) -> bool:
    """Neighbours in memory are neighbouring slices: each slice would touch every line of the whole array."""
    return straight.strides[0] < min(straight.strides[1:]) and straight.shape[0] > 1


TOGETHER = 64
"""Neighbouring slices that are taken out of an array's lines together."""


def _regrouped(straight: NDArray[Any], numbers: Sequence[int], shade: Shade | None) -> Iterator[NDArray[Any]]:
    """Yield slices that run across the order of storage, with their neighbours: each line is read once for all."""
    turned = abs(straight.strides[1]) < straight.strides[2]
    for _, near in itertools.groupby(numbers, lambda number: number // TOGETHER):
        wanted = list(near)
        first = min(wanted)
        block = straight[first : max(wanted) + 1]
        slow = block.transpose(0, 2, 1) if turned else block
        part = np.stack([_alone(slow[:, line], shade) for line in range(slow.shape[1])], axis=1)
        for number in wanted:
            sheet = part[number - first]
            yield transposed(sheet) if turned else sheet


def _flipped(sheet: NDArray[Any], rows: bool, columns: bool) -> NDArray[Any]:
    if not rows and not columns:
        return sheet
    if sheet.dtype.itemsize not in _SAME_SIZE:
        return np.ascontiguousarray(sheet[:: -1 if rows else 1, :: -1 if columns else 1])
    same_size: Any = sheet.view(_SAME_SIZE[sheet.dtype.itemsize])
    moved: NDArray[Any] = cv2.flip(same_size, -1 if rows and columns else int(columns))
    return moved.view(sheet.dtype).reshape(sheet.shape)


def transposed(sheet: NDArray[Any]) -> NDArray[Any]:
    """Return `np.ascontiguousarray(sheet.T)`, block by block."""
    if sheet.dtype.itemsize not in _SAME_SIZE or min(sheet.shape) == 0:
        return np.ascontiguousarray(sheet.T)
    same_size: Any = np.ascontiguousarray(sheet).view(_SAME_SIZE[sheet.dtype.itemsize])
    moved: NDArray[Any] = cv2.transpose(same_size)
    return moved.view(sheet.dtype).reshape(sheet.shape[::-1])


def tabled(shade: Shade, dtype: np.dtype[Any]) -> Shade:
    """Return `shade` by a table of what it makes of each number there is; of 8 or 16 bits, in any byte order."""
    plain: Any = np.uint8 if dtype.itemsize == 1 else np.uint16
    numbers = np.arange(256**dtype.itemsize).astype(plain).view(dtype)
    table = shade(numbers.astype(dtype.newbyteorder("=")))
    return lambda values: cv2.LUT(values.view(plain), table).reshape(values.shape)


def has_table(dtype: np.dtype[Any]) -> bool:
    """Return whether there is a table of all numbers of a type."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def as_stored(array: NDArray[Any]) -> NDArray[Any]:
    """Return the same elements in the order of storage: for what does not depend on where an element lies."""
    straight = array[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in array.strides)]
    return straight.transpose(np.argsort(straight.strides)[::-1])
