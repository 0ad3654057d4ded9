"""A proposal before it has been tried, and what trying it gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import vocabulary
from pipeline.errors import Unusable, UserError
from pipeline.ingest.source import Source
from pipeline.propose.folder import DATA, Seen
from pipeline.records import Case
from pipeline.strict import dump_yaml
from sources import cases, preset
from sources.annotation import Annotation, LabelVolume, Marks, MaskPictures, Spheres, StructureVolumes
from sources.cases import CasePlan
from sources.descriptor import Descriptor, parse

Keys = dict[str, Any]
"""Keys of a descriptor."""

MODALITY = "SAY which, for example ct, mr or xray"
"""Stands where only a person knows; no modality of the vocabulary, so that a check ends with a line that says so."""
MOST_READ = 200
"""Cases whose annotations are read for their labels, evenly spread."""


_HEAD = {"schema": "medgloss/1", "id": "proposed", "title": "-", "license": {"name": "-"}, "egress": "none"}


@dataclass(frozen=True, slots=True)
class Guess:
    """Keys that may describe what lies in a folder."""

    name: str
    """Preset or kinds of annotation."""
    keys: Mapping[str, Any]
    """Without those that only a person knows."""
    assumed: tuple[str, ...] = ()
    below: str = ""
    """Folder that is the root, below the one that was looked at."""
    ask: Mapping[str, str] = field(default_factory=dict)
    """Key, dotted, to what a person should say of it."""


class Tried(NamedTuple):
    """A guess that parses and plans."""

    guess: Guess
    descriptor: Descriptor
    root: Path
    plan: CasePlan
    knows_modality: bool
    """The guess or its preset says it."""
    labels: Mapping[int, tuple[str, ...]]
    """Number of an annotation to the raw labels that were found."""
    annotated: float
    """Share of the cases that were read of which something is known."""
    covered: float
    """Share of the data files that are cases or belong to one."""

    @property
    def score(self) -> float:
        """How much of the folder it explains."""
        return self.covered * (0.4 + 0.6 * self.annotated)

    @property
    def pictured(self) -> list[Case]:
        """Cases that have what is to be read."""
        return [case for case in self.plan.cases if case.files.get("image")]


def tried(guess: Guess, seen: Seen) -> Tried | None:
    """Open a guess as a run would; None where it does not fit."""
    inside = seen.below(guess.below)
    known = _knows_modality(guess, inside.root)
    said = {**_HEAD, **({} if known else {"modality": MODALITY}), **guess.keys}
    try:
        descriptor = parse(preset.expanded(dump_yaml(said), "proposed", lambda *_: inside.root), "proposed")
        plan = cases.plan(descriptor, inside.root)
        labels, annotated = _read(Source(descriptor, inside.root, vocabulary.load()), plan)
    except UserError:
        return None
    return Tried(guess, descriptor, inside.root, plan, known, labels, annotated, _covered(plan, inside))


def _knows_modality(guess: Guess, root: Path) -> bool:
    if "preset" not in guess.keys:
        return "modality" in guess.keys
    try:
        preset.expanded(dump_yaml({**_HEAD, **guess.keys}), "proposed", lambda *_: root)
    except UserError:
        return False
    return True


def _covered(plan: CasePlan, inside: Seen) -> float:
    data = {path for form in DATA for path in inside.forms.get(form, ())}
    claimed = {path for case in plan.cases for role in case.files.values() for path in role}
    readable = {path for case in plan.cases if case.problem is None for path in case.files.get("image", ())}
    if not data & claimed:
        return float(bool(readable))  # rows of a table
    return len(data & claimed) / len(data) if readable else 0.0


def _read(source: Source, plan: CasePlan) -> tuple[dict[int, tuple[str, ...]], float]:
    """Return the labels of each annotation, and the share of cases of which one of them speaks."""
    readable = [case for case in plan.cases if case.problem is None]
    chosen = readable[:: max(1, -(-len(readable) // MOST_READ))]
    found: dict[int, dict[str, None]] = {n: {} for n, _ in enumerate(source.descriptor.specs)}
    speaking = 0
    for case in chosen:
        try:
            said = source.annotations(case)
        except Unusable:
            continue
        speaking += bool(said)
        for one in said:
            number = next(n for n, spec in enumerate(source.descriptor.specs) if spec is one.spec)
            found[number].update(dict.fromkeys(_raws(one.annotation)))
    labels = {n: tuple(sorted(raws)) for n, raws in found.items()}
    return labels, speaking / max(1, len(chosen))


def _raws(annotation: Annotation) -> list[str]:
    """Return the raw labels of an annotation, those that it denies included."""
    match annotation:
        case Marks():
            return [mark.raw for mark in annotation.marks if mark.raw and mark.problem is None]
        case MaskPictures():
            named = [[*(file.names or {}).values(), *(file.colours or {}).values()] for file in annotation.files]
            return [file.raw for file in annotation.files if file.raw] + [raw for raws in named for raw in raws]
        case LabelVolume():
            return [*(annotation.names or {}).values(), *annotation.unions]
        case StructureVolumes():
            return list(annotation.files)
        case Spheres():
            return [sphere.raw for sphere in annotation.spheres]
        case _:
            return []
