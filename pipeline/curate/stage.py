"""The curate stage: which split a sample is in, what it weighs, and why it was removed. Here: the split by group."""

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.curate.splits import split_of
from pipeline.settings import Splits


def curate(
    source: str, samples: Iterable[tuple[str, str]], groups: Mapping[str, str], splits: Splits, seed: str
) -> list[dict[str, Any]]:
    """Return one row a sample.

    Args:
        source: Id of the source.
        samples: Sample id and id of its first record.
        groups: Record id to group.
        splits: Shares.
        seed: Of the run.
    """
    return [
        {
            "id": sample,
            "record": record,
            "group": groups[record],
            "split": split_of(source, groups[record], splits, seed),
            "weight": 1.0,
            "removed": None,
        }
        for sample, record in samples
    ]
