"""Tables that speak of cases: which column is the key, which hold labels, boxes, the patient."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.propose import columns, naming
from pipeline.propose.columns import Sheet
from pipeline.propose.files import Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Keys
from pipeline.propose.words import words
from pipeline.records import Case
from pipeline.vocabulary import Vocabulary
from sources import sheets
from sources.templates import fill

MOST_ROWS = 200_000
_FEW_FILES = 12
_DELIMITERS = (",", ";", "\t", "|")
_PATIENT = frozenset(("patient", "subject", "participant", "patientid", "subjectid", "pid"))


class Joined(NamedTuple):
    """A table, how it is joined, and what it says."""

    name: str
    table: Keys
    parts: tuple[Part, ...]
    group: str | None
    """Template of the patient."""
    assumed: tuple[str, ...]
    share: float
    """Of the cases that have a row."""
    licensed: bool
    """It may have a licence for each picture."""


def joined(cases: Sequence[Case], seen: Seen, vocabulary: Vocabulary) -> list[Joined]:
    """Return the tables that speak of cases, those that say most first."""
    found = []
    taken = set[str]()
    for path in (*seen.of("table"), *_lists(seen)):
        name = _name(path, taken)
        one = _joined(name, path, cases, seen, vocabulary)
        if one:
            taken.add(name)
            found.append(one)
    return sorted(found, key=lambda one: (-bool(one.parts), -one.share, one.table["path"]))


def _lists(seen: Seen) -> list[str]:
    """Return JSON files that may be tables: one for many cases, not one each."""
    counts = Counter(path.rpartition("/")[0] for path in seen.of("json"))
    return [path for path in seen.of("json") if counts[path.rpartition("/")[0]] <= _FEW_FILES]


def _name(path: str, taken: set[str]) -> str:
    stem = re.sub(r"\W+", "_", path.rpartition("/")[2].partition(".")[0].lower(), flags=re.ASCII).strip("_") or "t"
    name = f"t_{stem}" if stem[0].isdigit() or stem == "row" else stem
    return next(f"{name}{n or ''}" for n in range(len(taken) + 2) if f"{name}{n or ''}" not in taken)


def _joined(name: str, path: str, cases: Sequence[Case], seen: Seen, vocabulary: Vocabulary) -> Joined | None:
    sheet = _opened(path, seen)
    key = _key(sheet, cases) if sheet else None
    if sheet is None or key is None:
        return None
    column, match, strip, share = key
    table: Keys = {"path": path, "key": column, "match": match, **({"strip": strip} if strip else {}), **sheet.more}
    used = _only(sheet, key, cases)
    parts = tuple(
        part for part in columns.parts(name, used, column, vocabulary) if not _repeats(part, used, key, cases)
    )
    patient = next((c for c in sheet.columns if not _PATIENT.isdisjoint(words(c)) and c != column), None)
    group = f"{{{name}.{patient}}}" if patient and share > 0.9 and all(used.column(patient)) else None
    assumed = [f"table {name}: column {column!r} is {match} of a case"]
    assumed += [f"column {patient!r} of table {name} is the patient"] if group else []
    license = next((c for c in sheet.columns if {"license", "licence"} & set(words(c))), None)
    assumed += [f"column {license!r} of table {name} may be each picture's own licence"] if license else []
    if not parts or 2 * len(used.rows) < len(sheet.rows):
        table["lists_cases"] = "false"
    told = (*assumed, *(text for part in parts for text in part.assumed))
    return Joined(name, table, parts, group, told, share, license is not None)


def _repeats(part: Part, used: Sheet, key: "_Key", cases: Sequence[Case]) -> bool:
    """Return whether a label is only the folder's name once more."""
    value = str(part.keys.get("value", ""))
    column = value[value.find(".") + 1 : -1]
    if part.keys["kind"] != "classes" or column not in used.columns:
        return False
    folder = {fill(key.match, case.captures): case.captures.get("class") for case in cases}
    rows = zip(used.column(key.column), used.column(column), strict=True)
    return all(folder.get(told.removeprefix(key.strip)) == cell for told, cell in rows)


# ---- reading, joining


def _opened(path: str, seen: Seen) -> Sheet | None:
    more: Keys = {}
    if sheets.form_of(path) == "delimited":
        more = _how(seen, path)
    try:
        named, rows = sheets.read(seen.root / path, path, more.get("delimiter", ","), more.get("encoding", "utf-8"))
        taken = tuple(row for _, row in zip(range(MOST_ROWS), rows, strict=False))
    except UserError:
        return None
    good = tuple(column for column in named if not re.search(r"[{}:\n]", column))
    places = [named.index(column) for column in good]
    return Sheet(good, tuple(tuple(row[at] for at in places) for row in taken), more) if taken and good else None


def _how(seen: Seen, path: str) -> Keys:
    """Return delimiter and encoding, where they are not the usual ones."""
    try:
        lines = sheets.read(seen.root / path, path, "\x01").columns
        with (seen.root / path).open("rb") as file:
            start = file.read(1 << 20)
    except (UserError, OSError):
        return {}
    header = lines[0] if lines else ""
    delimiter = max(_DELIMITERS, key=header.count)
    found: Keys = (
        {} if delimiter == "," or not header.count(delimiter) else {"delimiter": delimiter.replace("\t", "\\t")}
    )
    if not path.endswith(".gz"):
        try:
            start[: start.rfind(b"\n") + 1].decode()
        except UnicodeDecodeError:
            found["encoding"] = "cp1252"
    return found


class _Key(NamedTuple):
    column: str
    match: str
    strip: str
    share: float


def _key(sheet: Sheet, cases: Sequence[Case]) -> _Key | None:
    """Return the column whose cells name cases, and what of a case they name."""
    names = sorted(set.intersection(*(set(case.captures) for case in cases)) - {"suffix", "split", "class"})
    wanted = {name: {case.captures[name] for case in cases if case.captures[name]} for name in names}
    best: tuple[float, int, _Key] | None = None
    for column in sheet.columns:
        cells = set(sheet.column(column)) - {""}
        for order, name in enumerate(sorted(names, key=lambda name: (name not in ("name", "stem", "path"), name))):
            strip = _prefix(cells, wanted[name]) if name == "path" else ""
            hits = wanted[name] & {cell.removeprefix(strip) for cell in cells} if cells else set()
            if len(hits) < min(2, len(cases)) or len(wanted[name]) == 1 < len(cases):
                continue
            share = sum(case.captures[name] in hits for case in cases) / len(cases)
            worth = max(share, 0.9 * len(hits) / len(cells))
            if worth >= 0.5 and (best is None or (worth, -order) > best[:2]):
                best = worth, -order, _Key(column, f"{{{name}}}", strip, share)
    return best[2] if best else _key_of_paths(sheet, cases)


def _key_of_paths(sheet: Sheet, cases: Sequence[Case]) -> _Key | None:
    """Return the column whose cells end in the names of cases' files and begin with folders of theirs."""
    named = naming.by_name(cases)
    for column in sheet.columns:
        cells = sorted({cell for cell in sheet.column(column) if "/" in cell})
        found = [(cell, case) for cell in cells if (case := naming.case_of(cell, "", named)) is not None]
        match = naming.match(found) if 2 * len(found) >= max(2, len(cells)) else None
        if match and "{" in match:
            return _Key(column, match, "", len({case.id for _, case in found}) / len(cases))
    return None


def _prefix(cells: set[str], paths: set[str]) -> str:
    """Return what stands before paths in cells: `CheXpert-v1.0-small/train/…`."""
    for cell in sorted(cells)[:200]:
        at = cell.find("/") + 1
        while at:
            if cell[at:] in paths:
                return cell[:at]
            at = cell.find("/", at) + 1
    return ""


def _only(sheet: Sheet, key: _Key, cases: Sequence[Case]) -> Sheet:
    """Return the rows that speak of a case."""
    wanted = {fill(key.match, case.captures) for case in cases}
    place = sheet.columns.index(key.column)
    return sheet._replace(rows=tuple(row for row in sheet.rows if row[place].removeprefix(key.strip) in wanted))
