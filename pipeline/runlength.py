"""COCO run-length code of masks (column-major, background first), as pycocotools writes `counts`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_BITS = 60
"""Of one run length: longer ones are no picture's."""


def encode(mask: NDArray[np.bool_], x0: int, y0: int, width: int, height: int) -> str:
    """Encode a mask.

    Args:
        mask: `(y, x)`, the part within its box.
        x0: First column of the part in the picture.
        y0: First row of the part in the picture.
        width: Of the picture.
        height: Of the picture.
    """
    columns = np.zeros((mask.shape[1], height), bool)
    columns[:, y0 : y0 + mask.shape[0]] = mask.T
    flat = columns.reshape(-1)
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0, append=0)) + x0 * height
    counts = np.diff(np.r_[0, edges, width * height]).tolist()
    if counts[-1] == 0:
        counts.pop()
    return _packed(counts)


def decode(code: str, width: int, height: int) -> NDArray[np.bool_]:
    """Return the mask of a code, `(y, x)`."""
    counts = _unpacked(code)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    whole = np.zeros(width * height, bool)
    whole[: len(flat)] = flat
    return whole.reshape(width, height).T


def from_counts(counts: Sequence[int], width: int, height: int) -> str:
    """Compress the run lengths of a file that writes them as a list.

    Raises:
        ValueError: They are negative, or do not fill the picture.
    """
    _check(counts, width, height)
    return _packed(counts)


def checked(code: str, width: int, height: int) -> str:
    """Return a compressed code as it stands.

    Raises:
        ValueError: It is none, or does not fill the picture.
    """
    _check(_unpacked(code), width, height)
    return code


def _check(counts: Sequence[int], width: int, height: int) -> None:
    if any(count < 0 for count in counts):
        raise ValueError("a run length is negative")
    if sum(counts) != width * height:
        raise ValueError(f"run lengths add up to {sum(counts)}; {width}x{height} px are {width * height}")


def _packed(counts: Sequence[int]) -> str:
    """Pack run lengths in 6-bit characters, from the fourth on as the difference to the one before the last."""
    text = []
    for n, count in enumerate(counts):
        value = count - counts[n - 2] if n > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(text)


def _unpacked(code: str) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _MOST_BITS:
            raise ValueError(f"run length {len(counts)} is not written in COCO's characters")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("the code ends within a run length")
    return counts
