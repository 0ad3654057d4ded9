"""KiTS: CT of kidneys with tumours.

```
case_00000/imaging.nii.gz
case_00000/segmentation.nii.gz          of KiTS21 aggregated_MAJ_seg.nii.gz
```
Cysts are label 3 from 2021 on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "segmentation_3d"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: There is no such file.
    """
    label_map = trees.first(root, "**/case_*/segmentation.nii.gz", "**/case_*/aggregated_MAJ_seg.nii.gz")
    if label_map is None:
        raise UserError(f"{root}: no case_00000/segmentation.nii.gz")
    return {
        "modality": "ct",
        "cases": {"match": "**/{case:case_[0-9]+}/imaging.nii.gz", "id": "{case}"},
        "annotations": [
            {
                "kind": "labelmap",
                "path": f"{{folder}}/{label_map.name}",
                "labels": {"1": "kidney", "2": "kidney tumor", "3": "kidney cyst"},
            }
        ],
    }
