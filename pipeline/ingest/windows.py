"""From intensities to grey with fixed bounds: the same intensity is the same grey on every slice."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.vocabulary import Vocabulary
from sources.descriptor import WindowSpec


class Bounds(NamedTuple):
    """Intensities shown as black and as white."""

    low: float
    high: float
    name: str
    """What to call it in a record, `soft_tissue -160..240`."""


def bounds(spec: WindowSpec | None, modality: str, volume: NDArray[Any], vocabulary: Vocabulary, where: str) -> Bounds:
    """Choose the window of a volume: the descriptor's, else soft tissue for CT, else percentiles of the foreground.

    Raises:
        UserError: The descriptor names an unknown preset.
    """
    spec = spec or (WindowSpec(preset="soft_tissue") if modality == "ct" else WindowSpec(percentile=(0.5, 99.5)))
    if spec.preset is not None:
        found = vocabulary.window(spec.preset, where)
        return _named(spec.preset, *linear(found.center, found.width))
    if spec.center is not None and spec.width is not None:
        return _named("window", *linear(spec.center, spec.width))
    if spec.low is not None and spec.high is not None:
        return _named("window", spec.low, spec.high)
    low, high = percentiles(volume, *(spec.percentile or (0.5, 99.5)))
    return _named("percentile", low, high)


def _named(name: str, low: float, high: float) -> Bounds:
    return Bounds(low, high, f"{name} {low:g}..{high:g}")


def linear(center: float, width: float) -> tuple[float, float]:
    """Return the bounds of a window, `center ± width / 2` (LINEAR_EXACT of PS3.3 C.11.2.1.3.2).

    >>> linear(40, 400)
    (-160.0, 240.0)
    """
    return center - width / 2, center + width / 2


def percentiles(volume: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of the foreground: what is above the background, the volume's lowest value.

    All voxels would give 0..593 where the foreground of a brain MR is 345..653.
    """
    sample = volume[:: max(1, volume.shape[0] // 64), ::2, ::2].ravel()
    foreground = sample[sample > sample.min()] if sample.size else sample
    if not foreground.size:
        value = float(sample[0]) if sample.size else 0.0
        return value, value + 1
    one, other = (float(p) for p in np.percentile(foreground, (low, high)))
    return one, other if other > one else one + 1


def grey(intensities: NDArray[Any], window: Bounds) -> NDArray[np.uint8]:
    """Map intensities to 0..255, linear between the bounds, rounded half up."""
    scale = 255.0 / (window.high - window.low)
    shown = (intensities.astype(np.float32) - np.float32(window.low)) * np.float32(scale) + np.float32(0.5)
    clipped: NDArray[np.uint8] = np.clip(shown, 0, 255).astype(np.uint8)
    return clipped
