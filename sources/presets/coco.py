"""COCO: one JSON file for all pictures of a folder.

```
train/_annotations.coco.json     or  annotations/instances_train.json      or  annotations.json
train/a.jpg                          images/train/a.jpg (train/a.jpg)          images/a.jpg (a.jpg)
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees
from sources.safe_json import parsed
from sources.trees import EXT, PICTURE

ORIGIN: Origin = "detection"
_ROBOFLOW = "_annotations.coco.json"
_INSTANCES = "instances_"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: There is no such file, or its pictures are not where they should be.
    """
    splits = [name for name in trees.folders(root) if (root / name / _ROBOFLOW).is_file()]
    if splits:
        match = f"{trees.one_of('split', splits)}/{{picture}}.{EXT}"
        return _filled(match, [{"path": f"{{split}}/{_ROBOFLOW}", "match": "{name}"}])
    folder = root / "annotations"
    named = sorted(path.name for path in folder.glob(f"{_INSTANCES}*.json"))
    splits = [name.removeprefix(_INSTANCES).removesuffix(".json") for name in named]
    for above in ("images/", ""):
        if splits and all((root / above / split).is_dir() for split in splits):
            match = f"{above}{trees.one_of('split', splits)}/{PICTURE}"
            start = f"{above}{splits[0]}/"
            return _filled(
                match, [{"path": f"annotations/{_INSTANCES}{{split}}.json", **_key(root, folder / named[0], start)}]
            )
    return _of_one_folder(root, folder, named)


def _of_one_folder(root: Path, folder: Path, named: list[str]) -> dict[str, Any]:
    """Pictures of all files lie in one folder."""
    paths = [folder / name for name in named] or sorted(folder.glob("*.json")) or sorted(root.glob("*.json"))
    if not paths:
        raise UserError(f"{root}: no */{_ROBOFLOW}, no annotations/instances_*.json and no other JSON file")
    start = "images/" if (root / "images").is_dir() else ""
    listed = [{"path": path.relative_to(root).as_posix(), **_key(root, path, start)} for path in paths]
    return _filled(f"{start}{PICTURE}", listed)


def _key(root: Path, path: Path, start: str) -> dict[str, str]:
    """Return how a picture is called in the JSON: by its path from its folder, or from the root.

    Raises:
        UserError: It is not COCO JSON, or its first picture is at neither place.
    """
    try:
        name = parsed(path.read_bytes())["images"][0]["file_name"]
    except (ValueError, TypeError, LookupError):
        raise UserError(f"{path.relative_to(root)}: not COCO JSON, or without pictures") from None
    for match, folder in (("{picture}.{ext}", root / start), ("{path}", root)):
        if isinstance(name, str) and (folder / name).is_file():
            return {"match": match}
    raise UserError(f"{path.relative_to(root)}: its first picture is not in {start or 'the folder itself'}")


def _filled(match: str, annotations: list[dict[str, str]]) -> dict[str, Any]:
    return {"cases": {"match": match}, "annotations": [{"kind": "coco", **one} for one in annotations]}
