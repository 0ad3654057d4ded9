"""Backends: one reply for every request, each failure in its class, and no picture or key where none belongs."""

import asyncio
import base64
import contextlib
import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_openai import FakeOpenAI
from PIL import Image

from pipeline.errors import UserError
from pipeline.generate.backends import openai_api, template
from pipeline.records import Box, Drawn, Message, Request, Usage
from pipeline.settings import BackendSpec

SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string"}},
    "required": ["caption"],
    "additionalProperties": False,
}
AS_STORED = (Drawn("small", None, ()),)
FACTS = 'Describe it.\n<facts>\n{"modality": "CT", "labels": ["liver"]}\n</facts>\n'
KEY = "sk-never-to-be-seen"


def png(width=8, height=6):
    sink = io.BytesIO()
    Image.new("L", (width, height), 128).save(sink, format="PNG")
    return sink.getvalue()


PICTURES = {"small": png(), "large": png(64, 32)}


def question(key="k", text=FACTS, pictures=AS_STORED, messages=None, **sampling):
    turns = messages or (Message("system", "You see a picture."), Message("user", text))
    return Request(key, turns, pictures, sampling, SCHEMA, "default", "r", "any")


def spec_of(url, **how):
    return BackendSpec(**{"backend": "openai_api", "model": "fake-vlm", "base_url": url, "timeout_s": 10, **how})


async def stream(requests):
    for request in requests:
        yield request


def answers(url, *requests, concurrency=4, **how):
    """Ask a backend all requests and return the replies by key."""

    async def all_of_them():
        backend = openai_api.connect(spec_of(url, **how), concurrency, PICTURES.__getitem__)
        try:
            return [reply async for reply in backend.open(stream(requests))]
        finally:
            await backend.close()

    replies = asyncio.run(all_of_them())
    assert sorted(reply.key for reply in replies) == sorted(request.key for request in requests)
    return {reply.key: reply for reply in replies}


def answer(url, request=None, **how):
    (reply,) = answers(url, request or question(), **how).values()
    return reply


class Answering(BaseHTTPRequestHandler):
    """Keeps the bodies and headers that it gets; answers what its server was told to."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body), dict(self.headers)))
        status, headers, text = self.server.says
        data = text.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def saying(text="{}", status=200, **headers):
    """Serve one fixed answer; yields the server with its `url` and what it was `asked`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.asked, server.says = [], (status, {name.replace("_", "-"): value for name, value in headers.items()}, text)
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def completion(content="{}", finish="stop", **message):
    """Lay out a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


# ---- template


def test_the_template_backend_answers_with_the_last_turn():
    async def all_of_them():
        backend = template.connect(None, 1, PICTURES.__getitem__)
        found = [reply async for reply in backend.open(stream([question(f"k{n}", f"text {n}") for n in range(3)]))]
        await backend.close()
        return found

    replies = asyncio.run(all_of_them())
    assert [(r.key, r.outcome, r.text, r.model, r.usage) for r in replies] == [
        (f"k{n}", "ok", f"text {n}", "template", Usage()) for n in range(3)
    ]


# ---- outcomes

OUTCOMES = {
    "500": "retry", "503": "throttle", "429": "throttle", "quota": "stop", "401": "stop", "400": "bad_item",
    "not_json": "ok", "empty": "empty", "refusal": "refused", "content_filter": "filtered", "length": "truncated",
    "no_choices": "retry", "error_body": "retry", "bad_body": "retry", "cut": "retry", "html": "retry",
}  # fmt: skip


@pytest.mark.parametrize(("mode", "outcome"), OUTCOMES.items())
def test_every_fault_has_its_class(mode, outcome):
    with FakeOpenAI({mode: 1.0}) as server:
        reply = answer(server.url)
    assert reply.outcome == outcome
    assert (reply.key, reply.model, reply.endpoint) == ("k", "fake-vlm", server.url)
    assert len(reply.text) < 600
    assert "base64" not in reply.text
    assert "\n" not in reply.text
    assert reply.retry_after_s == (0.05 if mode == "429" else None)
    assert server.stats()["requests"] == 1  # a retry is generate's to make


def test_a_server_that_hangs_is_a_retry_after_the_deadline():
    with FakeOpenAI({"hang": 1.0}) as server:
        reply = answer(server.url, timeout_s=0.2)
    assert (reply.outcome, reply.text) == ("retry", "no whole reply within 0.2 s")
    assert 0.2 <= reply.latency_s < 2


def test_a_port_where_nobody_listens_is_a_retry():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reply = answer(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
    assert reply.outcome == "retry"
    assert reply.text.startswith("connection: ")


def test_a_good_reply_has_text_usage_and_reason():
    with FakeOpenAI() as server:
        reply = answer(server.url)
        (asked,) = server.requests
    assert reply.outcome == "ok"
    assert json.loads(reply.text) == {"caption": "This CT picture shows liver."}
    assert reply.finish_reason == "stop"
    assert reply.usage == Usage(len(asked.text) // 4 + 85, len(reply.text) // 4, 0)


def test_cached_tokens_are_counted():
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 64}}
    with saying(json.dumps({**json.loads(completion()), "usage": usage})) as server:
        assert answer(server.url).usage == Usage(100, 5, 64)


@pytest.mark.parametrize(
    "body",
    [
        '{"choices": [null]}', '{"choices": ["x"]}', '{"choices": {"a": 1}}', '{"choices": [{"message": "x"}]}',
        '{"choices": [{"message": {"content": ["a part"]}}]}', '{"choices": [{"message": {"content": 7}}]}',
        '{"choices": [{"message": {"content": "x"}}], "usage": [1]}', "[]", "null", '"text"', "7", "",
        '{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_chat_completion_is_a_retry_and_nobody_waits_for_ever(body):
    with saying(body) as server:
        reply = answer(server.url, timeout_s=5)
    assert reply.outcome == "retry"
    assert len(reply.text) < 200


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (403, "forbidden", "stop"), (404, "model_not_found", "stop"), (429, "billing_hard_limit_reached", "stop"),
        (400, "content_filter", "filtered"), (400, "context_length_exceeded", "bad_item"), (413, None, "bad_item"),
        (422, None, "bad_item"), (408, None, "retry"), (409, None, "retry"), (502, None, "retry"), (504, None, "retry"),
        (529, None, "retry"),
    ],
)  # fmt: skip
def test_a_status_has_its_class(status, code, outcome):
    with saying(json.dumps({"error": {"message": "no", "code": code}}), status) as server:
        reply = answer(server.url)
    assert (reply.outcome, reply.text) == (outcome, f"HTTP {status} {code or ''}: no")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("0", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_time_to_wait_or_nothing(header, seconds):
    with saying('{"error": {"message": "slow down"}}', 429, retry_after=header) as server:
        reply = answer(server.url)
    assert (reply.outcome, reply.retry_after_s) == ("throttle", seconds)


def test_an_error_text_holds_no_picture_no_key_and_no_second_line(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    echoed = f"Incorrect API key {KEY}\nin data:image/png;base64," + base64.b64encode(png()).decode() * 100
    with saying(json.dumps({"error": {"message": echoed}}), 401) as server:
        reply = answer(server.url)
    assert reply.text == "HTTP 401 : Incorrect API key *** in data:image/png;"
    with saying(json.dumps({"error": {"message": "x" * 10_000, "code": "y" * 10_000}}), 400) as server:
        assert len(answer(server.url).text) == 500


@pytest.mark.parametrize(("finish", "refusal"), [("length", None), ("content_filter", None), ("stop", "no " * 5_000)])
def test_the_text_of_a_failure_is_cut(finish, refusal):
    with saying(completion("long " * 5_000, finish, refusal=refusal)) as server:
        reply = answer(server.url)
    assert reply.outcome != "ok"
    assert len(reply.text) == 500
    assert reply.usage == Usage(7, 3)  # paid all the same


def test_a_bug_in_the_backend_is_raised_and_not_waited_for():
    with FakeOpenAI() as server, pytest.raises(KeyError, match="lost"):
        answers(server.url, question("a"), question("b", pictures=(Drawn("lost", None, ()),)), question("c"))


# ---- what is sent


def sent(request=None, **how):
    with saying(completion()) as server:
        answer(server.url, request, **how)
    ((path, body, headers),) = server.asked
    assert path == "/v1/chat/completions"
    return body, headers


def test_the_request_carries_model_schema_and_sampling():
    body, _ = sent(question(max_tokens=300, temperature=0.7, seed=1))
    assert set(body) == {"model", "messages", "max_completion_tokens", "temperature", "seed", "response_format"}
    assert (body["model"], body["max_completion_tokens"], body["temperature"], body["seed"]) == (
        "fake-vlm",
        300,
        0.7,
        1,
    )
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA},
    }


def test_the_picture_stands_before_the_text_of_the_first_user_turn_and_only_there():
    turns = (Message("system", "s"), Message("user", "u1"), Message("assistant", "a"), Message("user", "u2"))
    body, _ = sent(question(messages=turns))
    url = "data:image/png;base64," + base64.b64encode(PICTURES["small"]).decode()
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "u1"}]},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "u2"},
    ]


def test_a_request_without_pictures_is_text():
    body, _ = sent(question(pictures=()))
    assert body["messages"][1] == {"role": "user", "content": FACTS}


def test_chinese_is_sent_as_it_is():
    body, _ = sent(question(text="这是什么\uff1f", pictures=()))
    assert body["messages"][1]["content"] == "这是什么\uff1f"


def test_a_picture_is_sent_at_most_as_large_as_it_should_be_and_with_its_boxes():
    drawn = Drawn("large", None, (Box(8, 8, 24, 24),))
    with FakeOpenAI() as server:
        answers(
            server.url,
            question("as stored", "a", (Drawn("large", None, ()),)),
            question("smaller", "b", (Drawn("large", 32, ()),)),
            question("small already", "c", (Drawn("small", 32, ()),)),
            question("drawn", "d", (drawn,)),
        )
        by_text = {asked.text[-1]: asked for asked in server.requests}
    sizes = {text: asked.image_sizes for text, asked in by_text.items()}
    assert sizes == {"a": ((64, 32),), "b": ((32, 16),), "c": ((8, 6),), "d": ((64, 32),)}
    assert by_text["a"].image_hashes != by_text["d"].image_hashes
    assert all(asked.has_schema for asked in by_text.values())


def test_no_more_requests_are_in_flight_than_were_leased():
    with FakeOpenAI(latency_s=0.02) as server:
        replies = answers(server.url, *(question(f"k{n}", f"{FACTS}{n}") for n in range(40)), concurrency=5)
        stats = server.stats()
    assert {reply.outcome for reply in replies.values()} == {"ok"}
    assert (stats["max_in_flight"], stats["requests"], stats["ok"]) == (5, 40, 40)


def test_replies_come_as_they_are_done():
    def rule(_hash, _seen, text):
        return "hang" if "slow" in text else None

    with FakeOpenAI(rule, hang_s=0.4) as server:
        replies = answers(
            server.url, question("slow", "slow"), *(question(f"k{n}", str(n)) for n in range(6)), concurrency=2
        )
    assert list(replies)[-1] == "slow"
    assert replies["slow"].outcome == "retry"  # the 504 at last


# ---- keys and ways


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    _, headers = sent(key_env="MY_KEY")
    assert headers["authorization" if "authorization" in headers else "Authorization"] == f"Bearer {KEY}"


def test_a_server_on_this_machine_wants_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with FakeOpenAI() as server:
        assert answer(server.url).outcome == "ok"


def test_an_endpoint_elsewhere_without_a_key_is_a_users_mistake(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError) as caught:
        openai_api.connect(spec_of("https://api.example.com/v1", key_env="MY_KEY"), 1, PICTURES.__getitem__)
    assert str(caught.value) == "set MY_KEY to the key for api.example.com"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000/v1", True), ("http://localhost/v1", True), ("http://[::1]:80/v1", True),
        ("https://api.openai.com/v1", False), ("http://localhost.example.com/v1", False), ("http://10.0.0.1/v1", False),
        ("http://127.0.0.1@example.com/v1", False), ("http://example.com/127.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_only_addresses_of_this_machine_are_loopback(url, here):
    assert openai_api.is_loopback(url) is here


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status):
    with saying(completion()) as other, saying("{}", status, location=f"{other.url}/chat/completions") as server:
        reply = answer(server.url)
    assert reply.outcome != "ok"
    assert len(server.asked) == 1
    assert other.asked == []


def test_a_proxy_of_the_environment_is_not_used_on_this_machine(monkeypatch):
    with saying(completion()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with FakeOpenAI() as server:
            assert answer(server.url).outcome == "ok"
            assert server.stats()["requests"] == 1
    assert proxy.asked == []
