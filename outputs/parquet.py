"""The canonical training set: Hugging Face-ready Parquet, one config of samples and one of annotated pictures.

One set of files is meant for `datasets` 2.21 to 5.2, ms-swift, LLaMA-Factory, verl and EasyR1 as it stands. What makes
that so: features in the old list notation, explicit schemas, only types that every loader knows, no reserved column
name, one `<image>` a picture at the start of the first user turn. No clock value and no machine path enters a file.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.pictures import smart_resize
from pipeline.records import Box, Call, Picture, Record, Region, Sample
from pipeline.store import Store, digest, leaf_paths
from pipeline.vocabulary import Vocabulary

SHARD_BYTES = 256 << 20
"""Decoded: what a worker holds that reads a shard whole. From 2 GiB on none can (huggingface/datasets#7793)."""
GROUP_BYTES = 16 << 20
"""Decoded: what a loader reads for one random row."""
GROUP_ROWS = 256

STRING, INT, FLOAT, DOUBLE, BOOL = pa.string(), pa.int32(), pa.float32(), pa.float64(), pa.bool_()
STRINGS = pa.list_(STRING)


def _strings(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, STRING) for name in names]


IMAGE = pa.struct([("bytes", pa.binary()), ("path", STRING)])
MESSAGES = pa.list_(pa.struct(_strings("role", "content")))
OBJECTS = pa.struct([("ref", STRINGS), ("bbox", pa.list_(pa.list_(FLOAT))), ("image_id", pa.list_(INT))])
EXTRA_INFO = pa.struct(
    [
        ("index", pa.int64()),
        *_strings("split", "answer_type"),
        ("choices", STRINGS),
        ("tolerance", FLOAT),
        *_strings("answer", "question"),
    ]
)
PROVENANCE = pa.struct(
    [
        *_strings("source", "license"),
        ("redistribute", BOOL),
        *_strings("egress", "backend", "model"),
        ("prompts", STRINGS),
        ("request_keys", STRINGS),
        ("input_tokens", INT),
        ("output_tokens", INT),
        ("cost", DOUBLE),  # US dollars; null: a price is unknown
    ]
)
BBOX = pa.struct(
    [
        ("label", STRING),
        ("box", pa.list_(FLOAT)),
        ("area_px", FLOAT),
        ("area_mm2", FLOAT),
        ("mask_rle", STRING),
        ("certain", BOOL),
    ]
)
SAMPLES = pa.schema(
    [
        *_strings("sample_id", "record_id", "kind", "task", "modality", "sub_modality", "department", "body_part"),
        *_strings("language", "source", "origin"),
        ("images", pa.list_(IMAGE)),
        ("image_size", pa.list_(pa.list_(INT))),  # width, height
        ("messages", MESSAGES),
        ("objects", OBJECTS),  # ms-swift
        *_strings("answer", "answer_type"),
        ("choices", STRINGS),
        ("reasoning", STRING),
        ("tolerance", FLOAT),
        ("data_source", STRING),  # verl: from here to extra_info
        ("prompt", MESSAGES),
        ("ability", STRING),
        ("reward_model", pa.struct(_strings("style", "ground_truth"))),
        ("extra_info", EXTRA_INFO),
        ("problem", STRING),  # EasyR1
        ("visual_tokens", pa.struct([("qwen28", INT), ("qwen32", INT)])),
        ("made_by", STRING),
        ("provenance", PROVENANCE),
    ]
)
RECORDS = pa.schema(
    [
        ("record_id", STRING),
        ("image", IMAGE),
        *_strings("modality", "sub_modality"),
        ("label", STRINGS),
        ("concept", STRINGS),  # of each label; null where the vocabulary does not know it
        ("certain", pa.list_(BOOL)),  # of each label
        *_strings("department", "task", "body_part"),
        ("bbox", pa.list_(BBOX)),
        ("annotated", STRINGS),  # concepts that were looked for: here and not in `concept` is a negative
        ("width", INT),
        ("height", INT),
        *_strings("source", "license", "origin", "group", "case", "plane", "window"),
        ("slice_index", INT),
        ("spacing_mm", FLOAT),
        ("to_source", pa.list_(DOUBLE)),
        ("to_world", pa.list_(DOUBLE)),
        ("geometry", STRING),
    ]
)
CONFIGS = {"default": SAMPLES, "records": RECORDS}

_CHUNKS = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20, "norm_level": 0}
"""Content-defined: an edited set uploads only what changed. The numbers are those of `datasets` 5."""
_PLACEHOLDER = re.compile(r"<(image|video|audio)>")
_RULED = frozenset({"mcq", "yesno", "exact", "number", "count", "bbox", "multi_label"})


class Row(NamedTuple):
    """One sample ready to be written."""

    sample: Sample
    records: tuple[Record, ...]
    """Those of `sample.records`, in that order."""
    split: str
    """train, validation or test."""


class DataFile(NamedTuple):
    """One Parquet file of the set."""

    file: str
    """Relative to the run folder."""
    config: str
    split: str
    rows: int
    size: int
    """Bytes."""
    sha256: str


class Written(NamedTuple):
    """What was written."""

    files: tuple[DataFile, ...]
    rows: Mapping[str, int]
    """By `config/split`."""
    schema_digest: str


def write(
    store: Store,
    folder: str,
    rows: Iterable[Row],
    records: Iterable[tuple[Record, str]],
    vocabulary: Vocabulary,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Write the set, replacing what `folder/data` held. One row group is in memory; the same rows give the same bytes.

    Shards grow under `folder/parts` and get their names once their number is known: a killed export leaves the
    previous set as it was.

    Args:
        store: The run folder.
        folder: Of the set, relative to the store.
        rows: Sorted by split, record id, sample id: samples of one picture stand side by side.
        records: Record and split, sorted by split and id.
        vocabulary: For the names of the labels.
        shard_bytes: Most that a shard holds, decoded.

    Raises:
        ValueError: A split comes twice, or a sample's turns do not alternate.
    """
    pairs = {
        "default": _sample_rows(rows),
        "records": ((split, record_row(record, vocabulary)) for record, split in records),
    }
    _empty(store, f"{folder}/parts")
    store.fs.create_dir(store.at(f"{folder}/parts"), recursive=True)
    parts = [part for config, found in pairs.items() for part in _config(store, folder, config, found, shard_bytes)]
    _empty(store, f"{folder}/data")
    files = tuple(_named(store, folder, part, parts) for part in parts)
    store.fs.delete_dir(store.at(f"{folder}/parts"))
    tally = dict.fromkeys((f"{file.config}/{file.split}" for file in files), 0)
    for file in files:
        tally[f"{file.config}/{file.split}"] += file.rows
    return Written(files, tally, digest([features(schema) for schema in CONFIGS.values()]))


def features(schema: pa.Schema) -> dict[str, Any]:
    """Return the Hugging Face features of a schema, in the list notation that versions 2 to 5 all read."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> Any:
    if kind == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


# ---- rows


def _sample_rows(rows: Iterable[Row]) -> Iterator[tuple[str, dict[str, Any]]]:
    for split, members in groupby(rows, key=lambda row: row.split):
        for index, row in enumerate(members):
            yield split, sample_row(row, index)


def sample_row(row: Row, index: int) -> dict[str, Any]:
    """Return a sample as a row of config `default`.

    Args:
        row: The sample.
        index: Its number in its split, from 0.

    Raises:
        ValueError: The turns are not user, assistant, user, assistant, …
    """
    sample, first = row.sample, row.records[0]
    pictures = [record.picture for record in row.records if record.picture]
    messages = _turns(sample, len(pictures))
    # the last question: what `answer` answers, in a dialogue too
    question = _plain(sample.messages[-2].content)
    answer = _plain(sample.answer)
    choices = list(sample.choices)
    return {
        "sample_id": sample.id,
        "record_id": first.id,
        "kind": sample.kind,
        "task": first.task,
        "modality": first.modality,
        "sub_modality": first.sub_modality,
        "department": first.department,
        "body_part": first.body_part,
        "language": sample.language,
        "source": first.source,
        "origin": first.origin,
        "images": [_image(picture) for picture in pictures],
        "image_size": [[picture.width, picture.height] for picture in pictures],
        "messages": messages,
        "objects": _objects(sample.boxes),
        "answer": answer,
        "answer_type": sample.answer_type,
        "choices": choices,
        "reasoning": sample.reasoning,
        "tolerance": sample.tolerance,
        "data_source": f"medgloss/{first.source}",
        "prompt": messages[:-1],
        "ability": sample.kind,
        "reward_model": {"style": "rule" if sample.answer_type in _RULED else "model", "ground_truth": answer},
        "extra_info": {
            "index": index,
            "split": row.split,
            "answer_type": sample.answer_type,
            "choices": choices,
            "tolerance": sample.tolerance,
            "answer": answer,
            "question": question,
        },
        "problem": "<image>\n" * len(pictures) + question,
        "visual_tokens": {
            "qwen28": sum(_tokens(picture, 28, *QWEN28_PIXELS) for picture in pictures),
            "qwen32": sum(_tokens(picture, 32, *QWEN32_PIXELS) for picture in pictures),
        },
        "made_by": sample.made_by,
        "provenance": _provenance(sample.calls, row.records),
    }


def _turns(sample: Sample, pictures: int) -> list[dict[str, str]]:
    roles = [message.role for message in sample.messages]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError(f"{sample.id}: turns are {roles}; they should be user and assistant in turn, from user on")
    turns = [{"role": message.role, "content": _plain(message.content)} for message in sample.messages]
    turns[0]["content"] = "<image>\n" * pictures + turns[0]["content"]
    return turns


def _plain(text: str) -> str:
    """Take the brackets off what a loader would take for a picture: one too many and it drops the row in silence."""
    return _PLACEHOLDER.sub(r"\1", text)


def _image(picture: Picture) -> dict[str, Any]:
    ending = "jpg" if picture.bytes.startswith(b"\xff\xd8\xff") else "png"
    return {"bytes": picture.bytes, "path": f"{picture.sha256}.{ending}"}


def _objects(boxes: Sequence[tuple[str, Box]]) -> dict[str, Any] | None:
    if not boxes:
        return None
    # a sample's boxes lie in its first picture
    return {"ref": [name for name, _ in boxes], "bbox": [list(box) for _, box in boxes], "image_id": [0] * len(boxes)}


def _provenance(calls: Sequence[Call], records: Sequence[Record]) -> dict[str, Any]:
    costs = [call.cost for call in calls if call.cost is not None]
    return {
        "source": records[0].source,
        "license": _listed(record.license for record in records),
        "redistribute": all(record.redistribute for record in records),
        "egress": min((record.egress for record in records), key=("none", "local", "zero_retention", "any").index),
        "backend": _listed(call.backend for call in calls),
        "model": _listed(call.model for call in calls),
        "prompts": [call.prompt for call in calls],
        "request_keys": [call.key for call in calls],
        "input_tokens": sum(call.input_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
        "cost": math.fsum(costs) if len(costs) == len(calls) else None,  # one unknown price: an unknown sum
    }


def _listed(names: Iterable[str]) -> str:
    """Name each once, in the order they come."""
    return ", ".join(dict.fromkeys(name for name in names if name))


def record_row(record: Record, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return a record as a row of config `records`. Labels are in English, sides included."""
    labels: dict[str, tuple[str | None, bool]] = {}
    for region in record.regions:
        name = _name(region, vocabulary)
        labels[name] = (region.label, region.certain or labels.get(name, (None, False))[1])
    picture = record.picture
    return {
        "record_id": record.id,
        "image": _image(picture) if picture else None,
        "modality": record.modality,
        "sub_modality": record.sub_modality,
        "label": list(labels),
        "concept": [concept for concept, _ in labels.values()],
        "certain": [certain for _, certain in labels.values()],
        "department": record.department,
        "task": record.task,
        "body_part": record.body_part,
        "bbox": [_bbox(region, vocabulary) for region in record.regions if region.box],
        "annotated": list(record.annotated),
        "width": picture.width if picture else None,
        "height": picture.height if picture else None,
        "source": record.source,
        "license": record.license,
        "origin": record.origin,
        "group": record.group,
        "case": record.case,
        "plane": picture.plane if picture else None,
        "window": picture.window if picture else None,
        "slice_index": picture.index if picture else None,
        "spacing_mm": picture.spacing_mm if picture else None,
        "to_source": list(picture.to_source) if picture else None,
        "to_world": list(picture.to_world) if picture and picture.to_world else None,
        "geometry": picture.geometry if picture else None,
    }


def _name(region: Region, vocabulary: Vocabulary) -> str:
    return vocabulary.name(region.label, region.raw, "en", region.side)


def _bbox(region: Region, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "label": _name(region, vocabulary),
        "box": list(region.box or ()),
        "area_px": region.area_px,
        "area_mm2": region.area_mm2,
        "mask_rle": region.mask,
        "certain": region.certain,
    }


# ---- visual tokens

QWEN28_PIXELS = (56 * 56, 28 * 28 * 1280)
"""Fewest and most pixels of the Qwen2-VL and Qwen2.5-VL processors, as they ship."""
QWEN32_PIXELS = (256 * 256, 4096 * 4096)
"""Of the Qwen3-VL processor."""


def _tokens(picture: Picture, factor: int, fewest: int, most: int) -> int:
    high, wide = smart_resize(picture.height, picture.width, factor, fewest, most)
    return (high // factor) * (wide // factor)


# ---- files


class _Part:
    """A shard that is being written: one row group in memory, the rest in the file."""

    def __init__(self, store: Store, file: str, schema: pa.Schema) -> None:
        self.file, self.rows, self.decoded = file, 0, 0
        self._store, self._schema = store, schema
        self._sink = _Hashed(store.fs.open_output_stream(store.at(file)))
        self._writer = pq.ParquetWriter(self._sink, schema, **_settings(schema))

    def add(self, rows: Sequence[Mapping[str, Any]], decoded: int) -> None:
        """Write a row group."""
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema), row_group_size=len(rows))
        self.rows += len(rows)
        self.decoded += decoded

    def close(self, config: str, split: str) -> DataFile:
        """Finish the file; it is on the disk when this returns."""
        self._writer.close()
        self._sink.stream.close()
        if self._store.local:
            with Path(self._store.at(self.file)).open("rb") as stream:
                os.fsync(stream.fileno())
        return DataFile(self.file, config, split, self.rows, self._sink.size, self._sink.sha256.hexdigest())


class _Hashed:
    """A stream that is hashed as it is written: on an object store, reading it again would be a download."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self.stream, self.size, self.sha256 = stream, 0, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write and count."""
        self.sha256.update(data)
        self.size += len(data)
        self.stream.write(data)
        return len(data)

    def flush(self) -> None:
        """Pass it on."""
        self.stream.flush()


def _settings(schema: pa.Schema) -> dict[str, Any]:
    """Return the writer's settings: pictures are compressed already; one that many samples share is stored once.

    In `records` a picture stands once, and a dictionary would only make one page of a whole row group.
    """
    leaves = leaf_paths(schema)
    return {
        "compression": {leaf: "none" if leaf.endswith(".bytes") else "zstd" for leaf in leaves},
        "use_dictionary": [leaf for leaf in leaves if leaf != "image.bytes"],
        "dictionary_pagesize_limit": 64 << 20,  # above a row group: the default of 1 MB falls back to plain
        "write_page_index": True,
        "use_content_defined_chunking": _CHUNKS,
    }


def _config(
    store: Store, folder: str, config: str, rows: Iterable[tuple[str, dict[str, Any]]], shard_bytes: int
) -> Iterator[DataFile]:
    schema = CONFIGS[config].with_metadata(
        {
            "huggingface": json.dumps({"info": {"features": features(CONFIGS[config])}}),
            "content_defined_chunking": json.dumps(_CHUNKS),
        }
    )
    splits: list[str] = []
    for split, members in groupby(rows, key=itemgetter(0)):
        if split in splits:
            raise ValueError(f"{config}: split {split!r} comes again after {splits[-1]!r}; sort the rows by split")
        splits.append(split)
        number, part = 0, None
        for group, decoded in _groups((row for _, row in members), min(GROUP_BYTES, shard_bytes)):
            if part and part.decoded + decoded > shard_bytes:
                yield part.close(config, split)
                number, part = number + 1, None
            part = part or _Part(store, f"{folder}/parts/{config}-{split}-{number:05d}.part", schema)
            part.add(group, decoded)
        if part:
            yield part.close(config, split)


def _groups(rows: Iterable[dict[str, Any]], most: int) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """Cut rows into row groups, with the decoded size in bytes of each."""
    group: list[dict[str, Any]] = []
    decoded = 0
    for row in rows:
        size = _size(row)
        if group and (len(group) == GROUP_ROWS or decoded + size > most):
            yield group, decoded
            group, decoded = [], 0
        group.append(row)
        decoded += size
    if group:
        yield group, decoded


def _size(value: Any) -> int:
    """Estimate the bytes of a value in a loader's memory."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list):
        return sum(map(_size, value))
    return 8


def _named(store: Store, folder: str, part: DataFile, parts: Sequence[DataFile]) -> DataFile:
    """Move a part to its name among those of its split."""
    of_split = [other for other in parts if (other.config, other.split) == (part.config, part.split)]
    number, count = of_split.index(part), len(of_split)
    home = f"{folder}/data/{part.config}"
    file = f"{home}/{part.split}-{number:05d}-of-{count:05d}.parquet"
    store.fs.create_dir(store.at(home), recursive=True)
    store.fs.move(store.at(part.file), store.at(file))
    return part._replace(file=file)


def _empty(store: Store, folder: str) -> None:
    store.fs.delete_dir_contents(store.at(folder), missing_dir_ok=True)
