"""The descriptor: what a curator writes, and what a fault in it says."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline import discovery
from pipeline.errors import UserError
from sources import descriptor, preset

MINIMAL = """
schema: medgloss/1
id: toy
title: A toy
license: {name: CC0-1.0}
egress: any
modality: xray
cases: {match: "{class}/{stem}.png"}
"""
REAL = sorted((Path(__file__).parent / "real").glob("*.yaml"))
CATALOG = sorted((discovery.ROOT / "sources" / "catalog").glob("*.yaml"))


def parsed(more: str = "", text: str = MINIMAL) -> descriptor.Descriptor:
    return descriptor.parse(text + more, "toy.yaml")


def fault(more: str = "", text: str = MINIMAL) -> str:
    with pytest.raises(UserError) as caught:
        parsed(more, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_smallest_descriptor_has_these_defaults():
    found = parsed()
    assert found.cases.match == ("{class}/{stem}.png",)
    assert (found.cases.id, found.cases.group, found.cases.unlabelled) == (None, None, "reject")
    assert (found.license.redistribute, found.license.commercial) == (False, False)
    assert (found.limits.min_area_mm2, found.limits.min_area_px, found.limits.min_side_px) == (10, 100, 16)
    assert (found.geometry.pairing, found.geometry.allow_oblique) == ("same_grid", 15)
    assert (found.slices.planes, found.slices.pick, found.slices.every) == (("acquisition",), "labelled", 1)
    assert found.specs == ()


def test_an_unknown_key_gives_the_near_name_in_one_line():
    assert fault("modalty: ct\n").startswith("toy.yaml: unknown key 'modalty'; did you mean 'modality'? Known: ")
    assert "unknown key 'cases.macth'; did you mean 'match'?" in fault(text=MINIMAL.replace("match", "macth"))
    assert "unknown key 'geometry.parring'; did you mean 'pairing'?" in fault("geometry: {parring: resample}\n")
    said = fault("annotations:\n  - {kind: voc, pth: 'x.xml'}\n")
    assert said.startswith("toy.yaml: annotations.0: unknown key 'pth'; did you mean 'path'?")


def test_an_unknown_kind_gives_the_near_name():
    assert "unknown annotation kind 'vocc'; did you mean 'voc'?" in fault("annotations:\n  - {kind: vocc}\n")
    assert "toy.yaml: annotations.0: key 'kind' is missing" in fault("annotations:\n  - {path: x}\n")


def test_a_key_given_twice_is_an_error():
    assert "key 'modality' is given twice" in fault("modality: ct\n")


def test_class_folders_named_yes_and_no_stay_text():
    found = parsed("annotations:\n  - {kind: classes, value: '{class}', labels: {yes: brain tumor, no: normal}}\n")
    assert found.specs[0].labels == {"yes": "brain tumor", "no": "normal"}


def test_labels_that_look_like_numbers_stay_text():
    found = parsed("annotations:\n  - {kind: classes, value: '{class}', labels: {012: a, 1.10: b, on: no}}\n")
    assert found.specs[0].labels == {"012": "a", "1.10": "b", "on": "no"}
    assert found.specs[0].rule("012").label == "a"


def test_a_label_may_carry_a_side_or_be_dropped():
    labels = "{LK: {label: kidney, side: left}, bg: {drop: true}}"
    spec = parsed(f"annotations:\n  - kind: classes\n    value: '{{class}}'\n    labels: {labels}\n").specs[0]
    assert (spec.rule("LK").label, spec.rule("LK").side) == ("kidney", "left")
    assert spec.rule("bg").drop is True
    assert spec.rule("liver").label == "liver"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("display: {window: {low: 0}}\n", "low goes with high, center with width"),
        ("display: {window: {low: 5, high: 5}}\n", "low must be below high"),
        ("display: {window: {preset: lung, low: 5, high: 9}}\n", "give one of: preset, low and high"),
        ("slices: {every: 0}\n", "slices.every: Input should be greater than or equal to 1 (is '0')"),
        ("geometry: {assume: XYZ}\n", "geometry.assume: String should match pattern"),
        ("annotations:\n  - {kind: mask_per_class, path: 'a/{x}.nii'}\n", "the path must capture {label}"),
    ],
)
def test_faults_of_values_are_one_line(more, said):
    assert said in fault(more)


def test_windows_and_limits_have_a_short_form():
    found = parsed("display: {window: lung}\nlimits: none\n")
    assert found.display.window == descriptor.WindowSpec(preset="lung")
    assert found.limits == descriptor.NO_LIMITS


def test_a_descriptor_loads_by_path_with_the_folder_it_lies_in(tmp_path):
    (tmp_path / "toy.yaml").write_text(MINIMAL)
    found, folder, _ = descriptor.load(str(tmp_path / "toy.yaml"))
    assert (found.id, folder) == ("toy", tmp_path.resolve())
    with pytest.raises(UserError, match=r"source nowhere/x\.yaml: no such file"):
        descriptor.load("nowhere/x.yaml")


@pytest.mark.parametrize("path", CATALOG, ids=lambda path: path.stem)
def test_every_file_in_the_catalog_loads_under_its_own_name(path):
    if "preset:" in path.read_text():  # only its data tells all
        assert preset.without_data(path.read_text(), path.stem).id == path.stem
        return
    found, folder, _ = descriptor.load(path.stem)
    assert found.id == path.stem
    assert folder == path.parent


@pytest.mark.parametrize("path", [*REAL, *CATALOG], ids=lambda path: path.stem)
def test_an_editor_accepts_the_descriptors_that_load(path):
    if "preset:" not in path.read_text():  # that one needs its data
        assert descriptor.load(str(path))[0].id == path.stem
    jsonschema.Draft202012Validator(descriptor.json_schema()).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "more",
    [
        "limits: none\n",
        "display: {window: lung}\n",
        "display: {window: {low: 0, high: 100}}\n",
        "cases: {match: ['a/{stem}.png', 'b/{stem}.png'], exclude: '*_mask.png'}\n",
        "annotations:\n  - {kind: classes, value: '{class}', labels: {yes: brain tumor, no: 012, 3: 1.10}}\n",
        "annotations:\n  - {kind: coco, path: 'x.json', complete: yes, labels: {1: {drop: true}}}\n",
        "tables: {t: {path: t.csv, key: 1}}\n",
        "expect: {cases: 3}\n",
    ],
)
def test_an_editor_accepts_what_loads(more):
    text = (MINIMAL if "cases: {match" not in more else MINIMAL.partition("cases:")[0]) + more
    assert parsed(text=text).id == "toy"
    jsonschema.Draft202012Validator(descriptor.json_schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "more",
    [
        "modalty: ct\n",
        "geometry: {parring: resample}\n",
        "annotations:\n  - {kind: voc, pth: x}\n",
        "annotations:\n  - {kind: nothing}\n",
        "limits: nothing\n",
        "slices: {every: 0}\n",
    ],
)
def test_an_editor_refuses_what_does_not_load(more):
    fault(more)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(descriptor.json_schema()).validate(yaml.safe_load(MINIMAL + more))


def test_an_editor_wants_a_template_of_cases_unless_a_preset_knows_it():
    said = yaml.safe_load(MINIMAL.partition("cases:")[0] + "cases: {exclude: a.png}\n")
    editor = jsonschema.Draft202012Validator(descriptor.json_schema())
    assert not editor.is_valid(said)
    assert editor.is_valid({**said, "cases": {"match": "{stem}.png"}})
    assert editor.is_valid({**said, "preset": "msd"})


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(descriptor.json_schema())
