"""Rows of the run folder: the nouns as explicit Arrow schemas, never inferred, the same in every shard."""

import functools
import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa

from pipeline.records import Box, Call, Message, Picture, Record, Region, Rejected, Sample
from pipeline.store import Store, read_table

STRING, FLOAT, INT, BOOL = pa.string(), pa.float64(), pa.int32(), pa.bool_()
STRINGS = pa.list_(STRING)
FACTS = pa.list_(pa.struct([("name", STRING), ("value", STRING)]))
"""A mapping: Parquet's map type is refused by the loaders."""
BOX = pa.list_(FLOAT)

REGION = pa.struct(
    [
        ("label", STRING),
        ("raw", STRING),
        ("box", BOX),
        ("mask", STRING),
        ("component", INT),
        ("area_px", FLOAT),
        ("area_mm2", FLOAT),
        ("side", STRING),
        ("certain", BOOL),
        ("reader", STRING),
    ]
)
PICTURE = pa.struct(
    [
        ("bytes", pa.binary()),
        ("width", INT),
        ("height", INT),
        ("sha256", STRING),
        ("to_source", BOX),
        ("to_world", BOX),
        ("plane", STRING),
        ("channel", STRING),
        ("window", STRING),
        ("index", INT),
        ("time_s", FLOAT),
        ("spacing_mm", FLOAT),
        ("geometry", STRING),
        ("flags", STRINGS),
    ]
)
RECORD = pa.schema(
    [
        ("id", STRING),
        ("picture", PICTURE),
        ("text", STRING),
        ("modality", STRING),
        ("sub_modality", STRING),
        ("department", STRING),
        ("task", STRING),
        ("origin", STRING),
        ("regions", pa.list_(REGION)),
        ("annotated", STRINGS),
        ("doubted", STRINGS),
        ("attributes", FACTS),
        ("body_part", STRING),
        ("source", STRING),
        ("case", STRING),
        ("group", STRING),
        ("license", STRING),
        ("redistribute", BOOL),
        ("commercial", BOOL),
        ("egress", STRING),
        ("history", STRINGS),
    ]
)
MESSAGE = pa.struct([("role", STRING), ("content", STRING)])
CALL = pa.struct(
    [
        ("stage", STRING),
        ("prompt", STRING),
        ("backend", STRING),
        ("model", STRING),
        ("key", STRING),
        ("input_tokens", INT),
        ("output_tokens", INT),
        ("cost", FLOAT),
    ]
)
SAMPLE = pa.schema(
    [
        ("id", STRING),
        ("records", STRINGS),
        ("kind", STRING),
        ("language", STRING),
        ("messages", pa.list_(MESSAGE)),
        ("reasoning", STRING),
        ("answer", STRING),
        ("answer_type", STRING),
        ("tolerance", FLOAT),
        ("choices", STRINGS),
        ("boxes", pa.list_(pa.struct([("name", STRING), ("box", BOX)]))),
        ("calls", pa.list_(CALL)),
        ("checks", STRINGS),
        ("judge", STRING),
        ("parent", STRING),
        ("made_by", STRING),
    ]
)
REJECTED = pa.schema([(name, STRING) for name in ("id", "level", "stage", "reason", "detail")])
CURATED = pa.schema(
    [("id", STRING), ("record", STRING), ("group", STRING), ("split", STRING), ("weight", FLOAT), ("removed", STRING)]
)


def table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build a table of exactly this schema."""
    return pa.Table.from_pylist(list(rows), schema=schema)


ROWS_AT_ONCE = 32


def tables(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Build tables of exactly this schema, a few rows each: rows are held once, as their maker gives them."""
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, ROWS_AT_ONCE)):
        yield table(schema, some)


def record_row(record: Record) -> dict[str, Any]:
    """Return a record as a row."""
    row = _shallow(record)
    row["picture"] = _shallow(record.picture) if record.picture else None
    row["regions"] = [_shallow(region) for region in record.regions]
    row["attributes"] = [{"name": name, "value": value} for name, value in sorted(record.attributes.items())]
    return row


def record_of(row: Mapping[str, Any]) -> Record:
    """Return the record of a row."""
    picture = row["picture"]
    return Record(
        **{
            **row,
            "picture": _picture(picture) if picture else None,
            "regions": tuple(_region(region) for region in row["regions"]),
            "annotated": tuple(row["annotated"]),
            "doubted": tuple(row["doubted"]),
            "attributes": {fact["name"]: fact["value"] for fact in row["attributes"]},
            "history": tuple(row["history"]),
        }
    )


def _picture(row: Mapping[str, Any]) -> Picture:
    world = row["to_world"]
    return Picture(
        **{
            **row,
            "to_source": tuple(row["to_source"]),
            "to_world": tuple(world) if world else None,
            "flags": tuple(row["flags"]),
        }
    )


def _region(row: Mapping[str, Any]) -> Region:
    return Region(**{**row, "box": Box(*row["box"]) if row["box"] else None})


def sample_row(sample: Sample) -> dict[str, Any]:
    """Return a sample as a row."""
    row = _shallow(sample)
    row["messages"] = [message._asdict() for message in sample.messages]
    row["boxes"] = [{"name": name, "box": list(box)} for name, box in sample.boxes]
    row["calls"] = [asdict(call) for call in sample.calls]
    return row


def sample_of(row: Mapping[str, Any]) -> Sample:
    """Return the sample of a row."""
    return Sample(
        **{
            **row,
            "records": tuple(row["records"]),
            "messages": tuple(Message(**message) for message in row["messages"]),
            "choices": tuple(row["choices"]),
            "boxes": tuple((entry["name"], Box(*entry["box"])) for entry in row["boxes"]),
            "calls": tuple(Call(**call) for call in row["calls"]),
            "checks": tuple(row["checks"]),
        }
    )


def rejected_row(rejected: Rejected) -> dict[str, Any]:
    """Return a rejected row."""
    return _shallow(rejected)


def _shallow(noun: Any) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in _names(noun.__class__)}


@functools.cache
def _names(noun: Hashable) -> tuple[str, ...]:
    return tuple(field.name for field in fields(noun))  # type: ignore[arg-type]


def read_records(store: Store, files: Sequence[str]) -> Iterator[Record]:
    """Yield the records of shard files, one file in memory at a time."""
    for file in files:
        yield from (record_of(row) for row in read_table(store, file).to_pylist())


def read_samples(store: Store, files: Sequence[str]) -> Iterator[Sample]:
    """Yield the samples of shard files."""
    for file in files:
        yield from (sample_of(row) for row in read_table(store, file).to_pylist())
