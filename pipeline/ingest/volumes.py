"""Volumes and label maps in one file: NIfTI, NRRD, MetaImage, told apart by what they hold and not by their names."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest import metaimage, nifti, nrrd
from pipeline.ingest.geometry import Matrix, Volume, assumed_affine, to_lps
from pipeline.ingest.reslice import Shade
from pipeline.ingest.voxels import DAMAGED, Stored, checked, in_one_piece, read_shaded, read_voxels
from pipeline.records import Geometry

LFS_POINTER = b"version https://git-lfs"


def read(path: Path, assume: str | None = None, channel: int | None = None) -> Volume:
    """Read a volume; intensities as the header scales them, what is not finite replaced by the lowest and flagged.

    Args:
        path: `.nii`, `.nii.gz`, `.nrrd`, `.nhdr`, `.mha` or `.mhd`.
        assume: Axis codes to use instead of the header's; `unknown`: the array as it is stored.
        channel: Which of the volumes along a fourth axis, from 0.

    Raises:
        Unusable: `missing_image`, `unreadable`, `empty_file`, `lfs_pointer`, `undecodable`, `truncated`, `too_large`,
            `not_3d`, `bad_geometry`.
    """
    return opened(path, assume, channel).voxels()


class Opened(NamedTuple):
    """A volume of which only the header was read."""

    stored: Stored
    assume: str | None
    channel: int | None

    def grid(self) -> Volume:
        """Return where its voxels lie, without them: all are 0."""
        shape, _ = checked(self.stored, self.channel)
        if len(shape) == 4:
            shape = tuple(np.delete(shape, self.stored.channel_axis))
        return _volume(np.broadcast_to(np.zeros((), np.uint8), shape), self.stored, self.assume)

    def voxels(self) -> Volume:
        """Read it, as `read` does."""
        array = read_voxels(self.stored, self.channel)
        replaced = array.dtype.kind == "f" and _replace_not_finite(array)
        return _volume(array, self.stored, self.assume, ("not_finite_replaced",) if replaced else ())

    def shaded(self, shade: Shade) -> Volume | None:
        """Read it as 8 bits, one for each intensity; None where only `voxels` can do that.

        Raises:
            Unusable: As `read`; `no_content`.
        """
        if not in_one_piece(self.stored):
            return None
        array, only = read_shaded(self.stored, self.channel, shade)
        if only is not None:
            raise no_content(only)
        return _volume(array, self.stored, self.assume)


def opened(path: Path, assume: str | None = None, channel: int | None = None) -> Opened:
    """Read the header of a volume; arguments and errors as of `read`."""
    return Opened(_stored(path), assume, channel)


def no_content(value: float) -> Unusable:
    """Return why a volume with but one intensity is left out."""
    return Unusable("no_content", f"every voxel is {value:g}")


def read_labels(
    path: Path, assume: str | None = None, threshold: float | None = None, channel: int | None = None
) -> Volume:
    """Read a label map as integers.

    Args:
        path: As `read`.
        assume: As `read`.
        threshold: Soft mask: voxels from this value on become 1, all others 0.
        channel: As `read`.

    Raises:
        Unusable: As `read`; `interpolated_mask`: values that are not whole numbers within 0.01.
    """
    stored = _stored(path)
    array = read_voxels(stored, channel, sparse=True)
    labels = as_labels(array) if threshold is None else (array >= threshold).view(np.uint8)
    return _volume(labels, stored, assume)


def channels(path: Path) -> int:
    """Return how many volumes a file holds along a fourth axis; reads its header only.

    Raises:
        Unusable: As `read`.
    """
    return _stored(path).channels


def as_labels(array: NDArray[Any]) -> NDArray[Any]:
    """Round scaled labels (0.99999997 is 1; truncation would lose every second label) and refuse interpolated ones.

    Raises:
        Unusable: `interpolated_mask`.
    """
    if array.dtype.kind in "biu":
        return array
    labels = np.empty(array.shape, np.int32, order="F" if array.flags.f_contiguous else "C")
    for n in range(array.shape[-1]):  # slab by slab, to hold no third copy of the whole
        part = array[..., n]
        if not np.isfinite(part).all() or np.abs(part).max(initial=0) >= 2**31:
            raise Unusable("interpolated_mask", "the label map holds values that are no label ids")
        whole = np.rint(part)
        off = np.abs(part - whole)
        if off.max(initial=0) > 0.01:
            value = float(part.flat[int(off.argmax())])
            raise Unusable("interpolated_mask", f"the label map holds {value:g}; `threshold` reads a soft mask")
        labels[..., n] = whole
    return labels


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file, decompressed; what is left of a damaged one.

    Raises:
        Unusable: `missing_image`, `empty_file`, `unreadable`, `lfs_pointer`.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
            if start[:2] == b"\x1f\x8b":
                file.seek(0)
                start = _unpacked(file)
            elif start and path.suffix.lower() == ".gz" and not start.startswith(LFS_POINTER):
                raise Unusable("undecodable", "its name says gzip, its bytes do not")
    except FileNotFoundError:
        raise Unusable("missing_image", "no such file") from None
    except OSError as error:
        raise Unusable("unreadable", error.strerror or "not readable") from None
    if start.startswith(LFS_POINTER):
        raise Unusable("lfs_pointer", "a pointer of Git LFS, not the file; fetch it with git lfs pull")
    return start


def _unpacked(file: Any) -> bytes:
    try:
        return bytes(igzip.IGzipFile(fileobj=file).read(512))
    except EOFError:
        raise Unusable("truncated", "ends before its header does") from None
    except DAMAGED:
        raise Unusable("undecodable", "its compressed header is damaged") from None


def _stored(path: Path) -> Stored:
    """Read the header in the format that the file has."""
    start = first_bytes(path)
    try:
        if nifti.is_nifti(start):
            return nifti.stored(path)
        if start.startswith(nrrd.MAGIC):
            return nrrd.stored(path)
        if metaimage.is_metaimage(start):
            return metaimage.stored(path)
    except OSError as error:
        raise Unusable("unreadable", error.strerror or "not readable") from None
    if not start:
        raise Unusable("empty_file", "0 bytes")
    if len(start) < 348:
        raise Unusable("truncated", f"{len(start)} bytes are no header of a volume")
    raise Unusable("undecodable", "neither NIfTI nor NRRD nor MetaImage")


def _replace_not_finite(array: NDArray[Any]) -> bool:
    good = np.isfinite(array)
    if good.all():
        return False
    lowest = array.min(where=good, initial=np.inf)
    array[~good] = lowest if np.isfinite(lowest) else 0
    return True


def _volume(array: NDArray[Any], stored: Stored, assume: str | None, flags: tuple[str, ...] = ()) -> Volume:
    affine, geometry, said = _placed(stored, assume)
    return to_lps(array, affine, geometry, (*said, *flags))


def _placed(stored: Stored, assume: str | None) -> tuple[Matrix, Geometry, tuple[str, ...]]:
    """Return the affine, how far it is to be trusted, and what is odd; `unknown` is the array as it is stored."""
    if assume is None:
        return stored.affine, stored.geometry, stored.flags
    said = stored.spacing
    good = tuple(length if np.isfinite(length) and length > 0 else 1.0 for length in said)
    flags = () if good == said else ("no_spacing",)
    spacing = good[0], good[1], good[2]
    if assume == "unknown":
        return assumed_affine("LPS", spacing), "unknown", flags
    return assumed_affine(assume, spacing), "assumed", flags
