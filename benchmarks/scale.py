"""Lines on size: what a case costs among few and among many, and the plan of a million rows."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks import anatomy, cost, descriptors
from benchmarks.bench import Bench, say
from benchmarks.cost import Told, median

COUNTS = (10, 100, 1000)
ROWS, PICTURES = 1_000_000, 100_000
LINKS = 50_000
"""Names of one file; file systems allow 65,000."""


def cases(bench: Bench) -> Told:
    """Ingest 10, 100 and 1,000 small cases: CPU of each one more, early and late."""
    found: Told = {}
    for name, write in (("pictures", _pictures), ("volumes", _volumes)):
        cpu: dict[int, float] = {}
        for count in COUNTS:
            descriptor = write(bench.new(name), count)
            told = [bench.ours(descriptor, "--workers", "1") for _ in range(bench.repeats)]
            cpu[count] = median(told) + median(told, "start_cpu_s")  # the start lists cases: it must not grow, either
            say(f"    {count} {name}: {cpu[count]:.2f} s CPU")
        few, some, many = COUNTS
        early, late = (cpu[some] - cpu[few]) / (some - few), (cpu[many] - cpu[some]) / (many - some)
        found |= {f"{name}_ms_of_one_more": late * 1000, f"{name}_late_to_early": late / early}
        found |= {f"{name}_{count}_cpu_s": seconds for count, seconds in cpu.items()}
    return {"most_late_to_early": max(found["pictures_late_to_early"], found["volumes_late_to_early"]), **found}


def _pictures(root: Path, count: int) -> Path:
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 255, (512, 512), dtype=np.uint8)
        (root / f"{number:04d}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    annotation = {"kind": "classes", "value": "pneumonia"}
    return descriptors.write(
        root / "many.yaml", "xray", {"cases": {"match": "{stem}.png"}, "annotations": [annotation]}
    )


def _volumes(root: Path, count: int) -> Path:
    ct = anatomy.build(24, 20, 96)
    one = root / "0000"
    one.mkdir(parents=True)
    anatomy.save(one / "ct.nii.gz", ct.hu)
    anatomy.save(one / "seg.nii.gz", ct.labels)
    for number in range(1, count):
        other = root / f"{number:04d}"
        other.mkdir()
        for path in one.iterdir():
            (other / path.name).hardlink_to(path)
    return descriptors.of_volumes(root / "many.yaml", descriptors.label_map(24))


def table(bench: Bench) -> Told:
    """Plan a million pictures with a row each of a CSV file."""
    root = bench.new("table")
    names = list(_files(root, ROWS))
    with (root / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "patient", "finding", "age", "view"))
        rows.writerows((name, f"p{n // 4}", ("nodule", "mass")[n % 2], n % 90, "PA") for n, name in enumerate(names))
    rest = {
        "cases": {"match": "images/{folder}/{stem}.png", "group": "{t.patient}"},
        "tables": {"t": {"path": "labels.csv", "key": "file", "match": "{path}"}},
        "annotations": [{"kind": "classes", "value": "{t.finding}"}],
    }
    return _planned(descriptors.write(root / "table.yaml", "xray", rest))


def coco(bench: Bench) -> Told:
    """Plan a hundred thousand pictures with a million boxes in one COCO file."""
    root = bench.new("coco")
    names = list(_files(root, PICTURES))
    images = [{"id": n, "file_name": name, "width": 64, "height": 64} for n, name in enumerate(names)]
    boxes = (
        {"id": n, "image_id": n % PICTURES, "category_id": 1 + n % 2, "bbox": [n % 40, 4, 20, 20], "area": 400}
        for n in range(ROWS)
    )
    categories = [{"id": 1, "name": "nodule"}, {"id": 2, "name": "mass"}]
    content = {"images": images, "annotations": list(boxes), "categories": categories}
    (root / "boxes.json").write_text(json.dumps(content))
    rest = {
        "cases": {"match": "images/{folder}/{stem}.png"},
        "annotations": [{"kind": "coco", "path": "boxes.json", "match": "{path}"}],
    }
    return _planned(descriptors.write(root / "coco.yaml", "xray", rest))


def _files(root: Path, count: int) -> Iterator[str]:
    """Make so many names of a few pictures, a thousand a folder."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    for number in range(count):
        folder = root / "images" / f"{number // 1000:04d}"
        path = folder / f"{number:07d}.png"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        if number % LINKS == 0:
            first = path
            first.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        else:
            path.hardlink_to(first)
        yield f"images/{folder.name}/{path.name}"


def _planned(descriptor: Path) -> Told:
    say("    files are made")
    told = cost.run("-m", "benchmarks.command", "plan", descriptor)
    return {name: told[name] for name in ("wall_s", "cpu_s", "peak_memory_mb")}
