"""Frames of a video: which are taken, when they are, what they look like, and what broken files become."""

import io
import json
import math
import os
import struct
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import discovery
from pipeline.errors import Unusable, UserError
from pipeline.ingest import video
from pipeline.ingest.video import Seen
from sources.descriptor import Display, Frames

EVERY = Frames(every_s=None)
DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
LOSSLESS = "png "
"""Codec: the frames that come out are those that went in."""


def scenes(many: int, width: int = 64, height: int = 48, colour: bool = True) -> list[np.ndarray]:
    """Frames that all differ, RGB."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (many, height // 8, width // 8, 3 if colour else 1), dtype=np.uint8)
    large = small.repeat(8, axis=1).repeat(8, axis=2)
    return list(large if colour else large.repeat(3, axis=3))


def write(path: Path, pictures: list[np.ndarray], fps: float = 10, codec: str = LOSSLESS) -> Path:
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


def write_gif(path: Path, pictures: list[np.ndarray], durations: list[int]) -> Path:
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    first.save(path, "GIF", save_all=True, append_images=rest, duration=durations)
    return path


def read(path: Path, wanted: Frames = EVERY, labelled=None, **display):
    seen = Seen()
    return list(video.frames(path, wanted, labelled, Display(**display), seen)), seen


def numbers(path: Path, wanted: Frames, labelled=None) -> list[int]:
    return [frame.index for frame in read(path, wanted, labelled)[0]]


def reason(path: Path) -> str:
    with pytest.raises(Unusable) as caught:
        read(path)
    return caught.value.reason


# ---- which frames


def test_every_frame_comes_out_as_it_went_in_with_its_number_and_time(tmp_path):
    pictures = scenes(7)
    found, seen = read(write(tmp_path / "a.mov", pictures, fps=5))
    assert [frame.name for frame in found] == [f"f0000{n}" for n in range(7)]
    assert [frame.index for frame in found] == list(range(7))
    assert [frame.time_s for frame in found] == pytest.approx([n / 5 for n in range(7)])
    assert all((frame.pixels == picture).all() for frame, picture in zip(found, pictures, strict=True))
    assert {frame.source_size for frame in found} == {(64, 48)}
    assert seen == Seen(frames=7, taken=7, repeated=0)


@pytest.mark.parametrize(
    ("fps", "every_s"), [(10, 1.0), (7, 1.0), (25, 0.5), (12.5, 0.3), (30000 / 1001, 1.0), (2, 0.1)]
)
def test_the_first_frame_at_or_after_each_multiple_is_taken(tmp_path, fps, every_s):
    path = write(tmp_path / "a.mov", scenes(60), fps)
    multiples = [k * every_s for k in range(math.ceil(59 / fps / every_s) + 1)]
    wanted = {next((n for n in range(60) if n / fps >= at - 1e-3), None) for at in multiples} - {None}
    assert numbers(path, Frames(every_s=every_s)) == sorted(wanted)


def test_most_frames_of_a_clip_are_spread_evenly_over_those_sampled(tmp_path):
    path = write(tmp_path / "a.mov", scenes(60), fps=10)
    assert numbers(path, Frames(every_s=1.0, most=3)) == [10, 30, 50]  # of 0, 10, … 50: the middles of three thirds
    assert numbers(path, Frames(every_s=None, most=1)) == [30]
    assert numbers(path, Frames(every_s=1.0, most=6)) == numbers(path, Frames(every_s=1.0, most=99))
    found, seen = read(path, Frames(every_s=None, most=4))
    assert (len(found), seen) == (4, Seen(frames=60, taken=4, repeated=0))
    gaps = [b.index - a.index for a, b in pairwise(found)]
    assert max(gaps) - min(gaps) <= 1


def test_a_clip_that_stands_still_is_one_picture(tmp_path):
    picture = scenes(1)[0]
    found, seen = read(write(tmp_path / "a.mov", [picture] * 25))
    assert [frame.index for frame in found] == [0]
    assert seen == Seen(frames=25, taken=1, repeated=24)


def test_repeats_do_not_count_among_the_most(tmp_path):
    a, b, c = scenes(3)
    path = write(tmp_path / "a.mov", [a] * 8 + [b, b, c])
    assert numbers(path, Frames(every_s=None, most=3)) == [0, 8, 10]


def test_only_labelled_frames_are_taken_and_none_between_two_multiples_is_missed(tmp_path):
    path = write(tmp_path / "a.mov", scenes(40), fps=10)
    wanted = Frames(every_s=1.0, pick="labelled")
    assert numbers(path, wanted, lambda number, time_s: number == 17) == [17]
    assert numbers(path, wanted, lambda number, time_s: 1.25 <= time_s < 2.55) == [13, 20]
    assert numbers(path, wanted, lambda number, time_s: False) == []
    assert numbers(path, wanted, None) == [0, 10, 20, 30]  # None: a label speaks of all
    assert numbers(path, Frames(every_s=1.0), lambda number, time_s: False) == [0, 10, 20, 30]


def test_a_header_that_lies_about_the_number_of_frames_is_not_heeded(tmp_path):
    path = write(tmp_path / "a.mpg", scenes(12), codec="mpg2")
    assert cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).get(cv2.CAP_PROP_FRAME_COUNT) != 12
    assert read(path)[1].frames == 12


def test_one_frame_is_one_picture(tmp_path):
    assert numbers(write(tmp_path / "a.mov", scenes(1)), Frames()) == [0]


def test_times_that_stand_still_or_run_back_go_on_by_the_frame_rate():
    clock = video._Clock(10)
    told = [500.0, 600.0, 600.0, math.nan, 550.0, 1500.0]
    assert [clock.next(ms) for ms in told] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 1.0])
    assert [video._Clock(fps).next(ms) for fps in (0, math.nan, 1e9) for ms in (math.inf,)] == [0, 0, 0]


# ---- what they look like


def test_frames_whose_channels_are_equal_are_grey(tmp_path):
    grey, coloured = scenes(1, colour=False)[0], scenes(1)[0]
    found, _ = read(write(tmp_path / "a.mov", [grey, coloured]))
    assert [frame.pixels.shape for frame in found] == [(48, 64), (48, 64, 3)]
    assert (found[0].pixels == grey[..., 0]).all()


def turned_file(path: Path, degrees: int) -> None:
    """Write the matrix of a quarter turn into the track header of an MP4 or MOV file (ISO 14496-12, 8.3.2)."""
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    assert data[at] == 0  # version
    matrix = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    struct.pack_into(">9i", data, at + 40, *matrix)
    path.write_bytes(data)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (180, 2), (270, 1)])
def test_a_turned_video_is_upright_and_boxes_speak_of_it_so(tmp_path, degrees, quarters):
    pictures = scenes(2)
    path = write(tmp_path / "a.mov", pictures)
    turned_file(path, degrees)
    found, _ = read(path)
    upright = [np.rot90(picture, quarters) for picture in pictures]
    assert all((frame.pixels == picture).all() for frame, picture in zip(found, upright, strict=True))
    assert found[0].source_size == upright[0].shape[1::-1]
    assert found[0].history == (f"turned by {degrees} degrees, as the video says",)


def test_a_crop_has_its_way_back_and_counts_from_the_far_side(tmp_path):
    picture = scenes(1)[0]
    path = write(tmp_path / "a.mov", [picture])
    (frame,), _ = read(path, crop=(8, 16, -8, 40))
    assert (frame.pixels == picture[16:40, 8:56]).all()
    assert (frame.to_source, frame.source_size) == ((1.0, 0.0, 8.0, 0.0, 1.0, 16.0), (64, 48))
    assert read(path, crop=(8, 0, 0, -8))[0][0].pixels.shape == (40, 56, 3)
    with pytest.raises(Unusable, match=r"size_mismatch: display\.crop 70, 0, 80, 10 leaves nothing of 64x48 px"):
        read(path, crop=(70, 0, 80, 10))
    with pytest.raises(Unusable, match="size_mismatch"):
        read(path, Frames(every_s=None, most=2), crop=(70, 0, 80, 10))
    with pytest.raises(UserError, match="ultrasound needs DICOM"):
        read(path, crop="ultrasound")


def test_a_repeat_is_told_within_the_crop(tmp_path):
    """A running clock in a corner makes no other picture of a frozen one."""
    picture = scenes(1)[0]
    clock = [picture.copy() for _ in range(5)]
    for n, frame in enumerate(clock):
        frame[:8, :8] = 10 * n
    assert len(read(write(tmp_path / "a.mov", clock), crop=(0, 8, 64, 48))[0]) == 1


def test_large_frames_are_made_smaller(tmp_path):
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[40:80, 200:280] = 255
    (frame,), _ = read(write(tmp_path / "a.mov", [picture]), max_side_px=80)
    assert frame.pixels.shape == (60, 80)
    assert frame.to_source == (4.0, 0.0, 0.0, 0.0, 4.0, 0.0)
    assert set(frame.pixels[10:20, 50:70].ravel()) == {255}
    assert frame.pixels.astype(int).sum() == 255 * 10 * 20


def test_pixels_that_are_not_square_become_so(tmp_path):
    path = write(tmp_path / "a.mpg", scenes(3), codec="mpg2")
    data = bytearray(path.read_bytes())
    at = data.find(b"\0\0\1\xb3")
    while at >= 0:  # sequence headers (ISO 13818-2, 6.2.2.1): display aspect ratio 3 is 16:9
        data[at + 7] = data[at + 7] & 0x0F | 0x30
        at = data.find(b"\0\0\1\xb3", at + 4)
    path.write_bytes(data)
    frame = read(path)[0][0]
    assert frame.pixels.shape[:2] == (48, 85)  # 48 · 16 / 9
    assert (frame.source_size, frame.to_source[0]) == ((64, 48), 64 / 85)


# ---- which files


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mov", "png "), ("a.avi", "FFV1"), ("a.mkv", "FFV1"), ("a.mp4", "mp4v"), ("a.ts", "mpg2"), ("a.wmv", "WMV2")],
)
def test_content_decides_and_not_the_suffix(tmp_path, name, codec):
    path = write(tmp_path / name, scenes(5), codec=codec)
    assert read(path.rename(tmp_path / "clip.jpg"))[1].frames == 5


def test_a_gif_is_composed_and_keeps_its_pauses(tmp_path):
    base = np.zeros((40, 48, 3), np.uint8)
    pictures = [base.copy() for _ in range(4)]
    for n, picture in enumerate(pictures):
        picture[8 * n : 8 * n + 8] = 255, 0, 128  # Pillow stores what differs from the frame before
    found, seen = read(write_gif(tmp_path / "a.mp4", pictures, [100, 250, 40, 500]))
    assert all((frame.pixels == picture).all() for frame, picture in zip(found, pictures, strict=True))
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.1, 0.35, 0.39])
    assert seen == Seen(frames=4, taken=4, repeated=0)


def test_a_gif_of_one_frame_is_grey_where_it_is(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.gif")
    (frame,), _ = read(tmp_path / "a.gif", Frames())
    assert (frame.pixels == picture).all()


def test_a_file_name_may_be_no_text(tmp_path):
    path = write(tmp_path / "a.mov", scenes(2))
    assert read(path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff%03d.mov")))[1].frames == 2


def test_a_play_list_does_not_lead_to_other_files(tmp_path):
    write(tmp_path / "secret.ts", scenes(3), codec="mpg2")
    for script in (
        "ffconcat version 1.0\nfile secret.ts\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n",
    ):
        (tmp_path / "list.mp4").write_text(script)
        assert reason(tmp_path / "list.mp4") == "undecodable"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"no video at all" * 30, "undecodable"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "lfs_pointer"),
        (b"\0\0\0\x18ftypisom" + b"\0" * 40, "undecodable"),
        (b"GIF89a", "truncated"),
        (b"G" * 400, "undecodable"),
    ],
)
def test_what_is_no_video_has_its_reason(tmp_path, content, code):
    (tmp_path / "a.mp4").write_bytes(content)
    assert reason(tmp_path / "a.mp4") == code


def test_a_video_without_a_frame_has_no_content(tmp_path):
    path = tmp_path / "a.avi"
    cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48)).release()
    assert reason(path) == "no_content"


def test_a_gif_frame_far_beyond_its_canvas_is_refused_before_it_takes_memory(tmp_path):
    sink = io.BytesIO()
    first, second = (Image.fromarray(picture) for picture in scenes(2))
    first.save(sink, "GIF", save_all=True, append_images=[second])
    data = bytearray(sink.getvalue())
    at = data.rindex(b"!\xf9\x04") + 8  # the descriptor behind the last graphic control
    assert data[at : at + 1] == b","
    data[at + 5 : at + 9] = b"\xff" * 4  # 65535 x 65535 px
    (tmp_path / "a.gif").write_bytes(data)
    found, _ = read(tmp_path / "a.gif")
    assert [(frame.index, frame.flags) for frame in found] == [(0, ("video_truncated",))]


# ---- files that end too early


def header_first(data: bytes) -> bytes:
    """Move `moov` before `mdat`, as files for the web have it."""
    at = data.index(b"moov") - 4
    moov = bytearray(data[at : at + int.from_bytes(data[at : at + 4], "big")])
    table = moov.index(b"stco")
    for n in range(int.from_bytes(moov[table + 8 : table + 12], "big")):
        place = table + 12 + 4 * n
        struct.pack_into(">I", moov, place, struct.unpack_from(">I", moov, place)[0] + len(moov))
    first = int.from_bytes(data[:4], "big")
    return data[:first] + bytes(moov) + data[first:at] + data[at + len(moov) :]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mov", "png "), ("a.mp4", "mp4v"), ("a.avi", "FFV1"), ("a.mkv", "FFV1")]
)
def test_the_whole_frames_of_a_cut_file_are_kept_with_a_flag(tmp_path, name, codec):
    path = write(tmp_path / name, scenes(30), codec=codec)
    data = path.read_bytes()
    if name in ("a.mov", "a.mp4"):
        data = header_first(data)
        path.write_bytes(data)
    whole, _ = read(path)
    assert {frame.flags for frame in whole} == {()}
    path.write_bytes(data[: len(data) * 3 // 4])
    kept, seen = read(path)
    assert 10 < len(kept) < 28
    assert seen.frames == len(kept) + 1  # the last one is in doubt
    assert {frame.flags for frame in kept} == {("video_truncated",)}
    assert all((a.pixels == b.pixels).all() for a, b in zip(kept, whole, strict=False))


def test_a_cut_gif_keeps_its_whole_frames(tmp_path):
    whole = write_gif(tmp_path / "a.gif", scenes(8), [100] * 8)
    frames, _ = read(whole)
    data = whole.read_bytes()
    for length in (len(data) * 3 // 5, len(data) - 1):
        whole.write_bytes(data[:length])
        kept, _ = read(whole)
        assert 0 < len(kept) <= 8
        assert {frame.flags for frame in kept} == {("video_truncated",)}
        assert all((a.pixels == b.pixels).all() for a, b in zip(kept, frames, strict=False))


def test_a_file_cut_before_its_header_is_truncated(tmp_path):
    path = write(tmp_path / "a.mp4", scenes(30), codec="mp4v")
    path.write_bytes(path.read_bytes()[:3000])  # moov stands at the end
    assert reason(path) == "truncated"


def test_a_damaged_file_gives_the_same_frames_in_every_reading_and_says_nothing(tmp_path, capfd):
    path = write(tmp_path / "a.mp4", scenes(40), codec="mp4v")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(200, len(data) - 2000, 60).tolist():
        data[at] = rng.integers(256)
    path.write_bytes(data)
    capfd.readouterr()
    first, second = read(path)[0], read(path)[0]
    assert [frame.index for frame in first] == [frame.index for frame in second] != []
    assert all((a.pixels == b.pixels).all() for a, b in zip(first, second, strict=True))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["a.gif", "a.mp4", "a.avi", "a.mkv", "a.mpg"])
def test_bytes_flipped_anywhere_end_in_frames_or_in_a_reason(tmp_path, name):
    path = tmp_path / name
    codecs = {"a.mp4": "mp4v", "a.avi": "MJPG", "a.mkv": "FFV1", "a.mpg": "mpg2"}
    if name == "a.gif":
        write_gif(path, scenes(6), [100] * 6)
    else:
        write(path, scenes(6), codec=codecs[name])
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    reasons = set()
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), rng.choice([60, 700, len(data)])), rng.integers(1, 8)).tolist():
            broken[at] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(1, len(broken)) if rng.random() < 0.3 else None])
        try:
            read(path)
        except Unusable as error:
            reasons.add(error.reason)
    assert reasons
    assert reasons <= {"undecodable", "truncated", "no_content", "too_large"}


# ---- real clips


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")


@needs_data
def test_lung_ultrasound_clips_have_the_frames_that_were_counted():
    for name, wanted in json.loads((DATA / "GOLD.json").read_text())["video"].items():
        path = next((DATA / "pocus_video").rglob(Path(name).name))
        found, seen = read(path, Frames(every_s=1.0))
        assert (seen.frames, found[0].source_size) == (wanted["frames_read"], tuple(wanted["size"]))
        assert len(found) + seen.repeated == math.ceil(wanted["frames_read"] / wanted["fps"] - 0.02)


@needs_data
def test_dirty_clips_end_as_their_list_says():
    folder = DATA / "dirty_derived" / "video"
    assert reason(folder / "truncated.mp4") == "truncated"
    assert read(folder / "renamed.avi")[1].frames == 123
    assert read(folder / "static.mp4")[1] == Seen(frames=40, taken=1, repeated=39)
    assert read(folder / "one_frame.mp4")[1] == Seen(frames=1, taken=1, repeated=0)
