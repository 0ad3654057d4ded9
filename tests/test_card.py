"""The data set card: a head that the Hub reads, tables that people read."""

from typing import Any

import yaml

from outputs.card import SourceFacts, card
from outputs.parquet import RECORDS, SAMPLES, DataFile, Written

OPEN = SourceFacts("bccd", "BCCD", "MIT", True, True, "any", 364, 1200, "Shenggan, 2017.", "https://example.org/bccd")
CLOSED = SourceFacts("hospital", "Our | own\nCT", "proprietary", False, False, "local", 20, 60)
COUNTS = {
    "kind": {"caption": 400, "vqa_choice": 800, "grounding": 60},
    "modality": {"ct": 60, "microscopy": 1200},
    "department": {"Hematology": 1200, "": 60},
    "language": {"zh": 600, "en": 660},
    "split": {"train": 1000, "test": 260},
}


def written(*names: str) -> Written:
    files = (
        DataFile(f"dataset/data/{name}-00000-of-00001.parquet", *name.split("/"), 630, 1_500_000, "0") for name in names
    )
    return Written(tuple(files), dict.fromkeys(names, 630), "digest")


DONE = written("default/test", "default/train", "records/test", "records/train")


def head(text: str) -> dict[str, Any]:
    mark, found, _ = text.split("---\n", 2)
    assert mark == ""
    return dict(yaml.safe_load(found))


def test_the_head_names_the_configs_and_the_files_of_each_split() -> None:
    assert head(card("Toy", [OPEN], DONE, COUNTS))["configs"] == [
        {
            "config_name": "default",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/default/train-*.parquet"},
                {"split": "test", "path": "data/default/test-*.parquet"},
            ],
        },
        {
            "config_name": "records",
            "data_files": [
                {"split": "train", "path": "data/records/train-*.parquet"},
                {"split": "test", "path": "data/records/test-*.parquet"},
            ],
        },
    ]


def test_a_split_or_config_that_was_not_written_is_not_named() -> None:
    text = card("Toy", [OPEN], written("default/validation"), COUNTS)
    assert [config["config_name"] for config in head(text)["configs"]] == ["default"]
    assert head(text)["configs"][0]["data_files"] == [
        {"split": "validation", "path": "data/default/validation-*.parquet"}
    ]
    assert 'load_dataset("path/to/this/folder", "default", split="validation")' in text


def test_the_head_says_licence_language_tasks_and_size() -> None:
    found = head(card("Toy: a set", [OPEN], DONE, COUNTS))
    assert found["pretty_name"] == "Toy: a set"
    assert (found["license"], found["license_name"]) == ("other", "per-source")
    assert found["language"] == ["en", "zh"]
    assert found["task_categories"] == ["image-to-text", "object-detection", "visual-question-answering"]
    assert found["size_categories"] == ["1K<n<10K"]
    assert found["tags"] == ["medical", "synthetic", "medgloss"]


def test_the_head_describes_every_column() -> None:
    infos = {info["config_name"]: info["features"] for info in head(card("Toy", [OPEN], DONE, COUNTS))["dataset_info"]}
    assert [feature["name"] for feature in infos["default"]] == SAMPLES.names
    assert [feature["name"] for feature in infos["records"]] == RECORDS.names
    by_name = {feature["name"]: feature for feature in infos["default"]}
    assert by_name["images"] == {"name": "images", "list": "image"}
    assert by_name["choices"] == {"name": "choices", "list": "string"}
    assert by_name["image_size"] == {"name": "image_size", "list": {"list": "int32"}}
    assert by_name["messages"]["list"] == [{"name": "role", "dtype": "string"}, {"name": "content", "dtype": "string"}]
    assert by_name["visual_tokens"]["struct"][0] == {"name": "qwen28", "dtype": "int32"}


def test_every_source_has_its_line_in_the_table() -> None:
    text = card("Toy", [CLOSED, OPEN], DONE, COUNTS)
    bccd = "| `bccd` | [BCCD](https://example.org/bccd) | MIT | yes | yes | any | Shenggan, 2017. | 364 | 1,200 |"
    hospital = "| `hospital` | Our \\| own CT | proprietary | no | no | local |  | 20 | 60 |"
    assert f"{bccd}\n{hospital}\n" in text


def test_a_source_that_may_not_be_passed_on_is_called_out() -> None:
    assert "pictures of `hospital` may not be passed on" in card("Toy", [CLOSED, OPEN], DONE, COUNTS)
    assert "Do not publish" not in card("Toy", [OPEN], DONE, COUNTS)
    assert "Some sources do not allow commercial use" in card("Toy", [CLOSED], DONE, COUNTS)


def test_samples_are_counted_by_all_that_matters_the_most_first() -> None:
    text = card("Toy", [OPEN], DONE, COUNTS)
    assert "## Samples by kind\n\n| kind | samples |\n| --- | ---: |\n| vqa_choice | 800 |\n| caption | 400 |\n" in text
    assert "| Hematology | 1,200 |\n| not stated | 60 |\n" in text
    assert "## Samples by split" in text
    assert "1,260 samples and 1,260 annotated pictures in 4 Parquet files, 6.0 MB" in text


def test_an_empty_set_has_a_card_too() -> None:
    found = head(card("Toy", [], Written((), {}, "digest"), {}))
    assert list(found) == ["pretty_name", "license", "license_name", "tags", "size_categories"]
    assert found["size_categories"] == ["n<1K"]


def test_the_limits_are_said() -> None:
    text = card("Toy", [OPEN], DONE, COUNTS)
    assert "`made_by=template`" in text
    assert "open-world" in text
    assert "Not for diagnosis" in text
