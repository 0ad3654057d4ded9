"""Labels of the whole picture: a class folder, a table's column, or one constant.

```yaml
- kind: classes
  value: "{class}"            # a folder's name, or "{t.finding}", a cell of table t
  labels: {PNEUMONIA: pneumonia, NORMAL: normal}
```
"""

from typing import Literal

from pipeline.records import Case, Origin
from sources import templates
from sources.annotation import Given, Mark, Marks
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "classification"


class Spec(AnnotationSpec):
    """Keys of a class label."""

    kind: Literal["classes"]
    value: str
    """Template of the label."""
    separator: str | None = None
    """Several labels in one value, as in NIH ChestX-ray14's `A|B`."""


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the labels of a case; None where the value is empty."""
    if not templates.captures_of(spec.value) <= set(case.captures):
        return None
    value = templates.fill(spec.value, case.captures).strip()
    raws = value.split(spec.separator) if spec.separator else [value]
    return Marks(tuple(Mark(raw.strip()) for raw in raws if raw.strip())) if value else None
