"""NIfTI headers, read with nibabel's rules: SimpleITK refuses or silently bends axes that are not at right angles."""

import logging
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from isal import igzip

from pipeline.errors import Unusable
from pipeline.ingest.geometry import LPS_FROM_RAS, Matrix, assumed_affine, is_sheared
from pipeline.ingest.voxels import DAMAGED, Encoding, Stored
from pipeline.records import Geometry

MAX_EXTENSIONS = 1 << 24
"""Bytes between header and voxels."""
SIZES = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""By the header's code for units of space: metres and micrometres; all others are mm."""
VOXEL_SIZE = 0.01
"""Share by which a voxel's sides may differ by rounding."""

_SILENT = logging.Logger("NIfTI headers")  # nibabel tells standard error what it mends in a header
_SILENT.addHandler(logging.NullHandler())


class Opened(NamedTuple):
    """The header of a file, and what stands between it and the voxels."""

    header: Any
    extensions: bytes
    voxels_at: int
    encoding: Encoding


def is_nifti(start: bytes) -> bool:
    """Say whether the first bytes of a file, decompressed, are those of a NIfTI header."""
    return len(start) >= 4 and _size(start) in SIZES


def _size(start: bytes) -> int:
    little, big = struct.unpack("<i", start[:4])[0], struct.unpack(">i", start[:4])[0]
    return int(little if little in SIZES else big)


def stored(path: Path) -> Stored:
    """Read what a header says of its volume.

    Raises:
        Unusable: `undecodable`, `truncated`, `not_3d`, `bad_geometry`, `too_large`, `unreadable`.
    """
    header, _, voxels_at, encoding = opened(path)
    shape, channels = _shape(header)
    affine, geometry, flags = _affine(header, shape)
    slope, intercept = _scale(header)
    return Stored(
        path,
        voxels_at if encoding == "raw" else 0,
        0 if encoding == "raw" else voxels_at,
        encoding,
        _dtype(header),
        shape,
        affine,
        _spacing(header),
        geometry,
        flags,
        channels,
        slope=slope,
        intercept=intercept,
    )


def opened(path: Path) -> Opened:
    """Read header and extensions.

    Raises:
        Unusable: As `stored`.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = igzip.IGzipFile(fileobj=file) if packed else file
        try:
            start = stream.read(4)
            size = _size(start)
            block = start + stream.read(size - 4)
            header = _header(block, size)
            voxels_at = _voxels_at(header, size)
            extensions = stream.read(voxels_at - size)
        except EOFError:
            raise Unusable("truncated", "ends before its header does") from None
        except DAMAGED:
            raise Unusable("undecodable", "its compressed header is damaged") from None
    return Opened(header, extensions, voxels_at, "gzip" if packed else "raw")


def _header(block: bytes, size: int) -> Any:
    if len(block) < size:
        raise Unusable("truncated", f"{len(block)} bytes of a header of {size}")
    kind: Any = SIZES[size]
    try:
        header = kind(block, check=False)
        header.check_fix(logger=_SILENT, error_level=41)  # 40: a data type that _dtype refuses with a reason
    except (nib.spatialimages.HeaderDataError, ValueError, LookupError) as error:
        raise Unusable("undecodable", f"a NIfTI header with impossible values ({type(error).__name__})") from None
    if not bytes(header["magic"]).startswith((b"n+1", b"n+2")):
        raise Unusable("undecodable", "its header says that the voxels stand in another file")
    return header


def _voxels_at(header: Any, size: int) -> int:
    said = float(header["vox_offset"])
    if not said:
        return size + 4
    if not size + 4 <= said <= size + MAX_EXTENSIONS:
        raise Unusable("undecodable", f"voxels begin at byte {said:g}; a header has {size}")
    return int(said)


def _shape(header: Any) -> tuple[tuple[int, int, int], int]:
    """Return the three axes of a volume, and the length of a fourth."""
    try:
        said = tuple(int(n) for n in header.get_data_shape())
    except nib.spatialimages.HeaderDataError:
        raise Unusable("not_3d", "a surface of FreeSurfer, not a volume") from None
    shape = said
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 4:
        raise Unusable("not_3d", f"shape {said}: vectors or a field of deformations, not a volume")
    if len(shape) < 2 or min(shape) < 1:
        raise Unusable("not_3d", f"shape {said}; a volume has three axes")
    first, second, third, fourth = (*shape, 1, 1)[:4]
    return (first, second, third), fourth


def _dtype(header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (nib.spatialimages.HeaderDataError, LookupError):
        raise Unusable("undecodable", f"data type {int(header['datatype'])} is not one of NIfTI") from None
    if dtype.fields is not None:
        raise Unusable("not_3d", "voxels are colours, not intensities")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Unusable("not_3d", f"voxels are {dtype.name}; intensities are real numbers of up to 64 bits")
    return dtype


def _scale(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):  # the standard: not scaled
        return 1.0, 0.0
    return slope, intercept if math.isfinite(intercept) else 0.0


def _spacing(header: Any) -> tuple[float, float, float]:
    unit = _unit(header)
    first, second, third = (abs(float(length)) * unit for length in header["pixdim"][1:4])
    return first, second, third


def _unit(header: Any) -> float:
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


@np.errstate(invalid="ignore", over="ignore", divide="ignore")  # to_lps refuses what is not finite
def _affine(header: Any, shape: tuple[int, int, int]) -> tuple[Matrix, Geometry, tuple[str, ...]]:
    """Return the affine of a header, and how far it is to be trusted.

    The sform counts before the qform, as for nibabel, unless its voxels are not as large as `pixdim` says: lengths are
    then those of the qform, as for ITK and all that reads with it. Where both say something and their axes run to other
    sides of the patient, nothing is sure of left and right.
    """
    unit = np.diag([_unit(header)] * 3 + [1.0])
    sform, qform = _form(header, "sform"), _form(header, "qform")
    if sform is None and qform is None:
        spacing = [length if math.isfinite(length) and length > 0 else 1.0 for length in _spacing(header)]
        return assumed_affine("LAS", (spacing[0], spacing[1], spacing[2])), "unknown", ("no_orientation",)
    if sform is None or qform is None or not np.isfinite([sform, qform]).all():
        chosen = sform if sform is not None else qform
        assert chosen is not None
        return LPS_FROM_RAS @ unit @ chosen, "known", ()
    apart = _corner_distance(shape, unit @ sform, unit @ qform)
    mirrored = apart > 0.5 * min(_spacing(header)) and not _same_sides(sform, qform)
    other = _other_voxels(sform, qform)
    flags = ("form_conflict",) if apart > 1.0 or mirrored or other else ()
    return LPS_FROM_RAS @ unit @ (qform if other else sform), "unknown" if mirrored else "known", flags


def _other_voxels(sform: Matrix, qform: Matrix) -> bool:
    """Do sform and `pixdim`, which the qform is made with, differ in the size of a voxel, so that `pixdim` is right?

    An sform in voxels (ACDC) has sides of 1. Sides of a sheared one are longer and right; a `pixdim` of 1, 1, 1 is what
    a header has before anybody fills it in.
    """
    sides, pixdim = (np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform))
    filled_in = bool((np.abs(pixdim - 1) > VOXEL_SIZE).any())
    return filled_in and not is_sheared(sform) and bool((np.abs(sides / pixdim - 1) > VOXEL_SIZE).any())


def _form(header: Any, name: str) -> Matrix | None:
    """Return a form of the header to RAS, or None where its code says that there is none."""
    if int(header[f"{name}_code"]) <= 0:
        return None
    try:
        form = header.get_sform() if name == "sform" else header.get_qform()
    except (nib.spatialimages.HeaderDataError, ValueError):
        form = np.full((4, 4), np.nan)
    return np.asarray(form, float)


def _corner_distance(shape: tuple[int, int, int], one: Matrix, other: Matrix) -> float:
    ends = [(0, n - 1) for n in shape]
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], float)
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _same_sides(one: Matrix, other: Matrix) -> bool:
    if np.linalg.det(one[:3, :3]) * np.linalg.det(other[:3, :3]) <= 0:
        return False
    return bool(nib.aff2axcodes(one) == nib.aff2axcodes(other))
