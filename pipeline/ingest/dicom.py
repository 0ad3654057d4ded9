"""DICOM series and segmentations, assembled by our own rules: SimpleITK's reader scrambles an unchecked folder.

A series is one SeriesInstanceUID on one grid, sorted by ImagePositionPatient along the slice normal. Duplicates,
gaps, tilt and localizers are refused here with a reason; nothing is guessed.
"""

import sqlite3
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.errors import BytesLengthException, InvalidDicomError

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix, Volume, to_lps

SPACING_TOLERANCE = 0.01
"""Of the mean distance between slices: highdicom's own default."""
TILT_TOLERANCE = 0.5
"""Degrees between the direction of the stack and the slices' normal."""

MALFORMED = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    OverflowError,
    OSError,
    EOFError,
    BytesLengthException,
    struct.error,
    sqlite3.Error,
)
"""What pydicom and highdicom (which keeps its frames in SQLite) raise on a file that is not what it says it is."""


class Slice(NamedTuple):
    """One file of a series."""

    dataset: Any
    path: Path
    grid: tuple[Any, ...]
    """Series, orientation, rows, columns, spacing: one and the same in a volume."""
    position: NDArray[np.float64]
    """ImagePositionPatient, mm."""
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    """Directions of a row and of a column, unit vectors."""
    spacing: NDArray[np.float64]
    """PixelSpacing: between rows, between columns, mm."""


def read_series(paths: Sequence[Path]) -> Volume:
    """Read a regular series; intensities as the modality LUT gives them (HU for CT).

    Raises:
        Unusable: `missing_image`, `unreadable`, `undecodable`, `truncated`, `mixed_series`, `no_geometry`,
            `duplicate_slices`, `irregular_spacing`, `gantry_tilt`, `not_3d`.
    """
    slices = [_slice(path) for path in paths]
    _check_one_grid(slices)
    row, column, spacing = slices[0].row, slices[0].column, slices[0].spacing
    normal = np.cross(row, column)
    slices.sort(key=lambda s: float(s.position @ normal))
    step = _step(slices, normal)
    affine: Matrix = np.eye(4)
    # PixelSpacing is (between rows, between columns); the first index runs along a row
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * spacing[1], column * spacing[0], step
    affine[:3, 3] = slices[0].position
    stack = np.stack([intensities(s.dataset, s.path) for s in slices])
    return to_lps(stack.transpose(2, 1, 0), affine)


def _slice(path: Path) -> Slice:
    dataset = read_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom checks values when they are first looked at
            position = _numbers(dataset, "ImagePositionPatient", 3)
            cosines = _numbers(dataset, "ImageOrientationPatient", 6)
            spacing = _numbers(dataset, "PixelSpacing", 2)
            turned, apart = tuple(np.round(cosines, 4).tolist()), tuple(np.round(spacing, 5).tolist())
            grid = (str(dataset.get("SeriesInstanceUID")), turned, dataset.get("Rows"), dataset.get("Columns"), apart)
    except MALFORMED as error:
        raise Unusable("undecodable", f"its header can not be read ({type(error).__name__})") from None
    row, column = cosines[:3], cosines[3:]
    if np.abs(np.stack([row, column]) @ np.stack([row, column]).T - np.eye(2)).max() > 0.01 or spacing.min() <= 0:
        raise Unusable("no_geometry", "a slice's directions are no right angle of unit vectors, or it has no spacing")
    return Slice(dataset, path, grid, position, row, column, spacing)


def _numbers(dataset: Any, keyword: str, count: int) -> NDArray[np.float64]:
    values = np.atleast_1d(np.array(dataset.get(keyword), float))
    if values.shape != (count,) or not np.isfinite(values).all():
        raise Unusable("no_geometry", f"{keyword} of a slice is not {count} numbers")
    return values


def read_file(path: Path) -> Any:
    """Read one DICOM file.

    Raises:
        Unusable: `missing_image`, `empty_file`, `unreadable`, `undecodable`, `truncated` (pydicom only warns).
    """
    try:
        if path.stat().st_size == 0:
            raise Unusable("empty_file", "0 bytes")
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            dataset = pydicom.dcmread(path)
    except FileNotFoundError:
        raise Unusable("missing_image", "no such file") from None
    except InvalidDicomError:
        raise Unusable("undecodable", "not a DICOM file") from None
    except (EOFError, OSError) as error:
        raise Unusable("unreadable", getattr(error, "strerror", None) or "ends before its header does") from None
    except MALFORMED as error:
        raise Unusable("undecodable", f"its header can not be read ({type(error).__name__})") from None
    if "PixelData" not in dataset and any("end of file" in str(w.message).lower() for w in said):
        raise Unusable("truncated", "ends before its pixels do")
    return dataset


def _check_one_grid(slices: Sequence[Slice]) -> None:
    kinds = {s.grid for s in slices}
    if len(kinds) > 1:
        series = len({kind[0] for kind in kinds})
        raise Unusable(
            "mixed_series",
            f"{len(slices)} slices of {series} series and {len(kinds)} grids; one case is one series on one grid",
        )


def _step(slices: Sequence[Slice], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector from one slice to the next, in mm."""
    if len(slices) == 1:
        return normal * (_number(slices[0].dataset, "SliceThickness", 1.0) or 1.0)
    positions = np.stack([s.position for s in slices])
    gaps = np.diff(positions @ normal)
    mean = float(gaps.mean())
    if (gaps < 1e-3).any():
        raise Unusable("duplicate_slices", f"{int((gaps < 1e-3).sum())} slices share a position with another")
    if np.abs(gaps - mean).max() > SPACING_TOLERANCE * mean:
        raise Unusable("irregular_spacing", f"slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart")
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(slices) - 1)
    tilt = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    if tilt > TILT_TOLERANCE:
        raise Unusable("gantry_tilt", f"the stack leans {tilt:.1f} degrees from the slices' normal")
    return step


def intensities(dataset: Any, path: Path) -> NDArray[Any]:
    """Decode one frame and apply its rescale slope and intercept, `(row, column)`.

    pydicom first; SimpleITK, which rescales by itself, where pydicom has no decoder for the transfer syntax.

    Raises:
        Unusable: `truncated`, `undecodable`, or `not_3d`: colours or several frames.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of padding and odd VRs in files that decode well
            stored = dataset.pixel_array
    except (NotImplementedError, RuntimeError, KeyError):
        return _by_itk(path)
    except MALFORMED as error:
        raise Unusable("truncated", f"pixel data can not be decoded ({type(error).__name__})") from None
    if stored.ndim != 2:
        raise Unusable("not_3d", f"a slice's pixels are {stored.shape}; a slice is one frame of grey")
    if dataset.get("ModalityLUTSequence"):
        raise Unusable("modality_lut", "intensities stand behind a modality look-up table; only rescaling is read")
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if slope == 1 and intercept == int(intercept):
        shifted: NDArray[Any] = stored.astype(np.int32) + int(intercept)
        fits = shifted.min() >= -32768 and shifted.max() <= 32767
        return shifted.astype(np.int16) if fits else shifted
    scaled: NDArray[Any] = stored * np.float32(slope) + np.float32(intercept)
    return scaled


def _number(dataset: Any, keyword: str, default: float) -> float:
    """Return a number of the header, or the default where it is absent or empty."""
    try:
        found = dataset.get(keyword)
        value = default if found is None or found == "" else float(found)
    except MALFORMED:
        raise Unusable("undecodable", f"{keyword} of a slice is no number") from None
    if not np.isfinite(value):
        raise Unusable("undecodable", f"{keyword} of a slice is {value}")
    return value


def _by_itk(path: Path) -> NDArray[Any]:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise Unusable("undecodable", "neither pydicom nor SimpleITK decodes its transfer syntax") from None
    stored: NDArray[Any] = sitk.GetArrayFromImage(image)
    if stored.ndim != 3 or len(stored) != 1:
        raise Unusable("not_3d", f"a slice's pixels are {stored.shape}; a slice is one frame of grey")
    frame: NDArray[Any] = stored[0]
    return frame


def read_segments(path: Path) -> Iterator[tuple[str, Volume]]:
    """Yield label and binary mask of each segment of a DICOM SEG, one at a time: segments may overlap.

    Raises:
        Unusable: `undecodable`, `bad_annotation`.
    """
    dataset = read_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of missing optional attributes
            seg = hd.seg.Segmentation.from_dataset(dataset, copy=False)
    except MALFORMED as error:
        raise Unusable("bad_annotation", f"not a DICOM SEG ({type(error).__name__})") from None
    for number in seg.segment_numbers:
        try:
            label = str(seg.get_segment_description(number).segment_label)
            volume = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True, dtype=np.uint8)
        except MALFORMED as error:
            raise Unusable(
                "bad_annotation", f"segment {number} is no regular volume ({type(error).__name__})"
            ) from None
        # highdicom's index order is (slice, row, column), its affine to LPS mm: ours counts columns first
        affine = volume.affine[:, [2, 1, 0, 3]]
        yield label, to_lps(volume.array.transpose(2, 1, 0), np.asarray(affine, float))
