"""Path templates with named captures: `{split}/{class:benign|malignant}/{stem}.png`.

Grammar: `{name}` is one path segment or a part of it (`[^/]+`), `{name:regex}` what the regex says, a repeated name
must repeat its text, `*` anything within a segment, `**/` any number of folders. Everything else is literal.
"""

import functools
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

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
    return {text.partition(":")[0] for kind, text in parts(template) if kind in ("capture", "regex")}


@functools.lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern[str]:
    return _compiled(template, ())


def _compiled(template: str, known: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    values, seen, pattern = dict(known), set[str](), ""
    for kind, text in parts(template):
        name, _, expression = text.partition(":")
        if kind == "literal":
            pattern += re.escape(text)
        elif kind == "any":
            pattern += "[^/]*"
        elif kind == "deep":
            pattern += "(?:[^/]+/)*"
        elif name in values:
            pattern += re.escape(values[name])
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


def find(template: str, paths: Sequence[str], captures: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paths that fit a template once the captures are filled in, and what else they capture.

    Args:
        template: A path template.
        paths: Sorted.
        captures: What is known already.
    """
    known = {name: value for name, value in captures.items() if name in captures_of(template)}
    prefix = ""
    for kind, part in parts(template):
        name = part.partition(":")[0]
        if kind == "literal":
            prefix += part
        elif kind in ("capture", "regex") and name in known:
            prefix += known[name]
        else:
            break
    pattern = _compiled(template, tuple(sorted(known.items())))
    for at in range(bisect_left(paths, prefix), len(paths)):
        if not paths[at].startswith(prefix):
            return
        found = pattern.fullmatch(paths[at])
        if found:
            yield paths[at], found.groupdict()
