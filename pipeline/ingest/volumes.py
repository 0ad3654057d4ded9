"""NIfTI volumes and label maps, read with nibabel: SimpleITK refuses or silently bends non-orthonormal affines."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest.geometry import LPS_FROM_RAS, Matrix, Volume, assumed_affine, to_lps
from pipeline.records import Geometry

MAX_VOXELS = 2_000_000_000
"""Larger volumes are refused by their header, before they are read."""


def read(path: Path, assume: str | None = None) -> Volume:
    """Read a NIfTI volume; intensities as the header scales them.

    Args:
        path: `.nii` or `.nii.gz`.
        assume: Axis codes to use instead of the header's.

    Raises:
        Unusable: `missing_image`, `unreadable`, `empty_file`, `undecodable`, `truncated`, `too_large`, `not_3d`.
    """
    image = _opened(path)
    affine, geometry, flags = _affine(image, assume)
    array = _array(image)
    if array.dtype.kind == "f":
        bad = ~np.isfinite(array)
        if bad.any():
            array = np.where(bad, array[~bad].min() if not bad.all() else 0, array)
            flags = (*flags, "not_finite_replaced")
    return to_lps(array, affine, geometry, flags)


def read_labels(path: Path, assume: str | None = None) -> Volume:
    """Read a label map as integers.

    Raises:
        Unusable: As `read`; `interpolated_mask`: values that are not whole numbers within 0.01.
    """
    image = _opened(path)
    affine, geometry, flags = _affine(image, assume)
    return to_lps(as_labels(_array(image)), affine, geometry, flags)


def as_labels(array: NDArray[Any]) -> NDArray[Any]:
    """Round scaled labels (0.99999997 is 1; truncation would lose every second label) and refuse interpolated ones.

    Raises:
        Unusable: `interpolated_mask`.
    """
    if array.dtype.kind in "biu":
        return array
    whole = np.rint(array)
    if not np.isfinite(array).all() or np.abs(array - whole).max(initial=0) > 0.01:
        raise Unusable("interpolated_mask", "the label map holds values that are not whole numbers")
    labels: NDArray[np.int32] = whole.astype(np.int32)
    return labels


def _opened(path: Path) -> Any:
    try:
        if path.stat().st_size == 0:
            raise Unusable("empty_file", "0 bytes")
        image: Any = nib.Nifti1Image.from_filename(path, mmap=False)
    except FileNotFoundError:
        raise Unusable("missing_image", "no such file") from None
    except (EOFError, zlib.error, nib.wrapstruct.WrapStructError) as error:
        raise Unusable("truncated", f"ends before its header does ({type(error).__name__})") from None
    except gzip.BadGzipFile:
        raise Unusable("undecodable", "its name says gzip, its bytes do not") from None
    except OSError as error:
        raise Unusable("unreadable", error.strerror or "not readable") from None
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError, ValueError) as error:
        raise Unusable("undecodable", f"not a NIfTI file ({type(error).__name__})") from None
    _check_shape(image)
    return image


def _check_shape(image: Any) -> None:
    shape = image.shape
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > MAX_VOXELS:
        raise Unusable("too_large", f"{shape}: {voxels} voxels; at most {MAX_VOXELS} are read")
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape[:3]) < 1:
        raise Unusable("not_3d", f"shape {shape}; a volume has three axes")
    if image.get_data_dtype().fields is not None:
        raise Unusable("not_3d", "voxels are colours, not intensities")


def _array(image: Any) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.asanyarray(image.dataobj)
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise Unusable("truncated", f"ends before its voxels do ({type(error).__name__})") from None
    voxels: NDArray[Any] = array.reshape(array.shape[:3])
    return voxels


@np.errstate(invalid="ignore", over="ignore")  # to_lps refuses what is not finite
def _affine(image: Any, assume: str | None) -> tuple[Matrix, Geometry, tuple[str, ...]]:
    header = image.header
    if assume:
        spacing = tuple(float(z) or 1.0 for z in header.get_zooms()[:3])
        return assumed_affine(assume, (spacing[0], spacing[1], spacing[2])), "assumed", ()
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    affine: Matrix = LPS_FROM_RAS @ np.asarray(image.affine, float)
    if not sform and not qform:
        return affine, "unknown", ("no_orientation",)
    if sform and qform and _corner_distance(image, header.get_sform(), header.get_qform()) > 1.0:
        return affine, "known", ("form_conflict",)
    return affine, "known", ()


def _corner_distance(image: Any, one: Matrix, other: Matrix) -> float:
    ends = [(0, n - 1) for n in image.shape[:3]]
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], float)
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())
