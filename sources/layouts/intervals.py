"""Labels of a video by interval or by frame: surgical phases, findings with their times, tools frame by frame.

```yaml
- kind: intervals
  path: "{video}-phase.txt"   # Frame<tab>Phase, one line a frame
  frame: Frame
  label: Phase
- kind: intervals
  table: t                    # all rows of the case
  from: start
  to: end
  unit: timecode
  label: finding
```
"""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources.annotation import Given, Mark, Marks, only_one
from sources.descriptor import AnnotationSpec, Texts

ORIGIN: Origin = "video"
PER_CASE = True
MOST_BYTES = 64 << 20
_TIMECODE = re.compile(r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d(?:[.,]\d{1,9})?)")
_FAULT_AT = (0, 1)
"""A row that can not be read has no place: it is told once, on the first frame."""


class Spec(AnnotationSpec):
    """Keys of intervals."""

    kind: Literal["intervals"]
    path: str = ""
    """Template of a text file for each video; or `table`."""
    table: str | None = None
    """Name of a table: all rows of the video."""
    label: str | None = None
    """Column of the label; or `present`."""
    present: Texts = ()
    """Columns that are labels themselves: 1 is there, 0 was looked for and is not."""
    from_: str | None = Field(None, alias="from")
    """Column of the beginning, with `to`; or `frame`."""
    to: str | None = None
    """Column of the end."""
    frame: str | None = None
    """Column of a single frame or time."""
    until_next: bool = False
    """Of `frame`: a row holds until the next one begins, the last one to the end."""
    unit: Literal["frames", "seconds", "timecode"] | None = None
    """Of the positions; `timecode` is hh:mm:ss.ms or mm:ss. Must be said of `from`; default of `frame`: frames."""
    inclusive: bool = True
    """Of frames: `to` is the last one of the interval, not the first one behind it."""
    first: int = 0
    """Number of the video's first frame."""
    fps: float | None = Field(None, gt=0)
    """Frames counted in one second, where they are others than the video's own."""
    header: bool = True
    """Of `path`: the first line names the columns. Otherwise columns are numbers from 1."""
    delimiter: str | None = None
    """Of `path`; a blank means any number of them. Default: comma in `.csv`, else tab."""
    encoding: str = "utf-8"
    """Of `path`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Spec":
        if bool(self.path) == bool(self.table) or bool(self.label) == bool(self.present):
            raise ValueError("give one of path, table and one of label, present")
        if bool(self.frame) == bool(self.from_) or bool(self.from_) != bool(self.to):
            raise ValueError("give frame, or from and to")
        if self.unit is None and self.from_:
            raise ValueError("unit of from and to: say frames, seconds or timecode")
        counted = self.unit in (None, "frames")
        if self.until_next and self.from_:
            raise ValueError("until_next goes with frame")
        if not counted and self.frame and not self.until_next:
            raise ValueError("a moment in time has no length: say until_next: true")
        if self.fps and not counted:
            raise ValueError("fps goes with unit: frames")
        return self

    @model_validator(mode="after")
    def _can_be_read(self) -> "Spec":
        if not self.header and self.path:
            for column in columns(self):
                if not column.isdecimal() or not 0 < int(column) <= 10_000:
                    raise ValueError(f"without a header columns are numbers from 1, not {column!r}")
        if self.delimiter is not None and len(self.delimiter.replace("\\t", "\t")) != 1:
            raise ValueError("delimiter should be one character")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"unknown encoding {self.encoding!r}") from None
        return self


class _Held(NamedTuple):
    """A label from a position to another; of frames whole numbers, else seconds."""

    start: float
    end: float
    raw: str
    negative: bool = False


def columns(spec: Spec) -> tuple[str, ...]:
    """Return the columns that are read: positions first, then labels."""
    positions = (spec.frame,) if spec.frame else (spec.from_, spec.to)
    labels = (spec.label,) if spec.label else spec.present
    return tuple(column for column in (*positions, *labels) if column)


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the labels of a video with their frames or seconds; None where it has no file or no row.

    Raises:
        Unusable: `ambiguous_annotation`; `bad_annotation`: the file is not the text it should be; `too_large`.
    """
    if spec.table:
        if given.note is None:
            return None
        rows = [[str(row.get(column, "")) for column in columns(spec)] for row in json.loads(given.note)]
    else:
        if not given.files:
            return None
        only_one(given)
        rows = _of_file(spec, given)
    found, faults = _held(spec, rows)
    return Marks((*faults, *(_mark(spec, held) for held in _joined(found))))


# ---- rows


def _of_file(spec: Spec, given: Given) -> list[list[str]]:
    path = given.root / given.files[0]
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Unusable("too_large", f"over {MOST_BYTES >> 20} MB of intervals")
    codec = "utf-8-sig" if spec.encoding.lower().replace("-", "") == "utf8" else spec.encoding
    try:
        text = data.decode(codec)
        delimiter = spec.delimiter or ("," if path.suffix.lower() == ".csv" else "\t")
        rows = _cut(text, delimiter.replace("\\t", "\t"))
    except (UnicodeError, csv.Error) as error:
        raise Unusable("bad_annotation", f"no table of text in {spec.encoding} ({type(error).__name__})") from None
    if spec.header:
        header = [cell.strip() for cell in rows[0]] if rows else []
        places = [_place(column, header) for column in columns(spec)]
    else:
        places = [int(column) - 1 for column in columns(spec)]
    return [[row[at].strip() if at < len(row) else "" for at in places] for row in rows[spec.header :]]


def _cut(text: str, delimiter: str) -> list[list[str]]:
    if delimiter == " ":
        return [line.split() for line in text.splitlines() if line.strip()]
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if any(row)]


def _place(column: str, header: Sequence[str]) -> int:
    if column not in header:
        raise Unusable("bad_annotation", f"the first line names no column {column!r}; say header: false if it has none")
    return header.index(column)


# ---- intervals


def _held(spec: Spec, rows: Sequence[Sequence[str]]) -> tuple[list[_Held], list[Mark]]:
    """Return what rows say, and a mark with its fault for each label of a row that can not be read."""
    found, faults = list[_Held](), list[Mark]()
    for number, row in enumerate(rows, 1):
        positions, cells = (row[:1], row[1:]) if spec.frame else (row[:2], row[2:])
        labels = list(_labels(spec, cells))
        try:
            start, end = _interval(spec, positions)
        except Unusable as error:
            detail = f"row {number}: {error.detail}"
            faults += [
                Mark(raw, problem=(error.reason, detail), frames=_FAULT_AT) for raw, is_not in labels if not is_not
            ]
            continue
        # a row without a label still ends the one before
        found += [_Held(start, end, raw, is_not) for raw, is_not in labels or [("", False)]]
    return _until_next(found) if spec.until_next else found, faults


def _labels(spec: Spec, cells: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield labels, and whether they are not there."""
    if spec.label:
        if cells[0]:
            yield cells[0], False
        return
    for column, cell in zip(spec.present, cells, strict=True):
        if cell in ("0", "1", "0.0", "1.0"):
            yield column, cell[0] == "0"


def _interval(spec: Spec, positions: Sequence[str]) -> tuple[float, float]:
    """Return the beginning and the end of a row; of a single one with `until_next` the end is yet to come.

    Raises:
        Unusable: `bad_annotation`.
    """
    counted = spec.unit in (None, "frames")
    values = [_frame(spec, text) if counted else _seconds(spec, text) for text in positions]
    start, end = values[0], values[-1]
    if counted and (spec.frame or spec.inclusive):
        end += 1
    if start < 0:
        raise Unusable("bad_annotation", f"begins at {start:g}, before the video does")
    if end <= start and not spec.until_next:
        raise Unusable("bad_annotation", f"ends at {end:g}, begins at {start:g}")
    return (start / spec.fps, end / spec.fps) if spec.fps else (start, end)


def _frame(spec: Spec, text: str) -> int:
    number = _number(text)
    if number != int(number):
        raise Unusable("bad_annotation", "a frame's number is not whole")
    return int(number) - spec.first


def _seconds(spec: Spec, text: str) -> float:
    if spec.unit == "seconds":
        return _number(text)
    found = _TIMECODE.fullmatch(text)
    if not found:
        raise Unusable("bad_annotation", "a time is not hh:mm:ss.ms")
    hours, minutes, seconds = found.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) < 2**53:
        raise Unusable("bad_annotation", "a position is no number" if text else "a position is missing")
    return number


def _until_next(found: Iterable[_Held]) -> list[_Held]:
    """Let each hold until the next one that begins later."""
    ordered = sorted(found, key=lambda held: held.start)
    starts = sorted({held.start for held in ordered})
    ends = dict(zip(starts, [*starts[1:], math.inf], strict=True))
    return [held._replace(end=ends[held.start]) for held in ordered]


def _joined(found: Iterable[_Held]) -> list[_Held]:
    """Join what is said of one label frame by frame."""
    runs: dict[tuple[str, bool], list[_Held]] = {}
    for held in sorted(found):
        if not held.raw:
            continue
        of_label = runs.setdefault((held.raw, held.negative), [])
        if of_label and held.start <= of_label[-1].end:
            of_label[-1] = of_label[-1]._replace(end=max(of_label[-1].end, held.end))
        else:
            of_label.append(held)
    return sorted((held for of_label in runs.values() for held in of_label), key=lambda held: (held.start, held.raw))


def _mark(spec: Spec, held: _Held) -> Mark:
    if spec.unit in (None, "frames") and not spec.fps:
        end = sys.maxsize if math.isinf(held.end) else int(held.end)
        return Mark(held.raw, negative=held.negative, frames=(int(held.start), end))
    return Mark(held.raw, negative=held.negative, times_s=(held.start, held.end))
