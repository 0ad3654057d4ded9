"""A Python function of your own, where no other kind fits.

```yaml
- kind: adapter
  adapter: my_set.py:read       # a file in the working directory, or `package.module:function`
  path: "notes/{stem}.txt"      # optional: the files it is given
  origin: detection
```

It is called as `read(case, given)` with the `Case` and the `Given` of `sources/annotation.py`, and returns one of the
annotations of that module, or None where it knows nothing of the case.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, Literal, get_args

from pydantic import field_validator

from pipeline import discovery
from pipeline.errors import MedglossError, Unusable, UserError, did_you_mean
from pipeline.records import Case
from pipeline.records import Origin as Origins
from sources.annotation import Annotation, Given
from sources.descriptor import AnnotationSpec

ORIGIN: Origins = "classification"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of a function of your own."""

    kind: Literal["adapter"]
    adapter: str
    """`file.py:function` or `package.module:function`."""
    path: str | None = None
    """Template of the files that it is given."""
    origin: Literal["classification", "detection", "segmentation_2d", "segmentation_3d"] = "classification"
    """What it makes of the data set."""

    @field_validator("adapter")
    @classmethod
    def _names_a_function(cls, adapter: str) -> str:
        module, _, function = adapter.rpartition(":")
        if not module or not function.isidentifier():
            raise ValueError("should be file.py:function or package.module:function")
        return adapter


def check(spec: Spec) -> None:
    """Find the function before the run begins.

    Raises:
        UserError: It is not there.
    """
    _function(spec.adapter)


def read(spec: Spec, case: Case, given: Given) -> Annotation | None:
    """Return what the function says of a case.

    Raises:
        Unusable: `adapter_failed`; or what the function refuses by `Unusable` itself.
    """
    try:
        found = _function(spec.adapter)(case, given)
    except (MedglossError, MemoryError):
        raise
    except Exception as error:  # someone else's code: whatever it raises is the fault of this case alone
        raise Unusable("adapter_failed", f"it raised {type(error).__name__}") from error
    if found is not None and not isinstance(found, get_args(Annotation)):
        raise Unusable("adapter_failed", f"it returned {type(found).__name__}, which is no annotation")
    return found


@functools.lru_cache(maxsize=32)
def _function(adapter: str) -> Callable[[Case, Given], Any]:
    name, _, function = adapter.rpartition(":")
    try:
        module = discovery.module("adapter", "sources.layouts", name) if name.endswith(".py") else _imported(name)
    except (MedglossError, MemoryError):
        raise
    except Exception as error:  # someone else's code again: it may fail in any way while it is imported
        raise UserError(f"adapter {name}: it can not be imported: {type(error).__name__}: {_line(error)}") from error
    found: Callable[[Case, Given], Any] | None = getattr(module, function, None)
    if not callable(found):
        known = [known for known in vars(module) if callable(vars(module)[known]) and not known.startswith("_")]
        raise UserError(f"adapter {name}: no function {function!r}{did_you_mean(function, known)}")
    return found


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise  # what is missing is something that it imports
        raise UserError(
            f"adapter {name}: no such module; give file.py:function for one that is not installed"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
