"""The frames of a DICOM SEG: what each is of, where it lies, and its pixels.

Read with pydicom: frames without pixels are usually left out, segments may overlap, may be fractional, or may share
one label map (the type of 2024).
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from pipeline.errors import Unusable
from pipeline.ingest.dicom import read_marks
from pipeline.ingest.dicom_pixels import MALFORMED

SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage; pydicom 3 knows the first only."""
MAX_PIXELS = 64_000_000
"""Of a frame or of the whole matrix of a tiled SEG."""
MAX_TILES = 200_000
"""Frames of a SEG that does not describe each."""
FARTHEST = 1e6
"""mm; beyond it a coordinate is no place in a body."""
BACKGROUND = "125040"
"""DCM code of what is no segment."""

Vector = NDArray[np.float64]
Pixels = NDArray[Any]


class Plane(NamedTuple):
    """A frame, and where it lies."""

    number: int
    """In the file, from 0."""
    segment: int | None
    """None: its pixels are segment numbers."""
    corner: Vector | None
    """Centre of the first pixel, LPS mm; None: the frame is of a flat picture."""
    right: Vector
    down: Vector
    """mm from a column, from a row to the next."""
    between: float
    thick: float
    """mm to the next plane, and of this one; 0 where the file does not say."""
    sources: frozenset[str]
    """SOPInstanceUID of the images it was drawn on."""
    source_frames: frozenset[int]
    at: tuple[int, int]
    """Column and row of its first pixel in the total pixel matrix, from 0."""


class Seg(NamedTuple):
    """A SEG before its pixels are decoded."""

    dataset: Any
    rows: int
    columns: int
    names: Mapping[int, str]
    """Segment number to raw label, the background left out."""
    planes: tuple[Plane, ...]
    label_map: bool
    """Pixels are segment numbers: no segment overlaps another."""
    blank: frozenset[int]
    """Values of a label map where no segment is."""
    threshold: float
    """Stored value from which a pixel belongs to its segment; of a label map, unused."""
    tiled: tuple[int, int] | None
    """Width and height of the total pixel matrix, px."""

    @property
    def groups(self) -> Iterator[tuple[tuple[int, ...], list[Plane]]]:
        """Segments that are decoded together, and their frames."""
        if self.label_map:
            yield tuple(self.names), list(self.planes)
            return
        of_segment = defaultdict[int | None, list[Plane]](list)
        for plane in self.planes:
            of_segment[plane.segment].append(plane)
        for number in self.names:
            yield (number,), of_segment[number]


def opened(path: Path, threshold: float = 0.5) -> Seg:
    """Read a SEG's header.

    Raises:
        Unusable: `missing_mask`; `bad_annotation`: it is no SEG, or not as it should be; `too_large`.
    """
    dataset = read_marks(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom checks values when they are first looked at
            return _seg(dataset, threshold)
    except MALFORMED as error:
        raise Unusable("bad_annotation", f"its header is not a SEG's ({type(error).__name__})") from None


def _seg(dataset: Any, threshold: float) -> Seg:
    sop_class = dataset.get("SOPClassUID")
    if sop_class not in SOP_CLASSES:
        known = getattr(sop_class, "name", sop_class)  # of a class that pydicom does not know, the UID again
        raise Unusable("bad_annotation", f"not a DICOM SEG{f' but {known}' if known and known != sop_class else ''}")
    kind = str(dataset.SegmentationType)
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise Unusable("bad_annotation", "its SegmentationType is none of BINARY, FRACTIONAL, LABELMAP")
    names, blank = {int(item.SegmentNumber): _name(item) for item in dataset.SegmentSequence}, frozenset[int]()
    if kind == "LABELMAP":
        coded = (int(item.SegmentNumber) for item in dataset.SegmentSequence if _code(item) == BACKGROUND)
        blank = frozenset((0, int(dataset.get("PixelPaddingValue") or 0), *coded))
    size, tiled = _sizes(dataset)
    planes = tuple(_planes(dataset, kind == "LABELMAP", tiled))
    unnamed = {plane.segment for plane in planes} - {None, *names}
    if unnamed:
        raise Unusable("bad_annotation", f"frames are of {len(unnamed)} segments that are not described")
    least = threshold * float(dataset.MaximumFractionalValue) if kind == "FRACTIONAL" else 0.0
    named = {number: names[number] for number in sorted(names) if number not in blank}
    return Seg(dataset, *size, named, planes, kind == "LABELMAP", blank, least, tiled)


def _sizes(dataset: Any) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return rows and columns of a frame, width and height of the total pixel matrix."""
    rows, columns, tiled = int(dataset.Rows), int(dataset.Columns), None
    if "TotalPixelMatrixRows" in dataset:
        tiled = int(dataset.TotalPixelMatrixColumns), int(dataset.TotalPixelMatrixRows)
    if min(rows, columns, *(tiled or ())) < 1:
        raise Unusable("bad_annotation", f"frames of {columns}x{rows} px")
    for width, height in ((columns, rows), tiled or (1, 1)):
        if width * height > MAX_PIXELS:
            raise Unusable("too_large", f"the SEG is {width}x{height} px; at most {MAX_PIXELS} px are read")
    return (rows, columns), tiled


def _name(item: Any) -> str:
    label = " ".join(str(item.get("SegmentLabel") or "").split())
    kinds = item.get("SegmentedPropertyTypeCodeSequence")
    meaning = str(kinds[0].get("CodeMeaning") or "").strip() if kinds else ""
    return label or meaning or f"segment {int(item.SegmentNumber)}"


def _code(item: Any) -> str:
    kinds = item.get("SegmentedPropertyTypeCodeSequence")
    return str(kinds[0].get("CodeValue") or "") if kinds else ""


def _planes(dataset: Any, label_map: bool, tiled: tuple[int, int] | None) -> Iterator[Plane]:
    count = int(dataset.get("NumberOfFrames") or 1)
    if dataset.get("DimensionOrganizationType") == "TILED_FULL" and tiled:
        yield from _tiles(dataset, count, label_map, tiled)
        return
    frames = dataset.PerFrameFunctionalGroupsSequence
    if len(frames) != count:
        raise Unusable("bad_annotation", f"{count} frames, and {len(frames)} are described")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    for number, frame in enumerate(frames):
        yield _plane(number, frame, shared, label_map)


def _tiles(dataset: Any, count: int, label_map: bool, tiled: tuple[int, int]) -> Iterator[Plane]:
    """Place the frames of a SEG that holds every tile: along a row, then down, segment by segment."""
    across, down = (-(-whole // side) for whole, side in zip(tiled, (dataset.Columns, dataset.Rows), strict=True))
    segments = [None] if label_map else sorted(int(item.SegmentNumber) for item in dataset.SegmentSequence)
    said = f"{count} frames, and {len(segments)} segments of {across}x{down} tiles"
    if across * down * len(segments) != count:
        raise Unusable("bad_annotation", said)
    if count > MAX_TILES:
        raise Unusable("too_large", f"{said}; at most {MAX_TILES} frames are read")
    nowhere, nothing = np.zeros(3), frozenset[Any]()
    for number in range(count):
        segment, tile = divmod(number, across * down)
        at = tile % across * int(dataset.Columns), tile // across * int(dataset.Rows)
        yield Plane(number, segments[segment], None, nowhere, nowhere, 0.0, 0.0, nothing, nothing, at)


def _plane(number: int, frame: Any, shared: Any, label_map: bool) -> Plane:
    def group(name: str) -> Any:
        """One item, of the frame or of all frames; empty where neither has it."""
        found = frame.get(name) or (shared.get(name) if shared is not None else None)
        return found[0] if found else {}

    segment = None if label_map else int(group("SegmentIdentificationSequence").ReferencedSegmentNumber)
    position = group("PlanePositionSequence").get("ImagePositionPatient")
    corner, right, down, between, thick = None, np.zeros(3), np.zeros(3), 0.0, 0.0
    if position is not None:
        corner = _numbers(position, 3)
        cosines = _numbers(group("PlaneOrientationSequence").ImageOrientationPatient, 6)
        measures = group("PixelMeasuresSequence")
        spacing = _numbers(measures.PixelSpacing, 2)
        # PixelSpacing is (between rows, between columns)
        right, down = cosines[:3] * spacing[1], cosines[3:] * spacing[0]
        if not np.linalg.norm(np.cross(right, down)) > 1e-9:
            raise Unusable("bad_annotation", f"the directions or the spacing of frame {number} are none")
        between, thick = (float(measures.get(key) or 0) for key in ("SpacingBetweenSlices", "SliceThickness"))
    images = [s for d in frame.get("DerivationImageSequence") or () for s in d.get("SourceImageSequence") or ()]
    numbers = frozenset(int(n) for image in images for n in _listed(image.get("ReferencedFrameNumber")))
    slide = group("PlanePositionSlideSequence")
    at = tuple(int(slide.get(f"{side}PositionInTotalImagePixelMatrix") or 1) - 1 for side in ("Column", "Row"))
    sources = frozenset(str(image.get("ReferencedSOPInstanceUID")) for image in images)
    return Plane(number, segment, corner, right, down, between, thick, sources, numbers, (at[0], at[1]))


def _listed(value: Any) -> Sequence[Any]:
    return () if value is None else value if isinstance(value, Sequence) else (value,)


def _numbers(values: Any, count: int) -> Vector:
    numbers: Vector = np.array(values, float)
    if numbers.shape != (count,) or not (np.abs(numbers) < FARTHEST).all():
        raise Unusable("bad_annotation", f"a frame's place is not {count} numbers of mm")
    return numbers


def pixels_of(seg: Seg, plane: Plane) -> Pixels:
    """Decode a frame, `(row, column)`: segment numbers of a label map, 0 and 1 else.

    Raises:
        Unusable: `truncated`, `bad_annotation`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of padding, and of values that decode well
            stored: Pixels = pixel_array(seg.dataset, index=plane.number)
    except MALFORMED as error:
        raise Unusable("truncated", f"frame {plane.number} can not be decoded ({type(error).__name__})") from None
    if stored.shape != (seg.rows, seg.columns) or stored.dtype.kind != "u":
        raise Unusable("bad_annotation", f"frame {plane.number} is no array of {seg.columns}x{seg.rows} counts")
    if plane.segment is not None:
        belongs: NDArray[np.bool_] = (stored > 0) & (stored >= seg.threshold)
        return belongs.view(np.uint8)
    if stored.dtype.itemsize > 2:
        raise Unusable("bad_annotation", f"frame {plane.number} has more than 16 bits")
    unnamed = set(np.flatnonzero(np.bincount(stored.reshape(-1))).tolist()) - seg.blank - seg.names.keys()
    if unnamed:
        raise Unusable("bad_annotation", f"frame {plane.number} has {len(unnamed)} values that are not described")
    return np.where(np.isin(stored, sorted(seg.blank)), 0, stored)
