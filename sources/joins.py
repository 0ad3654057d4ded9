"""What other files say of a case: cells of tables joined by key, and entries of annotation files that many share."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError, did_you_mean
from sources import tables, templates
from sources.descriptor import AnnotationSpec, Descriptor, Table, layout
from sources.tables import Rows

OWN = "row"
"""Name that an annotation's `table` gives to the cells of the case's own row."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A table, and what the descriptor takes of it."""

    name: str
    table: Table
    rows: Rows
    cells: tuple[tuple[str, int], ...]
    """Captures, and the place of each in a row."""
    decisive: tuple[int, ...]
    """Places of the cells that say what a case is labelled, or whose it is: its rows must agree on them."""
    looked_up: set[str] = field(default_factory=set)


class Shared(NamedTuple):
    """One annotation whose file speaks of many cases."""

    number: str
    spec: AnnotationSpec
    entries: dict[str, dict[str, str]]
    """File to key to JSON."""
    used: set[tuple[str, str]]


class Tabled(NamedTuple):
    """One annotation that takes all rows of a case."""

    number: str
    table: str
    columns: tuple[tuple[str, int], ...]
    """Those it reads, and their places; of the case's own row, the places do not count."""


def used_by(descriptor: Descriptor) -> frozenset[str] | None:
    """Return the captures that a descriptor's templates use, or None where a layout from outside may use any."""
    if any(spec.kind == "adapter" or spec.kind.endswith(".py") for spec in descriptor.specs):
        return None
    specs = [spec.model_dump() for spec in descriptor.specs]
    used = {name for text in _texts([descriptor.model_dump(exclude={"annotations"}), specs]) for name in _names(text)}
    for spec in descriptor.specs:
        if getattr(spec, "table", None) == OWN:
            columns = columns_of(spec)
            if columns is None:
                return None
            used.update(f"{OWN}.{column}" for column in columns)
    return frozenset(used)


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def _names(text: str) -> set[str]:
    try:
        return templates.captures_of(text) if "{" in text else set()
    except UserError:  # a text with a brace that is no template
        return set()


def columns_of(spec: AnnotationSpec) -> tuple[str, ...] | None:
    """Return the columns that an annotation reads of its table; None: all."""
    named = getattr(layout(spec.kind), "columns", None)
    return tuple(dict.fromkeys(named(spec))) if named else None


# ---- tables


def read(descriptor: Descriptor, root: Path, used: frozenset[str] | None) -> dict[str, Joined]:
    """Read the tables of a source.

    Raises:
        UserError: See `tables.read`.
    """
    joined = {}
    license_name, group = descriptor.license.name, descriptor.cases.group or ""
    per_annotation = [getattr(spec, key, None) or "" for spec in descriptor.specs for key in ("value", "match", "path")]
    deciding = {name for template in (license_name, group, *per_annotation) for name in _names(template)}
    for name, table in descriptor.tables.items():
        rows = tables.read(name, table, root)
        cells = tuple((f"{name}.{column}", place) for place, column in enumerate(rows.columns))
        taken = tuple(pair for pair in cells if used is None or pair[0] in used)
        joined[name] = Joined(name, table, rows, taken, tuple(place for cell, place in cells if cell in deciding))
    return joined


def join(joined: Iterable[Joined], captures: dict[str, str]) -> tuple[str, str] | None:
    """Add the cells of a case's rows to its captures; return the problem of rows that can not be used."""
    problem = None
    for one in joined:
        rows, key = one.rows, templates.fill(one.table.match, captures)
        one.looked_up.add(key)
        row = rows.by_key.get(key)
        if key in rows.undecodable:
            row = None
            problem = "table_encoding", f"table {one.name}: the row is not {one.table.encoding}; declare its encoding"
        captures.update((cell, row[place] if row else "") for cell, place in one.cells)
        told = {tuple(other[place] for place in one.decisive) for other in rows.repeated.get(key, ())}
        if len(told) > 1:
            said = f"its {len(rows.repeated[key])} rows say {len(told)} different things"
            problem = problem or ("contradictory_rows", f"table {one.name}: {said}")
    return problem


def lists_cases(descriptor: Descriptor, table: str) -> bool:
    """Return whether a row of a table without a picture is a missing case."""
    said = descriptor.tables[table].lists_cases
    if said is not None:
        return said
    return any(
        getattr(spec, "table", None) == table or f"{{{table}." in str(getattr(spec, "value", ""))
        for spec in descriptor.specs
    )


# ---- annotations that take all rows of a case


def tabled(descriptor: Descriptor, joined: Mapping[str, Joined], names: Iterable[str]) -> list[Tabled]:
    """Return the annotations that take whole rows.

    Args:
        descriptor: The data set.
        joined: Its tables.
        names: Captures of its cases.

    Raises:
        UserError: No such table, or no such column.
    """
    own = [name.removeprefix(f"{OWN}.") for name in names if name.startswith(f"{OWN}.")]
    known = {name: one.rows.columns for name, one in joined.items()} | ({OWN: tuple(sorted(own))} if own else {})
    found = []
    for n, spec in enumerate(descriptor.specs):
        table = getattr(spec, "table", None)
        if table is None:
            continue
        where = f"{descriptor.id}: annotations.{n}"
        if table not in known:
            raise UserError(f"{where}: no table {table!r}{did_you_mean(table, known)}")
        columns, wanted = known[table], columns_of(spec)
        for column in wanted or ():
            if column not in columns:
                raise UserError(f"{where}: table {table} has no column {column!r}{did_you_mean(column, columns)}")
        found.append(
            Tabled(str(n), table, tuple((c, columns.index(c)) for c in (columns if wanted is None else wanted)))
        )
    return found


def tabled_notes(
    specs: Iterable[Tabled], joined: Mapping[str, Joined], captures: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield annotation number and the case's rows, as a JSON list of objects."""
    for number, table, columns in specs:
        if table == OWN:
            listed = [{column: captures.get(f"{OWN}.{column}", "") for column, _ in columns}]
        else:
            one = joined[table]
            key = templates.fill(one.table.match, captures)
            rows = () if key in one.rows.undecodable else one.rows.of(key)
            listed = [{column: row[place] for column, place in columns} for row in rows]
        if listed:
            yield number, json.dumps(listed, ensure_ascii=False, separators=(",", ":"))


# ---- annotation files that many cases share


def shared(descriptor: Descriptor, paths: Sequence[str], root: Path) -> list[Shared]:
    """Read the annotation files that speak of many cases.

    Raises:
        UserError: There is none, or one is not of its layout.
    """
    found = []
    for n, spec in enumerate(descriptor.specs):
        module: Any = layout(spec.kind)
        if not hasattr(module, "index"):
            continue
        path: str = spec.path  # type: ignore[attr-defined]
        files = [file for file in paths if templates.match(path, file) is not None]
        if not files:
            raise UserError(f"annotations.{n}: no file fits {path!r}")
        found.append(Shared(str(n), spec, {file: module.index(spec, root / file) for file in files}, set()))
    return found


def shared_notes(annotations: Iterable[Shared], captures: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield annotation number and what its file says of a case, as JSON."""
    for number, spec, entries, used in annotations:
        path = templates.fill(spec.path, captures)  # type: ignore[attr-defined]
        key = templates.fill(spec.match, captures)  # type: ignore[attr-defined]
        if key in entries.get(path, {}):
            used.add((path, key))
            yield number, entries[path][key]


def files_of_all(descriptor: Descriptor, root: Path) -> dict[str, tuple[str, ...]]:
    """Return the role and the files of annotations that need some for all cases (class names, say).

    Raises:
        UserError: One is not there.
    """
    found = {}
    for n, spec in enumerate(descriptor.specs):
        named = getattr(layout(spec.kind), "shared_files", None)
        files = tuple(named(spec)) if named else ()
        for file in files:
            if not (root / file).is_file():
                raise UserError(f"{descriptor.id}: annotations.{n}: {file}: no such file")
        if files:
            found[f"{n}.shared"] = files
    return found
