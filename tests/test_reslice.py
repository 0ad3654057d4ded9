"""Slices in the order of storage are the slices that a view gives, whatever the order is."""

import itertools

import numpy as np
import pytest

from pipeline.ingest.reslice import TOGETHER, as_stored, has_table, sheets, tabled, transposed

ORDERS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((1, -1), repeat=3))


def view(shape, order, flips, dtype=np.int16) -> np.ndarray:
    """An array whose axes lie in memory in any order, and run in any direction."""
    rng = np.random.default_rng(7)
    stored = rng.integers(0, 100, [shape[axis] for axis in order]).astype(dtype)
    return stored.transpose(np.argsort(order))[tuple(slice(None, None, flip) for flip in flips)]


def half(values: np.ndarray) -> np.ndarray:
    return (values // 2).astype(np.uint8)


@pytest.mark.parametrize("flips", FLIPS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("shade", [None, half], ids=["as it is", "shaded"])
@pytest.mark.parametrize("shape", [(20, 9, 14), (1, 5, 6), (7, 1, 6), (7, 5, 1), (2 * TOGETHER + 3, 4, 5)], ids=str)
def test_slices_are_those_of_the_view(shape, order, flips, shade):
    stack = view(shape, order, flips)
    for wanted in (range(shape[0]), [0], range(shape[0])[::3], range(shape[0])[::-1]):
        made = list(sheets(stack, wanted, shade))
        assert len(made) == len(wanted)
        for number, sheet in zip(wanted, made, strict=True):
            assert sheet.flags.c_contiguous
            np.testing.assert_array_equal(sheet, stack[number] if shade is None else shade(stack[number]))


@pytest.mark.parametrize("dtype", [bool, "u1", "i1", "i2", ">i2", "u4", "i8", "f4", ">f4", "f8", "c16"])
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_type_is_moved_and_not_changed(order, dtype):
    stack = view((12, 5, 6), order, (-1, 1, -1), dtype)
    for number, sheet in enumerate(sheets(stack, range(12))):
        assert sheet.dtype.newbyteorder("=") == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(sheet, stack[number])


@pytest.mark.parametrize("shape", [(3, 5), (1, 5), (5, 1), (0, 4)])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "f8", "c16"])
def test_a_sheet_is_transposed(shape, dtype):
    sheet = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for one in (sheet, sheet[::-1, ::-1]):
        np.testing.assert_array_equal(transposed(one), one.T)
        assert transposed(one).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", ">u2", ">i2"])
def test_a_table_holds_every_number(dtype):
    dtype = np.dtype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    every = np.arange(low, high + 1).astype(dtype).reshape(2, -1)

    def shade(values: np.ndarray) -> np.ndarray:
        return (values.astype(np.int64) * 7 // 3 % 256).astype(np.uint8)

    np.testing.assert_array_equal(tabled(shade, dtype)(every), shade(every))


def test_only_whole_numbers_of_at_most_16_bits_have_a_table():
    assert [kind for kind in ("u1", "i1", "u2", ">i2", "i4", "f2", "f4", "?") if has_table(np.dtype(kind))] == [
        "u1",
        "i1",
        "u2",
        ">i2",
    ]


@pytest.mark.parametrize("flips", FLIPS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_the_order_of_storage_is_one_piece_of_memory(order, flips):
    array = view((3, 4, 5), order, flips)
    found = as_stored(array)
    assert found.flags.c_contiguous
    assert sorted(found.ravel().tolist()) == sorted(array.ravel().tolist())
