"""One binary volume per structure, whose file name carries the label, as TotalSegmentator writes them.

```yaml
- kind: mask_per_class
  path: "{case}/segmentations/{label}.nii.gz"
```
"""

from typing import Literal

from pydantic import field_validator

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources import templates
from sources.annotation import Given, StructureVolumes
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "segmentation_3d"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of one file per structure."""

    kind: Literal["mask_per_class"]
    path: str
    """Template that captures `{label}`."""
    boxes: Literal["per_class", "per_component"] = "per_class"
    optional: bool = False
    """A case without any of the files is not annotated, instead of left out."""

    @field_validator("path")
    @classmethod
    def _names_a_label(cls, path: str) -> str:
        if "label" not in templates.captures_of(path):
            raise ValueError("the path must capture {label}")
        return path


def read(spec: Spec, case: Case, given: Given) -> StructureVolumes | None:
    """Return the structures of a case; None where it has none and need not.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    found = {}
    for file in given.files:
        captures = templates.match(spec.path, file)
        if captures and captures["label"] in found:
            raise Unusable("ambiguous_annotation", f"two files fit the path for label {captures['label']}")
        if captures:
            found[captures["label"]] = file
    if not found and spec.optional:
        return None
    if not found:
        raise Unusable("missing_mask", "no file fits the structures' path")
    return StructureVolumes(dict(sorted(found.items())))
