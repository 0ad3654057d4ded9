"""DICOM RTSTRUCT: outlines in mm, plane by plane, painted on a volume's slices.

A contour belongs to the slice whose plane it lies in, to half a slice, whatever images it refers to: real files refer
to images that are not there. Several contours of a structure on one slice cut holes (even-odd), so keyholes do too.
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest import outlines
from pipeline.ingest.dicom import read_marks
from pipeline.ingest.dicom_pixels import MALFORMED
from pipeline.ingest.geometry import Volume

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
PLANES = ("sagittal", "coronal", "axial")
"""By the LPS axis across them."""
FARTHEST = 1e6
"""mm; beyond it a coordinate is no place in a body."""
TIE = 1e-3
"""Slices: a contour so near to the middle between two slices lies on the one whose image it refers to."""
SAME_PLANE = 0.05
"""Slices between contours of one plane."""
DIGITS = 3
"""Of a voxel, kept of a corner's place: corners are often drawn on centres, and must not fall to either side of them by
the last digit of their mm."""

Floats = NDArray[np.float64]


class Structure(NamedTuple):
    """What an RTSTRUCT says of one region of interest."""

    raw: str
    array: NDArray[np.uint8]
    """`(z, y, x)` on the volume's grid; all 0 where none of its contours lies on the volume."""
    planes_outside: int
    """Planes with contours on which the volume has no slice."""
    left_out: int
    """Contours that are points or open lines."""


class Contour(NamedTuple):
    """One closed outline."""

    roi: int
    points: Floats
    """`(n, 3)`, LPS mm."""
    sop: str
    """SOPInstanceUID of the image it was drawn on; empty: it does not say."""


class Drawing(NamedTuple):
    """An RTSTRUCT, read but not placed."""

    names: dict[int, str]
    """ROI number to name, in the file's order."""
    contours: tuple[Contour, ...]
    open_lines: dict[int, int]
    """ROI number to contours that enclose nothing."""


class _Ring(NamedTuple):
    """A contour in voxels."""

    roi: int
    plane: int | None
    """Slice that it lies on; None: the volume has none there."""
    height: float
    """Along the stack, slices."""
    off: float
    """Slices from the nearest one."""
    corners: Floats
    """`(n, 2)`: column and row edges of its slice, px."""


def read(path: Path, volume: Volume, sops: Sequence[str] = ()) -> Iterator[Structure]:
    """Yield the structures of an RTSTRUCT one at a time, in its own order.

    Args:
        path: The RTSTRUCT.
        volume: What it is painted on.
        sops: SOPInstanceUID of the volume's slices along `volume.stack`.

    Raises:
        Unusable: `bad_annotation`: no RTSTRUCT, or it encloses nothing; `no_geometry`; `geometry_mismatch`: contours
            run across the slices; `mask_outside`: none lies on the volume; `missing_mask`, and what `dicom.read_file`
            raises.
    """
    drawing = opened(path)
    if volume.geometry != "known":
        raise Unusable("no_geometry", "the volume has no place in mm, and contours are mm")
    if not drawing.contours and drawing.open_lines:
        count = sum(drawing.open_lines.values())
        raise Unusable("bad_annotation", f"no closed contour; {count} points and open lines enclose nothing")
    stack = _across(drawing, volume, bool(sops))
    rings = [_ring(contour, volume, stack, sops) for contour in drawing.contours]
    width, height = _size(volume, stack)
    if rings and not any(ring.plane is not None and _touches(ring.corners, width, height) for ring in rings):
        raise Unusable("mask_outside", f"none of {len(rings)} contours lies on the volume")
    of_roi = defaultdict[int, list[_Ring]](list)
    for ring in rings:
        of_roi[ring.roi].append(ring)
    for number, raw in drawing.names.items():
        beside = {round(ring.height, 1) for ring in of_roi[number] if ring.plane is None}
        array = _painted(of_roi[number], volume, stack)
        yield Structure(raw, array, len(beside), drawing.open_lines.get(number, 0))


def _painted(rings: Sequence[_Ring], volume: Volume, stack: int) -> NDArray[np.uint8]:
    array = np.zeros(volume.array.shape, np.uint8)
    slices, (width, height) = np.moveaxis(array, 2 - stack, 0), _size(volume, stack)
    on_plane = defaultdict[int, list[_Ring]](list)
    for ring in rings:
        if ring.plane is not None:
            on_plane[ring.plane].append(ring)
    for plane, here in on_plane.items():
        # of planes closer than the slices only the nearest counts: laid on each other, they would cut holes
        height_of = min(here, key=lambda ring: ring.off).height
        corners = [ring.corners for ring in here if abs(ring.height - height_of) < SAME_PLANE]
        filled = outlines.fill(corners, width, height)
        if filled is not None:
            mask, x0, y0 = filled
            slices[plane, y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    return array


# ---- the file


def opened(path: Path) -> Drawing:
    """Read an RTSTRUCT.

    Raises:
        Unusable: `missing_mask`; `bad_annotation`.
    """
    dataset = read_marks(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom checks values when they are first looked at
            return _drawing(dataset)
    except MALFORMED as error:
        raise Unusable("bad_annotation", f"not as an RTSTRUCT should be ({type(error).__name__})") from None


def _drawing(dataset: Any) -> Drawing:
    sop_class = dataset.get("SOPClassUID")
    if sop_class != SOP_CLASS:
        known = getattr(sop_class, "name", sop_class)  # of a class that pydicom does not know, the UID again
        raise Unusable("bad_annotation", f"not an RTSTRUCT{f' but {known}' if known and known != sop_class else ''}")
    names = {}
    for item in dataset.StructureSetROISequence:
        number = int(item.ROINumber)
        names[number] = " ".join(str(item.get("ROIName") or "").split()) or f"structure {number}"
    contours, open_lines = list[Contour](), defaultdict[int, int](int)
    for of_roi in dataset.get("ROIContourSequence") or ():
        number = int(of_roi.ReferencedROINumber)
        if number not in names:
            raise Unusable("bad_annotation", f"contours are of structure {number}, which is not described")
        for n, item in enumerate(of_roi.get("ContourSequence") or ()):
            found = None
            if str(item.get("ContourGeometricType") or "") in CLOSED:
                found = _contour(number, n, item)
            if found and len(found.points) > 2:
                contours.append(found)
            else:
                open_lines[number] += 1
    return Drawing(names, tuple(contours), dict(open_lines))


def _contour(roi: int, number: int, item: Any) -> Contour:
    # the element as it lies in the file: pydicom would make an object of each number
    value = item.get_item("ContourData").value or b""
    texts = value.rstrip(b" \0\\").split(b"\\") if isinstance(value, bytes) else value
    points = np.array(texts if texts != [b""] else [], np.float64)
    if len(points) % 3 or not (np.abs(points) < FARTHEST).all():
        raise Unusable("bad_annotation", f"contour {number} of structure {roi} is not x, y, z in mm, point by point")
    images = item.get("ContourImageSequence")
    sop = str(images[0].get("ReferencedSOPInstanceUID") or "") if images else ""
    return Contour(roi, points.reshape(-1, 3), sop)


# ---- the place


def _across(drawing: Drawing, volume: Volume, is_series: bool) -> int:
    """Return the LPS axis along which contours follow each other: the one along which each extends least."""
    turn = np.linalg.inv(volume.affine)[:3, :3]
    extents = np.zeros(3)
    for contour in drawing.contours:
        if len(contour.points):
            extents += np.ptp(contour.points @ turn.T, axis=0)
    if not extents.any():
        return volume.stack
    stack = int(extents.argmin())
    if (is_series or volume.shifts is not None) and stack != volume.stack:
        said = f"contours were drawn on {PLANES[stack]} planes, the slices are {PLANES[volume.stack]}"
        raise Unusable("geometry_mismatch", said)
    return stack


def _ring(contour: Contour, volume: Volume, stack: int, sops: Sequence[str]) -> _Ring:
    turn, shifts = np.linalg.inv(volume.affine), volume.shifts
    index = contour.points @ turn[:3, :3].T + turn[:3, 3]
    height = float(index[:, stack].mean())
    if np.abs(index[:, stack] - height).max() > 0.5:
        raise Unusable("geometry_mismatch", "a contour runs through several slices: it was drawn on other planes")
    slices, planes = volume.array.shape[2 - stack], np.arange(volume.array.shape[2 - stack])
    # each slice of an uneven stack has a place of its own
    moved = np.zeros((slices, 3)) if shifts is None else shifts @ turn[:3, :3].T
    distance = np.abs(height - moved[:, stack] - planes)
    nearest = int(distance.argmin())
    if contour.sop in sops and sops.index(contour.sop) < slices:
        said = sops.index(contour.sop)
        nearest = said if distance[said] <= distance[nearest] + TIE else nearest
    # an index is a voxel's centre, outlines count from its edge
    corners = np.round(np.delete(index - moved[nearest], stack, axis=1) + 0.5, DIGITS)
    off = float(distance[nearest])
    return _Ring(contour.roi, nearest if off <= 0.5 else None, height, off, corners)


def _size(volume: Volume, stack: int) -> tuple[int, int]:
    """Return width and height of the slices across an axis, as `(y, x)`, `(z, x)` or `(z, y)`."""
    sizes = [n for axis, n in enumerate(volume.array.shape[::-1]) if axis != stack]
    return sizes[0], sizes[1]


def _touches(corners: Floats, width: int, height: int) -> bool:
    low, high = corners.min(axis=0), corners.max(axis=0)
    return bool((low < (width, height)).all() and (high > 0).all())
