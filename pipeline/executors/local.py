"""Work on this machine: in this process for one worker, else in processes of their own. No Ray.

Each worker has two shards in flight, so that it never waits for the driver between them. A worker dies with its
driver, and a worker's death stops the run with one line; what is done is kept.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipeline.coordinator import Shared
from pipeline.errors import Stopped
from pipeline.work import Done, Job, Task, Worker

IN_FLIGHT = 2
"""Shards a worker."""
PATIENCE_S = 5.0
"""How long workers may take to end by themselves."""


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def connect(job: Job, workers: int | None, most: int, coordinator: Shared) -> "Here | Processes":
    """Return the executor of a run; it serves all its stages.

    Args:
        job: The run.
        workers: None: one a core.
        most: Shards of the run: more workers would have nothing to do.
        coordinator: Shared by the workers.
    """
    count = max(1, min(workers or cores(), most))
    coordinator.workers = count
    return Here(job, coordinator) if count == 1 else Processes(job, count, coordinator)


class Here:
    """Everything in this process: for one worker, for a debugger."""

    def __init__(self, job: Job, coordinator: Shared) -> None:
        self._loop, self._coordinator = asyncio.new_event_loop(), coordinator
        self._worker, self._interrupted = Worker(job, coordinator), False

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done.

        Raises:
            Stopped: The run can not go on.
            KeyboardInterrupt: A signal asked to end; while generating, only once the loop has come to rest.
        """
        waiting, running = deque(tasks), set[asyncio.Task[Done]]()
        with self._signals_wait(tasks):
            try:
                while waiting or running:
                    while waiting and len(running) < IN_FLIGHT:
                        running.add(self._loop.create_task(self._worker.run(waiting.popleft())))
                    first = asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    finished, running = self._loop.run_until_complete(first)
                    for task in finished:
                        if self._interrupted and task.exception():
                            raise KeyboardInterrupt
                        yield task.result()
            finally:
                self._end(running)

    def _end(self, running: set[asyncio.Task[Done]]) -> None:
        """Ask the tasks that still run to stop, then cancel them; their errors are of no interest any more."""
        if not running:
            return
        self._coordinator.stop("the run is ending")
        _, left = self._loop.run_until_complete(asyncio.wait(running, timeout=PATIENCE_S))
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left))
        for task in running:
            if not task.cancelled():
                task.exception()

    @contextlib.contextmanager
    def _signals_wait(self, tasks: Sequence[Task]) -> Iterator[None]:
        """Turn signals into a stop while generating: an exception in the middle of a callback would lose replies."""
        main = threading.current_thread() is threading.main_thread()
        if not main or not tasks or tasks[0].stage != "generate":
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.getsignal(number) for number in numbers]
        for number in numbers:
            self._loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                self._loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _interrupt(self) -> None:
        self._interrupted = True
        self._coordinator.stop("interrupted")

    def close(self) -> None:
        """Give back connections."""
        self._loop.run_until_complete(self._worker.close())
        self._loop.close()


class _Child:
    """A worker process, the pipe of its tasks and the pipe of its questions to the coordinator."""

    def __init__(self, job: Job, context: Any) -> None:
        self.tasks, theirs = context.Pipe()
        self.questions, theirs_too = context.Pipe()
        self.process = context.Process(target=_serve, args=(job, theirs, theirs_too), daemon=True)
        self.process.start()
        theirs.close()
        theirs_too.close()
        self.running = 0


class Processes:
    """Worker processes, started at the first task and kept for all stages."""

    def __init__(self, job: Job, count: int, coordinator: Shared) -> None:
        self._job, self._count, self._coordinator = job, count, coordinator
        self._children: list[_Child] = []

    def _start(self) -> list[_Child]:
        if not self._children:
            context = multiprocessing.get_context("spawn")
            self._children = [_Child(self._job, context) for _ in range(self._count)]
            questions = [child.questions for child in self._children]
            threading.Thread(target=_answer, args=(questions, self._coordinator), daemon=True).start()
        return self._children

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done.

        Raises:
            Stopped: A worker stopped or died.
        """
        children, waiting = self._start(), deque(tasks)
        for _ in range(IN_FLIGHT):
            for child in children:
                _feed(child, waiting)
        while any(child.running for child in children):
            for ready in wait([child.tasks for child in children if child.running]):
                child = next(c for c in children if c.tasks is ready)
                yield _received(child)
                _feed(child, waiting)

    def close(self) -> None:
        """End the workers; one that is generating is asked to stop first, so that it writes down what is paid for."""
        if any(child.running for child in self._children):
            self._coordinator.stop("the run is ending")
        for child in self._children:
            with contextlib.suppress(OSError):  # it has died already
                child.tasks.send(None)
        until = time.monotonic() + PATIENCE_S
        for child in self._children:
            child.process.join(max(0.0, until - time.monotonic()))
            child.process.kill()
            child.process.join()
            child.tasks.close()


def _feed(child: _Child, waiting: deque[Task]) -> None:
    if waiting:
        child.tasks.send(waiting.popleft())
        child.running += 1


def _received(child: _Child) -> Done:
    try:
        result = child.tasks.recv()
    except (EOFError, ConnectionError):
        child.process.join(5)
        code = child.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        raise Stopped(f"a worker died ({how}; out of memory?); run again to go on") from None
    if isinstance(result, BaseException):
        raise result
    child.running -= 1
    done: Done = result
    return done


def _answer(pipes: list[Connection], coordinator: Shared) -> None:
    """Serve the workers' questions until the last of them has gone."""
    left: Any = list(pipes)
    while left:
        for pipe in list[Any](wait(left)):
            try:
                name, arguments = pipe.recv()
                pipe.send(getattr(coordinator, name)(*arguments))
            except (EOFError, OSError):
                left.remove(pipe)
                pipe.close()


class _Far:
    """The coordinator, seen from a worker process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def _ask(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        return self._pipe.recv()

    def lease(self, endpoint: str) -> int:
        share: int = self._ask("lease", endpoint)
        return share

    def spend(self, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        self._ask("spend", input_tokens, output_tokens, cost)

    def stop(self, why: str) -> None:
        self._ask("stop", why)

    def stopped(self) -> str | None:
        why: str | None = self._ask("stopped")
        return why


def _serve(job: Job, tasks: Connection, questions: Connection) -> None:
    """A worker process: take tasks, hand back what is done, until told to end or the driver is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # to a whole group: the driver decides how its workers end
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # a killed driver must not leave workers that write into a run that was started again
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        asyncio.run(_work(job, tasks, _Far(questions)))
    except (EOFError, BrokenPipeError):
        os._exit(1)


def _die_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


async def _work(job: Job, tasks: Connection, coordinator: _Far) -> None:
    worker, running = Worker(job, coordinator), set[asyncio.Task[None]]()

    async def one(task: Task) -> None:
        try:
            result: Any = await worker.run(task)
        except Exception as error:  # every failure goes to the driver, who raises it with its traceback
            result = error
        tasks.send(result)

    try:
        while (task := await asyncio.to_thread(tasks.recv)) is not None:
            job_task = asyncio.create_task(one(task))
            running.add(job_task)
            job_task.add_done_callback(running.discard)
        await asyncio.gather(*running)
    finally:
        await worker.close()
