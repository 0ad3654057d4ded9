"""One column a label: CheXpert's 1, 0, -1 and blank, ISIC's one-hot, a vector of MedMNIST.

```yaml
- kind: multilabel
  table: t                    # or `row`: the cells of the case's own row
  columns: {Cardiomegaly: cardiomegaly, Edema: pulmonary edema}
  no_finding: No Finding
  uncertain: keep
```

A negative of this kind is annotated: it was looked for on this picture. An empty cell says nothing.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from pipeline.strict import Strict
from sources import safe_json, templates
from sources.annotation import Given, Mark, Marks
from sources.descriptor import AnnotationSpec, LabelRule, Texts

ORIGIN: Origin = "classification"


class Values(Strict):
    """What the text of a cell means."""

    positive: Texts = ("1", "1.0", "true", "True")
    negative: Texts = ("0", "0.0", "false", "False")
    uncertain: Texts = ("-1", "-1.0")
    unknown: Texts = ("",)

    @model_validator(mode="after")
    def _apart(self) -> "Values":
        every = [*self.positive, *self.negative, *self.uncertain, *self.unknown]
        twice = next((value for value in every if every.count(value) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} means two things")
        return self

    def meaning(self, text: str) -> str | None:
        """Return positive, negative, uncertain or unknown; None where the text is none of the values."""
        return next((name for name in Values.model_fields if text in getattr(self, name)), None)


class Spec(AnnotationSpec):
    """Keys of one column a label."""

    kind: Literal["multilabel"]
    table: str | None = None
    """Name of the table, or `row`."""
    value: str | None = None
    """Instead of a table: template of a JSON list whose elements stand in the order of `columns`."""
    columns: Annotated[
        tuple[str, ...],
        BeforeValidator(
            lambda value: [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else value,
            json_schema_input_type=str | list[str] | dict[str, str | LabelRule],
        ),
    ]
    """Columns, which are the raw labels; a mapping also says what each means, as `labels` does."""
    values: Values = Values()
    uncertain: Literal["drop", "keep", "positive", "negative"] = "drop"
    """What an uncertain value says: neither presence nor absence, the label as uncertain, the label, its absence."""
    no_finding: str | None = None
    """Column that says, where it is positive, that every label of `columns` whose cell is empty is absent."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        columns = data.get("columns") if isinstance(data, dict) else None
        if not isinstance(columns, dict):
            return data
        return {**data, "labels": {**columns, **(data.get("labels") or {})}}

    @model_validator(mode="after")
    def _one_way(self) -> "Spec":
        if (self.table is None) == (self.value is None):
            raise ValueError("give one of: table, value")
        if self.value is not None and self.no_finding is not None:
            raise ValueError("no_finding is a column of a table")
        if not self.columns:
            raise ValueError("columns: name one at least")
        return self


def columns(spec: Spec) -> tuple[str, ...]:
    """Return the columns that the table should have."""
    return (*spec.columns, spec.no_finding) if spec.no_finding else spec.columns


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the labels of a case, positive and negative; None where nothing is said of it.

    Raises:
        Unusable: `contradictory_rows`: the case has several rows, which differ; `bad_annotation`.
    """
    cells = _cells(spec, case, given)
    if cells is None:
        return None
    meanings = {column: spec.values.meaning(cells[column]) for column in spec.columns}
    marks = [mark for column in spec.columns if (mark := _mark(spec, column, meanings[column], cells[column]))]
    if spec.no_finding and spec.values.meaning(cells[spec.no_finding]) == "positive":
        marks += _nothing_found(spec.no_finding, meanings)
    return Marks(tuple(marks)) if marks or any(meaning != "unknown" for meaning in meanings.values()) else None


def _cells(spec: Spec, case: Case, given: Given) -> Mapping[str, str] | None:
    """Return column to cell, or None where the case has no row."""
    if spec.value is not None:
        return _elements(spec, templates.fill(spec.value, case.captures))
    if given.note is None:
        return None
    rows: list[dict[str, str]] = json.loads(given.note)
    if any(row != rows[0] for row in rows):
        raise Unusable("contradictory_rows", f"its {len(rows)} rows differ in the columns of its labels")
    return rows[0]


def _elements(spec: Spec, text: str) -> Mapping[str, str] | None:
    if not text:
        return None
    try:
        found = safe_json.parsed(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != len(spec.columns):
        length = f"one of {len(found)}" if isinstance(found, list) else "no list"
        raise Unusable("bad_annotation", f"should be a list of {len(spec.columns)} values, is {length}")
    texts = (json.dumps(value) if isinstance(value, bool) else "" if value is None else str(value) for value in found)
    return dict(zip(spec.columns, texts, strict=True))


def _mark(spec: Spec, column: str, meaning: str | None, text: str) -> Mark | None:
    """Return what a cell says of its column's label."""
    if meaning is None:
        return Mark(column, problem=("bad_value", f"{_shown(text)} is none of the values that the descriptor lists"))
    said = spec.uncertain if meaning == "uncertain" else meaning
    if said == "unknown":
        return None
    if said == "drop":  # told, because silence would make it absent where the annotation is complete
        return Mark(column, problem=("uncertain", "left out by `uncertain: drop`"))
    return Mark(column, certain=said != "keep", negative=said == "negative")


def _shown(text: str) -> str:
    """Show a number; a text may be a patient's."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return f"a text of {len(text)} characters"


def _nothing_found(column: str, meanings: Mapping[str, str | None]) -> Iterator[Mark]:
    found = sum(meaning in ("positive", "uncertain") for meaning in meanings.values())
    if found:
        yield Mark(column, problem=("contradictory_labels", f"nothing found, yet {found} of the labels are"))
        return
    yield Mark(column)
    yield from (Mark(other, negative=True) for other, meaning in meanings.items() if meaning == "unknown")
