"""nnU-Net version 1: the Decathlon's `dataset.json`, and one file a channel.

```
Task500_Liver/
├── dataset.json        its training list has no channel numbers: imagesTr/liver_001.nii.gz
├── imagesTr/liver_001_0000.nii.gz, liver_001_0001.nii.gz …
├── imagesTs/…          without labels: not read
└── labelsTr/liver_001.nii.gz
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
    channel = "_{channel:[0-9]{4}}" if len(names) > 1 else "_0000"
    return {
        **dataset_json.modality(names),
        "cases": {
            "match": pairs.image.replace("{case}", f"{{case}}{channel}"),
            "id": "{case}",
            "exclude": [*dataset_json.NOT_CASES],
        },
        **({"channels": {"files": dataset_json.by_number(names)}} if len(names) > 1 else {}),
        "annotations": [{"kind": "labelmap", "path": pairs.label, "labels": dataset_json.names_by_id(data)}],
        "expect": {"cases": pairs.cases},
    }
