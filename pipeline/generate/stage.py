"""The generate stage: a shard of records in, a sample or a rejected row for every planned request out."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt, wait_random_exponential

from pipeline import discovery
from pipeline.errors import Stopped, Unusable
from pipeline.generate import checks, models, prompting, replies
from pipeline.generate.facts import Label, facts_of
from pipeline.generate.journal import FLUSH_S, Journal, Segment
from pipeline.generate.prompting import Ask, Prompt
from pipeline.records import Backend, Call, Coordinator, Record, Rejected, Reply, Request, Sample
from pipeline.settings import BackendSpec
from pipeline.vocabulary import Vocabulary

TRIES = 5
"""Per request, after server errors; 429 and 503 do not count."""
REASKS = 1
"""After a reply that can not be used."""
THROTTLED_S = 600.0
"""Longest time that one request waits for a server that says it is full."""
SILENCE = 25
"""Failures in a row, without one success, after which an endpoint is taken for dead."""
RETRY_S = 0.5
"""The first wait after a server error is up to this long, the next up to twice that, never over 20 s."""
DRAIN_S = 3.0
"""How long replies that are on their way are waited for when a run stops."""
WINDOW = 4
"""Requests prepared ahead, per slot: enough to keep the slots full, few enough to hold in memory."""


@dataclass(slots=True)
class Line:
    """A backend at work: what feeds it and who waits for which reply."""

    backend: Backend
    spec: BackendSpec
    slots: int
    feed: asyncio.Queue[Request] = field(default_factory=asyncio.Queue)
    waiting: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None
    failures: int = 0


@dataclass(slots=True)
class Outcome:
    """What became of a shard."""

    samples: list[Sample] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    planned: int = 0


class Generator:
    """Generates for one worker: holds the journal, and one line a role, shared by the shards in flight."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        backends: Mapping[str, BackendSpec],
        vocabulary: Vocabulary,
        journal: Journal,
        coordinator: Coordinator,
        max_side: int | None,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            prompts: In the order in which they are asked of a picture.
            backends: Role to backend.
            vocabulary: For names.
            journal: Where replies are found and kept.
            coordinator: Shared by all workers.
            max_side: Longest side in px of a picture that is sent.
        """
        self._prompts, self._backends, self._vocabulary = prompts, backends, vocabulary
        self._journal, self._coordinator, self._max_side = journal, coordinator, max_side
        self._lines: dict[BackendSpec, Line] = {}
        self._asking: dict[str, asyncio.Event] = {}
        self._pictures: dict[str, dict[str, bytes]] = {}

    async def generate(self, shard: str, records: Sequence[Record], space: Sequence[Label], seed: str) -> Outcome:
        """Answer all that is planned for a shard's records.

        Args:
            shard: Name for the journal's segment.
            records: With their pictures.
            space: All labels of the source.
            seed: Of the run.

        Raises:
            Stopped: An endpoint refuses or is dead, or another worker stopped the run.
        """
        self._pictures[shard] = {r.picture.sha256: r.picture.bytes for r in records if r.picture}
        outcome = Outcome()
        asks = plan(records, self._prompts, self._vocabulary, space, seed)
        outcome.planned = len(asks)
        segment = self._journal.segment(shard)
        flusher = asyncio.create_task(flush_often(segment, self._coordinator))
        try:
            done = await self._all(asks, segment)
        finally:
            flusher.cancel()
            await asyncio.gather(flusher, return_exceptions=True)
            del self._pictures[shard]
            segment.flush(sync=True)
        for result in done:
            (outcome.samples if isinstance(result, Sample) else outcome.rejected).append(result)  # type: ignore[arg-type]
        return outcome

    async def _all(self, asks: Sequence[Ask], segment: Segment) -> list[Sample | Rejected]:
        """Answer in image-major order, a bounded number at a time, without a barrier."""
        window = asyncio.Semaphore(WINDOW * max([8, *(spec.concurrency for spec in self._backends.values())]))

        async def one(ask: Ask) -> Sample | Rejected:
            async with window:
                return await self._one(ask, segment)

        tasks = [asyncio.create_task(one(ask)) for ask in asks]
        try:
            ended, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION) if tasks else (set(), set())
            if left:
                # a stop: nothing more is asked, but what is on its way is paid for and must be written down
                await asyncio.wait(left, timeout=DRAIN_S)
            for task in ended:
                task.result()
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, ask: Ask, segment: Segment) -> Sample | Rejected:
        """Turn one planned request into a sample, or say why not."""
        line = self._line(answering(ask.prompt, self._backends))
        refusal = forbidden(ask.record, line.spec)
        if refusal:
            return Rejected(ask.sample, "sample", "generate", "egress", refusal)
        problem, earlier = Unusable("reply_empty", ""), list[Call]()
        for attempt in range(REASKS + 1):
            request = prompting.request(ask, line.backend.model, self._max_side, attempt)
            try:
                reply = await self._reply(line, request, segment)
            except Unusable as error:
                problem = error
                if error.reason in _FINAL:
                    break
                continue
            calls = (*earlier, _call(ask, reply, line))
            try:
                return _sample(ask, reply, calls)
            except Unusable as error:
                problem = error
                earlier.append(replace(calls[-1], stage="unusable"))
        return Rejected(ask.sample, "sample", "generate", problem.reason, problem.detail)

    def _picture(self, sha256: str) -> bytes:
        """Return a stored picture of the shards in flight."""
        return next(held[sha256] for held in self._pictures.values() if sha256 in held)

    def _line(self, spec: BackendSpec) -> Line:
        """Return a backend's line; roles with the same backend share it, and its slots."""
        if spec not in self._lines:
            module = discovery.module("backend", "pipeline.generate.backends", spec.backend)
            slots = max(1, self._coordinator.lease(spec.base_url))
            backend: Backend = module.connect(spec, slots, self._picture)
            line = Line(backend, spec, slots)
            line.task = asyncio.create_task(self._serve(line))
            self._lines[spec] = line
        return self._lines[spec]

    async def _serve(self, line: Line) -> None:
        """Hand each reply of a backend to who waits for it."""
        try:
            async for reply in line.backend.open(self._wanted(line)):
                waiting = line.waiting.pop(reply.key, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except Exception as error:  # a backend's bug must reach those who wait for its replies, or they wait for ever
            for waiting in line.waiting.values():
                if not waiting.done():
                    waiting.set_exception(error)
            raise

    async def _wanted(self, line: Line) -> AsyncIterator[Request]:
        """Feed a backend, less what nobody waits for any more: a run that was stopped must not go on paying."""
        while True:
            request = await line.feed.get()
            answer, why = line.waiting.get(request.key), self._coordinator.stopped()
            if answer is None or answer.done():
                continue
            if why:
                answer.set_exception(Stopped(why))
                continue
            yield request

    async def _reply(self, line: Line, request: Request, segment: Segment) -> Reply:
        """Return a usable reply: from the journal, else asked for and written down.

        Raises:
            Unusable: It failed for good.
            Stopped: The run is over.
        """
        while (known := self._journal.find(request.key)) is None and request.key in self._asking:
            await self._asking[request.key].wait()  # the same question of another record: paid once
        if known is not None:
            return known
        self._asking[request.key] = asyncio.Event()
        try:
            return await self._paid(line, request, segment)
        finally:
            self._asking.pop(request.key).set()

    async def _paid(self, line: Line, request: Request, segment: Segment) -> Reply:
        """Ask, and write down what it cost before anything else is done with the reply."""
        paid = line.backend.name != "template"
        reply = await self._asked(line, request)
        if paid:
            price = models.cost(reply.model, reply.usage)
            segment.add(reply, price)
            self._coordinator.spend(reply.usage.input_tokens, reply.usage.output_tokens, price)
        if reply.outcome == "ok":
            if paid:
                self._journal.keep(reply)
            return reply
        raise Unusable(_REASONS[reply.outcome], reply.text[:300])

    async def _asked(self, line: Line, request: Request) -> Reply:
        """Ask until there is an answer or it is enough; the slot is free while a retry waits."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=RETRY_S, max=20),
            retry=retry_if_result(lambda reply: reply.outcome == "retry"),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        reply: Reply = await retrying(self._once, line, request)
        return reply

    async def _once(self, line: Line, request: Request) -> Reply:
        loop, waited, pause = asyncio.get_running_loop(), 0.0, 0.25
        while True:
            why = self._coordinator.stopped()
            if why:
                raise Stopped(why)
            if line.task and line.task.done():
                line.task.result()  # the backend broke: its error, or nobody would ever answer
            answer: asyncio.Future[Reply] = loop.create_future()
            line.waiting[request.key] = answer
            await line.feed.put(request)
            reply = await answer
            if reply.outcome == "stop":
                self._coordinator.stop(reply.text)
                raise Stopped(reply.text)
            self._breathe(line, reply)
            if reply.outcome != "throttle" or waited > THROTTLED_S:
                return reply
            wait = reply.retry_after_s or pause
            pause = min(20.0, pause * 2)
            waited += wait
            await asyncio.sleep(min(wait, THROTTLED_S))

    def _breathe(self, line: Line, reply: Reply) -> None:
        """Stop the run when an endpoint only fails."""
        line.failures = line.failures + 1 if reply.outcome == "retry" else 0
        if line.failures >= max(SILENCE, 3 * line.slots):
            why = f"{line.spec.base_url} failed {line.failures} times in a row ({reply.text[:120]}); run again to go on"
            self._coordinator.stop(why)
            raise Stopped(self._coordinator.stopped() or why)

    async def close(self) -> None:
        """End the lines and give back connections."""
        for line in self._lines.values():
            if line.task:
                line.task.cancel()  # nobody waits for its replies any more; a server that hangs must not hold us up
                await asyncio.gather(line.task, return_exceptions=True)
            await line.backend.close()
        self._lines.clear()


_REASONS = {
    "throttle": "server_busy",
    "retry": "server_error",
    "bad_item": "request_refused",
    "truncated": "reply_truncated",
    "empty": "reply_empty",
    "refused": "model_refused",
    "filtered": "content_filtered",
}
_FINAL = ("server_busy", "server_error", "request_refused", "model_refused", "content_filtered")
"""Reasons that asking once more with the next attempt would not change."""


async def flush_often(segment: Segment, coordinator: Coordinator) -> None:
    """Hand replies to the system; where that fails, as on a full disk, nothing more must be paid for."""
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            segment.flush()
        except OSError as error:
            coordinator.stop(f"the journal can not be written: {error.strerror}")
            return


def plan(
    records: Sequence[Record], prompts: Sequence[Prompt], vocabulary: Vocabulary, space: Sequence[Label], seed: str
) -> list[Ask]:
    """List what is asked of the records, picture by picture; of a text only what asks about texts."""
    asks = []
    for record in records:
        for prompt in prompts:
            if record.picture is None and prompt.head.kind != "text":
                continue
            sample = prompting.sample_id(record.id, prompt)
            # the language is no part of the seed: both languages ask about the same region
            facts = facts_of(record, vocabulary, prompt.language, space, f"{seed} {record.id} {prompt.name}")
            if prompting.applies(prompt, facts):
                asks.append(Ask(sample, prompt, record, facts))
    return asks


def answering(prompt: Prompt, backends: Mapping[str, BackendSpec]) -> BackendSpec:
    """Return the backend that answers a prompt: the one its head fixes, its role's, or the default."""
    if prompt.head.backend is not None:
        return BackendSpec(backend=prompt.head.backend)
    return backends.get(prompt.head.role, backends["default"])


def forbidden(record: Record, spec: BackendSpec) -> str | None:
    """Return why a record must not be sent to a backend, or None.

    `none` is for templates only; `local` for this machine or an endpoint that the settings allow; `zero_retention` for
    these and a provider who promised to keep nothing.
    """
    if spec.backend == "template" or record.egress == "any":
        return None
    backend_module = discovery.module("backend", "pipeline.generate.backends", spec.backend)
    is_loopback = getattr(backend_module, "is_loopback", lambda url: False)
    local = spec.allow_local_data or is_loopback(spec.base_url)
    if record.egress == "local" and local:
        return None
    if record.egress == "zero_retention" and (local or spec.zero_retention):
        return None
    return f"the source's egress is {record.egress}; the endpoint is not allowed to see it"


def _sample(ask: Ask, reply: Reply, calls: tuple[Call, ...]) -> Sample:
    """Build the training sample of a reply.

    Raises:
        Unusable: The reply does not parse, or fails a check.
    """
    value = replies.parse(reply.text, ask.prompt.reply)
    fault = checks.failed(ask, value)
    if fault:
        raise Unusable(*fault)
    messages, reasoning, answer = prompting.turns(ask, value)
    head = ask.prompt.head
    return Sample(
        id=ask.sample,
        records=(ask.record.id,),
        kind=head.kind,
        language=ask.prompt.language,
        messages=messages,
        reasoning=reasoning,
        answer=answer,
        answer_type=head.answer_type,
        tolerance=None,
        choices=_choices(ask),
        boxes=tuple(prompting.boxes_of(ask, head.tell)),
        calls=calls,
        checks=head.checks,
        judge=None,
        parent=None,
        made_by="template" if calls[-1].backend == "template" else "model",
    )


def _choices(ask: Ask) -> tuple[str, ...]:
    if ask.prompt.head.answer_type != "mcq":
        return ()
    return ask.facts.modality_choices if "modality_choices" in ask.prompt.head.needs else ask.facts.choices


def _call(ask: Ask, reply: Reply, line: Line) -> Call:
    usage = reply.usage
    return Call(
        "default",
        ask.prompt.label,
        line.backend.name,
        line.backend.model,
        reply.key,
        usage.input_tokens,
        usage.output_tokens,
        models.cost(line.backend.model, usage),
    )
