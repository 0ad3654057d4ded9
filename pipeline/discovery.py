"""The file name is the name: find a source, prompt, layout, backend or format by its file, with no registry."""

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType

from pipeline.errors import UserError, did_you_mean

ROOT = Path(__file__).resolve().parents[1]


def names(folder: str, suffix: str) -> list[str]:
    """List the names a folder of the package offers.

    >>> names("sources/layouts", ".py")[0]
    'classes'
    """
    found = sorted(path.name.removesuffix(suffix) for path in (ROOT / folder).glob(f"*{suffix}"))
    return [name for name in found if not name.startswith("_")]


def find(what: str, folder: str, suffix: str, name: str) -> Path:
    """Return the file behind a name, or behind a path: a path works wherever a name does.

    Raises:
        UserError: Neither; with the near name.
    """
    if name.endswith(suffix) or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{what} {name}: no such file")
        return path
    known = names(folder, suffix)
    if name not in known:
        raise UserError(f"unknown {what} {name!r}{did_you_mean(name, known)}")
    return ROOT / folder / f"{name}{suffix}"


def module(what: str, package: str, name: str) -> ModuleType:
    """Import the module behind a name (`package.name`) or behind a path to a Python file.

    Raises:
        UserError: Unknown name, or a file outside the working directory (a cluster would not have it).
    """
    path = find(what, package.replace(".", "/"), ".py", name)
    if path.is_relative_to(ROOT):
        return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if not path.resolve().is_relative_to(Path.cwd()):
        raise UserError(f"{what} {name}: must lie in the working directory, so that a cluster gets it too")
    return _import_file(path)


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None  # a .py file always has one
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
