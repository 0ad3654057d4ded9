#!/usr/bin/env python3
"""What `medgloss ingest` costs, in CPU seconds, next to comparisons measured in the same run.

    benchmarks/ingest.py --quick          one volume, under a minute, one JSON line
    benchmarks/ingest.py                  every line, one after the other, then one JSON object
    benchmarks/ingest.py --only NAME      that line only

Standard output is for JSON only; what happens is told on standard error. benchmarks/README.md explains each number.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file: look up imports from the repository, not from benchmarks/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import dicom, flat, scale, volumes
from benchmarks.bench import Bench, say
from benchmarks.cost import Failed, Told


class Target(NamedTuple):
    """What a number should reach."""

    key: str
    least: float | None = None
    most: float | None = None

    def met(self, told: Told) -> bool:
        """Does it?"""
        value = told[self.key]
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        return f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"


class Line(NamedTuple):
    """One measurement."""

    measure: Callable[[Bench], Told]
    targets: Sequence[Target]


BOUND, BOUND_PLANES = Target("fraction_of_bound", 0.6), Target("fraction_of_bound", 0.5)
CAREFUL = Target("ratio_careful", 4)
PLAN = (Target("wall_s", most=60), Target("peak_memory_mb", most=2000))
LINES = {
    "axial_24": Line(partial(volumes.axial, count=24), (Target("ratio_naive", 12), CAREFUL, BOUND)),
    "axial_104": Line(partial(volumes.axial, count=104), (Target("ratio_naive", 11), CAREFUL, BOUND)),
    "three_planes_24": Line(partial(volumes.three_planes, count=24), (Target("ratio_planes", 16), BOUND_PLANES)),
    "three_planes_104": Line(partial(volumes.three_planes, count=104), (Target("ratio_planes", 16), BOUND_PLANES)),
    "components_104": Line(partial(volumes.components, count=104), (Target("ratio_instances", 16),)),
    "structures_117": Line(volumes.structures, (Target("ratio_reading", 10),)),
    "stored_ras": Line(partial(volumes.stored, codes="RAS"), ()),
    "stored_ipl": Line(partial(volumes.stored, codes="IPL"), ()),
    "dicom_decode": Line(dicom.decode, (Target("least_ratio", 0.85),)),
    "dicom_headers": Line(dicom.headers, (Target("ratio", 0.7),)),
    "flat": Line(flat.sets, (Target("least_ratio", 0.8),)),
    "memory": Line(volumes.memory, (Target("share_of_allowed", most=1),)),
    "workers": Line(volumes.workers, (Target("ratio", 1.8),)),
    "cases": Line(scale.cases, (Target("most_late_to_early", most=1.3),)),
    "plan_table": Line(scale.table, PLAN),
    "plan_coco": Line(scale.coco, PLAN),
}


def measured(name: str, bench: Bench) -> Told:
    """Measure a line, tell it, and return it with the targets that it misses."""
    line = LINES[name]
    say(name)
    told = line.measure(bench)
    missed = [target for target in line.targets if not target.met(told)]
    for target in line.targets:
        say(f"  {name}: {target.key} {told[target.key]:.2f}, {target}{' MISSED' if target in missed else ''}")
    numbers = (f"{key} {value:.2f}" for key, value in told.items() if isinstance(value, float))
    say(f"  {name}: {', '.join(numbers)}")
    return {**told, "missed": [target.key for target in missed], "load": os.getloadavg()[0]}


def rounded(value: object) -> object:
    """Round what is printed: three digits behind the point are more than the noise."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return value


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one volume, under a minute")
    parser.add_argument("--only", choices=LINES, action="append", metavar="NAME", help=", ".join(LINES))
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of each program (default: 3)")
    parser.add_argument("--bench-dir", type=Path, metavar="DIR", help="use its make_ct.py and naive_ingest.py")
    options = parser.parse_args()
    given = options.bench_dir.resolve() if options.bench_dir else None
    found: Told = {}
    try:
        if options.quick:
            with tempfile.TemporaryDirectory(prefix="medgloss-bench-") as folder:
                found = volumes.quick(Bench(Path(folder), given, options.repeats))
        for name in () if options.quick else options.only or LINES:
            with tempfile.TemporaryDirectory(prefix="medgloss-bench-") as folder:
                found[name] = measured(name, Bench(Path(folder), given, options.repeats))
    except Failed as failure:
        say(f"benchmark: {failure}")
        return 1
    print(json.dumps(rounded(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
