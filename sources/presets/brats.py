"""BraTS: four sequences of a brain and a label map with its unions.

```
BraTS2021_00000/BraTS2021_00000_flair.nii.gz, _t1, _t1ce, _t2, _seg                    up to 2021: labels 1, 2, 4
BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz, -t1c, -t2w, -t2f, -seg             2023: labels 1, 2, 3
```
Paediatric sets and those from 2024 on count other parts: their annotations are to be written.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import trees

ORIGIN: Origin = "segmentation_3d"
_2021 = {"t1": "T1", "t1ce": "T1ce", "t2": "T2", "flair": "FLAIR"}
_2023 = {"t1n": "T1", "t1c": "T1ce", "t2w": "T2", "t2f": "FLAIR"}
_OTHER_LABELS = ("BraTS-PED", "BraTS-MEN-RT")
_CORE, _EDEMA, _ENHANCING = "necrotic tumor core", "peritumoral edema", "enhancing tumor"


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tree says.

    Raises:
        UserError: There is no such file, or the set counts other parts of a tumour.
    """
    found = trees.first(root, "**/*_flair.nii.gz", "**/*_flair.nii", "**/*-t2f.nii.gz")
    if found is None:
        raise UserError(f"{root}: no CASE/CASE_flair.nii.gz or CASE/CASE-t2f.nii.gz")
    if "-t2f" not in found.name:
        return _filled("**/{case}/{case}_", "{case}", _2021, found.name.partition("_flair")[2], enhancing=4)
    if found.name.startswith(_OTHER_LABELS) and "annotations" not in said:
        raise UserError(f"{found.name.split('-0')[0]} sets count other parts of a tumour; write annotations yourself")
    visit = "{patient}-{visit:[0-9]{3}}"
    filled = _filled(f"**/{visit}/{{patient}}-{{visit}}-", "{patient}-{visit}", _2023, ".nii.gz", enhancing=3)
    filled["cases"]["group"] = "{patient}"
    return filled


def _filled(start: str, case: str, channels: Mapping[str, str], ending: str, enhancing: int) -> dict[str, Any]:
    join = start[-1]
    return {
        "modality": "mr",
        "body_part": "brain",
        "cases": {"match": f"{start}{trees.one_of('channel', channels)}{ending}", "id": case},
        "channels": {"files": dict(channels)},
        "annotations": [
            {
                "kind": "labelmap",
                "path": f"{{folder}}/{case}{join}seg{ending}",
                "labels": {"1": _CORE, "2": _EDEMA, str(enhancing): _ENHANCING},
                "unions": {"whole tumor": [1, 2, enhancing], "tumor core": [1, enhancing]},
            }
        ],
    }
