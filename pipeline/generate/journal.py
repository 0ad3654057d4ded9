"""The journal: every paid reply, once, and the only place a reply is paid for.

Segments with one writer each, lines of JSON, handed to the system within 0.25 s; an object store gets whole segments.
Replies are looked up by key across all segments; failures are written for the record and never looked up.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.records import Reply, Usage
from pipeline.store import Store, json_lines

FLUSH_S = 0.25
SEGMENT = re.compile(r".*-(\d{4})\.jsonl$")


class Totals(NamedTuple):
    """What a journal holds."""

    replies: int
    failures: int
    input_tokens: int
    output_tokens: int
    cost: float
    unpriced: int
    """Replies whose price is unknown."""


class Journal:
    """All replies of a store, looked up by key."""

    def __init__(self, store: Store, folder: str = "journal") -> None:
        self._store, self._folder = store, folder
        self._replies: dict[str, Reply] = {}
        for file in store.list(folder):
            for row in json_lines(store.read(file)):
                if row["outcome"] == "ok":
                    self._replies[row["key"]] = _reply(row)

    def find(self, key: str) -> Reply | None:
        """Return the reply to a request, if it was ever paid for."""
        return self._replies.get(key)

    def keep(self, reply: Reply) -> None:
        """Remember a reply for the other shards of this worker."""
        self._replies[reply.key] = reply

    def segment(self, name: str) -> "Segment":
        """Open a new segment for one writer; a segment that a kill cut short is never written again."""
        pattern = f"{self._folder}/{name}-"
        taken = [SEGMENT.fullmatch(file) for file in self._store.list(self._folder) if file.startswith(pattern)]
        number = 1 + max((int(found[1]) for found in taken if found), default=0)
        return Segment(self._store, f"{pattern}{number:04d}.jsonl")


class Segment:
    """One writer's part of the journal."""

    def __init__(self, store: Store, file: str) -> None:
        self._appender = store.appender(file)
        self._flushed = time.monotonic()

    def add(self, reply: Reply, cost: float | None) -> None:
        """Write a reply or a failure."""
        self._appender.add(_row(reply, cost))
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self, sync: bool = False) -> None:
        """Hand what is pending to the system; with `sync`, to the disk."""
        self._appender.flush(sync)
        self._flushed = time.monotonic()


def _row(reply: Reply, cost: float | None) -> dict[str, Any]:
    row = {
        "key": reply.key,
        "outcome": reply.outcome,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "model": reply.model,
        "endpoint": reply.endpoint,
        "attempts": reply.attempts,
        "latency_s": round(reply.latency_s, 3),
        "cost": cost,
        "at": round(time.time(), 3),
    }
    return {name: value for name, value in row.items() if value is not None}


def _reply(row: Mapping[str, Any]) -> Reply:
    usage = Usage(row.get("input_tokens", 0), row.get("output_tokens", 0), row.get("cached_tokens", 0))
    return Reply(
        row["key"], row["outcome"], row["text"], row.get("finish_reason"), usage, row["model"], row["endpoint"],
        row["attempts"], row["latency_s"],
    )  # fmt: skip


def totals(store: Store, folder: str = "journal") -> Totals:
    """Add up a journal."""
    replies = failures = tokens_in = tokens_out = unpriced = 0
    cost = 0.0
    for file in store.list(folder):
        for row in json_lines(store.read(file)):
            good = row["outcome"] == "ok"
            replies, failures = replies + good, failures + (not good)
            tokens_in += row.get("input_tokens", 0)
            tokens_out += row.get("output_tokens", 0)
            cost += row.get("cost", 0.0)
            unpriced += good and "cost" not in row
    return Totals(replies, failures, tokens_in, tokens_out, cost, unpriced)
