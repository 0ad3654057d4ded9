"""Path templates with named captures: `{split}/{class:benign|malignant}/{stem}.png`.

Grammar: `{name}` is one path segment or a part of it (`[^/]+`), `{name:regex}` what the regex says, a repeated name
must repeat its text, `*` anything within a segment, `**/` any number of folders. Everything else is literal.
"""

import functools
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from pipeline.errors import UserError

BUILT_IN = ("path", "name", "stem", "suffix", "folder")
"""Captures that every case has: of its first file."""


@functools.lru_cache(maxsize=1024)
def parts(template: str) -> tuple[tuple[str, str], ...]:
    """Split a template into (literal, text), (capture, name), (regex, name:expression), (any, *), (deep, **/).

    Raises:
        UserError: A brace is not closed, or a capture has no name.
    """
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(template):
        if template.startswith("**/", at):
            found.append(("deep", "**/"))
            at += 3
        elif template[at] == "*":
            found.append(("any", "*"))
            at += 1
        elif template[at] == "{":
            end = _closing(template, at)
            name, _, expression = template[at + 1 : end].partition(":")
            if not re.fullmatch(r"[A-Za-z_]\w*(\.[^{}:]+)?", name):
                raise UserError(f"template {template!r}: {name!r} is no name for a capture")
            found.append(("regex", f"{name}:{expression}") if expression else ("capture", name))
            at = end + 1
        else:
            end = next((i for i in range(at, len(template)) if template[i] in "{*"), len(template))
            found.append(("literal", template[at:end]))
            at = end
    return tuple(found)


def _closing(template: str, start: int) -> int:
    depth = 0
    for at in range(start, len(template)):
        depth += {"{": 1, "}": -1}.get(template[at], 0)
        if depth == 0:
            return at
    raise UserError(f"template {template!r}: a brace is not closed")


def captures_of(template: str) -> set[str]:
    """Return the names a template captures or uses."""
    return set(_names(template))


@functools.lru_cache(maxsize=1024)
def _names(template: str) -> frozenset[str]:
    return frozenset(text.partition(":")[0] for kind, text in parts(template) if kind in ("capture", "regex"))


@functools.lru_cache(maxsize=1024)
def _pattern(template: str, first: int = 0) -> re.Pattern[str]:
    """Compile a template from a part on."""
    return _compiled(template, {}, first)


def _compiled(template: str, known: Mapping[str, str], first: int = 0) -> re.Pattern[str]:
    seen, pattern = set[str](), ""
    for kind, text in parts(template)[first:]:
        name, _, expression = text.partition(":")
        if kind == "literal":
            pattern += re.escape(text)
        elif kind == "any":
            pattern += "[^/]*"
        elif kind == "deep":
            pattern += "(?:[^/]+/)*"
        elif name in known:
            pattern += re.escape(known[name])
        elif name in seen:
            pattern += f"(?P={name})"
        elif "." in name:  # a table's cell: known per case only, and no name for a group
            pattern += f"(?:{expression or '[^/]+'})"
        else:
            seen.add(name)
            pattern += f"(?P<{name}>{expression or '[^/]+'})"
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"template {template!r}: {error}") from None


def match(template: str, path: str) -> dict[str, str] | None:
    """Return the captures of a path, or None where it does not fit.

    >>> match("{split}/{class}/x{n:[0-9]+}.png", "train/benign/x12.png")
    {'split': 'train', 'class': 'benign', 'n': '12'}
    """
    found = _pattern(template).fullmatch(path)
    return found.groupdict() if found else None


def fill(template: str, captures: Mapping[str, str]) -> str:
    """Put captures into a template that has no wildcard.

    Raises:
        UserError: A name is not captured, or a wildcard is left.
    """
    text = ""
    for kind, part in parts(template):
        name = part.partition(":")[0]
        if kind == "literal":
            text += part
        elif kind in ("any", "deep"):
            raise UserError(f"template {template!r}: a wildcard has no value here")
        elif name in captures:
            text += captures[name]
        else:
            known = ", ".join(sorted(captures))
            raise UserError(f"template {template!r}: {name!r} is not captured; captured are {known}")
    return text


_FEW = 8
"""Paths that are sooner compared than looked up."""
_BITS = 20
"""Of the place within a path; no system has paths of a megabyte."""


class Paths(Sequence[str]):
    """Sorted paths, found by how they begin or by how any of their folders goes on."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        """Return a path, or some."""
        return self._paths[at]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        """Go through them in order."""
        return iter(self._paths)

    def __contains__(self, path: object) -> bool:
        """Say whether a path is among them."""
        at = bisect_left(self._paths, path) if isinstance(path, str) else len(self)
        return at < len(self) and self._paths[at] == path

    def beginning(self, text: str) -> range:
        """Return the places of those that begin with a text."""
        first = bisect_left(self._paths, text)
        return range(first, bisect_right(self._paths, text, first, key=lambda path: path[: len(text)]))

    def holding(self, text: str) -> range:
        """Return where the tails stand that begin with a text; `of_tails` says whose they are."""
        first = bisect_left(self._tails, text, key=self._tail)
        return range(first, bisect_right(self._tails, text, first, key=lambda tail: self._tail(tail)[: len(text)]))

    def of_tails(self, tails: range) -> list[str]:
        """Return the paths that some tails belong to."""
        return [self._paths[place] for place in sorted({self._tails[at] >> _BITS for at in tails})]

    @functools.cached_property
    def _tails(self) -> "array[int]":
        """Every path from every folder of it on, sorted: its place and where the tail begins, as one number."""
        found = []
        for place, path in enumerate(self._paths):
            found.append(place << _BITS)
            at = path.find("/") + 1
            while at:
                found.append(place << _BITS | at)
                at = path.find("/", at) + 1
        return array("Q", sorted(found, key=self._tail))

    def _tail(self, tail: int) -> str:
        return self._paths[tail >> _BITS][tail & (1 << _BITS) - 1 :]


def find(template: str, paths: Sequence[str], captures: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paths that fit a template once the captures are filled in, and what else they capture.

    Args:
        template: A path template.
        paths: Sorted; `Paths` where many searches are made.
        captures: What is known already.
    """
    listed = paths if isinstance(paths, Paths) else Paths(paths)
    known = {name: captures[name] for name in _names(template) if name in captures}
    start, first = _run(template, known, 0)
    rest = parts(template)[first:]
    if not rest:
        if start in listed:
            yield start, {}
        return
    if any(kind in ("capture", "regex") and text.partition(":")[0] in known for kind, text in rest):
        pattern = None  # what is known differs from case to case, and so does the pattern
    else:
        pattern = _pattern(template, first)
    for path in _candidates(template, known, start, first, listed):
        pattern = pattern or _compiled(template, known, first)
        found = pattern.fullmatch(path, len(start))
        if found:
            yield path, found.groupdict()


def _run(template: str, known: Mapping[str, str], first: int) -> tuple[str, int]:
    """Return the text that is known from a part on, and the part it ends before."""
    text = ""
    for at, (kind, part) in enumerate(parts(template)[first:], first):
        name = part.partition(":")[0]
        if kind == "literal":
            text += part
        elif kind in ("capture", "regex") and name in known:
            text += known[name]
        else:
            return text, at
    return text, len(parts(template))


def _candidates(template: str, known: Mapping[str, str], start: str, first: int, paths: Paths) -> list[str]:
    """Return the fewest paths that the known runs of a template leave, each a match or not.

    A template that begins with `**/` would else be compared with every path, for every case.
    """
    beginning, every = paths.beginning(start), parts(template)
    fewest: range | None = None
    at = first
    while at < len(every) and len(beginning if fewest is None else fewest) > _FEW:
        deep = every[at][0] == "deep"
        run, after = _run(template, known, at + deep)
        if not (deep and (at == 0 or every[at - 1][1].endswith("/"))):
            run = run.partition("/")[2]  # it begins within a name: what counts is from its first folder on
        holding = paths.holding(run) if run else beginning
        if len(holding) < len(beginning if fewest is None else fewest):
            fewest = holding
        at = max(after, at + 1)
    if fewest is None:
        return paths[beginning.start : beginning.stop]
    return [path for path in paths.of_tails(fewest) if path.startswith(start)]
