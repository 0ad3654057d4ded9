"""Boxes in the rows of a table: RSNA's, VinDr's with three readers, NIH's list, the CSV of TensorFlow.

```yaml
- kind: boxes
  table: t
  box: [x_min, y_min, x_max, y_max]
  format: xyxy
  label_column: class_name
  reader: rad_id
  negatives: {No finding: all}      # a row of this label has no box
```

Readers' names do not go on: they are `r1`, `r2`, … in the order of their names, within one picture.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from pipeline.records import Case, Origin
from sources import box_forms, negatives, readers, shapes
from sources.annotation import Given, Mark, Marks
from sources.box_forms import Form
from sources.descriptor import AnnotationSpec
from sources.negatives import Negatives
from sources.readers import Policy
from sources.shapes import Shape

ORIGIN: Origin = "detection"
EMPTY = ("", "nan", "NaN", "None", "null")
"""What a coordinate is where there is no box."""
Cells = Mapping[str, str]


class Spec(AnnotationSpec):
    """Keys of boxes in a table."""

    kind: Literal["boxes"]
    table: str
    """Name of the table, or `row`."""
    box: tuple[str, str, str, str]
    """Columns of the coordinates, as the header has them, in the order of `format`."""
    format: Form = "xywh"
    relative: bool = False
    """Coordinates are shares of width and height."""
    one_based: bool = False
    """The first pixel is 1; of `xyxy` the last pixel belongs to the box, as in VOC."""
    label: str | None = None
    """The raw label of every row."""
    label_column: str | None = None
    """Or the column that has it."""
    size: tuple[str, str] | None = None
    """Columns of the width and height of the picture that the boxes were drawn on."""
    reader: str | None = None
    """Column that tells readers apart."""
    readers: Policy = "all"
    """What counts where several readers drew: every box, what any, at least half or the first of them drew."""
    empty: Literal["nothing", "negative"] = "nothing"
    """What a row without coordinates says of its label: nothing, or that it is not there."""
    negatives: Negatives = Field(default_factory=dict)
    """Labels that stand without a box, to the labels that they deny; `all` are the others of `labels`."""

    @model_validator(mode="after")
    def _one_way(self) -> "Spec":
        if (self.label is None) == (self.label_column is None):
            raise ValueError("give one of: label, label_column")
        if self.readers != "all" and self.reader is None:
            raise ValueError("readers: say which column tells them apart: reader")
        return self


def columns(spec: Spec) -> tuple[str, ...]:
    """Return the columns that the table should have."""
    optional = spec.label_column, spec.reader, *(spec.size or ())
    return (*spec.box, *(column for column in optional if column is not None))


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes of a picture; None where no row speaks of it."""
    if given.note is None:
        return None
    rows: list[Cells] = json.loads(given.note)
    names = readers.pseudonyms(row[spec.reader] for row in rows) if spec.reader else {}
    if spec.readers == "first" and spec.reader:
        rows = [row for row in rows if names[row[spec.reader]] == "r1"]
    found = _once(readers.agreed([*_found(spec, rows, names)], spec.readers, len(names)))
    present = {spec.rule(mark.raw).label or mark.raw for mark in found}
    absent = [Mark(raw, negative=True) for raw in _absent(spec, rows) if (spec.rule(raw).label or raw) not in present]
    sizes = {shapes.size(row[spec.size[0]], row[spec.size[1]]) for row in rows} if spec.size else {None}
    marks = (*negatives.settled(spec, spec.negatives, found), *absent)
    return Marks(marks, sizes.pop() if len(sizes) == 1 else None, spec.relative)


def _raw(spec: Spec, row: Cells) -> str:
    return row[spec.label_column] if spec.label_column else spec.label or ""


def _is_empty(spec: Spec, row: Cells) -> bool:
    return all(row[column] in EMPTY for column in spec.box)


def _found(spec: Spec, rows: Sequence[Cells], names: Mapping[str, str]) -> Iterator[Mark]:
    """Yield boxes, and the labels that stand for the whole picture."""
    for row in rows:
        raw, reader = _raw(spec, row), names.get(row[spec.reader]) if spec.reader else None
        if raw in spec.negatives:
            yield Mark(raw, reader=reader)
        elif not _is_empty(spec, row):
            yield shapes.marked(raw, _shape, spec, [row[column] for column in spec.box], reader=reader)


def _shape(spec: Spec, values: Sequence[str]) -> Shape:
    return Shape(box_forms.box(spec.format, values, spec.one_based))


def _absent(spec: Spec, rows: Sequence[Cells]) -> Iterator[str]:
    if spec.empty == "negative":
        empty = {_raw(spec, row): None for row in rows if _is_empty(spec, row)}
        yield from (raw for raw in empty if raw and raw not in spec.negatives)


def _once(marks: Sequence[Mark]) -> list[Mark]:
    """Leave each label of the whole picture once, whoever said it."""
    whole: dict[str, int] = Counter(mark.raw for mark in marks if not (mark.box or mark.problem))
    kept = list[Mark]()
    for mark in marks:
        count = whole.pop(mark.raw, 0) if not (mark.box or mark.problem) else 1
        if count:
            kept.append(mark if count == 1 else replace(mark, reader=None))
    return kept
