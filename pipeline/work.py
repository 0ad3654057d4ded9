"""One shard, start to end, on any worker: what an executor runs.

The driver resolves every name once and sends content; paths of the data travel, pictures do not. A task's files are
written whole, and its lines go back to the driver, who alone writes the manifest.
"""

import gc
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import rows
from pipeline.coordinator import Sparing
from pipeline.curate.stage import curate
from pipeline.generate.facts import Label
from pipeline.generate.journal import Journal
from pipeline.generate.prompting import Prompt
from pipeline.generate.stage import Generator
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Case, Coordinator, Rejected, Shard, Stage
from pipeline.settings import Settings
from pipeline.store import Line, Store, digest, read_table, write_tables
from pipeline.vocabulary import Vocabulary
from sources.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a run share."""

    store: Store
    settings: Settings
    descriptors: Mapping[str, Descriptor]
    roots: Mapping[str, str]
    vocabulary: Vocabulary
    prompts: tuple[Prompt, ...]

    @property
    def journal(self) -> Store:
        """Where paid replies are kept."""
        return Store(self.settings.journal) if self.settings.journal else self.store


@dataclass(frozen=True, slots=True)
class Task:
    """One shard of one stage."""

    stage: Stage
    shard: Shard
    fingerprint: str
    cases: tuple[Case, ...] = ()
    """For ingest."""
    space: tuple[Label, ...] = ()
    """For generate: all labels of the source."""


@dataclass(frozen=True, slots=True)
class Done:
    """A task's lines for the manifest, and how long it took."""

    task: Task
    lines: tuple[Line, ...]
    seconds: float
    notes: Mapping[str, int] = field(default_factory=dict)
    """What to show: rows by kind."""


def files_of(stage: Stage, shard: Shard) -> tuple[str, ...]:
    """Return the files a task writes, the one with its counts first."""
    made = {"ingest": "records", "generate": "samples", "curate": "curated"}[stage]
    main = f"{made}/{shard.source}/{shard.stem}.parquet"
    return (main,) if stage == "curate" else (main, f"rejected/{stage}/{shard.source}/{shard.stem}.parquet")


_TALLIED = ("pictures_cut", "pictures_not_selected", "regions_found")


class Worker:
    """Runs tasks of one job; holds what they share: the backends' connections and the journal."""

    def __init__(self, job: Job, coordinator: Coordinator) -> None:
        self._job, self._coordinator = job, Sparing(coordinator)
        self._generator: Generator | None = None
        # modules and vocabulary stay, records come and go by the ten thousand and hold no cycles: without this a tenth
        # of ingest is the collector looking through them
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)

    async def run(self, task: Task) -> Done:
        """Run a task.

        Raises:
            Stopped: The run can not go on.
        """
        started = time.monotonic()
        if task.stage == "generate":
            lines = await self._generate(task)
        else:
            lines = self._ingest(task) if task.stage == "ingest" else self._curate(task)
        self._coordinator.tell()
        notes = {line.file.split("/")[0]: line.rows for line in reversed(lines)}
        return Done(task, tuple(lines), time.monotonic() - started, notes)

    async def close(self) -> None:
        """Give back connections."""
        if self._generator:
            await self._generator.close()
        self._coordinator.tell()

    def _ingest(self, task: Task) -> list[Line]:
        job, name = self._job, task.shard.source
        source = Source(job.descriptors[name], Path(job.roots[name]), job.vocabulary)
        rejected = list[Rejected]()
        counts = dict.fromkeys(("cases_listed", *_TALLIED), 0)

        def records() -> Iterator[dict[str, object]]:
            for case in task.cases:
                read = read_case(case, source)
                rejected.extend(read.rejected)
                counts["cases_listed"] += 1
                for count in _TALLIED:
                    counts[count] += getattr(read.tally, count)
                yield from map(rows.record_row, read.records)

        return self._write(task, rows.RECORD, records(), rejected, counts)

    async def _generate(self, task: Task) -> list[Line]:
        job = self._job
        if self._generator is None:
            self._generator = Generator(
                job.prompts,
                job.settings.backends,
                job.vocabulary,
                Journal(job.journal),
                self._coordinator,
                job.settings.max_side,
            )
        records = list(rows.read_records(job.store, [files_of("ingest", task.shard)[0]]))
        # runs that share a journal never write into each other's segments
        name = f"{digest([job.store.root])[:8]}-{task.shard.source}-{task.shard.stem}"
        outcome = await self._generator.generate(name, records, task.space, job.settings.seed)
        samples = [rows.sample_row(sample) for sample in outcome.samples]
        return self._write(task, rows.SAMPLE, samples, outcome.rejected, {"requests": outcome.planned})

    def _curate(self, task: Task) -> list[Line]:
        store, settings = self._job.store, self._job.settings
        samples = read_table(store, files_of("generate", task.shard)[0], ["id", "records"]).to_pylist()
        records = read_table(store, files_of("ingest", task.shard)[0], ["id", "group"]).to_pylist()
        groups = {row["id"]: row["group"] for row in records}
        pairs = [(row["id"], row["records"][0]) for row in samples]
        curated = curate(task.shard.source, pairs, groups, settings.splits, settings.seed)
        return self._write(task, rows.CURATED, curated, None, {})

    def _write(
        self,
        task: Task,
        schema: Any,
        made: Iterable[Mapping[str, object]],
        rejected: list[Rejected] | None,
        counts: Mapping[str, int],
    ) -> list[Line]:
        """Write a task's files; the main one's line comes last, for it says that the task is done.

        Rows may be made while they are written: what is left out of them and the counts are complete after that.
        """
        store, files = self._job.store, files_of(task.stage, task.shard)
        main = write_tables(store, files[0], schema, rows.tables(schema, made), task.fingerprint, counts)
        if rejected is None:
            return [main]
        left_out = rows.tables(rows.REJECTED, map(rows.rejected_row, rejected))
        return [write_tables(store, files[1], rows.REJECTED, left_out, task.fingerprint, {}), main]
