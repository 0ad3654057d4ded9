"""The run folder: files that are whole or absent, and the manifest that says what is done."""

import hashlib
import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.store import MANIFEST, Line, Manifest, Store, digest, json_lines, leaf_paths, read_table, write_tables

PICTURES = [{"bytes": b"\x89PNG1", "width": 1}, {"bytes": b"\x89PNG2", "width": 2}]
TABLE = pa.table({"id": ["a", "b"], "picture": PICTURES})


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "run"))


def test_what_is_written_is_read_back(store):
    store.write("records/toy/0.bin", b"abc")
    assert store.read("records/toy/0.bin") == b"abc"
    assert store.exists("records/toy/0.bin") is True
    assert store.exists("records/toy") is False
    assert store.exists("records/toy/1.bin") is False


def test_a_file_is_whole_or_absent(store, tmp_path, monkeypatch):
    store.write("a", b"old")

    def killed(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write("a", b"new and longer")
    assert (tmp_path / "run" / "a").read_bytes() == b"old"
    assert store.list("") == ["a"]  # the half of the new one is not listed


def test_a_listing_is_sorted_and_relative(store):
    for file in ("b/2", "b/1", "a", "b.part"):
        store.write(file, b"")
    assert store.list("") == ["a", "b/1", "b/2"]
    assert store.list("b") == ["b/1", "b/2"]
    assert store.list("none") == []


def test_removing_what_is_not_there_is_fine(store):
    store.write("a", b"")
    store.remove("a")
    store.remove("a")
    assert store.list("") == []


def test_a_url_works_like_a_folder(tmp_path):
    store = Store((tmp_path / "run").as_uri())
    store.write("x/a", b"1")
    assert (store.read("x/a"), store.list("")) == (b"1", ["x/a"])


def test_an_address_that_can_not_be_opened_is_one_line():
    with pytest.raises(UserError, match=r"^nosuch://x: not a folder or URL that can be opened"):
        Store("nosuch://x")


def test_a_store_travels_to_workers_as_its_address(store):
    store.write("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


def test_a_line_survives_and_the_last_of_a_file_counts(store):
    manifest = Manifest(store)
    manifest.add(Line("a", 1, "s", "f1"))
    manifest.add(Line("a", 2, "s", "f2", {"pictures_cut": 5}))
    assert store.manifest() == {"a": Line("a", 2, "s", "f2", {"pictures_cut": 5})}


def test_a_file_is_done_when_its_line_has_the_present_fingerprint(store):
    store.write("a", b"x")
    first = Manifest(store)
    assert first.done("a", "f") is False  # the name alone proves nothing
    first.add(Line("a", 1, "s", "f"))
    assert (first.done("a", "f"), first.done("a", "g")) == (True, False)
    assert Manifest(store).done("a", "f") is True


def test_a_line_without_its_file_is_not_done_in_the_next_run(store):
    store.write("a", b"x")
    manifest = Manifest(store)
    manifest.add(Line("a", 1, "s", "f"))
    manifest.add(Line("gone", 1, "s", "f"))
    again = Manifest(store)
    assert (again.done("a", "f"), again.done("gone", "f")) == (True, False)
    assert store.read(MANIFEST).count(b"\n") == 1


def test_a_torn_last_line_does_not_count(store):
    whole = json.dumps({"file": "a", "rows": 1, "sha256": "s", "fingerprint": "f", "counts": {}}).encode() + b"\n"
    store.write(MANIFEST, whole + whole[:20])
    assert list(store.manifest()) == ["a"]


def test_a_row_added_after_a_torn_line_is_kept(store):
    store.write("journal/0.jsonl", b'{"key":"a"}\n{"key":"b","te')
    appender = store.appender("journal/0.jsonl")
    appender.add({"key": "c"})
    appender.flush()
    assert [row["key"] for row in json_lines(store.read("journal/0.jsonl"))] == ["a", "c"]


def test_lines_are_handed_over_when_flushed(store):
    appender = store.appender("lines.jsonl")
    assert appender.add({"a": "肺"}) == len('{"a":"肺"}\n'.encode())
    assert store.exists("lines.jsonl") is False
    appender.flush(sync=True)
    appender.add({"a": 2})
    appender.flush()
    assert store.read("lines.jsonl") == '{"a":"肺"}\n{"a":2}\n'.encode()


def test_the_same_rows_give_the_same_bytes(store):
    one = write_tables(store, "one.parquet", TABLE.schema, [TABLE], "f", {})
    other = write_tables(store, "other.parquet", TABLE.schema, [TABLE], "f", {})
    assert one.sha256 == other.sha256 == hashlib.sha256(store.read("one.parquet")).hexdigest()
    assert (one.rows, one.fingerprint) == (2, "f")


def test_a_table_is_read_back_whole_or_by_columns(store):
    write_tables(store, "t.parquet", TABLE.schema, [TABLE], "f", {})
    assert read_table(store, "t.parquet").equals(TABLE)
    assert read_table(store, "t.parquet", ["id"]).to_pydict() == {"id": ["a", "b"]}


def test_picture_bytes_are_not_compressed_again(store, tmp_path):
    write_tables(store, "t.parquet", TABLE.schema, [TABLE], "f", {})
    group = pq.ParquetFile(tmp_path / "run" / "t.parquet").metadata.row_group(0)
    how = {group.column(n).path_in_schema: group.column(n).compression for n in range(group.num_columns)}
    assert how == {"id": "ZSTD", "picture.bytes": "UNCOMPRESSED", "picture.width": "ZSTD"}


def test_a_row_group_holds_about_sixteen_megabytes(store, tmp_path):
    table = pa.table({"bytes": [bytes([n]) * (1 << 20) for n in range(40)]})
    write_tables(store, "big.parquet", table.schema, [table], "f", {})
    found = pq.ParquetFile(tmp_path / "run" / "big.parquet")
    rows = [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)]
    assert rows in ([15, 15, 10], [16, 16, 8])
    pieces = (table.slice(n, 1) for n in range(40))
    write_tables(store, "pieces.parquet", table.schema, pieces, "f", {})
    found = pq.ParquetFile(tmp_path / "run" / "pieces.parquet")
    assert [found.metadata.row_group(n).num_rows for n in range(found.num_row_groups)] == [15, 15, 10]
    assert found.read().equals(table)


def test_a_file_whose_rows_can_not_be_made_is_not_there(store, tmp_path):
    def pieces():
        yield TABLE
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_tables(store, "t.parquet", TABLE.schema, pieces(), "f", {})
    assert not list((tmp_path / "run").iterdir())


def test_counts_may_be_counted_while_rows_are_made(store):
    counts = {"made": 0}

    def pieces():
        counts["made"] += 1
        yield TABLE

    assert write_tables(store, "t.parquet", TABLE.schema, pieces(), "f", counts).counts == {"made": 1}


def test_without_a_row_there_is_a_file_with_its_schema(store):
    assert write_tables(store, "t.parquet", TABLE.schema, [], "f", {}).rows == 0
    assert read_table(store, "t.parquet").schema == TABLE.schema


def test_leaf_paths_go_through_lists():
    schema = pa.schema([("images", pa.list_(pa.struct([("bytes", pa.binary())]))), ("id", pa.string())])
    assert leaf_paths(schema) == ["images.list.element.bytes", "id"]


def test_a_digest_tells_parts_apart_and_not_the_order_of_keys():
    assert digest([{"a": 1, "b": 2}]) == digest([{"b": 2, "a": 1}])
    assert digest(["ab", "c"]) != digest(["a", "bc"])
