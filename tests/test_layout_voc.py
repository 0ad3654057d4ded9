"""PASCAL VOC files of later tools: polygons, names and sizes as they are found."""

import pytest

from pipeline.errors import Unusable
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import voc

BOX = "<bndbox><xmin>6</xmin><ymin>4</ymin><xmax>15</xmax><ymax>10</ymax></bndbox>"
POLYGON = "<polygon><x1>6</x1><y1>4</y1><x2>15</x2><y2>4</y2><x3>15</x3><y3>10</y3></polygon>"


def read(tmp_path, inner: str, root: str = "annotation", **keys) -> Marks:
    (tmp_path / "a.xml").write_text(f"<{root}>{inner}</{root}>")
    spec = voc.Spec(kind="voc", path="a.xml", **keys)
    return voc.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, ("a.xml",), None))


def drawn(tmp_path, inner: str, name: str = "RBC", **keys) -> Mark:
    return read(tmp_path, f"<object><name>{name}</name>{inner}</object>", **keys).marks[0]


def test_a_polygon_stands_beside_the_box_as_given(tmp_path):
    found = drawn(tmp_path, BOX + POLYGON)
    assert found == Mark("RBC", Box(5, 3, 15, 10), rings=(((5, 3), (14, 3), (14, 9)),))
    assert drawn(tmp_path, POLYGON + BOX, one_based=False).rings == (((6, 4), (15, 4), (15, 10)),)


def test_a_polygon_alone_is_enough(tmp_path):
    assert drawn(tmp_path, POLYGON) == Mark("RBC", rings=(((5, 3), (14, 3), (14, 9)),))


@pytest.mark.parametrize(
    "polygon",
    ["", "<x1>6</x1><y1>4</y1>", "<x1>6</x1><x2>4</x2><x3>4</x3>", "<x1>a</x1><y1>b</y1>", "<pt>1,2</pt>"],
)
def test_a_broken_polygon_spoils_its_object(tmp_path, polygon):
    assert drawn(tmp_path, f"{BOX}<polygon>{polygon}</polygon>").problem[0] == "bad_outline"


@pytest.mark.parametrize("name", ["", "  "])
def test_an_object_without_a_name_is_a_mark_with_its_problem(tmp_path, name):
    assert drawn(tmp_path, BOX, name).problem == ("unlabelled", "the region has no label")


def test_an_object_without_a_place_is_a_mark_with_its_problem(tmp_path):
    assert drawn(tmp_path, "").problem[0] == "box_zero_size"


def test_swapped_corners_are_not_swapped_back(tmp_path):
    swapped = BOX.replace("<xmin>6", "<xmin>60")
    assert drawn(tmp_path, swapped).problem[0] == "box_zero_size"


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 480), (640, 480)), ((0, 0), None), ((-1, 480), None), (("640.0", " 480"), (640, 480)), (("", ""), None)],
)
def test_a_size_of_nothing_is_no_size(tmp_path, size, wanted):
    assert read(tmp_path, f"<size><width>{size[0]}</width><height>{size[1]}</height></size>").size == wanted


def test_the_name_that_a_file_says_does_not_count(tmp_path):
    assert len(read(tmp_path, f"<filename>zzz.png</filename><object><name>RBC</name>{BOX}</object>").marks) == 1


@pytest.mark.parametrize("root", ["html", "annotations", "Annotations"])
def test_xml_of_another_kind_is_refused(tmp_path, root):
    with pytest.raises(Unusable, match=r"^bad_annotation: not VOC XML: it has neither objects nor a size$"):
        read(tmp_path, "<image/>", root)


def test_a_detail_shows_no_text_of_the_file(tmp_path):
    with pytest.raises(Unusable) as caught:
        drawn(tmp_path, BOX.replace(">6<", ">Jane Doe<"))
    assert "Jane" not in str(caught.value)
