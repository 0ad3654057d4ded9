"""Findings given by centre and size in mm, painted on a volume: each as a small block of its own.

A block, and not a volume, for each: a scan of LUNA16 has up to a dozen nodules, one of candidates a thousand.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.geometry import Volume
from sources.annotation import Sphere

FARTHEST = 1e6
"""mm; beyond it a coordinate is no place in a body."""
LARGEST = 1000.0
"""mm; no finding of a body has a larger diameter."""

Floats = NDArray[np.float64]


class Painted(NamedTuple):
    """A sphere in voxels, or why it has none."""

    sphere: Sphere
    mask: NDArray[np.bool_]
    """`(z, y, x)`, within its block."""
    z0: int
    y0: int
    x0: int
    """Where the block lies in the volume."""
    problem: tuple[str, str] | None = None
    """Reason and detail; the mask is empty then."""


def paint(spheres: Sequence[Sphere], volume: Volume) -> Iterator[Painted]:
    """Yield the voxels of each sphere: those whose centre lies within its radius, at least the one nearest to its own.

    What lies beside the volume, is no number or needs mm that the volume has not is a problem of that sphere alone:
    `mask_outside`, `bad_annotation`, `no_geometry`.
    """
    for sphere in spheres:
        problem = _problem(sphere, volume)
        found = _painted(sphere, volume) if problem is None else None
        yield found or Painted(sphere, np.zeros((0, 0, 0), bool), 0, 0, 0, problem or _outside(sphere))


def _problem(sphere: Sphere, volume: Volume) -> tuple[str, str] | None:
    if volume.geometry != "known":
        return "no_geometry", "the volume has no place in mm, and a sphere is given in mm"
    if not all(abs(value) < FARTHEST for value in sphere.center):
        return "bad_annotation", "its center is not three numbers of mm"
    if not 0 < sphere.diameter <= LARGEST:
        return "bad_annotation", f"its diameter is {sphere.diameter:g} mm; it should be above 0 and up to {LARGEST:g}"
    return None


def _outside(sphere: Sphere) -> tuple[str, str]:
    place = ", ".join(f"{value:.1f}" for value in sphere.center)
    return "mask_outside", f"no voxel lies within {sphere.diameter / 2:.1f} mm of ({place}) LPS mm"


def _painted(sphere: Sphere, volume: Volume) -> Painted | None:
    affine, stack = volume.affine[:3, :3], volume.stack
    turn = np.linalg.inv(affine)
    size = np.array(volume.array.shape[::-1])
    center = turn @ (np.array(sphere.center) - volume.affine[:3, 3])
    # where each slice sees it: those of an uneven stack have places of their own
    seen = np.tile(center, (size[stack], 1))
    if volume.shifts is not None:
        seen -= volume.shifts @ turn.T
    reach = np.linalg.norm(turn, axis=1) * sphere.diameter / 2 + 1e-6
    planes = np.flatnonzero(np.abs(seen[:, stack] - np.arange(size[stack])) <= reach[stack])
    if len(planes):
        low = np.ceil(seen[planes].min(axis=0) - reach)
        high = np.floor(seen[planes].max(axis=0) + reach) + 1
        low[stack], high[stack] = planes[0], planes[-1] + 1
        begin, end = (np.clip(edge, 0, size).astype(np.int64) for edge in (low, high))
        mask = _within(seen, affine, sphere.diameter / 2, begin, end, stack)
        if mask.any():
            return Painted(sphere, mask, int(begin[2]), int(begin[1]), int(begin[0]))
    return _nearest(sphere, seen, size, stack)


def _within(
    seen: Floats, affine: Floats, radius: float, begin: NDArray[np.int64], end: NDArray[np.int64], stack: int
) -> NDArray[np.bool_]:
    """Return which voxels of a block, `(z, y, x)`, lie within the radius of where their slice sees the centre."""
    mask = np.zeros(np.maximum(end - begin, 0)[::-1], bool)
    along = [np.arange(begin[axis], end[axis]) for axis in range(3)]
    for z, slab in zip(along[2], mask, strict=True):
        grid = np.stack(np.broadcast_arrays(along[0][None, :], along[1][:, None], z), axis=-1)
        off = (grid - seen[grid[..., stack]]) @ affine.T
        slab[:] = (off * off).sum(axis=-1) <= radius * radius * (1 + 1e-9)  # a tie is in on every side
    return mask


def _nearest(sphere: Sphere, seen: Floats, size: NDArray[np.int64], stack: int) -> Painted | None:
    """Return the voxel that holds the centre of a sphere between voxel centres."""
    plane = int(np.abs(seen[:, stack] - np.arange(len(seen))).argmin())
    index = seen[plane]
    voxel = np.floor(index + 0.5)
    if voxel[stack] != plane or (voxel < 0).any() or (voxel >= size).any():
        return None
    x, y, z = voxel.astype(np.int64).tolist()
    return Painted(sphere, np.ones((1, 1, 1), bool), z, y, x)
