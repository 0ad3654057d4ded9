"""Label Studio's run-length code, against a reader that takes one bit at a time."""

import numpy as np
import pytest

from sources import brush


def packed(text: str) -> bytes:
    """Bytes of a text of 0 and 1, filled up with 0."""
    return bytes(int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8))


def head(values: int, widths=(3, 4, 8, 16), bits: int = 8) -> str:
    return f"{values:032b}{bits - 1:05b}" + "".join(f"{width - 1:04b}" for width in widths)


def block(values: list[int], choice: int = 3, repeated: bool = False, width: int = 16) -> str:
    shown = values[:1] if repeated else values
    return f"{int(repeated)}{choice:02b}{len(values) - 1:0{width}b}" + "".join(f"{value:08b}" for value in shown)


def slowly(code: bytes) -> list[int]:
    """The values of a code, as Label Studio's converter goes through it: one bit, one value at a time."""
    text, at = "".join(f"{octet:08b}" for octet in code), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(text[at - count : at], 2)

    count, bits = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < count:
        repeated = take(1)
        length = take(widths[take(2)]) + 1
        out += [take(bits)] * length if repeated else [take(bits) for _ in range(length)]
    return out


def encoded(pixels: np.ndarray, seed: int = 0) -> bytes:
    """RGBA values of a picture in blocks of changing length and kind."""
    rng, values, text = np.random.default_rng(seed), pixels.reshape(-1).tolist(), head(pixels.size)
    at = 0
    while at < len(values):
        choice, width = [(0, 3), (1, 4), (2, 8), (3, 16)][int(rng.integers(4))]
        same = next((n for n in range(at, len(values)) if values[n] != values[at]), len(values)) - at
        repeated = bool(same > 1 or rng.random() < 0.3)
        length = min(same if repeated else int(rng.integers(1, 20)), 2**width, len(values) - at)
        text += block(values[at : at + length], choice, repeated, width)
        at += length
    return packed(text)


def test_a_code_written_by_hand_is_read():
    # 2x1 px: the first is transparent, the second painted
    text = head(8) + block([0, 0, 0, 0], 0, repeated=True, width=3) + block([255, 0, 0, 200], 1, width=4)
    np.testing.assert_array_equal(brush.decode(packed(text), 2, 1), [[False, True]])


@pytest.mark.parametrize("seed", range(12))
def test_alpha_is_what_a_slow_reader_finds(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 30, 2).tolist()
    painted = rng.random((height, width)) < [0, 0.02, 0.5, 1][seed % 4]
    pixels = np.where(painted[..., None], [10, 20, 30, 77], [0, 0, 0, 0]).astype(np.uint8)
    pixels[..., :3] += rng.integers(0, 3, (height, width, 3), dtype=np.uint8)
    code = encoded(pixels, seed)
    assert slowly(code) == pixels.reshape(-1).tolist()
    np.testing.assert_array_equal(brush.decode(code, width, height), painted)


@pytest.mark.parametrize(("width", "height"), [(3, 2), (2, 2), (1, 1), (10**6, 10**6)])
def test_a_code_of_another_size_is_refused_before_anything_is_painted(width, height):
    with pytest.raises(ValueError, match=r"the brush code holds 8 values of 8 bits"):
        brush.decode(packed(head(8) + block([0] * 8)), width, height)


def test_values_of_other_than_eight_bits_are_refused():
    with pytest.raises(ValueError, match=r"16 bits"):
        brush.decode(packed(head(8, bits=16) + "0" * 400), 2, 1)


def test_a_block_that_passes_the_end_is_refused():
    with pytest.raises(ValueError, match=r"goes on to value 9 of 8"):
        brush.decode(packed(head(8) + block([0] * 9)), 2, 1)


def test_a_code_that_ends_early_or_is_damaged_is_refused_or_read():
    rng = np.random.default_rng(3)
    code = encoded(rng.integers(0, 2, (9, 7, 4), dtype=np.uint8))
    for at in range(len(code)):
        with pytest.raises(ValueError, match=r"ends too early"):
            brush.decode(code[:at], 7, 9)
    refused = 0
    for _ in range(500):
        damaged = bytearray(code)
        damaged[int(rng.integers(len(code)))] = int(rng.integers(256))
        try:
            assert brush.decode(bytes(damaged), 7, 9).shape == (9, 7)
        except ValueError:
            refused += 1
    assert 0 < refused < 500
