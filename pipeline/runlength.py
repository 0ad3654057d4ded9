"""COCO run-length code of masks (column-major, background first), as pycocotools writes `counts`."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_BITS = 60
"""Of one run length: longer ones are no picture's."""


Ints = NDArray[np.int64]


def encode(mask: NDArray[np.bool_], x0: int, y0: int, width: int, height: int) -> str:
    """Encode a mask.

    Args:
        mask: `(y, x)`, the part within its box.
        x0: First column of the part in the picture.
        y0: First row of the part in the picture.
        width: Of the picture.
        height: Of the picture.
    """
    columns = np.zeros((mask.shape[1], height), np.int8)
    columns[:, y0 : y0 + mask.shape[0]] = mask.T
    edges = np.flatnonzero(np.diff(columns.reshape(-1), prepend=0, append=0)) + x0 * height
    return encode_runs(edges[::2], edges[1::2], np.zeros(1, np.int64), width * height)[0]


def encode_runs(begins: Ints, ends: Ints, first: Ints, pixels: int) -> list[str]:
    """Encode several masks of one picture, given as runs of px counted down its columns.

    Args:
        begins: First px of each run, mask after mask, in order; runs may follow each other without a gap.
        ends: Half-open.
        first: Number of each mask's first run.
        pixels: Of the picture.
    """
    gap = np.append(begins[1:] != ends[:-1], True)
    gap[first[1:] - 1] = True  # a run may begin where another mask's ends
    if not gap.all():
        last = np.flatnonzero(gap)
        first = np.searchsorted(last, first)
        begins, ends = begins[np.append(0, last[:-1] + 1)], ends[last]
    runs, masks = len(begins), len(first)
    # of each mask the lengths before, of and between its runs, and what is left of the picture after the last one
    edges = np.empty(2 * runs, np.int64)
    edges[::2], edges[1::2] = begins, ends
    edges = np.insert(edges, np.append(2 * first[1:], 2 * runs), pixels)
    starts = 2 * first + np.arange(masks)
    counts = np.diff(edges, prepend=0)
    counts[starts] = edges[starts]
    if not (kept := counts != 0).all():
        kept[starts] = True  # the first count is of background, and may be 0
        before = np.append(0, np.cumsum(kept))
        counts, starts = counts[kept], before[starts]
    return _packed(counts, starts)


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
    return _packed(np.array(counts, np.int64), np.zeros(1, np.int64))[0]


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


def _packed(counts: Ints, starts: Ints) -> list[str]:
    """Pack run lengths in 6-bit characters, from a code's fourth on as the difference to the one before the last.

    Args:
        counts: Code after code.
        starts: Number of each code's first count.
    """
    values = counts.copy()
    values[2:] -= counts[:-2]
    for n in range(3):
        at = starts + n
        at = at[at < np.append(starts[1:], len(counts))]
        values[at] = counts[at]
    sizes = np.ones(len(values), np.int64)
    bound, size = 1 << 4, np.where(values < 0, ~values, values)
    while (longer := size >= bound).any():
        sizes += longer
        bound <<= 5
    ends = np.cumsum(sizes)
    begins = ends - sizes
    text = np.empty(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max())):
        has = sizes > place
        more = sizes[has] > place + 1
        text[begins[has] + place] = ((values[has] >> 5 * place) & 0x1F | more << 5) + 48
    whole = text.tobytes().decode("ascii")
    edges = [*begins[starts].tolist(), len(whole)]
    return [whole[begin:end] for begin, end in itertools.pairwise(edges)]


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
