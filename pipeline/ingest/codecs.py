"""Decoders of compressed DICOM frames that survive damaged ones: a bad frame is a reason, never a dead process."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import rle as slow_rle
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from rle.rle import decode_segment  # type: ignore[import-not-found]  # of Rust, without annotations

DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",  # as far as it has 8 bits
    JPEGLossless: None,
    JPEGLosslessSV1: None,
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    RLELossless: "segments",
}
"""Transfer syntax to the one plug-in of pydicom that decodes it in this process; None: only SimpleITK does.

Of 200 damaged frames python-gdcm ended the process on 1 to 7 of each JPEG, and pylibjpeg's RLE raised what is no
Exception on 22; these and SimpleITK refused them all. One plug-in also means one result.
"""
DECODER_DEPENDENCIES = {RLELossless: ("pylibjpeg-rle>=2.0",)}
"""What pydicom asks the module of a plug-in for: of `segments`, this one."""


def is_available(uid: str) -> bool:
    """Answer pydicom whether this module decodes a transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode_rle(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode a frame of RLE as pydicom does: its sound segments by pylibjpeg-rle, a damaged frame by pydicom itself.

    pylibjpeg-rle's decoder of frames panics on segments that are too long; that of segments does not, save on none.
    """
    pixels, width = runner.rows * runner.columns, runner.bits_allocated // 8
    starts = [int.from_bytes(src[at : at + 4], "little") for at in range(4, 64, 4)][: runner.samples_per_pixel * width]
    segments = [src[start:end] for start, end in zip(starts, [*starts[1:], len(src)], strict=True)]
    known = len(src) > 64 and src[:4] == len(segments).to_bytes(4, "little") and runner.bits_allocated in (8, 16)
    try:
        planes = [np.frombuffer(decode_segment(one), np.uint8, pixels) for one in segments if known and one]
    except ValueError:
        planes = []
    if (
        not planes
        or len(planes) != runner.samples_per_pixel * width
        or runner.get_option("rle_segment_order", ">") != ">"
    ):
        return slow_rle._decode_frame(src, runner)
    runner.set_option("planar_configuration", 1)
    if width == 1:
        return np.concatenate(planes).tobytes()
    # the high bytes of a sample come first
    samples = [high.astype("<u2") << 8 | low for high, low in zip(planes[::2], planes[1::2], strict=True)]
    return np.concatenate(samples).tobytes()


get_decoder(RLELossless).add_plugin("segments", (__name__, "decode_rle"))
for _syntax, _kept in DECODERS.items():
    _decoder = get_decoder(_syntax)
    for _plugin in sorted(set(_decoder.available_plugins) - {_kept}):
        _decoder.remove_plugin(_plugin)

SECOND = frozenset((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEG2000, JPEG2000Lossless))
"""Transfer syntaxes that SimpleITK is asked for; of RLE and JPEG-LS it would show the part that fits a wrong header."""

LAYOUT = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
"""All that a decoder has to know of a frame beside its bytes."""


_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def claimed(codestream: bytes) -> int:
    """Return the pixels that a JPEG, JPEG-LS or JPEG 2000 frame says it has; 0 where it does not say.

    A frame of 1 KB may claim 60,000 x 60,000, and its decoder takes the memory before it looks any further.
    """
    at = codestream.find(b"\xff\x4f\xff\x51")
    if at >= 0:
        x1, y1, x0, y0 = (int.from_bytes(codestream[n : n + 4], "big") for n in range(at + 8, at + 24, 4))
        return max(0, x1 - x0) * max(0, y1 - y0)
    at = 2
    while at + 9 <= len(codestream) and codestream[at] == 0xFF:
        marker = codestream[at + 1]
        if marker in _START_OF_FRAME:
            height, width = (int.from_bytes(codestream[n : n + 2], "big") for n in (at + 5, at + 7))
            return height * width
        at += 1 if marker == 0xFF else 2 + int.from_bytes(codestream[at + 2 : at + 4], "big")
    return 0


def by_itk(codestream: bytes, syntax: UID, layout: Mapping[str, Any]) -> NDArray[Any]:
    """Decode a frame with SimpleITK: stored values `(row, column)`, colours `(row, column, 3)`.

    Args:
        codestream: The compressed frame.
        syntax: Transfer syntax.
        layout: Values of what is in `LAYOUT`.

    Raises:
        RuntimeError: It can not be decoded.
    """
    if syntax not in SECOND:
        raise RuntimeError("pydicom alone decodes it")
    with tempfile.TemporaryDirectory(prefix="medgloss") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of values that it finds odd
        path = Path(folder) / "frame.dcm"
        _alone(codestream, syntax, layout).save_as(path, enforce_file_format=True)
        read: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0]
    shape = layout.get("Rows"), layout.get("Columns")
    if read.shape[:2] != shape:
        raise RuntimeError(f"a frame is {read.shape[:2]}, the header says {shape}")
    return read


def _alone(codestream: bytes, syntax: UID, layout: Mapping[str, Any]) -> pydicom.Dataset:
    """Make a file of one frame that says no more than its decoder needs."""
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = UID("2.25.1")
    for keyword, value in layout.items():
        setattr(made, keyword, value)
    if layout.get("SamplesPerPixel", 1) == 1:
        made.PhotometricInterpretation = "MONOCHROME2"  # it would invert MONOCHROME1 and colour a palette
    made.PixelData = encapsulate([codestream])
    return made
