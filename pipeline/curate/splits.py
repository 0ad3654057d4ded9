"""Splits by group: a patient's pictures never straddle two splits, whatever is added later."""

from pipeline.settings import Splits
from pipeline.store import digest


def split_of(source: str, group: str, splits: Splits, seed: str) -> str:
    """Return the split of a group, by the hash of its name: added groups move no other.

    >>> split_of("bccd", "p1", Splits(train=1, validation=0, test=0), "0")
    'train'
    """
    at = int(digest([seed, source, group])[:13], 16) / 16**13
    if at < splits.train:
        return "train"
    return "validation" if at < splits.train + splits.validation or splits.test == 0 else "test"
