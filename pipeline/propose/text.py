"""A descriptor as a person wants to edit it: YAML with comments, in the order of the guide."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_PLAIN = re.compile(r"[A-Za-z0-9](?:[\w ()./+'-]*[\w()./+'-])?", re.ASCII)
_WIDEST = 100

At = tuple[str | int, ...]
"""Keys and places that lead to a value."""


class Remarks(NamedTuple):
    """Comments, by where they stand."""

    behind: Mapping[At, str]
    """At the end of a value's line."""
    above: Mapping[At, Sequence[str]]
    """On lines of their own above a key."""
    below: Mapping[At, Sequence[str]]
    """On lines of their own at the end of a mapping."""


def scalar(text: str) -> str:
    """Write a text so that it is read back as it is.

    >>> scalar("kidney cyst"), scalar("{stem}.png"), scalar("a: b")
    ('kidney cyst', '"{stem}.png"', '"a: b"')
    """
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=not text.isprintable())


def lines(data: Mapping[str, Any], remarks: Remarks, at: At = ()) -> Iterator[str]:
    """Write a mapping of mappings, lists and texts."""
    for key, value in data.items():
        here = (*at, key)
        yield from (f"# {text}".rstrip() for text in remarks.above.get(here, ()))
        behind = f"  # {remarks.behind[here]}" if here in remarks.behind else ""
        yield from _entry(scalar(str(key)), value, behind, remarks, here)
    yield from (f"# {text}" for text in remarks.below.get(at, ()))


def _entry(key: str, value: Any, behind: str, remarks: Remarks, here: At) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield f"{key}:{behind}"
        yield from (f"  {line}" for line in lines(value, remarks, here))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        yield f"{key}:{behind}"
        for number, one in enumerate(value):
            inner = list(lines(one, remarks, (*here, number)))
            first = next(at for at, line in enumerate(inner) if not line.startswith("#"))
            yield from (f"  {line}" for line in inner[:first])
            yield f"  - {inner[first]}"
            yield from (f"    {line}" for line in inner[first + 1 :])
    elif isinstance(value, list | tuple):
        flow = f"{key}: [{', '.join(scalar(str(one)) for one in value)}]{behind}"
        if len(flow) <= _WIDEST:
            yield flow
        else:
            yield f"{key}:{behind}"
            yield from (f"  - {scalar(str(one))}" for one in value)
    elif isinstance(value, Mapping):
        yield f"{key}: {{}}{behind}"
    else:
        yield f"{key}: {scalar(str(value))}{behind}"
