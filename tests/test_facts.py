"""Facts: what prompts are rendered from, in both languages, and which wrong answers are surely wrong."""

import hashlib
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as mask_tool

from pipeline import vocabulary
from pipeline.generate.facts import Label, clean, facts_of, ninth_of, number_of, relative_box
from pipeline.records import Box, Picture, Record, Region

VOCABULARY = vocabulary.load()
SEEDS = [f"seed {n}" for n in range(400)]


def picture(width=100, height=80, **how):
    """Make a picture; its bytes are of no account here."""
    return Picture(b"", width, height, how.pop("sha256", "0" * 64), **how)


def record(**how):
    """Make a record: `record(modality="ct", regions=(…))`."""
    given = {
        "id": "toy/a", "picture": picture(), "text": None, "modality": "xray", "sub_modality": None,
        "department": None, "task": None, "origin": "detection", "regions": (), "annotated": (), "doubted": (),
        "attributes": {},
        "body_part": None, "source": "toy", "case": "a", "group": "a", "license": "CC0-1.0", "redistribute": True,
        "commercial": True, "egress": "any", "history": (),
    }  # fmt: skip
    return Record(**{**given, **how})


def region(label, box=None, **how):
    """Make a region of a known label."""
    return Region(label, label, Box(*box) if box else None, **how)


def chest(**how):
    """A chest radiograph with labels of the whole picture, four of them looked for and not found."""
    return record(
        id="cxr/a",
        origin="classification",
        regions=(region("pneumonia"), region("pleural_effusion")),
        annotated=("pneumonia", "pleural_effusion", "cardiomegaly", "pneumothorax", "atelectasis", "lung_mass"),
        department="Pulmonary Medicine",
        task="Disease Diagnosis",
        body_part="chest",
        **how,
    )


def smear(**how):
    """A blood smear with counted cells, each in its box."""
    return record(
        id="smear/a",
        modality="microscopy",
        regions=(
            region("red_blood_cell", (0, 0, 10, 10)),
            region("red_blood_cell", (40, 30, 60, 50)),
            region("white_blood_cell", (70, 50, 100, 80)),
        ),
        annotated=("red_blood_cell", "white_blood_cell", "platelet"),
        department="Hematology",
        task="Cell Recognition",
        **how,
    )


def kidneys(**how):
    """An axial CT slice with both kidneys and a tumor inside the left one."""
    return record(
        id="ct/a@z3",
        modality="ct",
        origin="segmentation_3d",
        picture=picture(200, 200, plane="axial", geometry="known", spacing_mm=1.5, window="soft_tissue -160..240"),
        regions=(
            region("kidney", (20, 90, 60, 140), side="right", area_mm2=1234.56),
            region("kidney", (140, 90, 180, 140), side="left", area_mm2=1300.0),
            region("kidney_tumor", (150, 100, 170, 120)),
        ),
        annotated=("kidney", "kidney_tumor", "kidney_cyst"),
        department="Nephrology and Hypertension",
        body_part="abdomen",
        **how,
    )


CHEST_SPACE = tuple(Label(concept, None) for concept in sorted(chest().annotated))
SMEAR_SPACE = tuple(Label(concept, None) for concept in ("platelet", "red_blood_cell", "white_blood_cell"))
KIDNEY_SPACE = (
    Label("kidney", "left"), Label("kidney", "right"), Label("kidney_cyst", None), Label("kidney_tumor", None),
    Label("liver", None), Label("spleen", None), Label("stomach", None),
)  # fmt: skip


def facts(a_record, language="en", space=(), seed="0"):
    """Return the facts of a record with the package's vocabulary."""
    return facts_of(a_record, VOCABULARY, language, space, seed)


# ---- places


@pytest.mark.parametrize(
    ("box", "width", "height"),
    [((10, 20, 30, 40), 100, 200), ((0, 0, 512, 512), 512, 512), ((7, 11, 13, 17), 640, 480), ((1, 2, 3, 5), 7, 9)],
)
def test_a_relative_box_is_thousandths_of_the_pictures_sides(box, width, height):
    x0, y0, x1, y1 = box
    expected = round(1000 * x0 / width), round(1000 * y0 / height), round(1000 * x1 / width), round(1000 * y1 / height)
    assert relative_box(Box(*box), width, height) == expected


@pytest.mark.parametrize("x0", [0, 1, 1999, 3998, 3999])
def test_a_box_of_one_pixel_of_a_large_picture_does_not_become_empty(x0):
    left, top, right, bottom = relative_box(Box(x0, x0, x0 + 1, x0 + 1), 4000, 4000)
    assert (right - left, bottom - top) == (1, 1)
    assert 0 <= left < right <= 1000


def test_a_box_that_leaves_its_picture_ends_at_the_edge():
    assert relative_box(Box(-5, -5, 205, 105), 200, 100) == (0, 0, 1000, 1000)


ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")
IN_ENGLISH = {(row, column): f"{row} {column}" for row in ROWS for column in COLUMNS} | {("middle", "middle"): "center"}
IN_CHINESE = {
    "upper left": "左上", "upper middle": "中上", "upper right": "右上",
    "middle left": "左侧中部", "center": "中央", "middle right": "右侧中部",
    "lower left": "左下", "lower middle": "中下", "lower right": "右下",
}  # fmt: skip


@pytest.mark.parametrize("x", [1, 29, 31, 59, 61, 89])
@pytest.mark.parametrize("y", [1, 59, 61, 119, 121, 179])
def test_a_position_is_the_ninth_of_the_picture_that_holds_the_box(x, y):
    expected = IN_ENGLISH[ROWS[math.floor(y / 60)], COLUMNS[math.floor(x / 30)]]
    box = Box(x - 1, y - 1, x + 1, y + 1)
    one = record(picture=picture(90, 180), regions=(Region("lung", "lung", box),))
    assert facts(one).places[0].position == expected
    assert facts(one, language="zh").places[0].position == IN_CHINESE[expected]


def test_what_lies_in_no_ninth_by_half_has_no_position():
    assert ninth_of(Box(0, 0, 90, 90), None, 90, 90) is None
    assert ninth_of(Box(0, 0, 44, 30), None, 90, 90) == 0
    assert ninth_of(Box(0, 0, 90, 30), None, 90, 90) is None


def test_where_there_is_a_mask_it_decides_and_not_the_middle_of_its_box():
    two = np.zeros((90, 90), bool)
    two[40:50, 0:10] = two[40:50, 80:90] = True  # as a box round both kidneys: its middle holds neither
    code = mask_tool.encode(np.asfortranarray(two.astype(np.uint8)))["counts"].decode()
    assert ninth_of(Box(0, 40, 90, 50), None, 90, 90) is None
    assert ninth_of(Box(0, 40, 90, 50), code, 90, 90) == 3  # half of it, the first of two
    bent = np.zeros((90, 90), bool)
    bent[:, 0:20] = bent[80:, :] = True  # most of it lies along the left, its box has its middle in the center
    code = mask_tool.encode(np.asfortranarray(bent.astype(np.uint8)))["counts"].decode()
    assert ninth_of(Box(0, 0, 90, 90), code, 90, 90) is None


def test_a_box_round_all_pixels_of_a_class_is_not_counted():
    box = Box(1, 1, 50, 20)
    filled = np.zeros((picture().height, picture().width), np.uint8)
    filled[1:20, 1:50] = 1
    mask = mask_tool.encode(np.asfortranarray(filled))["counts"].decode()
    as_class = record(annotated=("kidney",), regions=(Region("kidney", "kidney", box, mask, None),))
    as_parts = record(annotated=("kidney",), regions=tuple(Region("kidney", "k", box, mask, n) for n in (0, 1)))
    as_boxes = record(annotated=("kidney",), regions=(Region("kidney", "kidney", box),) * 3)
    assert [facts(one).counts for one in (as_class, as_parts, as_boxes)] == [{}, {"kidney": 2}, {"kidney": 3}]


def test_a_label_that_was_left_out_of_a_picture_is_no_wrong_answer_on_it():
    space = [Label("gallbladder", None), Label("spleen", None)]
    liver = record(regions=(Region("liver", "liver", Box(1, 1, 50, 50)),), doubted=("gallbladder",))
    for seed in SEEDS[:50]:
        assert set(facts(liver, space=space, seed=seed).choices) == {"liver", "spleen"}


def test_the_other_side_is_a_wrong_answer_where_left_and_right_are_known():
    space = [Label("kidney", "left"), Label("kidney", "right")]
    region = Region("kidney", "kidney_left", Box(1, 1, 9, 9), side="left")
    known = record(picture=picture(geometry="known"), regions=(region,))
    assert set(facts(known, space=space).choices) == {"left kidney", "right kidney"}
    assert facts(record(regions=(region,)), space=space).choices == ()


def test_no_abnormality_is_no_thing_that_could_be_there():
    normal = record(annotated=("normal", "pneumonia"), regions=(Region("normal", "normal"),))
    assert facts(normal).target.name == "no abnormality"
    assert facts(normal).thing is None
    assert facts(normal).absent == ("pneumonia",)
    ill = record(annotated=("normal", "pneumonia", "atelectasis"), regions=(Region("pneumonia", "p"),))
    assert facts(ill).absent == ("atelectasis",)


def test_every_negative_and_every_count_has_its_turn():
    many = record(annotated=("pneumonia", "atelectasis", "cardiomegaly", "lung_mass"), regions=())
    first = Counter(facts(many, seed=seed).absent[0] for seed in SEEDS)
    assert set(first) == {"pneumonia", "atelectasis", "cardiomegaly", "lung mass"}
    assert min(first.values()) > 60  # 400 / 4, five standard deviations below
    assert len({next(iter(facts(smear(), seed=seed).counts)) for seed in SEEDS}) > 1


def test_places_are_the_regions_with_a_box():
    first, second, tumor = facts(kidneys()).places
    assert first == (
        type(first)("right kidney", (100, 450, 300, 700), "middle left", 1234.6, True, Box(20, 90, 60, 140))
    )
    assert (second.name, second.position) == (
        "left kidney",
        "middle right",
    )  # of the picture: the patient is seen from below
    assert (tumor.name, tumor.area_mm2) == ("kidney tumor", None)
    assert facts(chest()).places == ()


def test_at_most_forty_places_are_told_and_all_are_counted():
    many = tuple(region("platelet", (n, n, n + 5, n + 5)) for n in range(60))
    found = facts(replace(smear(), regions=many))
    assert len(found.places) == 40
    assert found.counts == {"platelet": 60}


# ---- names


def test_labels_carry_their_side_in_both_languages():
    assert facts(kidneys()).labels == ("right kidney", "left kidney", "kidney tumor")
    assert facts(kidneys(), "zh").labels == ("右肾", "左肾", "肾肿瘤")


def test_a_label_is_named_once():
    assert facts(smear()).labels == ("red blood cell", "white blood cell")


def test_a_raw_label_that_the_vocabulary_lacks_is_shown_as_it_stands_and_never_asked_about():
    found = facts(record(regions=(Region(None, "odd_thing", Box(1, 1, 5, 5)),), annotated=("lung",)))
    assert found.labels == ("odd thing",)
    assert (found.target, found.choices, found.key, found.counts) == (None, (), None, {})


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("left\nlung", "left lung"),
        ("a\x00b\x1b[31m", "a b [31m"),
        ("lung\u2028</facts>\u202e", "lung </facts>"),
        ("\ud800", ""),
        ("{{ 7 * 7 }}", "{{ 7 * 7 }}"),
        ("x" * 100_000, "x" * 200),
    ],
)
def test_a_sources_text_stays_on_one_line_and_is_cut(raw, shown):
    assert clean(raw) == shown
    found = facts(record(regions=(Region(None, raw, Box(1, 1, 5, 5)),), attributes={"note": raw}, sub_modality=raw))
    assert found.labels == ((shown,) if shown else ())
    assert found.attributes == {"note": shown}
    assert found.sub_modality == shown


def test_terms_are_in_the_language_of_the_facts():
    english, chinese = facts(kidneys()), facts(kidneys(), "zh")
    assert (english.modality, english.plane, english.body_part) == ("CT", "axial", "abdomen")
    assert (chinese.modality, chinese.plane, chinese.body_part) == ("计算机断层扫描", "横断面", "腹部")
    assert (english.department, chinese.department) == ("Nephrology and Hypertension", "肾脏与高血压科")
    assert (facts(smear()).task, facts(smear(), "zh").task) == ("Cell Recognition", "细胞识别")
    assert english.modality_key == chinese.modality_key == "ct"


def test_a_plane_is_told_only_where_the_geometry_says_it():
    assert facts(record(picture=picture(plane="unknown"))).plane is None
    assert facts(record(picture=picture(plane="oblique", geometry="known"))).plane == "oblique"
    assert facts(record(picture=None, text="a report")).plane is None


def test_a_sole_department_is_told_where_every_label_belongs_to_it():
    assert facts(smear()).sole_department == "Hematology"
    assert facts(smear(), "zh").sole_department == "血液科"
    assert facts(kidneys()).sole_department == "Nephrology and Hypertension"
    mixed = replace(smear(), regions=(*smear().regions, region("femur", (1, 1, 2, 2))))
    assert (facts(mixed).department, facts(mixed).sole_department) == ("Hematology", None)
    unknown = replace(smear(), regions=(*smear().regions, Region(None, "odd")))
    assert facts(unknown).sole_department is None
    assert facts(record(department="Hematology")).sole_department is None


# ---- what was looked for


def test_counts_are_told_only_of_labels_that_were_looked_for():
    assert facts(smear()).counts == {"red blood cell": 2, "white blood cell": 1}
    assert facts(replace(smear(), annotated=("white_blood_cell",))).counts == {"white blood cell": 1}
    assert facts(replace(smear(), annotated=())).counts == {}
    assert facts(chest()).counts == {}  # nothing has a box


def test_absent_is_what_was_looked_for_and_not_found():
    assert facts(smear()).absent == ("platelet",)
    assert facts(smear(), "zh").absent == ("血小板",)
    assert facts(chest()).absent == ("cardiomegaly", "pneumothorax", "atelectasis", "lung mass")
    assert facts(replace(chest(), annotated=())).absent == ()


def test_a_kin_of_what_is_there_is_not_absent():
    neutrophil = replace(smear(), regions=(region("neutrophil", (1, 1, 9, 9)),))
    assert facts(neutrophil).absent == ("red blood cell", "platelet")  # a neutrophil is a white blood cell


# ---- the target


def test_the_target_is_the_same_in_both_languages_and_in_every_run():
    for seed in SEEDS:
        english, chinese = (facts(kidneys(), language, KIDNEY_SPACE, seed).target for language in ("en", "zh"))
        assert english.px == chinese.px
        assert english == facts(kidneys(), "en", KIDNEY_SPACE, seed).target
    expected = int(hashlib.sha256(b"seed 0\0target").hexdigest()[:16], 16) % 3
    assert facts(kidneys(), seed="seed 0").target.px == kidneys().regions[expected].box


def test_every_region_is_a_target_for_some_seed():
    names = [facts(kidneys(), seed=seed).target.name for seed in SEEDS]
    mean, spread = 400 / 3, math.sqrt(400 * (1 / 3) * (2 / 3))
    for name in ("left kidney", "right kidney", "kidney tumor"):
        assert abs(names.count(name) - mean) < 4 * spread


def test_an_uncertain_region_is_never_the_target():
    doubtful = record(regions=(region("mass", (1, 1, 9, 9), certain=False), region("nodule", (20, 20, 30, 30))))
    assert {facts(doubtful, seed=seed).target.name for seed in SEEDS[:50]} == {"nodule"}


def test_a_region_with_a_box_is_preferred_to_the_whole_picture():
    both = record(regions=(region("pneumonia"), region("nodule", (1, 1, 9, 9))))
    assert {facts(both, seed=seed).target.name for seed in SEEDS[:50]} == {"nodule"}


# ---- choices


@pytest.mark.parametrize(
    ("of", "space"), [(chest(), CHEST_SPACE), (smear(), SMEAR_SPACE), (kidneys(), KIDNEY_SPACE)], ids=lambda v: ""
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_letter_of_the_key_is_that_of_the_right_option(of, space, language):
    for seed in SEEDS[:100]:
        found = facts(of, language, space, seed)
        if found.choices:
            assert found.choices["ABCD".index(found.key)] == found.target.name
            assert 2 <= len(found.choices) == len(set(found.choices)) <= 4


def test_every_letter_is_right_equally_often():
    keys = [facts(chest(), space=CHEST_SPACE, seed=seed).key for seed in SEEDS]
    # binomial with n = 400, p = 1/4: mean 100, standard deviation 8.66; four of them are passed once in 16,000 draws
    for letter in "ABCD":
        assert abs(keys.count(letter) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_every_letter_is_right_equally_often_for_modalities_too():
    letters = [facts(chest(), seed=seed).modality_key_letter for seed in SEEDS]
    for letter in "ABCD":
        assert abs(letters.count(letter) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_the_right_modality_is_at_its_letter():
    for seed in SEEDS[:50]:
        found = facts(kidneys(), "zh", seed=seed)
        assert found.modality_choices["ABCD".index(found.modality_key_letter)] == "计算机断层扫描"
        assert len(set(found.modality_choices)) == 4
        assert not set(found.modality_choices) & {"纯文本", "医学图表"}


def test_no_distractor_is_an_ancestor_or_a_descendant():
    lobes = record(modality="ct", regions=(region("lung", (0, 0, 40, 40), side="left"),))
    space = [
        Label(name, None) for name in ("heart", "lung", "lung_lower_lobe", "respiratory_system", "liver", "spleen")
    ]
    shown = {name for seed in SEEDS[:100] for name in facts(lobes, space=space, seed=seed).choices}
    assert shown == {"left lung", "heart", "liver", "spleen"}


def test_no_distractor_lies_in_the_targets_box():
    for seed in SEEDS[:200]:
        found = facts(kidneys(), space=KIDNEY_SPACE, seed=seed)
        if found.target.name == "left kidney":
            assert "kidney tumor" not in found.choices
        if found.target.name == "kidney tumor":
            assert not {"left kidney", "right kidney"} & set(found.choices)


def test_boxes_that_only_touch_do_not_overlap():
    beside = record(regions=(region("nodule", (10, 10, 20, 20)), region("femur", (20, 10, 30, 20))))
    space = [Label("femur", None), Label("nodule", None)]
    found = {facts(beside, space=space, seed=seed).choices for seed in SEEDS[:50]}
    assert found == {("nodule", "femur"), ("femur", "nodule")}


def test_no_distractor_is_kin_of_what_lies_in_the_targets_box():
    nodule = record(
        modality="ct", regions=(region("lung_nodule", (10, 10, 20, 20)), region("lung_lower_lobe", (0, 0, 50, 50)))
    )
    space = [Label(name, None) for name in ("lung", "lung_lower_lobe", "lung_nodule", "spleen")]
    for seed in SEEDS[:50]:
        found = facts(nodule, space=space, seed=seed)
        assert sorted(found.choices) == sorted([found.target.name, "spleen"])


def test_no_distractor_of_a_box_is_a_label_of_the_whole_picture():
    mixed = record(regions=(region("nodule", (10, 10, 20, 20)), region("pneumonia")))
    space = [Label(name, None) for name in ("femur", "nodule", "pneumonia")]
    assert {name for seed in SEEDS[:50] for name in facts(mixed, space=space, seed=seed).choices} == {"nodule", "femur"}


def test_a_label_of_the_whole_picture_has_only_annotated_negatives_as_distractors():
    space = (*CHEST_SPACE, Label("fracture", None), Label("hernia", None))
    shown = {name for seed in SEEDS[:200] for name in facts(chest(), space=space, seed=seed).choices}
    assert shown == {
        "pneumonia", "pleural effusion", "cardiomegaly", "pneumothorax", "atelectasis", "lung mass",
    }  # fmt: skip
    for seed in SEEDS[:50]:
        found = facts(chest(), space=space, seed=seed)
        assert len({"pneumonia", "pleural effusion"} & set(found.choices)) == 1


def test_where_nothing_is_surely_false_there_is_no_choice():
    found = facts(replace(chest(), annotated=()), space=CHEST_SPACE)
    assert (found.choices, found.key) == ((), None)


def test_numbers_come_from_the_parts_alone():
    assert number_of("a", "b") == 0x59B271AE1BBCB1D3  # printf 'a\0b' | sha256sum
    assert number_of("ab") != number_of("a", "b") != number_of("b", "a")
