"""MedMNIST: an `.npz` with the pictures and labels of three splits.

```
pathmnist.npz                train_images, train_labels, val_images, val_labels, test_images, test_labels
```
Of several files in the folder say one: `cases: {match: bloodmnist_224.npz}`. The names of classes are those that the
data set publishes; where it has none (`retinamnist`), say them: `annotations: {labels: {0: …}}`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError
from pipeline.records import Origin

ORIGIN: Origin = "classification"
_ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)


class _Set(NamedTuple):
    modality: str
    names: tuple[str, ...]
    """By class number."""


_SETS = {
    "pathmnist": _Set(
        "pathology",
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "chestmnist": _Set(
        "xray",
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
    ),
    "dermamnist": _Set(
        "dermoscopy",
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
    ),
    "octmnist": _Set("oct", ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")),
    "pneumoniamnist": _Set("xray", ("normal", "pneumonia")),
    "retinamnist": _Set("fundus", ()),
    "breastmnist": _Set("ultrasound", ("malignant", "normal, benign")),
    "bloodmnist": _Set(
        "microscopy",
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
    ),
    "tissuemnist": _Set(
        "microscopy",
        (
            "collecting duct, connecting tubule",
            "distal convoluted tubule",
            "glomerular endothelial cells",
            "interstitial endothelial cells",
            "leukocytes",
            "podocytes",
            "proximal tubule segments",
            "thick ascending limb",
        ),
    ),
    **dict.fromkeys(("organamnist", "organcmnist", "organsmnist"), _Set("ct", _ORGANS)),
}


def fill(root: Path, said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file's name says.

    Raises:
        UserError: There is no such file, or there are several; volumes; a set without published names.
    """
    file = _file(root, said)
    name = file.stem.partition("_")[0].lower()
    if name not in _SETS:
        why = "volumes are not read" if name.endswith("3d") else f"known are {', '.join(sorted(_SETS))}"
        raise UserError(f"{file.name}: not a set of pictures of MedMNIST: {why}")
    modality, names = _SETS[name]
    filled: dict[str, Any] = {
        "modality": modality,
        "cases": {"match": file.name, "rows": {"image": "{split}_images"}},
        "annotations": [
            {"kind": "classes", "value": "{row.labels}", "labels": {str(n): c for n, c in enumerate(names)}}
        ],
    }
    if name == "chestmnist":
        filled["annotations"] = [{"kind": "multilabel", "value": "{row.labels}", "columns": list(names)}]
    if not names and "annotations" not in said:
        raise UserError(f"{file.name}: its classes have no names; say them: annotations: {{labels: {{0: …}}}}")
    return filled


def _file(root: Path, said: Mapping[str, Any]) -> Path:
    cases = said.get("cases")
    match = cases.get("match") if isinstance(cases, Mapping) else None
    found = [root / match] if isinstance(match, str) else sorted(root.glob("*.npz"))
    if len(found) != 1 or not found[0].is_file():
        raise UserError(f"{root}: {len(found)} .npz files; say one: cases: {{match: pathmnist.npz}}")
    return found[0]
