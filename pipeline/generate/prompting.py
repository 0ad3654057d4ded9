"""Prompt files: load, check, render. A prompt is Markdown with a YAML head and a Jinja2 body in sections.

```
---
kind: caption
needs: [labels]
reply: {caption: text}
---
=== system
…
=== user            what is asked
=== assistant       only where `backend: template`: the reply itself, as JSON
=== sample user     the training sample's turns, rendered once the reply is there
=== sample assistant
```
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jinja2
import jinja2.meta
import jinja2.nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, create_model

from pipeline import discovery
from pipeline.errors import UserError, did_you_mean
from pipeline.generate.facts import LETTERS, NAMES, Facts, Place, number_of
from pipeline.records import Box, Drawn, Kind, Message, Record, Request
from pipeline.strict import Strict, checked, load_yaml, read_text
from pipeline.vocabulary import LANGUAGES

FOLDER = "prompts"
SECTIONS = ("system", "user", "assistant", "sample user", "sample assistant", "sample reasoning", "answer")

_MARK = re.compile(r"^=== (.+?) *$", re.MULTILINE)


class Head(Strict):
    """The YAML head of a prompt file."""

    kind: Kind
    needs: tuple[str, ...] = ()
    """Facts that must be there; otherwise the prompt is not asked of a record."""
    modalities: tuple[str, ...] = ()
    """Only these; empty: all."""
    backend: Literal["template"] | None = None
    """`template`: the prompt writes its own reply and needs no model."""
    role: str = "default"
    reply: dict[str, Any]
    """Field to type: text, texts, flag, number, or a list of allowed texts."""
    sampling: dict[str, float] = Field(default_factory=dict)
    draw: Literal["none", "target", "boxes"] = "none"
    """Boxes drawn on the request's copy of the picture."""
    tell: Literal["none", "target", "boxes"] = "none"
    """Boxes that the sample speaks of; they go to its `boxes`."""
    answer_type: Literal["text", "mcq", "yesno", "exact", "number", "count", "bbox", "multi_label"] = "text"
    checks: Annotated[tuple[str, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = ()
    """Names of checks in `checks.py` that a reply must pass."""


@dataclass(frozen=True)
class Prompt:
    """A prompt file, checked."""

    name: str
    """`caption` or `perception.modality`."""
    language: str
    head: Head
    sections: Mapping[str, str]
    digest: str
    """First 12 hex digits of the file's sha256."""

    @functools.cached_property
    def reply(self) -> type[BaseModel]:
        """The model that replies are checked against."""
        return reply_model(self.head.reply)

    @functools.cached_property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema that is sent."""
        return json_schema(self.head.reply)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the reply model: it is made anew."""
        return {name: value for name, value in self.__dict__.items() if name != "reply"}

    @property
    def label(self) -> str:
        """`name.language@digest`, as calls carry it."""
        return f"{self.name}.{self.language}@{self.digest}"


@dataclass(frozen=True)
class Ask:
    """One planned request: a prompt on a record."""

    sample: str
    """Id of the sample it becomes."""
    prompt: Prompt
    record: Record
    facts: Facts

    @functools.cached_property
    def values(self) -> dict[str, Any]:
        """The facts by name, as a prompt's body sees them."""
        return {name: getattr(self.facts, name) for name in NAMES}


def load(names: Sequence[str], languages: Sequence[str]) -> list[Prompt]:
    """Read the prompts of a run, each in each language.

    Raises:
        UserError: Unknown name, or a fault in a file: one line.
    """
    return [_read(name, language) for name in names for language in languages if _is_in(name, language)]


def available() -> list[str]:
    """List the prompts of the package, without their language."""
    return sorted({name.rpartition(".")[0] for name in discovery.names(FOLDER, ".md")})


def _is_in(name: str, language: str) -> bool:
    """Is there a text in this language behind the name? A file that is named by its path is in its own language."""
    if language not in LANGUAGES:
        raise UserError(f"unknown language {language!r}{did_you_mean(language, LANGUAGES)}")
    if not name.endswith(".md"):
        return True
    own = name.removesuffix(".md").rpartition(".")[2]
    if own not in LANGUAGES:
        raise UserError(f"prompt {name}: should be named KIND.LANGUAGE.md, with one of {', '.join(LANGUAGES)}")
    return own == language


def _read(name: str, language: str) -> Prompt:
    if name.endswith(".md"):
        path = discovery.find("prompt", FOLDER, ".md", name)
        return parse(read_text(path), path.stem.removesuffix(f".{language}"), language, str(path))
    if name not in available():
        raise UserError(f"unknown prompt {name!r}{did_you_mean(name, available())}")
    path = discovery.find("prompt", FOLDER, ".md", f"{name}.{language}")
    return parse(read_text(path), name, language, path.name)


def parse(text: str, name: str, language: str, where: str) -> Prompt:
    """Check a prompt's text.

    Raises:
        UserError: One line with the first fault.
    """
    if not text.startswith("---\n") or "\n---\n" not in text[4:]:
        raise UserError(f"{where}: should begin with a YAML head between two lines of ---")
    head_text, _, body = text[4:].partition("\n---\n")
    head = checked(Head, load_yaml(head_text, where), where)
    for fact in head.needs:
        if fact not in NAMES:
            raise UserError(f"{where}: needs: unknown fact {fact!r}{did_you_mean(fact, NAMES)}")
    sections = _sections(body, where)
    for section in ("assistant" if head.backend == "template" else "user", "sample user", "sample assistant"):
        if section not in sections:
            raise UserError(f"{where}: section '=== {section}' is missing")
    reply_model(head.reply, where)
    for section, source in sections.items():
        _check_names(source, section, head, f"{where}, section {section!r}")
    return Prompt(name, language, head, sections, hashlib.sha256(text.encode()).hexdigest()[:12])


def _sections(body: str, where: str) -> dict[str, str]:
    pieces = _MARK.split(body)
    found: dict[str, str] = {}
    for title, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if title not in SECTIONS:
            raise UserError(f"{where}: unknown section {title!r}{did_you_mean(title, SECTIONS)}")
        if title in found:
            raise UserError(f"{where}: section '=== {title}' is given twice")
        found[title] = text.strip()
    return found


def _json(value: Any) -> str:
    """Write JSON on one line; `<` is escaped, so that no label can end the block of facts that it stands in."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    for name in ("lipsum", "joiner", "cycler"):
        del environment.globals[name]
    del environment.filters["random"]  # the same prompt must say the same in every run
    environment.filters["json"] = _json
    environment.filters["options"] = lambda names: "\n".join(f"{LETTERS[n]}. {name}" for n, name in enumerate(names))
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=1024)
def _compiled(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


def _check_names(source: str, section: str, head: Head, where: str) -> None:
    """Refuse a name that no rendering will know: a typing error must not wait for the first paid reply.

    Raises:
        UserError: With the near name.
    """
    try:
        tree = _ENVIRONMENT.parse(source)
        used = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        raise UserError(f"{where}, line {error.lineno}: {error.message}") from None
    known = {*NAMES, "facts", "pick", *(["reply"] if section.startswith("sample") or section == "answer" else [])}
    set_here = {found.name for found in tree.find_all(jinja2.nodes.Name) if found.ctx == "store"}
    for name in sorted(used - known - set_here - set(_ENVIRONMENT.globals)):
        raise UserError(f"{where}: unknown name {name!r}{did_you_mean(name, known)}")
    for found in tree.find_all(jinja2.nodes.Getattr):
        if isinstance(found.node, jinja2.nodes.Name) and found.node.name == "reply" and found.attr not in head.reply:
            raise UserError(f"{where}: the reply has no field {found.attr!r}{did_you_mean(found.attr, head.reply)}")


class _Pick:
    """`pick("a", "b")` in a prompt: one of the phrasings, chosen by the sample's id, the same in every run."""

    def __init__(self, seed: str) -> None:
        self._seed, self._calls = seed, 0

    def __call__(self, *phrasings: str) -> str:
        self._calls += 1
        return phrasings[number_of(self._seed, "pick", str(self._calls)) % len(phrasings)]


def _rendered(ask: Ask, section: str, **more: Any) -> str:
    where = f"prompt {ask.prompt.name}.{ask.prompt.language}, section {section!r}"
    shown = {
        **ask.values,
        "facts": _told(ask.values, ask.prompt.head.needs),
        "pick": _Pick(f"{ask.sample} {section}"),
        **more,
    }
    try:
        return _compiled(ask.prompt.sections[section]).render(shown).strip()
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from None


_UNTOLD = (
    "modality_key", "modality_choices", "modality_key_letter", "target", "thing", "choices", "key", "window",
    "department", "sole_department",
)  # fmt: skip


def _told(values: Mapping[str, Any], needs: Sequence[str]) -> dict[str, Any]:
    """Return the facts that a model is told as one JSON object: those that are there, and the answer if it is asked."""
    told = {name: value for name, value in values.items() if value not in (None, (), {}) and name not in _UNTOLD}
    if values["sole_department"]:
        told["department"] = values["sole_department"]
    if "places" in told:
        told["places"] = [_told_place(place) for place in told["places"]]
    if "target" in needs and values["target"]:
        told["answer"] = values["target"].name
    return told


def _told_place(place: Place) -> dict[str, Any]:
    """A place without its px: a model reads relative boxes."""
    told = {"name": place.name, "box": place.box, "position": place.position, "area_mm2": place.area_mm2}
    return {name: value for name, value in told.items() if value is not None} | {"certain": place.certain}


def applies(prompt: Prompt, facts: Facts) -> bool:
    """Can the prompt be asked: right modality, and the facts it needs are there?"""
    if prompt.head.modalities and facts.modality_key not in prompt.head.modalities:
        return False
    return all(getattr(facts, name) for name in prompt.head.needs)


def sample_id(record: str, prompt: Prompt) -> str:
    """Return `<record>#<kind>.<n>.<language>`; n is the prompt's stage, or 0."""
    stage = prompt.name.removeprefix(prompt.head.kind).lstrip(".") or "0"
    return f"{record}#{prompt.head.kind}.{stage}.{prompt.language}"


def request(ask: Ask, model: str, max_side: int | None, attempt: int = 0) -> Request:
    """Render what is asked. Facts come from the record, wording from the file, nothing from here.

    Args:
        ask: Prompt and record.
        model: Id of the model that will answer: a part of the key.
        max_side: Longest side in px of the picture's copy.
        attempt: 0, or the number of the re-ask after a reply that could not be used.
    """
    head, picture = ask.prompt.head, ask.record.picture
    messages = tuple(
        Message(role, _rendered(ask, role)) for role in ("system", "user", "assistant") if role in ask.prompt.sections
    )
    pictures = () if picture is None else (Drawn(picture.sha256, max_side, _drawn(ask)),)
    sampling = {name: int(value) if value == int(value) else value for name, value in sorted(head.sampling.items())}
    if attempt:
        sampling["seed"] = attempt
    schema, record = ask.prompt.schema, ask.record
    plain = Request("", messages, pictures, sampling, schema, head.role, record.id, record.egress)
    return replace(plain, key=key_of(plain, model, attempt))


def key_of(asked: Request, model: str, attempt: int) -> str:
    """Return what a reply is found again by: sha256 of all that is sent, and nothing of how it is parsed."""
    sent = {
        "model": model,
        "sampling": asked.sampling,
        "messages": asked.messages,
        "pictures": asked.pictures,
        "schema": asked.schema,
        "attempt": attempt,
    }
    text = json.dumps(sent, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _drawn(ask: Ask) -> tuple[Box, ...]:
    return tuple(box for _, box in boxes_of(ask, ask.prompt.head.draw))


def boxes_of(ask: Ask, which: str) -> list[tuple[str, Box]]:
    """Return name and box in stored px of the target, of all regions, or of none."""
    if which == "none" or ask.record.picture is None:
        return []
    places = ask.facts.places if which == "boxes" else (ask.facts.target,)
    return [(place.name, place.px) for place in places if place and place.px]


def turns(ask: Ask, reply: Mapping[str, Any]) -> tuple[tuple[Message, ...], str | None, str]:
    """Render the training sample's turns, its reasoning and its answer from a parsed reply."""
    answer_section = "answer" if "answer" in ask.prompt.sections else "sample assistant"
    user = _rendered(ask, "sample user", reply=reply)
    assistant = _rendered(ask, "sample assistant", reply=reply)
    reasoning = _rendered(ask, "sample reasoning", reply=reply) if "sample reasoning" in ask.prompt.sections else None
    messages = (Message("user", user), Message("assistant", assistant))
    return messages, reasoning, _rendered(ask, answer_section, reply=reply)


# ---- reply schemas


def _field(kind: Any, where: str) -> tuple[Any, dict[str, Any]]:
    """Return the checked type of a reply's field, and its portable JSON Schema: bounds are checked here, not sent."""
    if isinstance(kind, list) and kind:
        return Literal[tuple(kind)], {"type": "string", "enum": kind}
    types: dict[str, tuple[Any, dict[str, Any]]] = {
        "text": (Annotated[str, Field(min_length=1, max_length=20_000)], {"type": "string"}),
        "texts": (Annotated[list[str], Field(max_length=64)], {"type": "array", "items": {"type": "string"}}),
        "flag": (StrictBool, {"type": "boolean"}),
        "number": (StrictInt | Annotated[float, Field(allow_inf_nan=False)], {"type": "number"}),
    }
    if not isinstance(kind, str) or kind not in types:
        raise UserError(f"{where}: reply: unknown type {kind!r}{did_you_mean(str(kind), types)}")
    return types[kind]


def reply_model(reply: Mapping[str, Any], where: str = "reply") -> type[BaseModel]:
    """Return the model that a reply is checked against.

    Raises:
        UserError: A field's name or type that can not be.
    """
    for name in reply:
        # names that pydantic or Jinja's attribute look-up would take for their own
        if not name.isidentifier() or name.startswith("_") or hasattr(BaseModel, name) or hasattr(dict, name):
            raise UserError(f"{where}: reply: {name!r} can not be a field's name; give it another")
    fields: dict[str, Any] = {name: (_field(kind, where)[0], ...) for name, kind in reply.items()}
    return create_model("Reply", __config__=ConfigDict(extra="ignore", str_strip_whitespace=True), **fields)


def json_schema(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strict JSON Schema that is sent: all required, nothing else, the subset that every server takes."""
    properties = {name: _field(kind, "reply")[1] for name, kind in reply.items()}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
