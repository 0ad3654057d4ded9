"""A picture file as one frame: upright, 8-bit, windowed, cropped and sized as the descriptor says."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import pictures, rasters
from pipeline.errors import Unusable, UserError
from pipeline.ingest import windows
from pipeline.ingest.frames import IDENTITY, Frame, cut_out
from pipeline.pictures import Decoded, Pixels
from pipeline.records import Affine2
from pipeline.vocabulary import Vocabulary
from sources.descriptor import Display

FARTHEST = 1e30
"""Beyond it a value is a filler (-3.4e38 is customary) and no intensity."""


class _Shown(NamedTuple):
    pixels: Pixels
    window: str | None = None
    flags: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


def frame(data: bytes, display: Display, modality: str, vocabulary: Vocabulary, where: str) -> Frame:
    """Decode a picture file and show it as the descriptor says.

    Grey of more than 8 bits gets the declared window, or percentiles of this picture (of what is above its lowest
    value); grey of 8 bits only a declared one; colours none. The file's own bytes are kept where nothing changes.

    Args:
        data: The file.
        display: Of the descriptor. Of `also` nothing is shown here.
        modality: Key of the vocabulary's modalities.
        vocabulary: Knows the windows' names.
        where: Whose display it is, for error messages.

    Raises:
        Unusable: What `pictures.decode` raises; `no_content`: no pixel is a number; `size_mismatch`: the crop leaves
            nothing of it.
        UserError: The descriptor names an unknown window, or a crop that only DICOM files can have.
    """
    return of_decoded(pictures.decode(data), display, modality, vocabulary, where)


def of_decoded(decoded: Decoded, display: Display, modality: str, vocabulary: Vocabulary, where: str) -> Frame:
    """Show pixels that are decoded already as `frame` shows those of a file.

    Raises:
        Unusable: `no_content`; `size_mismatch`.
        UserError: As above.
    """
    shown = _shown(decoded, display, modality, vocabulary, where)
    height, width = shown.pixels.shape[:2]
    if display.crop == "ultrasound":
        raise UserError(f"{where}: display.crop: ultrasound is for DICOM files; give x0, y0, x1, y1 in px")
    x0, y0, x1, y1 = cut_out(display.crop, width, height)
    cropped, history = shown.pixels, decoded.history + shown.history
    if (x0, y0, x1, y1) != (0, 0, width, height):
        cropped = np.ascontiguousarray(cropped[y0:y1, x0:x1])
        history += (f"cropped to columns {x0} to {x1}, rows {y0} to {y1} of {width}x{height} px",)
    stored_width, stored_height = _fitted(x1 - x0, y1 - y0, display.max_side_px)
    pixels = cropped
    if (stored_width, stored_height) != (x1 - x0, y1 - y0):
        pixels = pictures.resize(cropped, stored_width, stored_height)
        history += (f"resized from {x1 - x0}x{y1 - y0} to {stored_width}x{stored_height} px, area means",)
    return Frame(
        name="image",
        pixels=pixels,
        source_size=(width, height),
        to_source=((x1 - x0) / stored_width, 0.0, float(x0), 0.0, (y1 - y0) / stored_height, float(y0)),
        turn=turned(decoded.orientation, width, height) if decoded.turned else None,
        original=decoded.original if pixels is decoded.pixels else None,
        window=shown.window,
        flags=(("exif_turned",) if decoded.turned else ()) + decoded.flags + shown.flags,
        history=history,
    )


def turned(orientation: int, width: int, height: int) -> Affine2:
    """Return the way from px of the upright picture to px of the file as it lies.

    Args:
        orientation: Of EXIF, 1 to 8.
        width: Of the upright picture, px.
        height: Of the upright picture, px.
    """
    if orientation not in rasters.TURNS:
        return IDENTITY
    swapped, columns_reversed, rows_reversed = rasters.TURNS[orientation]
    along = (height, width) if swapped else (width, height)  # sides of the file
    u, u0 = (-1.0, float(along[0])) if columns_reversed else (1.0, 0.0)
    v, v0 = (-1.0, float(along[1])) if rows_reversed else (1.0, 0.0)
    return (0.0, u, u0, v, 0.0, v0) if swapped else (u, 0.0, u0, 0.0, v, v0)


# ---- grey


def _shown(decoded: Decoded, display: Display, modality: str, vocabulary: Vocabulary, where: str) -> _Shown:
    stored, colour = decoded.pixels, decoded.pixels.ndim == 3
    if colour or (stored.dtype == np.uint8 and display.window is None):
        shown = _Shown(stored)
    else:
        shown = _windowed(stored, display, modality, vocabulary, where)
    if display.invert == decoded.white_is_zero:  # what the file says and what the descriptor says
        return shown
    inverted = windows.inverted(shown.pixels)
    if "not_finite" in shown.flags:
        inverted[~_finite(stored)] = 0
    return shown._replace(pixels=inverted, history=(*shown.history, "inverted"))


def _windowed(stored: NDArray[Any], display: Display, modality: str, vocabulary: Vocabulary, where: str) -> _Shown:
    values, history = stored, tuple[str, ...]()
    if (display.slope, display.intercept) != (1.0, 0.0):
        with np.errstate(over="ignore"):  # of fillers
            values = windows.adjusted(stored, display.slope, display.intercept)
        history = (f"values times {display.slope:g} plus {display.intercept:g}",)
    finite = _finite(values)
    if not finite.any():
        raise Unusable("no_content", "no pixel is a finite number")
    window = windows.fixed(display.window, modality, vocabulary, where) if display.window else None
    if window is None:
        seen = values if finite.all() else values[finite]
        ends = _percentiles(seen, *windows.wanted_percentiles(display.window))
        window = windows.by_percentiles(*ends, modality)
    history += (f"window {window.name}",)
    if finite.all():
        return _Shown(windows.shader(window, values.dtype)(values), window.name, (), history)
    pixels = windows.grey(np.where(finite, values, window.low), window)
    pixels[~finite] = 0
    said = f"{np.count_nonzero(~finite)} pixels that are no finite number shown black"
    return _Shown(pixels, window.name, ("not_finite",), (*history, said))


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(values) < FARTHEST) if values.dtype.kind == "f" else np.ones(values.shape, bool)


def _percentiles(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of what is above the lowest value; of two values, the two."""
    lowest = float(values.min())
    one, other = windows.quantiles(values, low, high, above_lowest=True)
    if other == lowest:
        return lowest, lowest + max(1.0, abs(lowest))
    return (one, other) if one < other else (lowest, other)


# ---- size


def _fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """Shrink both sides by one factor until the longer one fits."""
    if max(width, height) <= longest:
        return width, height
    factor = longest / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))
