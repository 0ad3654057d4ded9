"""Tables joined to cases by key, read once by the plan."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError, did_you_mean
from sources import sheets
from sources.cells import Row
from sources.descriptor import Table

_DELIMITERS = (";", "\t", "|", ",")
_UNDECODABLE = re.compile("[\udc80-\udcff]")


class Rows(NamedTuple):
    """A table by key."""

    columns: tuple[str, ...]
    by_key: Mapping[str, Row]
    """First row of each key, its cells in the order of the columns."""
    repeated: Mapping[str, tuple[Row, ...]]
    """All rows of the keys that stand in more than one."""
    undecodable: frozenset[str]
    """Keys of rows that are not in the table's encoding."""
    without_key: int = 0
    """Rows whose key is empty: they speak of no case."""

    def of(self, key: str) -> tuple[Row, ...]:
        """Return all rows of a key, in the table's order."""
        found = self.by_key.get(key)
        return self.repeated.get(key, (found,)) if found is not None else ()


def read(name: str, table: Table, root: Path) -> Rows:
    """Read a table.

    A row that is not in the declared encoding is kept apart: it spoils its own case, not the table.

    Raises:
        UserError: No such file, no such key column, or the file is not what its suffix says.
    """
    path, where = root / table.path, f"table {name}"
    said = f"{where}: {table.path}"
    columns, listed = sheets.read(
        path, said, table.delimiter, table.encoding, table.skip_rows, table.key, table.columns
    )
    if table.key not in columns:
        raise UserError(f"{where}: no column {table.key!r}{_near(table, columns)}")
    place = columns.index(table.key)
    by_key, repeated = dict[str, Row](), dict[str, list[Row]]()
    undecodable, without_key = set[str](), 0
    for row in listed:
        key = row[place].removeprefix(table.strip)
        if not key:
            without_key += 1
            continue
        first = by_key.setdefault(key, row)
        if first is not row:
            repeated.setdefault(key, [first]).append(row)
        text = "".join(row)
        if not text.isascii() and _UNDECODABLE.search(text):
            undecodable.add(key)
    of_repeated = {key: tuple(rows) for key, rows in repeated.items()}
    return Rows(columns, by_key, of_repeated, frozenset(undecodable), without_key)


def _near(table: Table, columns: Sequence[str]) -> str:
    """Say what may be wrong where the key is no column: most often the file has another delimiter."""
    if sheets.form_of(table.path) == "delimited" and len(columns) == 1:
        other = max(_DELIMITERS, key=columns[0].count)
        count = columns[0].count(other)
        if count:
            shown = other.replace("\t", "\\t")
            return f": the first line has {count} '{shown}'; set delimiter: '{shown}'"
    return did_you_mean(table.key, columns)
