"""Boxes in the rows of a table: their order of numbers, rows without one, several readers."""

import json
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.records import Box, Case
from pipeline.strict import checked
from sources.annotation import Given, Mark, Marks
from sources.layouts import boxes

NAMES = ["x", "y", "w", "h"]


def spec(**keys) -> boxes.Spec:
    return checked(boxes.Spec, {"kind": "boxes", "table": "t", "box": NAMES, **keys}, "spec")


def read(*rows: str, **keys) -> Marks | None:
    """Read rows such as "1 2 3 4 nodule R1"; `.` is an empty cell."""
    keys = keys if {"label", "label_column"} & keys.keys() else {**keys, "label_column": "c"}
    columns = (*NAMES, "c", "r")
    cells = [dict(zip(columns, ("" if cell == "." else cell for cell in row.split()), strict=False)) for row in rows]
    note = json.dumps(cells) if rows else None
    return boxes.read(spec(**keys), Case("a", "toy", "a", {}, {}), Given(Path(), (), note))


@pytest.mark.parametrize(
    ("numbers", "keys"),
    [
        ("10 20 30 40", {}),
        ("11 21 30 40", {"one_based": True}),
        ("10.0 20 40 60", {"format": "xyxy"}),
        ("11 21 40 60", {"format": "xyxy", "one_based": True}),
        ("25 40 30 40", {"format": "cxcywh"}),
        ("26 41 30 40", {"format": "cxcywh", "one_based": True}),
    ],
)
def test_one_box_in_every_order_of_numbers(numbers, keys):
    assert read(f"{numbers} nodule", **keys) == Marks((Mark("nodule", Box(10, 20, 40, 60)),))


def test_shares_stay_shares():
    found = read("0.1 0.2 0.3 0.4 nodule", relative=True)
    assert found.relative is True
    assert found.marks[0].box == pytest.approx(Box(0.1, 0.2, 0.4, 0.6))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("10 20 0 40 nodule", "box_zero_size"),
        ("10 20 -5 40 nodule", "box_zero_size"),
        ("10 x 5 40 nodule", "bad_box"),
        ("10 20 . 40 nodule", "bad_box"),
        ("1e300 20 5e300 40 nodule", "bad_box"),
        ("nan 20 5 inf nodule", "bad_box"),
        ("10 20 30 40 .", "unlabelled"),
    ],
)
def test_a_row_that_is_no_box_is_a_mark_with_its_problem(row, reason):
    (bad, good) = read(row, "1 2 3 4 mass").marks
    assert (bad.box, bad.problem[0], good) == (None, reason, Mark("mass", Box(1, 2, 4, 6)))


def test_one_label_may_hold_for_all_rows():
    assert read("1 2 3 4", label="opacity").marks == (Mark("opacity", Box(1, 2, 4, 6)),)


def test_a_picture_without_a_row_is_not_annotated():
    assert read() is None


def test_the_size_of_the_picture_may_stand_in_the_rows():
    def size(*pairs):
        rows = [{**dict.fromkeys(NAMES, "1"), "c": "x", "W": w, "H": h} for w, h in pairs]
        found = spec(label_column="c", size=["W", "H"])
        return boxes.read(found, Case("a", "toy", "a", {}, {}), Given(Path(), (), json.dumps(rows))).size

    assert size(("640", "480"), ("640.0", "480")) == (640, 480)
    assert (size(("640", "480"), ("480", "640")), size(("", ""))) == (None, None)


# ---- rows without a box


@pytest.mark.parametrize("empty", [". . . .", "nan nan nan nan", "NaN . None null"])
def test_a_row_without_numbers_says_nothing_or_that_it_is_not_there(empty):
    assert read(f"{empty} opacity") == Marks(())
    assert read(f"{empty} opacity", empty="negative") == Marks((Mark("opacity", negative=True),))
    assert read(empty, label="opacity", empty="negative") == Marks((Mark("opacity", negative=True),))


def test_what_one_row_denies_and_another_draws_is_there():
    found = read(". . . . opacity", "1 2 3 4 opacity", ". . . . mass", empty="negative")
    assert found.marks == (Mark("opacity", Box(1, 2, 4, 6)), Mark("mass", negative=True))


def test_a_label_of_nothing_found_stands_for_the_whole_picture():
    keys = {"labels": {"No_finding": "normal", "nodule": "nodule"}, "negatives": {"No_finding": "all"}}
    found = read(". . . . No_finding", "0 0 1 1 No_finding", **keys)
    assert found.marks == (Mark("No_finding"), Mark("nodule", negative=True))
    found = read(". . . . No_finding", "1 2 3 4 nodule", **keys)
    assert [(mark.raw, mark.problem and mark.problem[0]) for mark in found.marks] == [
        ("No_finding", "contradictory_labels"), ("nodule", None),
    ]  # fmt: skip


# ---- readers

THREE = ("10 10 20 20 nodule R8", "12 10 20 20 nodule R10", "50 50 10 10 mass R9", "11 11 20 20 nodule R9")


def test_names_of_readers_do_not_go_on():
    found = read(*THREE, reader="r").marks
    assert [(mark.raw, mark.reader) for mark in found] == [
        ("nodule", "r2"), ("nodule", "r1"), ("mass", "r3"), ("nodule", "r3"),
    ]  # fmt: skip


def test_the_first_reader_is_the_first_by_name():
    assert read(*THREE, reader="r", readers="first").marks == (Mark("nodule", Box(12, 10, 32, 30), reader="r1"),)


def test_boxes_of_one_finding_become_one():
    found = read(*THREE, reader="r", readers="union").marks
    assert found == (Mark("nodule", Box(10, 10, 32, 31)), Mark("mass", Box(50, 50, 60, 60), reader="r3"))


def test_what_at_least_half_of_the_readers_drew_counts():
    found = read(*THREE, reader="r", readers="majority").marks
    assert (found[0].raw, found[0].reader, found[0].problem) == ("nodule", None, None)
    assert found[0].box == pytest.approx(Box(11, 31 / 3, 31, 31 / 3 + 20))
    assert (found[1].raw, found[1].problem) == ("mass", ("minority", "1 of 3 readers saw it; at least half should"))
    assert read(*THREE[:2], reader="r", readers="majority").marks == (Mark("nodule", Box(11, 10, 31, 30)),)


def test_boxes_far_apart_or_of_another_label_are_other_findings():
    rows = ("10 10 20 20 nodule A", "30 10 20 20 nodule B", "10 10 20 20 mass C", "10 10 20 20 nodule A")
    assert len(read(*rows, reader="r", readers="union").marks) == 4  # one reader's two boxes are two findings


def test_nothing_found_is_counted_like_a_finding():
    keys = {"reader": "r", "readers": "majority", "negatives": {"none": "all"}, "labels": {"nodule": "nodule"}}
    found = read(". . . . none A", ". . . . none B", "1 2 3 4 nodule C", **keys).marks
    assert [(mark.raw, mark.problem and mark.problem[0], mark.negative) for mark in found] == [
        ("none", None, False), ("nodule", "minority", False),
    ]  # fmt: skip
    alone = read(". . . . none A", ". . . . none B", ". . . . none C", **{**keys, "readers": "all"}).marks
    assert alone == (Mark("none"), Mark("nodule", negative=True))


def test_a_label_is_denied_by_none_where_one_reader_drew_it():
    keys = {"reader": "r", "empty": "negative"}
    assert read(". . . . mass A", "1 2 3 4 mass B", **keys).marks == (Mark("mass", Box(1, 2, 4, 6), reader="r2"),)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "give one of: label, label_column"),
        ({"label": "a", "label_column": "c"}, "give one of: label, label_column"),
        ({"label": "a", "readers": "union"}, "readers: say which column tells them apart: reader"),
        ({"label": "a", "box": ["x", "y"]}, "box"),
        ({"label": "a", "format": "xy"}, "format"),
    ],
)
def test_what_does_not_go_together_is_one_line(keys, said):
    with pytest.raises(UserError) as caught:
        spec(**keys)
    assert said in str(caught.value)


# ---- as data sets


def test_rsna_rows_are_boxes_and_negatives(data_set, grey_picture):
    yaml = """
cases: {match: "{stem}.png"}
tables: {t: {path: labels.csv, key: patientId, match: "{stem}"}}
annotations:
  - {kind: boxes, table: t, box: [x, y, width, height], label: Lung Opacity, empty: negative,
     labels: {Lung Opacity: lung opacity}}
"""
    table = "patientId,x,y,width,height,Target\na,,,,,0\nb,5.0,4.0,20.0,15.0,1\nb,1,1,3,9,1\ngone,1,1,3,9,1\n"
    files = {"a.png": grey_picture(), "b.png": grey_picture(seed=1), "labels.csv": table}
    read = data_set(yaml, files).read()
    assert [region.box for region in read["b"].records[0].regions] == [Box(5, 4, 25, 19), Box(1, 1, 4, 10)]
    (none,) = read["a"].records
    assert (none.regions, len(none.annotated)) == ((), 1)
    assert [row.reason for row in read["gone"].rejected] == ["missing_image"]


def test_nih_boxes_go_by_the_odd_names_of_their_header(data_set, grey_picture):
    yaml = """
cases: {match: "{stem}.png"}
tables: {t: {path: BBox_List_2017.csv, key: Image Index, match: "{name}"}}
annotations:
  - {kind: boxes, table: t, box: ["Bbox [x", y, w, "h]"], label_column: Finding Label,
     labels: {Infiltrate: infiltrate}}
"""
    table = "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Infiltrate,5.5,4,20,15,,,\n"
    (record,) = data_set(yaml, {"a.png": grey_picture(), "BBox_List_2017.csv": table}).records()
    assert [(region.raw, region.box) for region in record.regions] == [("Infiltrate", Box(5.5, 4, 25.5, 19))]


def test_several_rows_that_differ_are_no_contradiction_here_but_in_classes(data_set, grey_picture):
    yaml = """
cases: {match: "{stem}.png", group: "{t.patient}"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: boxes, table: t, box: [a, b, c, d], format: xyxy, label_column: class}]
"""
    table = "image,patient,class,a,b,c,d\na,p1,nodule,1,2,9,9\na,p1,mass,3,4,20,20\n"
    toy = data_set(yaml, {"a.png": grey_picture(), "t.csv": table})
    assert toy.plan().cases[0].problem is None
    assert len(toy.records()[0].regions) == 2
    by_class = yaml.replace("}]", "}, {kind: classes, value: '{t.class}'}]")
    assert data_set(by_class, {}).reasons() == {"a": ["contradictory_rows"]}
