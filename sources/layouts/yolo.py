"""YOLO: one text file a picture, one line an object, in shares of width and height.

`0 0.25 0.2 0.25 0.23` is class 0 with the centre, width and height of its box; a line with six numbers or more after
its class is an outline x, y, x, y, … (oriented boxes have four corners). One more number is the confidence of a model.
"""

import functools
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import model_validator

from pipeline.errors import Unusable, UserError
from pipeline.records import Case, Origin
from pipeline.strict import load_yaml, read_text
from sources import shapes
from sources.annotation import Given, Mark, Marks, only_one
from sources.descriptor import AnnotationSpec
from sources.shapes import Shape

ORIGIN: Origin = "detection"
PER_CASE = True
MOST = 1.01
"""Of a share: rounding may pass 1, as may a hand at the picture's edge; px pass it by far."""


class Spec(AnnotationSpec):
    """Keys of YOLO boxes and outlines."""

    kind: Literal["yolo"]
    path: str
    """Template of the text file."""
    names: str | tuple[str, ...] = ()
    """Names of the classes in order, or the file that has them: `data.yaml`, `classes.txt`. Without them `labels` goes
    by class number."""
    confidence: Literal["reject", "ignore"] = "reject"
    """A file whose lines end in a confidence is a model's prediction: it is left out, or taken for an annotation."""
    no_file: Literal["unlabelled", "negative"] = "unlabelled"
    """What a picture without a file is: not annotated, or annotated without an object."""

    @model_validator(mode="after")
    def _named(self) -> "Spec":
        if not self.names and not self.labels:
            raise ValueError("give names, or labels by class number")
        return self


class Line(NamedTuple):
    """One object of a file."""

    at: int
    """Number of the line, from 1."""
    label: str | None
    """None: no class has this number."""
    number: int
    """Of the class."""
    values: tuple[float, ...]
    """What follows; empty where it is not numbers."""


def shared_files(spec: Spec) -> tuple[str, ...]:
    """Return the file of class names, relative to the data's folder, where there is one."""
    return (spec.names,) if isinstance(spec.names, str) else ()


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes and outlines of a picture; an empty file says that it has none.

    Raises:
        Unusable: `ambiguous_annotation`; `bad_annotation`; `prediction`; `not_normalised`: it is not in shares.
        UserError: The file of class names is absent, or names none.
    """
    if not given.files:
        return Marks((), relative=True) if spec.no_file == "negative" else None
    only_one(given)
    lines = _lines(given.root / given.files[0], _names(spec, given.root))
    for line in lines:
        if spec.confidence == "reject" and _has_confidence(line):
            raise Unusable("prediction", f"line {line.at} ends in a confidence; confidence: ignore takes it as it is")
    drawn = [line._replace(values=line.values[:-1]) if _has_confidence(line) else line for line in lines]
    for line in drawn:
        if line.values and max(line.values) > MOST:
            raise Unusable("not_normalised", f"line {line.at} has {max(line.values):g}; shares end at 1")
    return Marks(tuple(_mark(line) for line in drawn), relative=True)


def _has_confidence(line: Line) -> bool:
    return len(line.values) >= 5 and len(line.values) % 2 == 1


def _lines(path: Path, names: dict[int, str]) -> list[Line]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("bad_annotation", "the file is not text") from None
    found = []
    for at, line in enumerate(text.splitlines(), 1):
        words = re.split(r"[\s,;]+", line.strip())
        if words == [""]:
            continue
        try:
            number = shapes.number(words[0])
            if not number.is_integer():
                raise ValueError
        except ValueError:
            raise Unusable("bad_annotation", f"line {at} does not begin with a class number") from None
        separated = "," in line or ";" in line
        values = () if separated else _values(words[1:])
        found.append(Line(at, names.get(int(number)), int(number), values))
    return found


def _values(words: list[str]) -> tuple[float, ...]:
    try:
        return tuple(shapes.number(word) for word in words)
    except ValueError:
        return ()


def _mark(line: Line) -> Mark:
    if line.label is None:
        return Mark(str(line.number), problem=("unknown_class", f"line {line.at}: class {line.number} has no name"))
    return shapes.marked(line.label, _shape, line)


def _shape(line: Line) -> Shape:
    if len(line.values) == 4:
        x, y, width, height = line.values
        return Shape(shapes.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    if len(line.values) >= 6:
        return Shape(rings=(shapes.flat_ring(line.values),))
    said = f"{len(line.values)} numbers" if line.values else "no numbers, or not between spaces,"
    raise Unusable("bad_box", f"line {line.at} has {said} after its class; 4 are a box, 6 and more an outline")


# ---- names


def _names(spec: Spec, root: Path) -> dict[int, str]:
    if isinstance(spec.names, str):
        path = root / spec.names
        try:
            state = path.stat()
        except (OSError, ValueError):
            raise UserError(f"{spec.names}: no such file below {root}; annotations.names should name it") from None
        return _named_in(path, state.st_mtime_ns, state.st_size)
    if spec.names:
        return dict(enumerate(spec.names))
    return {int(number): number for number in spec.labels if number.isdecimal()}


@functools.lru_cache(maxsize=8)
def _named_in(path: Path, changed_ns: int, size: int) -> dict[int, str]:
    """Return class number to name; time and size tell a changed file."""
    text = read_text(path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in text.rstrip().splitlines()))
    data = load_yaml(text, path.name)
    names = data.get("names") if isinstance(data, dict) else None
    found: dict[Any, Any] = names if isinstance(names, dict) else {}
    if isinstance(names, list):
        found = dict(enumerate(names))
    if not found or not all(str(number).isdecimal() and isinstance(name, str) for number, name in found.items()):
        raise UserError(f"{path.name}: `names` should list the names of the classes, or map numbers to them")
    return {int(number): name for number, name in found.items()}
