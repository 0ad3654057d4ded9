"""What the folders above some files mean: a split, a class, a patient, or the same for all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.propose.patterns import literal, one_of
from pipeline.propose.words import SPLITS, bare, looks_like_ids
from pipeline.vocabulary import Vocabulary

MOST_CLASSES = 60
FEWEST_FILES = 3
"""In a class on average; a patient's folder may hold as few."""


class Levels(NamedTuple):
    """The folders above files that lie equally deep."""

    template: str
    """Ends in a slash, unless it is empty."""
    captures: Mapping[str, tuple[str, ...]]
    """Capture to its different values."""
    places: Mapping[str, int]
    """Capture to the place of its folder."""
    depth: int
    """Folders that there are."""

    def of(self, path: str) -> dict[str, str]:
        """Return the captures of a path."""
        parts = path.split("/")
        return {name: parts[place] for name, place in self.places.items()}


def folders(path: str) -> tuple[str, ...]:
    """Return the folders above a file."""
    return tuple(path.split("/")[:-1])


def by_depth(paths: Sequence[str]) -> list[list[str]]:
    """Group files by how deep they lie, the largest group first, without the last few per cent.

    A picture in the uppermost folder is a logo, most often.
    """
    counts = Counter(path.count("/") for path in paths)
    kept, covered = list[int](), 0
    for depth, count in sorted(counts.items(), key=lambda of: (-of[1], of[0])):
        if covered < 0.97 * len(paths):
            kept.append(depth)
            covered += count
    return [[path for path in paths if path.count("/") == depth] for depth in kept]


def levels(paths: Sequence[str], vocabulary: Vocabulary, one: str = "case") -> Levels:
    """Return what the folders above files of one depth mean.

    Args:
        paths: All equally deep.
        vocabulary: Tells names of classes.
        one: Name of the capture for what holds a single case.
    """
    above = [folders(path) for path in paths]
    values = [sorted(set(column)) for column in zip(*above, strict=True)]
    names = _names(values, len(paths), vocabulary, one)
    pieces = [
        one_of(name, column) if name == "split" else f"{{{name}}}" if name else literal(column[0])
        for name, column in zip(names, values, strict=True)
    ]
    places = {name: place for place, name in enumerate(names) if name}
    captures = {name: tuple(values[place]) for name, place in places.items()}
    return Levels("".join(f"{piece}/" for piece in pieces), captures, places, len(values))


def _names(values: Sequence[Sequence[str]], files: int, vocabulary: Vocabulary, one: str) -> list[str]:
    """Return the capture of each level; empty where all files lie in one folder."""
    names = ["" for _ in values]
    open_ = [place for place, column in enumerate(values) if len(column) > 1]
    for place in open_:
        if all(name.lower() in SPLITS for name in values[place]) and "split" not in names:
            names[place] = "split"
    classes = [p for p in open_ if not names[p] and is_class(values[p], files, vocabulary)]
    if classes:
        names[max(classes, key=lambda place: (known(values[place], vocabulary), place))] = "class"
    rest = [place for place in open_ if not names[place]]
    for number, place in enumerate(reversed(rest)):
        names[place] = (one, "part", *(f"part{n}" for n in range(2, 30)))[min(number, 29)]
    return names


def is_class(names: Sequence[str], files: int, vocabulary: Vocabulary) -> bool:
    """Return whether the names of folders with so many files are those of classes."""
    if len(names) < 2 or len(names) > MOST_CLASSES or any(not bare(name) for name in names):
        return False
    if known(names, vocabulary) >= 0.5:
        return True
    return not looks_like_ids(names) and files / len(names) >= FEWEST_FILES


def known(names: Sequence[str], vocabulary: Vocabulary) -> float:
    """Return the share of names that are in the vocabulary."""
    return sum(vocabulary.meaning(name).concept is not None for name in names) / max(1, len(names))
