"""What an annotation says of a case: marks on a picture, or files that label voxels.

A layout turns its own format into these; ingest lays them on the picture. Boxes are half-open, in px of the
source picture, origin at the top left edge, whatever the format's own convention.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Unusable
from pipeline.records import Box


class Given(NamedTuple):
    """What the plan found for one annotation of one case."""

    root: Path
    files: tuple[str, ...]
    """Relative to the root."""
    note: str | None
    """JSON from a file that many cases share."""


def only_one(given: Given) -> None:
    """Refuse an annotation whose path fits two files.

    Raises:
        Unusable: `ambiguous_annotation`.
    """
    if len(given.files) > 1:
        why = f"{len(given.files)} files fit the annotation's path; add captures that tell them apart"
        raise Unusable("ambiguous_annotation", why)


@dataclass(frozen=True, slots=True)
class Mark:
    """A label, with a box or of the whole picture."""

    raw: str
    box: Box | None = None
    problem: tuple[str, str] | None = None
    """Reason and detail, where the mark as written can not be one."""
    reader: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """What one annotation says of a picture."""

    marks: tuple[Mark, ...]
    size: tuple[int, int] | None = None
    """Width and height in px that the annotation was made on, where the file says so."""


@dataclass(frozen=True, slots=True)
class LabelVolume:
    """One volume whose voxels hold label ids."""

    file: str
    names: Mapping[int, str]
    """Label id to raw label."""


@dataclass(frozen=True, slots=True)
class StructureVolumes:
    """One binary volume per structure; they may overlap."""

    files: Mapping[str, str]
    """Raw label to file."""


@dataclass(frozen=True, slots=True)
class Segments:
    """A DICOM SEG; segments may overlap."""

    file: str


Annotation = Marks | LabelVolume | StructureVolumes | Segments
