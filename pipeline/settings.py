"""What a run is told: flags and `run.yaml`, checked once, then plain arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.strict import Strict, checked, dump_yaml, load_yaml, read_text

RUN_FILE = "run.yaml"
SPLITS = ("train", "validation", "test")
OPENAI = "https://api.openai.com/v1"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class BackendSpec(Strict):
    """What answers one role's requests."""

    backend: str = "template"
    """Name of a module in `pipeline/generate/backends`, or a path to one."""
    model: str = "template"
    base_url: str = OPENAI
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never written anywhere."""
    concurrency: int = Field(16, ge=1, le=4096)
    """Requests in flight at the endpoint, over all workers."""
    timeout_s: float = Field(120.0, gt=0)
    """For a whole request."""
    zero_retention: bool = False
    """The provider has promised to keep nothing."""
    allow_local_data: bool = False
    """The endpoint is on the hospital's own network: sources with `egress: local` may be sent to it."""

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        if "@" in url.partition("://")[2].partition("/")[0]:
            raise ValueError("the address must not hold a user or password: they would stand in run.yaml; use key_env")
        if not url.startswith(("http://", "https://")) or not url.partition("://")[2]:
            raise ValueError("should be an address such as http://127.0.0.1:8000/v1")
        return url


class Splits(Strict):
    """Shares of the groups."""

    train: float = Field(0.9, ge=0, le=1)
    validation: float = Field(0.05, ge=0, le=1)
    test: float = Field(0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _whole(self) -> "Splits":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError(f"splits must add up to 1, not {self.train + self.validation + self.test:g}")
        return self


class Settings(Strict):
    """All of a run."""

    sources: Names
    """Catalog names or paths."""
    data: str | None = None
    """Folder that holds one folder a source, named by the source's `root` or id."""
    roots: dict[str, str] = Field(default_factory=dict)
    """Source id to folder: goes before `data`."""
    languages: Names = ("en", "zh")
    prompts: Names = ()
    """Empty: all that the default backend can answer."""
    backends: dict[str, BackendSpec] = Field(default_factory=lambda: {"default": BackendSpec()})
    """Role to backend."""
    max_side: int | None = Field(1024, ge=64)
    """Longest side in px of the picture that is sent; None: as stored."""
    splits: Splits = Splits()
    seed: str = "0"
    executor: Literal["auto", "local", "ray"] = "auto"
    workers: int | None = Field(None, ge=1)
    """None: one a core."""
    shards: dict[str, Annotated[int, Field(ge=1, le=4096)]] = Field(default_factory=dict)
    """Source id to number of shards: fixed at the first run."""
    journal: str | None = None
    """Folder or URL of a journal shared by runs; None: in the run folder."""
    hash_files: bool = False
    """Fingerprint files by content instead of size and time."""

    @model_validator(mode="after")
    def _has_default(self) -> "Settings":
        if "default" not in self.backends:
            raise ValueError("backends: role 'default' is missing")
        return self


def parse(text: str, where: str) -> Settings:
    """Check a settings file's text.

    Raises:
        UserError: One line with the first fault.
    """
    return checked(Settings, load_yaml(text, where), where)


def merged(base: Mapping[str, Any], flags: Mapping[str, Any], where: str) -> Settings:
    """Lay flags over a file's settings.

    Raises:
        UserError: One line with the first fault.
    """
    return checked(Settings, {**base, **{name: value for name, value in flags.items() if value is not None}}, where)


def from_file(path: str) -> dict[str, Any]:
    """Read a settings file as a mapping, to be merged with flags.

    Raises:
        UserError: Not there, or not YAML.
    """
    data = load_yaml(read_text(Path(path)), path)
    return data if isinstance(data, dict) else {}


def text_of(settings: Settings) -> str:
    """Return the settings as the YAML that is stored in the run folder."""
    return dump_yaml(settings.model_dump(mode="json", exclude_none=True))
