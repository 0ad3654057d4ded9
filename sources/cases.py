"""From a descriptor and a folder to the list of cases: cheap, opens no picture, lists what does not fit."""

import csv
import functools
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, did_you_mean
from pipeline.records import Case
from sources import joins, listing, rows, templates
from sources.descriptor import AnnotationSpec, Descriptor, layout
from sources.joins import Joined, Shared
from sources.listing import Found, Listed, safe

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


def plan(descriptor: Descriptor, root: Path, paths: templates.Paths | None = None) -> CasePlan:
    """List the cases of a source.

    Args:
        descriptor: The data set.
        root: Its folder.
        paths: What lies in it, where that has been listed already.

    Raises:
        UserError: The folder is absent, or the descriptor does not fit it.
    """
    paths = listing.walk(root) if paths is None else paths
    used = joins.used_by(descriptor)
    joined = joins.read(descriptor, root, used)
    listed = _listed(descriptor, paths, root, used)
    _check_names(descriptor, joined, listed)
    _check_layouts(descriptor)
    shared = joins.shared(descriptor, paths, root)
    tabled = joins.tabled(descriptor, joined, listed.names)
    of_all = joins.files_of_all(descriptor, root)
    claimed = {table.path for table in descriptor.tables.values()}
    claimed |= {path for entry in shared for path in entry.entries} | {
        path for files in of_all.values() for path in files
    }
    cases = []
    for found in listed.cases.values():
        problem = joins.join(joined.values(), found.captures)
        notes = {
            **dict(joins.shared_notes(shared, found.captures)),
            **dict(joins.tabled_notes(tabled, joined, found.captures)),
        }
        by_role = {"image": found.files, **dict(_per_case(descriptor.specs, paths, found.captures)), **of_all}
        voxels = listing.companions((path for role in by_role.values() for path in role), paths)
        by_role |= {"voxels": voxels} if voxels else {}
        claimed.update(path for role in by_role.values() for path in role)
        cases.append(_case(descriptor, found, by_role, notes, problem))
    claimed |= listing.excluded(descriptor, paths)
    cases += _absent(descriptor, joined, shared, paths, claimed, cases)
    cases.sort(key=lambda case: case.id)
    unclaimed = tuple(path for path in paths if path not in claimed)
    if descriptor.privacy.hash_ids:
        return _hashed(cases, unclaimed)
    return CasePlan(tuple(cases), unclaimed, {})


def form_of(case: Case, descriptor: Descriptor) -> str:
    """Return how a case is read: picture, volume, series, video or rows."""
    if descriptor.cases.rows is not None:
        return "rows"
    return descriptor.cases.form or listing.form_of_file(case.files["image"][0])


def _listed(descriptor: Descriptor, paths: Sequence[str], root: Path, used: frozenset[str] | None) -> Listed:
    spec = descriptor.cases
    if (spec.form or "rows") != "rows" and spec.rows is not None:
        raise UserError(f"{descriptor.id}: cases.form {spec.form} does not go with cases.rows")
    if spec.form == "rows" and spec.rows is None:
        raise UserError(f"{descriptor.id}: cases.form rows needs cases.rows, which says what a row holds")
    listed = rows.listed(descriptor, paths, root, used) if spec.rows else listing.files(descriptor, paths)
    if not listed.cases:
        said = "no row of a file that fits" if any(listing.matching(spec, paths)) else "no file fits"
        raise UserError(f"{descriptor.id}: {said} cases.match {spec.match[0]!r} in {root}")
    return listed


def _check_names(descriptor: Descriptor, joined: Mapping[str, Joined], listed: Listed) -> None:
    """Refuse a template that uses a name which nothing captures: a typing error would empty the whole source."""
    known = set(listed.names)
    for name, one in joined.items():
        known |= {f"{name}.{column}" for column in one.rows.columns}
    used = {"cases.id": descriptor.cases.id, "cases.group": descriptor.cases.group}
    used |= {"license.name": descriptor.license.name}
    used |= {key: getattr(descriptor, key) for key in ("modality", "sub_modality", "body_part")}
    used |= {f"attributes.{name}": template for name, template in descriptor.attributes.items()}
    used |= {f"tables.{name}.match": table.match for name, table in descriptor.tables.items()}
    if descriptor.cases.rows:
        used |= {"cases.rows.text": descriptor.cases.rows.text}
    for n, spec in enumerate(descriptor.specs):
        used |= {f"annotations.{n}.{key}": getattr(spec, key, None) for key in ("value", "match")}
    for where, template in used.items():
        _check_template(f"{descriptor.id}: {where}", templates.captures_of(template or ""), known)
    for n, spec in enumerate(descriptor.specs):  # a path may capture, but no cells of tables
        cells = {name for name in templates.captures_of(getattr(spec, "path", None) or "") if "." in name}
        _check_template(f"{descriptor.id}: annotations.{n}.path", cells, known)


def _check_template(where: str, names: set[str], known: set[str]) -> None:
    for name in sorted(names - known):
        raise UserError(f"{where}: {name!r} is not captured{did_you_mean(name, known)}")


def _check_layouts(descriptor: Descriptor) -> None:
    """Let layouts refuse what no file can tell: a Python function that is not there, say."""
    for spec in descriptor.specs:
        check: Any = getattr(layout(spec.kind), "check", None)
        if check:
            check(spec)


def _case(
    descriptor: Descriptor,
    found: Found,
    by_role: Mapping[str, tuple[str, ...]],
    notes: Mapping[str, str],
    problem: tuple[str, str] | None,
) -> Case:
    # an empty group would make one patient of all pictures that lack a row
    group = templates.fill(descriptor.cases.group or "", found.captures).strip() or found.id
    return Case(
        id=found.id,
        source=descriptor.id,
        group=safe(group),
        files=by_role,
        captures=found.captures,
        notes=notes,
        problem=found.problem or problem,
        channels=found.channels,
        row=found.row,
    )


def is_per_case(spec: AnnotationSpec) -> bool:
    """Return whether each case has annotation files of its own."""
    return bool(getattr(layout(spec.kind), "PER_CASE", False) and getattr(spec, "path", None))


def _per_case(
    specs: Iterable[AnnotationSpec], paths: Sequence[str], captures: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    for n, spec in enumerate(specs):
        if is_per_case(spec):
            yield str(n), tuple(path for path, _ in templates.find(spec.path, paths, captures))  # type: ignore[attr-defined]


def _absent(
    descriptor: Descriptor,
    joined: Mapping[str, Joined],
    shared: Iterable[Shared],
    paths: Sequence[str],
    claimed: set[str],
    cases: Sequence[Case],
) -> list[Case]:
    """Return the annotations that have no picture, each as a case that can not be read."""
    missing: list[tuple[str, str]] = []
    for name, one in joined.items():
        if joins.lists_cases(descriptor, name):
            missing += _without_picture(one)
    for number, _, entries, used in shared:
        unused = sorted((path, key) for path, of_file in entries.items() for key in of_file if (path, key) not in used)
        missing += [(key, f"annotation {number} lists it, but there is no picture") for _, key in unused]
    missing += [(key, f"{detail}, but there is no picture") for key, detail in _orphans(descriptor, paths, claimed)]
    taken = {case.id for case in cases} if missing else set[str]()
    nothing: Mapping[str, Any] = {}
    absent = []
    for key, detail in missing:
        case_id = safe(key)
        while case_id in taken:
            case_id += "_missing"
        taken.add(case_id)
        absent.append(Case(case_id, descriptor.id, case_id, nothing, nothing, nothing, ("missing_image", detail)))
    return absent


def _without_picture(one: Joined) -> Iterator[tuple[str, str]]:
    """Yield the keys that no case looked up, and a name for each row without a key."""
    said = f"table {one.name} has a row for it, but there is no picture"
    alone = sorted(key for key in one.rows.by_key if key not in one.looked_up)
    folded = {key.casefold() for key in one.looked_up} if alone else set[str]()
    for key in alone:
        yield key, f"{said}; one differs in upper and lower case alone" if key.casefold() in folded else said
    for n in range(one.rows.without_key):
        yield f"{one.name}_without_key_{n}", f"a row of table {one.name} has an empty key, so it names no picture"


def _orphans(descriptor: Descriptor, paths: Sequence[str], claimed: set[str]) -> list[tuple[str, str]]:
    """Find the files of a per-case annotation that no case claimed."""
    found: dict[str, str] = {}
    for n, spec in enumerate(descriptor.specs):
        if not is_per_case(spec):
            continue
        for path in paths:
            captures = None if path in claimed else templates.match(spec.path, path)  # type: ignore[attr-defined]
            if captures is None:
                continue
            claimed.add(path)
            wanted = templates.captures_of(descriptor.cases.id) if descriptor.cases.id else set()
            whole = wanted and wanted <= set(captures)
            key = templates.fill(descriptor.cases.id or "", captures) if whole else listing.built_in(path)["stem"]
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
    digest.update(repr((sorted(case.notes.items()), case.problem, case.channels, case.row)).encode("utf-8", "replace"))
    for role, paths in sorted(case.files.items()):
        for path in paths:
            digest.update(f"{role} {path} {_state(root / path, contents)}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state(path: Path, contents: bool) -> str:
    try:
        found = path.stat()
        if contents:
            return _hash(path, found.st_size, found.st_mtime_ns)
    except OSError as error:
        return f"unreadable {error.errno}"
    return f"{found.st_size} {found.st_mtime_ns}"


@functools.lru_cache(maxsize=64)
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file once, even where a million cases are its rows; size and time tell whether it is still the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_names(names: Mapping[str, Mapping[str, str]], path: Path) -> None:
    """Write the table from hashed ids to ids, source by source, readable by its owner only."""
    rows = [(source, *pair) for source, of_source in sorted(names.items()) for pair in sorted(of_source.items())]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # the mode of os.open is for new files only
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("source", "id", "case"), *rows])
