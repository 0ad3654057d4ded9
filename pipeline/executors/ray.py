"""Work on a Ray cluster: tasks for ingest and curate, a few async actors for generation, a named coordinator.

One call a shard, never one a request: a call costs more than the request. Ray Data is not used for paid replies: one
bad reply would void a batch (docs/architecture.md says why).
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from pipeline.coordinator import Shared
from pipeline.errors import MedglossError, Stopped, UserError
from pipeline.work import Done, Job, Task, Worker

IN_FLIGHT = 2


class _Far:
    """The coordinator actor, seen from a worker."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def lease(self, endpoint: str) -> int:
        share: int = ray.get(self._actor.lease.remote(endpoint))
        return share

    def spend(self, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        self._actor.spend.remote(input_tokens, output_tokens, cost)

    def stop(self, why: str) -> None:
        ray.get(self._actor.stop.remote(why))

    def stopped(self) -> str | None:
        why: str | None = ray.get(self._actor.stopped.remote())
        return why


def _work_once(job: Job, task: Task, coordinator: Any) -> Done:
    """Run one task in a Ray task."""

    async def one() -> Done:
        worker = Worker(job, _Far(coordinator))
        try:
            return await worker.run(task)
        finally:
            await worker.close()

    return asyncio.run(one())


class _Generating:
    """An actor that generates; two calls at a time share its connections and its journal."""

    def __init__(self, job: Job, coordinator: Any) -> None:
        self._worker = Worker(job, _Far(coordinator))

    async def run(self, task: Task) -> Done:
        return await self._worker.run(task)

    async def close(self) -> None:
        await self._worker.close()


def connect(job: Job, workers: int | None, most: int, coordinator: Shared) -> "Cluster":
    """Join the cluster that the environment names, or start one here, and return the executor of a run.

    Raises:
        UserError: The cluster can not be joined.
    """
    _join()
    resources: Any = ray.cluster_resources  # untyped
    cpus = int(resources().get("CPU", 1))
    return Cluster(job, max(1, min(workers or cpus, most)), coordinator)


class Cluster:
    """Tasks for ingest and curate, actors for generation, and the coordinator actor that they share."""

    def __init__(self, job: Job, count: int, coordinator: Shared) -> None:
        self._job, self._count, self._coordinator = job, count, coordinator
        remote = ray.remote(num_cpus=0)(Shared)
        self._actor: Any = remote.remote(count, dict(coordinator.concurrency))

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done.

        Raises:
            Stopped: A worker stopped, or a task died more often than Ray retries it.
        """
        try:
            yield from self._generate(tasks) if tasks[0].stage == "generate" else self._tasks(tasks)
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, MedglossError) else error from None
        except ray.exceptions.RayError as error:
            raise Stopped(f"Ray: {type(error).__name__}; run again to go on") from error

    def _tasks(self, tasks: Sequence[Task]) -> Iterator[Done]:
        remote: Any = ray.remote(num_cpus=1, max_retries=3)(_work_once)
        job = ray.put(self._job)
        waiting, running = deque(tasks), list[Any]()
        while waiting or running:
            while waiting and len(running) < self._count * IN_FLIGHT:
                running.append(remote.remote(job, waiting.popleft(), self._actor))
            ready, running = ray.wait(running)
            yield from ray.get(ready)

    def _generate(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Generate in actors that live for the stage: while they do, their cores are taken from other tasks."""
        remote: Any = ray.remote  # its overloads do not know max_concurrency
        kind = remote(num_cpus=1, max_concurrency=IN_FLIGHT, max_restarts=3, max_task_retries=3)(_Generating)
        actors = [kind.remote(self._job, self._actor) for _ in range(min(self._count, len(tasks)))]
        waiting, running = deque(tasks), dict[Any, Any]()
        try:
            for _ in range(IN_FLIGHT):
                for one in actors:
                    if waiting:
                        running[one.run.remote(waiting.popleft())] = one
            while running:
                ready, _ = ray.wait(list(running))
                for reference in ready:
                    one = running.pop(reference)
                    yield ray.get(reference)
                    if waiting:
                        running[one.run.remote(waiting.popleft())] = one
                self._told()
        finally:
            with contextlib.suppress(ray.exceptions.RayError):  # an actor that died has nothing left to give back
                ray.get([one.close.remote() for one in actors], timeout=10)
            for one in actors:
                ray.kill(one)

    def _told(self) -> None:
        """Bring what the actor knows of spending here, for the progress line."""
        spent = ray.get(self._actor.spent.remote())
        local = self._coordinator
        local.input_tokens, local.output_tokens, local.cost, local.unpriced = spent

    def close(self) -> None:
        """End the coordinator."""
        ray.kill(self._actor)


def _join() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    try:
        ray.init(log_to_driver=False)
    except (ConnectionError, RuntimeError, PermissionError, ray.exceptions.RayError) as error:
        why = f"the Ray cluster can not be joined ({type(error).__name__})"
        raise UserError(f"{why}; `medgloss doctor` explains") from None
