"""Lines on DICOM: pixels decoded, headers read; and the programs that are compared.

`python -m benchmarks.dicom MODE FOLDER` reads the files of a folder: `decode_ours`, `decode_pydicom`,
`decode_simpleitk`, `headers_ours`, `headers_pydicom`.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from benchmarks import anatomy, cost
from benchmarks.anatomy import SPACING
from benchmarks.bench import SLICES, Bench, say
from benchmarks.cost import Failed, Told, median

SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg_ls": JPEGLSLossless,
    "jpeg_2000": JPEG2000Lossless,
}
UNIQUE, FEWER = 60, 100
"""Slices that differ; files of JPEG 2000, which takes long."""
HEADERS = 10_000
TAGS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "SeriesNumber", "AcquisitionNumber", "AcquisitionTime", "ImagePositionPatient", "PixelSpacing",
    "ImageOrientationPatient", "SliceThickness", "Rows", "Columns", "NumberOfFrames", "KVP", "ConvolutionKernel",
)  # fmt: skip
"""What a user would ask of each file to sort it into series."""


# ---- files


def header() -> Dataset:
    """Return what the slices of a series have in common: about as much as a scanner writes."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.SOPClassUID = found.file_meta.MediaStorageSOPClassUID = CTImageStorage
    found.ImageType, found.Modality, found.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "None"
    found.StudyDate = found.SeriesDate = found.AcquisitionDate = found.ContentDate = "20260101"
    found.StudyTime = found.SeriesTime = found.AcquisitionTime = found.ContentTime = "120000"
    found.AccessionNumber, found.ReferringPhysicianName, found.InstitutionName = "1", "", "Nowhere"
    found.StudyDescription, found.SeriesDescription, found.ProtocolName = "Abdomen", "Portal 1.5 mm", "Abdomen"
    found.ManufacturerModelName, found.DeviceSerialNumber, found.SoftwareVersions = "Made up", "1", "1.0"
    found.PatientName, found.PatientID, found.PatientBirthDate, found.PatientSex = "None", "1", "19700101", "F"
    found.PatientAge, found.PatientWeight, found.BodyPartExamined, found.PatientPosition = "056Y", 70, "ABDOMEN", "HFS"
    found.SliceThickness, found.KVP, found.DataCollectionDiameter, found.ReconstructionDiameter = 1.5, 120, 500, 400
    found.ExposureTime, found.XRayTubeCurrent, found.Exposure, found.FilterType = 500, 200, 100, "0"
    found.GantryDetectorTilt, found.TableHeight, found.RotationDirection, found.ConvolutionKernel = 0, 150, "CW", "B30f"
    found.StudyInstanceUID, found.SeriesInstanceUID, found.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    found.StudyID, found.SeriesNumber, found.AcquisitionNumber, found.PositionReferenceIndicator = "1", 2, 1, ""
    found.ImageOrientationPatient, found.PixelSpacing = [1, 0, 0, 0, 1, 0], list(SPACING[:2])
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 16, 16, 15, 0
    found.WindowCenter, found.WindowWidth, found.RescaleIntercept, found.RescaleSlope = 40, 400, -1024, 1
    return found


def write(folder: Path, planes: NDArray[np.int16], count: int, syntax: UID) -> Path:
    """Write a series of so many slices; pixels repeat, there and back, and are encoded once."""
    folder.mkdir(parents=True)
    encoded = []
    for plane in planes:
        one = header()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.Rows, one.Columns = plane.shape
        one.PixelData = (plane.astype(np.int32) + 1024).astype("<u2").tobytes()
        if syntax != ExplicitVRLittleEndian:
            one.compress(syntax, generate_instance_uid=False)
        encoded.append(one)
    common = header()
    for number, at in enumerate(anatomy.ping_pong(len(planes), count)):
        one = copy.copy(encoded[at])
        one.SeriesInstanceUID, one.FrameOfReferenceUID = common.SeriesInstanceUID, common.FrameOfReferenceUID
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber, one.ImagePositionPatient = number + 1, [-200.0, -200.0, number * SPACING[2]]
        one.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)
    return folder


# ---- programs


def decode_ours(paths: Sequence[Path]) -> int:
    """Assemble the series as ingest does: headers, order, intensities."""
    from pipeline.ingest import series  # only here: it takes most of pydicom's decoders away, the fastest among them

    (stack,) = series.read(paths).stacks
    return len(stack.sops)


def decode_pydicom(paths: Sequence[Path]) -> int:
    """Decode each file and put it into an array, in the order of names."""
    first = pydicom.dcmread(paths[0]).pixel_array
    array = np.empty((len(paths), *first.shape), first.dtype)
    for number, path in enumerate(paths):
        array[number] = pydicom.dcmread(path).pixel_array
    return len(array)


def decode_simpleitk(paths: Sequence[Path]) -> int:
    """Read the files as one series."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    return int(reader.Execute().GetDepth())


def headers_ours(paths: Sequence[Path]) -> int:
    """Read each header and where its slice lies, as ingest does before it decodes, a series at a time."""
    from pipeline.ingest import dicom

    def slices(paths: Sequence[Path]) -> Iterator[Any]:
        for path in paths:
            dataset = dicom.read_file(path, defer=True)
            dicom.check_picture(dataset)
            yield dicom.slice_of(dataset, path, 0, dicom.kinds_of(dataset))

    return sum(len(list(slices(series))) for series in _series(paths))


def headers_pydicom(paths: Sequence[Path]) -> int:
    """Read some tags of each file and do nothing with them, a series at a time."""
    return sum(
        len([pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS)) for path in series])
        for series in _series(paths)
    )


def _series(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Part files: nobody holds ten thousand headers, and Python's collector would walk through them again and again."""
    return [paths[start : start + SLICES] for start in range(0, len(paths), SLICES)]


PROGRAMS = {
    program.__name__: program
    for program in (decode_ours, decode_pydicom, decode_simpleitk, headers_ours, headers_pydicom)
}


def main(mode: str, folder: str) -> None:
    """Run a program and tell what it cost."""
    cost.prepare()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    paths = sorted(Path(folder).iterdir())
    PROGRAMS[mode](paths[:3])  # decoders are imported when they are needed
    told: Told = {}
    with cost.measured(told):
        told["files"] = PROGRAMS[mode](paths)
    cost.tell(told)


# ---- lines


def decode(bench: Bench) -> Told:
    """Decode a series of each transfer syntax: ours against pydicom or SimpleITK, the faster."""
    planes = bench.volume(24, UNIQUE).hu
    found: Told = {}
    for name, syntax in SYNTAXES.items():
        count = FEWER if name == "jpeg_2000" else SLICES
        folder = write(bench.new("dicom"), planes, count, syntax)
        say(f"    {name}:")
        cpu = _cpu(bench, folder, ("decode_pydicom", "decode_simpleitk", "decode_ours"))
        bare = min(cpu["decode_pydicom"], cpu["decode_simpleitk"])
        found |= {f"{name}_ratio": bare / cpu["decode_ours"]}
        found |= {f"{name}_{program.removeprefix('decode_')}_cpu_s": seconds for program, seconds in cpu.items()}
    return {"least_ratio": min(found[f"{name}_ratio"] for name in SYNTAXES), **found}


def headers(bench: Bench) -> Told:
    """Read the headers of ten thousand files: ours against bare reading of some tags."""
    planes = bench.volume(24, UNIQUE).hu[:, :16, :16]
    folder = write(bench.new("dicom"), planes, HEADERS, ExplicitVRLittleEndian)
    cpu = _cpu(bench, folder, ("headers_pydicom", "headers_ours"))
    ours = cpu["headers_ours"]
    return {"ratio": cpu["headers_pydicom"] / ours, "cpu_s": ours, "pydicom_cpu_s": cpu["headers_pydicom"]}


def _cpu(bench: Bench, folder: Path, modes: Sequence[str]) -> dict[str, float]:
    told = bench.in_turn({mode: partial(cost.run, "-m", "benchmarks.dicom", mode, folder) for mode in modes})
    if len({one["files"] for each in told.values() for one in each}) != 1:
        raise Failed(f"{', '.join(modes)} did not read the same files")
    return {mode: median(each) for mode, each in told.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
