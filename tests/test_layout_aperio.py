"""ImageScope and ASAP outlines: layers, types, holes."""

import numpy as np
import pytest

from pipeline.errors import Unusable
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import aperio

SQUARE = [(0, 0), (20, 0), (20, 20), (0, 20)]
HOLE = [(5, 5), (10, 5), (10, 10)]


def region(points, kind="0", negative=0, text="") -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    head = f'Id="1" Type="{kind}" Text="{text}" NegativeROA="{negative}"'
    return f"<Region {head}><Attributes/><Vertices>{vertices}</Vertices></Region>"


def layer(*regions, name="Tumor", number="1", attributes="") -> str:
    head = f'<Annotation Id="{number}" Name="{name}" ReadOnly="0" Type="4"><Attributes>{attributes}</Attributes>'
    return f"{head}<Regions><RegionAttributeHeaders/>{''.join(regions)}</Regions><Plots/></Annotation>"


def read(tmp_path, *layers, **keys) -> tuple[Mark, ...]:
    return whole(tmp_path, f'<Annotations MicronsPerPixel="0.25">{"".join(layers)}</Annotations>', **keys).marks


def whole(tmp_path, text: str, **keys) -> Marks:
    (tmp_path / "a.xml").write_text(text)
    spec = aperio.Spec(kind="aperio", path="a.xml", **keys)
    return aperio.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, ("a.xml",), None))


def reasons(marks) -> list[str | None]:
    return [mark.problem[0] if mark.problem else None for mark in marks]


def test_a_free_outline_is_a_ring(tmp_path):
    assert read(tmp_path, layer(region(HOLE))) == (Mark("Tumor", rings=(((5, 5), (10, 5), (10, 10)),)),)


@pytest.mark.parametrize("kind", ["1", "Rectangle"])
def test_a_rectangle_is_a_box(tmp_path, kind):
    assert read(tmp_path, layer(region(SQUARE, kind))) == (Mark("Tumor", Box(0, 0, 20, 20)),)


def test_an_ellipse_of_two_corners_has_their_extent(tmp_path):
    (mark,) = read(tmp_path, layer(region([(10, 4), (30, 16)], "2")))
    columns, rows = zip(*mark.rings[0], strict=True)
    assert (min(columns), min(rows), max(columns), max(rows)) == pytest.approx((10, 4, 30, 16))
    assert len(read(tmp_path, layer(region(SQUARE, "2")))[0].rings[0]) == 4


@pytest.mark.parametrize("kind", ["3", "4", "Arrow", "Ruler"])
def test_arrows_and_rulers_have_no_area(tmp_path, kind):
    assert reasons(read(tmp_path, layer(region(HOLE, kind)))) == ["not_an_area"]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (region([]), "bad_outline"),
        (region([(1, 2), (3, 4)]), "bad_outline"),
        (region([(1, 2), (3, 4), ("x", 5)]), "bad_outline"),
        (region([(1, 2), (3, 4), ("nan", 5)]), "bad_outline"),
        (region([(1, 2), (1, 4), (1, 9)]), "box_zero_size"),
        (region([(1, 2)], "1"), "bad_box"),
        (region([(1, 2), (1, 2)], "2"), "box_zero_size"),
        (region(HOLE, "99"), "unsupported_shape"),
        ("<Region/>", "bad_outline"),
        ("<Region><Vertices><Vertex/><Vertex/><Vertex/></Vertices></Region>", "bad_outline"),
    ],
)
def test_a_broken_region_is_a_mark_with_its_problem(tmp_path, shape, reason):
    assert reasons(read(tmp_path, layer(region(HOLE), shape, region(HOLE)))) == [None, reason, None]


# ---- labels


@pytest.mark.parametrize(
    ("keys", "made", "label"),
    [
        ({}, {}, "Tumor"),
        ({"label_from": "id"}, {"number": "7"}, "7"),
        ({"label_from": "text"}, {}, "necrosis"),
        ({}, {"name": "", "attributes": '<Attribute Name="Description" Id="0" Value="Stroma"/>'}, "Stroma"),
        ({}, {"name": "", "attributes": '<Attribute Id="0" Name="Epithelial" Value=""/>'}, "Epithelial"),
    ],
)
def test_a_label_comes_from_the_layer_or_the_region(tmp_path, keys, made, label):
    assert read(tmp_path, layer(region(HOLE, text="necrosis"), **made), **keys)[0].raw == label


def test_a_layer_without_a_name_gives_marks_with_their_problem(tmp_path):
    nameless = layer(region(HOLE), name="", attributes='<Attribute Name="Description" Id="0" Value=""/>')
    assert reasons(read(tmp_path, nameless, layer(region(HOLE)))) == ["unlabelled", None]


# ---- holes


def test_a_negative_region_is_a_hole_of_the_smallest_it_lies_in(tmp_path):
    large = [(-10, -10), (50, -10), (50, 50), (-10, 50)]
    regions = (region(large), region(HOLE, negative=1), region(SQUARE))
    found = read(tmp_path, layer(*regions))
    assert [len(mark.holes) for mark in found] == [0, 1]
    np.testing.assert_array_equal(found[1].holes[0], HOLE)


def test_a_hole_cuts_a_rectangle_and_leaves_its_box(tmp_path):
    (mark,) = read(tmp_path, layer(region(SQUARE, "1"), region(HOLE, negative=1)))
    assert mark.box == Box(0, 0, 20, 20)
    np.testing.assert_array_equal(mark.rings[0], SQUARE)
    np.testing.assert_array_equal(mark.holes[0], HOLE)


def test_a_hole_needs_no_label(tmp_path):
    found = read(tmp_path, layer(region(SQUARE, text="a"), region(HOLE, negative=1)), label_from="text")
    assert [(mark.raw, len(mark.rings), len(mark.holes)) for mark in found] == [("a", 1, 1)]


def test_a_hole_of_another_layer_or_of_nothing_is_told(tmp_path):
    found = read(tmp_path, layer(region(SQUARE)), layer(region(HOLE, negative=1), name="Stroma"))
    assert reasons(found) == [None, "bad_outline"]
    assert reasons(read(tmp_path, layer(region(SQUARE), region([(1, 1)], negative=1)))) == ["bad_outline", None]


# ---- ASAP


def asap(*annotations) -> str:
    groups = '<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#f00"/></AnnotationGroups>'
    return f"<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations>{groups}</ASAP_Annotations>"


def annotation(points, kind="Polygon", group="Tumor") -> str:
    corners = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in reversed([*enumerate(points)]))
    return (
        f'<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}"><Coordinates>{corners}</Coordinates>'
        "</Annotation>"
    )


def test_asap_outlines_belong_to_groups_and_are_in_order(tmp_path):
    found = whole(tmp_path, asap(annotation(HOLE), annotation(SQUARE, "Spline", "_1"), annotation(SQUARE, "Rectangle")))
    assert [(mark.raw, mark.box, len(mark.rings)) for mark in found.marks] == [
        ("Tumor", None, 1),
        ("_1", None, 1),
        ("Tumor", Box(0, 0, 20, 20), 0),
    ]
    np.testing.assert_array_equal(found.marks[0].rings[0], HOLE)


@pytest.mark.parametrize("kind", ["Dot", "PointSet", "Measurement"])
def test_asap_points_have_no_area(tmp_path, kind):
    assert reasons(whole(tmp_path, asap(annotation(HOLE, kind))).marks) == ["not_an_area"]


# ---- whole files


def test_a_file_without_a_region_is_an_annotation(tmp_path):
    assert whole(tmp_path, "<Annotations/>") == Marks(())


@pytest.mark.parametrize("text", ["", "<annotation/>", "<annotations/>", "<html/>", "<!DOCTYPE a []><Annotations/>"])
def test_what_is_neither_is_refused(tmp_path, text):
    with pytest.raises(Unusable, match=r"^bad_annotation: "):
        whole(tmp_path, text)


def test_a_picture_without_a_file_is_not_annotated(tmp_path):
    spec = aperio.Spec(kind="aperio", path="a.xml")
    assert aperio.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, (), None)) is None
