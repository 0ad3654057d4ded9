"""Four small data sets with known truth, one a layout: for the demo, and for tests that need an oracle.

Deterministic to the byte: fixed seeds, fixed UIDs and dates, no time in a gzip header. Nothing is symmetric, so that
a flipped axis shows. `phantom_pictures` draws the flat ones; here is the torso, organs in LPS mm, written as
NIfTI in two axis orders and as a DICOM series with a SEG.
"""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import highdicom
import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from pipeline.ingest import phantom_pictures
from pipeline.strict import dump_yaml

Field = NDArray[np.float32]
"""`(z, y, x)`, or what broadcasts to it."""
Inside = NDArray[np.bool_]
"""`(z, y, x)`: where a structure is."""
Triple = tuple[float, float, float]
"""x to the patient's left, y to the back, z to the head, in mm from the middle of the body."""

_NAMES = ("liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left", "spine", "aorta", "liver lesion")
LABELS: dict[int, str] = dict(enumerate(_NAMES, 1))
"""Id in the label map, and segment number of the SEG, to name."""
PLANTED = {"PatientName": "Planted^Name", "PatientID": "PLANTED-4711", "PatientBirthDate": "19480229"}
"""Personal data in the DICOM headers, to be found nowhere else."""

_AIR, _LUNG, _FAT, _MUSCLE, _BONE = -1000, -850, -100, 50, 400
_UID_BASE = 0x6D65_6467_6C6F_7373_0000_0000_0000_0000
"""Of UIDs as `2.25.<integer>`: "medgloss" in ASCII and a counter below it."""
_DAY, _TIME = "20240102", "030405"

_FACTS: dict[str, Any] = {
    "modality": "ct",
    "body_part": "torso",
    "slices": {"every": 4},
    "display": {"window": "soft_tissue"},
}
TORSO = phantom_pictures.descriptor(
    "phantom_torso",
    "Torsos with HU values and a label map, NIfTI in two axis orders",
    root="torso",
    cases={"match": "{case}/ct.nii.gz", "id": "{case}"},
    annotations=[{"kind": "labelmap", "path": "{case}/seg.nii.gz", "labels": LABELS, "complete": True}],
    expect={"cases": 2},
    **_FACTS,
)
TORSO_DICOM = phantom_pictures.descriptor(
    "phantom_torso_dicom",
    "The first torso as a DICOM series with a DICOM SEG",
    root="torso_dicom",
    cases={"form": "series", "match": "{case}/ct/*.dcm", "id": "{case}"},
    annotations=[{"kind": "seg", "path": "{case}/seg.dcm", "labels": {n: n for n in _NAMES}, "complete": True}],
    expect={"cases": 1},
    **_FACTS,
)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the voxels are."""

    shape: tuple[int, int, int]
    """z, y, x."""
    spacing: Triple
    """x, y, z in mm; exact in binary, so that float32 headers hold it."""
    origin: Triple
    """LPS mm of the first voxel's centre."""

    def axes(self) -> tuple[Field, Field, Field]:
        """Return x, y and z in mm from the grid's middle, shaped to broadcast to `(z, y, x)`."""
        x, y, z = (
            ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
            for count, step in zip(reversed(self.shape), self.spacing, strict=True)
        )
        return x[None, None, :], y[None, :, None], z[:, None, None]


@dataclass(frozen=True, slots=True)
class Organ:
    """A warped ellipsoid."""

    name: str
    center: Triple
    radii: Triple
    hu: int


@dataclass(frozen=True, slots=True)
class Body:
    """Who lies in the scanner."""

    name: str
    grid: Grid
    code: str
    """Axis order of the stored NIfTI in nibabel's letters: `RAS` runs to the right, the front and the head."""
    size: Triple
    """Factors on all places and radii of the body."""
    fat: float
    """Thickness of the layer under the skin, mm."""
    grown: Mapping[str, float]
    """Organ to a factor on its radii."""
    lesion: Organ
    seed: int


class Torso(NamedTuple):
    """A body as a scanner and an annotator see it."""

    hu: NDArray[np.int16]
    """`(z, y, x)` in LPS."""
    labels: NDArray[np.uint8]
    """`(z, y, x)` ids of `LABELS`, 0 elsewhere."""


BODIES = (
    Body(
        name="case_a",
        grid=Grid((80, 104, 136), (2.75, 2.75, 3.75), (-203.25, -160.5, -1012.0)),
        code="RAS",
        size=(1.0, 1.0, 1.0),
        fat=15.0,
        grown={},
        lesion=Organ("liver lesion", (-92.0, -12.0, 14.0), (12.5, 11.5, 12.0), 15),
        seed=1,
    ),
    Body(
        name="case_b",
        grid=Grid((72, 104, 128), (2.75, 2.75, 4.0), (-150.75, -171.0, 88.5)),
        code="PSR",
        size=(0.92, 0.9, 0.95),
        fat=9.0,
        grown={"liver": 0.97, "spleen": 1.2, "kidney_right": 1.08, "kidney_left": 0.93, "aorta": 1.15},
        lesion=Organ("liver lesion", (-58.0, -38.0, 2.0), (11.5, 12.5, 12.0), 15),
        seed=2,
    ),
)


def write(folder: Path) -> list[Path]:
    """Write the four data sets, a descriptor beside each, and `truth.json`.

    Every file is the same in every run, so a second call over the first changes nothing.

    Returns:
        The descriptors: chest, blood, torso, torso_dicom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, Any] = {
        "chest": phantom_pictures.write_chest(folder / "chest"),
        "blood": phantom_pictures.write_blood(folder / "blood"),
        "torso": {},
    }
    torsos = {body.name: build(body) for body in BODIES}
    for body in BODIES:
        _write_nifti(folder / "torso" / body.name, body, torsos[body.name])
        truth["torso"][body.name] = truth_of(torsos[body.name].labels, body.grid)
    first = BODIES[0]
    _write_dicom(folder / "torso_dicom" / first.name, first.grid, torsos[first.name])
    (folder / "truth.json").write_bytes(json.dumps(truth, indent=1).encode())
    return [
        _write_descriptor(folder / "chest.yaml", phantom_pictures.CHEST),
        _write_descriptor(folder / "blood.yaml", phantom_pictures.BLOOD),
        _write_descriptor(folder / "torso.yaml", TORSO),
        _write_descriptor(folder / "torso_dicom.yaml", TORSO_DICOM),
    ]


def truth_of(labels: NDArray[np.uint8], grid: Grid) -> dict[str, Any]:
    """Measure each label.

    Returns:
        Name to id, voxels, `box_mm` (LPS, low x y z and high x y z, at the voxels' outer edges) and `centroid_mm`.
    """
    found = {}
    for number, name in LABELS.items():
        at = np.argwhere(labels == number)[:, ::-1]
        spacing, origin = np.array(grid.spacing), np.array(grid.origin)
        found[name] = {
            "id": number,
            "voxels": len(at),
            "box_mm": [*(origin + (at.min(0) - 0.5) * spacing), *(origin + (at.max(0) + 0.5) * spacing)],
            "centroid_mm": list(origin + at.mean(0) * spacing),
        }
    return found


_ORGANS = (
    Organ("", (24, -38, 118), (54, 46, 58), 45),  # heart
    Organ("liver", (-66, -14, 10), (86, 78, 74), 60),
    Organ("liver", (8, -48, 24), (64, 38, 36), 60),  # its left lobe
    Organ("", (62, -34, 12), (40, 36, 44), 20),  # stomach
    Organ("spleen", (108, 30, 22), (25, 46, 48), 50),
    Organ("kidney_right", (-68, 33, -62), (27, 25, 50), 35),
    Organ("kidney_left", (70, 31, -36), (29, 26, 57), 35),
    Organ("", (-46, 29, -60), (15, 9, 18), _FAT),  # the renal sinuses, which the kidneys' label leaves out
    Organ("", (47, 27, -34), (15, 9, 20), _FAT),
    Organ("", (-36, -52, -108), (34, 26, 24), 25),  # bowel
    Organ("", (44, -56, -92), (38, 22, 20), 25),
    Organ("", (92, -10, -96), (22, 24, 40), 25),
    Organ("", (-96, -8, -112), (24, 26, 34), 25),
    Organ("", (4, -40, -136), (44, 24, 18), 25),
    Organ("", (62, -62, 16), (20, 9, 22), -900),  # gas rises to the front of stomach and bowel
    Organ("", (46, -66, -92), (18, 7, 10), -900),
    Organ("", (-98, -22, -112), (10, 7, 20), -900),
)
"""In the order in which they are laid over each other; without a name: seen, but not annotated."""


def build(body: Body) -> Torso:
    """Build a torso: fat, muscle and ribs, what is in the cavity, the spine, and the scanner's blur and noise."""
    axes = _scaled(body)
    hu = np.full(body.grid.shape, _AIR, np.float32)
    labels = np.zeros(body.grid.shape, np.uint8)
    skin = _wall(axes, body, 0)
    hu[skin] = _FAT
    hu[_wall(axes, body, body.fat)] = _MUSCLE
    _ribs(hu, axes, body)
    cavity = _wall(axes, body, body.fat + 15)
    dome = _diaphragm(axes)
    hu[cavity] = np.where(axes[2] > dome, 35, _FAT)[cavity]
    _lungs(hu, labels, axes, cavity, dome)
    _organs(hu, labels, axes, body, cavity & (axes[2] < dome - 3))
    _back(hu, labels, axes, body)
    _lay(hu, labels, body.lesion.name, body.lesion.hu, _ellipsoid(axes, body.lesion) & (labels == 1))
    return Torso(_scanned(hu, skin, body.seed), labels)


def _scaled(body: Body) -> tuple[Field, Field, Field]:
    x, y, z = (axis / np.float32(factor) for axis, factor in zip(body.grid.axes(), body.size, strict=True))
    return x, y, z


def _wall(axes: tuple[Field, Field, Field], body: Body, depth: float) -> Inside:
    """Return what lies deeper under the skin than some mm; the waist is narrower than chest and hips."""
    x, y, z = axes
    waist = 1 - 0.05 * np.exp(-(((z + 60) / 60) ** 2))
    across, along = np.abs(x / (166 * waist - depth / body.size[0])), np.abs((y + 3) / (114 - depth / body.size[1]))
    return np.asarray(across**2.4 + along**2.4 < 1)


def _ribs(hu: Field, axes: tuple[Field, Field, Field], body: Body) -> None:
    """Lay rings that slope down to the front into the chest wall."""
    _, y, z = axes
    level = z - 0.35 * y
    ring = _wall(axes, body, body.fat + 3) & ~_wall(axes, body, body.fat + 12)
    hu[ring & (np.mod(level, 27) < 10) & (level > -40)] = 330


def _diaphragm(axes: tuple[Field, Field, Field]) -> Field:
    """Return the height of the two domes over x and y; the right one is higher, for the liver."""
    x, y, _ = axes
    right = 92 - 0.0062 * (x + 66) ** 2
    left = 76 - 0.0062 * (x - 70) ** 2
    return np.asarray(np.maximum(right, left) - 0.0058 * (y + 8) ** 2, np.float32)


def _lungs(hu: Field, labels: NDArray[np.uint8], axes: tuple[Field, Field, Field], cavity: Inside, dome: Field) -> None:
    for name, side in (("lung_right", -1), ("lung_left", 1)):
        lung = Organ(name, (73.0 * side, 2, 100), (58, 84, 150), _LUNG)
        _lay(hu, labels, name, _LUNG, _ellipsoid(axes, lung) & cavity & (axes[2] > dome + 3))


def _organs(hu: Field, labels: NDArray[np.uint8], axes: tuple[Field, Field, Field], body: Body, room: Inside) -> None:
    """Lay the organs: the heart above the diaphragm, the others in the room below it."""
    for organ in _ORGANS:
        factor = body.grown.get(organ.name, 1.0)
        x, y, z = organ.radii
        inside = _ellipsoid(axes, replace(organ, radii=(x * factor, y * factor, z * factor)))
        _lay(hu, labels, organ.name, organ.hu, inside if organ.center[2] > 100 else inside & room)


def _back(hu: Field, labels: NDArray[np.uint8], axes: tuple[Field, Field, Field], body: Body) -> None:
    """Lay what runs from head to foot: muscles of the back, great vessels, the spine and its canal."""
    x, y, z = axes
    bend = 3 * np.sin(z / 60)
    behind = y - bend
    for side in (-1, 1):
        psoas = _column(x - 36 * side, behind - 50, (15, 19)) & (z < -30)
        _lay(hu, labels, "", 55, psoas | _column(x - 32 * side, behind - 74, (27, 19)))
    _lay(hu, labels, "", 110, _column(x + 19, behind - 24, (10.5, 9)) & (z < 60))  # vena cava
    vessel = 11.5 * body.grown.get("aorta", 1.0)
    _lay(hu, labels, "aorta", 150, _column(x - 16, behind - 24, (vessel, vessel)))
    front, arch, process = ((54, 22, 17), (76, 18, 13), (90, 4, 12))
    bone = [_column(x, behind - at, (wide, deep)) for at, wide, deep in (front, arch, process)]
    _lay(hu, labels, "spine", _BONE, bone[0] | bone[1] | bone[2])
    disc = _column(x, behind - 54, (21, 16)) & (np.mod(z + 4, 33) < 7)
    _lay(hu, labels, "spine", 95, disc)
    _lay(hu, labels, "", 25, _column(x, behind - 77, (10, 8)))  # canal


def _column(dx: Field, dy: Field, radii: tuple[float, float]) -> Inside:
    return np.asarray((dx / radii[0]) ** 2 + (dy / radii[1]) ** 2 < 1)


def _ellipsoid(axes: tuple[Field, Field, Field], organ: Organ) -> Inside:
    """Return an ellipsoid bent by waves, each organ by its own."""
    x, y, z = (axis - np.float32(at) for axis, at in zip(axes, organ.center, strict=True))
    phase, reach = organ.center[0] / 17, 0.09 * min(organ.radii)
    bent_x = x + reach * (np.sin(y / 24 + phase) + np.sin(z / 31 - phase))
    bent_y = y + reach * (np.sin(x / 26 + phase) + np.cos(z / 29 + phase))
    bent_z = z + reach * np.sin(x / 33 - phase)
    a, b, c = organ.radii
    return np.asarray((bent_x / a) ** 2 + (bent_y / b) ** 2 + (bent_z / c) ** 2 < 1)


def _lay(hu: Field, labels: NDArray[np.uint8], name: str, value: int, inside: Inside) -> None:
    """Put a structure over what is there; one without a name takes the label away."""
    hu[inside] = value
    labels[inside] = next((number for number, label in LABELS.items() if label == name), 0)


def _scanned(hu: Field, skin: Inside, seed: int) -> NDArray[np.int16]:
    """Blur edges as a scanner's point spread does and add noise of 12 HU; the air outside stays bare, as if masked."""
    fine = _blurred(np.random.default_rng([30, seed]).standard_normal(hu.shape, np.float32))
    # a CT's ramp filter leaves little noise at low frequencies: regions keep their mean
    noise = fine - _blurred(_blurred(fine))
    seen = _blurred(hu) + 12 / noise.std() * noise * skin
    return np.asarray(np.rint(np.clip(seen, -1024, 3071)), np.int16)


def _blurred(values: Field) -> Field:
    """Weight neighbours 1 2 1 along y and x."""
    return np.stack([cv2.GaussianBlur(plane, (3, 3), 0) for plane in values]).astype(np.float32, copy=False)


def _write_descriptor(path: Path, descriptor: Mapping[str, Any]) -> Path:
    path.write_bytes(dump_yaml(dict(descriptor)).encode())
    return path


def _write_nifti(folder: Path, body: Body, torso: Torso) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, volume in (("ct", torso.hu), ("seg", torso.labels)):
        image = _nifti(volume, body.grid, body.code)
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(image.to_bytes(), 4, mtime=0))


def _nifti(volume: NDArray[Any], grid: Grid, code: str) -> Any:
    """Store an LPS volume in another axis order; NIfTI's world is RAS, so x and y change their sign."""
    affine = np.diag([-grid.spacing[0], -grid.spacing[1], grid.spacing[2], 1.0])
    affine[:3, 3] = np.array(grid.origin) * (-1, -1, 1)
    image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine)
    stored = nibabel.io_orientation(affine)
    turn = nibabel.orientations.ornt_transform(stored, nibabel.orientations.axcodes2ornt(code))
    image = image.as_reoriented(turn)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    return image


def _uid(number: int) -> UID:
    return UID(f"2.25.{_UID_BASE + number}")


def _write_dicom(folder: Path, grid: Grid, torso: Torso) -> None:
    """Write a series whose file names and instance numbers are not in the order of the slices, and its SEG."""
    (folder / "ct").mkdir(parents=True, exist_ok=True)
    count = grid.shape[0]
    slices = [_slice(torso.hu[k], grid, k) for k in range(count)]
    for k, dataset in enumerate(slices):
        # 37 has no divisor in common with the count, so the names are a permutation
        path = folder / "ct" / f"IM{k * 37 % count + 1:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
    _segmentation(slices, torso.labels).save_as(folder / "seg.dcm")


def _slice(hu: NDArray[np.int16], grid: Grid, k: int) -> Dataset:
    """Return one CT slice with the attributes that its readers ask for."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = _uid(1000 + k)
    x, y, z = grid.origin
    # fmt: off
    values = {
        **PLANTED, "PatientSex": "F", "AccessionNumber": "", "ReferringPhysicianName": "", "PatientPosition": "HFS",
        "StudyInstanceUID": _uid(1), "SeriesInstanceUID": _uid(2), "FrameOfReferenceUID": _uid(3),
        "StudyID": "1", "StudyDate": _DAY, "StudyTime": _TIME, "SeriesNumber": 1, "AcquisitionNumber": 1,
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": _uid(1000 + k), "InstanceNumber": grid.shape[0] - k,
        "Modality": "CT", "Manufacturer": "medgloss", "ImageType": ["DERIVED", "SECONDARY", "AXIAL"], "KVP": 120,
        "PositionReferenceIndicator": "", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [x, y, z + k * grid.spacing[2]],
        "PixelSpacing": [grid.spacing[1], grid.spacing[0]], "SliceThickness": grid.spacing[2],
        "Rows": grid.shape[1], "Columns": grid.shape[2], "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "HU",
    }
    # fmt: on
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    return dataset


def _segmentation(slices: list[Dataset], labels: NDArray[np.uint8]) -> Any:
    seg = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=[_segment(number, name) for number, name in LABELS.items()],
        series_instance_uid=_uid(4),
        series_number=2,
        sop_instance_uid=_uid(5),
        instance_number=1,
        manufacturer="medgloss",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        content_label="TORSO",
        series_description="Organs of the torso",
    )
    return _without_clock(seg)


def _segment(number: int, label: str) -> Any:
    """Describe a segment with SNOMED CT codes; a side is a modifier of the organ's code."""
    organ, _, side = label.partition("_")
    lesion = label == "liver lesion"
    kind = codes.SCT.MorphologicallyAbnormalStructure if lesion else codes.SCT.AnatomicalStructure
    found = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=kind,
        segmented_property_type=codes.SCT.Lesion if lesion else getattr(codes.SCT, organ.capitalize()),
        algorithm_type="MANUAL",
        anatomic_regions=[codes.SCT.Liver] if lesion else None,
    )
    if side:
        # highdicom has no argument for it; it belongs into the type's own item (PS3.3 table C.8.20-4)
        coded = highdicom.sr.CodedConcept.from_code(getattr(codes.SCT, side.capitalize()))
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = Items([coded])
    return found


def _without_clock(seg: Any) -> Any:
    """Put fixed values where highdicom writes the time of day and random UIDs."""
    for keyword in ("ContentDate", "InstanceCreationDate"):
        setattr(seg, keyword, _DAY)
    for keyword in ("ContentTime", "InstanceCreationTime"):
        setattr(seg, keyword, _TIME)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = _uid(6)
    for item in seg.get("ContributingEquipmentSequence", ()):
        item.ContributionDateTime = f"{_DAY}{_TIME}"
    return seg
