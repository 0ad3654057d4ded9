"""Small data sets in the published layout of a catalog entry: `tests/catalog/<id>.yaml` says what is in them.

`page` is where `listing` was copied from, `files` what is written: path to one maker below with its arguments.
Boxes are half-open px, `x0, y0, x1, y1`; volumes are `[x, y, z]`, LPS unless `axes` says otherwise.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import SimpleITK as sitk
import yaml
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

HERE = Path(__file__).parent / "catalog"
NAMES = sorted(path.stem for path in HERE.glob("*.yaml"))
GRAIN = np.random.default_rng(20261122)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))


def write(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for path, made in files.items():
        ((kind, how),) = made.items()
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        MAKERS[kind](target, how)


def folded(text: str) -> str:
    """Every number is as good as another in a listing."""
    return re.sub(r"\d+", "0", text)


def unlisted(mini: Mapping[str, Any], root: str) -> list[str]:
    """Return the parts of the files' paths below the root that the page's listing does not have."""
    names: Mapping[str, str] = mini.get("placeholders", {})
    listing = folded(mini["listing"])
    parts = {part for path in mini["files"] for part in Path(path).relative_to(root).parts}
    return sorted(part for part in parts if folded(names.get(part, part)) not in listing)


# ---- makers


def _pixels(how: Mapping[str, Any]) -> np.ndarray:
    """`{size: [w, h], colour: true}`: grain, so that no two pictures are alike."""
    width, height = how["size"]
    shape = (height, width, 3) if how.get("colour") else (height, width)
    return GRAIN.integers(30, 220, shape, dtype=np.uint8)


def _painted(how: Mapping[str, Any]) -> np.ndarray:
    """`{size: [w, h], paint: [[value, x0, y0, x1, y1], …]}`: value is a number or `[r, g, b]`."""
    width, height = how["size"]
    paint = how.get("paint", [])
    colours = how.get("colour") or any(isinstance(row[0], list) for row in paint)
    pixels = np.full((height, width, 3) if colours else (height, width), how.get("ground", 0), how.get("dtype", "u1"))
    for value, x0, y0, x1, y1 in paint:
        pixels[y0:y1, x0:x1] = value
    return pixels


def _voxels(how: Mapping[str, Any]) -> np.ndarray:
    """`{shape: [x, y, z], paint: [[value, x0, y0, z0, x1, y1, z1], …], dtype: i2}`, on grain where `grain` is given."""
    voxels = np.zeros(how["shape"], how.get("dtype", "i2" if "grain" in how else "u1"))
    if "grain" in how:
        voxels[...] = GRAIN.integers(*how["grain"], how["shape"])
    for value, x0, y0, z0, x1, y1, z1 in how.get("paint", []):
        voxels[x0:x1, y0:y1, z0:z1] = value
    return voxels


def picture(path: Path, how: Mapping[str, Any]) -> None:
    Image.fromarray(_pixels(how)).save(path)


def mask(path: Path, how: Mapping[str, Any]) -> None:
    image = Image.fromarray(_painted(how))
    if "palette" in how:
        image.putpalette([part for colour in how["palette"] for part in colour])
    image.save(path)


def volume(path: Path, how: Mapping[str, Any]) -> None:
    """`spacing: [x, y, z]` mm, `axes: RAS` of the stored array; by suffix NIfTI, NRRD or MetaImage (LPS)."""
    voxels, spacing = _voxels(how), how.get("spacing", [1.0, 1.0, 1.0])
    if ".nii" not in path.name:
        image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(path))
        return
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for axis, code in enumerate(how.get("axes", "LPS")):
        affine["RLAPSI".index(code) // 2, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    nib.save(nib.Nifti1Image(voxels, affine, dtype=voxels.dtype), path)


def text(path: Path, how: str) -> None:
    path.write_text(how, "utf-8")


def as_json(path: Path, how: Any) -> None:
    path.write_text(json.dumps(how), "utf-8")


def lines(path: Path, how: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in how), "utf-8")


def parquet(path: Path, how: Sequence[Mapping[str, Any]]) -> None:
    """Rows; a cell `{picture: …}` or `{mask: …}` becomes the struct of bytes and path that the hub writes."""
    pq.write_table(pa.Table.from_pylist([{key: _cell(cell) for key, cell in row.items()} for row in how]), path)


def _cell(cell: Any) -> Any:
    if not isinstance(cell, Mapping) or not cell.keys() & {"picture", "mask"}:
        return cell
    pixels = _pixels(cell["picture"]) if "picture" in cell else _painted(cell["mask"])
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return {"bytes": sink.getvalue(), "path": None}


def arrays(path: Path, how: Any) -> None:
    """`.npz`: name to array, `.npy`: one array; an array is `{stack: [maker's arguments, …]}`, `{values: …}`."""
    if path.suffix == ".npy":
        np.save(path, _array(how))
    else:
        np.savez(path, **{name: _array(one) for name, one in how.items()})


def _array(how: Mapping[str, Any]) -> np.ndarray:
    if "stack" in how:
        return np.stack([_painted(one) if "paint" in one else _pixels(one) for one in how["stack"]])
    return np.array(how["values"], how.get("dtype"))


def video(path: Path, how: Mapping[str, Any]) -> None:
    """`{size: [w, h], frames: n, fps: 25}`."""
    code = {".mp4": "mp4v", ".avi": "MJPG"}[path.suffix]
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), how["fps"], tuple(how["size"]))
    for _ in range(how["frames"]):
        out.write(_pixels({"size": how["size"], "colour": True}))
    out.release()


def dicom(path: Path, how: Mapping[str, Any]) -> None:
    """`{size: [w, h], modality: DX, tags: {PatientID: …}}`: one picture, or with `z` (mm) one slice of a series."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = (
        pydicom.uid.CTImageStorage if "z" in how else pydicom.uid.SecondaryCaptureImageStorage
    )
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[how.get("uid", path.stem)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[how.get("series", path.stem)])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", how.get("series", path.stem)])
    ds.Modality = how["modality"]
    ds.Columns, ds.Rows = how["size"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1 if "z" in how else 0
    if "z" in how:
        ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", how["series"]])
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, how["z"]], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness = how.get("spacing", [1, 1]), how.get("thickness", 1)
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    for tag, value in how.get("tags", {}).items():
        setattr(ds, tag, value)
    ds.PixelData = GRAIN.integers(0, 200, (ds.Rows, ds.Columns)).astype("<i2").tobytes()
    ds.save_as(path, enforce_file_format=True)


MAKERS = {
    "picture": picture,
    "mask": mask,
    "volume": volume,
    "text": text,
    "json": as_json,
    "lines": lines,
    "parquet": parquet,
    "arrays": arrays,
    "video": video,
    "dicom": dicom,
}
