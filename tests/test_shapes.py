"""Numbers, boxes and outlines of annotation files, each checked once."""

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline import runlength
from pipeline.errors import Unusable
from pipeline.records import Box
from sources import shapes
from sources.annotation import Mark
from sources.shapes import Shape

SQUARE = ((0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0))


def bounds(ring) -> tuple[float, ...]:
    columns, rows = zip(*ring, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


@pytest.mark.parametrize(("value", "wanted"), [(3, 3.0), ("3.5", 3.5), (" -2 ", -2.0), ("1e3", 1000.0)])
def test_a_number_may_be_written_as_text(value, wanted):
    assert shapes.number(value) == wanted


@pytest.mark.parametrize("value", [None, True, "", "x", "3,5", [3], {"a": 1}, b"3"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError):
        shapes.number(value)


def test_a_giant_number_is_infinite():
    assert shapes.number(10**400) == math.inf


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [((40, 30), (40, 30)), (("40", 30.0), (40, 30)), ((1, 10_000_000), (1, 10_000_000))],
)
def test_a_size_is_two_whole_numbers(sides, wanted):
    assert shapes.size(*sides) == wanted


@pytest.mark.parametrize("side", [0, -3, 40.5, "wide", None, True, math.nan, math.inf, 10**400, [40], 10_000_001])
def test_an_absurd_size_says_nothing(side):
    assert shapes.size(side, 30) is None
    assert shapes.size(30, side) is None


@pytest.mark.parametrize(("raw", "wanted"), [("RBC", "RBC"), (" a b\n", "a b"), (7, "7"), ("a\ud800", "a?")])
def test_a_label_is_text_that_can_be_stored(raw, wanted):
    assert shapes.label(raw) == wanted
    shapes.label(raw).encode()


@pytest.mark.parametrize("raw", [None, "", "  ", ["RBC"], {"name": "RBC"}])
def test_a_shape_without_a_label_is_a_mark_with_its_problem(raw):
    assert shapes.marked(raw, Shape) == Mark("", problem=("unlabelled", "the region has no label"))


def test_what_a_shape_refuses_stands_in_its_mark():
    found = shapes.marked("RBC", lambda: Shape(shapes.box(3, 0, 3, 5)), reader="r1")
    assert found.problem == ("box_zero_size", "x 3 to 3, y 0 to 5: the maximum must be above the minimum")
    assert (found.raw, found.box, found.reader) == ("RBC", None, "r1")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((1, 2, "x", 4), "bad_box"),
        ((None, 2, 3, 4), "bad_box"),
        ((1, 2, 1, 4), "box_zero_size"),
        ((5, 2, 1, 4), "box_zero_size"),
        ((1, math.nan, 3, 4), "bad_box"),
        ((1, 2, math.inf, 4), "bad_box"),
        ((1, 2, 2e7, 4), "bad_box"),
        ((1, 2, 10**400, 4), "bad_box"),
    ],
)
def test_a_box_that_is_none_is_refused(values, reason):
    with pytest.raises(Unusable, match=f"^{reason}: "):
        shapes.box(*values)


@pytest.mark.parametrize(
    "points",
    [[(3, 9), (8, 4)], [(8, 9), (3, 4)], [(3, 4), (8, 4), (8, 9), (3, 9)], [(3, 4), (8, 4), (8, 9), (3, 9), (3, 4)]],
)
def test_a_rectangle_is_the_box_of_its_corners_in_any_order(points):
    assert shapes.spanned(points) == Shape(Box(3, 4, 8, 9))


def test_a_rectangle_that_does_not_lie_upright_is_an_outline():
    points = ((5.0, 0.0), (10.0, 5.0), (5.0, 10.0), (0.0, 5.0))
    assert shapes.spanned(points) == Shape(rings=(points,))


@pytest.mark.parametrize("points", [[], [(1, 2)], [(1, 2), (3, 4), (5, 6)], [(1, 2)] * 6])
def test_a_rectangle_of_another_number_of_corners_is_refused(points):
    with pytest.raises(Unusable, match=r"^bad_box: "):
        shapes.spanned(points)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([(0, 0), (1, 1)], "bad_outline"),
        ([(0, 0), (1, 1), (2,)], "bad_outline"),
        ([(0, 0), (1, 1), ("x", 2)], "bad_outline"),
        ([(0, 0), (1, 1), (math.nan, 2)], "bad_outline"),
        ([(0, 0), (1, 1), (2e7, 2)], "bad_outline"),
        ([(0, 3), (1, 3), (2, 3)], "box_zero_size"),
        ([(2, 0), (2, 1), (2, 9)], "box_zero_size"),
        (5, "bad_outline"),
        ("abc", "bad_outline"),
        (None, "bad_outline"),
    ],
)
def test_an_outline_that_is_none_is_refused(points, reason):
    with pytest.raises(Unusable, match=f"^{reason}: "):
        shapes.ring(points)


def test_a_flat_list_is_an_outline():
    assert shapes.flat_ring([0, 0, "4", 0, 4, 4.0, 0, 4]) == SQUARE


@pytest.mark.parametrize("values", [[0, 0, 4, 0, 4, 4, 0], [0, 0, 4, 0], "0 0 4 0 4 4", None])
def test_an_odd_flat_list_is_refused(values):
    with pytest.raises(Unusable, match=r"^bad_outline: "):
        shapes.flat_ring(values)


def test_an_ellipse_has_its_radii_and_the_area_of_pi_a_b():
    outline = shapes.ellipse(100, 60, 90, 50)
    assert bounds(outline) == pytest.approx((10, 10, 190, 110))
    code = coco_mask.frPyObjects([[value for point in outline for value in point]], 120, 200)
    assert coco_mask.area(code)[0] == pytest.approx(math.pi * 90 * 50, rel=0.01)


def test_a_quarter_turn_goes_clockwise_as_it_is_seen():
    # the corner above right of the centre goes below right; y grows downwards
    turned = shapes.turned(((4.0, -2.0), (4.0, 2.0), (-4.0, 2.0)), 0, 0, 90)
    np.testing.assert_allclose(turned, [(2, 4), (-2, 4), (-2, -4)], atol=1e-12)


def test_a_point_within_an_outline_is_held_by_it():
    dented = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (5.0, 2.0), (0.0, 10.0))
    held = {(x, y) for x in range(-1, 12) for y in range(-1, 12) if shapes.holds(dented, x + 0.25, y + 0.5)}
    code = coco_mask.frPyObjects([[64 * value + 100 for point in dented for value in point]], 999, 999)[0]
    mask = runlength.decode(code["counts"].decode(), 999, 999)
    wanted = {(x, y) for x in range(-1, 12) for y in range(-1, 12) if mask[64 * y + 132, 64 * x + 116]}
    assert held == wanted
    assert len(held) > 50


def test_a_mask_is_coded_over_its_picture_and_cut_at_its_edges():
    mask = np.ones((4, 5), bool)
    for x0, y0, wanted in [(2, 3, [2, 3, 5, 4]), (-2, -1, [0, 0, 3, 3]), (8, 9, [8, 9, 2, 1])]:
        code = shapes.coded(mask, x0, y0, (10, 10))
        assert coco_mask.toBbox({"size": [10, 10], "counts": code}).tolist() == wanted


@pytest.mark.parametrize(
    ("mask", "x0", "of", "reason"),
    [
        (np.ones((2, 2), bool), 0, None, "bad_outline"),
        (np.zeros((2, 2), bool), 0, (9, 9), "box_zero_size"),
        (np.ones((2, 2), bool), 9, (9, 9), "box_zero_size"),
        (np.ones((2, 2), bool), -(10**30), (9, 9), "box_zero_size"),
        (np.ones((2, 2), bool), 0, (10**6, 10**6), "too_large"),
    ],
)
def test_a_mask_that_is_none_is_refused(mask, x0, of, reason):
    with pytest.raises(Unusable, match=f"^{reason}: "):
        shapes.coded(mask, x0, 0, of)
