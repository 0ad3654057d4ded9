"""The fake endpoint, seen through the real openai client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_openai
import openai
import pytest
from fake_openai import FakeOpenAI
from openai.types.chat import ChatCompletion
from PIL import Image

FACTS = {"modality": "CT", "language": "en", "labels": ["left kidney", "liver"], "answer": "liver"}
STATUS_ERRORS = {
    "500": openai.InternalServerError,
    "503": openai.InternalServerError,
    "429": openai.RateLimitError,
    "quota": openai.RateLimitError,
    "401": openai.AuthenticationError,
    "400": openai.BadRequestError,
    "html": openai.InternalServerError,
}


def png(width: int = 8, height: int = 6) -> bytes:
    """Draw a grey picture."""
    buffer = io.BytesIO()
    Image.new("L", (width, height), 128).save(buffer, format="PNG")
    return buffer.getvalue()


def messages(facts: dict[str, Any] | None = None, picture: bytes | None = None) -> list[dict[str, Any]]:
    """Lay out one user message with a picture and a facts block."""
    block = f"\n<facts>\n{json.dumps(facts, ensure_ascii=False)}\n</facts>\n" if facts is not None else ""
    url = "data:image/png;base64," + base64.b64encode(picture or png()).decode()
    text = {"type": "text", "text": f"Describe the picture.{block}"}
    return [{"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": url}}]}]


def schema(**properties: Any) -> dict[str, Any]:
    """Lay out a response_format."""
    body = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": body}}


async def ask_all(server: FakeOpenAI, requests: list[dict[str, Any]], **client: Any) -> list[Any]:
    """Send all requests at once and give replies or errors in their order."""
    options = {"api_key": "key", "max_retries": 0, **client}
    async with openai.AsyncOpenAI(base_url=server.url, **options) as api:
        asked = [
            api.chat.completions.create(**{"model": "fake-vlm", "messages": messages(FACTS), **request})
            for request in requests
        ]
        return await asyncio.gather(*asked, return_exceptions=True)


def ask(server: FakeOpenAI, client: dict[str, Any] | None = None, **request: Any) -> ChatCompletion:
    """Send one request; its error is raised."""
    (reply,) = asyncio.run(ask_all(server, [request], **(client or {})))
    if isinstance(reply, BaseException):
        raise reply
    assert isinstance(reply, ChatCompletion)
    return reply


def said(reply: ChatCompletion) -> str:
    """Give the text of a reply."""
    return reply.choices[0].message.content or ""


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that happens in the server's thread, 10 s at most."""
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_plain_request_gets_an_english_caption_with_the_modality_and_all_labels() -> None:
    with FakeOpenAI() as server:
        reply = ask(server)
    assert said(reply) == "This CT picture shows left kidney, liver."
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(server.requests[0].text) // 4 + 85
    assert reply.usage.completion_tokens == len(said(reply)) // 4


def test_a_request_in_chinese_gets_a_chinese_caption() -> None:
    with FakeOpenAI() as server:
        reply = ask(server, messages=messages({"modality": "CT", "language": "zh", "labels": ["肝", "脾"]}))
    assert said(reply) == "这是一张CT图像。图中可见肝、脾。"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_request_without_labels_or_facts_still_gets_a_text(language: str) -> None:
    with FakeOpenAI() as server:
        assert said(ask(server, messages=messages({"language": language})))
        assert said(ask(server, messages=messages(None)))
        assert said(ask(server, messages=[{"role": "user", "content": "<facts>\nnot json\n</facts>"}]))


def test_a_schema_is_filled_by_property_name_and_type() -> None:
    text = {"type": "string"}
    asked = schema(
        caption=text, question=text, answer=text, reasoning=text, other=text, mismatch={"type": "boolean"},
        labels={"type": "array", "items": text}, count={"type": "integer", "minimum": 1},
        score={"anyOf": [{"type": "null"}, {"type": "number"}]},
        side={"type": "string", "enum": ["left", "right"]}, note={"type": ["null", "string"]},
        padded={"type": "array", "items": text, "minItems": 3},
    )  # fmt: skip
    with FakeOpenAI() as server:
        found = json.loads(said(ask(server, response_format=asked)))
        assert server.requests[0].has_schema
    assert set(found) == set(asked["json_schema"]["schema"]["properties"])
    assert "CT" in found["caption"]
    assert "left kidney" in found["caption"]
    assert "liver" in found["caption"]
    assert "liver" not in found["question"]
    assert found["answer"] == "liver"
    assert found["reasoning"].endswith("liver.")
    assert found["mismatch"] is False
    assert found["labels"] == ["left kidney", "liver"]
    assert len(found["padded"]) == 3
    assert (found["count"], found["score"], found["side"]) == (1, 0.0, "left")
    assert found["other"]
    assert found["note"]


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ({"labels": ["spleen"]}, "spleen"),
        ({}, "unknown"),
        ({"language": "zh"}, "未知"),
        ({"modality": "CT", "answer": "CT"}, "CT"),
        ({"modality": "CT", "answer": "CT", "language": "zh"}, "CT"),
    ],
)
def test_the_question_never_contains_the_answer(facts: dict[str, Any], answer: str) -> None:
    asked = schema(question={"type": "string"}, answer={"type": "string"})
    with FakeOpenAI() as server:
        found = json.loads(said(ask(server, messages=messages(facts), response_format=asked)))
    assert found["answer"] == answer
    assert answer not in found["question"]


def test_the_answer_keeps_to_the_enum_of_the_schema() -> None:
    asked = schema(answer={"type": "string", "enum": ["spleen", "liver"]})
    with FakeOpenAI() as server:
        assert json.loads(said(ask(server, response_format=asked))) == {"answer": "liver"}


@pytest.mark.parametrize("kind", [{"type": "object"}, {"type": "array", "items": {"type": "integer"}}])
def test_a_schema_that_the_server_cannot_fill_is_a_400(kind: dict[str, Any]) -> None:
    with FakeOpenAI() as server, pytest.raises(openai.BadRequestError, match="supported"):
        ask(server, response_format=schema(nested=kind))


def test_the_same_body_gets_the_same_answer_from_any_server() -> None:
    with FakeOpenAI() as one, FakeOpenAI() as other:
        replies = [ask(server).to_json() for server in (one, one, other)]
    assert len(set(replies)) == 1


def test_the_pictures_are_looked_at_and_remembered() -> None:
    picture = png(31, 17)
    with FakeOpenAI() as server:
        ask(server, messages=messages(FACTS, picture))
    (asked,) = server.requests
    assert asked.image_sizes == ((31, 17),)
    assert asked.image_hashes == (hashlib.sha256(picture).hexdigest(),)
    assert (asked.model, asked.has_schema, asked.times_seen) == ("fake-vlm", False, 0)
    body = {"model": "fake-vlm", "messages": messages(FACTS, picture)}
    assert asked.request_hash == fake_openai.request_hash(body)


@pytest.mark.parametrize("picture", [b"no picture", png(200, 200)[:-40]], ids=["text", "truncated"])
def test_a_broken_picture_is_a_400(picture: bytes) -> None:
    with FakeOpenAI() as server, pytest.raises(openai.BadRequestError, match="picture"):
        ask(server, messages=messages(FACTS, picture))


def test_a_body_without_messages_is_a_400() -> None:
    with FakeOpenAI() as server, pytest.raises(openai.BadRequestError, match="cannot read"):
        ask(server, messages=[3])


def test_an_unknown_model_is_a_404() -> None:
    with FakeOpenAI() as server:
        with pytest.raises(openai.NotFoundError, match="other-vlm"):
            ask(server, model="other-vlm")
        assert server.stats()["models"] == ["other-vlm"]


def test_a_wrong_key_is_a_401() -> None:
    with FakeOpenAI(api_key="secret") as server:
        with pytest.raises(openai.AuthenticationError):
            ask(server)
        assert said(ask(server, client={"api_key": "secret"}))


def test_the_models_are_listed() -> None:
    with FakeOpenAI(model="m") as server, openai.OpenAI(base_url=server.url, api_key="key") as api:
        assert [model.id for model in api.models.list()] == ["m"]


@pytest.mark.parametrize("mode", STATUS_ERRORS)
def test_an_injected_http_error_reaches_the_client(mode: str) -> None:
    with FakeOpenAI(faults={mode: 1.0}, retry_after=0.07) as server:
        with pytest.raises(STATUS_ERRORS[mode]) as caught:
            ask(server)
        assert server.stats()["faults"] == {mode: 1}
    assert caught.value.response.headers.get("retry-after") == ("0.07" if mode == "429" else None)
    assert (caught.value.code == "insufficient_quota") == (mode == "quota")


@pytest.mark.parametrize(
    ("mode", "content", "finish_reason"),
    [
        ("not_json", "Sure, here is what I see. This CT picture shows left kidney, liver.", "stop"),
        ("empty", "", "stop"),
        ("refusal", None, "stop"),
        ("content_filter", "", "content_filter"),
        ("length", '{"answer"', "length"),
    ],
)
def test_a_spoiled_message_reaches_the_client(mode: str, content: str | None, finish_reason: str) -> None:
    with FakeOpenAI(faults={mode: 1.0}) as server:
        reply = ask(server, response_format=schema(answer={"type": "string"}))
        assert (server.stats()["ok"], server.stats()["statuses"]) == (0, {"200": 1})
    (choice,) = reply.choices
    assert (choice.message.content, choice.finish_reason) == (content, finish_reason)
    assert bool(choice.message.refusal) == (mode == "refusal")


def test_an_injected_reply_without_choices_reaches_the_client() -> None:
    with FakeOpenAI(faults={"no_choices": 1.0}) as server:
        assert ask(server).choices == []


def test_an_injected_error_body_reaches_the_client() -> None:
    with FakeOpenAI(faults={"error_body": 1.0}) as server:
        assert "error" in (ask(server).model_extra or {})


def test_an_injected_bad_body_reaches_the_client() -> None:
    with FakeOpenAI(faults={"bad_body": 1.0}) as server, pytest.raises((openai.OpenAIError, ValueError)):
        ask(server)


def test_an_injected_cut_reaches_the_client() -> None:
    with FakeOpenAI(faults={"cut": 1.0}) as server, pytest.raises(openai.APIConnectionError):
        ask(server)


def test_a_hang_lasts_until_the_client_leaves() -> None:
    with FakeOpenAI(faults={"hang": 1.0}) as server:
        with pytest.raises(openai.APITimeoutError):
            ask(server, client={"timeout": 0.2})
        wait_until(lambda: server.stats()["statuses"] == {"left": 1})


def test_a_client_that_leaves_in_the_middle_of_its_upload_is_no_bug() -> None:
    with FakeOpenAI() as server:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + b'{"model"')
            wait_until(lambda: server.stats()["requests"] == 1)
        wait_until(lambda: server.stats()["statuses"] == {"left": 1})


def test_a_hang_ends_in_a_504_when_the_client_waits() -> None:
    with FakeOpenAI(faults={"hang": 1.0}, hang_s=0.05) as server, pytest.raises(openai.InternalServerError):
        ask(server)


def test_the_server_stops_quickly_while_a_request_hangs() -> None:
    async def leave_hanging() -> float:
        with FakeOpenAI(faults={"hang": 1.0}) as server:
            asked = asyncio.create_task(ask_all(server, [{}]))
            while not server.requests:
                await asyncio.sleep(0.01)
            start = time.monotonic()
        (error,) = await asked
        assert isinstance(error, openai.APIConnectionError)
        return time.monotonic() - start

    assert asyncio.run(leave_hanging()) < 5


def test_every_mode_has_a_test_here() -> None:
    tested = {"not_json", "empty", "refusal", "content_filter", "length", "no_choices", "error_body"}
    assert set(STATUS_ERRORS) | tested | {"bad_body", "cut", "hang"} == fake_openai.MODES


def test_faults_by_rate_hit_the_same_requests_and_a_retry_usually_succeeds() -> None:
    requests = [{"messages": messages({"labels": [str(number)]})} for number in range(60)]
    outcomes = []
    for _ in range(2):
        with FakeOpenAI(faults={"500": 0.15, "empty": 0.15}) as server:
            asyncio.run(ask_all(server, requests))
            outcomes.append({asked.request_hash: asked.mode for asked in server.requests})
            hashes = [fake_openai.request_hash({"model": "fake-vlm", **request}) for request in requests]
            failed = [r for r, digest in zip(requests, hashes, strict=True) if outcomes[-1][digest]]
            asyncio.run(ask_all(server, failed))
            retried = server.requests[60:]
    assert outcomes[0] == outcomes[1]
    assert 8 <= len(failed) <= 30
    assert sum(asked.mode is None for asked in retried) > len(failed) / 2
    assert {asked.times_seen for asked in retried} == {1}


def test_a_fault_rule_sees_hash_count_and_text() -> None:
    calls = []

    def rule(request_hash: str, times_seen: int, text: str) -> str | None:
        calls.append((request_hash, times_seen, "left kidney" in text))
        return "503" if times_seen == 0 else None

    with FakeOpenAI(faults=rule) as server:
        with pytest.raises(openai.InternalServerError):
            ask(server)
        assert said(ask(server))
    digest = server.requests[0].request_hash
    assert calls == [(digest, 0, True), (digest, 1, True)]


def test_a_wrong_mode_from_a_fault_rule_ends_the_block() -> None:
    server = FakeOpenAI(faults=lambda *_: "typo")
    with pytest.raises(ValueError, match="unknown fault mode"), server:
        asyncio.run(ask_all(server, [{}]))


@pytest.mark.parametrize("faults", [{"typo": 0.1}, {"500": 0.7, "503": 0.7}])
def test_impossible_rates_are_refused_at_once(faults: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="known modes"):
        FakeOpenAI(faults=faults)


def test_the_stats_count_requests_replies_and_repeats() -> None:
    with FakeOpenAI(faults=lambda _, seen, text: "500" if "boom" in text else None, latency_s=0.3) as server:
        twice, boom = ({"messages": messages({"labels": [label]})} for label in ("twice", "boom"))
        asyncio.run(ask_all(server, [twice, twice, boom, {"model": "other"}]))
        with urllib.request.urlopen(server.url.replace("/v1", "/stats")) as reply:
            assert json.load(reply) == server.stats()
        digest = fake_openai.request_hash({"model": "fake-vlm", **twice})
        assert server.stats() == {
            "requests": 4, "distinct": 3, "ok": 2, "max_in_flight": server.stats()["max_in_flight"],
            "statuses": {"404": 1, "200": 2, "500": 1}, "faults": {"500": 1},
            "models": ["fake-vlm", "other"], "repeated": [digest],
        }  # fmt: skip
        assert 2 <= server.stats()["max_in_flight"] <= 4
        server.reset()
        assert (server.stats()["requests"], server.stats()["max_in_flight"], server.requests) == (0, 0, [])


def test_requests_above_the_capacity_get_a_503() -> None:
    requests = [{"messages": messages({"labels": [str(number)]})} for number in range(6)]
    with FakeOpenAI(capacity=2, latency_s=0.3) as server:
        replies = asyncio.run(ask_all(server, requests))
    refused = [reply for reply in replies if isinstance(reply, openai.InternalServerError)]
    assert refused
    assert all(error.status_code == 503 for error in refused)
    assert server.stats()["faults"] == {"capacity": len(refused)}
    assert server.stats()["ok"] == 6 - len(refused)


def test_the_program_announces_its_address_and_stops_on_sigterm() -> None:
    program = [sys.executable, "-W", "error", str(Path(fake_openai.__file__)), "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options = ["--latency", "0.02", "--faults", '{"500": 0.02}']
    with subprocess.Popen([*program, *options], **pipes) as process:
        line = (process.stdout or io.StringIO()).readline()
        assert line.startswith("listening on http://127.0.0.1:")
        assert line.endswith("/v1\n")
        with urllib.request.urlopen(line.split()[-1].replace("/v1", "/health")) as reply:
            assert reply.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0
