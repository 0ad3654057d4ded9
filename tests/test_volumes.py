"""Volumes and label maps in one file, as they lie about in the world; NRRD and MetaImage have pages of their own."""

import gzip
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import Unusable
from pipeline.ingest import volumes
from pipeline.ingest.volumes import as_labels

RNG = np.random.default_rng(4)
ARRAY = RNG.integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
AFFINE = np.array([[-2.0, 0, 0, 5], [0, -2.0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


@pytest.fixture
def saved(tmp_path):
    def make(image, name="v.nii.gz"):
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return make


def refused(path, labels=False) -> str:
    with pytest.raises(Unusable) as caught:
        (volumes.read_labels if labels else volumes.read)(path)
    return caught.value.reason


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.uint16, np.float32, np.float64])
def test_a_volume_has_the_intensities_that_nibabel_reads(saved, name, dtype):
    array = np.abs(ARRAY).clip(0, 250).astype(dtype)
    volume = volumes.read(saved(nib.Nifti1Image(array, AFFINE), name))
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))
    assert (volume.geometry, volume.flags) == ("known", ())
    np.testing.assert_allclose(volume.affine, [[2, 0, 0, -5], [0, 2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])


def test_intensities_are_scaled_as_the_header_says(saved):
    image = nib.Nifti1Image(ARRAY.astype(np.uint16), AFFINE)
    image.header.set_slope_inter(2.0, -1024.0)
    path = saved(image)
    stored = np.asarray(nib.load(path).dataobj.get_unscaled())
    np.testing.assert_array_equal(volumes.read(path).array, (stored * 2.0 - 1024.0).transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "wanted"),
    [
        (np.uint16, 1, -1024, np.int16),
        (np.int16, 1, 32700, np.int32),
        (np.uint8, 1, 0.5, np.float32),
        (np.uint8, 2.5, 0, np.float32),
        (np.int16, 0, 7, np.int16),  # a slope of 0 says: not scaled
        (np.float32, 2, 1, np.float32),
    ],
)
def test_whole_numbers_that_are_only_shifted_stay_whole_and_nothing_becomes_64_bits(
    tmp_path, dtype, slope, intercept, wanted
):
    array = np.abs(ARRAY.astype(np.int32)).clip(0, 250).astype(dtype)
    header = nib.Nifti1Image(array, AFFINE).header
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, intercept
    header["magic"] = b"n+1"
    (tmp_path / "v.nii").write_bytes(header.binaryblock + b"\0" * 4 + array.tobytes("F"))
    found = volumes.read(tmp_path / "v.nii").array
    assert found.dtype == wanted
    by_nibabel = np.asarray(nib.load(tmp_path / "v.nii").dataobj)
    np.testing.assert_allclose(found, by_nibabel.transpose(2, 1, 0), rtol=1e-6)


def test_scaled_labels_are_rounded_and_not_cut():
    scaled = np.arange(12).reshape(3, 4) * np.float32(0.9999999)
    assert scaled[0, 1] < 1  # truncation would make it background
    np.testing.assert_array_equal(as_labels(scaled), np.arange(12).reshape(3, 4))


def test_a_label_map_stored_with_a_slope_keeps_its_ids(saved):
    stored = RNG.integers(0, 255, (5, 6, 7)).astype(np.uint8)
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(1 / 255, 0)
    path = saved(image)
    raw = np.asarray(nib.load(path).dataobj.get_unscaled())
    image = nib.Nifti1Image(raw, AFFINE)
    image.header.set_slope_inter(np.float32(117 / 255) / np.float32(117 / 255), 0)
    np.testing.assert_array_equal(volumes.read_labels(saved(image)).array, raw.transpose(2, 1, 0))


def test_float_labels_become_integers(saved):
    labels = RNG.integers(0, 118, (5, 6, 7)).astype(np.float64)
    found = volumes.read_labels(saved(nib.Nifti1Image(labels, AFFINE)))
    assert found.array.dtype.kind == "i"
    np.testing.assert_array_equal(found.array, labels.transpose(2, 1, 0))


@pytest.mark.parametrize("value", [0.5, 1.02, np.nan, np.inf])
def test_interpolated_labels_are_refused(saved, value):
    labels = np.ones((5, 6, 7), np.float32)
    labels[2, 2, 2] = value
    assert refused(saved(nib.Nifti1Image(labels, AFFINE)), labels=True) == "interpolated_mask"


def test_a_soft_mask_is_read_with_a_threshold_only(saved):
    soft = np.linspace(-0.1, 1.1, ARRAY.size, dtype=np.float32).reshape(ARRAY.shape)
    soft[0, 0, 0] = np.nan
    path = saved(nib.Nifti1Image(soft, AFFINE))
    with pytest.raises(Unusable, match=r"^interpolated_mask: .*") as caught:
        volumes.read_labels(path)
    assert caught.value.reason == "interpolated_mask"
    found = volumes.read_labels(path, threshold=0.5).array
    assert (found.dtype, found.sum()) == (np.uint8, np.count_nonzero(soft >= 0.5))
    np.testing.assert_array_equal(found, (soft >= 0.5).transpose(2, 1, 0))


def test_the_value_that_is_no_id_is_told(saved):
    labels = np.ones((5, 6, 7), np.float32)
    labels[2, 2, 2] = 1.5
    with pytest.raises(Unusable, match=r"the label map holds 1\.5; `threshold` reads a soft mask"):
        volumes.read_labels(saved(nib.Nifti1Image(labels, AFFINE)))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_ids_may_be_large_sparse_and_negative(saved, dtype):
    ids = np.array([0, 1, 2, 4, 255, 256, 257, 300, 1000, 30000])
    ids = np.r_[ids, [-1, -7]] if np.dtype(dtype).kind != "u" else ids
    labels = RNG.choice(ids, ARRAY.shape).astype(dtype)
    found = volumes.read_labels(saved(nib.Nifti1Image(labels, AFFINE))).array
    np.testing.assert_array_equal(found, labels.transpose(2, 1, 0))


def test_numbers_beyond_all_ids_are_refused(saved):
    assert refused(saved(nib.Nifti1Image(np.full((3, 3, 3), 3e9), AFFINE)), labels=True) == "interpolated_mask"


def test_labels_that_nibabel_scaled_down_are_its_own_numbers_again(saved):
    """Saved from float64 as int16: truncation would give 12 of 24 labels to their neighbours."""
    labels = RNG.integers(0, 24, ARRAY.shape).astype(np.float64)
    image = nib.Nifti1Image(labels, AFFINE)
    image.header.set_data_dtype(np.int16)
    path = saved(image)
    assert nib.load(path).dataobj.slope not in (0, 1)
    np.testing.assert_array_equal(volumes.read_labels(path).array, labels.transpose(2, 1, 0))


def test_what_is_not_finite_is_replaced_by_the_lowest_and_flagged(saved):
    array = ARRAY.astype(np.float32)
    array[0, 0, 0], array[1, 0, 0], array[2, 0, 0] = np.nan, np.inf, -np.inf
    volume = volumes.read(saved(nib.Nifti1Image(array, AFFINE)))
    assert volume.flags == ("not_finite_replaced",)
    lowest = array[np.isfinite(array)].min()
    assert volume.array[0, 0, :3].tolist() == [lowest] * 3
    np.testing.assert_array_equal(volume.array[1:], array.transpose(2, 1, 0)[1:])


def test_a_volume_of_nothing_but_nan_is_zero(saved):
    volume = volumes.read(saved(nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), AFFINE)))
    assert set(volume.array.ravel().tolist()) == {0.0}


# ---- what the header says of positions


def patched(path, values):
    """Write values into a header that nibabel would not write."""
    data = path.read_bytes()
    header = nib.Nifti1Header(data[:348], check=False)
    for name, value in values.items():
        header[name] = value
    path.write_bytes(header.binaryblock + data[348:])
    return path


def forms(sform, qform, sform_code=1, qform_code=1):
    image = nib.Nifti1Image(ARRAY, None)
    image.set_sform(sform, sform_code)
    image.set_qform(qform, qform_code)
    return image


def test_forms_that_agree_are_known(saved):
    assert volumes.read(saved(forms(AFFINE, AFFINE))).flags == ()


def turned(degrees: float, axes: tuple[int, int]) -> np.ndarray:
    turn, affine = np.radians(degrees), np.eye(4)
    one, other = axes
    affine[one, one] = affine[other, other] = np.cos(turn)
    affine[one, other], affine[other, one] = -np.sin(turn), np.sin(turn)
    return affine


MIRRORED = np.diag([-1.0, 1, 1, 1]) @ AFFINE


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "counts", "geometry"),
    [
        (AFFINE, MIRRORED, (1, 1), "s", "unknown"),
        (AFFINE, MIRRORED, (1, 2), "s", "unknown"),
        (AFFINE, MIRRORED, (2, 1), "s", "unknown"),  # ITK takes the qform: left and right are swapped
        (AFFINE, MIRRORED, (4, 1), "s", "unknown"),
        (AFFINE, MIRRORED, (0, 1), "q", "known"),
        (AFFINE, MIRRORED, (1, 0), "s", "known"),
        (AFFINE, np.diag([1.0, -1, 1, 1]) @ AFFINE, (1, 1), "s", "unknown"),
        (AFFINE, turned(90, (0, 1)) @ AFFINE, (1, 1), "s", "unknown"),
        (AFFINE, turned(20, (1, 2)) @ AFFINE, (4, 1), "s", "known"),
    ],
)
def test_forms_that_name_other_sides_leave_left_and_right_unknown(saved, sform, qform, codes, counts, geometry):
    path = saved(forms(sform, qform, *codes))
    volume = volumes.read(path)
    assert volume.geometry == geometry
    assert volume.flags == (("form_conflict",) if all(codes) else ())
    np.testing.assert_allclose(nib.load(path).affine, sform if counts == "s" else qform, atol=1e-5)
    by_nibabel = nib.as_closest_canonical(nib.load(path)).dataobj  # RAS
    np.testing.assert_array_equal(volume.array, np.asarray(by_nibabel)[::-1, ::-1].transpose(2, 1, 0))


IN_VOXELS = np.diag([-1.0, -1, 1, 1])
"""An sform whose voxels are cubes of 1 mm, as the files of ACDC have it."""


def by_itk(path) -> sitk.Image:
    sitk.ProcessObject_SetGlobalWarningDisplay(False)  # "unexpected scales in sform"
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize("sform_code", [1, 2, 4])
@pytest.mark.parametrize("sform", [IN_VOXELS, np.diag([-2.0, -2, 3.1, 1])])
def test_an_sform_whose_voxels_are_not_as_large_as_pixdim_says_does_not_count(saved, sform, sform_code):
    path = saved(forms(sform, AFFINE, sform_code))
    volume, itk = volumes.read(path), by_itk(path)
    assert (volume.geometry, volume.flags) == ("known", ("form_conflict",))
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(volume.spacing, nib.load(path).header.get_zooms(), rtol=1e-6)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    np.testing.assert_allclose(volume.affine[:3, 3], [-5, -6, 7], atol=1e-5)


@pytest.mark.parametrize(("sform", "qform"), [(IN_VOXELS, MIRRORED), (np.diag([0.0, 0, 0, 1]), AFFINE)])
def test_such_an_sform_still_leaves_the_sides_unknown_that_it_does_not_agree_on(saved, sform, qform):
    volume = volumes.read(saved(forms(sform, qform)))
    assert (volume.geometry, volume.flags) == ("unknown", ("form_conflict",))
    np.testing.assert_allclose(volume.spacing, (2, 2, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("sform", "qform", "codes"),
    [
        (AFFINE, IN_VOXELS, (1, 1)),  # a pixdim that nobody filled in
        (IN_VOXELS, AFFINE, (1, 0)),  # no second witness
        (np.diag([-2.0, -2, 3.02, 1]), np.diag([-2.0, -2, 3, 1]), (1, 1)),  # rounding
        (turned(20, (1, 2)) @ AFFINE, AFFINE, (4, 1)),
    ],
)
def test_in_all_other_cases_the_lengths_are_those_of_the_sform(saved, sform, qform, codes):
    path = saved(forms(sform, qform, *codes))
    wanted = nib.affines.voxel_sizes(nib.load(path).affine)
    np.testing.assert_allclose(volumes.read(path).spacing, wanted, rtol=1e-6)
    np.testing.assert_allclose(wanted, nib.affines.voxel_sizes(sform), rtol=1e-6)


def test_a_mirrored_qform_is_found_on_voxels_of_a_microscope_too(saved):
    tiny = np.diag([1e-4, 1e-4, 1e-4, 1])
    assert volumes.read(saved(forms(tiny @ AFFINE, tiny @ MIRRORED))).geometry == "unknown"


def test_axes_that_lean_are_kept_and_flagged(saved):
    lean = np.eye(4)
    lean[0, 1] = np.tan(np.radians(10))
    volume = volumes.read(saved(forms(lean @ AFFINE, None, 1, 0)))
    assert (volume.geometry, volume.flags) == ("known", ("sheared",))
    np.testing.assert_allclose(volume.affine, np.diag([-1, -1, 1, 1]) @ lean @ AFFINE @ flip(volume), atol=1e-5)
    both = volumes.read(saved(forms(lean @ AFFINE, AFFINE)))  # ITK reads the qform and drops the lean
    assert (both.geometry, both.flags) == ("known", ("form_conflict", "sheared"))
    np.testing.assert_allclose(both.affine, volume.affine)


def flip(volume) -> np.ndarray:
    """Index of LPS to index as stored, for axes in their own order."""
    back = np.eye(4)
    for axis, flipped in enumerate(volume.flipped):
        if flipped:
            back[axis, axis], back[axis, 3] = -1, volume.array.shape[2 - axis] - 1
    return back


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_other_units_become_mm(saved, unit, factor):
    image = forms(AFFINE, AFFINE)
    image.header.set_xyzt_units(unit, "sec")
    path = saved(image)
    np.testing.assert_allclose(volumes.read(path).spacing, np.array([2, 2, 3]) * factor, rtol=1e-6)
    np.testing.assert_allclose(volumes.read(path, assume="RAS").spacing, np.array([2, 2, 3]) * factor, rtol=1e-6)


def test_a_qform_that_is_no_rotation_counts_only_where_it_is_alone(saved):
    for codes, wanted in (((1, 1), "known"), ((0, 1), "bad_geometry")):
        path = patched(saved(forms(AFFINE, AFFINE, *codes), "v.nii"), {"quatern_b": 5.0, "quatern_c": 5.0})
        assert (volumes.read(path).geometry if codes[0] else refused(path)) == wanted


def test_a_header_without_spacing_may_be_assumed_in_voxels(saved):
    path = patched(saved(forms(None, None, 0, 0), "v.nii"), {"pixdim": [1, 2, 0, np.nan, 0, 0, 0, 0]})
    volume = volumes.read(path, assume="LPS")
    assert (volume.spacing, volume.flags) == ((2.0, 1.0, 1.0), ("no_spacing",))
    assert volumes.read(path).geometry == "unknown"


def test_forms_that_conflict_are_flagged_and_the_sform_counts(saved):
    other = AFFINE.copy()
    other[0, 3] += 1.5
    volume = volumes.read(saved(forms(AFFINE, other)))
    assert (volume.geometry, volume.flags) == ("known", ("form_conflict",))
    np.testing.assert_allclose(volume.affine[:3, 3], [-5, -6, 7])


def test_a_conflict_within_a_millimetre_is_rounding(saved):
    other = AFFINE.copy()
    other[0, 3] += 0.9
    assert volumes.read(saved(forms(AFFINE, other))).flags == ()


def test_a_qform_alone_counts(saved):
    volume = volumes.read(saved(forms(None, AFFINE, 0, 1)))
    assert (volume.geometry, volume.flags) == ("known", ())
    np.testing.assert_allclose(volume.affine[:3, 3], [-5, -6, 7], atol=1e-5)


def test_without_forms_the_geometry_is_unknown(saved):
    volume = volumes.read(saved(forms(None, None, 0, 0)))
    assert (volume.geometry, volume.flags) == ("unknown", ("no_orientation",))


def test_a_curator_may_say_how_the_array_lies(saved):
    volume = volumes.read(saved(forms(None, None, 0, 0)), assume="RAS")
    assert volume.geometry == "assumed"
    np.testing.assert_array_equal(volume.array, ARRAY[::-1, ::-1].transpose(2, 1, 0))
    other = volumes.read(saved(forms(AFFINE, AFFINE)), assume="LPS")
    np.testing.assert_array_equal(other.array, ARRAY.transpose(2, 1, 0))
    np.testing.assert_allclose(other.spacing, (2, 2, 3))


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd", "v.mha"])
@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, -1, 1, 1]) @ AFFINE, AFFINE[:, [2, 0, 1, 3]]])
def test_where_the_header_means_nothing_the_array_is_taken_as_it_is_stored(saved, tmp_path, affine, name):
    path = saved(forms(affine, affine))
    itk = by_itk(path)
    sitk.WriteImage(itk, str(tmp_path / name))
    volume = volumes.read(tmp_path / name, assume="unknown")
    assert (volume.geometry, volume.flags) == ("unknown", ())
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))  # z, y, x of the file
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing(), rtol=1e-6)
    assert (volume.stored_axes, volume.flipped) == ((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_sform_without_a_volume_is_refused(tmp_path, value):
    header = forms(AFFINE, None, 1, 0).header
    header["srow_z"][2] = value
    (tmp_path / "v.nii").write_bytes(header.binaryblock + b"\0" * 4 + ARRAY.tobytes("F"))
    assert refused(tmp_path / "v.nii") == "bad_geometry"


def test_voxels_of_a_microscope_are_a_volume(saved):
    tiny = AFFINE * 1e-4
    volume = volumes.read(saved(forms(tiny, None, 1, 0)))
    np.testing.assert_allclose(volume.spacing, (2e-4, 2e-4, 3e-4), rtol=1e-5)


# ---- shapes


@pytest.mark.parametrize("shape", [(5,), (5, 6, 7, 2), (5, 6, 7, 1, 3), (5, 6, 7, 2, 3), (5, 6, 0)])
def test_only_three_axes_are_a_volume(saved, shape):
    assert refused(saved(nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE))) == "not_3d"


@pytest.mark.parametrize("more", [(1,), (1, 1), (1, 1, 1, 1)])
def test_further_axes_of_one_are_none(saved, more):
    volume = volumes.read(saved(nib.Nifti1Image(ARRAY.reshape(*ARRAY.shape, *more), AFFINE)))
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 1, 1)])
def test_one_slice_is_a_volume(saved, shape):
    volume = volumes.read(saved(nib.Nifti1Image(ARRAY[..., 0].reshape(shape), AFFINE)))
    np.testing.assert_array_equal(volume.array, ARRAY[None, ..., 0].transpose(0, 2, 1))


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_volume_along_the_fourth_axis_is_read_by_its_number(saved, name):
    series = RNG.integers(-9, 9, (5, 6, 7, 3)).astype(">i2")
    path = saved(nib.Nifti1Image(series, AFFINE), name)
    assert volumes.channels(path) == 3
    for channel in range(3):
        for found in (volumes.read(path, channel=channel), volumes.read_labels(path, channel=channel)):
            np.testing.assert_array_equal(found.array, series[..., channel].transpose(2, 1, 0))
    with pytest.raises(Unusable, match=r"^not_3d: 3 volumes along a fourth axis; channels\.axis names them"):
        volumes.read(path)
    with pytest.raises(Unusable, match=r"^not_3d: channel 4 is wanted, the file holds 3"):
        volumes.read(path, channel=3)


def test_a_volume_of_its_own_is_channel_nought(saved):
    path = saved(nib.Nifti1Image(ARRAY, AFFINE))
    assert volumes.channels(path) == 1
    np.testing.assert_array_equal(volumes.read(path, channel=0).array, volumes.read(path).array)


def test_colours_are_not_intensities(saved):
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refused(saved(nib.Nifti1Image(colours, AFFINE))) == "not_3d"


@pytest.mark.parametrize(
    ("code", "reason"), [(32, "not_3d"), (1536, "not_3d"), (1792, "not_3d"), (1, "not_3d"), (777, "undecodable")]
)
def test_complex_very_long_and_single_bit_numbers_are_not_intensities(saved, code, reason):
    path = saved(nib.Nifti1Image(np.zeros((3, 4, 40), np.int16), AFFINE), "v.nii")
    assert refused(patched(path, {"datatype": code})) == reason


def test_a_header_of_the_second_version_is_read(tmp_path):
    nib.save(nib.Nifti2Image(ARRAY, AFFINE), tmp_path / "v.nii")
    volume = volumes.read(tmp_path / "v.nii")
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine[:3, 3], [-5, -6, 7])


def test_a_volume_too_large_is_refused_by_its_header(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    header.set_data_dtype(np.int16)
    (tmp_path / "v.nii").write_bytes(header.binaryblock + b"\0" * 4)
    assert refused(tmp_path / "v.nii") == "too_large"


# ---- any format under any name


@pytest.fixture
def same_volume(tmp_path):
    """One volume in every format; its bytes by format."""
    nib.save(nib.Nifti1Image(ARRAY, AFFINE), tmp_path / "v.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "v.nii.gz"))
    for name in ("v.nii", "v.nrrd", "v.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
    return {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())}


@pytest.mark.parametrize("name", ["v.nii", "v.nrrd", "v.mha", "v.mhd", "v.dat"])
@pytest.mark.parametrize("held", ["v.nii.gz", "v.nii", "v.nrrd", "v.mha"])
def test_a_volume_is_read_by_what_the_file_holds(same_volume, tmp_path, name, held):
    path = tmp_path / "other" / name
    path.parent.mkdir()
    path.write_bytes(same_volume[held])
    volume = volumes.read(path)
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine, [[2, 0, 0, -5], [0, 2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])
    np.testing.assert_array_equal(volumes.read(path, assume="RAS").array, ARRAY[::-1, ::-1].transpose(2, 1, 0))


def test_a_name_that_says_gzip_wants_gzip(same_volume, tmp_path):
    (tmp_path / "w.nii.gz").write_bytes(same_volume["v.nii"])
    assert refused(tmp_path / "w.nii.gz") == "undecodable"


def test_a_pointer_of_git_lfs_is_told(tmp_path):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for name in ("v.nii.gz", "v.nrrd"):
        (tmp_path / name).write_text(text)
        assert refused(tmp_path / name) == "lfs_pointer"


def test_a_folder_is_unreadable(tmp_path):
    assert refused(tmp_path) == "unreadable"


@pytest.mark.parametrize(
    ("dtype", "slope"), [(np.int16, 1.0), (np.int16, 0.5), (np.float32, 1.0), (np.float64, 1.0), (">i2", 1.0)]
)
@pytest.mark.parametrize("labels", [False, True])
def test_reading_takes_no_more_memory_than_three_volumes(saved, dtype, slope, labels):
    array = np.zeros((64, 64, 64), dtype)
    array[20:40, 20:40] = 2
    image = nib.Nifti1Image(array, AFFINE, dtype=np.dtype(dtype))
    image.header.set_slope_inter(slope, 0)
    path = saved(image)
    (volumes.read_labels if labels else volumes.read)(path)  # imports and caches are no part of it
    tracemalloc.start()
    try:
        volume = (volumes.read_labels if labels else volumes.read)(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * volume.array.nbytes + 2**23, "and what is read at once"


# ---- broken files


def test_a_file_that_is_not_there_and_one_without_bytes(tmp_path):
    assert refused(tmp_path / "none.nii.gz") == "missing_image"
    (tmp_path / "empty.nii.gz").write_bytes(b"")
    assert refused(tmp_path / "empty.nii.gz") == "empty_file"


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_file_cut_anywhere_is_refused(saved, tmp_path, name):
    data = saved(nib.Nifti1Image(ARRAY, AFFINE), name).read_bytes()
    reasons = set()
    for size in [1, 3, 100, 347, 348, 349, 351, 352, 360, *range(len(data) // 2, len(data) - 8, 23)]:
        (tmp_path / f"cut_{name}").write_bytes(data[:size])
        reasons.add(refused(tmp_path / f"cut_{name}"))
    assert reasons <= {"truncated", "undecodable"}
    (tmp_path / f"half_{name}").write_bytes(data[: len(data) * 3 // 4])
    assert refused(tmp_path / f"half_{name}") == "truncated"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("v.nii", b"this is no volume" * 50, "undecodable"),
        ("v.nii.gz", b"this is no volume" * 50, "undecodable"),
        ("v.nii.gz", gzip.compress(b"this is no volume" * 50), "undecodable"),
        ("v.nii", b"short", "truncated"),
        ("v.nii.gz", gzip.compress(b"short"), "truncated"),
    ],
    ids=["plain", "not gzip", "gzip", "short", "short gzip"],
)
def test_what_is_not_nifti_is_refused(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    assert refused(tmp_path / name) == reason


def test_a_header_with_changed_bytes_is_a_volume_or_a_reason(saved, tmp_path):
    data = saved(nib.Nifti1Image(ARRAY, AFFINE), "v.nii").read_bytes()
    rng = np.random.default_rng(6)
    for n in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, 352, 2):
            changed[at] = rng.integers(0, 256)
        path = tmp_path / f"{n}.nii"
        path.write_bytes(changed)
        try:
            found = volumes.read(path).array.ndim
        except Unusable as error:
            found = error.reason
        assert found in (3, "undecodable", "truncated", "too_large", "not_3d", "bad_geometry")


def test_compressed_voxels_with_a_changed_byte_are_never_read_as_others(saved):
    path = saved(nib.Nifti1Image(ARRAY, AFFINE))
    data = path.read_bytes()
    for at in range(30, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 0x10
        path.write_bytes(changed)
        assert refused(path) in ("undecodable", "truncated")


def test_a_header_that_promises_more_than_the_file_can_hold_takes_no_memory(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 2000))
    tracemalloc.start()
    try:
        assert refused(tmp_path / "v.nii.gz") == "truncated"
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd", "v.mha"])
def test_details_name_no_file(tmp_path, name):
    path = tmp_path / f"DOE^JANE.{name}"
    for data in (b"x" * 500, b"NRRD0004\ntype: DOE\n\n", b"ObjectType = DOE\nElementDataFile = DOE.raw\n"):
        path.write_bytes(data)
        with pytest.raises(Unusable) as caught:
            volumes.read(path)
        assert "DOE" not in caught.value.detail
