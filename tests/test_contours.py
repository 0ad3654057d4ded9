"""DICOM RTSTRUCT: contours in mm become the voxels whose centres they go round, on the slice they lie in."""

import json
import os
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from pipeline import discovery
from pipeline.errors import Unusable
from pipeline.ingest import contours, segments, series
from pipeline.ingest.geometry import Volume, to_lps

NAME = "DOE^JANE^SECRET"
COUNT, ROWS, COLUMNS = 6, 20, 24
SPACING, STEP = (0.9, 0.7), 2.5
"""PixelSpacing: between rows, between columns; mm from slice to slice."""
ORIGIN = np.array([-10.0, -20.0, 100.0])
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TURNS = {
    "axial": AXIAL,
    "mirrored": (-1, 0, 0, 0, 1, 0),
    "flipped": (1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "turned": (0, -1, 0, 1, 0, 0),
    "oblique": (0.98480775, 0.17364818, 0, -0.17364818, 0.98480775, 0),
}


def directions(orientation=AXIAL) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return row, column, np.cross(row, column)


def in_mm(columns, rows, plane, orientation=AXIAL) -> np.ndarray:
    """LPS mm of places on a stored slice; pixel (0, 0) has its centre at (0, 0), its edge at (-0.5, -0.5)."""
    row, column, normal = directions(orientation)
    columns, rows = np.asarray(columns, float)[:, None], np.asarray(rows, float)[:, None]
    return ORIGIN + columns * row * SPACING[1] + rows * column * SPACING[0] + plane * normal * STEP


def rectangle(x0, y0, x1, y1, plane, orientation=AXIAL) -> np.ndarray:
    """The outline of columns x0 to x1 and rows y0 to y1, half-open, along the edges of the pixels."""
    return in_mm(np.array([x0, x1, x1, x0]) - 0.5, np.array([y0, y0, y1, y1]) - 0.5, plane, orientation)


def volume_of(orientation=AXIAL, count=COUNT, step=None) -> Volume:
    row, column, normal = directions(orientation)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * SPACING[1], column * SPACING[0]
    affine[:3, 2], affine[:3, 3] = normal * STEP if step is None else step, ORIGIN
    return to_lps(np.zeros((COLUMNS, ROWS, count), np.int16), affine)


def by_itk(stored: np.ndarray, orientation=AXIAL) -> np.ndarray:
    """Turn (slice, row, column) to LPS (z, y, x) with SimpleITK."""
    image = sitk.GetImageFromArray(stored.astype(np.uint8))
    image.SetDirection(np.stack(directions(orientation), axis=1).ravel().tolist())
    image.SetSpacing((SPACING[1], SPACING[0], STEP))
    image.SetOrigin(ORIGIN.tolist())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def empty(sop_class: str) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = sop_class, generate_uid()
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = NAME, NAME, "19700101", "F"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.3", "1.2.5", "1.2.4"
    d.StudyID, d.SeriesNumber, d.AccessionNumber = "1", 1, ""
    d.StudyDate, d.StudyTime, d.ReferringPhysicianName, d.Manufacturer = "20200101", "120000", "", "toy"
    return d


def item(**values) -> Dataset:
    d = Dataset()
    for key, value in values.items():
        setattr(d, key, value)
    return d


def contour(points, sop=None, kind="CLOSED_PLANAR") -> Dataset:
    data = [f"{value:.6f}".rstrip("0") for value in np.ravel(points)]
    found = item(ContourGeometricType=kind, NumberOfContourPoints=len(data) // 3, ContourData=data)
    if sop:
        found.ContourImageSequence = [item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=sop)]
    return found


def struct(structures: dict[str, list]) -> Dataset:
    """An RTSTRUCT: name to contours, each points or a made item."""
    d = empty(contours.SOP_CLASS)
    d.Modality, d.StructureSetLabel = "RTSTRUCT", "s"
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    for n, (name, drawn) in enumerate(structures.items(), 1):
        d.StructureSetROISequence.append(item(ROINumber=n, ROIName=name, ROIGenerationAlgorithm="MANUAL"))
        made = [c if isinstance(c, Dataset) else contour(c) for c in drawn]
        of_roi = item(ReferencedROINumber=n, ROIDisplayColor=[255, 0, 0])
        if made:
            of_roi.ContourSequence = made
        d.ROIContourSequence.append(of_roi)
    return d


@pytest.fixture
def saved(tmp_path):
    def save(dataset: Dataset) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return save


def read(path, volume=None, **keys) -> dict[str, np.ndarray]:
    return {s.raw: s.array for s in contours.read(path, volume_of() if volume is None else volume, **keys)}


def refused(path, volume=None, **keys) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read(path, volume, **keys)
    assert "DOE" not in str(caught.value)
    return caught.value


BOX = (5, 3, 15, 10)
"""Columns 5 to 14 and rows 3 to 9."""


def boxed(*planes: int, count=COUNT, box=BOX) -> np.ndarray:
    mask = np.zeros((count, ROWS, COLUMNS), np.uint8)
    for plane in planes:
        mask[plane, box[1] : box[3], box[0] : box[2]] = 1
    return mask


# ---- place


@pytest.mark.parametrize("turn", TURNS)
def test_outlines_along_pixel_edges_hold_those_pixels_in_every_orientation(saved, turn):
    path = saved(struct({"liver": [rectangle(*BOX, plane, TURNS[turn]) for plane in (1, 2, 4)]}))
    volume = volume_of(TURNS[turn])
    (found,) = contours.read(path, volume)
    assert (found.raw, found.planes_outside, found.left_out) == ("liver", 0, 0)
    assert (found.array.dtype, found.array.shape) == (np.uint8, volume.array.shape)
    np.testing.assert_array_equal(found.array, by_itk(boxed(1, 2, 4), TURNS[turn]))


def source(orientation=AXIAL, places=None) -> list[Dataset]:
    """Images whose pixels show the box: 100 within, 0 outside."""
    found = []
    for n in range(COUNT):
        d = empty(CTImageStorage)
        d.Modality, d.PositionReferenceIndicator, d.InstanceNumber = "CT", "", n + 1
        d.Rows, d.Columns, d.PixelSpacing, d.SliceThickness = ROWS, COLUMNS, list(SPACING), STEP
        where = in_mm([0], [0], n, orientation)[0] if places is None else places[n]
        d.ImagePositionPatient = np.round(where, 6).tolist()
        d.ImageOrientationPatient = list(orientation)
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.PixelData = (boxed(1, 2, 4)[n] * 100).astype("<u2").tobytes()
        found.append(d)
    return found


STACKS = {
    "even": np.arange(COUNT) * STEP,
    "gap": np.array([0.0, 2.5, 5.0, 12.5, 15.0, 17.5]),
    "uneven": np.array([0.0, 2.5, 7.5, 10.0, 14.0, 16.0]),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("lean", [0.0, 0.3], ids=["straight", "leaning"])
def test_a_box_in_the_pixels_as_seg_of_any_type_and_as_rtstruct_is_the_same_voxels(saved, turn, stack, lean):
    _, column, normal = directions(TURNS[turn])
    heights = STACKS[stack][:, None]
    places = ORIGIN + heights * (normal + lean * column)
    images = source(TURNS[turn], places)
    (read_in,) = series.read([saved(image) for image in images]).stacks
    volume, sops = read_in.volume, read_in.sops
    shown = (volume.array == 100).astype(np.uint8)
    assert shown.sum() == 3 * 70
    flat = rectangle(*BOX, 0, TURNS[turn]) - ORIGIN
    drawn = [contour(places[n] + flat, images[n].SOPInstanceUID) for n in (1, 2, 4)]
    np.testing.assert_array_equal(read(saved(struct({"liver": drawn})), volume, sops=sops)["liver"], shown)
    described = hd.seg.SegmentDescription(
        1, "liver", codes.SCT.Organ, codes.SCT.Liver, hd.seg.SegmentAlgorithmTypeValues.MANUAL
    )
    for kind in ("BINARY", "FRACTIONAL", "LABELMAP"):
        seg = hd.seg.Segmentation(
            images, boxed(1, 2, 4), kind, [described], generate_uid(), 2, generate_uid(), 1, "toy", "toy", "1", "1"
        )
        ((_, array),) = segments.read(saved(seg), volume, sops)
        np.testing.assert_array_equal(array, shown)


def test_corners_on_centres_enclose_the_pixels_of_their_area(saved):
    # from the centre of column 5 to that of column 15: 10 columns wide, whatever the last digit of the mm says
    for seed in range(5):
        noise = np.random.default_rng(seed).uniform(-1e-5, 1e-5, (4, 3))
        path = saved(struct({"liver": [in_mm([5, 15, 15, 5], [3, 3, 10, 10], 2) + noise]}))
        np.testing.assert_array_equal(read(path)["liver"], boxed(2))


def uneven() -> tuple[Volume, np.ndarray]:
    """Slices 2.5, 5, 2.5, 4 and 2 mm apart, leaning, and mm from where an even stack would have them."""
    heights = np.array([0.0, 2.5, 7.5, 10.0, 14.0, 16.0])
    places = ORIGIN + np.stack([0 * heights, 0.3 * heights, heights], axis=1)
    even = volume_of()
    shifts = places - (ORIGIN + np.arange(COUNT)[:, None] * [0, 0, STEP])
    return Volume(even.array, even.affine, even.stored_axes, even.flipped, "known", shifts=shifts, stack=2), shifts


def test_a_contour_lies_on_the_slice_of_an_uneven_stack_whose_plane_it_is_in(saved):
    volume, shifts = uneven()
    drawn = [rectangle(*BOX, plane) + shifts[plane] for plane in range(COUNT)]
    np.testing.assert_array_equal(read(saved(struct({"liver": drawn})), volume)["liver"], boxed(*range(COUNT)))


def test_a_contour_in_a_gap_of_an_uneven_stack_is_outside(saved):
    volume, shifts = uneven()
    between = rectangle(*BOX, 1) + shifts[1] + (0, 0, 2.0)
    (found,) = contours.read(saved(struct({"liver": [rectangle(*BOX, 0), between]})), volume)
    assert (int(found.array.sum()), found.planes_outside) == (70, 1)


def test_a_leaning_stack_is_no_trouble(saved):
    lean = np.array([0.0, 0.4, STEP])
    drawn = [rectangle(*BOX, n) + n * (lean - (0, 0, STEP)) for n in (1, 5)]
    np.testing.assert_array_equal(read(saved(struct({"liver": drawn})), volume_of(step=lean))["liver"], boxed(1, 5))


@pytest.mark.parametrize(("off", "plane"), [(0.0, 2), (0.3, 2), (-0.4, 2), (0.6, 3), (0.49, 2)])
def test_a_contour_off_its_slice_belongs_to_the_nearest_whatever_it_refers_to(saved, off, plane):
    sops = [f"1.2.{n}" for n in range(COUNT)]
    for sop in (None, "1.2.5", "9.9.9"):
        path = saved(struct({"liver": [contour(rectangle(*BOX, 2 + off), sop)]}))
        np.testing.assert_array_equal(read(path, sops=sops)["liver"], boxed(plane))


@pytest.mark.parametrize(("sop", "plane"), [("1.2.2", 2), ("1.2.3", 3)])
def test_half_way_between_two_slices_the_image_that_it_refers_to_counts(saved, sop, plane):
    path = saved(struct({"liver": [contour(rectangle(*BOX, 2.5), sop)]}))
    np.testing.assert_array_equal(read(path, sops=[f"1.2.{n}" for n in range(COUNT)])["liver"], boxed(plane))


def test_planes_that_lie_closer_than_the_slices_do_not_cut_holes_in_each_other(saved):
    drawn = [rectangle(2, 2, 20, 18, 2 + off) for off in (-0.4, -0.2, 0.2)] + [rectangle(*BOX, 2.05)]
    np.testing.assert_array_equal(read(saved(struct({"liver": drawn})))["liver"], boxed(2))


# ---- inside and outside


def test_contours_beside_the_volume_are_counted_and_the_others_kept(saved):
    drawn = [rectangle(*BOX, plane) for plane in (-4, -3, -3, 0, 4, 7, 8.2)]
    (found,) = contours.read(saved(struct({"liver": drawn})), volume_of())
    assert found.planes_outside == 4
    np.testing.assert_array_equal(found.array, boxed(0, 4))


def test_one_slice_of_many_keeps_the_contours_that_lie_on_it(saved):
    drawn = {"liver": [rectangle(*BOX, plane) for plane in range(-9, 9)], "lung": [rectangle(*BOX, 3)]}
    liver, lung = contours.read(saved(struct(drawn)), volume_of(count=1))
    assert (liver.planes_outside, int(liver.array.sum())) == (17, 70)
    assert (lung.planes_outside, int(lung.array.sum())) == (1, 0)


@pytest.mark.parametrize("by", [(0, 0, 50.0), (400.0, 0, 0), (0, -400.0, 0)])
def test_where_no_contour_lies_on_the_volume_it_is_outside(saved, by):
    path = saved(struct({"liver": [rectangle(*BOX, 1) + by, rectangle(*BOX, 2) + by], "lung": []}))
    error = refused(path)
    assert (error.reason, error.detail) == ("mask_outside", "none of 2 contours lies on the volume")


def test_what_leaves_a_slice_is_clipped(saved):
    path = saved(struct({"body": [rectangle(-50, -50, 60, 4, 2)]}))
    np.testing.assert_array_equal(read(path)["body"], boxed(2, box=(0, 0, COLUMNS, 4)))


def test_contours_across_the_slices_are_a_mismatch(saved):
    path = saved(struct({"liver": [rectangle(*BOX, n, TURNS["coronal"]) for n in range(3)]}))
    sops = [f"1.2.{n}" for n in range(COUNT)]
    error = refused(path, sops=sops)
    assert (error.reason, error.detail) == (
        "geometry_mismatch", "contours were drawn on coronal planes, the slices are axial"
    )  # fmt: skip
    tilted = (*TURNS["oblique"][:3], 0.0, 0.7071068, 0.7071068)
    error = refused(saved(struct({"liver": [rectangle(*BOX, n, tilted) for n in range(3)]})))
    assert error.reason == "geometry_mismatch"
    assert error.detail == "a contour runs through several slices: it was drawn on other planes"


@pytest.mark.parametrize("geometry", ["unknown", "assumed"])
def test_a_volume_without_a_place_takes_no_contours(saved, geometry):
    v = volume_of()
    volume = Volume(v.array, v.affine, v.stored_axes, v.flipped, geometry)
    assert refused(saved(struct({"liver": [rectangle(*BOX, 1)]})), volume).reason == "no_geometry"


# ---- holes


def test_a_contour_within_another_is_a_hole_and_a_keyhole_is_the_same(saved):
    outer, inner = rectangle(2, 2, 20, 18, 3), rectangle(8, 6, 12, 10, 3)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])
    wanted = boxed(3, box=(2, 2, 20, 18)) - boxed(3, box=(8, 6, 12, 10))
    path = saved(struct({"two": [outer, inner], "keyhole": [keyhole], "xor": [
        contour(outer, kind="CLOSEDPLANAR_XOR"), contour(inner, kind="CLOSEDPLANAR_XOR")]}))  # fmt: skip
    for array in read(path).values():
        np.testing.assert_array_equal(array, wanted)


def test_contours_beside_each_other_on_one_slice_are_one_structure(saved):
    path = saved(struct({"lungs": [rectangle(2, 2, 6, 9, 3), rectangle(12, 2, 20, 9, 3)]}))
    wanted = boxed(3, box=(2, 2, 6, 9)) + boxed(3, box=(12, 2, 20, 9))
    np.testing.assert_array_equal(read(path)["lungs"], wanted)


# ---- what a file says


def test_structures_come_in_the_files_order_overlap_and_may_be_empty(saved):
    drawn = {"b": [rectangle(*BOX, 1)], "empty": [], "a": [rectangle(*BOX, 1), rectangle(*BOX, 2)]}
    dataset = struct(drawn)
    dataset.StructureSetROISequence.append(item(ROINumber=9, ROIName="not drawn"))
    found = [(s.raw, int(s.array.sum())) for s in contours.read(saved(dataset), volume_of())]
    assert found == [("b", 70), ("empty", 0), ("a", 140), ("not drawn", 0)]


def test_an_rtstruct_without_any_contour_has_empty_structures(saved):
    assert {raw: array.any() for raw, array in read(saved(struct({"a": [], "b": []}))).items()} == {
        "a": False, "b": False
    }  # fmt: skip


@pytest.mark.parametrize(("name", "wanted"), [(" left  lung\n", "left lung"), ("", "structure 1"), ("肝", "肝")])
def test_a_name_is_the_structures_own_or_its_number(saved, name, wanted):
    dataset = struct({name: [rectangle(*BOX, 1)]})
    dataset.SpecificCharacterSet = "ISO_IR 192"
    assert list(read(saved(dataset))) == [wanted]


def test_points_and_open_lines_enclose_nothing_and_are_counted(saved):
    lines = [contour(rectangle(*BOX, 2), kind="OPEN_PLANAR"), contour(rectangle(*BOX, 2)[:1], kind="POINT")]
    lines += [contour(rectangle(*BOX, 2)[:2]), contour([])]
    (found,) = contours.read(saved(struct({"liver": [rectangle(*BOX, 1), *lines]})), volume_of())
    assert (found.left_out, int(found.array.sum())) == (4, 70)
    error = refused(saved(struct({"liver": lines})))
    assert (error.reason, error.detail) == (
        "bad_annotation", "no closed contour; 4 points and open lines enclose nothing"
    )  # fmt: skip


def test_implicit_vr_and_padded_numbers_are_read(saved):
    drawn = contour(rectangle(*BOX, 1))
    drawn.ContourData = [f" {value} " for value in drawn.ContourData]
    dataset = struct({"liver": [drawn]})
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    np.testing.assert_array_equal(read(saved(dataset))["liver"], boxed(1))


def test_other_objects_are_named(saved, tmp_path):
    error = refused(saved(source()[0]))
    assert (error.reason, error.detail) == ("bad_annotation", "not an RTSTRUCT but CT Image Storage")
    assert refused(tmp_path / "none.dcm").reason == "missing_mask"


@pytest.mark.parametrize("text", [b"x.abc", b"  nan", b"1e300", b"     ", b"-6,85"])
def test_coordinates_that_are_no_numbers_are_refused(saved, text):
    path = saved(struct({"liver": [rectangle(*BOX, 1)]}))
    data = path.read_bytes()
    assert data.count(b"-6.85\\") == 2
    path.write_bytes(data.replace(b"-6.85", text))
    error = refused(path)
    assert error.reason == "bad_annotation"
    assert "x, y, z in mm" in error.detail or "(ValueError)" in error.detail


def test_coordinates_that_are_not_threes_are_refused(saved):
    error = refused(saved(struct({"liver": [contour(np.arange(10))]})))
    assert error.detail == "contour 0 of structure 1 is not x, y, z in mm, point by point"


@pytest.mark.parametrize("key", ["StructureSetROISequence", "ROINumber", "ReferencedROINumber", "ContourData"])
def test_an_rtstruct_without_what_it_needs_is_refused(saved, key):
    dataset = struct({"liver": [rectangle(*BOX, 1)]})
    (roi,), (drawn,) = dataset.StructureSetROISequence, dataset.ROIContourSequence
    for holder in (dataset, roi, drawn, drawn.ContourSequence[0]):
        if key in holder:
            delattr(holder, key)
    assert refused(saved(dataset)).reason == "bad_annotation"


def test_contours_of_a_structure_that_is_not_described_are_refused(saved):
    dataset = struct({"liver": [rectangle(*BOX, 1)]})
    dataset.ROIContourSequence[0].ReferencedROINumber = 7
    error = refused(saved(dataset))
    assert error.detail == "contours are of structure 7, which is not described"


def test_a_file_cut_or_changed_anywhere_is_read_or_refused(saved):
    path = saved(struct({"liver": [contour(rectangle(*BOX, n), f"1.2.{n}") for n in range(3)], "lung": []}))
    data, rng = path.read_bytes(), np.random.default_rng(6)
    found, said = set(), []
    for n in range(200):
        changed = bytearray(data)
        for at in rng.integers(132, len(data), 3):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed if n % 4 else data[: rng.integers(0, len(data))])
        try:
            read(path, sops=[f"1.2.{n}" for n in range(COUNT)])
        except Unusable as error:
            found.add(error.reason)
            said.append(str(error))
    assert "DOE" not in repr(said)
    assert found <= {
        "truncated", "undecodable", "unreadable", "empty_file", "bad_annotation", "geometry_mismatch", "mask_outside",
    }  # fmt: skip


# ---- real files

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder")
DICOMPYLER, RT_UTILS = "rtstruct_dicompyler/tests/testdata/example_data", "rtstruct_rtutils/tests/mock_data"


@real
@pytest.mark.parametrize(
    ("folder", "file", "images", "gold"),
    [(DICOMPYLER, "rtss.dcm", "ct.*.dcm", "rtstruct_dicompyler"), (RT_UTILS, "rt.dcm", "ct_*.dcm", "rtstruct_rtutils")],
)
def test_real_structures_lie_on_the_slices_and_within_the_boxes_of_the_reference(folder, file, images, gold):
    said = json.loads((DATA / "GOLD.json").read_text())[gold]
    (stack,) = series.read(sorted((DATA / folder).glob(images))).stacks
    found = {s.raw: s for s in contours.read(DATA / folder / file, stack.volume, stack.sops)}
    assert list(found) == list(said)
    for raw, wanted in said.items():
        planes = np.flatnonzero(found[raw].array.any(axis=(1, 2))).tolist()
        assert [stack.sops[plane][-12:] for plane in planes] == [
            on["sop"][-12:] for on in wanted["on_present_slices"]
        ], raw
        for plane, on in zip(planes, wanted["on_present_slices"], strict=True):
            rows, columns = np.nonzero(found[raw].array[plane])
            x0, y0, x1, y1 = on["vertex_box"]  # of centres; slivers below a pixel at the lower edge hold none
            assert (columns.min(), rows.min()) == (np.ceil(x0), np.ceil(y0))
            assert columns.max() + 1 == np.ceil(x1)
            assert 0 <= np.ceil(y1) - (rows.max() + 1) <= 7
    assert found[next(iter(said))].array.sum() == {"rtss.dcm": 40395, "rt.dcm": 1443}[file]


@real
@pytest.mark.parametrize("file", ["invalid_reference_rt.dcm", "non_existent_reference_rt.dcm"])
def test_real_structures_whose_references_dangle_lie_where_they_were_drawn(file):
    (stack,) = series.read(sorted((DATA / RT_UTILS).glob("ct_*.dcm"))).stacks
    found = list(contours.read(DATA / RT_UTILS / file, stack.volume, stack.sops))
    assert [(s.raw, s.planes_outside) for s in found] == [(f"ROI-{n}", 1) for n in range(1, 5)]
    assert [s.array.sum(axis=(1, 2)).tolist() for s in found] == [
        [3010, 1966],
        [1415, 2282],
        [2747, 1772],
        [2419, 4535],
    ]
