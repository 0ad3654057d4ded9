"""What an annotation says of a case: marks on a picture, or files that label voxels.

A layout turns its own format into these; ingest lays them on the picture. Boxes are half-open, in px of the
source picture, origin at the top left edge, whatever the format's own convention.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """JSON from a file that many cases share, or the table rows that speak of the case: a list of objects."""
    shared: tuple[str, ...] = ()
    """Files that the layout's `shared_files(spec)` names for all cases (class names, say); relative to the root."""


def only_one(given: Given) -> None:
    """Refuse an annotation whose path fits two files.

    Raises:
        Unusable: `ambiguous_annotation`.
    """
    if len(given.files) > 1:
        why = f"{len(given.files)} files fit the annotation's path; add captures that tell them apart"
        raise Unusable("ambiguous_annotation", why)


Ring = tuple[tuple[float, float], ...]
"""A closed outline: x, y of its corners in px of the source picture."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A label of a picture: of the whole, or of a box, outlines or a run-length code."""

    raw: str
    box: Box | None = None
    """Where outlines or a code stand beside it, the box as the annotation gives it."""
    problem: tuple[str, str] | None = None
    """Reason and detail, where the mark as written can not be one."""
    reader: str | None = None
    rings: tuple[Ring, ...] = ()
    """Outlines of one region; together they make it up. One that crosses itself is even-odd."""
    holes: tuple[Ring, ...] = ()
    """Outlines that are cut out of it."""
    code: str | None = None
    """COCO compressed run-length code over the whole source picture; needs `Marks.size`."""
    certain: bool = True
    negative: bool = False
    """Looked for, and not there."""
    frames: tuple[int, int] | None = None
    """Of a video or cine: the frames it holds for, half-open, from 0; None with `times_s` None: all."""
    times_s: tuple[float, float] | None = None
    """The same in seconds, half-open."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What one annotation says of a picture."""

    marks: tuple[Mark, ...]
    size: tuple[int, int] | None = None
    """Width and height in px that the annotation was made on, where the file says so."""
    relative: bool = False
    """Coordinates are shares of width and height (YOLO, Label Studio), not px."""


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A picture whose pixels are labels."""

    file: str
    array: str | None = None
    """Member of an `.npz`; the case's row of it."""
    raw: str | None = None
    """Binary mask: what its foreground is."""
    names: Mapping[int, str] | None = None
    """Indexed mask: pixel value (palette index, not its colour) to raw label."""
    colours: Mapping[tuple[int, int, int], str] | None = None
    """Coloured mask: RGB to raw label."""
    instances: bool = False
    """Every value above 0 is an object of its own, all named `raw`."""
    reader: str | None = None
    unknown: bool = False
    """`raw` is a class number that no list names."""


@dataclass(frozen=True, slots=True)
class MaskPictures:
    """Masks of a 2D picture; they may overlap. An empty one says that its label is not there, if complete."""

    files: tuple[MaskFile, ...]


@dataclass(frozen=True, slots=True)
class LabelVolume:
    """One volume whose voxels hold label ids."""

    file: str
    names: Mapping[int, str] | None
    """Label id to raw label; None: the file's own header names them."""
    unions: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """Raw label to the ids that make it up; ids may stand in several."""
    ignore: frozenset[int] = frozenset()
    """Ids that are no label: not looked at by those who annotated."""
    threshold: float | None = None
    """Soft mask: voxels from this value on are label 1; None: voxels are ids."""


@dataclass(frozen=True, slots=True)
class StructureVolumes:
    """One binary volume per structure; they may overlap."""

    files: Mapping[str, str]
    """Raw label to file."""


@dataclass(frozen=True, slots=True)
class Segments:
    """A DICOM SEG; segments may overlap."""

    file: str
    threshold: float = 0.5
    """Share from which a pixel of a fractional SEG belongs to its segment."""


@dataclass(frozen=True, slots=True)
class Contours:
    """A DICOM RTSTRUCT: outlines in mm, plane by plane."""

    file: str


class Sphere(NamedTuple):
    """A finding given by its centre and size."""

    raw: str
    center: tuple[float, float, float]
    """LPS mm."""
    diameter: float
    """mm."""
    reader: str | None = None


@dataclass(frozen=True, slots=True)
class Spheres:
    """Findings of a volume in patient coordinates, as LUNA16 gives them."""

    spheres: tuple[Sphere, ...]


Annotation = Marks | MaskPictures | LabelVolume | StructureVolumes | Segments | Contours | Spheres
