"""Every entry of the catalog, over a miniature of the layout that its page publishes."""

import functools
from collections import Counter
from typing import Any, NamedTuple

import miniatures
import pytest

from pipeline import catalog, discovery, vocabulary
from pipeline import plan as plans
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.settings import Settings

WORDS = vocabulary.load()
ENTRIES = discovery.names("sources/catalog", ".yaml")
MOST_UNVERIFIED = 10


class Ingested(NamedTuple):
    mini: dict[str, Any]
    plan: plans.SourcePlan
    reads: tuple[Any, ...]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    @functools.cache
    def read(name: str) -> Ingested:
        mini = miniatures.load(name)
        data = tmp_path_factory.mktemp(name)
        miniatures.write(data, mini["files"])
        found = plans.open_source(name, Settings(sources=(), data=str(data)), WORDS)
        source = Source(found.descriptor, found.root, WORDS)
        return Ingested(mini, found, tuple(read_case(case, source) for case in found.cases.cases))

    return read


def test_there_is_a_miniature_of_every_entry():
    assert miniatures.NAMES == ENTRIES


@pytest.mark.parametrize("name", ENTRIES)
def test_a_miniature_has_the_names_of_the_published_listing(name):
    assert miniatures.unlisted(miniatures.load(name), catalog.entry(name).root) == []


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_where_it_is_from_and_what_it_was_checked_against(name):
    found = catalog.entry(name)
    assert found.id == name
    assert found.url
    assert found.url.startswith("https://")
    assert found.citation
    assert found.license.name
    assert found.license.url or found.license.name != "custom"
    assert found.checked
    assert all(said.strip() for said in found.checked)
    assert found.expect.cases


def test_few_entries_hold_a_doubt():
    doubted = [name for name in ENTRIES if catalog.entry(name).unverified]
    assert len(doubted) <= MOST_UNVERIFIED


@pytest.mark.parametrize("name", ENTRIES)
def test_cases_groups_and_rejections_are_those_of_the_listing(name, ingested):
    mini, plan, reads = ingested(name)
    assert sorted(case.id for case in plan.cases.cases) == sorted(mini["expect"]["cases"])
    rejected = Counter(row.reason for read in reads for row in read.rejected)
    assert rejected == mini["expect"].get("rejected", {}), [row.detail for read in reads for row in read.rejected]
    groups = {case.id: case.group for case in plan.cases.cases}
    assert {id_: groups[id_] for id_ in mini["expect"].get("groups", {})} == mini["expect"].get("groups", {})
    unclaimed = sorted(path for path in plan.cases.unclaimed)
    assert unclaimed == sorted(mini["expect"].get("unclaimed", []))


@pytest.mark.parametrize("name", ENTRIES)
def test_regions_and_labels_are_those_that_were_painted(name, ingested):
    mini, _, reads = ingested(name)
    records = [record for read in reads for record in read.records]
    expect = mini["expect"]
    regions = [(record, region) for record in records for region in record.regions]
    assert Counter(_said(region) for _, region in regions if region.box) == expect.get("regions", {})
    assert Counter(_said(region) for _, region in regions if not region.box) == expect.get("labels", {})
    assert _negatives(records) == expect.get("negatives", {})
    for case, label, *box in expect.get("boxes", []):
        of_case = [region for record, region in regions if record.case == case]
        found = [list(region.box) for region in of_case if region.box and _said(region) == label]
        assert box in found, f"{case}: {label}"


def _said(region) -> str:
    return WORDS.name(region.label, f"raw {region.raw}", "en", region.side)


def _negatives(records) -> dict[str, int]:
    """Count the pictures on which a label was looked for and is not."""
    seen = [({region.label for region in record.regions} | set(record.doubted), record) for record in records]
    absent = Counter(label for there, record in seen for label in record.annotated if label not in there)
    return {WORDS.name(label, label, "en"): count for label, count in absent.items()}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_label_is_in_the_vocabulary_in_both_languages(name, ingested):
    _, plan, reads = ingested(name)
    said = {label for spec in plan.descriptor.specs for label in _labels(spec)}
    unknown = sorted(label for label in said if WORDS.meaning(label).concept is None)
    assert unknown == []
    unread = {region.raw for read in reads for record in read.records for region in record.regions if not region.label}
    assert unread == set()


def _labels(spec) -> list[str]:
    rules = [spec.rule(raw) for raw in spec.labels]
    return [rule.label for rule in rules if rule.label and not rule.drop]


NO_DEPARTMENT = {"abnormality", "normal", "prostate_or_uterus"}
"""Concepts that belong to no one department on the pictures of some entry."""
NO_TASK = {
    *("blood_in_surgical_field", "cancer_associated_stroma", "cell_debris", "connective_tissue"),
    *("dyed_resection_margin", "mucus", "normal_colon_mucosa", "slide_background"),
}
"""Tissue and matter that is seen on pictures and is what none of the clinical tasks is about."""


def test_labels_have_a_department_and_a_task_on_the_pictures_of_their_entry():
    lacking: dict[str, set[str]] = {"department": set(), "task": set()}
    for name in ENTRIES:
        entry = catalog.entry(name)
        modalities = ["ct", "mr"] if "{" in entry.modality else [WORDS.modality(entry.modality, name)]
        for label in {label for spec in entry.specs for label in _labels(spec)}:
            concept = WORDS.concepts[WORDS.meaning(label).concept]
            for column, found in lacking.items():
                table = getattr(concept, column)
                if any(modality not in table and "default" not in table for modality in modalities):
                    found.add(concept.id)
    assert lacking == {"department": NO_DEPARTMENT, "task": NO_TASK}
