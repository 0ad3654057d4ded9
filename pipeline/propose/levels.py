"""What the folders above some files mean: a split, a class, a patient, or the same for all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.propose.patterns import literal, one_of
from pipeline.propose.words import SEQUENCES, SPLITS, around, bare, looks_like_ids, words
from pipeline.vocabulary import Vocabulary

_NO_CLASS = SPLITS | SEQUENCES | {"mr", "mri", "us"}
"""Words that tell parts of a data set apart, not classes: `ct_train`, `mr_train`."""
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
    around: Mapping[str, tuple[str, str]]
    """Capture to what stands before and behind it in its folder's name."""
    depth: int
    """Folders that there are."""

    def of(self, path: str) -> dict[str, str]:
        """Return the captures of a path."""
        parts = path.split("/")
        return {name: parts[at].removeprefix(self.around[name][0]).removesuffix(self.around[name][1])
                for name, at in self.places.items()}  # fmt: skip

    def columns(self, paths: Sequence[str]) -> dict[str, list[str]]:
        """Return each capture's value in some paths."""
        found = [self.of(path) for path in paths]
        return {name: [captures[name] for captures in found] for name in self.places}


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


def levels(paths: Sequence[str], vocabulary: Vocabulary, deep: bool = False) -> Levels:
    """Return what the folders above files of one depth mean.

    Args:
        paths: All equally deep.
        vocabulary: Tells names of classes.
        deep: They are volumes or series, whose folders are classes only where the vocabulary knows their names.
    """
    columns = [sorted(set(column)) for column in zip(*(folders(path) for path in paths), strict=True)]
    names = _names(columns, 0 if deep else len(paths), vocabulary)
    places = {name: place for place, name in enumerate(names) if name}
    beside = {name: around(columns[place]) for name, place in places.items()}
    captures = {name: tuple(_inner(one, *beside[name]) for one in columns[place]) for name, place in places.items()}
    pieces = [
        f"{literal(beside[name][0])}{_capture(name, captures[name])}{literal(beside[name][1])}" if name
        else literal(column[0])
        for name, column in zip(names, columns, strict=True)
    ]  # fmt: skip
    return Levels("".join(f"{piece}/" for piece in pieces), captures, places, beside, len(columns))


def _inner(name: str, before: str, behind: str) -> str:
    return name[len(before) : len(name) - len(behind)]


def _capture(name: str, values: Sequence[str]) -> str:
    return one_of(name, values) if name == "split" else f"{{{name}}}"


def _names(values: Sequence[Sequence[str]], files: int, vocabulary: Vocabulary) -> list[str]:
    """Return the capture of each level; empty where all files lie in one folder."""
    names = ["" for _ in values]
    open_ = [place for place, column in enumerate(values) if len(column) > 1]
    for place in open_:
        if all(_is_split(name) for name in values[place]) and "split" not in names:
            names[place] = "split"
    classes = [p for p in open_ if not names[p] and is_class(values[p], files, vocabulary)]
    if classes:
        names[max(classes, key=lambda place: (known(values[place], vocabulary), place))] = "class"
    rest = [place for place in open_ if not names[place]]
    for number, place in enumerate(reversed(rest)):
        names[place] = ("case", "part", *(f"part{n}" for n in range(2, 30)))[min(number, 29)]
    return names


def _is_split(name: str) -> bool:
    return name.lower() in SPLITS or bare(name) in SPLITS


def is_class(names: Sequence[str], files: int, vocabulary: Vocabulary) -> bool:
    """Return whether the names of folders with so many files are those of classes."""
    if len(names) < 2 or len(names) > MOST_CLASSES or any(not bare(name) for name in names):
        return False
    if known(names, vocabulary) >= 0.5:
        return True
    shared = set.intersection(*(set(words(name)) for name in names))
    if all(_NO_CLASS.issuperset(set(words(name)) - shared) for name in names):
        return False
    return not looks_like_ids(names) and files / len(names) >= FEWEST_FILES


def known(names: Sequence[str], vocabulary: Vocabulary) -> float:
    """Return the share of names that are in the vocabulary."""
    return sum(vocabulary.meaning(name).concept is not None for name in names) / max(1, len(names))
