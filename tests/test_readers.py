"""Readers: hidden names, and when two boxes are one finding."""

import pytest
from pycocotools import mask as coco_mask

from pipeline.records import Box
from sources.annotation import Mark
from sources.readers import agreed, overlap, pseudonyms


def test_pseudonyms_go_by_name_and_do_not_depend_on_the_order_of_rows():
    assert pseudonyms(["Smith", "Jones", "Smith", "Adams"]) == {"Adams": "r1", "Jones": "r2", "Smith": "r3"}
    assert pseudonyms(["Jones", "Adams", "Smith"]) == pseudonyms(["Smith", "Jones", "Adams"])


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, 0, 10, 10), (5, 5, 15, 15)), ((0, 0, 10, 10), (10, 0, 20, 10)), ((1.5, 2, 9, 8), (2, 2.5, 8, 30))],
)
def test_overlap_is_that_of_pycocotools(one, other):
    as_coco = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in (one, other)]
    assert overlap(Box(*one), Box(*other)) == pytest.approx(coco_mask.iou([as_coco[0]], [as_coco[1]], [0])[0][0])


def mark(reader: str, *box: float, raw: str = "nodule", **more) -> Mark:
    return Mark(raw, Box(*box) if box else None, reader=reader, **more)


def test_two_boxes_are_one_finding_from_half_their_union_on():
    half = [mark("r1", 0, 0, 10, 10), mark("r2", 0, 0, 10, 5)]
    assert agreed(half, "union", 2) == [Mark("nodule", Box(0, 0, 10, 10))]
    less = [mark("r1", 0, 0, 10, 10), mark("r2", 0, 0, 10, 4.9)]
    assert agreed(less, "union", 2) == less


def test_a_box_goes_to_the_finding_that_it_overlaps_most():
    marks = [mark("r1", 0, 0, 10, 10), mark("r1", 3, 0, 13, 10), mark("r2", 3.5, 0, 13.5, 10)]
    assert agreed(marks, "union", 2) == [marks[0], Mark("nodule", Box(3, 0, 13.5, 10))]


def test_a_mark_with_a_problem_goes_on_as_it_stands():
    bad = mark("r1", problem=("bad_box", "x"))
    for policy in ("all", "first", "union", "majority"):
        assert agreed([bad, mark("r2", 0, 0, 9, 9)], policy, 4)[0] == bad


@pytest.mark.parametrize(("saw", "readers", "kept"), [(1, 2, True), (1, 3, False), (2, 4, True), (2, 5, False)])
def test_half_of_the_readers_is_enough(saw, readers, kept):
    marks = [mark(f"r{n}", 0, 0, 9, 9) for n in range(saw)]
    (found,) = agreed(marks, "majority", readers)
    assert (found.problem is None) is kept
