"""DICOM SEG: segments laid over a volume or a picture, frame by frame, where the file says they lie in mm."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix, Volume
from pipeline.ingest.seg_frames import Pixels, Plane, Seg, Vector, opened, pixels_of

MAX_VOXELS = 500_000_000
"""Of a segment that is resampled, on its own grid."""
TOLERANCE = 0.1
"""Voxels that a frame's corner may lie off the volume's grid: that of two grids which are the same."""
HINT = "; set geometry.pairing: resample if they cover one body"
LEAST_INSIDE = 0.95
"""Share of a segment's voxels that must lie in the volume; some published SEGs lie beside their image."""


def read(
    path: Path, volume: Volume, sops: Sequence[str] = (), pairing: str = "same_grid", threshold: float = 0.5
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield raw label and binary mask `(z, y, x)` on the volume's grid of each segment, by segment number.

    Args:
        path: The SEG.
        volume: What it is laid over.
        sops: SOPInstanceUID of the volume's slices along `volume.stack`: checked against what the frames refer to.
        pairing: `resample` takes the nearest pixel in mm where the grids differ, and asks no reference; any other
            wants one grid.
        threshold: Share from which a pixel of a fractional segment belongs to it.

    Raises:
        Unusable: `bad_annotation`, `no_geometry`, `geometry_mismatch`, `mask_outside`, `too_large`, `truncated`,
            `missing_mask`, and what `dicom.read_file` raises.
    """
    seg = opened(path, threshold)
    if volume.geometry != "known":
        raise Unusable("no_geometry", "the volume has no place in mm, and a SEG is laid over it in mm")
    foreign, coarser = _foreign(seg, sops), _coarser(seg, volume)
    if coarser and pairing != "resample":
        raise Unusable("geometry_mismatch", coarser + foreign + HINT)
    for numbers, planes in seg.groups:
        if pairing != "resample":
            laid = _laid(seg, planes, volume, sops, foreign)
        else:
            laid = _sampled(seg, planes, volume) if coarser else _by_mm(seg, planes, volume, foreign)
        for number in numbers:
            value = number if seg.label_map else 1
            within, whole = int(laid.inside[value]), int(laid.whole[value])
            if within < LEAST_INSIDE * whole:
                said = f"only {within} of segment {number}'s {whole} voxels lie in the volume"
                raise Unusable("mask_outside", said + foreign)
            yield seg.names[number], (laid.array == number).view(np.uint8) if seg.label_map else laid.array


def read_planar(path: Path, width: int, height: int, threshold: float = 0.5) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield raw label and mask `(y, x)` of each segment of a SEG that was drawn on one flat picture or on a slide.

    Args:
        path: The SEG.
        width: Of the picture, px.
        height: Of the picture, px.
        threshold: As in `read`.

    Raises:
        Unusable: `size_mismatch`, `too_large`, and as `read`.
    """
    seg = opened(path, threshold)
    size = seg.tiled or (seg.columns, seg.rows)
    if size != (width, height):
        raise Unusable("size_mismatch", f"picture is {width}x{height} px, its SEG {size[0]}x{size[1]}")
    if seg.tiled is None:
        _check_one_place(seg.planes)
    for numbers, planes in seg.groups:
        whole = np.zeros((height, width), np.uint16)
        for plane in planes:
            (left, top), pixels = plane.at, pixels_of(seg, plane)
            to, part = _clipped((top, left), pixels.shape, whole.shape)
            np.maximum(whole[to], pixels[part], out=whole[to])
        for number in numbers:
            yield seg.names[number], whole == (number if seg.label_map else 1)


def _check_one_place(planes: Sequence[Plane]) -> None:
    places = {tuple(np.round(plane.corner, 3).tolist()) for plane in planes if plane.corner is not None}
    frames = {plane.source_frames for plane in planes if plane.source_frames}
    images = {plane.sources for plane in planes if plane.sources}
    count = max(len(places), len(frames), len(images))
    if count > 1:
        raise Unusable("bad_annotation", f"the SEG was drawn on {count} pictures, and the case has one")


def _foreign(seg: Seg, sops: Sequence[str]) -> str:
    """Say so where a SEG was drawn on other images than those of the volume."""
    named = {source for plane in seg.planes for source in plane.sources}
    if not sops or not named or named & set(sops):
        return ""
    return f"; none of the {len(named)} images that it was drawn on is in the series"


# ---- on the volume's grid


def _coarser(seg: Seg, volume: Volume) -> str:
    """Say so where frames lie farther apart than the slices: each would fill one slice of several that it stands for.

    Frames without pixels are left out, so that a gap between two of them alone proves nothing.
    """
    said = seg.planes[0].between if seg.planes else 0.0
    corners = [plane.corner for plane in seg.planes if plane.corner is not None]
    if volume.shifts is not None or not said or len(corners) < len(seg.planes):
        return ""
    normal = _normal(seg.planes[0])
    slices = float(np.abs(normal @ volume.affine[:3, :3]).max())
    least = _least_gap(np.stack(corners) @ normal)
    times = 1.0 if least == np.inf else least / said
    if said > 1.5 * slices and times > 0.9 and abs(times - round(times)) <= 0.01:
        return f"frames lie {said:.2f} mm apart, the volume's slices {slices:.2f}"
    return ""


def _normal(plane: Plane) -> Vector:
    across: Vector = np.cross(plane.right, plane.down)
    return across / np.linalg.norm(across)


def _least_gap(heights: Vector) -> float:
    """Return the least mm between two planes, infinite where there is one."""
    return float(np.diff(np.unique(np.round(heights, 3))).min(initial=np.inf))


class _Laid(NamedTuple):
    """Segments on the volume's grid."""

    array: Pixels
    """`(z, y, x)`."""
    inside: NDArray[np.int64]
    """By value: pixels of the frames that lie in the volume."""
    whole: NDArray[np.int64]
    """By value: all of them."""


class _Spot(NamedTuple):
    """Where a frame lies on the volume's grid."""

    stack: int
    """LPS axis across it."""
    along: int
    below: int
    """LPS axes that its columns and its rows follow each other along."""
    signs: tuple[int, int]
    """-1: they do so against the axis."""
    first: NDArray[np.int64]
    """Index x, y, z of its first pixel."""


def _empty(seg: Seg, volume: Volume) -> _Laid:
    values = 65536 if seg.label_map else 2
    dtype = np.uint16 if seg.label_map and max(seg.names, default=0) > 255 else np.uint8
    return _Laid(np.zeros(volume.array.shape, dtype), np.zeros(values, np.int64), np.zeros(values, np.int64))


def _laid(seg: Seg, planes: Sequence[Plane], volume: Volume, sops: Sequence[str], foreign: str) -> _Laid:
    """Lay each frame on the slice whose plane it lies in."""
    laid, astray = _empty(seg, volume), 0
    for plane in planes:
        pixels = pixels_of(seg, plane)
        if not pixels.any():
            continue
        spot = _spot(plane, volume, seg.rows, seg.columns)
        if isinstance(spot, str):
            raise Unusable("geometry_mismatch", spot + foreign + ("" if volume.shifts is not None else HINT))
        _paste(laid, pixels, spot)
        astray += _is_astray(plane, spot, volume, sops)
    if astray:
        said = f"{astray} frames lie on another slice than the one that they refer to"
        raise Unusable("geometry_mismatch", f"{said}; set geometry.pairing: resample to go by mm alone")
    return laid


def _spot(plane: Plane, volume: Volume, rows: int, columns: int) -> _Spot | str:
    """Find a frame's place, or say why it has none."""
    corner = _placed(plane)
    turn = np.linalg.inv(volume.affine)
    right, down = turn[:3, :3] @ plane.right, turn[:3, :3] @ plane.down
    along, below = int(np.abs(right).argmax()), int(np.abs(down).argmax())
    stack = 3 - along - below
    first = turn[:3, :3] @ corner + turn[:3, 3]
    if along == below or (volume.shifts is not None and stack != volume.stack):
        return "frames run across the volume's slices"
    if volume.shifts is not None:
        seen = first - volume.shifts @ turn[:3, :3].T  # each slice of an uneven stack has a place of its own
        nearest = int(np.abs(seen[:, stack] - np.arange(len(seen))).argmin())
        first = seen[nearest]
        if abs(first[stack] - nearest) > TOLERANCE:
            first = np.rint(first)
            first[stack] = -1  # between two slices is outside
    signs = 1 if right[along] > 0 else -1, 1 if down[below] > 0 else -1
    steps = np.array([(i, j) for i in (0, columns - 1) for j in (0, rows - 1)], float)
    corners, on_grid = first + steps @ np.stack([right, down]), np.tile(np.rint(first), (4, 1))
    on_grid[:, [along, below]] += steps * signs
    off = float(np.abs(corners - on_grid).max())
    if not off <= TOLERANCE:
        return f"frames of {columns}x{rows} px lie up to {off:.2g} voxels off the volume's grid"
    return _Spot(stack, along, below, signs, np.rint(first).astype(np.int64))


def _placed(plane: Plane) -> Vector:
    if plane.corner is None:
        raise Unusable("no_geometry", "the SEG was drawn on a flat picture: its frames have no place in mm")
    return plane.corner


def _paste(laid: _Laid, pixels: Pixels, spot: _Spot) -> None:
    laid.whole[:] += _counts(pixels, len(laid.whole))
    index, of_slices = int(spot.first[spot.stack]), np.moveaxis(laid.array, 2 - spot.stack, 0)
    if not 0 <= index < len(of_slices):
        return
    rows, columns = pixels.shape
    start = int(spot.first[spot.below]), int(spot.first[spot.along])
    if spot.signs[1] < 0:
        pixels, start = pixels[::-1], (start[0] - rows + 1, start[1])
    if spot.signs[0] < 0:
        pixels, start = pixels[:, ::-1], (start[0], start[1] - columns + 1)
    if spot.below < spot.along:  # in an array the later axis stands first: z, y, x
        pixels, start = pixels.T, start[::-1]
    to, part = _clipped(start, pixels.shape, of_slices[index].shape)
    of_slice, inside = of_slices[index][to], pixels[part]
    np.maximum(of_slice, inside, out=of_slice, casting="unsafe")
    laid.inside[:] += _counts(inside, len(laid.inside))


def _counts(pixels: Pixels, values: int) -> NDArray[np.int64]:
    """Count the pixels of each value above 0."""
    if values == 2:  # ten times as fast
        return np.array([0, np.count_nonzero(pixels)], np.int64)
    return np.bincount(pixels.reshape(-1), minlength=values)


def _clipped(start: Sequence[int], part: Sequence[int], whole: Sequence[int]) -> tuple[Any, Any]:
    """Return where a part lies in the whole, and what of the part lies there, as index expressions."""
    begins = [max(0, s) for s in start]
    ends = [max(b, min(w, s + p)) for b, s, p, w in zip(begins, start, part, whole, strict=True)]
    to = tuple(slice(b, e) for b, e in zip(begins, ends, strict=True))
    return to, tuple(slice(b - s, e - s) for b, e, s in zip(begins, ends, start, strict=True))


def _is_astray(plane: Plane, spot: _Spot, volume: Volume, sops: Sequence[str]) -> bool:
    """Does the frame refer to images of this series, and not to the one that it lies on?"""
    index = int(spot.first[spot.stack])
    if spot.stack != volume.stack or not 0 <= index < len(sops):
        return False
    return sops[index] not in plane.sources and not plane.sources.isdisjoint(sops)


# ---- on another grid


def _by_mm(seg: Seg, planes: Sequence[Plane], volume: Volume, foreign: str) -> _Laid:
    """Lay frames on their slices where they lie on some, else give each voxel the nearest pixel of their stack."""
    try:
        return _laid(seg, planes, volume, (), foreign)
    except Unusable as error:
        if error.reason != "geometry_mismatch" or volume.shifts is not None:
            raise
    return _sampled(seg, planes, volume)


def _sampled(seg: Seg, planes: Sequence[Plane], volume: Volume) -> _Laid:
    laid, (affine, steps) = _empty(seg, volume), _stack(seg.planes)
    frames: dict[int, Pixels] = {}
    for plane in planes:
        step, pixels = steps[plane.number], pixels_of(seg, plane)
        if pixels.any():
            frames[step] = np.maximum(frames[step], pixels) if step in frames else pixels
    if not frames:
        return laid
    low, count = min(frames), max(frames) - min(frames) + 1
    if count * seg.rows * seg.columns > MAX_VOXELS:
        raise Unusable("too_large", f"a segment of {count} frames of {seg.columns}x{seg.rows} px; {MAX_VOXELS} voxels")
    affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, low], [0, 0, 0, 1]], float)
    block = np.zeros((count, seg.rows, seg.columns), laid.array.dtype)
    for step, pixels in frames.items():
        block[step - low] = pixels
        _count(laid, pixels, np.linalg.inv(volume.affine) @ affine, step - low)
    _gather(laid.array, block, np.linalg.inv(affine) @ volume.affine)
    return laid


def _stack(planes: Sequence[Plane]) -> tuple[Matrix, list[int]]:
    """Return the regular grid that all frames of a SEG lie on (column, row, step to mm), and the step of each frame."""
    corners, sides = np.stack([_placed(p) for p in planes]), np.stack([np.stack([p.right, p.down]) for p in planes])
    right, down = sides[0]
    if np.abs(sides - sides[0]).max() > 1e-3 * np.linalg.norm(right):
        raise Unusable("geometry_mismatch", "the SEG's frames are not parallel, or not of one spacing")
    normal = _normal(planes[0])
    heights = corners @ normal
    heights -= heights.min()
    origin, end = corners[heights.argmin()], corners[heights.argmax()]
    # frames without pixels are left out: the least gap may be two steps, and then only the header knows
    for step in (planes[0].between, _least_gap(heights), planes[0].thick, float(np.linalg.norm(right))):
        if not 1e-3 < step < np.inf:
            continue
        steps = np.rint(heights / step)
        vector = (end - origin) / steps.max() if steps.max() else normal * step
        off = np.abs(corners - origin - steps[:, None] * vector).max()
        if off <= TOLERANCE * step and abs(vector @ normal - step) <= 0.01 * step:
            affine = np.eye(4)
            affine[:3] = np.stack([right, down, vector, origin], axis=1)
            return affine, steps.astype(np.int64).tolist()
    raise Unusable("geometry_mismatch", "the SEG's frames are no regular stack, and can not be resampled")


def _count(laid: _Laid, pixels: Pixels, to_volume: Matrix, step: int) -> None:
    """Count which of a frame's pixels lie in the volume."""
    rows, columns = np.nonzero(pixels)
    at = np.stack([columns, rows, np.full(len(rows), step), np.ones(len(rows))])
    index, values = np.floor(to_volume[:3] @ at + 0.5), pixels[rows, columns]
    size = np.array(laid.array.shape[::-1])[:, None]
    inside = ((index >= 0) & (index < size)).all(axis=0)
    laid.whole[:] += _counts(values, len(laid.whole))
    laid.inside[:] += _counts(values[inside], len(laid.inside))


def _gather(out: Pixels, block: Pixels, to_block: Matrix) -> None:
    """Give each voxel of the volume the value of the block's nearest one, slice by slice."""
    ends = np.array(
        [(x, y, z, 1) for x in (-1, block.shape[2]) for y in (-1, block.shape[1]) for z in (-1, len(block))]
    )
    corners = np.linalg.inv(to_block)[:3] @ ends.T
    size = np.array(out.shape[::-1])
    begin = np.clip(np.floor(corners.min(axis=1)), 0, size).astype(int)
    end = np.clip(np.ceil(corners.max(axis=1)) + 1, begin, size).astype(int)
    along_x = np.arange(begin[0], end[0])[None, :] * to_block[:3, 0, None, None]
    along_y = np.arange(begin[1], end[1])[:, None] * to_block[:3, 1, None, None]
    limits = np.array(block.shape[::-1])[:, None, None]
    for z in range(begin[2], end[2]):
        index = np.floor(along_x + along_y + (to_block[:3, 2] * z + to_block[:3, 3] + 0.5)[:, None, None]).astype(int)
        inside = ((index >= 0) & (index < limits)).all(axis=0)
        i, j, k = np.clip(index, 0, limits - 1)
        out[z, begin[1] : end[1], begin[0] : end[0]] = np.where(inside, block[k, j, i], 0)
