"""Masks of pictures out of files: what was written is what is labelled, on the pixels that annotations speak of."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline import discovery
from pipeline.errors import Unusable
from pipeline.ingest import mask_pictures, masks, picture_files
from pipeline.ingest.mask_values import Labelled
from sources.annotation import MaskFile
from sources.layouts.mask import Spec

RNG = np.random.default_rng(9)
DISC = np.hypot(*np.mgrid[-30:30, -40:40]) < 20
SIZE = (80, 60)
DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")


def spec(**keys) -> Spec:
    return Spec.model_validate({"kind": "mask", "path": "{label}.png", **keys})


def read(path: Path, mask: MaskFile | None = None, size=SIZE, keys=None, **how) -> Labelled:
    (found,) = mask_pictures.read(path, mask or MaskFile("", raw="disc"), spec(**keys or {}), None, size, **how)
    return found


def refused(*args, **kwargs) -> Unusable:
    with pytest.raises(Unusable) as caught:
        read(*args, **kwargs)
    return caught.value


def by_label(found: Labelled) -> dict[str, np.ndarray]:
    return {raw: found.array == n for n, raw in {**found.names, **found.unknown}.items()}


@pytest.fixture
def saved(tmp_path):
    def save(image: np.ndarray | Image.Image, name: str = "mask.png", **how) -> Path:
        path = tmp_path / name
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **how)
        return path

    return save


# ---- files


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.fromarray(DISC), "a.png"),
        (Image.fromarray(DISC), "a.tif"),
        (Image.fromarray(DISC.astype(np.uint8)), "a.png"),
        (Image.fromarray(DISC.astype(np.uint8) * 255), "a.bmp"),
        (Image.fromarray(DISC.astype(np.uint8) * 255), "a.gif"),
        (Image.fromarray(DISC.astype(np.uint16) * 65535), "a.png"),
        (Image.fromarray(DISC.astype(np.uint16) * 65535), "a.tif"),
        (Image.fromarray(DISC.astype(np.int32)), "a.tif"),
        (Image.fromarray(DISC.astype(np.float32)), "a.tif"),
        (Image.fromarray(np.dstack([DISC] * 3).astype(np.uint8) * 255), "a.png"),
        (Image.fromarray(np.dstack([DISC, DISC, DISC, DISC * 0 + 1]).astype(np.uint8) * 255), "a.png"),
        (Image.fromarray(np.dstack([DISC, DISC * 0 + 1]).astype(np.uint8) * 255, "LA"), "a.png"),
        (Image.fromarray(DISC.astype(np.uint8) * 255), "a.jpg"),
        (Image.fromarray(DISC.astype(np.uint8) * 255), "named.png.jpeg"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.mode,
)
def test_a_binary_mask_of_any_format_and_mode_is_read(saved, image, name):
    found = read(saved(image, name))
    assert (found.array != DISC).sum() <= (12 if name.endswith(("jpg", "jpeg")) else 0)
    assert found.names == {1: "disc"}


def test_alpha_is_the_mask_where_the_colours_do_not_vary(saved):
    alpha = DISC.astype(np.uint8) * 255
    for colour in (0, 255):
        np.testing.assert_array_equal(
            read(saved(np.dstack([np.full((60, 80, 3), colour, np.uint8), alpha]))).array, DISC
        )
    both = np.dstack([alpha, alpha, alpha, 255 - alpha])
    np.testing.assert_array_equal(read(saved(both)).array, DISC)


def test_alpha_of_sixteen_bits_is_no_part_of_the_mask(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.dstack([DISC * np.uint16(65535)] * 3 + [np.full(DISC.shape, 9, np.uint16)]))
    np.testing.assert_array_equal(read(path).array, DISC)


def palette(indices: np.ndarray) -> Image.Image:
    """VOC's palette: 1 is (128, 0, 0), 2 (0, 128, 0)."""
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    return image


INDICES = RNG.integers(0, 4, (60, 80))


@pytest.mark.parametrize("bits", [2, 8])
def test_a_palette_is_read_by_its_indices(saved, bits):
    path = saved(palette(INDICES), bits=bits, transparency=bytes([0, 255, 128]))
    where = by_label(
        read(path, MaskFile("", names={1: "1", 3: "3"}), keys={"encoding": "indexed", "labels": {"1": "a"}})
    )
    for label in (1, 2, 3):
        np.testing.assert_array_equal(where[str(label)], np.equal(INDICES, label))


def test_a_palette_is_read_by_its_colours_where_colours_are_declared(saved):
    colours = {(128, 0, 0): "a", (128, 128, 0): "c"}
    where = by_label(read(saved(palette(INDICES), transparency=bytes([0, 255, 128])), MaskFile("", colours=colours)))
    for label, raw in ((1, "a"), (2, "#008000"), (3, "c")):
        np.testing.assert_array_equal(where[raw], np.equal(INDICES, label))


def test_indexed_masks_may_be_grey_stored_as_colour(saved):
    mask = MaskFile("", names={1: "1", 2: "2", 3: "3"})
    for image in (INDICES.astype(np.uint8), np.dstack([INDICES] * 3).astype(np.uint8), INDICES.astype(np.uint16)):
        where = by_label(read(saved(image), mask))
        np.testing.assert_array_equal(where["2"], INDICES == 2)
    assert refused(saved(np.dstack([INDICES, INDICES * 0, INDICES]).astype(np.uint8)), mask).reason == "bad_annotation"


def test_more_than_255_objects_fit_into_sixteen_bits(saved):
    objects = np.arange(60 * 80).reshape(60, 80)
    for image in (objects.astype(np.uint16), objects.astype(np.int32)):
        found = read(saved(image, "a.tif"), MaskFile("", raw="cell", instances=True))
        assert len(found.names) == 4799
        assert (found.array == 0).sum() == 1
    jpeg = saved(DISC.astype(np.uint8) * 3, "a.jpg")
    assert refused(jpeg, MaskFile("", raw="cell", instances=True)).reason == "interpolated_mask"


def test_objects_of_a_colour_each_are_told_apart(saved):
    colours = np.array([(0, 0, 0), (9, 9, 9), (9, 0, 9), (0, 0, 1)], np.uint8)[INDICES]
    found = read(saved(colours), MaskFile("", raw="cell", instances=True))
    sizes = sorted(int((found.array == n).sum()) for n in found.names)
    assert sizes == sorted(np.bincount(INDICES.ravel())[1:].tolist())


def test_the_keys_of_the_layout_are_heeded(saved):
    path = saved(255 - DISC.astype(np.uint8) * 255)
    np.testing.assert_array_equal(read(path, keys={"invert": True}).array, DISC)
    ramp = np.tile(np.arange(80, dtype=np.uint8), (60, 1))
    np.testing.assert_array_equal(read(saved(ramp), keys={"threshold": 30}).array, ramp >= 30)
    assert refused(saved(ramp)).reason == "not_binary"


def test_what_is_no_mask_is_named(tmp_path, saved):
    for data, reason in (
        (b"", "empty_file"),
        (b"<html>", "undecodable"),
        (b"version https://git-lfs.github.com", "lfs_pointer"),
    ):
        path = tmp_path / "a.png"
        path.write_bytes(data)
        assert refused(path).reason == reason
    whole = saved(DISC.astype(np.uint8)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).reason == "truncated"
    assert refused(saved(Image.new("CMYK", SIZE), "a.jpg")).reason == "bad_annotation"
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.png")


def test_the_first_of_several_pages_is_the_mask_and_is_flagged(saved):
    first, second = (Image.fromarray(mask.astype(np.uint8)) for mask in (DISC, ~DISC))
    found = read(saved(first, "a.tif", save_all=True, append_images=[second]))
    np.testing.assert_array_equal(found.array, DISC)
    assert found.flags == ("mask_first_page_of_2",)


# ---- the picture's pixels


def test_a_mask_of_another_size_is_refused(saved):
    mask = DISC.astype(np.uint8)
    assert refused(saved(mask[:-1])).detail == "picture is 80x60 px, its mask 80x59"
    assert refused(saved(mask.T)).detail == "picture is 80x60 px, its mask 60x80; it looks transposed"
    assert refused(saved(mask[::2, ::2])).reason == "size_mismatch"
    keys = {"resize": "nearest"}
    for other in (mask[:-1], mask[:, :-1], mask.T):
        assert refused(saved(other), keys=keys).reason == "size_mismatch"
    for other in (mask.T[:-1], mask.T[:, :-1]):
        assert refused(saved(other), size=SIZE[::-1], keys=keys).reason == "size_mismatch"


@pytest.mark.parametrize("small", [(40, 30), (20, 15), (160, 120), (27, 20)])
def test_a_mask_of_the_same_aspect_is_resized_where_the_descriptor_says_so(saved, small):
    mask = RNG.integers(0, 2, small[::-1]).astype(np.uint8)
    found = read(saved(mask), keys={"resize": "nearest"})
    centres = [(np.arange(n) + 0.5) * m / n for n, m in zip(SIZE, small, strict=True)]
    wanted = mask[np.floor(centres[1]).astype(int)][:, np.floor(centres[0]).astype(int)]
    np.testing.assert_array_equal(found.array, wanted)
    assert found.history == (f"mask of {small[0]}x{small[1]} px brought to 80x60, nearest neighbour",)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_mask_made_on_a_file_that_lies_on_its_side_is_turned_with_it(saved, orientation):
    mask = RNG.integers(0, 2, (60, 80)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(Image.open(saved(mask, "turned.png", exif=exif))))
    size = upright.shape[::-1]
    turn = picture_files.turned(orientation, *size)
    np.testing.assert_array_equal(read(saved(mask), size=size, turn=turn, as_filed=True).array, upright)
    if size != SIZE:  # its size tells that it is the file's
        np.testing.assert_array_equal(read(saved(mask), size=size, turn=turn).array, upright)
        np.testing.assert_array_equal(read(saved(upright), size=size, turn=turn).array, upright)
    else:
        np.testing.assert_array_equal(read(saved(mask), size=size, turn=turn).array, mask)
    small = read(saved(mask[::2, ::2]), size=size, turn=turn, as_filed=True, keys={"resize": "nearest"})
    larger = mask[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)
    exif_turned = np.asarray(ImageOps.exif_transpose(Image.open(saved(larger, "larger.png", exif=exif))))
    np.testing.assert_array_equal(small.array, exif_turned)


def test_the_orientation_of_a_mask_itself_does_not_count(saved):
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(read(saved(DISC.astype(np.uint8), exif=exif)).array, DISC)


# ---- arrays


def test_rows_of_an_array_are_masks(tmp_path):
    stack = RNG.integers(0, 3, (4, 60, 80)).astype(np.uint8)
    np.savez_compressed(tmp_path / "a.npz", masks=stack, other=stack * 0)
    np.save(tmp_path / "a.npy", stack[..., None])
    for name in ("a.npz", "a.npy"):
        mask = MaskFile(name, "masks", names={1: "1", 2: "2"})
        (found,) = mask_pictures.read(tmp_path / name, mask, spec(), 2, SIZE)
        np.testing.assert_array_equal(by_label(found)["2"], stack[2] == 2)


def test_channels_of_an_array_may_overlap(tmp_path):
    """As in PanNuke: a channel for each class, in which every value is a nucleus."""
    stack = RNG.integers(0, 3, (2, 60, 80, 4)).astype(np.float64)
    np.savez(tmp_path / "a.npz", masks=stack)
    names = {0: "0", 2: "2"}
    binary = stack.clip(0, 1)
    np.savez(tmp_path / "b.npz", masks=binary)
    found = mask_pictures.read(tmp_path / "b.npz", MaskFile("", "masks", names=names), spec(), 1, SIZE)
    for labelled, (channel, raw) in zip(found, names.items(), strict=True):
        np.testing.assert_array_equal(by_label(labelled)[raw], binary[1, ..., channel] == 1)
    found = mask_pictures.read(tmp_path / "a.npz", MaskFile("", "masks", names=names, instances=True), spec(), 1, SIZE)
    for labelled, (channel, raw) in zip(found, names.items(), strict=True):
        assert set(labelled.names.values()) == {raw}
        assert [int((labelled.array == n).sum()) for n in (1, 2)] == [
            int((stack[1, ..., channel] == n).sum()) for n in (1, 2)
        ]


@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((2, 60, 80, 4), MaskFile("", "masks", raw="a")),
        ((2, 60, 80, 4), MaskFile("", "masks", names={4: "4"})),
        ((2, 60, 80, 4), MaskFile("", "masks", names={-1: "-1"})),
        ((2, 60), MaskFile("", "masks", names={1: "1"})),
        ((2, 6, 6, 3, 2), MaskFile("", "masks", names={1: "1"})),
        ((2, 0, 80), MaskFile("", "masks", names={1: "1"})),
    ],
)
def test_an_array_of_another_shape_is_refused(tmp_path, shape, mask):
    np.savez(tmp_path / "a.npz", masks=np.zeros(shape, np.uint8))
    with pytest.raises(Unusable, match="bad_annotation"):
        mask_pictures.read(tmp_path / "a.npz", mask, spec(), 0, SIZE)


def test_an_array_may_be_the_mask_of_one_picture(tmp_path):
    np.save(tmp_path / "a.npy", DISC)
    np.savez_compressed(tmp_path / "a.npz", mask=np.asfortranarray(DISC.astype(np.int16)))
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(read(tmp_path / name, MaskFile("", "mask", raw="disc")).array, DISC)


def test_an_array_that_is_not_there_or_holds_no_numbers_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", masks=DISC[None], words=np.array(["a", "b"]))
    for name, row, reason in (
        ("mask", 0, "missing_mask"),
        ("mask", None, "missing_mask"),
        ("masks", 1, "missing_mask"),
        ("words", 1, "bad_annotation"),
    ):
        with pytest.raises(Unusable) as caught:
            mask_pictures.read(tmp_path / "a.npz", MaskFile("", name, raw="a"), spec(), row, SIZE)
        assert caught.value.reason == reason


def test_colours_of_an_array_are_colours(tmp_path):
    colours = np.array([(0, 0, 0), (255, 0, 0)], np.uint8)[DISC.astype(int)]
    np.savez(tmp_path / "a.npz", masks=colours[None])
    (found,) = mask_pictures.read(
        tmp_path / "a.npz", MaskFile("", "masks", colours={(255, 0, 0): "disc"}), spec(), 0, SIZE
    )
    np.testing.assert_array_equal(found.array, DISC)


# ---- real data: numbers that NumPy and OpenCV gave


def gold(name: str):
    return json.loads((DATA / "GOLD.json").read_text())[name]


@real_data
@pytest.mark.parametrize(("name", "count"), [("biomedparse_demo", 57), ("sam_med2d_demo", 30), ("membrane_em", 12)])
def test_real_masks_have_their_areas_boxes_and_components(name, count):
    wanted = gold(name)
    assert len(wanted) == count
    for file, truth in wanted.items():
        found = read(DATA / name / file, size=tuple(truth["size"]))
        (region,) = masks.find(found.array, per_component=False)
        assert (region.area, [region.x0, region.y0, region.x1, region.y1]) == (truth["area"], truth["box"])
        assert len(list(masks.find(found.array, per_component=True))) == truth["components"]


@real_data
def test_membranes_are_what_is_black():
    for file, truth in gold("membrane_em").items():
        found = read(DATA / "membrane_em" / file, size=(512, 512), keys={"invert": True})
        assert np.count_nonzero(found.array) == 512 * 512 - truth["area"]


@real_data
def test_dirty_masks_are_read_or_named():
    """What dirty_derived/manifest.csv asks for; its circle has a box of 140 to 260, inclusive."""

    def box(name: str, mask: MaskFile | None = None, **keys):
        try:
            found = read(DATA / "dirty_derived" / "mask2d" / name, mask, (640, 480), keys)
        except Unusable as error:
            return error.reason
        regions = masks.find(found.array, keys.get("boxes") == "per_component")
        return [(region.x0, region.y0, region.x1, region.y1) for region in regions]

    circle = (140, 140, 261, 261)
    assert box("ok.png") == box("jpeg_mask.jpg") == box("inverted.png", invert=True) == [circle]
    assert box("off_by_one.png") == box("transposed.png") == box("half_size.png") == "size_mismatch"
    assert box("off_by_one.png", resize="nearest") == box("transposed.png", resize="nearest") == "size_mismatch"
    assert box("half_size.png", resize="nearest") == [(140, 140, 262, 262)]
    assert box("empty.png") == []
    assert box("full.png") == [(0, 0, 640, 480)]
    assert box("speck.png", boxes="per_component") == [(5, 5, 6, 6), circle]
    assert box("two_blobs.png", boxes="per_component") == [(90, 90, 151, 151), (460, 260, 541, 341)]
    assert box("value1.png") == [(0, 0, 40, 40)]
    assert box("palette_classes.png", MaskFile("", names={1: "1", 3: "3"})) == [(0, 0, 640, 20), circle]
    colours = {(255, 0, 0): "a", (0, 255, 0): "b"}
    assert sorted(box("rgb_classes.png", MaskFile("", colours=colours))) == [circle, (370, 250, 471, 351)]
    assert box("rgb_classes.png") == box("palette_classes.png") == "not_binary"
