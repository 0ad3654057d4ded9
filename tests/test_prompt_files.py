"""Every file in prompts/: both languages alike, rendered on the demo's kinds of pictures, and nothing given away."""

import ast
import re

import pytest
from test_facts import (
    CHEST_SPACE,
    KIDNEY_SPACE,
    SMEAR_SPACE,
    VOCABULARY,
    chest,
    kidneys,
    smear,
)

from pipeline import discovery
from pipeline.generate import checks, prompting, replies
from pipeline.generate.facts import facts_of
from pipeline.generate.prompting import Ask, request, sample_id, turns

NAMES = prompting.available()
PROMPTS = prompting.load(NAMES, ("en", "zh"))
IDS = [f"{prompt.name}.{prompt.language}" for prompt in PROMPTS]
RECORDS = {"chest": (chest(), CHEST_SPACE), "smear": (smear(), SMEAR_SPACE), "kidneys": (kidneys(), KIDNEY_SPACE)}
CJK = re.compile(r"[\u4e00-\u9fff]")
LEAKS = re.compile(r"annotation|annotated|bounding box|as given|\bfacts\b|标注|边界框|方框|事实")
APPLIES = {
    "caption": {"chest", "smear", "kidneys"},
    "caption.plain": {"chest", "smear", "kidneys"},
    "perception.count": {"smear", "kidneys"},
    "perception.department": {"chest", "smear", "kidneys"},
    "perception.labels": {"chest", "smear", "kidneys"},
    "perception.modality": {"chest", "smear", "kidneys"},
    "perception.plane": {"kidneys"},
    "reasoning": {"chest", "smear", "kidneys"},
    "vqa_choice": {"chest", "smear", "kidneys"},
    "vqa_choice.modality": {"chest", "smear", "kidneys"},
    "vqa_choice.plain": {"chest", "smear", "kidneys"},
    "vqa_open": {"chest", "smear", "kidneys"},
    "vqa_yesno.absent": {"chest", "smear", "kidneys"},
    "vqa_yesno.present": {"chest", "smear", "kidneys"},
}


def asks(prompt, kind, seeds=1):
    """Plan a prompt on one kind of record, with several seeds for the target and the sample's id."""
    record, space = RECORDS[kind]
    for n in range(seeds):
        facts = facts_of(record, VOCABULARY, prompt.language, space, f"{n} {prompt.name}")
        if prompting.applies(prompt, facts):
            yield Ask(f"{n} {sample_id(record.id, prompt)}", prompt, record, facts)


def reply_of(ask):
    """Answer as the template does, or as a model might that names what it should."""
    if ask.prompt.head.backend == "template":
        return replies.parse(request(ask, "template", None).messages[-1].content, ask.prompt.reply)
    chinese = ask.prompt.language == "zh"
    words = {
        "caption": f"图中可见{'、'.join(ask.facts.labels)}。"
        if chinese
        else f"It shows {', '.join(ask.facts.labels)}.",
        "question": "图中箭头所指为何？" if chinese else "What is marked here?",
        "reasoning": "先看密度，再看边缘。" if chinese else "First the density, then the margin.",
    }
    target = ask.facts.target.name if ask.facts.target else ""
    words["answer"] = f"这是{target}。" if chinese else f"It is {target}."
    return {name: words[name] for name in ask.prompt.head.reply}


def test_every_prompt_file_is_there_in_both_languages():
    files = discovery.names("prompts", ".md")
    assert sorted(f"{name}.{language}" for name in NAMES for language in ("en", "zh")) == files
    assert set(NAMES) == set(APPLIES)


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_head_and_the_same_sections(name):
    english, chinese = prompting.load([name], ("en", "zh"))
    assert english.head == chinese.head
    assert list(english.sections) == list(chinese.sections)
    assert english.digest != chinese.digest


@pytest.mark.parametrize("prompt", PROMPTS, ids=IDS)
def test_a_prompt_names_only_checks_that_are_there(prompt):
    checks.known(prompt)
    assert not set(prompt.head.checks) - {"language", "names_label", "answer", "question_keeps_secret"}


@pytest.mark.parametrize("prompt", PROMPTS, ids=IDS)
def test_a_prompt_is_asked_of_the_pictures_that_have_its_facts(prompt):
    assert {kind for kind in RECORDS if list(asks(prompt, kind))} == APPLIES[prompt.name]


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("prompt", PROMPTS, ids=IDS)
def test_a_prompt_renders_and_its_sample_gives_nothing_away(prompt, kind):
    for ask in asks(prompt, kind, seeds=12):
        asked = request(ask, "m", 512)
        assert not [turn for turn in asked.messages if "{{" in turn.content or "{%" in turn.content]
        reply = reply_of(ask)
        assert checks.failed(ask, reply) is None
        messages, reasoning, answer = turns(ask, reply)
        texts = [turn.content for turn in messages] + [reasoning or "", answer]
        assert [turn.role for turn in messages] == ["user", "assistant"]
        for text in texts:
            assert not re.search(r"\{\{|\}\}|\{%|%\}|\bNone\b|\bTrue\b", text)
            assert not LEAKS.search(text.lower()), text
            assert "  " not in text
        assert all(texts[:2])
        assert answer
        whole = "".join(texts)
        assert bool(CJK.search(whole)) == (prompt.language == "zh"), whole


@pytest.mark.parametrize("prompt", PROMPTS, ids=IDS)
def test_the_question_does_not_hold_its_answer(prompt):
    if prompt.head.kind in ("caption", "vqa_choice") or prompt.name in ("perception.plane", "vqa_yesno.present"):
        return  # a choice shows all its options, "is this axial or coronal?" both planes
    for kind in RECORDS:
        for ask in asks(prompt, kind, seeds=12):
            messages, _, answer = turns(ask, reply_of(ask))
            said = messages[0].content.lower()
            assert not re.search(rf"\b{re.escape(answer.lower())}\b", said) or prompt.head.answer_type == "yesno"


@pytest.mark.parametrize(
    "prompt", [p for p in PROMPTS if p.head.answer_type == "mcq"], ids=lambda p: p.name + p.language
)
def test_the_answer_of_a_choice_is_the_letter_of_the_option_that_the_sample_names(prompt):
    for kind in RECORDS:
        for ask in asks(prompt, kind, seeds=12):
            messages, _, answer = turns(ask, reply_of(ask))
            options = dict(
                line.split(". ", 1) for line in messages[0].content.splitlines() if re.match(r"[A-D]\. ", line)
            )
            assert messages[1].content == f"{answer}. {options[answer]}"
            assert options[answer] == (ask.facts.modality if "modality" in prompt.name else ask.facts.target.name)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_answer_of_a_count_is_the_number_of_boxes_of_what_is_asked(language):
    (prompt,) = prompting.load(["perception.count"], [language])
    (ask,) = asks(prompt, "smear")
    messages, _, answer = turns(ask, reply_of(ask))
    name, count = next(iter(ask.facts.counts.items()))
    assert name in messages[0].content
    assert answer == str(count)


def phrasings(source):
    """Return the options of every `pick(…)` in a section."""
    found = []
    for call in re.finditer(r"pick\(", source):
        depth, end = 1, call.end()
        while depth:
            if source[end] in "\"'":
                end = source.index(source[end], end + 1)
            depth += {"(": 1, ")": -1}.get(source[end], 0)
            end += 1
        tree = ast.parse(f"pick({source[call.end() : end]}".replace(" ~ ", " + "), mode="eval")
        found.append([ast.unparse(option) for option in tree.body.args])
    return found


@pytest.mark.parametrize(
    "prompt", [p for p in PROMPTS if p.head.kind == "perception"], ids=lambda p: p.name + p.language
)
def test_a_perception_question_is_put_in_ten_ways(prompt):
    (options,) = phrasings(prompt.sections["assistant"])
    assert len(options) == len(set(options)) >= 10


@pytest.mark.parametrize("prompt", PROMPTS, ids=IDS)
def test_no_phrasing_stands_twice(prompt):
    for source in prompt.sections.values():
        for options in phrasings(source):
            assert len(options) == len(set(options))


@pytest.mark.parametrize("prompt", [p for p in PROMPTS if p.head.backend is None], ids=lambda p: p.name + p.language)
def test_a_model_is_told_the_facts_once_and_to_keep_them_to_itself(prompt):
    (ask,) = asks(prompt, "kidneys")
    system, user = request(ask, "m", None).messages
    assert user.content.count("<facts>") == user.content.count("</facts>") == 1
    assert (
        bool(CJK.search(system.content))
        == bool(CJK.search(user.content.split("</facts>")[1]))
        == (ask.prompt.language == "zh")
    )
    assert len(system.content) > 100
