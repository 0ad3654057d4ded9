"""Tables joined to cases: CSV or TSV, read once by the plan, cell texts as they stand."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError, did_you_mean
from sources.descriptor import Table


class Rows(NamedTuple):
    """A table by key."""

    columns: tuple[str, ...]
    by_key: Mapping[str, Mapping[str, str]]
    undecodable: frozenset[str]
    """Keys of rows that are not in the table's encoding."""
    repeated: frozenset[str]
    """Keys that stand in more than one row; the first row counts."""


def read(name: str, table: Table, root: Path) -> Rows:
    """Read a table.

    A row that is not in the declared encoding is kept apart: it spoils its own case, not the table.

    Raises:
        UserError: No such file, no such key column, or a quote that is not closed.
    """
    path = root / table.path
    try:
        text = path.read_bytes().decode(_codec(name, table.encoding), errors="surrogateescape")
    except OSError as error:
        raise UserError(f"table {name}: {table.path}: {error.strerror}") from None
    # str.splitlines would also cut at U+0085 and U+2028, which stand in free-text cells
    lines = io.StringIO(text, newline="").readlines()[table.skip_rows :]
    rows = csv.DictReader(lines, delimiter=table.delimiter.replace("\\t", "\t"), strict=True)
    try:
        columns = tuple(rows.fieldnames or ())
        listed = list(rows)
    except csv.Error as error:
        # a quote that is not closed would swallow the rows behind it
        raise UserError(f"table {name}: {table.path}, after line {rows.line_num + table.skip_rows}: {error}") from None
    if table.key not in columns:
        raise UserError(f"table {name}: no column {table.key!r}{did_you_mean(table.key, columns)}")
    by_key: dict[str, Mapping[str, str]] = {}
    undecodable, repeated = set(), set()
    for row in listed:
        cells = {column: (value or "").strip() for column, value in row.items() if isinstance(column, str)}
        key = cells[table.key].removeprefix(table.strip)
        if key in by_key:
            repeated.add(key)
            continue
        by_key[key] = cells
        if any("\udc80" <= character <= "\udcff" for value in cells.values() for character in value):
            undecodable.add(key)
    return Rows(columns, by_key, frozenset(undecodable), frozenset(repeated))


def _codec(name: str, encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(f"table {name}: unknown encoding {encoding!r}") from None
    return "utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding
