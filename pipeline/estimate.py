"""`medgloss plan`: how many records, requests, tokens and dollars a run will come to, from a few cases a source."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.check import spread
from pipeline.generate import models, prompting, stage
from pipeline.generate.facts import Label
from pipeline.generate.prompting import Ask
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.plan import RunPlan
from pipeline.records import Kind, Record, Usage
from pipeline.settings import Settings

MOST_RECORDS = 100
"""Of a source whose requests are counted; the rest is taken to be alike."""
MOST_RENDERED = 8
"""Requests of a prompt whose tokens are counted."""
OUTPUT_SHARE = 0.6
"""Of the tokens that a prompt allows, how many a reply takes."""
OUTPUT_TOKENS = 512
"""Allowed where a prompt sets no `max_tokens`."""
CHARACTERS, CJK_CHARACTERS = 4.0, 1.5
"""A token, in text of alphabets and in Chinese."""

_CJK = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


@dataclass(frozen=True, slots=True)
class Part:
    """What the requests of one kind to one model come to."""

    kind: Kind
    model: str | None
    """None: no model, a template answers."""
    requests: float
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    refused: float = 0.0
    """Requests that the source's egress forbids: rejected, never sent."""

    @property
    def cost(self) -> float | None:
        """US dollars; None where the price is unknown."""
        if self.model is None or self.requests == self.refused:
            return 0.0
        return models.cost(self.model, Usage(round(self.input_tokens), round(self.output_tokens)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one source will come to."""

    source: str
    listed: int
    read: int
    records: float
    parts: tuple[Part, ...]
    exact: bool
    """Every case was read and every record asked about: records and requests are no estimate."""
    all_read: bool

    @property
    def requests(self) -> float:
        """Of all kinds."""
        return sum(part.requests for part in self.parts)


def estimate(run: RunPlan, limit: int = 3) -> str:
    """Tell what a run will come to; reads up to `limit` evenly spread cases a source and writes nothing.

    Args:
        run: The run; its plan has listed all cases.
        limit: Cases to read of each source.
    """
    found = [of_source(run, name, limit) for name in run.sources]
    parts = [(one, part) for one in found for part in one.parts]
    by_model: dict[tuple[Kind, str | None], list[tuple[Estimate, Part]]] = defaultdict(list)
    for one, part in parts:
        by_model[part.kind, part.model].append((one, part))
    sources = [
        ("source", "cases", "read", "records", "requests", "input tokens", "output tokens", "cost"),
        *(
            (
                one.source, f"{one.listed:,}", f"{one.read:,}", _number(one.records, one.all_read),
                _number(one.requests, one.exact), *_tokens(one.parts), _cost(one.parts),
            )
            for one in found
        ),
        (
            "total", f"{sum(one.listed for one in found):,}", f"{sum(one.read for one in found):,}",
            _number(sum(one.records for one in found), all(one.all_read for one in found)),
            _number(sum(one.requests for one in found), all(one.exact for one in found)),
            *_tokens(part for _, part in parts), _cost([part for _, part in parts]),
        ),
    ]  # fmt: skip
    kinds = [
        ("kind", "answered by", "requests", "input tokens", "output tokens", "cost"),
        *(
            (
                kind, model or "template",
                _number(sum(part.requests for _, part in rows), all(one.exact for one, _ in rows)),
                *_tokens(part for _, part in rows), _cost([part for _, part in rows]),
            )
            for (kind, model), rows in sorted(by_model.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        ),
    ]  # fmt: skip
    return "\n\n".join(text for text in (table(sources), table(kinds, left=2), _remarks(parts)) if text)


def of_source(run: RunPlan, name: str, limit: int) -> Estimate:
    """Estimate one source from up to `limit` of its cases."""
    planned = run.sources[name]
    source = Source(planned.descriptor, planned.root, run.vocabulary)
    readable = [case for case in planned.cases.cases if case.problem is None]
    chosen = spread(readable, limit)
    records = [record for case in chosen for record in read_case(case, source).records]
    asked = spread(records, MOST_RECORDS)
    asks = stage.plan(asked, run.prompts, run.vocabulary, space_of(records), run.settings.seed)
    cases_each = len(readable) / len(chosen) if chosen else 0.0
    records_each = len(records) / len(asked) if asked else 0.0
    of_prompt: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        of_prompt[ask.prompt.label].append(ask)
    parts = tuple(_part(rows, run.settings, cases_each * records_each) for rows in of_prompt.values())
    all_read = len(chosen) == len(readable)
    return Estimate(
        source=name,
        listed=len(planned.cases.cases),
        read=len(chosen),
        records=len(records) * cases_each,
        parts=parts,
        exact=all_read and len(asked) == len(records),
        all_read=all_read,
    )


def space_of(records: Iterable[Record]) -> tuple[Label, ...]:
    """Return all labels of records, sorted, as `plan.label_space` does for a source."""
    found = {(region.label, region.side) for record in records for region in record.regions if region.label}
    return tuple(Label(concept, side) for concept, side in sorted(found, key=lambda label: (label[0], label[1] or "")))


def text_tokens(text: str) -> float:
    """Estimate the tokens of a text without its model's tokeniser.

    >>> text_tokens("four")
    1.0
    >>> text_tokens("肝脏病")
    2.0
    """
    chinese = len(_CJK.findall(text))
    return chinese / CJK_CHARACTERS + (len(text) - chinese) / CHARACTERS


def _part(asks: Sequence[Ask], settings: Settings, times: float) -> Part:
    """Estimate one prompt on one source, each request standing for so many."""
    prompt = asks[0].prompt
    spec = stage.answering(prompt, settings.backends)
    if spec.backend == "template":
        return Part(prompt.head.kind, None, len(asks) * times)
    refused = sum(stage.forbidden(ask.record, spec) is not None for ask in asks)
    sent = (len(asks) - refused) * times
    rendered = [_input_tokens(ask, spec.model, settings.max_side) for ask in spread(asks, MOST_RENDERED)]
    output = OUTPUT_SHARE * prompt.head.sampling.get("max_tokens", OUTPUT_TOKENS)
    each = sum(rendered) / len(rendered)
    return Part(prompt.head.kind, spec.model, len(asks) * times, each * sent, output * sent, refused * times)


def _input_tokens(ask: Ask, model: str, max_side: int | None) -> float:
    request = prompting.request(ask, model, max_side)
    picture = ask.record.picture
    shown = 0
    if picture:
        shrunk = min(1.0, max_side / max(picture.width, picture.height)) if max_side else 1.0
        shown = models.picture_tokens(
            model, *(max(1, round(side * shrunk)) for side in (picture.width, picture.height))
        )
    return shown + sum(text_tokens(message.content) for message in request.messages)


# ---- text


def _number(value: float, exact: bool) -> str:
    return f"{round(value):,}" if exact else f"about {round(value):,}"


def _tokens(parts: Iterable[Part]) -> tuple[str, str]:
    paid = [part for part in parts if part.model is not None]
    if not paid:
        return "0", "0"
    return _number(sum(p.input_tokens for p in paid), False), _number(sum(p.output_tokens for p in paid), False)


def _cost(parts: Sequence[Part]) -> str:
    """Return what parts cost: an unknown price is never taken for nothing."""
    if all(part.model is None for part in parts):
        return "0 (no model)"
    known = [part.cost for part in parts if part.cost is not None]
    unknown = len(known) < len(parts)
    total = sum(known)
    if unknown:
        return f"over {_dollars(total)}, rest unknown" if total else "unknown"
    return f"about {_dollars(total)}"


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.4f}"


def _remarks(parts: Sequence[tuple[Estimate, Part]]) -> str:
    refused = Counter[str]()
    for one, part in parts:
        refused[one.source] += round(part.refused)
    lines = [f"{name}: {count:,} requests will be rejected: the source's egress does not allow their endpoint"
             for name, count in refused.items() if count]  # fmt: skip
    if any(part.model is not None for _, part in parts):
        lines.append("Tokens are estimates from text and picture size. A reply that the journal holds costs nothing.")
        unpriced = sorted({part.model for _, part in parts if part.model and part.cost is None})
        lines += [f"The price of {model} is not known (pipeline/generate/models.toml)." for model in unpriced]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align rows, the first of them the header.

    Args:
        rows: Of cells.
        left: The first so many columns are words and stand left; numbers stand right.

    >>> print(table([("a", "n"), ("bb", "12")]))
    a    n
    bb  12
    """
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(widths[n]) if n < left else cell.rjust(widths[n]) for n, cell in enumerate(row)).rstrip()
        for row in rows
    )
