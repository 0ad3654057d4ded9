"""The guides say what the program does: tables of keys, reasons and names are those of the code, examples are read."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import discovery, vocabulary
from pipeline.check import check
from pipeline.cli import parser
from pipeline.defects import REMARKS
from pipeline.settings import Settings
from sources import preset
from sources.cases import ID_KEY
from sources.descriptor import AnnotationSpec, Descriptor, layout, parse

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {name: (DOCS / name).read_text() for name in ("adding-a-data-set.md", "layouts.md", "descriptor-keys.md")}
GUIDE, LAYOUTS, KEYS = PAGES.values()
BLOCKS = [block for text in PAGES.values() for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
ID = re.compile(r"^id: (\w+)", re.MULTILINE)
EXAMPLES = {ID.findall(block)[0]: block for block in BLOCKS if block.startswith("schema:") and "\npreset:" not in block}
PARTS = [block for block in BLOCKS if block not in EXAMPLES.values() and yaml.safe_load(block) is not None]
KINDS = discovery.names("sources/layouts", ".py")
PRESETS = discovery.names("sources/presets", ".py")
EMPTY = '""'
ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \|", re.MULTILINE)
WHOLE = yaml.safe_load("""
schema: medgloss/1
id: part
title: A descriptor around a part of one
license: {name: MIT}
egress: any
modality: ct
cases: {match: "{stem}.png"}
""")


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its rank or above."""
    rank = len(title) - len(title.lstrip("#"))
    return re.split(rf"^#{{1,{rank}}} ", text[text.index(f"\n{title}\n") + len(title) + 2 :], flags=re.MULTILINE)[0]


# ---- keys


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key with its default as the guide writes it; of a nested model its keys instead."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner, form = models_in(field.annotation), get_origin(field.annotation)
        within = {"labels": "RAW."}.get(key, "NAME.") if form is dict else ""
        if inner and form is not tuple:
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
            return f"[{', '.join(value or EMPTY for value in values)}]"
        case value:
            return str(value) if value != "" else EMPTY


def wanted() -> dict[str, str]:
    common = dict(keys(AnnotationSpec))
    own = [(kind, key, default) for kind in KINDS for key, default in keys(layout(kind).Spec) if key not in common]
    return {**dict(keys(Descriptor)), **common, **{f"{kind}.{key}": default for kind, key, default in own}}


def test_the_page_of_keys_has_every_key_with_its_default_and_no_other():
    rows = dict(ROW.findall(KEYS))
    rows.pop("labels")  # a mapping: its keys have rows of their own
    assert rows == wanted()


# ---- names


def test_there_is_an_example_of_every_kind_and_a_way_to_it():
    assert sorted({spec.kind for text in EXAMPLES.values() for spec in parse(text, "guide").specs}) == KINDS
    linked = re.findall(r"\[`(\w+)`\]\(layouts\.md#", section(GUIDE, "## Which kind do I need?"))
    assert sorted({*linked} - {"channels"}) == sorted([*KINDS, "cases"][: len(KINDS)])


@pytest.mark.parametrize("text", [section(LAYOUTS, "## Presets"), section(GUIDE, "## Which kind do I need?")])
def test_every_preset_is_named(text):
    rows = dict(ROW.findall(text)) if text in LAYOUTS else dict.fromkeys(re.findall(r"\| `(\w+)` \|$", text, re.M))
    assert sorted({*rows} - {"preset"}) == PRESETS


def test_every_modality_and_window_is_named():
    terms = vocabulary.load().terms
    names = [*(term.id for term in terms.modalities), *terms.windows, "header", "organ"]
    assert [name for name in names if f"`{name}`" not in GUIDE] == []


def reasons() -> set[str]:
    """The reason codes of the code: what `Unusable` is raised with, and pairs of a code and its detail."""
    folders = [*(discovery.ROOT / "pipeline/ingest").glob("*.py"), *(discovery.ROOT / "sources").glob("*.py")]
    layouts = [*(discovery.ROOT / "sources/layouts").glob("*.py")]
    others = [discovery.ROOT / f"pipeline/{name}.py" for name in ("pictures", "rasters")]
    return {code for path in (*folders, *layouts, *others) for code in codes(path) if path.name != "templates.py"}


def codes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id="Unusable"), args=[ast.Constant(value=str(code)), *_]):
                yield code
            case ast.Call(func=ast.Attribute(attr="reject"), args=[_, _, ast.Constant(value=str(code)), *_]):
                yield code
            case ast.Tuple(elts=[ast.Constant(value=str(code)), ast.JoinedStr()]):
                yield code
            case ast.Tuple(elts=[ast.Constant(value=str(code)), ast.Constant(value=str(detail))]):
                if re.fullmatch("[a-z_0-9]+", code) and " " in detail:
                    yield code


def test_every_reason_has_a_row_and_no_other():
    assert set(dict(ROW.findall(section(GUIDE, "## Reasons")))) - {"reason"} == reasons()


def test_every_flag_that_is_named_stands_in_the_code():
    code = "".join(path.read_text() for path in sorted((discovery.ROOT / "pipeline").rglob("*.py")))
    flags = dict(ROW.findall(section(GUIDE, "## Flags")))
    assert len(flags) > 20
    assert [flag for flag in flags if not re.search(rf'"{flag.removesuffix("2")}', code)] == []


def test_every_odd_line_of_check_has_a_row():
    rows = re.findall(r"^\| (.+?) \|", section(GUIDE, "## Check and preview"), re.MULTILINE)
    assert [line for line in REMARKS.values() if not any(line.startswith(row) for row in rows)] == []


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_to_pages_and_headings():
    headings = {page: {slug(h) for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)} for page, text in PAGES.items()}
    found = 0
    for page, text in PAGES.items():
        for target, heading in re.findall(r"\]\(([\w.-]*)#?([\w-]*)\)", text):
            found += 1
            assert not heading or heading in headings[target or page], (target, heading)
            assert (DOCS / (target or page)).is_file()
    assert found > 30


def test_commands_are_those_of_the_program():
    calls = set(re.findall(r"`(medgloss \w+ [^`]+)`", GUIDE))
    assert len(calls) >= 5
    for call in calls:
        assert parser().parse_args(shlex.split(call.partition(" > ")[0])[1:]).command


def test_the_environment_variable_of_the_key_is_named():
    assert f"`{ID_KEY}`" in GUIDE


def test_what_the_guide_says_of_labels_is_so():
    words = vocabulary.load()
    assert vocabulary.normalise("Kidney_Cysts") == "kidney cyst"
    assert words.meaning("kidney_right") == ("kidney", "right")
    assert words.meaning("left ventricle").side is None
    assert words.meaning("left ventricle").concept is not None
    assert [words.modality(name, "guide") for name in ("MRI", "DX", "PT", "histopathology")] == [
        "mr", "xray", "pet", "pathology"
    ]  # fmt: skip


# ---- examples


def unknown_labels(descriptor: Descriptor) -> list[str]:
    words = vocabulary.load()
    rules = [spec.rule(raw) for spec in descriptor.specs for raw in spec.labels]
    return [rule.label or "" for rule in rules if not rule.drop and words.meaning(rule.label or "").concept is None]


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_parses_and_means_what_the_vocabulary_knows(text):
    found = parse(text, "guide")
    vocabulary.load().modality(found.modality, found.id)
    assert unknown_labels(found) == []


@pytest.mark.parametrize("text", PARTS, ids=lambda text: text.splitlines()[0][:40])
def test_a_part_of_a_descriptor_fits_into_one(text):
    said = yaml.load(text, yaml.BaseLoader)
    if isinstance(said.get("annotations"), dict):  # laid over what a preset fills in
        assert {*said.pop("annotations")} <= {*AnnotationSpec.model_fields}
    if "preset" in said:
        assert said["preset"] in PRESETS
    found = parse(yaml.safe_dump(preset.merged(WHOLE, said), sort_keys=False), "guide")
    assert unknown_labels(found) == []


def test_the_first_check_prints_what_the_guide_shows(tmp_path, grey_picture, encoded):
    text = section(GUIDE, "## A first descriptor")
    rows = re.findall(r"`(\w,p\d,\w+)`", text)
    assert len(rows) == 4
    (tmp_path / "chest" / "images").mkdir(parents=True)
    for n, name in enumerate("abc"):
        (tmp_path / "chest" / "images" / f"{name}.png").write_bytes(encoded(grey_picture(seed=n)))
    (tmp_path / "chest" / "labels.csv").write_text("\n".join(["file,patient,finding", *rows]))
    (tmp_path / "chest" / "README.txt").write_text("x")
    (tmp_path / "first.yaml").write_text(EXAMPLES["first"])
    printed = check(str(tmp_path / "first.yaml"), Settings(sources=()), None).text
    assert re.findall(r"```text\n(first: .*?)```", text, re.DOTALL) == [printed + "\n"]
