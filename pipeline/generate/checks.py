"""What a reply must hold to become a sample: plain code against the annotation, a reason each.

A prompt's head lists the checks that its replies must pass; `check_<name>` is found here by name.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import UserError, did_you_mean
from pipeline.generate.prompting import Ask, Prompt

Check = Callable[[Ask, Mapping[str, Any]], str | None]

_CJK = re.compile(r"[\u4e00-\u9fff]")


def _text(reply: Mapping[str, Any]) -> str:
    return " ".join(value for value in reply.values() if isinstance(value, str))


def check_language(ask: Ask, reply: Mapping[str, Any]) -> str | None:
    """Chinese where Chinese was asked for, and only there."""
    chinese = len(_CJK.findall(_text(reply)))
    if ask.prompt.language == "zh" and chinese < 2:
        return "asked for Chinese, the reply is not"
    if ask.prompt.language == "en" and chinese:
        return "asked for English, the reply holds Chinese"
    return None


def check_names_label(ask: Ask, reply: Mapping[str, Any]) -> str | None:
    """At least one of the picture's labels is named."""
    text = _text(reply).lower()
    if any(label.lower() in text for label in ask.facts.labels):
        return None
    return f"none of the labels is named: {', '.join(ask.facts.labels[:5])}"


def check_answer(ask: Ask, reply: Mapping[str, Any]) -> str | None:
    """The answer names the region that was asked about."""
    target = ask.facts.target
    if target is None or target.name.lower() in str(reply.get("answer", "")).lower():
        return None
    return f"the answer does not name {target.name}"


def check_question_keeps_secret(ask: Ask, reply: Mapping[str, Any]) -> str | None:
    """The question does not give its answer away."""
    target = ask.facts.target
    if target and target.name.lower() in str(reply.get("question", "")).lower():
        return f"the question names its answer, {target.name}"
    return None


CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}


def known(prompt: Prompt) -> None:
    """Refuse a prompt that wants a check that is not here.

    Raises:
        UserError: With the near name.
    """
    for name in prompt.head.checks:
        if name not in CHECKS:
            raise UserError(
                f"prompt {prompt.name}.{prompt.language}: unknown check {name!r}{did_you_mean(name, CHECKS)}"
            )


def failed(ask: Ask, reply: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first check that fails and why, or None."""
    for name in ask.prompt.head.checks:
        why = CHECKS[name](ask, reply)
        if why is not None:
            return f"check_{name}", why
    return None
