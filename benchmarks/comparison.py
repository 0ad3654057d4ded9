"""Programs that a user would write, measured in a process of their own.

`python -m benchmarks.comparison MODE CT MASKS OUT`:

- naive: everything as float64, `np.unique` and `np.where` on each slice, `cv2.imwrite`, one JSON file at the end;
- planes: naive, along all three axes, and as everywhere with square pixels;
- instances: naive, with `skimage.measure.label` and `regionprops` for each label of a slice;
- careful: stored types, `regionprops` once a slice, a float32 window, Pillow, one Parquet file;
- structures: naive, with MASKS a folder that holds one binary file for each structure.

Slices that hold a region of at least `MIN_AREA_MM2`; window -160 to 240 HU. The clock begins after the imports.
"""

import importlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import cost

LOW, HIGH = -160, 240
MIN_AREA_MM2 = 60.8
"""100 px of 0.78 x 0.78 mm, and none of 99."""

Box = tuple[int, ...]
"""Label, area in px, x0, y0, x1, y1."""
Find = Callable[[Any, float], Iterator[Box]]


class Made(NamedTuple):
    """What a program came to."""

    slices: int
    boxes: int
    reading_cpu_s: float | None = None
    """Spent in reading masks, where that is looked at."""


def skimage() -> Any:
    """Return scikit-image's measurements: only these programs need it, and it is no dependency of medgloss."""
    return importlib.import_module("skimage.measure")


def canonical(path: Path) -> Any:
    """Open a volume with its axes to R, A, S, as nibabel's users do."""
    return nib.as_closest_canonical(nib.load(path))


def classes(mask: Any, least: float) -> Iterator[Box]:
    """Yield a box for each label of a slice, by looking for its pixels."""
    for label in np.unique(mask):
        y, x = np.where(mask == label)
        if label and len(x) >= least:
            yield int(label), len(x), int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def instances(mask: Any, least: float) -> Iterator[Box]:
    """Yield a box for each connected part of each label of a slice."""
    measure = skimage()
    for label in np.unique(mask):
        for part in measure.regionprops(measure.label(mask == label, connectivity=2)) if label else ():
            y0, x0, y1, x1 = part.bbox
            if part.area >= least:
                yield int(label), int(part.area), x0, y0, x1, y1


def naive(ct: Any, seg: Any, out: Path, find: Find, axes: tuple[int, ...]) -> Made:
    """Cut slices along axes of the volume, box what is on them, write PNG and one JSON."""
    volume, labels = ct.get_fdata(), seg.get_fdata()
    volume = np.clip(volume, LOW, HIGH)
    volume = (volume - volume.min()) / (volume.max() - volume.min()) * 255.0
    rows: list[dict[str, Any]] = []
    for axis in axes:
        least = MIN_AREA_MM2 / pixel_mm2(ct, axis)
        for index in range(volume.shape[axis]):
            at: list[Any] = [slice(None)] * 3
            at[axis] = index
            picture, mask = (np.rot90(array[tuple(at)]) for array in (volume, labels))
            found = list(find(mask, least))
            if found:
                name = out / f"axis{axis}_{index:04d}.png"
                cv2.imwrite(str(name), squared(picture.astype(np.uint8), pixel_mm(ct, axis)))
                rows.append({"image": str(name), "axis": axis, "index": index, "boxes": found})
    (out / "data.json").write_text(json.dumps(rows))
    return Made(len(rows), sum(len(row["boxes"]) for row in rows))


def pixel_mm(image: Any, axis: int) -> tuple[float, float]:
    """Return width and height of a pixel of the slices across an axis."""
    width, height = (float(mm) for n, mm in enumerate(image.header.get_zooms()[:3]) if n != axis)
    return width, height


def pixel_mm2(image: Any, axis: int) -> float:
    """Return the area of a pixel of the slices across an axis."""
    width, height = pixel_mm(image, axis)
    return width * height


def squared(picture: Any, mm: tuple[float, float]) -> Any:
    """Stretch a picture until its pixels are square; most slices' are."""
    scale_x, scale_y = (length / min(mm) for length in mm)
    return picture if scale_x == scale_y else cv2.resize(picture, None, fx=scale_x, fy=scale_y)


def careful(ct: Any, seg: Any, out: Path) -> Made:
    """Cut axial slices, box labels with one `regionprops` a slice, write one Parquet file."""
    measure = skimage()
    volume, labels = np.asanyarray(ct.dataobj), np.asanyarray(seg.dataobj)
    least = MIN_AREA_MM2 / pixel_mm2(ct, 2)
    rows: list[dict[str, Any]] = []
    for index in range(volume.shape[2]):
        mask = np.ascontiguousarray(np.rot90(labels[:, :, index]))
        found = [
            {"label": int(part.label), "area": int(part.area), "box": list(part.bbox)}
            for part in measure.regionprops(mask)
            if part.area >= least
        ]
        if found:
            picture = np.rot90(volume[:, :, index]).astype(np.float32)
            grey = np.clip((picture - LOW) * (255 / (HIGH - LOW)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(grey).save(data, "PNG")
            rows.append({"index": index, "boxes": found, "image": data.getvalue()})
    pq.write_table(pa.Table.from_pylist(rows), out / "data.parquet")
    return Made(len(rows), sum(len(row["boxes"]) for row in rows))


def structures(ct: Any, folder: Path, out: Path) -> Made:
    """Read each structure's file whole, box it on each slice; then write the slices that have a box."""
    volume = np.clip(ct.get_fdata(), LOW, HIGH)
    least = MIN_AREA_MM2 / pixel_mm2(ct, 2)
    boxes: dict[int, list[tuple[str, Box]]] = {}
    reading = 0.0
    for path in sorted(folder.iterdir()):
        before = time.process_time()
        mask = canonical(path).get_fdata()
        reading += time.process_time() - before
        for index in range(mask.shape[2]):
            for box in classes(np.rot90(mask[:, :, index]), least):
                boxes.setdefault(index, []).append((path.name, box))
    for index in boxes:
        grey = (np.rot90(volume[:, :, index]) - LOW) / (HIGH - LOW) * 255.0
        cv2.imwrite(str(out / f"axial_{index:04d}.png"), grey.astype(np.uint8))
    (out / "data.json").write_text(json.dumps(boxes))
    return Made(len(boxes), sum(map(len, boxes.values())), reading)


def main(mode: str, ct: str, masks: str, out: str) -> None:
    """Run one program and tell what it cost."""
    cost.prepare()
    if mode in ("careful", "instances"):  # let libraries import what they import when they are used
        skimage().regionprops(skimage().label(np.eye(2, dtype=np.uint8)))
        pa.Table.from_pylist([{"x": 1}])
    folder, told = Path(out), dict[str, Any]()
    folder.mkdir(parents=True, exist_ok=True)
    with cost.measured(told):
        volume = canonical(Path(ct))
        if mode == "structures":
            made = structures(volume, Path(masks), folder)
        elif mode == "careful":
            made = careful(volume, canonical(Path(masks)), folder)
        else:
            axes = (0, 1, 2) if mode == "planes" else (2,)
            made = naive(volume, canonical(Path(masks)), folder, instances if mode == "instances" else classes, axes)
    cost.tell({**told, **{name: value for name, value in made._asdict().items() if value is not None}})


if __name__ == "__main__":
    main(*sys.argv[1:])
