"""`medgloss init`: a small tree of every usual kind is recognised, and what is proposed opens as a run would open it."""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline import discovery, plan, vocabulary
from pipeline.errors import UserError
from pipeline.plan import SourcePlan
from pipeline.propose.guess import MODALITY
from pipeline.propose.proposal import propose
from pipeline.settings import Settings
from pipeline.strict import load_yaml

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
SETTINGS = Settings(sources=())
PICTURE = b"no picture is opened"
VOLUME = b"nor a volume"

Tree = Mapping[str, Any]


def write(root: Path, files: Tree) -> Path:
    """Write a tree: bytes, texts, and JSON of everything else."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


class Found(NamedTuple):
    """A proposal, opened."""

    name: str
    text: str
    keys: dict[str, Any]
    plan: SourcePlan

    @property
    def pictured(self) -> list[str]:
        return [case.id for case in self.plan.cases.cases if case.files.get("image") and case.problem is None]

    def annotated(self, number: int = 0) -> int:
        """Cases that have a file or a note of an annotation."""
        role = str(number)
        return sum(bool(case.files.get(role) or case.notes.get(role)) for case in self.plan.cases.cases)


def proposed(root: Path, folder: Path | None = None) -> Found:
    """Propose a descriptor of a folder, write it beside it and open it, with a modality said."""
    folder = folder or root.parent
    found = propose(root, folder)
    path = folder / "proposed.yaml"
    path.write_text(found.text.replace(json.dumps(MODALITY), "xray"))
    opened = plan.open_source(str(path), SETTINGS, vocabulary.load())
    result = Found(found.name, found.text, load_yaml(found.text, "proposed"), opened)
    assert len(result.pictured) == found.cases or found.cases == 0
    return result


def pictures(*names: str) -> dict[str, bytes]:
    return dict.fromkeys(names, PICTURE)


def numbered(template: str, count: int = 6) -> dict[str, bytes]:
    return {template.format(n): PICTURE for n in range(1, count + 1)}


def table(*rows: Iterable[Any], delimiter: str = ",") -> str:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return sink.getvalue()


def coco(*names: str, first: int = 1) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names, first)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7, "bbox": [1, 2, 3, 4]} for n, _ in enumerate(names, first)
        ],
        "categories": [{"id": 7, "name": "RBC"}],
    }


VOC = (
    "<annotation><size><width>40</width><height>30</height></size><object><name>Platelets</name><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)
LABELME = {
    "shapes": [{"label": "melanoma", "shape_type": "rectangle", "points": [[1, 2], [8, 9]]}],
    "imageWidth": 40,
    "imageHeight": 30,
}
CVAT = (
    '<annotations><image id="0" name="{}" width="40" height="30"><box label="polyp" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    "</image></annotations>"
)
APERIO = (
    '<Annotations><Annotation Name="nucleus"><Regions><Region Type="0"><Vertices><Vertex X="1" Y="1"/>'
    '<Vertex X="9" Y="1"/><Vertex X="9" Y="9"/></Vertices></Region></Regions></Annotation></Annotations>'
)


def label_studio(*names: str) -> list[dict[str, Any]]:
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["polyp"]}
    result = [{"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30}]
    return [
        {"id": n, "data": {"image": f"/data/upload/3/1a2b3c4d-{name}"}, "annotations": [{"id": n, "result": result}]}
        for n, name in enumerate(names)
    ]


def dicom(modality: str, number: int = 0) -> bytes:
    dataset = Dataset()
    dataset.Modality = modality
    dataset.SOPInstanceUID = f"1.2.3.{number}"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, dataset)
    return sink.getvalue()


def palette_png() -> bytes:
    image = Image.fromarray(np.zeros((8, 8), np.uint8), "L").convert("P")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


# ---- one tree of each kind: files, what it is called, cases, cases that the first annotation speaks of, labels

NAMES = [f"p{n}" for n in range(1, 7)]
TRAIN = [f"{n:03}" for n in range(1, 7)]

TREES: dict[str, tuple[Tree, str, int, int | None, dict[str, str]]] = {
    "msd": (
        {
            "dataset.json": {
                "modality": {"0": "CT"},
                "labels": {"0": "background", "1": "liver", "2": "cancer"},
                "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in NAMES],
            },
            **{f"{folder}/{n}.nii.gz": VOLUME for folder in ("imagesTr", "labelsTr") for n in NAMES},
        },
        "preset msd", 6, 6, {"1": "liver", "2": "cancer"},
    ),
    "nnunet_v1": (
        {
            "dataset.json": {
                "modality": {"0": "T1", "1": "T2"},
                "labels": {"0": "background", "1": "liver"},
                "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in NAMES],
            },
            **{f"imagesTr/{n}_000{c}.nii.gz": VOLUME for n in NAMES for c in (0, 1)},
            **{f"labelsTr/{n}.nii.gz": VOLUME for n in NAMES},
        },
        "preset nnunet_v1", 6, 6, {"1": "liver"},
    ),
    "nnunet_v2": (
        {
            "Dataset001_X/dataset.json": {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "spleen": 1},
                "numTraining": 6,
                "file_ending": ".nii.gz",
            },
            **{f"Dataset001_X/imagesTr/{n}_0000.nii.gz": VOLUME for n in NAMES},
            **{f"Dataset001_X/labelsTr/{n}.nii.gz": VOLUME for n in NAMES},
        },
        "preset nnunet_v2", 6, 6, {"1": "spleen"},
    ),
    "totalsegmentator": (
        {
            **{f"s{n:04}/ct.nii.gz": VOLUME for n in range(6)},
            **{f"s{n:04}/segmentations/{s}.nii.gz": VOLUME for n in range(6) for s in ("liver", "kidney_left", "zz9")},
            "meta.csv": table(("image_id", "gender"), *((f"s{n:04}", "f") for n in range(6)), delimiter=";"),
        },
        "preset totalsegmentator", 6, 6, {"kidney_left": "left kidney", "liver": "liver", "zz9": "zz9"},
    ),
    "brats_2021": (
        {f"set/B_{n}/B_{n}_{c}.nii.gz": VOLUME for n in range(4) for c in ("flair", "t1", "t1ce", "t2", "seg")},
        "preset brats", 4, 4, {"2": "peritumoral edema"},
    ),
    "brats_2023": (
        {
            f"BraTS-GLI-0000{n}-000/BraTS-GLI-0000{n}-000-{c}.nii.gz": VOLUME
            for n in range(4) for c in ("t1n", "t1c", "t2w", "t2f", "seg")
        },
        "preset brats", 4, 4, {},
    ),
    "luna16": (
        {
            **{f"subset{n % 2}/1.3.6.{n}{end}": VOLUME for n in range(4) for end in (".mhd", ".raw")},
            "annotations.csv": "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.3.6.0,1,2,3,4\n1.3.6.0,5,6,7,8\n1.3.6.3,1,2,3,9\n",
        },
        "preset luna16", 4, 2, {"lung nodule": "lung nodule"},
    ),
    "kits": (
        {f"data/case_0000{n}/{f}.nii.gz": VOLUME for n in range(4) for f in ("imaging", "segmentation")},
        "preset kits", 4, 4, {"1": "kidney"},
    ),
    "acdc": (
        {
            f"training/patient00{n}/patient00{n}_frame{f}{end}.nii.gz": VOLUME
            for n in range(1, 4) for f in ("01", "12") for end in ("", "_gt")
        },
        "preset acdc", 6, 6, {"3": "left ventricle"},
    ),
    "coco_roboflow": (
        {
            **pictures(*(f"{s}/{n}.jpg" for s in ("train", "valid") for n in NAMES)),
            **{f"{s}/_annotations.coco.json": coco(*(f"{n}.jpg" for n in NAMES)) for s in ("train", "valid")},
        },
        "preset coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "coco_instances": (
        {
            **pictures(*(f"images/{s}/{n}.jpg" for s in ("train", "val") for n in NAMES)),
            **{f"annotations/instances_{s}.json": coco(*(f"{n}.jpg" for n in NAMES)) for s in ("train", "val")},
        },
        "preset coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "coco_of_its_own": (
        {**pictures(*(f"pics/{n}.png" for n in NAMES)), "ann/boxes.json": coco(*(f"{n}.png" for n in NAMES))},
        "coco", 6, 6, {"RBC": "red blood cell"},
    ),
    "coco_a_file_for_each_split": (
        {
            **pictures(*(f"pics/{s}/{n}.png" for s in ("train", "test") for n in NAMES)),
            **{f"{s}_boxes.json": coco(*(f"{s}/{n}.png" for n in NAMES)) for s in ("train", "test")},
        },
        "coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "yolo": (
        {
            "data.yaml": "names: [nodule, mass, zz9]\nnc: 3\n",
            **pictures(*(f"images/{s}/{n}.jpg" for s in ("train", "val") for n in NAMES)),
            **{f"labels/{s}/{n}.txt": "0 .5 .5 .2 .2\n2 .5 .5 .1 .1\n" for s in ("train", "val") for n in NAMES},
        },
        "preset yolo", 12, 12, {"nodule": "nodule", "zz9": "zz9"},
    ),
    "yolo_without_names": (
        {**pictures(*(f"{n}.jpg" for n in NAMES)), **{f"{n}.txt": "4 .5 .5 .2 .2\n" for n in NAMES}},
        "yolo", 6, 6, {"4": "class 4"},
    ),
    "voc": (
        {
            **pictures(*(f"JPEGImages/{n}.jpg" for n in NAMES)),
            **{f"Annotations/{n}.xml": VOC for n in NAMES},
            "ImageSets/Main/train.txt": "p1\np2\n",
        },
        "preset voc", 6, 6, {"Platelets": "platelet"},
    ),
    "voc_of_its_own": (
        {**pictures(*(f"frames/{n}.jpg" for n in NAMES)), **{f"boxes/{n}.xml": VOC for n in NAMES}},
        "voc", 6, 6, {"Platelets": "platelet"},
    ),
    "labelme": (
        {**pictures(*(f"x/{n}.jpg" for n in NAMES)), **{f"x/{n}.json": LABELME for n in NAMES}},
        "labelme", 6, 6, {"melanoma": "melanoma"},
    ),
    "labelme_many_in_a_folder": (
        {**numbered("img/{:03}.jpg", 30), **{f"json/{n:03}.json": LABELME for n in range(1, 31)}},
        "labelme", 30, 30, {"melanoma": "melanoma"},
    ),
    "aperio": (
        {**pictures(*(f"tiles/{n}.tif" for n in NAMES)), **{f"tiles/{n}.xml": APERIO for n in NAMES}},
        "aperio", 6, 6, {"nucleus": "cell nucleus"},
    ),
    "label_studio": (
        {**pictures(*(f"i/{n}.png" for n in NAMES)), "export.json": label_studio(*(f"{n}.png" for n in NAMES))},
        "labelstudio", 6, 6, {"polyp": "polyp"},
    ),
    "cvat_images": (
        {
            **pictures(*(f"frames/{n}.png" for n in NAMES)),
            "annotations.xml": "<annotations>{}</annotations>".format(
                "".join(
                    f'<image id="{n}" name="frames/{name}.png" width="40" height="30"><box label="polyp" xtl="1" '
                    'ytl="2" xbr="3" ybr="4"/></image>'
                    for n, name in enumerate(NAMES)
                )
            ),
        },
        "cvat", 6, 6, {"polyp": "polyp"},
    ),
    "class_folders": (
        {**numbered("NORMAL/a{}.jpg"), **numbered("PNEUMONIA/b{}.jpeg"), "README.md": "x"},
        "classes", 12, None, {"NORMAL": "no abnormality", "PNEUMONIA": "pneumonia"},
    ),
    "class_folders_in_splits": (
        {
            f"chest/{s}/{c}/{s}{n}.jpg": PICTURE
            for s in ("train", "val", "test") for c in ("NORMAL", "PNEUMONIA") for n in range(4)
        },
        "classes", 24, None, {"PNEUMONIA": "pneumonia"},
    ),
    "class_folders_nobody_knows": (
        {f"{c}/{n}.png": PICTURE for c in ("yes", "no", "zz9") for n in range(4)},
        "classes", 12, None, {"no": "no", "yes": "yes"},
    ),
    "grades": (
        {f"{grade}/{n}.png": PICTURE for grade in range(5) for n in range(4)},
        "classes", 20, None, {"0": "0", "4": "4"},
    ),
    "imagefolder": (
        {
            **pictures(*(f"train/{n}.png" for n in NAMES)),
            "metadata.csv": table(("file_name", "label"), *((f"train/{n}.png", "glioma") for n in NAMES)),
        },
        "preset imagefolder", 6, None, {"glioma": "glioma"},
    ),
    "masks_of_one_name": (
        {**pictures(*(f"images/{n}.jpg" for n in NAMES)), **pictures(*(f"masks/{n}.png" for n in NAMES))},
        "mask", 6, 6, {"structure": "structure"},
    ),
    "masks_in_splits": (
        {f"{s}/{f}/{n}.png": PICTURE for s in ("train", "test") for f in ("image", "label") for n in NAMES},
        "mask", 12, 12, {"structure": "structure"},
    ),
    "masks_with_a_suffix": (
        {f"ISIC_{n}{end}": PICTURE for n in TRAIN for end in (".jpg", "_segmentation.png")},
        "mask", 6, 6, {"structure": "structure"},
    ),
    "masks_beside_their_pictures_in_class_folders": (
        {
            f"{c}/{c} ({n}){end}.png": PICTURE
            for c in ("benign", "malignant") for n in range(1, 5)
            for end in ("", "_mask", *(["_mask_1"] if n == 2 else []))
        },
        "mask, classes", 8, 8, {"structure": "structure"},
    ),
    "masks_with_words_in_front": (
        {**numbered("img_{:03}.png"), **numbered("mask_{:03}.png")},
        "mask", 6, 6, {"structure": "structure"},
    ),
    "masks_whose_names_say_what_they_show": (
        {
            **pictures(*(f"images/amos_{n}.png" for n in TRAIN)),
            **pictures(*(f"masks/amos_{n}_{s}_000.png" for n in TRAIN for s in ("liver", "left_kidney", "postcava9"))),
        },
        "mask", 6, 6, {"left_kidney": "left kidney", "liver": "liver", "postcava9": "postcava9"},
    ),
    "masks_in_a_folder_a_label": (
        {
            **pictures(*(f"images/{n}.png" for n in NAMES)),
            **pictures(*(f"masks/{s}/{n}.png" for n in NAMES for s in ("liver", "spleen"))),
        },
        "mask", 6, 6, {"liver": "liver", "spleen": "spleen"},
    ),
    "masks_with_short_labels": (
        {
            **pictures(*(f"1. Original Images/IDRiD_{n}.jpg" for n in TRAIN)),
            **pictures(*(f"2. Groundtruths/IDRiD_{n}_{s}.tif" for n in TRAIN for s in ("MA", "HE", "EX"))),
        },
        "mask", 6, 6, {"EX": "EX"},
    ),
    "masks_that_say_their_label_once": (
        {**pictures(*(f"im/{n}.png" for n in NAMES)), **pictures(*(f"polyp_masks/{n}.png" for n in NAMES))},
        "mask", 6, 6, {"polyp": "polyp"},
    ),
    "masks_with_a_palette": (
        {**pictures(*(f"images/{n}.jpg" for n in NAMES)), **{f"gt/{n}.png": palette_png() for n in NAMES}},
        "mask", 6, 6, {"1": "structure 1"},
    ),
    "drive": (
        {
            **{f"images/{n}_training.tif": PICTURE for n in range(21, 29)},
            **{f"1st_manual/{n}_manual1.gif": PICTURE for n in range(21, 29)},
        },
        "mask", 8, 8, {},
    ),
    "pictures_some_without_masks": (
        {**numbered("images/{}.png", 10), **numbered("masks/{}.png", 7)},
        "mask", 10, 7, {},
    ),
    "label_maps_beside_volumes": (
        {f"{c}/{f}.nii.gz": VOLUME for c in NAMES for f in ("ct", "seg")},
        "labelmap", 6, 6, {"1": "structure 1"},
    ),
    "label_maps_with_a_suffix": (
        {f"{n}_{f}.nrrd": VOLUME for n in NAMES for f in ("image", "label")},
        "labelmap", 6, 6, {},
    ),
    "label_maps_of_lits": (
        {f"{f}-{n}.nii": VOLUME for n in range(12) for f in ("volume", "segmentation")},
        "labelmap", 12, 12, {},
    ),
    "label_maps_in_another_folder": (
        {f"{f}/{n}.mha": VOLUME for n in NAMES for f in ("imagesTr", "labelsTr")},
        "labelmap", 6, 6, {},
    ),
    "label_maps_some_missing": (
        {**{f"v/{n}.nii.gz": VOLUME for n in NAMES}, **{f"v/{n}_seg.nii.gz": VOLUME for n in NAMES[:4]}},
        "labelmap", 6, 4, {},
    ),
    "label_maps_of_one_label": (
        {f"{n}_{f}.nii.gz": VOLUME for n in NAMES for f in ("t2", "tumor_mask")},
        "labelmap", 6, 6, {"1": "tumor"},
    ),
    "bids": (
        {
            **{f"sub-{n}/anat/sub-{n}_T1w.nii.gz": VOLUME for n in TRAIN},
            **{f"derivatives/labels/sub-{n}/anat/sub-{n}_T1w_lesion-manual.nii.gz": VOLUME for n in TRAIN},
            "participants.tsv": table(("participant_id", "sex"), *((f"sub-{n}", "M") for n in TRAIN), delimiter="\t"),
        },
        "labelmap", 6, 6, {},
    ),
    "structures_beside_volumes": (
        {
            **{f"{c}/image.nrrd": VOLUME for c in NAMES},
            **{f"{c}/structures_seg/{s}.nrrd": VOLUME for c in NAMES for s in ("brainstem", "left_parotid9")},
        },
        "mask_per_class", 6, 6, {"brainstem": "brainstem"},
    ),
    "channels_beside_each_other": (
        {f"{c}/{c}_{s}.nii.gz": VOLUME for c in NAMES for s in ("adc", "dwi", "label")},
        "labelmap", 6, 6, {},
    ),
    "channels_without_a_name": (
        {f"{c}/{s}.nii.gz": VOLUME for c in NAMES for s in ("T1", "T2", "seg")},
        "labelmap", 6, 6, {},
    ),
    "volumes_alone": ({f"{n}.nii.gz": VOLUME for n in NAMES}, "no annotation", 6, None, {}),
    "volumes_in_class_folders": (
        {f"{c}/{c}{n}/ct.nii.gz": VOLUME for c in ("glioma", "meningioma") for n in range(4)},
        "classes", 8, None, {"glioma": "glioma"},
    ),
    "table_by_name": (
        {
            **pictures(*(f"images/{n}.png" for n in NAMES)),
            "labels.csv": table(
                ("id", "Image Index", "Patient ID", "Finding Labels", "View Position"),
                *((n, f"{name}.png", n // 2, "Effusion|Nodule" if n else "No Finding", "PA")
                  for n, name in enumerate(NAMES)),
            ),
        },
        "classes", 6, None, {"Nodule": "nodule", "No Finding": "no abnormality"},
    ),
    "table_by_stem_with_semicolons": (
        {
            **pictures(*(f"pics/{n}.jpg" for n in NAMES)),
            "t.csv": table(("file", "dx"), *((n, "melanoma" if n < "p4" else "nevus9") for n in NAMES), delimiter=";"),
        },
        "classes", 6, None, {"melanoma": "melanoma", "nevus9": "nevus9"},
    ),
    "table_of_findings": (
        {
            **{f"train/patient{n}/study1/view1_frontal.jpg": PICTURE for n in TRAIN},
            "train.csv": table(
                ("Path", "Sex", "Cardiomegaly", "Edema", "No Finding"),
                *((f"CheXpert-v1.0/train/patient{n}/study1/view1_frontal.jpg", "Male", 1, -1, "") for n in TRAIN[:3]),
                *((f"CheXpert-v1.0/train/patient{n}/study1/view1_frontal.jpg", "Male", 0, "", "1.0") for n in TRAIN[3:]),
            ),
        },
        "multilabel", 6, 6, {"Cardiomegaly": "cardiomegaly"},
    ),
    "table_of_boxes": (
        {
            **pictures(*(f"img/{n}.png" for n in NAMES)),
            "train.csv": table(
                ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max"),
                *((n, "Cardiomegaly" if k else "Nodule/Mass", 1, 2, 30, 20) for n in NAMES for k in (0, 1)),
            ),
        },
        "boxes", 6, 6, {"Cardiomegaly": "cardiomegaly"},
    ),
    "table_of_spheres": (
        {
            **{f"scans/{n}.nii.gz": VOLUME for n in NAMES},
            "nodules.csv": table(("uid", "coordX", "coordY", "coordZ", "diameter_mm"), *((n, 1, 2, 3, 4) for n in NAMES)),
        },
        "spheres", 6, 6, {},
    ),
    "table_without_labels": (
        {
            **pictures(*(f"png/{n}.png" for n in NAMES)),
            "data.csv": table(("patient_id", "image_id", "sex", "age"),
                              *((f"x{k // 2}", n, "f", 40 + k) for k, n in enumerate(NAMES))),
        },
        "no annotation", 6, None, {},
    ),
    "json_lines": (
        {
            **pictures(*(f"i/{n}.png" for n in NAMES)),
            "labels.jsonl": "".join(json.dumps({"image": f"i/{n}.png", "diagnosis": "glioma"}) + "\n" for n in NAMES),
        },
        "classes", 6, None, {"glioma": "glioma"},
    ),
    "videos": (
        {**numbered("videos/polyp/a{}.mp4", 4), **numbered("videos/normal/b{}.avi", 4)},
        "classes", 8, None, {"polyp": "polyp"},
    ),
    "videos_with_phases": (
        {
            **numbered("videos/video{:02}.mp4", 4),
            **{f"phases/video{n:02}-phase.txt": "Frame\tPhase\n0\tPreparation\n1\tPreparation\n" for n in range(1, 5)},
        },
        "intervals", 4, 4, {"Preparation": "Preparation"},
    ),
    "parquet": (
        {
            "data/train-00000.parquet": pa.table(
                {"image": [{"bytes": b"x" * 100, "path": None}] * 6, "label": ["glioma"] * 6}
            )
        },
        "rows", 6, None, {"glioma": "glioma"},
    ),
    "texts": (
        {"reports.jsonl": "".join(json.dumps({"report": f"No nodule, {n}.", "label": "normal"}) + "\n" for n in range(5))},
        "rows", 5, None, {"normal": "no abnormality"},
    ),
    "series": (
        {
            **{f"{p}/s1/IM{n:04}.dcm": dicom("CT", n) for p in ("P1", "P2") for n in range(4)},
            **{f"{p}/seg.dcm": dicom("SEG") for p in ("P1", "P2")},
        },
        "seg", 2, 2, {},
    ),
    "series_with_a_structure_set": (
        {
            f"{p}/{name}.dcm": dicom(kind, n)
            for p in ("P1", "P2")
            for n, (name, kind) in enumerate([("CT.1", "CT"), ("CT.2", "CT"), ("RS", "RTSTRUCT"), ("RD", "RTDOSE")])
        },
        "rtstruct", 2, 2, {},
    ),
    "series_without_suffixes": (
        {f"x/1.2.{p}/1.2.{p}.{n}": dicom("MR", n) for p in (7, 8) for n in range(5)},
        "no annotation", 2, None, {},
    ),
    "radiographs_in_dicom": (
        {
            **{f"train/{n}.dcm": dicom("DX", k) for k, n in enumerate(NAMES)},
            "labels.csv": table(("patientId", "Target"), *((n, k % 2) for k, n in enumerate(NAMES))),
        },
        "classes", 6, None, {"0": "0", "1": "1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_is_taken_for_what_it_is(tree, tmp_path):
    files, name, cases, annotated, labels = TREES[tree]
    found = proposed(write(tmp_path / "data", files))
    assert found.name == name, found.text
    assert len(found.pictured) == cases, found.text
    assert annotated is None or found.annotated() == annotated, found.text
    said = found.keys.get("annotations", {})
    listed = said["labels"] if isinstance(said, dict) and "labels" in said else (said[0].get("labels", {}) if said else {})
    assert labels.items() <= listed.items(), found.text
