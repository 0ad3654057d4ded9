"""What a process costs: CPU seconds, wall seconds, peak memory. Every measured program ends by telling it.

Libraries that would take several cores are held to one, so that CPU seconds mean the same for all of them.
"""

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa

ROOT = Path(__file__).resolve().parents[1]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
Told = dict[str, Any]
"""What a program tells of itself: `cpu_s`, `wall_s`, `peak_memory_mb`, and its own counts."""


class Failed(Exception):
    """A measured program ended with an error, or its result is not that of the comparison: one line."""


@contextmanager
def measured(told: Told) -> Iterator[None]:
    """Note what a block costs in this process: user and system time of all its threads."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    told["cpu_s"] = time.process_time() - cpu
    told["wall_s"] = time.perf_counter() - wall
    told["peak_memory_mb"] = peak_memory_mb()


def peak_memory_mb() -> float:
    """Return the largest resident size so far; `ru_maxrss` would count the process that this one was forked from."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) / 1024


def prepare() -> None:
    """Hold OpenCV and Arrow to one thread; the other libraries are held by their environment."""
    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


def tell(told: Mapping[str, Any]) -> None:
    """End a measured program: its last line on standard output."""
    print(json.dumps(told), flush=True)


def run(*program: str | Path) -> Told:
    """Run `python PROGRAM …` in a fresh process and return what it tells.

    Raises:
        Failed: It ended with an error.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *map(str, program)],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        why = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Failed(f"{' '.join(map(str, program[:3]))} ended with status {done.returncode}: {why}")
    told: Told = json.loads(lines[-1]) if lines[-1].startswith("{") else {"said": lines[-1]}
    return told


def median(told: Sequence[Told], key: str = "cpu_s") -> float:
    """Return the median of what a program told each time."""
    return float(statistics.median(one[key] for one in told))
