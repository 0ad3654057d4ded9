"""A small OpenAI-compatible server for tests: looks at requests, answers from their text, fails on demand.

In a test: `with FakeOpenAI(faults={"500": 0.1}) as server:` and point a client at `server.url`.
As a program: `python tests/fake_openai.py --port 0 --latency 0.02 --faults '{"500": 0.02}'`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import io
import json
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import ClientError, web
from PIL import Image

Json = dict[str, Any]
FaultRule = Callable[[str, int, str], str | None]
Faults = Mapping[str, float] | FaultRule

FACTS = re.compile(r"^[ \t]*<facts>[ \t\r]*$(.*?)^[ \t]*</facts>[ \t\r]*$", re.DOTALL | re.MULTILINE)
CAPTION_SCHEMA: Json = {"type": "object", "properties": {"caption": {"type": "string"}}}
ERRORS: dict[str, tuple[int, str]] = {
    "500": (500, "server_error"),
    "503": (503, "overloaded"),
    "429": (429, "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota"),
    "401": (401, "invalid_api_key"),
    "400": (400, "invalid_request"),
    "hang": (504, "timeout"),
}
MESSAGE_FAULTS = {"not_json", "empty", "refusal", "content_filter", "length"}
BODY_FAULTS = {"no_choices", "error_body", "bad_body", "cut", "html"}
MODES = frozenset(ERRORS) | MESSAGE_FAULTS | BODY_FAULTS


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it; `times_seen` counts the earlier requests with the same body."""

    request_hash: str
    model: str
    text: str
    image_sizes: tuple[tuple[int, int], ...]  # (0, 0): the picture could not be read
    image_hashes: tuple[str, ...]
    has_schema: bool
    times_seen: int = 0
    mode: str | None = None


@dataclass(frozen=True)
class Reply:
    """The HTTP reply to one request; `ok` marks an answer that nothing was done to."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    ok: bool = False
    cut: bool = False


def request_hash(body: Json) -> str:
    """Hash the canonical JSON of a request body, so key order and spacing do not matter."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def json_reply(document: Json, **how: Any) -> Reply:
    """Make a 200 reply unless `status` says otherwise."""
    return Reply(**{"status": 200, "body": json.dumps(document).encode(), **how})


def error_document(code: str, message: str) -> Json:
    """Lay out an error as the OpenAI API does."""
    return {"error": {"message": message, "type": f"{code}_error", "param": None, "code": code}}


def error_reply(status: int, code: str, message: str) -> Reply:
    """Make an HTTP error that the openai client can read."""
    return json_reply(error_document(code, message), status=status)


def parts_of(body: Json) -> list[Json]:
    """Flatten the contents of all messages; a plain string counts as one text part."""
    contents = [message.get("content") or [] for message in body["messages"]]
    return [
        part
        for content in contents
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]


def look_at_picture(url: str) -> tuple[tuple[int, int], str]:
    """Decode a data URL to (size, sha256 of the picture file); size (0, 0) when any of it cannot be read."""
    data = b""
    try:
        data = base64.b64decode(re.sub(r"^data:image/[\w.+-]+;base64,", "", url), validate=True)
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            size = picture.size
    except Exception:  # PIL's decoders raise nearly anything on a damaged file
        size = (0, 0)
    return size, hashlib.sha256(data).hexdigest()


def look_at(body: Json) -> Asked:
    """Read one request body, pictures included."""
    parts = parts_of(body)
    pictures = [look_at_picture(part["image_url"]["url"]) for part in parts if part["type"] == "image_url"]
    return Asked(
        request_hash=request_hash(body),
        model=str(body.get("model")),
        text="\n".join(part["text"] for part in parts if part["type"] == "text"),
        image_sizes=tuple(size for size, _ in pictures),
        image_hashes=tuple(digest for _, digest in pictures),
        has_schema=(body.get("response_format") or {}).get("type") == "json_schema",
    )


def facts_of(text: str) -> Json:
    """Read the last facts block, as a prompt may show an example block first; {} when there is none."""
    blocks = FACTS.findall(text)
    try:
        facts = json.loads(blocks[-1]) if blocks else {}
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def answer_of(facts: Json) -> str:
    """Take the given answer, else the first label."""
    unknown = "未知" if facts.get("language") == "zh" else "unknown"
    return str(facts.get("answer") or next(iter(facts.get("labels") or []), unknown))


def english(facts: Json, answer: str) -> dict[str, str]:
    """Word the facts in English, by property name; "" is for any other property."""
    modality = facts.get("modality") or "medical"
    seen = ", ".join(map(str, facts.get("labels") or [])) or "no labelled structure"
    return {
        "caption": f"This {modality} picture shows {seen}.",
        "question": f"Which structure is marked in this {modality} picture?",
        "plain_question": "What can one see here?",
        "answer": answer,
        "reasoning": f"This is a {modality} picture. It shows {seen}. So the answer is {answer}.",
        "": f"Nothing more to say about this {modality} picture.",
    }


def chinese(facts: Json, answer: str) -> dict[str, str]:
    """Word the facts in Chinese, with the same keys as `english`."""
    modality = facts.get("modality") or "医学"
    seen = "可见" + "、".join(map(str, facts["labels"])) if facts.get("labels") else "没有标注的结构"
    return {
        "caption": f"这是一张{modality}图像。图中{seen}。",
        "question": f"这张{modality}图像中标记的是哪个结构\uff1f",
        "plain_question": "此处有何所见\uff1f",
        "answer": answer,
        "reasoning": f"这是一张{modality}图像。图中{seen}。因此答案是{answer}。",
        "": f"关于这张{modality}图像没有更多说明。",
    }


def wording_of(facts: Json) -> dict[str, str]:
    """Word the facts in their language; a question that gives the answer away is swapped."""
    answer = answer_of(facts)
    words = (chinese if facts.get("language") == "zh" else english)(facts, answer)
    if answer.casefold() in words["question"].casefold():
        words["question"] = words["plain_question"]
    return words


def clamp(schema: Json) -> float:
    """Pick the number nearest to zero that the schema allows."""
    return float(min(max(0, schema.get("minimum", 0)), schema.get("maximum", float("inf"))))


def fill_list(name: str, schema: Json, facts: Json) -> list[Any]:
    """Fill an array with the fact of that name, else the labels, held to the item count and the item enum."""
    found = facts.get(name) if isinstance(facts.get(name), list) else facts.get("labels")
    if schema.get("items", {}).get("type", "string") != "string":
        raise ValueError(f"property {name!r} is not an array of strings, which is all that is supported")
    allowed = schema.get("items", {}).get("enum")
    items = [str(item) for item in found or [] if not allowed or item in allowed]
    filler = allowed[0] if allowed else wording_of(facts)[""]
    items += [filler] * (schema.get("minItems", 0) - len(items))
    return items[: schema.get("maxItems")]


def fill(name: str, schema: Json, facts: Json) -> Any:
    """Fill one property of a schema; ValueError for a kind that this server does not do."""
    schema = next((part for part in schema.get("anyOf", []) if part.get("type") != "null"), schema)
    words = wording_of(facts)
    text = words.get(name, words[""])
    if "enum" in schema:
        return text if text in schema["enum"] else schema["enum"][0]
    kinds = schema.get("type")
    kind = next(kind for kind in kinds if kind != "null") if isinstance(kinds, list) else kinds
    if kind not in ("string", "array", "boolean", "integer", "number"):
        raise ValueError(f"property {name!r} of type {kind!r} is not supported")
    if kind == "string":
        return text[: schema.get("maxLength")]
    if kind == "array":
        return fill_list(name, schema, facts)
    return {"boolean": False, "integer": int(clamp(schema)), "number": clamp(schema)}[kind]


def content_of(body: Json, facts: Json) -> str:
    """Answer a request: JSON if it asked for JSON, else a caption."""
    response_format = body.get("response_format") or {}
    if response_format.get("type", "text") == "text":
        return wording_of(facts)["caption"]
    schema = (response_format.get("json_schema") or {}).get("schema") or CAPTION_SCHEMA
    filled = {name: fill(name, part, facts) for name, part in schema["properties"].items()}
    return json.dumps(filled, ensure_ascii=False)


def choice_of(content: str, facts: Json, mode: str | None) -> Json:
    """Wrap the content as the reply's one choice, spoiled when `mode` is a message fault."""
    spoiled: dict[str | None, str | None] = {
        "not_json": f"Sure, here is what I see. {wording_of(facts)['caption']}",
        "empty": "",
        "refusal": None,
        "content_filter": "",
        "length": content[: len(content) // 2],
    }
    refusal = "I cannot help with this picture." if mode == "refusal" else None
    message = {"role": "assistant", "content": spoiled.get(mode, content), "refusal": refusal}
    finish_reason = mode if mode in ("content_filter", "length") else "stop"
    return {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}


def usage_of(asked: Asked, choice: Json) -> dict[str, int]:
    """Count tokens roughly, from the lengths of texts and the number of pictures."""
    prompt = len(asked.text) // 4 + 85 * len(asked.image_sizes)
    completion = len(choice["message"]["content"] or "") // 4
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def completion_of(asked: Asked, body: Json) -> Json:
    """Build the chat completion; id and time come from the request, so the same body gets the same bytes."""
    facts = facts_of(asked.text)
    choice = choice_of(content_of(body, facts), facts, asked.mode)
    return {
        "id": f"chatcmpl-{asked.request_hash[:24]}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.model,
        "choices": [] if asked.mode == "no_choices" else [choice],
        "usage": usage_of(asked, choice),
    }


def reply_of(asked: Asked, body: Json, retry_after: float) -> Reply:
    """Make the reply to a sound request, with the fault it drew."""
    mode = asked.mode
    if mode in ERRORS:
        headers = {"Retry-After": str(retry_after)} if mode == "429" else {}
        return replace(error_reply(*ERRORS[mode], f"injected fault {mode}"), headers=headers)
    if mode == "error_body":
        return json_reply(error_document("server_error", "injected fault error_body"))
    if mode == "bad_body":
        return Reply(200, b'{"id": "chatcmpl-')
    if mode == "html":
        return Reply(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", content_type="text/html")
    return json_reply(completion_of(asked, body), ok=mode is None, cut=mode == "cut")


def draw_fault(rates: Mapping[str, float], request_hash: str, times_seen: int) -> str | None:
    """Draw a mode by its rate; every retry draws anew, and always the same way."""
    digest = hashlib.sha256(f"{request_hash}:{times_seen}".encode()).digest()
    left = int.from_bytes(digest[:8]) / 2**64
    for mode, rate in rates.items():
        left -= rate
        if left < 0:
            return mode
    return None


def check_rates(rates: Mapping[str, float]) -> None:
    """Refuse rates that cannot be drawn."""
    if set(rates) - MODES or min(rates.values(), default=0) < 0 or sum(rates.values()) > 1 + 1e-9:
        raise ValueError(f"faults must be rates of known modes, at most 1 in all: {dict(rates)}")


class Ledger:
    """What was asked and what was sent; the server's thread writes it, the test's thread reads it."""

    def __init__(self) -> None:
        """Start empty."""
        self.lock = threading.Lock()
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget all but the requests that are still in flight."""
        with self.lock:
            self.total = self.ok = 0
            self.max_in_flight = self.in_flight
            self.statuses: Counter[str] = Counter()
            self.faults: Counter[str] = Counter()
            self.seen: Counter[str] = Counter()
            self.asked: list[Asked] = []

    def enter(self) -> None:
        """Count a request in."""
        with self.lock:
            self.total += 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def leave(self) -> None:
        """Count a request out."""
        with self.lock:
            self.in_flight -= 1

    def keep(self, asked: Asked, fault: str | None) -> None:
        """Keep a request and the fault that it met."""
        with self.lock:
            self.seen[asked.request_hash] += 1
            self.asked.append(asked)
            if fault:
                self.faults[fault] += 1

    def sent(self, status: str, ok: bool, by: int = 1) -> None:
        """Count a reply, or with `by=-1` take one back that did not get through."""
        with self.lock:
            self.statuses[status] += by
            self.ok += by * ok

    def stats(self) -> Json:
        """Sum up."""
        with self.lock:
            return {
                "requests": self.total,
                "distinct": len(self.seen),
                "ok": self.ok,
                "max_in_flight": self.max_in_flight,
                "statuses": dict(+self.statuses),
                "faults": dict(self.faults),
                "models": sorted({asked.model for asked in self.asked}),
                "repeated": [digest for digest, times in self.seen.items() if times > 1],
            }


class FakeOpenAI:
    """The server, as a context manager that runs it in a thread."""

    def __init__(
        self,
        faults: Faults | None = None,
        latency_s: float = 0.0,
        model: str = "fake-vlm",
        *,
        api_key: str | None = None,
        capacity: int | None = None,
        retry_after: float = 0.05,
        hang_s: float = 30.0,
        port: int = 0,
    ) -> None:
        """Set it up without starting it.

        Args:
            faults: rate of each mode, or a rule `(request_hash, times_seen, text) -> mode or None`.
            latency_s: wait before every reply to a sound request.
            model: the one model served.
            api_key: bearer token to insist on.
            capacity: requests in flight above which one gets a 503.
            retry_after: seconds in the Retry-After header of mode "429".
            hang_s: after this a "hang" ends in a 504, if the client is still there.
            port: 0 takes a free one.
        """
        self._faults: Faults = faults if faults is not None else {}
        if not callable(self._faults):
            check_rates(self._faults)
        self.latency_s, self.model, self.api_key, self.capacity = latency_s, model, api_key, capacity
        self.retry_after, self.hang_s, self.port = retry_after, hang_s, port
        self._ledger = Ledger()
        self._bugs: list[Exception] = []

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def requests(self) -> list[Asked]:
        """All requests with a readable body so far, in the order of their arrival."""
        with self._ledger.lock:
            return list(self._ledger.asked)

    def stats(self) -> Json:
        """Give the same counts as GET /stats; "left" among the statuses is a client that did not wait."""
        return self._ledger.stats()

    def reset(self) -> None:
        """Forget all requests, also how often each was seen."""
        self._ledger.reset()

    def __enter__(self) -> FakeOpenAI:
        """Start the thread and wait until the port is open."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="fake-openai", daemon=True)
        self._thread.start()
        ready.result(timeout=10)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop, and raise what broke in the server (a fault rule, say), lest it pass for an injected 500."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        if kind is None and self._thread.is_alive():
            raise RuntimeError("the fake server did not stop")
        if kind is None and self._bugs:
            raise self._bugs[0]

    def _run(self, ready: Future[None]) -> None:
        """Serve in this thread; a failed start is handed to the one that waits."""
        try:
            asyncio.run(self.serve(lambda: ready.set_result(None)))
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def serve(self, announce: Callable[[], None]) -> None:
        """Serve until stopped; `announce` is called once the port is open."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, backlog=1024).start()
            self.port = runner.addresses[0][1]
            announce()
            await self._stop.wait()
        finally:
            await runner.cleanup()

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT stop a server that runs in the main thread."""
        for name in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(name, self._stop.set)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        app.router.add_get("/health", self._health)
        return app

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _models(self, request: web.Request) -> web.Response:
        if refused := self._wrong_key(request):
            return web.Response(status=refused.status, body=refused.body, content_type=refused.content_type)
        card = {"id": self.model, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}
        return web.json_response({"object": "list", "data": [card]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self._ledger.enter()
        try:
            return await self._deliver(request, await self._reply(request))
        except (asyncio.CancelledError, ConnectionError, ClientError, web.RequestPayloadError) as gone:
            self._ledger.sent("left", False)
            raise asyncio.CancelledError from gone
        except Exception as bug:
            self._bugs.append(bug)
            raise
        finally:
            self._ledger.leave()

    async def _reply(self, request: web.Request) -> Reply:
        if refused := self._wrong_key(request):
            return refused
        try:
            body = await request.json()
            asked = await asyncio.to_thread(look_at, body)
            content_of(body, facts_of(asked.text))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return error_reply(400, "invalid_request", f"cannot read the request: {error!r}")
        refused = self._unsound(asked, body)
        asked = self._keep(asked, refused)
        if refused:
            return refused
        await asyncio.sleep(self.hang_s if asked.mode == "hang" else self.latency_s)
        return reply_of(asked, body, self.retry_after)

    def _wrong_key(self, request: web.Request) -> Reply | None:
        if self.api_key is None or request.headers.get("Authorization") == f"Bearer {self.api_key}":
            return None
        return error_reply(401, "invalid_api_key", "wrong or absent API key")

    def _unsound(self, asked: Asked, body: Json) -> Reply | None:
        if asked.model != self.model:
            return error_reply(404, "model_not_found", f"the model {asked.model!r} does not exist")
        if (0, 0) in asked.image_sizes:
            return error_reply(400, "invalid_image", "a picture is not a readable data URL")
        if body.get("stream"):
            return error_reply(400, "unsupported", "this server does not stream")
        if self.capacity is not None and self._ledger.in_flight > self.capacity:
            return error_reply(503, "overloaded", f"more than {self.capacity} requests in flight")
        return None

    def _keep(self, asked: Asked, refused: Reply | None) -> Asked:
        """Draw the fault and keep the request; no await in here, so two equal requests are told apart."""
        times_seen = self._ledger.seen[asked.request_hash]
        mode = None if refused else self._draw(asked, times_seen)
        kept = replace(asked, times_seen=times_seen, mode=mode)
        self._ledger.keep(kept, "capacity" if refused and refused.status == 503 else mode)
        return kept

    def _draw(self, asked: Asked, times_seen: int) -> str | None:
        if not callable(self._faults):
            return draw_fault(self._faults, asked.request_hash, times_seen)
        mode = self._faults(asked.request_hash, times_seen, asked.text)
        if mode is not None and mode not in MODES:
            raise ValueError(f"unknown fault mode {mode!r}")
        return mode

    async def _deliver(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        """Send the reply; it is counted before it goes out, so a client that has it finds it in the stats."""
        response = web.StreamResponse(status=reply.status, headers=dict(reply.headers))
        response.content_type, response.content_length = reply.content_type, len(reply.body)
        self._ledger.sent(str(reply.status), reply.ok)
        try:
            await self._write(request, response, reply)
        except (asyncio.CancelledError, ConnectionError):
            self._ledger.sent(str(reply.status), reply.ok, by=-1)
            raise
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, reply: Reply) -> None:
        await response.prepare(request)
        await response.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
        if not reply.cut:
            await response.write_eof()
        elif request.transport is not None:
            request.transport.close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible endpoint.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, dest="latency_s")
    parser.add_argument("--faults", type=json.loads, default={}, help="JSON object: mode -> rate")
    parser.add_argument("--model", default="fake-vlm")
    parser.add_argument("--api-key")
    parser.add_argument("--capacity", type=int)
    parser.add_argument("--retry-after", type=float, default=0.05)
    parser.add_argument("--hang", type=float, default=30.0, dest="hang_s")
    server = FakeOpenAI(**vars(parser.parse_args()))

    def announce() -> None:
        server.stop_on_signals()
        print(f"listening on {server.url}", flush=True)

    asyncio.run(server.serve(announce))


if __name__ == "__main__":
    main()
