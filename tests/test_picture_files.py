"""Picture files as frames: what becomes grey and how, what is cut away, and the way back to the file."""

import io
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from small_tiff import tiff

from pipeline import discovery, pictures, vocabulary
from pipeline.errors import Unusable, UserError
from pipeline.ingest import picture_files
from pipeline.ingest.frames import IDENTITY, Frame
from sources.descriptor import Display, WindowSpec

VOCABULARY = vocabulary.load()
RNG = np.random.default_rng(7)
DEEP = RNG.integers(0, 65536, (24, 36), dtype=np.uint16)
DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()


def shown(data: bytes, modality: str = "mr", **display) -> Frame:
    return picture_files.frame(data, Display(**display), modality, VOCABULARY, "toy")


def window(low: float, high: float) -> dict[str, float]:
    return {"low": low, "high": high}


def half_up(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The formula: linear from black at `low` to white at `high`."""
    return np.clip(np.floor((values.astype(float) - low) / (high - low) * 255 + 0.5), 0, 255)


def through(affine: tuple[float, ...], x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = affine
    return a * x + b * y + c, d * x + e * y + f


# ---- what stays as it is


@pytest.mark.parametrize("shape", [(24, 36), (24, 36, 3)])
def test_a_picture_of_eight_bits_stays_as_it_is(encoded, shape):
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    data = encoded(pixels)
    frame = shown(data)
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert (frame.name, frame.original, frame.window) == ("image", data, None)
    assert (frame.source_size, frame.to_source, frame.turn) == ((36, 24), IDENTITY, None)
    assert (frame.flags, frame.history, frame.geometry) == ((), (), "unknown")


@pytest.mark.parametrize(
    ("display", "said"),
    [
        ({"invert": True}, "inverted"),
        ({"window": window(0, 255)}, "window bounds 0..255"),
        ({"crop": (1, 0, 0, 0)}, "cropped to columns 1 to 80, rows 0 to 70 of 80x70 px"),
        ({"max_side_px": 64}, "resized from 80x70 to 64x56 px, area means"),
    ],
    ids=["invert", "window", "crop", "max_side_px"],
)
def test_bytes_of_a_picture_that_changes_are_not_kept(encoded, display, said):
    frame = shown(encoded(RNG.integers(0, 256, (70, 80), dtype=np.uint8)), **display)
    assert (frame.original, frame.history) == (None, (said,))


# ---- windows


def test_a_declared_window_shows_the_same_value_as_the_same_grey_on_every_picture(encoded):
    other = (DEEP // 3).astype(np.uint16)
    other[5, 5] = DEEP[5, 5] = 30_000
    for values in (DEEP, other):
        frame = shown(encoded(values), window=window(10_000, 40_000))
        wanted = half_up(values, 10_000, 40_000)
        assert np.abs(frame.pixels - wanted).max() <= 1  # at .5, in float32
        assert (frame.pixels != wanted).mean() < 0.01
        assert frame.window == "bounds 10000..40000"
    assert shown(encoded(DEEP), window=window(0, 65535)).pixels[5, 5] == round(30_000 / 257)


def test_without_a_window_percentiles_of_what_is_above_the_lowest_value_are_shown(encoded):
    values = DEEP.copy()
    values[:12] = 100  # background, half of the picture
    values[values < 100] = 101
    low, high = np.percentile(values[values > 100], (0.5, 99.5))
    frame = shown(encoded(values))
    assert np.abs(frame.pixels - half_up(values, low, high)).max() <= 1
    assert frame.window == f"percentile {low:g}..{high:g}"
    assert frame.history == (f"window {frame.window}",)


def test_twelve_bits_in_sixteen_are_not_nearly_black(encoded):
    twelve = (DEEP >> 4).astype(np.uint16)
    frame = shown(encoded(twelve))
    assert (frame.pixels.min(), frame.pixels.max()) == (0, 255)
    assert 110 < frame.pixels.mean() < 145


def test_ct_out_of_a_png_gets_its_hounsfield_units_back(encoded):
    hounsfield = RNG.integers(-1024, 3000, (24, 36))
    stored = (hounsfield + 32768).astype(np.uint16)  # as DeepLesion stores them
    frame = shown(encoded(stored), "ct", slope=1, intercept=-32768, window={"preset": "soft_tissue"})
    assert np.abs(frame.pixels - half_up(hounsfield, -160, 240)).max() <= 1
    assert frame.window == "soft_tissue -160..240"
    assert frame.history == ("values times 1 plus -32768", "window soft_tissue -160..240")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_values_below_zero_are_windowed_too(dtype):
    values = (DEEP.astype(np.float64) - 30_000).astype(dtype)
    frame = shown(tiff(values), window=window(-20_000, 20_000))
    assert np.abs(frame.pixels - half_up(values, -20_000, 20_000)).max() <= 1


def test_a_declared_window_holds_for_grey_of_eight_bits_and_not_for_colour(encoded):
    grey = RNG.integers(0, 256, (24, 36), dtype=np.uint8)
    frame = shown(encoded(grey), window=window(50, 150))
    np.testing.assert_array_equal(frame.pixels, half_up(grey, 50, 150))
    colour = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)
    data = encoded(colour)
    assert shown(data, window=window(50, 150)).original == data


def test_declared_percentiles_are_of_this_picture(encoded):
    values = DEEP // 2
    frame = shown(encoded(values), window=WindowSpec(percentile=(10, 90)))
    low, high = np.percentile(values[values > values.min()], (10, 90))
    assert np.abs(frame.pixels - half_up(values, low, high)).max() <= 1


def test_a_window_without_a_name_in_the_vocabulary_is_the_curator_s_mistake(encoded):
    with pytest.raises(UserError, match="soft_tisue"):
        shown(encoded(DEEP), window={"preset": "soft_tisue"})


@pytest.mark.parametrize("values", [(7, 7), (0, 1), (100, 60_000), (-5.0, 3.0), (0.25, 0.25), (0.0, 1.0)])
def test_a_picture_of_one_value_is_one_grey_and_of_two_values_black_and_white(values):
    mixed = np.tile(np.array(values), (20, 10))
    frame = shown(tiff(mixed.astype(np.float32 if isinstance(values[0], float) else np.uint16)))
    assert set(np.unique(frame.pixels).tolist()) == ({0, 255} if values[0] != values[1] else {0})


def test_pixels_that_are_decoded_already_are_shown_as_a_file_s_are():
    """Rows of an array, say."""
    decoded = pictures.Decoded(DEEP, False, None, ())
    display = Display(crop=(4, 0, 0, 0), window=window(0, 50_000))
    found = picture_files.of_decoded(decoded, display, "mr", VOCABULARY, "toy")
    wanted = shown(tiff(DEEP), crop=(4, 0, 0, 0), window=window(0, 50_000))
    np.testing.assert_array_equal(found.pixels, wanted.pixels)
    assert replace(found, pixels=None) == replace(wanted, pixels=None)


# ---- pixels that are no numbers


@pytest.mark.parametrize("filler", [np.nan, np.inf, -np.inf, -3.4028235e38])
@pytest.mark.parametrize("invert", [False, True])
def test_pixels_that_are_no_numbers_are_black_and_do_not_count(filler, invert):
    values = RNG.normal(100, 10, (24, 36)).astype(np.float32)
    holes = values.copy()
    holes[3:6, 4:9] = filler
    finite = np.ones(values.shape, bool)
    finite[3:6, 4:9] = False
    low, high = np.percentile(values[finite & (values > values[finite].min())], (0.5, 99.5))
    frame = shown(tiff(holes), invert=invert)
    wanted = half_up(values, low, high)
    assert np.abs(frame.pixels.astype(float) - (255 - wanted if invert else wanted))[finite].max() <= 1
    assert not frame.pixels[~finite].any()
    assert frame.flags == ("not_finite",)
    assert "15 pixels that are no finite number shown black" in frame.history


def test_a_filler_is_none_after_it_is_rescaled_either():
    values = RNG.normal(100, 10, (24, 36)).astype(np.float32)
    values[0, 0] = -3.4028235e38
    frame = shown(tiff(values), slope=1000, intercept=5)
    assert (frame.flags, frame.pixels[0, 0]) == (("not_finite",), 0)
    assert 100 < frame.pixels.mean() < 155


def test_a_picture_without_a_number_has_no_content():
    with pytest.raises(Unusable, match="no_content"):
        shown(tiff(np.full((20, 20), np.nan, np.float32)))


# ---- black for white


def test_invert_is_black_for_white(encoded):
    for pixels in (RNG.integers(0, 256, (24, 36), dtype=np.uint8), RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)):
        np.testing.assert_array_equal(shown(encoded(pixels), invert=True).pixels, 255 - pixels)


def test_a_file_that_says_that_white_is_zero_is_shown_so_and_the_descriptor_may_correct_it():
    plain, inverted = tiff(DEEP), tiff(DEEP, photometric=0)
    np.testing.assert_array_equal(shown(inverted).pixels, 255 - shown(plain).pixels)
    np.testing.assert_array_equal(shown(inverted, invert=True).pixels, shown(plain).pixels)
    assert shown(inverted).history[-1] == "inverted"


# ---- crop and size


@pytest.mark.parametrize(
    ("crop", "columns", "rows"),
    [
        ((10, 5, 30, 20), (10, 30), (5, 20)),
        ((10, 5, -6, -4), (10, 30), (5, 20)),
        ((-26, -19, 0, 0), (10, 36), (5, 24)),
        ((10, 5, 900, 900), (10, 36), (5, 24)),
        ((-900, 0, 30, 0), (0, 30), (0, 24)),
    ],
)
def test_a_crop_keeps_its_pixels_and_knows_where_they_were(encoded, crop, columns, rows):
    pixels = RNG.integers(0, 256, (24, 36), dtype=np.uint8)
    frame = shown(encoded(pixels), crop=crop)
    np.testing.assert_array_equal(frame.pixels, pixels[rows[0] : rows[1], columns[0] : columns[1]])
    assert (frame.to_source, frame.source_size) == ((1, 0, columns[0], 0, 1, rows[0]), (36, 24))


@pytest.mark.parametrize("crop", [(36, 0, 0, 0), (20, 0, 10, 0), (0, 30, 0, 0), (0, 0, -36, 0)])
def test_a_crop_that_leaves_nothing_is_said(encoded, crop):
    with pytest.raises(Unusable, match=r"size_mismatch: .* leaves nothing of 36x24 px"):
        shown(encoded(DEEP), crop=crop)


def test_a_crop_by_dicom_regions_does_not_pass_over_a_picture_file(encoded):
    """It would show what was to be cut away."""
    with pytest.raises(UserError, match="DICOM"):
        shown(encoded(DEEP), crop="ultrasound")


def test_a_picture_too_long_is_made_smaller_by_one_factor(encoded):
    pixels = RNG.integers(0, 256, (90, 300), dtype=np.uint8)
    frame = shown(encoded(pixels), max_side_px=100)
    wanted = pixels.reshape(30, 3, 100, 3).mean(axis=(1, 3))
    assert np.abs(frame.pixels - wanted).max() <= 0.5
    assert frame.to_source == (3, 0, 0, 0, 3, 0)


@pytest.mark.parametrize(("size", "wanted"), [((301, 77), (100, 26)), ((20, 999), (2, 100)), ((1, 500), (1, 100))])
def test_the_way_back_takes_corners_to_corners(encoded, size, wanted):
    frame = shown(encoded(np.zeros(size[::-1], np.uint8)), max_side_px=100)
    assert frame.pixels.shape == wanted[::-1]
    assert through(frame.to_source, 0, 0) == (0, 0)
    assert through(frame.to_source, *wanted) == pytest.approx(size)


def test_a_crop_comes_before_the_size(encoded):
    frame = shown(encoded(np.zeros((120, 340), np.uint8)), crop=(20, 10, -20, -20), max_side_px=100)
    assert frame.pixels.shape == (30, 100)
    assert through(frame.to_source, 0, 0) == (20, 10)
    assert through(frame.to_source, 100, 30) == pytest.approx((320, 100))
    assert frame.history == (
        "cropped to columns 20 to 320, rows 10 to 100 of 340x120 px",
        "resized from 300x90 to 100x30 px, area means",
    )


# ---- EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("deep", [False, True], ids=["8 bits", "16 bits"])
def test_every_pixel_of_an_upright_picture_finds_its_place_in_the_file(encoded, orientation, deep):
    in_file = np.arange(24 * 36).reshape(24, 36).astype(np.uint16 if deep else np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(in_file), exif=exif)
    frame = shown(data, window=window(0, 255))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert frame.source_size == upright.shape[::-1]
    assert frame.turn == (None if orientation == 1 else picture_files.turned(orientation, *frame.source_size))
    for y, x in np.ndindex(upright.shape):
        u, v = through(frame.turn or IDENTITY, x + 0.5, y + 0.5)
        assert in_file[int(v), int(u)] == upright[y, x]
    assert ("exif_turned" in frame.flags) is (orientation != 1)


def test_an_orientation_that_is_none_turns_nothing():
    assert picture_files.turned(1, 36, 24) == picture_files.turned(0, 36, 24) == IDENTITY


def test_a_tiff_on_its_side_knows_its_file(encoded):
    frame = shown(tiff(DEEP, orientation=6))
    assert frame.source_size == (24, 36)
    assert frame.turn == picture_files.turned(6, 24, 36)


def test_flags_say_what_was_noticed(encoded):
    data = encoded(Image.fromarray(DEEP), "TIFF", save_all=True, append_images=[Image.fromarray(DEEP)])
    assert shown(data).flags == ("first_page_of_2",)


# ---- real data


@pytest.mark.skipif(not (DATA / "ivadomed_testing").is_dir(), reason=f"no real data in {DATA}")
def test_the_same_micrograph_is_the_same_picture_in_every_depth_and_format():
    """Of 16 bits all values are multiples of 257, so that no reading may differ."""
    folder = DATA / "ivadomed_testing" / "data_test_png_tif"
    eight = shown((folder / "sub-png/micr/sub-png_sample-8rgb_SEM.png").read_bytes()).pixels[..., 0]
    for form in ("png", "tif"):
        for kind, display in {"8rgb": {}, "8rgba": {}, "16rgb": {}, "16rgba": {}, "16gray": window(0, 65535)}.items():
            data = (folder / f"sub-{form}/micr/sub-{form}_sample-{kind}_SEM.{form}").read_bytes()
            pixels = shown(data, window=display or None).pixels
            np.testing.assert_array_equal(pixels if pixels.ndim == 2 else pixels[..., 0], eight)


@pytest.mark.skipif(not (DATA / "dirty_derived").is_dir(), reason=f"no real data in {DATA}")
def test_dirty_pictures_are_read_or_named():
    """What dirty_derived/manifest.csv asks for; hidden files are left out when files are listed."""
    folder, found = DATA / "dirty_derived" / "raster", {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        try:
            found[path.name] = shown(path.read_bytes())
        except Unusable as error:
            found[path.name] = error.reason
    reasons = {name: reason for name, reason in found.items() if isinstance(reason, str)}
    assert reasons == {
        "Thumbs.db": "undecodable",
        "html.jpg": "undecodable",
        "lfs.png": "lfs_pointer",
        "truncated.jpg": "truncated",
        "zero.jpg": "empty_file",
    }
    plain = found["UPPER.PNG"].pixels.astype(int)
    np.testing.assert_array_equal(found["ünïcode, comma (1).png"].pixels, plain)
    for name in ("rgb16.png", "rgba_alpha.png", "cmyk.jpg", "palette.png"):  # near, and not inverted
        assert np.abs(found[name].pixels - plain).mean() < 8
    sixteen = cv2.imread(str(folder / "rgb16.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_array_equal(found["rgb16.png"].pixels, np.round(sixteen / 257))
    np.testing.assert_array_equal(found["exif6.jpg"].pixels.shape, (320, 240, 3))
    grey = plain.mean(axis=2)
    for name in ("gray16_12bit.png", "float32.tif"):
        assert np.corrcoef(found[name].pixels.ravel(), grey.ravel())[0, 1] > 0.9
    assert found["panorama.png"].pixels.shape == (300, 10_000)
    assert found["black.png"].pixels.max() == 0
