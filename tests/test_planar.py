"""Annotations on a stored picture: the way between source px and stored px, and which marks hold for it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.ingest.frames import IDENTITY
from pipeline.ingest.planar import composed, gathered, inverted, speaks_of
from pipeline.ingest.source import Annotated
from pipeline.records import Box
from sources.annotation import Mark, Marks
from sources.descriptor import AnnotationSpec

QUARTER = (0.0, 1.0, 0.0, -1.0, 0.0, 30.0)
"""Stored (x, y) to source (y, 30 - x): a quarter turn of a picture 30 px wide."""


def test_a_map_and_its_way_back_give_the_same_point():
    for affine in (IDENTITY, QUARTER, (2.0, 0.0, 5.0, 0.0, 3.0, -7.0)):
        assert composed(inverted(affine), affine) == pytest.approx(IDENTITY)
    # first doubled, then moved by one
    assert composed((1, 0, 1, 0, 1, 1), (2, 0, 0, 0, 2, 0)) == (2, 0, 1, 0, 2, 1)


def test_labels_follow_a_crop_a_scale_and_a_turn():
    labels = np.arange(1, 31 * 20 + 1).reshape(31, 20)
    assert gathered(labels, IDENTITY, 20, 31) is labels
    crop = (1.0, 0.0, 4.0, 0.0, 1.0, 2.0)
    np.testing.assert_array_equal(gathered(labels, crop, 10, 9), labels[2:11, 4:14])
    np.testing.assert_array_equal(gathered(labels, (2.0, 0.0, 0.0, 0.0, 2.0, 0.0), 10, 15), labels[1:31:2, 1::2])
    beyond = gathered(labels, (1.0, 0.0, -3.0, 0.0, 1.0, 0.0), 8, 4)
    np.testing.assert_array_equal(beyond, np.pad(labels[:4, :5], ((0, 0), (3, 0))))


def test_a_quarter_turn_is_the_one_that_pillow_makes():
    lying = np.arange(1, 601, dtype=np.int32).reshape(30, 20)  # of the file: 20 wide, 30 high
    upright = np.asarray(Image.fromarray(lying).transpose(Image.Transpose.ROTATE_270))
    to_file = (0.0, 1.0, 0.0, -1.0, 0.0, 30.0)
    np.testing.assert_array_equal(gathered(lying, to_file, 30, 20), upright)


SIZED = """
cases: {match: "{stem}.jpg", id: "{stem}"}
geometry: {annotated: %s}
annotations:
  - {kind: voc, path: "{stem}.xml", one_based: false}
"""


def voc(box: Box, width: int, height: int) -> str:
    tags = {"xmin": box.x0, "ymin": box.y0, "xmax": box.x1 - 1, "ymax": box.y1 - 1}
    corners = "".join(f"<{name}>{value:g}</{name}>" for name, value in tags.items())
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size}<object><name>RBC</name><bndbox>{corners}</bndbox></object></annotation>"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotated", ["file", "upright"])
def test_boxes_lie_on_their_thing_whichever_way_exif_turned_the_picture(data_set, encoded, orientation, annotated):
    pixels = np.random.default_rng(orientation).integers(20, 60, (60, 90), np.uint8)
    pixels[10:20, 30:70] = 250  # the thing, in px of the file
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(pixels, "JPEG", exif=exif, quality=95)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))) > 150
    rows, columns = (np.flatnonzero(upright.any(axis=axis)) for axis in (1, 0))
    seen = Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    drawn = (Box(30, 10, 70, 20), 90, 60) if annotated == "file" else (seen, *upright.shape[::-1])
    (record,) = data_set(SIZED % annotated, {"a.jpg": data, "a.xml": voc(*drawn)}).records()
    assert (record.picture.width, record.picture.height) == upright.shape[::-1]
    assert record.regions[0].box == pytest.approx(seen, abs=0 if annotated == "upright" else 1)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_of_an_annotation_tells_that_it_speaks_of_the_file_as_it_lies(data_set, encoded, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.random.default_rng(0).integers(0, 255, (60, 90), np.uint8), "JPEG", exif=exif)
    (record,) = data_set(SIZED % "upright", {"a.jpg": data, "a.xml": voc(Box(0, 0, 90, 60), 90, 60)}).records()
    assert record.regions[0].box == (0, 0, 60, 90)


def test_a_mark_with_frames_or_times_speaks_of_those_alone():
    spec = AnnotationSpec(kind="x")
    annotations = [Annotated(spec, Marks((Mark("a", frames=(3, 5)), Mark("b", times_s=(1.0, 2.0)), Mark("whole"))))]
    assert [index for index in range(8) if speaks_of(annotations, index, index * 0.1)] == [3, 4]
    assert [t for t in (0.5, 1.0, 1.5, 2.0) if speaks_of(annotations, 100, t)] == [1.0, 1.5]
    assert not speaks_of([Annotated(spec, Marks((Mark("whole"),)))], 0, 0.0)
