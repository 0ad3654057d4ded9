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


class License(Strict):
    """Who may do what with the data."""

    name: str
    """SPDX identifier where there is one."""
    url: str | None = None
    redistribute: bool = False
    """May pictures be passed on? Goes to every row and to the data set card."""
    commercial: bool = False


class Table(Strict):
    """A CSV or TSV file joined to the cases by key; its cells are captures named `table.column`."""

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
    lists_cases: bool | None = None
    """True: a row without a picture is a missing case. Default: true where an annotation uses the table."""


class Cases(Strict):
    """What is read."""

    match: Texts
    """Path templates; files with the same id are one case."""
    id: str | None = None
    """Template of the case's id; default: the path without its suffix."""
    group: str | None = None
    """Template of the patient (or what comes nearest); default: the case itself."""
    form: Literal["picture", "volume", "series"] | None = None
    """Default: by suffix."""
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

    assume: str | None = Field(None, pattern="^[RLAPSI]{3}$")
    """Axis codes of the stored array, `LPS`: used instead of the header's."""
    pairing: Literal["same_grid", "resample", "trust_array"] = "same_grid"
    """How a mask is laid over its volume: same grid or rejected; nearest neighbour in mm; array order."""
    allow_oblique: float = Field(15.0, ge=0, le=45)
    """Degrees from the nearest axis up to which a slice still has its plane's name."""


class Slices(Strict):
    """Which slices of a volume become pictures."""

    planes: tuple[Literal["axial", "coronal", "sagittal"], ...] = ("axial",)
    pick: Literal["labelled", "all"] = "labelled"
    every: int = Field(1, ge=1)
    """Of the picked ones, every n-th."""


class WindowSpec(Strict):
    """Fixed bounds: the same intensity is the same grey on every slice."""

    preset: str | None = None
    """Name in the vocabulary's windows."""
    low: float | None = None
    high: float | None = None
    center: float | None = None
    width: float | None = Field(None, gt=0)
    percentile: tuple[float, float] | None = None
    """Of the foreground of the whole volume."""

    @model_validator(mode="after")
    def _one_way(self) -> "WindowSpec":
        ways = (self.preset, self.low, self.center, self.percentile)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of: preset, low and high, center and width, percentile")
        if (self.low is None) != (self.high is None) or (self.center is None) != (self.width is None):
            raise ValueError("low goes with high, center with width")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        return self


def _as_window(value: Any) -> Any:
    return {"preset": value} if isinstance(value, str) else value


class Display(Strict):
    """How intensities become grey."""

    window: Annotated[
        WindowSpec | None, BeforeValidator(_as_window, json_schema_input_type=str | WindowSpec | None)
    ] = None


class Limits(Strict):
    """What is too small to be a region or a picture."""

    min_area_mm2: float = Field(10.0, ge=0)
    """Where spacing is known."""
    min_area_px: float = Field(100.0, ge=0)
    """Elsewhere, for masks; boxes that people drew are kept from `min_box_px` on."""
    min_box_px: float = Field(1.0, ge=0)
    min_side_px: int = Field(16, ge=1)
    """Shorter side of a stored picture."""


NO_LIMITS = Limits(min_area_mm2=0, min_area_px=0, min_box_px=0, min_side_px=1)


def _as_limits(value: Any) -> Any:
    return NO_LIMITS if value == "none" else value


class Privacy(Strict):
    """What must not be seen from outside."""

    hash_ids: bool = False
    """Case and group ids are keyed hashes; the key comes from MEDGLOSS_ID_KEY."""


class Expect(Strict):
    """Counts that the data set is known to have; `medgloss check` compares."""

    cases: int | None = None
    regions: int | None = None


class Descriptor(Strict):
    """One data set."""

    schema_: Literal["medgloss/1"] = Field(alias="schema")
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    title: str
    license: License
    egress: Egress
    """What may see a picture: `none` (templates only), `local`, `zero_retention`, `any`."""
    modality: str
    """A key of the vocabulary's modalities."""
    sub_modality: str | None = None
    body_part: str | None = None
    department: str | None = None
    """Overrides the table."""
    task: str | None = None
    """Overrides the table."""
    root: str = "."
    """Folder of the data, relative to this file; `--data` or `--root` override it."""
    cases: Cases
    tables: dict[str, Table] = Field(default_factory=dict)
    annotations: tuple[Any, ...] = ()
    attributes: dict[str, str] = Field(default_factory=dict)
    """Name to template; goes to the record."""
    geometry: GeometrySpec = GeometrySpec()
    slices: Slices = Slices()
    display: Display = Display()
    limits: Annotated[Limits, BeforeValidator(_as_limits, json_schema_input_type=Literal["none"] | Limits)] = Limits()
    privacy: Privacy = Privacy()
    expect: Expect = Expect()
    citation: str | None = None
    url: str | None = None
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
    schema["properties"]["annotations"] = {"type": "array", "items": {"oneOf": [kind for kind, _ in kinds]}}
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
