"""Checks: what a reply must hold to become a sample."""

from dataclasses import replace

import pytest
from test_facts import chest, kidneys
from test_prompting import PROMPT, ask, prompt

from pipeline.errors import UserError
from pipeline.generate import checks


def why(check, reply, language="en", of=None):
    """Return what a check says of a reply about the left kidney."""
    one = ask(of or kidneys(), language=language)
    named = {"en": "left kidney", "zh": "左肾"}[language]
    (target,) = [place for place in one.facts.places if place.name == named] if of is None else [one.facts.target]
    return checks.CHECKS[check](replace(one, facts=replace(one.facts, target=target)), reply)


def test_these_are_all_the_checks():
    assert sorted(checks.CHECKS) == ["answer", "language", "names_label", "question_keeps_secret"]


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("en", "The left kidney.", None),
        ("en", "The left kidney (左肾).", "asked for English, the reply holds Chinese"),
        ("en", "左", "asked for English, the reply holds Chinese"),
        ("en", "α, µm and é are no Chinese", None),
        ("zh", "这是左肾。", None),
        ("zh", "CT 左肾", None),
        ("zh", "The left kidney.", "asked for Chinese, the reply is not"),
        ("zh", "肾", "asked for Chinese, the reply is not"),
    ],
)
def test_language(language, text, said):
    assert why("language", {"answer": text, "question": "?", "sure": True}, language) == said


def test_language_looks_at_all_texts_of_a_reply():
    assert why("language", {"question": "What is it?", "answer": "肾"}) == "asked for English, the reply holds Chinese"


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("Both kidneys; the Left Kidney is larger.", None),
        ("A kidney tumor.", None),
        ("Two kidneys.", "none of the labels is named: right kidney, left kidney, kidney tumor"),
    ],
)
def test_names_label(caption, said):
    assert why("names_label", {"caption": caption}) == said


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("left kidney", None),
        ("It is the LEFT KIDNEY, bright.", None),
        ("The kidney on the left.", "the answer does not name left kidney"),
        ("", "the answer does not name left kidney"),
    ],
)
def test_answer(answer, said):
    assert why("answer", {"question": "left kidney?", "answer": answer}) == said


def test_answer_says_nothing_where_nothing_was_asked_about():
    assert why("answer", {"answer": "x"}, of=replace(chest(), regions=())) is None


@pytest.mark.parametrize(
    ("language", "question", "said"),
    [
        ("en", "Which organ is bright?", None),
        ("en", "Is this the Left Kidney?", "the question names its answer, left kidney"),
        ("zh", "左侧的器官是什么？", None),
        ("zh", "左肾在哪里？", "the question names its answer, 左肾"),
    ],
)
def test_question_keeps_secret(language, question, said):
    assert why("question_keeps_secret", {"question": question, "answer": "left kidney"}, language) == said


def test_the_first_check_that_fails_gives_the_reason():
    text = PROMPT.replace("[language]", "[question_keeps_secret, answer]")
    one = ask(chest(), text)
    name = one.facts.target.name
    assert checks.failed(one, {"question": "What?", "answer": f"It is {name}."}) is None
    assert checks.failed(one, {"question": name, "answer": "?"}) == (
        "check_question_keeps_secret", f"the question names its answer, {name}"
    )  # fmt: skip
    assert checks.failed(one, {"question": "What?", "answer": "?"}) == (
        "check_answer",
        f"the answer does not name {name}",
    )


def test_an_unknown_check_is_refused_with_the_near_name():
    checks.known(prompt())
    with pytest.raises(UserError) as caught:
        checks.known(prompt(PROMPT.replace("[language]", "[language, anwser]")))
    assert str(caught.value) == (
        "prompt vqa_open.en: unknown check 'anwser'; did you mean 'answer'? "
        "Known: answer, language, names_label, question_keeps_secret"
    )
