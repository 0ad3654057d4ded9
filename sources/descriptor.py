"""The descriptor: one YAML file says all that medgloss needs to know of a data set.

Medical facts stand once at the top; `cases:` says what is read, `annotations:` what is known of it. Unknown keys are
errors with the near name, scalars stay strings. docs/adding-a-data-set.md explains every key with examples.
"""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from pipeline import discovery
from pipeline.errors import UserError
from pipeline.records import Egress
from pipeline.strict import Strict, checked, load_yaml, read_text

SCHEMA = "medgloss/1"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
"""One text or a list of texts."""


class LicenseRule(Strict):
    """What one licence of several allows."""

    redistribute: bool = False
    commercial: bool = False
    egress: Egress | None = None
    """None: the descriptor's."""
    drop: bool = False
    """Pictures under it are left out."""


class License(Strict):
    """Who may do what with the data."""

    name: str
    """SPDX identifier where there is one; a template (`{meta.License}`) where each picture has its own."""
    url: str | None = None
    redistribute: bool = False
    """May pictures be passed on? Goes to every row and to the data set card."""
    commercial: bool = False
    each: dict[str, LicenseRule] = Field(default_factory=dict)
    """By the filled-in name; a name that is not listed is left out. Empty: the two keys above hold for all."""


class Table(Strict):
    """A CSV, TSV, JSON, JSON Lines, Parquet or XLSX file joined to the cases by key; cells are `table.column`."""

    path: str
    key: str
    """Column that holds the key."""
    match: str = "{stem}"
    """Template of the key that a case looks up."""
    strip: str = ""
    """Prefix taken off the table's key before the look-up."""
    delimiter: str = ","
    encoding: str = "utf-8"
    skip_rows: int = Field(0, ge=0)
    """Lines above the header."""
    columns: Texts = ()
    """Names of the columns of a CSV or TSV file without a header."""
    lists_cases: bool | None = None
    """True: a row without a picture is a missing case. Default: true where an annotation uses the table."""


class RowsSpec(Strict):
    """Cases that are the rows of a file: Parquet, `.npz`, JSONL, CSV. Cells are captures named `row.column`."""

    image: str | None = None
    """Column (Parquet: bytes, or bytes and path) or member of the `.npz` that holds the pictures."""
    text: str | None = None
    """Template of the text of a text-only source: `{row.question}`."""
    delimiter: str = ","
    encoding: str = "utf-8"

    @model_validator(mode="after")
    def _one_of(self) -> "RowsSpec":
        if (self.image is None) == (self.text is None):
            raise ValueError("give one of: image, text")
        return self


class Channels(Strict):
    """Several volumes of one body on one grid: sibling files, or the fourth axis of one file."""

    files: dict[str, str] = Field(default_factory=dict)
    """What `{channel}` of `cases.match` captured, to the channel's name; `cases.id` must not hold it."""
    axis: Texts = ()
    """Names along the fourth axis of a volume, in order."""
    show: Texts = ()
    """Those that become pictures; default: all."""

    @model_validator(mode="after")
    def _one_way(self) -> "Channels":
        if bool(self.files) == bool(self.axis):
            raise ValueError("give one of: files, axis")
        names = set(self.files.values()) or set(self.axis)
        for name in self.show:
            if name not in names:
                raise ValueError(f"show: {name!r} is no channel; there are {', '.join(sorted(names))}")
        return self


class Cases(Strict):
    """What is read."""

    match: Texts
    """Path templates; files with the same id are one case."""
    id: str | None = None
    """Template of the case's id; default: the path without its suffix."""
    group: str | None = None
    """Template of the patient (or what comes nearest); default: the case itself."""
    form: Literal["picture", "volume", "series", "video", "rows"] | None = None
    """Default: by suffix; `series` is all that DICOM has, `rows` what `rows` says."""
    rows: RowsSpec | None = None
    exclude: Texts = ()
    unlabelled: Literal["reject", "keep"] = "reject"


class LabelRule(Strict):
    """What a raw label means."""

    label: str | None = None
    """Name in the vocabulary; None keeps the raw label."""
    side: Literal["left", "right"] | None = None
    drop: bool = False
    """Not a label (background, artefact): no region, no row."""


class AnnotationSpec(Strict):
    """What every kind of annotation may say; each layout adds its own keys."""

    kind: str
    labels: dict[str, str | LabelRule] = Field(default_factory=dict)
    """Raw label to vocabulary name; labels that are not listed are looked up as they stand."""
    complete: bool = False
    """Every listed label was looked for: absence is an annotated negative. Default: open world."""
    certain: bool = True

    def rule(self, raw: str) -> LabelRule:
        """Return what a raw label means."""
        found = self.labels.get(raw, raw)
        return LabelRule(label=found) if isinstance(found, str) else found


class GeometrySpec(Strict):
    """How to read positions where the header does not say, or lies."""

    assume: str | None = Field(None, pattern="^([RLAPSI]{3}|unknown)$")
    """Axis codes of the stored array, `LPS`: used instead of the header's. `unknown`: no side is known, the array is
    taken as it is stored."""
    pairing: Literal["same_grid", "resample", "trust_array"] = "same_grid"
    """How a mask is laid over its volume: same grid or rejected; nearest neighbour in mm; array order."""
    annotated: Literal["upright", "file"] = "upright"
    """What annotations of a picture with an EXIF orientation speak of, where their size does not tell."""
    allow_oblique: float = Field(15.0, ge=0, le=45)
    """Degrees between a slice's normal and the patient's axis up to which the slice has its plane's name."""


class Slices(Strict):
    """Which slices of a volume become pictures."""

    planes: Annotated[
        tuple[Literal["acquisition", "axial", "coronal", "sagittal"], ...],
        BeforeValidator(
            lambda value: ("axial", "coronal", "sagittal") if value == "xyz" else _as_list(value),
            json_schema_input_type=str | list[str],
        ),
    ] = ("acquisition",)
    """`acquisition`: across the voxels' longest side, axial where none stands out; `xyz` is all three planes."""
    pick: Literal["labelled", "peaks", "all"] = "labelled"
    """`peaks`: the slices on which a label is largest."""
    every: int = Field(1, ge=1)
    """Of the picked ones, every n-th."""
    per_label: int = Field(1, ge=1)
    """Peaks of each label."""
    gap_mm: float = Field(10.0, ge=0)
    """Least distance between two peaks of a label; in slices where spacing is unknown."""
    most: int | None = Field(None, ge=1)
    """Slices of a volume and plane at most; those with the largest regions stay."""
    negatives: float = Field(0.0, ge=0)
    """Annotated-negative slices added for each picked one: 0.25 adds one to four. Needs a complete annotation."""


class Frames(Strict):
    """Which frames of a video become pictures."""

    every_s: Annotated[
        Annotated[float, Field(gt=0)] | None,
        BeforeValidator(lambda value: None if value == "all" else value, json_schema_input_type=float | Literal["all"]),
    ] = 1.0
    """One frame in so many seconds; `all`: every frame."""
    most: int | None = Field(None, ge=1)
    """Frames of a clip at most, evenly spread."""
    pick: Literal["all", "labelled"] = "all"
    """`labelled`: only frames that an interval or frame label speaks of."""


class WindowSpec(Strict):
    """Fixed bounds: the same intensity is the same grey on every slice."""

    preset: str | None = None
    """Name in the vocabulary's windows; `header`: what a DICOM file says; `organ`: by the labels' own windows."""
    low: float | None = None
    high: float | None = None
    center: float | None = None
    width: float | None = Field(None, gt=0)
    percentile: tuple[float, float] | None = None
    """Of the foreground of the whole volume."""
    function: Literal["linear", "linear_exact", "sigmoid"] = "linear_exact"
    """Of center and width: PS3.3 C.11.2.1.2 and C.11.2.1.3."""

    @model_validator(mode="after")
    def _one_way(self) -> "WindowSpec":
        ways = (self.preset, self.low, self.center, self.percentile)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of: preset, low and high, center and width, percentile")
        if (self.low is None) != (self.high is None) or (self.center is None) != (self.width is None):
            raise ValueError("low goes with high, center with width")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        if self.function == "linear" and self.width is not None and self.width < 1:
            raise ValueError("width: function linear needs at least 1 (PS3.3 C.11.2.1.2)")
        return self


def _as_window(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


Window = Annotated[WindowSpec, BeforeValidator(_as_window, json_schema_input_type=str | WindowSpec)]


class Display(Strict):
    """How intensities become grey."""

    window: Window | None = None
    """Default: soft tissue for CT volumes, 0 to 10 SUV for PET, what the file says for DICOM pictures, else
    percentiles 0.5 and 99.5 of the foreground."""
    also: tuple[Window, ...] = ()
    """Further windows: one more picture of each slice, each."""
    slope: float = 1.0
    """With `intercept`: makes HU of a CT that was stored otherwise; applied to what the file's reader gives."""
    intercept: float = 0.0
    invert: bool = False
    """Black for white, where a file does not say that it is inverted."""
    crop: Literal["ultrasound"] | tuple[int, int, int, int] | None = None
    """`ultrasound`: the regions that a DICOM file declares; or x0, y0, x1, y1 in px, negative from the far side."""
    max_side_px: int = Field(10_000, ge=64)
    """Larger 2D pictures are made smaller; the record has the way back."""


class Limits(Strict):
    """What is too small to be a region or a picture."""

    min_area_mm2: float = Field(10.0, ge=0)
    """Where spacing is known."""
    min_area_px: float = Field(100.0, ge=0)
    """Elsewhere, for masks; boxes that people drew are kept from `min_box_px` on."""
    min_box_px: float = Field(1.0, ge=0)
    min_side_px: int = Field(16, ge=1)
    """Shorter side of a stored picture."""
    min_share: float = Field(0.0, ge=0, lt=1)
    """Share of the picture that a mask's region must cover."""
    min_aspect: float = Field(0.0, ge=0, le=1)
    """Shorter side of a picture by its longer one."""
    despeckle_px: int = Field(0, ge=0)
    """Connected parts of a mask below this are taken out of their region; a region of such parts alone is left out."""


NO_LIMITS = Limits(min_area_mm2=0, min_area_px=0, min_box_px=0, min_side_px=1)


SA_MED2D = Limits(min_area_mm2=0, min_area_px=0, min_share=0.00153, min_aspect=0.5)
"""Of SA-Med2D-20M: drops most lung nodules, because it knows no millimetres."""


def _as_limits(value: Any) -> Any:
    return {"none": NO_LIMITS, "sa_med2d": SA_MED2D}.get(value, value) if isinstance(value, str) else value


class Privacy(Strict):
    """What must not be seen from outside."""

    hash_ids: bool = False
    """Case and group ids are keyed hashes; the key comes from MEDGLOSS_ID_KEY."""
    burned_in: Literal["hold", "cleared"] = "hold"
    """DICOM pictures that may show text of a patient are held back until a person has looked: `cleared`."""


class Expect(Strict):
    """Counts that the data set is known to have; `medgloss check` compares."""

    cases: int | None = None
    regions: int | None = None


class Descriptor(Strict):
    """One data set."""

    schema_: Literal["medgloss/1"] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    preset: str | None = None
    """Name of a module in `sources/presets/`, which fills in the keys that are left out from the data's own files."""
    license: License
    egress: Egress
    """What may see a picture: `none` (templates only), `local`, `zero_retention`, `any`."""
    modality: str
    """A key of the vocabulary's modalities; a template (`{modality}`) where pictures have each their own."""
    modalities: dict[str, str] = Field(default_factory=dict)
    """What the template gives, to a key of the vocabulary's modalities; what is not listed is looked up."""
    sub_modality: str | None = None
    """A name of the data set's own, or a template."""
    body_part: str | None = None
    """A name, or a template."""
    department: str | None = None
    """Overrides the table."""
    task: str | None = None
    """Overrides the table."""
    root: str = "."
    """Folder of the data, relative to this file; `--data` or `--root` override it."""
    cases: Cases
    tables: dict[str, Table] = Field(default_factory=dict)
    channels: Channels | None = None
    annotations: tuple[Any, ...] = ()
    attributes: dict[str, str] = Field(default_factory=dict)
    """Name to template; goes to the record."""
    geometry: GeometrySpec = GeometrySpec()
    slices: Slices = Slices()
    frames: Frames = Frames()
    display: Display = Display()
    limits: Annotated[
        Limits, BeforeValidator(_as_limits, json_schema_input_type=Literal["none", "sa_med2d"] | Limits)
    ] = Limits()
    privacy: Privacy = Privacy()
    expect: Expect = Expect()
    citation: str | None = None
    url: str | None = None
    checked: Texts = ()
    """What this descriptor was compared with: the set's own page, a paper, a public loader."""
    unverified: str | None = None
    """What could not be compared with anything, and the doubt."""
    language: str | None = None

    @property
    def specs(self) -> tuple[AnnotationSpec, ...]:
        """The annotations, each of its layout's own type."""
        return self.annotations


class Loaded(NamedTuple):
    """A descriptor as it was found."""

    descriptor: Descriptor
    folder: Path
    """What its `root` is relative to."""
    text: str


def load(name: str) -> Loaded:
    """Read a descriptor by catalog name or path.

    Raises:
        UserError: Unknown name, or a fault in the file: one line.
    """
    path = discovery.find("source", "sources/catalog", ".yaml", name)
    text = read_text(path)
    return Loaded(parse(text, str(path)), path.resolve().parent, text)


def parse(text: str, where: str) -> Descriptor:
    """Check a descriptor's text.

    Raises:
        UserError: One line with the first fault.
    """
    data = load_yaml(text, where)
    descriptor = checked(Descriptor, data, where)
    specs = tuple(_spec(entry, f"{where}: annotations.{n}") for n, entry in enumerate(descriptor.annotations))
    return descriptor.model_copy(update={"annotations": specs})


def _spec(entry: Any, where: str) -> AnnotationSpec:
    if not isinstance(entry, dict) or "kind" not in entry:
        raise UserError(f"{where}: key 'kind' is missing")
    layout = discovery.module("annotation kind", "sources.layouts", entry["kind"])
    spec_type: type[AnnotationSpec] = layout.Spec
    return checked(spec_type, entry, where)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a descriptor, for editors."""
    schema = Descriptor.model_json_schema(by_alias=True)
    kinds = [_kind_schema(name) for name in discovery.names("sources/layouts", ".py")]
    listed = {"type": "array", "items": {"oneOf": [kind for kind, _ in kinds]}}
    # a preset may know what is left out, and a mapping changes the annotations that it fills in
    schema["properties"]["annotations"] = {"anyOf": [listed, {"type": "object"}]}
    filled = {key for key in schema["required"] if key in ("modality", "cases")}
    schema["required"] = [key for key in schema["required"] if key not in filled]
    schema["$defs"]["Cases"].pop("required")
    whole = {"required": sorted(filled), "properties": {"cases": {"required": ["match"]}}}
    schema["anyOf"] = [{"required": ["preset"]}, whole]
    for _, definitions in kinds:
        schema["$defs"].update(definitions)
    allowed: dict[str, Any] = _text_allowed(schema)
    return allowed


def _kind_schema(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec: type[AnnotationSpec] = discovery.module("annotation kind", "sources.layouts", name).Spec
    kind = spec.model_json_schema(by_alias=True)
    kind["properties"]["kind"] = {"const": name}
    return kind, kind.pop("$defs", {})


def _text_allowed(schema: Any) -> Any:
    """Editors read YAML 1.2 types: where text is wanted, let them accept what looks like a number or a boolean."""
    if isinstance(schema, dict):
        plain = schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema
        walked = {key: _text_allowed(value) for key, value in schema.items()}
        return {**walked, "type": ["string", "number", "boolean"]} if plain else walked
    return [_text_allowed(value) for value in schema] if isinstance(schema, list) else schema


@functools.lru_cache(maxsize=256)
def layout(kind: str) -> Any:
    """Return the module of an annotation kind."""
    return discovery.module("annotation kind", "sources.layouts", kind)
