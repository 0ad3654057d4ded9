"""One medgloss command in a fresh process: what it costs after its imports.

`python -m benchmarks.command ingest RUN SOURCE --workers 1 …` runs `medgloss ingest …` and tells its cost.
"""

import contextlib
import sys
from typing import Any

import pyarrow.dataset

from benchmarks import cost
from pipeline import cli, discovery, drive, estimate, watch
from pipeline.executors import local

IMPORTED = (drive, estimate, local, watch, pyarrow.dataset)
"""What commands import when they are called, and Arrow when it reads its first file."""


def main(arguments: list[str]) -> int:
    """Run a command; its own lines go to standard error."""
    cost.prepare()
    sys.modules["pandas"] = None  # type: ignore[assignment]  # Arrow would import it where it is; medgloss brings none
    for name in discovery.names("sources/layouts", ".py"):
        discovery.module("layout", "sources.layouts", name)
    told: dict[str, Any] = {}
    before = set(sys.modules)
    with contextlib.redirect_stdout(sys.stderr), cost.measured(told):
        status = cli.main(arguments)
    told["imported_late"] = sorted(set(sys.modules) - before)
    if status == 0:
        cost.tell(told)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
