"""The guides say what the program does: examples parse, tables of keys and defaults are those of the code."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import discovery, vocabulary
from sources.cases import ID_KEY
from sources.descriptor import AnnotationSpec, Descriptor, layout, parse

DOCS = Path(__file__).resolve().parents[1] / "docs"
GUIDE = (DOCS / "adding-a-data-set.md").read_text()
EXAMPLES = [block for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if block.startswith("schema:")]
KINDS = discovery.names("sources/layouts", ".py")
ROW = re.compile(r"^\| `([\w.]+)` \| (.+?) \| .+ \|$", re.MULTILINE)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key with its default as the guide writes it; of a nested model its keys instead."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = models_in(field.annotation)
        within = {"tables": "NAME.", "labels": "RAW."}.get(key, "") if get_origin(field.annotation) is dict else ""
        if inner:
            yield from keys(inner[0], f"{key}.{within}")
        else:
            yield key, shown(field)


def shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True):
        case None:
            return "–"
        case bool(value):
            return str(value).lower()
        case float(value):
            return f"{value:g}"
        case tuple(values):
            return f"[{', '.join(values)}]"
        case value:
            return str(value) if value != "" else '""'


def wanted() -> dict[str, str]:
    common = dict(keys(AnnotationSpec))
    own = [(kind, key, default) for kind in KINDS for key, default in keys(layout(kind).Spec) if key not in common]
    return {**dict(keys(Descriptor)), **common, **{f"{kind}.{key}": default for kind, key, default in own}}


def test_the_guide_has_every_key_with_its_default_and_no_other():
    rows = dict(ROW.findall(GUIDE[GUIDE.index("## Every key") :]))
    rows.pop("labels")  # a mapping: its keys have rows of their own
    assert rows == wanted()


def test_the_guide_has_an_example_of_every_annotation_kind():
    shown_kinds = [spec.kind for text in EXAMPLES for spec in parse(text, "guide").specs]
    assert sorted(set(shown_kinds)) == KINDS


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: re.search(r"^id: (\w+)", text, re.MULTILINE)[1])
def test_an_example_parses_and_means_what_the_vocabulary_knows(text):
    found, words = parse(text, "guide"), vocabulary.load()
    words.modality(found.modality, found.id)
    rules = [spec.rule(raw) for spec in found.specs for raw in spec.labels]
    unknown = [rule.label for rule in rules if not rule.drop and words.meaning(rule.label or "").concept is None]
    assert unknown == []


def test_a_block_that_is_no_whole_descriptor_does_not_begin_like_one():
    whole = [block for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL) if "schema: medgloss" in block]
    assert whole == EXAMPLES


def test_what_the_guide_says_of_labels_is_so():
    words = vocabulary.load()
    assert vocabulary.normalise("Kidney_Cysts") == "kidney cyst"
    assert words.meaning("kidney_right") == ("kidney", "right")
    assert words.meaning("left ventricle").side is None
    assert words.meaning("left ventricle").concept is not None


def test_the_guide_names_what_the_program_reads():
    assert ID_KEY in GUIDE
    assert {"ct", "mr", "xray"} == {vocabulary.load().modality(name, "guide") for name in ("ct", "MRI", "DX")}
