"""CVAT XML: pictures and tracks, shapes of every type, masks as run lengths of their box."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.errors import UserError
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import cvat

AT = 'xtl="5.00" ytl="3.00" xbr="15.00" ybr="10.00"'
META = "<version>1.1</version><meta><job><id>4</id></job><dumped>2024</dumped></meta>"
VIDEO = """<version>1.1</version><meta><task><name>t</name><original_size><width>40</width><height>30</height>
</original_size></task><source>clips\\a.mp4</source></meta>"""


def of(tmp_path, inner: str, **keys) -> dict[str, Marks | None]:
    return whole(tmp_path, f"<annotations>{inner}</annotations>", **keys)


def whole(tmp_path, text: str, **keys) -> dict[str, Marks | None]:
    (tmp_path / "c.xml").write_text(text)
    spec = cvat.Spec(kind="cvat", path="c.xml", **keys)
    notes = cvat.index(spec, tmp_path / "c.xml")
    case = Case("a", "toy", "a", {}, {})
    return {name: cvat.read(spec, case, Given(tmp_path, (), note)) for name, note in notes.items()}


def drawn(tmp_path, shape: str, size='width="40" height="30"') -> tuple[Mark, ...]:
    return of(tmp_path, f'{META}<image id="0" name="a.png" {size}>{shape}</image>')["a.png"].marks


def bounds(mark: Mark) -> tuple[float, ...]:
    columns, rows = zip(*mark.rings[0], strict=True)
    return min(columns), min(rows), max(columns), max(rows)


# ---- shapes


def test_a_box_is_its_edges(tmp_path):
    found = of(tmp_path, f'{META}<image id="0" name="a.png" width="40" height="30"><box label="RBC" {AT}/></image>')
    assert found == {"a.png": Marks((Mark("RBC", Box(5, 3, 15, 10)),), (40, 30))}


def test_a_turned_box_turns_about_its_centre(tmp_path):
    (mark,) = drawn(tmp_path, '<box label="RBC" xtl="10" ytl="10" xbr="20" ybr="16" rotation="90.00"/>')
    assert (mark.box, bounds(mark)) == (None, pytest.approx((12, 8, 18, 18)))


def test_a_polygon_is_an_outline(tmp_path):
    (mark,) = drawn(tmp_path, '<polygon label="RBC" points="5.00,3.00;15.00,3.00;15.00,10.00" z_order="0"/>')
    assert mark == Mark("RBC", rings=(((5, 3), (15, 3), (15, 10)),))


def test_an_ellipse_has_its_radii_along_each_axis(tmp_path):
    ellipse = '<ellipse label="RBC" cx="20" cy="15" rx="10" ry="6"{}/>'
    assert bounds(drawn(tmp_path, ellipse.format(""))[0]) == pytest.approx((10, 9, 30, 21))
    assert bounds(drawn(tmp_path, ellipse.format(' rotation="90"'))[0]) == pytest.approx((14, 5, 26, 25))


def test_a_mask_is_run_lengths_of_its_box_row_by_row(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.random((7, 10)) < 0.5
    small[0, 0] = False
    flat = small.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    rle = ", ".join(map(str, np.diff([0, *edges, flat.size])))
    (mark,) = drawn(tmp_path, f'<mask label="RBC" rle="{rle}" left="5" top="3" width="10" height="7"/>')
    painted = np.zeros((30, 40), np.uint8)
    painted[3:10, 5:15] = small
    assert mark.code == coco_mask.encode(np.asfortranarray(painted))["counts"].decode()


def test_a_tag_is_a_label_of_the_whole_picture(tmp_path):
    assert drawn(tmp_path, '<tag label="blurred" source="manual"><attribute name="by">Jane</attribute></tag>') == (
        Mark("blurred"),
    )


def test_attributes_of_people_are_passed_over(tmp_path):
    box = f'<box label="RBC" {AT}><attribute name="reader">Jane Doe</attribute></box>'
    (tmp_path / "c.xml").write_text(f'<annotations>{META}<image id="0" name="a.png">{box}</image></annotations>')
    notes = cvat.index(cvat.Spec(kind="cvat", path="c.xml"), tmp_path / "c.xml")
    assert "Jane" not in notes["a.png"]


@pytest.mark.parametrize("kind", ["polyline", "points", "skeleton", "cuboid"])
def test_what_has_no_area_is_a_mark_with_its_problem(tmp_path, kind):
    (mark,) = drawn(tmp_path, f'<{kind} label="RBC" points="1,2;3,4;5,6"/>')
    assert mark.problem == ("not_an_area", f"a {kind} has no area")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (f"<box {AT}/>", "unlabelled"),
        ('<box label="RBC"/>', "bad_box"),
        ('<box label="RBC" xtl="5" ytl="3" xbr="x" ybr="10"/>', "bad_box"),
        ('<box label="RBC" xtl="5" ytl="3" xbr="5" ybr="10"/>', "box_zero_size"),
        (f'<box label="RBC" {AT} rotation="x"/>', "bad_outline"),
        (f'<box label="RBC" {AT} rotation="inf"/>', "bad_outline"),
        ('<polygon label="RBC"/>', "bad_outline"),
        ('<polygon label="RBC" points="1,2;3,4"/>', "bad_outline"),
        ('<polygon label="RBC" points="1,2;3,4;5"/>', "bad_outline"),
        ('<polygon label="RBC" points="1,2;3,4;nan,6"/>', "bad_outline"),
        ('<ellipse label="RBC" cx="20" cy="15" rx="10"/>', "bad_outline"),
        ('<ellipse label="RBC" cx="20" cy="15" rx="10" ry="0"/>', "box_zero_size"),
        ('<mask label="RBC"/>', "bad_outline"),
        ('<mask label="RBC" rle="0, 6" left="5" top="3" width="3"/>', "bad_outline"),
        ('<mask label="RBC" rle="0, 5" left="5" top="3" width="3" height="2"/>', "bad_outline"),
        ('<mask label="RBC" rle="-1, 7" left="5" top="3" width="3" height="2"/>', "bad_outline"),
        ('<mask label="RBC" rle="0, 6" left="5" top="3" width="-3" height="-2"/>', "bad_outline"),
        ('<mask label="RBC" rle="0, 1000000000000" left="0" top="0" width="1000000" height="1000000"/>', "bad_outline"),
        ('<mask label="RBC" rle="6" left="5" top="3" width="3" height="2"/>', "box_zero_size"),
        ('<mask label="RBC" rle="0, 6" left="50" top="3" width="3" height="2"/>', "box_zero_size"),
    ],
)
def test_a_broken_shape_is_a_mark_with_its_problem(tmp_path, shape, reason):
    good = f'<box label="RBC" {AT}/>'
    found = drawn(tmp_path, good + shape + good)
    assert [mark.problem[0] if mark.problem else None for mark in found] == [None, reason, None]


def test_a_mask_needs_the_size_of_its_picture(tmp_path):
    mask = '<mask label="RBC" rle="0, 6" left="5" top="3" width="3" height="2"/>'
    assert drawn(tmp_path, mask, "")[0].problem[0] == "bad_outline"


# ---- many pictures


def test_a_picture_without_a_shape_is_annotated(tmp_path):
    images = '<image id="0" name="x/a.png" width="40" height="30"/><image id="1" name="b.png" width="0"/>'
    assert of(tmp_path, META + images) == {"x/a.png": Marks((), (40, 30)), "b.png": Marks(())}


def test_a_picture_that_stands_twice_has_the_shapes_of_both(tmp_path):
    image = f'<image id="0" name="a.png" width="40" height="30"><box label="RBC" {AT}/></image>'
    assert len(of(tmp_path, META + image * 2)["a.png"].marks) == 2


# ---- videos

TRACKS = f"""<track id="0" label="RBC"><box frame="3" outside="0" keyframe="1" {AT}/>
<box frame="4" outside="0" keyframe="0" {AT}/><box frame="5" outside="1" keyframe="1" {AT}/></track>
<track id="1" label="WBC"><polygon frame="0" outside="0" points="5,3;15,3;15,10"/></track>"""


def test_a_track_is_a_mark_for_each_frame_on_which_it_is_there(tmp_path):
    found = of(tmp_path, VIDEO + TRACKS)["a.mp4"]
    assert found.size == (40, 30)
    assert [(mark.raw, mark.frames, mark.box) for mark in found.marks] == [
        ("RBC", (3, 4), Box(5, 3, 15, 10)),
        ("RBC", (4, 5), Box(5, 3, 15, 10)),
        ("WBC", (0, 1), None),
    ]


def test_the_path_alone_can_tell_the_video(tmp_path):
    assert list(of(tmp_path, VIDEO + TRACKS, match="tracks")) == ["tracks"]
    assert list(of(tmp_path, TRACKS, match="{stem}.avi")) == ["video"]


def test_a_video_without_a_track_is_annotated(tmp_path):
    assert of(tmp_path, VIDEO) == {"a.mp4": Marks((), (40, 30))}


@pytest.mark.parametrize("frame", ["x", "-1", "1.5", "9" * 30, ""])
def test_a_shape_of_no_frame_is_a_mark_with_its_problem(tmp_path, frame):
    track = f'<track label="RBC"><box frame="{frame}" outside="0" {AT}/><box frame="1" outside="0" {AT}/></track>'
    marks = of(tmp_path, VIDEO + track)["a.mp4"].marks
    assert [mark.problem[0] if mark.problem else None for mark in marks] == ["bad_annotation", None]


def test_a_shape_of_a_track_without_a_frame_is_not_taken_for_all_frames(tmp_path):
    track = f'<track label="RBC"><box outside="0" {AT}/></track>'
    (mark,) = of(tmp_path, VIDEO + track)["a.mp4"].marks
    assert mark.problem[0] == "bad_annotation"


# ---- whole files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not CVAT XML: it breaks at line 1, column 0"),
        ("<annotation/>", "not CVAT XML 1.1; its root should be <annotations>"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations/>', "XML declares a document type"),
    ],
)
def test_what_is_no_cvat_xml_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        whole(tmp_path, text)
    assert str(caught.value).startswith(f"c.xml: {said}")


def test_a_picture_that_is_not_listed_is_not_annotated(tmp_path):
    spec = cvat.Spec(kind="cvat", path="c.xml")
    assert cvat.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, (), None)) is None
