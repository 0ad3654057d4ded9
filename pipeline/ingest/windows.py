"""From intensities to grey with fixed bounds: the same intensity is the same grey on every slice."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError, did_you_mean
from pipeline.ingest import dicom_pixels, reslice
from pipeline.vocabulary import Vocabulary, normalise
from sources.descriptor import WindowSpec

SUV = (0.0, 10.0)
"""Body-weight SUV of a PET that shows white and black."""


class Bounds(NamedTuple):
    """Intensities shown as black and as white; PET is shown the other way, so `low` may be above `high`."""

    low: float
    high: float
    name: str
    """What to call it in a record, `soft_tissue -160..240`."""
    curve: Literal["linear", "sigmoid"] = "linear"
    """Sigmoid: 12 and 88 % of white at the bounds."""
    table: bytes = b""
    """Instead of a curve: the grey of each whole number from `low` to `high`; beyond them the ends go on."""


class Header(NamedTuple):
    """A window of a DICOM header."""

    bounds: Bounds
    words: str
    """Its explanation, to choose by; text of the header, so it is written nowhere."""


def fixed(
    spec: WindowSpec | None,
    modality: str,
    vocabulary: Vocabulary,
    where: str,
    *,
    labels: Iterable[str] = (),
    header: Sequence[Header] = (),
    suv: bool = False,
) -> Bounds | None:
    """Choose the window of a volume that does not depend on its voxels; None: percentiles of its foreground decide.

    Args:
        spec: The descriptor's wish, or None: soft tissue for CT.
        modality: A key of the vocabulary. PET is shown inverted, 0 to 10 SUV by default.
        vocabulary: Has the presets.
        where: Named in errors.
        labels: Concept ids on the volume, for the preset `organ`.
        header: The file's own windows, for the preset `header`.
        suv: Intensities are SUV.

    Raises:
        UserError: The descriptor names an unknown preset, or a window that its function can not have.
    """
    preset = spec.preset if spec else None
    if preset == "header" and header:
        return of_organ(header, organ(labels, vocabulary), vocabulary)
    if preset == "organ" and modality == "ct":
        return _preset(organ(labels, vocabulary) or "soft_tissue", vocabulary, where)
    if spec is None or preset in ("header", "organ"):
        if modality == "ct":
            return _preset("soft_tissue", vocabulary, where)
        return _inverted(_named("suv", *SUV)) if modality == "pet" and suv else None
    found = _said(spec, vocabulary, where)
    return _inverted(found) if found and modality == "pet" else found


def _said(spec: WindowSpec, vocabulary: Vocabulary, where: str) -> Bounds | None:
    if spec.preset is not None:
        return _preset(spec.preset, vocabulary, where)
    if spec.center is not None and spec.width is not None:
        if spec.function == "sigmoid":
            return of_function(spec.center, spec.width, "sigmoid", f"sigmoid {spec.center:g}/{spec.width:g}")
        return _named("bounds", *linear(spec.center, spec.width, spec.function))
    return None if spec.low is None or spec.high is None else _named("bounds", spec.low, spec.high)


def _preset(name: str, vocabulary: Vocabulary, where: str) -> Bounds:
    windows = vocabulary.terms.windows
    if name not in windows:
        raise UserError(f"{where}: unknown window {name!r}{did_you_mean(name, [*windows, 'header', 'organ'])}")
    return _named(name, *linear(windows[name].center, windows[name].width))


def _named(name: str, low: float, high: float) -> Bounds:
    return Bounds(low, high, f"{name} {low:g}..{high:g}")


def _inverted(found: Bounds) -> Bounds:
    return found._replace(low=found.high, high=found.low, name=f"{found.name} inverted")


def of_foreground(
    spec: WindowSpec | None, modality: str, volume: NDArray[Any], background: float | None = None
) -> Bounds:
    """Choose the window of a volume by percentiles of its foreground; arguments as of `percentiles`."""
    return by_percentiles(*percentiles(volume, *wanted_percentiles(spec), background), modality)


def wanted_percentiles(spec: WindowSpec | None) -> tuple[float, float]:
    """Return the percentiles that a descriptor asks for, 0.5 and 99.5 by default."""
    return spec.percentile if spec and spec.percentile else (0.5, 99.5)


def by_percentiles(low: float, high: float, modality: str) -> Bounds:
    """Return the window between two intensities that percentiles gave; PET is inverted."""
    found = _named("percentile", low, high)
    return _inverted(found) if modality == "pet" else found


def organ(labels: Iterable[str], vocabulary: Vocabulary) -> str | None:
    """Return the preset that most of the labels ask for, or None where none does.

    Args:
        labels: Concept ids, one for each region; the unknown are left out.
        vocabulary: Knows each concept's window.
    """
    concepts = (vocabulary.concepts.get(label) for label in labels)
    votes = Counter(concept.window for concept in concepts if concept and concept.window)
    return min(votes, key=lambda name: (-votes[name], name)) if votes else None


# ---- PS3.3 C.11.2.1: center and width


def linear(center: float, width: float, function: str = "linear_exact") -> tuple[float, float]:
    """Return the bounds of a window, `center ± width / 2` (LINEAR_EXACT of PS3.3 C.11.2.1.3.2).

    LINEAR (C.11.2.1.2) counts whole numbers: its bounds are half a unit lower and one unit nearer to each other.

    >>> linear(40, 400)
    (-160.0, 240.0)
    >>> linear(40, 400, "linear")
    (-160.0, 239.0)
    """
    if function == "linear":
        center, width = center - 0.5, width - 1
    return center - width / 2, center + width / 2


def of_function(center: float, width: float, function: str, name: str) -> Bounds:
    """Return a window given by center, width and VOI LUT function: linear, linear_exact or sigmoid."""
    low, high = linear(center, width, function)
    return Bounds(low, high, name, "sigmoid" if function == "sigmoid" else "linear")


def shown(windows: Iterable[tuple[float, float, str | None]], function: str) -> tuple[Header, ...]:
    """Return the usable ones of a header's windows, in its order.

    Args:
        windows: Center, width and explanation; what is not finite or too narrow for the function is left out.
        function: VOILUTFunction in any case; what is not known is read as LINEAR.
    """
    name = function.strip().lower()
    name = name if name in ("linear_exact", "sigmoid") else "linear"
    found = []
    for center, width, words in windows:
        usable = np.isfinite((center, width)).all() and (width >= 1 if name == "linear" else width > 0)
        if usable:
            made = of_function(center, width, name, f"header {center:g}/{width:g} {name}")
            found.append(Header(made, words or ""))
    return tuple(found)


def of_header(dataset: Any, frame: int = 0) -> tuple[Header, ...]:
    """Return how a DICOM file wants a frame shown: its VOI look-up table, else its windows; () where it is silent.

    Args:
        dataset: A header.
        frame: Functional groups may give each frame its own.
    """
    holder = dicom_pixels.group(dataset, frame, "FrameVOILUTSequence")
    for item in dicom_pixels.items(holder, "VOILUTSequence") or dicom_pixels.items(dataset, "VOILUTSequence"):
        try:
            return (Header(_of_table(dicom_pixels.of_item(item, dataset)), ""),)
        except ValueError:
            continue  # a table that can not be read: the windows beside it may be usable
    centers, widths = (dicom_pixels.numbers(holder, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    words = dicom_pixels.text(holder, "WindowCenterWidthExplanation").split("\\")
    words += [""] * (len(centers) - len(words))
    return shown(zip(centers, widths, words, strict=False), dicom_pixels.text(holder, "VOILUTFunction"))


def _of_table(found: dicom_pixels.Table) -> Bounds:
    """Make a window of a VOI look-up table; its own values span black to white: some headers get the depth wrong."""
    low, high = int(found.entries.min()), int(found.entries.max())
    greys = np.rint((found.entries - low) * (255.0 / max(1, high - low))).astype(np.uint8)
    last = found.first + len(greys) - 1
    return Bounds(float(found.first), float(last), f"header table {found.first}..{last}", table=greys.tobytes())


def of_organ(header: Sequence[Header], preset: str | None, vocabulary: Vocabulary) -> Bounds:
    """Choose one of a header's windows: the one that is named like a preset or nearly is it, else the first."""
    target = vocabulary.terms.windows.get(preset or "")
    if preset is None or target is None or len(header) == 1:
        return header[0].bounds
    named = [one.bounds for one in header if normalise(preset) in normalise(one.words)]
    if named:
        return named[0]
    ends = linear(target.center, target.width)
    alike = max(header, key=lambda one: _overlap(one.bounds, ends)).bounds
    return alike if _overlap(alike, ends) >= 0.5 else header[0].bounds


def _overlap(one: Bounds, other: tuple[float, float]) -> float:
    """Return the share of two ranges that they have in common."""
    common = min(one.high, other[1]) - max(one.low, other[0])
    return common / (max(one.high, other[1]) - min(one.low, other[0]))


# ---- what the picture itself spans


def percentiles(volume: NDArray[Any], low: float, high: float, background: float | None = None) -> tuple[float, float]:
    """Return two percentiles of the foreground: what is above the background, the volume's lowest value.

    All voxels would give 0..593 where the foreground of a brain MR is 345..653.

    Args:
        volume: `(z, y, x)`; every other row and column counts, and at most some 64 slices.
        low: Percentile.
        high: Percentile.
        background: Intensity that stands for no voxel; it is neither foreground nor the lowest value.
    """
    sample = volume[:: max(1, volume.shape[0] // 64), ::2, ::2].ravel()
    if background is not None:
        sample = sample[sample != background]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    lowest = sample.min() if sample.size else 0
    foreground = sample[sample > lowest] if sample.size else sample
    if foreground.size and foreground.min() == foreground.max():  # of two values the lower is black
        return float(lowest), float(foreground[0])
    return spread(foreground if foreground.size else sample[:1], low, high)


def spread(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of some values that differ: of a constant, the value and one more."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    one, other = quantiles(values, low, high)
    return one, other if other > one else one + 1


def quantiles(values: NDArray[Any], low: float, high: float, above_lowest: bool = False) -> tuple[float, float]:
    """Return `np.percentile(values, (low, high))`; whole numbers of 8 or 16 bits are counted, not sorted.

    Args:
        values: At least one.
        low: Percentile.
        high: Percentile.
        above_lowest: Of the values above the lowest one only; where there are none, the lowest twice.
    """
    if not reslice.has_table(values.dtype):
        lowest = values.min()
        some = values[values > lowest] if above_lowest else values
        one, other = np.percentile(some, (low, high)) if some.size else (lowest, lowest)
        return float(one), float(other)
    least, counts = _counted(values)
    if above_lowest and len(counts) > 1:
        least, counts = least + 1, counts[1:]
    upto = np.cumsum(counts)
    return _quantile(upto, low, least), _quantile(upto, high, least)


def _counted(values: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """Return the lowest value, and how often it and each number up to the highest one occur."""
    least, most = int(values.min()), int(values.max())
    if values.dtype == np.uint16 and values.size < 1 << 24:  # OpenCV counts in float32
        counts = cv2.calcHist([values.reshape(1, -1)], [0], None, [most - least + 1], [least, most + 1])
        return least, counts.reshape(-1).astype(np.int64)
    return least, np.bincount(np.subtract(values, least, dtype=np.int32).ravel())


def _quantile(upto: NDArray[np.int64], percent: float, least: int) -> float:
    """Return a percentile of numbers from `least` on, given how many there are up to each of them."""
    place = (int(upto[-1]) - 1) * (percent / 100)
    below = math.floor(place)
    one, other = (int(n) for n in np.searchsorted(upto, (below, min(below + 1, int(upto[-1]) - 1)), "right"))
    share = place - below
    # as NumPy does it, from the nearer of the two
    return least + (one + (other - one) * share if share < 0.5 else other - (other - one) * (1 - share))


# ---- intensities to grey


def adjusted(intensities: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Apply a descriptor's slope and intercept: HU of a CT that was stored otherwise."""
    if (slope, intercept) == (1, 0):
        return intensities
    made: NDArray[Any] = intensities.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    return made


def inverted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Swap black and white."""
    return np.subtract(np.uint8(255), pixels)


def grey(intensities: NDArray[Any], window: Bounds) -> NDArray[np.uint8]:
    """Map intensities to 0..255, rounded half up; what is not a number is black."""
    if window.table:
        greys = np.frombuffer(window.table, np.uint8)
        return dicom_pixels.Table(round(window.low), greys).look_up(intensities)
    if window.curve == "sigmoid":
        return _sigmoid(intensities, window)
    if window.low == window.high:  # LINEAR with a width of 1 has no slope
        return (intensities > window.low).view(np.uint8) * np.uint8(255)
    with np.errstate(over="ignore", invalid="ignore"):
        made = intensities.astype(np.float32)
        made -= np.float32(window.low)
        made *= np.float32(255.0 / (window.high - window.low))
        made += np.float32(0.5)
        # fmin and fmax take the other one for what is not a number
        clipped: NDArray[np.uint8] = np.fmin(np.fmax(made, 0, out=made), 255, out=made).astype(np.uint8)
    return clipped


def shader(window: Bounds, dtype: np.dtype[Any]) -> reslice.Shade:
    """Return `grey` for many slices of one type."""
    plain = functools.partial(grey, window=window)
    return reslice.tabled(plain, dtype) if reslice.has_table(dtype) else plain


def _sigmoid(intensities: NDArray[Any], window: Bounds) -> NDArray[np.uint8]:
    center, width = (window.low + window.high) / 2, window.high - window.low
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.clip(-4 * (intensities.astype(np.float64) - center) / width, -80, 80)
        return np.floor(np.nan_to_num(255 / (1 + np.exp(power))) + 0.5).astype(np.uint8)
