"""DICOM files that are pictures: the grey of the standard, square pixels, the way back, and nothing of a patient."""

import os
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)
from test_dicom_pixels import NAME, WHEEL, dicom_file

from pipeline import discovery, pictures, vocabulary
from pipeline.errors import Unusable, UserError
from pipeline.ingest import dicom_pictures
from sources.descriptor import Display

WORDS = vocabulary.load()
DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
real_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
FILM = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20) * 8


def show(path: Path, modality: str = "xray", cleared: bool = False, choose=None, labels=(), **display):
    found = dicom_pictures.frames(path, Display(**display), WORDS, modality, "toy", choose, cleared, labels)
    return list(found)


def one(path: Path, modality: str = "xray", **how):
    (found,) = show(path, modality, **how)
    assert found.pixels.dtype == np.uint8
    return found


def refused(path: Path, **how) -> Unusable:
    with pytest.raises(Unusable) as caught:
        show(path, **how)
    assert NAME not in str(caught.value)
    return caught.value


def formula(values, center: float, width: float) -> np.ndarray:
    """LINEAR of PS3.3 C.11.2.1.2.1, 0 to 255."""
    return np.clip(((np.asarray(values, float) - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def near(found, wanted) -> bool:
    return np.abs(found.astype(float) - wanted).max() <= 0.51


# ---- grey


def test_a_film_is_shown_by_its_header_after_its_slope(tmp_path):
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-100", "WindowCenter": "2000", "WindowWidth": "1500"}
    found = one(dicom_file(FILM, tmp_path / "a.dcm", **tags))
    assert near(found.pixels, formula(FILM * 2.0 - 100, 2000, 1500))
    assert (found.name, found.window, found.index, found.time_s) == ("image", "header 2000/1500 linear", None, None)
    assert (found.source_size, found.geometry, found.flags) == ((20, 24), "unknown", ())
    assert found.history == ("window header 2000/1500 linear",)


def test_a_film_is_shown_as_highdicom_shows_it(tmp_path):
    path = dicom_file(FILM, tmp_path / "a.dcm", WindowCenter="2000", WindowWidth="1500", StudyInstanceUID="1.2")
    dataset = pydicom.dcmread(path)
    dataset.SeriesInstanceUID = "1.2.3"
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        dataset.PhotometricInterpretation = photometric
        dataset.save_as(path)
        oracle = hd.imread(path).get_frame(1, apply_voi_transform=True, voi_output_range=(0, 255))
        assert near(one(path).pixels, oracle)


def test_two_films_of_complementary_values_and_polarity_are_the_same_picture(tmp_path):
    tags = {"WindowCenter": "2000", "WindowWidth": "1500"}
    plain = one(dicom_file(FILM, tmp_path / "a.dcm", **tags))
    tags["WindowCenter"] = str(4095 - 2000 + 1)
    mirrored = dicom_file(
        4095 - FILM, tmp_path / "b.dcm", **tags, PhotometricInterpretation="MONOCHROME1", BitsStored=12
    )
    found = one(mirrored)
    assert near(found.pixels, plain.pixels.astype(float)) or np.abs(found.pixels - plain.pixels.astype(int)).max() <= 1
    assert found.history[-1] == "inverted"


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "flags"),
    [
        ("MONOCHROME1", None, True, ()),
        ("MONOCHROME1", "INVERSE", True, ()),
        ("MONOCHROME1", "IDENTITY", True, ("polarity_conflict",)),
        ("MONOCHROME2", None, False, ()),
        ("MONOCHROME2", "IDENTITY", False, ()),
        ("MONOCHROME2", "INVERSE", True, ("polarity_conflict",)),
    ],
)
@pytest.mark.parametrize("wished", [False, True])
def test_polarity_is_applied_once_after_the_window(tmp_path, photometric, shape, inverted, flags, wished):
    tags = {"PhotometricInterpretation": photometric, "WindowCenter": "2000", "WindowWidth": "1500"}
    tags |= {"PresentationLUTShape": shape} if shape else {}
    found = one(dicom_file(FILM, tmp_path / "a.dcm", **tags), invert=wished)
    wanted = formula(FILM, 2000, 1500)
    assert near(found.pixels, 255 - wanted if inverted != wished else wanted)
    assert found.flags == flags


def test_a_film_without_a_window_is_shown_between_percentiles_of_what_is_not_padding(tmp_path):
    rng = np.random.default_rng(5)
    film = rng.integers(1000, 3000, (40, 50)).astype(np.uint16)
    film[:, :20] = 60000
    found = one(dicom_file(film, tmp_path / "a.dcm", PixelPaddingValue=60000))
    low, high = np.percentile(film[:, 20:], (0.5, 99.5))
    assert found.window == f"percentile {low:g}..{high:g}"
    assert near(found.pixels[:, 20:], np.clip((film[:, 20:] - low) / (high - low) * 255, 0, 255))
    assert (found.pixels[:, :20] == 0).all()
    assert found.history[-1] == "800 pixels of padding shown black"


@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_whatever_the_polarity(tmp_path, polarity):
    film = FILM.astype(np.int16)
    film[0, :3] = -2000
    tags = {"PixelPaddingValue": -2000, "WindowCenter": "100", "WindowWidth": "9000"}
    found = one(dicom_file(film, tmp_path / "a.dcm", PhotometricInterpretation=polarity, **tags))
    assert found.pixels[0].tolist()[:3] == [0, 0, 0]
    assert found.pixels[0, 3] > 0


def test_grey_of_8_bits_without_a_window_stays_as_it_is_stored(tmp_path):
    film = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = one(dicom_file(film, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(found.pixels, film)
    assert found.window is None
    assert one(dicom_file(film, tmp_path / "b.dcm"), window={"low": 0, "high": 100}).window == "bounds 0..100"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize(
    "tags", [{}, {"WindowCenter": "7", "WindowWidth": "1"}, {"WindowCenter": "0", "WindowWidth": "0"}]
)
def test_a_constant_film_divides_by_nothing(tmp_path, dtype, tags):
    found = one(dicom_file(np.full((20, 20), 7, dtype), tmp_path / "a.dcm", **tags))
    assert len(np.unique(found.pixels)) == 1


def test_a_film_of_padding_alone_has_no_content(tmp_path):
    path = dicom_file(np.full((20, 20), 7, np.uint16), tmp_path / "a.dcm", PixelPaddingValue=7)
    assert refused(path).reason == "no_content"


def test_the_table_of_a_header_comes_before_its_window(tmp_path):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 1, 8])
    item.add_new("LUTData", "OW", np.array([255, 30, 60, 0], "<u2").tobytes())
    film = np.array([[0, 1, 2], [3, 4, 9]], np.uint16)
    tags = {"VOILUTSequence": Sequence([item]), "WindowCenter": "0", "WindowWidth": "1"}
    found = one(dicom_file(film, tmp_path / "a.dcm", **tags))
    assert found.pixels.tolist() == [[255, 255, 30], [60, 0, 0]]
    assert found.window == "header table 1..4"


# ---- the descriptor's wishes


def test_a_ct_picture_is_shown_by_its_header_else_in_the_soft_tissue_window(tmp_path):
    tags = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    assert one(dicom_file(FILM, tmp_path / "a.dcm", **tags), "ct").window == "soft_tissue -160..240"
    windows = {"WindowCenter": ["40", "-600"], "WindowWidth": ["400", "1500"]}
    both = dicom_file(FILM, tmp_path / "b.dcm", **tags, **windows)
    assert one(both, "ct").window == "header 40/400 linear"
    assert one(both, "ct", window="header", labels=["lung"]).window == "header -600/1500 linear"
    assert one(both, "ct", window="lung").window == "lung -1350..150"
    assert one(both, "ct", window="organ", labels=["lung"]).window == "lung -1350..150"


def test_a_capture_of_a_ct_is_not_taken_for_hounsfield_units(tmp_path):
    capture = dicom_file(FILM, tmp_path / "a.dcm", SOPClassUID=SecondaryCaptureImageStorage)
    assert one(capture, "ct", cleared=True).window.startswith("percentile ")


def test_a_slope_of_the_descriptor_makes_the_files_own_window_void(tmp_path):
    path = dicom_file(FILM, tmp_path / "a.dcm", WindowCenter="2000", WindowWidth="1500")
    found = one(path, "ct", slope=1, intercept=-1024)
    assert found.window == "soft_tissue -160..240"
    assert near(found.pixels, np.clip((FILM - 1024.0 + 160) / 400 * 255, 0, 255))


def test_a_pet_picture_is_shown_inverted(tmp_path):
    found = one(dicom_file(FILM, tmp_path / "a.dcm"), "pet")
    assert found.window.endswith(" inverted")
    assert (found.pixels[0, 0], found.pixels[-1, -1]) == (255, 0)


def test_an_unknown_window_is_a_mistake_of_the_descriptor(tmp_path):
    path = dicom_file(FILM, tmp_path / "a.dcm")
    with pytest.raises(UserError, match="toy: unknown window 'heder'; did you mean 'header'"):
        show(path, window="heder")


# ---- square pixels, crop, size: and the way back


DETECTOR = {"ImagerPixelSpacing": ["0.1", "0.1"]}


def lattice(width: int, height: int) -> np.ndarray:
    """Each pixel says where it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("tags", "size", "spacing", "flags"),
    [
        ({"PixelSpacing": ["0.5", "0.5"]}, (40, 30), 0.5, ()),
        ({"PixelSpacing": ["1.0", "0.5"]}, (40, 60), 0.5, ()),
        ({"PixelSpacing": ["0.5", "1.0"]}, (80, 30), 0.5, ()),
        ({"PixelSpacing": ["0.2", "0.2004"]}, (40, 30), 0.2002, ()),
        (DETECTOR, (40, 30), 0.1, ("projection_spacing",)),
        (
            {"ImagerPixelSpacing": ["0.1", "0.1"], "PixelSpacing": ["0.1", "0.1"]},
            (40, 30),
            0.1,
            ("projection_spacing",),
        ),
        ({"ImagerPixelSpacing": ["0.1", "0.1"], "PixelSpacing": ["0.08", "0.08"]}, (40, 30), 0.08, ()),
        ({"PixelAspectRatio": ["2", "1"]}, (40, 60), None, ()),
        ({"PixelAspectRatio": ["1", "1"]}, (40, 30), None, ()),
        ({"PixelSpacing": ["0", "0.5"]}, (40, 30), None, ()),
        ({"PixelSpacing": ["0.5"]}, (40, 30), None, ()),
        ({"PixelSpacing": ""}, (40, 30), None, ()),
        ({}, (40, 30), None, ()),
    ],
)
def test_pixels_are_square_and_lead_back(tmp_path, tags, size, spacing, flags):
    found = one(dicom_file(lattice(40, 30), tmp_path / "a.dcm", **tags))
    assert found.pixels.shape[1::-1] == size
    assert found.source_size == (40, 30)
    assert found.spacing_mm == (None if spacing is None else pytest.approx(spacing, rel=1e-4))
    assert found.flags == flags
    check_way_back(found)


def check_way_back(found) -> None:
    """A pixel's colour says which pixel of the source it shows."""
    height, width = found.pixels.shape[:2]
    a, b, c, d, e, f = found.to_source
    assert (b, d) == (0, 0)
    for x, y in ((2, 2), (width // 2, height // 2), (width - 3, height - 3)):
        red, green, _ = found.pixels[y, x].astype(float)
        assert red == pytest.approx(a * (x + 0.5) + c - 0.5, abs=0.76)
        assert green == pytest.approx(e * (y + 0.5) + f - 0.5, abs=0.76)


def test_a_large_film_is_made_smaller(tmp_path):
    found = one(dicom_file(lattice(200, 100), tmp_path / "a.dcm", PixelSpacing=["0.5", "0.5"]), max_side_px=64)
    assert found.pixels.shape == (32, 64, 3)
    assert found.spacing_mm == pytest.approx(0.5 * 200 / 64)
    assert found.history == ("resized from 200x100 to 64x32 px",)


@pytest.mark.parametrize(
    ("crop", "kept"),
    [
        ((5, 4, 35, 26), (5, 4, 35, 26)),
        ((0, 10, -10, 0), (0, 10, 30, 30)),
        ((-30, -20, 0, -5), (10, 10, 40, 25)),
        ((0, 0, 400, 300), (0, 0, 40, 30)),
    ],
)
def test_a_declared_crop_leads_back(tmp_path, crop, kept):
    found = one(dicom_file(lattice(40, 30), tmp_path / "a.dcm"), crop=crop)
    x0, y0, x1, y1 = kept
    np.testing.assert_array_equal(found.pixels, lattice(40, 30)[y0:y1, x0:x1])
    assert found.to_source == (1.0, 0.0, x0, 0.0, 1.0, y0)
    assert found.source_size == (40, 30)


def test_crop_and_square_pixels_together_lead_back(tmp_path):
    path = dicom_file(lattice(40, 30), tmp_path / "a.dcm", PixelSpacing=["0.9", "0.3"])
    found = one(path, crop=(4, 6, 24, 26))
    assert found.pixels.shape[:2] == (60, 20)
    assert found.to_source == (1.0, 0.0, 4.0, 0.0, pytest.approx(1 / 3), 6.0)
    check_way_back(found)
    assert found.history == ("cropped to columns 4 to 24, rows 6 to 26 of 40x30 px", "resized from 20x20 to 20x60 px")


def test_a_crop_that_leaves_nothing_is_refused(tmp_path):
    error = refused(dicom_file(lattice(40, 30), tmp_path / "a.dcm"), crop=(50, 0, 60, 10))
    assert (error.reason, "50, 0, 60, 10" in error.detail) == ("size_mismatch", True)


def test_pixels_stretched_beyond_measure_are_refused(tmp_path):
    path = dicom_file(lattice(400, 300), tmp_path / "a.dcm", PixelSpacing=["1", "0.00001"])
    assert refused(path).reason == "too_large"


@pytest.mark.parametrize(
    ("directions", "flags"),
    [
        (["L", "F"], ()),
        (["R", "F"], ("mirrored",)),
        (["RP", "F"], ("mirrored",)),
        (["R", "H"], ("mirrored", "upside_down")),
        (["A", "F"], ()),
        (["P", "F"], ()),
        ("", ()),
        (["L"], ()),
    ],
)
def test_a_mirrored_film_is_told_not_flipped(tmp_path, directions, flags):
    found = one(dicom_file(lattice(40, 30), tmp_path / "a.dcm", PatientOrientation=directions))
    assert (found.flags, found.geometry) == (flags, "unknown")
    np.testing.assert_array_equal(found.pixels, lattice(40, 30))


# ---- ultrasound


def region(x0: int, y0: int, x1: int, y1: int) -> Dataset:
    d = Dataset()
    d.RegionLocationMinX0, d.RegionLocationMinY0, d.RegionLocationMaxX1, d.RegionLocationMaxY1 = x0, y0, x1, y1
    return d


def ultrasound(path: Path, *regions: Dataset, **tags) -> Path:
    tags |= {"SequenceOfUltrasoundRegions": Sequence(list(regions))} if regions else {}
    return dicom_file(lattice(80, 60), path, SOPClassUID=UltrasoundImageStorage, Modality="US", **tags)


def test_an_ultrasound_is_cut_to_the_union_of_its_regions(tmp_path):
    path = ultrasound(tmp_path / "a.dcm", region(10, 12, 49, 39), region(30, 20, 69, 55))
    found = one(path, "ultrasound", crop="ultrasound")  # without its banner it needs no look
    np.testing.assert_array_equal(found.pixels, lattice(80, 60)[12:56, 10:70])
    assert found.to_source == (1.0, 0.0, 10.0, 0.0, 1.0, 12.0)
    assert (found.source_size, found.flags, found.window) == ((80, 60), (), None)


def test_a_region_may_count_its_last_column_from_1(tmp_path):
    found = one(ultrasound(tmp_path / "a.dcm", region(10, 12, 80, 60)), "ultrasound", crop="ultrasound")
    np.testing.assert_array_equal(found.pixels, lattice(80, 60)[12:, 10:])


@pytest.mark.parametrize("regions", [(), (region(10, 12, 300, 200),), (region(40, 12, 10, 40),)])
def test_without_regions_of_this_picture_it_stays_whole_and_is_held_back(tmp_path, regions):
    path = ultrasound(tmp_path / "a.dcm", *regions)
    error = refused(path, crop="ultrasound")
    assert (error.reason, error.detail) == (
        "burned_in",
        "ultrasound; set privacy.burned_in: cleared after a person has looked",
    )
    found = one(path, "ultrasound", crop="ultrasound", cleared=True)
    np.testing.assert_array_equal(found.pixels, lattice(80, 60))
    assert found.flags == ("no_ultrasound_region",)


def test_a_real_ultrasound_whose_regions_are_of_a_larger_picture_stays_whole():
    path = WHEEL / "examples_ybr_color.dcm"  # 320x240 px, with a region up to 595, 414
    found = show(path, "ultrasound", choose=[0], crop="ultrasound", cleared=True)[0]
    assert found.pixels.shape == (240, 320, 3)
    assert found.flags == ("no_ultrasound_region",)


def test_what_may_show_a_name_is_held_back_until_a_person_has_looked(tmp_path):
    path = dicom_file(FILM, tmp_path / "a.dcm", BurnedInAnnotation="YES")
    assert refused(path).detail.startswith("declared; set privacy.burned_in: cleared")
    assert one(path, cleared=True).pixels.shape == FILM.shape


def test_overlays_are_never_drawn(tmp_path):
    plain = one(dicom_file(FILM, tmp_path / "a.dcm"))
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    shape = [(0x10, "US", 24), (0x11, "US", 20), (0x50, "SS", [1, 1]), (0x100, "US", 1), (0x102, "US", 0)]
    for element, vr, value in shape:
        dataset.add_new((0x6000, element), vr, value)
    dataset.add_new((0x6000, 0x40), "CS", "G")
    dataset.add_new((0x6000, 0x3000), "OW", b"\xff" * 60)
    dataset.save_as(tmp_path / "b.dcm")
    assert refused(tmp_path / "b.dcm").reason == "burned_in"
    np.testing.assert_array_equal(one(tmp_path / "b.dcm", cleared=True).pixels, plain.pixels)


def test_an_overlay_in_unused_bits_is_masked_out(tmp_path):
    dirty = FILM | (np.random.default_rng(0).integers(0, 2, FILM.shape).astype(np.uint16) << 12)
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": "2000", "WindowWidth": "4000"}
    clean = one(dicom_file(FILM, tmp_path / "a.dcm", **tags))
    np.testing.assert_array_equal(one(dicom_file(dirty, tmp_path / "b.dcm", **tags)).pixels, clean.pixels)


# ---- cines


CINE = np.random.default_rng(9).integers(0, 4000, (12, 20, 24)).astype(np.uint16)


def cine(path: Path, syntax=pydicom.uid.ExplicitVRLittleEndian, **tags) -> Path:
    return dicom_file(CINE, path, syntax, NumberOfFrames=12, **tags)


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("streamed", [False, True])
def test_frames_of_a_cine_come_one_at_a_time(tmp_path, monkeypatch, syntax, streamed):
    if streamed:
        monkeypatch.setattr(dicom_pictures, "STREAMED_BYTES", 0)
    path = cine(tmp_path / "a.dcm", syntax, FrameTime="40", WindowCenter="2000", WindowWidth="4000")
    found = show(path)
    assert [frame.name for frame in found] == [f"f{n:05d}" for n in range(12)]
    assert [frame.time_s for frame in found] == pytest.approx([n * 0.04 for n in range(12)])
    for frame in found:
        assert near(frame.pixels, formula(CINE[frame.index], 2000, 4000))


def test_the_caller_chooses_frames_by_number_or_by_time(tmp_path):
    path = cine(tmp_path / "a.dcm", FrameTime="40")
    asked = []

    def every_fifth(count: int, frame_time_s: float | None):
        asked.append((count, frame_time_s))
        return range(0, count, 5)

    assert [frame.index for frame in show(path, choose=every_fifth)] == [0, 5, 10]
    assert asked == [(12, pytest.approx(0.04))]
    assert [frame.name for frame in show(path, choose=[7, 3, 99])] == ["f00007", "f00003"]
    assert show(path, choose=[]) == []


def test_a_single_frame_is_the_image_whatever_is_chosen(tmp_path):
    found = one(dicom_file(FILM, tmp_path / "a.dcm", FrameTime="40"), choose=lambda count, time: [])
    assert (found.name, found.index, found.time_s) == ("image", None, None)


@pytest.mark.parametrize(
    ("tags", "times"),
    [
        ({"FrameTime": "50"}, [0, 0.05, 0.10]),
        ({"CineRate": "25"}, [0, 0.04, 0.08]),
        ({"RecommendedDisplayFrameRate": "10"}, [0, 0.1, 0.2]),
        ({"FrameTimeVector": ["0", "30", "70", *["10"] * 9]}, [0, 0.03, 0.10]),
        ({"FrameTime": "0", "CineRate": "20"}, [0, 0.05, 0.10]),
        ({"FrameTime": ""}, [None] * 3),
        ({}, [None] * 3),
    ],
)
def test_the_time_of_a_frame_is_what_the_header_says(tmp_path, tags, times):
    found = show(cine(tmp_path / "a.dcm", **tags), choose=range(3))
    assert [frame.time_s for frame in found] == [None if time is None else pytest.approx(time) for time in times]


def test_all_frames_of_a_cine_have_one_window(tmp_path):
    found = show(cine(tmp_path / "a.dcm"))
    (window,) = {frame.window for frame in found}
    low, high = (float(part) for part in window.removeprefix("percentile ").split(".."))
    sample = np.percentile(CINE[::3], (0.5, 99.5))
    assert (low, high) == pytest.approx(sample, rel=1e-3)
    for frame in found:
        assert near(frame.pixels, np.clip((CINE[frame.index] - low) / (high - low) * 255, 0, 255))


def test_a_real_cine_of_colours():
    found = show(WHEEL / "examples_ybr_color.dcm", "ultrasound", cleared=True, choose=range(0, 30, 10))
    assert [frame.name for frame in found] == ["f00000", "f00010", "f00020"]
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.33333, 0.66666])
    assert {frame.pixels.shape for frame in found} == {(240, 320, 3)}
    assert {frame.window for frame in found} == {None}


def test_the_slope_and_the_spacing_of_functional_groups_hold(tmp_path):
    def item(**tags):
        made = Dataset()
        for key, value in tags.items():
            setattr(made, key, value)
        return Sequence([made])

    shared = item(
        PixelMeasuresSequence=item(PixelSpacing=["0.4", "0.4"]),
        FrameVOILUTSequence=item(WindowCenter="2000", WindowWidth="4000"),
    )
    each = [
        item(PixelValueTransformationSequence=item(RescaleSlope=str(n), RescaleIntercept="5"))[0] for n in range(1, 13)
    ]
    path = cine(
        tmp_path / "a.dcm", SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=Sequence(each)
    )
    found = show(path, choose=[0, 2])
    for frame in found:
        assert near(frame.pixels, formula(CINE[frame.index] * (frame.index + 1.0) + 5, 2000, 4000))
        assert (frame.spacing_mm, frame.window) == (0.4, "header 2000/4000 linear")


# ---- slides


def slide(path: Path, matrix: np.ndarray, tile: int, columns: int | None = None) -> Path:
    """Write a slide in tiles, row by row, with what highdicom wants to see."""
    bands = np.split(matrix, len(matrix) // tile)
    tiles = [part for band in bands for part in np.split(band, band.shape[1] // tile, axis=1)]
    tags = {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "NumberOfFrames": len(tiles),
        "TotalPixelMatrixRows": len(matrix),
        "TotalPixelMatrixColumns": columns or matrix.shape[1],
        "DimensionOrganizationType": "TILED_FULL",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0],
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 1,
        "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
    }
    origin, spacing, optics = Dataset(), Dataset(), Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 0, 0
    spacing.PixelSpacing, spacing.SliceThickness = ["0.0005", "0.0005"], "0.001"
    optics.OpticalPathIdentifier = "1"
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([spacing])
    tags |= {
        "TotalPixelMatrixOriginSequence": Sequence([origin]),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "OpticalPathSequence": Sequence([optics]),
    }
    return dicom_file(np.stack(tiles), path, **tags)


def test_a_small_slide_is_put_together_from_its_tiles(tmp_path):
    matrix = np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    found = one(slide(tmp_path / "a.dcm", matrix, 20), "pathology")
    np.testing.assert_array_equal(found.pixels, matrix)
    assert (found.name, found.source_size, found.spacing_mm) == ("image", (60, 40), 0.0005)


def test_a_large_slide_and_a_broken_one_are_refused_as_tiled(tmp_path, monkeypatch):
    matrix = np.zeros((40, 60, 3), np.uint8)
    error = refused(slide(tmp_path / "a.dcm", matrix, 20, columns=600))
    assert (error.reason, error.detail.startswith("a slide of 600x40 px in 6 tiles")) == ("tiled", True)
    monkeypatch.setattr(dicom_pictures, "MAX_SLIDE_PIXELS", 1000)
    assert refused(slide(tmp_path / "b.dcm", matrix, 20)).reason == "tiled"


@real_data
def test_the_slides_of_highdicom_are_put_together_as_it_does():
    for path in sorted((DATA / "highdicom_test").rglob("sm_image*.dcm")):
        found = one(path, "pathology")
        oracle = hd.imread(path).get_total_pixel_matrix(apply_icc_profile=False)
        if oracle.ndim == 3:
            np.testing.assert_array_equal(found.pixels, oracle)
        else:
            assert near(found.pixels, np.clip(oracle / 24 * 255, 0, 255))


# ---- real files


@real_data
def test_the_dirty_files_are_what_their_manifest_wants():
    folder = DATA / "dirty_derived" / "dicom"
    plain = one(DATA / "highdicom_test" / "data" / "test_files" / "ct_image.dcm", "ct")
    np.testing.assert_array_equal(one(folder / "monochrome1.dcm", "ct").pixels, 255 - plain.pixels)
    windows = {
        name: one(folder / f"{name}.dcm", "ct").window for name in ("two_windows", "zero_window", "no_window", "phi")
    }
    assert windows == {
        "two_windows": "header 40/400 linear",
        "zero_window": "soft_tissue -160..240",
        "no_window": "soft_tissue -160..240",
        "phi": "soft_tissue -160..240",
    }
    np.testing.assert_array_equal(one(folder / "noext", "ct").pixels, plain.pixels)
    assert refused(folder / "truncated.dcm").reason == "truncated"


@real_data
def test_a_real_radiograph_is_shown_as_highdicom_shows_it():
    path = DATA / "highdicom_test" / "data" / "test_files" / "dx_image.dcm"
    found = one(path)
    oracle = hd.imread(path).get_frame(1, apply_voi_transform=True, voi_output_range=(0, 255))
    assert near(found.pixels, oracle)
    assert (found.flags, found.window) == (("projection_spacing",), "header 128/256 linear")
    assert found.spacing_mm == pytest.approx(1.2006, abs=1e-4)


# ---- what is no picture, and damage


@pytest.mark.parametrize("name", ["liver_1frame.dcm", "rtdose.dcm", "reportsi.dcm", "rtstruct.dcm", "README.txt"])
def test_what_is_no_picture_is_refused(name):
    assert refused(WHEEL / name).reason == "undecodable"


def test_a_file_that_is_not_there_is_missing(tmp_path):
    assert refused(tmp_path / "no.dcm").reason == "missing_image"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cine_cut_anywhere_is_refused(tmp_path, monkeypatch, streamed):
    if streamed:
        monkeypatch.setattr(dicom_pictures, "STREAMED_BYTES", 0)
    for syntax in (pydicom.uid.ExplicitVRLittleEndian, RLELossless):
        data = cine(tmp_path / "a.dcm", syntax).read_bytes()
        for end in np.linspace(140, len(data) - 600, 25).astype(int):
            (tmp_path / "cut.dcm").write_bytes(data[:end])
            assert refused(tmp_path / "cut.dcm").reason in {"undecodable", "truncated", "unreadable"}


@pytest.mark.parametrize("name", ["examples_palette.dcm", "dicomdirtests/77654033/CR1/6154", "CT_small.dcm"])
def test_a_file_with_wrong_bytes_ends_as_a_picture_or_is_refused(tmp_path, name):
    data, rng, ends = np.frombuffer((WHEEL / name).read_bytes(), np.uint8), np.random.default_rng(1), set()
    for _ in range(120):
        changed = data.copy()
        changed[rng.integers(132, min(len(data), 4000), 5)] = rng.integers(0, 256, 5)
        (tmp_path / "bad.dcm").write_bytes(changed.tobytes())
        try:
            found = one(tmp_path / "bad.dcm", cleared=True, crop="ultrasound")
            ends.add("picture" if pictures.pixels_of(pictures.png(found.pixels)).size else "empty")
        except Unusable as error:
            ends.add(error.reason)
    assert "picture" in ends
    assert ends <= {
        "picture",
        "undecodable",
        "truncated",
        "too_large",
        "unreadable",
        "no_content",
        "burned_in",
        "tiled",
    }


SAID = """Rows Columns BitsAllocated BitsStored PixelRepresentation SamplesPerPixel PhotometricInterpretation
    NumberOfFrames WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction RescaleSlope RescaleIntercept
    PixelPaddingValue PixelPaddingRangeLimit PixelSpacing ImagerPixelSpacing PixelAspectRatio PatientOrientation
    PresentationLUTShape FrameTime FrameTimeVector CineRate BurnedInAnnotation ImageType Modality SOPClassUID
    TotalPixelMatrixColumns DimensionOrganizationType SequenceOfUltrasoundRegions ModalityLUTSequence VOILUTSequence
    PerFrameFunctionalGroupsSequence SharedFunctionalGroupsSequence RedPaletteColorLookupTableDescriptor
    RedPaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData PixelData"""
BYTES = [
    b"",
    b" ",
    b"\0\0",
    b"1 ",
    b"-1",
    b"nan ",
    b"inf ",
    b"1e400 ",
    b"9" * 40,
    b"a\\b\\c ",
    b"1\\",
    b"\xff\xff",
    b"\0" * 12,
]
TYPES = ["OW", "DS", "IS", "US", "SS", "CS", "SQ", "UN", "FD", "PN", "AT"]


def hostile(base: str, rng: np.random.Generator) -> Dataset:
    """A real file with some values that can not be, or of another type."""
    dataset = pydicom.dcmread(WHEEL / base)
    for keyword in rng.choice(SAID.split(), rng.integers(1, 4)):
        tag = Tag(tag_for_keyword(keyword))
        kind = str(rng.choice(TYPES)) if rng.random() < 0.4 else dictionary_VR(tag).split()[0]
        if kind == "SQ":
            items = [Dataset() for _ in range(rng.integers(0, 3))]
            for inner in map(Tag, rng.choice(["LUTDescriptor", "LUTData", "WindowCenter", "RegionLocationMinX0"], 2)):
                for item in items:
                    item[inner] = raw(inner, dictionary_VR(inner).split()[0], rng)
            dataset[tag] = DataElement(tag, "SQ", Sequence(items))
        else:
            dataset[tag] = raw(tag, kind, rng)
    return dataset


def raw(tag: Tag, kind: str, rng: np.random.Generator) -> RawDataElement:
    data = BYTES[rng.integers(len(BYTES))]
    return RawDataElement(tag, kind, len(data), data, 0, False, True)


@pytest.mark.parametrize("base", ["examples_palette.dcm", "CT_small.dcm", "SC_rgb_rle_2frame.dcm"])
def test_a_header_that_can_not_be_ends_as_a_picture_or_is_refused(monkeypatch, base):
    rng, ends = np.random.default_rng(8), set()
    for n in range(250):
        dataset = hostile(base, rng)
        monkeypatch.setattr(dicom_pictures, "_opened", lambda path, dataset=dataset: dataset)
        try:
            show(WHEEL / base, ("ct", "pet", "ultrasound")[n % 3], cleared=bool(n % 2), crop="ultrasound")
            ends.add("picture")
        except Unusable as error:
            ends.add(error.reason)
    assert "picture" in ends
    assert ends <= {"picture", "undecodable", "truncated", "too_large", "no_content", "burned_in", "tiled"}
