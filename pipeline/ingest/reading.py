"""A case that is being read: what becomes of each of its pictures is a record or a row with a reason."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Unusable
from pipeline.ingest.source import Annotated, Laid, Source, Terms
from pipeline.records import Case, Level, Picture, Record, Region, Rejected

MOST_WORDS, MOST_CHARACTERS = 8, 80
"""Of a label that is not in the vocabulary."""
UNKNOWN = ("unknown_class", "unknown_label_id", "unlabelled", "not_a_label")
"""Why a region is left out whose label the descriptor does not name."""


@dataclass(slots=True)
class Tally:
    """What was found, counted where it is found: the left sides of the ledgers."""

    pictures_cut: int = 0
    pictures_not_selected: int = 0
    regions_found: int = 0


@dataclass(slots=True)
class Read:
    """What became of one case."""

    records: list[Record] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    remarks: Counter[str] = field(default_factory=Counter)
    """What a curator should know of it; nothing depends on it."""

    def reject(self, id_: str, level: Level, reason: str, detail: str) -> None:
        """Add a row for what is left out."""
        self.rejected.append(Rejected(id_, level, "ingest", reason, detail))


class Reading(NamedTuple):
    """A case that is being read."""

    case: Case
    source: Source
    terms: Terms
    modality: str
    """Key of the vocabulary's modalities."""
    annotations: Sequence[Annotated]
    looked_for: frozenset[str]
    """By the annotations that are complete."""
    out: Read

    @property
    def id(self) -> str:
        """What the ids of its records begin with."""
        return f"{self.case.source}/{self.case.id}"

    def passed_over(self, count: int) -> None:
        """Count pictures that a rule did not select."""
        self.out.tally.pictures_cut += count
        self.out.tally.pictures_not_selected += count

    def lost(self, name: str, reason: str, detail: str) -> None:
        """Count a picture that can not be read, and say why."""
        self.out.tally.pictures_cut += 1
        self.out.reject(f"{self.id}/{name}", "record", reason, detail)

    def alone(self, name: str, several: bool, read: Callable[[], None]) -> None:
        """Read one of several parts of a case: a bad one leaves the others be. A part that is all fails the case."""
        try:
            read()
        except Unusable as error:
            if not several:
                raise
            self.lost(name, error.reason, error.detail)

    @property
    def paths(self) -> list[Path]:
        """The files of its pictures."""
        return [self.source.root / path for path in self.case.files["image"]]


class Settled(NamedTuple):
    """The regions of a picture, the bad ones rejected."""

    kept: tuple[Region, ...]
    doubted: frozenset[str | None]
    """Labels of the bad ones."""
    unknown: bool
    """Something is there of which nobody knows what it is."""


def settled(reading: Reading, record_id: str, laid: Laid) -> Settled:
    """Count the regions of a picture, and reject the bad ones."""
    kept, doubted, unknown = list[Region](), set[str | None](), False
    reading.out.tally.regions_found += len(laid.placed)
    for n, (region, problem, _) in enumerate(laid.placed):
        problem = problem or _no_label(region)
        if problem is None:
            kept.append(region)
        else:
            doubted.add(region.label)
            unknown |= problem[0] in UNKNOWN
            reading.out.reject(f"{record_id}/r{n:03d}", "region", *problem)
    return Settled(tuple(kept), frozenset(doubted), unknown)


def _no_label(region: Region) -> tuple[str, str] | None:
    """Refuse a sentence where a label should be: free text may name a person, or tell a model what to do."""
    if region.label is not None:
        return None
    words = len(region.raw.split())
    if words <= MOST_WORDS and len(region.raw) <= MOST_CHARACTERS:
        return None
    said = f"{words} words of {len(region.raw)} characters that no vocabulary knows"
    return "not_a_label", f"{said}; if they are a label, say in `labels` what it means"


def _problem(reading: Reading, picture: Picture | None, bare: bool) -> tuple[str, str] | None:
    """Return why a picture is left out, or None."""
    limits = reading.source.descriptor.limits
    if picture:
        size, short = f"{picture.width}x{picture.height} px", min(picture.width, picture.height)
        if short < limits.min_side_px:
            return "too_small", f"{size}; shorter side at least {limits.min_side_px}"
        if short < limits.min_aspect * max(picture.width, picture.height):
            return "too_narrow", f"{size}; shorter by longer side at least {limits.min_aspect:g}"
    if bare and reading.source.descriptor.cases.unlabelled == "reject":
        return "no_region", "no region is left on it, and absence is not annotated"
    return None


def keep(
    reading: Reading,
    record_id: str,
    picture: Picture | None,
    laid: Laid,
    history: tuple[str, ...],
    text: str | None = None,
) -> None:
    """Make a record, or reject the picture with its regions."""
    case, source, terms = reading.case, reading.source, reading.terms
    regions, doubted, unknown = settled(reading, record_id, laid)
    reading.out.remarks.update(laid.remarks)
    doubted |= laid.doubted
    present = {region.label for region in regions}
    annotated = tuple(sorted((reading.looked_for | laid.absent) - doubted))
    if unknown:  # nothing else can be said to be absent
        annotated = tuple(label for label in annotated if label in present)
    problem = _problem(reading, picture, not regions and not annotated and text is None)
    if problem:
        reading.out.reject(record_id, "record", *problem)
        for n, _ in enumerate(regions):
            reading.out.reject(f"{record_id}/k{n:03d}", "region", "picture_rejected", problem[0])
        return
    descriptor, vocabulary, modality = source.descriptor, source.vocabulary, reading.modality
    reading.out.records.append(
        Record(
            id=record_id,
            picture=picture,
            text=text,
            modality=modality,
            sub_modality=source.filled(descriptor.sub_modality, case),
            department=descriptor.department or vocabulary.department(regions, modality),
            task=descriptor.task or vocabulary.task(regions, modality),
            origin="text" if picture is None else source.origin(case),
            regions=regions,
            annotated=annotated,
            doubted=tuple(sorted({label for label in doubted if label} | (laid.absent & present))),
            attributes=source.attributes(case),
            body_part=source.filled(descriptor.body_part, case),
            source=case.source,
            case=case.id,
            group=case.group,
            license=terms.name,
            redistribute=terms.redistribute,
            commercial=terms.commercial,
            egress=terms.egress,
            history=history,
        )
    )
