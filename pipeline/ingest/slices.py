"""Slices of a volume in radiological display, square pixels, each with its way back to voxels and to the patient."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Volume
from pipeline.records import Affine2, Plane, World


class Cut(NamedTuple):
    """Where a slice lies; arrays are taken from it with `take`."""

    plane: Plane
    """As it is named in the record: `unknown` without geometry, `oblique` beyond the allowed angle."""
    axis: str
    """The cut itself: axial, coronal, sagittal."""
    number: int
    """Index along the LPS axis across the plane."""
    width: int
    height: int
    """Of the stored picture, px."""
    scale_x: float
    scale_y: float
    """Stored px per voxel."""
    spacing_mm: float | None
    voxel_mm2: float | None
    """In-plane area of a voxel."""
    to_source: Affine2
    to_world: World | None
    flags: tuple[str, ...] = ()
    """`reformatted`: not the plane of acquisition, and its voxels are long: it shows less than its pixels promise."""


MAX_SIDE_PX = 30_000
"""Longer sides of a slice, once its pixels are square, come from a damaged header."""
LONG_VOXEL = 3.0
"""Longer to shorter side of a voxel within a slice from which on a reformatted slice is flagged."""
_ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}
_RIGHT = {"axial": 0, "coronal": 0, "sagittal": 1}
_DOWN = {"axial": 1, "coronal": 2, "sagittal": 2}


def stacked(array: NDArray[Any], axis: str) -> NDArray[Any]:
    """Return a view of all slices, `(slice, row, column)`; coronal and sagittal have the head on top."""
    if axis == "axial":
        return array
    view: NDArray[Any] = array[::-1].transpose((1, 0, 2) if axis == "coronal" else (2, 0, 1))
    return view


def take(array: NDArray[Any], axis: str, index: int) -> NDArray[Any]:
    """Return the view of a slice, `(row, column)`."""
    view: NDArray[Any] = stacked(array, axis)[index]
    return view


def acquisition(volume: Volume) -> str:
    """Return the plane in which a volume was taken: across its voxels' longest side, axial where none stands out."""
    if volume.geometry == "unknown":
        return "axial"
    spacing = volume.spacing
    longest = volume.stack if volume.shifts is not None else int(np.argmax(spacing))
    if volume.shifts is None and spacing[longest] <= 1.2 * sorted(spacing)[1]:
        return "axial"
    return next(axis for axis, across in _ACROSS.items() if across == longest)


def planes_of(volume: Volume, wanted: Iterable[str]) -> tuple[str, ...]:
    """Return the planes that a descriptor wants of a volume, `acquisition` by its name."""
    return tuple(dict.fromkeys(acquisition(volume) if axis == "acquisition" else axis for axis in wanted))


def cuts(volume: Volume, axis: str, allow_oblique: float) -> Iterator[Cut]:
    """Return the slices of a volume along one axis, in index order.

    Args:
        volume: LPS.
        axis: axial, coronal or sagittal.
        allow_oblique: Degrees between a slice's normal and the patient's axis up to which the plane keeps its name.

    Raises:
        Unusable: `uneven_stack`: the slices lie at uneven distances, and this cut would run across them; `too_large`.
    """
    if volume.shifts is not None and _ACROSS[axis] != volume.stack:
        whole = next(name for name, across in _ACROSS.items() if across == volume.stack)
        raise Unusable("uneven_stack", f"its slices lie at uneven distances; only {whole} ones are true")
    width, height = _size(volume, _RIGHT[axis], _DOWN[axis])
    if max(width, height) > MAX_SIDE_PX:
        raise Unusable("too_large", f"a slice of {width}x{height} square px; at most {MAX_SIDE_PX} a side are made")
    return _cuts(volume, axis, allow_oblique, width, height)


def _size(volume: Volume, right: int, down: int) -> tuple[int, int]:
    """Return width and height of a slice with square pixels; none are lost."""
    size, spacing = volume.array.shape[::-1], volume.spacing
    side = min(spacing[right], spacing[down])
    if abs(spacing[right] - spacing[down]) <= 0.01 * side:
        return size[right], size[down]
    return round(size[right] * spacing[right] / side), round(size[down] * spacing[down] / side)


def _cuts(volume: Volume, axis: str, allow_oblique: float, width: int, height: int) -> Iterator[Cut]:
    across, right, down = _ACROSS[axis], _RIGHT[axis], _DOWN[axis]
    size = volume.array.shape[::-1]
    spacing = volume.spacing
    scale_x, scale_y = width / size[right], height / size[down]
    up = axis != "axial"
    known = volume.geometry != "unknown"
    to_source = _to_source(volume, right, down, up, scale_x, scale_y)
    plane = _plane(volume, axis, allow_oblique)
    long = max(spacing[right], spacing[down]) > LONG_VOXEL * min(spacing[right], spacing[down])
    reformatted = long and axis != acquisition(volume)
    for index in range(size[across]):
        yield Cut(
            plane,
            axis,
            index,
            width,
            height,
            scale_x,
            scale_y,
            spacing[right] / scale_x if known else None,
            spacing[right] * spacing[down] if known else None,
            to_source,
            _to_world(volume, (across, right, down), up, index, scale_x, scale_y) if known else None,
            ("reformatted",) if known and reformatted else (),
        )


def _plane(volume: Volume, axis: str, allow_oblique: float) -> Plane:
    """Name a plane by its normal: a head that is turned on the table still has axial slices."""
    if volume.geometry == "unknown":
        return "unknown"
    columns = volume.affine[:3, :3]
    normal = np.cross(columns[:, _RIGHT[axis]], columns[:, _DOWN[axis]])
    cosine = abs(normal[_ACROSS[axis]]) / np.linalg.norm(normal)
    tilt = np.degrees(np.arccos(min(1.0, float(cosine))))
    return "oblique" if tilt > allow_oblique else axis  # type: ignore[return-value]


def _to_source(volume: Volume, right: int, down: int, up: bool, scale_x: float, scale_y: float) -> Affine2:
    """Stored px (edges) to edges along the stored array's own two axes, in the order right, down."""
    size = volume.array.shape[::-1]
    along = 1 / scale_x, 1 / scale_y
    back_x, back_y = volume.flipped[right], volume.flipped[down] != up
    return (
        -along[0] if back_x else along[0],
        0.0,
        float(size[right]) if back_x else 0.0,
        0.0,
        -along[1] if back_y else along[1],
        float(size[down]) if back_y else 0.0,
    )


def _to_world(
    volume: Volume, axes: tuple[int, int, int], up: bool, index: int, scale_x: float, scale_y: float
) -> World:
    """Stored px (edges) to LPS mm: a voxel's centre is half a voxel from its edge."""
    across, right, down = axes
    columns = volume.affine[:3, :3]
    step_x = columns[:, right] / scale_x
    step_y = columns[:, down] / scale_y * (-1 if up else 1)
    first = np.zeros(3)
    first[across] = index
    first[right] = -0.5
    first[down] = volume.array.shape[::-1][down] - 0.5 if up else -0.5
    origin = columns @ first + volume.affine[:3, 3]
    if volume.shifts is not None:
        origin = origin + volume.shifts[index]
    rows = [float(value) for axis in range(3) for value in (step_x[axis], step_y[axis], origin[axis])]
    return tuple(rows)  # type: ignore[return-value]
