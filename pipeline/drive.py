"""Drives a run: stage after stage, only the shards that are out of date, and the ledgers at the end."""

import contextlib
import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline import discovery, ledgers, plan
from pipeline.coordinator import Shared
from pipeline.errors import UserError, did_you_mean
from pipeline.export import FOLDER, export, is_whole
from pipeline.ledgers import Ledger
from pipeline.plan import RunPlan
from pipeline.records import Stage
from pipeline.report import report
from pipeline.settings import RUN_FILE, Settings, parse, text_of
from pipeline.store import Line, Manifest, Store
from pipeline.work import Done, Task, files_of
from sources.cases import write_names

STAGES: tuple[Stage, ...] = ("ingest", "generate", "curate", "export")
IN_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class Watch(Protocol):
    """Who looks on: a progress bar, or lines of text."""

    def begin(self, stage: Stage, todo: int, of: int) -> None:
        """A stage begins with shards to do, of all."""

    def done(self, done: Done, shared: Shared) -> None:
        """A shard is done."""

    def end(self, stage: Stage, seconds: float, rows: Mapping[str, int]) -> None:
        """A stage is over."""


class Finished(NamedTuple):
    """What a run came to."""

    changed: int
    """Shards that were done, and 1 for an export."""
    ledgers: list[Ledger]
    rows: Mapping[str, int]
    """Rows of the run folder by kind: records, samples, …"""


def open_store(out: str) -> Store:
    """Open the run folder.

    Raises:
        UserError: A relative folder inside a Ray job, whose working folder is thrown away.
    """
    if "://" not in out and not Path(out).is_absolute() and os.environ.get(IN_RAY_JOB):
        raise UserError(
            f"--out {out}: inside a Ray job give an absolute path or a URL; the job's folder is thrown away"
        )
    return Store(out)


def executor_name(settings: Settings) -> str:
    """Return the executor: Ray where a Ray job or RAY_ADDRESS says so, else local."""
    if settings.executor != "auto":
        return settings.executor
    return "ray" if os.environ.get(IN_RAY_JOB) or os.environ.get("RAY_ADDRESS") else "local"


def drive(settings: Settings, store: Store, stages: tuple[Stage, ...], watch: Watch) -> Finished:
    """Run stages of a run; what is done already is left alone.

    Args:
        settings: The run's.
        store: Its folder.
        stages: In their order.
        watch: Is told what happens.

    Raises:
        UserError: Before the first shard: one line.
        Stopped: The run can not go on, or its ledgers do not balance.
    """
    if "generate" in stages:
        _check_backends(settings)
    run = plan.resolve(settings) if "ingest" in stages else None
    if run is not None:
        _check_ids(run, store)
    with _locked(store):
        if run is not None:
            _write_settings(run, store)
        manifest = Manifest(store)
        run = run or plan.reopened(store, manifest, settings)
        ledgers.check_files(run, store, manifest)
        _forget_stale(run, store, manifest)
        shared = Shared(1, {spec.base_url: spec.concurrency for spec in run.settings.backends.values()})
        changed = 0
        with contextlib.closing(_Executors(run, store, shared)) as executors:
            for stage in stages:
                if stage == "export":
                    ledgers.check(_ledgers(run, store, manifest), run, store, manifest)
                    changed += _export(run, store, manifest, watch)
                else:
                    changed += _stage(stage, run, store, manifest, executors, watch)
        found = _ledgers(run, store, manifest)
        ledgers.check(found, run, store, manifest)
        if changed or not store.exists("report.html"):
            store.write("report.html", report(run, store, manifest, found).encode())
        return Finished(changed, found, _row_counts(manifest))


def report_again(store: Store) -> list[Ledger]:
    """Write a run's report page from its files; returns its ledgers.

    Raises:
        UserError: It is no run folder, or it has not been through ingest.
        Stopped: Its files are not as written, or its ledgers do not balance.
    """
    if not store.exists(RUN_FILE):
        raise UserError(f"{store.url} is no run folder: it has no {RUN_FILE}")
    manifest = Manifest(store)
    run = plan.reopened(store, manifest, parse(store.text(RUN_FILE), RUN_FILE))
    ledgers.check_files(run, store, manifest)
    found = _ledgers(run, store, manifest)
    store.write("report.html", report(run, store, manifest, found).encode())
    ledgers.check(found, run, store, manifest)
    return found


def _ledgers(run: RunPlan, store: Store, manifest: Manifest) -> list[Ledger]:
    generated = all(files_of("generate", shard)[0] in manifest.lines for shard in run.shards)
    return ledgers.ledgers(run, store, manifest, generated)


class _Executors:
    """The run's executor, connected when the first shard needs it: a run that is up to date starts nothing."""

    def __init__(self, run: RunPlan, store: Store, shared: Shared) -> None:
        self.shared, self._run, self._store = shared, run, store
        self._open: Any = None

    def run(self, tasks: list[Task]) -> Iterator[Done]:
        """Run tasks and yield each when it is done."""
        if self._open is None:
            settings = self._run.settings
            module = discovery.module("executor", "pipeline.executors", executor_name(settings))
            most = len(self._run.shards)
            self._open = module.connect(self._run.job(self._store), settings.workers, most, self.shared)
        yield from self._open.run(tasks)

    def close(self) -> None:
        """End it, if it was ever opened."""
        if self._open is not None:
            self._open.close()


def _stage(stage: Stage, run: RunPlan, store: Store, manifest: Manifest, executors: _Executors, watch: Watch) -> int:
    tasks = plan.tasks(stage, run, store, manifest)
    watch.begin(stage, len(tasks), len(run.shards))
    started, rows = time.monotonic(), Counter[str]()
    for done in executors.run(tasks) if tasks else ():
        for line in done.lines:
            manifest.add(line)
        rows.update(done.notes)
        watch.done(done, executors.shared)
    watch.end(stage, time.monotonic() - started, rows)
    return len(tasks)


def _export(run: RunPlan, store: Store, manifest: Manifest, watch: Watch) -> int:
    plan.check_before("export", run, manifest)
    fingerprint, file = plan.export_fingerprint(run, manifest), f"{FOLDER}/manifest.json"
    todo = not (manifest.done(file, fingerprint) and is_whole(store))
    watch.begin("export", int(todo), 1)
    started = time.monotonic()
    rows: Mapping[str, int] = {}
    if todo:
        written = export(run, store)
        rows = written.rows
        manifest.add(Line(file, sum(rows.values()), written.schema_digest, fingerprint, rows))
    watch.end("export", time.monotonic() - started, rows)
    return int(todo)


def _check_backends(settings: Settings) -> None:
    """Refuse what would only fail at the first request: an unknown backend, a key that is not there."""
    for spec in settings.backends.values():
        module = discovery.module("backend", "pipeline.generate.backends", spec.backend)
        getattr(module, "check", lambda spec: None)(spec)


def _check_ids(run: RunPlan, store: Store) -> None:
    """Refuse a number of shards or a folder for a source that the run does not know and never knew."""
    before = parse(store.text(RUN_FILE), RUN_FILE).shards if store.exists(RUN_FILE) else {}
    for flag, given in (("--shards", run.settings.shards), ("--root", run.settings.roots)):
        for name in given:
            if name not in run.sources and name not in before:
                raise UserError(f"{flag} {name}: no source of this run{did_you_mean(name, run.sources)}")


def _write_settings(run: RunPlan, store: Store) -> None:
    text = text_of(run.settings)
    if not store.exists(RUN_FILE) or store.text(RUN_FILE) != text:
        store.write(RUN_FILE, text.encode())
    for file in set(store.list("sources")) - {plan.copy_of(name) for name in run.sources}:
        store.remove(file)  # its records may come back; later stages and the report are of the present sources
    for name, source in run.sources.items():
        copy = plan.copy_of(name)
        if not store.exists(copy) or store.read(copy) != source.text.encode():
            store.write(copy, source.text.encode())
    names = {name: source.cases.names for name, source in run.sources.items() if source.cases.names}
    if names and not store.local:
        raise UserError(
            f"{', '.join(names)}: ids are hashed, and their table must stay on this machine: --out is a URL"
        )
    if names:
        write_names(names, Path(store.at("private/cases.csv")))


def _forget_stale(run: RunPlan, store: Store, manifest: Manifest) -> None:
    for file in plan.stale_files(run, manifest):
        store.remove(file)
        del manifest.lines[file]


def _row_counts(manifest: Manifest) -> dict[str, int]:
    found: Counter[str] = Counter()
    for line in manifest.lines.values():
        found[line.file.split("/")[0]] += line.rows
    return dict(found)


@contextlib.contextmanager
def _locked(store: Store) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process, however it ends."""
    if not store.local:
        yield
        return
    path = Path(store.at(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle: Any = path.open("w")
    except OSError as error:
        raise UserError(f"{store.url}: {error.strerror}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{store.url}: another run is working in this folder") from None
        yield
