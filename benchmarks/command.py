"""One medgloss command in a fresh process: what it costs after its imports.

`python -m benchmarks.command ingest RUN SOURCE --workers 1 …` runs `medgloss ingest …` and tells its cost: what it
takes more than the same command once more, which finds nothing left to do. A run reads its settings once, a data set
has hundreds of volumes; `start_cpu_s` is what that start costs.
"""

import contextlib
import sys
from typing import Any

import pyarrow.dataset

from benchmarks import cost
from pipeline import cli, discovery, drive, estimate, vocabulary, watch
from pipeline.executors import local

IMPORTED = (drive, estimate, local, watch, pyarrow.dataset)
"""What commands import when they are called, and Arrow when it reads its first file."""


def main(arguments: list[str]) -> int:
    """Run a command; its own lines go to standard error."""
    cost.prepare()
    sys.modules["pandas"] = None  # type: ignore[assignment]  # Arrow would import it where it is; medgloss brings none
    for name in discovery.names("sources/layouts", ".py"):
        discovery.module("layout", "sources.layouts", name)
    vocabulary.load()
    told, again = dict[str, Any](), dict[str, Any]()
    before = set(sys.modules)
    with contextlib.redirect_stdout(sys.stderr):
        with cost.measured(told):
            status = cli.main(arguments)
        if status == 0 and arguments[0] == "ingest":
            with cost.measured(again):
                status = cli.main(arguments)
            told |= {"cpu_s": told["cpu_s"] - again["cpu_s"], "wall_s": told["wall_s"] - again["wall_s"]}
            told["start_cpu_s"] = again["cpu_s"]
    told["imported_late"] = sorted(set(sys.modules) - before)
    if status == 0:
        cost.tell(told)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
