"""What is there, what was looked for and is not there, what is in doubt: a table written by hand.

Each row is one picture with one annotation. For `complete: false` and for `complete: true` it says which labels are on
the record, which are annotated negatives, and which are neither; or why there is no record.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hostile_forms import ct_slices, encoded, nifti, saved
from test_contours import contour, struct
from test_segments import seg_of

from pipeline import vocabulary
from pipeline.coordinator import Shared
from pipeline.generate import prompting
from pipeline.generate.facts import facts_of
from pipeline.generate.journal import Journal
from pipeline.generate.stage import Generator
from pipeline.records import Record
from pipeline.settings import BackendSpec
from pipeline.store import Store

WORDS = vocabulary.load()
GREY = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
LABELS = "labels: {RBC: red blood cell, WBC: white blood cell}"
R, W = "red_blood_cell", "white_blood_cell"


class Said(NamedTuple):
    """What a record says, by concept; a label that is not in the vocabulary by its raw name."""

    there: str = ""
    absent: str = ""
    doubted: str = ""


class Row(NamedTuple):
    """One annotation, and what it says where it is not complete and where it is."""

    annotation: str
    files: Mapping[str, Any]
    open: Said | str
    """A text is the reason of the row."""
    complete: Said | str
    more: str = ""


def voc(*objects: str, size: tuple[int, int] = (40, 30)) -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{sides}{''.join(objects)}</annotation>"


def box(name: str, x0: int = 6, y0: int = 4, x1: int = 25, y1: int = 20) -> str:
    corners = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    return f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"


def coco(*marks: Mapping[str, Any], listed: bool = True) -> str:
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}] if listed else []
    images.append({"id": 2, "file_name": "other.png"})
    found = [{"id": n, "image_id": 1, "category_id": 1, "bbox": [5, 3, 20, 15], **mark} for n, mark in enumerate(marks)]
    categories = [{"id": 1, "name": "RBC"}, {"id": 2, "name": "WBC"}]
    return json.dumps({"images": images, "annotations": found, "categories": categories})


def task(*annotations: Mapping[str, Any]) -> str:
    other = {"data": {"image": "other.png"}, "annotations": [{"result": []}]}
    return json.dumps([{"data": {"image": "a.png"}, "annotations": list(annotations)}, other])


def drawn(**more: Any) -> dict[str, Any]:
    value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": ["RBC"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30}
    return {"result": [result], **more}


def cvat(shapes: str, name: str = "a.png") -> str:
    other = '<image name="other.png" width="40" height="30"/>'
    return f'<annotations><image name="{name}" width="40" height="30">{shapes}</image>{other}</annotations>'


def shape(**more: Any) -> str:
    made = {"label": "RBC", "points": [[5, 3], [25, 20]], "shape_type": "rectangle", **more}
    return json.dumps({"shapes": [made], "imageWidth": 40, "imageHeight": 30})


def mask(value: int = 255, rows: int = 20, columns: int = 20) -> bytes:
    pixels = np.zeros((30, 40), np.uint8)
    pixels[:rows, :columns] = value
    return encoded(pixels, "PNG")


def on(
    kind: str, text: str | bytes | None, name: str = "a.txt", keys: str = "", labels: str = LABELS
) -> dict[str, Any]:
    files = {} if text is None else {name: text}
    return {"annotation": f"kind: {kind}, path: {name}, {labels}{keys}", "files": files}


def table(kind: str, header: str, row: str | None, keys: str, labels: str = LABELS) -> dict[str, Any]:
    text = f"file,{header}\n" + (f"a.png,{row}\n" if row is not None else "other.png,\n")
    more = 'tables: {t: {path: t.csv, key: file, match: "{name}", lists_cases: false}}\n'
    return {"annotation": f"kind: {kind}, {keys}, {labels}".rstrip(", "), "files": {"t.csv": text}, "more": more}


NO_FILE, NOTHING = "unlabelled", "no_region"
BOTH = Said("", f"{R} {W}")
"""All that was looked for is absent."""
HIT = Said(R), Said(R, W)
"""A red cell; where the annotation is complete, no white one."""
BAD = NOTHING, Said("", W, R)
"""A red cell that can not be used; where the annotation is complete, no white one."""
MULTI = "table: t, columns: {R: red blood cell, W: white blood cell}"
EDGES = "table: t, box: [x, y, w, h]"

TABLE: dict[str, Row] = {
    # ---- one text file a picture
    "voc: a box": Row(**on("voc", voc(box("RBC"))), open=HIT[0], complete=HIT[1]),
    "voc: no object": Row(**on("voc", voc()), open=NOTHING, complete=BOTH),
    "voc: no file": Row(**on("voc", None), open=NO_FILE, complete=NO_FILE),
    "voc: a box without size": Row(**on("voc", voc(box("RBC", 6, 4, 6, 20))), open=BAD[0], complete=BAD[1]),
    "voc: a box outside": Row(**on("voc", voc(box("RBC", 66, 4, 77, 20))), open=BAD[0], complete=BAD[1]),
    "voc: one good, one bad": Row(
        **on("voc", voc(box("RBC"), box("RBC", 66, 4, 77, 20))), open=Said(R, "", R), complete=Said(R, W, R)
    ),
    "voc: a bad one beside another": Row(
        **on("voc", voc(box("WBC"), box("RBC", 66, 4, 77, 20))), open=Said(W, "", R), complete=Said(W, "", R)
    ),
    "voc: a label that is dropped": Row(
        **on("voc", voc(box("dirt")), labels=LABELS.replace("}", ", dirt: {drop: true}}")), open=NOTHING, complete=BOTH
    ),
    "voc: a label of the vocabulary that is not listed": Row(
        **on("voc", voc(box("platelet"))), open=Said("platelet"), complete=Said("platelet", f"{R} {W}")
    ),
    "voc: a listed label that no vocabulary knows": Row(
        **on("voc", voc(box("RBC")), labels="labels: {RBC: red blood cell, gizmo: gizmo}"),
        open=Said(R),
        complete=Said(R),
    ),
    "labelme: a shape": Row(**on("labelme", shape()), open=HIT[0], complete=HIT[1]),
    "labelme: no shape": Row(**on("labelme", '{"shapes": []}'), open=NOTHING, complete=BOTH),
    "labelme: a line": Row(**on("labelme", shape(shape_type="line")), open=BAD[0], complete=BAD[1]),
    "aperio: no region": Row(**on("aperio", "<Annotations/>"), open=NOTHING, complete=BOTH),
    "yolo: a box": Row(**on("yolo", "0 .5 .5 .5 .5", keys=", names: [RBC, WBC]"), open=HIT[0], complete=HIT[1]),
    "yolo: an empty file": Row(**on("yolo", "", keys=", names: [RBC, WBC]"), open=NOTHING, complete=BOTH),
    "yolo: no file": Row(**on("yolo", None, keys=", names: [RBC, WBC]"), open=NO_FILE, complete=NO_FILE),
    "yolo: no file, which is negative": Row(
        **on("yolo", None, keys=", names: [RBC, WBC], no_file: negative"), open=NOTHING, complete=BOTH
    ),
    # something is there, and nobody knows what: nothing can be said to be absent
    "yolo: a class without a name": Row(
        **on("yolo", "7 .5 .5 .5 .5", keys=", names: [RBC, WBC]"), open=NOTHING, complete=NOTHING
    ),
    "yolo: one with and one without": Row(
        **on("yolo", "0 .5 .5 .5 .5\n7 .5 .5 .5 .5", keys=", names: [RBC, WBC]"), open=Said(R), complete=Said(R)
    ),
    # ---- one file for all pictures
    "coco: a box": Row(**on("coco", coco({})), open=HIT[0], complete=HIT[1]),
    "coco: a picture without annotations": Row(**on("coco", coco()), open=NOTHING, complete=BOTH),
    "coco: a picture that is not listed": Row(**on("coco", coco(listed=False)), open=NO_FILE, complete=NO_FILE),
    "coco: a crowd": Row(**on("coco", coco({"iscrowd": 1})), open=BAD[0], complete=BAD[1]),
    "coco: a box without size": Row(**on("coco", coco({"bbox": [5, 3, 0, 9]})), open=BAD[0], complete=BAD[1]),
    "coco: a category that is not listed": Row(**on("coco", coco({"category_id": 9})), open=NOTHING, complete=NOTHING),
    "labelstudio: a box": Row(**on("labelstudio", task(drawn())), open=HIT[0], complete=HIT[1]),
    "labelstudio: nothing drawn": Row(**on("labelstudio", task({"result": []})), open=NOTHING, complete=BOTH),
    "labelstudio: not looked at": Row(**on("labelstudio", task()), open=NO_FILE, complete=NO_FILE),
    "labelstudio: cancelled": Row(**on("labelstudio", task(drawn(was_cancelled=True))), open=NO_FILE, complete=NO_FILE),
    "cvat: no shape": Row(**on("cvat", cvat("")), open=NOTHING, complete=BOTH),
    "cvat: not listed": Row(**on("cvat", cvat("", "b.png")), open=NO_FILE, complete=NO_FILE),
    "cvat: points": Row(**on("cvat", cvat('<points label="RBC" points="1,2"/>')), open=BAD[0], complete=BAD[1]),
    # ---- masks
    "mask: of a red cell": Row(**on("mask", mask(), "m.png", ", label: RBC"), open=HIT[0], complete=HIT[1]),
    "mask: empty": Row(**on("mask", mask(0), "m.png", ", label: RBC"), open=NOTHING, complete=BOTH),
    "mask: too small": Row(**on("mask", mask(255, 9, 9), "m.png", ", label: RBC"), open=BAD[0], complete=BAD[1]),
    "mask: no file": Row(**on("mask", None, "m.png", ", label: RBC"), open=NO_FILE, complete=NO_FILE),
    "mask: no file, which is a fault": Row(
        **on("mask", None, "m.png", ", label: RBC, missing: reject"), open="missing_mask", complete="missing_mask"
    ),
    "mask: an index that is not listed": Row(
        **on("mask", mask(7), "m.png", ", encoding: indexed", "labels: {1: red blood cell, 2: white blood cell}"),
        open=NOTHING,
        complete=NOTHING,
    ),
    "mask: an index that is listed": Row(
        **on("mask", mask(1), "m.png", ", encoding: indexed", "labels: {1: red blood cell, 2: white blood cell}"),
        open=HIT[0],
        complete=HIT[1],
    ),
    "mask: specks alone": Row(
        **on("mask", mask(255, 11, 11), "m.png", ", label: RBC"),
        more="limits: {despeckle_px: 200}\n",
        open=BAD[0],
        complete=BAD[1],
    ),
    # ---- a label of the whole picture
    "classes: a label": Row(**table("classes", "x", "RBC", 'value: "{t.x}"'), open=HIT[0], complete=HIT[1]),
    "classes: blank": Row(**table("classes", "x", "", 'value: "{t.x}"'), open=NO_FILE, complete=NO_FILE),
    "classes: no row": Row(**table("classes", "x", None, 'value: "{t.x}"'), open=NO_FILE, complete=NO_FILE),
    "classes: unknown": Row(
        **table("classes", "x", "-1", 'value: "{t.x}", unknown: "-1"'), open=NO_FILE, complete=NO_FILE
    ),
    "classes: a label that denies another": Row(
        **table("classes", "x", "RBC", 'value: "{t.x}", negatives: {RBC: [WBC]}'), open=HIT[1], complete=HIT[1]
    ),
    "classes: one that denies what is there": Row(
        **table("classes", "x", "RBC|WBC", 'value: "{t.x}", separator: "|", negatives: {RBC: [WBC]}'),
        open=Said(W, "", R),
        complete=Said(W, "", R),
    ),
    # ---- one column a label: a negative is annotated whether the rest is complete or not
    "multilabel: 1 and 0": Row(**table("multilabel", "R,W", "1,0", MULTI, ""), open=HIT[1], complete=HIT[1]),
    "multilabel: 1 and blank": Row(**table("multilabel", "R,W", "1,", MULTI, ""), open=HIT[0], complete=HIT[1]),
    "multilabel: blank": Row(**table("multilabel", "R,W", ",", MULTI, ""), open=NO_FILE, complete=NO_FILE),
    "multilabel: 0 and -1": Row(
        **table("multilabel", "R,W", "0,-1", MULTI, ""), open=Said("", R, W), complete=Said("", R, W)
    ),
    "multilabel: -1 as uncertain": Row(
        **table("multilabel", "R,W", "-1,0", f"{MULTI}, uncertain: keep", ""), open=Said(R, W), complete=Said(R, W)
    ),
    "multilabel: -1 as absent": Row(
        **table("multilabel", "R,W", "1,-1", f"{MULTI}, uncertain: negative", ""), open=HIT[1], complete=HIT[1]
    ),
    "multilabel: what is no value": Row(
        **table("multilabel", "R,W", "yes,0", MULTI, ""), open=Said("", W, R), complete=Said("", W, R)
    ),
    "multilabel: nothing found": Row(
        **table("multilabel", "R,W,N", ",,1", f"{MULTI}, no_finding: N", ""), open=Said("N", f"{R} {W}"),
        complete=Said("N", f"{R} {W}"),
    ),
    # ---- boxes of a table
    "boxes: a row": Row(**table("boxes", "x,y,w,h", "5,3,20,15", f"{EDGES}, label: RBC"), open=HIT[0], complete=HIT[1]),
    "boxes: no row": Row(**table("boxes", "x,y,w,h", None, f"{EDGES}, label: RBC"), open=NO_FILE, complete=NO_FILE),
    "boxes: a row without numbers": Row(
        **table("boxes", "x,y,w,h", ",,,", f"{EDGES}, label: RBC"), open=NOTHING, complete=BOTH
    ),
    "boxes: one, which is negative": Row(
        **table("boxes", "x,y,w,h", ",,,", f"{EDGES}, label: RBC, empty: negative"), open=Said("", R), complete=BOTH
    ),
    "boxes: numbers that are none": Row(
        **table("boxes", "x,y,w,h", "a,3,20,15", f"{EDGES}, label: RBC"), open=BAD[0], complete=BAD[1]
    ),
    "boxes: a label that denies all": Row(
        **table("boxes", "x,y,w,h,l", ",,,,none", f"{EDGES}, label_column: l, negatives: {{none: all}}"),
        open=Said("none", f"{R} {W}"),
        complete=Said("none", f"{R} {W}"),
    ),
    "objects: an empty list": Row(
        **table("objects", "o", '"{""bbox"": [], ""categories"": []}"', 'value: "{t.o}"'), open=NOTHING, complete=BOTH
    ),
    "objects: an empty cell": Row(**table("objects", "o", "", 'value: "{t.o}"'), open=NO_FILE, complete=NO_FILE),
}  # fmt: skip


def toy_of(data_set: Any, row: Row, complete: bool) -> Any:
    yaml = 'cases: {match: "a.png"}\n' + row.more
    yaml += f"annotations: [{{{row.annotation}, complete: {str(complete).lower()}}}]\n"
    if complete is False:
        yaml = yaml.replace(", missing: negative", "")
    return data_set(yaml, {"a.png": encoded(GREY, "PNG"), **row.files})


def said_of(record: Record) -> Said:
    there = {region.label or region.raw for region in record.regions}
    absent = set(record.annotated) - {region.label for region in record.regions}
    return Said(*(" ".join(sorted(names)) for names in (there, absent, record.doubted)))


def outcome(toy: Any) -> Said | str:
    """Return what the record says, or why the picture is none."""
    read = toy.read()["a"]
    if read.records:
        (record,) = read.records
        return said_of(record)
    reasons = [row.reason for row in read.rejected if row.level == "record"]
    return (reasons or [row.reason for row in read.rejected])[0]


@pytest.mark.parametrize("name", TABLE)
def test_an_annotation_that_is_not_complete_says_nothing_of_what_it_leaves_out(data_set, name):
    assert outcome(toy_of(data_set, TABLE[name], complete=False)) == TABLE[name].open


@pytest.mark.parametrize("name", TABLE)
def test_a_complete_annotation_denies_what_it_lists_and_does_not_doubt(data_set, name):
    assert outcome(toy_of(data_set, TABLE[name], complete=True)) == TABLE[name].complete


def test_a_missing_mask_is_negative_where_the_descriptor_says_so(data_set):
    row = Row(**on("mask", None, "m.png", ", label: RBC, missing: negative"), open="", complete=BOTH)
    assert outcome(toy_of(data_set, row, complete=True)) == BOTH


def test_what_one_of_two_annotations_did_not_speak_of_is_not_denied(data_set):
    """A set that is labelled in parts: nobody looked for white cells on the pictures without their file."""
    yaml = 'cases: {match: "{stem}.png"}\nannotations:\n'
    yaml += '- {kind: voc, path: "{stem}_red.xml", complete: true, labels: {RBC: red blood cell}}\n'
    yaml += '- {kind: voc, path: "{stem}_white.xml", complete: true, labels: {WBC: white blood cell}}\n'
    files = {"both_red.xml": voc(box("RBC")), "both_white.xml": voc(), "red_red.xml": voc(), "white_white.xml": voc()}
    toy = data_set(
        yaml, {**files, **{f"{name}.png": encoded(GREY, "PNG") for name in ("both", "red", "white", "none")}}
    )
    assert {record.case: said_of(record) for record in toy.records()} == {
        "both": Said(R, W),
        "red": Said("", R),
        "white": Said("", W),
    }
    assert [row.reason for row in toy.read()["none"].rejected if row.level == "record"] == ["unlabelled"]


def test_a_label_that_one_annotation_denies_and_another_shows_is_in_doubt(data_set):
    yaml = 'cases: {match: "a.png"}\ntables: {t: {path: t.csv, key: file, match: "{name}"}}\nannotations:\n'
    yaml += "- {kind: voc, path: a.xml}\n- {kind: multilabel, " + MULTI + "}\n"
    files = {"a.png": encoded(GREY, "PNG"), "a.xml": voc(box("RBC")), "t.csv": "file,R,W\na.png,0,0\n"}
    (record,) = data_set(yaml, files).records()
    assert said_of(record) == Said(R, W, R)


def test_a_picture_that_is_kept_without_an_annotation_says_nothing(data_set):
    yaml = 'cases: {match: "a.png", unlabelled: keep}\n'
    yaml += f"annotations: [{{kind: voc, path: a.xml, complete: true, {LABELS}}}]\n"
    (record,) = data_set(yaml, {"a.png": encoded(GREY, "PNG")}).records()
    assert said_of(record) == Said()


# ---- volumes: slice by slice


SIZE = (6, 30, 40)
ORGANS = "labels: {1: liver, 2: spleen}"
L, S = "liver", "spleen"


def labels() -> np.ndarray:
    """A slice without anything, a liver, a liver of 2 voxels, an id that is not listed, a spleen, both."""
    made = np.zeros(SIZE, np.uint8)
    made[1, 5:20, 5:20] = 1
    made[2, 5, 5:7] = 1
    made[3, 5:20, 5:20] = 7
    made[4, 5:20, 5:20] = 2
    made[5, 5:20, 5:20], made[5, 5:20, 22:35] = 1, 2
    return made


def on_volume(data_set: Any, annotation: str, files: Mapping[str, Any], more: str = "") -> dict[int, Said]:
    yaml = f'cases: {{match: "ct.nii.gz"}}\nslices: {{pick: all}}\nannotations: [{annotation}]\n{more}'
    hu = np.random.default_rng(1).integers(-900, 900, SIZE).astype(np.int16)
    records = data_set(yaml, {"ct.nii.gz": nifti(hu), **files}, modality="ct").records()
    return {record.picture.index: said_of(record) for record in records}


def test_slices_of_a_label_map_that_is_not_complete(data_set):
    annotation = f"{{kind: labelmap, path: seg.nii.gz, {ORGANS}}}"
    assert on_volume(data_set, annotation, {"seg.nii.gz": nifti(labels())}) == {
        1: Said(L),
        4: Said(S),
        5: Said(f"{L} {S}"),
    }


def test_slices_of_a_complete_label_map(data_set):
    annotation = f"{{kind: labelmap, path: seg.nii.gz, complete: true, {ORGANS}}}"
    assert on_volume(data_set, annotation, {"seg.nii.gz": nifti(labels())}) == {
        0: Said("", f"{L} {S}"),
        1: Said(L, S),
        2: Said("", S, L),
        4: Said(S, L),
        5: Said(f"{L} {S}"),
    }  # of slice 3 nobody knows what the id 7 is


def test_an_empty_label_map(data_set):
    empty = {"seg.nii.gz": nifti(labels() * 0)}
    assert on_volume(data_set, f"{{kind: labelmap, path: seg.nii.gz, {ORGANS}}}", empty) == {}
    complete = on_volume(data_set, f"{{kind: labelmap, path: seg.nii.gz, complete: true, {ORGANS}}}", empty)
    assert complete == dict.fromkeys(range(6), Said("", f"{L} {S}"))


@pytest.mark.parametrize("kind", ["labelmap", "seg", "rtstruct"])
@pytest.mark.parametrize("complete", ["true", "false"])
def test_a_volume_without_its_annotation_denies_nothing(data_set, kind, complete):
    made = f"{{kind: {kind}, path: gone, complete: {complete}, labels: {{1: liver}}%s}}"
    assert on_volume(data_set, made % "", {}) == {}
    kept = 'cases: {match: "ct.nii.gz", unlabelled: keep}\n'
    yaml = f"{kept}slices: {{pick: all}}\nannotations: [{made % ', optional: true'}]\n"
    toy = data_set(yaml, {"ct.nii.gz": nifti(np.arange(np.prod(SIZE), dtype=np.int16).reshape(SIZE))}, modality="ct")
    assert [said_of(record) for record in toy.records()] == [Said()] * 6


def test_what_was_not_looked_at_on_a_slice_may_hold_what_was_looked_for(data_set):
    made = np.zeros(SIZE, np.uint8)
    made[1, 5:20, 5:20], made[2, 5:20, 5:20] = 1, 255
    annotation = f"{{kind: labelmap, path: seg.nii.gz, complete: true, ignore: [255], {ORGANS}}}"
    found = on_volume(data_set, annotation, {"seg.nii.gz": nifti(made)})
    assert found[1] == Said(L, S)
    assert 2 not in found or found[2].absent == ""


def test_where_the_background_was_not_looked_at_no_slice_denies_anything_by_it(data_set):
    made = np.zeros(SIZE, np.uint8)
    made[1, 5:20, 5:20] = 1  # nobody looked around the liver
    made[3] = 2
    made[3, 5:20, 5:20] = 1
    made[4] = 1  # looked at from edge to edge, and no spleen
    annotation = f"{{kind: labelmap, path: seg.nii.gz, complete: true, ignore: [0], {ORGANS}}}"
    found = on_volume(data_set, annotation, {"seg.nii.gz": nifti(made)})
    assert found == {1: Said(L, "", f"{L} {S}"), 3: Said(f"{L} {S}"), 4: Said(L, S)}


def test_what_was_not_looked_at_is_on_its_own_slice_wherever_the_labels_begin(data_set):
    made = np.zeros(SIZE, np.uint8)
    made[3, 5:20, 5:20], made[4, 5:20, 5:20] = 255, 1
    annotation = f"{{kind: labelmap, path: seg.nii.gz, complete: true, ignore: [255], {ORGANS}}}"
    found = on_volume(data_set, annotation, {"seg.nii.gz": nifti(made)})
    nothing = Said("", f"{L} {S}")
    assert found == {0: nothing, 1: nothing, 2: nothing, 4: Said(L, S), 5: nothing}


def test_structures_that_are_empty_and_those_without_a_file(data_set):
    """One file a structure: the list is what was looked for, whether there is a file or not."""
    annotation = (
        "{kind: mask_per_class, path: 's/{label}.nii.gz', complete: %s, labels: {liver: liver, spleen: spleen}}"
    )
    files = {"s/liver.nii.gz": nifti((labels() == 1).astype(np.uint8)), "s/kidney.nii.gz": nifti(labels() * 0)}
    assert on_volume(data_set, annotation % "false", files) == {1: Said(L), 5: Said(L)}
    assert on_volume(data_set, annotation % "true", files) == {
        0: Said("", f"{L} {S}"),
        1: Said(L, S),
        2: Said("", S, L),
        3: Said("", f"{L} {S}"),
        4: Said("", f"{L} {S}"),
        5: Said(L, S),
    }


def spheres(*rows: str, complete: bool) -> tuple[str, dict[str, Any], str]:
    table = "case,x,y,z,d\n" + "".join(f"ct,{row}\n" for row in rows)
    annotation = "{kind: spheres, table: t, center: [x, y, z], diameter: d, label: nodule, "
    annotation += f"complete: {str(complete).lower()}, labels: {{nodule: nodule}}}}"
    return annotation, {"t.csv": table}, "tables: {t: {path: t.csv, key: case, lists_cases: false}}\n"


N = WORDS.meaning("nodule").concept or ""


def test_a_sphere_is_on_its_slices_and_absent_on_the_others(data_set):
    found = on_volume(data_set, *spheres("22.5,22.5,6,8", complete=True))
    assert {index: said.there for index, said in found.items() if said.there} == dict.fromkeys((1, 2, 3), N)
    assert {index: said.absent for index, said in found.items() if not said.there} == dict.fromkeys((0, 4, 5), N)


def test_a_sphere_without_a_place_is_in_doubt_on_all_slices(data_set):
    found = on_volume(data_set, *spheres("22.5,22.5,6,nan", complete=True))
    assert {said.absent for said in found.values()} <= {""}


def series(data_set: Any, annotation: str, marks: bytes) -> dict[int, Said]:
    yaml = f'cases: {{match: "s/*.dcm", id: s, form: series}}\nslices: {{pick: all}}\nannotations: [{annotation}]\n'
    files = {f"s/{n}.dcm": saved(one) for n, one in enumerate(ct_slices())}
    toy = data_set(yaml, {**files, "marks.dcm": marks}, modality="ct")
    return {record.picture.index: said_of(record) for record in toy.records()}


def test_slices_without_a_segment_are_negatives_where_the_list_is_complete(data_set):
    pixels = np.zeros((4, 30, 40), np.uint8)
    pixels[1, 5:20, 5:20] = 1
    marks = saved(seg_of(ct_slices(), pixels, "BINARY", ("liver",)))
    annotation = "{kind: seg, path: marks.dcm, complete: %s, labels: {liver: liver, spleen: spleen}}"
    assert series(data_set, annotation % "false", marks) == {1: Said(L)}
    none = Said("", f"{L} {S}")
    assert series(data_set, annotation % "true", marks) == {0: none, 1: Said(L, S), 2: none, 3: none}


RING = np.array([(x * 1.5, y * 1.5, 3.0) for x, y in ((7.5, 4.5), (29.5, 4.5), (29.5, 19.5), (7.5, 19.5))])


def test_a_structure_without_contours_is_absent(data_set):
    marks = saved(struct({"liver": [RING], "spleen": []}))
    annotation = "{kind: rtstruct, path: marks.dcm, complete: true, labels: {liver: liver, spleen: spleen}}"
    none = Said("", f"{L} {S}")
    assert series(data_set, annotation, marks) == {0: none, 1: Said(L, S), 2: none, 3: none}


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR"])
def test_a_structure_of_points_or_lines_is_in_doubt(data_set, kind):
    marks = saved(struct({"liver": [RING], "spleen": [contour(RING, kind=kind)]}))
    annotation = "{kind: rtstruct, path: marks.dcm, complete: true, labels: {liver: liver, spleen: spleen}}"
    assert {said.absent for said in series(data_set, annotation, marks).values()} <= {"", L}


def test_a_shape_without_a_label_leaves_nothing_denied(data_set):
    row = Row(**on("labelme", shape(label="")), open=NOTHING, complete=NOTHING)
    assert outcome(toy_of(data_set, row, complete=True)) == NOTHING


# ---- what is asked of a model


def asked(records: list[Record], folder: Any) -> list[tuple[str, str, str]]:
    """Return record, question and answer of each question that is answered with yes or no."""
    prompts = prompting.load([name for name in prompting.available() if name.startswith("vqa_yesno")], ("en",))

    async def generated() -> Any:
        generator = Generator(prompts, {"default": BackendSpec()}, WORDS, Journal(Store(folder)), Shared(1, {}), None)
        try:
            return await generator.generate("toy-00000-of-00001", records, (), "0")
        finally:
            await generator.close()

    samples = asyncio.run(generated()).samples
    return [(sample.records[0], sample.messages[0].content, sample.answer) for sample in samples]


def names_of(concepts: str) -> set[str]:
    return {WORDS.name(concept, concept, "en") for concept in concepts.split()}


def test_no_is_answered_only_about_what_was_looked_for_and_is_not_there(data_set, tmp_path):
    answers = dict.fromkeys(("yes", "no"), 0)
    for name, row in TABLE.items():
        for complete in (False, True):
            records = toy_of(data_set, row, complete).records()
            wanted = row.complete if complete else row.open
            for _, question, answer in asked(records, str(tmp_path / "run")):
                answers[answer] += 1
                assert isinstance(wanted, Said)
                about = wanted.absent if answer == "no" else wanted.there
                assert any(word in question for word in names_of(about)), (name, question)
                if answer == "no":
                    assert not any(word in question for word in names_of(f"{wanted.there} {wanted.doubted}"))
    assert min(answers.values()) > 10


def test_no_is_not_answered_about_the_kin_of_what_is_in_doubt(data_set, tmp_path):
    """A lobe too small to be kept is a part of a lung all the same."""
    made = np.zeros(SIZE, np.uint8)
    made[1, 5, 5:7], made[1, 5:20, 22:35] = 1, 3
    annotation = "{kind: labelmap, path: seg.nii.gz, complete: true, "
    annotation += "labels: {1: lung upper lobe, 2: lung, 3: liver, 4: spleen}}"
    yaml = f'cases: {{match: "ct.nii.gz"}}\nannotations: [{annotation}]\n'
    hu = np.random.default_rng(1).integers(-900, 900, SIZE).astype(np.int16)
    (record,) = data_set(yaml, {"ct.nii.gz": nifti(hu), "seg.nii.gz": nifti(made)}, modality="ct").records()
    lobe = WORDS.meaning("lung upper lobe").concept
    assert lobe in WORDS.family("lung")
    assert said_of(record) == Said(L, f"lung {S}", lobe)
    said = asked([record], str(tmp_path / "run"))
    assert {answer for _, _, answer in said} == {"yes", "no"}
    assert facts_of(record, WORDS, "en", (), "0").absent == ("spleen",)
