"""Presets: a small tree of each kind, opened with its preset, is read as a descriptor written by hand reads it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from pipeline import discovery, plan, vocabulary
from pipeline.errors import UserError
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Record
from pipeline.settings import Settings
from pipeline.strict import load_yaml
from sources import preset
from sources.descriptor import Descriptor, parse

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
HEAD = "schema: medgloss/1\nid: toy\ntitle: A toy\nlicense: {name: CC0-1.0}\negress: any\nroot: data\n"
SETTINGS = Settings(sources=())


def source_plan(folder: Path, yaml: str) -> plan.SourcePlan:
    (folder / "toy.yaml").write_text(HEAD + yaml)
    return plan.open_source(str(folder / "toy.yaml"), SETTINGS, vocabulary.load())


def described(descriptor: Descriptor) -> dict:
    specs = [spec.model_dump() for spec in descriptor.specs]
    return descriptor.model_dump(exclude={"preset", "annotations"}) | {"annotations": specs}


def records(opened: plan.SourcePlan) -> list[Record]:
    source = Source(opened.descriptor, opened.root, vocabulary.load())
    return [record for case in opened.cases.cases for record in read_case(case, source).records]


def told(found: Iterable[Record]) -> dict[str, list[str]]:
    """Case to the names of its regions, each once."""
    names: dict[str, set[str]] = {}
    for record in found:
        names.setdefault(record.case, set()).update(region.label or region.raw for region in record.regions)
    return {case: sorted(labels) for case, labels in sorted(names.items())}


def check(folder: Path, name: str, by_hand: str, more: str = "") -> list[Record]:
    """Open a tree with a preset, and as it is written by hand; return its records."""
    filled, written = source_plan(folder, f"preset: {name}\n{more}"), source_plan(folder, by_hand)
    assert described(filled.descriptor) == described(written.descriptor)
    assert filled.cases == written.cases
    assert described(parse(filled.text, "copy")) == described(filled.descriptor)  # what the run folder keeps
    return records(filled)


def refused(folder: Path, name: str, more: str = "") -> str:
    with pytest.raises(UserError) as caught:
        source_plan(folder, f"preset: {name}\n{more}")
    text = str(caught.value)
    assert "\n" not in text
    return text


# ---- files


def save(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray) and content.ndim == 2:
        Image.fromarray(content).save(path)
    elif isinstance(content, np.ndarray) and path.suffix == ".mhd":
        sitk.WriteImage(sitk.GetImageFromArray(content), str(path))
    elif isinstance(content, np.ndarray):
        nib.save(nib.Nifti1Image(content, np.diag([-1, -1, 1, 1])), path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def tree(folder: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        save(folder / "data" / name, content)
    return folder / "data"


def volume(channels: int = 0, seed: int = 0) -> np.ndarray:
    shape = (24, 20, 6, channels) if channels else (24, 20, 6)
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def label_map(*ids: int) -> np.ndarray:
    """A column of 4 x 12 voxels on slices 2 to 4 for each id."""
    array = np.zeros((24, 20, 6), np.uint8)
    for n, one in enumerate(ids):
        array[4 * n : 4 * n + 4, 4:16, 2:5] = one
    return array


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (30, 40), dtype=np.uint8)


# ---- Decathlon and nnU-Net


def decathlon(modality: Mapping[str, str], labels: Mapping[str, str], *cases: str) -> dict:
    pairs = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases]
    return {"modality": modality, "labels": labels, "training": pairs, "test": ["./imagesTs/c.nii.gz"]}


def test_msd(tmp_path):
    tree(
        tmp_path,
        {
            "dataset.json": decathlon({"0": "CT"}, {"0": "background", "1": "liver", "2": "cancer"}, "a", "b"),
            "imagesTr/a.nii.gz": volume(),
            "imagesTr/b.nii.gz": volume(seed=1),
            "imagesTr/._a.nii.gz": "junk",
            "imagesTs/c.nii.gz": volume(seed=2),
            "labelsTr/a.nii.gz": label_map(1, 2),
            "labelsTr/b.nii.gz": label_map(1),
            "labelsTr/._b.nii.gz": "junk",
        },
    )
    by_hand = """
modality: ct
cases: {match: "imagesTr/{case}.nii.gz", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
annotations: [{kind: labelmap, path: "labelsTr/{case}.nii.gz", labels: {1: liver, 2: cancer}}]
expect: {cases: 2}
"""
    found = check(tmp_path, "msd", by_hand)
    assert source_plan(tmp_path, "preset: msd\n").cases.unclaimed == ()
    assert told(found)["b"] == ["liver"]
    assert len(told(found)["a"]) == 2
    assert len(found) == 6


def test_msd_with_channels_along_the_fourth_axis(tmp_path):
    tree(
        tmp_path,
        {
            "dataset.json": decathlon({"1": "ADC", "0": "T2"}, {"0": "background", "1": "PZ"}, "a"),
            "imagesTr/a.nii.gz": volume(2),
            "labelsTr/a.nii.gz": label_map(1),
        },
    )
    by_hand = """
modality: mr
cases: {match: "imagesTr/{case}.nii.gz", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
channels: {axis: [T2, ADC]}
annotations: [{kind: labelmap, path: "labelsTr/{case}.nii.gz", labels: {1: PZ}}]
expect: {cases: 1}
"""
    assert "can not know the modality; say it" in refused(tmp_path, "msd")
    found = check(tmp_path, "msd", by_hand, "modality: mr")
    assert Counter(record.picture.channel for record in found) == {"T2": 3, "ADC": 3}


def test_nnunet_v1(tmp_path):
    tree(
        tmp_path,
        {
            "dataset.json": decathlon({"0": "MRI", "1": "MRI"}, {"0": "background", "1": "liver"}, "a"),
            "imagesTr/a_0000.nii.gz": volume(),
            "imagesTr/a_0001.nii.gz": volume(seed=1),
            "labelsTr/a.nii.gz": label_map(1),
        },
    )
    by_hand = """
modality: mr
cases: {match: "imagesTr/{case}_{channel:[0-9]{4}}.nii.gz", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
channels: {files: {0000: MRI, 0001: MRI 1}}
annotations: [{kind: labelmap, path: "labelsTr/{case}.nii.gz", labels: {1: liver}}]
expect: {cases: 1}
"""
    found = check(tmp_path, "nnunet_v1", by_hand)
    assert Counter(record.picture.channel for record in found) == {"MRI": 3, "MRI 1": 3}


def test_nnunet_v2_with_regions_and_ignored_voxels(tmp_path):
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3, "ignore": 4}
    tree(
        tmp_path,
        {
            "dataset.json": {
                "channel_names": {"0": "CT"},
                "labels": labels,
                "numTraining": 1,
                "file_ending": ".nii.gz",
            },
            "imagesTr/a_0000.nii.gz": volume(),
            "labelsTr/a.nii.gz": label_map(1, 2, 3, 4),
        },
    )
    by_hand = """
modality: ct
cases: {match: "imagesTr/{case}_0000.nii.gz", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
annotations:
  - kind: labelmap
    path: "labelsTr/{case}.nii.gz"
    labels: {1: {drop: true}, 2: {drop: true}, 3: enhancing tumor}
    unions: {whole tumor: [1, 2, 3], tumor core: [2, 3]}
    ignore: [4]
expect: {cases: 1}
"""
    found = check(tmp_path, "nnunet_v2", by_hand)
    assert told(found) == {"a": ["enhancing_tumor", "tumor_core", "whole_tumor"]}
    areas = {region.raw: region.area_px for region in found[0].regions}
    assert areas == {"3": 48, "whole tumor": 144, "tumor core": 96}


def test_nnunet_v2_with_files_listed_case_by_case(tmp_path):
    files = {
        case: {
            "images": [f"raw/{case}/{case}-t1.nii.gz", f"raw/{case}/{case}-flair.nii.gz"],
            "label": f"raw/{case}/seg.nii.gz",
        }
        for case in ("p1", "p2")
    }
    data = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "liver": 1}, "dataset": files}
    tree(tmp_path, {"dataset.json": data | {"file_ending": ".nii.gz", "numTraining": 2}})
    for case in files:
        for name in ("t1", "flair"):
            save(tmp_path / "data" / "raw" / case / f"{case}-{name}.nii.gz", volume())
        save(tmp_path / "data" / "raw" / case / "seg.nii.gz", label_map(1))
    by_hand = """
modality: mr
cases: {match: "raw/{case}/{case}-{channel:t1|flair}.nii.gz", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
channels: {files: {t1: T1, flair: FLAIR}}
annotations: [{kind: labelmap, path: "raw/{case}/seg.nii.gz", labels: {1: liver}}]
expect: {cases: 2}
"""
    found = check(tmp_path, "nnunet_v2", by_hand, "modality: mr")
    assert told(found) == {"p1": ["liver"], "p2": ["liver"]}


def test_nnunet_v2_of_rgb_pictures(tmp_path):
    data = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "polyp": 1, "ignore": 2}}
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:25], mask[25:] = 1, 2
    tree(
        tmp_path,
        {
            "dataset.json": data | {"file_ending": ".png", "numTraining": 1},
            "imagesTr/a_0000.png": picture(),
            "labelsTr/a.png": mask,
        },
    )
    by_hand = """
modality: endoscopy
cases: {match: "imagesTr/{case}_0000.png", id: "{case}", exclude: [dataset.json, "imagesTs/*"]}
annotations:
  - {kind: mask, encoding: indexed, path: "labelsTr/{case}.png", labels: {1: polyp, 2: {drop: true}}}
expect: {cases: 1}
"""
    (record,) = check(tmp_path, "nnunet_v2", by_hand, "modality: endoscopy")
    assert [tuple(region.box) for region in record.regions] == [(5, 5, 25, 20)]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.parametrize(("name", "folder"), [("msd", "Task04_Hippocampus"), ("nnunet_v2", "Dataset004_Hippocampus")])
def test_hippocampus_as_decathlon_and_as_nnunet_has_the_voxels_that_were_counted(tmp_path, name, folder):
    root = DATA / "msd_layout_derived" / folder
    (tmp_path / "toy.yaml").write_text(HEAD.replace("root: data", f"root: {root}") + f"preset: {name}\nlimits: none\n")
    opened = plan.open_source(str(tmp_path / "toy.yaml"), SETTINGS, vocabulary.load())
    assert (opened.descriptor.modality, opened.descriptor.expect.cases, len(opened.cases.cases)) == ("mr", 16, 16)
    voxels: dict[str, Counter] = {}
    for record in records(opened):
        for region in record.regions:
            voxels.setdefault(record.case, Counter())[region.raw] += round(region.area_px or 0)
    gold = json.loads((DATA / "GOLD.json").read_text())["msd_layout_derived"]
    wanted = {
        Path(file).name[:15]: {label: of["voxels"] for label, of in entry["labels"].items()}
        for file, entry in gold.items()
    }
    names = {"Anterior": "1", "Posterior": "2"}
    found = {case: {names.get(raw, raw): count for raw, count in of.items()} for case, of in voxels.items()}
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("msd", None, "dataset.json: No such file or directory; root should be the folder that holds it"),
        ("msd", "{", "dataset.json: not JSON"),
        ("msd", "[" * 100_000, "dataset.json: not JSON"),
        ("msd", [], "should be an object, is list"),
        ("msd", {}, 'modality should be {"0": "CT"}, is None'),
        ("msd", {"modality": {"a": "CT"}}, "modality should go by number, has ['a']"),
        ("msd", {"modality": {"0": "CT"}}, "training should be a list of image and label"),
        ("msd", decathlon({"0": "CT"}, {"liver": 1}, "a"), "preset: nnunet_v2"),
        ("msd", decathlon({"0": "CT"}, {"0": "background"}, "a"), "labels name nothing but the background"),
        ("msd", {"modality": {"0": "CT"}, "training": ["a"]}, "a training entry should have image and label, is a"),
        (
            "msd",
            {"modality": {"0": "CT"}, "training": [{"image": "x/a.nii.gz", "label": "y/b.nii.gz"}]},
            "a.nii.gz and b.nii.gz should be NIfTI files of one name",
        ),
        (
            "nnunet_v1",
            {"modality": ["CT"], "training": [{"image": f"{n}/a.nii", "label": "y/a.nii"} for n in "ab"]},
            "training files lie in several folders",
        ),
        ("nnunet_v2", {"channel_names": {"0": "CT"}}, "file_ending should be like .nii.gz, is None"),
        ("nnunet_v2", {"channel_names": ["CT"], "file_ending": ".nii.gz"}, 'labels should be {"background": 0'),
        ("nnunet_v2", {"channel_names": ["CT"], "file_ending": ".nii.gz", "labels": {"1": "liver"}}, "preset: msd"),
        (
            "nnunet_v2",
            {"channel_names": ["CT"], "file_ending": ".nii.gz", "labels": {"a": 1.5}},
            "an id or a list of ids",
        ),
        (
            "nnunet_v2",
            {"channel_names": ["CT"], "file_ending": ".png", "labels": {"a": [1, 2]}},
            "known of volumes only",
        ),
        (
            "nnunet_v2",
            {"channel_names": ["CT"], "file_ending": ".nii.gz", "labels": {"a": 1}, "dataset": {"c": {"images": []}}},
            "dataset: 'c' should have 1 images and a label",
        ),
        (
            "nnunet_v2",
            {
                "channel_names": ["CT"],
                "file_ending": ".nii.gz",
                "labels": {"a": 1},
                "dataset": {"c": {"images": ["/abs/c.nii.gz"], "label": "c.nii.gz"}},
            },
            "files are not all named alike",
        ),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_told_in_one_line(tmp_path, name, content, said):
    (tmp_path / "data").mkdir()
    if content is not None:
        save(tmp_path / "data" / "dataset.json", content)
    assert said in refused(tmp_path, name)


# ---- challenges


def test_totalsegmentator(tmp_path):
    tree(
        tmp_path,
        {
            "meta.csv": "﻿image_id;age;gender\ns0000;61;f\ns0001;62;m\n",
            "s0000/ct.nii.gz": volume(),
            "s0000/segmentations/kidney_left.nii.gz": label_map(1),
            "s0000/segmentations/liver.nii.gz": label_map(0, 1),
        },
    )
    by_hand = """
modality: ct
cases: {match: "{case}/ct.nii.gz", id: "{case}"}
tables: {meta: {path: meta.csv, key: image_id, match: "{case}", delimiter: ";", lists_cases: false}}
annotations: [{kind: mask_per_class, path: "{case}/segmentations/{label}.nii.gz"}]
attributes: {sex: "{meta.gender}"}
"""
    found = check(tmp_path, "totalsegmentator", by_hand, 'attributes: {sex: "{meta.gender}"}')
    assert told(found) == {"s0000": ["kidney", "liver"]}
    assert {record.attributes["sex"] for record in found} == {"f"}
    assert {region.side for record in found for region in record.regions} == {"left", None}


def test_totalsegmentator_of_mr(tmp_path):
    tree(tmp_path, {"s1/mri.nii.gz": volume(), "s1/segmentations/liver.nii.gz": label_map(1)})
    by_hand = """
modality: mr
cases: {match: "{case}/mri.nii.gz", id: "{case}"}
annotations: [{kind: mask_per_class, path: "{case}/segmentations/{label}.nii.gz"}]
"""
    assert told(check(tmp_path, "totalsegmentator", by_hand)) == {"s1": ["liver"]}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_brats_up_to_2021(tmp_path, ending):
    case = "train/BraTS2021_00000/BraTS2021_00000"
    files = {f"{case}_{name}{ending}": volume(seed=n) for n, name in enumerate(("flair", "t1", "t1ce", "t2"))}
    tree(tmp_path, files | {f"{case}_seg{ending}": label_map(1, 2, 4)})
    by_hand = f"""
modality: mr
body_part: brain
cases: {{match: "**/{{case}}/{{case}}_{{channel:flair|t1|t1ce|t2}}{ending}", id: "{{case}}"}}
channels: {{files: {{t1: T1, t1ce: T1ce, t2: T2, flair: FLAIR}}}}
annotations:
  - kind: labelmap
    path: "{{folder}}/{{case}}_seg{ending}"
    labels: {{1: necrotic tumor core, 2: peritumoral edema, 4: enhancing tumor}}
    unions: {{whole tumor: [1, 2, 4], tumor core: [1, 4]}}
"""
    found = check(tmp_path, "brats", by_hand)
    parts = ["enhancing_tumor", "necrotic_tumor_core", "peritumoral_edema", "tumor_core", "whole_tumor"]
    assert told(found) == {"BraTS2021_00000": parts}
    assert {record.picture.channel for record in found} == {"T1", "T1ce", "T2", "FLAIR"}


def test_brats_2023_groups_the_visits_of_a_patient(tmp_path):
    files = {}
    for visit in ("000", "001"):
        case = f"BraTS-GLI-00007-{visit}"
        for name in ("t1n", "t1c", "t2w", "t2f"):
            files[f"{case}/{case}-{name}.nii.gz"] = volume()
        files[f"{case}/{case}-seg.nii.gz"] = label_map(1, 2, 3)
    tree(tmp_path, files)
    opened = source_plan(tmp_path, "preset: brats\ndisplay: {max_side_px: 64}\nchannels: {show: [FLAIR]}\n")
    assert {case.group for case in opened.cases.cases} == {"BraTS-GLI-00007"}
    found = records(opened)
    assert len(told(found)["BraTS-GLI-00007-001"]) == 5
    assert {record.picture.channel for record in found} == {"FLAIR"}


def test_brats_of_children_has_other_labels(tmp_path):
    tree(tmp_path, {"BraTS-PED-00001-000/BraTS-PED-00001-000-t2f.nii.gz": volume()})
    assert "BraTS-PED sets count other parts of a tumour" in refused(tmp_path, "brats")
    own = 'annotations: [{kind: labelmap, path: "{folder}/seg.nii.gz", labels: {1: enhancing tumor}}]'
    assert len(source_plan(tmp_path, f"preset: brats\n{own}\n").cases.cases) == 1


@pytest.mark.parametrize("name", ["segmentation.nii.gz", "aggregated_MAJ_seg.nii.gz"])
def test_kits(tmp_path, name):
    tree(tmp_path, {"case_00000/imaging.nii.gz": volume(), f"case_00000/{name}": label_map(1, 2, 3)})
    by_hand = f"""
modality: ct
cases: {{match: "**/{{case:case_[0-9]+}}/imaging.nii.gz", id: "{{case}}"}}
annotations:
  - kind: labelmap
    path: "{{folder}}/{name}"
    labels: {{1: kidney, 2: kidney tumor, 3: kidney cyst}}
"""
    assert told(check(tmp_path, "kits", by_hand)) == {"case_00000": ["kidney", "kidney_cyst", "kidney_tumor"]}


def test_acdc_keeps_both_frames_of_a_patient_together(tmp_path):
    files = {"training/patient001/patient001_4d.nii.gz": volume(3), "training/patient001/Info.cfg": "Group: DCM"}
    for frame in ("01", "12"):
        files[f"training/patient001/patient001_frame{frame}.nii.gz"] = volume(seed=int(frame))
        files[f"training/patient001/patient001_frame{frame}_gt.nii.gz"] = label_map(1, 2, 3)
    tree(tmp_path, files)
    by_hand = """
modality: mr
cases:
  match: "**/{patient:patient[0-9]+}/{patient}_frame{frame:[0-9]+}.nii.gz"
  id: "{patient}_frame{frame}"
  group: "{patient}"
annotations:
  - kind: labelmap
    path: "{folder}/{patient}_frame{frame}_gt.nii.gz"
    labels: {1: right ventricle, 2: myocardium, 3: left ventricle}
geometry: {assume: unknown}
limits: {min_area_px: 10}
"""
    found = check(tmp_path, "acdc", by_hand)
    assert set(told(found)) == {"patient001_frame01", "patient001_frame12"}
    assert told(found)["patient001_frame01"] == ["left_ventricle", "myocardium", "right_ventricle"]
    assert {record.group for record in found} == {"patient001"}


@pytest.mark.parametrize("table", ["annotations.csv", "CSVFILES/annotations.csv"])
def test_luna16(tmp_path, table):
    with_nodule, without = "1.3.6.1.4.1.14519.7", "1.3.6.1.4.1.14519.8"
    nodules = f"seriesuid,coordX,coordY,coordZ,diameter_mm\n{with_nodule},10,10,3,6.5\n"
    tree(
        tmp_path,
        {
            table: nodules,
            f"subset0/{with_nodule}.mhd": volume().T.copy(),
            f"subset1/{without}.mhd": volume(seed=1).T.copy(),
            f"seg-lungs-LUNA16/{with_nodule}.mhd": volume().T.copy(),
        },
    )
    by_hand = f"""
modality: ct
body_part: chest
cases: {{match: "**/{{subset:subset[0-9]}}/{{uid:[0-9.]+}}.mhd", id: "{{uid}}"}}
tables: {{nodules: {{path: {table}, key: seriesuid, match: "{{uid}}"}}}}
annotations:
  - kind: spheres
    table: nodules
    center: [coordX, coordY, coordZ]
    diameter: diameter_mm
    label: lung nodule
    labels: {{lung nodule: lung nodule}}
display: {{window: lung}}
"""
    found = check(tmp_path, "luna16", by_hand)
    assert told(found)[with_nodule] == ["lung_nodule"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("totalsegmentator", "no s0000/ct.nii.gz or s0000/mri.nii.gz"),
        ("brats", "no CASE/CASE_flair.nii.gz or CASE/CASE-t2f.nii.gz"),
        ("kits", "no case_00000/segmentation.nii.gz"),
        ("acdc", "no patient001/patient001_frame01_gt.nii.gz"),
        ("luna16", "no annotations.csv"),
        ("coco", "no other JSON file"),
        ("yolo", "nothing names the classes"),
        ("voc", "no Annotations/*.xml"),
        ("imagefolder", "no pictures in CLASS/ or train/CLASS/"),
        ("class_folders", "no pictures in CLASS/ or train/CLASS/"),
        ("medmnist", "0 .npz files; say one"),
    ],
)
def test_a_folder_that_is_none_of_its_kind_is_told_so(tmp_path, name, said):
    tree(tmp_path, {"notes.txt": "nothing"})
    assert said in refused(tmp_path, name)


# ---- pictures


def coco(*names: str) -> dict:
    return {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names)],
        "categories": [{"id": 3, "name": "nodule"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [4, 5, 10, 12]} for n, _ in enumerate(names)
        ],
    }


COCO_TREES = {
    "roboflow": (
        {"train/_annotations.coco.json": coco("a.jpg"), "valid/_annotations.coco.json": coco("a.jpg")},
        ("train/a.jpg", "valid/a.jpg"),
        ("{split:train|valid}/{picture}.", "{split}/_annotations.coco.json", "{name}"),
    ),
    "images/split": (
        {"annotations/instances_train.json": coco("x/a.png"), "annotations/instances_val.json": coco("b.png")},
        ("images/train/x/a.png", "images/val/b.png"),
        ("images/{split:train|val}/{picture:.+}.", "annotations/instances_{split}.json", "{picture}.{ext}"),
    ),
    "split": (
        {"annotations/instances_train2017.json": coco("a.png"), "annotations/captions_train2017.json": {}},
        ("train2017/a.png",),
        ("{split:train2017}/{picture:.+}.", "annotations/instances_{split}.json", "{picture}.{ext}"),
    ),
    "from the root": (
        {"annotations/instances_train.json": coco("images/train/a.png")},
        ("images/train/a.png",),
        ("images/{split:train}/{picture:.+}.", "annotations/instances_{split}.json", "{path}"),
    ),
    "one folder": (
        {"annotations/instances_default.json": coco("a.png")},
        ("images/a.png",),
        ("images/{picture:.+}.", "annotations/instances_default.json", "{picture}.{ext}"),
    ),
    "beside": (
        {"labels.json": coco("a.png", "b/b.png")},
        ("a.png", "b/b.png"),
        ("{picture:.+}.", "labels.json", "{picture}.{ext}"),
    ),
}
EXT = "{ext:(?i:bmp|jp2|jpeg|jpg|pgm|png|ppm|tif|tiff|webp)}"


@pytest.mark.parametrize("arrangement", COCO_TREES)
def test_coco(tmp_path, arrangement):
    files, pictures, (match, path, key) = COCO_TREES[arrangement]
    tree(tmp_path, files | {name: picture(seed) for seed, name in enumerate(pictures)})
    by_hand = f"""
modality: xray
cases: {{match: "{match}{EXT}"}}
annotations: [{{kind: coco, path: "{path}", match: "{key}"}}]
"""
    found = check(tmp_path, "coco", by_hand, "modality: xray")
    assert len(found) == len(pictures)
    assert {tuple(region.box) for record in found for region in record.regions} == {(4, 5, 14, 17)}


def test_coco_with_two_files_for_one_folder(tmp_path):
    files = {"annotations/instances_train.json": coco("a.png"), "annotations/instances_val.json": coco("b.png")}
    tree(tmp_path, files | {f"images/{name}.png": picture() for name in "ab"})
    by_hand = f"""
modality: xray
cases: {{match: "images/{{picture:.+}}.{EXT}"}}
annotations:
  - {{kind: coco, path: annotations/instances_train.json, match: "{{picture}}.{{ext}}"}}
  - {{kind: coco, path: annotations/instances_val.json, match: "{{picture}}.{{ext}}"}}
"""
    assert len(check(tmp_path, "coco", by_hand, "modality: xray")) == 2


def test_coco_that_is_none_or_whose_pictures_are_elsewhere_is_told_so(tmp_path):
    root = tree(tmp_path, {"a.json": {"images": []}})
    assert "a.json: not COCO JSON, or without pictures" in refused(tmp_path, "coco", "modality: xray")
    save(root / "a.json", coco("elsewhere/a.png"))
    assert "a.json: its first picture is not in the folder itself" in refused(tmp_path, "coco", "modality: xray")


LINE = "0 0.25 0.5 0.25 0.4\n"


@pytest.mark.parametrize(
    ("files", "match", "path", "names"),
    [
        (("images/train/a.png", "labels/train/a.txt"), "{above:(?:.+/)?}images/", "{above}labels/", "data.yaml"),
        (("images/a.png", "labels/a.txt"), "{above:(?:.+/)?}images/", "{above}labels/", "labels/classes.txt"),
        (("train/images/a.png", "train/labels/a.txt"), "{above:(?:.+/)?}images/", "{above}labels/", "data.yaml"),
        (("x/train/images/a.png", "x/train/labels/a.txt"), "{above:(?:.+/)?}images/", "{above}labels/", "dataset.yaml"),
        (("train/a.png", "train/a.txt"), "", "", "classes.txt"),
    ],
)
def test_yolo(tmp_path, files, match, path, names):
    said = "names: [nodule]\n" if names.endswith(".yaml") else "nodule\n"
    tree(tmp_path, {files[0]: picture(), files[1]: LINE, names: said})
    by_hand = f"""
modality: xray
cases: {{match: "{match}{{picture:.+}}.{EXT}"}}
annotations: [{{kind: yolo, path: "{path}{{picture}}.txt", names: {names}}}]
"""
    (record,) = check(tmp_path, "yolo", by_hand, "modality: xray")
    (region,) = record.regions
    assert region.raw == "nodule"
    assert tuple(region.box) == pytest.approx((5, 9, 15, 21))


def test_yolo_without_text_files_beside_pictures_is_told_so(tmp_path):
    tree(tmp_path, {"data.yaml": "names: [a]", "a.png": picture(), "README.txt": "of Roboflow"})
    assert "no labels/ beside images/, and no text files beside pictures" in refused(tmp_path, "yolo")


XML = """<annotation><size><width>40</width><height>30</height></size><object><name>RBC</name>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>14</xmax><ymax>17</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize(
    ("files", "match", "path"),
    [
        (("JPEGImages/a.jpg", "Annotations/a.xml"), "JPEGImages/{picture:.+}.", "Annotations/{picture}.xml"),
        (
            ("VOCdevkit/VOC2012/images/a.png", "VOCdevkit/VOC2012/Annotations/a.xml"),
            "{set0}/{set1}/images/{picture:.+}.",
            "{set0}/{set1}/Annotations/{picture}.xml",
        ),
        (("train/a.jpg", "train/a.xml"), "{picture:.+}.", "{picture}.xml"),
    ],
)
def test_voc(tmp_path, files, match, path):
    tree(tmp_path, {files[0]: picture(), files[1]: XML})
    by_hand = f"""
modality: microscopy
cases: {{match: "{match}{EXT}"}}
annotations: [{{kind: voc, path: "{path}"}}]
"""
    (record,) = check(tmp_path, "voc", by_hand, "modality: microscopy")
    assert [tuple(region.box) for region in record.regions] == [(4, 5, 14, 17)]


@pytest.mark.parametrize("name", ["class_folders", "imagefolder"])
@pytest.mark.parametrize(("start", "match"), [("", ""), ("train/", "{split:train}/")])
def test_class_folders(tmp_path, name, start, match):
    tree(tmp_path, {f"{start}normal/a.png": picture(), f"{start}pneumonia/deep/b.PNG": picture(1)})
    by_hand = f"""
modality: xray
cases: {{match: "{match}{{class}}/{{picture:.+}}.{EXT}"}}
annotations: [{{kind: classes, value: "{{class}}"}}]
"""
    found = check(tmp_path, name, by_hand, "modality: xray")
    assert told(found) == {f"{start}normal/a": ["normal"], f"{start}pneumonia/deep/b": ["pneumonia"]}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("metadata.csv", "file_name,label\ntrain/a.png,normal\ntest/a.png,pneumonia\n"),
        (
            "metadata.jsonl",
            '{"file_name": "train/a.png", "label": "normal"}\n{"file_name": "test/a.png", "label": "pneumonia"}\n',
        ),
    ],
)
def test_imagefolder_with_a_table(tmp_path, table, text):
    tree(tmp_path, {table: text, "train/a.png": picture(), "test/a.png": picture(1)})
    by_hand = f"""
modality: xray
cases: {{match: "{{picture:.+}}.{EXT}"}}
tables: {{metadata: {{path: {table}, key: file_name, match: "{{path}}"}}}}
annotations: [{{kind: classes, value: "{{metadata.label}}"}}]
"""
    found = check(tmp_path, "imagefolder", by_hand, "modality: xray")
    assert told(found) == {"test/a": ["pneumonia"], "train/a": ["normal"]}


def test_imagefolder_says_what_its_table_lacks(tmp_path):
    root = tree(tmp_path, {"metadata.csv": "name,label\n", "a.png": picture()})
    assert "metadata.csv: no column 'file_name'; there are name, label" in refused(tmp_path, "imagefolder")
    save(root / "metadata.csv", "file_name,finding\n")
    assert "no column 'label'; say annotations" in refused(tmp_path, "imagefolder")
    (root / "metadata.csv").unlink()
    save(root / "train" / "metadata.csv", "file_name,label\n")
    assert "metadata.csv lies in train/; make that folder the root" in refused(tmp_path, "imagefolder")


def arrays(path: Path, labels: np.ndarray, many: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (many, 28, 28), dtype=np.uint8)
    every = {f"{split}_images": images + n for n, split in enumerate(("train", "val", "test"))}
    np.savez(path, **every, **{f"{split}_labels": labels for split in ("train", "val", "test")})


def test_medmnist(tmp_path):
    arrays(tmp_path / "data" / "pneumoniamnist_224.npz", np.array([[0], [1], [1]], np.uint8))
    by_hand = """
modality: xray
cases: {match: pneumoniamnist_224.npz, rows: {image: "{split}_images"}}
annotations: [{kind: classes, value: "{row.labels}", labels: {0: normal, 1: pneumonia}}]
"""
    found = check(tmp_path, "medmnist", by_hand)
    assert len(found) == 9
    assert Counter(region.label for record in found for region in record.regions) == {"normal": 3, "pneumonia": 6}


def test_medmnist_with_several_labels_a_picture(tmp_path):
    labels = np.zeros((3, 14), np.uint8)
    labels[0, [2, 6]] = 1
    arrays(tmp_path / "data" / "chestmnist.npz", labels)
    arrays(tmp_path / "data" / "retinamnist.npz", np.array([[0], [1], [4]]))
    arrays(tmp_path / "data" / "organmnist3d.npz", np.array([[0], [1], [4]]))
    assert "3 .npz files; say one" in refused(tmp_path, "medmnist")
    assert "its classes have no names" in refused(tmp_path, "medmnist", "cases: {match: retinamnist.npz}")
    assert "volumes are not read" in refused(tmp_path, "medmnist", "cases: {match: organmnist3d.npz}")
    opened = source_plan(tmp_path, "preset: medmnist\ncases: {match: chestmnist.npz}\n")
    first = next(record for record in records(opened) if record.regions)
    assert {region.raw for region in first.regions} == {"effusion", "pneumonia"}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.parametrize(
    ("name", "folder", "counts"),
    [
        ("coco", "rbc_wbc_coco", {"red_blood_cell": 2022, "white_blood_cell": 93}),
        ("yolo", "dental_yolo", {"Cavity": 48, "Fillings": 258, "impacted_tooth": 25, "Implant": 90}),
        ("voc", "bccd_voc", {"red_blood_cell": 1300, "white_blood_cell": 116, "platelet": 111}),
        (
            "class_folders",
            "us_folders_derived/Lung_Ultrasound",
            {"normal": 26, "covid_19": 13, "viral_pneumonia": 8, "bacterial_pneumonia": 3},
        ),
    ],
)
def test_real_folders_have_the_labels_that_were_counted(tmp_path, name, folder, counts):
    head = HEAD.replace("root: data", f"root: {DATA / folder}")
    (tmp_path / "toy.yaml").write_text(f"{head}preset: {name}\nmodality: microscopy\n")
    opened = plan.open_source(str(tmp_path / "toy.yaml"), SETTINGS, vocabulary.load())
    labels = Counter(region.label or region.raw for record in records(opened) for region in record.regions)
    assert labels == counts


# ---- how a preset and a descriptor go together


def test_what_the_descriptor_says_wins_and_the_rest_stays(tmp_path):
    tree(tmp_path, {"case_00000/imaging.nii.gz": volume(), "case_00000/segmentation.nii.gz": label_map(1, 2)})
    opened = source_plan(
        tmp_path,
        """
preset: kits
modality: mr
cases: {group: "{case}-g", unlabelled: keep}
annotations: {complete: true, labels: {2: liver tumor}}
display: {window: {percentile: [1, 99]}}
""",
    )
    found = opened.descriptor
    assert (found.preset, found.modality, found.cases.unlabelled) == ("kits", "mr", "keep")
    assert found.cases.match == ("**/{case:case_[0-9]+}/imaging.nii.gz",)
    (spec,) = found.specs
    assert (spec.complete, spec.labels) == (True, {"1": "kidney", "2": "liver tumor", "3": "kidney cyst"})
    own = 'preset: kits\nannotations: [{kind: labelmap, path: "{folder}/segmentation.nii.gz", labels: {1: liver}}]\n'
    (spec,) = source_plan(tmp_path, own).descriptor.specs
    assert spec.labels == {"1": "liver"}


def test_merging_goes_mapping_by_mapping():
    filled = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 1}, {"e": 2, "f": 3}], "g": "x"}
    said = {"z": 0, "a": {"c": [9]}, "d": {"e": 5}, "g": {"h": 1}}
    assert preset.merged(filled, said) == {
        "z": 0,
        "a": {"c": [9], "b": 1},
        "d": [{"e": 5}, {"e": 5, "f": 3}],
        "g": {"h": 1},
    }


def test_strings_stay_strings_through_the_copy(tmp_path):
    tree(tmp_path, {"no/a.png": picture(), "012/b.png": picture(1)})
    said = (
        'preset: class_folders\nmodality: xray\nannotations: {labels: {no: normal, 012: pneumonia}}\ncitation: "1.10"\n'
    )
    opened = source_plan(tmp_path, said)
    assert load_yaml(opened.text, "copy")["citation"] == "1.10"
    assert told(records(opened)) == {"012/b": ["pneumonia"], "no/a": ["normal"]}


def test_a_descriptor_without_a_preset_is_kept_to_the_letter():
    text = "# a comment\nid: toy   # stays\n"
    assert preset.expanded(text, "toy.yaml", lambda source, root: Path(root)) == text


def test_the_root_is_found_as_it_is_for_every_descriptor(tmp_path):
    tree(tmp_path, {"normal/a.png": picture()})
    (tmp_path / "toy.yaml").write_text(HEAD.replace("root: data\n", "") + "preset: class_folders\nmodality: xray\n")
    (tmp_path / "data").rename(tmp_path / "toy")
    for settings in (
        Settings(sources=(), data=str(tmp_path)),
        Settings(sources=(), roots={"toy": str(tmp_path / "toy")}),
    ):
        opened = plan.open_source(str(tmp_path / "toy.yaml"), settings, vocabulary.load())
        assert (opened.root, len(opened.cases.cases)) == ((tmp_path / "toy").resolve(), 1)
    elsewhere = Settings(sources=(), data=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no such folder; say where the data is with --data or --root"):
        plan.open_source(str(tmp_path / "toy.yaml"), elsewhere, vocabulary.load())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told_so(tmp_path):
    root = tree(tmp_path, {"a/b.png": picture()})
    (root / "a").chmod(0)
    try:
        assert "Permission denied" in refused(tmp_path, "class_folders", "modality: xray")
    finally:
        (root / "a").chmod(0o755)


def test_an_unknown_preset_is_told_with_the_near_name(tmp_path):
    tree(tmp_path, {"a.txt": ""})
    assert "unknown preset 'nnunetv2'; did you mean 'nnunet_v2'?" in refused(tmp_path, "nnunetv2")
    assert "preset should be a name, is list" in refused(tmp_path, "[msd]")


def test_a_preset_of_ones_own_is_a_file_in_the_working_directory(tmp_path, monkeypatch):
    tree(tmp_path, {"a.png": picture()})
    code = (
        'def fill(root, said):\n    return {"modality": "ct", "cases": {"match": "{stem}.png", "unlabelled": "keep"}}\n'
    )
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert len(records(source_plan(tmp_path, "preset: ./mine.py\n"))) == 1


def test_every_preset_is_tested_here_and_shows_its_tree():
    mine = Path(__file__).read_text()
    for name in discovery.names("sources/presets", ".py"):
        module = discovery.module("preset", "sources.presets", name)
        assert f'"{name}"' in mine
        assert module.__doc__.count("```") == 2
