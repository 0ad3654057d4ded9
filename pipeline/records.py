"""The nouns that travel: Case, Record, Sample and what they are made of.

Frozen data without I/O, standard library only. Pixels are `(y, x)`, volumes `(z, y, x)` in LPS, lengths mm,
boxes half-open `x0, y0, x1, y1` in px with the origin at the top left *edge* of the stored picture.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

Origin = Literal["classification", "detection", "segmentation_2d", "segmentation_3d", "video", "text"]
Level = Literal["case", "record", "region", "sample"]
Geometry = Literal["known", "assumed", "unknown"]
Plane = Literal["axial", "coronal", "sagittal", "oblique", "unknown"]
Side = Literal["left", "right"]
Egress = Literal["none", "local", "zero_retention", "any"]
Outcome = Literal["ok", "throttle", "retry", "bad_item", "truncated", "empty", "refused", "filtered", "stop"]
Kind = Literal[
    "caption",
    "region_caption",
    "vqa_open",
    "vqa_choice",
    "vqa_yesno",
    "grounding",
    "dialogue",
    "instruction",
    "reasoning",
    "perception",
    "text",
]
Stage = Literal["ingest", "generate", "curate", "export"]

Affine2 = tuple[float, float, float, float, float, float]
"""A 2×3 matrix by rows: `u = a·x + b·y + c`, `v = d·x + e·y + f`."""
World = tuple[float, float, float, float, float, float, float, float, float]
"""A 3×3 matrix by rows: LPS mm of the point (x, y, 1) px."""


class Box(NamedTuple):
    """A rectangle in px, half-open, origin top left."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Width in px."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Height in px."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Area in px²."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Case:
    """The smallest part of a source that can be read alone: an image, a study, a volume, a clip."""

    id: str
    """Unique in its source and safe in a path."""
    source: str
    group: str
    """The patient, or what comes nearest; splits never cut through a group."""
    files: Mapping[str, tuple[str, ...]]
    """Role (`image`, or an annotation's index) to paths relative to the source's root."""
    captures: Mapping[str, str]
    """What the path template captured, and the joined table cells as `table.column`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Annotation index to JSON: what a file shared by many cases (COCO, a table) says of this one."""
    problem: tuple[str, str] | None = None
    """Reason and detail, where the plan already knows that it can not be read."""
    channels: tuple[str, ...] = ()
    """Name of each file of the role `image`, where they are channels of one body."""
    row: int | None = None
    """Row of the file, from 0, where a case is one row of it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One stored 2D picture."""

    bytes: bytes
    """PNG (8-bit, L or RGB) or the original JPEG without its metadata."""
    width: int
    height: int
    sha256: str
    """Of these bytes."""
    to_source: Affine2 = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    """Stored px to px of the source picture, or to the two in-plane voxel axes of the source volume."""
    to_world: World | None = None
    """Stored px to LPS mm; None where geometry is unknown."""
    plane: Plane = "unknown"
    channel: str | None = None
    window: str | None = None
    """How intensities became grey, e.g. `soft_tissue -160..240`; None: as stored."""
    index: int | None = None
    """Slice, along the LPS axis across the plane; or frame."""
    time_s: float | None = None
    spacing_mm: float | None = None
    """Of the stored picture, whose pixels are square; None where unknown."""
    geometry: Geometry = "unknown"
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """A label and where it is."""

    label: str | None
    """Concept id of the vocabulary; None where the raw label is not in it."""
    raw: str
    box: Box | None = None
    """None: the whole picture."""
    mask: str | None = None
    """COCO compressed run-length code in the stored picture."""
    component: int | None = None
    """Number of the connected component, from 0, where the source is read per component."""
    area_px: float | None = None
    area_mm2: float | None = None
    side: Side | None = None
    """The patient's side, from the label; None: not stated."""
    certain: bool = True
    reader: str | None = None
    """The person who annotated, as a pseudonym."""


@dataclass(frozen=True, slots=True)
class Record:
    """One picture with its facts: image, modality, label, department, bbox."""

    id: str
    picture: Picture | None
    text: str | None
    modality: str
    """A key of the vocabulary's modalities: ct, mr, xray, …"""
    sub_modality: str | None
    department: str | None
    task: str | None
    origin: Origin
    regions: tuple[Region, ...]
    annotated: tuple[str, ...]
    """Labels that were looked for: here and not in regions means annotated negative."""
    doubted: tuple[str, ...]
    """Labels with a region that was left out (too small, say): neither present nor absent."""
    attributes: Mapping[str, str]
    body_part: str | None
    source: str
    case: str
    group: str
    license: str
    redistribute: bool
    commercial: bool
    egress: Egress
    history: tuple[str, ...]
    """What was done to the pixels, in order."""


class Message(NamedTuple):
    """One turn. Pictures stand before the text of the first user turn."""

    role: str
    content: str


class Drawn(NamedTuple):
    """A picture of a request: what is stored and how it is shown."""

    sha256: str
    """Of the stored bytes."""
    max_side: int | None
    """Longest side in px of the copy that is sent; None: as stored."""
    boxes: tuple[Box, ...]
    """Drawn on the copy that is sent, never on the stored picture."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model."""

    key: str
    """sha256 of model, sampling, messages, pictures, schema, variant and attempt."""
    messages: tuple[Message, ...]
    pictures: tuple[Drawn, ...]
    sampling: Mapping[str, float | int]
    schema: Mapping[str, Any]
    """JSON Schema of the reply."""
    role: str
    """The run's role that answers it: default, merge, judge, translate."""
    record: str
    """Id of the (first) record: requests of one picture stay together."""
    egress: Egress


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, or why nothing did."""

    key: str
    outcome: Outcome
    text: str = ""
    """The raw reply; for a failure, what was wrong, under 2 KB and without picture data."""
    finish_reason: str | None = None
    usage: Usage = Usage()
    model: str = ""
    endpoint: str = ""
    attempts: int = 1
    latency_s: float = 0.0
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One paid (or free) question behind a sample."""

    stage: str
    prompt: str
    """`name@digest`."""
    backend: str
    model: str
    key: str
    input_tokens: int
    output_tokens: int
    cost: float | None
    """US dollars; None where the price is unknown."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example with its whole past."""

    id: str
    """`<first record id>#<kind>.<n>.<language>`."""
    records: tuple[str, ...]
    kind: Kind
    language: str
    messages: tuple[Message, ...]
    reasoning: str | None
    answer: str
    answer_type: str
    """text, mcq, yesno, exact, number, count, bbox, multi_label."""
    tolerance: float | None
    choices: tuple[str, ...]
    boxes: tuple[tuple[str, Box], ...]
    """Label text and box in stored px, for samples that speak of places."""
    calls: tuple[Call, ...]
    checks: tuple[str, ...]
    """Names of the checks it passed."""
    judge: str | None
    parent: str | None
    made_by: Literal["template", "model", "human"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """What was left out, and why."""

    id: str
    level: Level
    stage: Stage
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Shard:
    """A slice of a source's work with the same cut in every run."""

    source: str
    index: int
    count: int

    @property
    def stem(self) -> str:
        """File stem, `00003-of-00064`."""
        return f"{self.index:05d}-of-{self.count:05d}"


class Backend(Protocol):
    """What answers requests."""

    name: str
    model: str

    def open(self, requests: AsyncIterator[Request]) -> AsyncIterator[Reply]:
        """Answer requests in any order; one Reply each, failures included. A retry is a request fed again."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Coordinator(Protocol):
    """What the workers of a run share, served by the parent process or a named actor."""

    def lease(self, endpoint: str) -> int:
        """Return how many requests this worker may have in flight at the endpoint."""
        ...

    def spend(self, input_tokens: int, output_tokens: int, cost: float | None) -> None:
        """Tell what was used since the last call."""
        ...

    def stop(self, why: str) -> None:
        """Ask every worker to stop; the first reason is kept."""
        ...

    def stopped(self) -> str | None:
        """Return the reason to stop, or None."""
        ...
