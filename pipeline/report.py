"""The report: one HTML page that says what a run read, made and left out, with a gallery of samples.

No network, no script, no clock value, no path. Labels, raw texts and replies are hostile: all but `Html` is escaped.
"""

from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import pictures, rows
from pipeline.generate.journal import totals
from pipeline.ledgers import Ledger
from pipeline.plan import CASE_STAGES, RunPlan
from pipeline.records import Picture, Record, Sample, Shard
from pipeline.settings import SPLITS
from pipeline.store import Manifest, Store, read_table
from pipeline.vocabulary import Vocabulary
from pipeline.work import files_of

GALLERY, SIDE = 24, 320
"""Samples shown, and the longest side of their pictures in px."""
GALLERY_SHARDS = 4
"""Of a source: cases go to shards by hash, so the first few are a fair draw, and only they are read with pictures."""
TOP_LABELS, TOP_UNKNOWN, EXAMPLES = 40, 200, 3
TERMS = {"modality": "modalities", "department": "departments", "task": "tasks", "plane": "planes"}
OF_PICTURES, OF_SAMPLES = (*TERMS, "geometry"), ("split", "kind", "language", "made_by")
Candidate = tuple[str, ...]
"""A sample that the gallery may show: source, kind, language, sha256 of its id (the draw), id, first record."""


class Html(str):
    """Markup: text that is escaped already."""


class Tally:
    """All that the page counts; filled shard by shard."""

    def __init__(self) -> None:
        # source → pictures, regions, samples, rejected; column → value; concept → regions, pictures, looked
        self.sources, self.values, self.labels = (defaultdict[str, Counter[Any]](Counter) for _ in range(3))
        self.unknown = Counter[tuple[str, str]]()  # raw label and source → regions
        self.rejected = Counter[tuple[str, str, str]]()  # stage, reason and level → rows
        self.examples = defaultdict[tuple[str, str, str], list[tuple[str, str]]](list)
        self.drawn = dict[Shard, list[Candidate]]()

    def count(self, name: str, column: Any) -> None:
        """Count the values of an Arrow column."""
        self.values[name].update({pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()})

    def leave_out(self, source: str, why: tuple[str, str, str], id_: str, detail: str) -> None:
        """Count what was left out, and keep the first few."""
        self.rejected[why] += 1
        self.sources[source]["rejected"] += 1
        if self.rejected[why] <= EXAMPLES:
            self.examples[why].append((id_, detail))


def report(run: RunPlan, store: Store, manifest: Manifest, found: list[Ledger]) -> str:
    """Return the page of a run, however far it has come; nothing is written."""
    seen, vocabulary = _tally(run, store, manifest), run.vocabulary
    sections = {
        "To look at": _notes(run, seen, found),
        "Ledgers": _ledgers(found),
        "Sources": _sources(run, manifest, seen),
        "Pictures": _shares(OF_PICTURES, seen, vocabulary) or _none("No picture was kept."),
        "Samples": _shares(OF_SAMPLES, seen, vocabulary) or _none("No samples: generate has made none yet."),
        "Labels": _labels(seen, vocabulary),
        "Left out": _left_out(seen),
        "Paid replies": _journal(run, store),
        "Gallery": _gallery(run, store, manifest, seen.drawn),
    }
    links = (_tag("a", name, href=f"#{name.replace(' ', '-')}") for name in sections)
    parts = (_tag("section", _tag("h2", name), text, id=name.replace(" ", "-")) for name, text in sections.items())
    body = _tag("body", _tag("h1", "medgloss report"), _tag("nav", *links), *parts)
    return f'<!doctype html>\n<html lang="en"><head>{HEAD}</head>\n{body}</html>\n'


def _tally(run: RunPlan, store: Store, manifest: Manifest) -> Tally:
    seen, readers = Tally(), (_read_records, _read_rejected, _read_samples, _read_rejected, _read_curated)
    for shard in run.shards:
        files = [file for stage in CASE_STAGES for file in files_of(stage, shard)]
        for file, read in zip(files, readers, strict=True):
            if file in manifest.lines:
                read(shard, store, file, seen)
    return seen


def _read_records(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    nested = ["picture.plane", "picture.geometry", "regions.list.element.label", "regions.list.element.raw"]
    table = read_table(store, file, ["modality", "department", "task", "annotated", *nested])
    flat = table.select(["modality", "department", "task", "picture"]).flatten()
    for name, column in zip(OF_PICTURES, flat.columns, strict=True):
        seen.count(name, column)
    found = table["regions"].combine_chunks()
    regions = pa.table([pc.list_parent_indices(found), *found.flatten().flatten()], ["picture", "label", "raw"])
    seen.sources[shard.source].update(pictures=table.num_rows, regions=regions.num_rows)
    known = regions.filter(pc.is_valid(regions["label"])).group_by("label")
    for row in known.aggregate([([], "count_all"), ("picture", "count_distinct")]).to_pylist():
        seen.labels[row["label"]].update(regions=row["count_all"], pictures=row["picture_count_distinct"])
    for row in pc.value_counts(table["annotated"].combine_chunks().flatten()).to_pylist():
        seen.labels[row["values"]]["looked"] += row["counts"]
    for row in pc.value_counts(regions.filter(pc.is_null(regions["label"]))["raw"]).to_pylist():
        seen.unknown[row["values"], shard.source] += row["counts"]


def _read_samples(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    table = read_table(store, file, OF_SAMPLES[1:])
    seen.sources[shard.source]["samples"] += table.num_rows
    for column in table.column_names:
        seen.count(column, table[column])
    if table.num_rows and sum(one.source == shard.source for one in seen.drawn) < GALLERY_SHARDS:
        found, name = read_table(store, file, ["id", "kind", "language", "records"]).to_pylist(), shard.source
        order = sorted(
            (name, row["kind"], row["language"], pictures.sha256(row["id"].encode()), row["id"], row["records"][0])
            for row in found
        )
        seen.drawn[shard] = [one for _, some in groupby(order, lambda one: one[:3]) for one in islice(some, GALLERY)]


def _read_curated(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    table = read_table(store, file, ["id", "split", "removed"])
    seen.count("split", table.filter(pc.is_null(table["removed"]))["split"])
    for row in table.filter(pc.is_valid(table["removed"])).to_pylist():
        seen.leave_out(shard.source, ("curate", row["removed"], "sample"), row["id"], "")


def _read_rejected(shard: Shard, store: Store, file: str, seen: Tally) -> None:
    for row in read_table(store, file).to_pylist():
        seen.leave_out(shard.source, (row["stage"], row["reason"], row["level"]), row["id"], row["detail"])


def _tag(name: str, *inside: object, **attributes: str) -> Html:
    """Return an element; `class_` stands for `class`."""
    written = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    texts = (x if isinstance(x, Html) else escape(f"{x:,}" if isinstance(x, int) else str(x)) for x in inside)
    return Html(f"<{name}{written}>{''.join(texts)}</{name}>")


def _none(text: str) -> Html:
    return _tag("p", text, class_="soft")


def _spans(class_: str, *texts: object) -> Html:
    return _tag("p", *(_tag("span", text) for text in texts if text), class_=class_)


def _table(head: Sequence[str], body: Sequence[Sequence[object]], caption: str = "") -> Html:
    """Return a table, or nothing for no rows; columns of whole numbers stand right."""
    if not body:
        return Html()
    look = ["n" if isinstance(cell, int) else "" for cell in body[0]]
    cells = [[_tag("td", cell, class_=kind) for cell, kind in zip(row, look, strict=True)] for row in body]
    top = [_tag("th", name, class_=kind) for name, kind in zip(head, look, strict=True)]
    parts = _tag("thead", _tag("tr", *top)), _tag("tbody", *(_tag("tr", *row) for row in cells))
    return _tag("div", _tag("table", _tag("caption", caption), *parts), class_="wide")


def _shares(columns: Sequence[str], seen: Tally, vocabulary: Vocabulary) -> Html:
    """Return a small table for each counted column, the most frequent value first."""
    tables = Html()
    for column in columns:
        counts, lines = seen.values[column], list[Sequence[object]]()
        for value, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0] or "")):
            term = vocabulary.term(TERMS[column], value, "en") if column in TERMS else value
            share = f"{100 * count / counts.total():.1f}%"
            lines.append((term or "not stated", count, share, _tag("i", style=f"width:{share}")))
        tables = Html(tables + _table((column.replace("_", " "), "rows", "share", ""), lines))
    return _tag("div", tables, class_="grid") if tables else tables


def _notes(run: RunPlan, seen: Tally, found: Sequence[Ledger]) -> Html:
    """Say what a person should look at before the set is used."""
    notes = [f"A ledger does not balance: {ledger}." for ledger in found if not ledger.balances]
    notes += [f"Many are left out: {ledger}." for ledger in found if ledger.rejected * 20 > ledger.found]
    if seen.unknown:
        notes.append(f"Not in the vocabulary: {len(seen.unknown):,} raw labels, listed under Labels.")
    splits, plans = seen.values["split"], run.sources.items()
    named = {
        "No picture was kept": [name for name in run.sources if not seen.sources[name]["pictures"]],
        "This page may show what must not be passed on": [n for n, p in plans if not p.descriptor.license.redistribute],
        "No sample is in these splits": [name for name in SPLITS if splits and name not in splits],
    }
    notes += [f"{text}: {', '.join(names)}." for text, names in named.items() if names]
    return _tag("ul", *(_tag("li", note) for note in notes)) if notes else _none("Nothing stands out.")


def _ledgers(found: Sequence[Ledger]) -> Html:
    lines = []
    for one in found:
        mark = _tag("b", "✓ balances", class_="good") if one.balances else _tag("b", "✗ does not", class_="bad")
        lines.append((one.name, one.found, one.kept, one.not_selected, one.rejected, mark))
    what = "found = kept + not selected by rule + rejected. Found was counted while reading, the rest is in the files."
    missing = "" if any(one.name == "requests" for one in found) else " No requests: generate has not been run."
    return Html(_table(("", "found", "kept", "not selected", "rejected", ""), lines) + _none(what + missing))


def _sources(run: RunPlan, manifest: Manifest, seen: Tally) -> Html:
    counted, lines = ("pictures", "regions", "samples", "rejected"), []
    for name, source in run.sources.items():
        about = source.descriptor
        files = [files_of("ingest", shard)[0] for shard in source.shards]
        cases = sum(manifest.lines[file].counts["cases_listed"] for file in files if file in manifest.lines)
        allowed = ["yes" if yes else "no" for yes in (about.license.redistribute, about.license.commercial)]
        numbers = (seen.sources[name][column] for column in counted)
        title = Html(_tag("b", name) + _tag("small", about.title))
        lines.append((title, cases, *numbers, about.license.name, *allowed, about.egress))
    return _table(("source", "cases", *counted, "licence", "pass on", "commercial", "egress"), lines)


def _labels(seen: Tally, vocabulary: Vocabulary) -> Html:
    """Return the frequent labels and, apart, those that the vocabulary does not know."""
    lines = []
    for label, counts in sorted(seen.labels.items(), key=lambda pair: (-pair[1]["regions"], pair[0])):
        english, chinese = (_tag("span", vocabulary.name(label, label, lang), lang=lang) for lang in ("en", "zh"))
        numbers = (counts[column] for column in ("regions", "pictures", "looked"))
        lines.append((english, chinese, _tag("code", label), *numbers))
    head = ("label", "中文", "concept", "regions", "pictures with it", "pictures it was looked for in")
    known = _table(head, lines[:TOP_LABELS], f"{len(lines[:TOP_LABELS])} of {len(lines)} labels")
    rare = sorted(seen.unknown.items(), key=lambda pair: (-pair[1], pair[0]))
    raw = [(_tag("code", label), source, count) for (label, source), count in rare[:TOP_UNKNOWN]]
    title = f"{len(raw)} of {len(rare)} raw labels that are not in the vocabulary: please add them"
    unknown = _table(("raw label", "source", "regions"), raw, title)
    return Html(known + (unknown or _none("The vocabulary knows every label.")))


def _left_out(seen: Tally) -> Html:
    lines = []
    for why, count in sorted(seen.rejected.items(), key=lambda pair: (pair[0][0], -pair[1], pair[0])):
        examples = (_tag("li", _tag("code", id_), " ", detail) for id_, detail in seen.examples[why])
        lines.append((*why, count, _tag("ul", *examples)))
    return _table(("stage", "reason", "level", "rows", "for example"), lines) or _none("Nothing was left out.")


def _journal(run: RunPlan, store: Store) -> Html:
    paid = totals(run.job(store).journal)
    if not paid.replies + paid.failures:
        return _none("None: the journal is empty.")
    known = [f"${paid.cost:,.2f}"] if paid.unpriced < paid.replies else []
    cost = " + ".join(known + ([f"unknown price of {paid.unpriced:,} replies"] if paid.unpriced else []))
    shared = _none("The journal is shared: other runs' replies are in it.") if run.settings.journal else ""
    return Html(_table(("replies", "failures", "input tokens", "output tokens", "cost"), [(*paid[:4], cost)]) + shared)


def _gallery(run: RunPlan, store: Store, manifest: Manifest, drawn: dict[Shard, list[Candidate]]) -> Html:
    ids, cards, inlined = _picked(one for some in drawn.values() for one in some), list[Html](), set[str]()
    for shard in drawn:
        samples = [rows.sample_of(row) for row in _rows_of(store, files_of("generate", shard)[0], ids)]
        wanted = {record for sample in samples for record in sample.records}
        found = map(rows.record_of, _rows_of(store, files_of("ingest", shard)[0], wanted))
        records, curated = {record.id: record for record in found}, files_of("curate", shard)[0]
        fates = {row["id"]: row for row in _rows_of(store, curated, ids)} if curated in manifest.lines else {}
        for one in sorted(samples, key=lambda sample: (sample.kind, sample.id)):
            shown = [_figure(records[id_], one, run.vocabulary, inlined) for id_ in one.records]
            cards.append(_tag("article", _tag("div", *shown), _words(one, fates.get(one.id, {}))))
    return _tag("div", *cards) if cards else _none("No samples to show.")


def _picked(candidates: Iterable[Candidate]) -> set[str]:
    """Choose by hash, each time what its source, kind, language and picture have least of so far; return ids."""
    rest, used, chosen = sorted(candidates, key=lambda one: one[3]), Counter[tuple[int, str]](), set[str]()
    while rest and len(chosen) < GALLERY:
        one = min(rest, key=lambda some: [used[cell] for cell in enumerate(some[:3] + some[5:])])
        used.update(enumerate(one[:3] + one[5:]))
        rest.remove(one)
        chosen.add(one[4])
    return chosen


def _rows_of(store: Store, file: str, ids: Iterable[str]) -> list[dict[str, Any]]:
    table, wanted = read_table(store, file), pa.array(sorted(ids), pa.string())
    return list(table.filter(pc.is_in(table["id"], wanted)).to_pylist())


def _words(sample: Sample, fate: dict[str, Any]) -> Html:
    """Return what a sample says, and where it comes from."""
    split = f"removed: {fate['removed']}" if fate.get("removed") else fate.get("split")
    turns = [(turn.role, turn.content) for turn in sample.messages]
    if sample.reasoning:
        turns.insert(-1, ("reasoning", sample.reasoning))
    said = [_tag("p", _tag("b", role), text, class_="turn", lang=sample.language) for role, text in turns]
    past = [_tag("p", f"{call.prompt} · {call.backend} · {call.model}") for call in sample.calls]
    more = {"checks passed": ", ".join(sample.checks), "judge": sample.judge, "made from": sample.parent}
    past += [_tag("p", f"{name}: {text}") for name, text in more.items() if text]
    chips = _spans("chips", sample.kind, sample.language, f"by {sample.made_by}", split)
    return _tag("div", _tag("h3", sample.id), chips, *said, _tag("footer", *past))


def _figure(record: Record, sample: Sample, vocabulary: Vocabulary, inlined: set[str]) -> Html:
    """Return a record's picture; boxes of the sample are solid, those that only the annotation has are dashed."""
    if record.picture is None:
        return _tag("figure", _tag("blockquote", record.text or ""))
    asked = sample.boxes if record.id == sample.records[0] else ()
    picture, mine = record.picture, {box for _, box in asked}
    named = [(vocabulary.name(one.label, one.raw, sample.language, one.side), one.box) for one in record.regions]
    boxes = [(name, box, "asked") for name, box in asked]
    boxes += [(name, box, "known") for name, box in named if box and box not in mine]
    boxes.sort(key=lambda one: -one[1].area)  # the small ones on top, so that the pointer finds their names
    names = sorted({name for name, _, _ in boxes})
    colours = {name: pictures.COLOURS[n % len(pictures.COLOURS)] for n, name in enumerate(names)}
    drawn = [
        _tag("path", _tag("title", name), class_=look, stroke=colours[name], d=f"M{x0:g} {y0:g}H{x1:g}V{y1:g}H{x0:g}z")
        for name, (x0, y0, x1, y1), look in boxes
    ]
    svg = _tag("svg", _image(picture, inlined), *drawn, viewBox=f"0 0 {picture.width} {picture.height}")
    legend = [Html(_tag("b", "■ ", style=f"color:{colour}") + _tag("bdi", name)) for name, colour in colours.items()]
    whole = [f"whole picture: {name}" for name, box in named if box is None]
    spacing = f"{picture.spacing_mm:.3g} mm/px" if picture.spacing_mm else "spacing unknown"
    size, plane = f"{picture.width} × {picture.height} px", f"plane {picture.plane}"
    facts = (size, plane, picture.channel, picture.window, spacing, f"geometry {picture.geometry}", *picture.flags)
    return _tag("figure", svg, _spans("legend", *legend, *whole), _spans("chips", *facts))


def _image(picture: Picture, inlined: set[str]) -> Html:
    """Return the picture's data once, and from then on a reference to it."""
    if picture.sha256 in inlined:
        return _tag("use", href=f"#p{picture.sha256}")
    inlined.add(picture.sha256)
    scale = min(1.0, SIDE / max(picture.width, picture.height))
    small = (max(1, round(side * scale)) for side in (picture.width, picture.height))
    pixels = pictures.resize(pictures.pixels_of(picture.bytes), *small)
    data = f"data:image/png;base64,{b64encode(pictures.png(pixels)).decode()}"
    size = {"width": str(picture.width), "height": str(picture.height), "preserveAspectRatio": "none"}
    return _tag("image", id=f"p{picture.sha256}", href=data, **size)


HEAD = """<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>medgloss report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
:root{color-scheme:light dark;--ink:#1b2733;--soft:#5d6b79;--line:#d9e0e7;--page:#fff;--card:#f6f8fa;--mark:#2f6fb0}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e3e9ef;--soft:#95a3b1;--line:#33404d;--page:#12181f;
--card:#1a222b;--mark:#6aa9e6}}@media print{nav{display:none}:root{color-scheme:light;print-color-adjust:exact}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:70rem;margin:2rem auto;
padding:0 1rem}h1,p{margin:.3rem 0}h2{margin:2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font:.85rem monospace;margin:0}a{color:var(--mark)}a,.legend span{margin-right:.8rem}
.soft,small,caption,th,footer,.turn b,.chips{color:var(--soft)}.good{color:#1a8f3f}.bad{color:#e0453a}
table{border-collapse:collapse;width:100%;font-size:.9rem}caption{text-align:left;padding-top:.6rem}
th,td{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;border-bottom:1px solid var(--line)}
th.n,td.n{text-align:right}tr,article{break-inside:avoid}small,.turn b{display:block}td ul{margin:0;padding:0}
td li{list-style:none}code,li,p,h3{overflow-wrap:anywhere;unicode-bidi:isolate}.wide{overflow-x:auto}
.grid{columns:20rem;gap:2rem}.grid div{break-inside:avoid;padding-bottom:1rem}.grid th:last-child{width:6rem}
td i{display:block;height:.7rem;margin-top:.3rem;background:var(--mark)}figure{margin:0}.turn{white-space:pre-wrap}
article{display:grid;grid-template-columns:320px 1fr;gap:1.2rem;padding:1rem;margin:1rem 0;background:var(--card)}
svg{display:block;max-height:320px;width:100%}path{fill:transparent;stroke-width:1.2;vector-effect:non-scaling-stroke}
.known{stroke-dasharray:4 3}.asked{stroke-width:2.2}.chips,.legend,footer{font-size:.8rem}
.chips span{border:1px solid var(--line);border-radius:9px;padding:0 .5rem;margin-right:.25rem;display:inline-block}
</style>"""
