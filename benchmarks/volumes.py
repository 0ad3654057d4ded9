"""Lines on CT volumes: 512 x 512 x 300 with structures, from `.nii.gz` to Parquet."""

import time

import numpy as np

from benchmarks import anatomy, descriptors
from benchmarks.bench import SLICES, Bench, Case, say
from benchmarks.cost import Told

QUICK_SLICES = 60
QUICK_UNTIL_S = 42.0
"""No program is started again that would end after this time."""
STRUCTURES = 117
"""Files of a case of TotalSegmentator."""
LARGE = 610
"""Slices of a volume of 160 million voxels."""
PLANES = ("axial", "coronal", "sagittal")


def quick(bench: Bench) -> Told:
    """Measure one volume of 60 slices, tiled there and back to 300."""
    started = time.monotonic()
    case = _tiled(bench, SLICES)
    say(f"    volume: {time.monotonic() - started:.1f} s")
    descriptor = case.descriptor(descriptors.label_map(24))
    found = bench.compare(descriptor, case, ("naive", "careful"), until=started + QUICK_UNTIL_S)
    return {**found, "elapsed_s": time.monotonic() - started}


def _tiled(bench: Bench, slices: int) -> Case:
    return bench.case(bench.volume(24, QUICK_SLICES), level=1, order=anatomy.ping_pong(QUICK_SLICES, slices))


def axial(bench: Bench, count: int) -> Told:
    """Cut axial slices of a volume with so many structures."""
    case = bench.case(bench.volume(count, SLICES))
    return bench.compare(case.descriptor(descriptors.label_map(count)), case, ("naive", "careful"))


def three_planes(bench: Bench, count: int) -> Told:
    """Cut axial, coronal and sagittal slices."""
    case = bench.case(bench.volume(count, SLICES))
    return bench.compare(case.descriptor(descriptors.label_map(count), PLANES), case, ("planes",))


def components(bench: Bench, count: int) -> Told:
    """Box each connected part of each label of a slice."""
    case = bench.case(bench.volume(count, SLICES))
    return bench.compare(case.descriptor(descriptors.label_map(count, "per_component")), case, ("instances",))


def stored(bench: Bench, codes: str) -> Told:
    """Cut axial slices of a volume whose stored axes run to other sides."""
    case = bench.case(bench.volume(24, SLICES), codes)
    return bench.compare(case.descriptor(descriptors.label_map(24)), case, ("naive", "careful"))


def structures(bench: Bench) -> Told:
    """Read one binary file for each structure, as TotalSegmentator writes them."""
    ct = bench.volume(STRUCTURES, SLICES)
    case = Case(bench.new("data") / "a", "segmentations")
    case.masks.mkdir(parents=True)
    anatomy.save(case.ct, ct.hu)
    for number, name in enumerate(descriptors.names(STRUCTURES), 1):
        anatomy.save(case.masks / f"{name}.nii.gz", (ct.labels == number).view(np.uint8))
    annotation = {"kind": "mask_per_class", "path": "{case}/segmentations/{label}.nii.gz"}
    found = bench.compare(case.descriptor(annotation), case, ("structures",))
    return {"ratio_reading": found["reading_cpu_s"] / found["cpu_s"], **found}


def memory(bench: Bench) -> Told:
    """Read 160 million voxels with their label map: the worker's peak against the volume's own bytes."""
    case = _tiled(bench, LARGE)
    own_mb = LARGE * 512 * 512 * 2 / 2**20
    found: Told = {"own_mb": own_mb, "allowed_mb": 3 * own_mb + 300}
    for name, planes in (("axial", ("axial",)), ("three_planes", PLANES)):
        told = bench.ours(case.descriptor(descriptors.label_map(24), planes), "--workers", "1")
        found |= {f"{name}_mb": told["peak_memory_mb"], f"{name}_slices": told["slices"]}
    most = max(found["axial_mb"], found["three_planes_mb"])
    return {**found, "share_of_allowed": most / found["allowed_mb"]}


def workers(bench: Bench) -> Told:
    """Ingest twelve more volumes with one worker and with two: wall seconds, without the start of the processes."""
    one = _tiled(bench, SLICES)
    walls: dict[tuple[int, int], float] = {}
    for volumes in (2, 14):
        root = bench.new("many")
        for number in range(volumes):
            (root / f"{number:02d}").mkdir(parents=True)
            for path in one.files:
                (root / f"{number:02d}" / path.name).hardlink_to(path)
        descriptor = descriptors.of_volumes(root / "ct.yaml", descriptors.label_map(24))
        for count in (1, 2):
            # as many shards as there may be: nearly every volume has its own
            flags = ("--workers", str(count), "--shards", "ct=4096")
            # the least of several times: whatever else runs here can only make it longer
            walls[volumes, count] = min(bench.ours(descriptor, *flags)["wall_s"] for _ in range(bench.repeats))
            say(f"    {volumes} volumes, {count} workers: {walls[volumes, count]:.1f} s")
    alone, together = (walls[14, count] - walls[2, count] for count in (1, 2))
    return {"ratio": alone / together, "one_worker_s": alone, "two_workers_s": together, "whole_s": walls[14, 2]}
