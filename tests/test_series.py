"""DICOM series: sorted by position, kept where they are uneven, left out with a reason, never guessed."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pipeline.errors import Unusable
from pipeline.ingest import series

NAME = "DOE^JANE^SECRET"
ROWS, COLUMNS, COUNT = 20, 24, 8
SPACING, STEP = (0.9, 0.7), 2.5
"""PixelSpacing: between rows, between columns; mm between slices."""
HU = np.random.default_rng(8).integers(-1000, 1000, (COUNT, ROWS, COLUMNS)).astype(np.int16)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SERIES, FRAME, STUDY = (generate_uid(entropy_srcs=[what]) for what in ("series", "frame", "study"))


def ct_slice(number: int, hu: np.ndarray, position=None, orientation=AXIAL, uid=SERIES, **more) -> Dataset:
    normal = np.cross(orientation[:3], orientation[3:])
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(number)])
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = NAME, NAME, "19700101", "F"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY, uid, FRAME
    d.StudyID, d.SeriesNumber, d.InstanceNumber, d.AccessionNumber = "1", 1, number + 1, ""
    d.StudyDate, d.StudyTime, d.ReferringPhysicianName, d.Manufacturer = "20200101", "120000", "", "toy"
    d.Modality, d.PositionReferenceIndicator = "CT", ""
    d.Rows, d.Columns = hu.shape
    d.PixelSpacing, d.SliceThickness = list(SPACING), STEP
    where = np.array([-10.0, -20.0, 100.0]) + normal * number * STEP if position is None else np.array(position)
    d.ImagePositionPatient = [float(round(value, 6)) for value in where]
    d.ImageOrientationPatient = list(orientation)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.RescaleIntercept, d.RescaleSlope = -1024, 1
    d.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    for key, value in more.items():
        setattr(d, key, value)
    return d


def slices(count: int = COUNT, **more) -> list[Dataset]:
    return [ct_slice(n, HU[n], **more) for n in range(count)]


def at(z: float, number: int = 0, y: float = 0.0, **more) -> Dataset:
    """A slice that lies at z mm and whose pixels all say so, in tenths of a mm."""
    more = {"SOPInstanceUID": generate_uid(), **more}
    return ct_slice(number, np.full((ROWS, COLUMNS), round(10 * z)), position=(0, y, z), **more)


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def saved(tmp_path):
    """Write files under shuffled names; returns the paths as the plan lists them, sorted by name."""

    def write(datasets, folder="s") -> list[Path]:
        names = np.random.default_rng(1).permutation(len(datasets))
        return sorted(save(d, tmp_path / folder / f"{n:03d}.dcm") for d, n in zip(datasets, names, strict=True))

    return write


def only(assembled: series.Assembled) -> series.Stack:
    (stack,) = assembled.stacks
    assert stack.name == ""
    return stack


def left(assembled: series.Assembled) -> list[tuple[str, int]]:
    return sorted((row.reason, row.count) for row in assembled.left_out)


def worlds(stack: series.Stack) -> np.ndarray:
    """LPS mm of the first pixel of each slice, `(slice, 3)`."""
    volume = stack.volume
    index = np.zeros((volume.array.shape[2 - volume.stack], 4))
    index[:, volume.stack], index[:, 3] = np.arange(len(index)), 1
    there = (index @ volume.affine.T)[:, :3]
    return there if volume.shifts is None else there + volume.shifts


def heights(stack: series.Stack) -> list[float]:
    """World z of each slice, after its pixels were found to say the same."""
    volume = stack.volume
    assert volume.stack == 2
    z = worlds(stack)[:, 2]
    for n, of_slice in enumerate(volume.array):
        np.testing.assert_allclose(of_slice / 10, z[n], atol=1e-3)
    return z.tolist()


def refused(paths) -> Unusable:
    with pytest.raises(Unusable) as caught:
        series.read(paths)
    assert "DOE" not in str(caught.value)
    return caught.value


def by_itk(paths) -> sitk.Image:
    """SimpleITK on the list in the order of the stack, then turned to LPS."""
    placed = []
    for path in paths:
        d = pydicom.dcmread(path, stop_before_pixels=True)
        normal = np.cross(d.ImageOrientationPatient[:3], d.ImageOrientationPatient[3:])
        placed.append((float(np.dot(d.ImagePositionPatient, normal)), str(path)))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([path for _, path in sorted(placed)])
    return sitk.DICOMOrient(reader.Execute(), "LPS")


# ---- regular series


SIGNED = [tuple(sign * (axis == n) for n in range(3)) for axis in range(3) for sign in (1.0, -1.0)]
AXES = [(*row, *column) for row, column in itertools.product(SIGNED, SIGNED) if not np.dot(row, column)]


@pytest.mark.parametrize("orientation", AXES, ids=lambda axes: "".join("RL_AP_IS"[i] for i in _sides(axes)))
@pytest.mark.parametrize("back", [False, True], ids=["forth", "back"])
def test_every_axis_order_that_a_series_can_have_gives_the_array_of_simpleitk(saved, orientation, back):
    normal = np.cross(orientation[:3], orientation[3:])
    sign = -1 if back else 1
    paths = saved(
        [ct_slice(n, HU[n], position=sign * n * STEP * normal, orientation=orientation) for n in range(COUNT)]
    )
    volume, itk = only(series.read(paths)).volume, by_itk(paths)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing(), atol=1e-4)
    assert (volume.geometry, volume.array.dtype, volume.shifts, volume.flags) == ("known", np.int16, None, ())
    for index in [(0, 0, 0), tuple(n - 1 for n in itk.GetSize()), (3, 2, 1)]:
        wanted = itk.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((volume.affine @ [*index, 1])[:3], wanted, atol=1e-3)


def _sides(axes):
    return [3 * int(np.abs(part).argmax()) + (sum(part) > 0) for part in (axes[:3], axes[3:])]


def test_there_are_48_of_them():
    assert 2 * len(set(AXES)) == 48


def test_an_oblique_series_keeps_its_voxels_and_is_flagged(saved):
    turned = (0.93969262, 0.34202014, 0, -0.34202014, 0.93969262, 0)
    paths = saved(slices(orientation=turned))
    volume, itk = only(series.read(paths)).volume, by_itk(paths)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    np.testing.assert_allclose(
        volume.affine[:3, :3] / volume.spacing, np.reshape(itk.GetDirection(), (3, 3)), atol=1e-6
    )
    assert volume.flags == ("oblique",)


def test_the_order_of_the_files_does_not_matter(saved):
    paths = saved(slices())
    one, other = only(series.read(paths)), only(series.read(paths[::-1]))
    np.testing.assert_array_equal(one.volume.array, HU)
    np.testing.assert_array_equal(other.volume.array, HU)
    assert one.sops == other.sops


def test_rows_and_columns_keep_their_own_spacing(saved):
    assert only(series.read(saved(slices()))).volume.spacing == pytest.approx((0.7, 0.9, 2.5))


@pytest.mark.parametrize("more", [{}, {"orientation": (0, 1, 0, 0, 0, -1)}], ids=["axial", "sagittal"])
def test_each_slice_has_its_own_sop_instance_uid(saved, more):
    stack = slices(**more)
    found = only(series.read(saved(stack)))
    across = found.volume.stack
    assert across == (0 if more else 2)
    for index, uid in enumerate(found.sops):
        (dataset,) = (d for d in stack if d.SOPInstanceUID == uid)
        here = int(HU[dataset.InstanceNumber - 1].astype(int).sum())
        assert int(np.take(found.volume.array, index, 2 - across).astype(int).sum()) == here
        offset = worlds(found)[index] - dataset.ImagePositionPatient
        assert offset @ np.cross(*np.reshape(dataset.ImageOrientationPatient, (2, 3))) == pytest.approx(0, abs=1e-6)


def test_one_series_in_three_folders_is_one_volume(saved):
    paths = [path for n in range(3) for path in saved(slices()[n::3], f"disc{n}/images")]
    assert only(series.read(paths)).volume.array.tolist() == HU.tolist()


def test_a_file_needs_no_extension_and_no_preamble(saved):
    paths = saved(slices())
    bare = paths[0].with_name("IM0001")
    bare.write_bytes(paths[0].read_bytes()[132:])
    plain = paths[1].rename(paths[1].with_name("1.2.3.4"))
    assert only(series.read([bare, plain, *paths[2:]])).volume.array.tolist() == HU.tolist()


@pytest.mark.parametrize("syntax", [pydicom.uid.RLELossless, pydicom.uid.JPEGLSLossless])
def test_compressed_slices_are_decoded(saved, syntax):
    stack = slices()
    for d in stack:
        d.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(only(series.read(saved(stack))).volume.array, HU)


def test_one_slice_is_a_volume_as_thick_as_it_says(saved):
    volume = only(series.read(saved(slices(1)))).volume
    assert (volume.array.shape, volume.spacing[2], volume.flags) == ((1, ROWS, COLUMNS), 2.5, ())


@pytest.mark.parametrize("thickness", [None, 0, "missing"])
def test_one_slice_of_no_thickness_is_a_millimetre_thick(saved, thickness):
    (one,) = slices(1, SliceThickness=None if thickness == "missing" else thickness)
    if thickness == "missing":
        del one.SliceThickness
    assert only(series.read(saved([one]))).volume.spacing[2] == 1


# ---- where slices lie: the pixels of each say its z


HEIGHTS = [1000 + 2.5 * n for n in range(COUNT)]


def test_names_and_instance_numbers_may_run_against_the_stack(saved):
    stack = [at(z, n, InstanceNumber=COUNT - n) for n, z in enumerate(HEIGHTS)]
    assert heights(only(series.read(saved(stack)))) == pytest.approx(HEIGHTS)


def test_what_a_header_says_of_distances_beside_the_position_does_not_count(saved):
    said = {"SliceThickness": 9, "SpacingBetweenSlices": 7, "GantryDetectorTilt": 12}
    stack = [at(z, n, SliceLocation=-3 * z, **said) for n, z in enumerate(HEIGHTS)]
    found = only(series.read(saved(stack)))
    assert heights(found) == pytest.approx(HEIGHTS)
    assert (found.volume.spacing[2], found.volume.flags) == (pytest.approx(2.5), ())


@pytest.mark.parametrize("lost", [(3,), (3, 4), (1, 5)])
def test_a_missing_slice_is_a_gap_and_the_others_lie_where_they_lay(saved, lost):
    wanted = [z for n, z in enumerate(HEIGHTS) if n not in lost]
    found = only(series.read(saved([at(z, n) for n, z in enumerate(wanted)])))
    assert heights(found) == pytest.approx(wanted)
    assert (found.volume.flags, found.volume.spacing[2]) == (("gap",), pytest.approx(2.5))
    assert found.volume.shifts[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "wanted", [[0, 5, 10, 17, 22], [0, 1.1, 5.4, 12.7], [0, 5, 8]], ids=["one step", "all steps", "three"]
)
def test_irregular_slices_lie_where_they_lay(saved, wanted):
    found = only(series.read(saved([at(z, n) for n, z in enumerate(wanted)])))
    assert heights(found) == pytest.approx(wanted)
    assert found.volume.flags == ("irregular_spacing",)


@pytest.mark.parametrize(
    ("wanted", "flags"),
    [
        ([0, 0.31, 0.62, 0.94, 1.25, 1.56, 1.88, 2.19], ()),  # two decimals of a step of 0.3125
        ([0, 2.5, 5.02, 7.5], ()),
        ([0, 2.5, 5.04, 7.5], ("irregular_spacing",)),
        ([0, 0.0105, 0.0195, 0.03], ("irregular_spacing",)),  # a specimen's slices have no room for rounding
        ([*np.arange(0, 100, 2), *np.arange(100, 160, 2.03)], ("irregular_spacing",)),  # drifts by 0.4 of a step
    ],
)
def test_rounding_is_told_from_uneven_steps(saved, wanted, flags):
    assert only(series.read(saved([at(z, n) for n, z in enumerate(wanted)]))).volume.flags == flags


@pytest.mark.parametrize(("degrees", "flags"), [(0.3, ()), (2.0, ("gantry_tilt",)), (18.5, ("gantry_tilt",))])
def test_slices_of_a_tilted_gantry_lie_where_they_lay(saved, degrees, flags):
    lean = np.tan(np.radians(degrees))
    found = only(series.read(saved([at(z, n, y=z * lean) for n, z in enumerate(HEIGHTS)])))
    assert heights(found) == pytest.approx(HEIGHTS)
    np.testing.assert_allclose(worlds(found)[:, 1], np.array(HEIGHTS) * lean, atol=1e-3)
    assert found.volume.flags == flags
    assert (found.volume.shifts is None) == (not flags)


def test_a_tilted_plane_on_a_straight_table_leans_the_same(saved):
    """As a CT does it: the table moves along z, the gantry is turned."""
    angle = np.radians(12)
    plane = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    found = only(series.read(saved([at(z, n, orientation=plane) for n, z in enumerate(HEIGHTS)])))
    np.testing.assert_allclose(worlds(found), [(0, 0, z) for z in HEIGHTS], atol=1e-3)
    assert found.volume.array[:, 0, 0].tolist() == [round(10 * z) for z in HEIGHTS]
    assert found.volume.flags == ("gantry_tilt",)
    assert found.volume.obliquity == pytest.approx(12)
    np.testing.assert_allclose(found.volume.spacing, (0.7, 0.9, 2.5 * np.cos(angle)), atol=1e-6)


def test_tilt_and_a_gap_are_both_flagged(saved):
    there = [z for n, z in enumerate(HEIGHTS) if n != 2]
    found = only(series.read(saved([at(z, n, y=z / 5) for n, z in enumerate(there)])))
    np.testing.assert_allclose(worlds(found), [(0, z / 5, z) for z in there], atol=1e-3)
    assert found.volume.flags == ("gap", "gantry_tilt")


def test_a_slice_that_jumps_aside_makes_the_stack_irregular(saved):
    found = only(series.read(saved([at(z, n, y=3.0 * (n == 4)) for n, z in enumerate(HEIGHTS)])))
    np.testing.assert_allclose(worlds(found)[:, 1], [0, 0, 0, 0, 3, 0, 0, 0], atol=1e-6)
    assert found.volume.flags == ("irregular_spacing",)


@pytest.mark.parametrize("orientation", AXES[::5])
def test_an_uneven_stack_of_any_direction_knows_where_its_slices_lie(saved, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    steps = [0, 1, 2, 4, 7]
    stack = [ct_slice(n, HU[n], position=k * STEP * normal, orientation=orientation) for n, k in enumerate(steps)]
    found = only(series.read(saved(stack)))
    volume = found.volume
    assert volume.flags == ("gap",)
    assert volume.stack == int(np.abs(normal).argmax())
    for index, uid in enumerate(found.sops):
        (dataset,) = (d for d in stack if d.SOPInstanceUID == uid)
        corner = np.linalg.inv(volume.affine) @ [*(dataset.ImagePositionPatient - volume.shifts[index]), 1]
        ours = tuple(np.rint(corner[:3]).astype(int))
        np.testing.assert_allclose(corner[:3], ours, atol=1e-5)
        assert ours[volume.stack] == index
        assert volume.array[ours[::-1]] == HU[dataset.InstanceNumber - 1][0, 0]


# ---- copies, localizers, what does not belong


def test_a_slice_in_two_files_counts_once(saved):
    stack = [at(z, n) for n, z in enumerate(HEIGHTS)]
    found = series.read(saved([*stack, stack[2], stack[2], stack[5]]))
    assert heights(only(found)) == pytest.approx(HEIGHTS)
    assert left(found) == [("duplicate", 3)]
    assert only(found).volume.flags == ()


def test_the_same_pixels_at_the_same_place_count_once_whatever_their_uid(saved):
    stack = [at(z, n, AcquisitionNumber=n // 3) for n, z in enumerate(HEIGHTS)]
    found = series.read(saved([*stack, at(HEIGHTS[4], 9, AcquisitionNumber=7)]))
    assert heights(only(found)) == pytest.approx(HEIGHTS)
    assert left(found) == [("duplicate", 1)]


@pytest.mark.parametrize("first", [True, False])
def test_of_two_copies_the_whole_one_is_read(saved, first):
    stack = [at(z, n) for n, z in enumerate(HEIGHTS)]
    paths = saved([*stack, *stack[:3]])
    by_height = {path: pydicom.dcmread(path).ImagePositionPatient[2] for path in paths}
    for z in HEIGHTS[:3]:
        copies = [path for path in paths if by_height[path] == z]
        cut = copies[0] if first else copies[1]
        cut.write_bytes(cut.read_bytes()[:-100])
    found = series.read(paths)
    assert heights(only(found)) == pytest.approx(HEIGHTS)
    assert left(found) == [("duplicate", 3)]


def test_slices_without_a_uid_are_no_copies_of_each_other(saved):
    stack = slices()
    for d in stack:
        del d.SOPInstanceUID
    assert only(series.read(saved(stack))).volume.array.tolist() == HU.tolist()


def test_slices_that_all_have_one_uid_are_no_copies_of_each_other(saved):
    stack = slices(SOPInstanceUID="1.2.3")
    assert only(series.read(saved(stack))).volume.array.tolist() == HU.tolist()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("said", [True, False], ids=["ImageType", "direction"])
def test_localizers_of_the_series_are_left_out(saved, count, said):
    stack = [at(z, n) for n, z in enumerate(HEIGHTS)]
    types = ["ORIGINAL", "PRIMARY", "LOCALIZER" if said else "AXIAL"]
    across = AXIAL if said else CORONAL
    scouts = [ct_slice(20 + n, HU[n], orientation=across, ImageType=types) for n in range(count)]
    found = series.read(saved([*scouts, *stack]))
    assert heights(only(found)) == pytest.approx(HEIGHTS)
    assert left(found) == [("localizer", count)]


def test_more_than_a_few_slices_across_the_others_are_a_volume(saved):
    across = [ct_slice(20 + n, HU[n], orientation=CORONAL) for n in range(4)]
    assert sorted(len(one.sops) for one in series.read(saved([*slices(), *across])).stacks) == [4, COUNT]


def test_three_planes_of_one_series_are_three_volumes(saved):
    planes = {"axial": AXIAL, "coronal": CORONAL, "sagittal": (0, 1, 0, 0, 0, -1)}
    stack = [
        ct_slice(n, HU[n], orientation=plane, SOPInstanceUID=generate_uid())
        for plane in planes.values()
        for n in range(3)
    ]
    found = series.read(saved(stack))
    assert [one.name for one in found.stacks] == ["s0", "s1", "s2"]
    assert sorted(one.volume.stack for one in found.stacks) == [0, 1, 2]
    assert found.left_out == ()


def test_a_case_of_localizers_alone_is_refused(saved):
    assert refused(saved(slices(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))).reason == "localizer"


def test_what_is_no_picture_is_left_out_and_counted(saved):
    other = {"1.2.840.10008.5.1.4.1.1.66.4": "SEG", "1.2.840.10008.5.1.4.1.1.481.2": "RTDOSE"}
    objects = [ct_slice(9, HU[0], SOPClassUID=uid, Modality=code) for uid, code in other.items()]
    report = ct_slice(10, HU[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", Modality="RTSTRUCT")
    del report.PixelData
    found = series.read(saved([*slices(), *objects, report]))
    assert only(found).volume.array.tolist() == HU.tolist()
    assert left(found) == [("not_an_image", 1), ("not_an_image", 2)]
    assert refused(saved([report], "alone")).reason == "not_an_image"


def test_siemens_mosaics_are_no_slices(saved):
    mosaic = ct_slice(9, HU[0], ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    assert left(series.read(saved([*slices(), mosaic]))) == [("not_3d", 1)]


def test_colours_are_no_volume(saved):
    stack = slices(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8)
    for d in stack:
        d.BitsStored, d.HighBit = 8, 7
        d.PixelData = bytes(ROWS * COLUMNS * 3)
    assert refused(saved(stack)).reason == "not_3d"


@pytest.mark.parametrize("key", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
@pytest.mark.parametrize("wrong", ["absent", None, [1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.9, -0.7]], ids=repr)
def test_a_slice_without_its_place_is_left_out_and_leaves_a_gap(saved, key, wrong):
    stack = [at(z, n) for n, z in enumerate(HEIGHTS)]
    if wrong == "absent":
        delattr(stack[2], key)
    else:
        setattr(stack[2], key, wrong)
    found = series.read(saved(stack))
    assert left(found) == [("no_geometry", 1)]
    assert heights(only(found)) == pytest.approx([z for n, z in enumerate(HEIGHTS) if n != 2])
    assert only(found).volume.flags == ("gap",)
    assert found.planar == ()


def test_pictures_without_a_place_are_planar(saved):
    film = ct_slice(9, HU[0], uid="1.2.3", Modality="DX")
    del film.ImagePositionPatient, film.ImageOrientationPatient
    cine = ct_slice(10, HU[0], uid="1.2.4", Modality="US", NumberOfFrames=2)
    cine.PixelData = cine.PixelData * 2
    films, volume = saved([film, cine], "films"), saved(slices())
    found = series.read([*volume, *films])
    assert found.planar == tuple(films)
    assert only(found).volume.array.shape == HU.shape
    assert series.read(films) == series.Assembled((), tuple(films), ())


# ---- damaged files


def test_one_bad_slice_does_not_cost_the_series(saved):
    paths = saved([at(z, n) for n, z in enumerate(HEIGHTS)])
    whole = {path: pydicom.dcmread(path).ImagePositionPatient[2] for path in paths}
    paths[1].write_bytes(paths[1].read_bytes()[:-400])
    paths[4].write_bytes(b"not DICOM" * 100)
    paths[6].write_bytes(b"")
    found = series.read(paths)
    bad = {paths[1], paths[4], paths[6]}
    assert heights(only(found)) == pytest.approx(sorted(z for path, z in whole.items() if path not in bad))
    assert left(found) == [("empty_file", 1), ("truncated", 1), ("undecodable", 1)]
    assert len(only(found).sops) == 5


@pytest.mark.parametrize("slope", [0, "1e300"])
def test_a_slice_whose_pixels_can_not_be_scaled_is_left_out(saved, slope):
    stack = [at(z, n) for n, z in enumerate(HEIGHTS)]
    stack[3].RescaleSlope = slope
    found = series.read(saved(stack))
    assert left(found) == [("undecodable", 1)]
    assert heights(only(found)) == pytest.approx([z for n, z in enumerate(HEIGHTS) if n != 3])


def test_a_series_of_bad_slices_says_what_most_of_them_are(saved):
    paths = saved(slices())
    for path in paths:
        path.write_bytes(path.read_bytes()[:-300])
    paths[0].write_bytes(b"")
    assert refused(paths).reason == "truncated"
    with pytest.raises(Unusable, match=r"^missing_image: no such file"):
        series.read([Path("gone.dcm")])


def test_a_file_cut_anywhere_is_left_out(saved):
    paths = saved(slices())
    data = paths[2].read_bytes()
    reasons = set()
    for size in [*range(1, 1400, 37), len(data) // 2, len(data) - 100]:
        paths[2].write_bytes(data[:size])
        found = series.read(paths)
        assert only(found).volume.array.shape == (COUNT - 1, ROWS, COLUMNS)
        reasons |= {row.reason for row in found.left_out}
    assert "truncated" in reasons
    assert reasons <= {"truncated", "undecodable", "unreadable", "no_geometry", "not_an_image"}


def test_a_header_with_changed_bytes_is_read_or_left_out(saved):
    paths = saved(slices())
    data = paths[1].read_bytes()
    rng = np.random.default_rng(9)
    for _ in range(80):
        changed = bytearray(data)
        for place in rng.integers(132, len(data) - 2 * ROWS * COLUMNS, 3):
            changed[place] = rng.integers(0, 256)
        paths[1].write_bytes(changed)
        found = series.read(paths)
        files = (
            sum(len(one.sops) for one in found.stacks) + len(found.planar) + sum(row.count for row in found.left_out)
        )
        assert files == COUNT
        assert "DOE" not in repr((found.left_out, [one._replace(volume=None, voi=()) for one in found.stacks]))


def test_a_volume_larger_than_memory_is_refused_before_its_pixels_are_read(saved):
    stack = slices(Rows=60000, Columns=60000)
    assert refused(saved(stack)).reason == "too_large"


# ---- several acquisitions


def echoes(number_of, **more) -> list[Dataset]:
    """Two acquisitions of every place; the second lies 1000 HU higher."""
    pairs = [(n, echo) for n in range(COUNT) for echo in (0, 1)]
    return [
        ct_slice(2 * n + echo, HU[n] // 2 + 1000 * echo, position=(0, 0, n * STEP), **number_of(n, echo), **more)
        for n, echo in pairs
    ]


@pytest.mark.parametrize(
    "tags",
    [
        lambda n, echo: {"EchoTime": 4.6 * (echo + 1)},
        lambda n, echo: {"TemporalPositionIdentifier": echo + 1},
        lambda n, echo: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[echo]]},
        lambda n, echo: {"AcquisitionNumber": echo},
        lambda n, echo: {"AcquisitionNumber": 100 * echo + n},
        lambda n, echo: {"AcquisitionNumber": n, "DiffusionBValue": 1000.0 * echo},
        lambda n, echo: {"TriggerTime": 31.5 * n + 800 * echo},
        lambda n, echo: {"AcquisitionTime": f"12{echo:02d}{n:02d}.5"},
    ],
    ids=["echo", "time", "type", "acquisition", "running number", "b value", "trigger", "hour"],
)
def test_two_acquisitions_of_one_place_are_two_volumes(saved, tags):
    found = series.read(saved(echoes(tags)))
    assert [(one.name, one.volume.flags) for one in found.stacks] == [("s0", ()), ("s1", ())]
    for echo, one in enumerate(found.stacks):
        np.testing.assert_array_equal(one.volume.array, HU // 2 + 1000 * echo)
    assert found.left_out == ()


def test_one_slice_without_its_tag_does_not_cost_the_others(saved):
    stack = echoes(lambda n, echo: {"EchoTime": 4.6 * (echo + 1)})
    del stack[5].EchoTime
    found = series.read(saved(stack))
    assert sorted(len(one.volume.array) for one in found.stacks) == [1, COUNT - 1, COUNT]
    assert found.left_out == ()


def test_two_acquisitions_without_uids_are_two_volumes(saved):
    stack = echoes(lambda n, echo: {"EchoTime": 4.6 * (echo + 1)})
    for d in stack:
        del d.SOPInstanceUID
    assert [one.volume.array.shape for one in series.read(saved(stack)).stacks] == [HU.shape] * 2


def test_equal_slices_side_by_side_are_no_copies(saved):
    stack = [at(z, n, y=300.0 * side, EchoTime=side + 1) for n, z in enumerate(HEIGHTS) for side in (0, 1)]
    found = series.read(saved(stack))
    assert [worlds(one)[:, 1].tolist() for one in found.stacks] == [[0] * COUNT, [300] * COUNT]
    assert found.left_out == ()


def test_two_acquisitions_that_nothing_tells_apart_are_refused(saved):
    error = refused(saved(echoes(lambda n, echo: {"AcquisitionNumber": n})))
    assert error.reason == "duplicate_slices"
    assert error.detail == "8 slices share a place with another, and nothing tells them apart"


def test_a_group_that_is_refused_does_not_cost_the_others(saved):
    paths = saved([*echoes(lambda n, echo: {}), *slices(uid="1.2.3")])
    found = series.read(paths)
    assert only(found).volume.array.tolist() == HU.tolist()
    assert left(found) == [("duplicate_slices", 16)]


@pytest.mark.parametrize("numbers", [range(COUNT), [6, 6, 6, 7, 7, 7, 8, 8]], ids=["each slice", "each bed"])
def test_an_acquisition_number_that_varies_along_the_stack_parts_nothing(saved, numbers):
    stack = [at(z, n, AcquisitionNumber=number) for n, (z, number) in enumerate(zip(HEIGHTS, numbers, strict=True))]
    assert heights(only(series.read(saved(stack)))) == pytest.approx(HEIGHTS)


def test_directions_of_a_diffusion_series_are_parted_after_its_b_values(saved):
    directions = [None, [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    stack = [
        ct_slice(
            4 * n + k,
            HU[n] // 2 + 100 * k,
            position=(0, 0, n * STEP),
            DiffusionBValue=1000.0 if along else 0.0,
            **({"DiffusionGradientOrientation": along} if along else {}),
        )
        for n in range(COUNT)
        for k, along in enumerate(directions)
    ]
    found = series.read(saved(stack))
    shown = sorted(int((one.volume.array - HU // 2).mean()) for one in found.stacks)
    assert shown == [0, 100, 200, 300]
    assert int((found.stacks[0].volume.array - HU // 2).mean()) == 0  # b = 0 first


def test_acquisitions_that_overlap_a_little_are_parted(saved):
    beds = [(range(4), 1), (range(3, 7), 2), (range(6, 10), 3)]
    stack = [
        ct_slice(
            100 * bed + n, np.full((ROWS, COLUMNS), 100 * bed + n), position=(0, 0, n * STEP), AcquisitionNumber=bed
        )
        for of_bed, bed in beds
        for n in of_bed
    ]
    found = series.read(saved(stack))
    assert [one.volume.array[:, 0, 0].tolist() for one in found.stacks] == [
        [100 * bed + n for n in of_bed] for of_bed, bed in beds
    ]


def test_two_series_are_named_by_their_number_and_not_by_uid_or_path(saved):
    first, second = slices(uid="1.9", SeriesNumber=2), slices(uid="1.1", SeriesNumber=10)
    paths = [*saved(first, "z"), *saved([d for n, d in enumerate(second) if n < 3], "a")]
    found = series.read(paths)
    assert [(one.name, len(one.volume.array)) for one in found.stacks] == [("s0", COUNT), ("s1", 3)]


@pytest.mark.parametrize("odd", [{"PixelSpacing": [0.9, 0.71]}, {"FrameOfReferenceUID": "1.2.3"}])
def test_slices_on_another_grid_are_another_volume(saved, odd):
    found = series.read(saved([*slices(), ct_slice(9, HU[0], **odd)]))
    assert sorted(len(one.volume.array) for one in found.stacks) == [1, COUNT]


# ---- intensities


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int16), (2, 0, np.float32), (0.5, 0.25, np.float32), (1, 70000, np.int32)],
)
def test_intensities_are_rescaled(saved, slope, intercept, dtype):
    stack = slices(RescaleSlope=slope, RescaleIntercept=intercept)
    found = only(series.read(saved(stack))).volume.array
    np.testing.assert_allclose(found, (HU.astype(np.float64) + 1024) * slope + intercept)
    assert found.dtype == dtype


@pytest.mark.parametrize("empty", [None, "missing"])
def test_a_rescale_that_is_empty_or_missing_is_none(saved, empty):
    stack = slices(RescaleSlope=None, RescaleIntercept=None)
    for d in stack if empty == "missing" else ():
        del d.RescaleSlope, d.RescaleIntercept
    np.testing.assert_array_equal(only(series.read(saved(stack))).volume.array, HU.astype(np.int32) + 1024)


def test_each_slice_has_its_own_slope(saved):
    stack = slices()
    for n, d in enumerate(stack):
        d.RescaleSlope, d.RescaleIntercept = 1 + n / 4, 0
    found = only(series.read(saved(stack))).volume.array
    slopes = 1 + np.arange(COUNT)[:, None, None] / 4
    np.testing.assert_allclose(found, (HU.astype(float) + 1024) * slopes, rtol=1e-6)
    assert found.dtype == np.float32


def test_one_slice_of_large_values_widens_the_whole(saved):
    stack = slices()
    stack[5].RescaleIntercept = 60000
    found = only(series.read(saved(stack))).volume.array
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found[5], HU[5].astype(np.int32) + 61024)
    np.testing.assert_array_equal(found[4], HU[4])


def test_padding_is_one_known_intensity(saved):
    stack = slices(PixelPaddingValue=0)
    for n, d in enumerate(stack):
        stored = HU[n].astype(np.int32) + 1024
        stored[:3] = 0
        d.PixelData, d.RescaleIntercept = stored.astype("<u2").tobytes(), -1024 - n
    found = only(series.read(saved(stack)))
    assert found.background == -1024
    assert (found.volume.array[:, :3] == -1024).all()
    np.testing.assert_array_equal(found.volume.array[4, 3:], HU[4, 3:] - 4)


def test_a_range_of_padding_is_one_known_intensity(saved):
    stack = slices(PixelPaddingValue=0, PixelPaddingRangeLimit=20)
    for n, d in enumerate(stack):
        stored = np.maximum(HU[n].astype(np.int32) + 1024, 21)
        stored[0, :21] = np.arange(20, -1, -1)
        d.PixelData = stored.astype("<u2").tobytes()
    found = only(series.read(saved(stack)))
    assert (found.volume.array[:, 0, :21] == found.background).all()
    assert (found.volume.array[:, 1:] > -1004).all()


@pytest.mark.parametrize("padding", [None, 65000])
def test_there_is_no_background_where_no_pixel_is_padding(saved, padding):
    assert only(series.read(saved(slices(PixelPaddingValue=padding)))).background is None


def test_monochrome1_is_told_and_changes_no_intensity(saved):
    found = only(series.read(saved(slices(PhotometricInterpretation="MONOCHROME1"))))
    np.testing.assert_array_equal(found.volume.array, HU)
    assert found.inverted
    assert not only(series.read(saved(slices(), "plain"))).inverted


# ---- what else a header says


def test_the_windows_are_those_of_the_slice_in_the_middle(saved):
    stack = slices(WindowCenter=40, WindowWidth=400)
    stack[COUNT // 2].WindowCenter, stack[COUNT // 2].WindowWidth = [50, -600], [300, 1500]
    stack[COUNT // 2].WindowCenterWidthExplanation = ["SOFT", "LUNG"]
    found = only(series.read(saved(stack))).voi
    # LINEAR of PS3.3 C.11.2.1.2: black up to c - 0.5 - (w - 1) / 2, white from c - 0.5 + (w - 1) / 2
    assert [(one.bounds.low, one.bounds.high, one.words) for one in found] == [
        (50 - 0.5 - 149.5, 50 - 0.5 + 149.5, "SOFT"),
        (-600 - 0.5 - 749.5, -600 - 0.5 + 749.5, "LUNG"),
    ]


@pytest.mark.parametrize("width", [0, -5, None])
def test_a_window_without_a_width_is_none(saved, width):
    assert only(series.read(saved(slices(WindowCenter=40, WindowWidth=width)))).voi == ()


@pytest.mark.parametrize(
    ("said", "storage", "wanted"),
    [
        ("MR", CTImageStorage, "MR"),
        ("", CTImageStorage, "CT"),
        ("", "1.2.840.10008.5.1.4.1.1.4", "MR"),
        ("DOE JANE", CTImageStorage, "CT"),
        ("DOE JANE", "1.2.3", None),
        ("", "", None),
    ],
)
def test_a_modality_is_a_code_of_the_tag_or_what_the_storage_class_implies(saved, said, storage, wanted):
    assert only(series.read(saved(slices(Modality=said, SOPClassUID=storage)))).modality == wanted


PET = {
    "Modality": "PT",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["ATTN", "DECY"],
    "SeriesDate": "20200101",
    "SeriesTime": "130000",
    "AcquisitionDate": "20200101",
    "AcquisitionTime": "130000",
    "PatientWeight": 70,
    "WindowCenter": 5000,
    "WindowWidth": 10001,
}


def pet(**more) -> list[Dataset]:
    tracer = Dataset()
    tracer.RadiopharmaceuticalStartTime, tracer.RadionuclideHalfLife = "120000", 6586.2
    tracer.RadionuclideTotalDose = 350e6
    found = slices(**{**PET, "RadiopharmaceuticalInformationSequence": [tracer], **more})
    for n, d in enumerate(found):
        d.RescaleSlope, d.RescaleIntercept = 2 + n / 2, 0
    return found


FACTOR = 70 * 1000 / (350e6 * 2 ** (-3600 / 6586.2))
"""SUVbw g/ml of a Bq/ml: an hour after 350 MBq of fluorine 18 in 70 kg."""


def test_pet_is_read_in_suv(saved):
    found = only(series.read(saved(pet(PixelPaddingValue=int(HU[0, 0, 0]) + 1024))))
    slopes = 2 + np.arange(COUNT)[:, None, None] / 2
    wanted = (HU.astype(float) + 1024) * slopes * FACTOR
    seen = HU[0, 0, 0] != HU
    np.testing.assert_allclose(found.volume.array[seen], wanted[seen], rtol=1e-5)
    assert (found.suv, found.modality, found.volume.flags) == (True, "PT", ())
    assert found.background == pytest.approx(wanted[0, 0, 0], rel=1e-5)
    assert (found.volume.array[~seen] == found.background).all()
    (window,) = found.voi
    assert (window.bounds.low, window.bounds.high) == pytest.approx((-0.5 * FACTOR, 9999.5 * FACTOR))


def test_pet_without_a_weight_keeps_its_unit_and_is_flagged(saved):
    found = only(series.read(saved(pet(PatientWeight=None))))
    slopes = 2 + np.arange(COUNT)[:, None, None] / 2
    np.testing.assert_allclose(found.volume.array, (HU.astype(float) + 1024) * slopes, rtol=1e-6)
    assert (found.suv, found.volume.flags) == (False, ("suv_unavailable",))


def test_no_name_leaves_a_series(saved, tmp_path):
    stack = slices(SeriesDescription=NAME, ImageComments=NAME, StationName=NAME)
    shutil.copy(saved(stack)[0], tmp_path / f"{NAME}.dcm")
    found = series.read([*sorted((tmp_path / "s").iterdir()), tmp_path / f"{NAME}.dcm"])
    assert "DOE" not in repr(found)
    assert left(found) == [("duplicate", 1)]
