"""Pictures: what is stored is what was in the file, without what it says of people."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from small_tiff import tiff

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.records import Box

NAME = b"DOE^JANE"
RNG = np.random.default_rng(5)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int, samples: int = 3) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = [(x * 3 + y * (n + 1)) % 256 for n in range(samples)]
    return np.stack(planes, -1).astype(np.uint8) if samples > 1 else planes[0].astype(np.uint8)


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def refused(data: bytes) -> str:
    with pytest.raises(Unusable) as caught:
        pictures.decode(data)
    return caught.value.reason


# ---- our PNG


@pytest.mark.parametrize(
    "pixels",
    [noise(1, 1), noise(1, 1, 3), noise(1, 7), noise(7, 1, 3), noise(33, 21), noise(33, 21, 3), smooth(64, 48),
     np.zeros((16, 16), np.uint8), np.full((16, 16, 3), 255, np.uint8), noise(12, 30)[:, ::3], noise(8, 8)[::-1]],
    ids=lambda pixels: "x".join(map(str, pixels.shape)),
)  # fmt: skip
def test_a_png_holds_exactly_the_pixels(pixels):
    data = pictures.png(pixels)
    image = Image.open(io.BytesIO(data))
    image.load()
    assert (image.format, image.mode) == ("PNG", "L" if pixels.ndim == 2 else "RGB")
    np.testing.assert_array_equal(np.asarray(image), pixels)
    np.testing.assert_array_equal(pictures.pixels_of(data), pixels)


def test_the_same_pixels_give_the_same_bytes():
    pixels = noise(40, 50, 3)
    assert pictures.png(pixels) == pictures.png(np.asfortranarray(pixels.copy()))
    assert pictures.sha256(pictures.png(pixels)) != pictures.sha256(pictures.png(pixels[::-1]))


def test_a_png_has_three_chunks_with_right_checksums():
    data, at, names = pictures.png(noise(5, 5)), 8, []
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        body, crc = data[at + 8 : at + 8 + size], struct.unpack_from(">I", data, at + 8 + size)[0]
        assert zlib.crc32(name + body) == crc
        names.append(name)
        at += size + 12
    assert names == [b"IHDR", b"IDAT", b"IEND"]


# ---- what is kept as it is


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_a_png_that_needs_no_change_keeps_its_bytes(encoded, shape):
    pixels = noise(*shape)
    data = encoded(pixels)
    found = pictures.decode(data)
    assert (found.original, found.turned, found.history) == (data, False, ())
    np.testing.assert_array_equal(found.pixels, pixels)


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3)])
def test_a_jpeg_keeps_its_coded_pixels(encoded, shape):
    data = encoded(noise(*shape), "JPEG", quality=80)
    found = pictures.decode(data)
    np.testing.assert_array_equal(by_pillow(found.original), by_pillow(data))
    np.testing.assert_array_equal(found.pixels, by_pillow(data))
    np.testing.assert_array_equal(pictures.pixels_of(found.original).shape, by_pillow(data).shape)


@pytest.mark.parametrize("form", ["BMP", "TIFF", "GIF"])
def test_other_formats_are_stored_as_pixels(encoded, form):
    pixels = noise(30, 40)
    found = pictures.decode(encoded(pixels, form))
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.original is None


# ---- metadata


def with_segments(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    coded = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + coded + data[2:]


def test_a_jpeg_loses_exif_xmp_iptc_and_comments(encoded):
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = NAME.decode(), NAME.decode()
    plain = encoded(smooth(40, 60), "JPEG", exif=exif, comment=NAME)
    data = with_segments(plain, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + NAME), (0xED, NAME), (0xFE, NAME))
    assert data.count(NAME) >= 5
    found = pictures.decode(data)
    assert NAME not in found.original
    np.testing.assert_array_equal(by_pillow(found.original), by_pillow(plain))
    assert dict(Image.open(io.BytesIO(found.original)).getexif()) == {}


def test_a_jpeg_loses_what_stands_behind_its_end(encoded):
    plain = encoded(smooth(40, 60), "JPEG")
    for tail in (NAME, NAME + b"\xff\xd9", plain[:2] + NAME + plain[2:]):
        found = pictures.decode(plain + tail)
        assert found.original is None or NAME not in found.original
        np.testing.assert_array_equal(found.pixels, by_pillow(plain))


def test_a_progressive_jpeg_loses_comments_between_its_scans(encoded):
    plain = encoded(smooth(40, 60), "JPEG", progressive=True)
    assert plain.count(b"\xff\xda") > 2
    at = plain.rindex(b"\xff\xc4")  # a table before the last scan
    assert at > plain.index(b"\xff\xda")
    data = plain[:at] + struct.pack(">BBH", 0xFF, 0xFE, len(NAME) + 2) + NAME + plain[at:]
    np.testing.assert_array_equal(by_pillow(data), by_pillow(plain))
    found = pictures.decode(data)
    assert NAME not in found.original
    np.testing.assert_array_equal(by_pillow(found.original), by_pillow(plain))


def test_a_jpeg_with_restart_markers_keeps_its_coded_pixels(encoded):
    data = encoded(noise(64, 64, 3), "JPEG", restart_marker_blocks=1)
    assert b"\xff\xd0" in data
    np.testing.assert_array_equal(by_pillow(pictures.decode(data).original), by_pillow(data))


def test_a_png_loses_its_texts(encoded):
    info = PngInfo()
    info.add_text("PatientName", NAME.decode())
    pixels = noise(20, 20)
    found = pictures.decode(encoded(pixels, pnginfo=info))
    assert found.original is None
    np.testing.assert_array_equal(found.pixels, pixels)
    tail = pictures.decode(encoded(pixels) + NAME)
    assert tail.original is None or NAME not in tail.original


# ---- EXIF orientation


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_on_its_side_is_turned_upright(encoded, orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(24, 40), form, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = pictures.decode(data)
    np.testing.assert_array_equal(found.pixels, upright)
    assert found.turned is (orientation != 1)
    assert found.history == (() if orientation == 1 else (f"exif orientation {orientation} applied",))
    assert found.original is None or orientation == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_on_its_side_is_turned_upright(encoded, orientation):
    upright = smooth(24, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(upright, "TIFF", exif=exif)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(pictures.decode(data).pixels, wanted)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_turns_nothing(encoded, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(smooth(24, 40), "JPEG", exif=exif)
    found = pictures.decode(data)
    np.testing.assert_array_equal(found.pixels, by_pillow(data))
    assert (found.turned, found.history) == (False, ())


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_does_not_spoil_its_picture(encoded, exif):
    plain = encoded(smooth(24, 40), "JPEG")
    found = pictures.decode(with_segments(plain, (0xE1, exif)))
    np.testing.assert_array_equal(found.pixels, by_pillow(plain))


# ---- modes


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (Image.fromarray(noise(20, 30)).convert("1"), "1"),
        (Image.fromarray(np.dstack([noise(20, 30), noise(20, 30)]), "LA"), "LA"),
        (Image.fromarray(noise(20, 30, 4), "RGBA"), "RGBA"),
        (Image.fromarray(smooth(20, 30)).quantize(200), "P"),
    ],
    ids=["1", "LA", "RGBA", "P"],
)
def test_other_modes_become_grey_or_rgb(encoded, image, mode):
    found = pictures.decode(encoded(image))
    wanted = image.convert("L" if mode in ("1", "LA") else "RGB")
    np.testing.assert_array_equal(found.pixels, np.asarray(wanted))
    assert found.history == (f"converted from {mode}",)
    assert found.original is None


def test_transparency_is_dropped_and_not_blended(encoded):
    pixels = noise(20, 30, 4)
    pixels[..., 3] = 0
    np.testing.assert_array_equal(pictures.decode(encoded(Image.fromarray(pixels, "RGBA"))).pixels, pixels[..., :3])


def test_a_palette_of_greys_becomes_grey(encoded):
    image = Image.fromarray(noise(20, 30)).convert("P", palette=Image.Palette.WEB)
    grey = Image.fromarray(noise(20, 30))
    palette = Image.fromarray(np.asarray(grey), "P")
    palette.putpalette([value for value in range(256) for _ in range(3)])
    np.testing.assert_array_equal(pictures.decode(encoded(palette)).pixels, np.asarray(grey))
    assert pictures.decode(encoded(image)).pixels.shape[:2] == (20, 30)


def test_a_palette_with_transparency_keeps_the_colours_below(encoded):
    image = Image.fromarray(smooth(20, 30)).quantize(16)
    data = encoded(image, transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(pictures.decode(data).pixels, np.asarray(image.convert("RGB")))


def test_cmyk_becomes_rgb(encoded):
    image = Image.fromarray(smooth(24, 32)).convert("CMYK")
    for form in ("TIFF", "JPEG"):
        data = encoded(image, form)
        found = pictures.decode(data)
        np.testing.assert_array_equal(found.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert (found.history, found.original) == (("converted from CMYK",), None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2", ".ppm"])
def test_colours_of_sixteen_bits_become_eight_the_same_on_every_path(seed, suffix):
    colours = np.random.default_rng(seed).integers(0, 65536, (64, 64, 3), dtype=np.uint16)
    how = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if suffix == ".jp2" else []
    found = pictures.decode(cv2.imencode(suffix, colours[..., ::-1], how)[1].tobytes())
    np.testing.assert_array_equal(found.pixels, np.round(colours / 257).astype(np.uint8))
    assert (found.pixels.dtype, found.original, found.history) == (np.uint8, None, ("colours of 16 bits made 8",))


def test_alpha_of_sixteen_bits_is_dropped():
    colours = RNG.integers(0, 65536, (20, 30, 4), dtype=np.uint16)
    found = pictures.decode(cv2.imencode(".png", colours[..., [2, 1, 0, 3]])[1].tobytes())
    np.testing.assert_array_equal(found.pixels, np.round(colours[..., :3] / 257).astype(np.uint8))


def test_colours_of_twelve_bits_use_the_whole_range():
    colours = RNG.integers(0, 4096, (64, 64, 3), dtype=np.uint16)
    colours[0, 0] = 4095
    found = pictures.decode(encode_array(colours, bits_stored=12, photometric_interpretation=1, codec_format=1))
    np.testing.assert_array_equal(found.pixels, np.round(colours / 4095 * 255).astype(np.uint8))
    assert found.history == ("colours of 12 bits made 8",)


def test_greys_that_are_stored_as_colours_of_sixteen_bits_stay_colours():
    """A window declared for grey of 16 bits must not meet their 8."""
    grey = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    found = pictures.decode(tiff(np.dstack([grey] * 3)))
    np.testing.assert_array_equal(found.pixels, np.dstack([np.round(grey / 257).astype(np.uint8)] * 3))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_grey_of_more_than_eight_bits_is_returned_as_it_is_stored(dtype):
    grey = RNG.integers(0, 30_000, (20, 30)).astype(dtype)
    found = pictures.decode(tiff(grey))
    assert found.pixels.dtype == dtype
    np.testing.assert_array_equal(found.pixels, grey)
    assert (found.original, found.history) == (None, ())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_deep_grey_on_its_side_is_turned_upright_once(encoded, orientation, form):
    grey = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(grey), "PNG", exif=exif) if form == "PNG" else tiff(grey, orientation=orientation)
    found = pictures.decode(data)
    np.testing.assert_array_equal(found.pixels, ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert (found.turned, found.orientation) == (orientation != 1, orientation)


def test_colours_of_floats_have_no_range():
    assert refused(tiff(np.zeros((20, 30, 3), np.float32))) == "undecodable"


def test_white_may_be_zero():
    grey = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    assert pictures.decode(tiff(grey, photometric=0)).white_is_zero
    assert not pictures.decode(tiff(grey)).white_is_zero


def test_the_first_of_several_pages_is_flagged(encoded):
    pixels = noise(20, 30)
    found = pictures.decode(encoded(pixels, "TIFF", save_all=True, append_images=[Image.fromarray(pixels[::-1])]))
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.flags == ("first_page_of_2",)
    assert pictures.decode(encoded(pixels, "TIFF")).flags == ()


@pytest.mark.parametrize("form", ["WEBP", "JPEG2000"])
def test_web_and_wavelet_pictures_are_read(encoded, form):
    for pixels in (noise(64, 64), noise(64, 64, 3)):
        data = encoded(pixels, form, **({"lossless": True} if form == "WEBP" else {}))
        found = pictures.decode(data)
        wanted = np.dstack([pixels] * 3) if form == "WEBP" and pixels.ndim == 2 else pixels  # WebP knows no grey
        np.testing.assert_array_equal(found.pixels, wanted)


def test_a_jpeg_by_any_other_name_is_a_jpeg(encoded):
    """A name says nothing: a file is what its bytes are."""
    data = encoded(noise(20, 30, 3), "JPEG")
    assert pictures.decode(data).original is not None
    assert refused(data.replace(b"\xff\xd8\xff", b"GIF", 1)) == "undecodable"


# ---- what can not be read


def test_a_file_without_bytes_is_empty():
    assert refused(b"") == "empty_file"


@pytest.mark.parametrize("data", [b"x", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\0" * 5000, b"%PDF-1.4"])
def test_what_is_no_picture_is_undecodable(data):
    assert refused(data) in ("undecodable", "truncated")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
def test_a_file_cut_anywhere_is_refused_or_whole(encoded, form):
    image = Image.fromarray(smooth(20, 16, 1))
    data = encoded(image, form)
    whole, reasons = pictures.decode(data).pixels, set()
    for size in range(1, len(data) - 1, 3 if form != "PNG" else 1):
        try:
            found = pictures.decode(data[:size]).pixels
        except Unusable as error:
            reasons.add(error.reason)
        else:
            np.testing.assert_array_equal(found, whole)
    assert "truncated" in reasons
    assert reasons <= {"truncated", "undecodable"}


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_file_cut_in_its_pixels_is_truncated(encoded, form):
    data = encoded(noise(64, 64), form)
    assert refused(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
def test_a_file_with_changed_bytes_is_a_picture_or_a_reason(encoded, form):
    data = encoded(smooth(20, 16), form)
    rng = np.random.default_rng(3)
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[at] = rng.integers(0, 256)
        try:
            found = pictures.decode(bytes(changed)).pixels.dtype
        except Unusable as error:
            found = error.reason
        assert found in (np.uint8, np.uint16, "truncated", "undecodable", "too_large")


def test_a_picture_too_large_is_refused_before_it_is_decoded():
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    idat = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert refused(b"\x89PNG\r\n\x1a\n" + chunk + idat) == "too_large"


def test_details_carry_no_file_contents_of_memory():
    with pytest.raises(Unusable) as caught:
        pictures.decode(b"DOE^JANE is no picture")
    assert "DOE" not in caught.value.detail
    assert "0x" not in caught.value.detail  # no address of an object: the same in every run


# ---- drawing, resizing, requests


def test_shrinking_takes_area_means():
    pixels = noise(8, 12)
    wanted = pixels.reshape(4, 2, 6, 2).mean(axis=(1, 3))
    assert np.abs(pictures.resize(pixels, 6, 4).astype(float) - wanted).max() <= 0.5


def test_growing_keeps_a_constant_and_the_size_asked_for():
    grown = pictures.resize(np.full((3, 4, 3), 77, np.uint8), 9, 5)
    assert grown.shape == (5, 9, 3)
    assert (grown == 77).all()


def test_a_box_is_drawn_on_its_outermost_pixels_of_a_copy():
    pixels = np.zeros((20, 20), np.uint8)
    drawn = pictures.with_boxes(pixels, [("", Box(3, 4, 10, 12))])
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (3, 4, 10, 12)
    assert not drawn[5:11, 4:9].any()
    assert not pixels.any()


def test_a_request_gets_the_stored_bytes_unless_it_asks_for_less(encoded):
    data = encoded(noise(40, 80))
    assert pictures.for_request(data, None, ()) == (data, "image/png")
    jpeg = encoded(noise(40, 80), "JPEG")
    assert pictures.for_request(jpeg, None, ()) == (jpeg, "image/jpeg")
    small, media = pictures.for_request(data, 20, ())
    assert (by_pillow(small).shape, media) == ((10, 20), "image/png")
    boxed, _ = pictures.for_request(data, 200, [Box(1, 1, 9, 9)])
    assert by_pillow(boxed).shape == (40, 80, 3)


def test_a_contact_sheet_has_a_tile_for_each_picture():
    sheet = by_pillow(pictures.contact_sheet([("a", noise(10, 10)), ("b", noise(300, 10, 3))], columns=2, side=32))
    assert sheet.shape == (46, 64, 3)
    assert by_pillow(pictures.contact_sheet([], columns=2, side=32)).shape == (46, 64, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (33, 20), (33, 20, 3)])
def test_a_picture_of_one_colour_is_blank_until_any_pixel_differs(shape):
    pixels = np.full(shape, 7, np.uint8)
    assert pictures.is_blank(pixels)
    for place in np.ndindex(shape):
        if pixels.size > 1:
            pixels[place] = 8
            assert not pictures.is_blank(pixels)
            pixels[place] = 7
