"""Real volumes, DICOM objects and videos, read where they lie: every voxel in mm, every frame by its number."""

import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from real_sets import (
    DATA,
    as_written,
    at_path,
    found_in,
    gold,
    in_source,
    mask_of,
    meant,
    root_of,
    said,
    source_of,
    without_limits,
)

from pipeline import pictures
from pipeline.ingest.stage import read_case
from pipeline.records import Record
from sources import descriptor
from sources.cases import plan

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder"
)


# ---- volumes, in mm


def header_names(path: Path) -> dict[int, str]:
    (extension,) = nib.load(path).header.extensions
    table = ET.fromstring(extension.get_content().strip(b"\0"))
    return {int(label.get("Key")): label.text for label in table.iter("Label") if label.get("Key") != "0"}


HIPPOCAMPUS = {1: "anterior hippocampus", 2: "posterior hippocampus"}
TOTAL = {number: f"structure {number}" for number in (1, 7, 8, 9)}
GREY = {"GREEN": 1, "LIGHT_BLUE": 4, "DARK_BLUE": 5}
VOLUMES = [
    ("totalseg_header", None, "totalseg_ref"),
    ("totalseg_torso", None, "totalseg_ref"),
    ("totalseg_mr", None, "totalseg_ref"),
    ("totalseg_dicom", None, "totalseg_ref"),
    ("totalseg_spine", None, None),
    ("msd_hippocampus", HIPPOCAMPUS, "msd_layout_derived"),
    ("nnunet_hippocampus", HIPPOCAMPUS, None),
    ("ivadomed_spleen", {1: "spleen"}, "ivadomed_testing"),
    ("pyradiomics_nrrd", {1: "tumor"}, None),
    ("pyradiomics_prostate", TOTAL, None),
    ("dcmqi_nrrd", {1: "liver", 5: "thoracic spine"}, None),
    ("dcmqi_multiframe", {1: "liver"}, None),
]


def voxels(records: list[Record], what: tuple[str, str | None], mask: Any):
    """Return the voxels of a SimpleITK mask that regions cover, found by their mm."""
    turn = np.reshape(mask.GetDirection(), (3, 3)) * mask.GetSpacing()
    found = []
    for record in records:
        for region in record.regions:
            if said(region) == what:
                rows, columns = np.nonzero(mask_of(record, region))
                world = np.reshape(record.picture.to_world, (3, 3)) @ [columns + 0.5, rows + 0.5, np.ones(len(rows))]
                found.append(np.linalg.solve(turn, world - np.reshape(mask.GetOrigin(), (3, 1))).T)
    return np.concatenate(found or [np.zeros((0, 3))])


@pytest.mark.parametrize(("name", "names", "set_name"), VOLUMES)
def test_every_voxel_of_a_mask_is_found_at_its_place_in_the_patient(name, names, set_name):
    found = without_limits(name)
    sampled = source_of(name).descriptor.slices.pick != "labelled"
    for case, read in zip(found.cases, found.reads, strict=True):
        if not read.records:
            continue
        path = found.root / case.files["0"][0]
        mask = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(mask)
        for number, text in (names or header_names(path)).items():
            exact = voxels(read.records, meant(text), mask)
            index = np.rint(exact).astype(int)
            assert np.abs(exact - index).max(initial=0) < 0.02
            assert (array[index[:, 2], index[:, 1], index[:, 0]] == number).all()
            assert len(np.unique(index, axis=0)) == len(index)
            assert sampled or len(index) == np.count_nonzero(array == number)
        if set_name:
            agrees_with_gold(read.records, path, set_name, names or header_names(path))


def agrees_with_gold(records: list[Record], path: Path, set_name: str, names: dict[int, str]) -> None:
    (wanted,) = (value for key, value in gold(set_name).items() if str(path).endswith(key))
    for number, text in names.items():
        areas = {r.picture.index: reg.area_px for r in records for reg in r.regions if said(reg) == meant(text)}
        numbers = wanted["labels"].get(str(number))
        assert bool(areas) == bool(numbers), text
        if numbers:
            assert sum(areas.values()) == numbers["voxels"], text
            assert [min(areas), max(areas)] == numbers["third_axis_slices"], text
            assert len(areas) == numbers["n_slices"], text
    assert {said(region) for r in records for region in r.regions} <= {meant(text) for text in names.values()}


def test_the_liver_has_its_density():
    """A DICOM series and a NIfTI mask, paired in mm; by the order of their arrays it would be -75."""
    wanted = gold("totalseg_ref")["physical_alignment"]["paired in physical space"]
    window, greys = (-160, 240), []
    for record in without_limits("totalseg_dicom").records:
        assert record.picture.window == "soft_tissue -160..240"
        pixels = pictures.pixels_of(record.picture.bytes)
        greys += [pixels[mask_of(record, r)] for r in record.regions if r.label == "liver"]
    hu = np.concatenate(greys) / 255 * (window[1] - window[0]) + window[0]
    assert abs(hu.mean() - wanted) < 2


def test_tissue_types_are_those_of_their_files():
    counted = Counter()
    for _, region in without_limits("totalseg_tissue").regions:
        counted[region.raw] += int(region.area_px)
    folder = root_of("totalseg_tissue") / "example_seg_tissue_types"
    files = {path.name.removesuffix(".nii.gz"): np.asanyarray(nib.load(path).dataobj) for path in folder.iterdir()}
    assert counted == {label: np.count_nonzero(array) for label, array in files.items()}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("totalseg_header", "{case:example}_seg_fast_body_seg.nii.gz"),
        ("totalseg_header", "{case:example}_seg_roi_subset.nii.gz"),
        ("totalseg_mr", "{case:example}_seg_roi_subset_mr.nii.gz"),
        ("totalseg_torso", "spine_report/test_result/totalseg_vertebrae_pp_refined.nii.gz"),
    ],
)
def test_other_label_maps_of_the_same_scans_lose_no_voxel(name, path):
    found = at_path(name, path, limits=descriptor.NO_LIMITS)
    counted = Counter()
    for _, region in found.regions:
        counted[region.raw] += int(region.area_px)
    file = found.root / found.cases[0].files["0"][0]
    ids, counts = np.unique(np.asanyarray(nib.load(file).dataobj), return_counts=True)
    names = header_names(file)
    assert counted == {names[number]: count for number, count in zip(ids, counts, strict=True) if number}


def test_bones_that_were_looked_for_and_are_not_there_are_absent():
    records = as_written("totalseg_absent").records
    assert len(records) == 3
    for record in records:
        assert record.regions == ()
        assert len(record.annotated) == 11
        assert {"fibula", "patella", "carpal_bone"} < set(record.annotated)
        assert not {"pulmonary_artery", "airway"} & set(record.annotated)


def test_msd_and_nnunet_say_the_same():
    def content(name):
        return {r.id.partition("/")[2]: (r.picture.sha256, r.regions) for r in without_limits(name).records}

    assert content("msd_hippocampus") == content("nnunet_hippocampus")


def test_files_that_are_no_volume_of_one_channel_are_told():
    assert as_written("niivue_images").reasons("case") == {"not_3d": 1}
    found = as_written("niivue_pcasl")
    assert {record.picture.channel for record in found.records} == {"v0", "v1"}
    report = "spine_report/example_ct_report/{case:spine_report}.nii.gz"
    cases = source_of("totalseg_mr").descriptor.cases.model_copy(update={"match": (report,), "unlabelled": "keep"})
    assert found_in("totalseg_mr", cases=cases, annotations=()).reasons("case") == {"not_3d": 1}


# ---- DICOM SEG and RTSTRUCT


def height(record: Record) -> float:
    return round(record.picture.to_world[8], 2)


SEGS = [
    ("dcmqi_ct", lambda: [gold("dcmqi_seg")["liver.dcm"], gold("dcmqi_seg")["partial_overlaps.dcm"]]),
    ("dcmqi_small", lambda: [gold("dcmqi_seg")[f"{size}/seg/label.seg"] for size in ("23x38x3", "24x38x3")]),
    ("pet_fnndsc", lambda: [gold("pet_fnndsc")]),
]


@pytest.mark.parametrize(("name", "files"), SEGS)
def test_every_frame_of_a_seg_lies_on_its_slice(name, files):
    wanted = Counter(
        (file["segments"][str(frame["segment"])], round(frame["z"], 2), frame["area"], *frame["box"])
        for file in files()
        for frame in file["frames"]
        if frame["area"]
    )
    found = without_limits(name)
    counted = Counter((r.raw, height(rec), int(r.area_px), *in_source(rec, r.box)) for rec, r in found.regions)
    assert counted == wanted


def test_segs_and_the_label_maps_that_they_were_made_from_say_the_same():
    def content(name, *left_out):
        regions = ((height(record), *said(r), r.mask) for record, r in without_limits(name).regions)
        return Counter(one for one in regions if one[1] not in left_out)

    assert content("dcmqi_ct") == content("dcmqi_nrrd", "heart", "thoracic_spine")
    assert content("dcmqi_small") == content("dcmqi_multiframe")


def test_a_label_map_seg_has_frames_for_some_slices_only():
    plain, padded = without_limits("dcmqi_sparse"), at_path("dcmqi_sparse", "sparse-labelmap-ppv5.dcm")
    assert [(r.picture.index, region.area_px) for r, region in plain.regions] == [(0, 315), (2, 315)]
    assert plain.regions == padded.regions
    mask = sitk.ReadImage(str(plain.root / "sparse_labelmap_noppv_seg.nrrd"))
    index = np.rint(voxels(plain.records, ("liver", None), mask)).astype(int)
    assert sitk.GetArrayFromImage(mask)[index[:, 2], index[:, 1], index[:, 0]].all()


def test_a_seg_of_another_series_is_refused():
    found = at_path("highdicom_ct", "seg_image_ct_true_fractional.dcm")
    assert found.reasons("case") == {"geometry_mismatch": 1}
    found = at_path("dcmqi_ct", "sparse-labelmap-noppv.dcm")
    assert found.reasons("case") == {"geometry_mismatch": 1}


def test_segments_of_slides_are_where_highdicom_puts_them():
    found = as_written("highdicom_slides")
    assert len(found.records) == 2
    more = at_path("highdicom_slides", "seg_image_sm_{kind:control}_labelmap_palette_color.dcm", optional=True)
    for case, read in (*zip(found.cases, found.reads, strict=True), (more.cases[0], more.reads[0])):
        (record,) = read.records
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of missing optional attributes
            seg = hd.seg.segread(found.root / case.files["0"][0])
            matrix = seg.get_total_pixel_matrix()
            image = hd.imread(found.root / case.files["image"][0]).get_total_pixel_matrix(apply_icc_profile=False)
        np.testing.assert_array_equal(pictures.pixels_of(record.picture.bytes), image)
        masks = {region.raw: mask_of(record, region) for region in record.regions}
        for place, number in enumerate(seg.segment_numbers):
            wanted, label = matrix[..., place] > 0, seg.get_segment_description(number).segment_label
            if wanted.any() and label != "Background":
                np.testing.assert_array_equal(masks.pop(label), wanted)
        assert masks == {}


STRUCTURES = [
    ("rtstruct_dicompyler", "rtss.dcm", 1),
    ("rtstruct_rtutils", "mock_data/rt.dcm", 1),
    # of three planes two have a slice, whatever images the contours refer to
    ("rtstruct_rtutils", "empty/dummy_rt.dcm", 8),
    ("rtstruct_rtutils", "mock_data/invalid_reference_rt.dcm", 8),
    ("rtstruct_rtutils", "mock_data/non_existent_reference_rt.dcm", 8),
]


@pytest.mark.parametrize(("name", "file", "count"), STRUCTURES)
def test_contours_lie_on_the_slices_that_are_there(name, file, count):
    found = at_path(name, file, limits=descriptor.NO_LIMITS)
    corners = {}
    dataset = pydicom.dcmread(found.root / file, force=True)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence", ()):
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            if np.ptp(points, axis=0)[:2].min() > 1:  # mm: a sliver may hold no pixel's centre
                corners.setdefault((names[item.ReferencedROINumber], round(points[0, 2], 2)), []).append(points)
    for record, region in found.regions:
        image = pydicom.dcmread(found.root / found.cases[0].files["image"][0], stop_before_pixels=True)
        points = np.concatenate(corners[region.raw, height(record)])[:, :2]
        px = (points - image.ImagePositionPatient[:2]) / image.PixelSpacing[::-1] + 0.5
        np.testing.assert_allclose(in_source(record, region.box), [*px.min(axis=0), *px.max(axis=0)], atol=1)
    assert len(found.regions) == count


def test_contours_are_where_gold_has_them():
    for name in ("rtstruct_dicompyler", "rtstruct_rtutils"):
        ((record, region),) = without_limits(name).regions
        (place,) = (place for one in gold(name).values() for place in one["on_present_slices"])
        assert height(record) == round(place["z"], 2)
        # a corner is the centre of a px; below the body of the plan lie two slivers that hold none
        x0, y0, x1, y1 = in_source(record, region.box)
        np.testing.assert_allclose((x0, y0, x1), np.add(place["vertex_box"][:3], 0.5), atol=0.5)
        assert place["vertex_box"][3] - 8 < y1 - 0.5 <= place["vertex_box"][3]


def test_an_oblique_stack_is_called_so():
    oblique = [record for record in as_written("rtstruct_rtutils_series").records if record.case == "oriented_data"]
    assert {record.picture.plane for record in oblique} == {"oblique"}


# ---- DICOM pictures


def test_what_pydicom_decodes_is_kept_but_for_objects_that_mark_others():
    found = without_limits("pydicom_files")
    marks = {"Segmentation Storage", "RT Dose Storage"}
    for case, read in zip(found.cases, found.reads, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(found.root / case.files["image"][0], force=True)
            try:
                pixels = dataset.pixel_array
            except (AttributeError, RuntimeError, ValueError):
                continue
        if getattr(dataset.SOPClassUID, "name", "") in marks:
            assert [row.reason for row in read.rejected] == ["not_an_image"], case.id
            continue
        assert read.records, case.id
        if dataset.PhotometricInterpretation == "RGB" and pixels.dtype == np.uint8 and pixels.ndim == 3:
            np.testing.assert_array_equal(pictures.pixels_of(read.records[0].picture.bytes), pixels)
    assert found.reasons("case") == {"not_an_image": 23, "undecodable": 4, "truncated": 1}
    by_simpleitk = {record.case for record in found.records if "decoded by SimpleITK" in record.history}
    assert by_simpleitk == {"JPEG-lossy", "JPGExtended", "SC_rgb_jpeg_gdcm"}


def test_of_white_is_zero_the_bones_are_white():
    (film,) = (record for record in as_written("highdicom_pictures").records if record.case == "dx_image")
    dataset = pydicom.dcmread(root_of("highdicom_pictures") / "dx_image.dcm")
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    shown = pictures.pixels_of(film.picture.bytes)
    assert np.corrcoef(shown.ravel(), dataset.pixel_array.ravel())[0, 1] < -0.95


# ---- video


def test_clips_have_as_many_frames_as_can_be_read():
    found = as_written("pocus_video")
    frames = {Path(path).stem: numbers for path, numbers in gold("video").items()}
    clips = {case.id: read for case, read in zip(found.cases, found.reads, strict=True) if case.id in frames}
    assert {name: read.tally.pictures_cut for name, read in clips.items()} == {
        name: numbers["frames_read"] for name, numbers in frames.items()
    }
    for name, read in clips.items():
        numbers = frames[name]
        assert {(r.picture.width, r.picture.height) for r in read.records} == {tuple(numbers["size"])}
        taken = [round(second * numbers["fps"] + 0.499) for second in range(len(read.records))]
        assert np.abs(np.subtract([r.picture.index for r in read.records], taken)).max() <= 1
        assert len(read.records) in (int(numbers["frames_read"] / numbers["fps"]) + extra for extra in (0, 1))


def test_frames_are_numbered_as_another_program_numbers_them():
    frames = descriptor.Frames(every_s=None)
    source = source_of("pocus_video", frames=frames)
    (case,) = (case for case in plan(source.descriptor, source.root).cases if case.id == "Vir_prospective_file1")
    records = {record.picture.index: record for record in read_case(case, source).records}
    stills = sorted((DATA / "us_folders_derived").rglob("Vir_prospective_file1_f*.jpg"))
    assert stills
    for still in stills:
        number, wanted = int(still.stem[-4:]), np.asarray(Image.open(still).convert("L"), int)
        off = {
            index: np.abs(np.asarray(pictures.pixels_of(records[index].picture.bytes), int) - wanted).mean()
            for index in range(number - 3, number + 4)
        }
        assert min(off, key=lambda index: off[index]) == number
        assert off[number] < 3  # it was a JPEG


def test_each_clip_has_the_licence_label_and_patient_of_its_row():
    found = as_written("pocus_video")
    assert Counter(case.captures["meta.License"] for case in found.cases) == {"CC BY 4.0": 20, "CC BY 2.0": 5}
    assert {record.license for record in found.records} == {"CC BY 4.0", "CC BY 2.0"}
    assert len({record.group for record in found.records}) == 14
    of_class = {record.case: next(region.label for region in record.regions) for record in found.records}
    assert Counter(of_class.values()) == {
        "covid_19": 8,
        "normal": 11,
        "viral_pneumonia": 3,
        "bacterial_pneumonia": 2,
        "pneumonia": 1,
    }
    terms = source_of("pocus_video").descriptor.license.model_copy(update={"each": {}})
    rule = descriptor.LicenseRule(drop=True)
    terms = terms.model_copy(update={"each": {"CC BY 4.0": descriptor.LicenseRule(), "CC BY 2.0": rule}})
    assert found_in("pocus_video", license=terms).reasons("case") == {"license": 5}
