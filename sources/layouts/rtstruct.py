"""DICOM RTSTRUCT: outlines of organs and targets in mm, drawn slice by slice for radiotherapy.

```yaml
- kind: rtstruct
  path: "{patient}/RS*.dcm"
  labels: {BODY: {drop: true}, Lt Lung: lung_left}
```
"""

from typing import Literal

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources.annotation import Contours, Given, only_one
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "segmentation_3d"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of a DICOM RTSTRUCT; raw labels are the names of its regions of interest."""

    kind: Literal["rtstruct"]
    path: str
    boxes: Literal["per_class", "per_component"] = "per_class"
    optional: bool = False
    """A case without the file is not annotated, instead of left out."""


def read(spec: Spec, case: Case, given: Given) -> Contours | None:
    """Return the structure set of a case; None where it has none and need not.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    if not given.files and spec.optional:
        return None
    if not given.files:
        raise Unusable("missing_mask", "no file fits the structure set's path")
    only_one(given)
    return Contours(given.files[0])
