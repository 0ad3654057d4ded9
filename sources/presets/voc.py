"""PASCAL VOC: one XML file a picture.

```
Annotations/a.xml       or, beside each other:      train/a.jpg
JPEGImages/a.jpg                                    train/a.xml
ImageSets/…             not read
```
`VOCdevkit/VOC2012/` may stand above.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "detection"
_PICTURES = ("JPEGImages", "images", "Images")


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: There is no XML file, or no picture at its place.
    """
    above = trees.first(root, "Annotations/*.xml", "*/Annotations/*.xml", "*/*/Annotations/*.xml")
    if above is not None:
        start = above.relative_to(root).as_posix().rpartition("Annotations/")[0]
        folder = next((name for name in _PICTURES if trees.has_pictures(root / start / name)), None)
        if folder is None:
            raise UserError(f"{root}: no pictures in JPEGImages/ beside Annotations/")
        free = "".join(f"{{set{n}}}/" for n, _ in enumerate(start.split("/")[:-1]))
        return _filled(f"{free}{folder}/", f"{free}Annotations/")
    if not any(trees.beside(file) for file in root.glob("**/*.xml")):
        raise UserError(f"{root}: no Annotations/*.xml, and no XML beside pictures")
    return _filled("", "")


def _filled(pictures: str, annotations: str) -> dict[str, Any]:
    return {
        "cases": {"match": f"{pictures}{trees.PICTURE}"},
        "annotations": [{"kind": "voc", "path": f"{annotations}{{picture}}.xml"}],
    }
