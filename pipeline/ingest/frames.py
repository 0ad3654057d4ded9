"""One 2D picture of a case, before it is stored: of a picture file, a DICOM file, a video, a row of an array."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.records import Affine2, Geometry
from sources.descriptor import Frames

IDENTITY: Affine2 = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """Pixels to store, and the way from them to the px that annotations speak of."""

    name: str
    """Last part of the record's id: `image`, `f00417`."""
    pixels: NDArray[np.uint8]
    """`(y, x)` grey or `(y, x, 3)` RGB."""
    source_size: tuple[int, int]
    """Width and height in px of the picture that annotations speak of."""
    to_source: Affine2 = IDENTITY
    """Stored px to source px: a crop, a scale, a quarter turn or a flip; nothing oblique."""
    turn: Affine2 | None = None
    """Source px (upright) to px of the file as it lies, where its EXIF orientation was applied."""
    original: bytes | None = None
    """The file's own bytes without metadata, where they hold exactly these pixels."""
    window: str | None = None
    """How intensities became grey; None: as stored in the file."""
    index: int | None = None
    """Number of the frame in its file, from 0."""
    time_s: float | None = None
    spacing_mm: float | None = None
    """Of the stored picture, whose pixels are square; None where unknown."""
    geometry: Geometry = "unknown"
    flags: tuple[str, ...] = ()
    history: tuple[str, ...] = ()


def chosen(total: int, step_s: float | None, wanted: Frames, labelled: Callable[[int, float], bool]) -> list[int]:
    """Return which frames of a clip of known length become pictures.

    Args:
        total: Frames that there are.
        step_s: Seconds from one to the next; None: unknown, and `every_s` counts for nothing.
        wanted: The descriptor's rules.
        labelled: Has the frame, by number and time, a label of its own?
    """
    found, due = list[int](), 0.0
    for index in range(total):
        time_s = index * (step_s or 0.0)
        if step_s and wanted.every_s and time_s + 1e-4 < due:
            continue
        if wanted.pick == "labelled" and not labelled(index, time_s):
            continue
        found.append(index)
        due = (time_s + 1e-4) // wanted.every_s * wanted.every_s + wanted.every_s if step_s and wanted.every_s else 0.0
    many = min(wanted.most or len(found), len(found))
    return [found[(2 * n + 1) * len(found) // (2 * many)] for n in range(many)]


def cut_out(crop: tuple[int, int, int, int] | None, width: int, height: int) -> tuple[int, int, int, int]:
    """Return columns and rows to keep, x0, y0, x1, y1; those counted from the far side are 0 or below.

    Raises:
        Unusable: `size_mismatch`: nothing is left.
    """
    if crop is None:
        return 0, 0, width, height
    left, top, right, bottom = crop
    x0, y0 = max(0, left + width if left < 0 else left), max(0, top + height if top < 0 else top)
    x1, y1 = min(width, right + width if right <= 0 else right), min(height, bottom + height if bottom <= 0 else bottom)
    if x0 >= x1 or y0 >= y1:
        said = f"display.crop {left}, {top}, {right}, {bottom}"
        raise Unusable("size_mismatch", f"{said} leaves nothing of {width}x{height} px")
    return x0, y0, x1, y1
