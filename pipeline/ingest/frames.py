"""One 2D picture of a case, before it is stored: of a picture file, a DICOM file, a video, a row of an array."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Affine2, Geometry

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
