"""A label map: one volume whose voxels hold ids.

```yaml
- kind: labelmap
  path: "{case}_seg.nii.gz"
  labels: {1: liver, 2: spleen}
  boxes: per_class
```
"""

from typing import Literal

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources.annotation import Given, LabelVolume, only_one
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "segmentation_3d"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of a label map."""

    kind: Literal["labelmap"]
    path: str
    boxes: Literal["per_class", "per_component"] = "per_class"


def read(spec: Spec, case: Case, given: Given) -> LabelVolume | None:
    """Return the label map of a case.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    if not given.files:
        raise Unusable("missing_mask", "no file fits the label map's path")
    only_one(given)
    names = {int(raw): raw for raw in spec.labels if raw.lstrip("-").isdigit()}
    return LabelVolume(given.files[0], names)
