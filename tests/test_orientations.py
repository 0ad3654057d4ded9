"""The first trap: three boxes at known mm to the right, in front and on top, stored in 48 orders of axes and 3 formats.

Where they must lie on the pictures is said by SimpleITK: the file turned to LPS, and a point's index in it.
"""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.ingest import volumes
from pipeline.ingest.slices import cuts, take

ORDERS = ["".join(codes) for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)]
SIZE, SPACING, ORIGIN = (18, 22, 15), (1.0, 1.0, 2.0), (-9.0, -11.0, -15.0)
"""Of the phantom in LPS."""
BOXES = {
    "right": (50, (-6.0, 0.0, 0.0)),
    "front": (100, (0.0, -8.0, 0.0)),
    "top": (150, (0.0, 0.0, 11.0)),
}
"""Intensity, and LPS mm of the middle voxel of a box of 3×3×3 voxels."""
NEIGHBOURS = [np.array(step) for step in itertools.product((-1, 0, 1), repeat=3)]
SHAPE_OF = {"axial": (22, 18), "coronal": (30, 18), "sagittal": (30, 22)}
"""Rows and columns of the pictures, whose pixels are square."""


def phantom() -> np.ndarray:
    array = np.zeros(SIZE, np.int16)
    for value, mm in BOXES.values():
        middle = np.rint((np.array(mm) - ORIGIN) / SPACING).astype(int)
        array[tuple(slice(n - 1, n + 2) for n in middle)] = value
    return array


@pytest.fixture(params=["nii.gz", "nrrd", "mha"])
def stored(request, tmp_path, lps_nifti):
    """Write the phantom in some order of axes; what SimpleITK writes keeps the order."""

    def make(codes: str):
        nib.save(lps_nifti(phantom(), SPACING, ORIGIN, codes), tmp_path / "v.nii.gz")
        path = tmp_path / f"v.{request.param}"
        if request.param != "nii.gz":
            sitk.WriteImage(sitk.ReadImage(str(tmp_path / "v.nii.gz")), str(path))
        return path

    return make


def test_the_boxes_stand_apart_in_every_plane():
    assert {value: int((phantom() == value).sum()) for value, _ in BOXES.values()} == {50: 27, 100: 27, 150: 27}


@pytest.mark.parametrize("codes", ORDERS)
def test_what_is_right_in_front_and_on_top_is_there_on_the_pictures(stored, codes):
    path = stored(codes)
    volume, itk = volumes.read(path), sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    assert (volume.geometry, volume.flags) == ("known", ())
    for axis, (right, down, across) in {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}.items():
        pictures = list(cuts(volume, axis, 15))
        assert len(pictures) == itk.GetSize()[across]
        assert {(cut.height, cut.width) for cut in pictures} == {SHAPE_OF[axis]}
        for value, mm in BOXES.values():
            wanted = set()
            for step in NEIGHBOURS:
                index = itk.TransformPhysicalPointToIndex((np.array(mm) + step * SPACING).tolist())
                up = itk.GetSize()[down] - 1 - index[down]  # the head is on top of coronal and sagittal pictures
                wanted.add((index[across], index[down] if axis == "axial" else up, index[right]))
            seen = {
                (cut.number, *pixel)
                for cut in pictures
                for pixel in np.argwhere(take(volume.array, axis, cut.number) == value).tolist()
            }
            assert seen == wanted


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_radiologist_sees_right_on_the_left_front_above_and_head_on_top(stored, codes):
    """The same without an oracle, in words: halves of a picture in which each box must lie."""
    volume = volumes.read(stored(codes))
    found = {}
    for name, (value, _) in BOXES.items():
        for axis in SHAPE_OF:
            for number in range(len(list(cuts(volume, axis, 15)))):
                view = take(volume.array, axis, number)
                rows, columns = np.nonzero(view == value)
                if len(rows):
                    found[name, axis] = (rows.mean() / view.shape[0], columns.mean() / view.shape[1])
    assert found["right", "axial"][1] < 0.35
    assert found["right", "coronal"][1] < 0.35
    assert found["front", "axial"][0] < 0.35
    assert found["front", "sagittal"][1] < 0.35
    assert found["top", "coronal"][0] < 0.35
    assert found["top", "sagittal"][0] < 0.35
