"""Slices of an array in memory of their own, whatever order its axes are stored in.

Plainly, a slice is `np.ascontiguousarray(slices.take(array, axis, number))`. Element by element that costs more than
all the rest of ingest where the slice runs against the order of storage, so whole lines are moved instead.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SAME_SIZE: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.int32, 8: np.float64}
"""Bytes of an element to a type that OpenCV moves: it never looks at the values."""


Shade = Callable[[NDArray[Any]], NDArray[Any]]
"""What is done to every element by itself: intensities to grey."""


def sheets(stack: NDArray[Any], wanted: Iterable[int], shade: Shade | None = None) -> Iterator[NDArray[Any]]:
    """Yield slices, each in memory of its own: plainly, `np.ascontiguousarray(shade(stack[number]))`.

    Args:
        stack: `(slice, row, column)`; a view, its axes in any order and direction.
        wanted: Numbers of slices.
        shade: Applied while an element is moved, in the order of storage.
    """
    numbers = list(wanted)
    back = [stride < 0 for stride in stack.strides]
    straight = stack[tuple(slice(None, None, -1 if turned else 1) for turned in back)]
    if _across(straight) and len(numbers) * 8 > len(stack):
        straight, shade = _regrouped(straight, shade), None
    for number in numbers:
        sheet = straight[len(stack) - 1 - number if back[0] else number]
        if sheet.strides[0] < sheet.strides[1]:
            made = transposed(shade(sheet.T) if shade else sheet.T)
        else:
            made = np.ascontiguousarray(shade(sheet) if shade else sheet)
        yield _flipped(made, back[1], back[2])


def _across(straight: NDArray[Any]) -> bool:
    """Neighbours in memory are neighbouring slices: each slice would touch every line of the whole array."""
    return straight.strides[0] < min(straight.strides[1:]) and straight.shape[0] > 1


def _regrouped(straight: NDArray[Any], shade: Shade | None) -> NDArray[Any]:
    """Store a stack whose slices run across the order of storage slice after slice; a view, as it was."""
    turned = straight.strides[1] < straight.strides[2]
    slow = straight.transpose(0, 2, 1) if turned else straight
    made: NDArray[Any] | None = None
    for line in range(slow.shape[1]):
        lines = slow[:, line].T
        part = transposed(shade(lines) if shade else lines)
        if made is None:
            made = np.empty(slow.shape, part.dtype)
        made[:, line] = part
    assert made is not None  # no axis of a volume is empty
    return made.transpose(0, 2, 1) if turned else made


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
