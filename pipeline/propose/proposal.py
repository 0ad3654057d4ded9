"""`medgloss init FOLDER`: try what a folder may be, and write the descriptor that explains most of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import vocabulary as vocabularies
from pipeline.errors import UserError
from pipeline.propose import dressing, folder, images, presets, rows, series, writing
from pipeline.propose.folder import DATA, Seen
from pipeline.propose.guess import Tried, tried
from pipeline.vocabulary import Vocabulary

ENOUGH = 0.75
"""Score from which on no further guess is made."""


class Proposal(NamedTuple):
    """A descriptor that was found to fit."""

    text: str
    """YAML."""
    name: str
    """Preset or kinds of annotation."""
    cases: int
    """That have a picture."""


def propose(root: Path, beside: Path) -> Proposal:
    """Propose a descriptor of a folder; no picture is opened.

    Args:
        root: The folder.
        beside: Folder in which the descriptor will lie.

    Raises:
        UserError: No such folder, or nothing in it that can be read.
    """
    seen, vocabulary = folder.look(root), vocabularies.load()
    found = sorted(
        _tried(seen, vocabulary), key=lambda one: (-round(one.score, 3), -len(one.pictured), one.guess.below)
    )
    if not found:
        raise UserError(f"{root}: nothing here that medgloss can read: {_told(seen)}")
    best = found[0]
    others = {
        one.guess.below: one for one in reversed(found) if one.guess.below and one.guess.below != best.guess.below
    }
    text = writing.written(best, [others[below] for below in sorted(others)], seen, beside, vocabulary)
    return Proposal(text, best.guess.name, len(best.pictured))


def _told(seen: Seen) -> str:
    counts = [f"{count} {suffix}" for suffix, count, _ in folder.suffixes(seen.paths)[:6]]
    return ", ".join(counts) or "no files"


def _tried(seen: Seen, vocabulary: Vocabulary) -> Iterator[Tried]:
    """Yield the guesses that fit: presets, and the rest where none of these explains most of the folder."""
    enough = False
    for guess in presets.guesses(seen):
        one = tried(guess, seen)
        if one and one.pictured:
            enough = enough or one.score >= ENOUGH
            yield one
    if enough:
        return
    for base in (*images.bases(seen, vocabulary), *series.bases(seen, vocabulary)):
        fitting = (tried(guess, seen) for guess in dressing.guesses(base, seen, vocabulary))
        found = next((one for one in fitting if one and one.pictured), None)
        if found:
            yield found
    for guess in rows.guesses(seen, alone=not seen.of(*DATA)):
        one = tried(guess, seen)
        if one and one.pictured:
            yield one
