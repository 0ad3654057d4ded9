"""Small trees of every usual arrangement, with hardly a picture in them: `medgloss init` opens none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

PICTURE = b"no picture is opened"
VOLUME = b"nor a volume"
NAMES = [f"p{n}" for n in range(1, 7)]
CASES = [f"{n:03}" for n in range(1, 7)]
HALVES = ("train", "test")

Tree = Mapping[str, Any]
"""Path to bytes, text, a table of Parquet, or what becomes JSON."""


class Known(NamedTuple):
    """A tree and what it should be taken for."""

    files: Tree
    name: str
    """Preset or kinds of annotation."""
    cases: int
    annotated: int | None = None
    """Cases that the first annotation has a file or a note for; None: it needs neither."""
    labels: Mapping[str, str] = {}
    """Of the first annotation: some of those that are proposed."""


def write(root: Path, files: Tree) -> Path:
    """Write a tree."""
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


def of(content: Any, *names: str) -> dict[str, Any]:
    """Name files that all hold the same."""
    return dict.fromkeys(names, content)


def pictures(*names: str) -> dict[str, bytes]:
    return of(PICTURE, *names)


def volumes(*names: str) -> dict[str, bytes]:
    return of(VOLUME, *names)


def numbered(template: str, count: int = 6) -> dict[str, bytes]:
    return pictures(*(template.format(n) for n in range(1, count + 1)))


def table(*rows: Iterable[Any], delimiter: str = ",") -> str:
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return sink.getvalue()


def json_lines(*rows: Mapping[str, Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def coco(*names: str) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 7, "bbox": [1, 2, 3, 4]} for n, _ in enumerate(names)],
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
APERIO = (
    '<Annotations><Annotation Name="nucleus"><Regions><Region Type="0"><Vertices><Vertex X="1" Y="1"/>'
    '<Vertex X="9" Y="1"/><Vertex X="9" Y="9"/></Vertices></Region></Regions></Annotation></Annotations>'
)
YOLO = "0 .5 .5 .2 .2\n2 .5 .5 .1 .1\n"


def cvat(*names: str) -> str:
    box = '<box label="polyp" xtl="1" ytl="2" xbr="3" ybr="4"/>'
    images = (f'<image id="{n}" name="{name}" width="40" height="30">{box}</image>' for n, name in enumerate(names))
    return f"<annotations>{''.join(images)}</annotations>"


def label_studio(*names: str) -> list[dict[str, Any]]:
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["polyp"]}
    result = [{"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30}]
    return [
        {"id": n, "data": {"image": f"/data/upload/3/1a2b3c4d-{name}"}, "annotations": [{"id": n, "result": result}]}
        for n, name in enumerate(names)
    ]


def dicom(modality: str, number: int = 0) -> bytes:
    """A file with a header and no pixels."""
    dataset, meta = Dataset(), FileMetaDataset()
    dataset.Modality, dataset.SOPInstanceUID = modality, f"1.2.3.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, dataset)
    return sink.getvalue()


def palette_png() -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).convert("P").save(sink, "PNG")
    return sink.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.savez(sink, **arrays)
    return sink.getvalue()


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def decathlon(modality: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    pairs = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES]
    return {"modality": modality, "labels": {"0": "background", **labels}, "training": pairs}


WELL_KNOWN = {
    "msd": Known(
        {
            "dataset.json": decathlon({"0": "CT"}, {"1": "liver", "2": "cancer"}),
            **volumes(*(f"{folder}/{n}.nii.gz" for folder in ("imagesTr", "labelsTr") for n in NAMES)),
        },
        "preset msd", 6, 6, {"1": "liver", "2": "cancer"},
    ),
    "nnunet_v1": Known(
        {
            "dataset.json": decathlon({"0": "T1", "1": "T2"}, {"1": "liver"}),
            **volumes(*(f"imagesTr/{n}_000{c}.nii.gz" for n in NAMES for c in (0, 1))),
            **volumes(*(f"labelsTr/{n}.nii.gz" for n in NAMES)),
        },
        "preset nnunet_v1", 6, 6, {"1": "liver"},
    ),
    "nnunet_v2": Known(
        {
            "Dataset001_X/dataset.json": {
                "channel_names": {"0": "CT"},
                "labels": {"background": 0, "spleen": 1},
                "numTraining": 6,
                "file_ending": ".nii.gz",
            },
            **volumes(*(f"Dataset001_X/imagesTr/{n}_0000.nii.gz" for n in NAMES)),
            **volumes(*(f"Dataset001_X/labelsTr/{n}.nii.gz" for n in NAMES)),
        },
        "preset nnunet_v2", 6, 6, {"1": "spleen"},
    ),
    "totalsegmentator": Known(
        {
            **volumes(*(f"s{n}/ct.nii.gz" for n in CASES)),
            **volumes(*(f"s{n}/segmentations/{s}.nii.gz" for n in CASES for s in ("liver", "kidney_left", "zz9"))),
            "meta.csv": table(("image_id", "gender"), *((f"s{n}", "f") for n in CASES), delimiter=";"),
        },
        "preset totalsegmentator", 6, 6, {"kidney_left": "left kidney", "liver": "liver", "zz9": "zz9"},
    ),
    "brats_2021": Known(
        volumes(*(f"set/B_{n}/B_{n}_{c}.nii.gz" for n in CASES for c in ("flair", "t1", "t1ce", "t2", "seg"))),
        "preset brats", 6, 6, {"2": "peritumoral edema"},
    ),
    "brats_2023": Known(
        volumes(*(f"G-{n}-000/G-{n}-000-{c}.nii.gz" for n in CASES for c in ("t1n", "t1c", "t2w", "t2f", "seg"))),
        "preset brats", 6, 6, {"3": "enhancing tumor"},
    ),
    "luna16": Known(
        {
            **volumes(*(f"subset{n % 2}/1.3.6.{n}{end}" for n in range(4) for end in (".mhd", ".raw"))),
            "annotations.csv": table(
                ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"),
                ("1.3.6.0", 1, 2, 3, 4), ("1.3.6.0", 5, 6, 7, 8), ("1.3.6.3", 1, 2, 3, 9),
            ),
        },
        "preset luna16", 4, 2, {"lung nodule": "lung nodule"},
    ),
    "kits": Known(
        volumes(*(f"data/case_00{n}/{f}.nii.gz" for n in CASES for f in ("imaging", "segmentation"))),
        "preset kits", 6, 6, {"1": "kidney"},
    ),
    "acdc": Known(
        volumes(*(f"training/patient{n}/patient{n}_frame{f}{end}.nii.gz"
                  for n in CASES for f in ("01", "12") for end in ("", "_gt"))),
        "preset acdc", 12, 12, {"3": "left ventricle"},
    ),
    "medmnist": Known(
        {
            "bloodmnist.npz": npz(
                **{f"{s}_images": np.zeros((4, 8, 8, 3), np.uint8) for s in ("train", "val", "test")},
                **{f"{s}_labels": np.arange(4).reshape(4, 1) for s in ("train", "val", "test")},
            )
        },
        "preset medmnist", 12, None, {"0": "basophil"},
    ),
    "medmnist_twice": Known(
        {f"{name}mnist.npz": npz(train_images=np.zeros((4, 8, 8, 3), np.uint8), train_labels=np.zeros((4, 1), np.uint8))
         for name in ("blood", "derma")},
        "preset medmnist", 4, None, {"0": "basophil"},
    ),
    "coco_roboflow": Known(
        {
            **pictures(*(f"{s}/{n}.jpg" for s in HALVES for n in NAMES)),
            **of(coco(*(f"{n}.jpg" for n in NAMES)), *(f"{s}/_annotations.coco.json" for s in HALVES)),
        },
        "preset coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "coco_instances": Known(
        {
            **pictures(*(f"images/{s}/{n}.jpg" for s in HALVES for n in NAMES)),
            **of(coco(*(f"{n}.jpg" for n in NAMES)), *(f"annotations/instances_{s}.json" for s in HALVES)),
        },
        "preset coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "yolo": Known(
        {
            "data.yaml": "names: [nodule, mass, zz9]\nnc: 3\n",
            **pictures(*(f"images/{s}/{n}.jpg" for s in HALVES for n in NAMES)),
            **of(YOLO, *(f"labels/{s}/{n}.txt" for s in HALVES for n in NAMES)),
        },
        "preset yolo", 12, 12, {"nodule": "nodule", "zz9": "zz9"},
    ),
    "voc": Known(
        {
            **pictures(*(f"JPEGImages/{n}.jpg" for n in NAMES)),
            **of(VOC, *(f"Annotations/{n}.xml" for n in NAMES)),
            "ImageSets/Main/train.txt": "p1\np2\n",
        },
        "preset voc", 6, 6, {"Platelets": "platelet"},
    ),
    "imagefolder": Known(
        {
            **pictures(*(f"train/{n}.png" for n in NAMES)),
            "metadata.csv": table(("file_name", "label"), *((f"train/{n}.png", "glioma") for n in NAMES)),
        },
        "preset imagefolder", 6, None, {"glioma": "glioma"},
    ),
}  # fmt: skip

ANNOTATION_FILES = {
    "coco_of_its_own": Known(
        {**pictures(*(f"pics/{n}.png" for n in NAMES)), "ann/boxes.json": coco(*(f"{n}.png" for n in NAMES))},
        "coco", 6, 6, {"RBC": "red blood cell"},
    ),
    "coco_a_file_for_each_split": Known(
        {
            **pictures(*(f"pics/{s}/{n}.png" for s in HALVES for n in NAMES)),
            **{f"{s}_boxes.json": coco(*(f"{s}/{n}.png" for n in NAMES)) for s in HALVES},
        },
        "coco", 12, 12, {"RBC": "red blood cell"},
    ),
    "yolo_without_names": Known(
        {**pictures(*(f"{n}.jpg" for n in NAMES)), **of("4 .5 .5 .2 .2\n", *(f"{n}.txt" for n in NAMES))},
        "yolo", 6, 6, {"4": "class 4"},
    ),
    "voc_of_its_own": Known(
        {**pictures(*(f"frames/{n}.jpg" for n in NAMES)), **of(VOC, *(f"boxes/{n}.xml" for n in NAMES))},
        "voc", 6, 6, {"Platelets": "platelet"},
    ),
    "labelme": Known(
        {**pictures(*(f"x/{n}.jpg" for n in NAMES)), **of(LABELME, *(f"x/{n}.json" for n in NAMES))},
        "labelme", 6, 6, {"melanoma": "melanoma"},
    ),
    "labelme_many_in_a_folder": Known(
        {**numbered("img/{:03}.jpg", 30), **of(LABELME, *(f"json/{n:03}.json" for n in range(1, 31)))},
        "labelme", 30, 30, {"melanoma": "melanoma"},
    ),
    "aperio": Known(
        {**pictures(*(f"tiles/{n}.tif" for n in NAMES)), **of(APERIO, *(f"tiles/{n}.xml" for n in NAMES))},
        "aperio", 6, 6, {"nucleus": "cell nucleus"},
    ),
    "label_studio": Known(
        {**pictures(*(f"i/{n}.png" for n in NAMES)), "export.json": label_studio(*(f"{n}.png" for n in NAMES))},
        "labelstudio", 6, 6, {"polyp": "polyp"},
    ),
    "cvat": Known(
        {**pictures(*(f"frames/{n}.png" for n in NAMES)), "ann.xml": cvat(*(f"frames/{n}.png" for n in NAMES))},
        "cvat", 6, 6, {"polyp": "polyp"},
    ),
    "videos_with_phases": Known(
        {
            **numbered("videos/video{:02}.mp4", 4),
            **of("Frame\tPhase\n0\tPreparation\n1\tPreparation\n",
                 *(f"phases/video{n:02}-phase.txt" for n in range(1, 5))),
        },
        "intervals", 4, 4, {"Preparation": "Preparation"},
    ),
    "videos_with_intervals": Known(
        {**numbered("{}.mp4", 4), **of("start,end,finding\n00:01,00:02,polyp\n", *(f"{n}.csv" for n in range(1, 5)))},
        "intervals", 4, 4, {"polyp": "polyp"},
    ),
}  # fmt: skip

FOLDERS = {
    "class_folders": Known(
        {**numbered("NORMAL/a{}.jpg"), **numbered("PNEUMONIA/b{}.jpeg"), "README.md": "x"},
        "classes", 12, None, {"NORMAL": "no abnormality", "PNEUMONIA": "pneumonia"},
    ),
    "class_folders_in_splits": Known(
        pictures(*(f"chest/{s}/{c}/{s}{n}.jpg" for s in ("train", "val", "test") for c in ("NORMAL", "PNEUMONIA")
                   for n in range(4))),
        "classes", 24, None, {"PNEUMONIA": "pneumonia"},
    ),
    "class_folders_nobody_knows": Known(
        pictures(*(f"{c}/{n}.png" for c in ("yes", "no", "zz9") for n in range(4))),
        "classes", 12, None, {"no": "no", "yes": "yes"},
    ),
    "class_folders_that_begin_alike": Known(
        pictures(*(f"CT_{c}/{n}.png" for c in ("COVID", "NonCOVID") for n in range(5))),
        "classes", 10, None, {},
    ),
    "grades": Known(
        pictures(*(f"{grade}/{n}.png" for grade in range(5) for n in range(4))),
        "classes", 20, None, {"0": "0", "4": "4"},
    ),
    "classes_in_names": Known(
        {**numbered("all/normal_{}.jpg"), **numbered("all/pneumonia_{}.jpg")},
        "classes", 12, None, {"pneumonia": "pneumonia"},
    ),
    "videos": Known(
        {**numbered("videos/polyp/a{}.mp4", 4), **numbered("videos/normal/b{}.avi", 4)},
        "classes", 8, None, {"polyp": "polyp"},
    ),
    "volumes_in_class_folders": Known(
        volumes(*(f"{c}/{c}{n}/ct.nii.gz" for c in ("glioma", "meningioma") for n in range(4))),
        "classes", 8, None, {"glioma": "glioma"},
    ),
    "volumes_alone": Known(volumes(*(f"{n}.nii.gz" for n in NAMES)), "no annotation", 6),
}  # fmt: skip

MASKS = {
    "masks_of_one_name": Known(
        {**pictures(*(f"images/{n}.jpg" for n in NAMES)), **pictures(*(f"masks/{n}.png" for n in NAMES))},
        "mask", 6, 6, {"structure": "structure"},
    ),
    "masks_in_splits": Known(
        pictures(*(f"{s}/{f}/{n}.png" for s in HALVES for f in ("image", "label") for n in NAMES)), "mask", 12, 12
    ),
    "masks_with_a_suffix": Known(
        pictures(*(f"ISIC_{n}{end}" for n in CASES for end in (".jpg", "_segmentation.png"))), "mask", 6, 6
    ),
    "masks_beside_pictures_in_class_folders": Known(
        pictures(*(f"{c}/{c} ({n}){end}.png" for c in ("benign", "malignant") for n in range(1, 5)
                   for end in ("", "_mask", *(["_mask_1"] if n == 2 else [])))),
        "mask, classes", 8, 8, {"structure": "structure"},
    ),
    "masks_with_words_in_front": Known({**numbered("img_{:03}.png"), **numbered("mask_{:03}.png")}, "mask", 6, 6),
    "masks_without_words": Known(
        pictures(*(f"Image_{n}{s}{end}" for n in CASES for s in "LR" for end in (".jpg", "_1stHO.png", "_2ndHO.png"))),
        "mask", 12, 12, {"1stHO": "1stHO"},
    ),
    "masks_whose_names_say_what_they_show": Known(
        {
            **pictures(*(f"images/amos_{n}.png" for n in CASES)),
            **pictures(*(f"masks/amos_{n}_{s}_000.png" for n in CASES for s in ("liver", "left_kidney", "postcava9"))),
        },
        "mask", 6, 6, {"left_kidney": "left kidney", "liver": "liver", "postcava9": "postcava9"},
    ),
    "masks_in_a_folder_a_label": Known(
        {
            **pictures(*(f"images/{n}.png" for n in NAMES)),
            **pictures(*(f"masks/{s}/{n}.png" for n in NAMES for s in ("liver", "spleen"))),
        },
        "mask", 6, 6, {"liver": "liver", "spleen": "spleen"},
    ),
    "masks_in_a_folder_a_side": Known(
        {
            **pictures(*(f"CXR_png/M_{n}_0.png" for n in CASES)),
            **pictures(*(f"ManualMask/{s}Mask/M_{n}_0.png" for n in CASES for s in ("left", "right"))),
        },
        "mask", 6, 6, {"left": "left"},
    ),
    "masks_with_short_labels": Known(
        {
            **pictures(*(f"1. Original Images/IDRiD_{n}.jpg" for n in CASES)),
            **pictures(*(f"2. Groundtruths/IDRiD_{n}_{s}.tif" for n in CASES for s in ("MA", "HE", "EX"))),
        },
        "mask", 6, 6, {"EX": "EX"},
    ),
    "masks_that_say_their_label_once": Known(
        {**pictures(*(f"im/{n}.png" for n in NAMES)), **pictures(*(f"polyp_masks/{n}.png" for n in NAMES))},
        "mask", 6, 6, {"polyp": "polyp"},
    ),
    "masks_with_a_palette": Known(
        {**pictures(*(f"images/{n}.jpg" for n in NAMES)), **of(palette_png(), *(f"gt/{n}.png" for n in NAMES))},
        "mask", 6, 6, {"1": "structure 1"},
    ),
    "masks_far_from_their_pictures": Known(
        {
            **pictures(*(f"Training400/{c}/{c[0]}{n}.jpg" for c in ("Glaucoma", "Non-Glaucoma") for n in CASES)),
            **pictures(*(f"Annotation-Training400/Disc_Masks/{c}/{c[0]}{n}.bmp" for c in ("Glaucoma", "Non-Glaucoma")
                         for n in CASES)),
        },
        "mask, classes", 12, 12,
    ),
    "masks_and_pictures_in_a_folder_a_patient": Known(
        pictures(*(f"kaggle/TCGA_{p}/TCGA_{p}_{n}{m}.tif" for p in CASES for n in range(1, 6) for m in ("", "_mask"))),
        "mask", 30, 30,
    ),
    "drive": Known(
        {
            **pictures(*(f"images/{n}_training.tif" for n in range(21, 29))),
            **pictures(*(f"1st_manual/{n}_manual1.gif" for n in range(21, 29))),
        },
        "mask", 8, 8,
    ),
    "pictures_some_without_masks": Known(
        {**numbered("images/{}.png", 10), **numbered("masks/{}.png", 7)}, "mask", 10, 7
    ),
}  # fmt: skip

LABEL_MAPS = {
    "label_maps_beside_volumes": Known(
        volumes(*(f"{c}/{f}.nii.gz" for c in NAMES for f in ("ct", "seg"))), "labelmap", 6, 6, {"1": "structure 1"}
    ),
    "label_maps_with_a_suffix": Known(
        volumes(*(f"{n}_{f}.nrrd" for n in NAMES for f in ("image", "label"))), "labelmap", 6, 6
    ),
    "label_maps_of_lits": Known(
        volumes(*(f"{f}-{n}.nii" for n in range(12) for f in ("volume", "segmentation"))), "labelmap", 12, 12
    ),
    "label_maps_in_another_folder": Known(
        volumes(*(f"{f}/{n}.mha" for n in NAMES for f in ("imagesTr", "labelsTr"))), "labelmap", 6, 6
    ),
    "label_maps_some_missing": Known(
        volumes(*(f"v/{n}.nii.gz" for n in NAMES), *(f"v/{n}_seg.nii.gz" for n in NAMES[:4])), "labelmap", 6, 4
    ),
    "label_maps_of_one_label": Known(
        volumes(*(f"{n}_{f}.nii.gz" for n in NAMES for f in ("t2", "tumor_mask"))), "labelmap", 6, 6, {"1": "tumor"}
    ),
    "label_maps_of_two_scanners": Known(
        volumes(*(f"{m}_train/{m}_train_{n}_{f}.nii.gz" for m in ("ct", "mr") for n in CASES
                  for f in ("image", "label"))),
        "labelmap", 12, 12,
    ),
    "label_maps_of_views": Known(
        volumes(*(f"patient{n}/patient{n}_{v}{e}.nii.gz" for n in CASES for v in ("2CH_ED", "4CH_ED")
                  for e in ("", "_gt"))),
        "labelmap", 12, 12,
    ),
    "bids": Known(
        {
            **volumes(*(f"sub-{n}/anat/sub-{n}_T1w.nii.gz" for n in CASES)),
            **volumes(*(f"derivatives/labels/sub-{n}/anat/sub-{n}_T1w_lesion-manual.nii.gz" for n in CASES)),
            "participants.tsv": table(("participant_id", "sex"), *((f"sub-{n}", "M") for n in CASES), delimiter="\t"),
        },
        "labelmap", 6, 6, {"1": "lesion"},
    ),
    "structures_beside_volumes": Known(
        volumes(*(f"{c}/image.nrrd" for c in NAMES),
                *(f"{c}/structures_seg/{s}.nrrd" for c in NAMES for s in ("brainstem", "left_parotid9"))),
        "mask_per_class", 6, 6, {"brainstem": "brainstem"},
    ),
    "channels_beside_each_other": Known(
        volumes(*(f"{c}/{c}_{s}.nii.gz" for c in NAMES for s in ("adc", "dwi", "label"))), "labelmap", 6, 6
    ),
    "channels_without_a_name": Known(
        volumes(*(f"{c}/{s}.nii.gz" for c in NAMES for s in ("T1", "T2", "seg"))), "labelmap", 6, 6
    ),
}  # fmt: skip

TABLES = {
    "table_by_name": Known(
        {
            **pictures(*(f"images/{n}.png" for n in NAMES)),
            "labels.csv": table(
                ("id", "Image Index", "Patient ID", "Finding Labels", "View Position"),
                *((n, f"{name}.png", n // 2, "Mass|Nodule" if n else "No Finding", "PA")
                  for n, name in enumerate(NAMES)),
            ),
        },
        "classes", 6, None, {"Nodule": "nodule", "No Finding": "no abnormality"},
    ),
    "table_by_stem_with_semicolons": Known(
        {
            **pictures(*(f"pics/{n}.jpg" for n in NAMES)),
            "t.csv": table(("file", "dx"), *((n, "melanoma" if n < "p4" else "nevus9") for n in NAMES), delimiter=";"),
        },
        "classes", 6, None, {"melanoma": "melanoma", "nevus9": "nevus9"},
    ),
    "table_not_in_utf_8": Known(
        {
            **pictures(*(f"pics/{n}.jpg" for n in NAMES)),
            "t.csv": table(("file", "diagnosis", "note"), *((n, ("a", "b")[k % 2], "é") for k, n in enumerate(NAMES)))
            .encode("cp1252"),
        },
        "classes", 6, None, {"a": "a"},
    ),
    "table_of_lists": Known(
        {
            **pictures(*(f"img/{n}.png" for n in NAMES)),
            "t.csv": table(("ImageID", "Labels"), *((f"{n}.png", "['cardiomegaly', 'normal']") for n in NAMES)),
        },
        "classes", 6, None, {"cardiomegaly": "cardiomegaly"},
    ),
    "table_of_findings": Known(
        {
            **pictures(*(f"train/patient{n}/study1/view1_frontal.jpg" for n in CASES)),
            "train.csv": table(
                ("Path", "Sex", "Cardiomegaly", "Edema", "No Finding"),
                *((f"CheXpert-v1.0/train/patient{n}/study1/view1_frontal.jpg", "Male",
                   *((1, -1, "") if n < "004" else (0, "", "1.0"))) for n in CASES),
            ),
        },
        "multilabel", 6, 6, {"Cardiomegaly": "cardiomegaly"},
    ),
    "table_of_boxes": Known(
        {
            **pictures(*(f"img/{n}.png" for n in NAMES)),
            "train.csv": table(
                ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max"),
                *((n, "Cardiomegaly" if k else "Nodule/Mass", f"R{k}", 1, 2, 30, 20) for n in NAMES for k in (0, 1)),
            ),
        },
        "boxes", 6, 6, {"Cardiomegaly": "cardiomegaly"},
    ),
    "table_of_spheres": Known(
        {
            **volumes(*(f"scans/{n}.nii.gz" for n in NAMES)),
            "nodules.csv": table(
                ("uid", "coordX", "coordY", "coordZ", "diameter_mm"), *((n, 1, 2, 3, 4) for n in NAMES)
            ),
        },
        "spheres", 6, 6,
    ),
    "table_of_each_split": Known(
        {
            **pictures(*(f"{s}/{n}.png" for s in HALVES for n in NAMES)),
            **{f"{s}.csv": table(("path", "label"), *((f"{s}/{n}.png", "glioma" if n < "p4" else "normal")
                                                      for n in NAMES)) for s in HALVES},
        },
        "classes", 12, None, {"glioma": "glioma"},
    ),
    "table_of_one_split": Known(
        {
            **pictures(*(f"{s}_images/{s}{n}.png" for s in HALVES for n in NAMES)),
            "train.csv": table(("id_code", "diagnosis"), *((f"train{n}", k % 3) for k, n in enumerate(NAMES))),
            "test.csv": table(("id_code",), *((f"test{n}",) for n in NAMES)),
        },
        "classes", 12, None, {"2": "2"},
    ),
    "table_of_folders_that_are_no_classes": Known(
        {
            **pictures(*(f"part_{n % 2}/ISIC_{n:07}.jpg" for n in range(20))),
            "metadata_all.csv": table(("lesion_id", "image_id", "dx"),
                                      *((n // 2, f"ISIC_{n:07}", ("nv", "melanoma")[n % 2]) for n in range(20))),
        },
        "classes", 20, None, {"melanoma": "melanoma"},
    ),
    "table_without_labels": Known(
        {
            **pictures(*(f"png/{n}.png" for n in NAMES)),
            "data.csv": table(("patient_id", "image_id", "sex", "age"),
                              *((f"x{k // 2}", n, "f", 40 + k) for k, n in enumerate(NAMES))),
        },
        "no annotation", 6,
    ),
    "table_in_json_lines": Known(
        {
            **pictures(*(f"i/{n}.png" for n in NAMES)),
            "labels.jsonl": json_lines(*({"image": f"i/{n}.png", "diagnosis": "glioma"} for n in NAMES)),
        },
        "classes", 6, None, {"glioma": "glioma"},
    ),
    "table_in_json": Known(
        {
            **pictures(*(f"i/{n}.png" for n in NAMES)),
            "labels.json": [{"image": f"{n}.png", "diagnosis": "glioma"} for n in NAMES],
        },
        "classes", 6, None, {"glioma": "glioma"},
    ),
    "table_of_objects": Known(
        {
            **pictures(*(f"train/{n}.png" for n in NAMES)),
            "train/metadata.jsonl": json_lines(
                *({"file_name": f"{n}.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["mass"]}} for n in NAMES)
            ),
        },
        "objects", 6, None, {"mass": "mass"},
    ),
}  # fmt: skip

ROWS = {
    "arrays": Known(
        {"a/data.npz": npz(images=np.zeros((6, 8, 8), np.uint8), labels=np.arange(6) % 2)},
        "rows", 6, None, {"0": "0", "1": "1"},
    ),
    "arrays_with_masks_in_channels": Known(
        {"f/images.npy": npy(np.zeros((6, 8, 8, 3), np.uint8)), "f/masks.npy": npy(np.zeros((6, 8, 8, 5), np.uint8))},
        "rows", 6, 6, {"4": "structure 4"},
    ),
    "parquet": Known(
        {
            "data/train-00000.parquet": pa.table(
                {"image": [{"bytes": b"x" * 100, "path": None}] * 6, "label": ["glioma"] * 6}
            )
        },
        "rows", 6, None, {"glioma": "glioma"},
    ),
    "parquet_with_objects": Known(
        {
            "data/train.parquet": pa.table(
                {
                    "image": [{"bytes": b"x" * 100, "path": None}] * 6,
                    "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "categories": ["mass"]}] * 6,
                }
            )
        },
        "rows", 6, None, {"mass": "mass"},
    ),
    "texts": Known(
        {"r.jsonl": json_lines(*({"report": f"No nodule, {n}.", "label": "normal"} for n in range(5)))},
        "rows", 5, None, {"normal": "no abnormality"},
    ),
}  # fmt: skip

DICOM = {
    "series": Known(
        {
            **{f"{p}/s1/IM{n:04}.dcm": dicom("CT", n) for p in ("P1", "P2") for n in range(4)},
            **of(dicom("SEG"), *(f"{p}/seg.dcm" for p in ("P1", "P2"))),
        },
        "seg", 2, 2,
    ),
    "series_with_a_structure_set": Known(
        {
            f"{p}/{name}.dcm": dicom(kind, n)
            for p in ("P1", "P2")
            for n, (name, kind) in enumerate([("CT.1", "CT"), ("CT.2", "CT"), ("RS", "RTSTRUCT"), ("RD", "RTDOSE")])
        },
        "rtstruct", 2, 2,
    ),
    "series_without_suffixes": Known(
        {f"x/1.2.{p}/1.2.{p}.{n}": dicom("MR", n) for p in (7, 8) for n in range(5)}, "no annotation", 2
    ),
    "radiographs": Known(
        {
            **{f"train/{n}.dcm": dicom("DX", k) for k, n in enumerate(NAMES)},
            "labels.csv": table(("patientId", "Target"), *((n, k % 2) for k, n in enumerate(NAMES))),
        },
        "classes", 6, None, {"0": "0", "1": "1"},
    ),
}  # fmt: skip

TREES = {**WELL_KNOWN, **ANNOTATION_FILES, **FOLDERS, **MASKS, **LABEL_MAPS, **TABLES, **ROWS, **DICOM}
