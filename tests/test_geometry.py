"""The grid of a volume: every stored order of axes becomes LPS, and masks are laid over in mm."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import Unusable
from pipeline.ingest import volumes
from pipeline.ingest.geometry import Volume, assumed_affine, laid_over, placed, same_grid, to_lps

ORDERS = ["".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)]
"""All 48 ways to store a volume."""
SIZE, SPACING, ORIGIN = (9, 11, 13), (0.8, 1.5, 3.0), (10.0, -20.0, 30.0)
MARKS = {100: (2, 3, 4), 200: (7, 3, 4), 300: (2, 8, 10)}
"""Intensity to index (x, y, z) in LPS: three voxels in general position."""
RNG = np.random.default_rng(2)


def phantom() -> np.ndarray:
    array = RNG.integers(-50, 50, SIZE).astype(np.int16)
    for value, index in MARKS.items():
        array[index] = value
    return array


def mm_of(index) -> np.ndarray:
    """LPS mm of a voxel's centre."""
    return np.array(ORIGIN) + np.array(index) * SPACING


@pytest.fixture
def stored(tmp_path, lps_nifti):
    """Store an LPS array in some order of axes and read it back: `stored("RAS", array)`."""

    def make(codes: str, array: np.ndarray, name: str = "v.nii.gz", origin=ORIGIN, spacing=SPACING) -> Volume:
        nib.save(lps_nifti(array, spacing, origin, codes), tmp_path / name)
        return volumes.read(tmp_path / name)

    return make


def test_there_are_forty_eight_orders():
    assert len(set(ORDERS)) == 48


@pytest.mark.parametrize("codes", ORDERS)
def test_every_order_of_axes_becomes_lps(stored, tmp_path, codes):
    array = phantom()
    volume = stored(codes, array)
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "v.nii.gz").affine)) == codes
    itk = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "v.nii.gz")), "LPS")
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.spacing, itk.GetSpacing(), atol=1e-5)
    for value, index in MARKS.items():
        i, j, k = itk.TransformPhysicalPointToIndex(mm_of(index).tolist())
        assert volume.array[k, j, i] == value
        np.testing.assert_allclose((volume.affine @ [i, j, k, 1])[:3], mm_of(index), atol=1e-4)
    assert volume.obliquity == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("codes", ORDERS)
def test_the_way_back_to_the_stored_array_is_kept(stored, tmp_path, codes):
    volume = stored(codes, phantom())
    there = np.asarray(nib.load(tmp_path / "v.nii.gz").dataobj)
    for value, index in MARKS.items():
        at = [0, 0, 0]
        for axis in range(3):
            step = SIZE[axis] - 1 - index[axis] if volume.flipped[axis] else index[axis]
            at[volume.stored_axes[axis]] = step
        assert there[tuple(at)] == value


def test_turning_an_array_copies_nothing():
    array = phantom()
    assert np.shares_memory(to_lps(array, np.diag([-1.0, 2.0, -3.0, 1.0])).array, array)


@pytest.mark.parametrize("degrees", [5.0, 20.0, 40.0])
def test_obliquity_is_the_angle_from_the_nearest_axes(degrees):
    turn = np.radians(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, :3] *= SPACING
    volume = to_lps(np.zeros(SIZE), affine)
    assert volume.obliquity == pytest.approx(degrees, abs=1e-6)
    np.testing.assert_allclose(volume.spacing, SPACING)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.diag([1, 1, 0, 1.0]), np.full((4, 4), np.nan)])
def test_an_affine_without_a_volume_is_refused(affine):
    with pytest.raises(Unusable, match=r"^bad_geometry: "):
        to_lps(np.zeros(SIZE), affine)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPL", "AIR"])
def test_assumed_codes_say_where_the_stored_axes_run(codes):
    affine = assumed_affine(codes, SPACING)
    assert "".join(nib.aff2axcodes(np.diag([-1, -1, 1, 1]) @ affine)) == codes
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), SPACING)


def test_assumed_codes_name_each_axis_once():
    with pytest.raises(Unusable, match=r"geometry.assume LRS names an axis twice"):
        assumed_affine("LRS", SPACING)


# ---- pairing


def block(*corners: slice) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[corners] = 1
    return mask


BLOCK = block(slice(1, 4), slice(5, 10), slice(2, 3))


@pytest.mark.parametrize(("of_image", "of_mask"), [("RAS", "LPS"), ("LPS", "SAR"), ("PIR", "ILA"), ("RAS", "RAS")])
def test_a_mask_in_another_order_pairs_up_in_physical_space(stored, of_image, of_mask):
    image, mask = stored(of_image, phantom()), stored(of_mask, BLOCK, "m.nii.gz")
    for pairing in ("same_grid", "resample"):
        np.testing.assert_array_equal(laid_over(image, mask, pairing).array, BLOCK.transpose(2, 1, 0))


def test_a_shifted_mask_is_refused_with_the_distance(stored):
    image = stored("RAS", phantom())
    mask = stored("RAS", BLOCK, "m.nii.gz", origin=(10.0, -20.0, 33.0))
    with pytest.raises(Unusable, match=r"lie up to 3\.00 mm apart; set geometry\.pairing: resample") as caught:
        laid_over(image, mask, "same_grid")
    assert caught.value.reason == "geometry_mismatch"


def test_a_tenth_of_a_voxel_is_rounding(stored):
    image = stored("RAS", phantom())
    assert same_grid(image, stored("RAS", BLOCK, "m.nii.gz", origin=(10.05, -20.0, 30.0))) is None
    assert "0.10 mm apart" in same_grid(image, stored("RAS", BLOCK, "m.nii.gz", origin=(10.1, -20.0, 30.0)))


def test_a_mask_of_another_size_is_refused_with_both_sizes(stored):
    image, mask = stored("RAS", phantom()), stored("RAS", BLOCK[:-1], "m.nii.gz")
    with pytest.raises(Unusable, match=r"volume is \(9, 11, 13\), its mask \(8, 11, 13\) \(x, y, z\)"):
        laid_over(image, mask, "same_grid")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16, ">i2", np.int64])
def test_resampling_takes_the_nearest_voxel_in_mm(stored, dtype, tmp_path, lps_nifti):
    image = stored("RAS", phantom())
    small = BLOCK[:, 2:, :7].astype(dtype) * 5
    nifti = lps_nifti(small, SPACING, (10.0, -20.0 + 2 * 1.5, 30.0), "PSR")
    nifti.header.set_data_dtype(dtype)
    nib.save(nifti, tmp_path / "m.nii.gz")
    mask = volumes.read_labels(tmp_path / "m.nii.gz")
    found = laid_over(image, mask, "resample")
    np.testing.assert_array_equal(found.array, 5 * BLOCK.transpose(2, 1, 0))
    np.testing.assert_array_equal(found.affine, image.affine)


def test_resampling_agrees_with_simpleitk_on_a_coarser_grid(stored, tmp_path):
    image = stored("RAS", phantom())
    coarse = np.zeros((5, 6, 7), np.uint8)
    coarse[1:4, 2:5, 1:6] = RNG.integers(0, 4, (3, 3, 5))
    mask = stored("LAS", coarse, "m.nii.gz", origin=(10.4, -19.25, 31.5), spacing=(1.6, 3.0, 6.0))
    reference, moving = sitk.ReadImage(str(tmp_path / "v.nii.gz")), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    wanted = sitk.DICOMOrient(sitk.Resample(moving, reference, sitk.Transform(), sitk.sitkNearestNeighbor), "LPS")
    np.testing.assert_array_equal(laid_over(image, mask, "resample").array, sitk.GetArrayFromImage(wanted))


def test_a_mask_that_misses_the_volume_is_refused(stored):
    image = stored("RAS", phantom())
    mask = stored("RAS", BLOCK, "m.nii.gz", origin=(500.0, 0.0, 0.0))
    with pytest.raises(Unusable, match="mask_outside: none of the mask's 15 voxels lies in the volume"):
        laid_over(image, mask, "resample")


@pytest.mark.parametrize(
    ("of_image", "of_mask"), [("RAS", "LPS"), ("PIR", "RAS"), ("ASL", "IPR"), ("RAS", "PSR"), ("PIR", "SLP")]
)
def test_trust_array_pairs_the_stored_arrays_whatever_their_headers_say(tmp_path, lps_nifti, of_image, of_mask):
    array = phantom()
    nib.save(lps_nifti(array, SPACING, ORIGIN, of_image), tmp_path / "v.nii.gz")
    there = np.asarray(nib.load(tmp_path / "v.nii.gz").dataobj)
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(of_mask), there.shape)
    nib.save(nib.Nifti1Image((there == 200).astype(np.uint8), affine), tmp_path / "m.nii.gz")
    image, mask = volumes.read(tmp_path / "v.nii.gz"), volumes.read_labels(tmp_path / "m.nii.gz")
    found = laid_over(image, mask, "trust_array")
    np.testing.assert_array_equal(found.array == 1, image.array == 200)


def test_trust_array_still_wants_the_same_size(stored):
    with pytest.raises(Unusable, match="geometry_mismatch"):
        laid_over(stored("RAS", phantom()), stored("RAS", BLOCK[1:], "m.nii.gz"), "trust_array")


@pytest.mark.parametrize("pairing", ["same_grid", "resample", "trust_array"])
def test_without_geometry_a_mask_pairs_by_the_order_of_the_stored_arrays(tmp_path, lps_nifti, pairing):
    array = phantom()
    bare = nib.Nifti1Image(array, None)
    bare.header.set_sform(None, 0)
    bare.header.set_qform(None, 0)
    nib.save(bare, tmp_path / "v.nii.gz")
    nib.save(nib.Nifti1Image((array == 200).astype(np.uint8), np.eye(4)), tmp_path / "m.nii.gz")
    image, mask = volumes.read(tmp_path / "v.nii.gz"), volumes.read_labels(tmp_path / "m.nii.gz")
    assert (image.geometry, mask.geometry) == ("unknown", "known")
    np.testing.assert_array_equal(laid_over(image, mask, pairing).array == 1, image.array == 200)


# ---- a mask that covers a part of the grid


def part(start, size) -> Volume:
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = mm_of(start)
    return to_lps(np.ones(size, np.uint8), affine)


def whole() -> Volume:
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = ORIGIN
    return to_lps(phantom(), affine)


def test_a_part_is_copied_to_its_place():
    found = placed(whole(), part((2, 3, 4), (3, 4, 2)))
    wanted = np.zeros(SIZE, np.uint8)
    wanted[2:5, 3:7, 4:6] = 1
    np.testing.assert_array_equal(found.array, wanted.transpose(2, 1, 0))


def test_a_part_that_sticks_out_is_cut_up_to_five_percent():
    mostly_inside = part((0, 0, -1), (9, 11, 14))
    mostly_inside.array[0, 1:] = 0
    assert placed(whole(), mostly_inside).array.sum() == 9 * 11 * 13
    with pytest.raises(Unusable, match="mask_outside: only 1287 of the mask's 1485 voxels lie in the volume"):
        placed(whole(), part((0, 0, -2), (9, 11, 15)))


def test_a_part_wholly_outside_is_refused():
    for start in ((0, 0, 40), (0, -40, 0)):
        with pytest.raises(Unusable, match="mask_outside: only 0 of the mask's 24 voxels"):
            placed(whole(), part(start, (3, 4, 2)))


def test_a_part_between_the_voxels_is_refused():
    with pytest.raises(Unusable, match="geometry_mismatch: the mask's grid is not the volume's"):
        placed(whole(), part((2.5, 3, 4), (3, 4, 2)))
