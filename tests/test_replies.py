"""Replies: from a model's text to a value, or to a reason why not."""

import time

import pytest

from pipeline.errors import Unusable
from pipeline.generate.prompting import reply_model
from pipeline.generate.replies import parse

QA = reply_model({"question": "text", "answer": "text"})
GOOD = {"question": "What?", "answer": "A lung."}


def reason(text, model=QA):
    with pytest.raises(Unusable) as caught:
        parse(text, model)
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 200
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        '{"question": "What?", "answer": "A lung."}',
        '  \n{"question":"What?",\n "answer":"A lung."}\n\n',
        '```json\n{"question": "What?", "answer": "A lung."}\n```',
        '```\n{"question": "What?", "answer": "A lung."}\n```\n',
        '```json{"question": "What?", "answer": "A lung."}```',
        '{"question": " What? ", "answer": "A lung.\\n"}',
    ],
)
def test_json_is_taken_with_spaces_and_fences_around_it(text):
    assert parse(text, QA) == GOOD


def test_raw_control_characters_are_let_through():
    assert parse('{"question": "a\tb\nc", "answer": "d\x01"}', QA) == {"question": "a\tb\nc", "answer": "d\x01"}


def test_extra_keys_are_ignored():
    assert parse('{"question": "What?", "answer": "A lung.", "note": {"x": 1}}', QA) == GOOD


def test_chinese_and_escapes_are_text():
    assert parse('{"question": "\\u80ba\\uff1f", "answer": "左肺"}', QA) == {"question": "肺？", "answer": "左肺"}


@pytest.mark.parametrize("text", ["", "  \n ", "```json\n```", "```", "``````"])
def test_a_reply_without_text_is_empty(text):
    assert reason(text) == ("reply_empty", "the reply has no text")


@pytest.mark.parametrize(
    "text",
    [
        "Sure, here it is.",
        '{"question": "What?", "answer": "A lu',
        "{'question': 'What?'}",
        '```json\n{"question": "What?"',
        '{"question": "a", "answer": "b"} {"question": "c", "answer": "d"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 10_000,
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_json_is_told_so(text):
    assert reason(text)[0] == "reply_not_json"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ('{"question": "What?"}', "answer: Field required"),
        ('{"question": "What?", "answer": 3}', "answer: Input should be a valid string"),
        ('{"question": "What?", "answer": null}', "answer: Input should be a valid string"),
        ('{"question": "What?", "answer": "  "}', "answer: String should have at least 1 character"),
        ('{"question": "%s", "answer": "b"}' % ("x" * 20_001), "question: String should have at most 20000 characters"),
        (
            '{"question": "\\ud800", "answer": "b"}',
            "question: Input should be a valid string, unable to parse raw data",
        ),
        ('["What?", "A lung."]', "reply: Input should be a valid dictionary"),
        ("null", "reply: Input should be a valid dictionary"),
        ('"question"', "reply: Input should be a valid dictionary"),
    ],
    ids=lambda text: text[:30],
)
def test_json_of_another_shape_says_which_field_is_wrong(text, detail):
    found = reason(text)
    assert found[0] == "reply_schema"
    assert found[1].startswith(detail)


def test_other_types_are_as_strict():
    model = reply_model({"sure": "flag", "size": "number", "names": "texts", "choice": ["yes", "no"]})
    good = '{"sure": true, "size": 2.5, "names": ["a"], "choice": "no"}'
    assert parse(good, model) == {"sure": True, "size": 2.5, "names": ["a"], "choice": "no"}
    wrong = {
        "sure": good.replace("true", '"yes"'),
        "size": good.replace("2.5", "NaN"),
        "names": good.replace('["a"]', '"a"'),
        "choice": good.replace('"no"', '"No"'),
    }
    for field, text in wrong.items():
        found = reason(text, model)
        assert (found[0], found[1].split(":")[0].split(".")[0]) == ("reply_schema", field)


def test_a_run_of_spaces_after_a_fence_costs_no_time():
    started = time.monotonic()
    assert reason("```json" + " " * 200_000 + "x")[0] == "reply_not_json"
    assert time.monotonic() - started < 1
