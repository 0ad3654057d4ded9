"""Raster files: the samples that were written, in their own type, whatever writes and reads them."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image
from small_tiff import tiff

from pipeline import rasters
from pipeline.errors import Unusable

RNG = np.random.default_rng(11)
WORDS = RNG.integers(0, 65536, (20, 33), dtype=np.uint16)
COLOURS = RNG.integers(0, 65536, (20, 33, 3), dtype=np.uint16)

GREYS = {
    "uint16": WORDS,
    "int16": WORDS.view(np.int16),
    "int8": WORDS.astype(np.uint8).view(np.int8),
    "uint32": WORDS.astype(np.uint32) * 65537,
    "int32": WORDS.astype(np.int32) * -32000,
    "float32": WORDS.astype(np.float32) / 7,
    "float64": WORDS.astype(np.float64) / 7,
}


def refused(data: bytes) -> Unusable:
    with pytest.raises(Unusable) as caught:
        rasters.opened(data)
    return caught.value


def deep(data: bytes) -> np.ndarray:
    samples = rasters.opened(data).samples
    assert isinstance(samples, np.ndarray)
    return samples


# ---- samples


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("grey", GREYS.values(), ids=GREYS)
def test_grey_of_any_type_is_read_as_it_was_written(grey, order, packed):
    found = deep(tiff(grey, order, packed=packed))
    assert found.dtype == grey.dtype
    np.testing.assert_array_equal(found, grey)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("colours", [COLOURS, np.dstack([COLOURS, WORDS])], ids=["RGB", "RGBA"])
def test_colours_of_sixteen_bits_are_not_halved(colours, order):
    np.testing.assert_array_equal(deep(tiff(colours, order)), colours)
    np.testing.assert_array_equal(deep(tiff(colours, order, tile=16, packed=True)), colours)
    bgr = colours[..., [2, 1, 0, 3][: colours.shape[2]]]
    np.testing.assert_array_equal(deep(cv2.imencode(".png", bgr)[1].tobytes()), colours)


def test_grey_with_alpha_of_sixteen_bits_has_two_samples():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.dstack([WORDS, WORDS[::-1]]))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 33, 20, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    coded = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    found = deep(b"\x89PNG\r\n\x1a\n" + b"".join(coded))
    np.testing.assert_array_equal(found, np.dstack([WORDS, WORDS[::-1]]))


def test_twelve_bits_are_not_stretched_to_sixteen():
    twelve = RNG.integers(0, 4096, (64, 64), dtype=np.uint16)
    bits = np.unpackbits(twelve.astype(">u2").view(np.uint8).reshape(64, 64, 2), axis=-1).reshape(64, 64, 16)
    packed = np.packbits(bits[..., 4:].reshape(64, -1), axis=1)
    data = bytearray(tiff(packed, bits=12))
    at = data.index(struct.pack("<HHI", 256, 4, 1)) + 8
    data[at : at + 4] = struct.pack("<I", 64)  # px, not bytes
    sources = {
        "tiff": bytes(data),
        "jp2": encode_array(twelve, bits_stored=12, photometric_interpretation=2, codec_format=1),
        "j2k": encode_array(twelve, bits_stored=12, photometric_interpretation=2, codec_format=0),
        "pgm": b"P5\n# twelve bits\n64 64\n4095\n" + twelve.astype(">u2").tobytes(),
    }
    for data in sources.values():
        raster = rasters.opened(data)
        np.testing.assert_array_equal(raster.samples, twelve)
        assert raster.top == 4095


@pytest.mark.parametrize("tile", [None, 16])
def test_eight_bits_are_pillow_s_image(tile):
    pixels = COLOURS.astype(np.uint8)
    raster = rasters.opened(tiff(pixels, tile=tile))
    assert isinstance(raster.samples, Image.Image)
    assert (raster.samples.mode, raster.top) == ("RGB", 255)
    np.testing.assert_array_equal(np.asarray(raster.samples), pixels)


def test_the_base_level_of_a_tiled_pyramid_with_jpeg_tiles_is_read(encoded):
    """As Aperio writes its slides: JPEG tiles, a thumbnail behind."""
    smooth = np.full((16, 32, 3), (200, 120, 60), np.uint8)
    blocks = [encoded(smooth[:, :16], "JPEG", quality=95, subsampling=0)] * 2
    data = bytearray(tiff(smooth, tile=16, photometric=6))
    for tag, values in ((259, [7]), (325, [len(block) for block in blocks]), (324, [0, 0])):
        at = data.index(struct.pack("<HHI", tag, 4, len(values))) + 8
        if len(values) == 1:
            data[at : at + 4] = struct.pack("<I", values[0])
            continue
        at = struct.unpack_from("<I", data, at)[0]
        if tag == 324:
            values = [len(data), len(data) + len(blocks[0])]
        data[at : at + 8] = struct.pack("<II", *values)
    raster = rasters.opened(bytes(data) + b"".join(blocks))
    assert raster.samples.size == (32, 16)
    assert np.abs(np.asarray(raster.samples).astype(int) - smooth).max() <= 3


def test_samples_that_no_reader_gets_right_are_refused():
    for array, how in ((COLOURS, {"planar": True}), (np.dstack([WORDS, WORDS]), {}), (np.dstack([WORDS] * 5), {})):
        assert refused(tiff(array, **how)).reason == "undecodable"


# ---- orientation, photometric interpretation, pages


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "array", [WORDS, COLOURS, GREYS["float64"], WORDS.astype(np.uint8)], ids=["16", "RGB", "f8", "8"]
)
def test_a_tiff_is_upright_once_it_is_read(array, orientation):
    raster = rasters.opened(tiff(array, orientation=orientation))
    place = Image.fromarray(np.arange(20 * 33, dtype=np.int32).reshape(20, 33))  # by Pillow, of places
    turns = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))  # EXIF orientation to Image.Transpose
    place = np.asarray(place.transpose(turns[orientation]) if orientation > 1 else place)
    wanted = array.reshape(20 * 33, *array.shape[2:])[place]
    np.testing.assert_array_equal(np.asarray(raster.samples), wanted)
    assert (raster.orientation, raster.upright) == (orientation, True)
    np.testing.assert_array_equal(rasters.turned(array, orientation), wanted)


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_is_told_of_deep_samples_and_done_for_others(order):
    raster = rasters.opened(tiff(WORDS, order, photometric=0))
    np.testing.assert_array_equal(raster.samples, WORDS)
    assert raster.white_is_zero
    shallow = rasters.opened(tiff(WORDS.astype(np.uint8), order, photometric=0))
    np.testing.assert_array_equal(np.asarray(shallow.samples), 255 - WORDS.astype(np.uint8))
    assert not shallow.white_is_zero


def test_pages_are_counted_and_the_first_is_read(encoded):
    first, second = Image.fromarray(WORDS.astype(np.uint8)), Image.fromarray(WORDS[::-1].astype(np.uint8))
    for form in ("TIFF", "GIF", "PNG", "WEBP"):
        how = {"lossless": True} if form == "WEBP" else {}
        raster = rasters.opened(encoded(first, form, save_all=True, append_images=[second], **how))
        assert raster.pages == 2
        np.testing.assert_array_equal(np.asarray(raster.samples.convert("L")), np.asarray(first))
    assert rasters.opened(tiff(WORDS, pages=3)).pages == 3
    assert rasters.opened(encoded(first)).pages == 1


def test_the_previews_of_a_camera_are_no_pages(encoded):
    picture = Image.fromarray(COLOURS.astype(np.uint8))
    raster = rasters.opened(encoded(picture, "MPO", save_all=True, append_images=[picture]))
    assert (raster.format, raster.pages) == ("MPO", 1)


# ---- what is no picture


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (b"", "empty_file", "0 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:240b\nsize 79526\n", "lfs_pointer", "git lfs pull"),
        (b"/annex/objects/SHA256E-s31--fa.png\n", "lfs_pointer", "git annex get"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "undecodable", "an HTML page"),
        (b"\xef\xbb\xbf\r\n<HTML>", "undecodable", "an HTML page"),
        (b"<?xml version='1.0'?><Error/>", "undecodable", "an XML text"),
        (b"PK\x03\x04" + bytes(90), "undecodable", "a ZIP archive"),
        (b"\x1f\x8b\x08" + bytes(90), "undecodable", "a gzip file"),
        (bytes(128) + b"DICM" + bytes(90), "undecodable", "a DICOM file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "undecodable", "PostScript"),
        (b"8BPS" + bytes(60), "undecodable", "a Photoshop file"),
        (b"\xd0\xcf\x11\xe0", "undecodable", "no known picture format"),
        (b"II*\0" + bytes(8), "undecodable", "no known picture format"),
    ],
)
def test_what_is_no_picture_is_named(data, reason, said):
    error = refused(data)
    assert error.reason == reason
    assert said in error.detail


@pytest.mark.parametrize("form", ["ICO", "PCX", "SGI", "TGA", "PDF", "EPS"])
def test_formats_that_no_data_set_has_are_not_tried(encoded, form):
    assert refused(encoded(Image.fromarray(WORDS[:16, :16].astype(np.uint8)), form)).reason == "undecodable"


@pytest.mark.parametrize("array", [WORDS, GREYS["float64"]], ids=["by Pillow", "by its tags"])
def test_a_picture_too_large_is_refused_by_its_header(array):
    data = bytearray(tiff(array))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 4, 1)) + 8
        data[at : at + 4] = struct.pack("<I", 20_000)
    error = refused(bytes(data))
    assert error.reason == "too_large"
    assert "20000x20000 px" in error.detail


SOURCES = {
    "16 bits": tiff(WORDS, packed=True),
    "RGB": tiff(COLOURS),
    "float64": tiff(GREYS["float64"], ">"),
    "pages": tiff(WORDS.astype(np.uint8), pages=3),
    "jp2": encode_array(np.tile(WORDS, (4, 2)), photometric_interpretation=2, codec_format=1),
    "pgm": b"P5\n33 20\n4095\n" + (WORDS >> 4).astype(">u2").tobytes(),
    "png": cv2.imencode(".png", COLOURS)[1].tobytes(),
}


@pytest.mark.parametrize("data", SOURCES.values(), ids=SOURCES)
def test_a_file_with_changed_or_missing_bytes_is_a_raster_or_a_reason(data):
    assert rasters.opened(data).pages >= 1
    rng, outcomes, details = np.random.default_rng(4), set(), ""
    for n in range(300):
        changed = bytearray(data[: rng.integers(1, len(data))] if n % 3 == 0 else data)
        for at in rng.integers(0, len(changed), 3):
            changed[at] = rng.integers(0, 256)
        if n % 3 == 1:  # the directory of a TIFF stands at the end
            changed[-int(rng.integers(1, min(250, len(data)))) :] = rng.bytes(3)
        try:
            rasters.opened(bytes(changed))
            outcomes.add("raster")
        except Unusable as error:
            outcomes.add(error.reason)
            details += error.detail
    assert "<" not in details  # no address of an object: the same in every run
    assert outcomes <= {"raster", "truncated", "undecodable", "too_large"}
    assert outcomes & {"truncated", "undecodable"}


def test_a_broken_orientation_turns_nothing(encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(WORDS.astype(np.uint8)), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    for start, stop in ((at, at + 4), (at + 4, at + 8), (at + 10, at + 22)):
        broken = data[:start] + b"\xff" * (stop - start) + data[stop:]
        assert rasters.opened(broken).orientation == 1
    assert rasters.opened(data).orientation == 6


def test_pillow_is_not_asked_for_formats_that_run_programs():
    assert not {"EPS", "PDF", "WMF", "FITS"} & set(rasters.FORMATS)
    assert Image.open(io.BytesIO(SOURCES["pages"]), formats=rasters.FORMATS).format == "TIFF"
