"""What the workers of a run share: quota, spending, and the word to stop."""

import threading
import time
from dataclasses import dataclass, field

from pipeline.records import Coordinator

TOLD_S = 0.5
"""A worker asks and tells at most this often: a call to another process costs more than many a request."""


@dataclass
class Shared:
    """The one coordinator of a run. Here it hands out a fixed concurrency, the same share to every worker."""

    workers: int
    concurrency: dict[str, int]
    """Endpoint to requests in flight over all workers."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    unpriced: bool = False
    why: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def lease(self, endpoint: str) -> int:
        """Return a worker's share of the endpoint's quota."""
        return max(1, self.concurrency.get(endpoint, 16) // max(1, self.workers))

    def spend(self, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        """Add to what was used."""
        with self._lock:
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
            self.cost += cost or 0.0
            self.unpriced |= cost is None

    def stop(self, why: str) -> None:
        """Ask all to stop; the first reason is kept."""
        with self._lock:
            self.why = self.why or why

    def stopped(self) -> str | None:
        """Return the reason to stop, or None."""
        return self.why

    def spent(self) -> tuple[int, int, float, bool]:
        """Return input tokens, output tokens, US dollars, and whether some price is unknown."""
        with self._lock:
            return self.input_tokens, self.output_tokens, self.cost, self.unpriced


class Sparing:
    """A worker's end of the coordinator: asks and tells in slices, not per request."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._far = coordinator
        self._told = self._asked = 0.0
        self._why: str | None = None
        self._pending: list[tuple[int, int, float | None]] = []

    def lease(self, endpoint: str) -> int:
        """Return this worker's share of the endpoint's quota."""
        return self._far.lease(endpoint)

    def spend(self, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        """Collect, and tell now and then."""
        self._pending.append((input_tokens, output_tokens, cost))
        if time.monotonic() - self._told > TOLD_S:
            self.tell()

    def tell(self) -> None:
        """Tell what is collected."""
        self._told = time.monotonic()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        priced = [one for one in pending if one[2] is not None]
        if priced:
            self._far.spend(sum(p[0] for p in priced), sum(p[1] for p in priced), sum(p[2] or 0.0 for p in priced))
        if len(priced) < len(pending):
            unpriced = [one for one in pending if one[2] is None]
            self._far.spend(sum(p[0] for p in unpriced), sum(p[1] for p in unpriced), None)

    def stop(self, why: str) -> None:
        """Ask all to stop."""
        self._why = self._why or why
        self._far.stop(why)

    def stopped(self) -> str | None:
        """Return the reason to stop, as of at most half a second ago."""
        if self._why is None and time.monotonic() - self._asked > TOLD_S:
            self._asked = time.monotonic()
            self._why = self._far.stopped()
        return self._why
