"""Label Studio exports: percent, rotation, brushes, several people, and addresses of pictures."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.errors import UserError
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import labelstudio

W, H = 40, 30


def result(kind: str, label="RBC", drawn="r1", size=(W, H), **value) -> dict:
    found = {"id": drawn, "type": kind, "from_name": "label", "to_name": "image", "value": value}
    if label is not None:
        found["value"] = {**value, kind: [label] if isinstance(label, str) else label}
    if size:
        found |= {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
    return found


def rectangle(x0=5, y0=3, x1=15, y1=10, **more) -> dict:
    at = {"x": 100 * x0 / W, "y": 100 * y0 / H, "width": 100 * (x1 - x0) / W, "height": 100 * (y1 - y0) / H}
    return result("rectanglelabels", **({"rotation": 0} | at | more))


def task(*results, image="/data/upload/3/1a2b3c4d-a.png", who=7, **more) -> dict:
    done = {"id": 1, "completed_by": who, "was_cancelled": False, "result": list(results), "lead_time": 4.2}
    return {"id": 1, "data": {"image": image}, "annotations": [done], "predictions": [{"result": [rectangle()]}]} | more


def listed(tmp_path, *tasks, **keys) -> dict[str, Marks | None]:
    return of(tmp_path, json.dumps(tasks), **keys)


def of(tmp_path, text: str | bytes, **keys) -> dict[str, Marks | None]:
    (tmp_path / "ls.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = labelstudio.Spec(kind="labelstudio", path="ls.json", **keys)
    notes = labelstudio.index(spec, tmp_path / "ls.json")
    case = Case("a", "toy", "a", {}, {})
    return {name: labelstudio.read(spec, case, Given(tmp_path, (), note)) for name, note in notes.items()}


def marks(tmp_path, *results) -> tuple[Mark, ...]:
    return listed(tmp_path, task(*results))["a.png"].marks


def reasons(found) -> list[str | None]:
    return [mark.problem[0] if mark.problem else None for mark in found]


def bounds(mark: Mark) -> tuple[float, ...]:
    columns, rows = zip(*mark.rings[0], strict=True)
    return min(columns), min(rows), max(columns), max(rows)


# ---- shapes


def test_a_rectangle_is_in_percent_of_the_picture(tmp_path):
    found = listed(tmp_path, task(rectangle()))["a.png"]
    assert found == Marks((Mark("RBC", Box(5, 3, 15, 10), reader="r1"),), (W, H))


def test_without_a_size_shapes_stay_shares(tmp_path):
    found = listed(tmp_path, task(rectangle(size=None)))["a.png"]
    assert (found.size, found.relative) == (None, True)
    assert found.marks[0].box == pytest.approx((5 / W, 3 / H, 15 / W, 10 / H))


def test_a_shape_without_a_size_of_its_own_has_that_of_the_others(tmp_path):
    assert [mark.box for mark in marks(tmp_path, rectangle(), rectangle(size=None))] == [Box(5, 3, 15, 10)] * 2


def test_a_turned_rectangle_turns_about_its_corner_in_px(tmp_path):
    # 10 px wide and 6 px high at (20, 10): a quarter turn clockwise lays it to the left of the corner and below it
    (mark,) = marks(tmp_path, rectangle(20, 10, 30, 16, rotation=90))
    assert mark.box is None
    assert bounds(mark) == pytest.approx((14, 10, 20, 20))
    (mark,) = marks(tmp_path, rectangle(20, 10, 30, 16, rotation=-90))
    assert bounds(mark) == pytest.approx((20, 0, 26, 10))
    assert marks(tmp_path, rectangle(rotation=360))[0].box == Box(5, 3, 15, 10)


def test_a_polygon_is_an_outline(tmp_path):
    points = [[12.5, 10], [37.5, 10], [37.5, 100 / 3]]
    (mark,) = marks(tmp_path, result("polygonlabels", points=points, closed=True))
    np.testing.assert_allclose(mark.rings, [[(5, 3), (15, 3), (15, 10)]])


def test_an_ellipse_has_its_radii_along_each_axis(tmp_path):
    at = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 20}
    assert bounds(marks(tmp_path, result("ellipselabels", **at))[0]) == pytest.approx((10, 9, 30, 21))
    turned = marks(tmp_path, result("ellipselabels", **at, rotation=90))[0]
    assert bounds(turned) == pytest.approx((14, 5, 26, 25))


def brush(painted: np.ndarray) -> list[int]:
    """A code of literal values in one block for each row, as bits."""
    values = np.repeat(painted.astype(np.uint8) * 255, 4)
    text = f"{values.size:032b}{7:05b}" + f"{15:04b}" * 4
    for row in values.reshape(len(painted), -1):
        text += f"000{row.size - 1:016b}" + "".join(f"{value:08b}" for value in row)
    return [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]


def test_a_brush_stroke_is_a_code_of_the_whole_picture(tmp_path):
    painted = np.zeros((H, W), bool)
    painted[3:10, 5:15] = True
    painted[5, 7] = False
    (mark,) = marks(tmp_path, result("brushlabels", format="rle", rle=brush(painted)))
    assert mark.code == coco_mask.encode(np.asfortranarray(painted.astype(np.uint8)))["counts"].decode()


@pytest.mark.parametrize(
    "rle", [[], None, "x", 10**9, [1, 2, 3], [256] * 40, [-1], ["a"], [1.5], brush(np.ones((2, 2)))]
)
def test_a_broken_brush_stroke_is_a_mark_with_its_problem(tmp_path, rle):
    assert reasons(marks(tmp_path, result("brushlabels", rle=rle), rectangle())) == ["bad_outline", None]


def test_a_region_of_two_labels_is_two_marks(tmp_path):
    assert [mark.raw for mark in marks(tmp_path, rectangle(label=["RBC", "damaged"]))] == ["RBC", "damaged"]


def test_labels_apart_from_their_shapes_are_joined(tmp_path):
    at = {"x": 12.5, "y": 10, "width": 25, "height": 70 / 3}
    found = marks(
        tmp_path,
        result("rectangle", None, "one", **at),
        result("labels", "RBC", "one", **at),
        result("labels", "WBC", "two", points=[[1, 1], [9, 1], [9, 9]]),
        result("rectangle", None, "three", **at),
    )
    assert [mark.raw for mark in found] == ["RBC", "WBC", ""]
    assert (found[0].box, len(found[1].rings)) == (pytest.approx((5, 3, 15, 10)), 1)
    assert reasons(found) == [None, None, "unlabelled"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (result("keypointlabels", x=1, y=2, width=0.5), "not_an_area"),
        (result("videorectangle", sequence=[]), None),
        (result("bitmasklabels", imageDataURL="data:"), "unsupported_shape"),
        (result("rectanglelabels", x=1, y=2, width="wide", height=3), "bad_outline"),
        (result("rectanglelabels", x=1, y=2, height=3), "bad_outline"),
        (result("rectanglelabels", x=1, y=2, width=0, height=3), "box_zero_size"),
        (rectangle(rotation="x"), "bad_outline"),
        (rectangle(rotation=float("nan")), "bad_outline"),
        (rectangle(rotation=float("inf")), "bad_outline"),
        (result("polygonlabels", points=[[1, 2], [3, 4]]), "bad_outline"),
        (result("polygonlabels"), "bad_outline"),
        (result("polygonlabels", points=[[1, 2], [3, 4], [5, None]]), "bad_outline"),
        (result("ellipselabels", x=1, y=2, radiusX=0, radiusY=3), "box_zero_size"),
        (rectangle(label=[]), "unlabelled"),
        (rectangle(label=[None]), "unlabelled"),
        (rectangle(size=(80, 60)), "size_mismatch"),
        (rectangle() | {"image_rotation": 90}, "unsupported_shape"),
        (result("textarea", None, text=["Jane Doe"]), None),
        ("text", None),
        ({"type": "rectanglelabels", "value": 3}, None),
    ],
)
def test_what_is_no_shape_is_told_or_passed_over(tmp_path, entry, reason):
    found = marks(tmp_path, rectangle(), entry)
    assert reasons(found) == [None] if reason is None else [None, reason]


def test_a_turned_shape_without_a_size_can_not_be_placed(tmp_path):
    (mark,) = marks(tmp_path, rectangle(size=None, rotation=30))
    assert mark.problem[0] == "bad_outline"


# ---- classes


def test_choices_are_labels_of_the_whole_picture(tmp_path):
    chosen = result("choices", ["normal", "blurred"], "c1")
    assert [(mark.raw, mark.box, mark.problem) for mark in marks(tmp_path, chosen)] == [
        ("normal", None, None),
        ("blurred", None, None),
    ]


def test_choices_of_a_region_are_not_of_the_picture(tmp_path):
    of_region = result("choices", ["certain"], "r1", x=1, y=2, width=3, height=4)
    assert [mark.raw for mark in marks(tmp_path, rectangle(), of_region)] == ["RBC"]


# ---- people


def test_people_are_told_apart_without_their_names(tmp_path):
    who = {"id": 12, "email": "jane@example.org", "first_name": "Jane"}
    annotations = [{"completed_by": one, "result": [rectangle()]} for one in (who, 3, None, {"email": "x@y.z"})]
    tasks = [task(annotations=annotations), task(rectangle(), image="b.png", who=12)]
    found = listed(tmp_path, *tasks)
    assert [mark.reader for mark in found["a.png"].marks] == ["r1", "r2", None, "r3"]
    assert [mark.reader for mark in found["b.png"].marks] == ["r1"]
    spec = labelstudio.Spec(kind="labelstudio", path="ls.json")
    notes = labelstudio.index(spec, tmp_path / "ls.json")
    assert "jane" not in str(notes).lower()
    assert "x@y.z" not in str(notes)


def test_cancelled_annotations_do_not_count(tmp_path):
    annotations = [{"was_cancelled": True, "result": [rectangle()]}, {"completed_by": 1, "result": []}]
    assert listed(tmp_path, task(annotations=annotations)) == {"a.png": Marks((), relative=True)}
    assert listed(tmp_path, task(annotations=annotations[:1])) == {}


def test_a_task_without_an_annotation_is_not_annotated_and_predictions_do_not_count(tmp_path):
    assert listed(tmp_path, task(annotations=[])) == {}


def test_old_exports_say_completions(tmp_path):
    old = {"data": {"image": "a.png"}, "completions": [{"result": [rectangle()]}]}
    assert listed(tmp_path, old)["a.png"].marks[0].box == Box(5, 3, 15, 10)


def test_tasks_of_one_picture_are_joined(tmp_path):
    assert len(listed(tmp_path, task(rectangle()), task(rectangle(), who=8))["a.png"].marks) == 2


# ---- addresses


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/data/upload/3/1a2b3c4d-a_b.png", "a_b.png"),
        ("/data/upload/1a2b3c4d-a-b.png", "a-b.png"),
        ("upload\\3\\1a2b3c4d-a.png", "a.png"),
        ("/data/local-files/?d=some/folder/a%20b.png", "a b.png"),
        ("/data/local-files/?d=a+b.png", "a+b.png"),
        ("s3://bucket/folder/1a2b3c4d-a.png", "1a2b3c4d-a.png"),
        ("https://example.org/x/a%C3%A9.png?token=1#x", "aé.png"),
        ("http://[bad/a.png", "a.png"),
        ("a#1.png", "a#1.png"),
        ("/data/upload/3/notprefix-a.png", "notprefix-a.png"),
    ],
)
def test_a_picture_is_known_by_its_file_name(tmp_path, address, name):
    assert list(listed(tmp_path, task(image=address))) == [name]


def test_the_prefix_of_an_upload_can_be_kept(tmp_path):
    assert list(listed(tmp_path, task(), strip_prefix=False)) == ["1a2b3c4d-a.png"]


def test_the_key_of_the_picture_is_named(tmp_path):
    other = task() | {"data": {"image": "a.png", "scan": "b.png"}}
    assert list(listed(tmp_path, other, image_key="scan")) == ["b.png"]
    assert list(listed(tmp_path, other, task(), image_key="scan")) == ["b.png", "task 1"]
    with pytest.raises(UserError, match=r"^ls\.json: no task has 'none'; image_key should name"):
        listed(tmp_path, other, image_key="none")


# ---- JSON_MIN


def test_a_minimal_export_is_read(tmp_path):
    box = rectangle()["value"] | {"original_width": W, "original_height": H}
    shape = {"points": [[1, 1], [9, 1], [9, 9]], "polygonlabels": ["WBC"], "original_width": W, "original_height": H}
    minimal = {"id": 5, "image": "/data/upload/1/1a2b3c4d-a.png", "label": [box], "outline": [shape], "annotator": 4}
    minimal |= {"quality": "good", "note": "Jane Doe", "marks": {"choices": ["x", "y"]}, "annotation_id": 9}
    found = listed(tmp_path, minimal)["a.png"]
    assert [mark.raw for mark in found.marks] == ["RBC", "WBC", "x", "y"]
    assert (found.marks[0].box, found.marks[0].reader, found.size) == (Box(5, 3, 15, 10), "r1", (W, H))
    assert [mark.raw for mark in listed(tmp_path, minimal, choices="quality")["a.png"].marks][2:] == ["good", "x", "y"]


def test_a_minimal_export_lists_pictures_without_a_region(tmp_path):
    assert listed(tmp_path, {"image": "a.png", "annotation_id": 3}) == {"a.png": Marks((), relative=True)}
    assert listed(tmp_path, {"image": "a.png"}) == {}


# ---- whole files


def test_one_task_alone_is_read(tmp_path):
    assert list(of(tmp_path, json.dumps(task(rectangle())))) == ["a.png"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "3", '"x"', "[3]", "[[]]", '[{"data": 3}]', '[{"data": {"image": "a"}, "annotations": [3]}]'),
        *("[" * 9999, b"\xff\xfe\x00", '[{"data": {"image": "a"}, "annotations": 5}]'),
    ],
)
def test_what_is_no_export_is_one_line(tmp_path, text):
    with pytest.raises(UserError, match=r"^ls\.json: no export of Label Studio \(") as caught:
        of(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_picture_that_no_task_is_of_is_not_annotated(tmp_path):
    spec = labelstudio.Spec(kind="labelstudio", path="ls.json")
    assert labelstudio.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, (), None)) is None
