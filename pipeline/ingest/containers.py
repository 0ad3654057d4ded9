"""What container a video is, by its first bytes, and whether it ends too early.

Only containers that hold their own pixels are known: FFmpeg would follow a play list or a script to other files.
"""

import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.errors import Unusable

_MOST_BOXES = 100_000
_MAGIC = (
    (0, b"GIF8", "gif"),
    *((4, name, "boxes") for name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (8, b"AVI ", "riff"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    *((0, start, "stream") for start in (b"\0\0\1\xba", b"\0\0\1\xb3", b"0&\xb2u\x8ef\xcf\x11", b"FLV\1", b"OggS")),
    *((first, b"G", "transport") for first in (0, 4)),  # MPEG-TS; with time stamps between its packets
)
"""Offset, bytes, form: MP4 and MOV are boxes; MPEG, ASF, FLV and Ogg do not say where they end."""


class Clip(NamedTuple):
    """A video file."""

    path: Path
    form: str
    """One of those above."""
    cut: bool
    """It ends before it should."""


def clip_of(path: Path) -> Clip:
    """Tell what a file is by its first bytes, and whether it ends too early.

    Raises:
        Unusable: `empty_file`; `lfs_pointer`; `undecodable`: no known container.
    """
    with path.open("rb") as file:
        head = file.read(256)
        if not head:
            raise Unusable("empty_file", "0 bytes")
        if head.startswith(b"version https://git-lfs"):
            raise Unusable("lfs_pointer", "a Git LFS pointer stands for the file; run `git lfs pull`")
        form = next((form for at, magic, form in _MAGIC if head.startswith(magic, at)), None)
        if form is None or (form == "transport" and not _is_transport(head)):
            raise Unusable("undecodable", "no known video container")
        size = file.seek(0, os.SEEK_END)
        promised = {"boxes": _end_of_boxes, "riff": _end_of_riff, "matroska": _end_of_segment}.get(form)
        return Clip(path, form, promised is not None and promised(file, size) > size)


def _is_transport(head: bytes) -> bool:
    return (head[:1], head[188:189]) == (b"G", b"G") or (head[4:5], head[196:197]) == (b"G", b"G")


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 or MOV file says that it ends."""
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or length < 8:  # the end, a box that runs up to it, or no box
            break
        at += length
    return at


def _end_of_riff(file: BinaryIO, size: int) -> int:
    file.seek(4)
    length = int.from_bytes(file.read(4), "little")
    return 0 if length == 0xFFFFFFFF else length + 8


def _end_of_segment(file: BinaryIO, size: int) -> int:
    """Return where the segment of a Matroska file ends; 0 where it does not say."""
    file.seek(4)
    header = _varied(file)
    if header is None or header > size:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18S\x80g":
        return 0
    length = _varied(file)
    return 0 if length is None else file.tell() + length


def _varied(file: BinaryIO) -> int | None:
    """Read an EBML number: the zero bits in front of its first one tell its bytes. None: unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    every = (1 << 7 * (more + 1)) - 1
    value = int.from_bytes(first + file.read(more), "big") & every
    return None if value == every else value
