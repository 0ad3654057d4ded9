"""DICOM SEG: segments laid over a DICOM series or picture, each with its own label in the file.

```yaml
- kind: seg
  path: "{patient}/seg.dcm"
  threshold: 0.5              # of a fractional SEG
```
"""

from typing import Literal

from pydantic import Field

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources.annotation import Given, Segments, only_one
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "segmentation_3d"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of a DICOM SEG; raw labels are the segments' labels."""

    kind: Literal["seg"]
    path: str
    boxes: Literal["per_class", "per_component"] = "per_class"
    threshold: float = Field(0.5, gt=0, le=1)
    """Of a fractional SEG: share from which a pixel belongs to its segment."""
    optional: bool = False
    """A case without the file is not annotated, instead of left out."""


def read(spec: Spec, case: Case, given: Given) -> Segments | None:
    """Return the segmentation of a case; None where it has none and need not.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    if not given.files and spec.optional:
        return None
    if not given.files:
        raise Unusable("missing_mask", "no file fits the segmentation's path")
    only_one(given)
    return Segments(given.files[0], spec.threshold)
