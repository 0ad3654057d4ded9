"""Label names that a label map carries in its own header.

TotalSegmentator and Connectome Workbench write an XML LabelTable into a header extension of NIfTI, 3D Slicer
writes `Segment0_Name`, `Segment0_LabelValue` and `Segment0_Layer` into NRRD (`.seg.nrrd`). Nothing else of a header is
looked at.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import Unusable
from pipeline.ingest import nifti, nrrd
from pipeline.ingest.volumes import first_bytes
from sources import safe_xml

LONGEST = 200
"""Characters of a name."""


def names(path: Path, layer: int = 0) -> dict[int, str] | None:
    """Return label id to name as the header has it, or None where it names nothing.

    Args:
        path: A label map, as `volumes.read_labels` reads it.
        layer: Volume along the fourth axis: Slicer puts segments that overlap into layers with ids of their own.

    Raises:
        Unusable: `bad_annotation`: the names can not be read; as `volumes.read`.
    """
    start = first_bytes(path)
    try:
        if nifti.is_nifti(start):
            found = list(_of_nifti(path))
        elif start.startswith(nrrd.MAGIC):
            found = list(_of_slicer(nrrd.header(path).pairs, layer))
        else:
            return None
    except OSError as error:
        raise Unusable("unreadable", error.strerror or "not readable") from None
    return _checked(found) or None


def _checked(found: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Return names by id, without the background's."""
    by_id: dict[int, str] = {}
    for number, name in found:
        tidy = " ".join(name.split())
        if number == 0 or not tidy:
            continue
        if len(tidy) > LONGEST or not tidy.isprintable():
            raise Unusable("bad_annotation", f"the header's name of label {number} is no text of {LONGEST} characters")
        if by_id.setdefault(number, tidy) != tidy:
            raise Unusable("bad_annotation", f"the header has two names for label {number}")
    return by_id


def _of_nifti(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what the LabelTables of a NIfTI header say."""
    opened = nifti.opened(path)
    for content in _extensions(opened.extensions, opened.header.endianness):
        if b"<LabelTable" not in content:
            continue
        try:
            for label in safe_xml.parsed(content.strip(b"\0 \t\r\n"), "LabelTable").iter("Label"):
                yield int(label.get("Key", "")), "".join(label.itertext())
        except ValueError:
            raise Unusable("bad_annotation", "a label of the header's table has no whole number as its Key") from None


def _extensions(data: bytes, byte_order: str) -> Iterator[bytes]:
    """Yield the contents of header extensions: 4 bytes say whether there are any, each has size, code, content."""
    at = 4
    while data[:1] not in (b"", b"\0") and at + 8 <= len(data):
        size, _ = struct.unpack(f"{byte_order}ii", data[at : at + 8])
        if size < 8:
            return
        yield data[at + 8 : at + size]
        at += size


def _of_slicer(pairs: dict[str, str], layer: int) -> Iterator[tuple[int, str]]:
    """Yield value and name of the segments in a layer; before Slicer 4.11 each was value 1 of a layer of its own."""
    for key, name in pairs.items():
        segment = re.fullmatch(r"(Segment(\d{1,6}))_Name", key, re.ASCII)
        if segment is None:
            continue
        value = pairs.get(f"{segment[1]}_LabelValue")
        where = pairs.get(f"{segment[1]}_Layer", "0" if value is not None else segment[2])
        try:
            if int(where) == layer:
                yield int(value) if value is not None else 1, name
        except ValueError:
            raise Unusable("bad_annotation", f"segment {segment[2]} has no number for its layer or value") from None
