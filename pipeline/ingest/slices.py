"""Slices of a volume in radiological display, square pixels, each with its way back to voxels and to the patient."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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


_ACROSS = {"axial": 2, "coronal": 1, "sagittal": 0}
_RIGHT = {"axial": 0, "coronal": 0, "sagittal": 1}
_DOWN = {"axial": 1, "coronal": 2, "sagittal": 2}


def take(array: NDArray[Any], axis: str, index: int) -> NDArray[Any]:
    """Return the view of a slice, `(row, column)`; coronal and sagittal have the head at the top."""
    views: dict[str, Any] = {"axial": np.s_[index], "coronal": np.s_[::-1, index, :], "sagittal": np.s_[::-1, :, index]}
    view: NDArray[Any] = array[views[axis]]
    return view


def cuts(volume: Volume, axis: str, allow_oblique: float) -> Iterator[Cut]:
    """Yield the slices of a volume along one axis, in index order.

    Args:
        volume: LPS.
        axis: axial, coronal or sagittal.
        allow_oblique: Degrees up to which the plane keeps its name.
    """
    across, right, down = _ACROSS[axis], _RIGHT[axis], _DOWN[axis]
    size = volume.array.shape[::-1]
    spacing = volume.spacing
    side = min(spacing[right], spacing[down])
    square = abs(spacing[right] - spacing[down]) <= 0.01 * side
    width = size[right] if square else round(size[right] * spacing[right] / side)
    height = size[down] if square else round(size[down] * spacing[down] / side)
    scale_x, scale_y = width / size[right], height / size[down]
    up = axis != "axial"
    known = volume.geometry != "unknown"
    to_source = _to_source(volume, right, down, up, scale_x, scale_y)
    for index in range(size[across]):
        yield Cut(
            _plane(volume, axis, allow_oblique),
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
        )


def _plane(volume: Volume, axis: str, allow_oblique: float) -> Plane:
    if volume.geometry == "unknown":
        return "unknown"
    return "oblique" if volume.obliquity > allow_oblique else axis  # type: ignore[return-value]


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
    rows = [float(value) for axis in range(3) for value in (step_x[axis], step_y[axis], origin[axis])]
    return tuple(rows)  # type: ignore[return-value]
