"""The grid of a volume: every stored order of axes becomes LPS, and masks are laid over in mm."""

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import Unusable
from pipeline.ingest import masks, volumes
from pipeline.ingest.geometry import Volume, assumed_affine, laid_over, same_grid, to_lps
from pipeline.ingest.slices import cuts, take

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
    assert assumed_affine("LPS", (1e-4, 1e-4, 1e-4))[0, 0] == 1e-4


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


# ---- the third trap: a mask that was saved by other hands


def ball_mm(centre, radius, size, spacing, origin) -> np.ndarray:
    axes = [o + s * np.arange(n) for n, s, o in zip(size, spacing, origin, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return (np.linalg.norm(grid - np.array(centre), axis=-1) <= radius).astype(np.uint8)


WIDE, FINE = (40, 44, 30), (1.0, 1.0, 1.5)
CENTRE = np.array([24.0, -2.0, 55.0])


@pytest.mark.parametrize(
    ("codes", "size", "spacing", "origin", "pairing"),
    [
        ("RAS", WIDE, FINE, ORIGIN, "same_grid"),
        ("SPL", WIDE, FINE, ORIGIN, "same_grid"),
        ("LPS", (24, 26, 20), FINE, (14.0, -14.0, 39.0), "resample"),  # cut out along the voxels
        ("PIR", (24, 26, 20), FINE, (14.4, -14.3, 39.2), "resample"),  # and between them
        ("RAS", (60, 66, 60), (0.6, 0.7, 0.8), ORIGIN, "resample"),
        ("ASL", (22, 24, 22), (2.0, 2.0, 2.2), (8.0, -22.0, 29.0), "resample"),
    ],
)
@pytest.mark.parametrize("of_image", ["RAS", "PIR"])
def test_a_masks_boxes_lie_at_its_own_mm_whatever_grid_it_was_saved_on(
    stored, tmp_path, of_image, codes, size, spacing, origin, pairing
):
    image = stored(of_image, np.zeros(WIDE, np.int16) + 7, origin=ORIGIN, spacing=FINE)
    ball = ball_mm(CENTRE, 8, size, spacing, origin)
    mask = stored(codes, ball, "m.nii.gz", origin=origin, spacing=spacing)
    there = nib.load(tmp_path / "m.nii.gz")
    voxels = np.argwhere(np.asarray(there.dataobj))
    centroid = (nib.affines.apply_affine(there.affine, voxels)).mean(0) * (-1, -1, 1)  # by nibabel, in LPS
    np.testing.assert_allclose(centroid, CENTRE, atol=0.5 * max(spacing))
    laid = laid_over(image, mask, pairing)
    assert laid.array.shape == image.array.shape
    for axis, across in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        found = []
        for cut in cuts(image, axis, 15):
            for region in masks.find(take(laid.array, axis, cut.number), per_component=False):
                x = (region.x0 + region.x1) / 2 * cut.scale_x
                y = (region.y0 + region.y1) / 2 * cut.scale_y
                found.append((region.area, np.array(cut.to_world).reshape(3, 3) @ [x, y, 1]))
        _, world = max(found, key=lambda one: one[0])
        others = [n for n in range(3) if n != across]
        np.testing.assert_allclose(world[others], centroid[others], atol=0.75 * max(*FINE, *spacing))
        middle = sum(a * w[across] for a, w in found) / sum(a for a, _ in found)
        assert middle == pytest.approx(centroid[across], abs=0.5 * max(*FINE, *spacing))


def test_resampling_onto_a_sheared_grid_takes_the_voxel_at_the_same_mm():
    lean = np.diag([1.0, 1.5, 3.0, 1.0])
    lean[1, 2] = 0.9  # slices lean over
    image = to_lps(np.zeros(SIZE, np.int16), lean)
    labels = RNG.integers(0, 200, (14, 30, 44)).astype(np.int16)
    flat = np.diag([0.9, 0.8, 1.1, 1.0])
    flat[:3, 3] = -1, -2, -3
    found = laid_over(image, to_lps(labels, flat), "resample").array
    for index in np.argwhere(np.ones(SIZE))[::17]:
        at = (np.linalg.inv(flat) @ lean @ [*index, 1])[:3]
        if np.abs(at - np.rint(at)).max() > 0.45:  # between two voxels either is right
            continue
        inside = all(0 <= n < size for n, size in zip(np.rint(at), labels.shape, strict=True))
        assert found[tuple(index[::-1])] == (labels[tuple(np.rint(at).astype(int))] if inside else 0)


def test_forms_that_conflict_pair_up_where_both_files_say_the_same(tmp_path):
    """Left and right are unknown, and yet a mask that was stored the other way round is not laid on mirrored."""
    array = phantom()
    mirrored = np.diag([-1.0, 1, 1, 1])
    image = nib.Nifti1Image(array, np.eye(4))
    image.set_qform(mirrored, 1)
    nib.save(image, tmp_path / "v.nii.gz")
    backwards = np.diag([-1.0, 1, 1, 1])
    backwards[0, 3] = SIZE[0] - 1
    nib.save(nib.Nifti1Image((array[::-1] == 200).astype(np.uint8), backwards), tmp_path / "m.nii.gz")
    volume, there = volumes.read(tmp_path / "v.nii.gz"), volumes.read_labels(tmp_path / "m.nii.gz")
    assert (volume.geometry, there.geometry) == ("unknown", "known")
    np.testing.assert_array_equal(laid_over(volume, there, "same_grid").array == 1, volume.array == 200)


# ---- uneven stacks

UNEVEN = np.array([0.0, 5.0, 10.0, 17.0, 22.0])
"""z of five slices, mm."""


def uneven(array: np.ndarray | None = None, mirrored: bool = False) -> Volume:
    """A stack along z (or, mirrored, stored from the head down) whose affine says 5 mm."""
    affine = np.diag([1.0, 1.0, -5.0 if mirrored else 5.0, 1.0])
    positions = UNEVEN[::-1] if mirrored else UNEVEN
    affine[2, 3] = positions[0]
    shifts = np.zeros((5, 3))
    shifts[:, 2] = positions - (positions[0] + affine[2, 2] * np.arange(5))
    stored = np.zeros((6, 7, 5), np.uint8) if array is None else array
    return to_lps(stored, affine, shifts=shifts)


@pytest.mark.parametrize("mirrored", [False, True])
def test_shifts_follow_their_slices_when_a_stack_is_turned(mirrored):
    volume = uneven(mirrored=mirrored)
    assert volume.stack == 2
    for k, z in enumerate(UNEVEN):
        assert (volume.affine @ [0, 0, k, 1])[2] + volume.shifts[k, 2] == pytest.approx(z)


@pytest.mark.parametrize("codes", ["LPS", "SLP", "SAL"])
def test_the_stack_is_found_along_whatever_axis_it_lies(codes):
    volume = to_lps(np.zeros((6, 7, 5)), assumed_affine(codes, (1, 1, 5)), shifts=np.arange(15.0).reshape(5, 3))
    axis = {"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}[codes[2]]
    assert volume.stack == axis
    np.testing.assert_array_equal(volume.shifts[0], [0, 1, 2])


def test_a_mask_on_the_same_uneven_stack_is_on_the_same_grid():
    assert same_grid(uneven(), uneven(mirrored=True)) is None
    regular = replace(uneven(), shifts=None)
    assert "2.00 mm apart" in same_grid(uneven(), regular)
    assert "2.00 mm apart" in same_grid(regular, uneven())
    with pytest.raises(Unusable, match=r"^geometry_mismatch: corners of volume and mask lie up to 2\.00 mm apart"):
        laid_over(uneven(), regular, "same_grid")


def test_a_mask_on_a_regular_grid_is_resampled_slice_by_slice():
    """The mask's label is its z in mm."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[2, 3] = -3
    mask = to_lps(np.broadcast_to(np.arange(30, dtype=np.uint8) + 100 - 3, (6, 7, 30)).copy(), affine)
    found = laid_over(uneven(), mask, "resample")
    assert found.array.shape == (5, 7, 6)
    assert [np.unique(found.array[k]).tolist() for k in range(5)] == [[100 + z] for z in UNEVEN]


def test_an_uneven_mask_lies_on_no_other_grid():
    regular = to_lps(np.zeros((6, 7, 9), np.uint8), np.eye(4))
    with pytest.raises(Unusable, match=r"^geometry_mismatch: the mask is an uneven stack"):
        laid_over(regular, uneven(), "resample")
