"""One rectangle, written in every way that annotations know, is one half-open box."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.records import Box, Case
from sources.annotation import Given, Mark
from sources.descriptor import layout

RECTANGLES = [
    ((40, 30), (5, 3, 15, 10)),
    ((40, 30), (0, 0, 40, 30)),
    ((640, 480), (638, 478, 640, 480)),
    ((641, 479), (0, 100, 641, 102)),
    ((333, 777), (17, 600, 210, 777)),
]
"""Width and height of the picture; the rectangle's edges, 2 px apart at least: VOC's maximum is above its minimum."""


class Written(NamedTuple):
    """An annotation file and the keys that read it."""

    kind: str
    text: str
    keys: str = ""


Writer = Callable[[int, int, int, int, int, int], Written]


def corners(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def voc(w, h, x0, y0, x1, y1) -> Written:
    box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    size = f"<size><width>{w}</width><height>{h}</height></size>"
    return Written("voc", f"<annotation>{size}<object><name>RBC</name><bndbox>{box}</bndbox></object></annotation>")


def voc_from_zero(w, h, x0, y0, x1, y1) -> Written:
    return Written("voc", voc(w, h, x0 - 1, y0 - 1, x1 - 1, y1 - 1).text, "one_based: false")


def coco(w, h, x0, y0, x1, y1, **more: Any) -> Written:
    mark = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]} | more
    image = {"id": 1, "file_name": "a.png", "width": w, "height": h}
    data = {"images": [image], "annotations": [mark], "categories": [{"id": 1, "name": "RBC"}]}
    keys = "boxes_from: segmentation" if more else ""
    return Written("coco", json.dumps(data), keys)


def coco_polygon(w, h, *box) -> Written:
    flat = [value for corner in corners(*box) for value in corner]
    return coco(w, h, *box, bbox=[0, 0, 1, 1], segmentation=[flat])


def painted(w, h, x0, y0, x1, y1) -> np.ndarray:
    mask = np.zeros((h, w), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return mask


def coco_compressed(w, h, *box) -> Written:
    code = coco_mask.encode(np.asfortranarray(painted(w, h, *box)))
    return coco(w, h, *box, bbox=None, segmentation={"counts": code["counts"].decode(), "size": [h, w]})


def runs(flat: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    return [int(count) for count in np.diff([0, *edges, flat.size])]


def coco_uncompressed(w, h, *box) -> Written:
    counts = runs(painted(w, h, *box).T.reshape(-1))
    return coco(w, h, *box, bbox=None, segmentation={"counts": counts, "size": [h, w]})


def yolo(w, h, x0, y0, x1, y1) -> Written:
    numbers = ((x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h)
    return Written("yolo", "0 " + " ".join(map(repr, numbers)), "names: [RBC]")


def yolo_polygon(w, h, *box) -> Written:
    flat = [repr(value) for x, y in corners(*box) for value in (x / w, y / h)]
    return Written("yolo", "0 " + " ".join(flat), "names: [RBC]")


def labelme(w, h, *box, kind="rectangle", points=None) -> Written:
    shape = {"label": "RBC", "shape_type": kind, "points": points or [box[:2], box[2:]]}
    return Written("labelme", json.dumps({"shapes": [shape], "imageWidth": w, "imageHeight": h}))


def labelme_polygon(w, h, *box) -> Written:
    return labelme(w, h, *box, kind="polygon", points=corners(*box))


def labelstudio(w, h, x0, y0, x1, y1, sized=True) -> Written:
    value = {"x": 100 * x0 / w, "y": 100 * y0 / h, "width": 100 * (x1 - x0) / w, "height": 100 * (y1 - y0) / h}
    return _task("rectanglelabels", value, (w, h) if sized else None)


def labelstudio_shares(*numbers) -> Written:
    return labelstudio(*numbers, sized=False)


def labelstudio_polygon(w, h, *box) -> Written:
    return _task("polygonlabels", {"points": [[100 * x / w, 100 * y / h] for x, y in corners(*box)]}, (w, h))


def labelstudio_brush(w, h, *box) -> Written:
    counts, text = runs(painted(w, h, *box).reshape(-1)), f"{4 * w * h:032b}{7:05b}" + f"{15:04b}" * 4
    for n, count in enumerate(counts):
        for at in range(0, count, 2**14):
            text += f"100{4 * min(2**14, count - at) - 1:016b}{255 * (n % 2):08b}"
    rle = [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]
    return _task("brushlabels", {"format": "rle", "rle": rle}, (w, h))


def _task(kind: str, value: dict[str, Any], size: tuple[int, int] | None) -> Written:
    result = {"id": "a", "type": kind, "value": value | {kind: ["RBC"]}}
    if size:
        result |= {"original_width": size[0], "original_height": size[1]}
    task = {"data": {"image": "/data/upload/1/1a2b3c4d-a.png"}, "annotations": [{"result": [result]}]}
    return Written("labelstudio", json.dumps([task]))


def cvat(w, h, x0, y0, x1, y1, shape=None) -> Written:
    shape = shape or f'<box label="RBC" xtl="{x0:.2f}" ytl="{y0:.2f}" xbr="{x1:.2f}" ybr="{y1:.2f}"/>'
    image = f'<image id="0" name="a.png" width="{w}" height="{h}">{shape}</image>'
    return Written("cvat", f"<annotations>{image}</annotations>")


def cvat_polygon(w, h, *box) -> Written:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(*box))
    return cvat(w, h, *box, shape=f'<polygon label="RBC" points="{points}"/>')


def cvat_mask(w, h, x0, y0, x1, y1) -> Written:
    at = f'left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"'
    return cvat(w, h, x0, y0, x1, y1, shape=f'<mask label="RBC" rle="0, {(x1 - x0) * (y1 - y0)}" {at}/>')


def aperio(w, h, *box, kind=1) -> Written:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners(*box))
    region = f'<Region Type="{kind}"><Vertices>{vertices}</Vertices></Region>'
    return Written(
        "aperio", f'<Annotations><Annotation Name="RBC"><Regions>{region}</Regions></Annotation></Annotations>'
    )


def aperio_polygon(*numbers) -> Written:
    return aperio(*numbers, kind=0)


def asap(w, h, *box) -> Written:
    points = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(corners(*box)))
    one = f'<Annotation Type="Polygon" PartOfGroup="RBC"><Coordinates>{points}</Coordinates></Annotation>'
    return Written("aperio", f"<ASAP_Annotations><Annotations>{one}</Annotations></ASAP_Annotations>")


WRITERS: list[Writer] = [
    voc,
    voc_from_zero,
    coco,
    coco_polygon,
    coco_compressed,
    coco_uncompressed,
    yolo,
    yolo_polygon,
    labelme,
    labelme_polygon,
    labelstudio,
    labelstudio_shares,
    labelstudio_polygon,
    labelstudio_brush,
    cvat,
    cvat_polygon,
    cvat_mask,
    aperio,
    aperio_polygon,
    asap,
]


def box_of(mark: Mark, size: tuple[int, int], relative: bool) -> Box:
    """The box of a mark in px; of outlines and codes as pycocotools has it."""
    width, height = size
    across, down = size if relative else (1, 1)
    if mark.box:
        return Box(mark.box.x0 * across, mark.box.y0 * down, mark.box.x1 * across, mark.box.y1 * down)
    code: Any = {"size": [height, width], "counts": mark.code}
    if mark.code is None:
        flat = [[value for x, y in ring for value in (x * across, y * down)] for ring in mark.rings]
        code = coco_mask.frPyObjects(flat, height, width)[0]
    x, y, w, h = coco_mask.toBbox(code).tolist()
    return Box(x, y, x + w, y + h)


@pytest.mark.parametrize(("size", "box"), RECTANGLES, ids=str)
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_one_rectangle_is_one_box_in_every_layout(tmp_path, write, size, box):
    written = write(*size, *box)
    module: Any = layout(written.kind)
    (tmp_path / "file").write_text(written.text)
    keys = {"names": ("RBC",)} if written.kind == "yolo" else {}
    keys |= dict([written.keys.split(": ")]) if written.kind in ("voc", "coco") and written.keys else {}
    spec = module.Spec(kind=written.kind, path="file", **keys)
    note = module.index(spec, tmp_path / "file")["a.png"] if hasattr(module, "index") else None
    found = module.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, () if note else ("file",), note))
    (mark,) = found.marks
    assert (mark.raw, mark.problem) == ("RBC", None)
    assert found.size in (size, None)
    np.testing.assert_allclose(box_of(mark, size, found.relative), box, atol=1e-9)


@pytest.mark.parametrize(("size", "box"), RECTANGLES, ids=str)
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_one_rectangle_is_one_box_in_every_record(data_set, grey_picture, write, size, box):
    written = write(*size, *box)
    keys = f", {written.keys}" if written.keys else ""
    yaml = (
        f'cases: {{match: "{{stem}}.png"}}\nannotations: [{{kind: {written.kind}, path: a.txt{keys}}}]\nlimits: none\n'
    )
    (record,) = data_set(yaml, {"a.png": grey_picture(*size), "a.txt": written.text}).records()
    (region,) = record.regions
    assert (region.raw, region.label) == ("RBC", "red_blood_cell")
    np.testing.assert_allclose(region.box, box, atol=1e-9)
    assert region.area_px == pytest.approx((box[2] - box[0]) * (box[3] - box[1]))
    if region.mask:
        code = {"size": [size[1], size[0]], "counts": region.mask}
        x, y, w, h = coco_mask.toBbox(code).tolist()
        assert (x, y, x + w, y + h) == box
        assert coco_mask.area(code) == w * h
