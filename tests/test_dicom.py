"""One DICOM file: read whole or refused with a reason, with and without its preamble."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from test_series import HU, NAME, ct_slice, save

from pipeline.errors import Unusable
from pipeline.ingest import dicom, dicom_pixels

WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"
"""Files that come with pydicom; its `get_testdata_file` would ask the network for those that do not."""


def reason(path: Path) -> str:
    with pytest.raises(Unusable) as caught:
        dicom.read_file(path)
    assert "DOE" not in str(caught.value)
    assert path.name not in str(caught.value)
    return caught.value.reason


def shown(path: Path) -> np.ndarray:
    return dicom_pixels.frame(dicom.read_file(path), path).pixels


STORED = HU[0].astype(np.int32) + 1024


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kept", ["all", "no preamble", "no preamble, no meta"])
def test_a_file_is_read_in_every_plain_syntax_with_and_without_its_beginning(tmp_path, syntax, kept):
    one = ct_slice(0, HU[0])
    one.file_meta.TransferSyntaxUID = syntax
    one.PixelData = STORED.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    path = tmp_path / "a"
    pydicom.dcmwrite(path, one, little_endian=syntax != ExplicitVRBigEndian, enforce_file_format=True)
    meta = 144 + struct.unpack("<I", path.read_bytes()[140:144])[0]
    path.write_bytes(path.read_bytes()[{"all": 0, "no preamble": 132, "no preamble, no meta": meta}[kept] :])
    np.testing.assert_array_equal(shown(path), STORED)
    assert dicom.read_file(path).PatientName == NAME


def test_a_file_without_a_transfer_syntax_is_read(tmp_path):
    path = save(ct_slice(0, HU[0]), tmp_path / "a.dcm")
    data = path.read_bytes()
    uid = ExplicitVRLittleEndian.encode() + b"\0" * (len(ExplicitVRLittleEndian) % 2)
    element = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    assert element in data
    length = struct.unpack("<I", data[140:144])[0] - len(element)
    path.write_bytes(data[:140] + struct.pack("<I", length) + data[144:].replace(element, b""))
    assert "TransferSyntaxUID" not in pydicom.dcmread(path).file_meta
    np.testing.assert_array_equal(shown(path), STORED)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", "empty_file"),
        (b"x", "undecodable"),
        (b"not DICOM" * 100, "undecodable"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "undecodable"),
        (b"\x08\x00 is how this text begins, and DICOM too", "undecodable"),
        (bytes(400), "undecodable"),
    ],
)
def test_what_is_not_dicom_is_refused(tmp_path, data, wanted):
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    assert reason(path) == wanted


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    assert reason(tmp_path / "gone.dcm") == "missing_image"
    assert reason(tmp_path) == "unreadable"


def test_a_file_that_ends_within_its_pixels_is_truncated(tmp_path):
    one = ct_slice(0, HU[0])
    one.compress(RLELossless, generate_instance_uid=False)
    path = save(one, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    assert reason(path) == "truncated"


@pytest.mark.parametrize("bare", [False, True], ids=["whole", "without preamble"])
def test_a_deflated_file_is_inflated_only_while_it_is_small(tmp_path, monkeypatch, bare):
    one = ct_slice(0, HU[0])
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(one, tmp_path / "a.dcm")
    data = path.read_bytes()
    path.write_bytes(data[132 if bare else 0 :])
    np.testing.assert_array_equal(shown(path), STORED)

    body = 144 + struct.unpack("<I", data[140:144])[0]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    inflated = zlib.decompress(data[body:], -15)
    # an element of 10 MB of zeros behind the pixels
    bomb = squeeze.compress(inflated + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", 10_000_000))
    bomb += b"".join(squeeze.compress(bytes(1_000_000)) for _ in range(10)) + squeeze.flush()
    monkeypatch.setattr(dicom, "MOST_DEFLATED", len(bomb))
    path.write_bytes((data[:body] + bomb)[132 if bare else 0 :])
    assert path.stat().st_size > dicom.MOST_DEFLATED
    assert reason(path) == "too_large"


def test_files_of_the_zoo_are_read_or_refused():
    paths = sorted(path for path in WHEEL.rglob("*") if path.is_file())
    read = 0
    for path in paths:
        try:
            dataset = dicom.read_file(path)
        except Unusable:
            continue
        read += 1
        assert dicom.modality(dataset) in (None, *dicom._STORAGE)
    assert read > 100


def test_hostile_bytes_end_in_a_reason(tmp_path):
    path = save(ct_slice(0, HU[0], OtherPatientIDsSequence=[Dataset()]), tmp_path / "a.dcm")
    data = path.read_bytes()
    header = len(data) - 2 * HU[0].size
    rng = np.random.default_rng(3)
    for _ in range(300):
        changed = bytearray(data[: rng.integers(132, len(data))] if rng.random() < 0.3 else data)
        for at in rng.integers(0, min(header, len(changed)), rng.integers(1, 6)):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        said = ""
        try:
            dataset = dicom.read_file(path)
            said = str(dicom.modality(dataset))
            dicom.check_picture(dataset)
            dicom.slice_of(dataset, path, 0, dicom.kinds_of(dataset))
        except Unusable as error:
            said += str(error)
        assert "DOE" not in said


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_pixels_may_stay_in_the_file_until_they_are_asked_for(tmp_path, syntax):
    large = np.random.default_rng(2).integers(-1000, 1000, (100, 120))
    one = ct_slice(0, large)
    if syntax == RLELossless:
        one.compress(syntax, generate_instance_uid=False)
    one.file_meta.TransferSyntaxUID = syntax
    path = save(one, tmp_path / "a.dcm")
    found = dicom.read_file(path, defer=True)
    left = found.get_item("PixelData", keep_deferred=True).value is None
    assert left == (syntax != DeflatedExplicitVRLittleEndian)
    one.PatientName = "another name"
    renamed = save(one, tmp_path / "b.dcm")
    assert dicom.digest(found, path) == dicom.digest(dicom.read_file(renamed, defer=True), renamed)
    np.testing.assert_array_equal(dicom_pixels.frame(found, path).pixels, large + 1024)


# ---- headers


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG"),
        ("1.2.840.10008.5.1.4.1.1.66.7", ""),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
        (CTImageStorage, "SEG"),
    ],
)
def test_what_marks_other_images_is_no_picture(storage, said):
    with pytest.raises(Unusable, match=r"^not_an_image: a DICOM object that marks other images"):
        dicom.check_picture(ct_slice(0, HU[0], SOPClassUID=storage, Modality=said))


@pytest.mark.parametrize(
    ("storage", "reason"),
    [(CTImageStorage, "truncated"), ("1.2.840.10008.5.1.4.1.1.481.3", "not_an_image"), ("", "not_an_image")],
)
def test_an_image_without_pixels_lost_them_and_another_object_never_had_any(storage, reason):
    one = ct_slice(0, HU[0], SOPClassUID=storage)
    dicom.check_picture(one)
    del one.PixelData
    with pytest.raises(Unusable, match=rf"^{reason}: "):
        dicom.check_picture(one)


@pytest.mark.parametrize(
    ("position", "orientation", "spacing"),
    [
        ([0, 0], [1, 0, 0, 0, 1, 0], [1, 1]),
        ([0, 0, 0], [1, 0, 0], [1, 1]),
        ([0, 0, 0], [1, 0, 0, 0.5, 0.866, 0], [1, 1]),
        ([0, 0, 0], [2, 0, 0, 0, 1, 0], [1, 1]),
        ([0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1]),
        ([0, 0, 0], [1, 0, 0, 0, 1, 0], [0, 1]),
        ([0, 0, 0], [1, 0, 0, 0, 1, 0], None),
    ],
)
def test_half_a_place_is_none(tmp_path, position, orientation, spacing):
    one = ct_slice(0, HU[0])
    one.ImagePositionPatient, one.ImageOrientationPatient, one.PixelSpacing = position, orientation, spacing
    with pytest.raises(Unusable, match=r"^no_geometry"):
        dicom.slice_of(one, tmp_path, 0, {})


def test_values_of_a_keyword_sort_numbers_before_words():
    said = ["12", 3, "b", ["2", "1"], "A", 12.5, ["10"], "nan"]
    found = sorted(said, key=dicom.kind_of)
    assert found == [3, "12", 12.5, "A", "b", "nan", ["2", "1"], ["10"]]


@pytest.mark.parametrize("before", [0, 100_000], ids=["short", "long"])
@pytest.mark.parametrize("behind", [b"", b"\0\0\0", "element"], ids=["nothing", "less than an element", "an element"])
@pytest.mark.parametrize("cut", [0, 9])
def test_a_header_parsed_from_the_beginning_of_a_file_is_that_of_the_file(tmp_path, before, behind, cut):
    """Pixels lie beyond what is read at once, before or behind another large value."""
    d = ct_slice(0, HU[0])
    d.add_new(0x00091001, "OB", bytes(before))
    pixels = np.random.default_rng(1).integers(0, 2**16, (300, 300), np.uint16)
    d.Rows, d.Columns = pixels.shape
    d.PixelData = pixels.tobytes()
    if behind == "element":
        d.add_new(0xFFFCFFFC, "OB", bytes(20))
    path = tmp_path / "a.dcm"
    d.save_as(path, enforce_file_format=True)
    whole = path.read_bytes() + (behind if isinstance(behind, bytes) else b"")
    path.write_bytes(whole[: len(whole) - cut])
    found, wanted = dicom.read_file(path, defer=True), pydicom.dcmread(str(path), defer_size=dicom.LARGE)
    assert list(found.keys()) == list(wanted.keys())
    kept = [{tag: one.get_item(tag, keep_deferred=True) for tag in list(one.keys())} for one in (found, wanted)]
    assert kept[0] == kept[1]
    assert found.file_meta == wanted.file_meta
    if not cut:
        assert found.PixelData == pixels.tobytes()
