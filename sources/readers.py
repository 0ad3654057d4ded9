"""Several readers of one picture: their names hidden, their boxes kept apart or brought together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.records import Box
from sources.annotation import Mark

Policy = Literal["all", "union", "majority", "first"]
SAME = 0.5
"""Intersection over union from which two boxes of one label are one finding."""


def pseudonyms(names: Iterable[str]) -> dict[str, str]:
    """Return readers' names to `r1`, `r2`, … in the order of the names.

    >>> pseudonyms(["R9", "R10", "R9"])
    {'R10': 'r1', 'R9': 'r2'}
    """
    return {name: f"r{n}" for n, name in enumerate(sorted(set(names)), 1)}


@dataclass(slots=True)
class _Finding:
    """Boxes that mean the same."""

    marks: list[Mark] = field(default_factory=list)

    @property
    def readers(self) -> set[str | None]:
        return {mark.reader for mark in self.marks}

    @property
    def mean(self) -> Box:
        boxes = [mark.box for mark in self.marks if mark.box]
        return Box(*(sum(values) / len(boxes) for values in zip(*boxes, strict=True)))

    @property
    def hull(self) -> Box:
        x0, y0, x1, y1 = zip(*(mark.box for mark in self.marks if mark.box), strict=True)
        return Box(min(x0), min(y0), max(x1), max(y1))


def agreed(marks: Sequence[Mark], policy: Policy, readers: int) -> list[Mark]:
    """Bring the marks of several readers together.

    Args:
        marks: Of one picture, in order.
        policy: `all` and `first` leave them as they are; `union` makes one box around those of one finding;
            `majority` averages those of a finding that at least half of the readers drew. A label of the whole picture
            is a finding too, and so is a mark with a problem, which goes on as it stands.
        readers: How many readers looked at the picture.
    """
    if policy in ("all", "first"):
        return list(marks)
    findings = list[_Finding]()
    for mark in marks:
        _place(mark, findings)
    return [_as_one(finding, policy, readers) for finding in findings]


def _place(mark: Mark, findings: list[_Finding]) -> None:
    """Put a mark to the finding that it overlaps most, one of each reader at most, or begin another."""
    nearest, most = None, SAME
    for finding in findings:
        first = finding.marks[0]
        if first.raw != mark.raw or mark.problem or first.problem or mark.reader in finding.readers:
            continue
        share = overlap(mark.box, finding.mean) if mark.box and first.box else float(mark.box is first.box)
        if share >= most:
            nearest, most = finding, share
    if nearest is None:
        findings.append(_Finding([mark]))
    else:
        nearest.marks.append(mark)


def _as_one(finding: _Finding, policy: Policy, readers: int) -> Mark:
    first, count = finding.marks[0], len(finding.readers)
    if first.problem:
        return first
    if policy == "majority" and 2 * count < readers:
        return replace(first, problem=("minority", f"{count} of {readers} readers saw it; at least half should"))
    box = first.box and (finding.hull if policy == "union" else finding.mean)
    return replace(first, box=box, reader=first.reader if count == 1 else None)


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (one.area + other.area - width * height)
