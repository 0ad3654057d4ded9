"""Tables that speak of cases: which column is the key, which hold labels, boxes, the patient."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.propose import naming
from pipeline.propose.files import Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Keys
from pipeline.propose.levels import known
from pipeline.propose.words import words
from pipeline.records import Case
from pipeline.vocabulary import Vocabulary
from sources import sheets
from sources.cells import Row
from sources.templates import fill

MOST_ROWS = 200_000
MOST_LABELS = 60
_DELIMITERS = (",", ";", "\t", "|")
_TRUTH = frozenset(("", "0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false", "True", "False"))
_POSITIVE = frozenset(("1", "1.0", "true", "True"))
_LABEL = frozenset(
    ("label", "labels", "class", "diagnosis", "dx", "finding", "findings", "category", "disease", "pathology",
     "grade", "target", "diagnoses", "type", "abnormality", "level")
)  # fmt: skip
_NO_LABEL = frozenset(
    ("sex", "gender", "age", "view", "projection", "position", "split", "fold", "subset", "set", "date", "license",
     "licence", "modality", "width", "height", "url", "id", "patient", "subject", "filename", "path", "file", "side",
     "laterality", "manufacturer", "source", "version", "x", "y", "w", "h")
)  # fmt: skip
_PATIENT = frozenset(("patient", "subject", "participant", "patientid", "subjectid", "pid"))
_BOXES: Mapping[tuple[str, str, str, str], str] = {
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("x", "y", "width", "height"): "xywh",
    ("x", "y", "w", "h"): "xywh",
}
_SPHERES = (("coordx", "coordy", "coordz"), ("diametermm", "diameter"))


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


class Sheet(NamedTuple):
    """The first rows of a table."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: Keys
    """Keys of the table that say how it is read."""

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def joined(cases: Sequence[Case], seen: Seen, vocabulary: Vocabulary) -> list[Joined]:
    """Return the tables that speak of cases, those that say most first."""
    found = []
    taken = set[str]()
    for path in seen.of("table"):
        name = _name(path, taken)
        one = _joined(name, path, cases, seen, vocabulary)
        if one:
            taken.add(name)
            found.append(one)
    return sorted(found, key=lambda one: (-bool(one.parts), -one.share, one.table["path"]))


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
    parts = tuple(_parts(name, used, column, vocabulary, cases))
    patient = next((c for c in sheet.columns if not _PATIENT.isdisjoint(words(c)) and c != column), None)
    group = f"{{{name}.{patient}}}" if patient and share > 0.9 and all(used.column(patient)) else None
    said = [f"table {name}: column {column!r} is {match} of a case"]
    said += [f"column {patient!r} of table {name} is the patient"] if group else []
    license = next((c for c in sheet.columns if {"license", "licence"} & set(words(c))), None)
    said += [f"column {license!r} of table {name} may be each picture's own licence"] if license else []
    if not parts or 2 * len(used.rows) < len(sheet.rows):
        table["lists_cases"] = "false"
    told = (*said, *(text for part in parts for text in part.assumed))
    return Joined(name, table, parts, group, told, share, license is not None)


# ---- reading, joining


def _opened(path: str, seen: Seen) -> Sheet | None:
    more: Keys = {}
    if sheets.form_of(path) == "delimited":
        more = _how(seen, path)
    try:
        columns, rows = sheets.read(seen.root / path, path, more.get("delimiter", ","), more.get("encoding", "utf-8"))
        taken = tuple(row for _, row in zip(range(MOST_ROWS), rows, strict=False))
    except UserError:
        return None
    good = tuple(column for column in columns if not re.search(r"[{}:\n]", column))
    places = [columns.index(column) for column in good]
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


# ---- what it says


def _parts(name: str, sheet: Sheet, key: str, vocabulary: Vocabulary, cases: Sequence[Case]) -> Iterator[Part]:
    folded = {re.sub(r"[\W_]+", "", column.lower()): column for column in reversed(sheet.columns)}
    spheres = _spheres(name, folded, cases)
    if spheres:
        yield spheres
        return
    label = _label(sheet, key, vocabulary)
    boxes = next((columns for columns in _BOXES if all(column in folded for column in columns)), None)
    if boxes:
        of = {"label_column": label} if label else {"label": "object"}
        ask = {} if label else {"label": "what is in the boxes"}
        keys: Keys = {"kind": "boxes", "table": name, "box": [folded[column] for column in boxes]}
        yield Part({**keys, "format": _BOXES[boxes], **of, **_of_boxes(folded, boxes)}, (), (), ask)
        return
    truth = [column for column in _truth(sheet, key) if column != label]
    if len(truth) > 1:
        yield Part({"kind": "multilabel", "table": name, "columns": truth}, (), (
            f"columns of table {name} with 1, 0, -1 or nothing are labels, -1 is uncertain",
        ))  # fmt: skip
    if label:
        yield Part(_classes(name, sheet, label), (), (f"column {label!r} of table {name} is the label",))


def _of_boxes(folded: Mapping[str, str], boxes: Sequence[str]) -> Keys:
    """Return the columns of the picture's size and of the person who drew, where there are any."""
    sides = [folded[side] for side in ("width", "height") if side in folded and side not in boxes]
    reader = next(
        (folded[one] for one in ("radid", "reader", "readerid", "annotator", "annotatorid") if one in folded), None
    )
    return {**({"size": sides} if len(sides) == 2 else {}), **({"reader": reader} if reader else {})}


def _spheres(name: str, folded: Mapping[str, str], cases: Sequence[Case]) -> Part | None:
    center, sizes = _SPHERES
    diameter = next((folded[size] for size in sizes if size in folded), None)
    if diameter is None or not all(column in folded for column in center):
        return None
    keys = {"kind": "spheres", "table": name, "center": [folded[column] for column in center], "diameter": diameter}
    said = ("coordinates are LPS mm, as LUNA16 has them",)
    return Part({**keys, "label": "finding"}, (), said, {"label": "what the spheres are"})


def _truth(sheet: Sheet, key: str) -> list[str]:
    """Return the columns whose cells say yes, no, uncertain or nothing."""
    found = []
    for column in sheet.columns:
        cells = set(sheet.column(column))
        said = set(words(column))
        if column != key and cells <= _TRUTH and not cells.isdisjoint(_POSITIVE) and said.isdisjoint(_NO_LABEL):
            found.append(column)
    return found


def _label(sheet: Sheet, key: str, vocabulary: Vocabulary) -> str | None:
    """Return the column of the label: by its name, or because the vocabulary knows its cells."""
    worth = {}
    for place, column in enumerate(sheet.columns):
        said = set(words(column))
        values = [value for value in _values(sheet.column(column)) if value]
        few = 0 < len(values) <= MOST_LABELS and len(values) <= max(2, 0.6 * len(sheet.rows))
        if column == key or not few or (not said.isdisjoint(_NO_LABEL) and said.isdisjoint(_LABEL)):
            continue
        share = known(values, vocabulary)
        named = not said.isdisjoint(_LABEL)
        if (named and len(values) > 1) or share >= 0.5:
            worth[column] = (share >= 0.5, named, share, len(values) > 1, -place)
    return max(worth, key=lambda column: worth[column]) if worth else None


def _values(cells: Sequence[str]) -> list[str]:
    """Return the different labels of some cells, whose parts a bar may divide."""
    return sorted({part.strip() for cell in cells for part in cell.split(_separator(cells) or "\0")})


def _separator(cells: Sequence[str]) -> str | None:
    whole = Counter(cells)
    for separator in ("|", ";"):
        if any(separator in cell for cell in whole):
            return separator
    return None


def _classes(name: str, sheet: Sheet, label: str) -> Keys:
    cells = sheet.column(label)
    keys: Keys = {"kind": "classes", "value": f"{{{name}.{label}}}"}
    if any(cell.startswith("[") and cell.endswith("]") for cell in cells):
        return {**keys, "as_list": "true"}
    separator = _separator(cells)
    return {**keys, "separator": separator} if separator else keys
