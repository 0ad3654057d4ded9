"""Lines on 2D sets: pictures that pass through, pictures that change, and the program that they are compared with.

`python -m benchmarks.flat FOLDER` decodes each file of a folder and encodes it again, with the fastest known codecs.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

from benchmarks import cost, descriptors
from benchmarks.bench import Bench, say
from benchmarks.cost import Failed, Told, median
from pipeline import pictures

COUNT = 300
SIDES = 1024, 1024
SETS = {"jpeg": ".jpg", "png": ".png", "png_16_bit": ".png"}
UNCHANGED = ("jpeg", "png")
"""Sets whose files are what is stored."""


# ---- files


def write(folder: Path, name: str) -> Path:
    """Write pictures that differ, of the kind of a radiograph (grey) or a photograph (JPEG)."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(20, 230, (24, 24, 3), dtype=np.uint8), SIDES[::-1], interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(rng.standard_normal((*SIDES, 3), np.float32) * 12, (0, 0), 1.0)
    picture = np.clip(base + noise, 0, 255).astype(np.uint8)
    for number in range(COUNT):
        pixels: Any = np.roll(picture, 7 * number, axis=1)
        if name != "jpeg":
            pixels = np.ascontiguousarray(pixels[..., 0])
        if name == "png_16_bit":
            pixels = pixels.astype(np.uint16) * 16
        options = [cv2.IMWRITE_JPEG_QUALITY, 92] if name == "jpeg" else []
        (folder / f"{number:04d}{SETS[name]}").write_bytes(cv2.imencode(SETS[name], pixels, options)[1].tobytes())
    return folder


# ---- the program


def again(path: Path) -> bytes:
    """Decode a file and encode its pixels: JPEG as JPEG, PNG as PNG of 8 bits."""
    pixels: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if path.suffix == ".jpg":
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    return pictures.png(pixels if pixels.dtype == np.uint8 else cv2.convertScaleAbs(pixels, alpha=1 / 16))


def main(folder: str) -> None:
    """Run the program and tell what it cost."""
    cost.prepare()
    told: Told = {}
    with cost.measured(told):
        told["bytes"] = sum(len(again(path)) for path in sorted(Path(folder).iterdir()))
    cost.tell(told)


# ---- lines


def sets(bench: Bench) -> Told:
    """Ingest pictures with a label each: against decoding and encoding alone."""
    found: Told = {}
    for name in SETS:
        root = bench.new("flat")
        folder = write(root / "images", name)
        rest = {
            "cases": {"match": "images/{stem}" + SETS[name]},
            "annotations": [{"kind": "classes", "value": "pneumonia"}],
        }
        descriptor = descriptors.write(root / "flat.yaml", "xray", rest)
        say(f"    {name}:")
        programs = {
            "decode_encode": partial(cost.run, "-m", "benchmarks.flat", folder),
            "ours": partial(bench.ours, descriptor, "--workers", "1"),
        }
        told = bench.in_turn(programs)
        _check(told["ours"][0], folder, name)
        ours = median(told["ours"]) + median(told["ours"], "start_cpu_s")  # the start lists a picture a case
        bare = median(told["decode_encode"])
        found |= {f"{name}_ratio": bare / ours, f"{name}_cpu_s": ours, f"{name}_decode_encode_cpu_s": bare}
    return {"least_ratio": min(found[f"{name}_ratio"] for name in SETS), **found}


def _check(ours: Told, folder: Path, name: str) -> None:
    """Compare what was stored with the files: pixels that need no change are not encoded again.

    Raises:
        Failed: A picture is missing, or was encoded again.
    """
    if ours["slices"] != COUNT:
        raise Failed(f"{name}: {ours['slices']} of {COUNT} pictures were kept")
    for file in Path(ours["run"]).joinpath("records").rglob("*.parquet"):
        rows = pq.ParquetFile(file).read(columns=["case", "picture"]).to_pylist()
        for row in rows if name in UNCHANGED else ():
            original = folder.joinpath(f"{Path(row['case']).name}{SETS[name]}").read_bytes()
            if _pixel_stream(row["picture"]["bytes"]) != _pixel_stream(original):
                raise Failed(f"{name}: {row['case']} was encoded again")


def _pixel_stream(data: bytes) -> bytes:
    """Return the coded pixels: a PNG whole, a JPEG from its quantisation tables on."""
    return data[data.index(b"\xff\xdb") :] if data.startswith(b"\xff\xd8") else data


if __name__ == "__main__":
    main(*sys.argv[1:])
