"""What the values of a mask mean: the labels that the test wrote come back, and what is unclear is refused."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import Unusable
from pipeline.ingest import mask_values
from pipeline.ingest.mask_values import Labelled

RNG = np.random.default_rng(2)
DISC = (np.hypot(*np.mgrid[-30:30, -40:40]) < 20).astype(np.uint8)
"""60 rows, 80 columns."""


def by_label(found: Labelled) -> dict[str, np.ndarray]:
    """Raw label to where it is."""
    return {raw: found.array == n for n, raw in {**found.names, **found.unknown}.items()}


def binary(values, threshold=None, invert=False, lossy=False) -> np.ndarray:
    found = mask_values.binary(values, "disc", threshold, invert, lossy)
    assert (found.names, found.unknown) == ({1: "disc"}, {})
    return found.array


def jpeg(array: np.ndarray, quality: int = 75) -> np.ndarray:
    sink = io.BytesIO()
    Image.fromarray(array).save(sink, "JPEG", quality=quality)
    return np.asarray(Image.open(sink))


def refused(act, *args, **kwargs) -> str:
    with pytest.raises(Unusable) as caught:
        act(*args, **kwargs)
    return caught.value.reason


# ---- binary


@pytest.mark.parametrize("foreground", [1, 7, 127, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_foreground_is_what_is_not_zero(foreground, dtype):
    np.testing.assert_array_equal(binary((DISC * np.int64(foreground)).astype(dtype)), DISC)


def test_sixteen_bits_truths_and_colours_are_foreground_too():
    np.testing.assert_array_equal(binary(DISC * np.uint16(65535)), DISC)
    np.testing.assert_array_equal(binary(DISC.astype(bool)), DISC)
    np.testing.assert_array_equal(binary(np.dstack([DISC * 255, DISC * 0, DISC * 0])), DISC)  # red on black
    np.testing.assert_array_equal(binary(np.dstack([DISC * 255] * 3)), DISC)


def test_almost_whole_numbers_are_whole():
    np.testing.assert_array_equal(binary(DISC * 0.99999997 + (1 - DISC) * 1e-9), DISC)


def test_an_empty_mask_is_empty_and_a_full_one_is_flagged():
    empty = mask_values.binary(np.zeros((9, 9), np.uint8), "x", None, False, False)
    assert (empty.array.any(), empty.flags) == (False, ())
    for full in (np.full((9, 9), 255, np.uint8), np.full((9, 9, 3), 9, np.uint8)):
        found = mask_values.binary(full, "x", None, False, False)
        assert (found.array.all(), found.flags) == (True, ("full_mask",))
    inverted = mask_values.binary(np.zeros((9, 9), np.uint8), "x", None, True, False)
    assert inverted.flags == ("full_mask",)


def test_an_inverted_mask_is_what_is_black():
    found = mask_values.binary(255 - DISC * 255, "x", None, True, False)
    np.testing.assert_array_equal(found.array, DISC)
    assert found.history == ("mask inverted",)


@pytest.mark.parametrize("quality", [30, 60, 75, 95])
@pytest.mark.parametrize("colour", [False, True])
def test_a_jpeg_mask_is_cut_half_way(quality, colour):
    values = jpeg(np.dstack([DISC * 255] * 3) if colour else DISC * 255, quality)
    assert len(np.unique(values)) > 10
    found = binary(values, lossy=True)
    assert (found != DISC).sum() <= 12  # of 1,250 px
    rows, columns = np.nonzero(found)
    wanted = np.nonzero(DISC)
    for of, truth in ((rows, wanted[0]), (columns, wanted[1])):
        assert abs(of.min() - truth.min()) <= 1
        assert abs(of.max() - truth.max()) <= 1


def test_a_mask_with_soft_edges_is_cut_half_way():
    soft = cv2.GaussianBlur(DISC * 255, (0, 0), 1.5)
    np.testing.assert_array_equal(binary(soft), soft >= 128)
    deep = cv2.GaussianBlur(DISC * np.uint16(65535), (0, 0), 1.5)
    np.testing.assert_array_equal(binary(deep), deep >= 32768)
    almost_white = DISC * 255 - (RNG.random(DISC.shape) < 0.1) * DISC  # 0, 254, 255
    np.testing.assert_array_equal(binary(almost_white), DISC)


@pytest.mark.parametrize(
    "values",
    [
        DISC + 1,  # which of the two is it?
        DISC * 255 + RNG.integers(0, 2, DISC.shape, dtype=np.uint8) * (1 - DISC),  # 0, 1 and 255: classes and void
        DISC * RNG.integers(1, 4, DISC.shape, dtype=np.uint8),  # label ids
        RNG.integers(0, 256, DISC.shape, dtype=np.uint8),  # a picture
        (DISC * 120).astype(np.uint8) + RNG.integers(0, 30, DISC.shape, dtype=np.uint8),
        np.where(DISC, -1, 1),
        DISC * np.int64(70_000) + RNG.integers(0, 3, DISC.shape),
        np.dstack([DISC * 255, 255 - DISC * 255, DISC * 0]),  # red and green
        np.dstack([DISC * 255] * 2 + [DISC * 0 + 255]),  # white on blue
    ],
    ids=["1 2", "0 1 255", "0 1 2 3", "noise", "grey", "-1 1", "large", "red green", "white blue"],
)
def test_what_is_not_black_and_white_is_not_binary(values):
    assert refused(binary, values) == "not_binary"


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_soft_mask_needs_a_threshold(share):
    soft = DISC * np.float32(share) * np.linspace(0.1, 1, 80, dtype=np.float32)
    assert refused(binary, soft) == "interpolated_mask"
    np.testing.assert_array_equal(binary(soft, threshold=0.25), soft >= 0.25)


def test_a_threshold_is_the_first_value_inside():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(binary(ramp, threshold=200), ramp >= 200)
    assert mask_values.binary(ramp, "x", 200, False, False).history == ("mask from 200 on",)
    np.testing.assert_array_equal(binary(ramp, threshold=200, invert=True), ramp < 200)
    np.testing.assert_array_equal(binary(np.dstack([ramp, ramp // 2, ramp * 0]), threshold=200), ramp >= 200)


# ---- indexed

IDS = RNG.choice([0, 1, 3, 255], (40, 50)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32])
def test_ids_become_their_labels_and_others_are_unknown(dtype):
    found = mask_values.indexed(IDS.astype(dtype), {3: "spleen", 1: "liver", 9: "absent"}, False)
    where = by_label(found)
    np.testing.assert_array_equal(where["liver"], IDS == 1)
    np.testing.assert_array_equal(where["spleen"], IDS == 3)
    np.testing.assert_array_equal(where["255"], IDS == 255)
    assert (set(found.names.values()), set(found.unknown.values())) == ({"liver", "spleen", "absent"}, {"255"})
    np.testing.assert_array_equal(found.array == 0, IDS == 0)


def test_ids_beyond_a_byte_and_below_zero_are_ids():
    values = np.array([[0, 300, 70_000], [-1, 300, 65_536]])
    found = mask_values.indexed(values, {300: "a", 70_000: "b", -1: "not looked at"}, False)
    assert [(raw, where.sum()) for raw, where in sorted(by_label(found).items())] == [
        ("65536", 1), ("a", 2), ("b", 1), ("not looked at", 1)
    ]  # fmt: skip
    found = mask_values.indexed(values.clip(0, 65535).astype(np.uint16), {300: "a", 70_000: "b", -1: "c"}, False)
    assert {raw: int(where.sum()) for raw, where in by_label(found).items()} == {"a": 2, "b": 0, "c": 0, "65535": 2}


def test_zero_may_be_a_label():
    """As in REFUGE: cup 0, disc 128, background 255."""
    values = RNG.choice([0, 128, 255], (40, 50)).astype(np.uint8)
    where = by_label(mask_values.indexed(values, {0: "cup", 128: "disc", 255: "rest"}, False))
    np.testing.assert_array_equal(where["cup"], values == 0)
    np.testing.assert_array_equal(where["rest"], values == 255)


def test_a_picture_is_no_set_of_label_ids():
    assert refused(mask_values.indexed, np.arange(256, dtype=np.uint8).reshape(16, 16), {1: "a"}, False) == (
        "unknown_label_id"
    )


def test_label_ids_between_whole_numbers_are_interpolated():
    assert refused(mask_values.indexed, np.array([[0, 1.5], [2, 1]]), {1: "a"}, False) == "interpolated_mask"
    assert refused(mask_values.indexed, np.array([[0, np.nan], [2, 1]]), {1: "a"}, False) == "bad_annotation"


def test_a_jpeg_keeps_ids_that_lie_far_apart_and_no_others():
    values = jpeg(np.where(DISC, 255, 128).astype(np.uint8) * (np.arange(80) >= 10))
    where = by_label(mask_values.indexed(values, {128: "around", 255: "disc"}, True))
    assert (where["disc"] != DISC.astype(bool)).mean() < 0.02
    assert refused(mask_values.indexed, values, {1: "a", 2: "b"}, True) == "interpolated_mask"


# ---- colours

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def painted(classes: np.ndarray, *colours: tuple[int, int, int]) -> np.ndarray:
    return np.array([BLACK, *colours], np.uint8)[classes]


def test_colours_are_matched_exactly_and_others_are_unknown():
    classes = RNG.integers(0, 4, (40, 50))
    found = mask_values.coloured(painted(classes, RED, GREEN, (254, 0, 0)), {GREEN: "b", RED: "a"}, False)
    where = by_label(found)
    np.testing.assert_array_equal(where["a"], classes == 1)
    np.testing.assert_array_equal(where["b"], classes == 2)
    np.testing.assert_array_equal(where["#fe0000"], classes == 3)
    np.testing.assert_array_equal(found.array == 0, classes == 0)


def test_two_colours_of_one_label_and_black_may_be_named():
    classes = RNG.integers(0, 3, (40, 50))
    found = mask_values.coloured(painted(classes, RED, GREEN), {BLACK: "void", RED: "a", GREEN: "a"}, False)
    assert {raw: int((found.array == n).sum()) for n, raw in found.names.items() if raw == "void"} == {
        "void": int((classes == 0).sum())
    }
    assert sorted(found.names.values()) == ["a", "a", "void"]
    assert found.array.all()


def test_sixteen_bits_grey_and_floats_are_colours():
    classes = RNG.integers(0, 3, (40, 50))
    colours = painted(classes, RED, (255, 255, 255))
    for values in (colours.astype(np.uint16) * 257, colours.astype(np.float64), colours):
        where = by_label(mask_values.coloured(values, {RED: "a", (255, 255, 255): "b"}, False))
        np.testing.assert_array_equal(where["a"], classes == 1)
        np.testing.assert_array_equal(where["b"], classes == 2)
    where = by_label(mask_values.coloured(DISC * 255, {(255, 255, 255): "b"}, False))
    np.testing.assert_array_equal(where["b"], DISC == 1)
    assert refused(mask_values.coloured, np.full((2, 2, 3), 300), {RED: "a"}, False) == "bad_annotation"


def test_a_jpeg_is_matched_nearly_and_its_edges_are_background():
    values = jpeg(painted(DISC.astype(int) + 1, RED, GREEN), 90)
    found = mask_values.coloured(values, {RED: "around", GREEN: "disc"}, True)
    where = by_label(found)
    assert found.unknown == {}
    assert (where["disc"] & (DISC == 0)).sum() <= 5
    inner = cv2.erode(DISC, np.ones((3, 3), np.uint8)) == 1
    assert where["disc"][inner].mean() > 0.98


def test_a_photograph_is_no_coloured_mask():
    photograph = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for lossy in (False, True):
        assert refused(mask_values.coloured, photograph, {RED: "a"}, lossy) == "unknown_label_id"


# ---- instances


def test_every_value_is_an_object():
    values = RNG.choice([0, 2, 500, 65_535], (30, 30)).astype(np.uint16)
    found = mask_values.instances(values, "nucleus")
    assert set(found.names.values()) == {"nucleus"}
    sizes = sorted(int((found.array == n).sum()) for n in found.names)
    assert sizes == sorted(int((values == value).sum()) for value in (2, 500, 65_535))


def test_every_colour_but_black_is_an_object():
    classes = RNG.integers(0, 4, (30, 30))
    for scale in (1, 257):
        found = mask_values.instances(painted(classes, RED, GREEN, (1, 2, 3)).astype(np.uint16) * scale, "cell")
        assert len(found.names) == 3
        np.testing.assert_array_equal(found.array == 0, classes == 0)


def test_a_photograph_is_no_mask_of_objects():
    assert refused(mask_values.instances, RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8), "cell") == (
        "bad_annotation"
    )


# ---- together


def test_masks_of_one_label_are_united():
    one, other, third = (RNG.random((9, 9)) < 0.3 for _ in range(3))
    masks = [mask_values.binary(m, raw, None, False, False) for m, raw in ((one, "a"), (third, "b"), (other, "a"))]
    found = {raw: mask.array for mask in mask_values.united(masks) for raw in mask.names.values()}
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], one | other)
    np.testing.assert_array_equal(found["b"], third)
