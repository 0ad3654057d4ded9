"""The canonical Parquet set, read back by `datasets` and by pyarrow."""

import hashlib
import io
import itertools
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from outputs.card import card
from outputs.parquet import CONFIGS, QWEN28_PIXELS, QWEN32_PIXELS, RECORDS, SAMPLES, Row, Written, smart_resize, write
from pipeline.records import Box, Call, Message, Picture, Record, Region, Sample
from pipeline.store import Store
from pipeline.vocabulary import load

RESERVED = [
    "label",
    "text",
    "options",
    "state",
    "channel",
    "margin",
    "questions",
    "criteria",
    "tools",
    "query",
    "completion",
]
VOCABULARY = load()


def picture(width: int = 40, height: int = 30, seed: int = 0, form: str = "PNG", mode: str = "L") -> Picture:
    noise = random.Random(seed).randbytes(width * height * len(mode))
    out = io.BytesIO()
    Image.frombytes(mode, (width, height), noise).save(out, form)
    data = out.getvalue()
    return Picture(
        data,
        width,
        height,
        hashlib.sha256(data).hexdigest(),
        to_world=(0.5, 0, 1, 0, 0.5, 2, 0, 0, 3),
        plane="axial",
        window="soft_tissue -160..240",
        index=seed,
        spacing_mm=0.5,
        geometry="known",
    )


def record(n: int = 0, image: Picture | None = None, **more: Any) -> Record:
    fields: dict[str, Any] = {
        "id": f"toy/case{n:04d}/image",
        "picture": image or picture(seed=n),
        "text": None,
        "modality": "ct",
        "sub_modality": None,
        "department": "Urology",
        "task": "Organ Recognition - Abdomen",
        "origin": "segmentation_2d",
        "regions": (
            Region("kidney", "kidney_left", Box(1, 2, 11, 12), "abc", 0, 100.0, 25.0, "left"),
            Region(None, "odd_thing", certain=False),
        ),
        "annotated": ("kidney", "liver"),
        "doubted": (),
        "attributes": {},
        "body_part": "abdomen",
        "source": "toy",
        "case": f"case{n:04d}",
        "group": f"patient{n}",
        "license": "CC-BY-4.0",
        "redistribute": True,
        "commercial": False,
        "egress": "any",
        "history": (),
    }
    return Record(**{**fields, **more})


def sample(of: Record, n: int = 0, **more: Any) -> Sample:
    fields: dict[str, Any] = {
        "id": f"{of.id}#vqa_choice.{n}.en",
        "records": (of.id,),
        "kind": "vqa_choice",
        "language": "en",
        "messages": (Message("user", f"Which organ is number {n}?"), Message("assistant", "B. left kidney")),
        "reasoning": None,
        "answer": "B",
        "answer_type": "mcq",
        "tolerance": None,
        "choices": ("liver", "left kidney"),
        "boxes": (("left kidney", Box(1, 2, 11, 12)),),
        "calls": (
            Call("factual", "caption@0123", "openai", "m1", "k1", 100, 10, 0.25),
            Call("merge", "merge@4567", "openai", "m2", "k2", 50, 5, 0.5),
        ),
        "checks": (),
        "judge": None,
        "parent": None,
        "made_by": "model",
    }
    return Sample(**{**fields, **more})


def rows(count: int, split: str = "train", start: int = 0) -> list[Row]:
    records = [record(n) for n in range(start, start + count)]
    return [Row(sample(of), (of,), split) for of in records]


def written(folder: Path, found: list[Row], **more: Any) -> Written:
    return write(
        Store(str(folder)), "dataset", found, [(row.records[0], row.split) for row in found], VOCABULARY, **more
    )


def table(folder: Path, done: Written, config: str = "default") -> list[dict[str, Any]]:
    files = [file.file for file in done.files if file.config == config]
    return [row for file in files for row in pq.ParquetFile(folder / file).read().to_pylist()]


def leaves(file: pq.ParquetFile) -> Iterator[Any]:
    for group in range(file.metadata.num_row_groups):
        for column in range(file.metadata.num_columns):
            yield file.metadata.row_group(group).column(column)


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`datasets.load_dataset` on a folder, offline, with its cache in the test's own folder."""
    for name, value in (("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    import datasets  # reads the environment when it is imported

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def loaded(folder: Path, *what: str, **more: Any) -> Any:
        cache = None if more.get("streaming") else str(tmp_path / "cache")
        return datasets.load_dataset(str(folder), *what, cache_dir=cache, **more)

    return loaded


# ---- a row


def test_a_sample_says_everything_that_the_training_stacks_ask_for(tmp_path: Path) -> None:
    of = record(7)
    done = written(tmp_path, [Row(sample(of), (of,), "train")])
    (row,) = table(tmp_path, done)
    assert of.picture
    assert row["images"] == [{"bytes": of.picture.bytes, "path": f"{of.picture.sha256}.png"}]
    assert row["image_size"] == [[40, 30]]
    assert row["messages"] == [
        {"role": "user", "content": "<image>\nWhich organ is number 0?"},
        {"role": "assistant", "content": "B. left kidney"},
    ]
    assert row["prompt"] == row["messages"][:1]
    assert row["problem"] == "<image>\nWhich organ is number 0?"
    assert row["objects"] == {"ref": ["left kidney"], "bbox": [[1, 2, 11, 12]], "image_id": [0]}
    assert row["data_source"] == "medgloss/toy"
    assert row["ability"] == row["kind"] == "vqa_choice"
    assert row["reward_model"] == {"style": "rule", "ground_truth": "B"}
    assert row["extra_info"] == {
        "index": 0,
        "split": "train",
        "answer_type": "mcq",
        "choices": ["liver", "left kidney"],
        "tolerance": None,
        "answer": "B",
        "question": "Which organ is number 0?",
    }
    assert row["provenance"] == {
        "source": "toy",
        "license": "CC-BY-4.0",
        "redistribute": True,
        "egress": "any",
        "backend": "openai",
        "model": "m1, m2",
        "prompts": ["caption@0123", "merge@4567"],
        "request_keys": ["k1", "k2"],
        "input_tokens": 150,
        "output_tokens": 15,
        "cost": 0.75,
    }


def test_a_dialogue_over_two_pictures_has_both_placeholders_in_front_and_asks_its_last_question(tmp_path: Path) -> None:
    pair = (record(0), record(1, picture(20, 20, form="JPEG", mode="RGB"), redistribute=False, egress="local"))
    turns = (
        Message("user", "One?"),
        Message("assistant", "Yes."),
        Message("user", "Two?"),
        Message("assistant", "No."),
    )
    talk = sample(pair[0], kind="dialogue", messages=turns, answer="No.", answer_type="text", boxes=(), choices=())
    (row,) = table(tmp_path, written(tmp_path, [Row(talk, pair, "test")]))
    assert [image["path"][-4:] for image in row["images"]] == [".png", ".jpg"]
    assert [turn["content"] for turn in row["messages"]] == ["<image>\n<image>\nOne?", "Yes.", "Two?", "No."]
    assert [turn["content"] for turn in row["prompt"]] == ["<image>\n<image>\nOne?", "Yes.", "Two?"]
    assert row["problem"] == "<image>\n<image>\nTwo?"
    assert row["reward_model"] == {"style": "model", "ground_truth": "No."}
    assert row["objects"] is None
    assert row["choices"] == []
    assert (row["provenance"]["redistribute"], row["provenance"]["egress"]) == (False, "local")


def test_a_placeholder_in_a_models_words_is_no_picture(tmp_path: Path) -> None:
    of = record()
    turns = (Message("user", "What does <image> show?"), Message("assistant", "The <image> and the <video>."))
    (row,) = table(tmp_path, written(tmp_path, [Row(sample(of, messages=turns), (of,), "train")]))
    assert [turn["content"] for turn in row["messages"]] == [
        "<image>\nWhat does image show?",
        "The image and the video.",
    ]


def test_a_text_sample_has_no_pictures_but_no_null_either(tmp_path: Path) -> None:
    of = replace(record(), picture=None, text="A report.", modality="text", origin="text")
    done = written(tmp_path, [Row(sample(of, boxes=()), (of,), "train")])
    (row,), (fact,) = table(tmp_path, done), table(tmp_path, done, "records")
    assert (row["images"], row["image_size"], row["visual_tokens"]) == ([], [], {"qwen28": 0, "qwen32": 0})
    assert row["messages"][0]["content"] == "Which organ is number 0?"
    assert (fact["image"], fact["width"]) == (None, None)


def test_an_unknown_price_makes_the_cost_unknown_and_no_call_costs_nothing(tmp_path: Path) -> None:
    of = record()
    unknown = Call("merge", "merge@4567", "openai", "m", "k", 1, 1, None)
    found = [sample(of, 0, calls=(*sample(of).calls, unknown)), sample(of, 1, calls=(), made_by="human")]
    some, none = table(tmp_path, written(tmp_path, [Row(one, (of,), "train") for one in found]))
    assert (some["provenance"]["cost"], some["provenance"]["input_tokens"]) == (None, 151)
    assert (none["provenance"]["cost"], none["provenance"]["backend"]) == (0, "")


def test_turns_that_do_not_alternate_are_refused_with_the_samples_id(tmp_path: Path) -> None:
    of = record()
    wrong = sample(of, messages=(Message("user", "One?"), Message("user", "Two?")))
    with pytest.raises(ValueError, match=r"case0000/image#vqa_choice.0.en: turns are \['user', 'user'\]"):
        written(tmp_path, [Row(wrong, (of,), "train")])


def test_a_record_gives_its_labels_in_english_with_their_sides_and_its_boxes(tmp_path: Path) -> None:
    of = record(3)
    (row,) = table(tmp_path, written(tmp_path, [Row(sample(of), (of,), "train")]), "records")
    assert row["label"] == ["left kidney", "odd thing"]
    assert row["concept"] == ["kidney", None]
    assert row["certain"] == [True, False]
    assert row["annotated"] == ["kidney", "liver"]
    assert row["bbox"] == [
        {
            "label": "left kidney",
            "box": [1, 2, 11, 12],
            "area_px": 100,
            "area_mm2": 25,
            "mask_rle": "abc",
            "certain": True,
        }
    ]
    assert (row["width"], row["height"], row["plane"], row["slice_index"]) == (40, 30, "axial", 3)
    assert (row["spacing_mm"], row["geometry"], row["window"]) == (0.5, "known", "soft_tissue -160..240")
    assert row["to_source"] == [1, 0, 0, 0, 1, 0]
    assert row["to_world"] == [0.5, 0, 1, 0, 0.5, 2, 0, 0, 3]
    assert (row["group"], row["case"], row["department"], row["modality"]) == ("patient3", "case0003", "Urology", "ct")


@pytest.mark.parametrize(
    ("width", "height", "qwen28", "qwen32"),
    [(517, 413, (420, 504), (416, 512)), (2048, 1536, (840, 1148), (1536, 2048)), (224, 224, (224, 224), (256, 256)),
     (4096, 5120, (1120, 896), (4576, 3648)), (672, 672, (672, 672), (672, 672)), (20, 20, (56, 56), (256, 256))],
)  # fmt: skip
def test_visual_tokens_are_those_of_the_processors(
    width: int, height: int, qwen28: tuple[int, int], qwen32: tuple[int, int]
) -> None:
    # sizes printed by transformers' Qwen2VLImageProcessor and the Qwen3-VL preset
    assert smart_resize(height, width, 28, *QWEN28_PIXELS) == qwen28
    assert smart_resize(height, width, 32, *QWEN32_PIXELS) == qwen32


def test_a_row_carries_the_tokens_of_all_its_pictures(tmp_path: Path) -> None:
    pair = (record(0, picture(517, 413)), record(1, picture(224, 224)))
    (row,) = table(tmp_path, written(tmp_path, [Row(sample(pair[0]), pair, "train")]))
    assert row["visual_tokens"] == {"qwen28": 15 * 18 + 8 * 8, "qwen32": 13 * 16 + 8 * 8}


# ---- schemas


def test_no_column_of_the_samples_has_a_name_that_a_trainer_reserves() -> None:
    assert not set(SAMPLES.names) & set(RESERVED)


@pytest.mark.parametrize("config", CONFIGS)
def test_only_types_that_every_loader_knows_are_used(config: str) -> None:
    def plain(kind: pa.DataType) -> Iterator[str]:
        if pa.types.is_struct(kind):
            yield from itertools.chain.from_iterable(plain(field.type) for field in kind)
        elif pa.types.is_list(kind):
            yield from plain(kind.value_type)
        else:
            yield str(kind)

    used = set(itertools.chain.from_iterable(plain(field.type) for field in CONFIGS[config]))
    assert used <= {"string", "bool", "int32", "int64", "float", "double", "binary"}


def test_the_features_are_in_the_notation_that_old_versions_read(tmp_path: Path) -> None:
    for file in written(tmp_path, rows(1)).files:
        schema = pq.read_schema(tmp_path / file.file)
        text = schema.metadata[b"huggingface"].decode()
        assert '"List"' not in text
        features = json.loads(text)["info"]["features"]
        assert list(features) == schema.names
        assert features["images" if file.config == "default" else "image"] in ([{"_type": "Image"}], {"_type": "Image"})


def test_a_column_without_a_value_keeps_its_type(tmp_path: Path) -> None:
    of = record(sub_modality=None, department=None, regions=())
    done = written(tmp_path, [Row(sample(of, boxes=(), reasoning=None), (of,), "train")])
    for file in done.files:
        assert pq.read_schema(tmp_path / file.file).remove_metadata() == CONFIGS[file.config]


# ---- files


def test_pictures_are_stored_as_they_are_and_the_rest_is_packed(tmp_path: Path) -> None:
    for file in written(tmp_path, rows(3)).files:
        for leaf in leaves(pq.ParquetFile(tmp_path / file.file)):
            is_picture = leaf.path_in_schema.endswith(".bytes")
            assert leaf.compression == ("UNCOMPRESSED" if is_picture else "ZSTD"), leaf.path_in_schema
            assert leaf.has_offset_index, leaf.path_in_schema
            if is_picture:
                assert ("RLE_DICTIONARY" in leaf.encodings) == (file.config == "default")


def test_a_picture_of_eight_samples_is_stored_once(tmp_path: Path) -> None:
    records = [record(n, picture(400, 300, n)) for n in range(10)]
    found = [Row(sample(of, n), (of,), "train") for of in records for n in range(8)]
    done = write(Store(str(tmp_path)), "dataset", found, [], VOCABULARY)
    pictures = sum(len(of.picture.bytes) for of in records if of.picture)
    assert [file.rows for file in done.files] == [80]
    assert pictures < done.files[0].size < 1.05 * pictures + 20_000
    assert [row["images"][0]["bytes"] for row in table(tmp_path, done)[::8]] == [
        of.picture.bytes for of in records if of.picture
    ]


def test_a_row_group_ends_at_256_rows(tmp_path: Path) -> None:
    of = record()
    found = [Row(sample(of, n), (of,), "train") for n in range(600)]
    done = write(Store(str(tmp_path)), "dataset", found, [], VOCABULARY)
    metadata = pq.read_metadata(tmp_path / done.files[0].file)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [256, 256, 88]


def test_a_row_group_ends_at_16_megabytes_decoded(tmp_path: Path) -> None:
    big = picture(1000, 1000)  # noise: 1 MB as PNG
    of = record(0, big)
    found = [Row(sample(of, n), (of,), "train") for n in range(40)]
    done = write(Store(str(tmp_path)), "dataset", found, [], VOCABULARY)
    file = pq.ParquetFile(tmp_path / done.files[0].file)
    sizes = [file.read_row_group(n).nbytes for n in range(file.num_row_groups)]
    assert max(sizes) <= 16 << 20
    assert min(sizes[:-1]) > 14 << 20
    assert file.metadata.num_rows == 40


def test_a_row_larger_than_a_shard_is_a_shard_of_its_own(tmp_path: Path) -> None:
    done = written(tmp_path, rows(3), shard_bytes=100)
    assert [file.rows for file in done.files] == [1] * 6


def test_shards_are_numbered_with_their_count_and_hold_every_row_once(tmp_path: Path) -> None:
    found = [*rows(2, "test"), *rows(40, "train", 2)]
    done = written(tmp_path, found, shard_bytes=40_000)
    names = [file.file for file in done.files if (file.config, file.split) == ("default", "train")]
    assert len(names) > 1
    assert names == [f"dataset/data/default/train-{n:05d}-of-{len(names):05d}.parquet" for n in range(len(names))]
    assert done.rows == {"default/test": 2, "default/train": 40, "records/test": 2, "records/train": 40}
    assert [row["sample_id"] for row in table(tmp_path, done)] == [row.sample.id for row in found]
    assert [row["extra_info"]["index"] for row in table(tmp_path, done)] == [0, 1, *range(40)]
    decoded = [pq.ParquetFile(tmp_path / name).read(columns=["images"]).nbytes for name in names]
    assert max(decoded) <= 40_000
    for file in done.files:
        data = (tmp_path / file.file).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, rows(30), shard_bytes=40_000) for name in "ab")
    assert first == second
    assert len(first.files) > 2
    for file in first.files:
        assert (tmp_path / "a" / file.file).read_bytes() == (tmp_path / "b" / file.file).read_bytes()


def test_a_second_export_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, [*rows(2, "test"), *rows(40, "train", 2)], shard_bytes=40_000)
    done = written(tmp_path, rows(3))
    there = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert there == sorted(file.file for file in done.files)
    assert not (tmp_path / "dataset/parts").exists()


def test_an_export_that_dies_leaves_the_set_before_it_as_it_was(tmp_path: Path) -> None:
    before = written(tmp_path, rows(2))
    whole = {file.file: (tmp_path / file.file).read_bytes() for file in before.files}

    def dying() -> Iterator[Row]:
        yield from rows(20)
        raise KeyboardInterrupt

    store = Store(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        write(store, "dataset", dying(), [], VOCABULARY, shard_bytes=20_000)
    assert {name: store.read(name) for name in store.list("dataset")} == whole
    assert written(tmp_path, rows(2)) == before
    assert not (tmp_path / "dataset/parts").exists()


def test_a_split_without_rows_has_no_file(tmp_path: Path) -> None:
    done = write(Store(str(tmp_path)), "dataset", rows(2, "validation"), [], VOCABULARY)
    assert done.rows == {"default/validation": 2}
    assert Store(str(tmp_path)).list("dataset") == ["dataset/data/default/validation-00000-of-00001.parquet"]


def test_no_rows_at_all_give_no_files(tmp_path: Path) -> None:
    done = write(Store(str(tmp_path)), "dataset", [], [], VOCABULARY)
    assert (done.files, done.rows) == ((), {})


def test_a_split_that_comes_twice_is_a_fault_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="split 'train' comes again after 'test'"):
        written(tmp_path, [*rows(1), *rows(1, "test", 1), *rows(1, "train", 2)])


def test_a_store_that_is_not_local_gets_the_same_bytes(tmp_path: Path) -> None:
    local = written(tmp_path, rows(30), shard_bytes=40_000)
    away = Store("mock:///run")
    found = rows(30)
    assert write(away, "dataset", found, [(row.records[0], row.split) for row in found], VOCABULARY, 40_000) == local
    assert isinstance(away.fs, pafs.FileSystem)
    assert not away.local
    for file in local.files:
        assert away.read(file.file) == (tmp_path / file.file).read_bytes()


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    seen: list[int] = []

    def many() -> Iterator[Row]:
        for n in range(160):  # 160 MB of pictures
            of = record(n, Picture(random.Random(n).randbytes(1 << 20), 40, 30, f"{n:064d}"))
            seen.append(tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - start)
            yield Row(sample(of), (of,), "train")

    start = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        done = write(Store(str(tmp_path)), "dataset", many(), [], VOCABULARY, shard_bytes=64 << 20)
    finally:
        tracemalloc.stop()
    assert done.rows == {"default/train": 160}
    assert len(done.files) == 3
    assert max(seen) < 64 << 20
    assert max(seen[80:]) < 1.2 * max(seen[:80])


# ---- datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole set: files and card."""
    done = written(tmp_path / "run", [*rows(2, "test"), *rows(5, "train", 2), *rows(1, "validation", 7)])
    (tmp_path / "run/dataset/README.md").write_text(card("Toy", [], done, {"language": {"en": 8}}))
    return tmp_path / "run/dataset"


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_the_samples_by_the_card(
    folder: Path, load_dataset: Callable[..., Any], streaming: bool
) -> None:
    loaded = load_dataset(folder, streaming=streaming)
    found = {split: list(part) for split, part in loaded.items()}
    assert {split: len(part) for split, part in found.items()} == {"train": 5, "validation": 1, "test": 2}
    assert list(loaded["train"].features) == SAMPLES.names
    for row, expected in zip(found["train"], rows(5, "train", 2), strict=True):
        stored = expected.records[0].picture
        assert stored
        assert [image.size for image in row["images"]] == [(40, 30)]
        assert row["images"][0].tobytes() == Image.open(io.BytesIO(stored.bytes)).tobytes()
        assert row["messages"][0] == {"role": "user", "content": "<image>\nWhich organ is number 0?"}
        assert row["objects"]["bbox"] == [[1, 2, 11, 12]]
        assert row["extra_info"]["choices"] == ["liver", "left kidney"]


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_the_records_by_the_card(
    folder: Path, load_dataset: Callable[..., Any], streaming: bool
) -> None:
    loaded = load_dataset(folder, "records", split="test", streaming=streaming)
    assert list(loaded.features) == RECORDS.names
    found = list(loaded)
    assert [row["record_id"] for row in found] == ["toy/case0000/image", "toy/case0001/image"]
    assert (found[0]["image"].size, found[0]["image"].mode) == ((40, 30), "L")
    assert found[0]["label"] == ["left kidney", "odd thing"]
    assert found[0]["bbox"][0]["box"] == [1, 2, 11, 12]


def test_datasets_reads_only_the_columns_and_rows_that_are_asked_for(
    folder: Path, load_dataset: Callable[..., Any]
) -> None:
    some = {"split": "train", "streaming": True, "columns": ["sample_id", "modality"]}
    found = list(load_dataset(folder, **some, filters=[("modality", "==", "ct")]))
    assert found[0] == {"sample_id": "toy/case0002/image#vqa_choice.0.en", "modality": "ct"}
    assert len(found) == 5
    assert list(load_dataset(folder, **some, filters=[("modality", "==", "mr")])) == []


def test_features_of_the_card_and_of_the_files_are_the_same(folder: Path, load_dataset: Callable[..., Any]) -> None:
    import datasets

    assert load_dataset  # offline
    head = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    for entry in head["dataset_info"]:
        file = next((folder / "data" / entry["config_name"]).iterdir())
        assert datasets.Features._from_yaml_list(entry["features"]) == datasets.Features.from_arrow_schema(
            pq.read_schema(file)
        )


def test_a_set_without_a_card_still_reads_file_by_file(folder: Path, load_dataset: Callable[..., Any]) -> None:
    loaded = load_dataset(folder / "data/default", split="train")
    assert loaded[0]["images"][0].size == (40, 30)
