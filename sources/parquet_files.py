"""Parquet files: what columns they have, their cells as texts, and the bytes of pictures one by one."""

import functools
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import Unusable
from sources.cells import Row, cell

_AT_ONCE = 16
"""Pictures that are decoded together: fewer cost calls, more cost memory."""


class Described(NamedTuple):
    """What a file says of itself."""

    columns: tuple[str, ...]
    """Those that can be cells: all but bytes, and what holds bytes."""
    every: tuple[str, ...]
    rows: int


@contextmanager
def _sound() -> Iterator[None]:
    """Turn what a damaged file makes pyarrow raise into one reason."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Unusable("unreadable", os.strerror(error.errno or 0)) from None  # pyarrow's own words name the path
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise Unusable("undecodable", f"not a Parquet file, or a damaged one ({type(error).__name__})") from None


def described(path: Path) -> Described:
    """Read the footer of a file.

    Raises:
        Unusable: `undecodable`; `unreadable`.
    """
    with _sound(), pq.ParquetFile(path) as file:
        schema, count = file.schema_arrow, file.metadata.num_rows
    return Described(text_columns(schema), tuple(schema.names), count)


def rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of some columns as cells.

    Raises:
        Unusable: `undecodable`; `unreadable`.
    """
    with _sound(), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=list(columns)):
            yield from texts(batch, columns)


def text_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Return the columns that can be cells: all but bytes, what holds bytes, and a name that stands twice."""
    once = (field for field in schema if schema.get_field_index(field.name) >= 0)
    return tuple(field.name for field in once if not _holds_bytes(field.type))


def _holds_bytes(of: pa.DataType) -> bool:
    binary = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view
    return any(test(of) for test in binary) or any(_holds_bytes(of.field(n).type) for n in range(of.num_fields))


def texts(batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[Row]:
    """Return the rows of a batch as cells."""
    if not columns:
        return itertools.repeat((), batch.num_rows)
    listed = [map(cell, _values(batch.column(batch.schema.get_field_index(name)))) for name in columns]
    return zip(*listed, strict=True)


def _values(column: pa.Array) -> list[Any]:
    """Return a column's values; points in time as text, because Python's own hold no nanoseconds."""
    values: list[Any] = (column.cast(pa.string()) if pa.types.is_temporal(column.type) else column).to_pylist()
    return values


# ---- pictures


class _Column:
    """A column that is read cell by cell, onward from the cell before where that is possible."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = pq.ParquetFile(path, buffer_size=1 << 20)  # else a column of a row group is read whole
        self._name = name
        if name not in self._file.schema_arrow.names:
            raise Unusable("missing_image", f"the file has no column {name!r}")
        groups = (self._file.metadata.row_group(n).num_rows for n in range(self._file.metadata.num_row_groups))
        self._starts = [0, *itertools.accumulate(groups)]
        self._group, self._batches = -1, iter(())
        self._batch: Any = None
        self._first = 0
        """Row of the group at which the present batch begins."""

    def value(self, number: int) -> Any:
        if not 0 <= number < self._starts[-1]:
            raise Unusable("missing_image", f"row {number} of {self._starts[-1]}")
        group = bisect_right(self._starts, number) - 1
        place = number - self._starts[group]
        if group != self._group or self._batch is None or place < self._first:
            self._group, self._first = group, 0
            self._batches = self._file.iter_batches(_AT_ONCE, [group], [self._name])
            self._batch = self._next()
        while place >= self._first + self._batch.num_rows:
            self._first += self._batch.num_rows
            self._batch = self._next()
        return self._batch.column(0)[place - self._first].as_py()

    def _next(self) -> Any:
        self._batch = None  # what follows may fail, and then nothing is open
        found = next(self._batches, None)
        if found is None or not found.num_rows:
            raise Unusable("truncated", "the row group ends before its rows do")
        return found


@functools.lru_cache(maxsize=2)
def _column(path: Path, name: str, mtime_ns: int, size: int) -> _Column:
    return _Column(path, name)


def picture(path: Path, name: str, row: int) -> bytes:
    """Return the bytes of a picture file in a cell: as they are, or of Hugging Face's `{bytes, path}`.

    The file stays open for the rows that follow.

    Raises:
        Unusable: `missing_image`: no such column or row, or an empty cell; `undecodable`; `truncated`; `unreadable`.
    """
    with _sound():
        state = path.stat()
        value = _column(path, name, state.st_mtime_ns, state.st_size).value(row)
    held = value.get("bytes") if isinstance(value, dict) else value
    if held is None:
        named = isinstance(value, dict) and value.get("path")
        raise Unusable("missing_image", "the cell names a file and does not hold it" if named else "the cell is empty")
    if not isinstance(held, bytes):
        raise Unusable("undecodable", f"a cell of type {type(held).__name__} is no picture")
    return held
