"""Arrays of NumPy's `.npz` and `.npy` files: what they hold, small ones whole, and large ones row by row.

Headers are parsed here and nothing is unpickled, so that a hostile file can do no more than be refused.
"""

import functools
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable

_MAGIC = b"\x93NUMPY"
_DESCR = re.compile(r"'descr': *'([<>|=]?[a-zA-Z]\d*)'")
_FORTRAN = re.compile(r"'fortran_order': *(True|False)")
_SHAPE = re.compile(r"'shape': *\(([\dL, ]*)\)")
_MOST_HEADER = 64_000
_MOST_CELLS = 1 << 28
"""Bytes of a member that is read whole for the cells of its rows."""
MOST_ROW = 1 << 30
"""Bytes of a row."""
_LOCAL_HEADER = 30
"""Bytes of a member's header in a zip file, before its name and extra field."""
_WIDEST = 1024
"""Values of a row that still are a cell, not a picture."""


class Member(NamedTuple):
    """An array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int
    """Bytes before the values."""

    @property
    def bytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


@contextmanager
def sound() -> Iterator[None]:
    """Turn what a damaged file makes `zipfile` and `numpy` raise into one reason.

    Raises:
        Unusable: `undecodable`; `unreadable`.
    """
    try:
        yield
    except zlib.error as error:
        raise Unusable("undecodable", f"damaged npz file ({error})") from None
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, TypeError, OverflowError, struct.error) as error:
        raise Unusable("undecodable", f"no npz or npy file, or a damaged one ({type(error).__name__})") from None
    except OSError as error:
        raise Unusable("unreadable", error.strerror or type(error).__name__) from None


def is_npy(path: Path) -> bool:
    """Return whether a file holds a single array."""
    return path.name.lower().endswith(".npy")


def members(path: Path) -> dict[str, Member]:
    """Return the arrays of a file by name, those of Python objects left out; that of an `.npy` has the name "".

    Raises:
        Unusable: `undecodable`; `unreadable`; `truncated`: it ends before its values do.
    """
    found = {}
    with sound():
        if is_npy(path):
            with path.open("rb") as file:
                return {"": header(file, path.stat().st_size)}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as file:
                        member = _header_or_none(file, info.file_size)
                    if member:
                        found[info.filename.removesuffix(".npy")] = member
    return found


def _header_or_none(file: IO[bytes], size: int) -> Member | None:
    try:
        return header(file, size)
    except Unusable as error:
        if error.reason == "truncated":
            raise
        return None


def header(file: IO[bytes], size: int) -> Member:
    """Read the header of an array, and check that its values can be there.

    Args:
        file: At its beginning.
        size: Its length in bytes.

    Raises:
        Unusable: `undecodable`: not an array of plain values; `truncated`.
    """
    begin = file.read(12)
    if len(begin) < 12 or not begin.startswith(_MAGIC):
        raise Unusable("undecodable", "no npy header")
    wide = begin[6] > 1
    length, fixed = struct.unpack_from("<I" if wide else "<H", begin, 8)[0], 12 if wide else 10
    if length > _MOST_HEADER:
        raise Unusable("undecodable", f"an npy header of {length} bytes")
    text = (begin[fixed:] + file.read(length)).decode("latin-1")
    descr, fortran, shape = (pattern.search(text) for pattern in (_DESCR, _FORTRAN, _SHAPE))
    if not (descr and fortran and shape) or descr[1].lstrip("<>|=").startswith("O"):
        raise Unusable("undecodable", "the array does not hold plain values")
    try:
        dtype = np.dtype(descr[1])
    except TypeError:
        raise Unusable("undecodable", "the array does not hold plain values") from None
    sides = tuple(int(side.strip(" L")) for side in shape[1].split(",") if side.strip(" L"))
    member = Member(sides, dtype, fortran[1] == "True", fixed + length)
    if member.start + member.bytes > size:
        raise Unusable("truncated", f"{size} bytes; an array of shape {sides} needs {member.start + member.bytes}")
    return member


def can_be_cells(member: Member, rows: int) -> bool:
    """Return whether an array has a cell for each of so many rows: a value, or a short list of values."""
    sides = len(member.shape) in (1, 2) and member.shape[0] == rows and math.prod(member.shape[1:]) <= _WIDEST
    return sides and member.dtype.kind in "biufSU" and member.bytes <= _MOST_CELLS


def cells(path: Path, name: str, member: Member) -> list[str]:
    """Read an array as texts, one a row: a single value as it is, several as a JSON list.

    Raises:
        Unusable: `undecodable`; `unreadable`.
    """
    with sound():
        array = whole(path, name, member)
        if array.ndim == 1 or array.shape[1] == 1:
            return [_text(value) for value in array.reshape(-1)]
        return [json.dumps([_plain(value) for value in row], ensure_ascii=False) for row in array]


def whole(path: Path, name: str, member: Member) -> NDArray[Any]:
    """Read an array; a damaged file raises what `sound` turns into a reason."""
    with ExitStack() as opened:
        if is_npy(path):
            file: IO[bytes] = opened.enter_context(path.open("rb"))
        else:
            file = opened.enter_context(opened.enter_context(zipfile.ZipFile(path)).open(f"{name}.npy"))
        file.read(member.start)
        array = np.frombuffer(file.read(member.bytes), member.dtype, math.prod(member.shape))
    return array.reshape(member.shape, order="F" if member.fortran else "C")


def _plain(value: Any) -> Any:
    """Return a NumPy value as JSON has it; a 32-bit float with its own digits, not those of its 64-bit neighbour."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def _text(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return "" if plain != plain else str(plain).strip()


# ---- rows


class _Rows:
    """An array that is read row by row, onward from the row before where that is possible."""

    def __init__(self, path: Path, name: str) -> None:
        member = members(path).get("" if is_npy(path) else name)
        if member is None:
            raise Unusable("missing_image", f"the file has no array {name!r}")
        if not member.shape:
            raise Unusable("undecodable", "an array without rows")
        self._member, self._opened = member, ExitStack()
        self._stream: IO[bytes] | None = None
        self._array: NDArray[Any] | None = None
        if is_npy(path):
            self._array = _mapped(path, member, 0)
            return
        archive = self._opened.enter_context(zipfile.ZipFile(path))
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
            self._array = _mapped(path, member, _start_of(path, info))
        elif not member.fortran:
            self._stream = self._opened.enter_context(archive.open(info))
        elif member.bytes <= MOST_ROW:  # a row lies scattered over all of it
            self._array = whole(path, name, member)

    def __del__(self) -> None:
        if hasattr(self, "_opened"):
            self._opened.close()

    def row(self, number: int) -> NDArray[Any]:
        member = self._member
        if not 0 <= number < member.shape[0]:
            raise Unusable("missing_image", f"row {number} of {member.shape[0]}")
        if member.row_bytes > MOST_ROW or (self._array is None and self._stream is None):
            raise Unusable("too_large", f"an array of shape {member.shape} and type {member.dtype}")
        if self._array is not None:
            return np.array(self._array[number])
        assert self._stream is not None
        self._stream.seek(member.start + number * member.row_bytes)
        return np.frombuffer(self._stream.read(member.row_bytes), member.dtype).reshape(member.shape[1:])


def _mapped(path: Path, member: Member, start: int) -> NDArray[Any]:
    order: Any = "F" if member.fortran else "C"
    return np.memmap(path, member.dtype, "r", start + member.start, member.shape, order)


def _start_of(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where the bytes of a member begin that is stored as it is."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name, extra = struct.unpack_from("<HH", file.read(_LOCAL_HEADER), 26)
    return int(info.header_offset + _LOCAL_HEADER + name + extra)


@functools.lru_cache(maxsize=4)  # pictures and masks of two files
def _rows(path: Path, name: str, mtime_ns: int, size: int) -> _Rows:
    return _Rows(path, name)


def row(path: Path, name: str, number: int) -> NDArray[Any]:
    """Return one row of an array.

    The file stays open for the rows that follow: a packed array is unpacked once for rows that are read in order.

    Args:
        path: The file.
        name: Member; of `.npy` it does not count.
        number: From 0.

    Raises:
        Unusable: `missing_image`: no such array or row; `undecodable`; `unreadable`; `truncated`; `too_large`.
    """
    with sound():
        state = path.stat()
        return _rows(path, name, state.st_mtime_ns, state.st_size).row(number)
