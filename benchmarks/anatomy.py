"""A CT-like volume with its label map, and its files: what speed is measured on.

Warped ellipsoids for organs, vessels, ribs and vertebrae, edges blurred as by partial volume, smooth noise. gzip
shrinks it by 1.9, a real CT by 2.2; of 24 structures 7 are on a slice, of 104 there are 16.
"""

import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

SPACING = (0.78, 0.78, 1.5)
"""mm along x, y, z."""
LPS = "LPS"
REACH = 16
"""px that a warp may move an edge."""


class Ct(NamedTuple):
    """A volume and its label map, both `(z, y, x)` in LPS."""

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]


class Ellipsoid(NamedTuple):
    """A structure; z in 300ths of the volume, y and x in 512ths of the slice."""

    center: tuple[float, float, float]
    radius: tuple[float, float, float]
    hu: float


ORGANS = (
    Ellipsoid((228, 262, 148), (84, 104, 70), -850),  # lungs
    Ellipsoid((228, 262, 364), (84, 104, 70), -850),
    Ellipsoid((112, 242, 172), (48, 76, 84), 105),  # liver
    Ellipsoid((114, 318, 384), (30, 40, 32), 120),  # spleen
    Ellipsoid((76, 332, 176), (32, 26, 28), 160),  # kidneys
    Ellipsoid((79, 332, 338), (32, 26, 28), 160),
    Ellipsoid((120, 216, 318), (28, 40, 48), 30),  # stomach
    Ellipsoid((214, 226, 284), (38, 54, 60), 140),  # heart
    Ellipsoid((92, 256, 254), (9, 18, 70), 90),  # pancreas
    Ellipsoid((36, 202, 256), (28, 36, 42), 8),  # bladder
    Ellipsoid((140, 300, 276), (170, 13, 13), 180),  # aorta
    Ellipsoid((120, 291, 236), (150, 12, 12), 130),  # vena cava
)


def structures(count: int) -> list[Ellipsoid]:
    """Return so many structures; beyond 60 a skeleton and muscles are among them."""
    found = list(ORGANS)
    if count > 60:
        found += [Ellipsoid((6 + 12.3 * n, 345, 256), (6.5, 24, 27), 320) for n in range(24)]
        sides = [1 if n % 2 else -1 for n in range(24)]
        found += [Ellipsoid((120 + 14 * (n // 2), 262, 256 + 165 * sides[n]), (7, 80, 9), 350) for n in range(24)]
        found += [Ellipsoid((40 + 60 * (n // 2), 380, 256 + 60 * sides[n]), (55, 26, 45), 55) for n in range(10)]
    rng = np.random.default_rng(count)
    while len(found) < count:
        z, y, x = rng.uniform((5, 170, 100), (295, 370, 410)).tolist()
        high, deep, wide = rng.uniform((8, 6, 6), (45, 26, 26)).tolist()
        found.append(Ellipsoid((z, y, x), (high, deep, wide), float(rng.uniform(-20, 200))))
    return found[:count]


def build(count: int, slices: int, side: int = 512) -> Ct:
    """Paint a volume of so many structures, slice by slice."""
    scale = np.array([slices / 300, side / 512, side / 512])
    placed = [(np.array(one.center) * scale, np.array(one.radius) * scale, one.hu) for one in structures(count)]
    rng = np.random.default_rng(count)
    warps = rng.standard_normal((3, 6, 6, 6)).astype(np.float32) * 10
    hu, labels = np.empty((slices, side, side), np.int16), np.zeros((slices, side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    middle = 270 * scale[1], 256 * scale[2]
    for z in range(slices):
        deep, down, across = (_warp(field, z / max(1, slices - 1), side) for field in warps)
        at = z + deep * scale[0], rows + down, columns + across
        inner, body = (_oval(at[1], at[2], middle, (y * scale[1], x * scale[2])) for y, x in ((140, 198), (160, 220)))
        plane = np.where(inner, np.float32(45), np.where(body, np.float32(-105), np.float32(-1000)))
        for number, (center, radius, value) in enumerate(placed, 1):
            box = _box(center, radius, side)
            if abs(z - center[0]) < radius[0] + REACH * 2 * scale[0]:
                terms = (((axis[box] - c) / r) ** 2 for axis, c, r in zip(at, center, radius, strict=True))
                inside = (sum(terms) < 1) & inner[box]
                labels[z][box][inside], plane[box][inside] = number, value
        hu[z] = _noisy(plane, rng)
    return Ct(hu, labels)


def _warp(field: NDArray[np.float32], share: float, side: int) -> NDArray[np.float32]:
    """Return a slice of a coarse field, made smooth."""
    at = share * (len(field) - 1)
    below = min(int(at), len(field) - 2)
    plane = field[below] * (below + 1 - at) + field[below + 1] * (at - below)
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def _oval(rows: Any, columns: Any, middle: tuple[float, float], radius: tuple[float, float]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = ((rows - middle[0]) / radius[0]) ** 2 + ((columns - middle[1]) / radius[1]) ** 2 < 1
    return found


def _box(center: NDArray[Any], radius: NDArray[Any], side: int) -> tuple[slice, slice]:
    low, high = center - radius - 2 * REACH, center + radius + 2 * REACH
    y, x = (slice(max(0, int(low[n])), min(side, int(high[n]))) for n in (1, 2))
    return y, x


def _noisy(plane: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
    air = plane < -900
    plane = np.asarray(cv2.GaussianBlur(plane, (0, 0), 0.8), np.float32)
    noise = np.asarray(cv2.GaussianBlur(rng.standard_normal(plane.shape, np.float32), (0, 0), 0.75), np.float32)
    noise *= np.where(air, np.float32(11), np.float32(18)) / noise.std()
    hu: NDArray[np.int16] = np.clip(np.rint(plane + noise), -1024, 3071).astype(np.int16)
    return hu


def ping_pong(slices: int, wanted: int) -> list[int]:
    """Return slice numbers there and back until there are enough of them.

    >>> ping_pong(3, 8)
    [0, 1, 2, 2, 1, 0, 0, 1]
    """
    there = list(range(slices))
    return ((there + there[::-1]) * (wanted // (2 * slices) + 1))[:wanted]


# ---- files


def save(
    path: Path,
    array: NDArray[Any],
    codes: str = LPS,
    level: int = 6,
    order: Sequence[int] | None = None,
    spacing: tuple[float, float, float] = SPACING,
) -> None:
    """Write `.nii.gz`: one gzip member whose blocks were compressed apart, on all cores, each once.

    Args:
        path: To be written.
        array: `(z, y, x)`, LPS.
        codes: Sides to which the stored axes run, the fastest first: `IPL` as KiTS19 has it.
        level: Of gzip.
        order: Slices along the slowest stored axis, which may repeat; None: each once.
        spacing: mm along x, y, z.
    """
    axes = ["LRPASI".index(code) // 2 for code in codes]  # 0 x, 1 y, 2 z
    turned = array.transpose([2 - axis for axis in reversed(axes)])  # slowest first, as C has it
    back = [code in "RAI" for code in codes]
    turned = turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in reversed(back))]
    numbers = list(range(len(turned)) if order is None else order)
    header = _header(array.dtype, (len(numbers), *turned.shape[1:]), axes, back, spacing)
    once = sorted(set(numbers))
    with ThreadPoolExecutor() as pool:
        pieces = dict(zip(once, pool.map(lambda n: _piece(turned[n], level), once), strict=True))
    first = _deflated(header, level)
    crc, size = zlib.crc32(header), len(header)
    with path.open("wb") as out:
        out.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first)
        for number in numbers:
            raw = np.ascontiguousarray(turned[number])
            out.write(pieces[number])
            crc, size = zlib.crc32(raw.data, crc), size + raw.nbytes
        out.write(zlib.compressobj(level, zlib.DEFLATED, -15).flush())
        out.write(struct.pack("<II", crc, size & 0xFFFFFFFF))


def _piece(plane: NDArray[Any], level: int) -> bytes:
    return _deflated(np.ascontiguousarray(plane).data, level)


def _deflated(data: Any, level: int) -> bytes:
    """Compress what may stand anywhere in a stream: it refers to nothing before it, and ends on a byte."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH)


def _header(
    dtype: Any, shape: tuple[int, ...], axes: Sequence[int], back: Sequence[bool], spacing: tuple[float, float, float]
) -> bytes:
    """Return header and its end mark; `shape` has the slowest axis first."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for stored, (axis, flip) in enumerate(zip(axes, back, strict=True)):
        towards = (-1, -1, 1)[axis] * (-1 if flip else 1)  # NIfTI counts to R, A, S
        affine[axis, stored] = towards * spacing[axis]
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape[::-1])
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return bytes(header.binaryblock) + bytes(4)
