"""Path templates: how a path becomes captures, and captures find paths."""

import random
import re

import pytest

from pipeline.errors import UserError
from sources import templates


def test_a_capture_is_one_segment_or_a_part_of_it():
    assert templates.match("{split}/{class}/{stem}.png", "train/benign/a 1.png") == {
        "split": "train",
        "class": "benign",
        "stem": "a 1",
    }
    assert templates.match("{split}/{stem}.png", "train/benign/a.png") is None
    assert templates.match("img_{n}_{view}.png", "img_7_ap.png") == {"n": "7", "view": "ap"}


def test_a_capture_takes_what_its_expression_says():
    assert templates.match("{class:benign|malignant}/{stem}.png", "malignant/x.png") == {
        "class": "malignant",
        "stem": "x",
    }
    assert templates.match("{class:benign|malignant}/{stem}.png", "normal/x.png") is None


def test_an_expression_may_hold_braces():
    assert templates.match("{stem}_{date:[0-9]{4}-[0-9]{2}}.png", "p_2020-03.png") == {"stem": "p", "date": "2020-03"}
    assert templates.match("{stem}_{date:[0-9]{4}-[0-9]{2}}.png", "p_2020-3.png") is None


def test_an_expression_may_match_nothing():
    template = "{clip:.*?}{frame:(_f\\d+)?}.jpg"
    assert templates.match(template, "Cov_1_f0067.jpg") == {"clip": "Cov_1", "frame": "_f0067"}
    assert templates.match(template, "Cov_1.jpg") == {"clip": "Cov_1", "frame": ""}


def test_a_repeated_name_repeats_its_text():
    assert templates.match("{case}/{case}_ct.nii.gz", "p1/p1_ct.nii.gz") == {"case": "p1"}
    assert templates.match("{case}/{case}_ct.nii.gz", "p1/p2_ct.nii.gz") is None


def test_a_star_stays_in_its_segment_and_two_cross_folders():
    assert templates.match("*/{stem}.png", "any/a.png") == {"stem": "a"}
    assert templates.match("*/{stem}.png", "any/where/a.png") is None
    assert templates.match("**/{stem}.png", "a.png") == {"stem": "a"}
    assert templates.match("**/{stem}.png", "any/where/a.png") == {"stem": "a"}
    assert templates.match("x/**/y/{stem}.png", "x/y/a.png") == {"stem": "a"}


def test_everything_else_is_literal():
    assert templates.match("a+b(1).[x]/{stem}.png", "a+b(1).[x]/s.png") == {"stem": "s"}
    assert templates.match("a.png", "aXpng") is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{split/{stem}.png", "a brace is not closed"),
        ("{1x}.png", "'1x' is no name for a capture"),
        ("{}.png", "'' is no name for a capture"),
        ("{n:[0-9}.png", "unterminated character set"),
    ],
)
def test_a_template_with_a_fault_is_one_line(template, said):
    with pytest.raises(UserError, match="template") as caught:
        templates.match(template, "x.png")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_filling_puts_captures_back():
    assert templates.fill("{class}/{stem}_mask.png", {"class": "benign", "stem": "a", "x": "1"}) == "benign/a_mask.png"


def test_filling_says_what_is_not_captured():
    with pytest.raises(UserError, match="'patient' is not captured; captured are class, stem"):
        templates.fill("{patient}", {"stem": "a", "class": "b"})
    with pytest.raises(UserError, match="a wildcard has no value here"):
        templates.fill("*/{stem}", {"stem": "a"})


def test_captures_of_names_each_once():
    assert templates.captures_of("{a}/{b:x|y}/{a}_{t.cell}*.png") == {"a", "b", "t.cell"}


def test_find_yields_the_paths_that_fit_what_is_known():
    paths = sorted(["p1/seg/liver.nii.gz", "p1/seg/spleen.nii.gz", "p10/seg/liver.nii.gz", "p1/ct.nii.gz"])
    assert list(templates.find("{case}/seg/{label}.nii.gz", paths, {"case": "p1", "stem": "ct"})) == [
        ("p1/seg/liver.nii.gz", {"label": "liver"}),
        ("p1/seg/spleen.nii.gz", {"label": "spleen"}),
    ]
    assert list(templates.find("{case}/seg/{label}.nii.gz", paths, {"case": "p2"})) == []


def test_find_takes_known_text_literally_and_dotted_names_from_tables():
    paths = sorted(["a.b/x.png", "aXb/x.png", "m/7.png", "m/8.png"])
    assert [path for path, _ in templates.find("{case}/x.png", paths, {"case": "a.b"})] == ["a.b/x.png"]
    assert [path for path, _ in templates.find("m/{t.mask}.png", paths, {"t.mask": "8"})] == ["m/8.png"]


def test_find_agrees_with_matching_every_path():
    paths = sorted(f"{a}/{b}/{c}.png" for a in "xyz" for b in ("1", "10", "2") for c in ("m", "n"))
    for known in ({}, {"a": "y"}, {"a": "y", "b": "10"}, {"c": "n"}):
        found = [path for path, _ in templates.find("{a}/{b}/{c}.png", paths, known)]
        every = [p for p in paths if known.items() <= templates.match("{a}/{b}/{c}.png", p).items()]
        assert found == every


@pytest.mark.parametrize(
    "template",
    [
        "**/{case}/{case}_{x}",
        "**/{case}_*.png",
        "{a}/**/{case}/{x}.png",
        "**/*{case}.png",
        "{case}/**/{case}",
        "x**/{case}",
        "**/{stem:a|b}{rest:.*}",
        "{rest:.*}/{case}/{q}",
        "{case}/{x}/{x}",
        "**/*/{case}/seg/**/{q}",
    ],
)
def test_find_agrees_with_matching_whatever_is_known_and_left_open(template):
    """The oracle writes what is known into the template's text and compares every path."""
    chance = random.Random(template)
    names = ["a", "b", "ab", "aa", "a_b", "s1", "s10", "seg", "x.png", "a.png", "a_x.png", "seg_a.png", "xs1", "xa"]
    paths = sorted({"/".join(chance.choices(names, k=chance.randint(1, 4))) for _ in range(800)})
    listed, found = templates.Paths(paths), 0
    for _ in range(40):
        known = {name: chance.choice(names) for name in templates.captures_of(template) if chance.random() < 0.5}
        written = template
        for name, text in known.items():
            written = re.sub(r"\{" + name + r"(:[^}]*)?\}", text, written)
        every = [path for path in paths if templates.match(written, path) is not None]
        assert [path for path, _ in templates.find(template, listed, known)] == every
        found += len(every)
    assert found


def test_paths_are_a_sorted_sequence_that_knows_its_own():
    paths = templates.Paths(["a/1.png", "a/2.png", "b/1.png"])
    assert (len(paths), paths[0], paths[-2:], list(paths)) == (3, "a/1.png", ["a/2.png", "b/1.png"], [*paths])
    assert "a/2.png" in paths
    assert ("a/3.png" in paths, "z" in paths, None in paths) == (False, False, False)


def test_any_number_of_folders_may_be_none_even_in_the_middle_of_a_name():
    paths = ["xs1", *(f"x{n}/s{n}" for n in range(9, 30))]
    assert [path for path, _ in templates.find("x**/{case}", sorted(paths), {"case": "s1"})] == ["xs1"]
