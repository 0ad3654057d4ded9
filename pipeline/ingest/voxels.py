"""The voxels of a volume file: where they lie in it, as its header says, and how they become one array.

Read here and not by SimpleITK: a damaged MetaImage makes its C++ reader end the whole process, and where compressed
voxels do not fit their checksum it returns what happened to stand in memory. Each format has a module for its header.
"""

import bz2
import gzip
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from isal import igzip, igzip_lib, isal_zlib
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix
from pipeline.ingest.reslice import Shade, has_table, tabled
from pipeline.records import Geometry

MAX_VOXELS = 2_000_000_000
"""Larger volumes are refused by their header, before they are read."""
CHUNK = 1 << 19
"""Bytes: what is copied on at once stays in the cache."""
DEFLATE_RATIO = 1040
"""Deflate makes data smaller by 1032 at most: a header that promises more is wrong, or an attack."""

DAMAGED: Any = (gzip.BadGzipFile, igzip_lib.IsalError)
"""What a compressed stream raises that is not what it was."""

Encoding = Literal["raw", "gzip", "zlib", "bzip2"]


class Stored(NamedTuple):
    """A volume as its header describes it."""

    file: Path
    """That holds the voxels; not always the one with the header."""
    offset: int
    """Byte of the file at which they, or their compressed stream, begin; -1: they are the end of it."""
    skip: int
    """Bytes before them within a compressed stream."""
    encoding: Encoding
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    """Along i, j, k; i runs fastest in the file."""
    affine: Matrix
    """4×4: index (i, j, k) to LPS mm."""
    spacing: tuple[float, float, float]
    """mm along i, j, k; 1 where the header does not say."""
    geometry: Geometry
    flags: tuple[str, ...] = ()
    channels: int = 1
    """Volumes on this grid that the file holds."""
    channel_axis: int = 3
    """Where the axis of channels stands among the stored ones: 0 before i, 3 after k."""
    slope: float = 1.0
    intercept: float = 0.0


def read_voxels(stored: Stored, channel: int | None = None, sparse: bool = False) -> NDArray[Any]:
    """Read one volume, `(i, j, k)`, in the byte order of this machine, scaled as the header says.

    Args:
        stored: What the header says.
        channel: Which of several volumes; None: there is one only.
        sparse: Most voxels are 0, as those of a mask: memory is taken for the others.

    Raises:
        Unusable: `not_3d`, `too_large`, `missing_image`, `unreadable`, `truncated`, `undecodable`.
    """
    shape, start = checked(stored, channel)
    flat, done = (np.zeros if sparse else np.empty)(math.prod(shape), stored.dtype), 0
    for part in _parts(flat.nbytes, stored, start):
        if not sparse or _held(part):
            flat.view(np.uint8)[done : done + len(part)] = part
        done += len(part)
    array = flat.reshape(shape, order="F")
    if array.ndim == 4:
        array = np.asfortranarray(np.take(array, channel or 0, axis=stored.channel_axis))
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return _scaled(array, stored.slope, stored.intercept)


def _held(part: NDArray[np.uint8]) -> bool:
    """Return whether not every byte is 0; eight of them at a time."""
    end = len(part) & -8
    return bool(part[:end].view(np.uint64).any() or part[end:].any())


class Shaded(NamedTuple):
    """A volume of which only what was made of its voxels is kept."""

    array: NDArray[np.uint8]
    """`(i, j, k)`."""
    only: float | None
    """The value of every voxel, where they all have the same."""


def read_shaded(stored: Stored, channel: int | None, shade: Shade) -> Shaded:
    """Read one volume as `shade(read_voxels(stored, channel))`: half of the memory or less, and a pass less.

    Args:
        stored: What the header says; `in_one_piece` holds for it.
        channel: Which of several volumes.
        shade: Makes 8 bits of each intensity by itself.

    Raises:
        Unusable: As `read_voxels`.
    """
    shape, start = checked(stored, channel)

    def scaled(raw: NDArray[Any]) -> NDArray[Any]:
        return _scaled(raw.reshape(-1, 1, 1), stored.slope, stored.intercept).reshape(-1)

    look_up = tabled(lambda raw: shade(scaled(raw)), stored.dtype)
    flat = np.empty(math.prod(shape), np.uint8)
    done, first, alike = 0, np.zeros(1, stored.dtype), True
    for part in _whole(stored.dtype.itemsize, _parts(flat.size * stored.dtype.itemsize, stored, start)):
        raw = part.view(stored.dtype)
        first = first if done else raw[:1].copy()
        alike = alike and bool((raw == first).all())
        flat[done : done + len(raw)] = look_up(raw.reshape(1, -1))[0]
        done += len(raw)
    only = float(scaled(first.astype(first.dtype.newbyteorder("=")))[0]) if alike else None
    return Shaded(flat.reshape(shape, order="F"), only)


def in_one_piece(stored: Stored) -> bool:
    """Return whether the voxels of one volume follow each other, in numbers that there is a table of."""
    return has_table(stored.dtype) and (stored.channels == 1 or stored.channel_axis == 3)


def checked(stored: Stored, channel: int | None) -> tuple[tuple[int, ...], int]:
    """Return the shape that is read for one volume, and at which byte of the (decompressed) file it begins.

    Raises:
        Unusable: As `read_voxels`, as far as the header and the file's size tell.
    """
    shape, before = _wanted(stored, channel)
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS:
        raise Unusable("too_large", f"{shape}: {voxels} voxels; at most {MAX_VOXELS} are read")
    nbytes = voxels * stored.dtype.itemsize
    start = stored.skip + before * nbytes
    _check_size(stored, start + nbytes)
    return shape, start


def _wanted(stored: Stored, channel: int | None) -> tuple[tuple[int, ...], int]:
    """Return the shape to read, and how many such shapes lie before it."""
    count = stored.channels
    if channel is None and count > 1:
        raise Unusable("not_3d", f"{count} volumes along a fourth axis; channels.axis names them")
    if channel is not None and not 0 <= channel < count:
        raise Unusable("not_3d", f"channel {channel + 1} is wanted, the file holds {count}; see channels.axis")
    if count == 1 or stored.channel_axis == 3:
        return stored.shape, channel or 0
    at = stored.channel_axis
    return (*stored.shape[:at], count, *stored.shape[at:]), 0


def _check_size(stored: Stored, wanted: int) -> None:
    """Refuse a header that promises more than the file can hold, before memory is set aside for it."""
    try:
        size = max(0, stored.file.stat().st_size - max(0, stored.offset))
    except OSError as error:
        raise _not_read(error) from None
    most = {"raw": size, "bzip2": wanted}.get(stored.encoding, size * DEFLATE_RATIO)
    if most < wanted:
        raise Unusable("truncated", f"{size} bytes can not hold {wanted} bytes of voxels")


def _not_read(error: OSError) -> Unusable:
    if isinstance(error, FileNotFoundError):
        return Unusable("missing_image", "the file with its voxels is not there")
    return Unusable("unreadable", error.strerror or "not readable")


def _parts(wanted: int, stored: Stored, start: int) -> Iterator[NDArray[np.uint8]]:
    """Yield so many bytes of the file from `start` on; a compressed stream that ends there is read to its checksum."""
    done = 0
    try:
        with closing(_chunks(stored, start)) as chunks:
            for chunk in chunks:
                part = np.frombuffer(chunk, np.uint8)[: wanted - done]
                done += len(part)
                if len(part):
                    yield part
                if len(part) < len(chunk):
                    return
    except EOFError:
        raise Unusable("truncated", f"its compressed stream ends before its {wanted} bytes of voxels") from None
    except DAMAGED:
        raise Unusable("undecodable", "its compressed voxels are damaged") from None
    except OSError as error:
        if error.errno is None:  # bz2 has no error of its own
            raise Unusable("undecodable", "its compressed voxels are damaged") from None
        raise _not_read(error) from None
    if done < wanted:
        raise Unusable("truncated", f"{done} of {wanted} bytes of its voxels are there")


def _whole(size: int, parts: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Cut bytes so that no element of a size lies in two parts."""
    rest = np.empty(0, np.uint8)
    for part in parts:
        joined = np.concatenate([rest, part]) if len(rest) else part
        end = len(joined) - len(joined) % size
        if end:
            yield joined[:end]
        rest = joined[end:]


def _chunks(stored: Stored, skip: int) -> Generator[bytes]:
    """Yield what the file holds from a byte of its (decompressed) stream on."""
    with stored.file.open("rb") as file:
        if stored.encoding == "raw":
            whole = math.prod(stored.shape) * stored.channels * stored.dtype.itemsize
            start = stored.offset if stored.offset >= 0 else stored.file.stat().st_size - whole
            file.seek(max(0, start) + skip)
            yield from iter(lambda: file.read(CHUNK), b"")
        else:
            file.seek(stored.offset)
            for chunk in _decoded(file, stored.encoding):
                yield chunk[skip:] if skip else chunk
                skip = max(0, skip - len(chunk))


def _decoded(file: BinaryIO, encoding: Encoding) -> Iterable[bytes]:
    if encoding == "zlib":
        return _inflated(file)
    stream = igzip.IGzipFile(fileobj=file) if encoding == "gzip" else bz2.BZ2File(file)
    return iter(lambda: bytes(stream.read(CHUNK)), b"")


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    stream, data = isal_zlib.decompressobj(), b""
    while not stream.eof:
        data = stream.unconsumed_tail or file.read(CHUNK)
        if not data:
            raise EOFError
        yield stream.decompress(data, CHUNK)


@np.errstate(over="ignore", invalid="ignore")  # the reader of intensities replaces what is not finite
def _scaled(array: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Apply slope and intercept: whole numbers that are only shifted stay whole, the rest becomes float32."""
    if (slope, intercept) == (1.0, 0.0):
        return array
    small = array.dtype.kind in "iu" and array.dtype.itemsize <= 4
    if small and slope == 1 and intercept.is_integer() and abs(intercept) < 2**31:
        return _shifted(array, int(intercept))
    scaled: NDArray[Any] = array.astype(np.float64 if array.dtype == np.float64 else np.float32)
    scaled *= slope
    scaled += intercept
    return scaled


def _shifted(array: NDArray[Any], by: int) -> NDArray[Any]:
    low, high = int(array.min()) + by, int(array.max()) + by
    fitting = [t for t in (np.int16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
    shifted = np.empty(array.shape, fitting[0], order="F")
    for k in range(array.shape[2]):  # slab by slab: a copy of the whole in 64 bits would be four times the volume
        shifted[..., k] = array[..., k].astype(np.int64) + by
    return shifted
