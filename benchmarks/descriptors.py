"""The data sets of a benchmark, as a user would describe them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks import comparison
from benchmarks.comparison import Made
from pipeline import vocabulary
from pipeline.strict import dump_yaml


def names(count: int) -> list[str]:
    """Return so many labels that the vocabulary knows."""
    return sorted(vocabulary.load().concepts)[:count]


def write(path: Path, modality: str, rest: Mapping[str, object]) -> Path:
    """Write a descriptor; its id is the file's name, its data lie beside it."""
    head = {
        "schema": "medgloss/1",
        "id": path.stem,
        "title": "Made to be measured",
        "license": {"name": "CC0-1.0", "redistribute": True, "commercial": True},
        "egress": "any",
        "modality": modality,
    }
    path.write_text(dump_yaml({**head, **rest}))
    return path


def of_volumes(path: Path, annotation: Mapping[str, object], planes: Sequence[str] = ("axial",)) -> Path:
    """Describe CT volumes, a folder each, with the comparison's window and least area."""
    rest = {
        "cases": {"match": "{case}/ct.nii.gz", "id": "{case}"},
        "annotations": [annotation],
        "slices": {"planes": list(planes)},
        "display": {"window": {"low": comparison.LOW, "high": comparison.HIGH}},
        "limits": {"min_area_mm2": comparison.MIN_AREA_MM2},
    }
    return write(path, "ct", rest)


def label_map(count: int, boxes: str = "per_class") -> dict[str, object]:
    """Describe a label map of so many structures."""
    labels = dict(enumerate(names(count), 1))
    return {"kind": "labelmap", "path": "{case}/seg.nii.gz", "boxes": boxes, "labels": labels}


def made(run: Path) -> Made:
    """Count the records of a run folder and their regions."""
    slices = boxes = 0
    for file in sorted((run / "records").rglob("*.parquet")):
        regions = pq.ParquetFile(file).read(columns=["regions"]).column("regions").to_pylist()
        slices += len(regions)
        boxes += sum(map(len, regions))
    return Made(slices, boxes)
