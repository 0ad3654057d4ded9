"""Generate: every planned request ends as a sample or as a rejected row, is paid once, and goes only where it may."""

import asyncio
import hashlib
import io
import json
import re
import socket
import time
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from fake_openai import FakeOpenAI
from PIL import Image
from test_facts import KIDNEY_SPACE, VOCABULARY, chest, kidneys, smear

from pipeline.coordinator import Shared
from pipeline.errors import Stopped, UserError
from pipeline.generate import checks, prompting, stage
from pipeline.generate.journal import Journal, totals
from pipeline.generate.stage import Generator, Outcome, forbidden, plan
from pipeline.records import Reply
from pipeline.settings import BackendSpec
from pipeline.store import Store, json_lines

MODEL_PROMPTS = ("caption", "vqa_open")
ONE_PROMPT = """---
kind: caption
needs: [labels]
reply: {caption: text}
sampling: {max_tokens: 100}
---
=== user
<facts>
{{ facts | json }}
</facts>
Write a caption.

=== sample user
Describe the picture.

=== sample assistant
{{ reply.caption }}
"""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Between retries a run waits half a second and longer; here ten milliseconds and a little more."""
    monkeypatch.setattr(stage, "RETRY_S", 0.01)


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "run"))


def with_picture(record, n):
    """Give a record a picture of its own, and an id."""
    sink = io.BytesIO()
    picture = record.picture
    Image.new("L", (picture.width, picture.height), n).save(sink, format="PNG")
    data = sink.getvalue()
    return replace(
        record, id=f"{record.id}.{n}", picture=replace(picture, bytes=data, sha256=hashlib.sha256(data).hexdigest())
    )


def records_of(count, **how):
    """Make records of the three kinds, each with another picture."""
    kinds = (kidneys, chest, smear)
    return [with_picture(kinds[n % 3](**how), n) for n in range(count)]


def caption(text=ONE_PROMPT, name="caption", language="en"):
    return prompting.parse(text, name, language, f"{name}.{language}.md")


class Ran(NamedTuple):
    """What became of a run of one shard."""

    outcome: Outcome
    shared: Shared

    @property
    def reasons(self):
        return Counter(row.reason for row in self.outcome.rejected)


def run(url, records, store, prompts=None, shared=None, space=KIDNEY_SPACE, max_side=None, **how):
    """Generate one shard against a server."""
    given = {"backend": "openai_api", "model": "fake-vlm", "base_url": url, "timeout_s": 10, "concurrency": 8}
    backends = {"default": BackendSpec(**{**given, **how})}
    shared = shared or Shared(1, {spec.base_url: spec.concurrency for spec in backends.values()})

    async def one_shard():
        generator = Generator(prompts or [caption()], backends, VOCABULARY, Journal(store), shared, max_side)
        try:
            return await generator.generate("toy-00000-of-00001", records, space, "0")
        finally:
            await generator.close()

    outcome = asyncio.run(one_shard())
    assert outcome.planned == len(outcome.samples) + len(outcome.rejected)
    ids = [sample.id for sample in outcome.samples] + [row.id for row in outcome.rejected]
    assert len(set(ids)) == len(ids)
    return Ran(outcome, shared)


def stopped(url, *args, **how):
    """Run and return the one line with which it stops."""
    shared = Shared(1, {url: how.get("concurrency", 8)})
    with pytest.raises(Stopped) as caught:
        run(url, *args, shared=shared, **how)
    assert "\n" not in str(caught.value)
    assert shared.stopped() == str(caught.value)
    return str(caught.value)


def rows(store):
    """Return all rows of the journal."""
    return [row for file in store.list("journal") for row in json_lines(store.read(file))]


def package(*names, languages=("en", "zh")):
    return prompting.load(names, languages)


# ---- samples


def test_a_shard_becomes_a_sample_for_every_record_prompt_and_language(store):
    records = records_of(6)
    with FakeOpenAI() as server:
        found = run(server.url, records, store, package(*MODEL_PROMPTS))
        stats = server.stats()
    assert found.outcome.planned == len(found.outcome.samples) == 6 * 2 * 2
    assert found.outcome.rejected == []
    assert (stats["requests"], stats["distinct"], stats["repeated"]) == (24, 24, [])
    assert {sample.id for sample in found.outcome.samples} == {
        f"{record.id}#{kind}.0.{language}" for record in records for kind in MODEL_PROMPTS for language in ("en", "zh")
    }
    assert all(asked.has_schema and len(asked.image_sizes) == 1 for asked in server.requests)


def test_a_sample_knows_where_it_comes_from(store):
    (record,) = [with_picture(kidneys(), 1)]
    with FakeOpenAI() as server:
        (sample,) = run(server.url, [record], store, package("caption", languages=("en",))).outcome.samples
        (asked,) = server.requests
    assert (sample.id, sample.records, sample.kind, sample.language) == (
        f"{record.id}#caption.0.en",
        (record.id,),
        "caption",
        "en",
    )
    assert (
        sample.answer == sample.messages[1].content == "This CT picture shows right kidney, left kidney, kidney tumor."
    )
    assert [turn.role for turn in sample.messages] == ["user", "assistant"]
    assert [name for name, _ in sample.boxes] == ["right kidney", "left kidney", "kidney tumor"]
    assert (sample.checks, sample.made_by, sample.answer_type) == (("language", "names_label"), "model", "text")
    (call,) = sample.calls
    (row,) = rows(store)
    assert (call.prompt, call.backend, call.model) == (package("caption")[0].label, "openai_api", "fake-vlm")
    assert (call.key, call.input_tokens, call.output_tokens) == (row["key"], row["input_tokens"], row["output_tokens"])
    assert call.input_tokens == len(asked.text) // 4 + 85
    assert call.cost is None  # the price of fake-vlm is unknown


def test_templates_ask_nobody_and_are_not_in_the_journal(store):
    names = [
        name for name in prompting.available() if name.startswith(("perception", "vqa_yesno", "vqa_choice", "caption"))
    ]
    prompts = [prompt for prompt in package(*names) if prompt.head.backend == "template"]
    with FakeOpenAI() as server:
        found = run(server.url, records_of(6), store, prompts)
        assert server.stats()["requests"] == 0
    assert found.outcome.rejected == []
    assert found.outcome.planned == len(found.outcome.samples) > 60
    assert {sample.made_by for sample in found.outcome.samples} == {"template"}
    assert {call.cost for sample in found.outcome.samples for call in sample.calls} == {0.0}
    assert store.list("journal") == []
    assert found.shared.spent() == (0, 0, 0.0, False)


def test_both_languages_ask_about_the_same_region():
    asks = plan(records_of(9), package("vqa_open", "reasoning"), VOCABULARY, KIDNEY_SPACE, "0")
    by_language = {
        language: [a.facts.target.px for a in asks if a.prompt.language == language] for language in ("en", "zh")
    }
    assert by_language["en"] == by_language["zh"]
    assert len(asks) == 9 * 2 * 2
    assert [ask.record.id for ask in asks] == sorted(
        (ask.record.id for ask in asks), key=lambda i: int(i.rpartition(".")[2])
    )


def test_requests_of_a_picture_stay_together(store):
    with FakeOpenAI() as server:
        run(server.url, records_of(5), store, package("caption", "vqa_open", "reasoning"), concurrency=1)
        hashes = [asked.image_hashes[0] for asked in server.requests]
        assert server.stats()["max_in_flight"] == 1
    assert len(hashes) == 5 * 6
    assert len([n for n in range(1, len(hashes)) if hashes[n] != hashes[n - 1]]) == 4


def test_the_pictures_that_are_sent_are_the_records_own(store):
    records = records_of(4)
    with FakeOpenAI() as server:
        run(server.url, records, store)
        assert {asked.image_hashes[0] for asked in server.requests} == {record.picture.sha256 for record in records}
        server.reset()
        run(server.url, records, Store(store.root + "-2"), max_side=64)
        assert {max(asked.image_sizes[0]) for asked in server.requests} == {64}


def test_a_server_is_asked_no_more_at_once_than_its_concurrency(store):
    with FakeOpenAI(latency_s=0.01, capacity=6) as server:
        found = run(server.url, records_of(40), store, concurrency=6)
        stats = server.stats()
    assert (len(found.outcome.samples), stats["max_in_flight"], stats["requests"]) == (40, 6, 40)


def test_roles_with_the_same_backend_share_its_slots(store):
    other_role = caption(
        ONE_PROMPT.replace("kind:", "role: merge\nkind:").replace("a caption", "one caption"), "caption.merge"
    )
    with FakeOpenAI(latency_s=0.02) as server:
        found = run(server.url, records_of(16), store, [caption(), other_role], concurrency=4)
        assert server.stats()["max_in_flight"] == 4
    assert len(found.outcome.samples) == 32


# ---- faults


def test_every_planned_request_ends_as_a_sample_or_a_rejected_row(store):
    faults = {
        "500": 0.05, "503": 0.03, "429": 0.08, "400": 0.03, "not_json": 0.06, "empty": 0.05, "refusal": 0.04,
        "content_filter": 0.03, "length": 0.05, "no_choices": 0.03, "error_body": 0.02, "bad_body": 0.02, "cut": 0.02,
        "html": 0.02,
    }  # fmt: skip
    with FakeOpenAI(faults, retry_after=0.01) as server:
        found = run(server.url, records_of(90), store, package(*MODEL_PROMPTS))
        stats = server.stats()
    assert found.outcome.planned == 90 * 2 * 2 == len(found.outcome.samples) + len(found.outcome.rejected)
    assert set(stats["faults"]) == set(faults)
    assert set(found.reasons) <= {
        "request_refused", "model_refused", "content_filtered", "reply_not_json", "reply_empty", "reply_truncated",
    }  # fmt: skip
    assert found.reasons["request_refused"] == stats["faults"]["400"]
    assert found.reasons["model_refused"] == stats["faults"]["refusal"]
    assert found.reasons["content_filtered"] == stats["faults"]["content_filter"]
    assert (
        totals(store).replies == len(found.outcome.samples) + stats["faults"]["not_json"]
    )  # text is paid for, whatever it is


@pytest.mark.parametrize(
    ("mode", "reason", "asked"),
    [
        ("500", "server_error", 5),
        ("no_choices", "server_error", 5),
        ("400", "request_refused", 1),
        ("refusal", "model_refused", 1),
        ("content_filter", "content_filtered", 1),
        ("empty", "reply_empty", 2),
        ("length", "reply_truncated", 2),
        ("not_json", "reply_not_json", 2),
    ],
)
def test_a_fault_that_stays_ends_with_its_reason(store, mode, reason, asked):
    with FakeOpenAI({mode: 1.0}) as server:
        found = run(server.url, records_of(1), store)
        assert server.stats()["requests"] == asked
    (row,) = found.outcome.rejected
    assert (row.id, row.level, row.stage, row.reason) == ("ct/a@z3.0#caption.0.en", "sample", "generate", reason)
    assert len(row.detail) <= 300


def test_a_server_that_hangs_ends_as_a_server_error(store):
    with FakeOpenAI({"hang": 1.0}) as server:
        found = run(server.url, records_of(1), store, timeout_s=0.1)
    (row,) = found.outcome.rejected
    assert (row.reason, row.detail) == ("server_error", "no whole reply within 0.1 s")


def test_a_server_that_is_always_full_ends_as_busy(store, monkeypatch):
    monkeypatch.setattr(stage, "THROTTLED_S", 0.1)
    with FakeOpenAI({"429": 1.0}, retry_after=0.03) as server:
        found = run(server.url, records_of(1), store)
        asked = server.stats()["requests"]
    assert found.reasons == {"server_busy": 1}
    assert 4 <= asked <= 6  # 0.03 s each, until more than 0.1 s have been waited


def test_a_full_server_costs_no_attempt(store):
    with FakeOpenAI(lambda _hash, seen, _text: "429" if seen < 12 else None, retry_after=0.01) as server:
        found = run(server.url, records_of(1), store)
        assert server.stats()["faults"] == {"429": 12}
    assert len(found.outcome.samples) == 1
    assert [row["outcome"] for row in rows(store)] == ["ok"]


@pytest.mark.parametrize("modes", [("500",), ("500", "cut", "no_choices", "html"), ("429", "500", "503", "500")])
def test_a_fault_that_passes_costs_nothing_but_time(store, modes):
    with FakeOpenAI(lambda _hash, seen, _text: modes[seen] if seen < len(modes) else None, retry_after=0.01) as server:
        found = run(server.url, records_of(2), store)
        assert server.stats()["requests"] == 2 * (len(modes) + 1)
    assert (len(found.outcome.samples), found.outcome.rejected) == (2, [])


def test_a_retry_after_a_server_error_is_the_same_request(store):
    with FakeOpenAI(lambda _hash, seen, _text: "500" if seen == 0 else None) as server:
        run(server.url, records_of(1), store)
        first, second = server.requests
    assert first.request_hash == second.request_hash


def test_a_reply_that_can_not_be_used_is_asked_for_once_more_as_another_request(store):
    asked_before = set()

    def rule(request_hash, _seen, _text):
        asked_before.add(request_hash)
        return "not_json" if len(asked_before) == 1 else None

    with FakeOpenAI(rule) as server:
        (sample,) = run(server.url, records_of(1), store).outcome.samples
        assert server.stats()["distinct"] == server.stats()["requests"] == 2
    first, second = rows(store)
    assert (first["outcome"], second["outcome"]) == ("ok", "ok")
    assert first["key"] != second["key"] == sample.calls[1].key
    assert [(call.stage, call.key) for call in sample.calls] == [("unusable", first["key"]), ("default", second["key"])]


def test_a_reply_that_fails_a_check_is_rejected_with_the_checks_name(store):
    text = ONE_PROMPT.replace("kind:", "checks: [language]\nkind:")
    odd = text.replace("{{ facts | json }}", '{"language": "zh", "labels": ["肝"]}')  # the server answers in Chinese
    with FakeOpenAI() as server:
        found = run(server.url, records_of(1), store, [caption(odd)])
        assert server.stats()["requests"] == 2  # asked once more
    (row,) = found.outcome.rejected
    assert (row.reason, row.detail) == ("check_language", "asked for English, the reply holds Chinese")


# ---- the journal


def test_a_second_run_asks_the_server_nothing(store):
    records, prompts = records_of(8), package(*MODEL_PROMPTS)
    with FakeOpenAI() as server:
        first = run(server.url, records, store, prompts)
        server.reset()
        again = run(server.url, records, store, prompts)
        assert server.stats()["requests"] == 0
    assert again.outcome == first.outcome
    assert again.shared.spent() == (0, 0, 0.0, False)


def test_a_run_that_was_cut_short_pays_only_for_the_rest(store):
    records = records_of(9)
    with FakeOpenAI() as server:
        run(server.url, records[:4], store)
        server.reset()
        whole = run(server.url, records, store)
        assert server.stats()["requests"] == 5
    assert len(whole.outcome.samples) == 9


def test_a_changed_check_or_sample_text_pays_nothing(store, monkeypatch):
    with FakeOpenAI() as server:
        run(server.url, records_of(4), store)
        server.reset()
        changed = ONE_PROMPT.replace("kind:", "checks: [names_label]\nkind:").replace("Describe the", "Tell of this")
        found = run(server.url, records_of(4), store, [caption(changed)])
        monkeypatch.setitem(checks.CHECKS, "names_label", lambda ask, reply: "nothing is ever right")
        strict = run(server.url, records_of(4), store, [caption(changed)])
        assert server.stats()["requests"] == 4  # the strict check's: each reply it refuses is asked for once more
        server.reset()
        assert run(server.url, records_of(4), store, [caption(changed)]).reasons == {"check_names_label": 4}
        assert server.stats()["requests"] == 0
    assert {sample.messages[0].content for sample in found.outcome.samples} == {"Tell of this picture."}
    assert strict.reasons == {"check_names_label": 4}


def test_a_changed_prompt_pays_for_its_own_rows_only(store):
    prompts = package(*MODEL_PROMPTS, languages=("en",))
    changed = replace(prompts[1], sections={**prompts[1].sections, "user": prompts[1].sections["user"] + "\nBe brief."})
    with FakeOpenAI() as server:
        run(server.url, records_of(6), store, prompts)
        server.reset()
        run(server.url, records_of(6), store, [prompts[0], changed])
        assert server.stats()["requests"] == 6
        assert all(asked.text.endswith("Be brief.") for asked in server.requests)


def test_a_failure_of_the_first_run_is_asked_again_in_the_next(store):
    with FakeOpenAI({"refusal": 1.0}) as server:
        assert run(server.url, records_of(3), store).reasons == {"model_refused": 3}
    with FakeOpenAI() as server:
        assert len(run(server.url, records_of(3), store).outcome.samples) == 3
        assert server.stats()["requests"] == 3


def test_identical_requests_are_asked_and_paid_once(store):
    record = with_picture(kidneys(), 1)
    copies = [replace(record, id=f"ct/copy{n}", case=f"copy{n}") for n in range(7)]
    with FakeOpenAI(latency_s=0.05) as server:
        found = run(server.url, copies, store)
        assert server.stats()["requests"] == 1
    assert len(found.outcome.samples) == 7
    assert len({sample.calls[0].key for sample in found.outcome.samples}) == 1
    (row,) = rows(store)
    assert found.shared.spent()[:2] == (row["input_tokens"], row["output_tokens"])


def test_what_is_reported_as_spent_is_the_sum_of_the_usages(store):
    with FakeOpenAI({"not_json": 0.2, "refusal": 0.1, "500": 0.1}, model="gpt-4o") as server:
        found = run(server.url, records_of(30), store, model="gpt-4o")
        sums = totals(store)
        paid = [asked for asked in server.requests if asked.mode in (None, "not_json", "refusal")]
    tokens_in, tokens_out, cost, unpriced = found.shared.spent()
    assert tokens_in == sums.input_tokens == sum(len(asked.text) // 4 + 85 for asked in paid)
    assert tokens_out == sums.output_tokens
    assert cost == pytest.approx(tokens_in * 2.50e-6 + tokens_out * 10e-6)
    assert (cost, unpriced) == (pytest.approx(sums.cost), False)


def test_the_journal_holds_no_picture_and_no_key(store, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
    records = records_of(6)
    with FakeOpenAI({"500": 0.2, "not_json": 0.2}, api_key="sk-secret-of-the-test") as server:
        run(server.url, records, store)
    written = b"".join(store.read(file) for file in store.list("journal"))
    assert b"sk-secret" not in written
    assert b"base64" not in written
    assert b"iVBOR" not in written  # how a PNG begins in base64
    assert max(len(line) for line in written.splitlines()) < 1_000


# ---- the end of a run


def test_a_refused_key_stops_the_run_with_one_line(store):
    with FakeOpenAI(api_key="another") as server:
        said = stopped(server.url, records_of(100), store)
        assert server.stats()["requests"] <= 3 * 8
    assert said == "HTTP 401 invalid_api_key: wrong or absent API key"


@pytest.mark.parametrize(
    ("mode", "said"), [("401", "HTTP 401 invalid_api_key"), ("quota", "HTTP 429 insufficient_quota")]
)
def test_an_account_that_is_closed_stops_the_run_and_what_is_paid_is_kept(store, mode, said):
    with FakeOpenAI(lambda _hash, _seen, text: mode if "red blood cell" in text else None) as server:
        assert stopped(server.url, records_of(30), store, concurrency=2).startswith(said)
        paid = server.stats()["ok"]
    assert 1 <= totals(store).replies <= paid


def test_a_dead_endpoint_stops_the_run_after_a_bounded_number_of_failures(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        said = stopped(url, records_of(60), store)
    failures = int(re.search(r"failed (\d+) times in a row", said)[1])
    assert said.startswith(f"{url} failed ")
    assert said.endswith("; run again to go on")
    assert stage.SILENCE <= failures <= stage.SILENCE + 16


def test_a_server_that_only_fails_stops_the_run(store):
    with FakeOpenAI({"500": 1.0}) as server:
        said = stopped(server.url, records_of(60), store, concurrency=4)
        assert stage.SILENCE <= server.stats()["requests"] <= stage.SILENCE + 8
    assert "failed 25 times in a row (HTTP 500 server_error: injected fault 500)" in said


def test_another_workers_stop_is_obeyed(store):
    shared = Shared(1, {})
    shared.stop("the disk is full")
    with FakeOpenAI() as server, pytest.raises(Stopped, match=r"^the disk is full$"):
        run(server.url, records_of(20), store, shared=shared)
    assert server.stats()["requests"] == 0


def test_a_run_that_stops_does_not_wait_for_a_server_that_hangs(store):
    def rule(_hash, _seen, text):
        return "401" if "red blood cell" in text else "hang"

    started = time.monotonic()
    with FakeOpenAI(rule, hang_s=20) as server:
        stopped(server.url, records_of(6), store, timeout_s=20)
    assert time.monotonic() - started < 5


def test_what_breaks_in_a_backend_is_raised_and_not_waited_for(store):
    records = records_of(12)
    lost = replace(records[5], picture=replace(records[5].picture, bytes=b"no picture"))
    with FakeOpenAI() as server, pytest.raises(AssertionError):  # `pictures.pixels_of` trusts what is stored
        run(server.url, [*records[:5], lost, *records[6:]], store, max_side=64)


def test_a_missing_key_is_a_users_mistake_before_the_first_request(store, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=r"^set OPENAI_API_KEY to the key for api\.example\.com$"):
        run("https://api.example.com/v1", records_of(1), store)


# ---- egress


def spec(url, **how):
    return BackendSpec(backend="openai_api", model="m", base_url=url, **how)


ELSEWHERE, HERE = "https://api.example.com/v1", "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("egress", "to", "allowed"),
    [
        ("any", spec(ELSEWHERE), True),
        ("any", spec(HERE), True),
        ("zero_retention", spec(ELSEWHERE), False),
        ("zero_retention", spec(ELSEWHERE, zero_retention=True), True),
        ("zero_retention", spec(ELSEWHERE, allow_local_data=True), True),
        ("zero_retention", spec(HERE), True),
        ("local", spec(ELSEWHERE), False),
        ("local", spec(ELSEWHERE, zero_retention=True), False),
        ("local", spec(ELSEWHERE, allow_local_data=True), True),
        ("local", spec(HERE), True),
        ("none", spec(ELSEWHERE, zero_retention=True, allow_local_data=True), False),
        ("none", spec(HERE), False),
        ("none", BackendSpec(), True),
    ],
)
def test_where_a_record_may_be_sent(egress, to, allowed):
    refusal = forbidden(replace(kidneys(), egress=egress), to)
    assert refusal == (None if allowed else f"the source's egress is {egress}; the endpoint is not allowed to see it")


@pytest.mark.parametrize(("egress", "sent"), [("none", 0), ("local", 6), ("zero_retention", 6), ("any", 6)])
def test_what_may_not_leave_is_never_sent_and_has_its_row(store, egress, sent):
    with FakeOpenAI() as server:
        found = run(server.url, records_of(6, egress=egress), store)
        assert server.stats()["requests"] == sent
    assert found.reasons == ({"egress": 6} if not sent else {})
    assert len(found.outcome.samples) == sent


@pytest.mark.parametrize("egress", ["none", "local", "zero_retention"])
def test_an_endpoint_elsewhere_gets_nothing_of_a_guarded_source(store, monkeypatch, egress):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with FakeOpenAI() as server:
        # the proxy of the environment would see any request that is made to an endpoint elsewhere
        monkeypatch.setenv("https_proxy", server.url.removesuffix("/v1"))
        monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
        found = run("http://elsewhere.invalid/v1", records_of(5, egress=egress), store)
        assert server.stats() == {**server.stats(), "requests": 0, "statuses": {}}
    assert found.reasons == {"egress": 5}


def test_templates_answer_for_a_source_that_may_not_leave(store):
    prompts = package("caption.plain", "perception.modality")
    with FakeOpenAI() as server:
        found = run(server.url, records_of(3, egress="none"), store, prompts)
        assert server.stats()["requests"] == 0
    assert len(found.outcome.samples) == 3 * 2 * 2


def test_several_shards_share_one_line(store):
    with FakeOpenAI(latency_s=0.01) as server:
        backends = {"default": spec(server.url, concurrency=3).model_copy(update={"model": "fake-vlm"})}

        async def three_shards():
            generator = Generator([caption()], backends, VOCABULARY, Journal(store), Shared(1, {server.url: 3}), None)
            records = records_of(18)
            parts = [records[n::3] for n in range(3)]
            try:
                return await asyncio.gather(
                    *(generator.generate(f"toy-0000{n}-of-00003", part, (), "0") for n, part in enumerate(parts))
                )
            finally:
                await generator.close()

        outcomes = asyncio.run(three_shards())
        assert server.stats()["max_in_flight"] == 3
    assert [len(outcome.samples) for outcome in outcomes] == [6, 6, 6]
    assert store.list("journal") == [f"journal/toy-0000{n}-of-00003-0001.jsonl" for n in range(3)]
    assert Journal(store).find(outcomes[0].samples[0].calls[0].key).outcome == "ok"


def test_a_reply_in_the_journal_is_the_one_that_the_sample_was_made_of(store):
    with FakeOpenAI() as server:
        (sample,) = run(server.url, records_of(1), store).outcome.samples
    kept = Journal(store).find(sample.calls[0].key)
    assert isinstance(kept, Reply)
    assert json.loads(kept.text)["caption"] == sample.answer
