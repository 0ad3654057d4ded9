"""The report page: what it counts, shows and escapes, read back with an HTML parser."""

import base64
import dataclasses
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from pipeline import pictures, rows, vocabulary
from pipeline.ledgers import Ledger
from pipeline.plan import RunPlan, SourcePlan
from pipeline.records import Box, Call, Case, Message, Picture, Record, Region, Rejected, Sample, Shard
from pipeline.report import GALLERY, report
from pipeline.settings import Settings
from pipeline.store import Manifest, Store, write_tables
from pipeline.work import files_of
from sources.cases import CasePlan
from sources.descriptor import parse

HOSTILE = '<script>alert("x")</script><img src=http://evil.example/a.png>'
TOY = """
schema: medgloss/1
id: toy
title: A toy & its title
license: {name: CC-BY-4.0}
egress: local
modality: ct
cases: {match: "{id}.png"}
"""
VOID = {"meta", "br", "img", "link"}
LIVER = Region("liver", "Liver", Box(64, 48, 320, 240))
BALANCED = Ledger("cases", 3, 2, 0, 1)


@dataclass
class Page(HTMLParser):
    """What a browser would see: elements with their attributes, tables as rows of texts."""

    html: str
    elements: list = field(default_factory=list)
    tables: dict = field(default_factory=dict)
    text: dict = field(default_factory=dict)

    def __post_init__(self):
        super().__init__()
        self._open, self._section, self._rows = [], "", None
        self.feed(self.html)
        assert self._open == []  # every element is closed

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"]
        elif tag == "table":
            self._rows = []
            self.tables.setdefault(self._section, []).append(self._rows)
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text[self._section] = self.text.get(self._section, "") + data
        if "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data

    def of(self, tag, **wanted):
        """Attributes of the elements of a tag."""
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def counted(self, section, column):
        """Value to rows of a small table."""
        found = next(table for table in self.tables[section] if table[0][0] == column)
        return {row[0]: int(row[1].replace(",", "")) for row in found[1:]}


def picture(seed=0, width=640, height=480):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    data = pictures.png(pixels)
    sha256 = pictures.sha256(data)
    return Picture(data, width, height, sha256, plane="axial", window="soft_tissue -160..240", spacing_mm=0.75,
                   geometry="known", flags=("oblique_4_deg",))  # fmt: skip


def record(n, regions=(LIVER,), image=True, source="toy"):
    return Record(
        f"{source}/c{n}/image", picture(n) if image else None, None if image else "A note.", "ct", None,
        "General Surgery", None, "detection", tuple(regions), ("liver", "spleen"), (), {}, None,
        source, f"c{n}", f"c{n}",
        "CC-BY-4.0", False, False, "local", (),
    )  # fmt: skip


def sample(of, kind="caption", language="en", text="The liver.", boxes=(), reasoning=None):
    call = Call("default", f"{kind}.{language}@abc123", "openai_api", "gpt-4o", "k", 100, 20, 0.01)
    turns = (Message("user", "What is shown?"), Message("assistant", text))
    return Sample(
        f"{of.id}#{kind}.{language}", (of.id,), kind, language, turns, reasoning, text, "text", None, (), tuple(boxes),
        (call,), ("language", "names_label"), None, None, "model",
    )  # fmt: skip


@dataclass
class Run:
    """A run folder of one shard a source, written by hand."""

    plan: RunPlan
    store: Store
    manifest: Manifest

    def write(self, stage, made, rejected=(), source="toy"):
        schema, row = {
            "ingest": (rows.RECORD, rows.record_row),
            "generate": (rows.SAMPLE, rows.sample_row),
            "curate": (rows.CURATED, dict),
        }[stage]
        files = files_of(stage, Shard(source, 0, 1))
        tables = [rows.table(schema, map(row, made)), rows.table(rows.REJECTED, map(rows.rejected_row, rejected))]
        for file, table in zip(files, tables, strict=False):
            counts = {"cases_listed": len(self.plan.sources[source].cases.cases)} if stage == "ingest" else {}
            self.manifest.add(write_tables(self.store, file, table.schema, [table], "f", counts))

    def journal(self, *lines):
        same = {"key": "k", "input_tokens": 1000, "output_tokens": 50}
        self.store.write("journal/toy-0001.jsonl", "".join(json.dumps(same | line) + "\n" for line in lines).encode())

    def page(self, found=(BALANCED,)):
        return Page(report(self.plan, self.store, self.manifest, list(found)))


@pytest.fixture
def run(tmp_path):
    store = Store(str(tmp_path / "run"))
    plans = {}
    for name in ("toy", "empty"):
        cases = tuple(Case(f"c{n}", name, f"c{n}", {}, {}) for n in range(3)) if name == "toy" else ()
        descriptor = parse(TOY.replace("id: toy", f"id: {name}"), "toy.yaml")
        shards = {Shard(name, 0, 1): cases}
        plans[name] = SourcePlan(descriptor, tmp_path, CasePlan(cases, (), {}), shards, "")
    plan = RunPlan(Settings(sources=("toy", "empty")), plans, vocabulary.load(), ())
    made = Run(plan, store, Manifest(store))
    made.write("ingest", [], source="empty")
    return made


def test_ledgers_are_shown_with_a_mark_for_each(run):
    page = run.page([Ledger("cases", 1003, 1002, 0, 1), Ledger("pictures", 10, 6, 3, 0)])
    assert page.tables["Ledgers"][0][1:] == [
        ["cases", "1,003", "1,002", "0", "1", "✓ balances"],
        ["pictures", "10", "6", "3", "0", "✗ does not"],
    ]
    assert "A ledger does not balance: pictures: 10 ≠ 6 kept + 3 not selected + 0 rejected." in page.text["To-look-at"]


def test_a_source_has_a_line_with_its_counts_and_terms_even_when_it_gave_nothing(run):
    run.write("ingest", [record(0), record(1)], [Rejected("toy/c2", "case", "ingest", "empty_file", "0 bytes")])
    run.write("generate", [sample(record(0))])
    page = run.page()
    title = "A toy & its title"
    assert page.tables["Sources"][0] == [
        ["source", "cases", "pictures", "regions", "samples", "rejected", "licence", "pass on", "commercial", "egress"],
        [f"toy{title}", "3", "2", "2", "1", "1", "CC-BY-4.0", "no", "no", "local"],
        [f"empty{title}", "0", "0", "0", "0", "0", "CC-BY-4.0", "no", "no", "local"],
    ]
    assert "No picture was kept: empty." in page.text["To-look-at"]
    assert "This page may show what must not be passed on: toy, empty." in page.text["To-look-at"]


def test_pictures_and_samples_are_counted_by_what_they_are(run):
    scan = dataclasses.replace(record(1), modality="mr", department=None)
    run.write("ingest", [record(0), scan, record(2, image=False)])
    run.write("generate", [sample(record(0)), sample(record(0), "caption", "zh"), sample(record(1), "vqa_yesno")])
    fate = {"record": "toy/c0/image", "group": "c0", "weight": 1.0}
    run.write("curate", [
        fate | {"id": sample(record(0)).id, "split": "train", "removed": None},
        fate | {"id": sample(record(0), language="zh").id, "split": "train", "removed": None},
        fate | {"id": sample(record(1), "vqa_yesno").id, "split": "test", "removed": "duplicate_text"},
    ])  # fmt: skip
    page = run.page()
    assert page.counted("Pictures", "modality") == {"CT": 2, "MR": 1}
    assert page.counted("Pictures", "department") == {"General Surgery": 2, "not stated": 1}
    assert page.counted("Pictures", "task") == {"not stated": 3}
    assert page.counted("Pictures", "geometry") == {"known": 2, "not stated": 1}
    assert page.counted("Samples", "kind") == {"caption": 2, "vqa_yesno": 1}
    assert page.counted("Samples", "language") == {"en": 2, "zh": 1}
    assert page.counted("Samples", "made by") == {"model": 3}
    assert page.counted("Samples", "split") == {"train": 2}
    assert page.tables["Left-out"][0][1][:4] == ["curate", "duplicate_text", "sample", "1"]


def test_labels_have_both_names_and_tell_present_from_looked_for(run):
    two = (Region("liver", "Liver", Box(0, 0, 9, 9)), Region("liver", "Liver", Box(20, 0, 29, 9)))
    run.write("ingest", [record(0, two), record(1, ())])
    assert run.page().tables["Labels"][0][1:] == [
        ["liver", "肝", "liver", "2", "1", "2"],
        ["spleen", "脾", "spleen", "0", "0", "2"],
    ]


def test_unknown_raw_labels_are_listed_for_the_curator(run):
    regions = (Region(None, "Weird_Thing", Box(0, 0, 9, 9)), Region("liver", "Liver"), Region(None, "odd"))
    run.write("ingest", [record(0, regions), record(1, regions[:1])])
    page = run.page()
    known, unknown = page.tables["Labels"]
    assert [row[0] for row in known[1:]] == ["liver", "spleen"]
    assert unknown[1:] == [["Weird_Thing", "toy", "2"], ["odd", "toy", "1"]]
    assert "Not in the vocabulary: 2 raw labels, listed under Labels." in page.text["To-look-at"]


def test_rejected_rows_are_counted_by_reason_with_three_examples(run):
    small = [Rejected(f"toy/c{n}/image#r{n}", "region", "ingest", "too_small", f"{n} px") for n in range(5)]
    run.write("ingest", [record(0)], [*small, Rejected("toy/c1", "case", "ingest", "truncated", "ends early")])
    run.write("generate", [], [Rejected("toy/c0/image#caption.en", "sample", "generate", "model_refused", "no")])
    table = run.page().tables["Left-out"][0]
    assert [row[:4] for row in table[1:]] == [
        ["generate", "model_refused", "sample", "1"],
        ["ingest", "too_small", "region", "5"],
        ["ingest", "truncated", "case", "1"],
    ]
    assert table[2][4] == "toy/c0/image#r0 0 pxtoy/c1/image#r1 1 pxtoy/c2/image#r2 2 px"


def test_the_journal_is_added_up_and_an_unknown_price_is_said(run):
    assert "None: the journal is empty." in run.page().text["Paid-replies"]
    run.journal({"outcome": "ok", "cost": 1.5}, {"outcome": "ok"}, {"outcome": "refused", "cost": 0.25})
    line = run.page().tables["Paid-replies"][0][1]
    assert line == ["2", "1", "3,000", "150", "$1.75 + unknown price of 1 replies"]
    run.journal({"outcome": "ok"}, {"outcome": "ok"})
    assert run.page().tables["Paid-replies"][0][1][4] == "unknown price of 2 replies"


def test_after_ingest_alone_the_other_parts_say_so(run):
    run.write("ingest", [record(0)])
    page = run.page()
    assert "No requests: generate has not been run." in page.text["Ledgers"]
    assert page.text["Samples"] == "SamplesNo samples: generate has made none yet."
    assert "No samples to show." in page.text["Gallery"]
    assert page.counted("Pictures", "modality") == {"CT": 1}


def test_a_run_without_a_single_record_has_a_page(run):
    run.write("ingest", [])
    page = run.page()
    assert page.text["Pictures"] == "PicturesNo picture was kept."
    assert page.text["Left-out"] == "Left outNothing was left out."


def test_hostile_texts_are_shown_and_never_markup(run):
    evil = record(0, (Region(None, HOSTILE, Box(0, 0, 9, 9)), Region(None, HOSTILE)))
    evil = dataclasses.replace(evil, id=f"toy/{HOSTILE}/image", modality=HOSTILE)
    run.write("ingest", [evil], [Rejected(HOSTILE, "case", "ingest", HOSTILE, HOSTILE)])
    run.write("generate", [sample(evil, text=HOSTILE, boxes=[(HOSTILE, Box(1, 1, 5, 5))], reasoning=HOSTILE)])
    page = run.page()
    assert page.of("script") == []
    assert page.of("img") == []
    assert page.tables["Labels"][1][1] == [HOSTILE, "toy", "2"]
    assert page.tables["Left-out"][0][1][1] == HOSTILE
    assert page.text["Gallery"].count(HOSTILE) == 7  # id, answer, reasoning, two boxes, legend, whole picture


def test_nothing_is_fetched_from_outside(run):
    run.write("ingest", [record(0)])
    run.write("generate", [sample(record(0))])
    page = run.page()
    links = [found[name] for _, found in page.elements for name in ("src", "href") if name in found]
    assert {link.partition(":")[0] if link[0] != "#" else "#" for link in links} == {"data", "#"}
    assert "url(" not in page.html
    assert "@import" not in page.html
    assert page.of("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"].startswith("default-src 'none'")


def test_no_path_of_the_machine_is_shown(run, tmp_path):
    run.write("ingest", [record(0)])
    run.write("generate", [sample(record(0))])
    assert str(tmp_path) not in run.page().html


def test_a_picture_is_inlined_once_downscaled_and_without_boxes(run):
    run.write("ingest", [record(0)])
    run.write("generate", [sample(record(0)), sample(record(0), "vqa_open")])
    page = run.page()
    (image,) = page.of("image")
    data = base64.b64decode(image["href"].removeprefix("data:image/png;base64,"))
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    stored = cv2.imdecode(np.frombuffer(picture(0).bytes, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown, cv2.resize(stored, (320, 240), interpolation=cv2.INTER_AREA))
    assert (image["width"], image["height"]) == ("640", "480")  # of the stored picture: boxes need no arithmetic
    assert [found["viewbox"] for found in page.of("svg")] == ["0 0 640 480"] * 2
    assert page.of("use") == [{"href": f"#{image['id']}"}]


def test_boxes_of_the_sample_are_solid_and_those_of_the_annotation_dashed(run):
    regions = (Region("liver", "Liver", Box(64, 48, 320, 240)), Region("spleen", "S", Box(400, 50, 500.5, 100)))
    run.write("ingest", [record(0, regions)])
    run.write("generate", [sample(record(0), "grounding", boxes=[("liver", Box(64, 48, 320, 240))])])
    page = run.page()
    assert [(found["class"], found["d"]) for found in page.of("path")] == [
        ("asked", "M64 48H320V240H64z"),
        ("known", "M400 50H500.5V100H400z"),
    ]
    assert "<title>spleen</title>" in page.html


def test_a_sample_shows_its_turns_its_past_and_the_pictures_flags(run):
    run.write("ingest", [record(0)])
    run.write("generate", [sample(record(0), "reasoning", reasoning="Bright, on the right.")])
    run.write("curate", [{"id": sample(record(0), "reasoning").id, "record": "toy/c0/image", "group": "c0",
                          "split": "train", "weight": 1.0, "removed": None}])  # fmt: skip
    shown = run.page().text["Gallery"]
    assert "userWhat is shown?reasoningBright, on the right.assistantThe liver." in shown
    assert "reasoning.en@abc123 · openai_api · gpt-4o" in shown
    assert "checks passed: language, names_label" in shown
    assert "reasoningenby modeltrain" in shown
    assert "640 × 480 pxplane axialsoft_tissue -160..2400.75 mm/pxgeometry knownoblique_4_deg" in shown


def test_a_text_record_is_quoted(run):
    run.write("ingest", [record(0, (), image=False)])
    run.write("generate", [sample(record(0, image=False), "text")])
    page = run.page()
    assert page.of("svg") == []
    assert "A note." in page.text["Gallery"]


def test_the_gallery_is_bounded_and_spread_over_kinds_and_sources(run):
    many = [record(n) for n in range(30)]
    other = record(0, source="empty")
    run.write("ingest", many)
    run.write("ingest", [other], source="empty")
    run.write("generate", [*map(sample, many), sample(many[0], "vqa_yesno"), sample(many[1], "grounding")])
    run.write("generate", [sample(other)], source="empty")
    page = run.page()
    shown = page.text["Gallery"]
    assert len(page.of("article")) == GALLERY
    assert shown.count("vqa_yesno.en@") == shown.count("grounding.en@") == 1
    assert shown.count("empty/c0/image#caption.en") == 1


def test_the_same_run_gives_the_same_page(run):
    run.write("ingest", [record(n) for n in range(30)])
    run.write("generate", [sample(record(n), kind) for n in range(30) for kind in ("caption", "vqa_open")])
    assert run.page().html == run.page().html
    again = Run(run.plan, run.store, Manifest(run.store))  # read anew from the disk
    assert again.page().html == run.page().html
