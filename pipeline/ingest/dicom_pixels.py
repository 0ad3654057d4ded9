"""Pixels of a DICOM file: decoded frame by frame, colours as RGB, greys as what the stored values mean.

pydicom decodes first; SimpleITK what it can not. Header values are read with care: an empty, odd or hostile one is a
reason, never a crash.
"""

import logging
import math
import os
import re
import sqlite3
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from pipeline.errors import Unusable
from pipeline.ingest import codecs

MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    OverflowError,
    ArithmeticError,
    OSError,
    EOFError,
    BytesLengthException,
    InvalidDicomError,
    AssertionError,
    struct.error,
    zlib.error,
    sqlite3.Error,
)
"""What pydicom and highdicom (which keeps its frames in SQLite) raise on a file that is not what it says it is."""

MAX_PIXELS = 200_000_000
"""Of one frame."""
_GROUPS = "FunctionalGroupsSequence"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PER_PIXEL = {"YBR_FULL_422": 2.0, "YBR_PARTIAL_422": 2.0, "YBR_PARTIAL_420": 1.5}
"""Samples stored for a pixel, where colour is stored with fewer of them."""
_TEXTS, _DECIMALS = frozenset(("CS", "DA", "SH", "TM", "UI")), frozenset(("DS", "IS"))
_PRINTABLE = re.compile(rb"[ -~]+\0*")
_DECIMAL = r" *[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? *"
_ALL_DECIMAL = re.compile(rf"{_DECIMAL}(?:\\{_DECIMAL})*", re.ASCII)
_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
"""Of compressed pixels."""
_NATIVE = frozenset((ImplicitVRLittleEndian, ExplicitVRLittleEndian))


# pydicom logs values that it finds odd, names of patients among them
logging.getLogger("pydicom").propagate = False


class Stored(NamedTuple):
    """One decoded frame."""

    pixels: NDArray[Any]
    """`(row, column)` grey, or `(row, column, 3)` RGB of 8 bits."""
    by: str = "pydicom"
    """What decoded it."""


class Table(NamedTuple):
    """A look-up table of the header."""

    first: int
    """The value that the first entry stands for; what is below takes the first entry, what is above the last."""
    entries: NDArray[Any]

    def look_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """Replace each value by its entry."""
        whole = np.nan_to_num(np.rint(values)) if values.dtype.kind == "f" else values
        last = len(self.entries) - 1
        found: NDArray[Any] = self.entries[np.clip(whole.astype(np.int64) - self.first, 0, last)]
        return found


# ---- the header


def value(dataset: Any, keyword: str) -> Any:
    """Return an element's value, or None where it is absent, empty or can not be read."""
    try:
        return _value(dataset, keyword)
    except MALFORMED:
        return None


def _value(dataset: Any, keyword: str) -> Any:
    if _tag(keyword) not in dataset:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom checks values when they are first looked at
        found = dataset.get(keyword)
    return None if found is None or (isinstance(found, str | bytes) and not found.strip()) else found


@cache
def _tag(keyword: str) -> BaseTag:
    return BaseTag(tag_for_keyword(keyword) or 0)


@cache
def _vr(keyword: str) -> str:
    return dictionary_VR(_tag(keyword))


def plain(dataset: Any, keyword: str) -> tuple[str, ...] | tuple[float, ...]:
    """Return codes or finite numbers straight from their bytes; empty where `value` has to be asked.

    pydicom makes types of its own of them, which takes longer than their parsing, and keeps those in memory.
    """
    element = dataset.get_item(_tag(keyword), keep_deferred=True)
    if not isinstance(element, RawDataElement) or not element.value:
        return ()
    vr, written = element.VR or _vr(keyword), element.value
    if vr == "US":
        order: Any = "little" if element.is_little_endian else "big"
        return (float(int.from_bytes(written, order)),) if len(written) == 2 else ()
    if vr not in _TEXTS | _DECIMALS or not _PRINTABLE.fullmatch(written):
        return ()
    said = written.decode("ascii").rstrip(" \0")
    if vr in _TEXTS:
        return tuple(said.split("\\")) if said else ()
    found = tuple(map(float, said.split("\\"))) if _ALL_DECIMAL.fullmatch(said) else ()
    return found if all(map(math.isfinite, found)) else ()


def items(dataset: Any, keyword: str) -> list[Any]:
    """Return the items of a sequence; none where it is absent or no sequence."""
    found = value(dataset, keyword)
    return list(found) if isinstance(found, pydicom.Sequence) else []


def text(dataset: Any, keyword: str) -> str:
    """Return a code of the header in capitals, a backslash between several; empty where it is absent."""
    found = plain(dataset, keyword) or value(dataset, keyword)
    parts = [found] if isinstance(found, str) else found if isinstance(found, Iterable) else []
    return "\\".join(part.strip().upper() if isinstance(part, str) else "" for part in parts)


def numbers(dataset: Any, keyword: str) -> tuple[float, ...]:
    """Return the numbers of an element; NaN stands for one that is empty or no number."""
    found = plain(dataset, keyword)
    if found and isinstance(found[0], float):
        return found
    found = value(dataset, keyword)
    if found is None:
        return ()
    several = isinstance(found, Iterable) and not isinstance(found, str | bytes)
    return tuple(_number(part) for part in (found if several else [found]))


def _number(part: Any) -> float:
    try:
        return float(part)
    except (ValueError, TypeError, OverflowError):
        return float("nan")


def number(dataset: Any, keyword: str, default: float) -> float:
    """Return one number of the header, or the default where it is absent or empty.

    Raises:
        Unusable: `undecodable`: there is something, and it is no finite number.
    """
    said = plain(dataset, keyword)
    if said and isinstance(said[0], float):
        return said[0]
    try:
        if _value(dataset, keyword) is None:
            return default
    except MALFORMED:
        raise Unusable("undecodable", f"{keyword} is no number") from None
    found = numbers(dataset, keyword)
    if not found or not np.isfinite(found[0]):
        raise Unusable("undecodable", f"{keyword} is no number")
    return found[0]


def count(dataset: Any) -> int:
    """Return the number of frames, 1 where the header does not say.

    Raises:
        Unusable: `undecodable`: it is no positive whole number.
    """
    frames = number(dataset, "NumberOfFrames", 1.0)
    if frames != int(frames) or not 1 <= frames < 2**31:
        raise Unusable("undecodable", f"NumberOfFrames is {frames:g}")
    return int(frames)


def group(dataset: Any, index: int, keyword: str) -> Any:
    """Return what holds a frame's attributes: its functional group, the shared one, or the data set itself.

    Args:
        dataset: Of any SOP class; enhanced multi-frame ones keep slope, window and spacing in functional groups.
        index: The frame, from 0.
        keyword: The group's sequence, `PixelValueTransformationSequence`.
    """
    for groups, at in ((f"PerFrame{_GROUPS}", index), (f"Shared{_GROUPS}", 0)):
        found = [item for one in items(dataset, groups)[at : at + 1] for item in items(one, keyword)]
        if found:
            return found[0]
    return dataset


# ---- decoding


def has_pixels(dataset: Any) -> bool:
    """Return whether pixels were read with the header."""
    return any(keyword in dataset for keyword in PIXELS)


def frames(dataset: Any, path: Path, indices: Iterable[int]) -> Iterator[tuple[int, Stored]]:
    """Decode frames one at a time: number and pixels.

    Args:
        dataset: The header; where it holds no pixels, each frame is read from the file alone.
        path: The file.
        indices: From 0.

    Raises:
        Unusable: `undecodable`, `truncated`, `too_large`.
    """
    rows, columns = (number(dataset, keyword, 0) for keyword in ("Rows", "Columns"))
    if rows < 1 or columns < 1:
        raise Unusable("undecodable", f"holds no picture: Rows and Columns are {rows:g} and {columns:g}")
    if rows * columns > MAX_PIXELS:
        raise Unusable("too_large", f"{columns:g}x{rows:g} px; at most {MAX_PIXELS} are decoded")
    for index in indices:
        pixels, by = _decoded(dataset, path, index)
        yield index, Stored(coloured(dataset, pixels), by)


def frame(dataset: Any, path: Path, index: int = 0) -> Stored:
    """Decode one frame.

    Raises:
        Unusable: `undecodable`, `truncated`, `too_large`.
    """
    return next(frames(dataset, path, [index]))[1]


def _check_claim(dataset: Any, path: Path, index: int) -> None:
    """Refuse a compressed frame that claims more pixels than the header, before its decoder takes the memory."""
    syntax = _syntax(dataset)
    if not syntax.is_compressed or not syntax.is_encapsulated or syntax == RLELossless:  # RLE claims nothing
        return
    claim = codecs.claimed(_codestream(dataset, path, index))
    if claim > number(dataset, "Rows", 0) * number(dataset, "Columns", 0):
        raise Unusable("undecodable", f"a frame claims {claim} pixels, more than the header's Rows and Columns")


def _decoded(dataset: Any, path: Path, index: int) -> Stored:
    source = dataset if has_pixels(dataset) else path
    try:
        native = _native(dataset, path, index)
        if native is not None:
            return Stored(native)
        _fetch(dataset, path)
        _check_claim(dataset, path, index)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of padding and odd VRs in files that decode well
            return Stored(pixel_array(source, index=index))
    except (NotImplementedError, RuntimeError, KeyError):  # no decoder, or one that gave up
        return Stored(_by_itk(dataset, path, index), "SimpleITK")
    except MemoryError:
        raise Unusable("too_large", "a frame does not fit into memory") from None
    except MALFORMED as error:
        if _is_short(dataset, path):
            raise Unusable("truncated", "holds fewer pixels than its header says") from None
        raise Unusable("undecodable", f"pixel data can not be decoded ({type(error).__name__})") from None


def _fetch(dataset: Any, path: Path) -> None:
    """Bring compressed pixels that end the file into memory in one read; pydicom would look for their end again."""
    element = dataset.get_item(_tag("PixelData"), keep_deferred=True)
    if not isinstance(element, RawDataElement) or element.value is not None or element.length != 0xFFFFFFFF:
        return
    with path.open("rb") as file:
        file.seek(element.value_tell)
        held = file.read()
    if held.endswith(_END) and held.find(_END[:4]) == len(held) - len(_END):
        dataset[_tag("PixelData")] = element._replace(value=held[: -len(_END)])


def _native(dataset: Any, path: Path, index: int) -> NDArray[Any] | None:
    """Read an uncompressed grey frame from where it lies in the file, as pydicom would; None: anything is unusual."""
    element = dataset.get_item(_tag("PixelData"), keep_deferred=True)
    if not isinstance(element, RawDataElement) or element.value is not None or not element.value_tell:
        return None
    meta = getattr(dataset, "file_meta", None)
    if meta is None or value(meta, "TransferSyntaxUID") not in _NATIVE or not element.is_little_endian:
        return None
    keywords = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
    layout = [plain(dataset, keyword) for keyword in keywords]
    total = plain(dataset, "NumberOfFrames") if _tag("NumberOfFrames") in dataset else (1.0,)
    if not all(len(one) == 1 and isinstance(one[0], float) for one in (*layout, total)):
        return None
    rows, columns, allocated, stored, signed, samples, count = (int(one[0]) for one in (*layout, total))
    usual = samples == 1 and signed in (0, 1) and allocated in (8, 16, 32) and 1 <= stored <= allocated
    held = rows * columns * allocated // 8 * count
    if not usual or not 0 <= index < count or element.length not in (held, held + held % 2):
        return None
    if plain(dataset, "PhotometricInterpretation") not in (("MONOCHROME1",), ("MONOCHROME2",)):
        return None
    at = element.value_tell + index * held // count
    pixels = np.fromfile(path, f"<{'ui'[signed]}{allocated // 8}", rows * columns, offset=at)
    if pixels.size < rows * columns:
        return None
    if stored < allocated:  # what stands in the unused bits may be anything
        pixels <<= allocated - stored
        pixels >>= allocated - stored
    return pixels.reshape(rows, columns)


def _is_short(dataset: Any, path: Path) -> bool:
    """Return whether uncompressed pixels are fewer than the header says."""
    if _syntax(dataset).is_compressed:
        return False
    samples = number(dataset, "SamplesPerPixel", 1)
    samples = _PER_PIXEL.get(text(dataset, "PhotometricInterpretation"), samples)
    pixels = number(dataset, "Rows", 0) * number(dataset, "Columns", 0) * count(dataset)
    found = value(dataset, "PixelData")
    held = len(found) if isinstance(found, bytes) else path.stat().st_size
    return held < pixels * samples * number(dataset, "BitsAllocated", 8) // 8


def _syntax(dataset: Any) -> UID:
    found = value(getattr(dataset, "file_meta", {}), "TransferSyntaxUID")
    known = isinstance(found, UID) and not found.is_private and found.name != found
    return found if known and found.is_transfer_syntax else ExplicitVRLittleEndian


def _by_itk(dataset: Any, path: Path, index: int) -> NDArray[Any]:
    """Decode a compressed frame with SimpleITK, alone: of the whole file it would apply slope and polarity too."""
    syntax = _syntax(dataset)
    try:
        said = ((keyword, value(dataset, keyword)) for keyword in codecs.LAYOUT)
        layout = {keyword: found for keyword, found in said if found is not None}
        codestream = _codestream(dataset, path, index) if syntax in codecs.SECOND else b""
        return codecs.by_itk(codestream, syntax, layout)
    except MALFORMED:
        raise Unusable("undecodable", f"{syntax.name}: its pixels can not be decoded") from None


def _codestream(dataset: Any, path: Path, index: int) -> bytes:
    total = count(dataset)
    offsets: Any = tuple(value(dataset, f"ExtendedOffsetTable{end}") for end in ("", "Lengths"))
    extended = offsets if all(offsets) else None
    if has_pixels(dataset):
        return get_frame(value(dataset, "PixelData"), index, number_of_frames=total, extended_offsets=extended)
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmread(file, stop_before_pixels=True)
        file.seek(12, os.SEEK_CUR)  # tag, VR and length of the element: compressed files are of explicit VR
        return get_frame(file, index, number_of_frames=total, extended_offsets=extended)


def narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in the smallest of int16, int32 and float32 that holds them, others as float32."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        return values.astype(np.float32)
    if values.dtype in (np.uint8, np.int16):
        return values
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values.astype(np.float32)


# ---- colour


def is_colour(dataset: Any) -> bool:
    """Return whether decoded frames are RGB."""
    palette = text(dataset, "PhotometricInterpretation") == "PALETTE COLOR"
    return palette or number(dataset, "SamplesPerPixel", 1) > 1


def coloured(dataset: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """Bring colours to 8-bit RGB; grey stays as it is stored. YBR is RGB already when it was decoded."""
    if pixels.ndim == 2 and text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        return _by_palette(dataset, pixels)
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise Unusable("undecodable", f"a frame is {pixels.shape}; it should be grey or have three colours")
    if pixels.dtype == np.uint8:
        return pixels
    return _high_byte(pixels, number(dataset, "BitsStored", pixels.dtype.itemsize * 8))


def _high_byte(pixels: NDArray[Any], bits: float) -> NDArray[np.uint8]:
    """Return the highest 8 bits: right for 8-bit colours that were stretched by 256 and for those by 257."""
    high: NDArray[np.uint8] = np.minimum(pixels >> max(0, int(bits) - 8), 255).astype(np.uint8)
    return high


def _by_palette(dataset: Any, indices: NDArray[Any]) -> NDArray[np.uint8]:
    try:
        if value(dataset, "SegmentedRedPaletteColorLookupTableData") is not None:
            entries = _segmented(dataset)
            first = int(numbers(dataset, "RedPaletteColorLookupTableDescriptor")[1])
        else:
            tables = [_palette_table(dataset, colour) for colour in ("Red", "Green", "Blue")]
            first, entries = tables[0].first, np.stack([one.entries for one in tables], axis=1)
    except MALFORMED:
        raise Unusable("undecodable", "its palette can not be read") from None
    # some write 8-bit colours into 16-bit entries
    shown = Table(first, _high_byte(entries, 16 if entries.max() > 255 else 8))
    return shown.look_up(indices)


def _palette_table(dataset: Any, colour: str) -> Table:
    descriptor = numbers(dataset, f"{colour}PaletteColorLookupTableDescriptor")
    return table(descriptor, value(dataset, f"{colour}PaletteColorLookupTableData"), dataset)


def _segmented(dataset: Any) -> NDArray[Any]:
    """Expand a segmented palette: pydicom maps every index of it once."""
    length, first, _ = (int(n) for n in numbers(dataset, "RedPaletteColorLookupTableDescriptor"))
    every = np.arange(first, first + (length or 2**16), dtype=np.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: NDArray[Any] = apply_color_lut(every, dataset)
    return found[:, :3]


# ---- what stored values mean


def table(descriptor: tuple[float, ...], data: Any, dataset: Any) -> Table:
    """Read a look-up table: modality, VOI or palette.

    Args:
        descriptor: Its number of entries (0 is 65536), the first value mapped, bits an entry.
        data: Bytes or whole numbers; bytes are 16-bit words, or 8-bit where there are no more of them.
        dataset: Says whether values are signed, and the order of bytes.

    Raises:
        ValueError: It is no table.
    """
    length, first, _ = (int(n) for n in descriptor)
    length = length % 2**16 or 2**16
    if first > 32767 and number(dataset, "PixelRepresentation", 0):
        first -= 2**16  # read as unsigned
    if isinstance(data, bytes):
        wide = len(data) >= 2 * length
        order = ">" if _syntax(dataset) == ExplicitVRBigEndian else "<"
        entries = np.frombuffer(data[: len(data) // 2 * 2] if wide else data, f"{order}u2" if wide else np.uint8)
    else:
        entries = np.atleast_1d(np.asarray(data))
    if not entries.size or entries.dtype.kind not in "iu":
        raise ValueError("a look-up table without whole numbers")
    return Table(first, entries[:length].astype(np.int64).astype(np.int32) & 0xFFFF)


def of_item(item: Any, dataset: Any) -> Table:
    """Read the table of an item of a Modality or VOI LUT Sequence.

    Raises:
        ValueError: It is no table.
    """
    try:
        return table(numbers(item, "LUTDescriptor"), value(item, "LUTData"), dataset)
    except MALFORMED:
        raise ValueError("no look-up table") from None


def rescale(dataset: Any, index: int = 0) -> tuple[float, float]:
    """Return slope and intercept of a frame.

    Raises:
        Unusable: `undecodable`: they are no finite numbers, or the slope is 0.
    """
    holder = group(dataset, index, "PixelValueTransformationSequence")
    slope, intercept = number(holder, "RescaleSlope", 1.0), number(holder, "RescaleIntercept", 0.0)
    if slope == 0:
        raise Unusable("undecodable", "RescaleSlope is 0")
    return slope, intercept


def intensities(dataset: Any, stored: Stored, index: int = 0) -> NDArray[Any]:
    """Return what grey values mean, HU for CT: the modality look-up table, else slope and intercept.

    Args:
        dataset: The header.
        stored: A decoded grey frame.
        index: Its number; functional groups may give each frame a slope of its own.

    Raises:
        Unusable: `undecodable`: the table or the numbers can not be read.
    """
    tables = items(dataset, "ModalityLUTSequence")
    if tables:
        try:
            return narrow(of_item(tables[0], dataset).look_up(stored.pixels))
        except ValueError:
            raise Unusable("undecodable", "its modality look-up table can not be read") from None
    return _rescaled(stored.pixels, *rescale(dataset, index))


def _rescaled(pixels: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    if (slope, intercept) == (1, 0) and pixels.dtype.itemsize <= 2:
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if slope == 1 and intercept == int(intercept) and abs(intercept) < 2**31 and pixels.dtype.kind in "iu":
        return _shifted(pixels, int(intercept))
    # 32 bits have more digits than single precision
    values: Any = pixels.astype(np.float32 if pixels.dtype.itemsize <= 2 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        values *= slope
        values += intercept
        return values.astype(np.float32)  # type: ignore[no-any-return]


def _shifted(pixels: NDArray[Any], by: int) -> NDArray[Any]:
    """Add a whole number in the smallest of int16, int32 and float32 that holds the sums."""
    low, high = int(pixels.min()) + by, int(pixels.max()) + by
    for dtype in (np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            sums: Any = pixels.astype(dtype)
            sums += np.int64(by).astype(dtype)  # what wraps around comes back: sums fit
            return sums  # type: ignore[no-any-return]
    return (pixels.astype(np.int64) + by).astype(np.float32)


def padding(dataset: Any) -> tuple[float, float] | None:
    """Return the lowest and the highest stored value that stands for no pixel, or None."""
    found = numbers(dataset, "PixelPaddingValue")
    limit = numbers(dataset, "PixelPaddingRangeLimit") or found
    if not found or not np.isfinite((found[0], limit[0])).all():
        return None
    ends = [_as_stored(dataset, end) for end in (found[0], limit[0])]
    return min(ends), max(ends)


def _as_stored(dataset: Any, end: float) -> float:
    """Bring a value that was written with the other sign (63536 for -2000) to what pixels hold."""
    whole = 2.0 ** number(dataset, "BitsAllocated", 16)
    if number(dataset, "PixelRepresentation", 0):
        return end - whole if end >= whole / 2 else end
    return end + whole if end < 0 else end


def is_padding(dataset: Any, stored: Stored) -> NDArray[np.bool_] | None:
    """Return where a grey frame shows nothing, or None where it shows something everywhere."""
    ends = padding(dataset)
    if ends is None or stored.pixels.ndim != 2:
        return None
    found: NDArray[np.bool_] = (stored.pixels >= ends[0]) & (stored.pixels <= ends[1])
    return found if found.any() else None
