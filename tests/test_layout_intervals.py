"""Labels of a video by interval or frame: from tables and text files, in frames, seconds and time codes."""

import contextlib
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from pipeline.strict import checked, load_yaml
from sources.annotation import Given, Mark
from sources.layouts import intervals

CASE = Case("a", "toy", "a", {}, {})


def spec(yaml: str) -> intervals.Spec:
    return checked(intervals.Spec, load_yaml(f"kind: intervals\n{yaml}", "toy"), "toy")


def of_text(folder: Path, yaml: str, text: str | bytes, name: str = "a.txt") -> list[Mark]:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    found = intervals.read(spec(f"path: {name}\n{yaml}"), CASE, Given(folder, (name,), None))
    return list(found.marks)


def of_rows(yaml: str, *rows: dict[str, str]) -> list[Mark]:
    found = intervals.read(spec(f"table: t\n{yaml}"), CASE, Given(Path(), (), json.dumps(rows)))
    return list(found.marks)


def spans(marks: list[Mark]) -> list[tuple]:
    return [(mark.raw, mark.frames or mark.times_s) for mark in marks]


def test_a_phase_for_every_frame_becomes_one_interval_a_run(tmp_path):
    """As in Cholec80: `Frame<tab>Phase`, one line a frame."""
    lines = ["Frame\tPhase", *(f"{n}\t{'Preparation' if n < 5 or n == 8 else 'CalotTriangle'}" for n in range(10))]
    marks = of_text(tmp_path, "frame: Frame\nlabel: Phase", "\r\n".join(lines))
    assert spans(marks) == [
        ("Preparation", (0, 5)),
        ("CalotTriangle", (5, 8)),
        ("Preparation", (8, 9)),
        ("CalotTriangle", (9, 10)),
    ]


def test_runs_are_those_that_numpy_finds(tmp_path):
    phases = np.random.default_rng(0).integers(0, 3, 200).repeat(np.random.default_rng(1).integers(1, 5, 200))
    marks = of_text(tmp_path, "frame: n\nlabel: p", "n\tp\n" + "".join(f"{n}\tp{p}\n" for n, p in enumerate(phases)))
    held = np.full(len(phases), -1)
    for mark in marks:
        assert (held[slice(*mark.frames)] == -1).all()
        held[slice(*mark.frames)] = int(mark.raw[1:])
    assert (held == phases).all()
    assert len(marks) == np.count_nonzero(np.diff(phases)) + 1


def test_tools_that_are_told_every_25_frames_hold_until_the_next_row(tmp_path):
    text = "Frame\tGrasper\tHook\n0\t1\t0\n25\t1\t1\n50\t0\t\n75\t0\t1\n"
    marks = of_text(tmp_path, "frame: Frame\npresent: [Grasper, Hook]\nuntil_next: true", text)
    assert [(m.raw, m.frames, m.negative) for m in marks] == [
        ("Grasper", (0, 50), False),
        ("Hook", (0, 25), True),
        ("Hook", (25, 50), False),
        ("Grasper", (50, sys.maxsize), True),
        ("Hook", (75, sys.maxsize), False),  # from 50 to 75 its cell is empty: nobody said
    ]


@pytest.mark.parametrize(
    ("yaml", "frames"),
    [("", (10, 21)), ("inclusive: false", (10, 20)), ("first: 1", (9, 20)), ("first: 1\ninclusive: false", (9, 19))],
)
def test_intervals_in_frames_say_where_they_count_from_and_whether_the_last_is_in(yaml, frames):
    row = {"begin": "10", "end": "20.0", "what": "polyp"}
    assert of_rows(f"from: begin\nto: end\nlabel: what\nunit: frames\n{yaml}", row) == [Mark("polyp", frames=frames)]


def test_frames_of_another_rate_become_seconds():
    rows = [{"f": str(n), "p": "idle" if n < 3 else "dissection"} for n in range(5)]
    assert of_rows("frame: f\nlabel: p\nfps: 1", *rows) == [
        Mark("idle", times_s=(0.0, 3.0)),
        Mark("dissection", times_s=(3.0, 5.0)),
    ]
    row = {"a": "30", "b": "59", "p": "cut"}
    assert of_rows("from: a\nto: b\nlabel: p\nunit: frames\nfps: 30", row) == [Mark("cut", times_s=(1.0, 2.0))]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:01:02.5", 62.5), ("1:02:03", 3723), ("02:03,250", 123.25), ("100:00:00", 360000), ("0:59.999999", 59.999999)],
)
def test_time_codes_are_seconds(text, seconds):
    (mark,) = of_rows("from: a\nto: b\nlabel: x\nunit: timecode", {"a": "0:00", "b": text, "x": "bleeding"})
    assert mark == Mark("bleeding", times_s=(0.0, seconds))


def test_moments_in_seconds_hold_until_the_next_later_one():
    rows = [{"t": t, "x": x} for t, x in (("7.5", "c"), ("0", "a"), ("2", "b"), ("2", "d"), ("5", ""))]
    marks = of_rows("frame: t\nlabel: x\nunit: seconds\nuntil_next: true", *rows)
    assert spans(marks) == [("a", (0, 2)), ("b", (2, 5)), ("d", (2, 5)), ("c", (7.5, math.inf))]


def test_overlapping_intervals_of_one_label_are_one(tmp_path):
    text = "from,to,label\n1,4,x\n3,6,x\n6,7,x\n8,9,x\n2,3,y\n"
    marks = of_text(tmp_path, "from: from\nto: to\nlabel: label\nunit: seconds", text, "a.csv")
    assert spans(marks) == [("x", (1, 7)), ("y", (2, 3)), ("x", (8, 9))]


@pytest.mark.parametrize(
    ("yaml", "text"),
    [
        ("delimiter: ' '", "0   idle\n1 idle  \n\n2  cut\n"),
        ("delimiter: ';'", "0;idle\n1; idle\n2;cut"),
        (r"delimiter: '\t'", "0\tidle\r\n1\tidle\r\n2\tcut\r\n"),
        ("encoding: utf-16", "0\tidle\n1\tidle\n2\tcut\n".encode("utf-16")),
        ("", b"\xef\xbb\xbf0\tidle\n1\tidle\n2\tcut\n"),
    ],
)
def test_files_without_a_header_have_numbered_columns(tmp_path, yaml, text):
    marks = of_text(tmp_path, f"frame: 1\nlabel: 2\nheader: false\n{yaml}", text)
    assert spans(marks) == [("idle", (0, 2)), ("cut", (2, 3))]


def test_a_row_that_can_not_be_read_is_one_fault_on_the_first_frame():
    rows = [
        {"a": a, "b": b, "x": "polyp"}
        for a, b in (
            ("1", "2"),
            ("x", "2"),
            ("3", ""),
            ("5", "4"),
            ("-2", "9"),
            ("1e99", "1e99"),
            ("nan", "1"),
            ("1.5", "3"),
        )
    ]
    *faults, good = of_rows("from: a\nto: b\nlabel: x\nunit: frames", *rows)
    assert good == Mark("polyp", frames=(1, 3))
    assert {mark.frames for mark in faults} == {(0, 1)}
    assert [mark.problem for mark in faults] == [
        ("bad_annotation", "row 2: a position is no number"),
        ("bad_annotation", "row 3: a position is missing"),
        ("bad_annotation", "row 4: ends at 5, begins at 5"),
        ("bad_annotation", "row 5: begins at -2, before the video does"),
        ("bad_annotation", "row 6: a position is no number"),
        ("bad_annotation", "row 7: a position is no number"),
        ("bad_annotation", "row 8: a frame's number is not whole"),
    ]


@pytest.mark.parametrize("text", ["12", "1:60:00", "00:00:00:05", "aa:bb", "1:00:61", ""])
def test_what_is_no_time_code_is_a_fault(text):
    (mark,) = of_rows("from: a\nto: b\nlabel: x\nunit: timecode", {"a": text, "b": "99:00:00", "x": "y"})
    assert mark.problem == ("bad_annotation", "row 1: a time is not hh:mm:ss.ms")


def test_a_video_without_rows_or_file_is_not_annotated(tmp_path):
    assert intervals.read(spec("path: a.txt\nframe: f\nlabel: x"), CASE, Given(tmp_path, (), None)) is None
    assert intervals.read(spec("table: t\nframe: f\nlabel: x"), CASE, Given(tmp_path, (), None)) is None
    assert of_text(tmp_path, "frame: f\nlabel: x", "f\tx\n") == []


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("Frame,Phase\n0,idle\n", "the first line names no column 'f'"),
        (b"f\tx\n\xff\xfe\xff", "no table of text in utf-8"),
        ('f\tx\n1\t"no end\n', "no table of text in utf-8"),
        ("", "the first line names no column 'f'"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text, detail):
    with pytest.raises(Unusable, match=detail) as caught:
        of_text(tmp_path, "frame: f\nlabel: x", text)
    assert caught.value.reason == "bad_annotation"


def test_two_files_and_endless_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(Unusable, match="ambiguous_annotation"):
        intervals.read(spec("path: '*.txt'\nframe: f\nlabel: x"), CASE, Given(tmp_path, ("a.txt", "b.txt"), None))
    monkeypatch.setattr(intervals, "MOST_BYTES", 10)
    with pytest.raises(Unusable, match="too_large"):
        of_text(tmp_path, "frame: f\nlabel: x", "f\tx\n1\tidle\n")


def test_any_bytes_end_in_marks_or_in_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    for yaml in ("frame: f\nlabel: x", "frame: 1\nlabel: 2\nheader: false", "frame: 1\npresent: [2, 3]\nheader: false"):
        for _ in range(60):
            noise = rng.choice(list(b'f\tx\n0123456789.,:"\0\xffe-+ \r'), rng.integers(1, 200)).tolist()
            with contextlib.suppress(Unusable):
                marks = of_text(tmp_path, yaml, b"f\tx\n" + bytes(noise))
                assert all(mark.frames[0] < mark.frames[1] for mark in marks)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("frame: f\nlabel: x", "give one of path, table"),
        ("path: a\ntable: t\nframe: f\nlabel: x", "give one of path, table"),
        ("path: a\nframe: f", "one of label, present"),
        ("path: a\nlabel: x", "give frame, or from and to"),
        ("path: a\nlabel: x\nfrom: a", "give frame, or from and to"),
        ("path: a\nlabel: x\nfrom: a\nto: b", "say frames, seconds or timecode"),
        ("path: a\nlabel: x\nframe: a\nunit: seconds", "say until_next: true"),
        ("path: a\nlabel: x\nfrom: a\nto: b\nunit: seconds\nuntil_next: true", "until_next goes with frame"),
        ("path: a\nlabel: x\nfrom: a\nto: b\nunit: seconds\nfps: 25", "fps goes with unit: frames"),
        ("path: a\nlabel: x\nframe: f\nheader: false", "numbers from 1, not 'f'"),
        ("path: a\nlabel: 1\nframe: 0\nheader: false", "numbers from 1, not '0'"),
        ("path: a\nlabel: x\nframe: f\ndelimiter: ab", "one character"),
        ("path: a\nlabel: x\nframe: f\nencoding: latin-99", "unknown encoding"),
        ("path: a\nlabel: x\nframe: f\nencoding: hex", "unknown encoding"),
        ("path: a\nlabel: x\nframe: f\nform: 1", "unknown key 'form'"),
    ],
)
def test_what_does_not_fit_together_is_told_in_one_line(yaml, said):
    with pytest.raises(UserError, match=said):
        spec(yaml)


def test_frames_of_a_video_get_the_phases_they_lie_in(tmp_path, data_set):
    """Four seconds at 10 frames a second, one picture a second."""
    writer = cv2.VideoWriter(str(tmp_path / "a.mov"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"png "), 10, (64, 48))
    for picture in np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8):
        writer.write(picture)
    writer.release()
    yaml = """
cases: {match: "{video}.mov", id: "{video}"}
tables: {t: {path: findings.csv, key: video, match: "{video}"}}
annotations:
  - {kind: intervals, path: "{video}.txt", frame: Frame, label: Phase, until_next: true}
  - {kind: intervals, table: t, from: from, to: to, unit: timecode, label: finding}
frames: {every_s: 1.0}
"""
    files = {
        "a.mov": (tmp_path / "a.mov").read_bytes(),
        "a.txt": "Frame\tPhase\n0\tidle\n15\tcutting\n",
        "findings.csv": "video,from,to,finding\na,0:01.0,0:02.5,bleeding\na,0:02,x,polyp\n",
    }
    read = data_set(yaml, files, modality="endoscopy").read()["a"]
    told = {record.id.rpartition("/")[2]: sorted(region.raw for region in record.regions) for record in read.records}
    assert told == {
        "f00000": ["idle"],
        "f00010": ["bleeding", "idle"],
        "f00020": ["bleeding", "cutting"],
        "f00030": ["cutting"],
    }
    assert {record.origin for record in read.records} == {"video"}
    assert [(row.level, row.reason) for row in read.rejected] == [("region", "bad_annotation")]
    assert (read.tally.pictures_cut, read.tally.pictures_not_selected) == (40, 36)
