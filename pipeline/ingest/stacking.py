"""From slices to a volume in LPS: decoded into one array, placed; what is uneven is kept as it lies, and marked.

Distances come from ImagePositionPatient alone: thickness, spacing and tilt of a header are nominal (dcm2niix issue
253), and a reader that believes them puts every slice behind a missing one in the wrong place.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest.dicom import Slice
from pipeline.ingest.dicom_pixels import frames, intensities, is_padding, narrow
from pipeline.ingest.geometry import Matrix, Volume, to_lps
from pipeline.ingest.voxels import MAX_VOXELS

Vectors = NDArray[np.float64]

SPACING_TOLERANCE = 0.01
"""Of the distance between slices: highdicom's own default."""
ROUNDING = 0.02, 0.05
"""mm, and share of the distance: what headers with two decimals differ by without meaning it."""
OFF_GRID = 0.1
"""Voxels that a slice may lie beside the place that a regular grid gives it."""
TILT_TOLERANCE = 0.5
"""Degrees between the direction of the stack and the slices' normal."""
OBLIQUE = 15.0
"""Degrees between grid and body from which a volume is flagged."""


class Filled(NamedTuple):
    """Decoded slices."""

    array: NDArray[Any]
    """`(slice, row, column)`: int16 where it fits, else int32 or float32."""
    slices: list[Slice]
    """Those that could be decoded, without their data sets."""
    background: float | None
    """The intensity of all pixels that stand for no tissue; None: there is none."""
    left: Counter[tuple[str, str]]
    """Reason and detail to slices that could not be decoded."""


class Lattice(NamedTuple):
    """How slices follow each other."""

    step: Vectors
    """mm from one to the next on the regular grid nearest to them."""
    shifts: Vectors | None
    """`(slice, 3)`, mm from that grid to where each lies; None: they lie on it."""
    flags: tuple[str, ...]
    """`gap`, `irregular_spacing`, `gantry_tilt`."""


def normal_of(one: Slice) -> Vectors:
    """Return the direction across a slice, a unit vector."""
    return np.cross(one.row, one.column)


def fill(slices: list[Slice]) -> Filled:
    """Decode slices of one grid into one array; each data set is let go of as soon as it is read.

    Args:
        slices: Emptied of their data sets.

    Raises:
        Unusable: `too_large`.
    """
    shape = (len(slices), *slices[0].size)
    if np.prod(shape, dtype=float) > MAX_VOXELS:
        raise Unusable("too_large", f"{shape} voxels; at most {MAX_VOXELS} are read")
    array, background = np.empty(shape, np.int16), None
    done = np.zeros(len(slices), bool)
    left: Counter[tuple[str, str]] = Counter()
    for slots in _by_file(slices):
        try:
            for slot, (values, empty) in zip(slots, _decoded([slices[slot] for slot in slots]), strict=True):
                array = _wide_enough(array, values.dtype)
                array[slot], done[slot] = values, True
                if empty is not None:
                    # slopes may differ from slice to slice, and padding may be a range: one value stands for all
                    background = float(values[empty][0]) if background is None else background
                    array[slot][empty] = background
        except Unusable as error:
            left[error.reason, error.detail] += int((~done[slots]).sum())
        for slot in slots:
            slices[slot] = slices[slot]._replace(dataset=None)
    kept = [one for one, whole in zip(slices, done, strict=True) if whole]
    return Filled(array if done.all() else array[done], kept, background, left)


def _by_file(slices: Sequence[Slice]) -> list[list[int]]:
    slots: dict[Path, list[int]] = defaultdict(list)
    for slot, one in enumerate(slices):
        slots[one.path].append(slot)
    return list(slots.values())


def _decoded(slices: Sequence[Slice]) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """Yield the intensities of frames of one file, and where they show nothing."""
    dataset, size = slices[0].dataset, slices[0].size
    for index, stored in frames(dataset, slices[0].path, [one.frame for one in slices]):
        with np.errstate(over="ignore", invalid="ignore"):
            values = intensities(dataset, stored, index)
        if values.shape != size:
            raise Unusable("undecodable", f"a frame is {values.shape}; its header says {size}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise Unusable("undecodable", "intensities are not finite")
        yield narrow(values) if values.dtype.kind == "u" else values, is_padding(dataset, stored)


def _wide_enough(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array, of a wider type where it can not hold values of another."""
    if dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(np.int32) if dtype.itemsize > 2 and array.dtype == np.int16 else array


def stacked(array: NDArray[Any], slices: Sequence[Slice], flags: Sequence[str] = ()) -> Volume:
    """Make a volume of slices that are sorted along their normal.

    Args:
        array: `(slice, row, column)`.
        slices: On one grid, no two at one place.
        flags: What is known of them already.

    Raises:
        Unusable: `bad_geometry`.
    """
    first = slices[0]
    normal = normal_of(first)
    positions = np.stack([one.position for one in slices])
    found = lattice(positions, normal, float(first.spacing.min()), first.thickness)
    affine: Matrix = np.eye(4)
    # PixelSpacing is (between rows, between columns); the first index runs along a row
    affine[:3, 0], affine[:3, 1] = first.row * first.spacing[1], first.column * first.spacing[0]
    affine[:3, 2], affine[:3, 3] = found.step, positions[0]
    volume = to_lps(array.transpose(2, 1, 0), affine, flags=(*flags, *found.flags), shifts=found.shifts)
    oblique = ("oblique",) if volume.obliquity > OBLIQUE else ()
    return replace(volume, stack=volume.stored_axes.index(2), flags=(*volume.flags, *oblique))


def lattice(positions: Vectors, normal: Vectors, pixel: float, thickness: float) -> Lattice:
    """Classify a stack: regular, with gaps, irregular, tilted.

    Args:
        positions: `(slice, 3)`, mm, ascending along the normal.
        normal: Unit vector across the slices.
        pixel: Shorter side of a pixel, mm.
        thickness: mm, for a single slice.
    """
    if len(positions) == 1:
        return Lattice(normal * thickness, None, ())
    from_first = positions - positions[0]
    along = from_first @ normal
    unit, spacing_flag = _unit(np.diff(along))
    lateral = from_first - along[:, None] * normal
    lean = lateral[-1] / along[-1]
    bent = np.linalg.norm(lateral - along[:, None] * lean, axis=1).max() > OFF_GRID * pixel
    tilt = float(np.degrees(np.arctan(np.linalg.norm(lean))))
    drift = np.abs(along - np.arange(len(along)) * along[-1] / (len(along) - 1)).max()
    if bent or (spacing_flag is None and drift > OFF_GRID * unit):
        spacing_flag = "irregular_spacing"
    flags = tuple(flag for flag in (spacing_flag, "gantry_tilt" if tilt > TILT_TOLERANCE else None) if flag)
    if not flags:
        return Lattice(from_first[-1] / (len(positions) - 1), None, ())
    # the grid stays at right angles: what leans or jumps is in the shifts, slice by slice
    step = normal * unit
    return Lattice(step, from_first - np.arange(len(positions))[:, None] * step, flags)


def _unit(steps: Vectors) -> tuple[float, str | None]:
    """Return the distance between neighbours, mm, and what is wrong with the distances."""
    mean = float(steps.mean())
    if np.abs(steps - mean).max() <= _tolerance(mean):
        return mean, None
    ordered = np.sort(steps)
    near = np.searchsorted(ordered, ordered + _tolerance(ordered), "right") - np.arange(len(ordered))
    start = int(near.argmax())  # the most frequent, the smallest where several are
    unit = float(ordered[start : start + near[start]].mean())
    whole = np.rint(steps / unit)
    if (whole >= 1).all() and (np.abs(steps - whole * unit) <= whole * _tolerance(unit)).all():
        return unit, "gap"
    return float(np.median(steps)), "irregular_spacing"


def _tolerance(distance: Any) -> Any:
    rounding = np.minimum(ROUNDING[0], ROUNDING[1] * distance)
    return np.maximum(SPACING_TOLERANCE * distance, rounding)
