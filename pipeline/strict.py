"""Files that people write: YAML whose scalars stay strings, checked against strict models.

YAML 1.1 reads `no`, `012` and `1.10` as False, 10 and 1.1; the Br35H brain set really has folders `yes` and `no`.
Here every scalar is the text that was written, and pydantic turns it into a number where a field wants one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError, did_you_mean


class Strict(BaseModel):
    """A model that refuses unknown keys and does not change after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


M = TypeVar("M", bound=Strict)


# every scalar stays text, whatever tag a file gives it; in C ten times as fast, where PyYAML has it
_Base: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Scalars as written; a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_yaml(text: str, where: str) -> Any:
    """Parse YAML with string scalars.

    Args:
        text: The file's text.
        where: What to call it in an error.

    Raises:
        UserError: It is not YAML, or a key stands twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def dump_yaml(data: Any, width: int = 110) -> str:
    """Write data so that `load_yaml` gives it back, key order kept, lines folded at a width."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=width)


def read_text(path: Path) -> str:
    """Read a UTF-8 file that a person wrote.

    Raises:
        UserError: It is not there, not readable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def checked(model: type[M], data: Any, where: str) -> M:
    """Build a strict model from parsed YAML.

    Raises:
        UserError: One line with the first fault, and the near name for an unknown key.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: should be a mapping of keys, is {type(data).__name__}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_fault(model, error)}") from None


def _first_fault(model: type[BaseModel], error: ValidationError) -> str:
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, fault["loc"][:-1])
        return f"unknown key {path!r}{did_you_mean(str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"key {path!r} is missing"
    given = fault.get("input")
    shown = f" (is {given!r})" if isinstance(given, str | int | float | bool) else ""
    return f"{path or 'file'}: {fault['msg'].removeprefix('Value error, ')}{shown}"


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Follow a location into nested models, as far as its parts name fields."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = _models_in(field.annotation) if field else []
        if inner:
            model = inner[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
