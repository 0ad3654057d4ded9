"""Enhanced multi-frame DICOM: place, slope and window of each frame; highdicom and SimpleITK are the oracles."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, LegacyConvertedEnhancedCTImageStorage
from test_series import AXES, AXIAL, COUNT, FRAME, HU, NAME, SPACING, STEP, STUDY, ct_slice, only, refused, save, slices

from pipeline.errors import Unusable
from pipeline.ingest import dicom, enhanced, series

STORED = HU.astype(np.int32) + 1024


def item(**values) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def group(**sequences) -> Dataset:
    """A functional group: keyword of each sequence to the attributes of its one item."""
    return item(**{keyword: Sequence([item(**inside)]) for keyword, inside in sequences.items()})


def place(z: float, number: int = 1, **content) -> Dataset:
    return group(
        PlanePositionSequence={"ImagePositionPatient": [-10.0, -20.0, z]},
        FrameContentSequence={"StackID": "1", "InStackPositionNumber": number, **content},
    )


def multi_frame(stored: np.ndarray, frames: list[Dataset], shared: Dataset | None = None, **more) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    d.PatientName = d.PatientID = NAME
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY, "1.2.826.0.1.3680043.8.498.78", FRAME
    d.Modality, d.SeriesNumber, d.InstanceNumber = "MR", 1, 1
    d.PatientBirthDate = d.PatientSex = d.StudyDate = d.StudyTime = d.AccessionNumber = d.StudyID = ""
    d.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    d.NumberOfFrames, d.Rows, d.Columns = stored.shape
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.PixelData = stored.astype("<u2").tobytes()
    if shared is None:
        shared = group(
            PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
            PixelMeasuresSequence={"PixelSpacing": list(SPACING), "SliceThickness": 9.0, "SpacingBetweenSlices": 8.0},
        )
    d.SharedFunctionalGroupsSequence = Sequence([shared])
    d.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for keyword, value in more.items():
        setattr(d, keyword, value)
    return d


def dimensions(*keywords: str) -> Sequence:
    found = [item(DimensionIndexPointer=tag_for_keyword(keyword)) for keyword in keywords]
    return Sequence(found)


def read(dataset: Dataset, tmp_path: Path) -> series.Assembled:
    return series.read([save(dataset, tmp_path / "mf.dcm")])


ORDER = np.random.default_rng(5).permutation(COUNT)
"""Frames of a file need not stand in the order of the stack."""


def shuffled(slopes=lambda n: (1 + n / 4, -10.0 * n)) -> Dataset:
    """Each frame with its own slope, in no order."""
    frames = []
    for n in ORDER.tolist():
        one = place(100 + n * STEP, n + 1)
        slope, intercept = slopes(n)
        transform = {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
        one.PixelValueTransformationSequence = Sequence([item(**transform)])
        frames.append(one)
    return multi_frame(STORED[ORDER], frames)


def test_shuffled_frames_with_slopes_of_their_own_are_placed_and_scaled(tmp_path):
    found = only(read(shuffled(), tmp_path))
    slopes, intercepts = 1 + np.arange(COUNT)[:, None, None] / 4, -10.0 * np.arange(COUNT)[:, None, None]
    np.testing.assert_allclose(found.volume.array, STORED * slopes + intercepts, rtol=1e-6)
    np.testing.assert_allclose(found.volume.spacing, (0.7, 0.9, STEP))
    np.testing.assert_allclose(found.volume.affine[:3, 3], (-10, -20, 100))
    assert (found.volume.flags, found.modality) == ((), "MR")
    assert found.sops == ("1.2.826.0.1.3680043.8.498.77",) * COUNT


def test_highdicom_gives_the_same_values_at_the_same_places(tmp_path):
    path = save(shuffled(), tmp_path / "mf.dcm")
    ours = only(series.read([path])).volume
    believed = shuffled()
    del believed.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices  # it is wrong
    theirs = hd.imread(save(believed, tmp_path / "hd.dcm")).get_volume(apply_modality_transform=True)
    for index in np.ndindex(3, 3, 3):
        x, y, z = (int(i * (n - 1) / 2) for i, n in zip(index, ours.array.shape[::-1], strict=True))
        there = np.linalg.inv(theirs.affine) @ ours.affine @ [x, y, z, 1]
        value = theirs.array[tuple(np.rint(there[:3]).astype(int))]
        np.testing.assert_allclose(there, np.rint(there), atol=1e-6)
        assert ours.array[z, y, x] == pytest.approx(value, rel=1e-6)


def test_simpleitk_gives_the_same_hu_where_one_slope_holds_for_all(tmp_path):
    shared = group(
        PlaneOrientationSequence={"ImageOrientationPatient": list(AXIAL)},
        PixelMeasuresSequence={"PixelSpacing": list(SPACING), "SliceThickness": STEP},
        PixelValueTransformationSequence={"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"},
        FrameVOILUTSequence={"WindowCenter": 40, "WindowWidth": 400},
    )
    frames = [place(100 + n * STEP, n + 1) for n in range(COUNT)]
    storage = LegacyConvertedEnhancedCTImageStorage
    path = save(multi_frame(STORED, frames, shared, SOPClassUID=storage, Modality="CT"), tmp_path / "mf.dcm")
    found = only(series.read([path]))
    np.testing.assert_array_equal(found.volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert found.volume.array.dtype == np.int16
    assert [(one.bounds.low, one.bounds.high) for one in found.voi] == [(40 - 0.5 - 199.5, 40 - 0.5 + 199.5)]


@pytest.mark.parametrize("orientation", AXES[::5])
def test_a_series_that_highdicom_converts_stays_the_same_volume(tmp_path, orientation):
    stack = slices(orientation=orientation)
    paths = [save(d, tmp_path / f"{n}.dcm") for n, d in enumerate(stack)]
    how = {"series_instance_uid": "1.2.3", "series_number": 2, "sop_instance_uid": "1.2.3.4", "instance_number": 1}
    legacy = hd.legacy.LegacyConvertedEnhancedCTImage(stack[::-1], **how)
    one, other = only(series.read(paths)).volume, only(read(legacy, tmp_path)).volume
    np.testing.assert_array_equal(other.array, one.array)
    np.testing.assert_allclose(other.affine, one.affine)


def test_a_missing_frame_is_a_gap(tmp_path):
    kept = [n for n in range(COUNT) if n != 3]
    found = only(read(multi_frame(STORED[kept], [place(n * STEP) for n in kept]), tmp_path))
    assert found.volume.flags == ("gap",)
    np.testing.assert_allclose(found.volume.shifts[:, 2], [0, 0, 0, *[STEP] * 4])


@pytest.mark.parametrize(
    "told",
    [
        {"content": lambda k: {"TemporalPositionIndex": k + 1}},
        {"group": lambda k: {"MREchoSequence": {"EffectiveEchoTime": 4.6 * (k + 1)}}},
        {
            "group": lambda k: {
                "MRDiffusionSequence": {"DiffusionBValue": 1000.0 * k, "DiffusionDirectionality": "NONE"}
            }
        },
        {"group": lambda k: {"MRImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "X", "AB"[k]]}}},
        {"content": lambda k: {"DimensionIndexValues": [1, k + 1]}},
    ],
    ids=["time", "echo", "b value", "type", "an own dimension"],
)
def test_frames_of_one_place_become_volumes_of_their_own(tmp_path, told):
    frames, stored = [], []
    for n in ORDER.tolist():
        for k in (1, 0):
            one = place(n * STEP, n + 1, **told.get("content", lambda k: {})(k))
            for keyword, inside in told.get("group", lambda k: {})(k).items():
                setattr(one, keyword, Sequence([item(**inside)]))
            frames.append(one)
            stored.append(STORED[n] + 5000 * k)
    more = {"DimensionIndexSequence": dimensions("InStackPositionNumber", "TubeAngle")}
    found = read(multi_frame(np.stack(stored), frames, **more), tmp_path)
    assert [one.name for one in found.stacks] == ["s0", "s1"]
    for k, one in enumerate(found.stacks):
        np.testing.assert_array_equal(one.volume.array, STORED + 5000 * k)


def test_stacks_of_one_file_stay_apart_where_they_touch(tmp_path):
    frames = [place(n * STEP, StackID="1" if n < 5 else "2") for n in range(COUNT)]
    found = read(multi_frame(STORED, frames), tmp_path)
    assert [len(one.volume.array) for one in found.stacks] == [5, 3]


def test_each_frame_may_have_a_direction_of_its_own(tmp_path):
    frames = [place(n * STEP) for n in range(COUNT)]
    for n, one in enumerate(frames):
        axes = [1, 0, 0, 0, 1, 0] if n < 4 else [0, 1, 0, 0, 0, -1]
        one.PlaneOrientationSequence = Sequence([item(ImageOrientationPatient=axes)])
        if n >= 4:
            one.PlanePositionSequence[0].ImagePositionPatient = [n * STEP, -20, 100]
    shared = group(PixelMeasuresSequence={"PixelSpacing": list(SPACING)})
    found = read(multi_frame(STORED, frames, shared), tmp_path)
    assert sorted(one.volume.stack for one in found.stacks) == [0, 2]


def test_frames_of_two_files_are_one_volume(tmp_path):
    parts = [range(COUNT)[k::2] for k in range(2)]
    paths = [
        save(
            multi_frame(STORED[list(part)], [place(n * STEP) for n in part], SOPInstanceUID=f"1.2.{k}"),
            tmp_path / f"{k}.dcm",
        )
        for k, part in enumerate(parts)
    ]
    found = only(series.read(paths))
    np.testing.assert_array_equal(found.volume.array, STORED)
    assert found.sops == ("1.2.0", "1.2.1") * (COUNT // 2)


def test_a_file_that_is_there_twice_counts_once(tmp_path):
    one = shuffled()
    paths = [save(one, tmp_path / f"{n}.dcm") for n in range(2)]
    found = series.read(paths)
    assert only(found).volume.array.shape == HU.shape
    assert [(row.reason, row.count) for row in found.left_out] == [("duplicate", COUNT)]


def test_compressed_frames_are_decoded(tmp_path):
    one = multi_frame(STORED[ORDER], [place(n * STEP) for n in ORDER.tolist()])
    one.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    np.testing.assert_array_equal(only(read(one, tmp_path)).volume.array, STORED)


@pytest.mark.parametrize("where", ["nowhere", "one frame", "no direction"])
def test_frames_without_a_place_are_planar(tmp_path, where):
    frames = [place(n * STEP) for n in range(COUNT)]
    for one in {"nowhere": frames, "one frame": frames[2:3], "no direction": []}[where]:
        del one.PlanePositionSequence
    shared = group(PixelMeasuresSequence={"PixelSpacing": list(SPACING)}) if where == "no direction" else None
    found = read(multi_frame(STORED, frames, shared), tmp_path)
    assert found == series.Assembled((), (tmp_path / "mf.dcm",), ())


def test_as_many_frames_must_be_described_as_there_are(tmp_path):
    path = save(multi_frame(STORED, [place(n * STEP) for n in range(COUNT - 1)]), tmp_path / "mf.dcm")
    assert (refused([path]).reason, refused([path]).detail) == ("undecodable", "8 frames, and 7 are described")


def test_pixels_that_end_too_early_are_truncated(tmp_path):
    one = multi_frame(STORED, [place(n * STEP) for n in range(COUNT)])
    one.PixelData = one.PixelData[:-200]
    path = save(one, tmp_path / "mf.dcm")
    assert refused([path]).reason == "truncated"
    beside = [save(d, tmp_path / f"{n}.dcm") for n, d in enumerate(slices())]
    assert [(row.reason, row.count) for row in series.read([path, *beside]).left_out] == [("truncated", COUNT)]


def test_a_plain_file_is_not_enhanced():
    assert not enhanced.is_enhanced(ct_slice(0, HU[0]))


def test_hostile_groups_end_in_a_reason(tmp_path):
    path = save(shuffled(), tmp_path / "mf.dcm")
    data = path.read_bytes()
    rng = np.random.default_rng(4)
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(300, len(data) - 2 * STORED.size, 4):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            found = series.read([path])
            said = repr([(one.name, one.modality, one.background) for one in found.stacks])
        except Unusable as error:
            said = str(error)
        assert "DOE" not in said


def test_the_real_reader_is_asked_frame_by_frame(tmp_path):
    path = save(shuffled(), tmp_path / "mf.dcm")
    found = enhanced.slices(dicom.read_file(path), path)
    assert [one.frame for one in found] == list(range(COUNT))
    assert [one.position[2] for one in found] == [100 + n * STEP for n in ORDER]
    assert {one.thickness for one in found} == {9.0}
