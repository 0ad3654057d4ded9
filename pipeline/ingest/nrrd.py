"""NRRD headers, attached (`.nrrd`) or with their voxels in another file (`.nhdr`), as teem defines them."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix
from pipeline.ingest.voxels import Encoding, Stored
from pipeline.records import Geometry

MAGIC = b"NRRD000"
MAX_HEADER = 1 << 22
"""Bytes; Slicer writes some hundred for each segment."""

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("signed long long int",), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
"""Name to the signs that turn its coordinates into LPS; all other spaces are not the patient's."""
SPATIAL = ("domain", "space")
CHANNELS = ("list", "vector", "time", "point", "scalar", "none", "???")
"""Kinds of an axis whose positions are volumes of their own; colours, tensors and the like are not."""


class Header(NamedTuple):
    """Fields and free key-value pairs of a file."""

    fields: dict[str, str]
    pairs: dict[str, str]
    end: int
    """Byte behind it."""


class Axes(NamedTuple):
    """Which stored axes are the body's, and which one counts volumes."""

    spatial: tuple[int, ...]
    channel: int | None
    vectors: tuple[tuple[float, ...], ...] | None
    """Space directions of the spatial ones; None: the header has none."""


def header(path: Path) -> Header:
    """Read a header.

    Raises:
        Unusable: `undecodable`, `truncated`, `unreadable`.
    """
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    end = re.search(rb"\r?\n\r?\n", start)
    if end is None and len(start) == MAX_HEADER:
        raise Unusable("undecodable", f"its header does not end within {MAX_HEADER} bytes")
    text = start[: end.start() if end else len(start)].decode("utf-8", "replace")
    fields, pairs = dict[str, str](), dict[str, str]()
    for line in text.splitlines()[1:]:
        if line.startswith("#"):
            continue
        name, colon, rest = line.partition(":")
        if colon and rest.startswith("="):
            pairs[name] = rest[1:]
        elif colon:
            fields[name.strip().lower()] = rest.strip()
    return Header(fields, pairs, end.end() if end else len(start))


def stored(path: Path) -> Stored:
    """Read what a header says of its volume.

    Raises:
        Unusable: `undecodable`, `truncated`, `not_3d`, `bad_geometry`, `missing_image`.
    """
    fields, _, end = header(path)
    try:
        sizes = _numbers(fields, "sizes", int)
        if len(sizes) != int(fields["dimension"]):
            raise ValueError
        dtype = np.dtype(TYPES[fields["type"].lower()])
        encoding = ENCODINGS[fields["encoding"].lower()]
        axes = _axes(fields, sizes)
        affine, spacing, geometry, flags = _affine(fields, axes)
        skip = int(fields.get("byte skip", fields.get("byteskip", 0)))
        lines = int(fields.get("line skip", fields.get("lineskip", 0)))
    except KeyError:
        raise Unusable("undecodable", "its header lacks a field, or a type or an encoding is not read") from None
    except (ValueError, OverflowError):
        raise Unusable("undecodable", "a header whose numbers can not be read") from None
    if lines or skip < -1 or (skip == -1 and encoding != "raw"):
        raise Unusable("undecodable", "its header skips lines before the voxels, which is not read")
    file, offset = _data(path, fields, end)
    if encoding == "raw":
        offset, skip = (offset + skip, 0) if skip >= 0 else (-1, 0)
    first, second, third = (*(sizes[axis] for axis in axes.spatial), 1)[:3]
    return Stored(
        file,
        offset,
        skip,
        encoding,
        dtype.newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<"),
        (first, second, third),
        affine,
        spacing,
        geometry,
        flags,
        1 if axes.channel is None else sizes[axes.channel],
        3 if axes.channel is None else axes.channel,
    )


def _numbers(fields: dict[str, str], name: str, kind: Any = float) -> list[Any]:
    return [kind(word) for word in fields[name].split()]


def _data(path: Path, fields: dict[str, str], end: int) -> tuple[Path, int]:
    """Return the file with the voxels, and where they begin."""
    name = fields.get("data file", fields.get("datafile"))
    return (path, end) if name is None else (beside(path, name), 0)


def beside(path: Path, name: str) -> Path:
    """Return the file that a header names, which must lie in the header's folder or below it.

    Raises:
        Unusable: `undecodable`.
    """
    if "%" in name or name.split()[:1] == ["LIST"]:
        raise Unusable("undecodable", "its voxels stand in several files, which is not read")
    if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise Unusable("undecodable", "its header names a file outside its own folder")
    return path.parent / name


def _axes(fields: dict[str, str], sizes: Sequence[int]) -> Axes:
    """Tell the axes of the body from the one that counts volumes.

    Raises:
        Unusable: `not_3d`.
        ValueError: The fields do not fit each other.
    """
    kinds = fields.get("kinds", "").lower().split() or ["???"] * len(sizes)
    vectors = _vectors(fields.get("space directions"))
    if len(kinds) != len(sizes) or (vectors is not None and len(vectors) != len(sizes)):
        raise ValueError
    apart = [n for n, kind in enumerate(kinds) if kind not in (*SPATIAL, "???")]
    if vectors is not None:
        apart = [n for n, vector in enumerate(vectors) if vector is None or kinds[n] == "time"]
    if not apart and len(sizes) == 4:
        apart = [3]
    spatial = tuple(n for n in range(len(sizes)) if n not in apart)
    strange = any(kinds[n] not in (*CHANNELS, *SPATIAL) for n in apart)
    if strange or len(apart) > 1 or not 2 <= len(spatial) <= 3 or min(sizes) < 1:
        what = ", one of colours, vectors or tensors" if strange else ""
        raise Unusable("not_3d", f"axes of {tuple(sizes)}{what}; a volume has three, and a fourth counts volumes")
    there = None if vectors is None else tuple(vectors[n] or () for n in spatial)
    return Axes(spatial, apart[0] if apart else None, there)


def _vectors(said: str | None) -> list[tuple[float, ...] | None] | None:
    if said is None:
        return None
    words = re.findall(r"\([^()]*\)|none", said.lower())
    return [None if word == "none" else tuple(float(part) for part in word[1:-1].split(",")) for word in words]


def _affine(fields: dict[str, str], axes: Axes) -> tuple[Matrix, tuple[float, float, float], Geometry, tuple[str, ...]]:
    """Return the affine to LPS mm, the spacing, and how far the affine is to be trusted."""
    if axes.vectors is None or len(axes.vectors) < 3:
        said = _spacings(fields, axes)
        return np.diag([*said, 1.0]), said, "unknown", ("no_orientation",)
    columns = np.array([vector[:3] for vector in axes.vectors], float).T
    if columns.shape != (3, 3):
        raise ValueError
    signs = SPACES.get(re.sub("(-time|t)$", "", fields.get("space", "").strip('"').lower()))
    origin = _vectors(fields.get("space origin", "(0,0,0)"))
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = origin[0][:3] if origin and origin[0] else 0
    if signs is not None:
        affine[:3] *= np.array(signs)[:, None]
    first, second, third = (math.hypot(*column) for column in columns.T.tolist())
    known = signs is not None
    return affine, (first, second, third), "known" if known else "unknown", () if known else ("no_orientation",)


def _spacings(fields: dict[str, str], axes: Axes) -> tuple[float, float, float]:
    if axes.vectors is not None:
        said = [math.hypot(*vector) for vector in axes.vectors]
    else:
        of_all = _numbers(fields, "spacings") if "spacings" in fields else []
        said = [abs(of_all[axis]) for axis in axes.spatial] if of_all else []
    good = [length if math.isfinite(length) and length > 0 else 1.0 for length in said]
    first, second, third = (*good, 1.0, 1.0, 1.0)[:3]
    return first, second, third
