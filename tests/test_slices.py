"""Slices in radiological display: where a voxel lands on the picture, and the ways back."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.ingest import volumes
from pipeline.ingest.geometry import to_lps
from pipeline.ingest.slices import cuts, take

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
