"""Label Studio's own run-length code of brush strokes: a stream of bits over the RGBA values of the whole picture.

It begins with the number of values (32 bits), the bits of a value less one (5) and four widths of a length less one
(4 each). Then come blocks: one bit (1: one value repeated, 0: as many values), two bits that choose the width of the
length, the length less one, and the value or values. Rows come one after the other; alpha tells what is painted.
"""

import numpy as np
from numpy.typing import NDArray

_VALUE_BITS = 8
_HEAD = (32, 5, 4, 4, 4, 4)


def decode(code: bytes, width: int, height: int) -> NDArray[np.bool_]:
    """Return what is painted, `(y, x)`.

    Args:
        code: The list `rle` of a result, as bytes.
        width: Of the picture, px.
        height: Of the picture, px.

    Raises:
        ValueError: It is no such code, or one of another size.
    """
    stream = _Bits(code)
    values, bits, *widths = (stream.take(n) for n in _HEAD)
    if values != 4 * width * height or bits != _VALUE_BITS - 1:
        said = f"{values} values of {bits + 1} bits"
        raise ValueError(f"the brush code holds {said}; {width}x{height} px are {4 * width * height} of {_VALUE_BITS}")
    painted = np.zeros(width * height, bool)
    at = 0
    while at < values:
        repeated, choice = stream.take(1), stream.take(2)
        end = at + 1 + stream.take(widths[choice] + 1)
        if end > values:
            raise ValueError(f"the brush code goes on to value {end} of {values}")
        pixels = slice(at // 4, end // 4)  # those whose alpha, the fourth value, lies in the block
        if repeated:
            painted[pixels] = stream.take(_VALUE_BITS) > 0
        else:
            painted[pixels] = stream.octets(end - at)[3 - at % 4 :: 4] > 0
        at = end
    return painted.reshape(height, width)


class _Bits:
    """Bits of bytes, the highest first."""

    def __init__(self, code: bytes) -> None:
        self._code = code
        self._at = 0

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        first, self._at = self._at, self._at + count
        last = (self._at + 7) // 8
        if last > len(self._code):
            raise ValueError("the brush code ends too early")
        found = int.from_bytes(self._code[first // 8 : last], "big") >> (last * 8 - self._at)
        return found & ((1 << count) - 1)

    def octets(self, count: int) -> NDArray[np.uint8]:
        """Return the next values of 8 bits each, wherever they begin."""
        first, shift = self._at // 8, self._at % 8
        self._at += 8 * count
        if (self._at + 7) // 8 > len(self._code):
            raise ValueError("the brush code ends too early")
        part = np.frombuffer(self._code, np.uint8, (self._at + 7) // 8 - first, first).astype(np.uint16)
        if not shift:
            return part.astype(np.uint8)
        return ((part[:-1] << shift | part[1:] >> (8 - shift)) & 0xFF).astype(np.uint8)
