"""A label map's keys: ids, names of the header, unions, what is ignored."""

from pathlib import Path

import pytest

from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from sources.annotation import Given, LabelVolume
from sources.descriptor import parse
from sources.layouts import labelmap

CASE = Case("a", "toy", "a", {}, {})
HEAD = """schema: medgloss/1
id: toy
title: A toy
license: {name: CC0-1.0}
egress: any
modality: mr
cases: {match: "{stem}_t1.nii.gz"}
"""


def read(keys: str, files=("m.nii.gz",)) -> LabelVolume | None:
    yaml = f'{HEAD}annotations:\n- {{kind: labelmap, path: "{{stem}}_seg.nii.gz", {keys}}}\n'
    (spec,) = parse(yaml, "toy.yaml").specs
    return labelmap.read(spec, CASE, Given(Path(), tuple(files), None))


def test_ids_keep_the_text_that_labels_speaks_of():
    assert read("labels: {1: liver, 2: spleen, -1: odd}") == LabelVolume("m.nii.gz", {1: "1", 2: "2", -1: "-1"})


def test_names_of_the_header_are_left_to_the_file():
    found = read("labels_from: header, labels: {kidney_left: {label: kidney, side: left}}")
    assert found == LabelVolume("m.nii.gz", None)


def test_unions_and_what_is_ignored_are_ids():
    found = read("labels: {1: core}, unions: {whole tumor: [1, 2, 4], rim: [4]}, ignore: [255, 9]")
    unions = {"whole tumor": frozenset({1, 2, 4}), "rim": frozenset({4})}
    assert found == LabelVolume("m.nii.gz", {1: "1"}, unions, frozenset({9, 255}))


def test_a_soft_mask_has_a_threshold():
    assert read("labels: {1: lesion}, threshold: 0.5").threshold == 0.5


def test_a_case_without_the_file_is_unusable_unless_it_is_optional():
    assert read("optional: true", files=()) is None
    with pytest.raises(Unusable, match=r"^missing_mask: "):
        read("labels: {1: liver}", files=())


def test_two_files_are_ambiguous():
    with pytest.raises(Unusable, match=r"^ambiguous_annotation: "):
        read("optional: true", files=("a.nii", "b.nii"))


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("labels: {liver: liver}", "labels_from: header takes names from the file"),
        ("labels: {1: liver, '01': spleen}", "an id is written in two ways"),
        ("unions: {7: [1, 2]}", "'7' is an id"),
        ("unions: {whole: []}", "neither 0"),
        ("unions: {whole: [0, 1]}", "neither 0"),
        ("unions: {whole: [1, 255]}, ignore: [255]", "neither 0"),
        ("unions: {whole: [1, two]}", "unions.whole"),
        ("labels: {1: liver}, ignore: [1]", "holds an id that labels names"),
        ("labels: {1: a, 2: b}, threshold: 0.5", "a soft mask has one label"),
        ("threshold: 0.5, labels_from: header", "a soft mask has one label"),
        ("threshold: 0", "threshold"),
        ("labels_from: file", "labels_from"),
    ],
)
def test_keys_that_do_not_fit_each_other_are_one_line(keys, fault):
    with pytest.raises(UserError) as caught:
        read(keys)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)
