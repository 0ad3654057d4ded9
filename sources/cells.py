"""Cells of tables: whatever a file holds, they are texts."""

import json
from typing import Any

Row = tuple[str, ...]


def cell(value: Any) -> str:
    """Return the text of a value of JSON or Parquet: nothing for null and NaN, JSON for what is nested.

    >>> cell(1.0), cell(True), cell(None), cell([1, {"a": None}])
    ('1.0', 'true', '', '[1,{"a":null}]')
    """
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value or isinstance(value, bytes):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return str(value)


def _plain(value: Any) -> str | None:
    return None if isinstance(value, bytes) else str(value)
