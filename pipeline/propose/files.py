"""Cases that are files, and their templates: pictures, volumes, videos."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from pipeline.propose import patterns
from pipeline.propose.guess import Keys
from pipeline.propose.levels import Levels, by_depth, levels
from pipeline.propose.pairs import Keys as Names
from pipeline.propose.words import Key
from pipeline.vocabulary import Vocabulary
from sources import templates
from sources.listing import built_in


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


def described(paths: Sequence[str], names: Names, vocabulary: Vocabulary, key: str = "stem") -> Files:
    """Return the templates of some files; of those that lie elsewhere than most of them, each its own.

    Args:
        paths: The files; not empty.
        names: What the name of each is made of; `channel` in what follows makes siblings.
        vocabulary: Tells names of classes.
        key: What a case's name is to be captured as.
    """
    templates_, taken = list[str](), list[str]()
    first: tuple[Levels, str] | None = None
    for alike in by_depth(paths):
        above = levels(alike, vocabulary)
        file, named, fitting = _file(alike, names, key)
        templates_.append(f"{above.template}{file}{patterns.ending(fitting)}")
        taken += fitting
        first = first or (above, named)
    assert first is not None  # there are paths
    return Files(tuple(sorted(taken)), names, *first, tuple(templates_))


def _file(paths: Sequence[str], names: Names, key: str) -> tuple[str, str, list[str]]:
    """Return the template of a file's name, its capture, and the files that it is for."""
    stems = {built_in(path)["stem"] for path in paths}
    if len(stems) == 1 and len(paths) > 1:
        return patterns.literal(stems.pop()), "", list(paths)
    shapes = Counter((names[path].before, names[path].after) for path in paths if names[path].key)
    (before, after), count = shapes.most_common(1)[0] if shapes else (("", ""), 0)
    fitting = [path for path in paths if names[path][0::2] == (before, after) and names[path].key]
    if count < 0.8 * len(paths) or (before, after) == ("", ""):
        return f"{{{key}}}", key, list(paths)
    return f"{patterns.literal(before)}{{{key}}}{patterns.literal(after)}", key, fitting


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
    if named and len(files.match) == 1 and files.captures:
        found["id"] = "/".join(f"{{{name}}}" for name in files.captures)
    elif len({path.removesuffix(built_in(path)["suffix"]) for path in files.paths}) < len(files.paths):
        found["id"] = "{path}"
    if exclude:
        found["exclude"] = list(exclude)
    return found
