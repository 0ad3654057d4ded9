"""ACDC: cine MR of the heart, labelled at the end of diastole and of systole.

Slices run across the heart's short axis, and the headers call them axial: no side can be named. Their sform says voxels
of 1 mm; `pixdim` and qform have the true ones.

```
training/patient001/
├── patient001_frame01.nii.gz, patient001_frame01_gt.nii.gz
├── patient001_frame12.nii.gz, patient001_frame12_gt.nii.gz
└── patient001_4d.nii.gz, Info.cfg      not read
```
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
    label_map = trees.first(root, "**/patient*_frame*_gt.nii.gz", "**/patient*_frame*_gt.nii")
    if label_map is None:
        raise UserError(f"{root}: no patient001/patient001_frame01_gt.nii.gz")
    ending = label_map.name.partition("_gt")[2]
    frame = "{patient}_frame{frame:[0-9]+}"
    return {
        "modality": "mr",
        "cases": {
            "match": f"**/{{patient:patient[0-9]+}}/{frame}{ending}",
            "id": "{patient}_frame{frame}",
            "group": "{patient}",
        },
        "annotations": [
            {
                "kind": "labelmap",
                "path": f"{{folder}}/{{patient}}_frame{{frame}}_gt{ending}",
                "labels": {"1": "right ventricle", "2": "myocardium", "3": "left ventricle"},
            }
        ],
        "geometry": {"assume": "unknown"},
        "limits": {"min_area_px": "10"},  # 20 to 30 mm2
    }
