"""The least that ingest can cost: the fastest known block for each of its parts, each measured alone.

`python -m benchmarks.bound RECORDS OUT FILE …` decompresses the files with isal into a small buffer that is used again,
encodes the pictures of a records file with the faster of our PNG encoder and OpenCV's, and writes them to one Parquet
file, uncompressed and without a dictionary. No voxel is windowed, no label is looked for.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip

from benchmarks import cost
from pipeline import pictures

BUFFER_BYTES = 1 << 18
REPEATS = 2


def gunzip(files: Sequence[Path]) -> None:
    """Decompress files and keep nothing."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    for path in files:
        with igzip.open(path, "rb") as stream:
            while stream.readinto(buffer):
                pass


def encoded_by_us(slices: Sequence[Any]) -> list[bytes]:
    """Encode with medgloss's own encoder."""
    return [pictures.png(pixels) for pixels in slices]


def encoded_by_cv2(slices: Sequence[Any]) -> list[bytes]:
    """Encode with OpenCV as it comes."""
    return [cv2.imencode(".png", pixels)[1].tobytes() for pixels in slices]


def write(images: Sequence[bytes], out: Path) -> None:
    """Write one Parquet file."""
    table = pa.table({"image": pa.array(images, pa.binary())})
    pq.write_table(table, out, compression="none", use_dictionary=False, write_statistics=False)


def seconds(block: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the CPU seconds of a block: the least of a few times, for nothing can be faster than the bound."""
    found = []
    for _ in range(repeats):
        before = time.process_time()
        block()
        found.append(time.process_time() - before)
    return min(found)


def main(records: str, out: str, *files: str) -> None:
    """Measure each block and tell them."""
    cost.prepare()
    stored = pq.ParquetFile(records).read(columns=["picture"]).column("picture").combine_chunks().field("bytes")
    images = stored.to_pylist()
    slices = [pictures.pixels_of(data) for data in images]
    ours, theirs = seconds(lambda: encoded_by_us(slices)), seconds(lambda: encoded_by_cv2(slices), repeats=1)
    if theirs < 1.5 * ours:
        theirs = seconds(lambda: encoded_by_cv2(slices))
    parts = {
        "gunzip_s": seconds(lambda: gunzip([Path(file) for file in files])),
        "png_s": min(ours, theirs),
        "parquet_s": seconds(lambda: write(images, Path(out))),
    }
    cost.tell({"cpu_s": sum(parts.values()), **parts, "png_cv2_s": theirs})


if __name__ == "__main__":
    main(*sys.argv[1:])
