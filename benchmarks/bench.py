"""Programs that are run in turn on the same files, and compared."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks import anatomy, cost, descriptors
from benchmarks.anatomy import Ct
from benchmarks.cost import Failed, Told, median

SLICES = 300
BUSY = 1.25
"""Wall to CPU seconds from which on others are at work on this machine."""
LONG_S = 60.0
"""A comparison that takes longer is not run again."""


def say(text: str) -> None:
    """Tell what happens: on standard error, for standard output is one JSON."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """A folder for all files of a benchmark, and the programs that are run on them."""

    def __init__(self, folder: Path, given: Path | None, repeats: int) -> None:
        """Begin.

        Args:
            folder: Is empty, and is removed afterwards.
            given: Folder with a `make_ct.py` and a `naive_ingest.py` to use instead of our own.
            repeats: How often each program is run.
        """
        self.folder, self._given, self.repeats, self._number = folder, given, repeats, 0

    def new(self, name: str) -> Path:
        """Return a path that is not there yet."""
        self._number += 1
        return self.folder / f"{name}{self._number}"

    # ---- volumes

    def volume(self, count: int, slices: int) -> Ct:
        """Make a CT with so many structures, by the given generator where there is one."""
        if self._given is None:
            return anatomy.build(count, slices)
        out = self.new("given")
        flags = ("--labels", count, "--slices", slices, "--level", 1)
        cost.run(self._given / "make_ct.py", out, *map(str, flags))
        images: list[Any] = [nib.load(out / name) for name in ("ct.nii.gz", "seg.nii.gz")]
        hu, labels = (np.asarray(image.dataobj).T for image in images)
        return Ct(hu, labels)

    def case(self, ct: Ct, codes: str = anatomy.LPS, level: int = 6, order: Sequence[int] | None = None) -> "Case":
        """Write a CT and its label map as the only case of a data set."""
        case = Case(self.new("data") / "a")
        case.folder.mkdir(parents=True)
        anatomy.save(case.ct, ct.hu, codes, level, order)
        anatomy.save(case.masks, ct.labels, codes, level, order)
        return case

    # ---- programs

    def ours(self, descriptor: Path, *flags: str) -> Told:
        """Run `medgloss ingest` in one process; tells its cost, what it made and its run folder."""
        run = self.new("run")
        told = cost.run("-m", "benchmarks.command", "ingest", run, descriptor, "--executor", "local", *flags)
        made = descriptors.made(run)
        return {**told, "slices": made.slices, "boxes": made.boxes, "run": str(run)}

    def theirs(self, mode: str, ct: Path, masks: Path) -> Told:
        """Run a comparison program."""
        if self._given is not None and mode in ("naive", "instances", "careful"):
            return cost.run(self._given / "naive_ingest.py", ct, masks, self.new("out"), mode)
        return cost.run("-m", "benchmarks.comparison", mode, ct, masks, self.new("out"))

    def bound(self, run: str, files: Sequence[Path]) -> Told:
        """Measure the fastest known block for each part of what a run of one case did."""
        (records,) = (Path(run) / "records").rglob("*.parquet")
        return cost.run("-m", "benchmarks.bound", records, self.new("bound"), *files)

    def compare(self, descriptor: Path, case: "Case", modes: Sequence[str], until: float | None = None) -> Told:
        """Run ours, the bound and comparisons in turn, and return the medians and their ratios.

        Args:
            descriptor: Of the case alone.
            case: Its files.
            modes: Of the comparison, the longest first.
            until: Of `time.monotonic`: instead of a number of repeats.

        Raises:
            Failed: Slices or boxes are not as many as in a comparison.
        """
        ours = partial(self.ours, descriptor, "--workers", "1")
        first = timed("ours", ours)
        programs: dict[str, Callable[[], Told]] = {}
        programs |= {mode: partial(self.theirs, mode, case.ct, case.masks) for mode in modes}
        programs |= {"bound": partial(self.bound, first["run"], case.files), "ours": ours}
        busy = first["wall_s"] > BUSY * first["cpu_s"]
        told = self.in_turn(programs, {"ours": first}, until, side_by_side=busy and until is not None)
        for mode in modes:
            same(first, mode, told[mode][0])
        return summary(told)

    def in_turn(
        self,
        programs: Mapping[str, Callable[[], Told]],
        before: Mapping[str, Told] | None = None,
        until: float | None = None,
        side_by_side: bool = False,
    ) -> dict[str, list[Told]]:
        """Run each program once, then all of them again.

        Args:
            programs: By name, the longest first.
            before: What programs told that have been run once already.
            until: Of `time.monotonic`: repeat what would end before; None: the bench's number of repeats.
            side_by_side: Use two cores for the first time.
        """
        told = {name: [before[name]] if before and name in before else [] for name in programs}

        def once(name: str) -> None:
            told[name].append(timed(name, programs[name]))

        def wanted(name: str) -> bool:
            took = told[name][-1]["took_s"]
            if until is not None:
                return bool(time.monotonic() + 1.15 * took < until)
            return len(told[name]) < self.repeats and took < LONG_S

        with ThreadPoolExecutor(2 if side_by_side else 1) as pool:
            list(pool.map(once, [name for name in programs if not told[name]]))
        while again := [name for name in programs if wanted(name)]:
            for name in filter(wanted, reversed(again)):  # ours first: it is in every ratio
                once(name)
        return told


def timed(name: str, program: Callable[[], Told]) -> Told:
    """Run a program; tells also how long it took with its imports."""
    started = time.monotonic()
    told = program()
    took = time.monotonic() - started
    say(f"    {name}: {told['cpu_s']:.2f} s CPU, {took:.1f} s with its imports")
    return {**told, "took_s": took}


class Case:
    """The files of a case."""

    def __init__(self, folder: Path, masks: str = "seg.nii.gz") -> None:
        self.folder, self.ct, self.masks = folder, folder / "ct.nii.gz", folder / masks

    @property
    def files(self) -> list[Path]:
        """All that is to be decompressed."""
        return [self.ct, *(sorted(self.masks.iterdir()) if self.masks.is_dir() else [self.masks])]

    def descriptor(self, annotation: Mapping[str, object], planes: Sequence[str] = ("axial",)) -> Path:
        """Describe it."""
        return descriptors.of_volumes(self.folder.parent / "ct.yaml", annotation, planes)


def same(ours: Told, name: str, theirs: Told) -> None:
    """Compare what was made.

    Raises:
        Failed: Slices or boxes are not as many.
    """
    mine, other = ((one["slices"], one["boxes"]) for one in (ours, theirs))
    if mine != other:
        raise Failed(f"medgloss made {mine[0]} slices and {mine[1]} boxes, {name} {other[0]} and {other[1]}")


def summary(told: Mapping[str, Sequence[Told]]) -> Told:
    """Return medians of CPU seconds, and how many times ours each comparison takes."""
    ours = told["ours"]
    cpu = {name: median(each) for name, each in told.items()}
    found: Told = {f"ratio_{name}": cpu[name] / cpu["ours"] for name in cpu if name not in ("ours", "bound")}
    return {
        **found,
        "fraction_of_bound": cpu["bound"] / cpu["ours"],
        "peak_memory_mb": max(one["peak_memory_mb"] for one in ours),
        "slices": ours[0]["slices"],
        "boxes": ours[0]["boxes"],
        "cpu_s": cpu["ours"],
        "start_cpu_s": median(ours, "start_cpu_s"),
        "wall_s": median(ours, "wall_s"),
        **{f"{name}_cpu_s": seconds for name, seconds in cpu.items() if name != "ours"},
        **{key: median(each, key) for each in told.values() for key in each[0] if key.endswith("_cpu_s")},
        "repeats": {name: len(each) for name, each in told.items()},
    }
