"""Volumes of one body beside each other: `case_t1.nii.gz`, `case_flair.nii.gz`."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.propose.levels import folders
from pipeline.propose.words import SEQUENCES, Key
from sources.listing import built_in

MOST = 8


class Siblings(NamedTuple):
    """Files that are channels of cases."""

    names: dict[str, Key]
    """Path of the first channel of each case to what its name is made of."""
    channels: tuple[str, ...]
    """As names have them, sorted."""
    before: str
    """What stands between a case's name and its channel."""
    paths: dict[str, tuple[str, ...]]
    """First channel to all of them."""


def found(paths: Sequence[str]) -> Siblings | None:
    """Return which volumes are channels of one body, or None where most stand alone."""
    bodies: dict[tuple[tuple[str, ...], str, str], dict[str, str]] = defaultdict(dict)
    for path in paths:
        stem = built_in(path)["stem"]
        cut = re.fullmatch(r"(.*?)([_-]?)([A-Za-z0-9]+)", stem)
        if cut and (cut[3].lower() in SEQUENCES or re.fullmatch("0[0-9]{3}", cut[3])):
            bodies[folders(path), cut[1], cut[2]][cut[3]] = path
    several = {body: channels for body, channels in bodies.items() if len(channels) > 1}
    taken = sum(map(len, several.values()))
    joins, sets = {between for _, _, between in several}, Counter(tuple(sorted(named)) for named in several.values())
    if taken < 0.8 * len(paths) or not several or len(joins) != 1:
        return None
    usual, count = sets.most_common(1)[0]
    order = sorted({channel for channels in sets for channel in channels})
    numbered = any(channel.isdigit() for channel in order)
    if count < 0.8 * len(several) or len(order) > MOST or (numbered and "0000" not in usual):
        return None
    of_first = {channels[min(channels)]: (body, channels) for body, channels in several.items()}
    return Siblings(
        {path: Key("", body[1], "") for path, (body, _) in of_first.items()},
        tuple(order),
        joins.pop(),
        {path: tuple(channels[name] for name in sorted(channels)) for path, (_, channels) in of_first.items()},
    )
