"""JSON of data sets: whatever is not JSON, or is nested without end, is one kind of error; long lists go by pieces."""

import json
import re
from collections.abc import Callable
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_scan = json.JSONDecoder().raw_decode


def parsed(data: bytes | str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parsed_but(data: bytes, name: str, take: Callable[[Any], None]) -> dict[str, Any]:
    """Return the members of an object, but one long list of it: as objects its elements would fill the memory.

    Args:
        data: The file.
        name: Of the list.
        take: Is given each element of it.

    Raises:
        ValueError: It is not a JSON object.
    """
    text = data.decode(json.detect_encoding(data))
    try:
        return _members(text, name, take)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _members(text: str, name: str, take: Callable[[Any], None]) -> dict[str, Any]:
    found = dict[str, Any]()
    at = _after(text, "{", _skip(text, 0))
    while not (text.startswith("}", at) and not found):  # an empty object
        key, end = _scan(text, at)
        if not isinstance(key, str):
            raise ValueError(f"a name is missing at character {at}")
        at = _after(text, ":", _skip(text, end))
        if key == name and text.startswith("[", at):
            at, found[key] = _elements(text, at, take), []
        else:
            found[key], at = _scan(text, at)
        at = _skip(text, at)
        if text.startswith("}", at):
            break
        at = _after(text, ",", at)
    if _skip(text, at + 1) != len(text):
        raise ValueError("there is more after its end")
    return found


def _elements(text: str, at: int, take: Callable[[Any], None]) -> int:
    """Go through the list that begins at a place, and return where it ends."""
    at = _after(text, "[", at)
    if text.startswith("]", at):
        return at + 1
    while True:
        element, end = _scan(text, at)
        take(element)
        at = _skip(text, end)
        if text.startswith("]", at):
            return at + 1
        at = _after(text, ",", at)


def _after(text: str, sign: str, at: int) -> int:
    if not text.startswith(sign, at):
        raise ValueError(f"{sign!r} is missing at character {at}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
