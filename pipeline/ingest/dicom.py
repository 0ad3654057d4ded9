"""One DICOM file: read whole or refused with a reason, and what its header says of a slice.

Names, dates and descriptions are never looked at; what tells slices apart (UIDs, times) stays in memory.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.errors import Unusable
from pipeline.ingest.dicom_pixels import MALFORMED, group, numbers, plain, text, value

MOST_DEFLATED = 1 << 20
"""Bytes of a deflated file: pydicom inflates it in one go, by up to a factor of 1032."""

LARGE = 1 << 14
"""Bytes of a value that is left in the file on request."""

HEAD = 1 << 16
"""Bytes that hold most headers: pydicom parses memory in 0.6 to 0.9 of the time that it takes for a file."""

SPLITS = (
    "ImageType",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "SequenceName",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "ConvolutionKernel",
    "TemporalPositionIdentifier",
    "Dimensions",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionTime",
)
"""What may tell two acquisitions of one place apart, the most meaningful first; `Dimensions` is the indices that an
enhanced file gives its frames."""

_STORAGE = {
    "CT": "2 2.1 2.2",
    "MR": "4 4.1 4.3 4.4",
    "PT": "128 128.1 130",
    "CR": "1",
    "DX": "1.1 1.1.1",
    "MG": "1.2 1.2.1 13.1.3",
    "IO": "1.3 1.3.1",
    "US": "3.1 6.1 6.2",
    "XA": "12.1 12.1.1 13.1.1",
    "RF": "12.2 12.2.1",
    "NM": "20",
    "ES": "77.1.1 77.1.1.1",
    "XC": "77.1.4 77.1.4.1",
    "SM": "77.1.6",
    **dict.fromkeys(("AR", "BI", "DG", "DM", "DMS", "FS", "GM", "IVOCT", "IVUS", "OCT", "OP", "OPM"), ""),
    **dict.fromkeys(("OPT", "OT", "PA", "PX", "RG", "TG"), ""),
}
"""Codes of what makes pictures (PS3.3 C.7.3.1.1.1), and the storage classes that imply them."""
_ROOT = "1.2.840.10008.5.1.4.1.1."
_IMPLIED = {_ROOT + leaf: modality for modality, leaves in _STORAGE.items() for leaf in leaves.split()}
_NO_PICTURE = frozenset(_ROOT + leaf for leaf in ("66.4", "66.7", "481.2", "30"))
"""Storage classes with pixels that are no picture: SEG (bits and label map), dose, parametric map."""


WHOLE = 1 << 22
"""Bytes of a compressed file that is read in one go: only its end says where its pixels end."""
_PIXEL_DATA = 0x7FE00010
_COMPRESSED = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"
"""Pixels of unknown length begin."""


class Slice(NamedTuple):
    """One frame of grey and where it lies."""

    dataset: Any
    """Of the whole file; None once its pixels are read."""
    path: Path
    frame: int
    """Of the file, from 0."""
    body: tuple[str, str, str]
    """Series, frame of reference, stack: only slices that share them can be one volume."""
    number: float
    """SeriesNumber; infinite where there is none."""
    sop: str
    """SOPInstanceUID."""
    size: tuple[int, int]
    """Rows, columns."""
    position: NDArray[np.float64]
    """ImagePositionPatient, mm."""
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    """Directions of a row and of a column, unit vectors."""
    spacing: NDArray[np.float64]
    """PixelSpacing: between rows, between columns, mm."""
    thickness: float
    """mm; 1 where the header is silent."""
    kinds: Mapping[str, Any]
    """Keyword of `SPLITS` to a value that sorts; absent ones are left out."""


def read_file(path: Path, defer: bool = False) -> Any:
    """Read one DICOM file; one without preamble is read where it begins like DICOM, one without syntax as it looks.

    Args:
        path: The file.
        defer: Leave what is large, the pixels above all, in the file until it is asked for.

    Raises:
        Unusable: `missing_image`, `empty_file`, `unreadable`, `undecodable`, `too_large`, or `truncated` (pydicom
            only warns).
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
            if _COMPRESSED in head and size <= WHOLE:
                head += file.read()
            bare = _begins_bare(head)
            _check_deflated(file, path, size, bare)
            dataset = _of_head(head, path, size, bare) if defer else pydicom.dcmread(str(path), force=bare)
            _name_syntax(dataset)
            cut = "PixelData" not in dataset and any("end of file" in str(w.message).lower() for w in said)
    except FileNotFoundError:
        raise Unusable("missing_image", "no such file") from None
    except InvalidDicomError:
        raise Unusable("undecodable", "not a DICOM file") from None
    except (EOFError, OSError) as error:
        raise Unusable("unreadable", getattr(error, "strerror", None) or "ends before its header does") from None
    except MALFORMED as error:
        raise Unusable("undecodable", f"its header can not be read ({type(error).__name__})") from None
    if cut:
        raise Unusable("truncated", "ends before its pixels do")
    return dataset


def _begins_bare(head: bytes) -> bool:
    """Say whether a file lacks the preamble but begins with an element of group 2 or 8."""
    if not head:
        raise Unusable("empty_file", "0 bytes")
    if head[128:132] == b"DICM":
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    if head[:2] == b"\x00\x08":
        return explicit  # big endian always is
    return head[:2] in (b"\x02\x00", b"\x08\x00") and (explicit or int.from_bytes(head[4:8], "little") < 1024)


def _check_deflated(file: BinaryIO, path: Path, size: int, bare: bool) -> None:
    if size <= MOST_DEFLATED:
        return
    if bare:
        file.seek(0)
        deflated = DeflatedExplicitVRLittleEndian.encode() in file.read()
    else:
        deflated = read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if deflated:
        raise Unusable("too_large", f"{size} deflated bytes; at most {MOST_DEFLATED} are inflated")


def _of_head(head: bytes, path: Path, size: int, bare: bool) -> Any:
    """Parse the beginning of a file, and the file itself where more than the pixels lies behind it."""
    if len(head) == size:
        dataset = pydicom.dcmread(io.BytesIO(head), LARGE, force=bare)
    else:
        dataset = _up_to_pixels(head, size, bare)
    if dataset is None:
        # only a file with a name of text can be opened again for what was left in it
        dataset = pydicom.dcmread(str(path), LARGE, force=bare)
    else:
        dataset.filename, dataset.fileobj_type, dataset.buffer = str(path), open, None
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return pydicom.dcmread(str(path), force=bare)  # what was left would be looked for in the deflated bytes
    return dataset


def _up_to_pixels(head: bytes, size: int, bare: bool) -> Any:
    """Parse the beginning of a file; None where it does not reach to pixels that the file ends with."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(head), LARGE, force=bare)
    except MALFORMED:
        return None  # what is wrong is said by a reader of the whole
    last = [*dataset.keys()][-1:]
    element = dataset.get_item(_PIXEL_DATA, keep_deferred=True)
    if last != [_PIXEL_DATA] or not isinstance(element, RawDataElement) or element.value is not None:
        return None
    # another element would take 8 bytes
    return dataset if element.length != 0xFFFFFFFF and element.value_tell + element.length > size - 8 else None


def _name_syntax(dataset: Any) -> None:
    """Give a file without a transfer syntax the one that it was read by: only uncompressed pixels can be meant."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


# ---- headers


def modality(dataset: Any) -> str | None:
    """Return the DICOM code of a modality; the storage class says it where the tag is empty or says nothing known."""
    said = text(dataset, "Modality")
    return said if said in _STORAGE else _IMPLIED.get(text(dataset, "SOPClassUID"))


def digest(dataset: Any, path: Path) -> bytes:
    """Return a digest of the pixels as they are stored; they are not kept in memory."""
    element = dataset.get_item("PixelData", keep_deferred=True)
    held = element.value
    if held is None and isinstance(element, RawDataElement):
        with path.open("rb") as file:
            file.seek(element.value_tell)
            held = file.read(-1 if element.length == 0xFFFFFFFF else element.length)
    return hashlib.sha256(held if isinstance(held, bytes) else b"").digest()


def read_marks(path: Path) -> Any:
    """Read a file that marks others: a SEG, an RTSTRUCT.

    Raises:
        Unusable: As `read_file`, but for `missing_mask` where there is no such file.
    """
    try:
        return read_file(path)
    except Unusable as error:
        reason = "missing_mask" if error.reason == "missing_image" else error.reason
        raise Unusable(reason, error.detail) from None


def check_picture(dataset: Any) -> None:
    """Refuse a file that has no picture of its own.

    Raises:
        Unusable: `not_an_image`: a report, a plan, or what marks other pictures (SEG, dose); `truncated`: an image
            without its pixels.
    """
    storage = text(dataset, "SOPClassUID")
    if text(dataset, "Modality") in ("SEG", "RTDOSE") or storage in _NO_PICTURE:
        raise Unusable("not_an_image", "a DICOM object that marks other images")
    if "PixelData" not in dataset:
        if storage in _IMPLIED:
            raise Unusable("truncated", "ends before its pixels do, or has none")
        raise Unusable("not_an_image", "a DICOM object without pixels")


def slice_of(dataset: Any, path: Path, frame: int, kinds: Mapping[str, Any], stack: str = "") -> Slice:
    """Return what a header says of one of its frames.

    Args:
        dataset: The whole file.
        path: Where it lies.
        frame: From 0.
        kinds: What tells acquisitions apart, see `Slice`.
        stack: What holds slices of one file together beside their series.

    Raises:
        Unusable: `no_geometry`: it does not say, or not sensibly, where the frame lies.
    """
    position = _vector(group(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
    cosines = _vector(group(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    measures = group(dataset, frame, "PixelMeasuresSequence")
    spacing = _vector(measures, "PixelSpacing", 2)
    directions = cosines.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > 0.01 or spacing.min() <= 0:
        raise Unusable("no_geometry", "a slice's directions are no right angle of unit vectors, or it has no spacing")
    size = _vector(dataset, "Rows", 1), _vector(dataset, "Columns", 1)
    return Slice(
        dataset=dataset,
        path=path,
        frame=frame,
        body=(_uid(dataset, "SeriesInstanceUID"), _uid(dataset, "FrameOfReferenceUID"), stack),
        number=_finite(dataset, "SeriesNumber", np.inf),
        sop=_uid(dataset, "SOPInstanceUID"),
        size=(int(size[0][0]), int(size[1][0])),
        position=position,
        row=directions[0],
        column=directions[1],
        spacing=spacing,
        thickness=abs(_finite(measures, "SliceThickness", 1.0)) or 1.0,
        kinds=kinds,
    )


def _vector(holder: Any, keyword: str, length: int) -> NDArray[np.float64]:
    values = np.array(numbers(holder, keyword))
    if values.shape != (length,) or not np.isfinite(values).all():
        raise Unusable("no_geometry", f"{keyword} of a slice is not {length} numbers")
    return values


def _finite(holder: Any, keyword: str, default: float) -> float:
    found = numbers(holder, keyword)
    return found[0] if found and np.isfinite(found[0]) else default


def _uid(dataset: Any, keyword: str) -> str:
    found = plain(dataset, keyword)
    if len(found) == 1 and isinstance(found[0], str):
        return found[0].strip()
    return str(value(dataset, keyword) or "")


def kind_of(found: Any) -> Any:
    """Make a value of a header comparable with others of its keyword: numbers before words.

    >>> kind_of("12.5") < kind_of("late") < kind_of(["late", "1"])
    True
    """
    if isinstance(found, Sequence) and not isinstance(found, str | bytes):
        return (2, tuple(kind_of(part) for part in found))
    try:
        number = float(found)
    except (ValueError, TypeError, OverflowError):
        number = np.nan
    return (0, number) if np.isfinite(number) else (1, str(found).strip().upper())


def kinds_of(dataset: Any) -> dict[str, Any]:
    """Return what tells a file of one frame from another of the same place."""
    found = {keyword: plain(dataset, keyword) or value(dataset, keyword) for keyword in SPLITS}
    return {keyword: kind_of(_alone(said)) for keyword, said in found.items() if said is not None}


def _alone(said: Any) -> Any:
    return said[0] if isinstance(said, tuple) and len(said) == 1 else said
