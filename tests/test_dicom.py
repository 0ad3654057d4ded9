"""DICOM series and segmentations: sorted by position, refused with a reason, never guessed."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pipeline.errors import Unusable
from pipeline.ingest import dicom
from pipeline.ingest.geometry import placed

NAME = "DOE^JANE^SECRET"
ROWS, COLUMNS, COUNT = 20, 24, 6
SPACING, THICKNESS = (0.9, 0.7), 2.5
"""PixelSpacing: between rows, between columns."""
HU = np.random.default_rng(8).integers(-1000, 1000, (COUNT, ROWS, COLUMNS)).astype(np.int16)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES, FRAME, STUDY = generate_uid(entropy_srcs=["series"]), generate_uid(entropy_srcs=["frame"]), generate_uid()


def ct_slice(number: int, hu: np.ndarray, position=None, orientation=AXIAL, series=SERIES, **more) -> Dataset:
    normal = np.cross(orientation[:3], orientation[3:])
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = NAME, NAME, "19700101", "F"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY, series, FRAME
    d.StudyID, d.SeriesNumber, d.InstanceNumber, d.AccessionNumber = "1", 1, number + 1, ""
    d.StudyDate, d.StudyTime, d.ReferringPhysicianName, d.Manufacturer = "20200101", "120000", "", "toy"
    d.Modality, d.PositionReferenceIndicator = "CT", ""
    d.Rows, d.Columns = hu.shape
    d.PixelSpacing, d.SliceThickness = list(SPACING), THICKNESS
    where = np.array([-10.0, -20.0, 100.0]) + normal * number * THICKNESS if position is None else np.array(position)
    d.ImagePositionPatient = [float(round(value, 6)) for value in where]
    d.ImageOrientationPatient = list(orientation)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.RescaleIntercept, d.RescaleSlope = -1024, 1
    d.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    for key, value in more.items():
        setattr(d, key, value)
    return d


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def series(tmp_path):
    """Write a series under shuffled names; returns the paths as the plan lists them, sorted by name."""

    def make(slices, folder="s") -> list[Path]:
        names = np.random.default_rng(1).permutation(len(slices))
        return sorted(save(d, tmp_path / folder / f"{name:03d}.dcm") for d, name in zip(slices, names, strict=True))

    return make


def slices(**more) -> list[Dataset]:
    return [ct_slice(n, HU[n], **more) for n in range(COUNT)]


def refused(paths) -> Unusable:
    with pytest.raises(Unusable) as caught:
        dicom.read_series(paths)
    assert NAME not in str(caught.value)
    assert "DOE" not in str(caught.value)
    return caught.value


def by_itk(paths) -> sitk.Image:
    """SimpleITK on the list in the order of the stack, then turned to LPS."""
    ordered = sorted(paths, key=lambda path: int(pydicom.dcmread(path, stop_before_pixels=True).InstanceNumber))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in ordered])
    return sitk.DICOMOrient(reader.Execute(), "LPS")


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (0, -1, 0, 1, 0, 0),
     (0.98480775, 0.17364818, 0, -0.17364818, 0.98480775, 0)],
    ids=["axial", "mirrored", "flipped", "coronal", "sagittal", "turned", "oblique"],
)  # fmt: skip
def test_a_series_with_shuffled_names_is_sorted_by_position(series, orientation):
    paths = series(slices(orientation=orientation))
    volume, itk = dicom.read_series(paths), by_itk(paths)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing(), atol=1e-4)
    assert (volume.geometry, volume.array.dtype) == ("known", np.int16)
    for index in [(0, 0, 0), tuple(n - 1 for n in itk.GetSize()), (3, 2, 1)]:
        wanted = itk.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], wanted, atol=1e-3)


def test_the_order_of_the_files_does_not_matter(series):
    paths = series(slices())
    np.testing.assert_array_equal(dicom.read_series(paths[::-1]).array, HU)


def test_rows_and_columns_keep_their_own_spacing(series):
    assert dicom.read_series(series(slices())).spacing == pytest.approx((0.7, 0.9, 2.5))


def test_the_distance_between_slices_counts_and_not_their_thickness(series):
    stack = [ct_slice(n, HU[n], position=(0, 0, 1.25 * n)) for n in range(COUNT)]
    assert dicom.read_series(series(stack)).spacing[2] == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int16), (2, 0, np.float32), (0.5, 0.25, np.float32), (1, 70000, np.int32)],
)
def test_intensities_are_rescaled(series, slope, intercept, dtype):
    stack = slices(RescaleSlope=slope, RescaleIntercept=intercept)
    found = dicom.read_series(series(stack)).array
    np.testing.assert_allclose(found, (HU.astype(np.float64) + 1024) * slope + intercept)
    assert found.dtype == dtype


@pytest.mark.parametrize("empty", [None, "missing"])
def test_a_rescale_that_is_empty_or_missing_is_none(series, empty):
    stack = slices(RescaleSlope=None, RescaleIntercept=None)
    for d in stack if empty == "missing" else ():
        del d.RescaleSlope, d.RescaleIntercept
    np.testing.assert_array_equal(dicom.read_series(series(stack)).array, HU.astype(np.int32) + 1024)


def test_one_slice_is_a_volume_as_thick_as_it_says(series):
    volume = dicom.read_series(series(slices()[:1]))
    assert (volume.array.shape, volume.spacing[2]) == ((1, ROWS, COLUMNS), 2.5)


def test_a_missing_slice_is_a_gap(series):
    error = refused(series([d for n, d in enumerate(slices()) if n != 3]))
    assert (error.reason, error.detail) == ("irregular_spacing", "slices lie 2.50 to 5.00 mm apart")


def test_a_slice_given_twice_is_refused(series):
    again = ct_slice(2, HU[2], SOPInstanceUID=generate_uid())
    error = refused(series([*slices(), again]))
    assert (error.reason, error.detail) == ("duplicate_slices", "1 slices share a position with another")


def test_two_series_in_one_folder_are_refused(series):
    error = refused(series([*slices(), ct_slice(9, HU[0], series=generate_uid())]))
    assert error.reason == "mixed_series"
    assert error.detail.startswith("7 slices of 2 series and 2 grids")


@pytest.mark.parametrize(
    "odd",
    [{"orientation": (1, 0, 0, 0, 0, -1)}, {"PixelSpacing": [0.9, 0.71]}],
    ids=["localizer", "spacing"],
)
def test_slices_on_another_grid_are_refused(series, odd):
    error = refused(series([*slices(), ct_slice(6, HU[0], **odd)]))
    assert error.reason == "mixed_series"
    assert error.detail.startswith("7 slices of 1 series and 2 grids")


@pytest.mark.parametrize(("degrees", "reason"), [(0.3, None), (2.0, "gantry_tilt"), (20.0, "gantry_tilt")])
def test_a_tilted_gantry_is_refused(series, degrees, reason):
    lean = np.tan(np.radians(degrees))
    stack = [ct_slice(n, HU[n], position=(0, n * 2.5 * lean, n * 2.5)) for n in range(COUNT)]
    if reason is None:
        assert dicom.read_series(series(stack)).array.shape == HU.shape
    else:
        error = refused(series(stack))
        assert error.reason == reason
        assert error.detail == f"the stack leans {degrees:.1f} degrees from the slices' normal"


@pytest.mark.parametrize("missing", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_slice_without_geometry_is_refused(series, missing, how):
    stack = slices()
    if how == "absent":
        delattr(stack[2], missing)
    else:
        setattr(stack[2], missing, None)
    assert refused(series(stack)).reason == "no_geometry"


@pytest.mark.parametrize(
    ("key", "value"),
    [("ImagePositionPatient", [1.0, 2.0]), ("ImageOrientationPatient", [1, 0, 0]), ("PixelSpacing", [0.5])],
)
def test_a_slice_with_half_a_geometry_is_refused(series, key, value):
    stack = slices()
    setattr(stack[2], key, value)
    assert refused(series(stack)).reason == "no_geometry"


def test_pixels_that_lie_on_no_plane_are_refused(series):
    assert refused(series(slices(orientation=(0, 0, 0, 0, 0, 0)))).reason == "no_geometry"


def test_colours_are_not_a_volume(series):
    stack = slices(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8)
    for d in stack:
        d.BitsStored, d.HighBit = 8, 7
        d.PixelData = bytes(ROWS * COLUMNS * 3)
    assert refused(series(stack)).reason == "not_3d"


def test_several_frames_in_a_slice_are_not_a_slice(series):
    stack = slices()
    stack[1].NumberOfFrames, stack[1].PixelData = 2, stack[1].PixelData * 2
    assert refused(series(stack)).reason == "not_3d"


def test_a_file_cut_anywhere_is_refused(series):
    paths = series(slices())
    data = paths[2].read_bytes()
    reasons = set()
    for size in [*range(1, 1400, 37), len(data) // 2, len(data) - 100]:
        paths[2].write_bytes(data[:size])
        reasons.add(refused(paths).reason)
    assert reasons <= {"truncated", "undecodable", "unreadable", "no_geometry"}
    paths[2].write_bytes(data[: len(data) // 2 + 300])
    assert refused(paths).reason == "truncated"


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty_file"), (b"not DICOM" * 100, "undecodable"), (b"\0" * 128 + b"DICM", "no_geometry")],
)
def test_what_is_not_dicom_is_refused(series, data, reason):
    paths = series(slices())
    paths[0].write_bytes(data)
    assert refused(paths).reason == reason


def test_a_file_that_vanished_is_missing(series):
    paths = series(slices())
    paths[0].unlink()
    assert refused(paths).reason == "missing_image"


def test_a_header_with_changed_bytes_is_a_volume_or_a_reason(series):
    paths = series(slices())
    data = paths[1].read_bytes()
    rng = np.random.default_rng(9)
    for _ in range(120):
        changed = bytearray(data)
        for at in rng.integers(132, len(data) - 2 * ROWS * COLUMNS, 2):
            changed[at] = rng.integers(0, 256)
        paths[1].write_bytes(changed)
        try:
            found = dicom.read_series(paths).array.shape
        except Unusable as error:
            found = str(error)
        assert "DOE" not in str(found)


# ---- compressed pixels


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEGLSLossless])
def test_compressed_slices_are_decoded(series, syntax):
    stack = slices()
    for d in stack:
        d.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(dicom.read_series(series(stack)).array, HU)


# ---- segmentations


def described(number: int, label: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def seg_of(sources, masks: dict[str, np.ndarray], omit=True) -> Dataset:
    pixels = np.stack(list(masks.values()), axis=-1).astype(np.uint8)
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described(n + 1, label) for n, label in enumerate(masks)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="toy",
        manufacturer_model_name="toy",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=omit,
    )


def organ(*slabs: int) -> np.ndarray:
    mask = np.zeros(HU.shape, bool)
    for number in slabs:
        mask[number, 4 + number : 10 + number, 6:15] = True
    return mask


@pytest.mark.parametrize("omit", [True, False])
@pytest.mark.parametrize("slabs", [(2, 3), (1, 4), (0, 5), (3,)], ids=["middle", "gap", "ends", "one"])
def test_a_segmentation_pairs_to_the_right_slices(series, tmp_path, slabs, omit):
    stack = slices()
    image = dicom.read_series(series(stack))
    path = save(seg_of(stack, {"liver": organ(*slabs)}, omit), tmp_path / "seg.dcm")
    ((label, mask),) = list(dicom.read_segments(path))
    assert label == "liver"
    np.testing.assert_array_equal(placed(image, mask).array, organ(*slabs))


def test_one_omitted_slice_pairs_even_where_slices_are_thicker_than_their_distance(series, tmp_path):
    stack = slices(SliceThickness=5.0)
    image = dicom.read_series(series(stack))
    path = save(seg_of(stack, {"liver": organ(3)}), tmp_path / "seg.dcm")
    ((_, mask),) = list(dicom.read_segments(path))
    np.testing.assert_array_equal(placed(image, mask).array, organ(3))


def test_segments_may_overlap(series, tmp_path):
    stack = slices()
    masks = {"liver": organ(1, 2), "kidney left": organ(2, 3)}
    path = save(seg_of(stack, masks, omit=False), tmp_path / "seg.dcm")
    found = {label: mask.array for label, mask in dicom.read_segments(path)}
    np.testing.assert_array_equal(found["liver"], masks["liver"])
    np.testing.assert_array_equal(found["kidney left"], masks["kidney left"])


def test_a_slice_is_not_a_segmentation(series):
    with pytest.raises(Unusable, match=r"^bad_annotation: not a DICOM SEG"):
        list(dicom.read_segments(series(slices())[0]))


def test_a_data_set_of_series_and_segmentations_is_read_without_names(data_set, series, tmp_path):
    stack = slices()
    root = tmp_path / "data"
    series(stack, "data/p1/ct")
    save(seg_of(stack, {"kidney left": organ(1, 4)}), root / "p1" / "seg.dcm")
    series([d for n, d in enumerate(slices()) if n != 3], "data/p2/ct")
    save(seg_of(stack, {"liver": organ(1)}), root / "p2" / "seg.dcm")
    yaml = """
cases: {match: "{p}/ct/*.dcm", id: "{p}", form: series}
annotations: [{kind: seg, path: "{p}/seg.dcm"}]
limits: none
"""
    toy = data_set(yaml, {}, modality="ct")
    read = toy.read()
    assert [record.id for record in read["p1"].records] == ["toy/p1/axial/z0001", "toy/p1/axial/z0004"]
    for record, number in zip(read["p1"].records, (1, 4), strict=True):
        (region,) = record.regions
        assert (region.label, region.side, region.raw) == ("kidney", "left", "kidney left")
        scale = 0.9 / 0.7  # rows are further apart than columns: square pixels stretch them
        wanted = (6, (4 + number) * round(20 * scale) / 20, 15, (10 + number) * round(20 * scale) / 20)
        assert region.box == pytest.approx(wanted)
        assert region.area_mm2 == pytest.approx(6 * 9 * 0.9 * 0.7)
    assert [(row.id, row.reason) for row in read["p2"].rejected] == [("toy/p2", "irregular_spacing")]
    assert "DOE" not in repr((toy.records(), toy.rejected(), toy.plan()))
