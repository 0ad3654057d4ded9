"""Pictures that are rows of a file: a cell of Parquet, or a row of an array in an `.npz` or `.npy`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.ingest import picture_files, windows
from pipeline.ingest.frames import Frame
from pipeline.ingest.windows import Bounds
from pipeline.vocabulary import Vocabulary
from sources import npz, parquet_files
from sources.descriptor import Display


def frame(
    path: Path, row: int, name: str, display: Display, modality: str, vocabulary: Vocabulary, where: str
) -> Frame:
    """Show the picture of a row as the descriptor says.

    Bytes of a picture file are read as one. Of arrays, 8-bit grey and RGB are taken as they are; deeper grey gets the
    declared window, or percentiles of its picture; deeper colours need a window with fixed bounds.

    Args:
        path: Parquet, `.npz` or `.npy`.
        row: From 0.
        name: Column or member; of `.npy` it does not count.
        display: Of the descriptor.
        modality: Key of the vocabulary's modalities.
        vocabulary: Knows the windows' names.
        where: Whose display it is, for error messages.

    Raises:
        Unusable: What `picture` and `picture_files.frame` raise; `bit_depth`: deep colours without a window;
            `no_content`: no pixel is a number.
        UserError: The descriptor names an unknown window.
    """
    found = picture(path, row, name)
    if isinstance(found, bytes):
        return picture_files.frame(found, display, modality, vocabulary, where)
    pixels = _upright(found)
    if pixels.dtype == np.uint8:
        return picture_files.frame(pictures.png(pixels), display, modality, vocabulary, where)
    values = windows.adjusted(pixels, display.slope, display.intercept)
    window = _window(values, display, modality, vocabulary, where)
    shown = np.ascontiguousarray(windows.grey(values, window))
    rest = display.model_copy(update={"window": None, "slope": 1.0, "intercept": 0.0})
    made = picture_files.frame(pictures.png(shown), rest, modality, vocabulary, where)
    return replace(made, window=window.name, history=(f"window {window.name}", *made.history))


def picture(path: Path, row: int, name: str) -> bytes | NDArray[Any]:
    """Return what a row holds: the bytes of a picture file, or an array.

    Args:
        path: Parquet, `.npz` or `.npy`.
        row: From 0.
        name: Column or member; of `.npy` it does not count.

    Raises:
        Unusable: `missing_image`: no such row, or an empty cell; `undecodable`; `truncated`; `unreadable`;
            `too_large`.
    """
    if path.suffix.lower() in (".npz", ".npy"):
        return npz.row(path, name, row)
    return parquet_files.picture(path, name, row)


# ---- what a row shows


def _upright(array: NDArray[Any]) -> NDArray[Any]:
    """Return `(y, x)` grey or `(y, x, 3)` colours, of whatever order the axes have."""
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    colours = array.ndim == 3 and array.shape[2] in (3, 4)
    if not (array.ndim == 2 or colours) or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise Unusable("undecodable", f"a row of shape {array.shape} and type {array.dtype} is no picture")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    return np.ascontiguousarray(array[..., :3] if colours else array)


def _window(values: NDArray[Any], display: Display, modality: str, vocabulary: Vocabulary, where: str) -> Bounds:
    """Choose the window of a picture of more than 8 bits; colours must not depend on the picture."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Unusable("no_content", "no pixel is a finite number")
    fixed = windows.fixed(display.window, modality, vocabulary, where) if display.window else None
    if fixed is not None:
        return fixed
    if values.ndim == 3:
        raise Unusable("bit_depth", f"colours of {values.dtype}; display.window should give low and high")
    foreground = finite[finite > finite.min()]
    ends = windows.spread(foreground if foreground.size else finite[:1], *windows.wanted_percentiles(display.window))
    return windows.by_percentiles(*ends, modality)
