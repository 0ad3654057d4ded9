"""Medical Segmentation Decathlon: one NIfTI file a case, several channels along its fourth axis.

```
Task04_Hippocampus/
├── dataset.json        {"modality": {"0": "MRI"}, "labels": {"1": "Anterior"}, "training": [{"image":, "label":}]}
├── imagesTr/hippocampus_001.nii.gz
├── imagesTs/…          without labels: not read
└── labelsTr/hippocampus_001.nii.gz
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.records import Origin
from sources import dataset_json
from sources.dataset_json import Keys

ORIGIN: Origin = "segmentation_3d"


def fill(root: Path, said: Mapping[str, Any]) -> Keys:
    """Return what `dataset.json` says.

    Raises:
        UserError: It is not there or of another form.
    """
    data = dataset_json.load(root)
    names, pairs = dataset_json.channels(data, "modality"), dataset_json.pairs(data)
    return {
        **dataset_json.modality(names),
        "cases": {"match": pairs.image, "id": "{case}", "exclude": [*dataset_json.NOT_CASES]},
        **({"channels": {"axis": dataset_json.distinct(names)}} if len(names) > 1 else {}),
        "annotations": [{"kind": "labelmap", "path": pairs.label, "labels": dataset_json.names_by_id(data)}],
        "expect": {"cases": pairs.cases},
    }
