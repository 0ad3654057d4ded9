"""Findings of a volume as the rows of a table: a centre in patient coordinates and a size, as LUNA16 gives its nodules.

```yaml
- kind: spheres
  table: t                          # key: seriesuid
  center: [coordX, coordY, coordZ]
  diameter: diameter_mm
  label: pulmonary nodule
```
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import model_validator

from pipeline.records import Case, Origin
from sources import readers
from sources.annotation import Given, Sphere, Spheres
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "detection"
EMPTY = ("", "nan", "NaN", "None", "null")

Cells = Mapping[str, str]


class Spec(AnnotationSpec):
    """Keys of findings in a table."""

    kind: Literal["spheres"]
    table: str
    """Name of the table: all rows of the case."""
    center: tuple[str, str, str]
    """Columns of x, y, z in mm."""
    diameter: str | None = None
    """Column of the diameter in mm."""
    radius: str | None = None
    """Or of the radius in mm."""
    frame: Literal["lps", "ras"] = "lps"
    """Sides that x, y, z grow towards: `lps` in DICOM, ITK and LUNA16, `ras` in NIfTI, FreeSurfer and 3D Slicer."""
    label: str | None = None
    """The raw label of every row."""
    label_column: str | None = None
    """Or the column that has it."""
    reader: str | None = None
    """Column that tells readers apart."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.diameter is None) == (self.radius is None):
            raise ValueError("give one of: diameter, radius")
        if (self.label is None) == (self.label_column is None):
            raise ValueError("give one of: label, label_column")
        return self


def columns(spec: Spec) -> tuple[str, ...]:
    """Return the columns that the table should have."""
    others = spec.diameter, spec.radius, spec.label_column, spec.reader
    return (*spec.center, *(column for column in others if column is not None))


def read(spec: Spec, case: Case, given: Given) -> Spheres:
    """Return the findings of a volume; of a case without a row, none.

    A row without a place or without a label says nothing. One whose place or size is no number becomes a sphere that
    is none (NaN): it is refused where it would be painted, and the others stay.
    """
    rows: list[Cells] = json.loads(given.note) if given.note else []
    names = readers.pseudonyms(row[spec.reader] for row in rows) if spec.reader else {}
    return Spheres(tuple(_spheres(spec, rows, names)))


def _spheres(spec: Spec, rows: list[Cells], names: Mapping[str, str]) -> Iterator[Sphere]:
    for row in rows:
        raw = row[spec.label_column] if spec.label_column else spec.label or ""
        if not raw or all(row[column] in EMPTY for column in spec.center):
            continue
        x, y, z = (_number(row[column]) for column in spec.center)
        size = _number(row[spec.diameter]) if spec.diameter else 2 * _number(row[spec.radius or ""])
        center = (x, y, z) if spec.frame == "lps" else (-x, -y, z)
        yield Sphere(raw, center, size, names.get(row[spec.reader]) if spec.reader else None)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
