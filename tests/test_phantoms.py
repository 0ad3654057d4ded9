"""The phantoms: what they say of themselves is what independent readers find in the files."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from pipeline.ingest import phantoms
from sources.cases import CasePlan, plan
from sources.descriptor import load

CASES = ("case_a", "case_b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("phantoms")
    phantoms.write(at)
    return at


@pytest.fixture(scope="module")
def truth(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return found


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def planned(folder: Path, name: str) -> CasePlan:
    descriptor, base, _ = load(str(folder / f"{name}.yaml"))
    return plan(descriptor, base / descriptor.root)


def nifti(folder: Path, case: str, name: str) -> Any:
    return sitk.ReadImage(str(folder / "torso" / case / f"{name}.nii.gz"))


def shapes(folder: Path, case: str) -> Any:
    found = sitk.LabelShapeStatisticsImageFilter()
    found.Execute(nifti(folder, case, "seg"))
    return found


def series(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "torso_dicom/case_a/ct")))
    return reader.Execute()


def film(folder: Path, name: str) -> NDArray[np.uint8]:
    with Image.open(folder / "chest" / name) as image:
        assert (image.mode, image.size) == ("L", (384, 352))
        return np.asarray(image)


def test_two_writes_are_the_same_to_the_byte(folder: Path, tmp_path: Path) -> None:
    paths = phantoms.write(tmp_path)
    assert [path.name for path in paths] == ["chest.yaml", "blood.yaml", "torso.yaml", "torso_dicom.yaml"]
    assert digests(tmp_path) == digests(folder)


def test_writing_over_a_set_changes_nothing(folder: Path) -> None:
    before = digests(folder)
    phantoms.write(folder)
    assert digests(folder) == before


def test_all_of_it_is_under_eight_megabytes(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8_000_000


@pytest.mark.parametrize(("name", "count"), [("chest", 24), ("blood", 12), ("torso", 2), ("torso_dicom", 1)])
def test_a_descriptor_lists_its_cases_and_claims_every_file(folder: Path, name: str, count: int) -> None:
    found = planned(folder, name)
    assert len(found.cases) == count
    assert [case.problem for case in found.cases] == [None] * count
    assert found.unclaimed == ()
    assert load(str(folder / f"{name}.yaml"))[0].expect.cases == count


def test_patients_have_one_to_three_films_and_the_table_knows_each(folder: Path) -> None:
    cases = planned(folder, "chest").cases
    groups = [case.group for case in cases]
    assert {groups.count(group) for group in groups} == {1, 2, 3}
    assert {case.captures["t.sex"] for case in cases} == {"F", "M"}
    assert {case.captures["t.view"] for case in cases} == {"PA", "AP"}


def test_every_film_stands_in_the_folder_of_its_finding(folder: Path, truth: dict[str, Any]) -> None:
    with (folder / "chest/labels.csv").open(newline="") as file:
        rows = {f"{row['finding']}/{row['image']}": row["finding"] for row in csv.DictReader(file)}
    assert rows == truth["chest"]
    assert sorted(set(rows.values())) == ["normal", "pleural effusion", "pneumonia"]
    assert all((folder / "chest" / name).is_file() for name in rows)


def test_the_heart_lies_to_the_right_of_the_picture(folder: Path, truth: dict[str, Any]) -> None:
    for name in (name for name, finding in truth["chest"].items() if finding == "normal"):
        pixels = film(folder, name)[200:235].astype(float)
        assert pixels[:, 222:252].mean() > pixels[:, 132:162].mean() + 25


def test_every_box_is_whole_and_holds_a_stained_cell(folder: Path, truth: dict[str, Any]) -> None:
    coco = json.loads((folder / "blood/annotations.json").read_text())
    assert [category["name"] for category in coco["categories"]] == ["RBC", "WBC", "Platelets"]
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    names_of = {category["id"]: category["name"] for category in coco["categories"]}
    boxes: dict[str, list[Any]] = {name: [] for name in names.values()}
    for entry in coco["annotations"]:
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 480
        assert 0 <= y < y + height <= 360
        assert min(width, height) >= 4
        boxes[names[entry["image_id"]]].append((names_of[entry["category_id"]], [x, y, x + width, y + height]))
    assert boxes == {name: [(cell["raw"], cell["box"]) for cell in cells] for name, cells in truth["blood"].items()}
    assert {raw for cells in boxes.values() for raw, _ in cells} == {"RBC", "WBC", "Platelets"}


def test_what_is_dark_in_a_smear_is_inside_a_box_and_touches_its_sides(folder: Path, truth: dict[str, Any]) -> None:
    for name, cells in truth["blood"].items():
        with Image.open(folder / "blood/images" / name) as image:
            stained = np.asarray(image)[..., 1] < 208
        boxed = np.zeros_like(stained)
        for x0, y0, x1, y1 in (cell["box"] for cell in cells):
            # a rim that covers less than half of a pixel, and the lens, stain a little beyond
            boxed[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = True
            inside = stained[y0:y1, x0:x1]
            assert inside[:, :2].any()
            assert inside[:, -2:].any()
            assert inside[:2].any()
            assert inside[-2:].any()
        assert not (stained & ~boxed).any()


@pytest.mark.parametrize("case", CASES)
def test_simpleitk_measures_what_the_truth_says(folder: Path, truth: dict[str, Any], case: str) -> None:
    image, found = nifti(folder, case, "seg"), shapes(folder, case)
    assert sorted(found.GetLabels()) == list(range(1, 10))
    for facts in truth["torso"][case].values():
        assert found.GetNumberOfPixels(facts["id"]) == facts["voxels"]
        np.testing.assert_allclose(found.GetCentroid(facts["id"]), facts["centroid_mm"], atol=1e-3)
        first, size = np.split(np.array(found.GetBoundingBox(facts["id"])), 2)
        ends = [image.TransformContinuousIndexToPhysicalPoint((at - 0.5).tolist()) for at in (first, first + size)]
        np.testing.assert_allclose([*np.min(ends, 0), *np.max(ends, 0)], facts["box_mm"], atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_organs_lie_on_the_side_where_people_have_them(folder: Path, case: str) -> None:
    ct, found = nifti(folder, case, "ct"), shapes(folder, case)
    body = sitk.LabelShapeStatisticsImageFilter()
    body.Execute(sitk.Cast(ct > -500, sitk.sitkUInt8))
    middle = body.GetCentroid(1)
    at = {name: np.subtract(found.GetCentroid(number), middle) for number, name in phantoms.LABELS.items()}
    for name in ("liver", "kidney_right", "lung_right", "liver lesion"):
        assert at[name][0] < -25, name
    for name in ("spleen", "kidney_left", "lung_left"):
        assert at[name][0] > 25, name
    assert 5 < at["aorta"][0] < 30
    assert abs(at["spine"][0]) < 4
    assert at["spine"][1] > at["aorta"][1] > at["liver"][1]
    assert at["kidney_left"][2] > at["kidney_right"][2]
    assert min(at["lung_left"][2], at["lung_right"][2]) > at["liver"][2]


def test_the_two_torsos_are_stored_in_different_axis_orders(folder: Path) -> None:
    # the world's axis and sense along each stored axis, in LPS: right, front, head; back, head, right
    expected = {"case_a": [-1, 0, 0, 0, -1, 0, 0, 0, 1], "case_b": [0, 0, -1, 1, 0, 0, 0, 1, 0]}
    for case, direction in expected.items():
        np.testing.assert_allclose(nifti(folder, case, "ct").GetDirection(), direction, atol=1e-6)
    assert nifti(folder, "case_b", "ct").GetSize() == (104, 72, 128)


@pytest.mark.parametrize("case", CASES)
def test_tissues_have_their_hounsfield_units(folder: Path, case: str) -> None:
    ct, seg = sitk.GetArrayFromImage(nifti(folder, case, "ct")), nifti(folder, case, "seg")
    ids = {label: number for number, label in phantoms.LABELS.items()}
    expected = {"liver": 60, "spleen": 50, "kidney_right": 35, "lung_left": -850, "aorta": 150, "liver lesion": 15}
    for name, hu in expected.items():
        # away from the edge, where the scanner's blur does not reach
        inside = sitk.GetArrayFromImage(sitk.BinaryErode(seg == ids[name], (1, 1, 1))) == 1
        assert ct[inside].mean() == pytest.approx(hu, abs=3), name
        assert ct[inside].std() == pytest.approx(12, abs=3), name
    assert ct.min() >= -1024


def test_a_lesion_measures_about_24_mm(truth: dict[str, Any]) -> None:
    x0, y0, z0, x1, y1, z1 = truth["torso"]["case_a"]["liver lesion"]["box_mm"]
    assert (x1 - x0, y1 - y0, z1 - z0) == pytest.approx((24, 24, 24), abs=4)


def test_the_series_holds_the_same_units_at_the_same_places_as_the_nifti(folder: Path) -> None:
    dicom, stored = series(folder), sitk.DICOMOrient(nifti(folder, "case_a", "ct"), "LPS")
    np.testing.assert_allclose(dicom.GetOrigin(), stored.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(dicom.GetSpacing(), stored.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(dicom.GetDirection(), stored.GetDirection(), atol=1e-6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(dicom), sitk.GetArrayFromImage(stored))


def test_neither_file_names_nor_instance_numbers_follow_the_slices(folder: Path) -> None:
    headers = [pydicom.dcmread(path) for path in sorted((folder / "torso_dicom/case_a/ct").iterdir())]
    heights = [float(header.ImagePositionPatient[2]) for header in headers]
    by_number = [z for _, z in sorted((int(h.InstanceNumber), z) for h, z in zip(headers, heights, strict=True))]
    assert heights != sorted(heights)
    assert heights != sorted(heights, reverse=True)
    assert by_number == sorted(heights, reverse=True)
    assert len(set(heights)) == len(headers) == 80


def test_a_dicom_header_holds_a_planted_name_and_nothing_else_does(folder: Path) -> None:
    holding = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and b"Planted" in path.read_bytes()
    }
    assert holding == {str(path.relative_to(folder)) for path in folder.rglob("*.dcm")}


def test_the_seg_holds_the_label_map_voxel_for_voxel(folder: Path) -> None:
    seg = highdicom.seg.segread(folder / "torso_dicom/case_a/seg.dcm")
    stored = sitk.DICOMOrient(nifti(folder, "case_a", "seg"), "LPS")
    volume = seg.get_volume(combine_segments=True).to_patient_orientation("FPL")
    labels = np.flip(volume.array, 0)  # highdicom's slices run to the feet here, to keep the volume right-handed
    expected = sitk.GetArrayFromImage(stored)
    filled = np.flatnonzero(expected.any((1, 2)))
    np.testing.assert_array_equal(labels, expected[filled[0] : filled[-1] + 1])
    counts = {d.SegmentLabel: int((labels == d.SegmentNumber).sum()) for d in seg.SegmentSequence}
    assert counts == {name: int((expected == number).sum()) for number, name in phantoms.LABELS.items()}


def test_a_paired_organ_is_coded_with_its_side(folder: Path) -> None:
    seg = pydicom.dcmread(folder / "torso_dicom/case_a/seg.dcm")
    coded = {}
    for segment in seg.SegmentSequence:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        sides = kind.get("SegmentedPropertyTypeModifierCodeSequence", ())
        coded[segment.SegmentLabel] = (kind.CodeValue, *(side.CodeMeaning for side in sides))
    assert coded["kidney_right"] == ("64033007", "Right")
    assert coded["lung_left"] == ("39607008", "Left")
    assert coded["liver"] == ("10200004",)
    assert len(seg.PerFrameFunctionalGroupsSequence) < 80 * 9  # empty frames are left out
