"""DICOM SEG: segments laid over a DICOM series, each with its own label in the file."""

from typing import Literal

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


def read(spec: Spec, case: Case, given: Given) -> Segments | None:
    """Return the segmentation of a case.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`.
    """
    if not given.files:
        raise Unusable("missing_mask", "no file fits the segmentation's path")
    only_one(given)
    return Segments(given.files[0])
