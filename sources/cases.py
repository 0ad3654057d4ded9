"""From a descriptor and a folder to the list of cases: cheap, opens no picture, lists what does not fit."""

import csv
import hashlib
import hmac
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.errors import UserError, did_you_mean
from pipeline.records import Case
from sources import tables, templates
from sources.descriptor import AnnotationSpec, Cases, Descriptor, Table, layout

ID_KEY = "MEDGLOSS_ID_KEY"


@dataclass(frozen=True, slots=True)
class CasePlan:
    """What a source holds."""

    cases: tuple[Case, ...]
    """Sorted by id; those that can not be read carry their problem."""
    unclaimed: tuple[str, ...]
    """Files that no template of the descriptor speaks of."""
    names: Mapping[str, str]
    """Hashed id to the id that it stands for; empty where ids are not hashed. Never leaves `private/`."""


class Shared(NamedTuple):
    """One annotation whose file speaks of many cases."""

    number: str
    spec: AnnotationSpec
    entries: dict[str, dict[str, str]]
    """File to key to JSON."""
    used: set[tuple[str, str]]


def plan(descriptor: Descriptor, root: Path) -> CasePlan:
    """List the cases of a source.

    Args:
        descriptor: The data set.
        root: Its folder.

    Raises:
        UserError: The folder is absent, or the descriptor does not fit it.
    """
    paths = walk(root)
    joined = {name: tables.read(name, table, root) for name, table in descriptor.tables.items()}
    found = _matched(descriptor.cases, paths)
    if not found:
        raise UserError(f"{descriptor.id}: no file fits cases.match {descriptor.cases.match[0]!r} in {root}")
    _check_names(descriptor, joined)
    shared = [_shared(n, spec, paths, root) for n, spec in enumerate(descriptor.specs) if _is_shared(spec)]
    claimed = {table.path for table in descriptor.tables.values()}
    claimed |= {path for entry in shared for path in entry.entries}
    cases, looked_up = [], defaultdict[str, set[str]](set)
    for case_id, (files, captures) in found.items():
        cells, problem = _join(descriptor.tables, joined, captures, looked_up)
        captures = {**captures, **cells}
        # an empty group would make one patient of all pictures that lack a row
        group = templates.fill(descriptor.cases.group or "", captures).strip() or case_id
        by_role = {"image": files, **_per_case(descriptor.specs, paths, captures)}
        claimed.update(path for role in by_role.values() for path in role)
        notes = _notes(shared, captures)
        cases.append(Case(case_id, descriptor.id, safe(group), by_role, captures, notes, problem))
    cases += _absent(descriptor, joined, looked_up, shared, paths, claimed, {case.id for case in cases})
    cases.sort(key=lambda case: case.id)
    unclaimed = tuple(path for path in paths if path not in claimed)
    if descriptor.privacy.hash_ids:
        return _hashed(cases, unclaimed)
    return CasePlan(tuple(cases), unclaimed, {})


def form_of(case: Case, descriptor: Descriptor) -> str:
    """Return how a case is read: picture, volume or series."""
    if descriptor.cases.form:
        return descriptor.cases.form
    name = case.files["image"][0].lower()
    return "volume" if name.endswith((".nii", ".nii.gz")) else "series" if name.endswith(".dcm") else "picture"


def _check_names(descriptor: Descriptor, joined: Mapping[str, tables.Rows]) -> None:
    """Refuse a template that uses a name which nothing captures: a typing error would empty the whole source."""
    known = {*templates.BUILT_IN, *(name for match in descriptor.cases.match for name in templates.captures_of(match))}
    for name, rows in joined.items():
        known |= {f"{name}.{column}" for column in rows.columns}
    used = {"cases.id": descriptor.cases.id, "cases.group": descriptor.cases.group}
    used |= {f"attributes.{name}": template for name, template in descriptor.attributes.items()}
    used |= {f"tables.{name}.match": table.match for name, table in descriptor.tables.items()}
    for n, spec in enumerate(descriptor.specs):
        used |= {f"annotations.{n}.{key}": getattr(spec, key, None) for key in ("value", "match")}
    for where, template in used.items():
        for name in sorted(templates.captures_of(template or "") - known):
            raise UserError(f"{descriptor.id}: {where}: {name!r} is not captured{did_you_mean(name, known)}")


def walk(root: Path) -> list[str]:
    """List the files below a folder, relative, sorted, without hidden ones and macOS's `._` shadows.

    Raises:
        UserError: No such folder.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; say where the data is with --data or --root")
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        at = PurePosixPath(Path(folder).relative_to(root))
        found += [str(at / file) for file in files if not file.startswith(".")]
    return sorted(found)


def safe(text: str) -> str:
    """Make a text safe in a path and an id; letters of every script stay.

    >>> safe("Viral pneumonia/file 3#a")
    'Viral_pneumonia/file_3_a'
    """
    cleaned = re.sub(r"[^\w.()+/-]", "_", text)
    return "/".join(part if part.strip(".") else "_" for part in cleaned.split("/"))


def _captures(spec: Cases, path: str) -> dict[str, str] | None:
    if any(templates.match(template, path) is not None for template in spec.exclude):
        return None
    for template in spec.match:
        found = templates.match(template, path)
        if found is not None:
            return {**_built_in(path), **found}
    return None


def _built_in(path: str) -> dict[str, str]:
    pure = PurePosixPath(path)
    stem = pure.name.removesuffix(".gz")
    suffix = pure.name[len(PurePosixPath(stem).stem) :]
    folder = "" if str(pure.parent) == "." else str(pure.parent)
    return {
        "path": path,
        "name": pure.name,
        "stem": PurePosixPath(stem).stem,
        "suffix": suffix,
        "folder": folder,
    }


def _matched(spec: Cases, paths: Sequence[str]) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Group the matching files by case id; the captures are those of the first file."""
    files: dict[str, list[str]] = defaultdict(list)
    captures: dict[str, dict[str, str]] = {}
    for path in paths:
        found = _captures(spec, path)
        if found is None:
            continue
        case_id = safe(templates.fill(spec.id, found) if spec.id else path.removesuffix(found["suffix"]))
        files[case_id].append(path)
        captures.setdefault(case_id, found)
    if spec.form != "series":
        for case_id, of_case in files.items():
            if len(of_case) > 1:
                raise UserError(
                    f"case {case_id!r} has {len(of_case)} files ({of_case[0]}, {of_case[1]}); add a capture to "
                    "cases.id, or say form: series"
                )
    return {case_id: (tuple(of_case), captures[case_id]) for case_id, of_case in files.items()}


def _join(
    specs: Mapping[str, Table],
    joined: Mapping[str, tables.Rows],
    captures: Mapping[str, str],
    looked_up: dict[str, set[str]],
) -> tuple[dict[str, str], tuple[str, str] | None]:
    """Return the cells of the case's rows as `table.column`, and the problem of a row that can not be read."""
    cells: dict[str, str] = {}
    problem = None
    for name, table in specs.items():
        key = templates.fill(table.match, {**captures, **cells})
        looked_up[name].add(key)
        row = joined[name].by_key.get(key, {})
        if key in joined[name].undecodable:
            row = {}
            problem = (
                "table_encoding",
                f"table {name}: the row is not {table.encoding}; declare its encoding",
            )
        cells |= {f"{name}.{column}": row.get(column, "") for column in joined[name].columns}
    return cells, problem


def _is_shared(spec: AnnotationSpec) -> bool:
    return hasattr(layout(spec.kind), "index")


def _per_case(
    specs: Iterable[AnnotationSpec], paths: Sequence[str], captures: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    return {
        str(n): tuple(path for path, _ in templates.find(spec.path, paths, captures))  # type: ignore[attr-defined]
        for n, spec in enumerate(specs)
        if getattr(layout(spec.kind), "PER_CASE", False)
    }


def _shared(n: int, spec: Any, paths: Sequence[str], root: Path) -> Shared:
    files = [path for path in paths if templates.match(spec.path, path) is not None]
    if not files:
        raise UserError(f"annotations.{n}: no file fits {spec.path!r}")
    module = layout(spec.kind)
    return Shared(str(n), spec, {path: module.index(spec, root / path) for path in files}, set())


def _notes(shared: Iterable[Shared], captures: Mapping[str, str]) -> dict[str, str]:
    notes = {}
    for number, spec, entries, used in shared:
        path = templates.fill(spec.path, captures)  # type: ignore[attr-defined]
        key = templates.fill(spec.match, captures)  # type: ignore[attr-defined]
        if key in entries.get(path, {}):
            notes[number] = entries[path][key]
            used.add((path, key))
    return notes


def _absent(
    descriptor: Descriptor,
    joined: Mapping[str, tables.Rows],
    looked_up: Mapping[str, set[str]],
    shared: Iterable[Shared],
    paths: Sequence[str],
    claimed: set[str],
    taken: set[str],
) -> list[Case]:
    """List the annotations that have no picture, each as a case that can not be read."""
    missing: list[tuple[str, str]] = []
    for name in descriptor.tables:
        if _lists_cases(descriptor, name):
            keys = sorted(set(joined[name].by_key) - looked_up[name])
            missing += [(key, f"table {name} has a row for it") for key in keys]
    for number, _, entries, used in shared:
        unused = sorted((path, key) for path, of_file in entries.items() for key in of_file if (path, key) not in used)
        missing += [(key, f"annotation {number} lists it") for _, key in unused]
    missing += _orphans(descriptor, paths, claimed)
    cases = []
    for key, detail in missing:
        case_id = safe(key)
        while case_id in taken:
            case_id += "_missing"
        taken.add(case_id)
        cases.append(
            Case(
                case_id,
                descriptor.id,
                case_id,
                {},
                {},
                {},
                ("missing_image", f"{detail}, but there is no picture"),
            )
        )
    return cases


def _lists_cases(descriptor: Descriptor, table: str) -> bool:
    said = descriptor.tables[table].lists_cases
    used = any(f"{{{table}." in str(getattr(spec, "value", "")) for spec in descriptor.specs)
    return used if said is None else said


def _orphans(descriptor: Descriptor, paths: Sequence[str], claimed: set[str]) -> list[tuple[str, str]]:
    """Find the files of a per-case annotation that no case claimed."""
    found: dict[str, str] = {}
    for n, spec in enumerate(descriptor.specs):
        if not getattr(layout(spec.kind), "PER_CASE", False):
            continue
        for path in paths:
            captures = templates.match(spec.path, path)  # type: ignore[attr-defined]
            if captures is None or path in claimed:
                continue
            claimed.add(path)
            wanted = templates.captures_of(descriptor.cases.id) if descriptor.cases.id else set()
            whole = wanted and wanted <= set(captures)
            key = templates.fill(descriptor.cases.id or "", captures) if whole else _built_in(path)["stem"]
            found.setdefault(key, f"annotation {n} has a file for it")
    return sorted(found.items())


def _hashed(cases: Sequence[Case], unclaimed: tuple[str, ...]) -> CasePlan:
    key = os.environ.get(ID_KEY, "")
    if len(key) < 16:
        raise UserError(f"{cases[0].source} hashes its ids: set {ID_KEY} to a secret of at least 16 characters")
    names = {}
    hidden = []
    for case in cases:
        names[_keyed(key, case.id)] = case.id
        hidden.append(replace(case, id=_keyed(key, case.id), group=_keyed(key, case.group)))
    return CasePlan(tuple(sorted(hidden, key=lambda case: case.id)), unclaimed, names)


def _keyed(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:20]


def fingerprint(case: Case, root: Path, contents: bool = False) -> str:
    """Return a digest of all that a case is read from: its files' size and time (or contents), captures and notes."""
    digest = hashlib.sha256(repr((case.id, case.group, sorted(case.captures.items()))).encode("utf-8", "replace"))
    digest.update(repr((sorted(case.notes.items()), case.problem)).encode())
    for role, paths in sorted(case.files.items()):
        for path in paths:
            digest.update(f"{role} {path} {_state(root / path, contents)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(path: Path, contents: bool) -> str:
    try:
        if contents:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        found = path.stat()
    except OSError as error:
        return f"unreadable {error.errno}"
    return f"{found.st_size} {found.st_mtime_ns}"


def write_names(names: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """Write the table from hashed ids to ids, source by source, readable by its owner only."""
    rows = [(source, *pair) for source, of_source in sorted(names.items()) for pair in sorted(of_source.items())]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # the mode of os.open is for new files only
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("source", "id", "case"), *rows])
