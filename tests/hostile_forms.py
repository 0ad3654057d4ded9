"""Small sound data sets of every form that a case can have, one file of which the tests damage."""

import io
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import SimpleITK as sitk
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from test_contours import struct as rtstruct
from test_dicom_pixels import dicom_file
from test_segments import seg_of
from test_series import ct_slice

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (30, 40), dtype=np.uint8)
DEEP = RNG.integers(0, 60_000, (30, 40), dtype=np.uint16)
HU = RNG.integers(-900, 900, (4, 30, 40)).astype(np.int16)
"""`(z, y, x)`."""
LABELS = np.zeros((4, 30, 40), np.uint8)
LABELS[1:3, 5:20, 8:30] = 1
COLOURS = np.ascontiguousarray(RNG.integers(0, 256, (6, 48, 64, 3), dtype=np.uint8))

CLASS = "annotations: [{kind: classes, value: pneumonia}]\nlimits: none\n"


class Form(NamedTuple):
    """A sound case; `{}` in a name stands for the case."""

    yaml: str
    files: Mapping[str, bytes]
    damaged: str
    """The file that tests damage."""
    modality: str = "xray"
    partly: bool = False
    """What is damaged is only a part of the case: the rest of it may be kept."""

    def of(self, case: str, data: bytes | None = None) -> dict[str, bytes]:
        """Return the files of a case, one of them with other content."""
        held = {name.format(case): content for name, content in self.files.items()}
        return held if data is None else {**held, self.damaged.format(case): data}


def pictures(name: str, data: bytes) -> Form:
    return Form(f'cases: {{match: "{{stem}}{Path(name).suffix}", id: "{{stem}}"}}\n{CLASS}', {name: data}, name)


def on_picture(annotation: str, name: str, data: bytes) -> Form:
    yaml = f'cases: {{match: "{{stem}}.png", id: "{{stem}}"}}\nannotations: [{annotation}]\nlimits: none\n'
    return Form(yaml, {"{}.png": encoded(GREY, "PNG"), name: data}, name)


def on_volume(annotation: str, name: str, data: bytes) -> Form:
    yaml = f'cases: {{match: "{{stem}}_ct.nii.gz", id: "{{stem}}"}}\nannotations: [{annotation}]\nlimits: none\n'
    return Form(yaml, {"{}_ct.nii.gz": nifti(HU), name: data}, name, "ct")


def volumes(name: str, data: bytes, **more: bytes) -> Form:
    suffix = name.removeprefix("{}")
    yaml = f'cases: {{match: "{{case}}{suffix}", id: "{{case}}"}}\nslices: {{pick: all}}\n{CLASS}'
    return Form(yaml, {name: data, **{f"{{}}.{key}": held for key, held in more.items()}}, name, "ct")


def encoded(pixels: np.ndarray, form: str, **how: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, form, **how)
    return sink.getvalue()


def written(write: Callable[[Path], Any], name: str) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def nifti(array: np.ndarray, suffix: str = ".nii.gz") -> bytes:
    image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.5, -1.5, 3, 1]), dtype=array.dtype)
    return written(lambda path: nib.save(image, path), f"a{suffix}")


def by_itk(array: np.ndarray, name: str, packed: bool = True) -> bytes:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.5, 3.0))
    return written(lambda path: sitk.WriteImage(image, str(path), packed), name)


def video(name: str, codec: str) -> bytes:
    def write(path: Path) -> None:
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), 5, (64, 48))
        assert writer.isOpened()
        for picture in COLOURS:
            writer.write(picture)
        writer.release()

    return written(write, name)


def gif() -> bytes:
    sink = io.BytesIO()
    first, *rest = [Image.fromarray(picture) for picture in COLOURS]
    first.save(sink, "GIF", save_all=True, append_images=rest, duration=200)
    return sink.getvalue()


def film(syntax: Any = None, **tags: Any) -> bytes:
    def write(path: Path) -> None:
        dicom_file(DEEP, path, **tags)
        if syntax is not None:
            dataset = pydicom.dcmread(path)
            if syntax.is_compressed and not syntax.is_deflated:
                dataset.compress(syntax)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.save_as(path)

    return written(write, "a.dcm")


def packed_film(codestream: bytes, syntax: Any) -> bytes:
    """A film whose only frame is a codestream."""

    def write(path: Path) -> None:
        dataset = pydicom.dcmread(dicom_file(GREY, path))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([codestream])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)

    return written(write, "a.dcm")


def ct_slices() -> list[pydicom.Dataset]:
    place = {"PixelSpacing": [1.5, 1.5], "SliceThickness": 3.0}
    return [ct_slice(n, HU[n], (0, 0, 3.0 * n), **place) for n in range(len(HU))]


def saved(dataset: pydicom.Dataset) -> bytes:
    return written(lambda path: dataset.save_as(path, enforce_file_format=True), "a.dcm")


def on_series(annotation: str, marks: bytes | None) -> Form:
    yaml = 'cases: {match: "{case}/s/*.dcm", id: "{case}", form: series}\nslices: {pick: all}\n'
    yaml += f"annotations: [{annotation}]\nlimits: none\n"
    files = {f"{{}}/s/{n}.dcm": saved(one) for n, one in enumerate(ct_slices())}
    if marks is None:
        return Form(yaml, files, "{}/s/1.dcm", "ct", partly=True)
    return Form(yaml, {**files, "{}/marks.dcm": marks}, "{}/marks.dcm", "ct")


def outline() -> np.ndarray:
    return np.array([(x * 1.5, y * 1.5, 3.0) for x, y in ((7.5, 4.5), (29.5, 4.5), (29.5, 19.5), (7.5, 19.5))])


def arrays(packed: bool = True, **held: np.ndarray) -> bytes:
    sink = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(sink, **held)
    return sink.getvalue()


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def parquet() -> bytes:
    cells = [{"bytes": encoded(GREY, "PNG"), "path": "a.png"}] * 3
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": cells, "label": [0, 1, 0]}), sink)
    return sink.getvalue()


def rows(name: str, image: str, data: bytes) -> Form:
    yaml = f'cases: {{match: "{{stem}}{Path(name).suffix}", rows: {{image: {image}}}}}\n{CLASS}'
    return Form(yaml, {name: data}, name)


VOC = (
    "<annotation><size><width>40</width><height>30</height></size><object><name>RBC</name><bndbox><xmin>6</xmin>"
    "<ymin>4</ymin><xmax>15</xmax><ymax>10</ymax></bndbox></object></annotation>"
)
LABELME = {
    "imageWidth": 40,
    "imageHeight": 30,
    "shapes": [{"label": "RBC", "points": [[5, 3], [15, 10]], "shape_type": "rectangle"}],
}
APERIO = (
    '<Annotations><Annotation Name="RBC"><Regions><Region Type="1"><Vertices><Vertex X="5" Y="3"/>'
    '<Vertex X="15" Y="10"/></Vertices></Region></Regions></Annotation></Annotations>'
)
PHASES = "Frame\tPhase\n0\tpneumonia\n1\tpneumonia\n2\tpneumonia\n"
CLIP = 'cases: {match: "{stem}.avi", id: "{stem}"}\nframes: {every_s: all}\nlimits: none\n'


@cache
def forms() -> dict[str, Form]:
    """Return a sound case of every form, by name."""
    mask = encoded(LABELS[1] * 255, "PNG")
    phases = "annotations: [{kind: intervals, path: '{stem}.txt', frame: Frame, label: Phase}]\n"
    return {
        "png": pictures("{}.png", encoded(GREY, "PNG")),
        "deep png": pictures("{}.png", encoded(DEEP, "PNG")),
        "jpeg": pictures("{}.jpg", encoded(GREY, "JPEG")),
        "progressive jpeg": pictures("{}.jpg", encoded(COLOURS[0], "JPEG", progressive=True)),
        "tiff": pictures("{}.tif", encoded(GREY, "TIFF")),
        "lzw tiff": pictures("{}.tif", encoded(GREY, "TIFF", compression="tiff_lzw")),
        "deep tiff": pictures("{}.tif", encoded(DEEP, "TIFF", compression="tiff_adobe_deflate")),
        "jpeg tiff": pictures("{}.tif", encoded(COLOURS[0], "TIFF", compression="jpeg")),
        "bmp": pictures("{}.bmp", encoded(GREY, "BMP")),
        "webp": pictures("{}.webp", encoded(GREY, "WEBP")),
        "jpeg 2000": pictures("{}.jp2", encoded(GREY, "JPEG2000")),
        "pgm": pictures("{}.pgm", encoded(GREY, "PPM")),
        "nifti gz": volumes("{}.nii.gz", nifti(HU)),
        "nifti": volumes("{}.nii", nifti(HU, ".nii")),
        "nrrd": volumes("{}.nrrd", by_itk(HU, "a.nrrd")),
        "mha": volumes("{}.mha", by_itk(HU, "a.mha")),
        "mhd": volumes("{}.mhd", _mhd(), raw=HU.tobytes()),
        "mhd's voxels": volumes("{}.mhd", _mhd(), raw=HU.tobytes())._replace(damaged="{}.raw"),
        "film": pictures("{}.dcm", film()),
        "film rle": pictures("{}.dcm", film(RLELossless)),
        "film jpeg-ls": pictures("{}.dcm", film(JPEGLSLossless)),
        "film jpeg": pictures("{}.dcm", packed_film(encoded(GREY, "JPEG"), JPEGBaseline8Bit)),
        "film jpeg 2000": pictures("{}.dcm", packed_film(encoded(GREY, "JPEG2000", no_jp2=True), JPEG2000Lossless)),
        "film deflated": pictures("{}.dcm", film(DeflatedExplicitVRLittleEndian)),
        "film implicit": pictures("{}.dcm", film(ImplicitVRLittleEndian)),
        "series": on_series("{kind: classes, value: pneumonia}", None),
        "mp4": pictures("{}.mp4", video("a.mp4", "mp4v")),
        "avi": pictures("{}.avi", video("a.avi", "MJPG")),
        "gif": pictures("{}.gif", gif()),
        "parquet": rows("{}.parquet", "image", parquet()),
        "npz": rows("{}.npz", "images", arrays(images=np.stack([GREY] * 3), labels=np.arange(3))),
        "npz stored": rows("{}.npz", "images", arrays(False, images=np.stack([GREY] * 3), labels=np.arange(3))),
        "npy": rows("{}.npy", "images", npy(np.stack([GREY] * 3))),
        "voc": on_picture('{kind: voc, path: "{stem}.xml"}', "{}.xml", VOC.encode()),
        "yolo": on_picture('{kind: yolo, path: "{stem}.txt", names: [RBC]}', "{}.txt", b"0 0.5 0.5 0.25 0.5\n"),
        "labelme": on_picture('{kind: labelme, path: "{stem}.json"}', "{}.json", json.dumps(LABELME).encode()),
        "aperio": on_picture('{kind: aperio, path: "{stem}.xml"}', "{}.xml", APERIO.encode()),
        "mask": on_picture('{kind: mask, path: "{stem}_m.tif", label: RBC}', "{}_m.tif", encoded(LABELS[1], "TIFF")),
        "mask png": on_picture('{kind: mask, path: "m/{stem}.png", label: RBC}', "m/{}.png", mask),
        "mask npz": on_picture(
            '{kind: mask, path: "{stem}.npz", array: mask, label: RBC}', "{}.npz", arrays(mask=LABELS[1])
        ),
        "labelmap": on_volume(
            '{kind: labelmap, path: "{stem}_seg.nii.gz", labels: {1: liver}}', "{}_seg.nii.gz", nifti(LABELS)
        ),
        "labelmap nrrd": on_volume(
            '{kind: labelmap, path: "{stem}_seg.nrrd", labels: {1: liver}}', "{}_seg.nrrd", by_itk(LABELS, "a.nrrd")
        ),
        "labelmap mha": on_volume(
            '{kind: labelmap, path: "{stem}_seg.mha", labels: {1: liver}}', "{}_seg.mha", by_itk(LABELS, "a.mha")
        ),
        "structure": on_volume(
            '{kind: mask_per_class, path: "{stem}/{label}.nii.gz"}', "{}/liver.nii.gz", nifti(LABELS)
        ),
        "seg": on_series('{kind: seg, path: "{case}/marks.dcm"}', saved(seg_of(ct_slices(), LABELS))),
        "rtstruct": on_series('{kind: rtstruct, path: "{case}/marks.dcm"}', saved(rtstruct({"liver": [outline()]}))),
        "intervals": Form(
            CLIP + phases, {"{}.avi": video("a.avi", "MJPG"), "{}.txt": PHASES.encode()}, "{}.txt", "endoscopy"
        ),
    }  # fmt: skip


def _mhd() -> bytes:
    lines = "ObjectType = Image\nNDims = 3\nDimSize = 40 30 4\nElementSpacing = 1.5 1.5 3\nElementType = MET_SHORT\n"
    return f"{lines}ElementDataFile = {{}}.raw\n".encode()
