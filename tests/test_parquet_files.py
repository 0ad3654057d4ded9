"""Parquet files of other people: pictures cell by cell, and files that are not what they say."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import Unusable
from sources import parquet_files

BYTES = [b"\x89PNG" + np.random.default_rng(n).bytes(n % 7 * 100 + 1) for n in range(60)]
TABLE = pa.table(
    {
        "image": [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(BYTES)],
        "plain": BYTES,
        "label": range(60),
    }
)


@pytest.fixture
def path(tmp_path):
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=25)
    return tmp_path / "a.parquet"


def refused(path, name="image", row=0) -> tuple[str, str]:
    with pytest.raises(Unusable) as caught:
        parquet_files.picture(path, name, row)
    assert str(path.parent) not in caught.value.detail
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("name", ["image", "plain"])
def test_cells_come_in_any_order(path, name):
    order = [*range(60), 59, 0, 24, 25, 24, 3, 2, 49, 50, *random.Random(0).sample(range(60), 60)]
    assert [parquet_files.picture(path, name, row) for row in order] == [BYTES[row] for row in order]


def test_a_file_that_is_written_anew_is_read_anew(path):
    assert parquet_files.picture(path, "plain", 30) == BYTES[30]
    pq.write_table(pa.table({"plain": BYTES[:-32:-1]}), path)
    assert parquet_files.picture(path, "plain", 30) == BYTES[29]


def test_what_is_there_is_described(path):
    assert parquet_files.described(path) == (("label",), ("image", "plain", "label"), 60)
    assert list(parquet_files.rows(path, ["label"]))[-1] == ("59",)


def test_a_row_or_a_column_that_is_not_there(path):
    assert refused(path, row=60) == ("missing_image", "row 60 of 60")
    assert refused(path, row=-1)[0] == "missing_image"
    assert refused(path, "imge") == ("missing_image", "the file has no column 'imge'")


def test_a_cell_that_holds_no_bytes(tmp_path):
    cells = [{"bytes": None, "path": "a.png"}, None, {"bytes": b"", "path": None}]
    pq.write_table(pa.table({"image": cells, "text": ["x", None, ""]}), tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    assert refused(path, row=0) == ("missing_image", "the cell names a file and does not hold it")
    assert refused(path, row=1) == ("missing_image", "the cell is empty")
    assert parquet_files.picture(path, "image", 2) == b""
    assert refused(path, "text", 0) == ("undecodable", "a cell of type str is no picture")


def test_a_file_that_is_not_there_is_unreadable_and_not_named(tmp_path):
    assert refused(tmp_path / "a.parquet") == ("unreadable", "No such file or directory")


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_damage_anywhere_is_read_or_refused(tmp_path, compression):
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=25, compression=compression)
    whole, chance, refusals = path.read_bytes(), random.Random(compression), 0
    for n in range(200):
        damaged = bytearray(whole)
        if n % 4 == 0:
            del damaged[chance.randrange(len(whole)) :]
        for _ in range(n % 4 * 3):
            near = chance.choice([0, max(0, len(damaged) - 1500)])
            damaged[near + chance.randrange(len(damaged) - near)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            found = parquet_files.described(path)
            list(parquet_files.rows(path, found.columns))
            for row in (3, 40, 10):
                parquet_files.picture(path, "image", row)
        except Unusable:
            refusals += 1
    assert refusals > 20
