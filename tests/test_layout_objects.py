"""Boxes in one JSON cell."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import Unusable
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import objects

BOX = Box(10, 20, 40, 60)


def read(data, **keys) -> Marks | None:
    spec = objects.Spec(kind="objects", value="{t.objects}", **keys)
    text = data if isinstance(data, str) else json.dumps(data)
    return objects.read(spec, Case("a", "toy", "a", {}, {"t.objects": text}), Given(Path(), (), None))


@pytest.mark.parametrize(
    ("form", "numbers", "relative"),
    [
        ("coco", [10, 20, 30, 40], False),
        ("voc", [10, 20, 40, 60], False),
        ("yolo", [0.25, 0.4, 0.3, 0.4], True),
        ("albumentations", [0.1, 0.2, 0.4, 0.6], True),
    ],
)
def test_one_box_in_every_form(form, numbers, relative):
    found = read({"bbox": [numbers], "categories": ["nodule"]}, format=form)
    assert found.relative is relative
    box = found.marks[0].box
    assert (Box(*(value * 100 for value in box)) if relative else box) == pytest.approx(BOX)


@pytest.mark.parametrize(
    "data",
    [
        {"bbox": [[10, 20, 30, 40]], "categories": [3], "area": [1200], "id": [9]},
        {"bbox": [[10, 20, 30, 40]], "category": ["3"]},
        {"bboxes": [[10, 20, 30, 40]], "labels": [3]},
        [{"bbox": [10, 20, 30, 40], "category_id": 3}],
        [{"box": ["10", "20", "30", "40"], "label": 3}],
    ],
)
def test_members_have_many_names(data):
    assert read(data) == Marks((Mark("3", BOX),))


def test_one_label_may_hold_for_all():
    assert read({"bbox": [[10, 20, 30, 40]]}, label="polyp") == Marks((Mark("polyp", BOX),))
    assert read([{"bbox": [10, 20, 30, 40]}], label="polyp") == Marks((Mark("polyp", BOX),))


def test_an_empty_list_is_an_annotation_and_an_empty_cell_none():
    assert (read({"bbox": [], "categories": []}), read([]), read("null")) == (Marks(()),) * 3
    assert read("") is None


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([1, 2, 3], "bad_box"),
        ([1, 2, 3, 4, 5], "bad_box"),
        (None, "bad_box"),
        ("1234", "bad_box"),
        ([1, 2, None, 4], "bad_box"),
        ([1, 2, True, 4], "bad_box"),
        ([1, 2, 0, 4], "box_zero_size"),
        ([1, 2, float("nan"), 4], "bad_box"),
        ([1, 2, 10**400, 4], "bad_box"),
    ],
)
def test_a_box_that_is_none_is_a_mark_with_its_problem(box, reason):
    (bad, good) = read({"bbox": [box, [10, 20, 30, 40]], "categories": [1, 2]}).marks
    assert (bad.raw, bad.box, bad.problem[0], good) == ("1", None, reason, Mark("2", BOX))


def test_a_label_that_is_none_is_a_mark_with_its_problem():
    assert read({"bbox": [[10, 20, 30, 40]], "categories": [None]}).marks[0].problem[0] == "unlabelled"


@pytest.mark.parametrize(
    "data",
    ["{", "3", '"text"', "[1, 2]", "{}", '{"bbox": 3}', '{"bbox": [[1, 2, 3, 4]]}', '{"bbox": [], "label": [1]}',
     "[" * 100_000, '{"bbox": [[1, 2, 3, 4]], "label": "x"}'],
)  # fmt: skip
def test_what_is_not_such_json_is_refused(data):
    with pytest.raises(Unusable) as caught:
        read(data)
    assert caught.value.reason == "bad_annotation"


def test_a_hugging_face_data_set_of_boxes_is_read(data_set, grey_picture, encoded):
    rows = {
        "image": [{"bytes": encoded(grey_picture(seed=n)), "path": None} for n in range(2)],
        "objects": [{"bbox": [[5.0, 4.0, 20.0, 15.0]], "categories": [1]}, {"bbox": [], "categories": []}],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(rows), sink)
    yaml = """
cases: {match: "{stem}.parquet", rows: {image: image}}
annotations: [{kind: objects, value: "{row.objects}", complete: true, labels: {0: mass, 1: nodule}}]
"""
    found = data_set(yaml, {"a.parquet": sink.getvalue()}).records()
    assert [[(region.label, region.box) for region in record.regions] for record in found] == [
        [("nodule", Box(5, 4, 25, 19))], [],
    ]  # fmt: skip
    assert found[1].annotated == ("mass", "nodule")
