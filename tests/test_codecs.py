"""Decoders of compressed frames: the same pixels as other programs give, and none that ends the process."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

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
