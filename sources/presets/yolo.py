"""YOLO: one text file a picture, and the names of the classes.

```
data.yaml                        names: [nodule, mass]; or classes.txt
images/train/a.jpg               or  train/images/a.jpg       or  a.jpg
labels/train/a.txt                   train/labels/a.txt           a.txt
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees
from sources.trees import PICTURE

ORIGIN: Origin = "detection"
_NAMES = ("data.yaml", "dataset.yaml", "*.yaml", "*.yml", "classes.txt", "obj.names", "*.names", "labels/classes.txt")
_ABOVE = "{above:(?:.+/)?}"
"""Folders that hold `images` and `labels`; there may be none."""


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: Nothing names the classes, or no text file lies where it should.
    """
    names = trees.first(root, *_NAMES)
    if names is None and "annotations" not in said:
        raise UserError(f"{root}: no data.yaml and no classes.txt: nothing names the classes")
    if any((images.parent / "labels").is_dir() for images in root.glob("**/images")):
        match, path = f"{_ABOVE}images/{PICTURE}", "{above}labels/{picture}.txt"
    elif any(trees.beside(text) for text in root.glob("**/*.txt")):
        match, path = PICTURE, "{picture}.txt"
    else:
        raise UserError(f"{root}: no labels/ beside images/, and no text files beside pictures")
    named = {"names": names.relative_to(root).as_posix()} if names else {}
    return {"cases": {"match": match}, "annotations": [{"kind": "yolo", "path": path, **named}]}
