"""`medgloss list`: the catalog's lines, one entry in full, and what of it lies in a data folder."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import conftest
import miniatures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline import catalog, discovery, inventory, vocabulary
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Origin
from pipeline.strict import dump_yaml, load_yaml
from sources import listing, preset
from sources.cases import plan
from sources.descriptor import Descriptor

WORDS = vocabulary.load()
ENTRIES = discovery.names("sources/catalog", ".yaml")
HEAD = f"{conftest.HEAD}modality: xray\nroot: toy_set\n"
PAIRS = """
cases: {match: "images/{stem}.png", id: "{stem}"}
annotations:
  - {kind: mask, path: "masks/{stem}.png", label: liver}
expect: {cases: 3}
"""


def described(yaml: str, head: str = HEAD) -> Descriptor:
    return preset.without_data(head + yaml, "toy.yaml")


class Looked(NamedTuple):
    """One set of a data folder, as it was printed."""

    head: str
    """Status and count."""
    absent: list[str]


Look = Callable[..., Looked]


@pytest.fixture
def look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Look:
    """Say what lies in a folder: `look(yaml, ["images/a.png"], {"t.csv": "…"})`; pictures are empty files."""

    def run(yaml: str, names: list[str], files: dict[str, str] | None = None) -> Looked:
        (tmp_path / "toy.yaml").write_text(HEAD + yaml)
        for name, text in {**dict.fromkeys(names, ""), **(files or {})}.items():
            path = tmp_path / "data" / "toy_set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert main(["list", str(tmp_path / "toy.yaml"), "--missing", str(tmp_path / "data")]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first.startswith("toy  ")
        assert all(line.startswith("  ") for line in lines)
        return Looked(" ".join(first.split()[1:]), [line.strip() for line in lines])

    return run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said.strip()


# ---- list

CELLS = """
title: Blood cells of every kind, drawn by three readers on smears of one hospital in one year
license: {name: LicenseRef-of-the-hospital-itself}
id: cells_of_blood
egress: zero_retention
modality: microscopy
cases: {match: "{stem}.png"}
annotations:
  - {kind: classes, value: "{stem}"}
  - {kind: voc, path: "{stem}.xml"}
  - {kind: mask, path: "{stem}_mask.png", label: cell}
expect: {cases: 224316}
unverified: Whether boxes count from 0.
"""
CLIPS = """
title: Clips
license: {name: "{t.licence}", each: {MIT: {redistribute: true}}}
id: clips
egress: any
modality: "{m}"
cases: {match: "{m}/{stem}.mp4"}
annotations:
  - {kind: intervals, path: "{stem}.txt", frame: Frame, label: Phase}
"""


def test_the_list_is_aligned_cut_and_marked():
    entries = [described(CELLS, "schema: medgloss/1"), described(CLIPS, "schema: medgloss/1")]
    assert catalog.overview(entries, WORDS, 106).splitlines() == [
        "  id              modality    task               cases  licence          egress          title",
        "? cells_of_blood  microscopy  segmentation, …  224,316  LicenseRef-of-…  zero_retention  Blood cells of e…",
        "  clips           several     phases                 –  several          any             Clips",
        "? not all of it could be compared with what is published: `medgloss list NAME` says what",
    ]


def test_a_wider_terminal_shows_more_of_the_title():
    entries = [described(CELLS, "schema: medgloss/1")]
    lines = [catalog.overview(entries, WORDS, width).splitlines()[1] for width in (60, 128, 500)]
    assert lines[0].endswith("  Blood cells…")  # never less than that
    assert lines[1].endswith("  Blood cells of every kind, drawn by th…")
    assert len(lines[1]) == 128
    assert lines[2].endswith("on smears of one hospital in one year")


def test_a_list_without_a_doubt_has_no_mark():
    lines = catalog.overview([described(PAIRS)], WORDS, 110).splitlines()
    assert len(lines) == 2
    assert lines[1] == "  toy  xray      segmentation      3  CC0-1.0  any     A toy"


def test_the_command_lists_every_entry_within_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    until = lines.index("  (or any descriptor file: docs/adding-a-data-set.md)")
    rows = [line[2:].split()[0] for line in lines[1:until] if not line.startswith("? not all")]
    assert rows == ["id", *ENTRIES]
    assert max(len(line) for line in lines[:until]) <= 110
    assert "annotation kinds" in lines


TASKS = {
    "detection": "boxes coco cvat labelme labelstudio objects spheres voc yolo",
    "segmentation": "aperio labelmap mask mask_per_class rtstruct seg",
    "classification": "adapter classes multilabel",
    "phases": "intervals",
}


@pytest.mark.parametrize("kind", discovery.names("sources/layouts", ".py"))
def test_every_kind_has_a_task(kind):
    origin = discovery.module("annotation kind", "sources.layouts", kind).ORIGIN
    assert kind in TASKS[catalog.TASKS[origin]].split()


PRESETS = {
    "segmentation": "acdc brats kits msd nnunet_v1 nnunet_v2 totalsegmentator",
    "detection": "coco luna16 voc yolo",
    "classification": "class_folders imagefolder medmnist",
}


@pytest.mark.parametrize("name", discovery.names("sources/presets", ".py"))
def test_every_preset_has_a_task_before_its_data_is_there(name):
    assert discovery.module("preset", "sources.presets", name).ORIGIN in get_args(Origin)
    (task,) = catalog.tasks(described(f"preset: {name}\nannotations: {{complete: true}}\n"))
    assert name in PRESETS[task].split()


def test_annotations_that_an_entry_lists_go_before_those_of_its_preset():
    found = described('preset: kits\nannotations:\n  - {kind: classes, value: "{case}"}\n')
    assert catalog.tasks(found) == ["classification"]


def test_an_adapter_says_its_task_itself():
    yaml = 'cases: {match: "{stem}.png"}\nannotations: [{kind: adapter, adapter: "a.py:read", origin: detection}]\n'
    assert catalog.tasks(described(yaml)) == ["detection"]


def test_a_preset_from_outside_that_says_nothing_has_no_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def fill(root, said):\n    return {}\n")
    head = HEAD.replace("modality: xray\n", "")
    line = catalog.overview([described("preset: ./mine.py\n", head)], WORDS, 110).splitlines()[1]
    assert line == "  toy  –         –         –  CC0-1.0  any     A toy"


# ---- list NAME

FULL = """
sub_modality: "{m}"
body_part: abdomen
license: {name: CC-BY-4.0, url: "https://example.org/terms", redistribute: true}
citation: "Someone et al., A set of pictures of the abdomen with masks and tables, drawn twice, Journal 1, 2020"
url: https://example.org/set
checked: [the set's own page, the files themselves]
unverified: Whether label 2 is the left kidney.
cases: {match: ["train/{m}_{stem}.png", "test/{m}_{stem}.png"], id: "{stem}"}
tables: {t: {path: labels.csv, key: file}}
annotations:
  - {kind: mask, path: "masks/{stem}.png", encoding: indexed, labels: {1: liver, 2: {label: kidney, side: left}}}
  - {kind: multilabel, table: t, columns: [ascites, cyst], labels: {cyst: kidney cyst}}
  - {kind: boxes, table: t, box: [x, y, w, h], label: stone}
  - {kind: yolo, path: "boxes/{stem}.txt", names: names.txt, labels: {blur: {drop: true}}}
expect: {cases: 1228, regions: 1}
"""


def test_one_entry_is_shown_in_full():
    head = HEAD.replace("license: {name: CC0-1.0}\n", "")
    assert catalog.shown(described(FULL, head), WORDS, 80).splitlines() == [
        "toy: A toy",
        "modality      xray, abdomen",
        "task          segmentation, detection, classification",
        "size          1,228 cases, 1 region",
        "licence       CC-BY-4.0: may be redistributed, no commercial use",
        "              https://example.org/terms",
        "egress        any",
        "citation      Someone et al., A set of pictures of the abdomen with masks and",
        "              tables, drawn twice, Journal 1, 2020",
        "url           https://example.org/set",
        "checked       the set's own page",
        "              the files themselves",
        "unverified    Whether label 2 is the left kidney.",
        "labels        1: liver",
        "              2: left kidney",
        "              cyst: kidney cyst",
        "              ascites: ascites",
        "              stone: stone",
        "              blur: left out",
        "folder        toy_set/ (below --data)",
        "                train/{m}_{stem}.png  cases",
        "                test/{m}_{stem}.png   cases",
        "                labels.csv            table t",
        "                masks/{stem}.png      mask",
        "                boxes/{stem}.txt      yolo",
        "                names.txt             yolo",
    ]


def test_of_a_preset_its_own_tree_and_the_labels_laid_over_it_are_shown():
    head = HEAD.replace("modality: xray\nroot: toy_set\n", "")
    yaml = "preset: kits\nannotations: {complete: true, labels: {kidney: kidney}}\n"
    assert catalog.shown(described(yaml, head), WORDS, 110).splitlines()[1:] == [
        "modality      –",
        "task          segmentation",
        "size          –",
        "licence       CC0-1.0: not to be redistributed, no commercial use",
        "egress        any",
        "labels        kidney: kidney",
        "folder        toy/ (below --data)",
        "                what preset kits reads, for example:",
        "                  case_00000/imaging.nii.gz",
        "                  case_00000/segmentation.nii.gz          of KiTS21 aggregated_MAJ_seg.nii.gz",
    ]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_of_the_catalog_can_be_shown(name, capsys):
    found = catalog.entry(name)
    assert main(["list", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name}: {found.title}"
    assert f"folder        {found.root}/ (below --data)" in lines


def test_faults_of_an_entry_with_a_preset_are_one_line():
    with pytest.raises(UserError, match=r"toy.yaml: unknown key 'modalty'; did you mean 'modality'"):
        described("preset: msd\nmodalty: ct\n")
    with pytest.raises(UserError, match="unknown preset 'msdd'; did you mean 'msd'"):
        described("preset: msdd\n")
    with pytest.raises(UserError, match=r"toy.yaml: annotations: complete"):
        described("preset: msd\nannotations: {complete: perhaps}\n")


# ---- list --missing


def test_a_whole_set_is_present(look):
    names = [f"{folder}/{stem}.png" for folder in ("images", "masks") for stem in "abc"]
    assert look(PAIRS, names) == ("present 3 of 3 cases", [])


def test_a_set_without_a_published_size_is_present(look):
    assert look(PAIRS.replace("expect: {cases: 3}", ""), ["images/a.png", "masks/a.png"]) == ("present 1 case", [])


def test_more_cases_than_published_are_told(look):
    names = [f"{folder}/{n}.png" for folder in ("images", "masks") for n in range(1005)]
    assert look(PAIRS, names) == ("present 1,005 of 3 cases, 1,002 more than published", [])


def test_pictures_without_a_mask_and_masks_without_a_picture_are_counted(look):
    names = ["images/a.png", "images/b.png", "images/c.png", "images/d.png", "images/e.png", "masks/a.png"]
    found = look(PAIRS.replace("3", "7"), [*names, "masks/x.png"])
    assert found.head == "partly 5 of 7 cases"
    assert found.absent == [
        "1 case without a picture, e.g. x: annotation 0 has a file for it",
        "4 cases without a file of masks/{stem}.png, e.g. b, c, d",
        "2 cases short of the published 7",
    ]


def test_a_template_without_one_file_is_told_instead_of_every_case(look):
    found = look(PAIRS, ["images/a.png", "images/b.png", "images/c.png"])
    assert found == ("partly 3 of 3 cases", ["mask: no file fits masks/{stem}.png"])


@pytest.mark.parametrize(
    "more",
    [
        '- {kind: mask, path: "masks/{stem}.png", label: liver, complete: true, missing: negative}',
        '- {kind: yolo, path: "masks/{stem}.png", labels: {0: liver}, complete: true, no_file: negative}',
        '- {kind: labelmap, path: "masks/{stem}.png", labels: {1: liver}, optional: true}',
        '- {kind: mask, path: "masks/{stem}.png", label: liver}\n  - {kind: classes, value: "{stem}"}',
        '- {kind: mask, path: "masks/{stem}.png", label: liver}\n  - {kind: voc, path: "boxes/{stem}.xml"}',
    ],
)
def test_what_the_descriptor_lets_be_absent_is_not_told(look, more):
    yaml = f'cases: {{match: "images/{{stem}}.png", id: "{{stem}}"}}\nannotations:\n  {more}\nexpect: {{cases: 2}}\n'
    found = look(yaml, ["images/a.png", "images/b.png", "masks/a.png", "boxes/b.xml"])
    assert found == ("present 2 of 2 cases", [])


def test_a_label_map_that_must_be_there_is_told_beside_another_annotation(look):
    yaml = """
cases: {match: "{case}/ct.nii.gz", id: "{case}"}
annotations:
  - {kind: labelmap, path: "{folder}/seg.nii.gz", labels: {1: liver}}
  - {kind: classes, value: "{case}"}
"""
    found = look(yaml, ["c1/ct.nii.gz", "c1/seg.nii.gz", "c2/ct.nii.gz"])
    assert found == ("partly 2 cases", ["1 case without a file of {folder}/seg.nii.gz, e.g. c2"])


TABLED = """
cases: {match: "images/{stem}.png", id: "{stem}"}
tables: {t: {path: labels.csv, key: file}}
annotations: [{kind: classes, value: "{t.finding}"}]
expect: {cases: 3}
"""


def test_rows_without_a_picture_are_cases_that_are_absent(look):
    found = look(TABLED, ["images/a.png"], {"labels.csv": "file,finding\na,x\nb,y\nc,z\n"})
    assert found == (
        "partly 1 of 3 cases",
        [
            "2 cases without a picture, e.g. b, c: table t has a row for it",
            "2 cases short of the published 3",
        ],
    )


def test_a_table_that_is_not_there_is_told_and_pictures_are_counted(look):
    found = look(TABLED, ["images/a.png", "images/b.png", "images/c.png"])
    assert found == ("partly 3 of 3 cases", ["table t: labels.csv is not there"])


def test_a_folder_in_which_nothing_fits_is_partly_there(look):
    found = look(TABLED, ["more/images/a.png"], {"labels.csv": "file,finding\na,x\n"})
    assert found == (
        "partly 0 of 3 cases",
        ["cases: no file fits images/{stem}.png", "3 cases short of the published 3"],
    )


def test_a_part_that_was_not_fetched_is_named(look):
    yaml = PAIRS.replace('"images/{stem}.png"', '["images/{stem}.png", "test/{stem}.png"]')
    found = look(yaml, ["images/a.png", "masks/a.png"])
    assert found.absent == ["2 cases short of the published 3", "cases: no file fits test/{stem}.png"]


def test_another_suffix_that_no_file_has_is_no_fault_of_a_whole_set(look):
    yaml = PAIRS.replace('"images/{stem}.png"', '["images/{stem}.png", "images/{stem}.jpg"]').replace("3", "1")
    assert look(yaml, ["images/a.png", "masks/a.png"]) == ("present 1 of 1 case", [])


COCO = """
cases: {match: "{split}/{stem}.png", id: "{split}/{stem}"}
annotations: [{kind: coco, path: "{split}/boxes.json"}]
"""


def test_the_json_of_one_split_that_is_not_there_is_counted_by_its_cases(look):
    json = '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}'
    found = look(COCO, ["train/a.png", "val/b.png", "val/c.png"], {"train/boxes.json": json})
    assert found == ("partly 3 cases", ["2 cases without a file of {split}/boxes.json, e.g. val/b, val/c"])


def test_without_any_json_pictures_are_counted(look):
    assert look(COCO, ["train/a.png"]) == ("partly 1 case", ["coco: no file fits {split}/boxes.json"])


def test_the_names_of_classes_are_a_file_too(look):
    yaml = 'cases: {match: "{stem}.png"}\nannotations: [{kind: yolo, path: "{stem}.txt", names: data.yaml}]\n'
    assert look(yaml, ["a.png", "a.txt"]) == ("partly 1 case", ["yolo: data.yaml is not there"])


def test_a_body_without_one_of_its_channels_is_counted(look):
    yaml = """
cases: {match: "{case}/{channel:t1|flair}.nii.gz", id: "{case}"}
channels: {files: {t1: T1, flair: FLAIR}}
annotations: [{kind: labelmap, path: "{case}/seg.nii.gz", labels: {1: tumor}}]
"""
    names = ["c1/t1.nii.gz", "c1/flair.nii.gz", "c1/seg.nii.gz", "c2/t1.nii.gz", "c2/seg.nii.gz"]
    assert look(yaml, names) == ("partly 2 cases", ["1 case without the channel FLAIR, e.g. c2"])


def test_files_of_rows_count_by_row_and_a_pointer_is_told(look, tmp_path):
    folder = tmp_path / "data" / "toy_set"
    folder.mkdir(parents=True)
    rows = [{"image": {"bytes": b"no picture" * 9, "path": None}, "label": "x"}] * 4
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-0.parquet")
    yaml = """
cases: {match: "train-{n}.parquet", rows: {image: image}}
annotations: [{kind: classes, value: "{row.label}"}]
expect: {cases: 8}
"""
    found = look(yaml, [], {"train-1.parquet": "version https://git-lfs.github.com/spec/v1\n"})
    assert found.head == "partly 4 of 8 cases"
    assert found.absent == [
        "train-1.parquet can not be read: a pointer of git LFS; `git lfs pull` fetches it",
        "4 cases short of the published 8",
    ]


MSD = "preset: msd\ncases: {group: '{case}'}\n"
PAIR = '{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}'
JSON = f'{{"modality": {{"0": "CT"}}, "labels": {{"1": "liver"}}, "training": [{PAIR}]}}'


def test_a_preset_finds_its_files_in_the_folder(look):
    found = look(MSD, ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"], {"dataset.json": JSON})
    assert found == ("present 1 of 1 case", [])


def test_a_preset_whose_file_is_damaged_is_one_line(look):
    found = look(MSD, ["imagesTr/a.nii.gz"], {"dataset.json": JSON[:40]})
    assert found.head.startswith("broken ")
    assert found.head.endswith("dataset.json: not JSON")
    assert found.absent == []


def test_a_root_that_is_a_file_is_one_line(look, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "toy_set").write_text("an archive, most likely")
    found = look(PAIRS, [])
    assert found == (f"broken {tmp_path}/data/toy_set: should be a folder, is a file", [])


def test_a_table_that_does_not_fit_is_one_line(look):
    found = look(TABLED, ["images/a.png"], {"labels.csv": "name;finding\na;x\n"})
    assert found.head.startswith("broken table t: no column 'file': the first line has 1 ';'")


def test_a_message_that_quotes_a_damaged_file_is_printable_and_has_an_end(look):
    found = look(TABLED, ["images/a.png"], {"labels.csv": "\x1b[31m" + ",".join("z" * 40 + str(n) for n in range(30))})
    assert found.head.startswith("broken table t: no column 'file'. Known: \ufffd[31mzzz")
    assert len(found.head) == len("broken ") + inventory.MOST_SAID + len("…")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may list every folder")
def test_a_folder_that_may_not_be_listed_is_one_line(look, tmp_path):
    closed = tmp_path / "data" / "toy_set" / "images"
    closed.mkdir(parents=True)
    closed.chmod(0)
    found = look(PAIRS, [])
    closed.chmod(0o700)
    assert found.head == f"broken {closed}/: Permission denied; what lies in it would be missing"


def test_a_set_that_is_asked_for_by_name_says_where_it_was_looked_for(look, tmp_path):
    (tmp_path / "data").mkdir()
    assert look(PAIRS, []) == (f"absent no {tmp_path}/data/toy_set and no {tmp_path}/data/toy", [])


def test_the_folder_may_be_named_like_the_id(look, tmp_path):
    (tmp_path / "data" / "toy" / "images").mkdir(parents=True)
    (tmp_path / "data" / "toy" / "images" / "a.png").touch()
    assert look(PAIRS, []).head == "partly 1 of 3 cases"


def test_two_sets_in_one_folder_list_it_once(tmp_path, monkeypatch):
    listed = []
    walk = listing.walk
    monkeypatch.setattr(listing, "walk", lambda root: listed.append(root) or walk(root))
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(HEAD.replace("id: toy", f"id: {name}") + PAIRS)
    (tmp_path / "data" / "toy_set" / "images").mkdir(parents=True)
    (tmp_path / "data" / "toy_set" / "images" / "a.png").touch()
    text = inventory.missing(tmp_path / "data", [str(tmp_path / f"{name}.yaml") for name in ("one", "two")])
    assert text.count("1 of 3 cases") == 2
    assert listed == [tmp_path / "data" / "toy_set"]


def test_absent_sets_of_the_catalog_are_only_counted(capsys, tmp_path):
    assert main(["list", "--missing", str(tmp_path)]) == 0
    said = f"0 present, 0 partly, 0 broken, {len(ENTRIES)} absent"
    assert capsys.readouterr().out == f"{said}; `medgloss list NAME` shows the folder that is looked for\n"


def test_mistakes_of_the_command(capsys, tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        said = refused(capsys, "list", "--missing", str(tmp_path / name))
        assert said == f"medgloss: {tmp_path / name}: no such folder; name the one that holds the data sets' folders"
    assert "unknown source 'bcdd'; did you mean 'bccd'?" in refused(capsys, "list", "bcdd")
    assert "unknown source 'bcdd'" in refused(capsys, "list", "bcdd", "--missing", str(tmp_path))
    assert "no such file" in refused(capsys, "list", str(tmp_path / "x.yaml"))
    for wrong in (["list", "--missing"], ["list", "bccd", "msd"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


# ---- the miniatures


@pytest.fixture(scope="module")
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder with the miniature of every entry."""
    data = tmp_path_factory.mktemp("small_sets")
    for name in miniatures.NAMES:
        miniatures.write(data, miniatures.load(name)["files"])
    return data


def pictured(name: str) -> int:
    """Cases of a miniature that have a picture."""
    expect = miniatures.load(name)["expect"]
    return len(expect["cases"]) - expect.get("rejected", {}).get("missing_image", 0)


def test_a_folder_of_miniatures_holds_a_part_of_every_set(small_sets):
    *lines, counts = inventory.missing(small_sets).splitlines()
    heads = {line.split()[0]: line.split()[1:] for line in lines if not line.startswith(" ")}
    known = [name for name in ENTRIES if name in miniatures.NAMES]
    assert {name: heads[name][1] for name in known} == {name: f"{pictured(name):,}" for name in known}
    assert {heads[name][0] for name in known} == {"partly"}
    assert counts.startswith(f"0 present, {len(known)} partly, 0 broken, {len(ENTRIES) - len(known)} absent;")


@pytest.mark.parametrize("name", [name for name in ENTRIES if name in miniatures.NAMES])
def test_a_miniature_is_the_whole_of_a_set_of_its_size(name, small_sets, tmp_path):
    entry = load_yaml((discovery.ROOT / "sources" / "catalog" / f"{name}.yaml").read_text(), name)
    entry["expect"] = {"cases": str(pictured(name))}
    (tmp_path / f"{name}.yaml").write_text(dump_yaml(entry))
    first, *absent = inventory.missing(small_sets, [str(tmp_path / f"{name}.yaml")]).splitlines()
    count = f"{pictured(name):,} of {presented(pictured(name))}"
    rejected = miniatures.load(name)["expect"].get("rejected", {})
    lacking = {"missing_image", "missing_mask"}
    if any("path" in annotation for annotation in entry["annotations"]):  # a class in the name lacks no file
        lacking.add("unlabelled")
    if rejected.keys() & lacking:
        assert first.split()[:2] == [name, "partly"]
        assert len(absent) >= 1
    else:
        assert (first, absent) == (f"{name}  present  {count}", [])


def presented(count: int) -> str:
    return f"{count:,} case{'' if count == 1 else 's'}"


def test_the_miniature_of_the_guide_gives_what_it_expects(tmp_path):
    guide = (discovery.ROOT / "docs" / "adding-a-data-set.md").read_text()
    mini = yaml.safe_load(
        next(block for block in re.findall(r"```text\n(.*?)```", guide, re.DOTALL) if "page: " in block)
    )
    miniatures.write(tmp_path, mini["files"])
    assert miniatures.unlisted(mini, "the_set") == []
    polyps = described(PAIRS.replace("label: liver", "label: polyp"))
    (case,) = plan(polyps, tmp_path / "the_set").cases
    assert [case.id] == mini["expect"]["cases"]
    (record,) = read_case(case, Source(polyps, tmp_path / "the_set", WORDS)).records
    regions = [["0001", WORDS.name(region.label, "", "en"), *region.box] for region in record.regions]
    assert regions == mini["expect"]["boxes"]
