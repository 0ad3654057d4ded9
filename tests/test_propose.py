"""`medgloss init`: small trees of every usual kind are recognised, and what is proposed opens as in a run."""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
import yaml
from propose_trees import APERIO, LABELME, NAMES, PICTURE, TREES, VOC, VOLUME, Tree, coco, dicom, numbered, table, write

from pipeline import discovery, plan, vocabulary
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.plan import SourcePlan
from pipeline.propose.guess import MODALITY
from pipeline.propose.proposal import propose
from pipeline.propose.text import Remarks, lines
from pipeline.settings import Settings
from pipeline.strict import load_yaml
from sources.descriptor import json_schema

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
SETTINGS = Settings(sources=())


class Found(NamedTuple):
    """A proposal, opened."""

    name: str
    text: str
    keys: dict[str, Any]
    plan: SourcePlan

    @property
    def readable(self) -> list[str]:
        return [case.id for case in self.plan.cases.cases if case.files.get("image") and case.problem is None]

    def annotated(self, number: int = 0) -> int:
        """Cases that have a file or a note of an annotation."""
        role = str(number)
        return sum(bool(case.files.get(role) or case.notes.get(role)) for case in self.plan.cases.cases)

    def files(self, number: int = 0) -> dict[str, tuple[str, ...]]:
        """Picture to the files of an annotation."""
        return {case.files["image"][0]: case.files.get(str(number), ()) for case in self.plan.cases.cases}

    @property
    def first(self) -> dict[str, Any]:
        """The first annotation; of a preset, what is laid over all."""
        said = self.keys.get("annotations", [])
        return said if isinstance(said, dict) else said[0] if said else {}


def proposed(root: Path) -> Found:
    """Propose a descriptor of a folder, write it beside it and open it, with a modality said."""
    found = propose(root, root.parent)
    path = root.parent / "proposed.yaml"
    path.write_text(found.text.replace(json.dumps(MODALITY), "xray"))
    opened = plan.open_source(str(path), SETTINGS, vocabulary.load())
    result = Found(found.name, found.text, load_yaml(found.text, "proposed"), opened)
    assert len(result.readable) == found.cases
    return result


def found_in(tmp_path: Path, files: Tree) -> Found:
    return proposed(write(tmp_path / "data", files))


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_is_taken_for_what_it_is(tree, tmp_path):
    known = TREES[tree]
    found = found_in(tmp_path, known.files)
    assert found.name == known.name, found.text
    assert len(found.readable) == known.cases, found.text
    assert known.annotated is None or found.annotated() == known.annotated, found.text
    constant = found.first.get("label")
    listed = found.first.get("labels", {}) | ({constant: constant} if constant else {})
    assert known.labels.items() <= listed.items(), found.text


# ---- pairs are never crossed


def test_masks_of_one_name_in_two_splits_stay_with_their_pictures(tmp_path):
    found = found_in(
        tmp_path, {f"{s}/{f}/{n}.png": PICTURE for s in ("train", "test") for f in ("img", "gt") for n in NAMES}
    )
    assert found.files() == {f"{s}/img/{n}.png": (f"{s}/gt/{n}.png",) for s in ("train", "test") for n in NAMES}


def test_label_maps_whose_folders_name_the_split_stay_with_their_volumes(tmp_path):
    found = found_in(
        tmp_path, {f"{f}{s}/{n}.nii.gz": VOLUME for f in ("images", "labels") for s in ("Tr", "Val") for n in NAMES}
    )
    assert found.files() == {f"images{s}/{n}.nii.gz": (f"labels{s}/{n}.nii.gz",) for s in ("Tr", "Val") for n in NAMES}


def test_pictures_of_a_split_without_masks_get_none_of_the_other(tmp_path):
    names = [f"{n:04}" for n in range(1, 7)]
    trained = {f"Training/{f}/{f}{n}.nii.gz": VOLUME for f in ("img", "label") for n in names}
    found = found_in(tmp_path, trained | {f"Testing/img/img{n}.nii.gz": VOLUME for n in names})
    assert found.files() == {
        **{f"Training/img/img{n}.nii.gz": (f"Training/label/label{n}.nii.gz",) for n in names},
        **{f"Testing/img/img{n}.nii.gz": () for n in names},
    }


def test_a_mask_beside_its_picture_is_no_case(tmp_path):
    found = found_in(
        tmp_path, {f"{c}/{n}{end}.png": PICTURE for c in ("a", "b") for n in range(4) for end in ("", "_mask")}
    )
    assert found.files() == {f"{c}/{n}.png": (f"{c}/{n}_mask.png",) for c in ("a", "b") for n in range(4)}


def test_a_json_file_for_each_split_speaks_of_the_pictures_of_that_split(tmp_path):
    pictures = {f"{s}/{n}.png": PICTURE for s in ("train", "test") for n in NAMES}
    boxes = {
        f"boxes_{s}.json": coco(*(f"{n}.png" for n in NAMES[: 6 if s == "train" else 3])) for s in ("train", "test")
    }
    found = found_in(tmp_path, pictures | boxes)
    assert found.name == "coco"
    told = {case.files["image"][0] for case in found.plan.cases.cases if case.notes}
    assert told == {f"train/{n}.png" for n in NAMES} | {f"test/{n}.png" for n in NAMES[:3]}


# ---- what a person has to say


def test_the_check_ends_with_one_line_until_a_modality_is_said(tmp_path, capsys):
    folder = write(tmp_path / "data", TREES["class_folders"].files)
    assert main(["init", str(folder), "--out", str(tmp_path / "x.yaml")]) == 0
    assert main(["check", str(tmp_path / "x.yaml")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unknown modality 'SAY which" in said
    assert "xray" in said  # the known ones are listed


def test_three_lines_are_to_be_edited_and_nothing_may_be_sent_before(tmp_path):
    found = found_in(tmp_path, TREES["class_folders"].files)
    assert found.keys["license"] == {"name": "unknown", "redistribute": "false", "commercial": "false"}
    assert found.keys["egress"] == "none"
    active = [line for line in found.text.splitlines() if "# say:" in line and not line.lstrip().startswith("#")]
    assert [line.split(":")[0].strip() for line in active] == ["title", "name", "egress", "modality"]


def test_a_modality_that_a_file_says_is_not_asked_for(tmp_path):
    assert "SAY" not in found_in(tmp_path, TREES["msd"].files).text
    assert "# modality: ct  # the preset says so" in found_in(tmp_path, TREES["msd"].files).text


def test_the_modality_of_dicom_is_that_of_the_headers(tmp_path):
    found = found_in(tmp_path, {f"{p}/{n}.dcm": dicom("MR", n) for p in ("A", "B") for n in range(3)})
    assert found.keys["modality"] == "mr"


def test_series_of_two_modalities_have_each_their_own_where_a_folder_says_it(tmp_path):
    files = {
        f"P{p}/{k}/{n}.dcm": dicom(m, n) for p in range(3) for k, m in (("CT", "CT"), ("PET", "PT")) for n in range(3)
    }
    found = found_in(tmp_path, files)
    assert found.keys["modality"] == "{case}"
    assert len(found.readable) == 6


def test_names_of_files_are_a_hint_to_the_modality_and_no_more(tmp_path):
    found = found_in(tmp_path, TREES["label_maps_beside_volumes"].files)
    assert found.keys["modality"] == MODALITY
    assert "names say ct" in found.text


def test_licence_files_are_pointed_at(tmp_path):
    assert (
        "SPDX identifier; see LICENSE, README.md"
        in found_in(tmp_path, {**numbered("{}.png"), "LICENSE": "", "README.md": ""}).text
    )


def test_nothing_that_names_a_label_gives_pictures_without_any(tmp_path):
    found = found_in(tmp_path, numbered("scans/{}.png"))
    assert "annotations" not in found.keys
    assert found.keys["cases"]["unlabelled"] == "keep"
    assert "# annotations: …  # say:" in found.text


def test_volumes_without_a_label_on_a_slice_show_all_slices(tmp_path):
    assert found_in(tmp_path, TREES["volumes_alone"].files).keys["slices"] == {"pick": "all"}
    assert found_in(tmp_path, TREES["volumes_in_class_folders"].files).keys["slices"] == {"pick": "all"}


# ---- labels


def test_labels_are_those_of_the_vocabulary_or_have_the_near_name_beside_them(tmp_path):
    text = found_in(
        tmp_path, {f"{c}/{n}.png": PICTURE for c in ("pneumonia", "Kidney_right", "cardiomegali") for n in range(4)}
    ).text
    assert "      pneumonia: pneumonia\n" in text
    assert "      Kidney_right: right kidney\n" in text
    assert "      cardiomegali: cardiomegali  # not in the vocabulary; near 'cardiomegaly'\n" in text


def test_every_second_class_of_a_long_list_is_found(tmp_path):
    rows = [(f"{n:04}.png", ("nv", "mel", "bkl", "df")[n % 4]) for n in range(1200)]
    found = found_in(tmp_path, {**{f"i/{name}": PICTURE for name, _ in rows}, "t.csv": table(("image", "dx"), *rows)})
    assert sorted(found.first["labels"]) == ["bkl", "df", "mel", "nv"]


def test_a_folder_of_normal_pictures_may_deny_the_others(tmp_path):
    assert "# negatives: {NORMAL: all}  # say:" in found_in(tmp_path, TREES["class_folders"].files).text


def test_class_numbers_of_a_preset_that_has_no_names_are_kept(tmp_path):
    sink = io.BytesIO()
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4).reshape(4, 1)
    np.savez(
        sink, **{f"{s}_{k}": v for s in ("train", "val", "test") for k, v in (("images", images), ("labels", labels))}
    )
    found = found_in(tmp_path, {"bloodmnist.npz": sink.getvalue()})
    assert (found.name, len(found.readable)) == ("preset medmnist", 12)
    assert found.first["labels"]["3"].startswith("immature granulocytes")


# ---- patients


def test_a_column_of_patients_groups_pictures(tmp_path):
    found = found_in(tmp_path, TREES["table_without_labels"].files)
    assert found.keys["cases"]["group"] == "{data.patient_id}"
    assert len({case.group for case in found.plan.cases.cases}) == 3


def test_folders_with_a_few_pictures_each_are_patients_and_large_ones_are_not(tmp_path):
    few = found_in(tmp_path / "few", {f"p{p:02}/{n}.png": PICTURE for p in range(8) for n in range(5)})
    assert few.keys["cases"]["group"] == "{case}"
    many = found_in(tmp_path / "many", {f"images_{p:02}/{p}_{n}.png": PICTURE for p in range(6) for n in range(120)})
    assert "group" not in many.keys["cases"]
    assert "# group: …  # say:" in many.text


# ---- the text


def test_the_same_folder_gives_the_same_text(tmp_path):
    files = TREES["masks_whose_names_say_what_they_show"].files
    one = found_in(tmp_path / "one", files)
    shuffled = sorted(files.items(), key=lambda item: item[0][::-1])
    other = found_in(tmp_path / "other", dict(shuffled))
    assert one.text == other.text


def test_the_text_tells_what_was_seen_and_what_is_left(tmp_path):
    text = found_in(
        tmp_path, {**numbered("images/{}.png", 12), **numbered("masks/{}.png", 12), "extra/a.nii.gz": VOLUME}
    ).text
    assert "# seen: 25 files\n#   24 .png, e.g. images/1.png\n#    1 .nii.gz, e.g. extra/a.nii.gz\n" in text
    assert "# found: mask; 12 cases, 100% of them annotated\n" in text
    assert "# not taken:\n#   1 .nii.gz, e.g. extra/a.nii.gz\n" in text


def test_a_second_data_set_below_is_named(tmp_path):
    one, other = TREES["msd"].files, TREES["nnunet_v2"].files
    files = {f"Task1/{name}": content for name, content in one.items()} | dict(other)
    assert "# also there: " in found_in(tmp_path, files).text


def test_the_root_is_found_from_where_the_file_will_lie(tmp_path):
    folder = write(tmp_path / "far" / "away" / "data", TREES["voc"].files)
    (tmp_path / "descriptors").mkdir()
    assert load_yaml(propose(folder, tmp_path / "descriptors").text, "x")["root"] == "../far/away/data"
    assert load_yaml(propose(folder, folder).text, "x")["root"] == "."


@pytest.mark.parametrize(
    "text",
    ["no", "012", "1.10", "a: b", "# a", "a #b", "- a", "[a]", "{a}", "'a", '"a"', "a\\d", "*", "&x", "!x", "%", "@",
     "`a", "|", ">", "~", "?", " a ", "ä", "漢", "a\tb", "\x85", "🩻", "", "a:", "null", "0x1", "1e3", "<<", "=",
     "---"],
)  # fmt: skip
def test_every_text_is_read_back_as_it_was(text):
    data = {"a": text, text: {"b": [text, text]}, "c": [{text: text, "d": {}}, {"e": text}], "f": []}
    remarks = Remarks({("a",): "say: x"}, {("f",): ["above"]}, {("c", 0): ["below"], (): ["end"]})
    assert load_yaml("\n".join(lines(data, remarks)), "x") == data


def test_proposals_are_valid_by_the_schema_that_editors_use(tmp_path):
    validator = jsonschema.Draft202012Validator(json_schema())
    for name in ("masks_with_a_suffix", "table_of_findings", "channels_beside_each_other", "videos_with_phases", "msd"):
        keys = yaml.safe_load(found_in(tmp_path / name, TREES[name].files).text)
        assert [error.message for error in validator.iter_errors(keys)] == [], name


# ---- folders that are not as they should be


@pytest.mark.parametrize("files", [{}, {"README.md": "x"}, {".hidden/a.png": PICTURE, "._a.png": PICTURE}])
def test_a_folder_without_data_is_refused(files, tmp_path):
    write(tmp_path / "data", {**files, "x.docx": ""})
    with pytest.raises(UserError, match="nothing here that medgloss can read"):
        propose(tmp_path / "data", tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        propose(tmp_path / "data", tmp_path)


def test_names_that_are_no_text_are_passed_over(tmp_path):
    folder = write(tmp_path / "data", TREES["class_folders"].files)
    try:
        (folder / os.fsdecode(b"NORMAL/\xff\xfe.jpg")).write_bytes(PICTURE)
    except OSError:
        pytest.skip("this file system has names of text only")
    (folder / "NORMAL" / "line\nfeed.jpg").write_bytes(PICTURE)
    found = propose(folder, tmp_path)
    assert "seen: 13 files" in found.text  # 12 pictures and the README
    assert "feed" not in found.text


def test_braces_and_stars_in_names_are_left_open(tmp_path):
    found = found_in(
        tmp_path, {f"set {{new}} *1/{c}/{n}.png": PICTURE for c in ("pneumonia", "normal") for n in range(4)}
    )
    assert len(found.readable) == 8


BROKEN = ["", "\0" * 40, "{", "[" * 50_000, "null", "[1]", '{"images": 5, "annotations": [], "categories": []}',
          '{"shapes": [1]}', '[{"data": 5, "annotations": 7}]', "<a", "<annotation/>", VOC[:60], APERIO, '"x',
          "a,b\n1,2", "image,label\na.png,1\nb.png,0\n", "names: [a, b]\n", "0 .5 .5 .1 .1\n", "frame\tx\n0\ty\n",
          json.dumps(LABELME), json.dumps(coco("a.png", "b.png")),
          '{"modality": {"0": "CT"}, "labels": {"1": "a"}, "training": [{"image": "i/a.nii.gz"}]}']  # fmt: skip
FOLDERS = ["images", "masks", "train", "NORMAL", "a", "p1", "{x}", "labelsTr", "annotations", "ünï", "a: b", "-x"]
STEMS = [
    "a",
    "b",
    "a_mask",
    "ct",
    "seg",
    "mask_a",
    "001",
    "dataset",
    "metadata",
    "a_t1",
    "a_flair",
    "{a}",
    "x (1)",
    "#",
]
SUFFIXES = [".png", ".jpg", ".nii.gz", ".nrrd", ".dcm", ".json", ".xml", ".txt", ".csv", ".npz", ".parquet", ".mp4", ""]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_lies_there_a_proposal_opens_or_one_line_says_why_there_is_none(seed, tmp_path):
    chance = random.Random(seed)
    files: dict[str, str] = {}
    for _ in range(chance.randint(1, 20)):
        path = "/".join([*chance.choices(FOLDERS[: seed % 5 + 1], k=chance.randint(0, 2)), chance.choice(STEMS)])
        path += chance.choice(SUFFIXES[: seed % 13 + 1])
        if not any(other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in files):
            files[path] = chance.choice(BROKEN)
    root = write(tmp_path / "data", files)
    try:
        propose(root, tmp_path)
    except UserError:
        return
    proposed(root)


# ---- real data

REAL = {
    "bccd_voc": ("preset voc", 110),
    "biomedparse_demo": ("mask", 18),
    "dcmqi_seg": ("seg", 2),
    "dental_yolo": ("preset yolo", 60),
    "fundus_idrid_yolo": ("preset yolo", 11),
    "hannover_cxr_csv": ("no annotation", 22),
    "itkultrasound_mha": ("labelmap", 4),
    "membrane_em": ("mask", 12),
    "mr_dicom_series": ("no annotation", 1),
    "msd_layout_derived": ("preset nnunet_v2", 16),
    "niivue_images": ("no annotation", 6),
    "pet_fnndsc": ("seg", 1),
    "pocus_video": ("multilabel, classes", 25),
    "pydicom_files": ("no annotation", 60),
    "pyradiomics_nrrd": ("labelmap", 3),
    "rbc_wbc_coco": ("preset coco", 90),
    "rtstruct_dicompyler": ("rtstruct", 1),
    "rtstruct_rtutils": ("rtstruct", 3),
    "sam_med2d_demo": ("mask", 5),
    "us_folders_derived": ("classes", 50),
}
"""Folder to what is proposed and its cases."""


@pytest.mark.parametrize("folder", REAL)
def test_a_real_data_set_is_taken_for_what_it_is(folder, tmp_path):
    if not (DATA / folder).is_dir():
        pytest.skip(f"no {folder} in {DATA}; MEDGLOSS_REAL_DATA names the folder")
    found = propose(DATA / folder, tmp_path)
    path = tmp_path / "proposed.yaml"
    path.write_text(found.text.replace(json.dumps(MODALITY), "xray"))
    opened = plan.open_source(str(path), SETTINGS, vocabulary.load())
    assert (found.name, found.cases) == REAL[folder], found.text
    assert sum(bool(case.files.get("image")) for case in opened.cases.cases) == found.cases
