"""nnU-Net version 2: one file a channel, labels by name, regions made up of labels.

```
Dataset004_Hippocampus/
├── dataset.json        {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "tumor core": [2, 3], "edema": 1},
│                        "file_ending": ".nii.gz", "numTraining": 260}
├── imagesTr/hippocampus_001_0000.nii.gz
├── imagesTs/…          without labels: not read
└── labelsTr/hippocampus_001.nii.gz
```
`dataset` may name the files of each case instead, `{case: {"images": [...], "label": ...}}`. Pictures (`.png`, `.bmp`,
`.tif`) have indexed masks.
"""

import os
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.records import Origin
from sources import dataset_json
from sources.dataset_json import FILE, Keys

ORIGIN: Origin = "segmentation_3d"
_PICTURES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")


class _Files(NamedTuple):
    """Where the files of cases lie."""

    image: str
    """Template."""
    label: str
    """Template."""
    channels: Mapping[str, str]
    """What `{channel}` captures, to its name; empty where a case is one file."""
    cases: int | None


def fill(root: Path, said: Mapping[str, Any]) -> Keys:
    """Return what `dataset.json` says.

    Raises:
        UserError: It is not there or of another form.
    """
    data = dataset_json.load(root)
    names, ending = dataset_json.channels(data, "channel_names"), data.get("file_ending")
    if not isinstance(ending, str) or not re.fullmatch(r"(\.\w+)+", ending):
        raise UserError(f"{FILE}: file_ending should be like .nii.gz, is {str(ending)[:60]}")
    flat = ending.lower() in _PICTURES
    files = _listed(data["dataset"], names) if data.get("dataset") else _numbered(root, data, names, ending, flat)
    annotation = dataset_json.label_map(files.label, data)
    return {
        **dataset_json.modality(names),
        "cases": {"match": files.image, "id": "{case}", "exclude": [*dataset_json.NOT_CASES]},
        **({"channels": {"files": files.channels}} if files.channels else {}),
        "annotations": [_indexed(annotation) if flat else annotation],
        **({"expect": {"cases": files.cases}} if files.cases is not None else {}),
    }


def _numbered(root: Path, data: Mapping[str, Any], names: Sequence[str], ending: str, flat: bool) -> _Files:
    """Return files that are named as nnU-Net wants it; RGB pictures are one file for three channels."""
    if flat and next(root.glob(f"imagesTr/*_0001{ending}"), None):
        raise UserError(f"{FILE}: pictures with channels in files of their own can not be read")
    one = flat or len(names) == 1
    count = data.get("numTraining")
    return _Files(
        f"imagesTr/{{case}}_{'0000' if one else '{channel:[0-9]{4}}'}{ending}",
        f"labelsTr/{{case}}{ending}",
        {} if one else dataset_json.by_number(names),
        count if isinstance(count, int) and count >= 0 else None,
    )


def _listed(dataset: Any, names: Sequence[str]) -> _Files:
    """Return files that are listed case by case, where all are named alike."""
    if not isinstance(dataset, Mapping):
        raise UserError(f"{FILE}: dataset should be an object of cases, is {type(dataset).__name__}")
    found = set()
    for case, files in dataset.items():
        images, label = (files.get("images"), files.get("label")) if isinstance(files, Mapping) else (None, None)
        if not isinstance(images, list) or len(images) != len(names) or not isinstance(label, str):
            raise UserError(f"{FILE}: dataset: {case[:60]!r} should have {len(names)} images and a label")
        found.add(tuple(os.path.normpath(str(path)).replace(case, "{case}") for path in (*images, label)))
    *images, label = found.pop()
    if found or not all("{case}" in path and not path.startswith(("/", "..", "$")) for path in (*images, label)):
        raise UserError(f"{FILE}: dataset: files are not all named alike; write cases and annotations yourself")
    if len(names) == 1:
        return _Files(images[0], label, {}, len(dataset))
    start = _common(images)
    end = _common([image[len(start) :][::-1] for image in images])[::-1]
    between = [image[len(start) : len(image) - len(end)] for image in images]
    if len(set(between)) < len(names) or not all(re.fullmatch(r"[^/{}]+", part) for part in between):
        raise UserError(f"{FILE}: channels differ by more than a part of their files' names; write cases yourself")
    captured = "|".join(re.escape(part) for part in between)
    return _Files(
        f"{start}{{channel:{captured}}}{end}",
        label,
        dict(zip(between, dataset_json.distinct(names), strict=True)),
        len(dataset),
    )


def _common(texts: Sequence[str]) -> str:
    """Return what all texts begin with."""
    return "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False)))


def _indexed(annotation: Keys) -> Keys:
    """Return the annotation of masks that are pictures."""
    if "unions" in annotation:
        raise UserError(f"{FILE}: regions of several labels are known of volumes only; write annotations yourself")
    labels = annotation["labels"] | {str(one): {"drop": "true"} for one in annotation.get("ignore", ())}
    return {"kind": "mask", "encoding": "indexed", "path": annotation["path"], "labels": labels}
