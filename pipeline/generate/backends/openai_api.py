"""Any OpenAI-compatible endpoint: GPT-4o, Azure, `vllm serve`, a gateway.

The `openai` client is used for its authentication, addresses and errors, through its low-level `post` with a body that
is built once (the typed `create` costs three to six times the CPU), over aiohttp, without its own retries: a retry is a
request that generate feeds again.
"""

import asyncio
import base64
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI, DefaultAioHttpClient

from pipeline import pictures
from pipeline.errors import UserError
from pipeline.records import Outcome, Reply, Request, Usage
from pipeline.settings import BackendSpec

MOST_ERROR_TEXT = 500
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Picture = Callable[[str], bytes]
"""sha256 to the stored bytes."""


class OpenAIAPI:
    """One endpoint, one model, a fixed number of requests in flight."""

    name = "openai_api"

    def __init__(self, spec: BackendSpec, concurrency: int, picture: Picture) -> None:
        self.model = spec.model
        self.endpoint = spec.base_url
        self._spec, self._concurrency, self._picture = spec, max(1, concurrency), picture
        self._parts: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._client = AsyncOpenAI(
            api_key=_key(spec),
            base_url=spec.base_url,
            max_retries=0,
            timeout=spec.timeout_s,
            http_client=DefaultAioHttpClient(trust_env=not is_loopback(spec.base_url), follow_redirects=False),
        )

    async def open(self, requests: AsyncIterator[Request]) -> AsyncIterator[Reply]:
        """Answer requests as they are done, at most `concurrency` at a time."""
        replies: asyncio.Queue[Reply | Exception | None] = asyncio.Queue()
        slots = asyncio.Semaphore(self._concurrency)
        running: set[asyncio.Task[None]] = set()

        async def answer(request: Request) -> None:
            try:
                await replies.put(await self._answer(request))
            except Exception as error:  # a bug must reach the reader, who would wait for this reply for ever
                await replies.put(error)
            finally:
                slots.release()

        async def feed() -> None:
            async for request in requests:
                await slots.acquire()
                task = asyncio.create_task(answer(request))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.gather(*running)
            await replies.put(None)

        feeder = asyncio.create_task(feed())
        try:
            while (reply := await replies.get()) is not None:
                if isinstance(reply, Exception):
                    raise reply
                yield reply
            await feeder
        finally:
            for task in (feeder, *running):
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _answer(self, request: Request) -> Reply:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._spec.timeout_s):
                body = json.dumps(self._body(request), ensure_ascii=False).encode()
                data = await self._client.post(
                    "/chat/completions",
                    content=body,
                    cast_to=object,
                    options={"headers": {"content-type": "application/json"}},
                )
            reply = _read(request.key, data)
        except TimeoutError:
            reply = Reply(request.key, "retry", f"no whole reply within {self._spec.timeout_s:g} s")
        except openai.APIStatusError as error:
            # a gateway may echo the key that it refuses
            reply = _refused(request.key, error, self._client.api_key)
        except openai.APIConnectionError as error:
            reply = Reply(request.key, "retry", f"connection: {type(error.__cause__ or error).__name__}")
        except (ValueError, openai.OpenAIError) as error:
            reply = Reply(request.key, "retry", f"the reply's body is not what was promised: {type(error).__name__}")
        return replace(reply, model=self.model, endpoint=self.endpoint, latency_s=time.monotonic() - started)

    def _body(self, request: Request) -> dict[str, Any]:
        messages: list[dict[str, Any]] = []
        for message in request.messages:
            content: Any = message.content
            if message.role == "user" and request.pictures and not any(m["role"] == "user" for m in messages):
                # pictures before the text: requests of one picture share their prefix
                content = [*self._shown(request), {"type": "text", "text": message.content}]
            messages.append({"role": message.role, "content": content})
        schema = {"name": "reply", "strict": True, "schema": request.schema}
        sampling = dict(request.sampling)
        if "max_tokens" in sampling:
            sampling["max_completion_tokens"] = sampling.pop("max_tokens")
        return {
            "model": self.model,
            "messages": messages,
            **sampling,
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

    def _shown(self, request: Request) -> list[dict[str, Any]]:
        """Return the pictures as data URLs; encoded once for all requests of a record."""
        if len(self._parts) > 64:
            self._parts.clear()
        parts = []
        for drawn in request.pictures:
            if drawn not in self._parts:
                data, media = pictures.for_request(self._picture(drawn.sha256), drawn.max_side, drawn.boxes)
                url = f"data:{media};base64,{base64.b64encode(data).decode()}"
                self._parts[drawn] = {"type": "image_url", "image_url": {"url": url}}
            parts.append(self._parts[drawn])
        return parts


def connect(spec: BackendSpec, concurrency: int, picture: Picture) -> OpenAIAPI:
    """Return the backend for an endpoint."""
    return OpenAIAPI(spec, concurrency, picture)


def check(spec: BackendSpec) -> None:
    """Refuse what would only fail at the first request.

    Raises:
        UserError: There is no key for an endpoint that is elsewhere.
    """
    _key(spec)


def is_loopback(url: str) -> bool:
    """Does the address stay on this machine?"""
    return urlsplit(url).hostname in _LOOPBACK


def _key(spec: BackendSpec) -> str:
    """Return the API key from the environment; a local server may want none.

    Raises:
        UserError: The endpoint is elsewhere and there is no key.
    """
    key = os.environ.get(spec.key_env, "")
    if not key and not is_loopback(spec.base_url):
        raise UserError(f"set {spec.key_env} to the key for {urlsplit(spec.base_url).hostname}")
    return key or "none"


def _read(key: str, data: Any) -> Reply:
    """Classify a reply with status 200: whatever its body is, it is data."""
    try:
        return _classified(key, data)
    except (AttributeError, TypeError, ValueError, LookupError) as error:
        return Reply(key, "retry", f"status 200 with a body that is no chat completion: {type(error).__name__}")


def _classified(key: str, data: Any) -> Reply:
    if not isinstance(data, Mapping) or data.get("error") or not data.get("choices"):
        return Reply(key, "retry", "status 200 without choices")
    choice = data["choices"][0]
    message, finish = choice.get("message") or {}, choice.get("finish_reason")
    usage = _usage(data.get("usage") or {})
    text = message.get("content") or ""
    outcome: Outcome = "ok"
    if message.get("refusal"):
        outcome, text = "refused", str(message["refusal"])
    elif finish == "content_filter":
        outcome = "filtered"
    elif finish == "length":
        outcome = "truncated"
    elif not text.strip():
        outcome = "empty"
    return Reply(key, outcome, text if outcome == "ok" else text[:MOST_ERROR_TEXT], finish, usage)


def _usage(usage: Mapping[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
    )


def _refused(key: str, error: openai.APIStatusError, api_key: str) -> Reply:
    """Classify an error status (serving policy: one owner of retries, by class)."""
    status, code = error.status_code, str(getattr(error, "code", None) or "")
    said = f"HTTP {status} {code}: {_message(error)}".replace(api_key, "***")[:MOST_ERROR_TEXT]
    if status in (401, 403, 404) or code in ("insufficient_quota", "billing_hard_limit_reached"):
        return Reply(key, "stop", said)
    if status in (429, 503):
        return Reply(key, "throttle", said, retry_after_s=_retry_after(error))
    if code == "content_filter":
        return Reply(key, "filtered", said)
    if status in (408, 409) or status >= 500:
        return Reply(key, "retry", said)
    return Reply(key, "bad_item", said)


def _message(error: openai.APIStatusError) -> str:
    """Return the server's words on one line, never the request's: a body echoed back could hold a picture."""
    body = error.body
    text = body.get("message") if isinstance(body, Mapping) else None
    return " ".join(str(text or "").split("base64")[0].split())[:300]


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Return the seconds of `Retry-After`; None for none, for a date, and for what is no time to wait."""
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None
