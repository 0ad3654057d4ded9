"""Which shard a case belongs to: by the hash of its id, so that one added case touches one shard."""

import hashlib
from collections.abc import Iterable

from pipeline.records import Case, Shard

CASES_PER_SHARD = {"picture": 128, "volume": 4, "series": 4}
"""Aimed at: a shard should be minutes of work and tens of megabytes."""
MOST = 4096


def count_for(cases: int, form: str) -> int:
    """Return the number of shards for a source at its first run: a power of two.

    >>> count_for(1000, "picture")
    8
    """
    wanted = max(1, cases // CASES_PER_SHARD.get(form, 64))
    return min(MOST, 1 << (wanted - 1).bit_length())


def index_of(case_id: str, count: int) -> int:
    """Return the shard of a case."""
    return int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:8], "big") % count


def cut(source: str, cases: Iterable[Case], count: int) -> dict[Shard, tuple[Case, ...]]:
    """Cut a source's cases into shards; shards without a case are left out."""
    found: dict[int, list[Case]] = {}
    for case in cases:
        found.setdefault(index_of(case.id, count), []).append(case)
    return {Shard(source, index, count): tuple(found[index]) for index in sorted(found)}
