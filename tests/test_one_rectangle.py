"""One rectangle of whole pixels, written in every way that annotations know, is one region: the same box, the same px.

What writes it is not our code wherever such a writer exists; what reads our masks back is pycocotools.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pydicom.dataset import Dataset
from test_box_metamorphism import WRITERS, corners, painted
from test_contours import struct
from test_dicom_pixels import dicom_file
from test_segments import seg_of
from test_series import ct_slice

SIZES = {
    "small": ((40, 30), (5, 3, 15, 10)),
    "whole": ((40, 30), (0, 0, 40, 30)),
    "far corner": ((64, 48), (60, 40, 64, 48)),
    "odd": ((33, 77), (17, 60, 21, 77)),
}
"""Width and height of the picture; edges x0, y0, x1, y1 of the rectangle."""
SLICE, SLICES, SPACING = 2, 4, (1.5, 1.5, 4.0)
"""The slice that it lies on, slices of a volume, mm along x, y, z: pixels are square, and voxels are not."""
ORIGIN = (-31.0, 17.0, 250.0)


class Form(NamedTuple):
    """A data set that holds the rectangle once."""

    yaml: str
    files: Mapping[str, Any]
    is_masked: bool = True
    """Its record has a mask, not only a box."""
    spacing: float | None = None


Maker = Callable[[Path, int, int, int, int, int, int], Form]


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)


def on_picture(width: int, height: int, annotation: str, files: Mapping[str, Any], **how: Any) -> Form:
    yaml = f'cases: {{match: "a.png"}}\nannotations: [{annotation}]\nlimits: none\n'
    return Form(yaml, {"a.png": picture(width, height), **files}, **how)


def encoded(image: Image.Image, form: str) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form)
    return sink.getvalue()


# ---- text files: the writers of `test_box_metamorphism`


def from_text(write: Any) -> Maker:
    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        written = write(width, height, *box)
        keys = f", {written.keys}" if written.keys else ""
        annotation = f"{{kind: {written.kind}, path: a.txt{keys}}}"
        masked = any(word in write.__name__ for word in ("polygon", "compressed", "mask", "brush", "asap"))
        return on_picture(width, height, annotation, {"a.txt": written.text}, is_masked=masked)

    return make


def labelme_mask(folder: Path, width: int, height: int, *box: int) -> Form:
    x0, y0, x1, y1 = box
    inner = Image.fromarray(painted(width, height, *box)[y0:y1, x0:x1] * 255)
    mask = base64.b64encode(encoded(inner.convert("1"), "PNG")).decode()
    shape = {"label": "RBC", "shape_type": "mask", "points": [[x0, y0], [x1, y1]], "mask": mask}
    text = json.dumps({"shapes": [shape], "imageWidth": width, "imageHeight": height})
    return on_picture(width, height, "{kind: labelme, path: a.json}", {"a.json": text})


def boxes_table(header: str, keys: str, row: Callable[..., str]) -> Maker:
    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        yaml = 'cases: {match: "a.png"}\ntables: {t: {path: t.csv, key: file, match: "{name}"}}\nlimits: none\n'
        yaml += f"annotations: [{{kind: boxes, table: t, label: RBC, {keys}}}]\n"
        table = f"file,{header}\na.png,{row(width, height, *box)}\n"
        return Form(yaml, {"a.png": picture(width, height), "t.csv": table}, False)

    return make


def of_centre(w: int, h: int, x0: int, y0: int, x1: int, y1: int) -> tuple[float, float, float, float]:
    return (x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h


def objects(form: str, numbers: Callable[..., Any]) -> Maker:
    """Hugging Face's Parquet with pictures and objects in one row."""

    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        cell = {"bbox": [[float(n) for n in numbers(width, height, *box)]], "categories": [0]}
        held = {"bytes": encoded(Image.fromarray(picture(width, height)), "PNG"), "path": "a.png"}
        sink = io.BytesIO()
        pq.write_table(pa.table({"image": [held], "objects": [cell]}), sink)
        yaml = 'cases: {match: "a.parquet", rows: {image: image}}\nlimits: none\n'
        yaml += f'annotations: [{{kind: objects, value: "{{row.objects}}", format: {form}, labels: {{0: RBC}}}}]\n'
        return Form(yaml, {"a.parquet": sink.getvalue()}, False)

    return make


# ---- masks of pictures


def png_mask(keys: str, make_image: Callable[[np.ndarray], Image.Image], form: str = "PNG") -> Maker:
    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        mask = make_image(painted(width, height, *box))
        return on_picture(width, height, f"{{kind: mask, path: m.bin, {keys}}}", {"m.bin": encoded(mask, form)})

    return make


def indexed(mask: np.ndarray) -> Image.Image:
    image = Image.frombytes("P", mask.shape[::-1], (mask * 7).tobytes())
    image.putpalette([channel for n in range(256) for channel in (n * 3 % 256, n * 5 % 256, 255 - n)])
    return image


def coloured(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.where(mask[..., None], np.uint8([200, 0, 30]), np.uint8([0, 0, 0])))


def npz(**arrays: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def npz_whole(folder: Path, width: int, height: int, *box: int) -> Form:
    annotation = "{kind: mask, path: m.npz, array: mask, label: RBC}"
    return on_picture(width, height, annotation, {"m.npz": npz(mask=painted(width, height, *box))})


def npz_rows(folder: Path, width: int, height: int, *box: int) -> Form:
    yaml = 'cases: {match: "a.npz", rows: {image: images}}\nlimits: none\n'
    yaml += "annotations: [{kind: mask, path: a.npz, array: masks, label: RBC}]\n"
    masks, images = painted(width, height, *box)[None] * 255, picture(width, height)[None]
    return Form(yaml, {"a.npz": npz(images=images, masks=masks)})


def npz_channels(folder: Path, width: int, height: int, *box: int) -> Form:
    """PanNuke's way: a row of `(y, x, channel)`, a channel for each class."""
    yaml = 'cases: {match: "images.npy", rows: {image: images}}\nlimits: none\n'
    yaml += "annotations: [{kind: mask, path: masks.npy, array: masks, encoding: instances, labels: {1: RBC}}]\n"
    masks = np.zeros((1, height, width, 3), np.float64)
    masks[0, ..., 1] = painted(width, height, *box) * 41.0
    files = {}
    for name, array in (("images.npy", picture(width, height)[None]), ("masks.npy", masks)):
        sink = io.BytesIO()
        np.save(sink, array)
        files[name] = sink.getvalue()
    return Form(yaml, files)


# ---- volumes


def volume(width: int, height: int, *box: int) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and labels, `(z, y, x)` in LPS."""
    labels = np.zeros((SLICES, height, width), np.uint8)
    labels[SLICE] = painted(width, height, *box)
    return np.random.default_rng(2).integers(-900, 900, labels.shape).astype(np.int16), labels


def on_volume(width: int, height: int, annotation: str, files: Mapping[str, Any], box: tuple[int, ...]) -> Form:
    yaml = f'cases: {{match: "ct.nii.gz"}}\nannotations: [{annotation}]\nlimits: none\n'
    return Form(yaml, {"ct.nii.gz": nifti(volume(width, height, *box)[0]), **files}, spacing=SPACING[0])


def nifti(array: np.ndarray, codes: str = "LPS") -> nib.Nifti1Image:
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = -ORIGIN[0], -ORIGIN[1], ORIGIN[2]
    image = nib.Nifti1Image(array.transpose(2, 1, 0), affine, dtype=array.dtype)
    names = nib.orientations.axcodes2ornt
    return image.as_reoriented(nib.orientations.ornt_transform(names("LPS"), names(codes)))


def by_itk(folder: Path, name: str, array: np.ndarray, codes: str = "LPS") -> bytes:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(sitk.DICOMOrient(image, codes), str(folder / name))
    return (folder / name).read_bytes()


def labelmap(suffix: str, codes: str = "LPS", value: int = 1) -> Maker:
    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        labels = volume(width, height, *box)[1] * np.uint16(value)
        held = nifti(labels, codes) if "nii" in suffix else by_itk(folder, f"m{suffix}", labels, codes)
        annotation = f"{{kind: labelmap, path: m{suffix}, labels: {{{value}: RBC}}}}"
        return on_volume(width, height, annotation, {f"m{suffix}": held}, box)

    return make


def label_union(folder: Path, width: int, height: int, *box: int) -> Form:
    labels = volume(width, height, *box)[1]
    labels[:, ::2] *= 2  # every second row is another part
    annotation = "{kind: labelmap, path: m.nii, unions: {RBC: [1, 2]}}"
    return on_volume(width, height, annotation, {"m.nii": nifti(labels)}, box)


def structures(folder: Path, width: int, height: int, *box: int) -> Form:
    held = by_itk(folder, "RBC.nrrd", volume(width, height, *box)[1] * 255, "RAS")
    return on_volume(width, height, '{kind: mask_per_class, path: "{label}.nrrd"}', {"RBC.nrrd": held}, box)


# ---- DICOM


def saved(dataset: Dataset, path: Path) -> bytes:
    dataset.save_as(path, enforce_file_format=True)
    return path.read_bytes()


def ct_series(width: int, height: int, *box: int) -> list[Dataset]:
    hu = volume(width, height, *box)[0]
    place = {"PixelSpacing": list(SPACING[:2]), "SliceThickness": SPACING[2]}
    where = [(ORIGIN[0], ORIGIN[1], ORIGIN[2] + SPACING[2] * n) for n in range(SLICES)]
    return [ct_slice(n, hu[n], where[n], **place) for n in range(SLICES)]


def on_series(folder: Path, images: list[Dataset], annotation: str, marks: Dataset) -> Form:
    yaml = f'cases: {{match: "s/*.dcm", id: s, form: series}}\nannotations: [{annotation}]\nlimits: none\n'
    files = {f"s/{n}.dcm": saved(image, folder / "slice.dcm") for n, image in enumerate(images)}
    return Form(yaml, {**files, "marks.dcm": saved(marks, folder / "marks.dcm")}, spacing=SPACING[0])


def seg(kind: str) -> Maker:
    def make(folder: Path, width: int, height: int, *box: int) -> Form:
        images, labels = ct_series(width, height, *box), volume(width, height, *box)[1]
        pixels = labels.astype(np.float32) if kind == "FRACTIONAL" else labels
        return on_series(folder, images, "{kind: seg, path: marks.dcm}", seg_of(images, pixels, kind, ("RBC",)))

    return make


def rtstruct(folder: Path, width: int, height: int, *box: int) -> Form:
    # the outline along the edges of its pixels; a pixel's centre is its place in mm
    at = [(ORIGIN[0] + (x - 0.5) * SPACING[0], ORIGIN[1] + (y - 0.5) * SPACING[1]) for x, y in corners(*box)]
    outline = np.array([(*point, ORIGIN[2] + SLICE * SPACING[2]) for point in at])
    images = ct_series(width, height, *box)
    return on_series(folder, images, "{kind: rtstruct, path: marks.dcm}", struct({"RBC": [outline]}))


def film_with_seg(folder: Path, width: int, height: int, *box: int) -> Form:
    film = dicom_file(picture(width, height), folder / "film.dcm").read_bytes()
    images = ct_series(width, height, *box)[:1]
    marks = seg_of(images, painted(width, height, *box)[None], "BINARY", ("RBC",))
    yaml = 'cases: {match: "film.dcm"}\nannotations: [{kind: seg, path: marks.dcm}]\nlimits: none\n'
    return Form(yaml, {"film.dcm": film, "marks.dcm": saved(marks, folder / "marks.dcm")})


MAKERS: dict[str, Maker] = {
    **{write.__name__: from_text(write) for write in WRITERS},
    "labelme mask": labelme_mask,
    "boxes xywh": boxes_table(
        "x,y,w,h", "box: [x, y, w, h]", lambda w, h, x0, y0, x1, y1: f"{x0},{y0},{x1 - x0},{y1 - y0}"
    ),
    "boxes xyxy": boxes_table("a,b,c,d", "box: [a, b, c, d], format: xyxy", lambda w, h, *box: ",".join(map(str, box))),
    "boxes xyxy from 1": boxes_table(
        "a,b,c,d",
        "box: [a, b, c, d], format: xyxy, one_based: true",
        lambda w, h, x0, y0, x1, y1: f"{x0 + 1},{y0 + 1},{x1},{y1}",
    ),
    "boxes cxcywh": boxes_table(
        "a,b,c,d",
        "box: [a, b, c, d], format: cxcywh, relative: true",
        lambda *given: ",".join(map(repr, of_centre(*given))),
    ),
    "objects coco": objects("coco", lambda w, h, x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0)),
    "objects voc": objects("voc", lambda w, h, *box: box),
    "objects yolo": objects("yolo", of_centre),
    "objects albumentations": objects("albumentations", lambda w, h, x0, y0, x1, y1: (x0 / w, y0 / h, x1 / w, y1 / h)),
    "mask 1 bit": png_mask("label: RBC", lambda mask: Image.fromarray(mask * 255).convert("1")),
    "mask 0 and 1": png_mask("label: RBC", Image.fromarray),
    "mask 0 and 255": png_mask("label: RBC", lambda mask: Image.fromarray(mask * 255)),
    "mask inverted": png_mask("label: RBC, invert: true", lambda mask: Image.fromarray(255 - mask * 255)),
    "mask RGBA": png_mask("label: RBC", lambda mask: Image.fromarray(mask * 255).convert("RGBA")),
    "mask BMP": png_mask("label: RBC", lambda mask: Image.fromarray(mask * 255), "BMP"),
    "mask TIFF": png_mask("label: RBC", lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535), "TIFF"),
    "mask indexed palette": png_mask("encoding: indexed, labels: {7: RBC}", indexed),
    "mask indexed grey": png_mask("encoding: indexed, labels: {9: RBC}", lambda mask: Image.fromarray(mask * 9)),
    "mask indexed deep": png_mask(
        "encoding: indexed, labels: {1000: RBC}", lambda mask: Image.fromarray(mask.astype(np.uint16) * 1000)
    ),
    "mask coloured": png_mask("encoding: colour, colours: {'#c8001e': RBC}", coloured),
    "mask of objects": png_mask(
        "encoding: instances, label: RBC", lambda mask: Image.fromarray(mask.astype(np.uint16) * 300)
    ),
    "npz whole": npz_whole,
    "npz rows": npz_rows,
    "npy channels": npz_channels,
    "labelmap nii.gz LPS": labelmap(".nii.gz"),
    "labelmap nii RAS": labelmap(".nii", "RAS", 4),
    "labelmap nii PIR": labelmap(".nii", "PIR", 300),
    "labelmap nrrd LPS": labelmap(".nrrd"),
    "labelmap nrrd SRA": labelmap(".nrrd", "SRA", 77),
    "labelmap mha LPS": labelmap(".mha"),
    "labelmap mha AIL": labelmap(".mha", "AIL", 2),
    "label union": label_union,
    "one file a structure": structures,
    "seg binary": seg("BINARY"),
    "seg fractional": seg("FRACTIONAL"),
    "seg label map": seg("LABELMAP"),
    "seg on a film": film_with_seg,
    "rtstruct": rtstruct,
}


def only_region(toy: Any) -> tuple[Any, Any]:
    """The one record with the one region of a data set; nothing was left out on the way."""
    (record,) = toy.records()
    assert toy.rejected() == []
    (region,) = record.regions
    assert region.label == "red_blood_cell"
    return record, region


def by_pycocotools(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask))["counts"].decode()


@pytest.mark.parametrize(("size", "box"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_one_rectangle_is_one_region_however_it_is_written(data_set, tmp_path, make, size, box):
    form = make(tmp_path, *size, *box)
    record, region = only_region(data_set(form.yaml, form.files, modality="ct"))
    assert (record.picture.width, record.picture.height) == size
    np.testing.assert_allclose(region.box, box, rtol=0, atol=1e-9)
    area = (box[2] - box[0]) * (box[3] - box[1])
    assert region.area_px == pytest.approx(area, rel=1e-9)
    assert record.picture.spacing_mm == (pytest.approx(form.spacing) if form.spacing else None)
    assert region.area_mm2 == (pytest.approx(area * form.spacing**2) if form.spacing else None)
    assert (region.mask is not None) == form.is_masked
    if region.mask:
        assert region.mask == by_pycocotools(painted(*size, *box))
    if form.spacing:
        assert (record.picture.index, record.picture.plane) == (SLICE, "axial")


# ---- the picture is changed before it is stored, and all that is said of it goes along

IN_SPACE = ("labelmap", "label union", "one file a structure", "seg", "rtstruct")
FLAT = {name: make for name, make in MAKERS.items() if not name.startswith(IN_SPACE)}
"""Those of 2D pictures."""
ON_A_FILE = {name: make for name, make in FLAT.items() if not name.startswith(("objects", "npz rows", "npy"))}
"""Those of a picture that is a file of its own."""


@pytest.mark.parametrize("make", FLAT.values(), ids=FLAT)
def test_a_crop_moves_every_form_alike(data_set, tmp_path, make):
    form = make(tmp_path, 64, 48, 10, 8, 30, 20)
    _, region = only_region(data_set(form.yaml + "display: {crop: [4, 2, -3, -5]}\n", form.files))
    np.testing.assert_allclose(region.box, (6, 6, 26, 18), rtol=0, atol=1e-9)
    assert region.area_px == pytest.approx(20 * 12)
    assert region.mask in (None, by_pycocotools(painted(57, 41, 6, 6, 26, 18)))


@pytest.mark.parametrize("make", FLAT.values(), ids=FLAT)
def test_a_picture_of_half_the_size_has_regions_of_half_the_size(data_set, tmp_path, make):
    form = make(tmp_path, 128, 96, 20, 16, 60, 40)
    record, region = only_region(data_set(form.yaml + "display: {max_side_px: 64}\n", form.files))
    assert (record.picture.width, record.picture.height) == (64, 48)
    np.testing.assert_allclose(region.box, (10, 8, 30, 20), rtol=0, atol=1e-9)
    assert region.area_px == pytest.approx(20 * 12)
    assert region.mask in (None, by_pycocotools(painted(64, 48, 10, 8, 30, 20)))


def lying(width: int, height: int, orientation: int) -> bytes:
    """A file of that size whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    Image.fromarray(picture(width, height)).save(sink, "PNG", exif=exif)
    return sink.getvalue()


def turned(mask: np.ndarray, orientation: int) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    Image.fromarray(mask).save(sink, "PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(sink)))


def bounds(mask: np.ndarray) -> tuple[int, ...]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("orientation", [3, 6, 7])
@pytest.mark.parametrize("annotated", ["upright", "file"])
@pytest.mark.parametrize("make", ON_A_FILE.values(), ids=ON_A_FILE)
def test_a_turned_picture_takes_every_form_along(data_set, tmp_path, make, annotated, orientation):
    file_size, box = (44, 30), (5, 3, 15, 10)
    upright_size = file_size[::-1] if orientation > 4 else file_size
    form = make(tmp_path, *(upright_size if annotated == "upright" else file_size), *box)
    files = {**form.files, "a.png": lying(*file_size, orientation)}
    record, region = only_region(data_set(f"{form.yaml}geometry: {{annotated: {annotated}}}\n", files))
    assert (record.picture.width, record.picture.height) == upright_size
    wanted = painted(*upright_size, *box) if annotated == "upright" else turned(painted(*file_size, *box), orientation)
    np.testing.assert_allclose(region.box, bounds(wanted), rtol=0, atol=1e-9)
    assert region.mask in (None, by_pycocotools(wanted))
