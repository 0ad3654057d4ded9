"""Tables as they stand in their files: CSV, TSV, JSON, JSON Lines, Parquet or XLSX; every cell becomes a text."""

import csv
import gzip
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from pipeline.errors import Unusable, UserError
from sources import parquet_files
from sources.cells import Row, cell

Form = Literal["delimited", "json_lines", "json", "parquet", "xlsx"]

FORMS: Mapping[str, Form] = {
    ".jsonl": "json_lines",
    ".ndjson": "json_lines",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
"""Suffix to form; everything else is text with a delimiter."""
MOST_LINE = 64 << 20
"""Characters of a line: an outline or a report is long, a broken file has no end of line at all."""
MOST_TEXT = 8 << 30
"""Characters of a file once unpacked."""

_MOST_SEEN = 50_000

csv.field_size_limit(MOST_LINE)  # of the whole process; the library's 131 072 are too few for the outlines of a mask


class Sheet(NamedTuple):
    """A table of texts."""

    columns: tuple[str, ...]
    """Each once: a header cell that is empty or stands a second time is `column 7`, counted from 1."""
    rows: Iterable[Row]
    """Each as long as the columns; gone through once."""


def form_of(name: str) -> Form:
    """Return what a file's name says it is; `.gz` may follow the suffix.

    >>> form_of("labels.CSV.gz"), form_of("metadata.jsonl")
    ('delimited', 'json_lines')
    """
    return FORMS.get(PurePath(name.lower().removesuffix(".gz")).suffix, "delimited")


def read(
    path: Path,
    where: str,
    delimiter: str = ",",
    encoding: str = "utf-8",
    skip_rows: int = 0,
    key: str | None = None,
    named: Sequence[str] = (),
) -> Sheet:
    """Open a table.

    Args:
        path: The file.
        where: What to call it in an error.
        delimiter: Of text; a backslash and a t is a tab.
        encoding: Of text and JSON; bytes that are not in it become surrogates.
        skip_rows: Lines above the header of text, rows above that of XLSX.
        key: Column that holds the keys: a JSON object may be a mapping from it.
        named: Names of the columns of text that has no header.

    Raises:
        UserError: No such file, unknown encoding, or not what its suffix says; some of it while the rows are gone
            through.
    """
    codec = _codec(where, encoding)
    match form_of(path.name):
        case "json_lines":
            header, rows = _json_lines(path, where, codec)
        case "json":
            header, rows = _json(path, where, codec, key)
        case "parquet":
            header, rows = _parquet(path, where)
        case "xlsx":
            header, rows = _xlsx(path, where, skip_rows)
        case _:
            header, rows = _delimited(path, where, delimiter.replace("\\t", "\t"), codec, skip_rows, named)
    return Sheet(_named(header), rows)


def _codec(where: str, encoding: str) -> str:
    try:
        "".encode(encoding)
    except LookupError:
        raise UserError(f"{where}: unknown encoding {encoding!r}") from None
    return "utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding


def _named(header: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in header]
    first = {name: at for at, name in reversed(list(enumerate(names)))}
    return tuple(name if name and first[name] == at else f"column {at + 1}" for at, name in enumerate(names))


# ---- text: CSV, TSV, JSON


def _lines(path: Path, where: str, codec: str) -> Iterator[str]:
    """Yield lines with their ends, cut at line feeds and carriage returns only.

    `str.splitlines` would also cut at U+0085 and U+2028, which stand in free-text cells.
    """
    total = 0
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as binary:
            text = io.TextIOWrapper(binary, codec, "surrogateescape", newline="")
            while line := text.readline(MOST_LINE):
                total += len(line)
                if len(line) == MOST_LINE or total > MOST_TEXT:
                    raise UserError(
                        f"{where}: over {MOST_LINE >> 20} M characters a line or {MOST_TEXT >> 30} G in all"
                    )
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{where}: damaged gzip file ({type(error).__name__})") from None
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from None
    except UnicodeError:  # of UTF-16, say, where no single byte can be set aside
        raise UserError(f"{where}: not {codec}; declare its encoding") from None


def _delimited(path: Path, where: str, delimiter: str, codec: str, skip_rows: int, named: Sequence[str]) -> Sheet:
    if len(delimiter) != 1:
        raise UserError(f"{where}: delimiter should be one character, is {delimiter!r}")
    rows = _records(itertools.islice(_lines(path, where, codec), skip_rows, None), where, delimiter, skip_rows)
    header = named or next(rows, [])
    return Sheet(tuple(header), _fitted(rows, len(header)))


def _records(lines: Iterator[str], where: str, delimiter: str, skipped: int) -> Iterator[list[str]]:
    rows, whole = csv.reader(lines, delimiter=delimiter, strict=True), skipped
    try:
        for row in rows:
            whole = rows.line_num + skipped
            if row:
                yield row
    except csv.Error as error:
        # a quote that is not closed would swallow the rows behind it
        raise UserError(f"{where}, after line {whole}: {error}") from None


def _fitted(rows: Iterable[Sequence[str]], width: int) -> Iterator[Row]:
    """Strip cells, and make every row as long as the header; a text that comes again is held once."""
    padding, seen = ("",) * width, dict[str, str]()
    for row in rows:
        if len(seen) > _MOST_SEEN:
            seen.clear()
        cells = tuple([seen.setdefault(text, text) for text in map(str.strip, row)])
        yield cells if len(cells) == width else (cells + padding)[:width]


def _json_lines(path: Path, where: str, codec: str) -> Sheet:
    lines = enumerate(_lines(path, where, codec), 1)
    return _of_objects([_parsed(line, f"{where}, line {n}") for n, line in lines if line.strip()], where)


def _json(path: Path, where: str, codec: str, key: str | None) -> Sheet:
    data = _parsed("".join(_lines(path, where, codec)), where)
    if not isinstance(data, dict):
        return _of_objects(data, where)
    values = list(data.values())
    if key is not None and key not in data and all(isinstance(value, dict) for value in values):
        return _of_objects([{key: name, **value} for name, value in data.items()], where)
    # pandas writes a column as an object by row number
    columns = [list(value.values()) if isinstance(value, dict) else value for value in values]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise UserError(f"{where}: should be a list of objects, or an object of columns of one length")
    return Sheet(tuple(data), (tuple(map(cell, row)) for row in zip(*columns, strict=True)))


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({str(error)[:80]})") from None


def _of_objects(found: Any, where: str) -> Sheet:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise UserError(f"{where}: every row should be a JSON object")
    columns = tuple(dict.fromkeys(name for row in found for name in row))
    return Sheet(columns, (tuple([cell(row.get(name)) for name in columns]) for row in found))


# ---- Parquet, XLSX


def _parquet(path: Path, where: str) -> Sheet:
    try:
        columns = parquet_files.described(path).columns
        return Sheet(columns, list(parquet_files.rows(path, columns)))
    except Unusable as error:
        raise UserError(f"{where}: {error.detail}") from None


def _xlsx(path: Path, where: str, skip_rows: int) -> Sheet:
    """Read the first sheet."""
    import openpyxl  # of few data sets, and it takes a third of a second

    damaged = zipfile.BadZipFile, zlib.error, EOFError, LookupError, ValueError, TypeError, SyntaxError
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        rows = [tuple(map(cell, row)) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from None
    except damaged as error:
        raise UserError(f"{where}: not an XLSX file ({type(error).__name__})") from None
    filled = [row for row in rows[skip_rows:] if any(row)]
    header = filled[0] if filled else ()
    return Sheet(header, _fitted(filled[1:], len(header)))
