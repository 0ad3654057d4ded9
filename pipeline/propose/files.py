"""Cases that are files, and their templates: pictures, volumes, videos."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pipeline.propose import patterns
from pipeline.propose.guess import Keys
from pipeline.propose.levels import MOST_CLASSES, Levels, by_depth, known, levels
from pipeline.propose.pairs import Keys as Names
from pipeline.propose.words import Key
from pipeline.vocabulary import Vocabulary
from sources import templates
from sources.listing import built_in

_MOST_SHAPES = 3
_CLASS_FIRST = re.compile(r"([A-Za-z][A-Za-z _-]*[A-Za-z])([ _.-]*[(]?[0-9].*)")


class Files(NamedTuple):
    """Files that are cases."""

    paths: tuple[str, ...]
    names: Names
    """Path to what its name is made of."""
    levels: Levels
    """Of those that most have."""
    key: str
    """What a case's name is captured as; empty where all files are called the same."""
    match: tuple[str, ...]

    @property
    def captures(self) -> list[str]:
        """Captures that tell one case from another."""
        return [*self.levels.places, *([self.key] if self.key else [])]


class Part(NamedTuple):
    """An annotation to be proposed."""

    keys: Keys
    others: tuple[str, ...] = ()
    """The files it takes, one or more for a case."""
    assumed: tuple[str, ...] = ()
    ask: Mapping[str, str] = MappingProxyType({})
    """Key of the annotation to what a person should say of it."""


class Base(NamedTuple):
    """Cases, before tables and files of annotations are joined to them."""

    files: Files
    keys: Keys
    """`cases`, and `channels` where there are any."""
    parts: Sequence[Part] = ()
    assumed: tuple[str, ...] = ()
    deep: bool = False
    """Cases are volumes or series: which of their slices are shown must be said where nothing is labelled."""


def described(paths: Sequence[str], names: Names, vocabulary: Vocabulary, key: str = "stem") -> Files:
    """Return the templates of some files; of those that lie or are called otherwise than most, each its own.

    Args:
        paths: The files; not empty.
        names: What the name of each is made of.
        vocabulary: Tells names of classes.
        key: What a case's name is to be captured as.
    """
    match, taken = list[str](), list[str]()
    first: tuple[Levels, str] | None = None
    for alike in by_depth(paths):
        above = levels(alike, vocabulary, deep=key != "stem")
        file, named = _names(alike, names, above, key)
        match += [f"{above.template}{one}{patterns.ending(alike)}" for one in file]
        taken += alike
        first = first or (above, named)
    assert first is not None  # there are paths
    return Files(tuple(sorted(taken)), names, *first, tuple(match))


def _names(paths: Sequence[str], names: Names, above: Levels, key: str) -> tuple[list[str], str]:
    """Return the templates of files' names, the longest words first, and what they capture."""
    stems = [built_in(path)["stem"] for path in paths]
    same = patterns.explained(stems, above.columns(paths)) if len(paths) > 1 else None
    if same is not None:
        return [same], ""
    key = own(key, above)
    around = Counter((names[path].before, names[path].after) if names[path].key else ("", "") for path in paths)
    usual = [pair for pair, _ in sorted(around.items(), key=lambda of: (-of[1], of[0]))[:_MOST_SHAPES]]
    if len(around) > _MOST_SHAPES and ("", "") not in usual:
        usual[-1] = ("", "")
    usual.sort(key=lambda pair: -len("".join(pair)))
    return [f"{patterns.literal(before)}{{{key}}}{patterns.literal(after)}" for before, after in usual], key


def with_class_in_names(files: Files, vocabulary: Vocabulary) -> Files:
    """Return files whose names begin with their class, `benign_007`, with a capture for it; others as they are."""
    begun = [_CLASS_FIRST.fullmatch(built_in(path)["stem"]) for path in files.paths]
    classes = sorted({found[1] for found in begun if found})
    plain = len(files.match) == 1 and files.match[0].rpartition("/")[2].startswith("{stem}.")
    if not plain or "class" in files.levels.places or not all(begun):
        return files
    if not 2 <= len(classes) <= MOST_CLASSES or known(classes, vocabulary) < 0.5:
        return files
    match = files.match[0].replace("{stem}", f"{patterns.one_of('class', classes)}{{rest}}")
    named = files.levels._replace(captures={**files.levels.captures, "class": tuple(classes)})
    return files._replace(match=(match,), levels=named)


def own(key: str, above: Levels) -> str:
    """Return a name for a capture that no folder has."""
    return f"{key}_name" if key in above.places else key


def whole(paths: Sequence[str]) -> Names:
    """Return the names of files as they are."""
    return {path: Key("", built_in(path)["stem"], "") for path in paths}


def strays(match: Sequence[str], wanted: Sequence[str], every: Sequence[str]) -> list[str]:
    """Return the files that some templates take beside those that are wanted."""
    known = set(wanted)
    return [
        path for path in every
        if path not in known and any(templates.match(template, path) is not None for template in match)
    ]  # fmt: skip


def cases(files: Files, exclude: Sequence[str] = (), form: str | None = None, named: bool = False) -> Keys:
    """Return the key `cases` of a descriptor.

    Args:
        files: What is read.
        exclude: Templates of what fits and is no case.
        form: Where the suffix does not tell.
        named: Give cases the name of what tells them apart, not that of their path.
    """
    found: Keys = {"match": files.match[0] if len(files.match) == 1 else list(files.match)}
    if form:
        found["form"] = form
    if named and files.captures and _tell_apart(files):
        found["id"] = "/".join(f"{{{name}}}" for name in files.captures)
    elif len({path.removesuffix(built_in(path)["suffix"]) for path in files.paths}) < len(files.paths):
        found["id"] = "{path}"
    if exclude:
        found["exclude"] = list(exclude)
    return found


def _tell_apart(files: Files) -> bool:
    """Return whether what is captured of each file is so of no other."""
    found = set[tuple[str, ...]]()
    for path in files.paths:
        matches = (templates.match(template, path) for template in files.match)
        captures = next((match for match in matches if match is not None), None)
        if captures is None or not set(files.captures) <= set(captures):
            return False
        found.add(tuple(captures[name] for name in files.captures))
    return len(found) == len(files.paths)


def anything(paths: Sequence[str]) -> Keys:
    """Return the key `cases` for files wherever they lie and whatever they are called."""
    suffixes = sorted({built_in(path)["suffix"] for path in paths})
    return {"match": [f"**/{{stem}}{patterns.literal(suffix)}" for suffix in suffixes], "id": "{path}"}
