"""The examples of the guides read small folders of the kind that they draw: labels and boxes are those put there."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
from conftest import _write
from test_contours import BOX as DRAWN
from test_contours import rectangle, struct
from test_dicom_pixels import dicom_file
from test_docs import EXAMPLES, LAYOUTS, section
from test_segments import COLUMNS, ROWS, organ, seg_of, source

from pipeline import vocabulary
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from sources.cases import ID_KEY, plan
from sources.descriptor import parse

Files = Mapping[str, Any]
Wanted = dict[str, set[tuple[str, tuple[float, ...] | None]]]
"""Record, without its source, to labels and boxes."""
BOX = (10, 20, 30, 40)
GREY = np.random.default_rng(0).integers(0, 256, (80, 100), dtype=np.uint8)


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wanted]:
    """Read an example over some files: record to labels and boxes."""
    monkeypatch.setenv(ID_KEY, "0123456789abcdef")

    def read(example: str, files: Files, left_out: tuple[str, ...] = ()) -> Wanted:
        root = tmp_path / example
        for name, content in files.items():
            _write(root / name, content)
        descriptor = parse(EXAMPLES[example], "guide")
        of = Source(descriptor, root, vocabulary.load())
        found = [read_case(case, of) for case in plan(descriptor, root).cases]
        assert sorted({row.reason for one in found for row in one.rejected}) == sorted(left_out)
        return {
            record.id.partition("/")[2]: {
                (region.label or region.raw, rounded(region.box)) for region in record.regions
            }
            for one in found
            for record in one.records
        }

    return read


def rounded(box: Any) -> tuple[float, ...] | None:
    return tuple(round(edge, 3) for edge in box) if box else None


def pictures_of(*names: str) -> dict[str, Any]:
    return {name: np.roll(GREY, n) for n, name in enumerate(names)}


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


def painted(*areas: tuple[Any, ...], size: tuple[int, ...] = (80, 100), dtype: Any = np.uint8) -> Any:
    """Areas of a picture: x0, y0, x1, y1 and their value."""
    mask = np.zeros(size, dtype)
    for x0, y0, x1, y1, value in areas:
        mask[y0:y1, x0:x1] = value
    return mask


def bytes_of(save: Callable[[Any], Any]) -> bytes:
    sink = io.BytesIO()
    save(sink)
    return sink.getvalue()


def array(values: Any) -> bytes:
    return bytes_of(lambda sink: np.save(sink, values))


# ---- pictures


def test_class_folders(seen):
    files = pictures_of("Healthy/clip01_f000.png", "Viral pneumonia/clip07_f012.jpg")
    assert seen("lung_us", files) == {
        "Healthy/clip01_f000/image": {("normal", None)},
        "Viral_pneumonia/clip07_f012/image": {("viral_pneumonia", None)},
    }


def test_a_column_of_a_table(seen):
    rows = "Image Index,Patient ID,Finding Labels,View Position", "a.png,1,Effusion|Nodule,PA", "b.png,2,nan,AP"
    files = {**pictures_of("images/a.png", "images/b.png"), "labels.csv": lines(*rows)}
    found = seen("chest_table", files, left_out=("nothing_kept", "unlabelled"))
    assert found == {"a/image": {("pleural_effusion", None), ("nodule", None)}}


def test_one_column_a_label(seen):
    names = [f"train/p{n}/s/view1_frontal.jpg" for n in (1, 2)]
    rows = [f"CheXpert-v1.0-small/{name},F,{cells}" for name, cells in zip(names, (",1.0,-1.0", "1.0,,0"), strict=True)]
    files = {**pictures_of(*names), "train.csv": lines("Path,Sex,No Finding,Cardiomegaly,Edema", *rows)}
    assert seen("chest_columns", files) == {
        "train/p1/s/view1_frontal/image": {("cardiomegaly", None), ("pulmonary_edema", None)},
        "train/p2/s/view1_frontal/image": {("normal", None)},
    }


def test_rows_of_boxes(seen):
    table = lines("patientId,x,y,width,height,Target", "a,,,,,0", "b,10,20,20,20,1")
    files = {**pictures_of("images/a.png", "images/b.png"), "labels.csv": table}
    assert seen("opacity_boxes", files) == {"a/image": set(), "b/image": {("lung_opacity", BOX)}}


def test_three_readers(seen):
    rows = (
        "image_id,class_name,rad_id,x_min,y_min,x_max,y_max",
        "a,Nodule/Mass,R9,9,20,29,40",
        "a,Nodule/Mass,R10,11,20,31,40",
        "a,Cardiomegaly,R8,50,50,80,80",
        "b,No finding,R8,,,,",
    )
    files = {**pictures_of("images/a.png", "images/b.png"), "annotations.csv": lines(*rows)}
    found = seen("three_readers", files, left_out=("minority",))
    assert found == {"a/image": {("mass", BOX)}, "b/image": {("normal", None)}}


OBJECTS = {"file_name": "train/a.png", "objects": {"bbox": [[10, 20, 20, 20]], "categories": [0]}}
VOC = "<xmin>11</xmin><ymin>21</ymin><xmax>30</xmax><ymax>40</ymax>"
COCO = {
    "images": [{"id": 3, "file_name": "a.png", "width": 100, "height": 80}],
    "annotations": [{"id": 1, "image_id": 3, "category_id": 7, "bbox": [10, 20, 20, 20]}],
    "categories": [{"id": 7, "name": "RBC"}],
}
LABELME = {
    "imageWidth": 100,
    "imageHeight": 80,
    "shapes": [
        {"label": "lesion", "shape_type": "rectangle", "points": [[10, 20], [30, 40]]},
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]},
    ],
}
TASK = {
    "data": {"image": "/data/upload/3/1a2b3c4d-a.png"},
    "annotations": [
        {
            "result": [
                {
                    "type": "rectanglelabels",
                    "original_width": 100,
                    "original_height": 80,
                    "value": {"x": 10, "y": 25, "width": 20, "height": 25, "rectanglelabels": ["RBC"]},
                }
            ]
        }
    ],
}
CVAT = '<image name="a.png" width="100" height="80"><box label="polyp" xtl="10" ytl="20" xbr="30" ybr="40"/></image>'
CORNERS = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((10, 20), (30, 20), (30, 40), (10, 40)))
LAYER = f'<Annotation Id="1"><Regions><Region><Vertices>{CORNERS}</Vertices></Region></Regions></Annotation>'


@pytest.mark.parametrize(
    ("example", "picture", "files", "label"),
    [
        ("hf_objects", "train/a.png", {"metadata.jsonl": json.dumps(OBJECTS)}, "nodule"),
        (
            "blood_voc",
            "JPEGImages/a.jpg",
            {"Annotations/a.xml": f"<annotation><object><name>RBC</name><bndbox>{VOC}</bndbox></object></annotation>"},
            "red_blood_cell",
        ),
        ("blood_coco", "train/a.png", {"annotations/instances_train.json": json.dumps(COCO)}, "red_blood_cell"),
        (
            "dental_yolo",
            "train/images/a.jpg",
            {"data.yaml": "names: [Cavity, Fillings, Implant]", "train/labels/a.txt": "1 0.2 0.375 0.2 0.25\n"},
            "dental_filling",
        ),
        ("skin_labelme", "a.jpg", {"a.json": json.dumps(LABELME)}, "skin_lesion"),
        ("cells_labelstudio", "images/a.png", {"export.json": json.dumps([TASK])}, "red_blood_cell"),
        (
            "endoscopy_cvat",
            "frames/a.png",
            {"annotations.xml": f"<annotations>{CVAT}</annotations>"},
            "colorectal_polyp",
        ),
        ("nuclei_aperio", "a.png", {"a.xml": f"<Annotations>{LAYER}</Annotations>"}, "nucleus"),
        ("abdomen_masks", "demo/06_CT.png", {"demo_mask/06_CT_liver.png": painted((*BOX, 255))}, "liver"),
        ("nuclei_instances", "images/a.png", {"labels/a.tif": painted((*BOX, 300), dtype=np.uint16)}, "nucleus"),
    ],
)
def test_one_box_in_every_form(seen, example, picture, files, label):
    ((_, regions),) = seen(example, {**pictures_of(picture), **files}).items()
    assert regions == {(label, BOX)}


def test_class_numbers_that_a_file_names(seen):
    picture, names = "ct_00--AMOS2022--amos_0001--z_0040", {"AMOS2022": {"liver": "0003", "union_liver_spleen": "0009"}}
    masks = {f"masks/{picture}--{number}_000.png": painted((*BOX, 255)) for number in ("0003", "0009")}
    files = {**pictures_of(f"images/{picture}.png"), **masks, "classes.json": json.dumps(names)}
    assert seen("many_sets", files) == {f"{picture}/image": {("liver", BOX)}}


def test_masks_beside_class_folders(seen):
    files = {
        **pictures_of("benign/benign (1).png", "normal/normal (1).png"),
        "benign/benign (1)_mask.png": painted((*BOX, 255), (50, 20, 70, 40, 255)),
        "benign/benign (1)_mask_1.png": painted((50, 50, 70, 70, 255)),
        "normal/normal (1)_mask.png": painted(),
    }
    boxes = BOX, (50, 20, 70, 40), (50, 50, 70, 70)
    assert seen("breast_us", files) == {
        "benign/benign_(1)/image": {("benign_breast_lesion", box) for box in boxes},
        "normal/normal_(1)/image": {("normal", None)},
    }


def test_values_and_colours_of_masks(seen):
    cup, disc = (20, 30, 40, 50), (10, 20, 60, 70)
    mask = painted((0, 0, 100, 80, 255), (*disc, 128), (*cup, 0))
    found = seen("fundus_indexed", {**pictures_of("images/T1.jpg"), "masks/T1.bmp": mask})
    assert found == {"images/T1/image": {("optic_cup", cup), ("optic_disc", disc)}}
    mask = painted((*BOX, (255, 0, 0)), (50, 20, 70, 40, (0, 255, 0)), size=(80, 100, 3))
    found = seen("polyps_coloured", {**pictures_of("train/a.jpeg"), "train_gt/a.png": mask})
    assert found == {"train/a/image": {("neoplastic_polyp", BOX), ("non_neoplastic_polyp", (50, 20, 70, 40))}}


def test_arrays_with_channels(seen):
    channels = [[3, 0, 0, 0, 0, 0], [0, 0, 9, 0, 1, 0]]
    masks = np.stack([painted((*BOX, value), size=(80, 100, 6), dtype=float) for value in channels])
    pictures = np.stack([GREY, GREY[::-1]])[..., None].repeat(3, axis=3).astype(float)
    assert seen("nuclei_arrays", {"images.npy": array(pictures), "masks.npy": array(masks)}) == {
        "images/r000000/image": {("neoplastic_cell", BOX)},
        "images/r000001/image": {("epithelial_cell", BOX)},
    }


# ---- volumes


@pytest.fixture
def scan(lps_nifti) -> Callable[..., Any]:
    """A volume of 40x40x24 voxels of 1 mm; `scan(1, 2)` a label map of slabs beside each other on slices 3 to 8."""

    def make(*values: int, channels: int = 0) -> Any:
        if not values:
            shape = (40, 40, 24, channels) if channels else (40, 40, 24)
            return lps_nifti(np.random.default_rng(0).integers(-500, 500, shape, dtype=np.int16))
        ids = np.zeros((40, 40, 24), np.uint8)
        for n, value in enumerate(values):
            ids[2 + 8 * n : 10 + 8 * n, 5:25, 3:9] = value
        return lps_nifti(ids)

    return make


def slab(n: int, label: str, wide: int = 1) -> tuple[str, tuple[float, ...]]:
    return label, (2 + 8 * n, 5, 2 + 8 * (n + wide), 25)


def test_a_label_map_with_a_union(seen, scan):
    found = seen("abdomen_labelmap", {"case01/ct.nii.gz": scan(), "case01/seg.nii.gz": scan(1, 2, 3, 255)})
    organs = {slab(1, "liver_tumor"), slab(2, "kidney"), slab(0, "liver", wide=2)}
    axial = {name: regions for name, regions in found.items() if "axial" in name}
    assert axial == {"case01/axial/z0003": organs, "case01/axial/z0007": organs}
    # the head is on top: slices 3 to 8 of 24 are rows 15 to 20
    assert found["case01/coronal/y0005"] == {(label, (x0, 15, x1, 21)) for label, (x0, _, x1, _) in organs}


def test_structures(seen, scan):
    files = {"s1/ct.nii.gz": scan(), "s1/segmentations/heart_atrium_left.nii.gz": scan(1)}
    found = seen("structures", {**files, "s1/segmentations/kidney_left.nii.gz": scan(0, 1)})
    organs = {slab(0, "left_atrium"), slab(1, "kidney")}
    assert found == {f"s1/axial/z{n:04d}": organs for n in range(3, 9)}


def test_spheres(seen, tmp_path):
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-900, 100, (10, 40, 40), dtype=np.int16))
    image.SetSpacing((1, 1, 2))
    (tmp_path / "lung_spheres/subset0").mkdir(parents=True)
    sitk.WriteImage(image, tmp_path / "lung_spheres/subset0/1.3.6.mhd")
    table = lines("seriesuid,coordX,coordY,coordZ,diameter_mm", "1.3.6,20,20,10,12", "9.9,0,0,0,5")
    found = seen("lung_spheres", {"annotations.csv": table}, left_out=("no_region", "too_small"))
    assert found["1.3.6/axial/z0005"] == {("lung_nodule", (14, 14, 27, 27))}
    assert sorted(found) == [f"1.3.6/axial/z{n:04d}" for n in range(3, 8)]  # of 1 mm2 at the poles


def test_channels_in_files_and_along_an_axis(seen, scan):
    parts = {slab(0, "necrotic_tumor_core"), slab(1, "peritumoral_edema"), slab(2, "enhancing_tumor")}
    files = {f"B1/B1_{name}.nii.gz": scan() for name in ("flair", "t1", "t1ce", "t2")}
    found = seen("brain_channels", {**files, "B1/B1_seg.nii.gz": scan(1, 2, 4)})
    assert found == {f"B1/{name}/axial/z0005": {*parts, slab(0, "whole_tumor", 3)} for name in ("FLAIR", "T1ce")}
    found = seen("brain_4d", {"imagesTr/c.nii.gz": scan(channels=4), "labelsTr/c.nii.gz": scan(1, 2)})
    assert {name for name in found if "t1gd" in name} == {"c/t1gd/axial/z0005"}
    assert found["c/FLAIR/axial/z0005"] == {slab(0, "edema"), slab(1, "non_enhancing_tumor")}


# ---- DICOM


@pytest.fixture
def series() -> list[Any]:
    """Slices of 24x20 px, each of its own."""
    images = source()
    for n, image in enumerate(images):
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        image.PixelData = (np.arange(ROWS * COLUMNS) + n).astype("<u2").tobytes()
    return images


def dicom(dataset: Any) -> bytes:
    return bytes_of(lambda sink: dataset.save_as(sink, enforce_file_format=True))


def test_a_series_with_a_label_map_a_seg_and_a_structure_set(seen, series, lps_nifti):
    ids = np.zeros((COLUMNS, ROWS, len(series)), np.uint8)
    ids[3:15, 5:15, 2] = 1
    files = {f"p1/disc{n % 2}/IM{n}": dicom(image) for n, image in enumerate(series)}
    label_map = lps_nifti(ids, (0.7, 0.9, 2.5), (-10, -20, 100))
    found = seen("ct_liver", {**files, "masks/p1.nii.gz": label_map})
    # pixels are 0.7 mm wide and 0.9 mm high: rows 5 to 14 become 26 / 20 as long
    assert found == {"p1/axial/z0002": {("liver", (3, 6.5, 15, 19.5))}}
    files = {f"0017/1.2/ct/{n}.dcm": dicom(image) for n, image in enumerate(series)}
    seg = seg_of(series, organ(1, 2), labels=("Neoplasm, Primary",))
    found = seen("torso_dicom", {**files, "0017/1.2/seg.dcm": dicom(seg)})
    assert [{label for label, _ in regions} for regions in found.values()] == [{"tumor"}] * 2
    assert not any("0017" in name for name in found)
    files = {f"0017/CT{n}.dcm": dicom(image) for n, image in enumerate(series)}
    drawn = struct({"Lt Lung": [rectangle(*DRAWN, 1)], "BODY": [rectangle(*DRAWN, 2)]})
    found = seen("planning_ct", {**files, "0017/RS.dcm": dicom(drawn)})
    assert {name: {label for label, _ in regions} for name, regions in found.items()} == {"0017/axial/z0001": {"lung"}}


def test_dicom_pictures(seen, tmp_path):
    for view in ("frontal", "lateral"):
        dicom_file(np.arange(48 * 40, dtype=np.uint16).reshape(48, 40), tmp_path / f"films/p1/{view}.dcm")
    found = seen("films", {"labels.csv": lines("patient,finding", "p1,pneumonia")})
    assert found == {f"p1/{view}/image": {("pneumonia", None)} for view in ("frontal", "lateral")}


# ---- rows, video, a function


def test_pictures_and_texts_in_rows(seen, encoded):
    held = [{"bytes": encoded(np.roll(GREY, n)), "path": "x.png"} for n in range(2)]
    rows = pa.table({"image": held, "label": [0, 1], "patient": ["a", "b"]})
    file = "data/train-00000-of-00002"
    found = seen("parquet_rows", {f"{file}.parquet": bytes_of(lambda sink: pq.write_table(rows, sink))})
    assert found == {f"{file}/r000000/image": {("normal", None)}, f"{file}/r000001/image": {("pneumonia", None)}}
    stack, labels = np.stack([GREY, GREY[::-1]]), np.array([[0], [1]])
    arrays = {"train_images": stack, "train_labels": labels, "val_images": stack, "val_labels": labels[::-1]}
    found = seen("npz_rows", {"chest.npz": bytes_of(lambda sink: np.savez(sink, **arrays))})
    assert found["chest/train/r000001/image"] == found["chest/val/r000000/image"] == {("pneumonia", None)}
    row = {"id": "q1", "question": "What?", "answer": "That.", "specialty": "Neurosurgery"}
    assert seen("questions", {"questions.jsonl": json.dumps(row)}) == {"q1/text": set()}


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """30 frames, 5 a second, that all differ."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for n in range(30):
        writer.write(np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path.read_bytes()


def test_labels_of_frames_and_intervals(seen, clip):
    phases = lines("Frame\tPhase", *(f"{n}\t{'Preparation' if n < 10 else 'Dissection'}" for n in range(30)))
    files = {"videos/v.mp4": clip, "phases/v-phase.txt": phases}
    found = seen("surgery", {**files, "tools/v-tool.txt": lines("Frame\tGrasper\tHook", "0\t1\t0", "25\t0\t1")})
    assert found == {
        "v/f00000": {("Preparation", None), ("grasper", None)},
        "v/f00025": {("Dissection", None), ("Hook", None)},
    }
    table = lines("video_id,start,end,finding", "v,00:00:01.5,00:00:03,polyp")
    found = seen("capsule", {"p1/v.mp4": clip, "findings.csv": table}, left_out=("no_region",))
    assert found == {"v/f00010": {("polyp", None)}}


def test_the_python_function(seen, tmp_path, monkeypatch):
    code = section(LAYOUTS, "## A Python function: `adapter`").partition("```python\n")[2].partition("```")[0]
    (tmp_path / "odd_notes").mkdir()
    monkeypatch.chdir(tmp_path / "odd_notes")
    files = {**pictures_of("a.png", "b.png"), "notes/a.txt": "N 10 20 30 40\n", "notes/b.txt": "bad\n"}
    found = seen("odd_notes", {**files, "my_set.py": code}, left_out=("bad_annotation",))
    assert found == {"a/image": {("nodule", BOX)}}


def test_every_example_is_read_here():
    here = Path(__file__).read_text()
    missing = [name for name in EXAMPLES if f'"{name}"' not in here]
    assert missing == [next(iter(EXAMPLES))]  # that one is checked in test_docs
