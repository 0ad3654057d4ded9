"""Layouts of findings in mm: spheres in a table, structure sets and segmentations beside a series."""

import json
import math

import pytest

from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from sources.annotation import Contours, Given, Segments, Sphere, Spheres
from sources.descriptor import parse
from sources.layouts import rtstruct, seg, spheres

HEAD = """
schema: medgloss/1
id: toy
title: A toy
license: {name: CC0-1.0}
egress: any
modality: ct
cases: {match: "{stem}.mhd"}
"""
KEYS = {"table": "t", "center": ["coordX", "coordY", "coordZ"], "diameter": "diameter_mm", "label": "nodule"}
CASE = Case("a", "toy", "a", {}, {})


def spec(**keys) -> spheres.Spec:
    keys = {key: value for key, value in {"kind": "spheres", **KEYS, **keys}.items() if value is not None}
    return spheres.Spec.model_validate(keys)


def read(rows, **keys) -> tuple[Sphere, ...]:
    note = json.dumps(rows) if rows is not None else None
    found = spheres.read(spec(**keys), CASE, Given(None, (), note))
    assert isinstance(found, Spheres)
    return found.spheres


def row(x="1.5", y="-20", z="3e1", size="6.25", **more) -> dict[str, str]:
    return {"seriesuid": "1.2", "coordX": x, "coordY": y, "coordZ": z, "diameter_mm": size, **more}


def test_a_row_is_a_sphere_in_lps_mm():
    assert read([row(), row(x="7")]) == (
        Sphere("nodule", (1.5, -20.0, 30.0), 6.25),
        Sphere("nodule", (7.0, -20.0, 30.0), 6.25),
    )


def test_ras_counts_to_the_right_and_to_the_front():
    assert read([row()], frame="ras") == (Sphere("nodule", (-1.5, 20.0, 30.0), 6.25),)


def test_a_radius_is_half_a_diameter():
    assert read([row(r="4")], diameter=None, radius="r") == (Sphere("nodule", (1.5, -20.0, 30.0), 8.0),)


def test_labels_and_readers_may_stand_in_the_rows_and_readers_are_hidden():
    rows = [row(kind="1", who="Dr Smith"), row(kind="0", who="Dr Abe"), row(kind="", who="Dr Abe")]
    found = read(rows, label=None, label_column="kind", reader="who")
    assert [(sphere.raw, sphere.reader) for sphere in found] == [("1", "r2"), ("0", "r1")]


@pytest.mark.parametrize("rows", [None, [], [row("", "", "")], [row("nan", "NaN", "", "")]])
def test_a_case_without_a_row_or_with_one_without_a_place_has_no_finding(rows):
    assert read(rows) == ()


@pytest.mark.parametrize("bad", [{"x": "left"}, {"y": "1,5"}, {"z": ""}, {"size": "n/a"}, {"size": ""}])
def test_a_cell_that_is_no_number_spoils_its_own_row_only(bad):
    good, broken, again = read([row(), row(**bad), row()])
    assert good == again == Sphere("nodule", (1.5, -20.0, 30.0), 6.25)
    assert math.isnan(sum(broken.center) + broken.diameter)


def test_all_columns_are_named_so_that_the_plan_can_check_them():
    keys = {"label": None, "label_column": "kind", "reader": "who", "diameter": None, "radius": "r"}
    assert spheres.columns(spec(**keys)) == ("coordX", "coordY", "coordZ", "r", "kind", "who")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("center: [x, y, z], diameter: d", "give one of: label, label_column"),
        ("center: [x, y, z], label: n", "give one of: diameter, radius"),
        ("center: [x, y, z], diameter: d, radius: r, label: n", "give one of: diameter, radius"),
        ("center: [x, y], diameter: d, label: n", "center"),
        ("center: [x, y, z], diameter: d, label: n, frame: voxel", "frame"),
        ("center: [x, y, z], diametr: d, label: n", "did you mean 'diameter'"),
    ],
)
def test_a_descriptor_that_says_too_little_or_too_much_is_refused_in_one_line(entry, said):
    with pytest.raises(UserError) as caught:
        parse(f"{HEAD}annotations: [{{kind: spheres, table: t, {entry}}}]\n", "toy.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "kind", "wanted"), [(seg, "seg", Segments("a.dcm", 0.5)), (rtstruct, "rtstruct", Contours("a.dcm"))]
)
def test_a_dicom_annotation_is_one_file_that_may_be_optional(module, kind, wanted, tmp_path):
    made = module.Spec(kind=kind, path="{stem}.dcm")
    assert module.read(made, CASE, Given(tmp_path, ("a.dcm",), None)) == wanted
    with pytest.raises(Unusable, match=r"^ambiguous_annotation"):
        module.read(made, CASE, Given(tmp_path, ("a.dcm", "b.dcm"), None))
    with pytest.raises(Unusable, match=r"^missing_mask"):
        module.read(made, CASE, Given(tmp_path, (), None))
    optional = module.Spec(kind=kind, path="{stem}.dcm", optional=True)
    assert module.read(optional, CASE, Given(tmp_path, (), None)) is None


@pytest.mark.parametrize(("said", "fits"), [("0.3", True), ("1", True), ("0", False), ("1.5", False), ("half", False)])
def test_the_threshold_of_a_seg_is_a_share(said, fits):
    text = f'{HEAD}annotations: [{{kind: seg, path: "s.dcm", threshold: {said}}}]\n'
    if fits:
        assert parse(text, "toy.yaml").specs[0].threshold == float(said)
    else:
        with pytest.raises(UserError, match="threshold"):
            parse(text, "toy.yaml")
