"""`medgloss init FOLDER`: try what a folder may be, and write the descriptor that explains most of it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline import vocabulary as vocabularies
from pipeline.errors import UserError
from pipeline.propose import dressing, files, folder, images, presets, rows, series, writing
from pipeline.propose.folder import DATA, Seen
from pipeline.propose.guess import Guess, Tried, tried
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


def _tried(seen: Seen, vocabulary: Vocabulary) -> list[Tried]:
    """Return the guesses that fit: presets, and the rest where none of these explains most of the folder."""
    found = _fitting(presets.guesses(seen), seen)
    if any(one.score >= ENOUGH for one in found):
        return found
    for base in (*images.bases(seen, vocabulary), *series.bases(seen, vocabulary)):
        of_base = (tried(guess, seen) for guess in dressing.guesses(base, seen, vocabulary))
        first = next((one for one in of_base if one and one.pictured), None)
        found += [first] if first else []
    found += _fitting(rows.guesses(seen, alone=not seen.of(*DATA)), seen)
    return found or _fitting(_last_resort(seen), seen)


def _fitting(guesses: Iterable[Guess], seen: Seen) -> list[Tried]:
    return [one for guess in guesses if (one := tried(guess, seen)) and one.pictured]


def _last_resort(seen: Seen) -> Iterator[Guess]:
    """Yield the guess that every file of the form that most have is a case."""
    form = max(("picture", "volume", "series", "video"), key=lambda one: len(seen.of(one)))
    if seen.of(form):
        yield Guess("no annotation", {"cases": {**files.anything(seen.of(form)), "unlabelled": "keep"}})
