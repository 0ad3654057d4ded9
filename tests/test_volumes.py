"""NIfTI volumes and label maps, as they lie about in the world."""

import gzip

import nibabel as nib
import numpy as np
import pytest

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


def forms(sform, qform, sform_code=1, qform_code=1):
    image = nib.Nifti1Image(ARRAY, None)
    image.set_sform(sform, sform_code)
    image.set_qform(qform, qform_code)
    return image


def test_forms_that_agree_are_known(saved):
    assert volumes.read(saved(forms(AFFINE, AFFINE))).flags == ()


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


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 2), (5, 6, 7, 1, 3)])
def test_only_three_axes_are_a_volume(saved, shape):
    assert refused(saved(nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE))) == "not_3d"


def test_a_fourth_axis_of_one_is_none(saved):
    volume = volumes.read(saved(nib.Nifti1Image(ARRAY[..., None], AFFINE)))
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))


def test_colours_are_not_intensities(saved):
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert refused(saved(nib.Nifti1Image(colours, AFFINE))) == "not_3d"


def test_a_volume_too_large_is_refused_by_its_header(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    header.set_data_dtype(np.int16)
    (tmp_path / "v.nii").write_bytes(header.binaryblock + b"\0" * 4)
    assert refused(tmp_path / "v.nii") == "too_large"


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


def test_details_name_no_file(tmp_path):
    (tmp_path / "DOE^JANE.nii.gz").write_bytes(b"x" * 500)
    with pytest.raises(Unusable) as caught:
        volumes.read(tmp_path / "DOE^JANE.nii.gz")
    assert "DOE" not in caught.value.detail
