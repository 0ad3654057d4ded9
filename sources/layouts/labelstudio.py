"""Label Studio: one JSON file of tasks (export as JSON or JSON_MIN), shapes in percent of width and height.

Of each task the results of its annotations are read, not the predictions; people are told apart as r1, r2, … A picture
is known by its file name: `/data/upload/3/1a2b3c4d-name.png` is `name.png`.
"""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pipeline.errors import Unusable, UserError
from pipeline.records import Case, Origin
from sources import brush, shapes
from sources.annotation import Given, Mark, Marks, Ring
from sources.descriptor import AnnotationSpec, Texts
from sources.safe_json import parsed
from sources.shapes import Shape, Size

ORIGIN: Origin = "detection"
KEPT = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "rle")
"""Of a result's value; the rest may hold texts."""
WHOLE = "choices"


class Spec(AnnotationSpec):
    """Keys of Label Studio tasks."""

    kind: Literal["labelstudio"]
    path: str
    """Template of the JSON file."""
    match: str = "{name}"
    """Template of the file name that a case looks up."""
    image_key: str = "image"
    """Key of a task's data that holds the picture's address."""
    strip_prefix: bool = True
    """Take off the eight hexadecimal digits that an upload puts before a file's name."""
    choices: Texts = ()
    """JSON_MIN: keys of a task that hold one choice; there it can not be told from other text."""


def index(spec: Spec, path: Path) -> dict[str, str]:
    """Return picture name to what the annotations say of it, as JSON; tasks that nobody annotated are left out.

    Raises:
        UserError: It is not an export of Label Studio.
    """
    found, readers = dict[str, list[Any]](), dict[str, str]()
    try:
        data = parsed(path.read_bytes())
        tasks = data if isinstance(data, list) else [data]
        pictures = [_picture(task, spec) for task in tasks]
        if tasks and not any(pictures):
            raise UserError(
                f"{path.name}: no task has {spec.image_key!r}; image_key should name what holds the picture"
            )
        for n, (task, picture) in enumerate(zip(tasks, pictures, strict=True)):
            annotations = list(_annotations(task, spec))
            entries = found.setdefault(picture or f"task {n}", []) if annotations else []
            for who, results in annotations:
                reader = readers.setdefault(who, f"r{len(readers) + 1}") if who else None
                entries += [[reader, *entry] for entry in _entries(results)]
        return {name: json.dumps(entries, separators=(",", ":")) for name, entries in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path.name}: no export of Label Studio ({type(error).__name__}: {error})") from None
    except OSError as error:
        raise UserError(f"{path.name}: {error.strerror or error}") from None


def _picture(task: dict[str, Any], spec: Spec) -> str | None:
    address = task.get("data", task).get(spec.image_key)
    if not isinstance(address, str):
        return None
    path = address.replace("\\", "/")
    if "/local-files/?d=" in path:
        path = path.partition("?d=")[2]
    elif "://" in path:
        path = re.sub(r"[?#].*", "", path)
    name = unquote(path).rpartition("/")[2]
    uploaded = spec.strip_prefix and "upload/" in path
    return re.sub(r"^[0-9a-f]{8}-", "", name) if uploaded else name


def _annotations(task: dict[str, Any], spec: Spec) -> Iterator[tuple[str, list[Any]]]:
    """Yield who annotated a task, and the results; those that were cancelled are left out."""
    if "data" not in task:  # JSON_MIN
        results = list(_of_min(task, spec))
        if results or "annotator" in task or "annotation_id" in task:
            yield _person(task.get("annotator")), results
        return
    for annotation in task.get("annotations") or task.get("completions") or ():
        if not annotation.get("was_cancelled"):
            yield _person(annotation.get("completed_by")), annotation.get("result") or []


def _person(said: Any) -> str:
    if isinstance(said, dict):
        said = said.get("id", said.get("email"))
    return shapes.label(said)


def _of_min(task: dict[str, Any], spec: Spec) -> Iterator[dict[str, Any]]:
    """Yield the values of a JSON_MIN task as the results that they were."""
    for key, said in task.items():
        if key in spec.choices and isinstance(said, str):
            yield {"type": WHOLE, "value": {WHOLE: [said]}}
        elif isinstance(said, dict) and WHOLE in said:
            yield {"type": WHOLE, "value": said}
        for value in said if isinstance(said, list) else ():
            kinds = [name for name in value if name.endswith("labels")] if isinstance(value, dict) else []
            if kinds:
                yield {**value, "type": kinds[0], "value": value}


def _entries(results: list[Any]) -> Iterator[list[Any]]:
    """Yield label, shape, its numbers, and the size and turn of the picture it was drawn on, of each result."""
    results = [result for result in results if isinstance(result, dict) and isinstance(result.get("value"), dict)]
    named = {shapes.label(result.get("id")) for result in results if str(result.get("type")).endswith("labels")} - {""}
    shaped = {shapes.label(result.get("id")) for result in results if result.get("type") != WHOLE} - {""}
    for result in results:
        kind, value, drawn = shapes.label(result.get("type")), result["value"], shapes.label(result.get("id"))
        of = [result.get("original_width"), result.get("original_height"), result.get("image_rotation")]
        if kind == WHOLE and drawn not in shaped:
            yield from ([raw, WHOLE, {}, of] for raw in _listed(value.get(WHOLE)))
        elif kind.endswith("labels"):
            raws = _listed(value.get(kind) or value.get("labels")) or [None]
            yield from ([raw, _kind(kind, value), _numbers(value), of] for raw in raws)
        elif kind in ("rectangle", "polygon", "ellipse", "brush") and drawn not in named:
            yield [None, kind, {}, of]


def _listed(said: Any) -> list[Any]:
    return said if isinstance(said, list) else [said] if said else []


def _kind(kind: str, value: dict[str, Any]) -> str:
    """Return the shape of a result; `labels` alone leaves it to the value."""
    if kind != "labels":
        return kind.removesuffix("labels")
    ways = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
    return next((shape for key, shape in ways.items() if key in value), "")


def _numbers(value: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value[key] for key in KEPT if key in value}
    if "rle" in kept:
        octets = kept["rle"] if isinstance(kept["rle"], list) else []
        good = all(isinstance(octet, int) and 0 <= octet < 256 for octet in octets)
        kept["rle"] = base64.b64encode(bytes(octets) if good else b"").decode()  # a third of the list's length
    return kept


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the shapes and choices of a picture; None where no annotation of a task is of it.

    Raises:
        Unusable: `bad_annotation`.
    """
    if given.note is None:
        return None
    try:
        entries = parsed(given.note)
    except ValueError:
        raise Unusable("bad_annotation", "what the JSON says of the picture is nested too deeply") from None
    sizes = (shapes.size(*of[:2]) for *_, of in entries)
    size = next((found for found in sizes if found), None)
    return Marks(tuple(_mark(entry, size) for entry in entries), size, relative=size is None)


def _mark(entry: list[Any], size: Size | None) -> Mark:
    reader, raw, kind, value, (width, height, turn) = entry
    of = shapes.size(width, height)
    return shapes.marked(raw, _shape, kind, value, size, of, turn, reader=reader)


def _shape(kind: str, value: dict[str, Any], size: Size | None, of: Size | None, turn: Any) -> Shape:
    """Return a shape in px; in shares where the file tells no size."""
    if kind == WHOLE:
        return Shape()
    if of not in (None, size):
        raise Unusable("size_mismatch", f"drawn on {of} px, the first shape of the picture on {size} px")
    if turn:
        raise Unusable("unsupported_shape", "drawn on a picture that was turned for it")
    if kind == "brush":
        return Shape(code=_painted(value, size))
    if kind == "rectangle":
        return _rectangle(value, size)
    if kind == "ellipse":
        return Shape(rings=(_ellipse(value, size),))
    if kind == "polygon":
        return Shape(rings=(shapes.ring(_scaled(value.get("points"), size)),))
    if kind in ("keypoint", "vector"):
        raise Unusable("not_an_area", f"a {kind} has no area")
    raise Unusable("unsupported_shape", "its type is none of those that are read")


def _scaled(points: Any, size: Size | None) -> list[tuple[float, float]]:
    """Bring points from percent to px, or to shares."""
    across, down = size or (1, 1)
    try:
        return [(shapes.number(x) * across / 100, shapes.number(y) * down / 100) for x, y in points]
    except (TypeError, ValueError):
        raise Unusable("bad_outline", "a corner should be two numbers") from None


def _pair(value: dict[str, Any], x: str, y: str, size: Size | None) -> tuple[float, float]:
    return _scaled([(value.get(x), value.get(y))], size)[0]


def _rectangle(value: dict[str, Any], size: Size | None) -> Shape:
    (x, y), (width, height) = _pair(value, "x", "y", size), _pair(value, "width", "height", size)
    found = shapes.box(x, y, x + width, y + height)
    degrees = _degrees(value, size)
    return Shape(rings=(shapes.turned(shapes.corners(found), x, y, degrees),)) if degrees else Shape(found)


def _ellipse(value: dict[str, Any], size: Size | None) -> Ring:
    (x, y), (across, down) = _pair(value, "x", "y", size), _pair(value, "radiusX", "radiusY", size)
    found, degrees = shapes.ellipse(x, y, across, down), _degrees(value, size)
    return shapes.turned(found, x, y, degrees) if degrees else found


def _degrees(value: dict[str, Any], size: Size | None) -> float:
    """Return by how much a shape is turned; shares of width and height can not be turned."""
    try:
        degrees = shapes.number(value.get("rotation") or 0) % 360
    except ValueError:
        raise Unusable("bad_outline", "its rotation is not a number") from None
    if degrees != degrees or (degrees and size is None):
        raise Unusable("bad_outline", "a turned shape needs a rotation, original_width and original_height")
    return degrees


def _painted(value: dict[str, Any], size: Size | None) -> str:
    if size is None or size[0] * size[1] > shapes.MAX_PIXELS:
        raise Unusable("bad_outline", "a brush stroke needs the width and height of its picture")
    try:
        painted = brush.decode(base64.b64decode(value.get("rle") or ""), *size)
    except ValueError as error:
        raise Unusable("bad_outline", f"the brush stroke is broken: {error}") from None
    return shapes.coded(painted, 0, 0, size)
