"""2D pictures of a case: picture files, videos, rows of arrays, DICOM files without a place in the patient."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pipeline import pictures
from pipeline.ingest import arrays, dicom_pictures, picture_files, planar, video
from pipeline.ingest.frames import Frame, chosen
from pipeline.ingest.reading import Reading, keep
from pipeline.ingest.source import Laid
from pipeline.records import Picture
from sources import rows


def read(reading: Reading, form: str) -> None:
    """Read the frames of a case that is no volume.

    Args:
        reading: The case.
        form: `picture`, `video` or `rows`.
    """
    if form == "video":
        _read_clip(reading)
        return
    for frame in _frames(reading, form):
        _keep_frame(reading, frame)


def _frames(reading: Reading, form: str) -> Iterator[Frame]:
    case, source = reading.case, reading.source
    display, where = source.descriptor.display, source.descriptor.id
    spec = source.descriptor.cases.rows
    if form == "rows" and spec and spec.image:
        assert case.row is not None
        member = rows.member(spec, case.captures)
        yield arrays.frame(reading.paths[0], case.row, member, display, reading.modality, source.vocabulary, where)
    else:
        data = reading.paths[0].read_bytes()
        yield picture_files.frame(data, display, reading.modality, source.vocabulary, where)


def _read_clip(reading: Reading) -> None:
    display, wanted, seen = reading.source.descriptor.display, reading.source.descriptor.frames, video.Seen()
    for frame in video.frames(reading.paths[0], wanted, _labelled(reading), display, seen):
        _keep_frame(reading, frame)
    reading.passed_over(seen.frames - seen.taken)


def _labelled(reading: Reading) -> Callable[[int, float], bool]:
    """Return whether a frame, by number and time, has a label of its own."""
    return lambda index, time_s: planar.speaks_of(reading.annotations, index, time_s)


def _keep_frame(reading: Reading, frame: Frame) -> None:
    """Store a frame with what is known of it, or reject it."""
    source, out = reading.source, reading.out
    record_id = f"{reading.id}/{frame.name}"
    out.tally.pictures_cut += 1
    if not reading.annotations and source.descriptor.cases.unlabelled == "reject":
        detail = "no annotation speaks of it; cases.unlabelled: keep keeps it"
        out.reject(record_id, "record", "unlabelled", detail)
        return
    laid = planar.lay(frame, reading.annotations, source, reading.case.row)
    data = frame.original or pictures.png(frame.pixels)
    height, width = frame.pixels.shape[:2]
    picture = Picture(
        data,
        width,
        height,
        pictures.sha256(data),
        frame.to_source,
        window=frame.window,
        index=frame.index,
        time_s=frame.time_s,
        spacing_mm=frame.spacing_mm,
        geometry=frame.geometry,
        flags=(*frame.flags, *_flags(frame, laid)),
    )
    keep(reading, record_id, picture, laid, frame.history + laid.history)


def _flags(frame: Frame, laid: Laid) -> Iterator[str]:
    yield from laid.flags
    if pictures.is_blank(frame.pixels):
        yield "blank"


def read_dicom(reading: Reading, path: Path, prefix: str) -> None:
    """Read a DICOM file without a place in the patient: a radiograph, an ultrasound clip.

    Args:
        reading: The case.
        path: The file.
        prefix: Of its records' last part, where the case has several such files.
    """
    source, labelled = reading.source, _labelled(reading)
    found, taken = 1, 0

    def choose(total: int, step_s: float | None) -> list[int]:
        nonlocal found
        found = total
        return chosen(total, step_s, source.descriptor.frames, labelled)

    frames = dicom_pictures.frames(
        path,
        source.descriptor.display,
        source.vocabulary,
        reading.modality,
        source.descriptor.id,
        choose,
        source.descriptor.privacy.burned_in == "cleared",
        source.labels(),
    )
    for frame in frames:
        taken += 1
        _keep_frame(reading, replace(frame, name=prefix + frame.name))
    reading.passed_over(found - taken)
