"""DICOM series and segmentations, assembled by our own rules: SimpleITK's reader scrambles an unchecked folder.

A series is one SeriesInstanceUID on one grid, sorted by ImagePositionPatient along the slice normal. Duplicates,
gaps, tilt and localizers are refused here with a reason; nothing is guessed.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import highdicom as hd
import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from pipeline.errors import Unusable
from pipeline.ingest.geometry import Matrix, Volume, to_lps

SPACING_TOLERANCE = 0.01
"""Of the mean distance between slices: highdicom's own default."""
TILT_TOLERANCE = 0.5
"""Degrees between the direction of the stack and the slices' normal."""


class Slice(NamedTuple):
    """One file of a series."""

    dataset: Any
    path: Path
    position: NDArray[np.float64]
    """ImagePositionPatient, mm."""


def read_series(paths: Sequence[Path]) -> Volume:
    """Read a regular series; intensities as the modality LUT gives them (HU for CT).

    Raises:
        Unusable: `missing_image`, `unreadable`, `undecodable`, `truncated`, `mixed_series`, `no_geometry`,
            `duplicate_slices`, `irregular_spacing`, `gantry_tilt`.
    """
    slices = [_slice(path) for path in paths]
    _check_one_grid(slices)
    row, column = _directions(slices[0])
    normal = np.cross(row, column)
    slices.sort(key=lambda s: float(s.position @ normal))
    step = _step(slices, normal)
    first = slices[0].dataset
    spacing = [float(value) for value in first.PixelSpacing]
    affine: Matrix = np.eye(4)
    # PixelSpacing is (between rows, between columns); the first index runs along a row
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * spacing[1], column * spacing[0], step
    affine[:3, 3] = slices[0].position
    stack = np.stack([intensities(s.dataset, s.path) for s in slices])
    return to_lps(stack.transpose(2, 1, 0), affine)


def _slice(path: Path) -> Slice:
    dataset = read_file(path)
    position = dataset.get("ImagePositionPatient")
    if position is None or dataset.get("ImageOrientationPatient") is None or dataset.get("PixelSpacing") is None:
        raise Unusable("no_geometry", "a slice has no position, orientation or pixel spacing")
    return Slice(dataset, path, np.array([float(value) for value in position]))


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
    if "PixelData" not in dataset and any("end of file" in str(w.message).lower() for w in said):
        raise Unusable("truncated", "ends before its pixels do")
    return dataset


def _check_one_grid(slices: Sequence[Slice]) -> None:
    def grid(s: Slice) -> tuple[Any, ...]:
        d = s.dataset
        turned = tuple(round(float(value), 4) for value in d.ImageOrientationPatient)
        spacing = tuple(round(float(value), 5) for value in d.PixelSpacing)
        return d.get("SeriesInstanceUID"), turned, int(d.Rows), int(d.Columns), spacing

    kinds = {grid(s) for s in slices}
    if len(kinds) > 1:
        series = len({kind[0] for kind in kinds})
        raise Unusable(
            "mixed_series",
            f"{len(slices)} slices of {series} series and {len(kinds)} grids; one case is one series on one grid",
        )


def _directions(first: Slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cosines = np.array([float(value) for value in first.dataset.ImageOrientationPatient])
    return cosines[:3], cosines[3:]


def _step(slices: Sequence[Slice], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector from one slice to the next, in mm."""
    if len(slices) == 1:
        return normal * float(slices[0].dataset.get("SliceThickness") or 1.0)
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
        Unusable: `truncated` or `undecodable`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of padding and odd VRs in files that decode well
            stored = dataset.pixel_array
    except (ValueError, EOFError, AttributeError) as error:
        raise Unusable("truncated", f"pixel data can not be decoded ({type(error).__name__})") from None
    except (NotImplementedError, RuntimeError, KeyError):
        return _by_itk(path)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    if slope == 1 and intercept == int(intercept):
        shifted: NDArray[Any] = stored.astype(np.int32) + int(intercept)
        fits = shifted.min() >= -32768 and shifted.max() <= 32767
        return shifted.astype(np.int16) if fits else shifted
    scaled: NDArray[Any] = stored * np.float32(slope) + np.float32(intercept)
    return scaled


def _by_itk(path: Path) -> NDArray[Any]:
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise Unusable("undecodable", "neither pydicom nor SimpleITK decodes its transfer syntax") from None
    frame: NDArray[Any] = sitk.GetArrayFromImage(image)[0]
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
    except (ValueError, AttributeError, TypeError) as error:
        raise Unusable("bad_annotation", f"not a DICOM SEG ({type(error).__name__})") from None
    for number in seg.segment_numbers:
        label = str(seg.get_segment_description(number).segment_label)
        try:
            volume = seg.get_volume(segment_numbers=[number], combine_segments=True, relabel=True, dtype=np.uint8)
        except (ValueError, RuntimeError) as error:
            raise Unusable(
                "bad_annotation", f"segment {number} is no regular volume ({type(error).__name__})"
            ) from None
        # highdicom's index order is (slice, row, column), its affine to LPS mm: ours counts columns first
        affine = volume.affine[:, [2, 1, 0, 3]]
        yield label, to_lps(volume.array.transpose(2, 1, 0), np.asarray(affine, float))
