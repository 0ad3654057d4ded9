"""DICOM SEG of every type, written by highdicom and laid over volumes: each voxel where the file says it lies in mm."""

import json
import os
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from pipeline import discovery
from pipeline.errors import Unusable
from pipeline.ingest import seg_frames, segments
from pipeline.ingest.geometry import Volume, laid_over, to_lps

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
KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")


def directions(orientation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return row, column, np.cross(row, column)


def source(orientation=AXIAL, positions=None) -> list[Dataset]:
    """The images that a SEG is drawn on, in the order of the stack."""
    series, normal = generate_uid(), directions(orientation)[2]
    found = []
    for n in range(COUNT if positions is None else len(positions)):
        d = Dataset()
        d.file_meta = FileMetaDataset()
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID = CTImageStorage, generate_uid()
        d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = NAME, NAME, "19700101", "F"
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = "1.2.3", series, "1.2.4"
        d.StudyID, d.SeriesNumber, d.InstanceNumber, d.AccessionNumber = "1", 1, n + 1, ""
        d.StudyDate, d.StudyTime, d.ReferringPhysicianName, d.Manufacturer = "20200101", "120000", "", "toy"
        d.Modality, d.PositionReferenceIndicator = "CT", ""
        d.Rows, d.Columns, d.PixelSpacing, d.SliceThickness = ROWS, COLUMNS, list(SPACING), STEP
        where = ORIGIN + normal * STEP * n if positions is None else positions[n]
        d.ImagePositionPatient = [float(round(value, 6)) for value in where]
        d.ImageOrientationPatient = list(orientation)
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        found.append(d)
    return found


def volume_of(orientation=AXIAL, count=COUNT, step=None) -> Volume:
    row, column, normal = directions(orientation)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * SPACING[1], column * SPACING[0]
    affine[:3, 2], affine[:3, 3] = normal * STEP if step is None else step, ORIGIN
    return to_lps(np.zeros((COLUMNS, ROWS, count), np.int16), affine)


def by_itk(stored: np.ndarray, orientation=AXIAL) -> np.ndarray:
    """Turn (slice, row, column) to LPS (z, y, x) with SimpleITK."""
    image = sitk.GetImageFromArray(stored.astype(np.uint8))
    row, column, normal = directions(orientation)
    image.SetDirection(np.stack([row, column, normal], axis=1).ravel().tolist())
    image.SetSpacing((SPACING[1], SPACING[0], STEP))
    image.SetOrigin(ORIGIN.tolist())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def organ(*slabs: int, shift=0, count=COUNT) -> np.ndarray:
    """(slice, row, column); no symmetry in any axis."""
    mask = np.zeros((count, ROWS, COLUMNS), bool)
    for n in slabs:
        mask[n, 3 + n : 10 + n, 6 + shift : 15 + shift] = True
        mask[n, 4 + n, 2 + shift] = True
    return mask


def described(number: int, label: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def seg_of(images, pixels, kind="BINARY", labels=("liver",), **more) -> Dataset:
    """`pixels`: (slice, row, column) of one segment or segment numbers, (…, segment), or a highdicom Volume."""
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[described(n + 1, label) for n, label in enumerate(labels)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="toy",
        manufacturer_model_name="toy",
        software_versions="1",
        device_serial_number="1",
        **more,
    )


@pytest.fixture
def saved(tmp_path):
    def save(dataset: Dataset) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return save


def read(path, volume=None, **keys) -> dict[str, np.ndarray]:
    return dict(segments.read(path, volume_of() if volume is None else volume, **keys))


def refused(path, volume=None, **keys) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read(path, volume, **keys)
    assert "DOE" not in str(caught.value)
    return caught.value


def sops_of(images: list[Dataset], volume: Volume) -> tuple[str, ...]:
    """By index along the volume's stack."""
    axis = np.argmax(np.abs(directions(images[0].ImageOrientationPatient)[2]))
    ordered = sorted(images, key=lambda d: d.ImagePositionPatient[axis])
    return tuple(d.SOPInstanceUID for d in ordered)


# ---- place


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_of_any_type_and_orientation_lies_where_simpleitk_puts_it(saved, turn, kind):
    mask = organ(1, 2, 4)
    path = saved(seg_of(source(TURNS[turn]), mask.astype(np.uint8), kind))
    volume = volume_of(TURNS[turn])
    ((label, array),) = segments.read(path, volume)
    assert (label, array.dtype, array.shape) == ("liver", np.uint8, volume.array.shape)
    np.testing.assert_array_equal(array, by_itk(mask, TURNS[turn]))


@pytest.mark.parametrize("omit", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slabs", [(2, 3), (1, 4), (0, 5), (3,)], ids=["middle", "gap", "ends", "one"])
def test_frames_without_pixels_may_be_left_out(saved, slabs, kind, omit):
    path = saved(seg_of(source(), organ(*slabs).astype(np.uint8), kind, omit_empty_frames=omit))
    np.testing.assert_array_equal(read(path)["liver"], organ(*slabs))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
@pytest.mark.parametrize("pairing", ["same_grid", "resample"])
def test_rows_and_columns_of_a_seg_need_not_run_as_those_of_its_source(saved, order, flips, pairing):
    mask, images = organ(1, 2, 3), source()
    affine = np.eye(4)  # highdicom counts slice, row, column
    affine[:3, :3] = np.diag([STEP, *SPACING])[:, :][[2, 1, 0]]
    affine[:3, 3] = ORIGIN
    turned = hd.Volume(mask.astype(np.uint8), affine, "PATIENT", frame_of_reference_uid="1.2.4")
    turned = turned.flip_spatial(list(flips)).permute_spatial_axes(list(order)) if flips else (
        turned.permute_spatial_axes(list(order)))  # fmt: skip
    path = saved(seg_of(images, turned))
    found = read(path, sops=sops_of(images, volume_of()), pairing=pairing)
    np.testing.assert_array_equal(found["liver"], mask)


def test_a_seg_of_a_part_of_the_grid_is_put_in_its_place(saved):
    affine = np.eye(4)
    affine[:3, :3] = np.diag([STEP, *SPACING])[[2, 1, 0]]
    affine[:3, 3] = ORIGIN + np.array([5 * SPACING[1], 7 * SPACING[0], 2 * STEP])
    part = hd.Volume(np.ones((2, 3, 4), np.uint8), affine, "PATIENT", frame_of_reference_uid="1.2.4")
    wanted = np.zeros((COUNT, ROWS, COLUMNS), bool)
    wanted[2:4, 7:10, 5:9] = True
    np.testing.assert_array_equal(read(saved(seg_of(source(), part)))["liver"], wanted)


def test_a_leaning_stack_is_no_trouble(saved):
    lean = np.array([0.0, 0.4, STEP])
    images = source(positions=[ORIGIN + n * lean for n in range(COUNT)])
    path = saved(seg_of(images, organ(1, 4).astype(np.uint8)))
    np.testing.assert_array_equal(read(path, volume_of(step=lean))["liver"], organ(1, 4))


def uneven() -> tuple[list[Dataset], Volume]:
    """Slices 2.5, 5, 2.5, 4 and 2 mm apart, leaning: what a tilted gantry leaves."""
    heights = np.array([0.0, 2.5, 7.5, 10.0, 14.0, 16.0])
    places = ORIGIN + np.stack([0 * heights, 0.3 * heights, heights], axis=1)
    volume = volume_of()
    nominal = (volume.affine @ np.array([[0, 0, n, 1] for n in range(COUNT)]).T).T[:, :3]
    uneven = Volume(
        volume.array, volume.affine, volume.stored_axes, volume.flipped, "known", shifts=places - nominal, stack=2
    )
    return source(positions=list(places)), uneven


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairing", ["same_grid", "resample"])
def test_each_frame_of_an_uneven_stack_lies_on_the_slice_whose_plane_it_is_in(saved, kind, pairing):
    images, volume = uneven()
    path = saved(seg_of(images, organ(0, 2, 3, 5).astype(np.uint8), kind))
    found = read(path, volume, sops=sops_of(images, volume), pairing=pairing)
    np.testing.assert_array_equal(found["liver"], organ(0, 2, 3, 5))


def test_a_frame_between_the_slices_of_an_uneven_stack_is_outside(saved):
    images, volume = uneven()
    for d in images:
        x, y, z = d.ImagePositionPatient
        d.ImagePositionPatient = [x, y + 0.3, z + 1.0]
    error = refused(saved(seg_of(images, organ(1, 2).astype(np.uint8))), volume)
    assert (error.reason, error.detail) == ("mask_outside", "only 0 of segment 1's 128 voxels lie in the volume")


@pytest.mark.parametrize("pairing", ["same_grid", "resample"])
def test_an_uneven_stack_is_not_resampled_onto(saved, pairing):
    _, volume = uneven()
    path = saved(seg_of(source(TURNS["coronal"]), organ(1).astype(np.uint8)))
    error = refused(path, volume, pairing=pairing)
    assert (error.reason, error.detail) == ("geometry_mismatch", "frames run across the volume's slices")


# ---- inside and outside


def test_a_segment_may_leave_the_volume_by_a_twentieth(saved):
    path = saved(seg_of(source(), organ(0, 1, 2, 3, 4, 5).astype(np.uint8)))
    found = read(path, volume_of(count=COUNT))
    assert found["liver"].sum() == 6 * 64
    error = refused(path, volume_of(count=5))
    assert (error.reason, error.detail) == ("mask_outside", "only 320 of segment 1's 384 voxels lie in the volume")
    thin = organ(0, 1, 2, 3, 4)
    thin[5, 0, :16] = True  # 16 of 336 is less than a twentieth
    np.testing.assert_array_equal(read(saved(seg_of(source(), thin.astype(np.uint8))), volume_of(count=5))["liver"],
                                  thin[:5])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pairing", ["same_grid", "resample"])
def test_a_segment_beside_the_volume_is_outside(saved, kind, pairing):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8), kind))
    far = volume_of()
    far.affine[:3, 3] += (40 * SPACING[1], 0, 0)
    error = refused(path, far, pairing=pairing)
    assert (error.reason, error.detail) == ("mask_outside", "only 0 of segment 1's 128 voxels lie in the volume")


@pytest.mark.parametrize(
    ("by", "off"), [((0.35, 0, 0), 0.5), ((0, 0.18, 0), 0.2), ((0, 0, 1.0), 0.4)], ids=["x", "y", "between slices"]
)
def test_frames_off_the_grid_are_a_mismatch_that_says_what_to_do(saved, by, off):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    volume = volume_of()
    volume.affine[:3, 3] += by
    error = refused(path, volume)
    assert error.reason == "geometry_mismatch"
    assert error.detail == (
        f"frames of {COLUMNS}x{ROWS} px lie up to {off:.2g} voxels off the volume's grid; "
        "set geometry.pairing: resample if they cover one body"
    )


def test_spacings_that_drift_apart_over_the_picture_are_a_mismatch(saved):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    volume = volume_of()
    volume.affine[:3, 0] *= 1.01  # a quarter of a voxel at the far side
    assert refused(path, volume).reason == "geometry_mismatch"


def test_what_was_drawn_on_other_images_says_so(saved):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    volume = volume_of()
    volume.affine[:3, 3] += 0.3
    error = refused(path, volume, sops=[generate_uid() for _ in range(COUNT)])
    assert "; none of the 2 images that it was drawn on is in the series" in error.detail


def test_a_frame_on_another_slice_than_it_refers_to_is_a_mismatch(saved):
    images = source()
    dataset = seg_of(images, organ(1, 2).astype(np.uint8))
    assert (read(saved(dataset), sops=sops_of(images, volume_of()))["liver"] == organ(1, 2)).all()
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        image.ReferencedSOPInstanceUID = images[5].SOPInstanceUID
    error = refused(saved(dataset), sops=sops_of(images, volume_of()))
    assert error.reason == "geometry_mismatch"
    assert error.detail.startswith("2 frames lie on another slice than the one that they refer to")
    by_mm = read(saved(dataset), sops=sops_of(images, volume_of()), pairing="resample")
    np.testing.assert_array_equal(by_mm["liver"], organ(1, 2))


def test_references_to_images_that_are_not_there_do_not_matter(saved):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    assert read(path, sops=[generate_uid() for _ in range(COUNT)])["liver"].sum() == 128


@pytest.mark.parametrize("geometry", ["unknown", "assumed"])
def test_a_volume_without_a_place_takes_no_seg(saved, geometry):
    v = volume_of()
    volume = Volume(v.array, v.affine, v.stored_axes, v.flipped, geometry)
    assert refused(saved(seg_of(source(), organ(1).astype(np.uint8))), volume).reason == "no_geometry"


# ---- another grid


def coarse(factor=1.6, by=(1.0, -0.8, 0.6)) -> Volume:
    """A grid of larger voxels around the same body."""
    affine = np.diag([SPACING[1] * factor, SPACING[0] * factor, STEP * 0.8, 1.0])
    affine[:3, 3] = ORIGIN + by
    return to_lps(np.zeros((16, 14, 9), np.int16), affine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["coarse", "fine", "turned"])
def test_another_grid_takes_the_nearest_pixel_as_simpleitk_does(saved, kind, grid):
    mask = organ(1, 2, 3, 4)
    images = source(positions=[ORIGIN + n * np.array([0, 0, STEP]) for n in range(COUNT)])
    measures = hd.PixelMeasuresSequence(SPACING, STEP, STEP)  # the mask's spacing does not follow from two frames
    path = saved(seg_of(images, mask.astype(np.uint8), kind, pixel_measures=measures))
    affine = np.diag([0.33, 0.41, 1.1, 1.0])
    affine[:3, 3] = ORIGIN - 0.37
    turned = np.eye(4)
    turned[:3, :3] = np.stack(directions(TURNS["oblique"]), axis=1) * [0.8, 0.8, 2.0]
    turned[:3, 3] = ORIGIN + np.array([2, -3, -1.1])
    volume = {
        "coarse": coarse(),
        "fine": to_lps(np.zeros((60, 50, 18), np.int16), affine),
        "turned": to_lps(np.zeros((30, 30, 10), np.int16), turned),
    }[grid]
    own = volume_of()
    wanted = laid_over(volume, Volume(mask.astype(np.uint8), *(getattr(own, key) for key in
                       ("affine", "stored_axes", "flipped", "geometry"))), "resample")  # fmt: skip
    found = read(path, volume, pairing="resample")["liver"]
    assert found.any()
    np.testing.assert_array_equal(found, wanted.array)


@pytest.mark.parametrize("slabs", [(1, 3), (2,), (0, 1, 4)], ids=["every second", "one", "gap"])
def test_omitted_frames_do_not_thicken_the_others_when_resampled(saved, slabs):
    measures = hd.PixelMeasuresSequence(SPACING, STEP, STEP)
    path = saved(seg_of(source(), organ(*slabs).astype(np.uint8), pixel_measures=measures))
    found = read(path, finer(), pairing="resample")["liver"]
    np.testing.assert_array_equal(found, np.repeat(organ(*slabs), 5, axis=0))


def finer(z=-0.4 * STEP) -> Volume:
    """The same grid but for slices 0.5 mm apart, the first at z mm from the source's first."""
    affine = np.diag([SPACING[1], SPACING[0], STEP / 5, 1.0])
    affine[:3, 3] = ORIGIN + np.array([0, 0, z])
    return to_lps(np.zeros((COLUMNS, ROWS, COUNT * 5), np.int16), affine)


def test_frames_that_lie_farther_apart_than_the_slices_are_a_mismatch(saved):
    measures = hd.PixelMeasuresSequence(SPACING, STEP, STEP)
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8), pixel_measures=measures))
    error = refused(path, finer())
    assert error.reason == "geometry_mismatch"
    assert error.detail.startswith("frames lie 2.50 mm apart, the volume's slices 0.50; set geometry.pairing")


def test_a_distance_in_the_header_that_the_frames_contradict_does_not_count(saved):
    dataset = seg_of(source(), organ(1, 2).astype(np.uint8))
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 1.0
    found = read(saved(dataset), finer(z=-0.4 * STEP + 0.1), pairing="resample")["liver"]
    np.testing.assert_array_equal(found, np.repeat(organ(1, 2), 5, axis=0))


def test_frames_of_no_regular_stack_are_not_resampled(saved):
    images, _ = uneven()
    for d in images:
        d.SliceThickness = 3.0
    path = saved(seg_of(images, organ(0, 1, 4, 5).astype(np.uint8)))
    error = refused(path, coarse(), pairing="resample")
    assert error.reason == "geometry_mismatch"
    assert error.detail == "the SEG's frames are no regular stack, and can not be resampled"


# ---- segments


def test_segments_may_overlap_and_each_has_its_own_frames(saved):
    pixels = np.stack([organ(1, 2), organ(2, 3, shift=3), organ(5)], axis=-1).astype(np.uint8)
    path = saved(seg_of(source(), pixels, labels=("liver", "tumor", "rib")))
    found = read(path)
    assert list(found) == ["liver", "tumor", "rib"]
    for n, array in enumerate(found.values()):
        np.testing.assert_array_equal(array, pixels[..., n])


def test_segments_of_a_label_map_are_read_one_by_one_and_the_background_is_none(saved):
    numbers = organ(1, 2).astype(np.uint8) + organ(3, 4, shift=1).astype(np.uint8) * 2
    path = saved(seg_of(source(), numbers, "LABELMAP", labels=("liver", "spleen", "nothing of it")))
    found = read(path)
    assert list(found) == ["liver", "spleen", "nothing of it"]
    assert [int(array.sum()) for array in found.values()] == [128, 128, 0]
    np.testing.assert_array_equal(found["spleen"], numbers == 2)


def test_a_label_map_may_have_another_background_and_numbers_above_255(saved):
    dataset = seg_of(source(), organ(1, 2).astype(np.uint8), "LABELMAP", labels=("liver",), omit_empty_frames=False)
    stored = np.where(dataset.pixel_array == 1, 300, 5).astype("<u2")
    dataset.PixelData, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = stored.tobytes(), 16, 16, 15
    dataset.PixelPaddingValue = 5
    dataset.SegmentSequence[-1].SegmentNumber = 300
    found = read(saved(dataset))
    assert list(found) == ["liver"]
    np.testing.assert_array_equal(found["liver"], organ(1, 2))


def test_a_segment_that_is_coded_as_background_is_none(saved):
    numbers = organ(1, 2).astype(np.uint8) + organ(3, 4, shift=1).astype(np.uint8) * 2
    dataset = seg_of(source(), numbers, "LABELMAP", labels=("liver", "all the rest"))
    dataset.SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "125040"
    found = read(saved(dataset))
    assert list(found) == ["liver"]
    np.testing.assert_array_equal(found["liver"], organ(1, 2))


def test_a_label_map_in_colours_is_read_by_its_numbers(saved):
    red, green, blue = (
        hd.PaletteColorLUT(0, np.arange(4, dtype=np.uint8) * step, color)
        for step, color in ((60, "red"), (50, "green"), (9, "blue"))
    )
    palette = hd.PaletteColorLUTTransformation(red, green, blue)
    path = saved(
        seg_of(source(), organ(1, 2).astype(np.uint8) * 2, "LABELMAP", labels=("a", "b", "c"),
               palette_color_lut_transformation=palette)
    )  # fmt: skip
    assert pydicom.dcmread(path).PhotometricInterpretation == "PALETTE COLOR"
    assert [int(array.sum()) for array in read(path).values()] == [0, 128, 0]


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("most", [255, 100])
def test_a_pixel_of_a_fractional_segment_belongs_from_the_threshold_on(saved, threshold, most):
    shares = np.random.default_rng(4).choice([0, 0.1, 0.25, 0.5, 0.75, 1.0], (COUNT, ROWS, COLUMNS))
    path = saved(seg_of(source(), shares, "FRACTIONAL", max_fractional_value=most))
    wanted = np.around(shares * most) / most >= threshold
    np.testing.assert_array_equal(read(path, threshold=threshold)["liver"], wanted)


def test_compressed_frames_are_decoded(saved):
    path = saved(seg_of(source(), organ(1, 2).astype(float), "FRACTIONAL", transfer_syntax_uid=RLELossless))
    np.testing.assert_array_equal(read(path)["liver"], organ(1, 2))


def test_a_segment_without_frames_is_empty(saved):
    pixels = np.stack([organ(1), organ()], axis=-1).astype(np.uint8)
    assert read(saved(seg_of(source(), pixels, labels=("liver", "tumor"))))["tumor"].sum() == 0


@pytest.mark.parametrize(
    ("label", "meaning", "wanted"),
    [(" left  lung\n", "Lung", "left lung"), ("", "Lung", "Lung"), ("", "", "segment 1")],
)
def test_a_label_is_the_segments_own_or_that_of_its_type(saved, label, meaning, wanted):
    dataset = seg_of(source(), organ(1).astype(np.uint8))
    (segment,) = dataset.SegmentSequence
    segment.SegmentLabel, segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = label, meaning
    assert list(read(saved(dataset))) == [wanted]


def test_equal_labels_are_segments_of_their_own(saved):
    pixels = np.stack([organ(1), organ(3)], axis=-1).astype(np.uint8)
    found = list(segments.read(saved(seg_of(source(), pixels, labels=("nodule", "nodule"))), volume_of()))
    assert [(label, int(array.sum())) for label, array in found] == [("nodule", 64), ("nodule", 64)]


# ---- flat pictures and slides


def radiograph(width=30, height=20) -> Dataset:
    (d,) = source(positions=[ORIGIN])
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceThickness"):
        delattr(d, key)
    d.SOPClassUID, d.Modality = "1.2.840.10008.5.1.4.1.1.1", "CR"
    d.Rows, d.Columns = height, width
    return d


@pytest.mark.parametrize("kind", KINDS)
def test_a_seg_of_a_radiograph_is_laid_on_its_pixels(saved, kind):
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 5:21] = 1
    path = saved(seg_of([radiograph()], mask.copy(), kind))
    ((label, found),) = segments.read_planar(path, 30, 20)
    assert (label, found.dtype) == ("liver", bool)
    np.testing.assert_array_equal(found, mask)
    with pytest.raises(Unusable, match=r"^size_mismatch: picture is 20x30 px, its SEG 30x20"):
        list(segments.read_planar(path, 20, 30))
    assert refused(path).reason == "no_geometry"


def test_a_seg_of_a_stack_is_not_one_of_a_picture(saved):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    with pytest.raises(Unusable, match=r"^bad_annotation: the SEG was drawn on 2 pictures, and the case has one"):
        list(segments.read_planar(path, COLUMNS, ROWS))
    one = saved(seg_of(source(), organ(3).astype(np.uint8)))
    ((_, found),) = segments.read_planar(one, COLUMNS, ROWS)
    np.testing.assert_array_equal(found, organ(3)[3])


def slide(width=50, height=33, tile=10) -> Dataset:
    (d,) = source(positions=[ORIGIN])
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "PixelSpacing"):
        delattr(d, key)
    d.SOPClassUID, d.Modality = "1.2.840.10008.5.1.4.1.1.77.1.6", "SM"
    d.ImageType, d.Rows, d.Columns = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], tile, tile
    d.TotalPixelMatrixColumns, d.TotalPixelMatrixRows, d.NumberOfFrames = width, height, 20
    d.DimensionOrganizationType, d.TotalPixelMatrixFocalPlanes, d.NumberOfOpticalPaths = "TILED_FULL", 1, 1
    d.ImageOrientationSlide, d.ContainerIdentifier = [0, -1, 0, -1, 0, 0], "c"
    place = Dataset()
    place.XOffsetInSlideCoordinateSystem, place.YOffsetInSlideCoordinateSystem = 5.0, 6.0
    d.TotalPixelMatrixOriginSequence = [place]
    d.SpecimenDescriptionSequence, d.IssuerOfTheContainerIdentifierSequence = [Dataset()], []
    d.ContainerTypeCodeSequence, d.OpticalPathSequence = [], [Dataset()]
    d.OpticalPathSequence[0].OpticalPathIdentifier = "0"
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.001, 0.001], 0.001
    shared.PixelMeasuresSequence = [measures]
    d.SharedFunctionalGroupsSequence = [shared]
    return d


def tiled_full() -> Dataset:
    return seg_of(
        [slide()], np.ones((1, 33, 50, 1), np.uint8), tile_pixel_array=True,
        dimension_organization_type="TILED_FULL", omit_empty_frames=False,
    )  # fmt: skip


@pytest.mark.parametrize("tiling", ["TILED_FULL", "TILED_SPARSE"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tiled_seg_of_a_slide_is_put_together(saved, kind, tiling):
    numbers = np.zeros((33, 50), np.uint8)
    numbers[2:25, 8:31], numbers[20:33, 35:50] = 1, 2
    pixels = numbers if kind == "LABELMAP" else np.stack([numbers == 1, numbers == 2], axis=-1).astype(np.uint8)[None]
    dataset = seg_of(
        [slide()], pixels[None] if pixels.ndim == 2 else pixels, kind, labels=("a", "b"), tile_pixel_array=True,
        dimension_organization_type=tiling, omit_empty_frames=tiling == "TILED_SPARSE",
    )  # fmt: skip
    path = saved(dataset)
    found = dict(segments.read_planar(path, 50, 33))
    theirs = hd.seg.segread(path)
    how = {} if kind == "FRACTIONAL" else {"combine_segments": True, "relabel": True}
    for number, label in ((1, "a"), (2, "b")):
        np.testing.assert_array_equal(found[label], numbers == number)
        whole = theirs.get_total_pixel_matrix(segment_numbers=[number], **how)
        np.testing.assert_array_equal(np.squeeze(whole) > 0, found[label])
    assert refused(path).reason == "no_geometry"


@pytest.mark.parametrize(
    ("rows", "columns", "reason"),
    [
        (9_000, 9_000, "too_large"),
        (33, 60, "bad_annotation"),
        (0, 50, "bad_annotation"),
        (8_000, 8_000, "bad_annotation"),
    ],
)
def test_a_slide_that_is_too_large_or_has_other_tiles_than_it_says_is_refused(saved, rows, columns, reason):
    dataset = tiled_full()
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = rows, columns
    with pytest.raises(Unusable, match=f"^{reason}: "):
        list(segments.read_planar(saved(dataset), columns, rows))


# ---- what is no SEG


def test_other_objects_are_named(saved):
    (image,) = source(positions=[ORIGIN])
    error = refused(saved(image))
    assert (error.reason, error.detail) == ("bad_annotation", "not a DICOM SEG but CT Image Storage")
    image.SOPClassUID = "1.2.3.4.5"
    assert refused(saved(image)).detail == "not a DICOM SEG"


def test_a_file_that_is_not_there_is_a_missing_mask(tmp_path):
    assert refused(tmp_path / "none.dcm").reason == "missing_mask"


def _drop(key):
    return lambda d: delattr(d, key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: setattr(d, "SegmentationType", "SURFACE"), "bad_annotation"),
        (lambda d: setattr(d, "Rows", 0), "bad_annotation"),
        (lambda d: [setattr(d, "Rows", 60_000), setattr(d, "Columns", 60_000)], "too_large"),
        (lambda d: setattr(d, "Rows", 2 * ROWS), "truncated"),
        (lambda d: setattr(d, "NumberOfFrames", 3), "bad_annotation"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-40]), "truncated"),
        (lambda d: setattr(d.SegmentSequence[0], "SegmentNumber", 2), "bad_annotation"),
        (_drop("SegmentSequence"), "bad_annotation"),
        (_drop("SegmentationType"), "bad_annotation"),
        (_drop("PerFrameFunctionalGroupsSequence"), "bad_annotation"),
        (_drop("SharedFunctionalGroupsSequence"), "bad_annotation"),
        (_drop("PixelData"), "truncated"),
    ],
)
def test_a_seg_that_is_not_as_it_should_be_is_refused(saved, change, reason):
    dataset = seg_of(source(), organ(1, 2).astype(np.uint8))
    change(dataset)
    assert refused(saved(dataset)).reason == reason


@pytest.mark.parametrize(
    ("key", "value"),
    [("ImagePositionPatient", [1e300, 0, 0]), ("ImagePositionPatient", [1, 2]), ("ImageOrientationPatient", [0] * 6),
     ("PixelSpacing", [0, 0]), ("PixelSpacing", [1e-200, 1])],
)  # fmt: skip
@pytest.mark.parametrize("pairing", ["same_grid", "resample"])
def test_frames_whose_place_is_none_are_refused(saved, key, value, pairing):
    dataset = seg_of(source(), organ(1, 2).astype(np.uint8))
    shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
    groups = first.PlanePositionSequence, shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    (item,) = [group[0] for group in groups if key in group[0]]
    setattr(item, key, value)
    assert refused(saved(dataset), pairing=pairing).reason == "bad_annotation"


def test_a_label_map_whose_values_are_not_described_is_refused(saved):
    dataset = seg_of(source(), organ(1, 2).astype(np.uint8), "LABELMAP")
    dataset.PixelData = dataset.PixelData.replace(b"\1", b"\7")
    error = refused(saved(dataset))
    assert (error.reason, error.detail) == ("bad_annotation", "frame 0 has 1 values that are not described")


def test_a_fractional_seg_without_its_maximum_is_refused(saved):
    dataset = seg_of(source(), organ(1, 2).astype(float), "FRACTIONAL")
    del dataset.MaximumFractionalValue
    assert refused(saved(dataset)).reason == "bad_annotation"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_or_changed_anywhere_is_read_or_refused(saved, kind):
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8), kind))
    data, rng = path.read_bytes(), np.random.default_rng(3)
    found, said = set(), []
    for n in range(120):
        changed = bytearray(data)
        for at in rng.integers(132, len(data), 3):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed if n % 4 else data[: rng.integers(0, len(data))])
        for pairing in ("same_grid", "resample"):
            try:
                read(path, pairing=pairing)
            except Unusable as error:
                said.append(str(error))
                found.add(error.reason)
        try:
            list(segments.read_planar(path, COLUMNS, ROWS))
        except Unusable as error:
            found.add(error.reason)
    assert "DOE" not in repr(said)
    assert found <= {
        "truncated", "undecodable", "unreadable", "empty_file", "bad_annotation", "geometry_mismatch", "mask_outside",
        "no_geometry", "too_large", "size_mismatch",
    }  # fmt: skip


# ---- real files

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder")


def series(folder: Path) -> tuple[Volume, list[Dataset]]:
    """A regular axial series, by z."""
    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("*.dcm")]
    images.sort(key=lambda d: d.ImagePositionPatient[2])
    first, last = images[0], images[-1]
    assert first.ImageOrientationPatient == list(AXIAL)
    affine = np.diag([first.PixelSpacing[1], first.PixelSpacing[0], 1.0, 1.0]).astype(float)
    affine[:3, 3] = first.ImagePositionPatient
    affine[2, 2] = (last.ImagePositionPatient[2] - first.ImagePositionPatient[2]) / (len(images) - 1)
    return to_lps(np.zeros((first.Columns, first.Rows, len(images)), np.int16), affine), images


@real
@pytest.mark.parametrize(
    ("name", "images", "gold"),
    [
        ("dcmqi_seg/data/segmentations/liver.dcm", "dcmqi_seg/data/segmentations/ct-3slice", "liver.dcm"),
        ("dcmqi_seg/data/segmentations/partial_overlaps.dcm", "dcmqi_seg/data/segmentations/ct-3slice",
         "partial_overlaps.dcm"),
        ("dcmqi_seg/data/segmentations/23x38x3/seg/label.seg", "dcmqi_seg/data/segmentations/23x38x3/image",
         "23x38x3/seg/label.seg"),
        ("dcmqi_seg/data/segmentations/24x38x3/seg/label.seg", "dcmqi_seg/data/segmentations/24x38x3/image",
         "24x38x3/seg/label.seg"),
        ("pet_fnndsc/dicom/rsna_2/SEG/3DSlicer/tumor_User1_Manual_Trial1.dcm", "pet_fnndsc/dicom/rsna_2/PET", None),
    ],
)  # fmt: skip
def test_real_segmentations_have_the_boxes_and_areas_of_the_reference(name, images, gold):
    said = json.loads((DATA / "GOLD.json").read_text())
    said = said["pet_fnndsc"] if gold is None else said["dcmqi_seg"][gold]
    volume, stack = series(DATA / images)
    sops = [str(d.SOPInstanceUID) for d in stack]
    found = []
    for number, (label, array) in enumerate(segments.read(DATA / name, volume, sops), 1):
        assert label == said["segments"][str(number)]
        for z in np.flatnonzero(array.any(axis=(1, 2))).tolist():
            rows, columns = np.nonzero(array[z])
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found.append((number, sops[z], len(rows), box))
    wanted = [(f["segment"], f["source_sop"], f["area"], f["box"]) for f in said["frames"] if f["area"]]
    assert sorted(found) == sorted(wanted)


@real
def test_a_seg_whose_images_are_not_there_says_so():
    volume, stack = series(DATA / "dcmqi_seg/data/segmentations/ct-3slice")
    error = refused(DATA / "dcmqi_seg/data/sr-example/seg.dcm", volume, sops=[d.SOPInstanceUID for d in stack])
    assert error.reason == "geometry_mismatch"
    assert "none of the 13 images that it was drawn on is in the series" in error.detail


@real
@pytest.mark.parametrize(
    "name", ["sm_control", "sm_control_labelmap", "sm_control_labelmap_palette_color", "sm_dots", "sm_dots_tiled_full"]
)
def test_real_segmentations_of_slides_are_those_of_highdicom(name):
    path = DATA / f"highdicom_test/data/test_files/seg_image_{name}.dcm"
    theirs = hd.seg.segread(path)
    found = list(segments.read_planar(path, theirs.TotalPixelMatrixColumns, theirs.TotalPixelMatrixRows))
    numbers = [number for number in theirs.segment_numbers if number]
    for number, (label, mask) in zip(numbers, found, strict=True):
        assert label == theirs.get_segment_description(number).segment_label
        whole = theirs.get_total_pixel_matrix(segment_numbers=[number], combine_segments=True, relabel=True)
        np.testing.assert_array_equal(mask, whole > 0)


def test_reading_is_bound_to_what_it_says(saved, monkeypatch):
    monkeypatch.setattr(segments, "MAX_VOXELS", 100)
    path = saved(seg_of(source(), organ(1, 2).astype(np.uint8)))
    assert refused(path, coarse(), pairing="resample").reason == "too_large"
    monkeypatch.setattr(seg_frames, "MAX_TILES", 3)
    with pytest.raises(Unusable, match=r"^too_large: 20 frames, and 1 segments of 5x4 tiles; at most 3 frames"):
        list(segments.read_planar(saved(tiled_full()), 50, 33))
