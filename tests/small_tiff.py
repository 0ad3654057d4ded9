"""TIFF files of any sample, as no library here writes them: Adobe's TIFF 6.0, a header, the blocks, one directory."""

import struct
import zlib

import numpy as np

KINDS = {"u": 1, "i": 2, "f": 3}


def tiff(
    array: np.ndarray,
    order: str = "<",
    photometric: int | None = None,
    orientation: int | None = None,
    bits: int | None = None,
    planar: bool = False,
    tile: int | None = None,
    packed: bool = False,
    pages: int = 1,
) -> bytes:
    """Write samples `(y, x)` or `(y, x, n)` in their own type.

    Args:
        array: The samples.
        order: `<` little-endian, `>` big-endian.
        photometric: 0 white is zero, 1 black is zero, 2 RGB; None: by the number of samples.
        orientation: 1 to 8.
        bits: What the header says, where it differs from the type's.
        planar: Every sample on a plane of its own.
        tile: Side of square tiles; None: one strip.
        packed: Deflate.
        pages: The same picture so many times.
    """
    height, width = array.shape[:2]
    samples = 1 if array.ndim == 2 else array.shape[2]
    blocks = [_bytes(block, order, packed) for plane in _planes(array, planar) for block in _tiles(plane, tile)]
    starts = np.cumsum([8, *map(len, blocks)])
    tags = {
        256: [width],
        257: [height],
        258: [bits or array.itemsize * 8] * samples,
        259: [8 if packed else 1],
        262: [(2 if samples > 2 else 1) if photometric is None else photometric],
        274: [orientation or 1],
        277: [samples],
        284: [2 if planar else 1],
        339: [KINDS[array.dtype.kind]] * samples,
        (324 if tile else 273): starts[:-1].tolist(),
        (325 if tile else 279): [len(block) for block in blocks],
        **({322: [tile], 323: [tile]} if tile else {278: [height]}),
        **({338: [2]} if samples in (2, 4) else {}),
    }
    body, at = b"".join(blocks), int(starts[-1])
    for page in range(pages):
        directory = _directory(tags, order, at, last=page == pages - 1)
        body, at = body + directory, at + len(directory)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", int(starts[-1])) + body


def _planes(array: np.ndarray, planar: bool) -> list[np.ndarray]:
    return [array[..., n] for n in range(array.shape[2])] if planar else [array]


def _tiles(plane: np.ndarray, side: int | None) -> list[np.ndarray]:
    if side is None:
        return [plane]
    padded = np.pad(plane, [(0, -length % side) for length in plane.shape[:2]] + [(0, 0)] * (plane.ndim - 2))
    rows, columns = range(0, padded.shape[0], side), range(0, padded.shape[1], side)
    return [padded[y : y + side, x : x + side] for y in rows for x in columns]


def _bytes(block: np.ndarray, order: str, packed: bool) -> bytes:
    data = block.astype(block.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if packed else data
    return data + b"\0" * (len(data) % 2)


def _directory(tags: dict[int, list[int]], order: str, at: int, last: bool) -> bytes:
    entries, more, behind = b"", b"", at + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            data, more = struct.pack(order + "I", behind + len(more)), more + data
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + data
    after = 0 if last else behind + len(more)
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", after) + more
