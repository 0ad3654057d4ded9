"""Annotation layouts: each format's own convention becomes half-open boxes and whole labels."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline import discovery
from pipeline.errors import Unusable, UserError
from pipeline.records import Box, Case
from sources.annotation import Given, LabelVolume, Mark, Marks, Segments, StructureVolumes
from sources.descriptor import layout
from sources.layouts import classes, coco, labelmap, mask_per_class, seg, voc

PIXELS = np.full((30, 40), 128, np.uint8)
VOC = 'cases: {match: "{stem}.png"}\nannotations: [{kind: voc, path: "{stem}.xml"}]\n'
COCO = 'cases: {match: "{stem}.png"}\nannotations: [{kind: coco, path: boxes.json}]\n'


def xml(*boxes, size=(40, 30), name="RBC", head="", difficult=0) -> str:
    objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"{head}<annotation>{said}{objects}</annotation>"


def coco_json(*boxes, names=("RBC",), size=(40, 30), **more) -> str:
    marks = [{"id": n, "image_id": 7, "category_id": 1, "bbox": box, **more} for n, box in enumerate(boxes)]
    images = [{"id": 7, "file_name": "a.png"} | ({"width": size[0], "height": size[1]} if size else {})]
    return json.dumps(
        {"images": images, "annotations": marks, "categories": [{"id": n + 1, "name": s} for n, s in enumerate(names)]}
    )


def case(captures=None, note=None) -> Case:
    return Case("a", "toy", "a", {}, captures or {}, {"0": note} if note else {})


def read_voc(tmp_path, text: str | bytes, **keys) -> Marks:
    (tmp_path / "a.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return voc.read(voc.Spec(kind="voc", path="a.xml", **keys), case(), Given(tmp_path, ("a.xml",), None))


def read_coco(tmp_path, text: str, **keys) -> Marks:
    (tmp_path / "boxes.json").write_text(text)
    spec = coco.Spec(kind="coco", path="boxes.json", **keys)
    note = coco.index(spec, tmp_path / "boxes.json").get("a.png")
    return coco.read(spec, case(note=note), Given(tmp_path, (), note))


@pytest.mark.parametrize("kind", discovery.names("sources/layouts", ".py"))
def test_every_layout_says_its_origin_and_has_keys_of_its_own(kind):
    module = layout(kind)
    assert module.ORIGIN in ("classification", "detection", "segmentation_2d", "segmentation_3d", "video")
    assert module.Spec.model_fields["kind"].annotation.__args__ == (kind,)
    assert callable(module.read)


# ---- one rectangle, three formats

X0, Y0, X1, Y1 = 5, 3, 15, 10
"""Columns 5 to 14 and rows 3 to 9, counted from 0."""


def test_one_rectangle_gives_one_box_as_voc_as_coco_and_as_label_map(data_set, lps_nifti):
    as_voc = data_set(VOC, {"a.png": PIXELS, "a.xml": xml((X0 + 1, Y0 + 1, X1, Y1))}).records()
    as_coco = data_set(COCO, {"boxes.json": coco_json([X0, Y0, X1 - X0, Y1 - Y0])}).records()
    labels = np.zeros((40, 30, 2), np.uint8)
    labels[X0:X1, Y0:Y1, 1] = 1
    yaml = 'cases: {match: "v.nii.gz"}\nlimits: none\n'
    yaml += "annotations: [{kind: labelmap, path: m.nii.gz, labels: {1: RBC}}]\n"
    volume = {"v.nii.gz": lps_nifti(labels.astype(np.int16)), "m.nii.gz": lps_nifti(labels)}
    as_labels = data_set(yaml, volume, modality="ct").records()
    found = [record.regions for record in (*as_voc, *as_coco, *as_labels)]
    assert [len(regions) for regions in found] == [1, 1, 1]
    assert {regions[0].box for regions in found} == {Box(X0, Y0, X1, Y1)}
    assert {regions[0].area_px for regions in found} == {70}
    assert {regions[0].label for regions in found} == {"red_blood_cell"}
    code = {"size": [30, 40], "counts": found[2][0].mask}
    assert coco_mask.area(code) == 70
    assert coco_mask.toBbox(code).tolist() == [X0, Y0, X1 - X0, Y1 - Y0]


# ---- VOC


def test_voc_is_one_based_and_inclusive(tmp_path):
    assert read_voc(tmp_path, xml((1, 1, 10, 20))) == Marks((Mark("RBC", Box(0, 0, 10, 20)),), (40, 30))


def test_voc_of_later_tools_is_zero_based(tmp_path):
    assert read_voc(tmp_path, xml((0, 0, 9, 19)), one_based=False).marks[0].box == Box(0, 0, 10, 20)


def test_voc_coordinates_may_have_fractions(tmp_path):
    assert read_voc(tmp_path, xml((1.5, 2.25, 10.5, 20.25))).marks[0].box == Box(0.5, 1.25, 10.5, 20.25)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), ("", 5, 9, 9), ("nan", 5, 9, 9)])
def test_a_voc_box_without_size_is_a_mark_with_its_problem(tmp_path, box):
    found = read_voc(tmp_path, xml((1, 1, 9, 9), box)).marks
    assert found[0].problem is None
    assert (found[1].box, found[1].problem[0]) == (None, "box_zero_size")


def test_difficult_objects_can_be_left_out(tmp_path):
    assert len(read_voc(tmp_path, xml((1, 1, 9, 9), difficult=1)).marks) == 1
    assert read_voc(tmp_path, xml((1, 1, 9, 9), difficult=1), keep_difficult=False).marks == ()


def test_a_voc_file_may_leave_out_the_size(tmp_path):
    assert read_voc(tmp_path, xml((1, 1, 9, 9), size=None)).size is None
    assert read_voc(tmp_path, xml((1, 1, 9, 9), size=(0, 0))).size is None


@pytest.mark.parametrize(
    "text",
    [
        xml(head='<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        xml(head='<?xml version="1.0"?>\n<!DOCTYPE annotation SYSTEM "http://127.0.0.1/x.dtd">'),
        xml(head="<!DOCTYPE annotation>").encode("utf-16"),
    ],
    ids=["entity", "external", "utf-16"],
)
def test_an_xml_with_a_document_type_is_refused(tmp_path, text):
    with pytest.raises(Unusable, match="bad_annotation: XML declares a document type"):
        read_voc(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation>",
        "not xml",
        xml(("x", 1, 2, 3)),
        xml(size=("wide", 3)),
        b'<?xml version="1.0" encoding="odd"?><a/>',
    ],
)
def test_what_is_not_voc_xml_is_refused(tmp_path, text):
    with pytest.raises(Unusable, match=r"^bad_annotation: not VOC XML"):
        read_voc(tmp_path, text)


def test_a_picture_without_an_xml_is_not_annotated(tmp_path):
    assert voc.read(voc.Spec(kind="voc", path="x.xml"), case(), Given(tmp_path, (), None)) is None


# ---- COCO


def test_coco_is_corner_and_size(tmp_path):
    assert read_coco(tmp_path, coco_json([3, 4, 10, 20.5])) == Marks((Mark("RBC", Box(3, 4, 13, 24.5)),), (40, 30))


@pytest.mark.parametrize("box", [[3, 4, 0, 5], [3, 4, 5, 0], [3, 4, -5, 5], [3, 4, float("nan"), 5]])
def test_a_coco_box_without_size_is_a_mark_with_its_problem(tmp_path, box):
    found = read_coco(tmp_path, coco_json([1, 1, 5, 5], box)).marks
    assert (found[0].box, found[0].problem) == (Box(1, 1, 6, 6), None)
    assert (found[1].box, found[1].problem[0]) == (None, "box_zero_size")


@pytest.mark.parametrize("box", [[1, 2, 3], None, "1,2,3,4", [1, 2, 3, "x"], {"x": 1}, []])
def test_a_coco_box_that_is_none_is_a_mark_with_its_problem(tmp_path, box):
    found = read_coco(tmp_path, coco_json([1, 1, 5, 5], box)).marks
    assert (found[0].problem, found[1].problem[0]) == (None, "bad_box")


def test_coco_crowds_are_left_out_unless_asked_for(tmp_path):
    (left_out,) = read_coco(tmp_path, coco_json([1, 1, 5, 5], iscrowd=1)).marks
    assert left_out.problem[0] == "crowd"
    (kept,) = read_coco(tmp_path, coco_json([1, 1, 5, 5], iscrowd=1), keep_crowd=True).marks
    assert kept.problem is None


def test_a_coco_picture_without_boxes_is_annotated_and_one_not_listed_is_not(tmp_path):
    assert read_coco(tmp_path, coco_json()) == Marks((), (40, 30))
    spec = coco.Spec(kind="coco", path="boxes.json")
    assert coco.read(spec, case(), Given(tmp_path, (), None)) is None


def test_a_coco_category_that_is_not_listed_keeps_its_number(tmp_path):
    assert read_coco(tmp_path, coco_json([1, 1, 5, 5], names=())).marks[0].raw == "category 1"


def test_coco_may_leave_out_the_size(tmp_path):
    assert read_coco(tmp_path, coco_json([1, 1, 5, 5], size=None)).size is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": 3, "categories": []}', "\udcff"])
def test_what_is_not_coco_json_is_one_line(tmp_path, text):
    (tmp_path / "boxes.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"^boxes\.json: not COCO JSON") as caught:
        coco.index(coco.Spec(kind="coco", path="boxes.json"), tmp_path / "boxes.json")
    assert "\n" not in str(caught.value)


def test_a_case_looks_up_the_name_that_its_template_says(data_set):
    yaml = COCO.replace("path: boxes.json", 'path: boxes.json, match: "{stem}.tif"')
    text = coco_json([1, 1, 5, 5]).replace("a.png", "a.tif")
    assert data_set(yaml, {"a.png": PIXELS, "boxes.json": text}).records()[0].regions[0].box == Box(1, 1, 6, 6)


# ---- classes


@pytest.mark.parametrize(
    ("keys", "captures", "raws"),
    [
        ({"value": "{class}"}, {"class": "yes"}, ["yes"]),
        ({"value": "COVID-19"}, {}, ["COVID-19"]),
        ({"value": "{t.f}", "separator": "|"}, {"t.f": "Mass| Nodule||"}, ["Mass", "Nodule"]),
        ({"value": "{t.f}"}, {"t.f": "Mass|Nodule"}, ["Mass|Nodule"]),
    ],
)
def test_a_class_label_comes_from_a_folder_a_cell_or_a_constant(tmp_path, keys, captures, raws):
    found = classes.read(classes.Spec(kind="classes", **keys), case(captures), Given(tmp_path, (), None))
    assert found == Marks(tuple(Mark(raw) for raw in raws))


def test_an_empty_cell_says_nothing_of_the_picture(tmp_path):
    spec = classes.Spec(kind="classes", value="{t.f}")
    assert classes.read(spec, case({"t.f": " "}), Given(tmp_path, (), None)) is None


# ---- voxels


def test_a_label_map_names_its_ids(tmp_path):
    spec = labelmap.Spec(kind="labelmap", path="m.nii", labels={"1": "liver", "12": "spleen", "note": "x"})
    assert labelmap.read(spec, case(), Given(tmp_path, ("m.nii",), None)) == LabelVolume("m.nii", {1: "1", 12: "12"})


def test_structures_carry_their_label_in_the_file_name(tmp_path):
    spec = mask_per_class.Spec(kind="mask_per_class", path="p/{label}.nii.gz")
    files = ("p/spleen.nii.gz", "p/liver.nii.gz")
    assert mask_per_class.read(spec, case(), Given(tmp_path, files, None)) == StructureVolumes(
        {"liver": "p/liver.nii.gz", "spleen": "p/spleen.nii.gz"}
    )


def test_a_dicom_seg_is_one_file(tmp_path):
    assert seg.read(seg.Spec(kind="seg", path="s.dcm"), case(), Given(tmp_path, ("s.dcm",), None)) == Segments("s.dcm")


@pytest.mark.parametrize(
    ("module", "spec"),
    [
        (labelmap, labelmap.Spec(kind="labelmap", path="m.nii")),
        (mask_per_class, mask_per_class.Spec(kind="mask_per_class", path="{label}.nii")),
        (seg, seg.Spec(kind="seg", path="s.dcm")),
    ],
    ids=["labelmap", "mask_per_class", "seg"],
)
def test_a_volume_without_its_mask_is_unusable(tmp_path, module, spec):
    with pytest.raises(Unusable, match=r"^missing_mask: "):
        module.read(spec, case(), Given(tmp_path, (), None))
