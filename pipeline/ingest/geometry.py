"""One volume type for every format: `[z, y, x]` in LPS, and how a mask is laid over it in mm.

Index order x runs to the patient's left, y to posterior, z to superior. Then axial is `v[k]`, coronal `v[::-1, k, :]`,
sagittal `v[::-1, :, k]`, all in radiological display (the patient's left on the picture's right).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.records import Geometry

Matrix = NDArray[np.float64]
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FARTHEST = 1e9
"""mm: beyond it an affine is damaged, and squares of it are no numbers any more."""
SHEAR = 0.01
"""Cosine of the angle between two axes from which on a grid is sheared: half a degree from a right angle."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A 3D image or label map on its grid."""

    array: NDArray[Any]
    """`(z, y, x)`, LPS."""
    affine: Matrix
    """4×4: index (x, y, z) of a voxel's centre to LPS mm."""
    stored_axes: tuple[int, int, int]
    """For x, y, z: the axis of the stored array it came from."""
    flipped: tuple[bool, bool, bool]
    """For x, y, z: it runs against the stored axis."""
    geometry: Geometry
    flags: tuple[str, ...] = ()
    shifts: NDArray[np.float64] | None = None
    """`(slice, 3)`: mm from where the affine puts a slice of an uneven stack to where it lies; None: a regular grid."""
    stack: int = 2
    """LPS axis (0 x, 1 y, 2 z) along which an uneven stack is stacked; only slices across it are true."""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Along x, y, z, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def obliquity(self) -> float:
        """Largest angle between a grid axis and its patient axis, in degrees."""
        cosines = np.abs(np.diag(self.affine[:3, :3])) / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1))))


def to_lps(
    array: NDArray[Any],
    affine: Matrix,
    geometry: Geometry = "known",
    flags: tuple[str, ...] = (),
    shifts: NDArray[np.float64] | None = None,
) -> Volume:
    """Reorder and flip axes until the grid is nearest to LPS; views, no copy, no interpolation.

    Args:
        array: `(i, j, k)` as stored.
        affine: 4×4, index (i, j, k) to LPS mm.
        geometry: How far the affine is to be trusted; axes that are not at right angles are flagged as `sheared`.
        flags: What the reader noticed.
        shifts: `(k, 3)`: mm from where the affine puts a slice of an uneven stack along k to where it lies.

    Raises:
        Unusable: `bad_geometry`: the affine is singular or not finite.
    """
    if not np.isfinite(affine).all() or np.abs(affine).max() > FARTHEST:
        raise Unusable("bad_geometry", f"the affine holds what is no number of mm below {FARTHEST:g}")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < 1 / FARTHEST:
        raise Unusable("bad_geometry", "the affine has an axis without length")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:  # of unit vectors: a microscope's voxels are small
        raise Unusable("bad_geometry", "the affine is singular")
    if is_sheared(affine):
        flags = (*flags, "sheared")
    orientation = nib.orientations.io_orientation(LPS_FROM_RAS @ affine)
    change = nib.orientations.ornt_transform(orientation, nib.orientations.axcodes2ornt("LPS"))
    turned = nib.orientations.apply_orientation(array, change)
    moved = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    source = [int(np.flatnonzero(change[:, 0] == axis)[0]) for axis in range(3)]
    flips = [bool(change[axis, 1] < 0) for axis in source]
    stack = source.index(2)
    if shifts is not None and flips[stack]:
        shifts = shifts[::-1]
    return Volume(
        turned.transpose(2, 1, 0),
        moved,
        (source[0], source[1], source[2]),
        (flips[0], flips[1], flips[2]),
        geometry,
        flags,
        shifts,
        2 if shifts is None else stack,
    )


def is_sheared(affine: Matrix) -> bool:
    """Say whether the axes of a grid are not at right angles."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() > SHEAR)


def assumed_affine(codes: str, spacing: tuple[float, float, float]) -> Matrix:
    """Return the affine (to LPS mm) of a grid whose axes run to the named patient sides.

    Args:
        codes: The side each stored axis runs to, `LPS`.
        spacing: mm along each stored axis.

    Raises:
        Unusable: `bad_geometry`: the codes name an axis twice.
    """
    directions = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for stored, (code, length) in enumerate(zip(codes, spacing, strict=True)):
        row, sign = directions[code]
        affine[row, stored] = sign * length
    if len({directions[code][0] for code in codes}) < 3:
        raise Unusable("bad_geometry", f"geometry.assume {codes} names an axis twice")
    return affine


def _corners(volume: Volume, stack: int) -> Matrix:
    """Return LPS mm of the corners of every slice across an axis, `(slice, 4, 3)`."""
    size = volume.array.shape[::-1]
    ends = [range(n) if axis == stack else (0, n - 1) for axis, n in enumerate(size)]
    indices = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], float)
    there = (indices @ volume.affine.T)[:, :3]
    if volume.shifts is not None:
        there += volume.shifts[indices[:, volume.stack].astype(int)]
    return there


def same_grid(image: Volume, mask: Volume) -> str | None:
    """Return what differs between two grids, or None: shape, then corners within a tenth of a voxel."""
    if image.array.shape != mask.array.shape:
        return f"volume is {image.array.shape[::-1]}, its mask {mask.array.shape[::-1]} (x, y, z)"
    stack = image.stack if image.shifts is not None else mask.stack
    distance = float(np.linalg.norm(_corners(image, stack) - _corners(mask, stack), axis=1).max())
    if distance > 0.1 * min(image.spacing):
        return f"corners of volume and mask lie up to {distance:.2f} mm apart"
    return None


def laid_over(image: Volume, mask: Volume, pairing: str) -> Volume:
    """Bring a mask onto the image's grid.

    Args:
        image: The volume.
        mask: Its label map, any grid.
        pairing: `same_grid`, `resample` (nearest neighbour in mm) or `trust_array` (order of the stored arrays, which
            is all there is where one of the two has no geometry).

    Raises:
        Unusable: `geometry_mismatch` or `mask_outside`.
    """
    if pairing == "trust_array":
        return _by_array_order(image, mask)
    difference = same_grid(image, mask)
    if difference is None:  # even of two headers that are not to be trusted: they say the same
        return mask
    if "unknown" in (image.geometry, mask.geometry):
        return _by_array_order(image, mask)
    if pairing == "same_grid":
        raise Unusable("geometry_mismatch", f"{difference}; set geometry.pairing: resample if they cover one body")
    return _resampled(image, mask)


def _by_array_order(image: Volume, mask: Volume) -> Volume:
    stored = mask.array.transpose(2, 1, 0)
    back = np.argsort(mask.stored_axes)
    for axis, flipped in enumerate(mask.flipped):
        stored = np.flip(stored, axis) if flipped else stored
    stored = stored.transpose(back)
    wanted = stored.transpose(image.stored_axes)
    for axis, flipped in enumerate(image.flipped):
        wanted = np.flip(wanted, axis) if flipped else wanted
    array = wanted.transpose(2, 1, 0)
    if array.shape != image.array.shape:
        sizes = f"volume is {image.array.shape[::-1]}, its mask {array.shape[::-1]} (x, y, z)"
        raise Unusable("geometry_mismatch", f"{sizes}; their arrays can not be paired")
    return replace(image, array=array)


def _resampled(image: Volume, mask: Volume) -> Volume:
    if mask.shifts is not None:
        raise Unusable("geometry_mismatch", "the mask is an uneven stack on another grid than the volume")
    voxels = int(np.count_nonzero(mask.array))
    there = sitk.GetImageFromArray(np.ascontiguousarray(mask.array))
    spacing = np.array(mask.spacing)
    there.SetSpacing(spacing.tolist())
    there.SetOrigin(mask.affine[:3, 3].tolist())
    there.SetDirection((mask.affine[:3, :3] / spacing).ravel().tolist())
    array = np.zeros(image.array.shape, mask.array.dtype.newbyteorder("="))
    for target, size, affine in _blocks(image, array):
        target[...] = _at(there, size, affine)
    if voxels and not array.any():
        raise Unusable("mask_outside", f"none of the mask's {voxels} voxels lies in the volume")
    return replace(image, array=array)


def _blocks(image: Volume, array: NDArray[Any]) -> Iterator[tuple[NDArray[Any], tuple[int, ...], Matrix]]:
    """Yield the regular parts of an array on the image's grid, each with its size and affine: all, or slices."""
    size = image.array.shape[::-1]
    if image.shifts is None:
        yield array, size, image.affine
        return
    for n, shift in enumerate(image.shifts):
        affine = image.affine.copy()
        affine[:3, 3] += affine[:3, image.stack] * n + shift
        of_slice = tuple(1 if axis == image.stack else length for axis, length in enumerate(size))
        part = array[tuple(slice(n, n + 1) if axis == 2 - image.stack else slice(None) for axis in range(3))]
        yield part, of_slice, affine


def _at(mask: Any, size: tuple[int, ...], affine: Matrix) -> NDArray[Any]:
    """Take the nearest voxel of a SimpleITK image for each voxel of a grid; 0 outside."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    found: NDArray[Any] = sitk.GetArrayFromImage(
        sitk.Resample(
            mask,
            size,
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            affine[:3, 3].tolist(),
            spacing.tolist(),
            (affine[:3, :3] / spacing).ravel().tolist(),
            0.0,
            sitk.sitkUnknown,
        )
    )
    return found
