"""What a raw label means, in two languages."""

import re

import pytest

from pipeline import vocabulary
from pipeline.errors import UserError
from pipeline.records import Region
from pipeline.vocabulary import Meaning, normalise

WORDS = vocabulary.load()


@pytest.mark.parametrize(
    ("raw", "concept", "side"),
    [
        ("kidney", "kidney", None),
        ("kidney_left", "kidney", "left"),
        ("Right Kidney", "kidney", "right"),
        ("left-kidney", "kidney", "left"),
        ("左肾", "kidney", "left"),
        ("右侧肾", "kidney", "right"),
        ("Kidneys", "kidney", None),
        ("RBC", "red_blood_cell", None),
        ("Platelets", "platelet", None),
        ("lung_upper_lobe_left", "lung_upper_lobe", "left"),
        ("left_right_kidney", "kidney", None),
        ("no such organ", None, None),
        ("no such organ left", None, "left"),
    ],
)
def test_a_raw_label_resolves_to_a_concept_and_a_side(raw, concept, side):
    assert WORDS.meaning(raw) == Meaning(concept, side)


def test_a_name_that_holds_a_side_is_looked_up_as_it_stands_first():
    inside = [c for c in WORDS.concepts.values() if re.search(r"\b(left|right)\b", c.en)]
    assert "left ventricle" in {c.en for c in inside}
    for concept in inside:
        assert WORDS.meaning(concept.en) == Meaning(concept.id, None)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Kidney_Cysts", "kidney cyst"),
        ("  COVID-19 ", "covid 19"),
        ("thrombus", "thrombus"),
        ("pelvis", "pelvis"),
        ("mass", "mass"),
        ("lens", "lens"),
        ("e\u0301tat", "\u00e9tat"),
    ],
)
def test_folding_keeps_what_changes_a_meaning(name, folded):
    assert normalise(name) == folded


def test_every_name_of_every_concept_resolves_to_one_concept():
    owners: dict[str, set[str]] = {}
    for concept in WORDS.concepts.values():
        for name in {concept.id, concept.en, concept.zh, *concept.synonyms}:
            owners.setdefault(normalise(name), set()).add(concept.id)
    assert {name: sorted(ids) for name, ids in owners.items() if len(ids) > 1} == {}


def test_every_concept_names_terms_that_exist():
    departments = {term.en for term in WORDS.terms.departments}
    tasks = {term.en for term in WORDS.terms.tasks}
    modalities = {term.id for term in WORDS.terms.modalities} | {"default"}
    for concept in WORDS.concepts.values():
        assert set(concept.department.values()) <= departments, concept.id
        assert set(concept.task.values()) <= tasks, concept.id
        assert set(concept.department) | set(concept.task) <= modalities, concept.id
        assert concept.window is None or concept.window in WORDS.terms.windows, concept.id
        assert concept.parent is None or concept.parent in WORDS.concepts, concept.id


def test_there_are_eighteen_departments_and_eighteen_tasks():
    assert (len(WORDS.terms.departments), len(WORDS.terms.tasks)) == (18, 18)


def test_parents_end():
    for concept in WORDS.concepts.values():
        seen = set()
        at = concept
        while at.parent:
            assert at.id not in seen, concept.id
            seen.add(at.id)
            at = WORDS.concepts[at.parent]


@pytest.mark.parametrize(
    ("name", "key"), [("CT", "ct"), ("MR", "mr"), ("DX", "xray"), ("computed tomography", "ct"), ("X-ray", "xray")]
)
def test_a_modality_is_found_by_name_synonym_and_dicom_code(name, key):
    assert WORDS.modality(name, "toy") == key


def test_an_unknown_modality_gives_the_near_name():
    with pytest.raises(UserError, match=r"toy: unknown modality 'ultrsound'; did you mean 'ultrasound'?"):
        WORDS.modality("ultrsound", "toy")


@pytest.mark.parametrize(
    ("label", "raw", "language", "side", "written"),
    [
        ("kidney", "x", "en", None, "kidney"),
        ("kidney", "x", "en", "left", "left kidney"),
        ("kidney", "x", "zh", "right", "右肾"),
        (None, "odd_thing", "en", None, "odd thing"),
        (None, "odd_thing", "zh", "left", "odd thing"),
    ],
)
def test_a_label_is_written_in_both_languages(label, raw, language, side, written):
    assert WORDS.name(label, raw, language, side) == written


def test_terms_are_written_in_both_languages():
    assert WORDS.term("departments", "Hematology", "zh") == "血液科"
    assert WORDS.term("departments", "hematology", "en") == "Hematology"
    assert WORDS.term("tasks", "Not there", "zh") == "Not there"
    assert WORDS.term("sides", None, "zh") is None


def test_the_department_is_that_of_most_labels():
    def regions(*labels):
        return [Region(label, "x") for label in labels]

    assert WORDS.department(regions("red_blood_cell", "red_blood_cell", "platelet"), "microscopy") == "Hematology"
    assert WORDS.task(regions("red_blood_cell"), "microscopy") == "Cell Recognition"
    assert WORDS.department(regions(None), "ct") is None
    assert WORDS.department([], "ct") is None


@pytest.mark.parametrize(
    ("label", "modality", "department", "task"),
    [
        ("lymphocyte", "microscopy", "Hematology", "Microorganism Recognition"),  # GMAI-MMBench has them there
        ("lymphocyte", "pathology", "Laboratory Medicine and Pathology", "Cell Recognition"),
        ("blood", "microscopy", "Hematology", "Cell Recognition"),
        ("blood", "endoscopy", None, None),
    ],
)
def test_one_thing_belongs_to_other_departments_by_modality(label, modality, department, task):
    regions = [Region(label, "x")]
    assert (WORDS.department(regions, modality), WORDS.task(regions, modality)) == (department, task)


def test_a_mass_of_the_breast_is_one_of_its_lesions():
    assert WORDS.meaning("乳腺肿块").concept == WORDS.meaning("left breast mass").concept == "breast_mass"
    assert "breast_lesion" in WORDS.family("breast_mass")


def test_ten_regions_of_one_label_are_one_vote():
    one = [Region("red_blood_cell", "x")] * 10
    others = [Region("chest", "x"), Region("lung", "x")]
    assert WORDS.department([*one, *others], "ct") == WORDS.department(others, "ct") == "Pulmonary Medicine"


@pytest.mark.parametrize(
    ("preset", "center", "width"), [("soft_tissue", 40, 400), ("lung", -600, 1500), ("brain", 40, 80)]
)
def test_display_presets_have_these_values(preset, center, width):
    window = WORDS.window(preset, "toy")
    assert (window.center, window.width) == (center, width)


def test_an_unknown_preset_gives_the_near_name():
    with pytest.raises(UserError, match=r"toy: unknown window 'lungs'; did you mean 'lung'?"):
        WORDS.window("lungs", "toy")
