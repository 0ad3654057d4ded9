"""What annotations say of one 2D picture: boxes, outlines and masks laid on the pixels that are stored."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import runlength
from pipeline.errors import Unusable
from pipeline.ingest import mask_pictures, mask_values, masks, outlines, segments
from pipeline.ingest.frames import IDENTITY, Frame
from pipeline.ingest.mask_values import Labelled
from pipeline.ingest.source import Annotated, Laid, Placed, Source, remarks_on, sized
from pipeline.records import Affine2, Box, Region
from sources.annotation import Mark, Marks, MaskPictures, Ring, Segments
from sources.descriptor import AnnotationSpec


class Layer(NamedTuple):
    """Labels of the stored picture's pixels."""

    array: NDArray[Any]
    """`(y, x)`; 0 is background."""
    names: Mapping[int, str]
    unknown: Mapping[int, str]
    """Ids that the descriptor does not name, to what stands in the file."""
    reader: str | None = None
    history: tuple[str, ...] = ()


def lay(frame: Frame, annotations: Sequence[Annotated], source: Source, row: int | None = None) -> Laid:
    """Lay a picture's annotations on it.

    Raises:
        Unusable: `size_mismatch`; `bad_annotation`: it is one of volumes, or a mask can not be read.
    """
    placed, absent, remarks, history = list[Placed](), set[str](), list[str](), dict[str, None]()
    for spec, annotation in annotations:
        match annotation:
            case Marks():
                here = _OnFrame.of(frame, annotation, source)
                for mark in annotation.marks:
                    if not _holds(mark, frame.index, frame.time_s):
                        continue
                    region = source.region(spec, mark.raw, mark.certain, mark.reader)
                    if region is None:
                        continue
                    if mark.negative:
                        absent.update([region.label] if region.label else ())
                    else:
                        placed.append(_placed(region, mark, here, source))
            case MaskPictures():
                as_filed = source.descriptor.geometry.annotated == "file"
                found = list(_mask_layers(spec, annotation, frame, source.root, row, as_filed))
                remarks += [remark for layer in found if len(layer.names) == 1 for remark in remarks_on(layer.array)]
                remarks += ["identical_masks"] * _repeated(found)
                history |= dict.fromkeys(step for layer in found for step in layer.history)
                placed += [region for layer in found for region in _masked(spec, layer, frame, source)]
            case Segments(file, threshold):
                for raw, mask in segments.read_planar(source.root / file, *frame.source_size, threshold):
                    layer = Layer(stored(mask.view(np.uint8), frame), {1: raw}, {})
                    placed += _masked(spec, layer, frame, source)
            case _:
                raise Unusable("bad_annotation", "a volume's annotation on a 2D picture")
    remarks += [one.remark for one in placed if one.remark]
    return Laid(tuple(placed), frozenset(absent), tuple(remarks), tuple(history))


def _holds(mark: Mark, index: int | None, time_s: float | None) -> bool:
    """Does a mark speak of this frame? Without frames or times it speaks of all."""
    if mark.frames is not None and index is not None:
        return mark.frames[0] <= index < mark.frames[1]
    if mark.times_s is not None and time_s is not None:
        return mark.times_s[0] <= time_s < mark.times_s[1]
    return True


def speaks_of(annotations: Sequence[Annotated], index: int, time_s: float) -> bool:
    """Return whether a frame of a video has a label of its own."""
    marks = (mark for _, annotation in annotations if isinstance(annotation, Marks) for mark in annotation.marks)
    return any((mark.frames or mark.times_s) and _holds(mark, index, time_s) for mark in marks)


def of_text(annotations: Sequence[Annotated], source: Source) -> Laid:
    """Return what annotations say of a text.

    Raises:
        Unusable: `bad_annotation`: one of them speaks of a place in a picture.
    """
    placed, absent = list[Placed](), set[str]()
    for spec, annotation in annotations:
        if not isinstance(annotation, Marks):
            raise Unusable("bad_annotation", "a picture's annotation on a text")
        for mark in annotation.marks:
            region = source.region(spec, mark.raw, mark.certain, mark.reader)
            if region is not None and mark.negative:
                absent.update([region.label] if region.label else ())
            elif region is not None:
                placed.append(Placed(region, mark.problem))
    return Laid(tuple(placed), frozenset(absent))


# ---- marks


class _OnFrame(NamedTuple):
    """A frame as a set of marks sees it."""

    frame: Frame
    to_stored: Affine2
    """From the coordinates of the marks."""
    size: tuple[int, int]
    """Width and height in px of the picture that the marks were made on."""
    relative: bool

    @classmethod
    def of(cls, frame: Frame, marks: Marks, source: Source) -> "_OnFrame":
        """Choose the frame of reference: upright, or as the file lies where its EXIF orientation was not heeded."""
        size, back = frame.source_size, frame.to_source
        as_filed = frame.turn is not None and source.descriptor.geometry.annotated == "file"
        if marks.size and marks.size != size:
            as_filed = frame.turn is not None and marks.size == size[::-1]
            if not as_filed:
                shown = f"picture is {size[0]}x{size[1]} px"
                raise Unusable("size_mismatch", f"{shown}, annotated at {marks.size[0]}x{marks.size[1]}")
        if as_filed and frame.turn is not None:
            back = composed(frame.turn, back)
            size = size[::-1] if frame.turn[0] == 0 else size
        forward = inverted(back)
        if marks.relative:
            forward = composed(forward, (float(size[0]), 0.0, 0.0, 0.0, float(size[1]), 0.0))
        return cls(frame, forward, size, marks.relative)


def composed(second: Affine2, first: Affine2) -> Affine2:
    """Return the map that does `first`, then `second`."""
    a, b, c, d, e, f = second
    p, q, r, s, t, u = first
    return a * p + b * s, a * q + b * t, a * r + b * u + c, d * p + e * s, d * q + e * t, d * r + e * u + f


def inverted(affine: Affine2) -> Affine2:
    """Return the way back."""
    a, b, c, d, e, f = affine
    det = a * e - b * d
    return e / det, -b / det, (b * f - c * e) / det, -d / det, a / det, (c * d - a * f) / det


def _moved(box: Box, by: Affine2) -> Box:
    if by == IDENTITY:
        return box
    (x0, y0), (x1, y1) = (_at(corner, by) for corner in ((box.x0, box.y0), (box.x1, box.y1)))
    return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def _at(point: tuple[float, float], by: Affine2) -> tuple[float, float]:
    x, y = point
    return by[0] * x + by[1] * y + by[2], by[3] * x + by[4] * y + by[5]


def _placed(region: Region, mark: Mark, here: _OnFrame, source: Source) -> Placed:
    try:
        if mark.problem:
            raise Unusable(*mark.problem)
        if mark.rings:
            return _outlined(region, mark, here, source)
        if mark.code is not None:
            return _coded(region, mark, here, source)
        if mark.box is None:
            return Placed(region)
        drawn = _moved(mark.box, here.to_stored)
        box = clipped(drawn, here.frame)
        _check_box(box, source)
        region = replace(region, box=box, area_px=box.area, area_mm2=_mm2(box.area, here.frame))
        outside = max(abs(a - b) for a, b in zip(drawn, box, strict=True))
        return Placed(region, remark="clipped_box" if outside > 1 else None)
    except Unusable as error:
        return Placed(region, (error.reason, error.detail))


def clipped(box: Box, frame: Frame) -> Box:
    """Cut a box to its picture.

    Raises:
        Unusable: `bad_box`; `box_outside`: no part of it is inside.
    """
    height, width = frame.pixels.shape[:2]
    if not all(math.isfinite(value) for value in box):
        raise Unusable("bad_box", "a coordinate is not a number")
    inside = Box(max(0.0, box.x0), max(0.0, box.y0), min(float(width), box.x1), min(float(height), box.y1))
    said = f"{tuple(round(v, 1) for v in box)} on {width}x{height} px"
    if inside.x1 <= inside.x0 or inside.y1 <= inside.y0:
        raise Unusable("box_outside", f"{said}: no part of it is inside")
    return inside


def _check_box(box: Box, source: Source) -> None:
    least = source.descriptor.limits.min_box_px
    if min(box.width, box.height) < least:
        raise Unusable("too_small", f"{box.width:.1f}x{box.height:.1f} px; at least {least:g} px are kept")


def _mm2(area_px: float, frame: Frame) -> float | None:
    return area_px * frame.spacing_mm**2 if frame.spacing_mm else None


def _outlined(region: Region, mark: Mark, here: _OnFrame, source: Source) -> Placed:
    frame = here.frame
    height, width = frame.pixels.shape[:2]
    rings, holes = _ring_by_ring(mark.rings, here), _ring_by_ring(mark.holes, here)
    corners = [point for ring in rings for point in ring]
    if not corners or not all(math.isfinite(value) for point in corners for value in point):
        raise Unusable("bad_box", "an outline has no corners, or one that is not a number")
    columns, rows = zip(*corners, strict=True)
    drawn = _moved(mark.box, here.to_stored) if mark.box else Box(min(columns), min(rows), max(columns), max(rows))
    box = clipped(drawn, frame)
    filled = _filled(rings, holes, width, height)
    if filled is None:
        raise Unusable("too_small", "the outline holds no pixel's centre")
    mask, x0, y0 = filled
    region = replace(region, box=box, mask=runlength.encode(mask, x0, y0, width, height))
    return _of_mask(region, mark, int(np.count_nonzero(mask)), frame, source)


def _ring_by_ring(rings: Sequence[Ring], here: _OnFrame) -> list[Ring]:
    return [tuple(_at(point, here.to_stored) for point in ring) for ring in rings]


def _filled(rings: Sequence[Ring], holes: Sequence[Ring], width: int, height: int) -> outlines.Filled | None:
    """Fill outlines together and cut the holes; None where no pixel is left."""
    parts = [found for ring in rings if (found := outlines.fill([ring], width, height))]
    if len(parts) == 1 and not holes:
        return parts[0]
    if not parts:
        return None
    x0, y0 = min(part.x0 for part in parts), min(part.y0 for part in parts)
    x1 = max(part.x0 + part.mask.shape[1] for part in parts)
    y1 = max(part.y0 + part.mask.shape[0] for part in parts)
    whole = np.zeros((y1 - y0, x1 - x0), bool)
    cut = [found for ring in holes if (found := outlines.fill([ring], width, height))]
    for part, inside in [(part, True) for part in parts] + [(part, False) for part in cut]:
        rows, columns = np.nonzero(part.mask)
        rows, columns = rows + part.y0 - y0, columns + part.x0 - x0
        there = (rows >= 0) & (rows < y1 - y0) & (columns >= 0) & (columns < x1 - x0)
        whole[rows[there], columns[there]] = inside
    return outlines.Filled(whole, x0, y0) if whole.any() else None


def _of_mask(region: Region, mark: Mark, area: int, frame: Frame, source: Source) -> Placed:
    """Size a region of outlines or a code: one that has a drawn box beside it is measured as drawn boxes are."""
    height, width = frame.pixels.shape[:2]
    mm2 = _mm2(area, frame)
    if mark.box is None:
        return sized(region, area, mm2, source, width * height)
    assert region.box is not None
    _check_box(region.box, source)
    return Placed(replace(region, area_px=float(area), area_mm2=mm2))


def _coded(region: Region, mark: Mark, here: _OnFrame, source: Source) -> Placed:
    frame = here.frame
    assert mark.code is not None
    if here.relative:
        raise Unusable("bad_annotation", "a run-length code goes with px, not with shares")
    height, width = frame.pixels.shape[:2]
    mask = gathered(runlength.decode(mark.code, *here.size).view(np.uint8), inverted(here.to_stored), width, height)
    regions = masks.find(mask, per_component=False)
    if not regions:
        raise Unusable("box_zero_size", "the run-length code holds no pixel")
    (found,) = regions
    box = Box(found.x0, found.y0, found.x1, found.y1)
    if mark.box:
        box = clipped(_moved(mark.box, here.to_stored), frame)
    ((code, _),) = masks.codes([found], width, height)
    return _of_mask(replace(region, box=box, mask=code), mark, found.area, frame, source)


# ---- masks


def odd(found: masks.Found, said: str) -> tuple[str, str]:
    """Return why a part of a mask is no region: nothing names it, or it is made of specks alone."""
    if found.speck:
        return "speck", f"{said}: {found.area} px in parts below limits.despeckle_px"
    return "unknown_label_id", f"{said} is not in the descriptor's labels"


def gathered(labels: NDArray[Any], to_source: Affine2, width: int, height: int) -> NDArray[Any]:
    """Bring labels of the source picture onto the stored one: each pixel takes the label its centre lies in."""
    if to_source == IDENTITY and labels.shape == (height, width):
        return labels
    a, b, c, d, e, f = to_source
    turned = a == 0 and e == 0
    along_x, along_y = np.arange(width) + 0.5, np.arange(height) + 0.5
    columns, rows = (b * along_y + c, d * along_x + f) if turned else (a * along_x + c, e * along_y + f)
    columns, rows = np.floor(columns).astype(int), np.floor(rows).astype(int)
    inside_x, inside_y = (columns >= 0) & (columns < labels.shape[1]), (rows >= 0) & (rows < labels.shape[0])
    taken = labels[np.clip(rows, 0, labels.shape[0] - 1)][:, np.clip(columns, 0, labels.shape[1] - 1)]
    taken = np.where(inside_y[:, None] & inside_x[None, :], taken, 0)
    return taken.T if turned else taken


def stored(labels: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Bring labels of the source picture onto the pixels of the stored one."""
    height, width = frame.pixels.shape[:2]
    return gathered(labels, frame.to_source, width, height)


def _mask_layers(
    spec: AnnotationSpec, annotation: MaskPictures, frame: Frame, root: Path, row: int | None, as_filed: bool
) -> Iterator[Layer]:
    by_reader: dict[str | None, list[Labelled]] = {}
    for mask in annotation.files:
        found = mask_pictures.read(root / mask.file, mask, spec, row, frame.source_size, frame.turn, as_filed)
        by_reader.setdefault(mask.reader, []).extend(found)
    for reader, masked in by_reader.items():
        whole = mask_values.united(masked) if getattr(spec, "one_file", "instance") == "class" else masked
        for one in whole:
            yield Layer(stored(one.array, frame), one.names, one.unknown, reader, one.history)


def _repeated(found: Sequence[Layer]) -> int:
    """Return how many masks equal another that has a different label."""
    labels: dict[bytes, set[tuple[str, ...]]] = {}
    for layer in found:
        if layer.array.any():
            labels.setdefault(hashlib.sha256(layer.array.tobytes()).digest(), set()).add(tuple(layer.names.values()))
    return sum(len(names) - 1 for names in labels.values())


def _masked(spec: AnnotationSpec, layer: Layer, frame: Frame, source: Source) -> Iterator[Placed]:
    """Yield the regions of one mask."""
    height, width = frame.pixels.shape[:2]
    per_component = getattr(spec, "boxes", "per_class") == "per_component"
    for found in masks.find(layer.array, per_component, source.descriptor.limits.despeckle_px):
        raw = layer.names.get(found.value)
        said = raw or layer.unknown.get(found.value, str(found.value))
        region = source.region(spec, said, reader=layer.reader)
        if region is None:
            continue
        if raw is None or found.speck:
            yield Placed(region, odd(found, said))
            continue
        box = Box(found.x0, found.y0, found.x1, found.y1)
        ((code, _),) = masks.codes([found], width, height)
        region = replace(region, box=box, mask=code, component=found.component)
        fits = sized(region, found.area, _mm2(found.area, frame), source, width * height)
        yield fits._replace(remark="specks" if found.specks else None)
