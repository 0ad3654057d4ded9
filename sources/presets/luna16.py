"""LUNA16: CT of lungs, every nodule given by its centre and diameter.

```
subset0/1.3.6.1.4.1.14519….mhd (and .raw)      seg-lungs-LUNA16/ has masks of lungs: not read
annotations.csv                                seriesuid,coordX,coordY,coordZ,diameter_mm; or CSVFILES/annotations.csv
```
Four readers looked at every scan, and nodules that only one or two of them saw have no row: nothing is known to be
absent.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "detection"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: There is no table of nodules.
    """
    table = trees.first(root, "annotations.csv", "*/annotations.csv")
    if table is None:
        raise UserError(f"{root}: no annotations.csv")
    return {
        "modality": "ct",
        "body_part": "chest",
        "cases": {"match": "**/{subset:subset[0-9]}/{uid:[0-9.]+}.mhd", "id": "{uid}"},
        "tables": {"nodules": {"path": table.relative_to(root).as_posix(), "key": "seriesuid", "match": "{uid}"}},
        "annotations": [
            {
                "kind": "spheres",
                "table": "nodules",
                "center": ["coordX", "coordY", "coordZ"],
                "diameter": "diameter_mm",
                "label": "lung nodule",
                "labels": {"lung nodule": "lung nodule"},
            }
        ],
        "display": {"window": "lung"},
    }
