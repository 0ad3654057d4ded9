"""Damaged annotation files: they are read, refused in one line, or give marks with their problems."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import runlength
from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from sources.annotation import Given, Marks
from sources.descriptor import AnnotationSpec, layout

COUNTS = [153, *([7, 23] * 9), 7, 770]
OUTLINE = {"counts": COUNTS, "size": [30, 40]}
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [5, 3, 10, 7]},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [5, 3, 10, 7], "segmentation": [[5, 3, 15, 3, 15, 10]]},
        {"id": 3, "image_id": 1, "category_id": 1, "bbox": [5, 3, 10, 7], "segmentation": OUTLINE},
    ],
    "categories": [{"id": 1, "name": "RBC"}],
}
LABELME = {
    "flags": {"blurred": True},
    "imageWidth": 40,
    "imageHeight": 30,
    "shapes": [
        {"label": "RBC", "points": [[5, 3], [15, 10]], "shape_type": "rectangle", "group_id": None},
        {"label": "RBC", "points": [[5, 3], [15, 3], [15, 10]], "shape_type": "polygon", "group_id": 1},
        {"label": "RBC", "points": [[5, 3], [15, 3]], "shape_type": "circle"},
        {"label": "RBC", "points": [[5, 3], [6, 4]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ],
}
SIZE = {"original_width": 40, "original_height": 30, "image_rotation": 0}
LABELSTUDIO = [
    {
        "data": {"image": "/data/upload/1/1a2b3c4d-a.png"},
        "annotations": [
            {
                "completed_by": {"id": 1},
                "was_cancelled": False,
                "result": [
                    {
                        "id": "a",
                        "type": "rectanglelabels",
                        "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 5, "rectanglelabels": ["RBC"]},
                    }
                    | SIZE,
                    {"type": "brushlabels", "value": {"rle": [0, 0, 18, 192], "brushlabels": ["RBC"]}} | SIZE,
                    {"type": "polygonlabels", "value": {"points": [[1, 2], [3, 4], [5, 1]], "polygonlabels": ["a"]}},
                    {"id": "c", "type": "choices", "value": {"choices": ["normal"]}},
                ],
            }
        ],
    },
    {
        "image": "b.png",
        "label": [{"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": ["RBC"]}],
        "annotator": 1,
    },
]
VOC = """<annotation><size><width>40</width><height>30</height></size><object><name>RBC</name><difficult>0</difficult>
<bndbox><xmin>6</xmin><ymin>4</ymin><xmax>15</xmax><ymax>10</ymax></bndbox>
<polygon><x1>6</x1><y1>4</y1><x2>9</x2><y2>4</y2><x3>9</x3><y3>9</y3></polygon></object></annotation>"""
CVAT = """<annotations><version>1.1</version><meta><source>v.mp4</source></meta><image id="0" name="a.png" width="40"
height="30"><box label="RBC" xtl="5" ytl="3" xbr="15" ybr="10" rotation="10"/>
<polygon label="RBC" points="1,2;3,4;5,1"/>
<ellipse label="RBC" cx="5" cy="6" rx="2" ry="3"/><mask label="RBC" rle="1, 5" left="5" top="3" width="3" height="2"/>
<tag label="x"/></image><track label="y"><box frame="3" outside="0" xtl="5" ytl="3" xbr="15" ybr="10"/></track>
</annotations>"""
APERIO = """<Annotations><Annotation Id="1" Name="Tumor"><Attributes><Attribute Name="a" Value="b"/></Attributes>
<Regions>
<Region Type="0" NegativeROA="0" Text="t"><Vertices><Vertex X="0" Y="0"/><Vertex X="9" Y="0"/><Vertex X="9" Y="9"/>
</Vertices></Region><Region Type="1" NegativeROA="1"><Vertices><Vertex X="5" Y="1"/><Vertex X="7" Y="3"/></Vertices>
</Region></Regions></Annotation></Annotations>"""
ASAP = """<ASAP_Annotations><Annotations><Annotation Type="Polygon" PartOfGroup="a"><Coordinates>
<Coordinate Order="0" X="0" Y="0"/><Coordinate Order="1" X="9" Y="0"/><Coordinate Order="2" X="9" Y="9"/></Coordinates>
</Annotation></Annotations></ASAP_Annotations>"""
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.1 0.2 0.2\n0.0 0.5 0.5 0.25 0.5\n"

GOOD = {
    "coco": json.dumps(COCO),
    "labelme": json.dumps(LABELME),
    "labelstudio": json.dumps(LABELSTUDIO),
    "voc": VOC,
    "cvat": CVAT,
    "aperio": APERIO,
    "yolo": YOLO,
}
KEYS: dict[str, list[dict[str, Any]]] = {
    "coco": [{}, {"boxes_from": "segmentation", "keep_crowd": True}],
    "yolo": [{"names": ("a", "b")}, {"labels": {"0": "a"}, "confidence": "ignore"}],
    "labelstudio": [{"choices": "label"}],
    "aperio": [{}, {"label_from": "text"}],
}


def checked(marks: Marks | None) -> None:
    """What ingest may rely on, for every mark without a problem."""
    for mark in marks.marks if marks else ():
        mark.raw.encode()
        if mark.problem:
            assert not mark.box
            assert mark.problem[0].isidentifier()
            continue
        assert mark.raw
        assert mark.box is None or (all(map(math.isfinite, mark.box)) and mark.box.width > 0 and mark.box.height > 0)
        for ring in mark.rings:
            assert len(ring) >= 3
            assert all(math.isfinite(value) for point in ring for value in point)
        if mark.code is not None:
            assert marks.size is not None
            assert runlength.decode(mark.code, *marks.size).any() or mark.box


def fate(folder: Path, kind: str, data: bytes) -> str:
    """Read a file as plan and ingest do; anything but the two fates of failure goes through."""
    module: Any = layout(kind)
    (folder / "file").write_bytes(data)
    ended = "read"
    for keys in KEYS.get(kind, [{}]):
        spec: AnnotationSpec = module.Spec(kind=kind, path="file", **keys)
        try:
            notes = list(module.index(spec, folder / "file").values()) if hasattr(module, "index") else [None]
        except UserError:
            return "refused"
        files = () if hasattr(module, "index") else ("file",)
        for note in notes:
            try:
                checked(module.read(spec, Case("a", "toy", "a", {}, {}), Given(folder, files, note)))
            except Unusable:
                ended = "refused"
    return ended


@pytest.mark.parametrize("kind", GOOD)
def test_the_whole_file_is_read(tmp_path, kind):
    assert fate(tmp_path, kind, GOOD[kind].encode()) == "read"
    assert fate(tmp_path, "aperio", ASAP.encode()) == "read"


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_cut_anywhere_has_one_of_the_fates(tmp_path, kind):
    data = GOOD[kind].encode()
    ends = {fate(tmp_path, kind, data[:at]) for at in range(0, len(data), 3)}
    assert "refused" in ends


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_with_changed_bytes_has_one_of_the_fates(tmp_path, kind):
    rng = np.random.default_rng(0)
    data = GOOD[kind].encode()
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(len(data), size=int(rng.integers(1, 4))):
            damaged[at] = int(rng.integers(256))
        fate(tmp_path, kind, bytes(damaged))
    for _ in range(100):
        at, to = sorted(rng.integers(len(data), size=2).tolist())
        fate(tmp_path, kind, data[:at] + data[to:])
        fate(tmp_path, kind, data[:to] + data[at:])


DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    10**400,
    10**18,
    "",
    "x",
    "\ud800",
    "7",
    [],
    [[]],
    {},
    {"a": [1]},
    DEEP,
]


def replaced(data: Any) -> Iterator[Any]:
    """Yield copies of a JSON value with one part of it, at any depth, made odd or left out."""
    yield from ODD
    if isinstance(data, dict):
        for key, value in data.items():
            yield {k: v for k, v in data.items() if k != key}
            yield from ({**data, key: odd} for odd in replaced(value))
    elif isinstance(data, list):
        for n, value in enumerate(data[:4]):
            yield data[:n] + data[n + 1 :]
            yield from ([*data[:n], odd, *data[n + 1 :]] for odd in replaced(value))


@pytest.mark.parametrize(("kind", "data"), [("coco", COCO), ("labelme", LABELME), ("labelstudio", LABELSTUDIO)])
def test_json_with_any_part_made_odd_has_one_of_the_fates(tmp_path, kind, data):
    seen = {fate(tmp_path, kind, json.dumps(odd).encode()) for odd in replaced(data)}
    assert seen == {"read", "refused"}


TEXTS = ["", " ", "x", "nan", "inf", "-1", "1e999", "9" * 5000, "1,2;3", "é", "&amp;", "0", "1.5"]


@pytest.mark.parametrize(
    ("kind", "text"), [("voc", VOC), ("cvat", CVAT), ("aperio", APERIO), ("aperio", ASAP), ("yolo", YOLO)]
)
def test_text_with_any_word_made_odd_has_one_of_the_fates(tmp_path, kind, text):
    words = [found.span(1) for found in re.finditer(r'(?:"|>|^|\s)([\w.,; ]+?)(?=["<\s]|$)', text)]
    assert len(words) > 10
    for begin, end in words:
        for odd in TEXTS:
            fate(tmp_path, kind, (text[:begin] + odd + text[end:]).encode())


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 100,
        b"\xff\xfe" + "x".encode("utf-16-le"),
        b"{" * 50_000,
        b'{"shapes":' * 50_000,
        b"[" * 50_000,
        b"<a>" * 50_000,
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        b"\x89PNG\r\n\x1a\n",
        b"null",
        b"3",
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, kind, data):
    empty = kind == "yolo" and not data
    ended = fate(tmp_path, kind, data)
    assert ended == "refused" or empty or (kind, data) == ("yolo", b"3")
