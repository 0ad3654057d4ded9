"""MetaImage headers, attached (`.mha`) or with their voxels in another file (`.mhd`), as ITK writes them."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix
from pipeline.ingest.nrrd import beside
from pipeline.ingest.voxels import Encoding, Stored
from pipeline.records import Geometry

MAX_HEADER = 1 << 20
STARTS = (b"objecttype", b"ndims", b"comment", b"objectsubtype", b"dimsize", b"elementtype")
TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # of 32 bits wherever it was written
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def is_metaimage(start: bytes) -> bool:
    """Say whether the first bytes of a file are those of a MetaImage header."""
    return re.match(rb"\s*(" + b"|".join(STARTS) + rb")\s*=", start.lower()) is not None


def stored(path: Path) -> Stored:
    """Read what a header says of its volume.

    Raises:
        Unusable: `undecodable`, `truncated`, `not_3d`, `missing_image`, `unreadable`.
    """
    fields, end = _fields(path)
    try:
        sizes = [int(word) for word in fields["dimsize"].split()]
        if len(sizes) != int(fields["ndims"]):
            raise ValueError
        channels = int(fields.get("elementnumberofchannels", "1"))
        dtype = np.dtype(TYPES[fields["elementtype"].upper()])
        header_size = int(fields.get("headersize", "0"))
        affine, spacing, geometry, flags = _affine(fields, len(sizes))
    except KeyError:
        raise Unusable("undecodable", "its header lacks a field, or a type or an encoding is not read") from None
    except (ValueError, OverflowError):
        raise Unusable("undecodable", "a header whose numbers can not be read") from None
    if not 2 <= len(sizes) <= 4 or min(*sizes, channels) < 1 or (len(sizes) == 4 and channels > 1):
        raise Unusable("not_3d", f"axes of {tuple(sizes)}, {channels} channels; a volume has three axes and one")
    if fields.get("binarydata", "true").lower() == "false":
        raise Unusable("undecodable", "its voxels are written as text, which is not read")
    big = _is_true(fields, "binarydatabyteordermsb") or _is_true(fields, "elementbyteordermsb")
    encoding: Encoding = "zlib" if _is_true(fields, "compresseddata") else "raw"
    file, offset = _data(path, fields["elementdatafile"], end, header_size)
    first, second, third, fourth = (*sizes, 1, 1)[:4]
    return Stored(
        file,
        offset,
        0,
        encoding,
        dtype.newbyteorder(">" if big else "<"),
        (first, second, third),
        affine,
        spacing,
        geometry,
        flags,
        channels * fourth,
        0 if channels > 1 else 3,
    )


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's lines by lower-case name, and the byte behind them."""
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    fields, end = dict[str, str](), 0
    for line in re.finditer(rb"[^\n]*(\n|$)", start):
        name, equals, value = line[0].decode("utf-8", "replace").partition("=")
        if equals:
            fields[name.strip().lower()] = value.strip()
        end = line.end()
        if name.strip().lower() == "elementdatafile" or not line[0]:
            break
    if "elementdatafile" not in fields:
        raise Unusable("truncated", "ends before its header does")
    return fields, end


def _is_true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "").lower() in ("true", "1")


def _data(path: Path, name: str, end: int, header_size: int) -> tuple[Path, int]:
    """Return the file with the voxels, and where they begin."""
    if name.upper() == "LOCAL":
        return path, end
    if header_size < -1:
        raise Unusable("undecodable", f"its voxels begin at byte {header_size}")
    return beside(path, name), header_size


@np.errstate(invalid="ignore", over="ignore")  # to_lps refuses what is not finite
def _affine(fields: dict[str, str], axes: int) -> tuple[Matrix, tuple[float, float, float], Geometry, tuple[str, ...]]:
    """Return the affine to LPS mm, the spacing, and how far the affine is to be trusted.

    Without a matrix nobody said how the volume lies; ITK would call it LPS.
    """
    lengths = _numbers(fields, ("elementspacing", "elementsize"), axes) or [1.0] * axes
    good = [abs(length) if math.isfinite(length) and length else 1.0 for length in lengths]
    first, second, third = (*good, 1.0)[:3]
    directions = _numbers(fields, ("transformmatrix", "rotation", "orientation"), axes * axes)
    if directions is None or axes == 2:
        return np.diag([first, second, third, 1.0]), (first, second, third), "unknown", ("no_orientation",)
    affine = np.eye(4)
    # the file lists the direction of each axis in turn; a negative spacing turns its axis, as ITK reads it
    affine[:3, :3] = np.array(directions).reshape(axes, axes)[:3, :3].T * lengths[:3]
    affine[:3, 3] = (_numbers(fields, ("offset", "position", "origin"), axes) or [0.0] * axes)[:3]
    return affine, (first, second, third), "known", ()


def _numbers(fields: dict[str, str], names: tuple[str, ...], count: int) -> list[float] | None:
    said: Any = next((fields[name] for name in names if name in fields), None)
    if said is None:
        return None
    numbers = [float(word) for word in said.split()]
    if len(numbers) != count:
        raise ValueError
    return numbers
