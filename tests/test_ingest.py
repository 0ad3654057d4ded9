"""The ingest stage: a case in, its records and what was left out; one bad file is one row."""

import json
import os
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline import pictures, vocabulary
from pipeline.errors import UserError
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Box

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
FOLDERS = """
cases: {match: ["{class}/{stem}.png", "{class}/{stem}.jpg"], id: "{stem}"}
annotations: [{kind: classes, value: "{class}"}]
"""
VOC = 'cases: {match: "{stem}.png"}\nannotations: [{kind: voc, path: "{stem}.xml"}]\n'
VOLUMES = """
cases: {match: "{stem}_ct.nii.gz", id: "{stem}"}
annotations:
  - {kind: labelmap, path: "{stem}_seg.nii.gz", labels: {1: liver, 2: kidney_left, 3: kidney_right}}
"""
TABLE = """
cases: {match: "{stem}.png"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: classes, value: "{t.finding}"}]
"""
SIZE = (20, 18, 6)


def xml(*boxes, size=(40, 30)) -> str:
    objects = "".join(
        f"<object><name>RBC</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    return f"<a><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</a>"


def ct() -> np.ndarray:
    return np.random.default_rng(1).integers(-200, 300, SIZE).astype(np.int16)


def seg(**blocks) -> np.ndarray:
    """Label map with a block a label: `seg(l1=np.s_[0:5, 0:5, 2])`, (x, y, z) in LPS."""
    labels = np.zeros(SIZE, np.uint8)
    for name, where in blocks.items():
        labels[where] = int(name[1:])
    return labels


LIVER = seg(l1=np.s_[2:10, 3:9, 2:4])


# ---- a record


def test_a_picture_becomes_a_record_with_its_five_facts(data_set):
    yaml = FOLDERS + 'body_part: chest\nattributes: {file: "{name}", empty: "{stem}{stem}"}\n'
    (record,) = data_set(yaml, {"COVID-19/a.png": PIXELS}).records()
    assert (record.id, record.case, record.group, record.source) == ("toy/a/image", "a", "a", "toy")
    assert (record.modality, record.origin, record.body_part) == ("xray", "classification", "chest")
    (region,) = record.regions
    assert (region.label, region.raw, region.box, region.mask) == ("covid_19", "COVID-19", None, None)
    assert record.department == vocabulary.load().department([region], "xray")
    assert record.attributes == {"file": "a.png", "empty": "aa"}
    assert (record.license, record.redistribute, record.commercial, record.egress) == ("CC0-1.0", False, False, "any")
    picture = record.picture
    assert (picture.width, picture.height, picture.sha256) == (40, 30, pictures.sha256(picture.bytes))
    assert (picture.geometry, picture.plane, picture.to_world, picture.spacing_mm) == ("unknown", "unknown", None, None)
    np.testing.assert_array_equal(pictures.pixels_of(picture.bytes), PIXELS)


def test_a_slice_becomes_a_record_with_window_and_places(data_set, lps_nifti):
    spacing, origin = (1.0, 1.0, 2.5), (-10.0, 4.0, 100.0)
    at = {"spacing": spacing, "origin": origin}
    files = {"a_ct.nii.gz": lps_nifti(ct(), codes="RAS", **at), "a_seg.nii.gz": lps_nifti(LIVER, codes="LAS", **at)}
    first, second = data_set(VOLUMES, files, modality="CT").records()
    assert (first.id, second.id) == ("toy/a/axial/z0002", "toy/a/axial/z0003")
    assert (first.modality, first.origin, first.history) == ("ct", "segmentation_3d", ("window soft_tissue -160..240",))
    picture = first.picture
    assert (picture.plane, picture.index, picture.geometry) == ("axial", 2, "known")
    assert picture.window == "soft_tissue -160..240"
    assert picture.spacing_mm == pytest.approx(1.0)
    wanted = np.floor(np.clip((ct()[:, :, 2].T.astype(float) + 160) / 400 * 255 + 0.5, 0, 255)).astype(np.uint8)
    np.testing.assert_array_equal(pictures.pixels_of(picture.bytes), wanted)
    np.testing.assert_allclose(np.reshape(picture.to_world, (3, 3)) @ [0.5, 0.5, 1], [-10, 4, 105], atol=1e-5)
    (region,) = first.regions
    assert (region.label, region.side, region.box) == ("liver", None, Box(2, 3, 10, 9))
    assert (region.area_px, region.area_mm2, region.component) == (48, pytest.approx(48), None)
    assert coco_mask.area({"size": [18, 20], "counts": region.mask}) == 48


def test_coronal_and_sagittal_slices_have_the_head_on_top(data_set, lps_nifti):
    yaml = VOLUMES + "slices: {planes: [coronal, sagittal], every: 2}\nlimits: none\n"
    files = {"a_ct.nii.gz": lps_nifti(ct(), codes="PIR"), "a_seg.nii.gz": lps_nifti(LIVER)}
    boxes = {record.id: record.regions[0].box for record in data_set(yaml, files, modality="ct").records()}
    wanted = {f"toy/a/coronal/y{y:04d}": Box(2, 2, 10, 4) for y in (3, 5, 7)}  # z 2 and 3 of 6, counted from above
    wanted |= {f"toy/a/sagittal/x{x:04d}": Box(3, 2, 9, 4) for x in (2, 4, 6, 8)}
    assert boxes == wanted


def test_components_are_regions_of_their_own_where_asked_for(data_set, lps_nifti):
    labels = seg(l1=np.s_[0:4, 0:4, 0], l2=np.s_[8:12, 0:4, 0])
    labels[10:15, 10:15, 0] = 1
    yaml = VOLUMES.replace("kind: labelmap", "kind: labelmap, boxes: per_component")
    files = {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(labels)}
    (record,) = data_set(yaml, files, modality="ct").records()
    assert [(r.label, r.component, r.box) for r in record.regions] == [
        ("liver", 0, Box(0, 0, 4, 4)),
        ("liver", 1, Box(10, 10, 15, 15)),
        ("kidney", 0, Box(8, 0, 12, 4)),
    ]


def test_left_and_right_come_from_the_label_and_never_from_x(data_set, lps_nifti):
    # the left kidney's label drawn on the patient's right, and the other way round
    labels = seg(l2=np.s_[1:7, 3:9, 1], l3=np.s_[13:19, 3:9, 1])
    for codes in ("RAS", "LPS"):
        files = {"a_ct.nii.gz": lps_nifti(ct(), codes=codes), "a_seg.nii.gz": lps_nifti(labels, codes=codes)}
        (record,) = data_set(VOLUMES, files, modality="ct").records()
        found = [(region.label, region.side, region.box.x0) for region in record.regions]
        assert found == [("kidney", "left", 1), ("kidney", "right", 13)]


def test_a_rule_may_say_the_side_and_drop_a_label(data_set, lps_nifti):
    yaml = VOLUMES.replace("2: kidney_left", "2: {label: kidney, side: right}").replace("1: liver", "1: {drop: true}")
    labels = seg(l1=np.s_[0:6, 0:6, 1:3], l2=np.s_[8:14, 3:9, 1])
    files = {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(labels)}
    toy = data_set(yaml, files, modality="ct")
    (record,) = toy.records()
    assert [(region.label, region.side) for region in record.regions] == [("kidney", "right")]
    assert toy.rejected() == []


def test_a_sphere_on_unequal_voxels_is_a_circle_and_its_box_fits(data_set, lps_nifti):
    spacing, size = (0.5, 1.0, 1.25), (80, 50, 40)
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(size, spacing, strict=True)), indexing="ij"))
    centre = np.array([20.0, 25.0, 25.0]).reshape(3, 1, 1, 1)
    ball = (np.linalg.norm(grid - centre, axis=0) < 16).astype(np.uint8)
    image = ball.astype(np.int16) * 200 - 100
    yaml = VOLUMES + "slices: {planes: [axial, coronal, sagittal]}\nlimits: none\n"
    files = {"a_ct.nii.gz": lps_nifti(image, spacing), "a_seg.nii.gz": lps_nifti(ball, spacing)}
    records = {record.id: record for record in data_set(yaml, files, modality="ct").records()}
    for id_ in ("toy/a/axial/z0020", "toy/a/coronal/y0025", "toy/a/sagittal/x0040"):
        picture, (region,) = records[id_].picture, records[id_].regions
        shown = pictures.pixels_of(picture.bytes) > 102  # half way
        rows, columns = np.nonzero(shown)
        high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert wide / high == pytest.approx(1, abs=0.05), id_
        assert region.box.width / region.box.height == pytest.approx(1, abs=0.05), id_
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(np.array(region.box) - seen).max() <= 2, id_
        code = {"size": [picture.height, picture.width], "counts": region.mask}
        x, y, width, height = coco_mask.toBbox(code).tolist()
        assert np.abs(np.array(region.box) - (x, y, x + width, y + height)).max() <= 1, id_
        assert coco_mask.area(code) == region.area_px
        assert region.area_px * picture.spacing_mm**2 == pytest.approx(region.area_mm2, rel=0.05)
        assert region.area_mm2 == pytest.approx(np.pi * 16**2, rel=0.05), id_


# ---- annotated, open world


def test_complete_annotations_make_negatives(data_set, lps_nifti):
    files = {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(LIVER)}
    (first, _) = data_set(VOLUMES, files, modality="ct").records()
    assert first.annotated == ()
    complete = VOLUMES.replace("kind: labelmap", "kind: labelmap, complete: true") + "slices: {pick: all}\n"
    records = data_set(complete, {}, modality="ct").records()
    assert len(records) == 6
    assert {record.annotated for record in records} == {("kidney", "liver")}
    assert [len(record.regions) for record in records] == [0, 0, 1, 1, 0, 0]


def test_without_complete_a_slice_without_regions_is_not_kept(data_set, lps_nifti):
    files = {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(LIVER)}
    read = data_set(VOLUMES + "slices: {pick: all}\n", files, modality="ct").read()["a"]
    assert [record.id[-5:] for record in read.records] == ["z0002", "z0003"]
    assert Counter((row.level, row.reason) for row in read.rejected) == {("record", "no_region"): 4}


def test_what_no_annotation_speaks_of_is_rejected_or_kept(data_set):
    toy = data_set(TABLE, {"a.png": PIXELS, "b.png": PIXELS, "t.csv": "image,finding\na,normal\n"})
    assert toy.reasons() == {"a": [], "b": ["nothing_kept"]}
    first = toy.rejected()[0]
    assert (first.id, first.level, first.reason) == ("toy/b/image", "record", "unlabelled")
    kept = data_set(TABLE.replace('{match: "{stem}.png"}', '{match: "{stem}.png", unlabelled: keep}'), {})
    assert [(record.case, len(record.regions)) for record in kept.records()] == [("a", 1), ("b", 0)]


def test_an_unknown_label_stays_raw(data_set):
    (record,) = data_set(FOLDERS, {"Odd_Thing/a.png": PIXELS}).records()
    assert (record.regions[0].label, record.regions[0].raw) == (None, "Odd_Thing")


def test_an_unknown_modality_is_the_users_mistake(data_set):
    toy = data_set(FOLDERS, {"x/a.png": PIXELS}, modality="xry")
    with pytest.raises(UserError, match=r"toy: unknown modality 'xry'; did you mean 'xray'\?"):
        toy.read()


# ---- limits


def limits(text: str) -> str:
    return VOLUMES + f"limits: {text}\n"


SMALL = seg(l1=np.s_[0:3, 0:3, 2], l2=np.s_[5:9, 0:3, 2], l3=np.s_[10:20, 5:15, 2])
"""9, 12 and 100 voxels."""


@pytest.mark.parametrize(
    ("text", "spacing", "kept"),
    [
        ("{}", (1.0, 1.0, 1.0), [12, 100]),
        ("{}", (0.5, 0.5, 1.0), [100]),
        ("{min_area_mm2: 12.5}", (1.0, 1.0, 1.0), [100]),
        ("{min_area_mm2: 12}", (1.0, 1.0, 9.0), [12, 100]),
        ("none", (0.1, 0.1, 1.0), [9, 12, 100]),
    ],
)
def test_small_regions_are_measured_in_mm2_where_spacing_is_known(data_set, lps_nifti, text, spacing, kept):
    files = {"a_ct.nii.gz": lps_nifti(ct(), spacing), "a_seg.nii.gz": lps_nifti(SMALL, spacing)}
    toy = data_set(limits(text), files, modality="ct")
    assert [region.area_px for region in toy.records()[0].regions] == kept
    assert [(row.level, row.reason) for row in toy.rejected()] == [("region", "too_small")] * (3 - len(kept))


@pytest.mark.parametrize(("text", "kept"), [("{}", [100]), ("{min_area_px: 10}", [12, 100]), ("none", [9, 12, 100])])
def test_small_regions_are_measured_in_px_elsewhere(data_set, text, kept):
    def bare(array):
        image = nib.Nifti1Image(array, None)
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        return image

    toy = data_set(limits(text), {"a_ct.nii.gz": bare(ct()), "a_seg.nii.gz": bare(SMALL)}, modality="ct")
    (record,) = toy.records()
    assert sorted(region.area_px for region in record.regions) == kept
    assert {region.area_mm2 for region in record.regions} == {None}
    assert (record.picture.geometry, record.picture.flags) == ("unknown", ("no_orientation",))


def test_small_pictures_and_small_boxes_are_left_out(data_set):
    files = {"a.png": PIXELS[:15], "a.xml": xml((1, 1, 9, 9), size=(40, 15))}
    files |= {"b.png": PIXELS, "b.xml": xml((1, 1, 1.5, 9))}
    toy = data_set(VOC + "limits: {min_box_px: 2}\n", files)
    assert toy.reasons() == {"a": ["nothing_kept"], "b": ["nothing_kept"]}
    assert Counter((row.level, row.reason) for row in toy.rejected() if row.level != "case") == {
        ("record", "too_small"): 1,
        ("region", "picture_rejected"): 1,
        ("region", "too_small"): 1,
        ("record", "no_region"): 1,
    }


# ---- bad input: one row each, and the others are read


def png(pixels=PIXELS) -> bytes:
    return pictures.png(pixels)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"RBC/bad.png": truncated(png())}, "truncated"),
        ({"RBC/bad.png": b""}, "empty_file"),
        ({"RBC/bad.png": b"no picture"}, "undecodable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_picture_is_one_row(data_set, files, reason):
    toy = data_set(FOLDERS, {"RBC/good.png": PIXELS} | files)
    assert [record.case for record in toy.records()] == ["good"]
    (row,) = toy.rejected()
    assert (row.id, row.level, row.stage, row.reason) == ("toy/bad", "case", "ingest", reason)


def test_a_truncated_jpeg_is_one_row(data_set, encoded):
    toy = data_set(FOLDERS, {"RBC/good.png": PIXELS, "RBC/bad.jpg": truncated(encoded(PIXELS, "JPEG"))})
    assert [record.case for record in toy.records()] == ["good"]
    assert [(row.id, row.reason) for row in toy.rejected()] == [("toy/bad", "truncated")]


@pytest.mark.parametrize(
    ("text", "reason", "level"),
    [
        (xml((50, 1, 60, 9)), "box_outside", "region"),
        (xml((41, 1, 70, 9)), "box_outside", "region"),
        (xml((5, 5, 5, 9)), "box_zero_size", "region"),
        (xml(("inf", 1, "inf", 9)), "box_zero_size", "region"),
        (xml((1, 1, "inf", 9)), "bad_box", "region"),
        (xml((1, 1, 9, 9), size=(80, 60)), "size_mismatch", "case"),
        ("<a>", "bad_annotation", "case"),
    ],
)
def test_a_bad_box_is_one_row(data_set, text, reason, level):
    files = {"good.png": PIXELS, "good.xml": xml((1, 1, 9, 9)), "bad.png": PIXELS, "bad.xml": text}
    toy = data_set(VOC, files)
    assert [(record.case, record.regions[0].box) for record in toy.records()] == [("good", Box(0, 0, 9, 9))]
    found = [(row.level, row.reason) for row in toy.rejected() if row.level == level]
    assert found == [(level, reason)]
    assert toy.reasons()["bad"] == (["nothing_kept"] if level == "region" else [reason])


def test_a_bad_box_does_not_spoil_its_neighbours(data_set):
    toy = data_set(VOC, {"a.png": PIXELS, "a.xml": xml((1, 1, 9, 9), (5, 5, 5, 9), (31, 21, 41, 31))})
    (record,) = toy.records()
    assert [region.box for region in record.regions] == [Box(0, 0, 9, 9), Box(30, 20, 40, 30)]
    (row,) = toy.rejected()
    assert (row.id, row.level, row.reason) == ("toy/a/image/r001", "region", "box_zero_size")


def test_a_box_that_reaches_outside_is_clipped_and_the_picture_says_so(data_set):
    files = {
        "a.png": PIXELS,
        "a.xml": xml((31, 1, 70, 9), (0, 0, 41, 31)),
        "b.png": PIXELS,
        "b.xml": xml((0, 0, 41, 31)),
    }
    one, other = data_set(VOC, files).records()
    assert [region.box for region in one.regions] == [Box(30, 0, 40, 9), Box(0, 0, 40, 30)]
    assert (one.picture.flags, other.picture.flags) == (("box_clipped",), ())  # one px is rounding


def test_a_picture_of_one_value_says_so(data_set):
    toy = data_set(FOLDERS, {"RBC/good.png": PIXELS, "RBC/bad.png": np.zeros((30, 30), np.uint16)})
    assert {record.case: record.picture.flags for record in toy.records()} == {"good": (), "bad": ("blank",)}


def test_an_annotation_without_its_picture_is_one_row(data_set):
    toy = data_set(VOC, {"a.png": PIXELS, "a.xml": xml((1, 1, 9, 9)), "gone.xml": xml((1, 1, 9, 9))})
    assert [(row.id, row.level, row.reason) for row in toy.rejected()] == [("toy/gone", "case", "missing_image")]
    assert len(toy.records()) == 1


def test_a_row_without_its_picture_and_a_row_that_is_not_utf8_are_one_row_each(data_set):
    table = "image,finding\na,normal\ngone,normal\nb,ödem\n".encode("latin-1")
    toy = data_set(TABLE, {"a.png": PIXELS, "b.png": PIXELS, "t.csv": table})
    assert [record.case for record in toy.records()] == ["a"]
    assert toy.reasons() == {"a": [], "b": ["table_encoding"], "gone": ["missing_image"]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bad_seg.nii.gz": None}, "missing_mask"),
        ({"bad_ct.nii.gz": "half"}, "truncated"),
        ({"bad_seg.nii.gz": "half"}, "truncated"),
        ({"bad_ct.nii.gz": b""}, "empty_file"),
        ({"bad_seg.nii.gz": b""}, "empty_file"),
        ({"bad_seg.nii.gz": LIVER[:-1]}, "geometry_mismatch"),
        ({"bad_seg.nii.gz": LIVER.astype(np.float32) * 0.5}, "interpolated_mask"),
        ({"bad_ct.nii.gz": np.zeros((*SIZE, 2), np.int16)}, "not_3d"),
        ({"bad_seg.nii.gz": np.zeros(SIZE, np.uint8)}, "nothing_kept"),
    ],
)
def test_a_bad_volume_is_one_row(data_set, lps_nifti, change, reason):
    good = {"_ct.nii.gz": lps_nifti(ct()), "_seg.nii.gz": lps_nifti(LIVER)}
    files = {f"{case}{role}": image for case in ("good", "bad") for role, image in good.items()}
    toy = data_set(VOLUMES, files, modality="ct")
    for name, content in change.items():
        path = toy.root / name
        if content is None:
            path.unlink()
        elif isinstance(content, np.ndarray):
            nib.save(nib.Nifti1Image(content, np.diag([-1, -1, 1, 1])), path)
        else:
            path.write_bytes(truncated(path.read_bytes()) if content == "half" else content)
    assert [record.case for record in toy.records()] == ["good", "good"]
    assert [(row.id, row.level, row.reason) for row in toy.rejected()] == [("toy/bad", "case", reason)]


def test_a_label_id_that_is_not_in_the_map_is_one_row_a_slice(data_set, lps_nifti):
    labels = LIVER.copy()
    labels[15:19, 12:17, 2] = 77
    toy = data_set(VOLUMES, {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(labels)}, modality="ct")
    assert [len(record.regions) for record in toy.records()] == [1, 1]
    (row,) = toy.rejected()
    assert (row.id, row.level, row.reason) == ("toy/a/axial/z0002/r001", "region", "unknown_label_id")
    assert "77" in row.detail


@pytest.mark.parametrize("name", ["bad_ct.nii.gz", "bad_seg.nii.gz", "bad.png", "bad.xml"])
def test_a_file_that_may_not_be_read_is_one_row(data_set, lps_nifti, name, tmp_path):
    files = {"good.png": PIXELS, "good.xml": xml((1, 1, 9, 9)), "bad.png": PIXELS, "bad.xml": xml((1, 1, 9, 9))}
    yaml = VOC
    if name.endswith(".gz"):
        yaml = VOLUMES
        roles = {"ct": ct(), "seg": LIVER}
        files = {f"{c}_{role}.nii.gz": lps_nifti(array) for c in ("good", "bad") for role, array in roles.items()}
    toy = data_set(yaml, files, modality="ct")
    cases = toy.plan().cases
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder != folder.parent and str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o055)
    (toy.root / name).chmod(0)
    source = Source(toy.descriptor, toy.root, vocabulary.load())
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        read = {case.id: read_case(case, source) for case in cases}
    finally:
        if root:
            os.seteuid(0)
    assert len(read["good"].records) >= 1
    (row,) = read["bad"].rejected
    assert (row.id, row.level, row.reason, row.detail) == ("toy/bad", "case", "unreadable", "Permission denied")


def test_a_picture_that_vanished_after_the_plan_is_one_row(data_set):
    toy = data_set(FOLDERS, {"RBC/a.png": PIXELS})
    (case,) = toy.plan().cases
    (toy.root / "RBC" / "a.png").unlink()
    read = read_case(case, Source(toy.descriptor, toy.root, vocabulary.load()))
    assert [(row.id, row.level) for row in read.rejected] == [("toy/a", "case")]
    assert str(toy.root) not in read.rejected[0].detail


def test_a_turned_picture_is_stored_upright_and_says_so(data_set, encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    (record,) = data_set(FOLDERS, {"RBC/a.jpg": encoded(PIXELS, "JPEG", exif=exif)}).records()
    assert (record.picture.width, record.picture.height) == (30, 40)
    assert (record.picture.flags, record.history) == (("exif_turned",), ("exif orientation 6 applied",))


def test_hashed_ids_leave_no_name_in_records_and_rejected_rows(data_set, monkeypatch):
    monkeypatch.setenv("MEDGLOSS_ID_KEY", "a secret of 22 letters")
    table = "image,finding\njohn_doe,normal\njane_bad,normal\njack_gone,normal\n"
    files = {"john_doe.png": PIXELS, "jane_bad.png": b"", "t.csv": table}
    toy = data_set(TABLE + "privacy: {hash_ids: true}\n", files)
    assert sorted(toy.plan().names.values()) == ["jack_gone", "jane_bad", "john_doe"]
    assert (len(toy.records()), len(toy.rejected())) == (1, 2)
    said = repr((toy.records(), toy.rejected()))
    assert [name for name in ("john", "jane", "jack") if name in said] == []


# ---- the ledgers


def balanced(read) -> None:
    """Pictures cut = kept + not selected + rejected; regions found = kept + rejected; a record or one case row."""
    levels = Counter(row.level for row in read.rejected)
    kept = sum(len(record.regions) for record in read.records)
    assert read.tally.pictures_cut == len(read.records) + read.tally.pictures_not_selected + levels["record"]
    assert read.tally.regions_found == kept + levels["region"]
    assert levels["case"] == (0 if read.records else 1)


def ids_are_unique(toy) -> None:
    ids = [record.id for record in toy.records()] + [row.id for row in toy.rejected()]
    assert [id_ for id_, count in Counter(ids).items() if count > 1 and not id_.startswith("toy/bad")] == []


@pytest.mark.parametrize("seed", range(6))
def test_volumes_balance(data_set, lps_nifti, seed):
    rng = np.random.default_rng(seed)
    planes = [["axial"], ["axial", "coronal"], ["axial", "coronal", "sagittal"]][seed % 3]
    boxes = ("per_class", "per_component")[seed % 2]
    yaml = VOLUMES.replace("kind: labelmap", f"kind: labelmap, complete: {seed % 2 == 0}, boxes: {boxes}")
    yaml = yaml.replace("3: kidney_right", "3: {drop: true}")
    yaml += f"slices: {{planes: {json.dumps(planes)}, pick: {('all', 'labelled')[seed // 3]}, every: {1 + seed % 3}}}\n"
    yaml += f"limits: {{min_area_mm2: {rng.integers(0, 40)}, min_side_px: {(1, 16)[seed % 2]}}}\n"
    files = {}
    for n in range(3):
        labels = np.zeros(SIZE, np.uint8)
        for value in rng.integers(1, 6, 6):
            x, y, z = (rng.integers(0, size) for size in SIZE)
            labels[x : x + 8, y : y + rng.integers(1, 9), z : z + 2] = value
        spacing = tuple(float(s) for s in rng.choice([0.5, 1.0, 2.0], 3))
        files[f"c{n}_ct.nii.gz"] = lps_nifti(ct(), spacing)
        files[f"c{n}_seg.nii.gz"] = lps_nifti(labels, spacing, codes="RAS")
    files["bad_ct.nii.gz"] = b"bad"
    toy = data_set(yaml, files, modality="ct")
    read = toy.read()
    assert sorted(read) == ["bad", "c0", "c1", "c2"]
    for one in read.values():
        balanced(one)
    ids_are_unique(toy)


@pytest.mark.parametrize("seed", range(6))
def test_pictures_balance(data_set, seed):
    rng = np.random.default_rng(seed)
    files = {"bad.png": b"", "bad.xml": xml(), "gone.xml": xml((1, 1, 9, 9)), "alone.png": PIXELS}
    for n in range(8):
        files[f"c{n}.png"] = PIXELS[: rng.integers(10, 31)]
        boxes = rng.integers(-5, 50, (rng.integers(0, 5), 4)).tolist()
        files[f"c{n}.xml"] = xml(*boxes, size=(0, 0))
    yaml = VOC.replace("kind: voc", f"kind: voc, complete: {seed % 2 == 0}, labels: {{RBC: red blood cell}}")
    yaml = yaml.replace("{match:", f"{{unlabelled: {('keep', 'reject')[seed // 3]}, match:")
    toy = data_set(yaml, files)
    read = toy.read()
    assert len(read) == 11
    for one in read.values():
        balanced(one)
    ids_are_unique(toy)


def test_reading_twice_gives_the_same(data_set, lps_nifti):
    files = {"a_ct.nii.gz": lps_nifti(ct()), "a_seg.nii.gz": lps_nifti(SMALL)}
    toy = data_set(VOLUMES, files, modality="ct")
    assert toy.read() == toy.read()
