"""One column a label: positive, negative, uncertain, unknown."""

import json
from pathlib import Path

import pytest

from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from pipeline.strict import checked
from sources.annotation import Given, Mark, Marks
from sources.layouts import multilabel

CHEXPERT = """
cases: {match: "{patient}/{study}/{stem}.png", group: "{patient}"}
tables: {t: {path: train.csv, key: Path, match: "{path}", strip: "CheXpert-v1.0-small/"}}
annotations:
  - kind: multilabel
    table: t
    columns: {Cardiomegaly: cardiomegaly, Edema: pulmonary edema, Pleural Effusion: pleural effusion}
    no_finding: No Finding
    labels: {No Finding: normal}
"""
HEADER = "Path,Sex,No Finding,Cardiomegaly,Edema,Pleural Effusion\n"


def spec(**keys) -> multilabel.Spec:
    return checked(multilabel.Spec, {"kind": "multilabel", "table": "t", **keys}, "spec")


def read(*rows: dict[str, str], **keys) -> Marks | None:
    note = json.dumps(rows) if rows else None
    return multilabel.read(spec(**keys), Case("a", "toy", "a", {}, {}), Given(Path(), (), note))


def of(text: str, **keys) -> tuple[Mark, ...]:
    """Marks of one column with one value, beside one that is positive."""
    found = read({"A": text, "B": "1"}, columns=["A", "B"], **keys)
    assert found.marks[-1] == Mark("B")
    return found.marks[:-1]


@pytest.mark.parametrize("text", ["1", "1.0", "true", "True"])
def test_a_positive_value_is_the_label(text):
    assert of(text) == (Mark("A"),)


@pytest.mark.parametrize("text", ["0", "0.0", "false", "False"])
def test_a_negative_value_was_looked_for(text):
    assert of(text) == (Mark("A", negative=True),)


def test_a_blank_says_nothing():
    assert of("") == ()
    assert read({"A": "", "B": ""}, columns=["A", "B"]) is None
    assert read(columns=["A"]) is None


@pytest.mark.parametrize(
    ("uncertain", "wanted"),
    [
        ("drop", (Mark("A", problem=("uncertain", "left out by `uncertain: drop`")),)),
        ("keep", (Mark("A", certain=False),)),
        ("positive", (Mark("A"),)),
        ("negative", (Mark("A", negative=True),)),
    ],
)
def test_an_uncertain_value_says_what_the_descriptor_says(uncertain, wanted):
    assert of("-1.0", uncertain=uncertain) == wanted


def test_an_uncertain_label_is_not_absent_even_where_the_annotation_is_complete(data_set, grey_picture):
    yaml = """
cases: {match: "{stem}.png"}
tables: {t: {path: t.csv, key: image}}
annotations:
  - {kind: multilabel, table: t, complete: true, columns: {A: nodule, B: mass, C: pneumonia}}
"""
    files = {"a.png": grey_picture(), "t.csv": "image,A,B,C\na,-1,0,1\n"}
    (record,) = data_set(yaml, files).records()
    assert [region.label for region in record.regions] == ["pneumonia"]
    assert "nodule" not in record.annotated
    assert "mass" in record.annotated


@pytest.mark.parametrize(("text", "shown"), [("3", "3"), ("0.25", "0.25"), ("Jane Doe", "a text of 8 characters")])
def test_a_value_of_no_meaning_is_a_mark_with_its_problem(text, shown):
    assert of(text) == (Mark("A", problem=("bad_value", f"{shown} is none of the values that the descriptor lists")),)


def test_values_are_the_descriptors():
    values = {"positive": ["yes"], "unknown": ["", "n/A"]}
    assert (of("yes", values={**values, "positive": ["1", "yes"]}), of("n/A", values=values | {"positive": ["1"]})) == (
        (Mark("A"),),
        (),
    )


def test_a_value_can_not_mean_two_things():
    with pytest.raises(UserError, match="'0' means two things"):
        spec(columns=["A"], values={"positive": ["0"]})


def test_columns_may_say_what_they_mean():
    found = spec(columns={"A": "pneumonia", "B": {"label": "kidney", "side": "left"}}, labels={"A": "oedema", "N": "x"})
    assert found.columns == ("A", "B")
    assert (found.rule("A").label, found.rule("B").side, found.rule("N").label) == ("oedema", "left", "x")


def test_no_finding_denies_the_columns_that_are_blank():
    keys = {"columns": ["A", "B", "C"], "no_finding": "N"}
    found = read({"A": "", "B": "0", "C": "", "N": "1"}, **keys)
    assert found.marks == (
        Mark("B", negative=True), Mark("N"), Mark("A", negative=True), Mark("C", negative=True),
    )  # fmt: skip
    assert read({"A": "1", "B": "", "C": "", "N": "0"}, **keys).marks == (Mark("A"),)


@pytest.mark.parametrize("other", ["1", "-1"])
def test_no_finding_beside_a_finding_contradicts_it(other):
    found = read({"A": other, "B": "", "N": "1.0"}, columns=["A", "B"], no_finding="N", uncertain="positive")
    problem = ("contradictory_labels", "nothing found, yet 1 of the labels are")
    assert found.marks == (Mark("A"), Mark("N", problem=problem))


def test_rows_of_one_picture_must_agree():
    assert read({"A": "1"}, {"A": "1"}, columns=["A"]) == Marks((Mark("A"),))
    with pytest.raises(Unusable, match="contradictory_rows: its 2 rows differ in the columns of its labels"):
        read({"A": "1"}, {"A": "0"}, columns=["A"])


# ---- a vector


def vector(text: str, **keys) -> Marks | None:
    found = multilabel.Spec(kind="multilabel", value="{row.labels}", columns=["A", "B", "C"], **keys)
    return multilabel.read(found, Case("a", "toy", "a", {}, {"row.labels": text}), Given(Path(), (), None))


def test_a_vector_has_an_element_for_each_column():
    assert vector("[1, 0, null]") == Marks((Mark("A"), Mark("B", negative=True)))
    assert vector("[true, 0.0, false]").marks[0] == Mark("A")
    assert vector("") is None


@pytest.mark.parametrize("text", ["[1, 0]", "3", "{}", "[1, 0,", "[" * 100_000])
def test_a_vector_of_another_length_is_refused(text):
    with pytest.raises(Unusable, match="bad_annotation: should be a list of 3 values"):
        vector(text)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"value": "{x}", "columns": ["A"]}, "give one of: table, value"),
        ({"table": None, "columns": ["A"]}, "give one of: table, value"),
        ({"table": None, "value": "{x}", "columns": ["A"], "no_finding": "N"}, "no_finding is a column of a table"),
        ({"columns": []}, "columns: name one at least"),
        ({}, "key 'columns' is missing"),
    ],
)
def test_what_does_not_go_together_is_one_line(keys, said):
    with pytest.raises(UserError) as caught:
        spec(**keys)
    assert said in str(caught.value)


# ---- as a data set


def test_chexpert_is_read_from_its_table(data_set, grey_picture):
    table = HEADER + (
        "CheXpert-v1.0-small/p1/s1/a.png,F,1.0,,,\n"
        "CheXpert-v1.0-small/p1/s2/a.png,F,,1.0,-1.0,0.0\n"
        "CheXpert-v1.0-small/p2/s1/a.png,M,,,,\n"
    )
    files = {f"{name}/a.png": grey_picture(seed=n) for n, name in enumerate(("p1/s1", "p1/s2", "p2/s1", "p3/s1"))}
    read = data_set(CHEXPERT, files | {"train.csv": table}).read()
    (normal,) = read["p1/s1/a"].records
    assert [region.label for region in normal.regions] == ["normal"]
    assert normal.annotated == ("cardiomegaly", "pleural_effusion", "pulmonary_edema")
    (ill,) = read["p1/s2/a"].records
    assert [region.label for region in ill.regions] == ["cardiomegaly"]
    assert ill.annotated == ("pleural_effusion",)
    for id_ in ("p2/s1/a", "p3/s1/a"):  # a blank row, and no row
        assert (read[id_].records, next(row.reason for row in read[id_].rejected)) == ([], "unlabelled")


def test_isic_is_one_hot_by_stem(data_set, grey_picture):
    yaml = """
cases: {match: "{stem}.jpg"}
tables: {t: {path: truth.csv, key: image, match: "{stem}"}}
annotations: [{kind: multilabel, table: t, columns: {MEL: melanoma, NV: nevus}}]
"""
    table = "image,MEL,NV\na,1.0,0.0\nb,0.0,0.0\nc,1.0,1.0\n"
    files = {f"{stem}.jpg": grey_picture(seed=n) for n, stem in enumerate("abc")}
    found = {record.case: record for record in data_set(yaml, files | {"truth.csv": table}).records()}
    assert {case: [region.raw for region in record.regions] for case, record in found.items()} == {
        "a": ["MEL"], "b": [], "c": ["MEL", "NV"],
    }  # fmt: skip
    assert len(found["b"].annotated) == 2


def test_columns_that_the_table_lacks_are_one_line(data_set):
    toy = data_set(CHEXPERT.replace("Edema:", "Oedema:"), {"p/s/a.png": b"x", "train.csv": HEADER})
    with pytest.raises(UserError, match=r"toy: annotations\.0: table t has no column 'Oedema'; did you mean 'Edema'\?"):
        toy.plan()
    toy = data_set(CHEXPERT.replace("table: t", "table: u"), {})
    with pytest.raises(UserError, match=r"toy: annotations\.0: no table 'u'"):
        toy.plan()
