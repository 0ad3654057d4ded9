"""What a label denies: `normal` may say that none of the other labels is there."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from sources.annotation import Mark
from sources.descriptor import AnnotationSpec, Texts

Negatives = dict[str, Literal["all"] | Texts]
"""Raw label to the raw labels that it denies; `all` are the others of the annotation's `labels`."""


def settled(spec: AnnotationSpec, negatives: Negatives, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Return the marks of a picture and the annotated negatives that follow from them.

    A label that denies what is there contradicts it: its mark gets a problem, and it denies nothing.

    Args:
        spec: Says what the labels mean.
        negatives: What each denies.
        marks: All positive.
    """
    found = {_meaning(spec, mark.raw) for mark in marks if not mark.problem}
    doubted = {_meaning(spec, mark.raw) for mark in marks}
    kept, denied = list[Mark](), dict[str, None]()
    for mark in marks:
        others = dict.fromkeys(_denied(spec, negatives, mark.raw))
        against = sum(_meaning(spec, other) in found for other in others)
        if against and not mark.problem:
            problem = "contradictory_labels", f"it denies {against} of the labels beside it"
            mark = replace(mark, problem=problem)
        elif not mark.problem:
            denied.update(others)
        kept.append(mark)
    return (*kept, *(Mark(raw, negative=True) for raw in denied if _meaning(spec, raw) not in doubted))


def _meaning(spec: AnnotationSpec, raw: str) -> str:
    return spec.rule(raw).label or raw


def _denied(spec: AnnotationSpec, negatives: Negatives, raw: str) -> Iterator[str]:
    """Yield what a label denies: not itself, nor another way to say the same."""
    named = negatives.get(raw, ())
    for other in spec.labels if named == "all" else named:
        another = named == "all" and other in negatives
        if not another and not spec.rule(other).drop and _meaning(spec, other) != _meaning(spec, raw):
            yield other
