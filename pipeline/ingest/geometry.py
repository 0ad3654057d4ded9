"""One volume type for every format: `[z, y, x]` in LPS, and how a mask is laid over it in mm.

Index order x runs to the patient's left, y to posterior, z to superior. Then axial is `v[k]`, coronal `v[::-1, k, :]`,
sagittal `v[::-1, :, k]`, all in radiological display (the patient's left on the picture's right).
"""

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


def to_lps(array: NDArray[Any], affine: Matrix, geometry: Geometry = "known", flags: tuple[str, ...] = ()) -> Volume:
    """Reorder and flip axes until the grid is nearest to LPS; views, no copy, no interpolation.

    Args:
        array: `(i, j, k)` as stored.
        affine: 4×4, index (i, j, k) to LPS mm.
        geometry: How far the affine is to be trusted.
        flags: What the reader noticed.

    Raises:
        Unusable: `bad_geometry`: the affine is singular or not finite.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not np.isfinite(lengths).all() or lengths.min() <= 0:
        raise Unusable("bad_geometry", "the affine is not finite, or an axis has no length")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:  # of unit vectors: a microscope's voxels are small
        raise Unusable("bad_geometry", "the affine is singular")
    orientation = nib.orientations.io_orientation(LPS_FROM_RAS @ affine)
    change = nib.orientations.ornt_transform(orientation, nib.orientations.axcodes2ornt("LPS"))
    turned = nib.orientations.apply_orientation(array, change)
    moved = affine @ nib.orientations.inv_ornt_aff(change, array.shape)
    source = [int(np.flatnonzero(change[:, 0] == axis)[0]) for axis in range(3)]
    flips = [bool(change[axis, 1] < 0) for axis in source]
    return Volume(
        turned.transpose(2, 1, 0),
        moved,
        (source[0], source[1], source[2]),
        (flips[0], flips[1], flips[2]),
        geometry,
        flags,
    )


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
    if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise Unusable("bad_geometry", f"geometry.assume {codes} names an axis twice")
    return affine


def _corners(volume: Volume) -> Matrix:
    z, y, x = volume.array.shape
    indices = np.array([(i, j, k, 1) for i in (0, x - 1) for j in (0, y - 1) for k in (0, z - 1)], float)
    return (indices @ volume.affine.T)[:, :3]


def same_grid(image: Volume, mask: Volume) -> str | None:
    """Return what differs between two grids, or None: shape, then corners within a tenth of a voxel."""
    if image.array.shape != mask.array.shape:
        return f"volume is {image.array.shape[::-1]}, its mask {mask.array.shape[::-1]} (x, y, z)"
    distance = float(np.linalg.norm(_corners(image) - _corners(mask), axis=1).max())
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
    if pairing == "trust_array" or "unknown" in (image.geometry, mask.geometry):
        return _by_array_order(image, mask)
    difference = same_grid(image, mask)
    if difference is None:
        return mask
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
    voxels = int(np.count_nonzero(mask.array))
    out = sitk.Resample(
        _as_itk(mask), _as_itk(image, np.uint8), sitk.Transform(), sitk.sitkNearestNeighbor, 0.0, sitk.sitkUnknown
    )
    array = sitk.GetArrayFromImage(out)
    if voxels and not array.any():
        raise Unusable("mask_outside", f"none of the mask's {voxels} voxels lies in the volume")
    return replace(image, array=array)


def _as_itk(volume: Volume, dtype: Any = None) -> Any:
    """Give SimpleITK a grid (and, without `dtype`, the voxels): it wants orthonormal axes, LPS mm."""
    array = np.zeros(volume.array.shape, dtype) if dtype else np.ascontiguousarray(volume.array)
    image = sitk.GetImageFromArray(array)
    spacing = np.array(volume.spacing)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(volume.affine[:3, 3].tolist())
    image.SetDirection((volume.affine[:3, :3] / spacing).ravel().tolist())
    return image


def placed(image: Volume, mask: Volume) -> Volume:
    """Copy a mask that covers a part of the image's grid into place: a SEG omits empty frames.

    Raises:
        Unusable: `geometry_mismatch`: not a whole number of voxels away; `mask_outside`: over 5 % of it lies outside.
    """
    between = np.linalg.inv(image.affine) @ mask.affine
    offset = np.rint(between[:3, 3]).astype(int)
    if np.abs(between[:3, :3] - np.eye(3)).max() > 0.01 or np.abs(between[:3, 3] - offset).max() > 0.1:
        raise Unusable("geometry_mismatch", "the mask's grid is not the volume's; set geometry.pairing: resample")
    out = np.zeros(image.array.shape, mask.array.dtype)
    start = offset[::-1]
    to = [slice(max(0, s), max(0, min(n, s + m))) for s, n, m in zip(start, out.shape, mask.array.shape, strict=True)]
    part = mask.array[tuple(slice(t.start - s, t.stop - s) for t, s in zip(to, start, strict=True))]
    out[tuple(to)] = part
    whole, inside = np.count_nonzero(mask.array), np.count_nonzero(part)
    if whole and inside < 0.95 * whole:
        raise Unusable("mask_outside", f"only {inside} of the mask's {whole} voxels lie in the volume")
    return replace(image, array=out)
