"""TotalSegmentator: a volume and one binary file a structure; the file's name is the label.

```
Totalsegmentator_dataset_v201/
├── meta.csv                                image_id;age;gender;…  (cells are `{meta.gender}`, where it is there)
└── s0000/
    ├── ct.nii.gz                           mri.nii.gz in the MRI set
    └── segmentations/kidney_left.nii.gz …
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "segmentation_3d"
_META = "meta.csv"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: No folder holds a volume of its own.
    """
    volume = trees.first(root, "*/ct.nii.gz", "*/mri.nii.gz")
    if volume is None:
        raise UserError(f"{root}: no s0000/ct.nii.gz or s0000/mri.nii.gz")
    filled: dict[str, Any] = {
        "modality": "ct" if volume.name == "ct.nii.gz" else "mr",
        "cases": {"match": f"{{case}}/{volume.name}", "id": "{case}"},
        "annotations": [{"kind": "mask_per_class", "path": "{case}/segmentations/{label}.nii.gz"}],
    }
    if (root / _META).is_file():
        with (root / _META).open("rb") as file:
            delimiter = ";" if b";" in file.readline(10_000) else ","
        filled["tables"] = {
            "meta": {
                "path": _META,
                "key": "image_id",
                "match": "{case}",
                "delimiter": delimiter,
                "lists_cases": "false",
            }
        }
    return filled
