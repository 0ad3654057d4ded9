"""Frames of a video: read in order, sampled by their time, one in memory at a time.

Neither a header's count of frames nor a seek is trusted: both are wrong in real clips.
"""

import math
import os
import struct
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image

from pipeline import pictures
from pipeline.errors import Unusable, UserError
from pipeline.ingest.containers import Clip, clip_of
from pipeline.ingest.frames import Frame, cut_out
from pipeline.pictures import Pixels
from pipeline.rasters import MAX_PIXELS
from sources.descriptor import Display, Frames

Labelled = Callable[[int, float], bool]
"""Does a label speak of this frame (its number, its time in seconds)?"""

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read at the first video; FFmpeg's own lines would name files

_OPEN = (
    *(cv2.CAP_PROP_N_THREADS, 1),  # several threads patch a damaged stream differently from run to run
    *(cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE),
)
_ROUNDING_S = 1e-4
_GIF_PAUSE_S = 0.1
"""What browsers make of a GIF frame without a duration."""


@dataclass(slots=True)
class Seen:
    """What a clip held, counted while it is read; final once its frames have come to their end."""

    frames: int = 0
    taken: int = 0
    repeated: int = 0
    """Sampled, but the same pixels as the frame before: left out."""


class _Still(NamedTuple):
    """A frame that may still have to be decoded."""

    number: int
    time_s: float
    pixels: Callable[[], Pixels]
    """Gives RGB, upright; before the next frame is read."""
    aspect: float = 1.0
    """Width of a pixel by its height."""
    turned: int = 0
    """Degrees by which the file says to turn it, done."""


_Taker = Callable[[_Still], bool]
"""Is this frame to become a picture?"""


def frames(path: Path, wanted: Frames, labelled: Labelled | None, display: Display, seen: Seen) -> Iterator[Frame]:
    """Yield the frames of a video that become pictures, in order, the same ones on every run.

    Of a file that ends too early the whole frames are given, each with the flag `video_truncated`.

    Args:
        path: MP4, MOV, AVI, MPEG, Matroska and what else FFmpeg reads, or GIF.
        wanted: Which frames are taken.
        labelled: Which frames have a label, for `pick: labelled`; None: all.
        display: Its crop and longest side.
        seen: Counts what was read and taken.

    Raises:
        Unusable: `empty_file`, `lfs_pointer`, `undecodable`, `truncated`, `too_large`, `no_content`; `size_mismatch`:
            the crop leaves nothing.
        UserError: `display.crop: ultrasound`, for which a video has no header.
    """
    if display.crop == "ultrasound":
        raise UserError("display.crop: ultrasound needs DICOM files, here is a video; give x0, y0, x1, y1")
    clip = clip_of(path)
    takes = _by_time(wanted.every_s, labelled if wanted.pick == "labelled" else None)
    if wanted.most is None and not clip.cut and clip.form != "gif":
        found = _distinct(_sampled(clip, takes, display, seen), seen)
    else:
        clip, chosen = _surveyed(clip, takes, display, seen, wanted.most)
        again = _sampled(clip, lambda still: still.number in chosen, display, Seen())
        found = _distinct(islice(again, len(chosen)), Seen())
    for frame in found:
        seen.taken += 1
        yield frame
    if not seen.frames:
        raise Unusable("no_content", "the video holds no frame")


def _by_time(every_s: float | None, labelled: Labelled | None) -> _Taker:
    """Take the first frame with a label at or after each multiple of `every_s`; None: every one."""
    due = 0.0

    def takes(still: _Still) -> bool:
        nonlocal due
        time_s = still.time_s + _ROUNDING_S
        if time_s < due or (labelled and not labelled(still.number, still.time_s)):
            return False
        due = time_s - time_s % every_s + every_s if every_s else 0.0
        return True

    return takes


def _surveyed(clip: Clip, takes: _Taker, display: Display, seen: Seen, most: int | None) -> tuple[Clip, frozenset[int]]:
    """Read a clip once to learn where it ends and which of its sampled frames differ; choose evenly among those."""
    found, cut = list[int](), clip.cut
    try:
        for frame in _distinct(_sampled(clip, takes, display, seen), seen):
            found.append(frame.index or 0)  # one by one: what was found before a fault stays
    except Unusable as error:
        if not seen.frames or error.reason == "size_mismatch":  # of the descriptor's crop
            raise
        cut = True
    end = seen.frames - 1 if clip.cut else seen.frames  # decoders make up what is missing of the last frame
    if cut and not end:
        raise Unusable("truncated", "the video ends before its first frame does")
    whole = [index for index in found if index < end]
    many = min(most or len(whole), len(whole))
    return clip._replace(cut=cut), frozenset(whole[(2 * n + 1) * len(whole) // (2 * many)] for n in range(many))


def _sampled(clip: Clip, takes: _Taker, display: Display, seen: Seen) -> Iterator[Frame]:
    with closing(_composed(clip) if clip.form == "gif" else _grabbed(clip)) as stills:
        for still in stills:
            seen.frames += 1
            if takes(still):
                yield _frame(still, display, clip.cut)


def _distinct(found: Iterator[Frame], seen: Seen) -> Iterator[Frame]:
    """Leave out a frame that has the same pixels as the one before."""
    last = None
    for frame in found:
        if last is not None and np.array_equal(frame.pixels, last):
            seen.repeated += 1
        else:
            last = frame.pixels
            yield frame


# ---- what a frame becomes


def _frame(still: _Still, display: Display, cut: bool) -> Frame:
    pixels = still.pixels()
    height, width = pixels.shape[:2]
    history = [f"turned by {still.turned} degrees, as the video says"] if still.turned else []
    x0, y0, x1, y1 = cut_out(display.crop if isinstance(display.crop, tuple) else None, width, height)
    if (x0, y0, x1, y1) != (0, 0, width, height):
        pixels = pixels[y0:y1, x0:x1]
        history.append(f"cropped to columns {x0} to {x1}, rows {y0} to {y1} of {width}x{height} px")
    columns, rows = _size(x1 - x0, y1 - y0, still.aspect, display.max_side_px)
    if (columns, rows) != (x1 - x0, y1 - y0):
        pixels = pictures.resize(np.ascontiguousarray(pixels), columns, rows)
        history.append(f"resized from {x1 - x0}x{y1 - y0} to {columns}x{rows} px")
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = pixels[..., 0]
    return Frame(
        name=f"f{still.number:05d}",
        pixels=np.ascontiguousarray(pixels),
        source_size=(width, height),
        to_source=((x1 - x0) / columns, 0.0, float(x0), 0.0, (y1 - y0) / rows, float(y0)),
        index=still.number,
        time_s=round(still.time_s, 6),
        flags=("video_truncated",) if cut else (),
        history=tuple(history),
    )


def _size(width: int, height: int, aspect: float, longest: int) -> tuple[int, int]:
    """Return the sides in px of a picture with square pixels, none longer than it may be."""
    wide, high = (width * aspect, float(height)) if aspect > 1 else (float(width), height / aspect)
    scale = min(1.0, longest / max(wide, high))
    return max(1, round(wide * scale)), max(1, round(high * scale))


# ---- FFmpeg


def _grabbed(clip: Clip) -> Generator[_Still]:
    """Read a video with FFmpeg.

    Raises:
        Unusable: `undecodable`, `truncated` or `too_large`.
    """
    # bytes: OpenCV 5 crashes on a name that is not UTF-8
    capture: Any = cv2.VideoCapture(os.fsencode(clip.path.absolute()), cv2.CAP_FFMPEG, _OPEN)  # type: ignore[call-overload]
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        if not capture.isOpened():
            raise _unopened(clip)
        width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if width * height > MAX_PIXELS:
            raise Unusable("too_large", f"{width:g}x{height:g} px; at most {MAX_PIXELS} are decoded")
        times = _Clock(capture.get(cv2.CAP_PROP_FPS))
        for index in count():
            if not capture.grab():
                return
            time_s = times.next(capture.get(cv2.CAP_PROP_POS_MSEC))
            yield _Still(index, time_s, lambda: _retrieved(capture), *_as_shown(capture))
    except cv2.error as error:
        raise Unusable("undecodable", f"FFmpeg gives up (OpenCV error {error.code})") from None
    finally:
        capture.release()


def _unopened(clip: Clip) -> Unusable:
    if clip.cut:
        return Unusable("truncated", "the video ends before what says how to read it")
    return Unusable("undecodable", "FFmpeg finds no video in it")


def _retrieved(capture: Any) -> Pixels:
    done, pixels = capture.retrieve()
    if not done or pixels.ndim != 3:
        raise Unusable("undecodable", "a frame can not be decoded")
    rgb: Pixels = pixels[..., ::-1]
    return rgb


def _as_shown(capture: Any) -> tuple[float, int]:
    """Return width by height of a pixel, and degrees turned."""
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    turned = int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 360
    aspect = wide / high if wide > 0 and high > 0 else 1.0
    if not 0.1 < aspect < 10:
        aspect = 1.0
    return (1 / aspect if turned % 180 else aspect), turned


class _Clock:
    """Seconds since the first frame; where a position is not after the one before, the frame rate goes on."""

    def __init__(self, fps: float) -> None:
        self._step = 1 / fps if 0.01 < fps < 1000 else 1 / 25
        self._start = 0.0
        self._last: float | None = None

    def next(self, position_ms: float) -> float:
        """Return the time of the next frame."""
        position = position_ms / 1000
        if self._last is None:
            self._start, self._last = (position if math.isfinite(position) else 0.0), 0.0
        else:
            since = position - self._start
            sane = math.isfinite(since) and since > self._last
            self._last = since if sane else self._last + self._step
        return self._last


# ---- GIF


def _composed(clip: Clip) -> Generator[_Still]:
    """Read a GIF: each frame laid over those before, as it is shown.

    Raises:
        Unusable: `truncated` or `too_large`.
    """
    time_s = 0.0
    try:
        with clip.path.open("rb") as file, _opened(file) as image:
            for number in count():
                pixels = _shown(image, number)
                if pixels is None:
                    break
                yield _Still(number, time_s, partial(np.asarray, pixels))
                time_s += (image.info.get("duration") or 1000 * _GIF_PAUSE_S) / 1000
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
            if not file.read().rstrip(b"\0").endswith(b";"):
                raise Unusable("truncated", "GIF ends before its end mark")
    except Image.DecompressionBombError:
        raise Unusable("too_large", f"a frame has more than {2 * MAX_PIXELS} px") from None
    except (OSError, ValueError, TypeError, IndexError, SyntaxError, struct.error) as error:
        raise Unusable("truncated", f"GIF ends within a frame ({type(error).__name__})") from None


def _opened(file: BinaryIO) -> Image.Image:
    with _bounded():
        return Image.open(file, formats=("GIF",))


def _shown(image: Image.Image, number: int) -> Pixels | None:
    with _bounded():
        try:
            image.seek(number)
        except EOFError:
            return None
        return np.asarray(image.convert("RGB"))


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound what Pillow allocates for a frame that is larger than its canvas."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # it refuses from twice that on
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
