"""Who looks on: a bar on a terminal, plain lines with numbers elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from pipeline.coordinator import Shared
from pipeline.records import Stage
from pipeline.work import Done


def summary(rows: Mapping[str, int]) -> str:
    """Return row counts as text.

    >>> summary({"samples": 1200, "rejected": 3})
    '1,200 samples, 3 rejected'
    """
    return ", ".join(f"{count:,} {name}" for name, count in rows.items()) or "nothing new"


def money(shared: Shared) -> str:
    """Return what was spent, or nothing if nothing was."""
    tokens_in, tokens_out, cost, unpriced = shared.spent()
    if not tokens_in + tokens_out:
        return ""
    price = "price unknown" if unpriced else f"${cost:,.2f}"
    return f", {(tokens_in + tokens_out) / 1e6:.2f} M tokens, {price}"


class Lines:
    """A line a shard, for logs."""

    def begin(self, stage: Stage, todo: int, of: int) -> None:
        """Say how much there is to do."""
        self._left = todo
        if todo:
            print(f"{stage}: {todo} of {of} to do", flush=True)

    def done(self, done: Done, shared: Shared) -> None:
        """Say what a shard came to."""
        self._left -= 1
        name = f"{done.task.shard.source}-{done.task.shard.stem}"
        left = f", {self._left} left" if self._left else ""
        print(f"{name}: {summary(done.notes)}{money(shared)}, {done.seconds:.1f} s{left}", flush=True)

    def end(self, stage: Stage, seconds: float, rows: Mapping[str, int]) -> None:
        """Say what a stage came to."""
        print(f"{stage}: {summary(rows)} in {seconds:.1f} s" if rows else f"{stage}: up to date", flush=True)


class Bar:
    """A progress bar with counts and rate."""

    def begin(self, stage: Stage, todo: int, of: int) -> None:
        """Draw the bar."""
        self._bar: Any = tqdm(total=todo, desc=stage, unit="shard", disable=not todo, file=sys.stderr)
        self._rows: dict[str, int] = {}

    def done(self, done: Done, shared: Shared) -> None:
        """Move the bar."""
        for name, count in done.notes.items():
            self._rows[name] = self._rows.get(name, 0) + count
        self._bar.set_postfix_str(summary(self._rows) + money(shared))
        self._bar.update()

    def end(self, stage: Stage, seconds: float, rows: Mapping[str, int]) -> None:
        """Leave a line behind."""
        self._bar.close()
        print(f"{stage}: {summary(rows)} in {seconds:.1f} s" if rows else f"{stage}: up to date")


def watch() -> Lines | Bar:
    """Return the one that fits where output goes."""
    return Bar() if sys.stderr.isatty() and sys.stdout.isatty() else Lines()
