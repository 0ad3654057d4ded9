"""COCO's run-length code, against pycocotools."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline import runlength


def masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    found = [rng.random((rng.integers(1, 40), rng.integers(1, 40))) < fill for fill in (0, 0.02, 0.3, 0.7, 0.98, 1)]
    wide = np.zeros((3, 70_000), bool)  # runs that need four characters
    wide[:, 10:69_000] = True
    return [*found, wide]


def counts_of(mask: np.ndarray) -> list[int]:
    """Run lengths of columns, background first, counted one pixel at a time."""
    counts, now = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != now:
            counts.append(0)
            now = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("mask", masks(), ids=lambda mask: f"{mask.shape}")
def test_a_code_is_that_of_pycocotools_whichever_way_it_comes(mask):
    height, width = mask.shape
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert runlength.encode(mask, 0, 0, width, height) == theirs
    assert runlength.from_counts(counts_of(mask), width, height) == theirs
    assert runlength.checked(theirs, width, height) == theirs
    np.testing.assert_array_equal(runlength.decode(theirs, width, height), mask)


def test_a_list_of_run_lengths_is_what_pycocotools_makes_of_it():
    counts = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    theirs = coco_mask.frPyObjects({"counts": counts, "size": [9, 10]}, 9, 10)
    assert runlength.from_counts(counts, 10, 9) == theirs["counts"].decode()


def test_a_part_is_put_in_its_place():
    whole = np.zeros((7, 9), bool)
    whole[2:4, 3:8] = [[1, 0, 1, 1, 0], [0, 0, 1, 0, 1]]
    assert runlength.encode(whole[2:4, 3:8], 3, 2, 9, 7) == runlength.encode(whole, 0, 0, 9, 7)


@pytest.mark.parametrize("counts", [[], [11], [13], [5, -1, 8], [4, 4, 3], [10**30]])
def test_run_lengths_that_do_not_fill_the_picture_are_refused(counts):
    with pytest.raises(ValueError, match=r"run length"):
        runlength.from_counts(counts, 4, 3)


def test_one_run_may_fill_the_picture():
    assert runlength.checked("<", 4, 3) == "<"  # 12 px of background


@pytest.mark.parametrize(
    "code", ["", "=", "abc", "P", "oooooooooooooooooooooooooooooo0", "é", " ", "\x00", "0" * 10, "<\ud800"]
)
def test_a_text_that_is_no_code_of_the_picture_is_refused(code):
    with pytest.raises(ValueError, match=r"run length|ends within"):
        runlength.checked(code, 4, 3)


def test_damaged_codes_are_refused_or_fill_the_picture():
    rng = np.random.default_rng(1)
    mask = rng.random((20, 30)) < 0.4
    code = runlength.encode(mask, 0, 0, 30, 20)
    for _ in range(2000):
        at = int(rng.integers(len(code)))
        damaged = code[:at] + chr(int(rng.integers(32, 130))) + code[at + int(rng.integers(0, 3)) :]
        try:
            kept = runlength.checked(damaged, 30, 20)
        except ValueError:
            continue
        assert runlength.decode(kept, 30, 20).shape == (20, 30)
        assert coco_mask.area({"size": [20, 30], "counts": kept}) == runlength.decode(kept, 30, 20).sum()
