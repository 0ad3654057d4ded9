"""COCO files as they are found: outlines, run lengths, odd ids, and faults that spoil one annotation only."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.errors import UserError
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import coco

SQUARE = [5, 3, 15, 3, 15, 10, 5, 10]
RING = ((5.0, 3.0), (15.0, 3.0), (15.0, 10.0), (5.0, 10.0))
MASK = np.zeros((30, 40), np.uint8)
MASK[3:10, 5:15] = 1
COMPRESSED = coco_mask.encode(np.asfortranarray(MASK))["counts"].decode()
COUNTS = [5 * 30 + 3, *([7, 23] * 9), 7, 1200 - 153 - 9 * 30 - 7]


def listed(tmp_path, *entries, categories=((1, "RBC"),), images=None, **keys) -> dict[str, Marks | None]:
    """Read a COCO file: file name to marks."""
    images = images or [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}]
    marks = [{"id": n, "image_id": 7, "category_id": 1, "bbox": [5, 3, 10, 7], **e} for n, e in enumerate(entries)]
    names = [{"id": number, "name": name} for number, name in categories]
    data = {"images": images, "annotations": marks, "categories": names}
    return read(tmp_path, json.dumps(data), **keys)


def read(tmp_path, text: str, **keys) -> dict[str, Marks | None]:
    (tmp_path / "c.json").write_text(text)
    spec = coco.Spec(kind="coco", path="c.json", **keys)
    notes = coco.index(spec, tmp_path / "c.json")
    case = Case("a", "toy", "a", {}, {})
    return {name: coco.read(spec, case, Given(tmp_path, (), note)) for name, note in notes.items()}


def one(tmp_path, entry: dict, **keys) -> Mark:
    return listed(tmp_path, entry, **keys)["a.png"].marks[0]


def reasons(marks: Marks) -> list[str | None]:
    return [mark.problem[0] if mark.problem else None for mark in marks.marks]


# ---- outlines


def test_a_polygon_stands_beside_the_box_as_given(tmp_path):
    mark = one(tmp_path, {"bbox": [4, 3, 11, 7], "segmentation": [SQUARE]})
    assert (mark.box, mark.rings, mark.code) == (Box(4, 3, 15, 10), (RING,), None)


def test_a_region_of_two_parts_has_two_rings(tmp_path):
    other = [20, 3, 25, 3, 25, 10]
    assert len(one(tmp_path, {"segmentation": [SQUARE, other]}).rings) == 2


def test_a_polygon_that_is_not_in_a_list_of_its_own_is_read(tmp_path):
    assert one(tmp_path, {"segmentation": SQUARE}).rings == (RING,)


@pytest.mark.parametrize("outline", [None, [], {}, [[]], [[1, 2, 3, 4]], [[1, 2]], [5], [None, []]])
def test_an_outline_that_is_empty_or_a_line_leaves_the_box(tmp_path, outline):
    assert one(tmp_path, {"segmentation": outline}) == Mark("RBC", Box(5, 3, 15, 10))


@pytest.mark.parametrize(
    "outline",
    [
        [[1, 2, 3, 4, 5, 6, 7]],
        [["a"] * 6],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 10**400]],
        [SQUARE, [1, 2, 3, 4, 5, None]],
        [[[5, 3], [15, 3], [15, 10], [5, 10], [6, 9], [7, 8]]],
        [SQUARE, {}],
        "x",
        5,
    ],
)
def test_a_broken_outline_spoils_its_annotation(tmp_path, outline):
    assert reasons(listed(tmp_path, {}, {"segmentation": outline})["a.png"]) == [None, "bad_outline"]


@pytest.mark.parametrize("counts", [COMPRESSED, COUNTS, [str(count) for count in COUNTS]])
def test_run_lengths_are_read_compressed_and_not(tmp_path, counts):
    mark = one(tmp_path, {"segmentation": {"counts": counts, "size": [30, 40]}})
    assert (mark.box, mark.rings, mark.code) == (Box(5, 3, 15, 10), (), COMPRESSED)


@pytest.mark.parametrize("counts", ["abc", [1, 2, 3], [1300, -100], [], None, ["x"], 5, COMPRESSED[:-1], [10**400]])
def test_broken_run_lengths_spoil_their_annotation(tmp_path, counts):
    found = listed(tmp_path, {"segmentation": {"counts": counts, "size": [30, 40]}}, {"bbox": [1, 1, 2, 2]})["a.png"]
    assert reasons(found) == ["bad_outline", None]


@pytest.mark.parametrize(
    ("size", "reason"),
    [([40, 30], "size_mismatch"), (None, "bad_outline"), ([30], "bad_outline"), ([10**6, 10**6], "bad_outline")],
)
def test_run_lengths_of_another_picture_are_refused(tmp_path, size, reason):
    assert one(tmp_path, {"segmentation": {"counts": COMPRESSED, "size": size}}).problem[0] == reason


def test_boxes_can_be_taken_from_the_outlines(tmp_path):
    wrong = {"bbox": [0, 0, 1, 1], "segmentation": [SQUARE]}
    assert one(tmp_path, wrong, boxes_from="segmentation") == Mark("RBC", rings=(RING,))
    coded = {"bbox": [0, 0, 1, 1], "segmentation": {"counts": COUNTS, "size": [30, 40]}}
    assert one(tmp_path, coded, boxes_from="segmentation") == Mark("RBC", code=COMPRESSED)
    assert one(tmp_path, {}, boxes_from="segmentation").problem[0] == "bad_outline"


@pytest.mark.parametrize("box", [None, []])
def test_an_outline_without_a_box_stands_for_itself(tmp_path, box):
    assert one(tmp_path, {"bbox": box, "segmentation": [SQUARE]}) == Mark("RBC", rings=(RING,))


# ---- ids, names, sizes


def test_numbers_may_be_written_as_text(tmp_path):
    assert one(tmp_path, {"bbox": ["5", "3", "10.0", " 7 "]}).box == Box(5, 3, 15, 10)


@pytest.mark.parametrize("number", [7, "7", 7.0])
def test_ids_are_one_whether_text_or_number(tmp_path, number):
    assert len(listed(tmp_path, {"image_id": number})["a.png"].marks) == 1
    assert one(tmp_path, {"category_id": number}, categories=[(7, "WBC")]).raw == "WBC"


def test_sparse_ids_and_two_categories_of_one_name_are_read(tmp_path):
    entries = ({"category_id": 0}, {"category_id": 90}, {"category_id": 13})
    categories = [(0, "cell"), (13, "WBC"), (90, "cell"), (1000, "unused")]
    found = listed(tmp_path, *entries, categories=categories)["a.png"]
    assert [mark.raw for mark in found.marks] == ["cell", "cell", "WBC"]


def test_an_unknown_category_is_a_mark_with_its_problem(tmp_path):
    found = listed(tmp_path, {"category_id": 99}, {}, {"category_id": None}, {"category_id": [1]})["a.png"]
    assert reasons(found) == ["unknown_class", None, "unknown_class", "unknown_class"]


def test_what_stands_twice_is_counted_once(tmp_path):
    same = {"id": 5}
    found = listed(tmp_path, same, same, {"id": 5, "bbox": [1, 1, 2, 2]}, {"id": 6}, {"id": None}, {"id": None})
    assert reasons(found["a.png"]) == [None, "duplicate_annotation", None, None, None, None]


def test_a_file_name_may_stand_twice_and_its_annotations_are_joined(tmp_path):
    images = [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "a.png"}]
    entries = ({"id": 1}, {"id": 2, "image_id": 8}, {"id": 1, "image_id": 8})
    assert reasons(listed(tmp_path, *entries, images=images)["a.png"]) == [None, None, "duplicate_annotation"]


@pytest.mark.parametrize(
    "more",
    [
        {"images": [{"id": 7, "file_name": "a.png"}, {"id": "7", "file_name": "b.png"}]},
        {"categories": [(1, "RBC"), (1, "WBC")]},
    ],
)
def test_one_id_for_two_names_is_one_line(tmp_path, more):
    with pytest.raises(UserError, match=r"^c\.json: not COCO JSON \(ValueError: the id [17] stands for two names\)$"):
        listed(tmp_path, {}, **more)


def test_file_names_of_windows_are_paths(tmp_path):
    images = [{"id": 7, "file_name": "train\\a.png"}]
    assert list(listed(tmp_path, {}, images=images)) == ["train/a.png"]


@pytest.mark.parametrize("side", [0, -40, "wide", 40.5, None, float("nan"), 10**400, [40], True])
def test_an_absurd_size_says_nothing_and_the_picture_is_kept(tmp_path, side):
    images = [{"id": 7, "file_name": "a.png", "width": side, "height": 30}]
    assert listed(tmp_path, {}, images=images)["a.png"] == Marks((Mark("RBC", Box(5, 3, 15, 10)),), None)


def test_where_no_size_is_given_that_of_a_code_holds(tmp_path):
    images = [{"id": 7, "file_name": "a.png"}]
    found = listed(tmp_path, {}, {"segmentation": {"counts": COUNTS, "size": [30, 40]}}, images=images)["a.png"]
    assert (found.size, reasons(found)) == ((40, 30), [None, None])


def test_crowds_are_read_where_asked_for(tmp_path):
    entry = {"iscrowd": 1, "segmentation": {"counts": COUNTS, "size": [30, 40]}}
    (mark,) = listed(tmp_path, entry)["a.png"].marks
    assert mark.problem[0] == "crowd"
    assert one(tmp_path, entry, keep_crowd=True).code == COMPRESSED


def test_keypoints_captions_and_attributes_are_passed_over(tmp_path):
    more = {"keypoints": [1, 2, 2], "num_keypoints": 1, "caption": "x", "attributes": {"a": [1]}, "area": None}
    assert one(tmp_path, more) == Mark("RBC", Box(5, 3, 15, 10))


# ---- whole files


def test_annotations_of_no_image_stand_apart(tmp_path):
    found = listed(tmp_path, {"image_id": 42}, {"image_id": None}, {"image_id": {}}, {})
    assert sorted(found) == ["a.png", "image 42", "image of type NoneType", "image of type dict"]
    assert len(found["a.png"].marks) == 1


@pytest.mark.parametrize("entries", ['"x"', "3", '{"a": 1}'])
def test_annotations_that_are_no_list_are_one_line(tmp_path, entries):
    with pytest.raises(UserError, match=r"^c\.json: not COCO JSON"):
        read(tmp_path, f'{{"images": [], "categories": [], "annotations": {entries}}}')


def test_an_entry_that_is_no_object_is_told_like_one_of_no_image(tmp_path):
    text = '{"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": ["x", 3, null, [1]]}'
    found = read(tmp_path, text)
    assert (len(found["a.png"].marks), len(found["image of type NoneType"].marks)) == (0, 4)


@pytest.mark.parametrize("entries", ["null", "[]", "{}"])
def test_a_file_may_have_no_annotation_yet(tmp_path, entries):
    text = f'{{"images": [{{"id": 1, "file_name": "a.png"}}], "categories": [], "annotations": {entries}}}'
    assert read(tmp_path, text) == {"a.png": Marks(())}


@pytest.mark.parametrize("images", ['[{"id": 1}]', '[{"file_name": "a"}]', "[3]", '[{"id": 1, "file_name": 3}]', '"x"'])
def test_images_without_id_or_name_are_one_line(tmp_path, images):
    with pytest.raises(UserError, match=r"^c\.json: not COCO JSON"):
        read(tmp_path, f'{{"categories": [], "images": {images}}}')


def test_a_file_that_can_not_be_opened_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^none\.json: No such file"):
        coco.index(coco.Spec(kind="coco", path="none.json"), tmp_path / "none.json")


def test_categories_may_come_last(tmp_path):
    text = '{"annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [5, 3, 10, 7]}],'
    text += '"images": [{"id": 7, "file_name": "a.png"}], "categories": [{"id": 1, "name": "RBC"}]}'
    assert read(tmp_path, text)["a.png"].marks == (Mark("RBC", Box(5, 3, 15, 10)),)
