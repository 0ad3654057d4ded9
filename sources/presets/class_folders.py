"""Class folders: the folder a picture lies in is its label.

```
train/benign/a.png        or        benign/a.png
test/malignant/b.jpg                malignant/b.jpg
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "classification"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: No folder holds pictures at the place of a class.
    """
    top = trees.folders(root)
    splits = [name for name in top if name.lower() in trees.SPLITS and trees.folders(root / name)]
    within = [root / split / name for split in splits for name in trees.folders(root / split)]
    start = f"{trees.one_of('split', splits)}/" if splits else ""
    if not any(trees.has_pictures(folder) for folder in within or [root / name for name in top]):
        raise UserError(f"{root}: no pictures in CLASS/ or train/CLASS/; root should be the folder above")
    return {
        "cases": {"match": f"{start}{{class}}/{trees.PICTURE}"},
        "annotations": [{"kind": "classes", "value": "{class}"}],
    }
