"""Decoders of compressed frames: the same pixels as other programs give, and none that ends the process."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders import rle as slow_rle
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import RLELossless

from pipeline.ingest import codecs

WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"
COMPRESSED = [
    "JPGExtended",
    "SC_rgb_jpeg_gdcm",
    "SC_rgb_jpeg_dcmtk",
    "MR_small_jp2klossless",
]


def frame_of(name: str) -> tuple[bytes, pydicom.uid.UID, dict]:
    dataset = pydicom.dcmread(WHEEL / f"{name}.dcm")
    layout = {keyword: dataset[keyword].value for keyword in codecs.LAYOUT if keyword in dataset}
    return next(generate_frames(dataset.PixelData, number_of_frames=1)), dataset.file_meta.TransferSyntaxUID, layout


@pytest.mark.parametrize("syntax", codecs.DECODERS)
def test_no_decoder_is_used_that_ends_the_process_on_a_damaged_frame(syntax):
    wanted = codecs.DECODERS[syntax]
    assert get_decoder(syntax).available_plugins == ((wanted,) if wanted else ())


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_frame_alone_is_decoded_as_in_its_file(name):
    oracle = sitk.GetArrayFromImage(sitk.ReadImage(str(WHEEL / f"{name}.dcm")))[0]
    np.testing.assert_array_equal(codecs.by_itk(*frame_of(name)), oracle)


def test_polarity_and_palette_are_left_to_others():
    codestream, syntax, layout = frame_of("JPGExtended")
    plain = codecs.by_itk(codestream, syntax, layout)
    for meant in ("MONOCHROME1", "PALETTE COLOR"):
        other = codecs.by_itk(codestream, syntax, {**layout, "PhotometricInterpretation": meant})
        np.testing.assert_array_equal(other, plain)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_damaged_frame_is_decoded_or_refused(name):
    codestream, syntax, layout = frame_of(name)
    rng, refused = np.random.default_rng(3), 0
    for n in range(40):
        changed = np.frombuffer(codestream, np.uint8).copy()
        changed[rng.integers(0, len(changed) if n % 2 else min(300, len(changed)), 3)] = rng.integers(0, 256, 3)
        try:
            found = codecs.by_itk(changed.tobytes(), syntax, layout)
            assert found.shape[:2] == (layout["Rows"], layout["Columns"])
        except RuntimeError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("rows", [0.5, 2])
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_frame_of_another_size_is_refused(name, rows):
    codestream, syntax, layout = frame_of(name)
    with pytest.raises(RuntimeError):
        codecs.by_itk(codestream, syntax, {**layout, "Rows": int(layout["Rows"] * rows)})


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jpeg_ls_lossless", "CT_small"])
def test_what_pydicom_alone_decodes_is_not_tried(name):
    dataset = pydicom.dcmread(WHEEL / f"{name}.dcm")
    with pytest.raises(RuntimeError, match="pydicom alone"):
        codecs.by_itk(dataset.PixelData, dataset.file_meta.TransferSyntaxUID, {})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_frame_of_rle_is_what_pydicom_alone_makes_of_it_damaged_or_not(dtype, samples):
    rng, bits = np.random.default_rng(5), np.dtype(dtype).itemsize * 8
    shape = (24, 16, 3)[: 2 if samples == 1 else 3]
    pixels = np.where(rng.random(shape) < 0.5, 0, rng.integers(0, np.iinfo(dtype).max, shape)).astype(dtype)
    said = {"rows": 24, "columns": 16, "samples_per_pixel": samples, "bits_allocated": bits, "bits_stored": bits}
    said |= {"pixel_representation": 0, "number_of_frames": 1, "planar_configuration": 0}
    said |= {"photometric_interpretation": "MONOCHROME2" if samples == 1 else "RGB"}
    sound = RLELosslessEncoder.encode(pixels, encoding_plugin="pydicom", **said)
    agreed = 0
    for n in range(120):
        changed = bytearray(sound)
        if n % 3 == 1:
            changed[rng.integers(0, 64 if n % 2 else len(changed))] = rng.integers(0, 256)
        if n % 3 == 2:
            changed = (
                changed[: rng.integers(0, len(changed))] if n % 2 else changed + bytes(rng.integers(0, 256, 40, "u1"))
            )
        runner = DecodeRunner(RLELossless)
        runner.set_options(**said)
        wanted, found = (outcome(one, bytes(changed), runner) for one in (slow_rle._decode_frame, codecs.decode_rle))
        assert found == wanted
        agreed += isinstance(found, bytes)
    assert 40 <= agreed < 120


def outcome(decode, *given):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bytes(decode(*given))
        except (ValueError, NotImplementedError) as error:
            return type(error)
