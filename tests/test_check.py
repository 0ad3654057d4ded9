"""`medgloss check`: what a curator is told of a source."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.check import Checked, check, spread
from pipeline.errors import UserError
from pipeline.settings import Settings

HEAD = """
schema: medgloss/1
id: toy
title: A toy
license: {name: CC0-1.0, redistribute: true}
egress: local
modality: xray
body_part: chest
"""
FOLDERS = """
cases: {match: "{class}/{stem}.png", id: "{class}/{stem}"}
annotations:
  - {kind: classes, value: "{class}"}
"""

Checker = Callable[..., Checked]


@pytest.fixture
def checked(tmp_path: Path, encoded: Callable[..., bytes]) -> Checker:
    """Check a source of 32x24 px pictures: `checked(yaml, ["a/1.png"], {"t.csv": "…"})`."""

    def run(yaml: str, names: list[str], files: dict[str, str] | None = None, **how: object) -> Checked:
        (tmp_path / "toy.yaml").write_text(f"{HEAD}root: data\n{yaml}")
        pixels = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
        for name in names:
            (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name).write_bytes(encoded(pixels))
        for name, text in (files or {}).items():
            (tmp_path / "data" / name).write_text(text)
        arguments = {"out": None, **how}
        return check(str(tmp_path / "toy.yaml"), Settings(sources=()), **arguments)  # type: ignore[arg-type]

    return run


def test_a_source_that_is_as_expected_is_ok(phantom_folder: Path) -> None:
    found = check(str(phantom_folder / "blood.yaml"), Settings(sources=()), None)
    lines = found.text.splitlines()
    assert found.ok
    assert lines[:5] == [
        "phantom_blood: Drawn blood smears with COCO boxes",
        "modality      Microscopy, blood",
        "licence       CC0-1.0: may be redistributed, commercial use allowed",
        "egress        any",
        "cases         12 listed, 12 with a picture; expected 12: ok",
    ]
    assert "read          12 of 12 cases" in lines
    assert "sizes         480x360 to 480x360 px" in lines
    assert "unclaimed: 0 files that no template speaks of" in lines


def test_a_volume_tells_sides_window_and_geometry(phantom_folder: Path) -> None:
    text = check(str(phantom_folder / "torso_dicom.yaml"), Settings(sources=()), None).text
    assert "pictures      80 cut, 60 not selected, 20 kept" in text
    assert "      15 kidney (left 8, right 7)" in text
    assert "windows       soft_tissue -160..240 (20)" in text
    assert "geometry      geometry known (20), plane axial (20)" in text


def test_the_text_holds_no_absolute_path(phantom_folder: Path) -> None:
    for name in ("chest", "torso"):
        assert str(phantom_folder) not in check(str(phantom_folder / f"{name}.yaml"), Settings(sources=()), None).text


def test_a_count_that_differs_from_the_expected_one_is_not_ok(checked: Checker) -> None:
    found = checked(FOLDERS + "expect: {cases: 3, regions: 2}\n", ["normal/1.png", "normal/2.png"])
    assert not found.ok
    assert "cases         2 listed, 2 with a picture; expected 3: differs" in found.text
    assert "regions       2 found; expected 2: ok" in found.text


def test_regions_are_not_compared_where_only_some_cases_are_read(checked: Checker) -> None:
    names = [f"normal/{n}.png" for n in range(6)]
    found = checked(FOLDERS + "expect: {cases: 6, regions: 6}\n", names, limit=2)
    assert found.ok
    assert "regions       2 found; expected 6: not compared, not all cases were read" in found.text
    assert "read          2 of 6 cases, evenly spread; what follows is of these" in found.text


def test_a_source_none_of_whose_cases_can_be_read_is_not_ok(checked: Checker) -> None:
    found = checked(FOLDERS, ["normal/1.png"], {"normal/1.png": "no picture"})
    assert not found.ok
    assert "can not be read:\n       1 case   undecodable, e.g. toy/normal/1: " in found.text


def test_an_unknown_label_stands_beside_its_near_name(checked: Checker) -> None:
    found = checked(FOLDERS, ["pneumona/1.png", "pneumona/2.png", "normal/1.png"])
    assert "labels: 1 in the vocabulary, 1 not" in found.text
    assert "       2 'pneumona' is not in the vocabulary; near 'pneumonia'" in found.text


def test_labels_of_the_descriptor_that_no_picture_has_are_named(checked: Checker) -> None:
    yaml = FOLDERS.replace('value: "{class}"', 'value: "{class}", labels: {P: pneumonia, N: normal, X: {drop: true}}')
    found = checked(yaml, ["N/1.png"])
    assert "       1 of the descriptor's labels on no picture: pneumonia" in found.text


JOINED = """
cases: {match: "{stem}.png", id: "{stem}", group: "{t.patient}"}
tables:
  t: {path: t.csv, key: file, match: "{stem}"}
annotations:
  - {kind: classes, value: "{t.label}"}
"""


def test_rows_without_a_picture_and_cases_without_a_row_are_counted(checked: Checker) -> None:
    table = "file,patient,label\na,p1,normal\nb,p1,pneumonia\nlost,p2,normal\nb,p1,pneumonia\n"
    found = checked(JOINED, ["a.png", "b.png", "extra.png"], {"t.csv": table})
    assert "cases         4 listed, 3 with a picture" in found.text
    assert "table t: 3 rows" in found.text
    assert "       1 rows without a picture, e.g. lost" in found.text
    assert "       1 cases without a row, e.g. extra" in found.text
    assert "       1 keys in more than one row" in found.text
    assert (
        "       1 case   missing_image, e.g. toy/lost: table t has a row for it, but there is no picture" in found.text
    )
    assert "groups        2; the largest, p1, has 2 cases" in found.text


def test_keys_and_names_of_a_source_that_hashes_its_ids_are_not_shown(
    checked: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDGLOSS_ID_KEY", "0123456789abcdef")
    table = "file,patient,label\nmeier,huber,normal\nschulz,huber,normal\n"
    yaml = JOINED + "privacy: {hash_ids: true}\n"
    found = checked(yaml, ["meier.png"], {"t.csv": table, "notes of wagner.txt": "x"})
    assert found.ok
    assert "       1 rows without a picture\n" in found.text
    assert "       1 *.txt" in found.text
    assert not any(name in found.text for name in ("meier", "huber", "schulz", "wagner"))


def test_unclaimed_files_are_grouped_by_folder_and_suffix(checked: Checker) -> None:
    files = {f"normal/{n}.json": "{}" for n in range(3)} | {"README": "x", "normal/1.2.840.4711": "x"}
    text = checked(FOLDERS, ["normal/1.png"], files).text
    assert text.endswith(
        "unclaimed: 5 files that no template speaks of\n       3 normal/*.json\n       1 README\n"
        "       1 normal/1.2.840.4711"
    )


def test_rejected_regions_are_counted_with_one_example(checked: Checker) -> None:
    size = "<size><width>32</width><height>24</height></size>"
    box = "<object><name>normal</name><bndbox>{}<ymin>1</ymin><ymax>9</ymax></bndbox></object>"
    inside, outside = (box.format(f"<xmin>{x}</xmin><xmax>{x + 8}</xmax>") for x in (1, 90))
    xml = f"<annotation>{size}{inside}{outside}</annotation>"
    yaml = """
cases: {match: "{stem}.png", id: "{stem}"}
annotations:
  - {kind: voc, path: "{stem}.xml"}
"""
    text = checked(yaml, ["a.png"], {"a.xml": xml}).text
    assert "regions kept  1 of 2" in text
    assert "rejected:\n       1 region box_outside, e.g. toy/a/image/r001: " in text


def test_the_contact_sheet_shows_twelve_pictures_with_their_boxes(phantom_folder: Path, tmp_path: Path) -> None:
    check(str(phantom_folder / "blood.yaml"), Settings(sources=()), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * (384 + 14), 4 * 384, 3)
    first = sheet[14 : 14 + 288, :384]  # 480x360 px, drawn at 384x288
    assert (first == (255, 65, 54)).all(axis=2).sum() > 100  # the first colour of the boxes
    tiles = [
        sheet[row * 398 + 14 + 144, column * 384 + 50 : column * 384 + 330] for row in range(3) for column in range(4)
    ]
    assert all(tile.std() > 5 for tile in tiles)


def test_the_contact_sheet_fills_from_the_cases_that_can_be_read(checked: Checker, tmp_path: Path) -> None:
    names = [f"normal/{n}.png" for n in range(8)]
    checked(FOLDERS, names, dict.fromkeys(names[:6], "bad"), out=tmp_path / "sheet.png")
    sheet = Image.open(io.BytesIO((tmp_path / "sheet.png").read_bytes()))
    assert sheet.size == (4 * 384, 384 + 14)  # two pictures, one row


def test_a_sheet_that_can_not_be_written_is_a_users_mistake(checked: Checker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/sheet\.png"):
        checked(FOLDERS, ["normal/1.png"], out=tmp_path / "file" / "sheet.png")


def test_spread_takes_the_same_items_in_every_run() -> None:
    assert spread(range(10), 3) == [1, 5, 8]
    assert spread(range(3), 12) == [0, 1, 2]
    assert spread([], 5) == []
    assert spread(range(5), 0) == []


def test_what_the_limits_cost_is_told_by_label(checked: Checker) -> None:
    yaml = """
cases: {match: "{stem}.png", id: "{stem}"}
annotations:
  - {kind: labelme, path: "{stem}.json"}
"""
    outline = '{"label": "%s", "shape_type": "polygon", "points": [[1, 1], [%d, 1], [%d, 9], [1, 9]]}'
    shapes = ", ".join(outline % (label, x, x) for label, x in (("nodule", 4), ("nodule", 5), ("pneumonia", 30)))
    text = checked(yaml, ["a.png"], {"a.json": f'{{"shapes": [{shapes}]}}'}).text
    assert "regions kept  1 of 3" in text
    assert "too small     nodule (2)\n" in text
