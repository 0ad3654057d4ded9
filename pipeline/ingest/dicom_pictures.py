"""DICOM files that are pictures, not slices: films, ultrasound, photographs, captures, cines, slides of microscopes.

In the order of the standard: decode, modality, VOI, polarity, 8 bits; then crop and square pixels. Overlays are never
drawn. Such files have no place in the patient, so geometry stays unknown.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import highdicom as hd
import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.ingest import burned_in, dicom, dicom_pixels, windows
from pipeline.ingest.dicom_pixels import MALFORMED, MAX_PIXELS, Stored, group, items, number, numbers, text
from pipeline.ingest.frames import Frame, cut_out
from pipeline.ingest.windows import Bounds
from pipeline.records import Affine2
from pipeline.vocabulary import Vocabulary
from sources.descriptor import Display, WindowSpec

Choose = Sequence[int] | Callable[[int, float | None], Iterable[int]] | None
"""Frames of a cine: their numbers, or a function of their count and the seconds between two; None: all."""

STREAMED_BYTES = 64_000_000
"""Of a larger file only the header is held in memory, and a frame at a time."""
MAX_SLIDE_PIXELS = 64_000_000
"""A larger slide is not put together from its tiles."""
SAMPLED_FRAMES = 5
"""Of a cine, spread evenly, that percentiles are taken of: one window for all its frames."""
SQUARE = 0.01
"""Sides of a pixel that differ by less are the same."""


class _File(NamedTuple):
    """A file that is open: its header, and a slide put together from its tiles."""

    dataset: Any
    path: Path
    slide: Stored | None

    @property
    def total(self) -> int:
        return 1 if self.slide else dicom_pixels.count(self.dataset)

    def decoded(self, indices: Iterable[int]) -> Iterator[tuple[int, Stored]]:
        if self.slide:
            return ((index, self.slide) for index in indices)
        return dicom_pixels.frames(self.dataset, self.path, indices)


class _Place(NamedTuple):
    """Where the stored picture lies in the file's."""

    size: tuple[int, int]
    """Width and height in px of the file's picture."""
    crop: tuple[int, int, int, int]
    """Columns and rows of it that are kept: x0, y0, x1, y1."""
    width: int
    """Of the stored picture, px."""
    height: int
    spacing_mm: float | None
    """Of the stored picture."""

    @property
    def to_source(self) -> Affine2:
        x0, y0, x1, y1 = self.crop
        return (x1 - x0) / self.width, 0.0, float(x0), 0.0, (y1 - y0) / self.height, float(y0)


def frames(
    path: Path,
    display: Display,
    vocabulary: Vocabulary,
    modality: str,
    where: str,
    choose: Choose = None,
    cleared: bool = False,
    labels: Iterable[str] = (),
) -> Iterator[Frame]:
    """Yield the pictures of a DICOM file, one frame at a time.

    Args:
        path: The file.
        display: Of the descriptor; of `also` nothing is shown here.
        vocabulary: Knows the windows' names.
        modality: Key of the vocabulary's modalities.
        where: Whose display it is, for error messages.
        choose: Which frames of a cine.
        cleared: A person has looked: pictures that may show a patient's name are yielded.
        labels: Concept ids, for the window `organ`.

    Raises:
        Unusable: What `dicom.read_file` and `dicom_pixels.frames` raise; `burned_in`; `tiled`: a slide too large to
            put together; `size_mismatch`: the crop leaves nothing; `no_content`: no pixel is a number.
        UserError: The descriptor names an unknown window.
    """
    dataset = _opened(path)
    declared = ultrasound_regions(dataset) if display.crop == "ultrasound" else None
    why = None if cleared else burned_in.risk(dataset, cropped=declared is not None)
    if why:
        raise Unusable("burned_in", f"{why}; set privacy.burned_in: cleared after a person has looked")
    file = _File(dataset, path, _slide(dataset, path) if is_tiled(dataset) else None)
    times, several = frame_times(dataset), file.total > 1
    wanted = _wanted(choose, file.total, times(1) if times else None)
    window = _window(file, wanted, display, vocabulary, modality, where, labels)
    for index, stored in file.decoded(wanted):
        shown, history = _shown(dataset, stored, index, window, display)
        place = _place(dataset, shown, display, declared)
        yield Frame(
            name=f"f{index:05d}" if several else "image",
            pixels=_fitted(shown, place),
            source_size=place.size,
            to_source=place.to_source,
            window=window.name if window else None,
            index=index if several else None,
            time_s=times(index) if times and several else None,
            spacing_mm=place.spacing_mm,
            flags=_flags(dataset, display, declared),
            history=history + _said(place),
        )


def _opened(path: Path) -> Any:
    """Read a file, or of a large one only its header."""
    dataset = None
    if path.exists() and path.stat().st_size > STREAMED_BYTES:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = pydicom.dcmread(path, stop_before_pixels=True)
        except MALFORMED:
            dataset = None  # what is wrong with it is said by the reader below
    if dataset is None or "TransferSyntaxUID" not in dataset.file_meta:
        dataset = dicom.read_file(path)
    if text(dataset, "Modality") in ("SEG", "RTDOSE"):
        raise Unusable("undecodable", "a segmentation or a dose is no picture; a SEG is an annotation of kind seg")
    return dataset


def _wanted(choose: Choose, total: int, frame_time_s: float | None) -> Sequence[int]:
    if total == 1 or choose is None:
        return range(total)
    found = choose(total, frame_time_s) if callable(choose) else choose
    return [index for index in found if 0 <= index < total]


def frame_times(dataset: Any) -> Callable[[int], float] | None:
    """Return what gives the seconds from the first frame to another, or None where the header does not say."""
    steps = numbers(dataset, "FrameTimeVector")
    if len(steps) > 1 and np.isfinite(steps).all() and min(steps[1:]) > 0:
        sums = list(accumulate(steps[1:], initial=0.0))
        return lambda index: sums[min(index, len(sums) - 1)] / 1000
    for keyword in ("FrameTime", "CineRate", "RecommendedDisplayFrameRate"):
        found = numbers(dataset, keyword)
        if found and np.isfinite(found[0]) and found[0] > 0:
            step = found[0] / 1000 if keyword == "FrameTime" else 1 / found[0]
            return lambda index: index * step
    return None


# ---- slides


def is_tiled(dataset: Any) -> bool:
    """Return whether frames are tiles of one larger picture."""
    columns, rows = (number(dataset, keyword, 0) for keyword in ("TotalPixelMatrixColumns", "TotalPixelMatrixRows"))
    return columns > number(dataset, "Columns", 0) or rows > number(dataset, "Rows", 0)


def _slide(dataset: Any, path: Path) -> Stored:
    columns, rows = (number(dataset, keyword, 0) for keyword in ("TotalPixelMatrixColumns", "TotalPixelMatrixRows"))
    size = f"a slide of {columns:g}x{rows:g} px in {dicom_pixels.count(dataset)} tiles"
    tile = max(1.0, number(dataset, "Columns", 1)), max(1.0, number(dataset, "Rows", 1))
    needed = np.ceil(columns / tile[0]) * np.ceil(rows / tile[1])
    if text(dataset, "DimensionOrganizationType") == "TILED_FULL" and dicom_pixels.count(dataset) < needed:
        raise Unusable("tiled", f"{size}; {needed:g} are needed")
    if columns * rows > MAX_SLIDE_PIXELS:
        raise Unusable("tiled", f"{size}; at most {MAX_SLIDE_PIXELS} px are put together; export a lower level of it")
    colour = number(dataset, "SamplesPerPixel", 1) > 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of missing optional attributes
            matrix = hd.imread(path).get_total_pixel_matrix(
                dtype=np.uint8 if colour else np.int32,
                apply_real_world_transform=False,
                apply_modality_transform=False,
                apply_voi_transform=False,
                apply_presentation_lut=False,
                apply_palette_color_lut=False,
                apply_icc_profile=False,
            )
    except MALFORMED as error:
        raise Unusable("tiled", f"{size}; they can not be put together ({type(error).__name__})") from None
    return Stored(dicom_pixels.coloured(dataset, np.asarray(matrix)))


# ---- grey


def _window(
    file: _File,
    wanted: Sequence[int],
    display: Display,
    vocabulary: Vocabulary,
    modality: str,
    where: str,
    labels: Iterable[str],
) -> Bounds | None:
    """Choose one window for all frames: the descriptor's, else the file's; None for colours and what is 8-bit grey."""
    dataset = file.dataset
    if dicom_pixels.is_colour(dataset) or not wanted:
        return None
    adjusted = (display.slope, display.intercept) != (1, 0)
    header = () if adjusted else windows.of_header(dataset, wanted[0])
    spec = display.window
    if spec is None or spec.preset == "header":
        if not header and not adjusted and _is_plain(dataset, wanted[0]):
            return None
        rescaled = adjusted or dicom_pixels.rescale(dataset, wanted[0]) != (1, 0)
        spec = _default(header, hu=modality == "ct" and rescaled)
    found = windows.fixed(spec, modality, vocabulary, where, labels=labels, header=header)
    if found is not None:
        return found
    low, high = windows.spread(_sample(file, wanted, display), *windows.wanted_percentiles(spec))
    return windows.by_percentiles(low, high, modality)


def _sample(file: _File, wanted: Sequence[int], display: Display) -> NDArray[Any]:
    """Return the intensities of some frames, spread evenly, without what shows nothing."""
    parts = []
    for index, stored in file.decoded(wanted[:: max(1, -(-len(wanted) // SAMPLED_FRAMES))]):
        values, hidden = _values(file.dataset, stored, index, display)
        parts.append(values.ravel() if hidden is None else values[~hidden])
    seen = np.concatenate(parts)
    if not seen.size:
        raise Unusable("no_content", "every pixel is padding, or no number")
    return seen


def _default(header: Sequence[windows.Header], hu: bool) -> WindowSpec:
    if header or hu:
        return WindowSpec(preset="header" if header else "soft_tissue")
    return WindowSpec(percentile=(0.5, 99.5))


def _is_plain(dataset: Any, index: int) -> bool:
    """Return whether stored values are greys of 8 bits already."""
    said = [number(dataset, keyword, 0) for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation")]
    plain = said == [8, 8, 0] and not items(dataset, "ModalityLUTSequence")
    return plain and dicom_pixels.rescale(dataset, index) == (1, 0)


def _values(
    dataset: Any, stored: Stored, index: int, display: Display
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return intensities, and where there is nothing to see: padding, and what is no number."""
    hidden = dicom_pixels.is_padding(dataset, stored)
    values = dicom_pixels.intensities(dataset, stored, index)
    values = windows.adjusted(values, display.slope, display.intercept)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        hidden = ~np.isfinite(values) if hidden is None else hidden | ~np.isfinite(values)
    return values, hidden


def _shown(
    dataset: Any, stored: Stored, index: int, window: Bounds | None, display: Display
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return 8-bit pixels in the file's own size, and what was done to them."""
    history: tuple[str, ...] = () if stored.by == "pydicom" else (f"decoded by {stored.by}",)
    if stored.pixels.ndim == 3:
        return stored.pixels, history
    values, hidden = _values(dataset, stored, index, display)
    pixels = windows.grey(values, window) if window else values.astype(np.uint8)
    history += (f"window {window.name}",) if window else ()
    if is_inverted(dataset) != display.invert:  # what the file says and what the descriptor says
        pixels, history = windows.inverted(pixels), (*history, "inverted")
    if hidden is not None:
        pixels[hidden] = 0
        history += (f"{np.count_nonzero(hidden)} pixels of padding shown black",)
    return pixels, history


def is_inverted(dataset: Any) -> bool:
    """Return whether low intensities are to be shown white: MONOCHROME1, or a presentation LUT shape of INVERSE.

    The two say the same in a sound header. Where they do not, either is believed (viewers differ), with a flag.
    """
    return "MONOCHROME1" in _polarity(dataset) or "INVERSE" in _polarity(dataset)


def _polarity(dataset: Any) -> tuple[str, str]:
    return text(dataset, "PhotometricInterpretation"), text(dataset, "PresentationLUTShape")


# ---- place


def ultrasound_regions(dataset: Any) -> tuple[int, int, int, int] | None:
    """Return the rectangle x0, y0, x1, y1 px around all regions that an ultrasound file declares, or None.

    Regions that reach beyond the picture are of the larger one that it was made from: they say nothing of this one.
    """
    found = []
    for region in items(dataset, "SequenceOfUltrasoundRegions"):
        corners = [numbers(region, f"RegionLocation{end}") for end in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if not all(corner and np.isfinite(corner[0]) for corner in corners):
            return None
        x0, y0, x1, y1 = (int(corner[0]) for corner in corners)
        found.append((x0, y0, x1 + 1, y1 + 1))  # the last column and row belong to the region
    if not found:
        return None
    x0, y0 = min(region[0] for region in found), min(region[1] for region in found)
    x1, y1 = max(region[2] for region in found), max(region[3] for region in found)
    columns, rows = int(number(dataset, "Columns", 0)), int(number(dataset, "Rows", 0))
    # some count the last column and row from 1
    if not (0 <= x0 < x1 <= columns + 1 and 0 <= y0 < y1 <= rows + 1):
        return None
    return x0, y0, min(x1, columns), min(y1, rows)


def _place(
    dataset: Any, shown: NDArray[np.uint8], display: Display, declared: tuple[int, int, int, int] | None
) -> _Place:
    height, width = shown.shape[:2]
    crop = declared or (0, 0, width, height)
    if display.crop is not None and display.crop != "ultrasound":
        crop = cut_out(display.crop, width, height)
    wide, high = crop[2] - crop[0], crop[3] - crop[1]
    (row, column), in_mm = _pixel_sides(dataset)
    stored_wide, stored_high = float(wide), float(high)
    side = row if row == column else (row * column) ** 0.5
    if abs(row - column) > SQUARE * min(row, column):
        side = min(row, column)
        stored_wide, stored_high = wide * column / side, high * row / side
    if stored_wide * stored_high > MAX_PIXELS:
        raise Unusable("too_large", f"{stored_wide:.0f}x{stored_high:.0f} px of square pixels; at most {MAX_PIXELS}")
    shrink = min(1.0, display.max_side_px / max(stored_wide, stored_high))
    fitted = max(1, round(stored_wide * shrink)), max(1, round(stored_high * shrink))
    spacing = side * (stored_wide / fitted[0]) if in_mm else None
    return _Place((width, height), crop, *fitted, spacing)


def _pixel_sides(dataset: Any) -> tuple[tuple[float, float], bool]:
    """Return height and width of a pixel, and whether they are mm."""
    measures = group(dataset, 0, "PixelMeasuresSequence")
    for holder, keyword in ((measures, "PixelSpacing"), (dataset, "ImagerPixelSpacing"), (dataset, "PixelAspectRatio")):
        found = numbers(holder, keyword)
        if len(found) == 2 and np.isfinite(found).all() and min(found) > 0:
            return (found[0], found[1]), keyword != "PixelAspectRatio"
    return (1.0, 1.0), False


def _fitted(shown: NDArray[np.uint8], place: _Place) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = place.crop
    pixels = np.ascontiguousarray(shown[y0:y1, x0:x1])
    if pixels.shape[:2] != (place.height, place.width):
        pixels = pictures.resize(pixels, place.width, place.height)
    return pixels


def _said(place: _Place) -> tuple[str, ...]:
    x0, y0, x1, y1 = place.crop
    width, height = place.size
    said = []
    if (x0, y0, x1, y1) != (0, 0, width, height):
        said.append(f"cropped to columns {x0} to {x1}, rows {y0} to {y1} of {width}x{height} px")
    if (place.width, place.height) != (x1 - x0, y1 - y0):
        said.append(f"resized from {x1 - x0}x{y1 - y0} to {place.width}x{place.height} px")
    return tuple(said)


def _flags(dataset: Any, display: Display, declared: tuple[int, int, int, int] | None) -> tuple[str, ...]:
    """Say what a reader of the picture has to know; nothing is turned or flipped here."""
    row, column = ([*text(dataset, "PatientOrientation").split("\\"), "", ""])[:2]
    spacing, detector = numbers(dataset, "PixelSpacing"), numbers(dataset, "ImagerPixelSpacing")
    polarity = _polarity(dataset)
    said = {
        "no_ultrasound_region": display.crop == "ultrasound" and declared is None,
        "projection_spacing": bool(detector) and (not spacing or spacing == detector),
        "mirrored": row.startswith("R"),
        "upside_down": column.startswith("H"),
        "polarity_conflict": polarity in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")),
    }
    return tuple(flag for flag, holds in said.items() if holds)
