"""A proposal before it has been tried, and what trying it gives."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Unusable, UserError
from pipeline.propose.folder import DATA, Seen
from pipeline.records import Case
from pipeline.strict import dump_yaml
from sources import cases, preset
from sources.annotation import Annotation, Given, LabelVolume, Marks, MaskPictures, Spheres, StructureVolumes
from sources.cases import CasePlan
from sources.descriptor import AnnotationSpec, Descriptor, layout, parse

Keys = dict[str, Any]
"""Keys of a descriptor."""

MODALITY = "SAY which, for example ct, mr or xray"
"""Stands where only a person knows; no modality of the vocabulary, so that a check ends with a line that says so."""
MOST_FILES, MOST_CASES = 500, 20_000
"""Cases whose annotations are read for their labels: where each has a file that is opened, and where none has."""
_IN_FILES = ("voc", "yolo", "labelme", "aperio", "intervals", "adapter")
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
        """Cases that can be read."""
        return [case for case in self.plan.cases if case.files.get("image") and case.problem is None]


def tried(guess: Guess, seen: Seen) -> Tried | None:
    """Open a guess as a run would; None where it does not fit."""
    inside = seen.below(guess.below)
    known = _knows_modality(guess, inside.root)
    said = {**_HEAD, **({} if known else {"modality": MODALITY}), **guess.keys}
    try:
        descriptor = parse(preset.expanded(dump_yaml(said), "proposed", lambda *_: inside.root), "proposed")
        plan = cases.plan(descriptor, inside.root)
        labels, annotated = _read(descriptor, inside.root, plan)
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


def _read(descriptor: Descriptor, root: Path, plan: CasePlan) -> tuple[dict[int, tuple[str, ...]], float]:
    """Return the labels of each annotation, and the share of cases of which one of them speaks."""
    readable = [case for case in plan.cases if case.problem is None]
    mixed = random.Random(0).sample(readable, len(readable))  # evenly spread, every second class would be missed
    labels, speaking = dict[int, tuple[str, ...]](), set[str]()
    for number, spec in enumerate(descriptor.specs):
        raws = set[str]()
        for case in mixed[: MOST_FILES if spec.kind in _IN_FILES else MOST_CASES]:
            annotation = _annotation(spec, number, case, root)
            if annotation is not None:
                raws.update(_raws(annotation))
                speaking.add(case.id)
        labels[number] = tuple(sorted(raws))
    first = mixed[:MOST_FILES]
    return labels, sum(case.id in speaking for case in first) / max(1, len(first))


def _annotation(spec: AnnotationSpec, number: int, case: Case, root: Path) -> Annotation | None:
    shared = case.files.get(f"{number}.shared", ())
    given = Given(root, case.files.get(str(number), ()), case.notes.get(str(number)), shared)
    try:
        found: Annotation | None = layout(spec.kind).read(spec, case, given)
    except Unusable:
        return None
    return found


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
