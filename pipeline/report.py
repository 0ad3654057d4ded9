"""The report: one HTML page that says what a run read, made and left out, with a gallery of samples.

It needs no network and no script. Labels, raw texts and replies are hostile until escaped: a string becomes markup only
as `Html`. No clock value and no path of a machine: the same run gives the same page.
"""

import base64
import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import pictures, rows
from pipeline.generate.journal import totals
from pipeline.ledgers import Ledger
from pipeline.plan import RunPlan
from pipeline.records import Box, Call, Picture, Record, Region, Sample, Shard
from pipeline.store import Manifest, Store, read_table
from pipeline.vocabulary import Vocabulary
from pipeline.work import files_of

GALLERY = 24
"""Samples shown."""
GALLERY_SHARDS = 4
"""Of a source: a case's shard is the hash of its id, so the first few are a fair draw, and only they are read whole."""
SIDE = 320
"""Longest side in px of a picture in the gallery."""
TOP_LABELS, EXAMPLES, TOP_UNKNOWN = 40, 3, 200
OF_PICTURES = ("modality", "department", "task", "plane", "geometry")
OF_SAMPLES = ("kind", "language", "made_by", "prompt", "yes or no", "choice")
ANSWERS = {"yesno": "yes or no", "mcq": "choice"}
"""Answer types whose answers should be balanced."""
LEDGERS = {
    "cases": "listed by the sources = read + rejected",
    "pictures": "cut = kept + not selected by rule + rejected",
    "regions": "found in the annotations = kept + rejected",
    "requests": "planned = samples + rejected",
}


class Html(str):
    """Text that is markup already; every other string is escaped."""


class Candidate(NamedTuple):
    """A sample that the gallery may show."""

    order: str
    """sha256 of the id: the draw."""
    id: str
    record: str
    source: str
    kind: str
    language: str


class Reason(NamedTuple):
    """Why something was left out."""

    stage: str
    level: str
    reason: str


@dataclass(slots=True)
class Tally:
    """All that the page counts; filled shard by shard."""

    sources: dict[str, Counter[str]]
    """Source id to pictures, regions, samples, rejected."""
    values: dict[str, Counter[str | None]] = field(default_factory=dict)
    """Column to value to rows."""
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    """Concept to regions, pictures with it, pictures in which it was looked for."""
    unknown: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Source and raw label to regions."""
    rejected: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[tuple[str, str]]] = field(default_factory=dict)
    """Id and detail."""
    drawn: dict[str, list[Shard]] = field(default_factory=dict)
    """Source id to the shards whose samples may be shown."""
    candidates: dict[tuple[str, str, str], list[Candidate]] = field(default_factory=dict)

    def count(self, name: str, values: Any) -> None:
        """Count the values of an Arrow column."""
        pairs = pc.value_counts(values).to_pylist()
        self.values.setdefault(name, Counter()).update({pair["values"]: pair["counts"] for pair in pairs})


def report(run: RunPlan, store: Store, manifest: Manifest, found: list[Ledger]) -> str:
    """Return the page of a run, however far it has come.

    Args:
        run: The run.
        store: Its folder; nothing is written.
        manifest: Says which files are there.
        found: The ledgers.
    """
    seen = _tally(run, store, manifest)
    sections = {
        "To look at": _notes(run, seen, found),
        "Ledgers": _ledgers(found),
        "Sources": _sources(run, seen),
        "Pictures": _bars(OF_PICTURES, seen, run.vocabulary) or _none("No picture was kept."),
        "Samples": _bars(("split", *OF_SAMPLES), seen, run.vocabulary) or _none("No samples: generate has made none."),
        "Labels": _labels(run.vocabulary, seen),
        "Left out": _left_out(seen),
        "Paid replies": _journal(run, store),
        "Gallery": _gallery(run, store, manifest, seen),
    }
    return _page(run, found, sections)


# ---- reading


def _tally(run: RunPlan, store: Store, manifest: Manifest) -> Tally:
    seen = Tally({name: Counter() for name in run.sources})
    for shard in run.shards:
        for stage, read in (("ingest", _read_records), ("generate", _read_samples), ("curate", _read_curated)):
            main, *rejected = files_of(stage, shard)  # type: ignore[arg-type]
            if main in manifest.lines:
                read(shard, store, main, seen)
            for file in rejected:
                if file in manifest.lines:
                    _read_rejected(shard, store, file, seen)
    return seen


def _read_records(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    regions = ["regions.list.element.label", "regions.list.element.raw", "annotated"]
    table = read_table(store, file, [*OF_PICTURES[:3], "picture.plane", "picture.geometry", *regions])
    flat = table.select([*OF_PICTURES[:3], "picture"]).flatten()
    for name, column in zip(OF_PICTURES, flat.columns, strict=True):
        seen.count(name, column)
    found = table["regions"].combine_chunks()
    labels = pa.table([pc.list_parent_indices(found), *found.flatten().flatten()], ["picture", "label", "raw"])
    seen.sources[shard.source].update(pictures=table.num_rows, regions=labels.num_rows)
    known = labels.group_by("label").aggregate([([], "count_all"), ("picture", "count_distinct")]).to_pylist()
    for row in known:
        if row["label"]:
            at = seen.labels.setdefault(row["label"], Counter())
            at.update(regions=row["count_all"], pictures=row["picture_count_distinct"])
    for row in pc.value_counts(table["annotated"].combine_chunks().flatten()).to_pylist():
        seen.labels.setdefault(row["values"], Counter())["looked"] += row["counts"]
    for row in pc.value_counts(labels.filter(pc.is_null(labels["label"]))["raw"]).to_pylist():
        seen.unknown[shard.source, row["values"]] += row["counts"]


def _read_samples(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    table = read_table(store, file, [*OF_SAMPLES[:3], "answer_type", "answer", "calls.list.element.prompt"])
    seen.sources[shard.source]["samples"] += table.num_rows
    for name in OF_SAMPLES[:3]:
        seen.count(name, table[name])
    seen.count("prompt", table["calls"].combine_chunks().flatten().field("prompt"))
    for answer_type, name in ANSWERS.items():
        seen.count(name, table.filter(pc.equal(table["answer_type"], answer_type))["answer"])
    drawn = seen.drawn.setdefault(shard.source, [])
    if table.num_rows and len(drawn) < GALLERY_SHARDS:
        drawn.append(shard)
        for row in read_table(store, file, ["id", "records", "kind", "language"]).to_pylist():
            order = hashlib.sha256(row["id"].encode()).hexdigest()
            one = Candidate(order, row["id"], row["records"][0], shard.source, row["kind"], row["language"])
            seen.candidates.setdefault(one[3:], []).append(one)
        for cell, some in seen.candidates.items():
            seen.candidates[cell] = heapq.nsmallest(GALLERY, some)


def _read_curated(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    table = read_table(store, file, ["id", "split", "removed"])
    seen.count("split", table.filter(pc.is_null(table["removed"]))["split"])
    for row in table.filter(pc.is_valid(table["removed"])).to_pylist():
        _leave_out(seen, shard, Reason("curate", "sample", row["removed"]), 1, [(row["id"], "")])


def _read_rejected(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    table = read_table(store, file)
    keys = list(Reason._fields)
    for row in table.group_by(keys).aggregate([([], "count_all")]).to_pylist():
        reason, some = Reason(*(row[key] for key in keys)), table
        for key in keys:
            some = some.filter(pc.equal(some[key], row[key]))
        examples = [(one["id"], one["detail"]) for one in some.slice(0, EXAMPLES).to_pylist()]
        _leave_out(seen, shard, reason, row["count_all"], examples)


def _leave_out(seen: Tally, shard: Shard, reason: Reason, count: int, examples: list[tuple[str, str]]) -> None:
    seen.rejected[reason] += count
    seen.sources[shard.source]["rejected"] += count
    seen.examples[reason] = (seen.examples.get(reason, []) + examples)[:EXAMPLES]


# ---- markup


def _text(value: object) -> Html:
    if isinstance(value, Html):
        return value
    return Html(f"{value:,}" if isinstance(value, int) else escape(str(value)))


def _tag(name: str, *inside: object, **attributes: str) -> Html:
    """Return an element; `class_` stands for `class`."""
    written = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{''.join(map(_text, inside))}</{name}>")


def _none(text: str) -> Html:
    return _tag("p", text, class_="none")


def _table(head: Sequence[str], body: Iterable[Sequence[object]], caption: str = "") -> Html:
    """Return a table; whole numbers stand right."""
    lines = []
    for row in body:
        cells = [_tag("td", cell, **({"class_": "n"} if isinstance(cell, int) else {})) for cell in row]
        lines.append(_tag("tr", *cells))
    top = _tag("thead", _tag("tr", *(_tag("th", name, scope="col") for name in head)))
    title = _tag("caption", caption) if caption else ""
    return _tag("div", _tag("table", title, top, _tag("tbody", *lines)), class_="wide")


def _bars(names: Sequence[str], seen: Tally, vocabulary: Vocabulary) -> Html:
    """Return a small table for each counted column, most frequent value first."""
    parts = []
    for name in names:
        counts = seen.values.get(name, Counter())
        total = sum(counts.values())
        lines = []
        for value, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0] or "")):
            share = 100 * count / total
            bar = _tag("i", style=f"width:{share:.1f}%")
            lines.append((_term(vocabulary, name, value), count, f"{share:.1f} %", _tag("span", bar, class_="bar")))
        if lines:
            parts.append(_table((name.replace("_", " "), "rows", "share", ""), lines))
    return _tag("div", *parts, class_="grid") if parts else Html()


def _term(vocabulary: Vocabulary, column: str, value: str | None) -> str:
    groups = {"modality": "modalities", "department": "departments", "task": "tasks", "plane": "planes"}
    named = vocabulary.term(groups[column], value, "en") if column in groups else value
    return named or "not stated"


# ---- sections


def _notes(run: RunPlan, seen: Tally, found: Sequence[Ledger]) -> Html:
    """Say what a person should look at before the set is used."""
    notes: list[object] = [f"A ledger does not balance: {ledger}." for ledger in found if not ledger.balances]
    if seen.unknown:
        kinds, count = len(seen.unknown), sum(seen.unknown.values())
        link = _tag("a", "the vocabulary has to learn them", href="#unknown")
        notes.append(Html(f"Raw labels without a meaning: {kinds:,}, in {count:,} regions; {link}."))
    empty = [name for name, counts in seen.sources.items() if not counts["pictures"]]
    if empty:
        notes.append(f"Sources without a picture: {', '.join(empty)}.")
    for ledger in found:
        if ledger.rejected * 20 > ledger.found:
            share = 100 * ledger.rejected / ledger.found
            notes.append(f"Of {ledger.found:,} {ledger.name}, {share:.0f} % were rejected; see Left out.")
    held = [name for name, source in run.sources.items() if not source.descriptor.license.redistribute]
    if held:
        notes.append(f"Pictures that must not be passed on, and neither must this page: {', '.join(held)}.")
    missing = {"train", "validation", "test"} - set(seen.values.get("split", ()))
    if missing and "split" in seen.values:
        notes.append(f"Splits without a sample: {', '.join(sorted(missing))}.")
    return _tag("ul", *(_tag("li", note) for note in notes)) if notes else _none("Nothing stands out.")


def _ledgers(found: Sequence[Ledger]) -> Html:
    lines: list[Sequence[object]] = []
    for one in found:
        mark = _tag("b", "✓", class_="good") if one.balances else _tag("b", "✗", class_="bad")
        how = LEDGERS.get(one.name, "")
        lines.append((_tag("b", one.name), one.found, one.kept, one.not_selected, one.rejected, mark, how))
    table = _table(("ledger", "found", "kept", "not selected", "rejected", "balances", "what it says"), lines)
    generated = any(one.name == "requests" for one in found)
    return Html(table + ("" if generated else _none("No ledger of requests: generate is not done.")))


def _sources(run: RunPlan, seen: Tally) -> Html:
    lines = []
    for name, source in run.sources.items():
        about, counts = source.descriptor, seen.sources[name]
        cases = sum(map(len, source.shards.values()))
        may = [word for word, yes in (("pass on", about.license.redistribute), ("commercial", about.license.commercial))]
        may = [word if yes else f"no {word}" for word, yes in zip(may, (about.license.redistribute, about.license.commercial), strict=True)]
        lines.append(())
    return _table((), lines)
