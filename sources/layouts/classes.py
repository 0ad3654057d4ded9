"""Labels of the whole picture: a class folder, a table's column, or one constant.

```yaml
- kind: classes
  value: "{class}"            # a folder's name, or "{t.finding}", a cell of table t
  labels: {PNEUMONIA: pneumonia, NORMAL: normal}
  negatives: {NORMAL: all}    # normal: none of the other labels is there
```
"""

import re
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources import negatives, safe_json, templates
from sources.annotation import Given, Mark, Marks
from sources.descriptor import AnnotationSpec, Texts
from sources.negatives import Negatives

ORIGIN: Origin = "classification"
_ELEMENT = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,'"[\]][^,'"[\]]*))\s*(?:,|$)""")
"""Of a list as Python writes it: quoted either way, or a number."""


class Spec(AnnotationSpec):
    """Keys of a class label."""

    kind: Literal["classes"]
    value: str
    """Template of the label."""
    separator: str | None = None
    """Several labels in one value, as in NIH ChestX-ray14's `A|B`."""
    as_list: bool = False
    """The value is a list, as JSON or as Python writes it: `['A', 'B']` of PadChest."""
    unknown: Texts = ()
    """Values that say nothing: `nan`, `-1`. An empty one says nothing anyway."""
    negatives: Negatives = Field(default_factory=dict)
    """Raw label to the raw labels that it denies: `all` are the others of `labels`."""


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the labels of a case; None where the value is empty or unknown.

    Raises:
        Unusable: `bad_annotation`: the value should be a list and is none.
    """
    if not templates.captures_of(spec.value) <= set(case.captures):
        return None
    value = templates.fill(spec.value, case.captures).strip()
    if not value or value in spec.unknown:
        return None
    raws = [raw for raw in _parts(spec, value) if raw and raw not in spec.unknown]
    if not raws:
        return None
    return Marks(negatives.settled(spec, spec.negatives, [Mark(raw) for raw in dict.fromkeys(raws)]))


def _parts(spec: Spec, value: str) -> list[str]:
    if spec.as_list:
        return [str(part).strip() for part in _list_of(value)]
    return [part.strip() for part in value.split(spec.separator)] if spec.separator else [value]


def _list_of(value: str) -> list[Any]:
    try:
        found = safe_json.parsed(value)
    except ValueError:
        found = _as_python_writes(value)
    if not isinstance(found, list):
        raise Unusable("bad_annotation", 'the value should be a list, such as ["a", "b"]')
    return found


def _as_python_writes(value: str) -> list[str] | None:
    if not (value.startswith("[") and value.endswith("]")):
        return None
    inner, at, found = value[1:-1].strip(), 0, list[str]()
    while at < len(inner):
        element = _ELEMENT.match(inner, at)
        if element is None:
            return None
        found.append(re.sub(r"\\(.)", r"\1", next(text for text in element.groups() if text is not None)))
        at = element.end()
    return found
