"""DICOM pixels: decoded as other programs decode them, or refused with a reason."""

import logging
import os
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    MPEG4HP41,
    ComputedRadiographyImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from pipeline import discovery
from pipeline.errors import Unusable
from pipeline.ingest import dicom, dicom_pixels
from pipeline.ingest.dicom_pixels import Stored

WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"
DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
NAME = "DOE^JANE^SECRET"


def dicom_file(pixels: np.ndarray, path: Path, syntax=ExplicitVRLittleEndian, **tags) -> Path:
    """Write a film: `(y, x)`, `(y, x, 3)`, or frames of them with NumberOfFrames given."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = tags.pop("SOPClassUID", ComputedRadiographyImageStorage)
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    d.PatientName, d.PatientID, d.Modality = NAME, NAME, "CR"
    rgb = pixels.shape[-1] == 3 and pixels.ndim > 2
    size = pixels.shape[-3:-1] if rgb else pixels.shape[-2:]
    d.Rows, d.Columns = size
    d.SamplesPerPixel, d.PhotometricInterpretation = (3, "RGB") if rgb else (1, "MONOCHROME2")
    if rgb:
        d.PlanarConfiguration = 0
    bits = pixels.dtype.itemsize * 8
    d.BitsAllocated = d.BitsStored = bits
    d.HighBit, d.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    for key, value in tags.items():
        setattr(d, key, value)
    d.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() + b"\0" * (pixels.nbytes % 2)
    d["PixelData"].VR = "OB" if bits == 8 else "OW"
    if syntax == RLELossless:
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.compress(RLELossless)
    path.parent.mkdir(parents=True, exist_ok=True)
    d.save_as(path, enforce_file_format=True)
    return path


def decoded(path: Path, index: int = 0) -> np.ndarray:
    """Intensities of a grey frame, or the colours."""
    dataset = dicom.read_file(path)
    stored = dicom_pixels.frame(dataset, path, index)
    if stored.pixels.ndim == 3:
        return stored.pixels
    return dicom_pixels.intensities(dataset, stored, index)


def refused(path: Path) -> str:
    with pytest.raises(Unusable) as caught:
        decoded(path)
    assert NAME not in str(caught.value)
    assert path.name not in str(caught.value)
    return caught.value.reason


# ---- the files that pydicom ships, against SimpleITK


def images(folder: Path) -> list[Path]:
    """Files that hold pixels, by pydicom's reader."""
    found = []
    for path in sorted(folder.rglob("*")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if path.is_file() and "PixelData" in pydicom.dcmread(path, force=True):
                    found.append(path)
            except (OSError, EOFError, ValueError, TypeError, AttributeError):
                continue  # no DICOM at all
    return found


REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "undecodable",  # pydicom 3.0 ends its pixels at a delimiter within them
    "MR_truncated.dcm": "truncated",
    "badVR.dcm": "undecodable",  # NumberOfFrames is 1A
    "meta_missing_tsyntax.dcm": "undecodable",  # no rows and columns
    "nested_priv_SQ.dcm": "undecodable",  # no rows and columns
}
TWINS = {
    # SimpleITK reads the planes of RLE colours of more than 8 bits wrongly
    "SC_rgb_rle_16bit.dcm": "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit_2frame.dcm": "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_32bit.dcm": "SC_rgb_rle.dcm",
    "SC_rgb_rle_32bit_2frame.dcm": "SC_rgb_rle_2frame.dcm",
    # SimpleITK mixes the bytes of big endian doses, and can not read some
    "rtdose_expb.dcm": "rtdose.dcm",
    "rtdose_1frame.dcm": "rtdose.dcm",
    "rtdose_rle_1frame.dcm": "rtdose.dcm",
    "rtdose_expb_1frame.dcm": "rtdose.dcm",
}
"""Files that SimpleITK reads wrongly, and the same picture written otherwise."""


def by_itk(path: Path, dataset: Dataset) -> np.ndarray:
    """All frames of a file as SimpleITK gives them; it inverts MONOCHROME1 by complement, and counts bits to 255."""
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        stored = (read - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
        return (2**dataset.BitsStored - 1 - stored) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    return read // 255 if dataset.BitsAllocated == 1 else read


def test_the_wheel_has_the_files_that_this_test_is_about():
    assert len(images(WHEEL)) >= 93
    assert {path.name for path in images(WHEEL)} >= {*REFUSED, *TWINS, *TWINS.values()}


@pytest.mark.parametrize("path", images(WHEEL), ids=lambda path: str(path.relative_to(WHEEL)))
def test_every_file_of_pydicoms_wheel_is_decoded_as_simpleitk_does_or_refused(path):
    if path.name in REFUSED:
        assert refused(path) == REFUSED[path.name]
        return
    dataset = dicom.read_file(path)
    count = dicom_pixels.count(dataset)
    found = [decoded(path, index) for index in range(count)]
    if path.name in TWINS:
        wanted = [decoded(WHEEL / TWINS[path.name], index) for index in range(count)]
    else:
        wanted = list(by_itk(path, dataset))
    assert len(wanted) == count
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_truth_behind_the_twins_is_what_simpleitk_reads():
    for name in sorted(set(TWINS.values())):
        dataset = dicom.read_file(WHEEL / name)
        frames = [decoded(WHEEL / name, index) for index in range(dicom_pixels.count(dataset))]
        np.testing.assert_array_equal(frames, by_itk(WHEEL / name, dataset))


def test_colours_of_more_bits_are_the_same_colours():
    for name in ("SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"):
        assert decoded(WHEEL / name).dtype == np.uint8
        assert np.unique(decoded(WHEEL / name)).tolist() == [0, 64, 128, 192, 255]


@pytest.mark.parametrize("name", ["rtstruct.dcm", "reportsi.dcm", "dicomdirtests/DICOMDIR"])
def test_a_file_without_a_picture_is_refused(name):
    assert refused(WHEEL / name) == "undecodable"


@pytest.mark.skipif(not (DATA / "pydicom_files").is_dir(), reason=f"no real data in {DATA}")
def test_every_file_of_the_zoo_ends_decoded_or_refused():
    ends = {}
    for path in sorted((DATA / "pydicom_files").rglob("*.dcm")):
        try:
            ends[path.name] = decoded(path).ndim
        except Unusable as error:
            ends[path.name] = error.reason
    assert len(ends) == 79
    assert {name: end for name, end in ends.items() if end == "truncated"} == {"MR_truncated.dcm": "truncated"}
    assert sum(end in (2, 3) for end in ends.values()) == 59
    assert set(ends.values()) == {2, 3, "truncated", "undecodable"}


# ---- SimpleITK's turn


@pytest.fixture
def jpeg_of_12_bits(tmp_path):
    """Write JPGExtended.dcm, which pydicom has no decoder for, with other header values."""

    def make(**tags) -> Path:
        dataset = pydicom.dcmread(WHEEL / "JPGExtended.dcm")
        for key, value in tags.items():
            setattr(dataset, key, value)
        path = tmp_path / "x.dcm"
        dataset.save_as(path)
        return path

    return make


def test_what_simpleitk_decodes_is_rescaled_once_and_not_inverted(jpeg_of_12_bits):
    oracle = sitk.GetArrayFromImage(sitk.ReadImage(str(WHEEL / "JPGExtended.dcm")))[0]
    np.testing.assert_array_equal(decoded(jpeg_of_12_bits()), oracle)
    path = jpeg_of_12_bits(RescaleSlope="2", RescaleIntercept="-1000", PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decoded(path), oracle.astype(int) * 2 - 1000)


def test_simpleitk_decodes_each_frame_alone_from_memory_and_from_the_file(tmp_path):
    """JPEG Lossless, the commonest of radiographs and angiograms, has no decoder in pydicom that is safe."""
    path, dataset = tmp_path / "a.dcm", pydicom.dcmread(WHEEL / "SC_rgb_jpeg_gdcm.dcm")
    codestream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.NumberOfFrames, dataset.PixelData = 3, encapsulate([codestream] * 3)
    dataset.save_as(path)
    for source in (pydicom.dcmread(path), pydicom.dcmread(path, stop_before_pixels=True)):
        found = list(dicom_pixels.frames(source, path, [2, 0]))
        assert [(index, one.by) for index, one in found] == [(2, "SimpleITK"), (0, "SimpleITK")]
        for _, one in found:
            np.testing.assert_array_equal(one.pixels, decoded(WHEEL / "SC_rgb_rle.dcm"))


def test_the_slope_of_each_frame_holds_for_what_simpleitk_decodes(jpeg_of_12_bits):
    plain = decoded(jpeg_of_12_bits())
    group = header(PixelValueTransformationSequence=Sequence([header(RescaleSlope="3", RescaleIntercept="1")]))
    found = decoded(jpeg_of_12_bits(PerFrameFunctionalGroupsSequence=Sequence([group])))
    np.testing.assert_array_equal(found, plain.astype(int) * 3 + 1)


def test_a_video_in_a_dicom_file_is_refused_by_its_name(tmp_path):
    path = dicom_file(np.zeros((8, 8), np.uint8), tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = MPEG4HP41
    dataset.PixelData = encapsulate([b"\0\0\0\x01" * 20])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(Unusable, match=r"^undecodable: MPEG-4 AVC/H.264 High Profile / Level 4.1: its pixels can not"):
        decoded(path)


def test_no_value_of_a_header_reaches_the_log_of_a_program_that_keeps_one():
    said = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    logging.getLogger().addHandler(listener)
    try:
        with pytest.warns(UserWarning, match="doe"):
            Dataset().Modality = "doe^jane"
        decoded(WHEEL / "JPGExtended.dcm")
    finally:
        logging.getLogger().removeHandler(listener)
    assert said == []


# ---- numbers of the header


def header(**tags) -> Dataset:
    found = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, value in tags.items():
            setattr(found, key, value)
    return found


def test_numbers_are_read_with_care():
    assert dicom_pixels.numbers(header(WindowCenter=["40", "", "-600"]), "WindowCenter")[::2] == (40.0, -600.0)
    assert np.isnan(dicom_pixels.numbers(header(WindowCenter=["40", "", "-600"]), "WindowCenter")[1])
    assert dicom_pixels.numbers(header(WindowCenter=""), "WindowCenter") == ()
    assert dicom_pixels.numbers(header(), "WindowCenter") == ()
    assert dicom_pixels.number(header(RescaleSlope=""), "RescaleSlope", 1.0) == 1.0
    assert dicom_pixels.number(header(), "RescaleSlope", 1.0) == 1.0
    assert dicom_pixels.text(header(ImageType=["derived", "SECONDARY "]), "ImageType") == "DERIVED\\SECONDARY"
    assert dicom_pixels.text(header(ImageType=None), "ImageType") == ""


@pytest.mark.parametrize("slope", ["nan", "inf", "0"])
def test_a_slope_that_can_not_be_one_is_refused(tmp_path, slope):
    path = dicom_file(np.zeros((4, 4), np.uint16), tmp_path / "a.dcm", RescaleSlope="2", RescaleIntercept="0")
    path.write_bytes(path.read_bytes().replace(b"(\0S\x10DS\x02\x002 ", b"(\0S\x10DS\x04\0" + slope.ljust(4).encode()))
    assert refused(path) == "undecodable"


@pytest.mark.parametrize("frames", ["0", "-1", "9999999999"])
def test_a_number_of_frames_that_can_not_be_one_is_refused(frames):
    with pytest.raises(Unusable, match="undecodable: NumberOfFrames"):
        dicom_pixels.count(header(NumberOfFrames=frames))


def test_a_file_without_a_number_of_frames_has_one():
    assert dicom_pixels.count(header()) == dicom_pixels.count(header(NumberOfFrames="")) == 1


# ---- what stored values mean


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "wanted"),
    [
        (np.uint16, "1", "-1024", np.int16),
        (np.uint16, "1", "0", np.uint16),
        (np.int16, "1", "0", np.int16),
        (np.uint16, "1", "70000", np.int32),
        (np.int16, "0.5", "-1", np.float32),
        (np.uint32, "0.000001", "0", np.float32),
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_slope_and_intercept_make_intensities(tmp_path, dtype, slope, intercept, wanted, syntax):
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 4096, (6, 7)).astype(dtype)
    path = dicom_file(stored, tmp_path / "a.dcm", syntax, RescaleSlope=slope, RescaleIntercept=intercept)
    found = decoded(path)
    assert found.dtype == wanted
    np.testing.assert_allclose(found, stored.astype(float) * float(slope) + float(intercept), rtol=1e-6)


def lut(entries, first=0, bits=16) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def test_a_modality_table_maps_by_its_own_values(tmp_path):
    stored = np.array([[-5, -2, -1, 0, 1, 9]], np.int16)
    table = lut([700, 10, 4095, 30], first=-2, bits=12)
    found = decoded(dicom_file(stored, tmp_path / "a.dcm", ModalityLUTSequence=Sequence([table]), RescaleSlope="9"))
    assert found.tolist() == [[700, 700, 10, 4095, 30, 30]]  # the ends go on; the slope beside it is not used


def test_a_modality_table_of_8_bits_may_have_more_than_256_entries(tmp_path):
    """pydicom's own wraps the index at 256."""
    entries = np.arange(300) % 251
    stored = np.array([[0, 255, 256, 299, 4000]], np.uint16)
    found = decoded(dicom_file(stored, tmp_path / "a.dcm", ModalityLUTSequence=Sequence([lut(entries, bits=8)])))
    assert found.tolist() == [[0, 255 % 251, 256 % 251, 299 % 251, 299 % 251]]


def test_a_table_of_all_65536_entries_and_one_packed_in_bytes(tmp_path):
    stored = np.array([[0, 1, 65535]], np.uint16)
    whole = lut(np.arange(65536)[::-1])
    assert decoded(dicom_file(stored, tmp_path / "a.dcm", ModalityLUTSequence=Sequence([whole]))).tolist() == [
        [65535, 65534, 0]
    ]
    packed = lut([0] * 4, bits=8)
    packed.LUTData = bytes([9, 8, 7, 6])
    assert decoded(dicom_file(stored, tmp_path / "b.dcm", ModalityLUTSequence=Sequence([packed]))).tolist() == [
        [9, 8, 6]
    ]


@pytest.mark.parametrize(
    ("dtype", "first"), [(np.uint8, -300), (np.uint8, 0), (np.int16, -40000 + 2**15), (np.int16, 0)]
)
def test_a_table_may_be_wider_than_the_values_that_it_maps(tmp_path, dtype, first):
    entries = np.arange(60000) % 4093
    stored = np.array([[0, 1, 7, 100]], dtype)
    found = decoded(dicom_file(stored, tmp_path / "a.dcm", ModalityLUTSequence=Sequence([lut(entries, first)])))
    assert found.tolist() == [[int(entries[value - first]) for value in (0, 1, 7, 100)]]


@pytest.mark.parametrize("break_it", ["LUTData", "LUTDescriptor", "empty"])
def test_a_broken_table_is_refused(tmp_path, break_it):
    item = lut([1, 2, 3])
    if break_it == "empty":
        item.LUTData = b""
    else:
        delattr(item, break_it)
    path = dicom_file(np.zeros((4, 4), np.uint16), tmp_path / "a.dcm", ModalityLUTSequence=Sequence([item]))
    assert refused(path) == "undecodable"


def test_each_frame_of_an_enhanced_file_has_the_slope_of_its_functional_group(tmp_path):
    stored = np.random.default_rng(0).integers(0, 4096, (3, 5, 6)).astype(np.uint16)
    slopes, groups = (1.0, 2.5, -1.0), []
    for slope in slopes:
        transform = header(RescaleSlope=slope, RescaleIntercept=-100.0, RescaleType="US")
        groups.append(header(PixelValueTransformationSequence=Sequence([transform])))
    tags = {"NumberOfFrames": 3, "PerFrameFunctionalGroupsSequence": Sequence(groups)}
    path = dicom_file(stored, tmp_path / "a.dcm", SharedFunctionalGroupsSequence=Sequence([Dataset()]), **tags)
    for index, slope in enumerate(slopes):
        np.testing.assert_allclose(decoded(path, index), stored[index] * slope - 100)
    oracle = hd.Image.from_dataset(enhanced_enough(pydicom.dcmread(path)))
    for index in range(3):
        np.testing.assert_allclose(decoded(path, index), oracle.get_frame(index + 1, apply_modality_transform=True))


def enhanced_enough(dataset: Dataset) -> Dataset:
    """Add what highdicom wants to see beside the pixels."""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    return dataset


# ---- padding


@pytest.mark.parametrize(
    ("dtype", "value", "limit", "ends"),
    [
        (np.int16, -2000, None, (-2000, -2000)),
        (np.uint16, 0, 5, (0, 5)),
        (np.uint16, 65535, 65000, (65000, 65535)),
    ],
)
def test_padding_is_a_value_or_a_range_of_stored_values(tmp_path, dtype, value, limit, ends):
    tags = {"PixelPaddingValue": value} | ({} if limit is None else {"PixelPaddingRangeLimit": limit})
    stored = np.full((4, 4), 100, dtype)
    stored[0, :2] = ends
    dataset = dicom.read_file(dicom_file(stored, tmp_path / "a.dcm", **tags, RescaleIntercept="-9", RescaleSlope="1"))
    assert dicom_pixels.padding(dataset) == ends
    hidden = dicom_pixels.is_padding(dataset, dicom_pixels.frame(dataset, tmp_path / "a.dcm"))
    assert hidden.sum() == hidden[0, :2].sum() == 2


@pytest.mark.parametrize(("sign", "written", "meant"), [(1, 63536, -2000), (0, -1, 65535)])
def test_padding_that_was_written_with_the_other_sign_is_what_pixels_hold(sign, written, meant):
    dataset = header(BitsAllocated=16, PixelRepresentation=sign)
    dataset.add_new("PixelPaddingValue", "US" if written > 0 else "SS", written)
    assert dicom_pixels.padding(dataset) == (meant, meant)


@pytest.mark.parametrize("written", [None, 3])
def test_a_picture_without_padding_says_none(written):
    dataset = header(BitsAllocated=16, PixelRepresentation=0)
    if written is not None:
        dataset.add_new("PixelPaddingValue", "US", written)
    assert dicom_pixels.is_padding(dataset, Stored(np.full((3, 3), 8, np.uint16))) is None


# ---- colour

COLOURS = np.random.default_rng(6).integers(0, 256, (5, 6, 3)).astype(np.uint8)


def test_planes_of_colour_are_put_together(tmp_path):
    apart = np.ascontiguousarray(COLOURS.transpose(2, 0, 1))
    path = dicom_file(COLOURS, tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PlanarConfiguration, dataset.PixelData = 1, apart.tobytes()
    dataset.save_as(path)
    np.testing.assert_array_equal(decoded(path), COLOURS)


def test_ybr_becomes_rgb(tmp_path):
    y, b, r = np.array([76, 150, 29, 255, 0]), np.array([85, 44, 255, 128, 128]), np.array([255, 21, 107, 128, 128])
    path = dicom_file(np.stack([y, b, r], -1)[None].astype(np.uint8), tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.PhotometricInterpretation = "YBR_FULL"
    dataset.save_as(path)
    wanted = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]])
    assert np.abs(decoded(path)[0].astype(int) - wanted).max() <= 1


def palette(colours: np.ndarray, first: int, bits: int, segmented: bool = False) -> dict:
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, column in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        data = column.astype("<u2" if bits == 16 else np.uint8).tobytes()
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [len(column), first, bits]
        if segmented:  # one discrete segment: opcode 0, length, values
            head = np.array([0, len(column)], "<u2" if bits == 16 else np.uint8).tobytes()
            tags[f"Segmented{name}PaletteColorLookupTableData"] = head + data
        else:
            tags[f"{name}PaletteColorLookupTableData"] = data
    return tags


@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize(("bits", "scale"), [(8, 1), (16, 257)])
def test_a_palette_becomes_rgb(tmp_path, bits, scale, segmented):
    colours = np.random.default_rng(1).integers(0, 256, (8, 3))
    colours[0] = 255
    indices = np.array([[0, 9, 10, 12, 17, 18, 200]], np.uint8)
    path = dicom_file(indices, tmp_path / "a.dcm", **palette(colours * scale, 10, bits, segmented))
    wanted = colours[[0, 0, 0, 2, 7, 7, 7]]
    np.testing.assert_array_equal(decoded(path)[0], wanted)


def test_8_bit_colours_in_16_bit_entries_are_not_black(tmp_path):
    colours = np.array([[0, 0, 0], [255, 128, 1]])
    found = decoded(dicom_file(np.array([[0, 1]], np.uint8), tmp_path / "a.dcm", **palette(colours, 0, 16)))
    assert found[0].tolist() == colours.tolist()


def test_a_palette_that_is_not_there_is_refused(tmp_path):
    path = dicom_file(np.zeros((3, 3), np.uint8), tmp_path / "a.dcm", PhotometricInterpretation="PALETTE COLOR")
    assert refused(path) == "undecodable"


# ---- frames, one at a time


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_frames_are_the_same_from_memory_and_from_the_file(tmp_path, syntax):
    stored = np.random.default_rng(2).integers(0, 4096, (5, 6, 8)).astype(np.uint16)
    path = dicom_file(stored, tmp_path / "a.dcm", syntax, NumberOfFrames=5)
    whole, head = pydicom.dcmread(path), pydicom.dcmread(path, stop_before_pixels=True)
    assert dicom_pixels.has_pixels(whole)
    assert not dicom_pixels.has_pixels(head)
    for dataset in (whole, head):
        found = list(dicom_pixels.frames(dataset, path, [3, 0]))
        assert [index for index, _ in found] == [3, 0]
        for index, one in found:
            np.testing.assert_array_equal(one.pixels, stored[index])


def test_a_frame_that_is_not_there_is_refused(tmp_path):
    path = dicom_file(np.zeros((2, 6, 8), np.uint16), tmp_path / "a.dcm", NumberOfFrames=2)
    dataset = dicom.read_file(path)
    with pytest.raises(Unusable, match="undecodable"):
        dicom_pixels.frame(dataset, path, 2)


def test_a_frame_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = dicom_file(np.zeros((4, 4), np.uint8), tmp_path / "a.dcm", Rows=65535, Columns=65535)
    assert refused(path) == "too_large"


# ---- damage


@pytest.mark.parametrize("rows", [5, 200])
def test_fewer_pixels_than_the_header_says_are_truncated(tmp_path, rows):
    path = dicom_file(np.ones((4, 4), np.uint16), tmp_path / "a.dcm", Rows=rows)
    assert refused(path) == "truncated"
    head = pydicom.dcmread(path, stop_before_pixels=True)
    if rows == 200:  # more than the file has bytes
        with pytest.raises(Unusable, match="truncated"):
            dicom_pixels.frame(head, path)


CUT = ["CT_small", "MR_small_RLE", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "MR_small_jp2klossless"]


@pytest.mark.parametrize("name", [f"{name}.dcm" for name in CUT])
def test_a_file_cut_anywhere_is_refused(tmp_path, name):
    data = (WHEEL / name).read_bytes()
    path = tmp_path / "cut.dcm"
    pixels = max(data.rfind(b"\xe0\x7f\x10\x00"), 0)
    for end in [*range(0, pixels, max(1, pixels // 40)), *np.linspace(pixels, len(data) - 200, 12).astype(int)]:
        path.write_bytes(data[:end])
        assert refused(path) in {"empty_file", "unreadable", "undecodable", "truncated"}


DAMAGED = ["CT_small", "MR_small_RLE", "SC_rgb_small_odd_jpeg", "SC_rgb_jpeg_dcmtk", "examples_palette", "JPGExtended"]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_with_wrong_bytes_ends_decoded_or_refused(tmp_path, name):
    data = np.frombuffer((WHEEL / f"{name}.dcm").read_bytes(), np.uint8)
    path, rng, ends = tmp_path / "bad.dcm", np.random.default_rng(11), set()
    for _ in range(80):
        changed = data.copy()
        changed[rng.integers(132, min(len(data), 6000), 4)] = rng.integers(0, 256, 4)
        path.write_bytes(changed.tobytes())
        try:
            ends.add(str(decoded(path).ndim))
        except Unusable as error:
            ends.add(error.reason)
    assert ends & {"2", "3"}
    assert ends <= {"2", "3", "undecodable", "truncated", "too_large", "unreadable"}


@pytest.mark.parametrize(
    "tags",
    [
        {"BitsAllocated": 0},
        {"BitsAllocated": 12},
        {"BitsStored": 40},
        {"Rows": 0},
        {"SamplesPerPixel": 4},
        {"SamplesPerPixel": 2},
        {"PhotometricInterpretation": ""},
        {"PixelRepresentation": 7},
    ],
)
def test_a_header_that_can_not_be_is_refused(tmp_path, tags):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = dicom_file(np.ones((4, 4), np.uint16), tmp_path / "a.dcm", **tags)
    assert refused(path) in {"undecodable", "truncated"}


# ---- straight from bytes


WRITTEN = [
    "1",
    " -2.5 ",
    "+.5\\1e3",
    "1\\\\2",
    "",
    " ",
    "\\",
    "abc",
    "1_0",
    "nan",
    "1e999",
    "9" * 400,
    "0x1",
    "12,5",
    "1 2",
    "ORIGINAL\\PRIMARY ",
    " A \\b",
    "1.2.840\0",
    "é",
    "A\0B",
    "20260101",
    "\u0661",
]


@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "SeriesNumber", "ImageType", "SOPInstanceUID", "ConvolutionKernel"]
)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("implicit", [False, True])
def test_what_is_read_from_bytes_is_what_pydicom_makes_of_them(keyword, written, implicit):
    def made():
        tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
        raw = written.encode("utf-8")
        said = RawDataElement(BaseTag(tag), None if implicit else vr, len(raw), raw, 0, implicit, True)
        return Dataset({BaseTag(tag): said})

    converted = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dicom_pixels.value(converted, keyword)  # now the data set holds pydicom's own types
    fresh = made()
    assert dicom_pixels.text(fresh, keyword) == dicom_pixels.text(converted, keyword)
    np.testing.assert_array_equal(dicom_pixels.numbers(fresh, keyword), dicom_pixels.numbers(converted, keyword))
    assert said_or_refused(fresh, keyword) == said_or_refused(converted, keyword)


def said_or_refused(dataset, keyword):
    try:
        return dicom_pixels.number(dataset, keyword, 7.0)
    except Unusable as error:
        return str(error)


@pytest.mark.parametrize("allocated", [8, 16, 32])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("unused", [0, 3])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_pixels_are_read_from_where_they_lie_as_pydicom_reads_them(tmp_path, allocated, signed, unused, syntax):
    frames, rows, columns = 3, 5, 7
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    d.Rows, d.Columns, d.NumberOfFrames, d.SamplesPerPixel = rows, columns, frames, 1
    d.BitsAllocated, d.BitsStored, d.HighBit = allocated, allocated - unused, allocated - unused - 1
    d.PixelRepresentation, d.PhotometricInterpretation = signed, "MONOCHROME2"
    held = np.random.default_rng(allocated).integers(0, 256, frames * rows * columns * allocated // 8, np.uint8)
    d["PixelData"] = DataElement("PixelData", "OW", held.tobytes() + b"\0" * (len(held) % 2))
    path = tmp_path / "a.dcm"
    d.save_as(path, enforce_file_format=True)
    for index in (0, 2):
        left = pydicom.dcmread(str(path), defer_size=1)
        found = dicom_pixels.frame(left, path, index).pixels
        wanted = pixel_array(path, index=index)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("by", [-1024, 0, 1, 40_000, -(2**31) + 1, 2**31 - 70_000])
def test_a_whole_intercept_is_added_without_wrapping_around(dtype, by):
    ends = np.iinfo(dtype)
    stored = np.array([[ends.min, ends.max, 0, 1]], dtype)
    d = Dataset()
    d.RescaleSlope, d.RescaleIntercept = 1, by
    found = dicom_pixels.intensities(d, dicom_pixels.Stored(stored))
    sums = [int(one) + by for one in stored[0]]
    assert found.astype(np.float64).tolist() == [[float(np.float32(n)) if found.dtype.kind == "f" else n for n in sums]]
    whole = [
        kind for kind in (np.int16, np.int32) if np.iinfo(kind).min <= min(sums) and max(sums) <= np.iinfo(kind).max
    ]
    assert by == 0 or found.dtype == (whole[0] if whole else np.float32)
