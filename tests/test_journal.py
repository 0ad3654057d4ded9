"""The journal: every paid reply once, found again, and nothing lost but the line that a kill tore."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from pipeline.coordinator import Shared
from pipeline.generate import journal as module
from pipeline.generate.journal import FLUSH_S, Journal, Totals, totals
from pipeline.generate.stage import flush_often
from pipeline.records import Reply, Usage
from pipeline.store import Store, json_lines

SHARD = "toy-00000-of-00002"


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "run"))


@pytest.fixture
def bucket():
    """Open a store that is no local folder, again and again: pyarrow's file system in memory."""
    first = Store("mock:///bucket")
    first.fs.create_dir(first.at("journal"))  # an object store knows no folders, this one does

    def again():
        store = Store("mock:///bucket")
        store.fs = first.fs
        return store

    return again


def reply(key, text='{"caption": "x"}', outcome="ok", **how):
    given = {"usage": Usage(120, 30, 20), "model": "m", "endpoint": "http://127.0.0.1:1/v1", "latency_s": 0.25}
    return Reply(key, outcome, text, "stop", **{**given, **how})


def written(store, name, *replies, cost=0.5):
    segment = Journal(store).segment(name)
    for one in replies:
        segment.add(one, cost)
    segment.flush(sync=True)


def test_a_reply_is_found_again_as_it_was(store):
    written(store, SHARD, reply("k1"), reply("k2", "肺\u2028\ud800"))
    again = Journal(store)
    assert again.find("k1") == reply("k1")
    assert again.find("k2").text == "肺\u2028?"  # a lone surrogate is no text
    assert again.find("k3") is None


def test_a_failure_is_written_and_never_found(store):
    failures = ["bad_item", "truncated", "empty", "refused", "filtered", "throttle", "retry"]
    written(store, SHARD, *[reply(outcome, outcome=outcome) for outcome in failures])
    again = Journal(store)
    assert [again.find(outcome) for outcome in failures] == [None] * 7
    rows = list(json_lines(store.read(f"journal/{SHARD}-0001.jsonl")))
    assert [row["outcome"] for row in rows] == failures


def test_a_later_success_is_found_after_a_failure(store):
    written(store, SHARD, reply("k", "no", "retry"))
    written(store, SHARD, reply("k", "yes"))
    assert Journal(store).find("k").text == "yes"


def test_segments_are_numbered_and_never_written_again(store):
    for _ in range(3):
        written(store, SHARD, reply("k"))
    written(store, "toy-00001-of-00002", reply("k"))
    assert store.list("journal") == [
        "journal/toy-00000-of-00002-0001.jsonl",
        "journal/toy-00000-of-00002-0002.jsonl",
        "journal/toy-00000-of-00002-0003.jsonl",
        "journal/toy-00001-of-00002-0001.jsonl",
    ]


def test_a_segment_without_rows_leaves_no_file(store):
    Journal(store).segment(SHARD).flush(sync=True)
    assert store.list("journal") == []


def test_replies_are_found_across_the_segments_of_other_shards(store):
    written(store, SHARD, reply("k1"))
    written(store, "other-00007-of-00009", reply("k2"))
    again = Journal(store)
    assert [again.find(key).key for key in ("k1", "k2")] == ["k1", "k2"]


def test_what_is_kept_is_found_without_reading_the_store(store):
    journal = Journal(store)
    journal.keep(reply("k"))
    assert journal.find("k") == reply("k")


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_left_out_and_the_rest_found(store, cut):
    written(store, SHARD, reply("k1"), reply("k2"))
    file = f"journal/{SHARD}-0001.jsonl"
    Path(store.at(file)).write_bytes(store.read(file)[:-cut])
    again = Journal(store)
    assert (again.find("k1"), again.find("k2")) == (reply("k1"), None)


def test_after_a_kill_the_next_writer_goes_on_in_a_new_segment(store):
    written(store, SHARD, reply("k1"), reply("k2"))
    torn = Path(store.at(f"journal/{SHARD}-0001.jsonl"))
    torn.write_bytes(torn.read_bytes()[:-30])
    before = torn.read_bytes()
    written(store, SHARD, reply("k2"), reply("k3"))
    assert torn.read_bytes() == before
    again = Journal(store)
    assert [again.find(key).key for key in ("k1", "k2", "k3")] == ["k1", "k2", "k3"]


def test_a_line_torn_in_the_middle_takes_no_other_with_it(store):
    written(store, SHARD, reply("k1"), reply("k2"), reply("k3"))
    path = Path(store.at(f"journal/{SHARD}-0001.jsonl"))
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[: len(second) // 2] + b"\n" + b"\0" * 40 + b"\n" + third)
    again = Journal(store)
    assert [again.find(key) is not None for key in ("k1", "k2", "k3")] == [True, False, True]


def wait_for(seen, seconds):
    """Wait until something is seen from outside, at most so long."""
    until = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < until, f"not seen within {seconds} s"
        time.sleep(0.01)


def test_a_reply_is_handed_to_the_system_within_half_a_second(store):
    async def write_and_look():
        segment = Journal(store).segment(SHARD)
        flusher = asyncio.create_task(flush_often(segment, Shared(1, {})))
        segment.add(reply("k"), None)
        await asyncio.to_thread(wait_for, lambda: Journal(Store(store.root)).find("k") is not None, 0.5)
        flusher.cancel()

    asyncio.run(write_and_look())
    assert FLUSH_S <= 0.25


def test_a_journal_that_can_not_be_written_stops_the_run(store, tmp_path):
    coordinator = Shared(1, {})

    async def write():
        segment = Journal(store).segment(SHARD)
        (tmp_path / "run").write_text("a file where the folder should be")
        segment.add(reply("k"), None)
        await flush_often(segment, coordinator)

    asyncio.run(write())
    assert coordinator.stopped() == "the journal can not be written: Not a directory"


def test_adding_flushes_what_has_waited(store, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_S", 0.0)
    Journal(store).segment(SHARD).add(reply("k"), None)
    assert Journal(store).find("k") == reply("k")


@pytest.mark.parametrize("text", ["", '{"caption": "x"}', "肺" * 5_000], ids=["empty", "short", "long"])
def test_a_row_costs_at_most_500_bytes_over_its_text(store, text):
    written(
        store,
        SHARD,
        reply("f" * 64, text, model="lingshu-medical-mllm/Lingshu-32B", endpoint="https://api.openai.com/v1"),
    )
    data = store.read(f"journal/{SHARD}-0001.jsonl")
    assert len(data) <= len(text.encode()) + 500


def test_a_row_holds_these_and_nothing_else(store):
    written(store, SHARD, reply("k"), cost=None)
    (row,) = json_lines(store.read(f"journal/{SHARD}-0001.jsonl"))
    assert set(row) == {
        "key", "outcome", "text", "finish_reason", "input_tokens", "output_tokens", "cached_tokens", "model",
        "endpoint", "attempts", "latency_s", "at",
    }  # fmt: skip
    assert (row["latency_s"], row["input_tokens"]) == (0.25, 120)
    assert abs(row["at"] - time.time()) < 60


def test_totals_add_up_and_keep_what_is_unknown_apart(store):
    written(store, SHARD, reply("k1"), reply("k2"), reply("k3", outcome="refused"))
    written(store, SHARD, reply("k4"), cost=None)
    assert totals(store) == Totals(replies=3, failures=1, input_tokens=480, output_tokens=120, cost=1.5, unpriced=1)
    assert totals(Store(store.root), "nothing") == Totals(0, 0, 0, 0, 0.0, 0)


def test_an_object_store_gets_the_whole_segment_at_every_flush(bucket):
    store = bucket()
    assert store.local is False
    segment = Journal(store).segment(SHARD)
    for n in range(3):
        segment.add(reply(f"k{n}"), None)
        segment.flush()
        again = Journal(bucket())
        assert [again.find(f"k{m}") is not None for m in range(3)] == [m <= n for m in range(3)]
    written(bucket(), SHARD, reply("k3"))
    assert bucket().list("journal") == [f"journal/{SHARD}-0001.jsonl", f"journal/{SHARD}-0002.jsonl"]
    assert len(bucket().read(f"journal/{SHARD}-0001.jsonl").splitlines()) == 3


def test_an_object_store_that_cut_a_segment_loses_only_its_last_line(bucket):
    written(bucket(), SHARD, reply("k1"), reply("k2"))
    store = bucket()
    store.write(f"journal/{SHARD}-0001.jsonl", store.read(f"journal/{SHARD}-0001.jsonl")[:-9])
    again = Journal(bucket())
    assert (again.find("k1"), again.find("k2")) == (reply("k1"), None)


def test_a_file_url_is_a_journal_too(tmp_path):
    store = Store((tmp_path / "a folder").as_uri())
    written(store, SHARD, reply("k"))
    assert Journal(Store((tmp_path / "a folder").as_uri())).find("k") == reply("k")
    assert json.loads((tmp_path / "a folder" / "journal" / f"{SHARD}-0001.jsonl").read_text())["key"] == "k"
