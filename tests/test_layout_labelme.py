"""LabelMe files: shapes of every type, groups, flags and masks."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.errors import Unusable
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import labelme

TRIANGLE = [[5, 3], [15, 3], [15, 10]]


def read(tmp_path, *found, size=(40, 30), **more) -> Marks:
    data = {"version": "5.4.1", "flags": {}, "shapes": found, "imagePath": "a.png", "imageData": "iVBORw0KGgo="}
    if size:
        data |= {"imageWidth": size[0], "imageHeight": size[1]}
    return of(tmp_path, json.dumps(data | more))


def of(tmp_path, text: str | bytes) -> Marks:
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    given = Given(tmp_path, ("a.json",), None)
    return labelme.read(labelme.Spec(kind="labelme", path="a.json"), Case("a", "toy", "a", {}, {}), given)


def drawn(kind: str | None, points, label="RBC", **more) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def png(pixels: np.ndarray | Image.Image) -> str:
    sink = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


def test_a_rectangle_is_two_corners_in_any_order(tmp_path):
    found = read(tmp_path, drawn("rectangle", [[5, 3], [15, 10]]), drawn("rectangle", [[15, 3], [5, 10]]))
    assert found == Marks((Mark("RBC", Box(5, 3, 15, 10)),) * 2, (40, 30))


def test_a_polygon_is_an_outline(tmp_path):
    ring = ((5.0, 3.0), (15.0, 3.0), (15.0, 10.0))
    assert read(tmp_path, drawn("polygon", TRIANGLE)).marks == (Mark("RBC", rings=(ring,)),)
    assert read(tmp_path, drawn(None, TRIANGLE)).marks == (Mark("RBC", rings=(ring,)),)


def test_a_circle_is_centre_and_a_point_of_its_edge(tmp_path):
    (ring,) = read(tmp_path, drawn("circle", [[20, 15], [23, 19]])).marks[0].rings
    columns, rows = zip(*ring, strict=True)
    assert (min(columns), min(rows), max(columns), max(rows)) == pytest.approx((15, 10, 25, 20))


def test_a_turned_rectangle_is_an_outline(tmp_path):
    points = [[5, 0], [10, 5], [5, 10], [0, 5]]
    for kind in ("rotation", "oriented_rectangle", "rectangle"):
        assert len(read(tmp_path, drawn(kind, points)).marks[0].rings[0]) == 4


def test_polygons_of_one_group_and_label_are_one_region(tmp_path):
    other = [[20, 3], [25, 3], [25, 9]]
    found = read(
        tmp_path,
        drawn("polygon", TRIANGLE, group_id=1),
        drawn("polygon", TRIANGLE, "WBC", group_id=1),
        drawn("polygon", other, group_id=1),
        drawn("polygon", other, group_id=2),
        drawn("polygon", other),
        drawn("rectangle", [[5, 3], [15, 10]], group_id=1),
    )
    assert [(mark.raw, len(mark.rings)) for mark in found.marks] == [
        ("RBC", 2),
        ("WBC", 1),
        ("RBC", 1),
        ("RBC", 1),
        ("RBC", 0),
    ]


def test_a_broken_part_spoils_its_whole_region(tmp_path):
    parts = [drawn("polygon", points, group_id=1) for points in (TRIANGLE, [[1, 2]])]
    assert [mark.problem[0] for mark in read(tmp_path, *parts).marks] == ["bad_outline"]


def test_flags_that_are_set_are_labels_of_the_picture(tmp_path):
    found = read(tmp_path, drawn("polygon", TRIANGLE), flags={"blurred": True, "normal": False, "odd": "true"})
    assert [(mark.raw, mark.box, mark.rings != ()) for mark in found.marks] == [
        ("blurred", None, False),
        ("RBC", None, True),
    ]


@pytest.mark.parametrize("kind", ["point", "points", "line", "linestrip"])
def test_what_has_no_area_is_a_mark_with_its_problem(tmp_path, kind):
    assert read(tmp_path, drawn(kind, TRIANGLE)).marks[0].problem == ("not_an_area", f"a {kind} has no area")


def test_a_shape_of_another_type_is_a_mark_with_its_problem(tmp_path):
    assert read(tmp_path, drawn("cuboid", TRIANGLE)).marks[0].problem[0] == "unsupported_shape"


@pytest.mark.parametrize(
    "shape",
    [
        drawn("rectangle", [[5, 3]]),
        drawn("rectangle", [[5, 3], [5, 10]]),
        drawn("polygon", []),
        drawn("polygon", [[1, 2], [3, 4]]),
        drawn("polygon", [[1, 2], [3, None], [5, 6]]),
        drawn("polygon", None),
        drawn("polygon", "abc"),
        drawn("circle", [[1, 2]]),
        drawn("circle", [[1, 2], [1, 2]]),
        drawn("circle", [[1, 2], [1, "x"]]),
        drawn("circle", [[1, 2], [1e308, -1e308]]),
        drawn("polygon", TRIANGLE, label=""),
        drawn("polygon", TRIANGLE, label=None),
        drawn("polygon", TRIANGLE, label=["RBC"]),
        {},
        None,
        "shape",
        7,
    ],
)
def test_a_broken_shape_is_a_mark_with_its_problem(tmp_path, shape):
    found = read(tmp_path, drawn("polygon", TRIANGLE), shape, drawn("polygon", TRIANGLE))
    assert [mark.problem is None for mark in found.marks] == [True, False, True]


@pytest.mark.parametrize("size", [None, (0, 0), ("wide", 30), (40, None)])
def test_a_file_may_leave_out_the_size(tmp_path, size):
    assert read(tmp_path, drawn("polygon", TRIANGLE), size=size).size is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "{}", '{"shapes": 3}', '{"shapes": {}}', '{"shapes": [], "flags": [1]}'),
        *('{"shapes": ' + "[" * 5000 + "]" * 5000 + "}", b"\xff\xfe\x00", b"\x89PNG"),
    ],
)
def test_what_is_no_labelme_json_is_refused(tmp_path, text):
    with pytest.raises(Unusable, match=r"^bad_annotation: not LabelMe JSON"):
        of(tmp_path, text)


def test_a_picture_without_a_file_is_not_annotated(tmp_path):
    spec = labelme.Spec(kind="labelme", path="a.json")
    assert labelme.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, (), None)) is None


# ---- masks


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_mask_is_a_picture_of_its_box(tmp_path, mode):
    small = np.zeros((7, 10), np.uint8)
    small[1:, 2:] = 255
    mask = png(Image.fromarray(small).convert(mode))
    (mark,) = read(tmp_path, drawn("mask", [[5.0, 3.0], [14.0, 9.0]], mask=mask)).marks
    code = {"size": [30, 40], "counts": mark.code}
    assert (coco_mask.toBbox(code).tolist(), coco_mask.area(code)) == ([7, 4, 8, 6], 48)


@pytest.mark.parametrize(
    ("mask", "points", "size", "reason"),
    [
        (None, [[5, 3], [14, 9]], (40, 30), "bad_outline"),
        ("?", [[5, 3], [14, 9]], (40, 30), "bad_outline"),
        ("", [[5, 3], [14, 9]], (40, 30), "bad_outline"),
        ("AAAA", [[5, 3], [14, 9]], (40, 30), "undecodable"),
        (png(np.full((7, 10), 255, np.uint8))[:-40], [[5, 3], [14, 9]], (40, 30), "truncated"),
        (png(np.full((7, 10), 255, np.uint8)), [[5, 3]], (40, 30), "bad_outline"),
        (png(np.full((7, 10), 255, np.uint8)), [[float("inf"), 3], [1, 2]], (40, 30), "bad_outline"),
        (png(np.full((7, 10), 255, np.uint8)), [[5, 3], [14, 9]], None, "bad_outline"),
        (png(np.full((7, 10), 255, np.uint8)), [[50, 3], [60, 9]], (40, 30), "box_zero_size"),
        (png(np.zeros((7, 10), np.uint8)), [[5, 3], [14, 9]], (40, 30), "box_zero_size"),
        (png(np.full((7, 10), 255, np.uint8)), [[5, 3], [14, 9]], (10**6, 10**6), "too_large"),
    ],
)
def test_a_broken_mask_is_a_mark_with_its_problem(tmp_path, mask, points, size, reason):
    found = read(tmp_path, drawn("mask", points, mask=mask), drawn("polygon", TRIANGLE), size=size)
    assert [mark.problem[0] if mark.problem else None for mark in found.marks] == [reason, None]
