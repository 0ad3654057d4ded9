"""From intensities to grey: the formula, and that it does not look at the picture."""

import math

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence

from pipeline import vocabulary
from pipeline.errors import UserError
from pipeline.ingest.windows import (
    Bounds,
    adjusted,
    fixed,
    grey,
    inverted,
    linear,
    of_foreground,
    of_function,
    of_header,
    percentiles,
    quantiles,
    shown,
)
from sources.descriptor import WindowSpec

WORDS = vocabulary.load()
VOLUME = np.arange(4 * 6 * 6, dtype=np.int16).reshape(4, 6, 6)


def formula(value: float, low: float, high: float) -> int:
    """Linear, rounded half up, clipped."""
    return int(min(255, max(0, np.floor((value - low) / (high - low) * 255 + 0.5))))


def bounds(spec, modality, volume, vocabulary, where, background=None, **known):
    """As a volume's window is chosen."""
    found = fixed(spec, modality, vocabulary, where, **known)
    return found or of_foreground(spec, modality, volume, background)


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
        (WindowSpec(center=50, width=350), Bounds(-125.0, 225.0, "bounds -125..225")),
        (WindowSpec(low=0, high=80.5), Bounds(0.0, 80.5, "bounds 0..80.5")),
    ],
)
def test_the_descriptors_window_is_used_and_named(spec, wanted):
    assert bounds(spec, "ct", VOLUME, WORDS, "toy") == wanted
    assert bounds(spec, "mr", VOLUME, WORDS, "toy") == wanted


def test_an_unknown_preset_gives_the_near_name():
    with pytest.raises(UserError, match=r"toy: unknown window 'lnug'; did you mean 'lung'?"):
        bounds(WindowSpec(preset="lnug"), "ct", VOLUME, WORDS, "toy")


# ---- percentiles of the foreground


def bright_cube(background: float) -> np.ndarray:
    """A bright cube in a dark volume that takes up most of it."""
    volume = np.full((20, 20, 20), background)
    volume[6:14, 6:14, 6:14] = np.linspace(345, 653, 512).reshape(8, 8, 8)
    return volume


@pytest.mark.parametrize("background", [0.0, -1024.0, 12.0])
def test_percentiles_are_of_what_is_above_the_lowest_value(background):
    inside = bright_cube(background)[:, ::2, ::2]
    wanted = np.percentile(inside[inside > background], (0.5, 99.5))
    np.testing.assert_allclose(percentiles(bright_cube(background), 0.5, 99.5), wanted)
    assert percentiles(bright_cube(background), 0.5, 99.5)[0] > 340


def test_other_modalities_use_percentiles_of_the_whole_volume():
    found = bounds(None, "mr", bright_cube(0), WORDS, "toy")
    assert (found.low, found.high) == percentiles(bright_cube(0), 0.5, 99.5)
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


def test_of_two_values_the_lower_is_black():
    volume = np.zeros((4, 4, 4))
    volume[2:] = 9
    assert percentiles(volume, 0.5, 99.5) == (0.0, 9.0)


# ---- PS3.3 C.11.2.1 typed in


def linear_function(x: float, c: float, w: float) -> float:
    """C.11.2.1.2.1, with y from 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 255.0
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


def linear_exact_function(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.2."""
    return min(1.0, max(0.0, (x - c) / w + 0.5)) * 255


def sigmoid_function(x: float, c: float, w: float) -> float:
    """C.11.2.1.3.1."""
    return 255 / (1 + math.exp(min(700, -4 * (x - c) / w)))


FUNCTIONS = {"linear": linear_function, "linear_exact": linear_exact_function, "sigmoid": sigmoid_function}


def test_the_typed_formulas_give_the_known_numbers():
    at = {name: [round(f(x, 40, 400), 2) for x in (40, 239, 0)] for name, f in FUNCTIONS.items()}
    assert at["linear"] == [127.82, 255.0, 102.26]
    assert at["linear_exact"] == [127.5, 254.36, 102.0]
    assert at["sigmoid"] == [127.5, 224.33, 102.33]


@pytest.mark.parametrize(
    ("center", "width"), [(40, 400), (-600, 1500), (2047.5, 4096), (0.5, 2), (40.25, 80.5), (7, 1)]
)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_center_and_width_give_the_grey_of_the_standard(center, width, function, dtype):
    values = np.arange(-1200, 3000, dtype=dtype)
    found = grey(values, of_function(center, width, function, ""))
    wanted = np.array([FUNCTIONS[function](float(value), center, width) for value in values])
    assert np.abs(found - wanted).max() <= 0.51  # rounded


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_grey_is_that_of_pydicom(function):
    values = np.arange(-1024, 3072, dtype=np.int16)
    d = Dataset()
    d.PhotometricInterpretation, d.BitsStored, d.PixelRepresentation = "MONOCHROME2", 16, 1
    d.WindowCenter, d.WindowWidth, d.VOILUTFunction = 40, 400, function
    wanted = (apply_windowing(values, d) + 32768) / 65535 * 255
    found = grey(values, of_header(d)[0].bounds)
    assert np.abs(found - wanted).max() <= 0.51


def test_the_descriptors_center_and_width_go_by_its_function():
    made = {f: bounds(WindowSpec(center=40, width=400, function=f), "ct", VOLUME, WORDS, "toy") for f in FUNCTIONS}
    assert {f: found.name for f, found in made.items()} == {
        "linear": "bounds -160..239",
        "linear_exact": "bounds -160..240",
        "sigmoid": "sigmoid 40/400",
    }
    assert {f: grey(np.array([239]), found)[0] for f, found in made.items()} == {
        "linear": 255,
        "linear_exact": 254,
        "sigmoid": 224,
    }


def test_a_linear_window_below_one_is_a_mistake_of_the_descriptor():
    with pytest.raises(ValueError, match="function linear needs at least 1"):
        WindowSpec(center=0, width=0.5, function="linear")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_number_is_no_crash(bad, function):
    found = grey(np.array([bad, 40], np.float32), of_function(40, 400, function, ""))
    assert found.tolist() == [255 if bad == np.inf else 0, 128]


# ---- what a DICOM header wants


def head(**tags) -> Dataset:
    d = Dataset()
    for key, value in tags.items():
        setattr(d, key, value)
    return d


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ({}, []),
        ({"WindowCenter": "40", "WindowWidth": "400"}, ["header 40/400 linear"]),
        ({"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "SIGMOID"}, ["header 40/400 sigmoid"]),
        (
            {"WindowCenter": "40", "WindowWidth": "0.5", "VOILUTFunction": "LINEAR_EXACT"},
            ["header 40/0.5 linear_exact"],
        ),
        ({"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "CUBIC"}, ["header 40/400 linear"]),
        (
            {"WindowCenter": ["40", "-600"], "WindowWidth": ["400", "1500"]},
            ["header 40/400 linear", "header -600/1500 linear"],
        ),
        ({"WindowCenter": ["0", "-600"], "WindowWidth": ["0", "1500"]}, ["header -600/1500 linear"]),
        ({"WindowCenter": "0", "WindowWidth": "0"}, []),
        ({"WindowCenter": "0", "WindowWidth": "0.5"}, []),
        ({"WindowCenter": "0", "WindowWidth": "-4"}, []),
        ({"WindowCenter": "", "WindowWidth": ""}, []),
        ({"WindowCenter": None, "WindowWidth": "400"}, []),
        ({"WindowCenter": "40"}, []),
        ({"WindowCenter": ["40", ""], "WindowWidth": ["400", ""]}, ["header 40/400 linear"]),
        ({"WindowCenter": ["40", "50"], "WindowWidth": "400"}, ["header 40/400 linear"]),
    ],
)
def test_a_headers_windows_are_those_that_can_be_used(tags, names):
    assert [one.bounds.name for one in of_header(head(**tags))] == names


def voi_table(entries, first=0, bits=16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def test_a_headers_table_comes_before_its_windows_and_spans_black_to_white():
    entries = [0, 15, 18, 62, 100, 255]
    d = head(
        VOILUTSequence=Sequence([voi_table(entries, -2, 8)]), WindowCenter="0", WindowWidth="1", PixelRepresentation=1
    )
    (found,) = of_header(d)
    assert found.bounds.name == "header table -2..3"
    assert grey(np.array([-9, -2, -1, 0, 1, 2, 3, 900]), found.bounds).tolist() == [0, 0, 15, 18, 62, 100, 255, 255]


def test_a_headers_table_is_read_as_highdicom_reads_it():
    entries = np.sort(np.random.default_rng(2).integers(0, 4096, 1000)).astype(np.uint16)
    table = hd.VOILUT(first_mapped_value=100, lut_data=entries)
    values = np.arange(0, 1300, dtype=np.int32)
    wanted = hd.VOILUTTransformation(voi_luts=[table]).apply(values, output_range=(0, 255))
    (found,) = of_header(head(VOILUTSequence=Sequence([table])))
    assert np.abs(grey(values, found.bounds) - wanted).max() <= 0.51


def test_a_table_that_says_16_bits_and_has_12_is_not_dark():
    """Agfa CR: the values themselves say what is white."""
    (found,) = of_header(head(VOILUTSequence=Sequence([voi_table([0, 2048, 4095], bits=16)])))
    assert grey(np.arange(3), found.bounds).tolist() == [0, 128, 255]


def test_a_table_that_can_not_be_read_leaves_the_windows():
    broken = voi_table([1, 2])
    del broken.LUTData
    d = head(VOILUTSequence=Sequence([broken]), WindowCenter="40", WindowWidth="400")
    assert [one.bounds.name for one in of_header(d)] == ["header 40/400 linear"]
    assert of_header(head(VOILUTSequence=Sequence([broken]))) == ()


def test_a_constant_table_divides_by_nothing():
    (found,) = of_header(head(VOILUTSequence=Sequence([voi_table([7, 7, 7])])))
    assert grey(np.array([0, 1, 5]), found.bounds).tolist() == [0, 0, 0]


def test_each_frame_may_have_a_window_of_its_own():
    groups = [
        head(FrameVOILUTSequence=Sequence([head(WindowCenter=str(center), WindowWidth="400")])) for center in (40, 50)
    ]
    d = head(PerFrameFunctionalGroupsSequence=Sequence(groups))
    assert [of_header(d, n)[0].bounds.name for n in range(2)] == ["header 40/400 linear", "header 50/400 linear"]


SEVERAL = shown([(40, 400, "WINDOW1"), (-600, 1500, "LUNG"), (300, 1500, "")], "LINEAR")


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((), "header 40/400 linear"),
        (("lung", "lung", "liver"), "header -600/1500 linear"),  # by its explanation
        (("liver",), "header 40/400 linear"),  # -25..230 is like none enough, or like the first
        (("no_such_concept",), "header 40/400 linear"),
    ],
)
def test_of_several_windows_the_organ_chooses(labels, name):
    found = bounds(WindowSpec(preset="header"), "ct", VOLUME, WORDS, "toy", labels=labels, header=SEVERAL)
    assert found.name == name


def test_of_windows_without_words_the_one_nearest_to_the_preset_is_chosen():
    plain = shown([(40, 400, None), (-500, 1400, None)], "")
    found = bounds(WindowSpec(preset="header"), "ct", VOLUME, WORDS, "toy", labels=["lung"], header=plain)
    assert found.name == "header -500/1400 linear"
    far = shown([(40, 400, None), (3000, 100, None)], "")
    found = bounds(WindowSpec(preset="header"), "ct", VOLUME, WORDS, "toy", labels=["lung"], header=far)
    assert found.name == "header 40/400 linear"


def test_a_header_that_is_silent_leaves_the_modalitys_default():
    assert bounds(WindowSpec(preset="header"), "ct", VOLUME, WORDS, "toy").name == "soft_tissue -160..240"
    assert bounds(WindowSpec(preset="header"), "mr", VOLUME, WORDS, "toy").name.startswith("percentile ")


# ---- organ


def test_the_organs_window_is_that_of_most_labels():
    def chosen(*labels):
        return bounds(WindowSpec(preset="organ"), "ct", VOLUME, WORDS, "toy", labels=labels).name.split()[0]

    assert WORDS.concepts["lung"].window == "lung"
    assert WORDS.concepts["liver"].window is not None
    assert chosen("lung", "lung", "liver") == "lung"
    assert chosen("liver", "liver", "lung") == WORDS.concepts["liver"].window
    assert chosen() == chosen("no_such_concept") == "soft_tissue"


def test_the_organs_window_is_in_hounsfield_units_and_for_ct_only():
    found = bounds(WindowSpec(preset="organ"), "mr", VOLUME, WORDS, "toy", labels=["lung"])
    assert found.name.startswith("percentile ")


# ---- PET


def test_pet_is_shown_inverted_from_0_to_10_suv():
    found = bounds(None, "pet", VOLUME, WORDS, "toy", suv=True)
    assert found == Bounds(10.0, 0.0, "suv 0..10 inverted")
    values = np.array([-1, 0, 2.5, 5, 10, 40], np.float32)
    assert grey(values, found).tolist() == [255, 255, 191, 128, 0, 0]


def test_pet_without_suv_is_shown_inverted_by_percentiles():
    low, high = percentiles(VOLUME, 0.5, 99.5)
    found = bounds(None, "pet", VOLUME, WORDS, "toy")
    assert found == Bounds(high, low, f"percentile {low:g}..{high:g} inverted")


def test_a_declared_window_of_pet_is_inverted_like_the_default():
    assert bounds(WindowSpec(low=0, high=7), "pet", VOLUME, WORDS, "toy", suv=True) == Bounds(
        7.0, 0.0, "bounds 0..7 inverted"
    )


# ---- padding, slope, polarity


@pytest.mark.parametrize("padding", [-2000, 5000])
def test_background_is_no_foreground(padding):
    volume = np.random.default_rng(3).normal(500, 50, (16, 32, 32))
    wanted = percentiles(volume, 0.5, 99.5)
    volume[:, :4], volume[0, 6, 6] = padding, -3000  # one voxel below the padding
    assert percentiles(volume, 0.5, 99.5) != pytest.approx(wanted, abs=5)
    assert percentiles(volume, 0.5, 99.5, background=padding) == pytest.approx(wanted, abs=5)
    assert bounds(None, "mr", volume, WORDS, "toy", background=padding).low == pytest.approx(wanted[0], abs=5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", ">i2", "i2", "i4", "f4"])
@pytest.mark.parametrize("size", [1, 2, 3, 10, 999, 1000])
def test_quantiles_are_numpys(dtype, size):
    rng = np.random.default_rng(size)
    for most in (3, 120):
        values = rng.integers(0 if dtype.startswith("u") else -most, most, size).astype(dtype)
        for low, high in ((0.5, 99.5), (0, 100), (1, 33.3), (50, 75)):
            wanted = np.percentile(values.astype(np.float64), (low, high))
            assert quantiles(values, low, high) == pytest.approx(tuple(wanted), rel=1e-12, abs=0)
            above = values[values > values.min()].astype(np.float64)
            wanted = np.percentile(above if above.size else values[:1].astype(np.float64), (low, high))
            assert quantiles(values, low, high, above_lowest=True) == pytest.approx(tuple(wanted), rel=1e-12, abs=0)


def test_a_volume_of_padding_alone_has_bounds():
    assert percentiles(np.full((4, 4, 4), -2000), 0.5, 99.5, background=-2000) == (0.0, 1.0)


def test_numbers_that_are_none_are_no_foreground():
    volume = np.linspace(0, 100, 4096, dtype=np.float32).reshape(16, 16, 16)
    wanted = percentiles(volume, 0.5, 99.5)
    volume[3, 2, 2], volume[3, 2, 4] = np.nan, np.inf
    assert percentiles(volume, 0.5, 99.5) == pytest.approx(wanted, abs=0.5)


def test_slope_and_intercept_of_a_descriptor_make_hounsfield_units():
    stored = np.array([0, 1024, 2000], np.uint16)
    assert adjusted(stored, 1, 0) is stored
    assert adjusted(stored, 1, -1024).tolist() == [-1024, 0, 976]
    assert adjusted(stored, 0.5, 3).tolist() == [3, 515, 1003]


def test_black_and_white_change_places():
    assert inverted(np.array([0, 1, 254, 255], np.uint8)).tolist() == [255, 254, 1, 0]
