"""From examples to path templates: what is the same in all of them is text, what a case knows is a capture."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.propose.words import breaks, key_of
from sources import trees
from sources.listing import built_in

Columns = Mapping[str, Sequence[str]]
"""Capture to its value in each example."""
_NUMBERED = re.compile(r"(.*?)([ _-]?\(?[0-9]+\)?)?")


class Tail(NamedTuple):
    """What follows a case's name in the names of its other files."""

    template: str
    label: bool = False
    """It captures a label."""
    many: bool = False
    """It captures a number: a case may have several."""


def literal(text: str) -> str:
    """Write a text into a template; a brace can not be written, and anything may stand for it.

    >>> literal("CT {new}")
    'CT *new*'
    """
    return re.sub(r"[{}*]+", "*", text)


def one_of(name: str, values: Sequence[str]) -> str:
    """Return a capture of some values, or of any where they hold braces or are too many to be listed."""
    if len(values) > 40 or any(re.search(r"[{}]", value) for value in values):
        return f"{{{name}}}"
    return trees.one_of(name, values)


def ending(paths: Sequence[str]) -> str:
    """Return the template of the suffixes of some paths: `.png`, `.{ext:jpg|png}`."""
    found = sorted({built_in(path)["suffix"] for path in paths})
    if len(found) == 1:
        return literal(found[0])
    if not all(suffix.startswith(".") for suffix in found):
        return "*"
    return f".{one_of('ext', [suffix[1:] for suffix in found])}"


def explained(texts: Sequence[str], known: Columns) -> str | None:
    """Return the template that gives each text from what is known of its case, or None.

    >>> explained(["a/1_x", "b/2_x"], {"split": ["a", "b"], "stem": ["1", "2"]})
    '{split}/{stem}_x'
    """
    if not any(texts):
        return ""
    told = next((name for name in sorted(known) if list(known[name]) == list(texts)), None)
    if told:
        return f"{{{told}}}"
    same = len(set(texts)) == 1
    if same and len(texts) > 1:
        return literal(texts[0])
    for name in sorted(known, key=lambda name: (-sum(map(len, known[name])), name)):
        parts = [_cut(text, value) for value, text in zip(known[name], texts, strict=True)]
        if len(set(known[name])) == 1 < len(texts) or not all(parts):
            continue
        before, after = (explained([part[side] for part in parts if part], known) for side in (0, 1))
        if before is not None and after is not None:
            return f"{before}{{{name}}}{after}"
    return literal(texts[0]) if same else None


def _cut(text: str, value: str) -> tuple[str, str] | None:
    """Return what stands before and behind a value in a text, where words begin and end with it."""
    ends = {0, *breaks(text)}
    at = text.find(value) if value else -1
    while at >= 0:
        if at in ends and at + len(value) in ends:
            return text[:at], text[at + len(value) :]
        at = text.find(value, at + 1)
    return None


def tail(texts: Sequence[str]) -> Tail | None:
    """Return the template of what follows a case's name: a text, a number, or a label with or without a number.

    >>> tail(["_mask", "_mask_1"]).template, tail(["_liver_000", "_spleen_000"]).template
    ('_mask{n:(?:[ _-]?[(]?[0-9]+[)]?)?}', '_{label}_{n:[0-9]+}')
    """
    different = sorted(set(texts))
    if len(different) == 1:
        return Tail(literal(different[0]))
    numbered = [_NUMBERED.fullmatch(text) for text in different]
    if len({found[1] for found in numbered if found}) == 1:
        base = numbered[0][1] if numbered[0] else ""
        if not base and "" in different:
            return Tail("{n:(?:[ _-]?[(]?[0-9]+[)]?)?}", many=True)
        return Tail(f"{literal(base)}{{n:(?:[ _-]?[(]?[0-9]+[)]?)?}}", many=True)
    return _labelled(different)


def _labelled(texts: Sequence[str]) -> Tail | None:
    counts = [re.fullmatch(r"(.+?)([_-])([0-9]+)", text) for text in texts]
    separators = {found[2] for found in counts if found}
    if all(counts) and len(separators) == 1:
        inner = _labelled_alone([found[1] for found in counts if found])
        return inner and inner._replace(template=f"{inner.template}{separators.pop()}{{n:[0-9]+}}", many=True)
    return _labelled_alone(texts)


def _labelled_alone(texts: Sequence[str]) -> Tail | None:
    """Return a tail whose label is what differs; words for a mask around it are text."""
    keys = [key_of(text) for text in set(texts)]
    before, after = ({key.before for key in keys}, {key.after for key in keys})
    if len(keys) == 1 or len(before) > 1 or len(after) > 1 or not all(key.key for key in keys):
        return None
    separators = before.pop() or common_separators([key.key for key in keys])
    return Tail(f"{literal(separators)}{{label}}{literal(after.pop())}", label=True)


def common_separators(texts: Sequence[str]) -> str:
    """Return the characters between words that all texts begin with; empty where nothing would follow."""
    found = {re.match("[_ .+-]*", text)[0] for text in texts}  # type: ignore[index]  # it fits anything
    return found.pop() if len(found) == 1 and all(text.strip("_ .+-") for text in texts) else ""
