"""Raster files: what a PNG, JPEG, TIFF, GIF, BMP, WebP, JPEG 2000 or PGM file holds, sample by sample, as it is stored.

Pillow reads 8 bits a sample. Of deeper ones it halves colours, stretches 12 bits to 16 and mixes up the bytes of some
floats, without a word: they are left to OpenCV.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from pipeline.errors import Unusable

MAX_PIXELS = 200_000_000
"""Larger pictures are refused before they are decoded."""
Image.MAX_IMAGE_PIXELS = None  # the bound above is ours: one reason code instead of a warning and an error
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what a file lacks is said once, by its row

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM")
"""Not all that Pillow knows: for EPS it would start Ghostscript."""

_ORIENTATION, _BITS, _SAMPLE_FORMAT, _PHOTOMETRIC = 274, 258, 339, 262
_PLANAR, _SAMPLES, _WIDTH, _HEIGHT = 284, 277, 256, 257
_FAULTS = (OSError, ValueError, TypeError, SyntaxError, LookupError, EOFError, struct.error, zlib.error, OverflowError)
"""What Pillow raises for damaged files, beside MemoryError."""

TURNS = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""EXIF orientation to how the file lies: columns for rows, its columns reversed, its rows reversed."""


class Raster(NamedTuple):
    """The first picture of a file."""

    samples: Image.Image | NDArray[Any]
    """Up to 8 bits a sample: Pillow's image, loaded. Deeper: `(y, x)`, `(y, x, 2)` grey and alpha, `(y, x, 3)` RGB or
    `(y, x, 4)` RGBA."""
    format: str
    """Pillow's name of it."""
    top: int
    """Largest value that an unsigned sample can have: 255, 4095, 65535."""
    orientation: int = 1
    """EXIF orientation of the file, 1 to 8."""
    upright: bool = False
    """The samples are turned as it says already, as all readers of TIFF do."""
    white_is_zero: bool = False
    """Samples of more than 8 bits that are to be shown inverted."""
    pages: int = 1


def opened(data: bytes) -> Raster:
    """Read a file whole, whatever its name says that it is.

    Raises:
        Unusable: `empty_file`, `lfs_pointer`, `undecodable`, `too_large` (by its header) or `truncated`.
    """
    if not data:
        raise Unusable("empty_file", "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken EXIF and odd tags in pictures that decode well
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except _FAULTS as error:
            return _unknown_to_pillow(data, error)
        _check_size(image.width, image.height)
        return _read(image, data)


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn the samples of a file upright, `(y, x, …)`."""
    if orientation not in TURNS:
        return array
    swapped, columns, rows = TURNS[orientation]
    array = array[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(array.swapaxes(0, 1) if swapped else array)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unusable("too_large", f"{width}x{height} px; at most {MAX_PIXELS} are decoded")


_OWN = ("image file is truncated", "broken data stream", "decoder error", "Decompressed data too large")
"""How Pillow's messages begin that hold no word of the file; others quote it, or addresses of objects."""


def _told(error: Exception) -> str:
    """Return what an error says where that is Pillow's own words, else its type."""
    text = str(error)
    return text[:80] if text.startswith(_OWN) else type(error).__name__


def _read(image: Image.Image, data: bytes) -> Raster:
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    turn = _tag(tags, _ORIENTATION)  # before loading: Pillow turns a TIFF and forgets it
    try:
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # of MPO the others are previews
        image.load()
    except _FAULTS as error:
        raise Unusable("truncated", f"ends before its pixels do ({_told(error)})") from None
    kind, upright = str(image.format), image.format == "TIFF"
    turn = turn if upright else _exif_orientation(image)
    top = _top(image, data, tags)
    if top <= 255 and _tag(tags, _SAMPLE_FORMAT, 1) == 1 and image.mode[0] not in "IF":
        return Raster(image, kind, 255, turn, upright, pages=pages)
    exact = kind == "PNG" and image.mode == "I;16"  # the one deep kind that Pillow has right
    samples = np.asarray(image) if exact else _deep(data, top, tags)
    return Raster(samples, kind, top, turn, upright, _tag(tags, _PHOTOMETRIC, 1) == 0, pages)


def _exif_orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _FAULTS:
        return 1  # broken EXIF does not spoil a picture
    return int(found) if isinstance(found, int) and found in TURNS else 1


def _tag(tags: Mapping[int, Any], number: int, default: int = 1) -> int:
    """Return a TIFF tag that should be a number; of several, the largest."""
    try:
        found = tags.get(number, default)
        return int(max(found) if isinstance(found, tuple) else found)
    except _FAULTS:
        return default


_PNM = re.compile(rb"P[56](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d{1,5})\s")


def _top(image: Image.Image, data: bytes, tags: Mapping[int, Any]) -> int:
    """Return the largest value that a sample of the file can have."""
    bits = 8
    if image.format == "PNG":
        bits = data[24]
    elif image.format == "TIFF":
        bits = _tag(tags, _BITS)
    elif image.format == "JPEG2000":
        at = data.find(b"\xff\x4f\xff\x51") + 42  # precision of the first component, in the SIZ marker
        bits = (data[at] & 0x7F) + 1 if 42 <= at < len(data) else 8
    elif image.format == "PPM":
        found = _PNM.match(data)
        return max(255, int(found[1])) if found else 255
    return (1 << min(max(bits, 8), 64)) - 1


def _deep(data: bytes, top: int, tags: Mapping[int, Any]) -> NDArray[Any]:
    """Decode samples of more than 8 bits."""
    if _tag(tags, _PLANAR) == 2 and _tag(tags, _SAMPLES) > 1:  # OpenCV would mix them up
        raise Unusable("undecodable", "colours of more than 8 bits, each on a plane of its own")
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    # of grey and alpha in a TIFF it would return 8 bits of the one
    if found is None or found.dtype.itemsize * 8 < top.bit_length():
        raise Unusable("undecodable", "more than 8 bits a sample, in a way that OpenCV can not read")
    array: NDArray[Any] = np.asarray(found)
    if array.dtype == np.uint16 and top in (1023, 4095, 16383) and tags:
        array = array >> (16 - top.bit_length())  # OpenCV stretches packed TIFF samples
    if array.ndim == 3 and array.shape[2] >= 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    grey_and_alpha = array.ndim == 3 and data.startswith(b"\x89PNG") and data[25] == 4
    return array[..., [0, 3]] if grey_and_alpha and array.shape[2] == 4 else array


def _unknown_to_pillow(data: bytes, error: Exception) -> Raster:
    """Read a TIFF whose samples Pillow does not know (64 bits, some big-endian ones), or say what the file is."""
    said = _said(data)
    if said:
        raise Unusable(*said) from None
    tags = _tiff_tags(data)
    top = (1 << min(max(_tag(tags, _BITS, 0), 0), 64)) - 1
    if top <= 255 or not isinstance(error, UnidentifiedImageError):
        raise Unusable("undecodable", f"no known picture format ({_told(error)})") from None
    _check_size(_tag(tags, _WIDTH), _tag(tags, _HEIGHT))
    white_is_zero = _tag(tags, _PHOTOMETRIC, 1) == 0
    return Raster(_deep(data, top, tags), "TIFF", top, _tag(tags, _ORIENTATION), True, white_is_zero)


def _tiff_tags(data: bytes) -> Mapping[int, Any]:
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return {}
    try:
        tags = ImageFileDirectory_v2(data[: 16 if b"+" in data[:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
    except _FAULTS:
        return {}
    return tags


_NO_PICTURES = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML text"),
    (b"%pdf", "a PDF document"),
    (b"%!ps", "a PostScript document"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89hdf", "an HDF5 file"),
    (b"matlab 5.0", "a MATLAB file"),
    (b"\x93numpy", "a NumPy array"),
    (b"8bps", "a Photoshop file"),
    (b"{", "a JSON text"),
)
"""How files begin that often stand where a picture should be, in lower case."""


def _said(data: bytes) -> tuple[str, str] | None:
    """Return reason and detail for a file that is known not to be a picture."""
    if data.startswith(b"version https://git-lfs.github.com"):
        return "lfs_pointer", "a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if data.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        return "lfs_pointer", "a git-annex pointer; fetch the file itself with `git annex get`"
    if data[128:132] == b"DICM":
        return "undecodable", "a DICOM file, not a picture file"
    start = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for magic, name in _NO_PICTURES:
        if start.startswith(magic):
            return "undecodable", f"{name}, not a picture"
    return None
