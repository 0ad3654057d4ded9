"""Pictures that are rows: what is shown of an array, and that bytes are read as any picture file is."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import pictures, vocabulary
from pipeline.errors import Unusable, UserError
from pipeline.ingest import arrays, picture_files
from sources.descriptor import Display

GREY = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
WORDS = vocabulary.load()


def shown(array: np.ndarray, tmp_path, row: int = 2, modality: str = "xray", **display):
    np.savez_compressed(tmp_path / "a.npz", images=array)
    return arrays.frame(tmp_path / "a.npz", row, "images", Display(**display), modality, WORDS, "toy")


def refused(array: np.ndarray, tmp_path, **display) -> tuple[str, str]:
    with pytest.raises(Unusable) as caught:
        shown(array, tmp_path, **display)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("array", [GREY, COLOURS])
def test_eight_bits_are_shown_as_they_are(tmp_path, array):
    frame = shown(array, tmp_path)
    np.testing.assert_array_equal(frame.pixels, array[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(frame.original))), array[2])
    assert (frame.name, frame.source_size, frame.window, frame.history) == ("image", (30, 20), None, ())


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (COLOURS.transpose(0, 3, 1, 2), COLOURS),
        (np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1), COLOURS),
        (GREY > 99, np.where(GREY > 99, 255, 0)),
        (np.asarray(GREY, order="F"), GREY),
    ],
    ids=["last axis of one", "first axis of one", "channels first", "alpha", "booleans", "by columns"],
)
def test_axes_are_brought_into_order(tmp_path, array, wanted):
    for row in (2, 4, 0):
        np.testing.assert_array_equal(shown(array, tmp_path, row).pixels, wanted[row])


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64, ">u2"])
def test_deeper_grey_gets_the_declared_window(tmp_path, dtype):
    deep = (GREY.astype(np.int32) * 10).astype(dtype)
    frame = shown(deep, tmp_path, window={"low": 100, "high": 1600})
    wanted = np.floor((np.clip(deep[2].astype(float), 100, 1600) - 100) * 255 / 1500 + 0.5)  # rounded half up
    np.testing.assert_allclose(frame.pixels, wanted, atol=1)
    assert (frame.pixels == wanted).mean() > 0.99
    assert (frame.window, frame.history) == ("bounds 100..1600", ("window bounds 100..1600",))


def test_the_same_value_is_the_same_grey_in_every_row(tmp_path):
    values = np.zeros((2, 20, 20), np.float32)
    values[:, :5] = 0.5
    values[1, 10:] = 1.0
    greys = {shown(values, tmp_path, row, window={"low": 0, "high": 1}).pixels[0, 0] for row in (0, 1)}
    assert greys == {128}


def test_without_a_window_grey_is_shown_between_percentiles_of_its_foreground(tmp_path):
    deep = GREY.astype(np.float64) * 7 - 100
    frame = shown(deep, tmp_path)
    foreground = deep[2][deep[2] > deep[2].min()]
    low, high = np.percentile(foreground, (0.5, 99.5))
    assert frame.window == f"percentile {low:g}..{high:g}"
    assert (frame.pixels[deep[2] <= low] == 0).all()
    assert (frame.pixels[deep[2] >= high] == 255).all()


def test_slope_and_intercept_come_before_the_window_and_once(tmp_path):
    frame = shown(GREY.astype(np.uint16), tmp_path, slope=2.0, intercept=-50.0, window={"low": -50, "high": 460})
    np.testing.assert_array_equal(frame.pixels, GREY[2])


def test_deep_colours_need_a_window_with_bounds(tmp_path):
    whole = COLOURS.astype(np.float64)  # as PanNuke has them
    np.testing.assert_array_equal(shown(whole, tmp_path, window={"low": 0, "high": 255}).pixels, COLOURS[2])
    shares = shown((whole / 255).astype(np.float32), tmp_path, window={"low": 0, "high": 1}).pixels
    assert np.abs(shares.astype(int) - COLOURS[2]).max() <= 1
    said = ("bit_depth", "colours of float64; display.window should give low and high")
    assert refused(whole, tmp_path) == said
    assert refused(whole, tmp_path, window={"percentile": (1, 99)}) == said


def test_what_is_no_number_is_black(tmp_path):
    values = np.full((3, 20, 20), 0.5)
    values[2, 0, 0], values[2, 0, 1], values[2, 0, 2] = np.nan, np.inf, -np.inf
    pixels = shown(values, tmp_path, window={"low": 0, "high": 1}).pixels
    assert pixels[0, :4].tolist() == [0, 255, 0, 128]
    assert refused(np.full((3, 20, 20), np.nan), tmp_path) == ("no_content", "no pixel is a finite number")


def test_crop_inversion_and_size_are_those_of_picture_files(tmp_path):
    frame = shown(GREY, tmp_path, invert=True, crop=(2, 1, 22, 0))
    np.testing.assert_array_equal(frame.pixels, 255 - GREY[2][1:, 2:22])
    assert (frame.source_size, frame.to_source) == ((30, 20), (1, 0, 2, 0, 1, 1))
    deep = shown(GREY.astype(np.uint16), tmp_path, invert=True, window={"low": 0, "high": 255})
    np.testing.assert_array_equal(deep.pixels, 255 - GREY[2])


@pytest.mark.parametrize(
    ("array", "detail"),
    [
        (np.zeros((3, 8, 8, 8)), "a row of shape (8, 8, 8) and type float64 is no picture"),
        (np.zeros((3, 8, 8, 2)), "a row of shape (8, 8, 2) and type float64 is no picture"),
        (np.zeros((3, 8)), "a row of shape (8,) and type float64 is no picture"),
        (np.zeros((3, 8, 8), np.complex64), "a row of shape (8, 8) and type complex64 is no picture"),
        (np.full((3, 8, 8), "x"), "a row of shape (8, 8) and type <U1 is no picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, array, detail):
    assert refused(array, tmp_path) == ("undecodable", detail)


def test_a_row_that_is_not_there_and_a_window_that_is_not_known(tmp_path):
    with pytest.raises(Unusable, match="missing_image: row 5 of 5"):
        shown(GREY, tmp_path, row=5)
    with pytest.raises(UserError, match=r"toy: unknown window 'lungs'; did you mean 'lung'\?"):
        shown(GREY.astype(float), tmp_path, window="lungs")


# ---- Parquet


def test_a_cell_with_a_picture_file_is_read_as_that_file(tmp_path, encoded):
    files = [encoded(Image.fromarray(picture), form) for picture in GREY for form in ("PNG", "JPEG")]
    deep = Image.fromarray(GREY[0].astype(np.uint16) * 16)
    files.append(encoded(deep, "PNG"))
    held = pa.table({"image": [{"bytes": data, "path": None} for data in files]})
    pq.write_table(held, tmp_path / "a.parquet", row_group_size=3)
    for row, data in enumerate(files):
        display = Display(window={"low": 0, "high": 4080}) if row == 10 else Display()
        found = arrays.frame(tmp_path / "a.parquet", row, "image", display, "xray", WORDS, "toy")
        alone = picture_files.frame(data, display, "xray", WORDS, "toy")
        np.testing.assert_array_equal(found.pixels, alone.pixels)
        assert (found.original, found.history) == (alone.original, alone.history)
    np.testing.assert_array_equal(found.pixels, GREY[0])
    assert pictures.sha256(arrays.picture(tmp_path / "a.parquet", 3, "image")) == pictures.sha256(files[3])


def test_a_cell_that_is_no_picture_is_its_own_fault(tmp_path):
    pq.write_table(pa.table({"image": [b"text", b"", None]}), tmp_path / "a.parquet")
    reasons = []
    for row in range(3):
        with pytest.raises(Unusable) as caught:
            arrays.frame(tmp_path / "a.parquet", row, "image", Display(), "xray", WORDS, "toy")
        reasons.append(caught.value.reason)
    assert reasons == ["undecodable", "empty_file", "missing_image"]
