"""What is odd in a data set as it was read: `medgloss check` prints it, and the curator declares the fix.

Nothing here changes a record: a suspicion is told, with its number and the key of the descriptor that would mend it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline import runlength
from pipeline.ingest.reading import Read
from pipeline.records import Case, Record, Region

REMARKS = {
    "empty_mask": "mask(s) without foreground; with `complete: true` they are negatives, else they say nothing",
    "full_mask": "mask(s) of foreground only; look at them",
    "specks": "region(s) out of which parts below limits.despeckle_px were taken",
    "planes_outside": "structure(s) with outlines on planes of which there is no slice",
    "inverted_mask": "mask(s) whose foreground fills border and more than half: if it is background, `invert: true`",
    "clipped_box": "box(es) of which more than 1 px stood outside the picture were clipped to it",
    "identical_masks": "mask(s) that equal another of the same case under a second label: one label may be wrong",
}
"""What reading a case remarks, and what to do about it."""
ENOUGH = 10
"""Pictures from which a regularity is told."""
MOST_COMPARED = 50
"""Pictures with masks that are compared pixel by pixel."""


class _Seen(NamedTuple):
    """Where a picture's bytes were seen first."""

    record: str
    split: str
    group: str


@dataclass(slots=True)
class Scan:
    """Collects, case by case, what a curator should know."""

    remarks: Counter[str] = field(default_factory=Counter)
    _pictures: dict[str, _Seen] = field(default_factory=dict)
    _twice: int = 0
    _across: list[tuple[str, str, str]] = field(default_factory=list)
    _suffixes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _inside: Counter[tuple[str, str]] = field(default_factory=Counter)
    _together: Counter[tuple[str, str]] = field(default_factory=Counter)
    _compared: int = 0

    def add(self, case: Case, read: Read) -> None:
        """Take one case."""
        self.remarks.update(read.remarks)
        for record in read.records:
            self._add_picture(record)
            self._add_suffix(case, record)
            self._add_containment(record)

    def _add_picture(self, record: Record) -> None:
        if record.picture is None:
            return
        here = _Seen(record.id, record.attributes.get("split", ""), record.group)
        first = self._pictures.setdefault(record.picture.sha256, here)
        if first is here:
            return
        self._twice += 1
        if first.split != here.split:
            self._across.append(("splits", first.record, here.record))
        elif first.group != here.group:
            self._across.append(("groups", first.record, here.record))

    def _add_suffix(self, case: Case, record: Record) -> None:
        suffix = PurePosixPath(case.files["image"][0]).suffix.lower()
        for region in record.regions:
            if region.box is None:
                self._suffixes[region.label or region.raw][suffix] += 1

    def _add_containment(self, record: Record) -> None:
        masked = [region for region in record.regions if region.mask and region.component in (None, 0)]
        if record.picture is None or len(masked) < 2 or self._compared >= MOST_COMPARED:
            return
        self._compared += 1
        width, height = record.picture.width, record.picture.height
        for one, other in permutations(masked, 2):
            pair = _name(one), _name(other)
            self._together[pair] += 1
            self._inside[pair] += _contains(one, other, width, height)

    def lines(self) -> Iterator[str]:
        """Yield what was found, a line each; nothing where nothing is odd."""
        for name, count in sorted(self.remarks.items()):
            yield f"{count:>6} {REMARKS.get(name, name)}"
        if self._twice:
            yield f"{self._twice:>6} picture(s) stand more than once"
        for what in ("splits", "groups"):
            pairs = [pair for pair in self._across if pair[0] == what]
            if pairs:
                yield f"{len(pairs):>6} picture(s) stand in two {what}, e.g. {pairs[0][1]} and {pairs[0][2]}"
        yield from _told_by_suffix(self._suffixes)
        for (outer, inner), count in sorted(self._inside.items()):
            if count == self._together[outer, inner] and count >= 3:
                yield f"{count:>6} picture(s) where {outer!r} holds all of {inner!r}: a union label?"


def _name(region: Region) -> str:
    name = (region.label or region.raw).replace("_", " ")
    return f"{region.side} {name}" if region.side else name


def _contains(outer: Region, inner: Region, width: int, height: int) -> bool:
    """Does one mask hold all of another? Boxes first: they are cheap."""
    assert outer.box is not None
    assert inner.box is not None
    assert outer.mask is not None
    assert inner.mask is not None
    one, other = outer.box, inner.box
    if not (one.x0 <= other.x0 and one.y0 <= other.y0 and other.x1 <= one.x1 and other.y1 <= one.y1):
        return False
    missing = runlength.decode(inner.mask, width, height) & ~runlength.decode(outer.mask, width, height)
    return not missing.any()


def _told_by_suffix(suffixes: Mapping[str, Counter[str]]) -> Iterator[str]:
    """Yield a line where the file type alone tells every label from the others."""
    of_label = {label: set(counts) for label, counts in suffixes.items()}
    kinds = {suffix for counts in of_label.values() for suffix in counts}
    alone = all(len(found) == 1 for found in of_label.values())
    total = sum(counts.total() for counts in suffixes.values())
    if len(of_label) > 1 and len(kinds) > 1 and alone and total >= ENOUGH:
        told = ", ".join(f"{label} {next(iter(found))}" for label, found in sorted(of_label.items()))
        yield f"{total:>6} picture(s) whose file type tells the class: {told}"
