"""From intensities to grey: the formula, and that it does not look at the picture."""

import numpy as np
import pytest

from pipeline import vocabulary
from pipeline.errors import UserError
from pipeline.ingest.windows import Bounds, bounds, grey, linear, percentiles
from sources.descriptor import WindowSpec

WORDS = vocabulary.load()
VOLUME = np.arange(4 * 6 * 6, dtype=np.int16).reshape(4, 6, 6)


def formula(value: float, low: float, high: float) -> int:
    """Linear, rounded half up, clipped."""
    return int(min(255, max(0, np.floor((value - low) / (high - low) * 255 + 0.5))))


@pytest.mark.parametrize(("low", "high"), [(-160.0, 240.0), (-1350.0, 150.0), (0.0, 1.0), (-0.5, 0.25)])
def test_grey_is_linear_between_the_bounds(low, high):
    values = np.linspace(low - (high - low), high + (high - low), 997).astype(np.float32)
    found = grey(values, Bounds(low, high, ""))
    wanted = np.array([formula(float(value), low, high) for value in values])
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).max() <= 1  # single precision at the steps
    assert (found == wanted).mean() > 0.99
    assert (found[0], found[-1]) == (0, 255)


def test_every_hounsfield_unit_has_the_grey_of_the_formula():
    units = np.arange(-1024, 3072, dtype=np.int16)
    found = grey(units, Bounds(-160.0, 240.0, ""))
    assert found.tolist() == [formula(int(value), -160, 240) for value in units]


@pytest.mark.parametrize(("value", "shown"), [(-161, 0), (-160, 0), (40, 128), (240, 255), (241, 255), (32767, 255)])
def test_the_soft_tissue_window_at_its_corners(value, shown):
    assert grey(np.array([value], np.int16), Bounds(*linear(40, 400), "")).tolist() == [shown]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", np.uint8])
def test_every_type_gives_the_same_grey(dtype):
    values = np.array([0, 10, 100, 250])
    assert grey(values.astype(dtype), Bounds(0, 250, "")).tolist() == [0, 10, 102, 255]


def test_the_same_intensity_is_the_same_grey_whatever_is_around_it():
    window = bounds(None, "ct", VOLUME, WORDS, "toy")
    other = bounds(None, "ct", VOLUME * 20 - 1000, WORDS, "toy")
    assert window == other == Bounds(-160.0, 240.0, "soft_tissue -160..240")
    dark, bright = np.full((4, 4), -1000), np.full((4, 4), 1000)
    dark[0, 0] = bright[0, 0] = 55
    assert grey(dark, window)[0, 0] == grey(bright, window)[0, 0] == formula(55, -160, 240)


def test_a_constant_slice_is_constant_grey():
    assert set(grey(np.full((4, 4), 40, np.int16), Bounds(-160, 240, "")).ravel().tolist()) == {128}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (WindowSpec(preset="lung"), Bounds(-1350.0, 150.0, "lung -1350..150")),
        (WindowSpec(center=50, width=350), Bounds(-125.0, 225.0, "window -125..225")),
        (WindowSpec(low=0, high=80.5), Bounds(0.0, 80.5, "window 0..80.5")),
    ],
)
def test_the_descriptors_window_is_used_and_named(spec, wanted):
    assert bounds(spec, "ct", VOLUME, WORDS, "toy") == wanted
    assert bounds(spec, "mr", VOLUME, WORDS, "toy") == wanted


def test_an_unknown_preset_gives_the_near_name():
    with pytest.raises(UserError, match=r"toy: unknown window 'lnug'; did you mean 'lung'?"):
        bounds(WindowSpec(preset="lnug"), "ct", VOLUME, WORDS, "toy")


# ---- percentiles of the foreground


def head(background: float) -> np.ndarray:
    """A bright cube in a dark volume that takes up most of it."""
    volume = np.full((20, 20, 20), background)
    volume[6:14, 6:14, 6:14] = np.linspace(345, 653, 512).reshape(8, 8, 8)
    return volume


@pytest.mark.parametrize("background", [0.0, -1024.0, 12.0])
def test_percentiles_are_of_what_is_above_the_lowest_value(background):
    inside = head(background)[:, ::2, ::2]
    wanted = np.percentile(inside[inside > background], (0.5, 99.5))
    np.testing.assert_allclose(percentiles(head(background), 0.5, 99.5), wanted)
    assert percentiles(head(background), 0.5, 99.5)[0] > 340


def test_other_modalities_use_percentiles_of_the_whole_volume():
    found = bounds(None, "mr", head(0), WORDS, "toy")
    assert (found.low, found.high) == percentiles(head(0), 0.5, 99.5)
    assert found.name == f"percentile {found.low:g}..{found.high:g}"


def test_long_volumes_are_sampled_and_give_nearly_the_same():
    volume = np.random.default_rng(1).normal(500, 50, (300, 16, 16))
    every = np.percentile(volume, (0.5, 99.5))
    np.testing.assert_allclose(percentiles(volume, 0.5, 99.5), every, atol=8)


@pytest.mark.parametrize("value", [0, -5, 700])
def test_a_constant_volume_has_bounds_that_differ(value):
    low, high = percentiles(np.full((3, 4, 5), value), 0.5, 99.5)
    assert high - low == 1
    assert set(grey(np.full((3, 4, 5), value), Bounds(low, high, "")).ravel().tolist()) == {0}


def test_two_values_have_bounds_that_differ():
    volume = np.zeros((4, 4, 4))
    volume[2:] = 9
    assert percentiles(volume, 0.5, 99.5) == (9.0, 10.0)
