"""Boxes in one JSON cell, as Hugging Face's `objects: {bbox: [[x, y, w, h]], categories: [0]}`.

```yaml
- kind: objects
  value: "{t.objects}"        # or "{row.objects}"
  format: coco                # x, y, w, h in px; voc: two corners in px; yolo: centre and size in shares
  labels: {0: nodule, 1: mass}
```
"""

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources import box_forms, safe_json, shapes, templates
from sources.annotation import Given, Marks
from sources.box_forms import Form
from sources.descriptor import AnnotationSpec
from sources.shapes import Shape

ORIGIN: Origin = "detection"
BOXES = ("bbox", "bboxes", "box", "boxes")
LABELS = ("categories", "category", "labels", "label", "category_id", "class", "classes", "name")
FORMS: dict[str, tuple[Form, bool]] = {
    "coco": ("xywh", False),
    "voc": ("xyxy", False),
    "yolo": ("cxcywh", True),
    "albumentations": ("xyxy", True),
}
"""Name to the order of the numbers, and whether they are shares."""


class Spec(AnnotationSpec):
    """Keys of boxes in one cell."""

    kind: Literal["objects"]
    value: str
    """Template of the JSON."""
    format: Literal["coco", "voc", "yolo", "albumentations"] = "coco"
    label: str | None = None
    """The raw label of every box; default: what the JSON says."""


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes of a picture; None where the cell is empty.

    Raises:
        Unusable: `bad_annotation`: not such JSON.
    """
    text = templates.fill(spec.value, case.captures).strip()
    if not text:
        return None
    try:
        data = safe_json.parsed(text)
    except ValueError as error:
        raise Unusable("bad_annotation", f"not JSON ({type(error).__name__})") from None
    boxes, labels = _apart(data, spec.label)
    form, relative = FORMS[spec.format]
    marks = [shapes.marked(raw, _shape, form, box) for box, raw in zip(boxes, labels, strict=True)]
    return Marks(tuple(marks), relative=relative)


def _shape(form: Form, values: Any) -> Shape:
    if not isinstance(values, list) or len(values) != 4:
        raise Unusable("bad_box", "a box should be a list of four numbers")
    return Shape(box_forms.box(form, values))


def _apart(data: Any, label: str | None) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return boxes and labels, of one object of lists or of a list of objects."""
    if data is None:
        return (), ()
    if isinstance(data, list) and all(isinstance(entry, dict) for entry in data):
        labels = [_member(entry, LABELS) if label is None else label for entry in data]
        return [_member(entry, BOXES) for entry in data], labels
    boxes = _member(data, BOXES) if isinstance(data, dict) else None
    if not isinstance(boxes, list):
        raise Unusable("bad_annotation", f"no list called {' or '.join(BOXES)}")
    named = _member(data, LABELS) if label is None else [label] * len(boxes)
    if not isinstance(named, list) or len(named) != len(boxes):
        found = len(named) if isinstance(named, list) else "no"
        raise Unusable("bad_annotation", f"{len(boxes)} boxes and {found} labels")
    return boxes, named


def _member(data: dict[str, Any], names: Sequence[str]) -> Any:
    return next((data[name] for name in names if data.get(name) is not None), None)
