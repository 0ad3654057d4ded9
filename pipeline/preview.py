"""`medgloss preview`: one record, its facts, and what each prompt makes of it. Nothing is sent anywhere."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import pictures, plan
from pipeline.check import spread, write_file
from pipeline.errors import Unusable, UserError, did_you_mean
from pipeline.estimate import space_of, table
from pipeline.generate import checks, prompting, replies, stage
from pipeline.generate.facts import Facts, Label, facts_of, name_of
from pipeline.generate.prompting import Ask, Prompt
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.plan import SourcePlan
from pipeline.records import Box, Case, Record, Request
from pipeline.settings import Settings
from pipeline.vocabulary import Vocabulary
from pipeline.vocabulary import load as load_vocabulary
from sources.cases import form_of

SPACE_CASES = {"picture": 20, "rows": 20, "volume": 3, "series": 3, "video": 3}
"""Cases that labels are gathered from, for the options of choice questions; a volume takes seconds to read."""
PICTURE, BOXES = "picture.png", "boxes.png"
LEGIBLE = 768
"""Longest side in px up to which the picture with boxes is enlarged, by a whole number."""


class Shown(NamedTuple):
    """The record to show, and the labels around it."""

    record: Record
    space: tuple[Label, ...]
    read: int
    """Cases that the labels are gathered from."""
    listed: int


def preview(name: str, settings: Settings, case: str | None, prompt: str | None, out: Path) -> str:
    """Show one record of a source and what is asked about it; writes `picture.png` and `boxes.png`.

    Args:
        name: Catalog name or path of a descriptor.
        settings: Of the run that it stands for: languages, prompts, backends, seed, `max_side`.
        case: Id of a case or record, or the beginning of one; None: the first case that gives a record.
        prompt: The only prompt to show; None: those of the settings, else all.
        out: Folder of the two pictures.

    Raises:
        UserError: A fault in a file, an unknown case or prompt, or no record.
    """
    vocabulary = load_vocabulary()
    found = plan.open_source(name, settings, vocabulary)
    prompts = prompting.load([prompt] if prompt else settings.prompts or prompting.available(), settings.languages)
    for one in prompts:
        checks.known(one)
    shown = _shown(found, vocabulary, case)
    _write(shown.record, vocabulary, out)
    return "\n".join([*_facts(shown, vocabulary), *_asked(shown, prompts, vocabulary, settings)])


# ---- the record


def _shown(found: SourcePlan, vocabulary: Vocabulary, wanted: str | None) -> Shown:
    """Find the record: the one that is named, else the one of its case with the most labels."""
    source = Source(found.descriptor, found.root, vocabulary)
    readable = [case for case in found.cases.cases if case.problem is None]
    prefix = wanted.removeprefix(f"{found.descriptor.id}/") if wanted is not None else ""
    why = "it lists no case"
    for case in _named(found, prefix):
        read = read_case(case, source)
        records = [record for record in read.records if record.id.startswith(f"{case.source}/{prefix}")]
        if records:
            form = form_of(case, found.descriptor)
            others = [other for other in spread(readable, SPACE_CASES[form]) if other is not case]
            space = _space(others, source) + read.records
            record = min(records, key=lambda record: -len({region.label for region in record.regions}))
            return Shown(record, space_of(space), len(others) + 1, len(readable))
        row = next(iter(read.rejected), None)
        why = f"{row.id}: {row.reason}: {row.detail}" if row else f"{case.id} has no record {wanted!r}"
    raise UserError(f"{found.descriptor.id}: no record to show; {why}")


def _named(found: SourcePlan, prefix: str) -> Sequence[Case]:
    """Return the cases that a prefix can mean: all, one of that very id, or those that begin so.

    Raises:
        UserError: None, with the near id.
    """
    cases = found.cases.cases
    exact = [case for case in cases if prefix == case.id or prefix.startswith(f"{case.id}/")]
    fitting = exact or [case for case in cases if case.id.startswith(prefix)]
    if not fitting:
        ids = [case.id for case in cases]
        raise UserError(f"{found.descriptor.id}: no case {prefix!r}{did_you_mean(prefix, ids)}")
    return fitting


def _space(cases: Sequence[Case], source: Source) -> list[Record]:
    return [record for case in cases for record in read_case(case, source).records]


def _write(record: Record, vocabulary: Vocabulary, out: Path) -> None:
    if record.picture is None:
        return
    pixels = pictures.pixels_of(record.picture.bytes)
    write_file(out / PICTURE, pictures.png(pixels))
    times = max(1, LEGIBLE // max(pixels.shape[:2]))  # a slice of 128 px would vanish under its labels
    boxes = [
        (name_of(region, vocabulary, "en"), Box(*(value * times for value in region.box)))
        for region in record.regions
        if region.box
    ]
    large = pictures.resize(pixels, pixels.shape[1] * times, pixels.shape[0] * times)
    write_file(out / BOXES, pictures.png(pictures.with_boxes(large, boxes)))


def _facts(shown: Shown, vocabulary: Vocabulary) -> Iterator[str]:
    record = shown.record
    yield record.id
    known = [*_picture_facts(record), *_medical_facts(record, vocabulary)]
    for name, value in known:
        yield f"{name:<13} {value if value is not None else 'unknown'}"
    yield f"{'regions':<13} {len(record.regions)}"
    if record.regions:
        yield _indented(table(list(_regions(record, vocabulary)), left=3))
    absent = [name for name in record.annotated if name not in {region.label for region in record.regions}]
    names = ", ".join(vocabulary.name(label, label, "en") for label in absent)
    yield f"{'absent':<13} {names or 'nothing is known to be absent'}"
    yield f"{'label space':<13} {len(shown.space)} labels, from {shown.read} of {shown.listed} cases"


def _picture_facts(record: Record) -> Iterator[tuple[str, str | None]]:
    picture = record.picture
    if picture is None:
        yield "picture", "none, a text"
        return
    yield "picture", f"{picture.width}x{picture.height} px, sha256 {picture.sha256[:12]}"
    yield "plane", picture.plane
    yield "window", picture.window or "as stored"
    yield "spacing", f"{picture.spacing_mm:.4g} mm" if picture.spacing_mm else None
    yield "geometry", ", ".join((picture.geometry, *picture.flags))


def _medical_facts(record: Record, vocabulary: Vocabulary) -> Iterator[tuple[str, str | None]]:
    modality = vocabulary.term("modalities", record.modality, "en") or record.modality
    yield "modality", f"{modality}, {record.sub_modality}" if record.sub_modality else modality
    yield "body part", record.body_part
    yield "department", record.department
    yield "task", record.task
    if record.attributes:
        yield "attributes", ", ".join(f"{name}={value}" for name, value in sorted(record.attributes.items()))
    yield "group", record.group
    yield "licence", record.license
    yield "egress", record.egress


def _regions(record: Record, vocabulary: Vocabulary) -> Iterator[tuple[str, ...]]:
    yield "label", "side", "box (px)", "area"
    for region in record.regions:
        box = " ".join(f"{value:.4g}" for value in region.box) if region.box else "whole picture"
        area = f"{region.area_px:.0f} px" if region.area_px is not None else "-"
        if region.area_mm2 is not None:
            area = f"{region.area_mm2:.1f} mm2"
        name = vocabulary.name(region.label, region.raw, "en")
        yield name if region.label else f"{name} (not in the vocabulary)", region.side or "-", box, area


# ---- the prompts


def _asked(shown: Shown, prompts: Sequence[Prompt], vocabulary: Vocabulary, settings: Settings) -> Iterator[str]:
    """Tell what each prompt makes of the record; those that do not apply come last, a line each."""
    left_out = []
    for prompt in prompts:
        asks = stage.plan([shown.record], [prompt], vocabulary, shown.space, settings.seed)
        if asks:
            yield from _ask(asks[0], settings)
        else:
            # the facts of `stage.plan`: its seed is the run's, the record's and the prompt's
            seed = f"{settings.seed} {shown.record.id} {prompt.name}"
            facts = facts_of(shown.record, vocabulary, prompt.language, shown.space, seed)
            left_out.append(f"{prompt.name}.{prompt.language} does not apply: {_missing(prompt, facts)}")
    if left_out:
        yield from ("", *left_out)


def _missing(prompt: Prompt, facts: Facts) -> str:
    if prompt.head.modalities and facts.modality_key not in prompt.head.modalities:
        return f"it is for {', '.join(prompt.head.modalities)}, this is {facts.modality_key}"
    return f"it needs {', '.join(name for name in prompt.head.needs if not getattr(facts, name))}"


def _ask(ask: Ask, settings: Settings) -> Iterator[str]:
    prompt, spec = ask.prompt, stage.answering(ask.prompt, settings.backends)
    by_template = prompt.head.backend == "template"
    no_model = spec.backend == "template" and not by_template
    request = prompting.request(ask, spec.model, settings.max_side)
    yield f"\n==== {prompt.label}: {prompt.head.kind}"
    yield f"{'sample':<13} {ask.sample}"
    yield f"{'answered by':<13} {'no model is set: give --backend and --model' if no_model else spec.model}"
    yield f"{'request key':<13} {'depends on the model' if no_model else request.key}"
    refusal = stage.forbidden(ask.record, spec)
    if refusal:
        yield f"{'rejected':<13} egress: {refusal}"
    if not by_template:
        yield from _picture_sent(request)
    yield from _messages(request)
    if by_template:
        yield from _sample(ask, request)


def _picture_sent(request: Request) -> Iterator[str]:
    for drawn in request.pictures:
        side = f"longest side at most {drawn.max_side} px" if drawn.max_side else "as stored"
        yield f"{'sent picture':<13} {side}, {len(drawn.boxes)} boxes drawn"
    if request.sampling:
        yield f"{'sampling':<13} {_json(dict(request.sampling))}"


def _messages(request: Request) -> Iterator[str]:
    for message in request.messages:
        yield f"---- {message.role}"
        yield message.content
    yield "---- reply schema"
    yield _json(request.schema)


def _sample(ask: Ask, request: Request) -> Iterator[str]:
    """Show the sample that a template makes, or why it makes none."""
    try:
        value = replies.parse(request.messages[-1].content, ask.prompt.reply)
        fault = checks.failed(ask, value)
        if fault:
            raise Unusable(*fault)
    except Unusable as error:
        yield f"---- rejected: {error}"
        return
    messages, reasoning, answer = prompting.turns(ask, value)
    for message in messages:
        yield f"---- sample {message.role}"
        yield message.content
    if reasoning:
        yield "---- sample reasoning"
        yield reasoning
    yield f"---- answer ({ask.prompt.head.answer_type})"
    yield answer


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
