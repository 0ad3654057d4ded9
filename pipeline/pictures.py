"""Pictures for every stage: decode, encode, resize, draw. 8-bit, grey as `(y, x)`, colour as `(y, x, 3)` RGB.

Original JPEG and PNG bytes are kept where they need no change; their metadata never is.
"""

import hashlib
import math
import re
import struct
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline import rasters
from pipeline.errors import Unusable
from pipeline.rasters import Raster
from pipeline.records import Box

Pixels = NDArray[np.uint8]

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


class Decoded(NamedTuple):
    """A decoded 2D picture, upright."""

    pixels: NDArray[Any]
    """uint8 grey or RGB; grey of more than 8 bits in its own type, as stored: uint16, int32, float32 …"""
    turned: bool
    """EXIF says that it lies on its side, and it was turned upright."""
    original: bytes | None
    """The file's own bytes without metadata, where they hold exactly these pixels."""
    history: tuple[str, ...]
    orientation: int = 1
    """What EXIF says, 1 to 8."""
    white_is_zero: bool = False
    """Grey of more than 8 bits that is to be shown inverted."""
    flags: tuple[str, ...] = ()
    """`first_page_of_2`."""


def decode(data: bytes) -> Decoded:
    """Decode a picture file whole; of several pages, the first.

    Colours of more than 8 bits become 8, `round(value · 255 / largest)`. Transparency is dropped, never blended.

    Raises:
        Unusable: `empty_file`, `lfs_pointer`, `undecodable`, `too_large` or `truncated`.
    """
    raster = rasters.opened(data)
    image = raster.samples if isinstance(raster.samples, Image.Image) else None
    pixels, change = _shallow(image) if image is not None else _deep(raster)
    pixels = pixels if raster.upright else rasters.turned(pixels, raster.orientation)
    turned = raster.orientation in rasters.TURNS
    history = ((f"exif orientation {raster.orientation} applied",) if turned else ()) + ((change,) if change else ())
    original = _bare(image, data) if image is not None and not history else None
    flags = (f"first_page_of_{raster.pages}",) if raster.pages > 1 else ()
    return Decoded(pixels, turned, original, history, raster.orientation, raster.white_is_zero, flags)


def _shallow(image: Image.Image) -> tuple[Pixels, str | None]:
    """Return 8-bit pixels, and what was done to them.

    Transparency is dropped without blending: alpha in medical sets is an artefact, the colour below is the pixel.
    """
    if image.mode in ("L", "RGB"):
        return np.asarray(image), None
    change = f"converted from {image.mode}"
    if image.mode in ("1", "LA"):
        return np.asarray(image.convert("L")), change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow would rather keep the transparency of palettes
        try:
            return _grey_if_grey(np.asarray(image.convert("RGB"))), change
        except ValueError:
            raise Unusable("undecodable", f"colours of mode {image.mode}") from None


def _deep(raster: Raster) -> tuple[NDArray[Any], str | None]:
    samples = np.asarray(raster.samples)
    if samples.ndim == 2:
        return samples, None
    if samples.shape[2] == 2:
        return np.ascontiguousarray(samples[..., 0]), "alpha dropped"
    if samples.dtype != np.uint16:
        raise Unusable("undecodable", f"colours of {samples.dtype} have no range to be shown in")
    top = min(raster.top, 65535)
    values = np.minimum(np.arange(65536), top)
    eight = ((values * 255 + top // 2) // top).astype(np.uint8)
    return eight[samples[..., :3]], f"colours of {top.bit_length()} bits made 8"


def _grey_if_grey(pixels: Pixels) -> Pixels:
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def _bare(image: Image.Image, data: bytes) -> bytes | None:
    if image.format == "JPEG":
        return jpeg_without_metadata(data)
    return data if image.format == "PNG" and image.mode in ("L", "RGB") and _is_bare_png(data) else None


def _is_bare_png(data: bytes) -> bool:
    """Return whether a PNG of 8 bits holds its pixels and not a byte beside them."""
    depth, colour, packing, kind, interlaced = data[24:29]
    chunks, at = list[tuple[bytes, int, int]](), len(_PNG_MAGIC)
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        chunks.append((name, at + 8, at + 8 + size))
        at += size + 12
    names = [name for name, _, _ in chunks]
    plain = (depth, packing, kind, interlaced) == (8, 0, 0, 0) and colour in (0, 2) and at == len(data)
    if not plain or names != [b"IHDR", *[b"IDAT"] * (len(names) - 2), b"IEND"]:
        return False
    width, height = struct.unpack_from(">II", data, 16)
    parts = (data[begin:end] for name, begin, end in chunks if name == b"IDAT")
    return _inflates_to(parts, height * (1 + width * (3 if colour == 2 else 1)))


def _inflates_to(parts: Iterable[bytes], length: int) -> bool:
    """Return whether a stream, piece by piece, holds exactly so many bytes and ends with its last one."""
    stream, found = isal_zlib.decompressobj(), 0
    for part in parts:
        while part and found <= length and not stream.eof:
            found += len(stream.decompress(part, 1 << 20))
            part = stream.unconsumed_tail
        if part and stream.eof:
            return False
    while found <= length and not stream.eof and (more := stream.decompress(b"", 1 << 20)):
        found += len(more)
    return bool(stream.eof) and not stream.unused_data and found == length


_CODING = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD))
"""Markers without which the coded pixels of a JPEG are not understood: frames, tables, scans."""
_SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""A marker within coded pixels: not a stuffed 0xFF, not a restart."""


def jpeg_without_metadata(data: bytes) -> bytes | None:
    """Return a JPEG without application segments and comments (EXIF, XMP, IPTC hold names), or None if it is odd.

    The coded pixels are not touched. Of JFIF (APP0) its numbers stay and of Adobe (APP14) the colour transform, because
    decoders need them: no thumbnail, and nothing else that calls itself so.
    """
    kept, at = [data[:2]], 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xD9:  # what stands behind the end is left out
            return b"".join([*kept, data[at : at + 2]])
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        if marker == 0xDA:
            found = _SCAN_END.search(data, end)
            end = found.start() if found else len(data)
        if marker in _CODING:
            kept.append(data[at:end])
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            kept.append(b"\xff\xe0\x00\x10" + body[:12] + b"\0\0")
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            kept.append(b"\xff\xee\x00\x0e" + body[:12])
        elif not (marker == 0xFE or 0xE0 <= marker <= 0xEF):
            return None
        at = end
    return None


def png(pixels: Pixels) -> bytes:
    """Encode 8-bit pixels as PNG: Sub filter and deflate level 1, the same bytes for the same pixels.

    Args:
        pixels: `(y, x)` grey or `(y, x, 3)` RGB.
    """
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else 3
    flat = pixels.reshape(height, width * samples)
    rows = np.empty((height, width * samples + 1), np.uint8)
    rows[:, 0] = 1
    rows[:, 1 : 1 + samples] = flat[:, :samples]
    np.subtract(flat[:, samples:], flat[:, :-samples], out=rows[:, 1 + samples :])
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if samples == 1 else 2, 0, 0, 0)
    body = isal_zlib.compress(rows.data, 1)
    return b"".join([_PNG_MAGIC, _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b"")])


def _chunk(name: bytes, data: bytes) -> bytes:
    check = isal_zlib.crc32(data, isal_zlib.crc32(name))
    return b"".join([struct.pack(">I", len(data)), name, data, struct.pack(">I", check)])


def is_blank(pixels: Pixels) -> bool:
    """Return whether every pixel is the same; one in 256 is looked at first."""
    first = pixels[:1, :1]
    return bool((pixels[::16, ::16] == first).all() and (pixels == first).all())


def sha256(data: bytes) -> str:
    """Return the hex digest that names a stored picture."""
    return hashlib.sha256(data).hexdigest()


def pixels_of(data: bytes) -> Pixels:
    """Decode a stored picture: 8-bit, grey or RGB, no surprises."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert found is not None  # we stored it
    pixels = found if found.ndim == 2 else cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
    return pixels.astype(np.uint8, copy=False)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resample in the plane: area means when it shrinks, linear when it grows."""
    shrinks = width < pixels.shape[1] or height < pixels.shape[0]
    out = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return out.astype(np.uint8, copy=False)


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Return the sides (height, width) that a Qwen-VL processor resizes a picture to."""
    high = max(factor, round(height / factor) * factor)
    wide = max(factor, round(width / factor) * factor)
    if high * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        high = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif high * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        high, wide = math.ceil(height * grow / factor) * factor, math.ceil(width * grow / factor) * factor
    return high, wide


COLOURS = ("#ff4136", "#2ecc40", "#0074d9", "#ffdc00", "#b10dc9", "#ff851b", "#7fdbff", "#f012be")


def with_boxes(pixels: Pixels, boxes: Sequence[tuple[str, Box]]) -> Pixels:
    """Draw named boxes on a copy: for requests, previews and contact sheets, never on what is stored.

    Args:
        pixels: Grey or RGB.
        boxes: Text (may be empty) and box in px.
    """
    image = Image.fromarray(pixels).convert("RGB")
    draw = ImageDraw.Draw(image)
    line = max(1, round(min(image.size) / 300))
    for n, (text, box) in enumerate(boxes):
        colour = COLOURS[n % len(COLOURS)]
        x0, y0 = int(box.x0), int(box.y0)
        draw.rectangle(
            (x0, y0, max(x0, int(np.ceil(box.x1)) - 1), max(y0, int(np.ceil(box.y1)) - 1)), None, colour, line
        )
        if text:
            draw.text((x0 + 2 * line, y0 + line), text, fill=colour)
    return np.asarray(image)


def for_request(data: bytes, max_side: int | None, boxes: Sequence[Box]) -> tuple[bytes, str]:
    """Return the copy of a stored picture that is sent, and its media type.

    Args:
        data: The stored bytes.
        max_side: Longest side in px of the copy; None: as stored.
        boxes: Drawn on the copy.
    """
    if max_side is None and not boxes:
        return data, "image/png" if data.startswith(_PNG_MAGIC) else "image/jpeg"
    pixels = pixels_of(data)
    if boxes:
        pixels = with_boxes(pixels, [("", box) for box in boxes])
    longest = max(pixels.shape[:2])
    if max_side is not None and longest > max_side:
        scale = max_side / longest
        pixels = resize(pixels, max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return png(pixels), "image/png"


def contact_sheet(tiles: Iterable[tuple[str, Pixels]], columns: int = 4, side: int = 256) -> bytes:
    """Lay pictures out on one PNG, each under its title.

    Args:
        tiles: Title and pixels.
        columns: Pictures a row.
        side: Side of a tile in px.
    """
    shown = list(tiles)
    rows = max(1, -(-len(shown) // columns))
    sheet = Image.new("RGB", (columns * side, rows * (side + 14)), "black")
    draw = ImageDraw.Draw(sheet)
    for n, (title, pixels) in enumerate(shown):
        image = Image.fromarray(pixels).convert("RGB")
        image.thumbnail((side, side))
        left, top = n % columns * side, n // columns * (side + 14)
        draw.text((left + 2, top + 1), title[-40:], fill="white")
        sheet.paste(image, (left + (side - image.width) // 2, top + 14))
    return png(np.asarray(sheet))
