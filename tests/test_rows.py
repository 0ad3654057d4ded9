"""Rows: what comes back from a file is what was written."""

from dataclasses import fields, replace

import pytest

from pipeline import rows
from pipeline.records import Box, Call, Message, Picture, Record, Region, Rejected, Sample
from pipeline.store import Store, write_tables

PICTURE = Picture(
    bytes=b"\x89PNG",
    width=4,
    height=3,
    sha256="ab",
    to_source=(1.0, 0.0, 0.0, 0.0, -1.0, 3.0),
    to_world=(1.0, 0.0, -2.0, 0.0, 1.0, -3.0, 0.0, 0.0, 7.5),
    plane="axial",
    window="soft_tissue -160..240",
    index=12,
    spacing_mm=0.75,
    geometry="known",
    flags=("form_conflict",),
)
RECORD = Record(
    id="toy/p1/axial/z0012",
    picture=PICTURE,
    text=None,
    modality="ct",
    sub_modality=None,
    department="Urology",
    task=None,
    origin="segmentation_3d",
    regions=(
        Region("kidney", "LK", Box(0.5, 1.0, 3.0, 2.25), "abc", 0, 5.0, 2.8, "left", False, "reader_1"),
        Region(None, "odd"),
    ),
    annotated=("kidney", "liver"),
    doubted=("spleen",),
    attributes={"sex": "f", "age": "70"},
    body_part="abdomen",
    source="toy",
    case="p1",
    group="p1",
    license="CC0-1.0",
    redistribute=True,
    commercial=False,
    egress="local",
    history=("window soft_tissue -160..240",),
)
SAMPLE = Sample(
    id="toy/p1/axial/z0012#caption.0.en",
    records=("toy/p1/axial/z0012",),
    kind="grounding",
    language="zh",
    messages=(Message("user", "肾在哪里?"), Message("assistant", "左侧")),
    reasoning=None,
    answer="左侧",
    answer_type="bbox",
    tolerance=0.5,
    choices=("A", "B"),
    boxes=(("left kidney", Box(0.5, 1.0, 3.0, 2.25)),),
    calls=(Call("caption", "caption.en@12", "openai_api", "m", "k", 10, 5, None),),
    checks=("sides",),
    judge=None,
    parent=None,
    made_by="model",
)


def round_trip(schema, row):
    return rows.table(schema, [row]).to_pylist()[0]


@pytest.mark.parametrize(
    "record",
    [RECORD, replace(RECORD, picture=None, text="some text", regions=(), annotated=(), attributes={})],
    ids=["picture", "text"],
)
def test_a_record_comes_back_as_it_was(record):
    assert rows.record_of(round_trip(rows.RECORD, rows.record_row(record))) == record


def test_a_picture_without_geometry_comes_back_without():
    record = replace(RECORD, picture=Picture(b"x", 1, 1, "s"))
    back = rows.record_of(round_trip(rows.RECORD, rows.record_row(record)))
    assert back == record
    assert (back.picture.to_world, back.picture.spacing_mm, back.picture.plane) == (None, None, "unknown")


def test_a_sample_comes_back_as_it_was():
    assert rows.sample_of(round_trip(rows.SAMPLE, rows.sample_row(SAMPLE))) == SAMPLE


def test_a_rejected_row_has_five_texts():
    row = rows.rejected_row(Rejected("toy/p1", "case", "ingest", "truncated", "ends early"))
    assert round_trip(rows.REJECTED, row) == {
        "id": "toy/p1",
        "level": "case",
        "stage": "ingest",
        "reason": "truncated",
        "detail": "ends early",
    }


@pytest.mark.parametrize(
    ("noun", "schema"),
    [(Record, rows.RECORD), (Picture, rows.PICTURE), (Region, rows.REGION), (Sample, rows.SAMPLE), (Call, rows.CALL)],
    ids=lambda thing: getattr(thing, "__name__", ""),
)
def test_a_schema_has_the_fields_of_its_noun_in_their_order(noun, schema):
    names = [field.name for field in schema]
    assert names == [field.name for field in fields(noun)]


def test_attributes_are_a_list_sorted_by_name():
    assert rows.record_row(RECORD)["attributes"] == [{"name": "age", "value": "70"}, {"name": "sex", "value": "f"}]


def test_records_and_samples_are_read_from_files(tmp_path):
    store = Store(str(tmp_path))
    write_tables(store, "r.parquet", rows.RECORD, rows.tables(rows.RECORD, [rows.record_row(RECORD)] * 2), "f", {})
    write_tables(store, "s.parquet", rows.SAMPLE, rows.tables(rows.SAMPLE, [rows.sample_row(SAMPLE)]), "f", {})
    assert list(rows.read_records(store, ["r.parquet", "r.parquet"])) == [RECORD] * 4
    assert list(rows.read_samples(store, ["s.parquet"])) == [SAMPLE]


def test_an_empty_table_keeps_its_schema():
    assert rows.table(rows.RECORD, []).schema == rows.RECORD
