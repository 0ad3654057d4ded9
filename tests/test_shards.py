"""The cut of a source into shards."""

import hashlib

import pytest

from pipeline import shards
from pipeline.records import Case, Shard


def case(id_: str) -> Case:
    return Case(id_, "toy", id_, {}, {})


@pytest.mark.parametrize(
    ("cases", "form", "count"),
    [
        (0, "picture", 1),
        (1, "picture", 1),
        (255, "picture", 1),
        (256, "picture", 2),
        (1000, "picture", 8),
        (9, "volume", 2),
        (1000, "series", 256),
        (10_000_000, "picture", 4096),
    ],
)
def test_a_source_has_a_power_of_two_shards(cases, form, count):
    assert shards.count_for(cases, form) == count


def test_a_case_goes_to_a_shard_by_the_hash_of_its_id():
    for id_ in ("a", "Viral_pneumonia/x", "肺/1"):
        assert shards.index_of(id_, 64) == int(hashlib.sha256(id_.encode()).hexdigest()[:16], 16) % 64


def test_one_added_case_touches_one_shard():
    cases = [case(f"c{n}") for n in range(200)]
    before = shards.cut("toy", cases, 16)
    after = shards.cut("toy", [*cases[:77], case("new"), *cases[77:]], 16)
    changed = [shard for shard in after if after[shard] != before.get(shard)]
    assert changed == [Shard("toy", shards.index_of("new", 16), 16)]


def test_every_case_is_in_one_shard_and_empty_shards_are_left_out():
    cut = shards.cut("toy", [case(f"c{n}") for n in range(5)], 4096)
    assert sorted(c.id for part in cut.values() for c in part) == ["c0", "c1", "c2", "c3", "c4"]
    assert len(cut) <= 5
    assert [shard.index for shard in cut] == sorted(shard.index for shard in cut)


def test_a_shards_stem_counts_from_zero():
    assert Shard("toy", 3, 64).stem == "00003-of-00064"
