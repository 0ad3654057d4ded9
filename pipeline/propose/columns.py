"""What the columns of a table say of cases: labels, findings with 1 and 0, boxes, spheres."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.propose.files import Part
from pipeline.propose.guess import Keys
from pipeline.propose.levels import known
from pipeline.propose.words import words
from pipeline.vocabulary import Vocabulary
from sources.cells import Row

MOST_LABELS = 60
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
_BOXES: Mapping[tuple[str, str, str, str], str] = {
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("x", "y", "width", "height"): "xywh",
    ("x", "y", "w", "h"): "xywh",
}
_SPHERES = (("coordx", "coordy", "coordz"), ("diametermm", "diameter"))


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


def parts(name: str, sheet: Sheet, key: str, vocabulary: Vocabulary) -> Iterator[Part]:
    """Yield the annotations that a table holds.

    Args:
        name: Of the table, in the descriptor.
        sheet: Its rows that speak of a case.
        key: The column that names cases.
        vocabulary: Tells labels.
    """
    folded = {re.sub(r"[\W_]+", "", column.lower()): column for column in reversed(sheet.columns)}
    spheres = _spheres(name, folded)
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
    objects = next((column for column in sheet.columns if column.lower() in ("objects", "boxes")), None)
    if objects and any(cell.startswith(("{", "[{")) for cell in sheet.column(objects)):
        said = (f"column {objects!r} of table {name} holds boxes as x, y, width, height",)
        yield Part({"kind": "objects", "value": f"{{{name}.{objects}}}"}, (), said)
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


def _spheres(name: str, folded: Mapping[str, str]) -> Part | None:
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
    """Return the different labels of some cells, which may be lists or have parts that a bar divides."""
    different = sorted(set(cells))
    if _are_lists(different):
        return sorted({part for cell in different for part in re.findall("['\"]([^'\"]+)['\"]", cell)})
    separator = _separator(different) or "\0"
    return sorted({part.strip() for cell in different for part in cell.split(separator)})


def _are_lists(cells: Sequence[str]) -> bool:
    return any(cell.startswith("[") and cell.endswith("]") for cell in cells)


def _separator(cells: Sequence[str]) -> str | None:
    return next((separator for separator in ("|", ";") if any(separator in cell for cell in cells)), None)


def _classes(name: str, sheet: Sheet, label: str) -> Keys:
    cells = sheet.column(label)
    keys: Keys = {"kind": "classes", "value": f"{{{name}.{label}}}"}
    if _are_lists(cells):
        return {**keys, "as_list": "true"}
    separator = _separator(cells)
    return {**keys, "separator": separator} if separator else keys
