"""Slices in radiological display: where a voxel lands on the picture, and the ways back."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.ingest import masks, volumes
from pipeline.ingest.geometry import assumed_affine, to_lps
from pipeline.ingest.slices import acquisition, cuts, take

ORDERS = ["".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)]
SIZE, ORIGIN = (9, 11, 13), (10.0, -20.0, 30.0)
MARKS = {100: (2, 3, 4), 200: (7, 3, 4), 300: (2, 8, 10)}
ANISOTROPIC, UNEQUAL = (1.0, 1.0, 3.0), (0.5, 1.5, 3.0)


def phantom() -> np.ndarray:
    array = np.zeros(SIZE, np.int16)
    for value, index in MARKS.items():
        array[index] = value
    return array


def shown(axis: str, index, size) -> tuple[int, int, int]:
    """Radiological display: the patient's left on the picture's right, the head on top. Number, row, column."""
    i, j, k = index
    nz = size[2]
    return {"axial": (k, j, i), "coronal": (j, nz - 1 - k, i), "sagittal": (i, nz - 1 - k, j)}[axis]


@pytest.mark.parametrize("spacing", [ANISOTROPIC, UNEQUAL], ids=["anisotropic", "unequal"])
@pytest.mark.parametrize("codes", ORDERS)
def test_a_voxel_lands_where_a_radiologist_expects_it_and_finds_back(tmp_path, lps_nifti, codes, spacing):
    path = tmp_path / "v.nii"
    nib.save(lps_nifti(phantom(), spacing, ORIGIN, codes), path)
    volume = volumes.read(path)
    stored = np.asarray(nib.load(path).dataobj)
    itk = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    size = itk.GetSize()
    for axis in ("axial", "coronal", "sagittal"):
        found = list(cuts(volume, axis, 15))
        right, down = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[axis]
        for value, index in MARKS.items():
            mm = np.array(ORIGIN) + np.array(index) * spacing
            number, row, column = shown(axis, itk.TransformPhysicalPointToIndex(mm.tolist()), size)
            cut = found[number]
            assert (cut.plane, cut.number) == (axis, number)
            assert take(volume.array, axis, number)[row, column] == value
            # the centre of the voxel in px of the stored picture
            x, y = (column + 0.5) * cut.scale_x, (row + 0.5) * cut.scale_y
            world = np.array(cut.to_world).reshape(3, 3) @ [x, y, 1]
            np.testing.assert_allclose(world, mm, atol=1e-4)
            u, v = np.array(cut.to_source).reshape(2, 3) @ [x, y, 1]
            at = np.argwhere(stored == value)[0]
            # edges to edges: the centre of voxel n is n + 0.5
            np.testing.assert_allclose(u, at[volume.stored_axes[right]] + 0.5, atol=1e-6)
            np.testing.assert_allclose(v, at[volume.stored_axes[down]] + 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "spacing", "size_px", "spacing_mm", "voxel_mm2"),
    [
        ("axial", (1.0, 1.0, 3.0), (9, 11), 1.0, 1.0),
        ("axial", (0.5, 1.5, 3.0), (9, 33), 0.5, 0.75),
        ("coronal", (1.0, 1.0, 3.0), (9, 39), 1.0, 3.0),
        ("sagittal", (1.0, 2.0, 1.0), (22, 13), 1.0, 2.0),
        ("sagittal", (1.0, 1.0, 0.5), (22, 13), 0.5, 0.5),
        ("axial", (1.0, 1.005, 3.0), (9, 11), 1.0, 1.005),
    ],
)
def test_pixels_of_a_picture_are_square(axis, spacing, size_px, spacing_mm, voxel_mm2):
    volume = to_lps(phantom(), np.diag([*spacing, 1.0]))
    cut = next(iter(cuts(volume, axis, 15)))
    assert (cut.width, cut.height) == size_px
    assert cut.spacing_mm == pytest.approx(spacing_mm)
    assert cut.voxel_mm2 == pytest.approx(voxel_mm2)


def test_there_is_a_cut_for_every_slice():
    volume = to_lps(phantom(), np.eye(4))
    for axis, count in (("axial", 13), ("coronal", 11), ("sagittal", 9)):
        assert [cut.number for cut in cuts(volume, axis, 15)] == list(range(count))
        assert take(volume.array, axis, count - 1).size == volume.array.size // count


def tilted(degrees: float):
    turn = np.radians(degrees)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return to_lps(phantom(), affine)


@pytest.mark.parametrize(("degrees", "plane"), [(0, "axial"), (14.9, "axial"), (15.1, "oblique"), (40, "oblique")])
def test_a_slice_keeps_its_planes_name_up_to_an_angle(degrees, plane):
    assert next(iter(cuts(tilted(degrees), "axial", 15))).plane == plane
    assert next(iter(cuts(tilted(degrees), "axial", 45))).plane == "axial"


def test_a_tilted_slice_still_finds_back_to_the_patient():
    volume = tilted(10)
    for value, (i, j, k) in MARKS.items():
        cut = list(cuts(volume, "sagittal", 15))[i]
        world = np.array(cut.to_world).reshape(3, 3) @ [j + 0.5, 12 - k + 0.5, 1]
        np.testing.assert_allclose(world, (volume.affine @ [i, j, k, 1])[:3], atol=1e-9)
        assert take(volume.array, "sagittal", i)[12 - k, j] == value


def test_without_geometry_nothing_is_said_of_planes_and_mm():
    volume = to_lps(phantom(), np.diag([1.0, 1.0, 3.0, 1.0]), "unknown")
    cut = next(iter(cuts(volume, "axial", 15)))
    assert (cut.plane, cut.spacing_mm, cut.voxel_mm2, cut.to_world) == ("unknown", None, None, None)


# ---- names of planes


def turned(degrees: float, one: int, other: int) -> np.ndarray:
    turn, affine = np.radians(degrees), np.eye(4)
    affine[one, one] = affine[other, other] = np.cos(turn)
    affine[one, other], affine[other, one] = -np.sin(turn), np.sin(turn)
    return affine


@pytest.mark.parametrize(
    ("affine", "planes"),
    [
        (turned(20, 0, 1), ["axial", "oblique", "oblique"]),  # a head turned on the table
        (turned(20, 1, 2), ["oblique", "oblique", "sagittal"]),  # a chin held down
        (turned(20, 0, 2), ["oblique", "coronal", "oblique"]),
        (turned(10, 0, 1) @ turned(12, 1, 2), ["axial", "oblique", "sagittal"]),  # 12, 15.6 and 10 degrees
    ],
)
def test_a_plane_is_named_by_its_own_normal(affine, planes):
    volume = to_lps(phantom(), affine)
    assert [next(iter(cuts(volume, axis, 15))).plane for axis in ("axial", "coronal", "sagittal")] == planes


def test_slices_of_a_leaning_stack_are_named_by_their_own_plane():
    """Gantry tilt: rows and columns are axial, only the way from slice to slice leans by 20 degrees."""
    lean = np.eye(4)
    lean[1, 2] = np.tan(np.radians(20))
    volume = to_lps(phantom(), lean)
    assert volume.obliquity == pytest.approx(20)
    assert [next(iter(cuts(volume, axis, 15))).plane for axis in ("axial", "coronal")] == ["axial", "oblique"]


# ---- voxels that are longer one way


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((0.7, 0.7, 5), "axial"),
        ((0.7, 5, 0.7), "coronal"),
        ((5, 0.7, 0.7), "sagittal"),
        ((1, 1, 1), "axial"),
        ((1.1, 1, 1), "axial"),
        ((1, 1.2, 1.5), "axial"),
        ((1, 1.5, 1.5), "axial"),
    ],
)
def test_the_plane_of_acquisition_is_across_the_longest_side_of_a_voxel(spacing, plane):
    assert acquisition(to_lps(phantom(), np.diag([*spacing, 1.0]))) == plane


@pytest.mark.parametrize(("spacing", "flagged"), [((0.7, 0.7, 5), True), ((1, 1, 3), False), ((1, 1, 1), False)])
def test_a_reformatted_slice_of_long_voxels_is_flagged(spacing, flagged):
    volume = to_lps(phantom(), np.diag([*spacing, 1.0]))
    assert next(iter(cuts(volume, "axial", 15))).flags == ()
    for axis in ("coronal", "sagittal"):
        assert next(iter(cuts(volume, axis, 15))).flags == (("reformatted",) if flagged else ())


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 5.0), (0.7, 5.0, 0.7), (5.0, 0.7, 0.7)])
def test_a_sphere_of_40_mm_in_long_voxels_is_a_circle_in_every_plane(spacing):
    """The tenth trap. The sphere's middle lies between two voxels, so that 8 of 5 mm hold it exactly."""
    size = tuple(2 * round(24 / side) for side in spacing)
    axes = [(np.arange(n) - (n - 1) / 2) * side for n, side in zip(size, spacing, strict=True)]
    ball = np.linalg.norm(np.stack(np.meshgrid(*axes, indexing="ij"), -1), axis=-1) <= 20
    volume = to_lps(ball.astype(np.uint8) * 255, np.diag([*spacing, 1.0]))
    for axis, across in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        cut = list(cuts(volume, axis, 15))[size[across] // 2]
        slice_ = np.ascontiguousarray(take(volume.array, axis, cut.number))
        (region,) = masks.find(slice_, per_component=False)
        box = (region.x1 - region.x0) * cut.scale_x, (region.y1 - region.y0) * cut.scale_y
        assert box[0] / box[1] == pytest.approx(1, abs=0.05)
        shown = pictures.resize(slice_, cut.width, cut.height) > 127
        rows, columns = np.nonzero(shown)
        wide, high = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert wide / high == pytest.approx(1, abs=0.05)
        assert wide * cut.spacing_mm == pytest.approx(40, rel=0.05)


def test_a_slice_that_a_damaged_header_makes_enormous_is_refused():
    volume = to_lps(phantom(), np.diag([1e-5, 1.0, 1.0, 1.0]))
    assert next(iter(cuts(volume, "sagittal", 15))).width == SIZE[1]
    with pytest.raises(Unusable, match=r"^too_large: a slice of 9x1100000 square px"):
        cuts(volume, "axial", 15)


# ---- uneven stacks


@pytest.mark.parametrize(
    ("codes", "whole"), [("LPS", "axial"), ("LSP", "coronal"), ("PSL", "sagittal"), ("RAI", "axial")]
)
def test_a_slice_of_an_uneven_stack_lies_where_it_was_taken(codes, whole):
    positions = np.array([0.0, 5.0, 10.0, 17.0, 22.0])
    affine = assumed_affine(codes, (1.0, 1.0, 5.0))
    direction = affine[:3, 2] / 5
    shifts = np.outer(positions - 5 * np.arange(5), direction)
    volume = to_lps(np.zeros((7, 6, 5), np.int16), affine, shifts=shifts)
    stored_first = volume.array.shape[2 - volume.stack] - 1 if volume.flipped[volume.stack] else 0
    for cut in cuts(volume, whole, 15):
        stored = abs(cut.number - stored_first)
        x, y = cut.width / 2, cut.height / 2
        world = np.array(cut.to_world).reshape(3, 3) @ [x, y, 1]
        assert world @ direction == pytest.approx(positions[stored])
    for axis in {"axial", "coronal", "sagittal"} - {whole}:
        with pytest.raises(Unusable, match=rf"^uneven_stack: .* only {whole} ones are true"):
            cuts(volume, axis, 15)
    assert acquisition(volume) == whole
