"""The run folder: files that are whole or absent, Parquet of rows, and the manifest that says what is done.

A file is written as `.part`, fsynced and renamed (one PUT on an object store). Its name proves nothing: it is done when
the manifest holds a line for it with the present fingerprint. Local paths and any URL that `pyarrow.fs` opens.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonlines
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipeline.errors import UserError

MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class Line:
    """What the manifest says of one file."""

    file: str
    """Relative to the run folder."""
    rows: int
    sha256: str
    fingerprint: str
    """Of all that the file was made from."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The reader's tallies: the left sides of the ledgers."""


class Store:
    """A folder, local or on an object store."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs: Any
            self.root: str
            if "://" in url:
                self.fs, self.root = pafs.FileSystem.from_uri(url)
            else:
                self.fs, self.root = pafs.LocalFileSystem(), str(Path(url).resolve())
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{url}: not a folder or URL that can be opened ({error})") from None
        self.local = isinstance(self.fs, pafs.LocalFileSystem)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        """Travel to workers as the address."""
        return Store, (self.url if "://" in self.url else self.root,)

    def at(self, file: str) -> str:
        """Return the full address of a file in the store, for the file system."""
        return f"{self.root}/{file}"

    def exists(self, file: str) -> bool:
        """Is there a file of this name?"""
        return bool(self.fs.get_file_info(self.at(file)).type == pafs.FileType.File)

    def read(self, file: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self.fs.open_input_stream(self.at(file)) as stream:
            return bytes(stream.read())

    def write(self, file: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        with self.writing(file) as sink:
            sink.write(data)

    @contextmanager
    def writing(self, file: str) -> Iterator["Sink"]:
        """Open a file that is written piece by piece, and there once all of them are."""
        target = self.at(file)
        if not self.local:
            whole = io.BytesIO()
            yield Sink(whole)
            with self.fs.open_output_stream(target) as stream:
                stream.write(whole.getbuffer())
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as out:
                yield Sink(out)
                out.flush()
                os.fsync(out.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        part.replace(path)
        _sync_folder(path.parent)

    def remove(self, file: str) -> None:
        """Remove a file that may not be there."""
        if self.exists(file):
            self.fs.delete_file(self.at(file))

    def list(self, folder: str) -> list[str]:
        """List the files below a folder, relative to the store, sorted; those half written are left out."""
        base = self.at(folder)
        selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
        found = [info.path for info in self.fs.get_file_info(selector) if info.type == pafs.FileType.File]
        prefix = len(self.root.rstrip("/")) + 1
        return sorted(path[prefix:] for path in found if not path.endswith(".part"))

    def appender(self, file: str) -> "Appender":
        """Open a file of lines with one writer."""
        return Appender(self, file)

    def manifest(self) -> dict[str, Line]:
        """Read the manifest; the last line of a file counts, a torn last line does not."""
        if not self.exists(MANIFEST):
            return {}
        names = set(Line.__slots__)
        lines = (Line(**row) for row in json_lines(self.read(MANIFEST)) if set(row) == names)
        return {line.file: line for line in lines}

    def text(self, file: str) -> str:
        """Read a file that people may have changed.

        Raises:
            UserError: It is not UTF-8.
        """
        try:
            return self.read(file).decode()
        except UnicodeDecodeError:
            raise UserError(f"{file} in the run folder is not UTF-8: restore it, or remove it and run again") from None

    def compact(self) -> dict[str, Line]:
        """Rewrite the manifest with one line a file, sorted, and only of files that are there."""
        there = set(self.list(""))
        lines = {file: line for file, line in sorted(self.manifest().items()) if file in there}
        self.write(MANIFEST, b"".join(_json(_as_row(line)) for line in lines.values()))
        return lines


class Sink(io.RawIOBase):
    """Bytes on their way to a file, and their sha256."""

    def __init__(self, out: Any) -> None:
        self._out, self._seen = out, hashlib.sha256()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes."""
        self._seen.update(data)
        self._out.write(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._seen.hexdigest()


class Appender:
    """Lines of JSON with one writer: appended locally, a whole new segment on an object store."""

    def __init__(self, store: Store, file: str) -> None:
        self._store, self._file, self._pending = store, file, list[bytes]()
        self._whole = b"" if store.local or not store.exists(file) else store.read(file)
        if self._whole and not self._whole.endswith(b"\n"):
            self._whole += b"\n"

    def add(self, row: Mapping[str, Any]) -> int:
        """Take a row; returns its size in bytes."""
        data = _json(row)
        self._pending.append(data)
        return len(data)

    def flush(self, sync: bool = False) -> None:
        """Hand what is pending to the operating system; with `sync`, to the disk."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        if not self._store.local:
            self._store.write(self._file, self._whole + data)
            self._whole += data
            self._pending.clear()
            return
        path = Path(self._store.at(self._file))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as out:
            if out.seek(0, os.SEEK_END):
                out.seek(-1, os.SEEK_END)
                if out.read(1) != b"\n":  # a kill tore the last line: it must not take ours with it
                    out.write(b"\n")
            out.write(data)
            if sync:
                out.flush()
                os.fsync(out.fileno())
        self._pending.clear()  # last: what could not be written, as on a full disk, is tried again


class Manifest:
    """The manifest's one writer: the process that drives the run."""

    def __init__(self, store: Store) -> None:
        self.lines = store.compact()
        self._appender = store.appender(MANIFEST)

    def done(self, file: str, fingerprint: str) -> bool:
        """Is the file there, made from what it would be made from now?"""
        line = self.lines.get(file)
        return line is not None and line.fingerprint == fingerprint

    def add(self, line: Line) -> None:
        """Say that a file is done."""
        self.lines[line.file] = line
        self._appender.add(_as_row(line))
        self._appender.flush(sync=True)


def _as_row(line: Line) -> dict[str, Any]:
    return {
        "file": line.file,
        "rows": line.rows,
        "sha256": line.sha256,
        "fingerprint": line.fingerprint,
        "counts": dict(sorted(line.counts.items())),
    }


def _json(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def json_lines(data: bytes) -> Iterator[dict[str, Any]]:
    """Parse lines of JSON; what a kill tore off, at the end or where a new writer went on, is left out."""
    whole, _, _ = data.rpartition(b"\n")
    yield from jsonlines.Reader(whole.split(b"\n")).iter(type=dict, skip_empty=True, skip_invalid=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_tables(
    store: Store, file: str, schema: pa.Schema, tables: Iterable[pa.Table], fingerprint: str, counts: Mapping[str, int]
) -> Line:
    """Write a Parquet file whole or not at all, and hold no more of it than a row group.

    Picture bytes stay uncompressed and without dictionary (they are compressed already); the rest is zstd.
    The same tables give the same bytes.

    Args:
        store: Where to.
        file: Its name.
        schema: Of all tables.
        tables: Rows, in any number of pieces.
        fingerprint: For the manifest.
        counts: For the manifest; they may be counted while the tables are made.
    """
    leaves, rows = leaf_paths(schema), 0
    compression = {leaf: "none" if leaf.endswith("bytes") else "zstd" for leaf in leaves}
    encoded = [leaf for leaf in leaves if not leaf.endswith("bytes")]
    with (
        store.writing(file) as sink,
        pq.ParquetWriter(sink, schema, compression=compression, use_dictionary=encoded) as writer,
    ):
        for table in _grouped(tables):
            writer.write_table(table, row_group_size=_rows_in_group(table))
            rows += table.num_rows
    return Line(file, rows, sink.sha256, fingerprint, dict(counts))


ROW_GROUP_BYTES = 16 << 20


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables as long as they go into one row group."""
    held, size = list[pa.Table](), 0
    for table in tables:
        if held and size + table.nbytes > ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held, size = [], 0
        held.append(table)
        size += table.nbytes
    if held:
        yield pa.concat_tables(held)


def _rows_in_group(table: pa.Table) -> int:
    """Aim at 16 MB a row group: random reads cost one group, and scans do not care."""
    rows: int = max(1, table.num_rows)
    return max(1, min(rows, int(ROW_GROUP_BYTES * rows / max(1, table.nbytes))))


def leaf_paths(schema: pa.Schema) -> list[str]:
    """Return the Parquet leaf paths of a schema, `images.list.element.bytes`."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def rows_in(store: Store, file: str) -> int:
    """Return the number of rows of a Parquet file, from its footer; -1 where it is none."""
    try:
        with store.fs.open_input_file(store.at(file)) as source:
            return int(pq.ParquetFile(source).metadata.num_rows)
    except (pa.ArrowInvalid, OSError):
        return -1


def read_table(store: Store, file: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of the store."""
    with store.fs.open_input_file(store.at(file)) as source:
        return pq.ParquetFile(source).read(columns=list(columns) if columns is not None else None)


def digest(parts: Iterable[Any]) -> str:
    """Return the sha256 of JSON-able parts: how fingerprints are made."""
    found = hashlib.sha256()
    for part in parts:
        found.update(json.dumps(part, sort_keys=True, ensure_ascii=False, default=str).encode("utf-8", "replace"))
        found.update(b"\0")
    return found.hexdigest()
