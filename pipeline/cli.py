"""The command line: reads flags, calls, prints. A user's mistake is one line and exit status 2, never a traceback.

Modules that cost time are imported by the command that needs them, so that `--help` answers at once.
"""

import argparse
import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Stopped, UserError

if TYPE_CHECKING:
    from pipeline.records import Stage
    from pipeline.settings import Settings

EPILOG = """exit status: 0 done; 2 a mistake in flags or files; 3 the run stopped and the same command goes on;
130 interrupted. Every command has its own --help. docs/ holds the guides."""
STAGES: "tuple[Stage, ...]" = ("ingest", "generate", "curate", "export")
OUT = "MEDGLOSS_OUT"
"""Run folder where no --out is given: `ray job submit` takes options for its own unless they follow `--`."""
WIDTH = 110
"""Of what is printed where there is no terminal to ask."""
DISK = {errno.ENOSPC: "no room is left", errno.EDQUOT: "the quota is used up", errno.EROFS: "it is read-only"}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="medgloss",
        description="Turn annotated medical imaging data sets into grounded vision-language training data.",
        epilog=EPILOG,
    )
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = _command(commands, "run", _run, "ingest, generate, curate and export, as far as it is not done yet")
    run.add_argument("sources", nargs="*", metavar="SOURCE", help="catalog names or descriptor files")
    run.add_argument(
        "--out", metavar="RUN", help="run folder or URL (default: $MEDGLOSS_OUT, else runs/<first source>)"
    )
    _settings_flags(run)
    for stage in STAGES:
        command = _command(commands, stage, _stage, f"only {stage}, on a run folder")
        command.add_argument("run", metavar="RUN", help="run folder or URL")
        if stage == "ingest":
            command.add_argument("sources", nargs="*", metavar="SOURCE", help="default: those of the run")
        _settings_flags(command)
    plan = _command(commands, "plan", _plan, "how many cases, records, requests, tokens and dollars, without doing it")
    plan.add_argument("sources", nargs="*", metavar="SOURCE", help="catalog names or descriptor files")
    _settings_flags(plan)
    init = _command(commands, "init", _init, "look at a folder and propose a descriptor; opens no picture")
    init.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a data set")
    init.add_argument("--out", metavar="FILE", type=Path, help="write it here (default: print it)")
    check = _command(commands, "check", _check, "look at a source before it is used: counts, labels, defects")
    check.add_argument("source", metavar="SOURCE", help="catalog name or descriptor file")
    check.add_argument("--sheet", metavar="PNG", type=Path, help="write a contact sheet with boxes drawn")
    check.add_argument("--limit", metavar="N", type=int, default=200, help="cases to read (default: 200)")
    _settings_flags(check)
    preview = _command(commands, "preview", _preview, "one record: picture, facts, rendered prompts, sample")
    preview.add_argument("source", metavar="SOURCE", help="catalog name or descriptor file")
    preview.add_argument("--case", metavar="ID", help="default: the first that can be read")
    preview.add_argument("--show", metavar="PROMPT", help="only this prompt")
    preview.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/preview"), help="where pictures go")
    _settings_flags(preview)
    listed = _command(commands, "list", _list, "the catalog of data sets, and what else has a name")
    listed.add_argument("name", nargs="?", metavar="NAME", help="show this data set in full")
    listed.add_argument("--missing", metavar="DIR", type=Path, help="which sets lie in a data folder, and what lacks")
    report = _command(commands, "report", _report, "write a run's report page again")
    report.add_argument("run", metavar="RUN", help="run folder or URL")
    demo = _command(commands, "demo-data", _demo_data, "write small phantoms with truth, and their descriptors")
    demo.add_argument("folder", metavar="DIR", type=Path)
    _command(commands, "schema", _schema, "print the JSON Schema of a descriptor, for editors")
    doctor = _command(commands, "doctor", _doctor, "what may go wrong here, Ray jobs above all, and what to do")
    doctor.add_argument("--out", metavar="RUN", help="run folder to look at")
    return root


def _command(
    commands: Any, name: str, handler: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.set_defaults(handler=handler)
    return command


def _settings_flags(command: argparse.ArgumentParser) -> None:
    flags = command.add_argument_group("settings (over those of --settings)")
    add = flags.add_argument
    add("--settings", metavar="FILE", help="YAML file with these settings")
    add("--data", metavar="DIR", help="folder that holds the sources' folders")
    add("--root", metavar="ID=DIR", action="append", help="folder of one source")
    add("--language", dest="languages", metavar="LANG", action="append", help="en, zh (default: both)")
    add("--prompt", dest="prompts", metavar="NAME", action="append", help="default: all that the backend can answer")
    add("--backend", metavar="NAME", help="template (default), openai_api, or a path to one")
    add("--model", metavar="ID", help="model id at the endpoint")
    add("--base-url", metavar="URL", help="OpenAI-compatible endpoint (default: OpenAI's)")
    add("--key-env", metavar="NAME", help="environment variable of the key (default: OPENAI_API_KEY)")
    add("--concurrency", metavar="N", help="requests in flight (default: 16)")
    add("--timeout", dest="timeout_s", metavar="S", help="seconds for a whole request (default: 120)")
    add("--max-side", metavar="PX", help="longest side of a picture that is sent (default: 1024)")
    add("--split", metavar="NAME=SHARE", action="append", help="train, validation, test")
    add("--seed", metavar="TEXT", help="of every choice (default: 0)")
    add("--executor", metavar="NAME", help="local, ray (default: ray inside a Ray job, else local)")
    add("--workers", metavar="N", help="default: one a core")
    add("--shards", metavar="ID=N", action="append", help="number of shards of a source, at its first run")
    add("--journal", metavar="DIR", help="journal shared by runs (default: in the run folder)")
    add("--hash-files", action="store_const", const="true", help="fingerprint files by content, not by time")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)  # `ray job stop`, a batch system's time limit: end as Ctrl-C does
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may be in no encoding at all
    try:
        _guard()
        options = parser().parse_args(arguments)
        status: int = options.handler(options)
        return status
    except UserError as error:
        return _say(str(error), 2)
    except Stopped as error:
        return _say(str(error), 3)
    except KeyboardInterrupt:
        return _say("interrupted; what is done is kept, run again to go on", 130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 the reader of our output has gone
        return 0
    except OSError as error:
        if isinstance(error, PermissionError | NotADirectoryError | FileExistsError | IsADirectoryError):
            return _say(f"{error.filename}: {error.strerror}", 2)
        if error.errno not in DISK:
            raise
        return _say(f"the run folder can not be written: {DISK[error.errno]}; run again when there is room", 3)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str, status: int) -> int:
    print(f"medgloss: {' '.join(text.split())}", file=sys.stderr)
    return status


def _guard() -> None:
    """Refuse a folder whose packages hide ours: Ray workers would import them instead."""
    here = Path.cwd()
    ours = Path(__file__).resolve().parents[1]
    for name in ("pipeline", "sources", "prompts", "outputs"):
        if here != ours and (here / name / "__init__.py").is_file():
            raise UserError(f"{here / name} hides medgloss's own package {name!r}; start from another folder")


# ---- settings from flags

_BACKEND_FLAGS = ("backend", "model", "base_url", "key_env", "concurrency", "timeout_s")
_PLAIN_FLAGS = ("languages", "prompts", "max_side", "seed", "executor", "workers", "journal", "hash_files")


def _settings(options: argparse.Namespace, base: dict[str, Any]) -> "Settings":
    from pipeline import settings

    if options.settings:
        base = {**base, **settings.from_file(options.settings)}
    flags = {name: getattr(options, name) for name in _PLAIN_FLAGS}
    flags["sources"] = [_absolute(name) for name in getattr(options, "sources", ())] or None
    flags["data"] = str(Path(options.data).resolve()) if options.data else None
    roots = _pairs(options.root, "--root")
    flags["roots"] = {name: str(Path(folder).resolve()) for name, folder in roots.items()} if roots else None
    flags["shards"] = _pairs(options.shards, "--shards")
    flags["splits"] = _splits(_pairs(options.split, "--split"))
    backend = {name: getattr(options, name) for name in _BACKEND_FLAGS if getattr(options, name) is not None}
    if backend:
        flags["backends"] = {
            **base.get("backends", {}),
            "default": {**base.get("backends", {}).get("default", {}), **backend},
        }
        _check_backend(flags["backends"]["default"])
    for name in ("roots", "shards"):
        if flags[name] is not None:
            flags[name] = {**base.get(name, {}), **flags[name]}
    return settings.merged(base, flags, options.settings or "flags")


def _absolute(name: str) -> str:
    """Keep paths whole: the run folder is opened again from elsewhere."""
    return str(Path(name).resolve()) if name.endswith(".yaml") or os.sep in name else name


def _check_backend(default: dict[str, Any]) -> None:
    others = [f"--{name.removesuffix('_s').replace('_', '-')}" for name in default if name != "backend"]
    if default.get("backend", "template") == "template" and others:
        raise UserError(f"{', '.join(others)}: nothing without a model; say --backend openai_api")
    if default.get("backend") == "openai_api" and not default.get("model"):
        raise UserError("--backend openai_api needs --model")


def _pairs(texts: Sequence[str] | None, flag: str) -> dict[str, str] | None:
    if texts is None:
        return None
    for text in texts:
        if "=" not in text:
            raise UserError(f"{flag} {text}: should be NAME=VALUE")
    return dict(text.split("=", 1) for text in texts)


def _splits(shares: dict[str, str] | None) -> dict[str, str] | None:
    """Splits that are not named get nothing."""
    return None if shares is None else {"train": "0", "validation": "0", "test": "0", **shares}


# ---- commands


def _run(options: argparse.Namespace) -> int:
    from pipeline import drive
    from pipeline.settings import RUN_FILE
    from pipeline.settings import parse as parse_settings

    settings = _settings(options, {"sources": []})
    if not settings.sources:
        raise UserError("name a source, for example `medgloss run SOURCE --out runs/mine`; `medgloss list` shows them")
    out = options.out or os.environ.get(OUT) or f"runs/{Path(settings.sources[0]).stem}"
    store = drive.open_store(out)
    if store.exists(RUN_FILE):
        before = parse_settings(store.text(RUN_FILE), RUN_FILE)
        settings = settings.model_copy(update={"shards": {**before.shards, **settings.shards}})
    return _drive(settings, store, STAGES)


def _stage(options: argparse.Namespace) -> int:
    from pipeline import drive
    from pipeline.settings import RUN_FILE
    from pipeline.settings import parse as parse_settings

    store = drive.open_store(options.run)
    base: dict[str, Any] = {"sources": []}
    if store.exists(RUN_FILE):
        base = parse_settings(store.text(RUN_FILE), RUN_FILE).model_dump(mode="json", exclude_none=True)
    elif options.command != "ingest":
        raise UserError(f"{options.run} is no run folder yet; begin with `medgloss ingest {options.run} SOURCE`")
    elif not options.sources:
        raise UserError(f"{options.run} is no run folder yet; name its sources: `medgloss ingest RUN SOURCE`")
    return _drive(_settings(options, base), store, (options.command,))


def _drive(settings: "Settings", store: Any, stages: "tuple[Stage, ...]") -> int:
    from pipeline import drive
    from pipeline.watch import watch

    finished = drive.drive(settings, store, stages, watch())
    for ledger in finished.ledgers:
        print(f"ledger {ledger}")
    if not finished.changed:
        print("nothing to do: everything is up to date")
    if store.local:
        shown = Path(store.root)
        shown = shown.relative_to(Path.cwd()) if shown.is_relative_to(Path.cwd()) else shown
        print(f"report: {shown}/report.html (open it in a browser)")
        if "export" in stages:
            print(f'training set: {shown}/dataset (datasets.load_dataset("{shown}/dataset"))')
    return 0


def _plan(options: argparse.Namespace) -> int:
    from pipeline.estimate import estimate
    from pipeline.plan import resolve

    print(estimate(resolve(_settings(options, {"sources": []}))))
    return 0


def _init(options: argparse.Namespace) -> int:
    from pipeline.check import write_file
    from pipeline.propose.proposal import propose

    out: Path | None = options.out
    if out is None:
        print(propose(options.folder, Path.cwd()).text, end="")
        return 0
    if out.exists() or out.suffix != ".yaml":
        raise UserError(f"{out}: {'is there already' if out.exists() else 'should end in .yaml'}; name another file")
    found = propose(options.folder, out.absolute().parent)
    write_file(out, found.text.encode())
    print(f"{out}: {found.name}, cases: {found.cases}; edit the lines with say:, then medgloss check {out}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from pipeline.check import check

    found = check(options.source, _settings(options, {"sources": [options.source]}), options.sheet, options.limit)
    print(found.text)
    return 0 if found.ok else 1


def _preview(options: argparse.Namespace) -> int:
    from pipeline.preview import preview

    settings = _settings(options, {"sources": [options.source]})
    print(preview(options.source, settings, options.case, options.show, options.out))
    return 0


def _list(options: argparse.Namespace) -> int:
    from pipeline import catalog, discovery, inventory, vocabulary
    from pipeline.generate.prompting import available

    width = shutil.get_terminal_size((WIDTH, 24)).columns
    if options.missing is not None:
        print(inventory.missing(options.missing, [options.name] if options.name else ()))
        return 0
    if options.name is not None:
        print(catalog.shown(catalog.entry(options.name), vocabulary.load(), width))
        return 0
    sources = catalog.overview([catalog.entry(name) for name in catalog.names()], vocabulary.load(), width)
    print(f"sources\n{sources}")
    print("  (or any descriptor file: docs/adding-a-data-set.md)")
    for title, names in (
        ("annotation kinds", discovery.names("sources/layouts", ".py")),
        ("prompts", available()),
        ("backends", discovery.names("pipeline/generate/backends", ".py")),
        ("executors", discovery.names("pipeline/executors", ".py")),
    ):
        print(f"{title}\n  {', '.join(names)}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from pipeline import drive

    found = drive.report_again(drive.open_store(options.run))
    for ledger in found:
        print(f"ledger {ledger}")
    print(f"report: {options.run}/report.html")
    return 0


def _demo_data(options: argparse.Namespace) -> int:
    from pipeline.ingest.phantoms import write

    if options.folder.exists() and not options.folder.is_dir():
        raise UserError(f"{options.folder}: is a file; name a folder")
    for path in write(options.folder):
        print(path)
    return 0


def _schema(options: argparse.Namespace) -> int:
    import json

    from sources.descriptor import json_schema

    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.doctor import doctor

    marks = {True: "ok  ", False: "FIX ", None: "note"}
    findings = doctor(os.environ, Path.cwd(), options.out)
    for finding in findings:
        print(f"{marks[finding.ok]} {finding.name}: {finding.text}")
    return 1 if any(finding.ok is False for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
