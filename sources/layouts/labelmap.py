"""A label map: one volume whose voxels hold ids.

```yaml
- kind: labelmap
  path: "{case}_seg.nii.gz"
  labels: {1: necrotic tumor core, 2: peritumoral edema, 4: enhancing tumor}
  unions: {whole tumor: [1, 2, 4]}     # one more label, made up of others
  ignore: [255]                        # not looked at by those who annotated
```
"""

import re
from typing import Literal, Self

from pydantic import Field, model_validator

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
    labels_from: Literal["labels", "header"] = "labels"
    """`header`: the file names its ids, and `labels` speaks of those names."""
    unions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Raw label to the ids that make it up."""
    ignore: tuple[int, ...] = ()
    """Ids that are no label."""
    threshold: float | None = Field(None, gt=0)
    """Soft mask: voxels from this value on are label 1."""
    optional: bool = False
    """A case without the file is not annotated, instead of left out."""

    @model_validator(mode="after")
    def _ids_fit(self) -> Self:
        ids = list(_names(self))
        if len(ids) < sum(_is_id(raw) for raw in self.labels):
            raise ValueError("labels: an id is written in two ways")
        if self.labels and not ids and not self.unions and self.labels_from == "labels":
            raise ValueError("labels: there is no id among them; labels_from: header takes names from the file")
        for raw, parts in self.unions.items():
            if _is_id(raw):
                raise ValueError(f"unions: {raw!r} is an id; a union has a name of its own")
            if not parts or not {0, *self.ignore}.isdisjoint(parts):
                raise ValueError(f"unions.{raw}: give ids that are neither 0 (background) nor in ignore")
        if not set(ids).isdisjoint(self.ignore):
            raise ValueError("ignore: holds an id that labels names")
        if self.threshold is not None and (set(ids) - {1} or self.unions or self.labels_from == "header"):
            raise ValueError("threshold: a soft mask has one label, 1")
        return self


def _is_id(raw: str) -> bool:
    return re.fullmatch(r"-?\d{1,18}", raw, re.ASCII) is not None


def _names(spec: Spec) -> dict[int, str]:
    return {int(raw): raw for raw in spec.labels if _is_id(raw)}


def read(spec: Spec, case: Case, given: Given) -> LabelVolume | None:
    """Return the label map of a case; None where it has none and need not.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    if not given.files and spec.optional:
        return None
    if not given.files:
        raise Unusable("missing_mask", "no file fits the label map's path")
    only_one(given)
    return LabelVolume(
        given.files[0],
        None if spec.labels_from == "header" else _names(spec),
        {raw: frozenset(ids) for raw, ids in spec.unions.items()},
        frozenset(spec.ignore),
        spec.threshold,
    )
