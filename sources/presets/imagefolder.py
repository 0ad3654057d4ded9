"""Hugging Face's image folder: class folders, or a table that names the pictures.

```
metadata.csv                 (or .jsonl, .parquet) with file_name, and label where there is one label a picture
train/0001.png               file_name: train/0001.png
```
Without a table the folder of a picture is its label, as in `class_folders`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import sheets, trees
from sources.presets import class_folders

ORIGIN: Origin = "classification"
_TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_KEY, _LABEL = "file_name", "label"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: A table lacks the column of names, or there is one in every folder; no label is known.
    """
    table = trees.first(root, *_TABLES)
    if table is None:
        inner = trees.first(root, *(f"*/{name}" for name in _TABLES))
        if inner is not None:
            raise UserError(
                f"{root}: {inner.name} lies in {inner.parent.name}/; make that folder the root of a descriptor"
            )
        return class_folders.fill(root, said)
    columns = sheets.read(table, table.name).columns
    if _KEY not in columns:
        raise UserError(f"{table.name}: no column {_KEY!r}; there are {', '.join(columns)[:100]}")
    if _LABEL not in columns and "annotations" not in said:
        raise UserError(f"{table.name}: no column {_LABEL!r}; say annotations, whose cells are {{metadata.COLUMN}}")
    return {
        "cases": {"match": trees.PICTURE},
        "tables": {"metadata": {"path": table.name, "key": _KEY, "match": "{path}"}},
        "annotations": [{"kind": "classes", "value": f"{{metadata.{_LABEL}}}"}],
    }
