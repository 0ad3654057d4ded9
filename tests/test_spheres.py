"""Spheres in mm on volumes: the voxels whose centres lie within the radius, by SimpleITK and by brute force."""

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.ingest import spheres
from pipeline.ingest.geometry import Volume, assumed_affine, to_lps
from sources.annotation import Sphere

SIZE, SPACING = (40, 36, 18), (0.8, 1.1, 2.5)
"""Along x, y, z."""
ORIGIN = (-120.0, 40.0, -300.0)


def volume_of(codes="LPS", size=SIZE, spacing=SPACING) -> Volume:
    """A volume whose stored axes run to the named sides; the same body whatever the codes."""
    order = [{"R": 0, "L": 0, "A": 1, "P": 1, "I": 2, "S": 2}[code] for code in codes]
    affine = assumed_affine(codes, tuple(spacing[axis] for axis in order))
    for axis, code in zip(order, codes, strict=True):
        affine[axis, 3] = ORIGIN[axis] + (spacing[axis] * (size[axis] - 1) if code in "RAI" else 0)
    return to_lps(np.zeros([size[axis] for axis in order], np.int16), affine)


def oblique() -> Volume:
    turn = np.array(sitk.VersorTransform([1, 2, 3], 0.5).GetMatrix()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING, ORIGIN
    return to_lps(np.zeros(SIZE, np.int16), affine)


def itk_of(volume: Volume) -> sitk.Image:
    image = sitk.Image([int(n) for n in volume.array.shape[::-1]], sitk.sitkUInt8)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / volume.spacing).ravel().tolist())
    return image


def place(volume: Volume, x: float, y: float, z: float) -> tuple[float, float, float]:
    """LPS mm of an index."""
    return itk_of(volume).TransformContinuousIndexToPhysicalPoint((x, y, z))


def whole(painted: spheres.Painted, volume: Volume) -> np.ndarray:
    out = np.zeros(volume.array.shape, bool)
    depth, height, width = painted.mask.shape
    out[painted.z0 : painted.z0 + depth, painted.y0 : painted.y0 + height, painted.x0 : painted.x0 + width] = (
        painted.mask
    )
    assert out.sum() == painted.mask.sum()
    return out


def by_distance(sphere: Sphere, volume: Volume) -> np.ndarray:
    """Every voxel of the volume, measured."""
    out = np.zeros(volume.array.shape, bool)
    for z, y, x in np.ndindex(out.shape):
        at = volume.affine[:3, :3] @ (x, y, z) + volume.affine[:3, 3]
        if volume.shifts is not None:
            at = at + volume.shifts[(x, y, z)[volume.stack]]
        out[z, y, x] = np.linalg.norm(at - sphere.center) <= sphere.diameter / 2
    return out


def paint(volume: Volume, center, diameter: float) -> np.ndarray:
    (found,) = spheres.paint([Sphere("nodule", tuple(center), diameter)], volume)
    assert found.problem is None
    return whole(found, volume)


def problem(volume: Volume, center, diameter: float) -> tuple[str, str]:
    (found,) = spheres.paint([Sphere("nodule", tuple(center), diameter)], volume)
    assert found.mask.size == 0
    assert found.problem is not None
    return found.problem


@pytest.mark.parametrize("codes", ["LPS", "RAS", "LAS", "PSR", "SAL", "IRP"])
@pytest.mark.parametrize("diameter", [3.0, 9.7])
def test_a_sphere_is_the_voxels_within_its_radius_in_every_orientation(codes, diameter):
    volume, center = volume_of(codes), (-104.3, 58.2, -281.9)
    found = paint(volume, center, diameter)
    np.testing.assert_array_equal(found, by_distance(Sphere("n", center, diameter), volume))
    np.testing.assert_array_equal(found, paint(volume_of(), center, diameter))
    x, y, z = itk_of(volume).TransformPhysicalPointToIndex(center)
    assert found[z, y, x]


def test_a_sphere_on_an_oblique_grid_is_round_in_mm():
    volume = oblique()
    center = place(volume, 19.2, 17.7, 8.4)
    np.testing.assert_array_equal(paint(volume, center, 11.0), by_distance(Sphere("n", center, 11.0), volume))


def test_its_volume_is_that_of_a_sphere():
    volume = volume_of(size=(80, 70, 40), spacing=(0.5, 0.5, 1.0))
    voxels = paint(volume, place(volume, 40.1, 35.3, 19.8), 30.0).sum()
    assert voxels * 0.25 == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.01)


def test_a_voxel_just_at_the_radius_belongs_on_every_side():
    volume = volume_of(spacing=(0.7, 0.7, 0.7))
    found = np.argwhere(paint(volume, place(volume, 20, 18, 9), 4 * 0.7))
    np.testing.assert_array_equal(found.min(axis=0), (7, 16, 18))
    np.testing.assert_array_equal(found.max(axis=0), (11, 20, 22))


@pytest.mark.parametrize("index", [(10.4, 12.3, 7.49), (0, 0, 0), (39, 35, 17), (39.4, 35.4, 17.4), (-0.4, -0.4, -0.4)])
def test_a_sphere_smaller_than_a_voxel_marks_the_one_that_holds_its_centre(index):
    for volume in (volume_of(), oblique()):
        center = place(volume, *index)
        ((z, y, x),) = np.argwhere(paint(volume, center, 0.01))
        assert (x, y, z) == itk_of(volume).TransformPhysicalPointToIndex(center)


def uneven() -> Volume:
    """Slices 2.5 mm apart but for a gap of 12.5 mm after the eighth, which shift to the left by 0.2 mm each."""
    even, numbers = volume_of(), np.arange(SIZE[2])[:, None]
    shifts = numbers * [0.2, 0, 0] + np.where(numbers >= 8, 10.0, 0.0) * [0, 0, 1]
    return Volume(even.array, even.affine, even.stored_axes, even.flipped, "known", shifts=shifts, stack=2)


@pytest.mark.parametrize(("z", "diameter"), [(4.2, 8.0), (7.4, 16.0), (13.0, 9.0), (9.0, 40.0)])
def test_on_an_uneven_stack_each_slice_shows_the_part_that_lies_in_it(z, diameter):
    volume = uneven()
    center = (ORIGIN[0] + 16.0, ORIGIN[1] + 18.0, ORIGIN[2] + 2.5 * z)
    np.testing.assert_array_equal(paint(volume, center, diameter), by_distance(Sphere("n", center, diameter), volume))


def test_in_a_gap_between_slices_there_is_no_nearest_voxel():
    volume = uneven()
    in_gap = (ORIGIN[0] + 16.0, ORIGIN[1] + 18.0, ORIGIN[2] + 7 * 2.5 + 6.0)
    assert problem(volume, in_gap, 3.0)[0] == "mask_outside"
    near = (in_gap[0], in_gap[1], ORIGIN[2] + 7 * 2.5 + 1.0)
    assert np.argwhere(paint(volume, near, 0.5))[:, 0].tolist() == [7]


def test_what_leaves_the_volume_is_cut_off():
    volume = volume_of()
    center = place(volume, -3, 20, 9)
    found = paint(volume, center, 12.0)
    assert 0 < found.sum() < 4 / 3 * np.pi * 6**3 / np.prod(SPACING) / 2
    np.testing.assert_array_equal(found, by_distance(Sphere("n", center, 12.0), volume))


@pytest.mark.parametrize(
    "index", [(-9, 18, 9), (20, 60, 9), (20, 18, -3), (20, 18, 21), (900, -900, 900), (-0.8, 0, 0)]
)
def test_what_lies_beside_the_volume_is_a_problem_of_its_own(index):
    volume = volume_of()
    reason, detail = problem(volume, place(volume, *index), 1.0)
    assert reason == "mask_outside"
    assert detail.startswith("no voxel lies within 0.5 mm of (")


@pytest.mark.parametrize(
    ("center", "diameter"),
    [((float("nan"), 0, 0), 3.0), ((0, float("inf"), 0), 3.0), ((0, 0, 1e300), 3.0), (ORIGIN, float("nan")),
     (ORIGIN, 0.0), (ORIGIN, -4.0), (ORIGIN, 1e9), (ORIGIN, float("inf"))],
)  # fmt: skip
def test_what_is_no_place_or_no_size_is_a_problem(center, diameter):
    assert problem(volume_of(), center, diameter)[0] == "bad_annotation"


@pytest.mark.parametrize("geometry", ["unknown", "assumed"])
def test_a_volume_without_a_place_takes_no_sphere(geometry):
    v = volume_of()
    assert problem(Volume(v.array, v.affine, v.stored_axes, v.flipped, geometry), ORIGIN, 3.0)[0] == "no_geometry"


def test_one_bad_sphere_spoils_no_other_and_all_keep_their_order():
    good = Sphere("a", place(volume_of(), 5, 6, 7), 6.0, "r1")
    bad = Sphere("b", (9e9, 0, 0), 6.0)
    found = list(spheres.paint([good, bad, good], volume_of()))
    assert [painted.sphere for painted in found] == [good, bad, good]
    assert [painted.problem is None for painted in found] == [True, False, True]
    assert list(spheres.paint([], volume_of())) == []


def test_a_small_sphere_costs_nothing_in_a_large_volume():
    array = np.broadcast_to(np.zeros((), np.int16), (600, 512, 512))
    volume = Volume(array, np.diag([0.7, 0.7, 1.0, 1.0]), (0, 1, 2), (False, False, False), "known")
    tracemalloc.start()
    for _ in spheres.paint([Sphere("n", (100.0, 90.0, 80.0), 12.0)] * 20, volume):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
