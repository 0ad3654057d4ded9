"""DICOM data sets from end to end: series, segmentations, gaps and pictures become records without a name in them."""

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from pipeline import pictures

NAME = "DOE^JANE^SECRET"
ROWS, COLUMNS, COUNT = 20, 24, 6
SPACING, THICKNESS = (0.9, 0.7), 2.5
"""PixelSpacing: between rows, between columns."""
HU = np.random.default_rng(8).integers(-1000, 1000, (COUNT, ROWS, COLUMNS)).astype(np.int16)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES, FRAME, STUDY = generate_uid(entropy_srcs=["series"]), generate_uid(entropy_srcs=["frame"]), generate_uid()


def ct_slice(number: int, hu: np.ndarray, position=None, orientation=AXIAL, series=SERIES, **more) -> Dataset:
    normal = np.cross(orientation[:3], orientation[3:])
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = CTImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    d.PatientName, d.PatientID, d.PatientBirthDate, d.PatientSex = NAME, NAME, "19700101", "F"
    d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = STUDY, series, FRAME
    d.StudyID, d.SeriesNumber, d.InstanceNumber, d.AccessionNumber = "1", 1, number + 1, ""
    d.StudyDate, d.StudyTime, d.ReferringPhysicianName, d.Manufacturer = "20200101", "120000", "", "toy"
    d.Modality, d.PositionReferenceIndicator = "CT", ""
    d.Rows, d.Columns = hu.shape
    d.PixelSpacing, d.SliceThickness = list(SPACING), THICKNESS
    where = np.array([-10.0, -20.0, 100.0]) + normal * number * THICKNESS if position is None else np.array(position)
    d.ImagePositionPatient = [float(round(value, 6)) for value in where]
    d.ImageOrientationPatient = list(orientation)
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.RescaleIntercept, d.RescaleSlope = -1024, 1
    d.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    for key, value in more.items():
        setattr(d, key, value)
    return d


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def series(tmp_path):
    """Write a series under shuffled names; returns the paths as the plan lists them, sorted by name."""

    def make(slices, folder="s") -> list[Path]:
        names = np.random.default_rng(1).permutation(len(slices))
        return sorted(save(d, tmp_path / folder / f"{name:03d}.dcm") for d, name in zip(slices, names, strict=True))

    return make


def slices(**more) -> list[Dataset]:
    return [ct_slice(n, HU[n], **more) for n in range(COUNT)]


def described(number: int, label: str) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def seg_of(sources, masks: dict[str, np.ndarray], omit=True) -> Dataset:
    pixels = np.stack(list(masks.values()), axis=-1).astype(np.uint8)
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described(n + 1, label) for n, label in enumerate(masks)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="toy",
        manufacturer_model_name="toy",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=omit,
    )


def organ(*slabs: int) -> np.ndarray:
    mask = np.zeros(HU.shape, bool)
    for number in slabs:
        mask[number, 4 + number : 10 + number, 6:15] = True
    return mask


SOURCE = """
cases: {match: "{p}/ct/*.dcm", id: "{p}", form: series}
annotations: [{kind: seg, path: "{p}/seg.dcm"}]
limits: none
"""


def test_a_data_set_of_series_and_segmentations_is_read_without_names(data_set, series, tmp_path):
    stack, root = slices(), tmp_path / "data"
    series(stack, "data/p1/ct")
    save(seg_of(stack, {"kidney left": organ(1, 4)}), root / "p1" / "seg.dcm")
    toy = data_set(SOURCE, {}, modality="ct")
    records = toy.records()
    assert [record.id for record in records] == ["toy/p1/axial/z0001", "toy/p1/axial/z0004"]
    for record, number in zip(records, (1, 4), strict=True):
        (region,) = record.regions
        assert (region.label, region.side, region.raw) == ("kidney", "left", "kidney left")
        scale = 0.9 / 0.7  # rows are further apart than columns: square pixels stretch them
        wanted = (6, (4 + number) * round(20 * scale) / 20, 15, (10 + number) * round(20 * scale) / 20)
        assert region.box == pytest.approx(wanted)
        assert region.area_mm2 == pytest.approx(6 * 9 * 0.9 * 0.7)
        assert record.picture.window == "soft_tissue -160..240"
    assert "DOE" not in repr((records, toy.rejected(), toy.plan()))


def world_z(record) -> float:
    return record.picture.to_world[8]


def test_slices_round_a_gap_are_kept_at_their_true_place_and_other_planes_are_refused(data_set, series, tmp_path):
    stack = slices()
    series([d for n, d in enumerate(stack) if n != 3], "data/p1/ct")
    save(seg_of(stack, {"liver": organ(1, 2, 4)}), tmp_path / "data" / "p1" / "seg.dcm")
    records = data_set(SOURCE, {}, modality="ct").records()
    assert [world_z(record) for record in records] == [100 + n * THICKNESS for n in (1, 2, 4)]
    assert all("gap" in record.picture.flags for record in records)
    for record, number in zip(records, (1, 2, 4), strict=True):
        (region,) = record.regions
        assert region.box.y0 == pytest.approx((4 + number) * 26 / 20)  # 20 rows of 0.9 mm are 26 px of 0.7 mm
    turned = data_set(SOURCE + "slices: {planes: [coronal]}", {}, modality="ct")
    assert turned.reasons() == {"p1": ["uneven_stack"]}


def test_a_localizer_and_a_copy_are_rows_and_the_others_are_read(data_set, series, tmp_path):
    stack = slices()
    localizer = ct_slice(9, HU[0], orientation=(0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
    series([*stack, stack[2], localizer], "data/p1/ct")
    save(seg_of(stack, {"liver": organ(2)}), tmp_path / "data" / "p1" / "seg.dcm")
    (read,) = data_set(SOURCE, {}, modality="ct").read().values()
    assert [record.id for record in read.records] == ["toy/p1/axial/z0002"]
    assert sorted(row.reason for row in read.rejected) == ["duplicate", "localizer"]
    kept, left = len(read.records), sum(row.level == "record" for row in read.rejected)
    assert read.tally.pictures_cut == kept + read.tally.pictures_not_selected + left == COUNT + 2


FILM = """
cases: {match: "{stem}.dcm", id: "{stem}"}
tables: {t: {path: t.csv, key: file}}
annotations: [{kind: classes, value: "{t.finding}"}]
privacy: {burned_in: %s}
"""


def film(**more) -> Dataset:
    d = ct_slice(0, HU[0], SOPClassUID=DigitalXRayImageStorageForPresentation, Modality="DX", **more)
    del d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing, d.FrameOfReferenceUID
    d.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    return d


def test_a_radiograph_is_a_picture_and_text_in_its_pixels_holds_it_back(data_set, tmp_path):
    root = tmp_path / "data"
    save(film(PhotometricInterpretation="MONOCHROME1"), root / "a.dcm")
    save(film(PhotometricInterpretation="MONOCHROME2"), root / "b.dcm")
    save(film(BurnedInAnnotation="YES"), root / "c.dcm")
    table = {"t.csv": "file,finding\na,pneumonia\nb,pneumonia\nc,pneumonia\n"}
    held = data_set(FILM % "hold", table)
    one, other = held.records()
    assert [record.id for record in (one, other)] == ["toy/a/image", "toy/b/image"]
    np.testing.assert_array_equal(pictures.pixels_of(one.picture.bytes), 255 - pictures.pixels_of(other.picture.bytes))
    assert held.reasons()["c"] == ["burned_in"]
    assert len(data_set(FILM % "cleared", table).records()) == 3
    assert "DOE" not in repr((held.records(), held.rejected()))


def test_a_sagittal_series_is_cut_as_it_was_taken_and_never_across_a_gap(data_set, series, tmp_path):
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    stack = [ct_slice(n, HU[n], orientation=sagittal) for n in range(COUNT) if n != 3]
    series(stack, "data/p1/ct")
    every = "cases: {match: '{p}/ct/*.dcm', id: '{p}', form: series, unlabelled: keep}\nslices: {pick: all%s}"
    records = data_set(every % "", {}, modality="mr").records()
    assert [record.id for record in records] == [f"toy/p1/sagittal/x{n:04d}" for n in range(COUNT - 1)]
    assert {record.picture.plane for record in records} == {"sagittal"}
    places = sorted(record.picture.to_world[2] for record in records)  # x in mm, the patient's left is plus
    assert places == sorted(float(d.ImagePositionPatient[0]) for d in stack)
    assert data_set(every % ", planes: axial", {}, modality="mr").reasons() == {"p1": ["uneven_stack"]}


SLICES = """
cases: {match: "{stem}.dcm", id: "{stem}"%s}
tables: {t: {path: t.csv, key: file}}
annotations:
  - {kind: classes, value: "{t.finding}"}
"""


def test_single_slices_with_labels_and_boxes_are_pictures_where_the_descriptor_says_so(data_set, tmp_path):
    save(ct_slice(0, HU[0]), tmp_path / "data" / "a.dcm")
    boxes = "  - {kind: boxes, table: t, box: [x, y, w, h], format: xywh, label: nodule}"
    table = {"t.csv": "file,finding,x,y,w,h\na,pneumonia,3,4,6,5\n"}
    (record,) = data_set(SLICES % ", form: picture" + boxes, table, modality="ct").records()
    scale = 0.9 / 0.7  # rows of 0.9 mm, columns of 0.7 mm: 20 rows become 26 px
    found = {region.raw: (region.label, region.certain, region.box) for region in record.regions}
    assert found["pneumonia"] == ("pneumonia", True, None)
    assert found["nodule"][2] == pytest.approx((3, 4 * 26 / 20, 9, 9 * 26 / 20), abs=0.02 * scale)
    assert record.picture.spacing_mm == pytest.approx(0.7)


def test_a_label_of_a_series_of_one_slice_is_that_of_the_slice(data_set, tmp_path):
    save(ct_slice(0, HU[0]), tmp_path / "data" / "a.dcm")
    (record,) = data_set(SLICES % "", {"t.csv": "file,finding\na,pneumonia\n"}, modality="ct").records()
    assert [(region.label, region.certain) for region in record.regions] == [("pneumonia", True)]
