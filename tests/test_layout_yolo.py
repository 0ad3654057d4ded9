"""YOLO text files: boxes and outlines in shares, and what looks like them."""

import pytest
from pydantic import ValidationError

from pipeline.errors import Unusable, UserError
from pipeline.records import Box, Case
from sources.annotation import Given, Mark, Marks
from sources.layouts import yolo

NAMES = ("cavity", "filling", "implant")
LINE = "0 0.5 0.5 0.25 0.5"
BOX = Box(0.375, 0.25, 0.625, 0.75)


def read(tmp_path, text: str | bytes | None, **keys) -> Marks | None:
    if text is not None:
        (tmp_path / "a.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    spec = yolo.Spec(kind="yolo", path="a.txt", **({"names": NAMES} | keys))
    return yolo.read(spec, Case("a", "toy", "a", {}, {}), Given(tmp_path, ("a.txt",) if text is not None else (), None))


def reasons(marks: Marks) -> list[str | None]:
    return [mark.problem[0] if mark.problem else None for mark in marks.marks]


# ---- lines


def test_a_box_is_centre_and_size_in_shares(tmp_path):
    assert read(tmp_path, LINE) == Marks((Mark("cavity", BOX),), relative=True)


@pytest.mark.parametrize(
    "text",
    [
        LINE + "\n",
        LINE + "\r\n",
        "\ufeff" + LINE,
        "\n\n  " + LINE.replace(" ", "\t ") + "  \n",
        LINE.replace("0 ", "0.0 ", 1),
        LINE.replace("0 ", "00 ", 1),
    ],
    ids=["newline", "windows", "byte order mark", "tabs", "float class", "padded class"],
)
def test_a_line_may_be_written_in_other_ways(tmp_path, text):
    assert read(tmp_path, text).marks == (Mark("cavity", BOX),)


@pytest.mark.parametrize("text", ["", "\n\n", "  \r\n", "\ufeff"])
def test_an_empty_file_is_an_annotation_without_an_object(tmp_path, text):
    assert read(tmp_path, text) == Marks((), relative=True)


def test_a_line_of_six_numbers_and_more_is_an_outline(tmp_path):
    found = read(tmp_path, f"{LINE}\n1 0.1 0.1 0.2 0.1 0.2 0.2\n2 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n")
    assert found.marks[1] == Mark("filling", rings=(((0.1, 0.1), (0.2, 0.1), (0.2, 0.2)),))
    assert found.marks[2] == Mark("implant", rings=(((0.1, 0.1), (0.2, 0.1), (0.2, 0.2), (0.1, 0.2)),))


def test_a_box_over_the_edge_is_kept_for_clipping(tmp_path):
    box = read(tmp_path, "0 0.99 0.5 0.2 0.1").marks[0].box
    assert box == pytest.approx((0.89, 0.45, 1.09, 0.55))


@pytest.mark.parametrize("line", ["0 320 240 50 50", "0 0.5 0.5 0.2 50", "0 1.2 0.5 0.1 0.1", "1 10 10 20 10 20 20"])
def test_a_file_in_px_is_refused_whole(tmp_path, line):
    with pytest.raises(Unusable, match=r"^not_normalised: line 2 has [\d.]+; shares end at 1$"):
        read(tmp_path, f"{LINE}\n{line}")


def test_rounding_beyond_one_is_no_px(tmp_path):
    assert reasons(read(tmp_path, "0 0.5 0.5 1.0000001 1.0\n0 0 0 1.002 0 1.002 1")) == [None, None]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0,0.5,0.5,0.1,0.1", "bad_box"),
        ("0;0.5;0.5;0.1;0.1", "bad_box"),
        ("0 0.5 0.5 x 0.1", "bad_box"),
        ("0", "bad_box"),
        ("0 0.5 0.5", "bad_box"),
        ("0 0.5 0.5 0 0.1", "box_zero_size"),
        ("0 0.5 0.5 0.1 -0.1", "box_zero_size"),
        ("0 0.5 0.5 nan 0.1", "bad_box"),
        ("0 0.1 0.1 nan 0.1 0.2 0.2", "bad_outline"),
        ("0 0.1 0.1 0.2 0.1 0.3 0.1", "box_zero_size"),
        ("3 0.5 0.5 0.1 0.1", "unknown_class"),
        ("-1 0.5 0.5 0.1 0.1", "unknown_class"),
        ("1e300 0.5 0.5 0.1 0.1", "unknown_class"),
    ],
)
def test_a_faulty_line_is_a_mark_with_its_problem(tmp_path, line, reason):
    found = read(tmp_path, f"{LINE}\n{line}\n{LINE}")
    assert reasons(found) == [None, reason, None]
    assert "line 2" in found.marks[1].problem[1] or "number" in found.marks[1].problem[1] or reason == "box_zero_size"


def test_a_faulty_line_keeps_its_class(tmp_path):
    assert read(tmp_path, "1,0.5,0.5,0.1,0.1").marks[0].raw == "filling"


@pytest.mark.parametrize(
    "line", ["x 0.5 0.5 0.1 0.1", "# note", "0.5 0.5 0.1 0.1", "nan 0.5 0.5 0.1 0.1", "inf 1 1 1 1"]
)
def test_a_file_whose_classes_can_not_be_read_is_refused_whole(tmp_path, line):
    with pytest.raises(Unusable, match=r"^bad_annotation: line 2 does not begin with a class number$"):
        read(tmp_path, f"{LINE}\n{line}")


@pytest.mark.parametrize("data", [b"\xff\xfe0\x00", b"\x89PNG\r\n", LINE.encode("utf-16")])
def test_a_file_that_is_no_text_is_refused(tmp_path, data):
    with pytest.raises(Unusable, match=r"^bad_annotation: the file is not text$"):
        read(tmp_path, data)


# ---- predictions


@pytest.mark.parametrize("line", [f"{LINE} 0.87", "1 0.1 0.1 0.2 0.1 0.2 0.2 0.9"])
def test_a_prediction_is_no_annotation_unless_said_so(tmp_path, line):
    with pytest.raises(Unusable, match=r"^prediction: line 2 ends in a confidence; confidence: ignore takes it as it"):
        read(tmp_path, f"{LINE}\n{line}")
    assert reasons(read(tmp_path, f"{LINE}\n{line}", confidence="ignore")) == [None, None]
    assert read(tmp_path, f"{LINE} 0.87", confidence="ignore").marks == (Mark("cavity", BOX),)


# ---- no file


def test_a_picture_without_a_file_is_not_annotated_unless_said_so(tmp_path):
    assert read(tmp_path, None) is None
    assert read(tmp_path, None, no_file="negative") == Marks((), relative=True)


# ---- names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "train: D:/a/b\nnc: 3\nnames: ['cavity', 'filling', 'implant']\n"),
        ("data.yml", "names:\n- cavity\n- filling\n- implant\n"),
        ("data.yaml", "names: {0: cavity, 1: filling, 2: implant}\n"),
        ("retinal.names", "cavity\nfilling\nimplant\n\n"),
        ("classes.txt", "\ufeffcavity\r\nfilling\r\nimplant"),
    ],
)
def test_names_may_stand_in_a_file(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    found = read(tmp_path, "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n2 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1", names=name)
    assert [mark.raw for mark in found.marks] == ["cavity", "filling", "implant", "3"]
    assert reasons(found) == [None, None, None, "unknown_class"]
    assert yolo.shared_files(yolo.Spec(kind="yolo", path="a.txt", names=name)) == (name,)


def test_a_changed_file_of_names_is_read_again(tmp_path):
    (tmp_path / "classes.txt").write_text("one")
    assert read(tmp_path, LINE, names="classes.txt").marks[0].raw == "one"
    (tmp_path / "classes.txt").write_text("other")
    assert read(tmp_path, LINE, names="classes.txt").marks[0].raw == "other"


@pytest.mark.parametrize("text", ["", "nc: 3", "names: 3", "names: []", "names: {a: b}", "names: [[a]]", "[a, b]"])
def test_a_file_without_names_is_one_line(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=r"^data\.yaml: `names` should list the names"):
        read(tmp_path, LINE, names="data.yaml")


def test_a_file_of_names_that_is_absent_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^data\.yaml: no such file below "):
        read(tmp_path, LINE, names="data.yaml")


def test_without_names_labels_go_by_class_number(tmp_path):
    found = read(tmp_path, f"{LINE}\n7 0.5 0.5 0.1 0.1\n8 0.5 0.5 0.1 0.1", names=(), labels={"0": "a", "7": "b"})
    assert [(mark.raw, mark.problem is None) for mark in found.marks] == [("0", True), ("7", True), ("8", False)]


def test_names_must_come_from_somewhere():
    with pytest.raises(ValidationError, match=r"give names, or labels by class number"):
        yolo.Spec(kind="yolo", path="a.txt")
    assert yolo.shared_files(yolo.Spec(kind="yolo", path="a.txt", names=["a"])) == ()


def test_names_of_the_descriptor_are_read_from_its_yaml(data_set, grey_picture):
    yaml = 'cases: {match: "{stem}.png"}\nannotations: [{kind: yolo, path: "{stem}.txt", names: [RBC, WBC]}]\n'
    (record,) = data_set(yaml, {"a.png": grey_picture(40, 30), "a.txt": "1 0.25 0.5 0.25 0.5"}).records()
    assert [(region.raw, region.box) for region in record.regions] == [("WBC", Box(5, 7.5, 15, 22.5))]
