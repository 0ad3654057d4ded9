"""Data sets in which a patient's name, number, birth date and hospital stand wherever files can hold them."""

import base64
import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
from hostile_forms import GREY, HU, LABELS, encoded, gif, saved, video, written
from PIL import Image, ImageDraw, PngImagePlugin, TiffImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage
from test_contours import struct as rtstruct
from test_dicom_pixels import dicom_file
from test_segments import seg_of
from test_series import ct_slice

NAME, FIRST, NUMBER, BORN, PLACE = "Zzyxdoe", "Quilla", "PID7319046", "19480229", "Stellamaris"
TOKENS = tuple(token.lower() for token in (NAME, FIRST, NUMBER, BORN, PLACE))
TEXT = f"{NAME}^{FIRST} {NUMBER} {BORN} {PLACE}"
WHO = f"{NAME}_{FIRST}_{NUMBER}_{BORN}_{PLACE}"
"""As a folder or a file is called."""
KEYS = {"Patient": f"{NAME} {FIRST}", "ID": NUMBER, "Born": BORN, "Hospital": PLACE}


class Planted(NamedTuple):
    """A data set whose files name a patient."""

    yaml: str
    files: Mapping[str, bytes]
    pictures: int
    """Records that come of it."""
    modality: str = "xray"
    held: int = 0
    """Pictures that are held back because their pixels may show a name."""


# ---- what a text hides in


def layers(data: bytes) -> Iterator[bytes]:
    """Yield a file's bytes, and what is packed in them."""
    yield data
    if data.startswith(b"\x1f\x8b"):
        try:
            yield gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return
    elif data.startswith(b"\x89PNG"):
        yield from _of_png(data)
    elif data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    elif data.startswith(b"PAR1") and data.endswith(b"PAR1"):
        yield from _of_values(pq.read_table(pa.BufferReader(data)).to_pylist())
    for found in re.finditer(rb"base64,([A-Za-z0-9+/]{60,}={0,2})", data):  # pictures in a page or a request
        yield from layers(base64.b64decode(found[1]))


def _of_png(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        for start in range(min(len(body), 120)) if name in (b"zTXt", b"iTXt", b"iCCP", b"IDAT") else ():
            try:
                yield zlib.decompressobj().decompress(body[start:])
            except zlib.error:
                continue
        at += size + 12


def _of_values(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield from layers(value)
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogateescape")
    elif isinstance(value, Mapping):
        yield from _of_values(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _of_values(part)


def tokens_in(data: bytes) -> set[str]:
    """Return which of the planted texts stand in some bytes, in any case and in the usual encodings."""
    found = set[str]()
    for layer in layers(data):
        low = layer.lower()
        for token in TOKENS:
            ways = (token.encode(), token.encode("utf-16-le"), token.encode("utf-16-be"))
            found.update({token} if any(way in low for way in ways) else ())
    return found


# ---- DICOM


def named(dataset: Dataset, **more: Any) -> Dataset:
    """Write the patient into every kind of header element."""
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = f"{NAME}^{FIRST}", NUMBER, BORN
    dataset.InstitutionName = dataset.StudyDescription = dataset.SeriesDescription = TEXT
    dataset.ImageComments = dataset.PatientComments = TEXT
    dataset.OtherPatientIDs = dataset.AccessionNumber = NUMBER
    dataset.ReferringPhysicianName = dataset.OperatorsName = f"{NAME}^{FIRST}"
    dataset.ProtocolName = dataset.SequenceName = dataset.StationName = TEXT[:16]
    block = dataset.private_block(0x0029, "PLANTED", create=True)
    block.add_new(0x01, "LO", TEXT)
    block.add_new(0x02, "UN", TEXT.encode() + b" " * (len(TEXT) % 2))
    item = Dataset()
    item.PatientName = f"{NAME}^{FIRST}"
    dataset.OtherPatientIDsSequence = Sequence([item])
    for key, value in more.items():
        setattr(dataset, key, value)
    return dataset


def overlaid(dataset: Dataset) -> Dataset:
    """Lay a 60xx overlay over a picture, whose description names the patient."""
    size = dataset.Rows * dataset.Columns
    entries = [(0x10, "US", dataset.Rows), (0x11, "US", dataset.Columns), (0x22, "LO", TEXT), (0x40, "CS", "G")]
    entries += [(0x50, "SS", [1, 1]), (0x100, "US", 1), (0x102, "US", 0), (0x1500, "LO", TEXT)]
    for element, kind, value in entries:
        dataset.add_new((0x6000, element), kind, value)
    dataset.add_new((0x6000, 0x3000), "OW", TEXT.encode().ljust((size + 7) // 8 + (size + 7) // 8 % 2, b"\0"))
    return dataset


def _slices() -> list[Dataset]:
    place = {"PixelSpacing": [1.5, 1.5], "SliceThickness": 3.0}
    return [named(ct_slice(n, HU[n], (0, 0, 3.0 * n), **place)) for n in range(len(HU))]


def film(pixels: np.ndarray = GREY, overlay: bool = False, **tags: Any) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(written(lambda path: dicom_file(pixels, path), "a.dcm")))
    return saved(overlaid(named(dataset, **tags)) if overlay else named(dataset, **tags))


def drawn() -> np.ndarray:
    """Pixels in which the name can be read."""
    image = Image.new("L", (240, 60), 20)
    ImageDraw.Draw(image).text((4, 4), f"{NAME} {FIRST}\n{NUMBER}\n{BORN} {PLACE}", fill=255)
    return np.asarray(image)


def series() -> Planted:
    yaml = 'cases: {form: series, match: "{patient}/ct/*.dcm", id: "{patient}", group: "{patient}"}\n'
    yaml += 'annotations: [{kind: seg, path: "{patient}/seg.dcm"}]\n'
    marks = named(seg_of(_slices(), LABELS, "BINARY", ("liver",)))
    marks.ContentDescription, marks.ContentCreatorName = TEXT, f"{NAME}^{FIRST}"
    marks.SegmentSequence[0].SegmentDescription = marks.SegmentSequence[0].SegmentAlgorithmName = TEXT
    files = {f"{WHO}/ct/{WHO}_{n}.dcm": saved(one) for n, one in enumerate(_slices())}
    return Planted(yaml, {**files, f"{WHO}/seg.dcm": saved(marks)}, 2, "ct")


def contours() -> Planted:
    yaml = 'cases: {form: series, match: "{patient}/ct/*.dcm", id: "{patient}", group: "{patient}"}\n'
    yaml += 'annotations: [{kind: rtstruct, path: "{patient}/rt.dcm"}]\n'
    outline = [(x * 1.5, y * 1.5, 3.0) for x, y in ((7.5, 4.5), (29.5, 4.5), (29.5, 19.5), (7.5, 19.5))]
    marks = named(rtstruct({"liver": [np.array(outline)]}), StructureSetLabel=TEXT[:16], StructureSetName=TEXT)
    marks.StructureSetROISequence[0].ROIDescription = TEXT
    files = {f"{WHO}/ct/{n}.dcm": saved(one) for n, one in enumerate(_slices())}
    return Planted(yaml, {**files, f"{WHO}/rt.dcm": saved(marks)}, 1, "ct")


def films() -> Planted:
    """Films are kept, without their headers; what may show the name in its pixels is held back."""
    yaml = 'cases: {match: "{patient}/{stem}.dcm", group: "{patient}"}\n'
    yaml += "annotations: [{kind: classes, value: pneumonia}]\n"
    capture = {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}
    held = {
        "capture": film(drawn(), **capture),
        "screen": film(drawn(), ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"]),
        "declared": film(drawn(), BurnedInAnnotation="YES"),
        "sono": film(drawn(), SOPClassUID=UltrasoundImageStorage, Modality="US"),
        "overlay": film(overlay=True),
    }
    files = {"film": film(), "denied": film(BurnedInAnnotation="NO", **capture), **held}
    return Planted(yaml, {f"{WHO}/{name}.dcm": data for name, data in files.items()}, 2, held=len(held))


# ---- pictures


XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><dc:creator>{TEXT}</dc:creator></x:xmpmeta>'.encode()


def segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B], exif[0x8298], exif[0x0132] = TEXT, TEXT, TEXT, "1948:02:29 00:00:00"
    return exif


def jpegs() -> dict[str, bytes]:
    """Every segment of a JPEG that may hold a text, and what stands behind its end."""
    plain = encoded(GREY, "JPEG")
    start, rest = plain[:20], plain[20:]
    hidden = {
        "exif": encoded(GREY, "JPEG", exif=_exif()),
        "comment": encoded(GREY, "JPEG", comment=TEXT.encode()),
        "xmp": start + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP) + rest,
        "iptc": start + segment(0xED, b"Photoshop 3.0\0008BIM\x04\x04\0\0" + TEXT.encode()) + rest,
        "icc": encoded(GREY, "JPEG", icc_profile=b"\0" * 128 + TEXT.encode()),
        "thumbnail": start + segment(0xE0, b"JFXX\0\x10" + encoded(GREY, "JPEG", comment=TEXT.encode())) + rest,
        "own app0": start + segment(0xE0, b"AVI1\0" + TEXT.encode()) + rest,
        "adobe": start + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + TEXT.encode()) + rest,
        "own app14": start + segment(0xEE, TEXT.encode()) + rest,
        "behind": plain + TEXT.encode(),
        "second picture": plain + encoded(GREY, "JPEG", comment=TEXT.encode()),
    }
    jfif = struct.pack(">H", 16 + len(TEXT) // 3 * 3)
    thumb = TEXT.encode()[: len(TEXT) // 3 * 3]
    assert len(thumb) // 3 < 256
    tail = plain[6:18] + bytes((len(thumb) // 3, 1)) + thumb
    hidden["long jfif"] = plain[:4] + jfif + tail + rest
    return {f"{name}.jpg": data for name, data in hidden.items()}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def pngs() -> dict[str, bytes]:
    plain = encoded(GREY, "PNG")
    head, body = plain[:33], plain[33:]
    info = PngImagePlugin.PngInfo()
    info.add_text("Patient", TEXT)
    packed = PngImagePlugin.PngInfo()
    packed.add_text("Patient", TEXT * 4, zip=True)
    world = PngImagePlugin.PngInfo()
    world.add_itxt("Patient", TEXT, zip=False)
    hidden = {
        "text": encoded(GREY, "PNG", pnginfo=info),
        "ztxt": encoded(GREY, "PNG", pnginfo=packed),
        "itxt": encoded(GREY, "PNG", pnginfo=world),
        "exif": encoded(GREY, "PNG", exif=_exif()),
        "icc": encoded(GREY, "PNG", icc_profile=b"\0" * 128 + TEXT.encode()),
        "own chunk": head + chunk(b"teXt", TEXT.encode()) + body,
        "palette of grey": head + chunk(b"tRNS", TEXT.encode()[:2]) + chunk(b"prVt", TEXT.encode()) + body,
        "behind": plain + TEXT.encode(),
        "behind, with an end": plain + TEXT.encode() + chunk(b"IEND", b""),
        "chunk behind the end": plain + chunk(b"IDAT", TEXT.encode()) + chunk(b"IEND", b""),
        "text in the pixels' stream": head
        + chunk(b"IDAT", zlib.compress(bytes(31 * 41)[: 41 * 30]) + TEXT.encode())
        + chunk(b"IEND", b""),
    }
    return {f"{name}.png": data for name, data in hidden.items()}


def others() -> dict[str, bytes]:
    """TIFF, GIF, BMP and WebP with a text."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270], tags[315], tags[305], tags[33432], tags[65000] = TEXT, TEXT, TEXT, TEXT, TEXT
    return {
        "tags.tif": encoded(GREY, "TIFF", tiffinfo=tags),
        "deep.tif": encoded(GREY.astype(np.uint16) * 257, "TIFF", tiffinfo=tags),
        "lzw.tif": encoded(GREY, "TIFF", tiffinfo=tags, compression="tiff_lzw"),
        "a.bmp": encoded(GREY, "BMP") + TEXT.encode(),
        "a.webp": encoded(GREY, "WEBP", exif=_exif(), xmp=XMP),
        "a.pgm": b"P5\n# " + TEXT.encode() + b"\n40 30\n255\n" + GREY.tobytes(),
        "plain.pgm": b"P2\n# " + TEXT.encode() + b"\n20 16\n255\n" + b" ".join([b"7"] * 319) + b" 9\n",
    }


def photos() -> Planted:
    yaml = 'cases: {match: "{patient}/{n}.*", id: "{patient}/{name}", group: "{patient}"}\n'
    yaml += "annotations: [{kind: classes, value: pneumonia}]\n"
    files = {f"{WHO}/{name}": data for name, data in {**jpegs(), **pngs(), **others()}.items()}
    return Planted(yaml, files, len(files))


# ---- volumes


def _nifti(array: np.ndarray, packed: bool = True) -> bytes:
    image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-1.5, -1.5, 3, 1]), dtype=array.dtype)
    header = image.header
    header["descrip"], header["aux_file"], header["db_name"] = TEXT[:79], WHO[:23], NUMBER
    header.set_intent("none", name=f"{NAME} {BORN}"[:15])
    about = io.BytesIO()
    named(Dataset()).save_as(about, implicit_vr=True, little_endian=True)
    for code, data in ((2, about.getvalue()), (4, XMP), (6, TEXT.encode()), (44, TEXT.encode())):
        extension = nib.nifti1.Nifti1Extension(6, data)  # whatever it holds: written as it is
        extension._code = code
        header.extensions.append(extension)
    data = image.to_bytes()
    if not packed:
        return data
    out = io.BytesIO()
    with gzip.GzipFile(f"{WHO}.nii", "wb", fileobj=out) as file:
        file.write(data)
    return out.getvalue()


def _nrrd(array: np.ndarray) -> bytes:
    depth, height, width = array.shape
    kind = {np.dtype(np.int16): "short", np.dtype(np.uint8): "uchar"}[array.dtype]
    lines = ["NRRD0005", f"# {TEXT}", f"type: {kind}", "dimension: 3", f"sizes: {width} {height} {depth}"]
    lines += ["space: left-posterior-superior", "space directions: (1.5,0,0) (0,1.5,0) (0,0,3)"]
    lines += ["space origin: (0,0,0)", "encoding: raw", "endian: little", f"content: {TEXT}"]
    lines += [f"{key}:={value}" for key, value in KEYS.items()]
    return "\n".join(lines).encode() + b"\n\n" + array.tobytes()


def _mha(array: np.ndarray) -> bytes:
    depth, height, width = array.shape
    kind = {np.dtype(np.int16): "MET_SHORT", np.dtype(np.uint8): "MET_UCHAR"}[array.dtype]
    lines = ["ObjectType = Image", "NDims = 3", f"Comment = {TEXT}", f"Name = {NAME}"]
    lines += [f"{key} = {value}" for key, value in KEYS.items()]
    lines += [f"DimSize = {width} {height} {depth}", "ElementSpacing = 1.5 1.5 3", f"ElementType = {kind}"]
    return "\n".join(lines).encode() + b"\nElementDataFile = LOCAL\n" + array.tobytes()


def volumes() -> Planted:
    suffixes = "|".join(("nii.gz", "nii", "nrrd", "mha"))
    yaml = (
        f'cases: {{match: "{{patient}}/{{n}}_ct.{{as:{suffixes}}}", id: "{{patient}}/{{n}}", group: "{{patient}}"}}\n'
    )
    yaml += 'annotations: [{kind: labelmap, path: "{who}/{n}_seg.{as}", labels: {1: liver}}]\n'
    writers = {".nii.gz": _nifti, ".nii": lambda array: _nifti(array, False), ".nrrd": _nrrd, ".mha": _mha}
    files = {}
    for n, (suffix, write) in enumerate(writers.items()):
        files |= {f"{WHO}/{n}_ct{suffix}": write(HU), f"{WHO}/{n}_seg{suffix}": write(LABELS)}
    return Planted(yaml, files, 2 * len(writers), "ct")


# ---- videos


def _box(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def videos() -> Planted:
    yaml = 'cases: {match: ["{patient}/{stem}.{ext:mp4|avi|gif}"], id: "{patient}/{ext}", group: "{patient}"}\n'
    yaml += "annotations: [{kind: classes, value: polyp}]\nframes: {every_s: 1}\n"
    about = _box(b"udta", _box(b"\xa9nam", struct.pack(">HH", len(TEXT), 0) + TEXT.encode()))
    information = b"INFOINAM" + struct.pack("<I", len(TEXT)) + TEXT.encode() + b"\0" * (len(TEXT) % 2)
    avi = video("a.avi", "MJPG") + b"LIST" + struct.pack("<I", len(information)) + information
    avi = avi[:4] + struct.pack("<I", len(avi) - 8) + avi[8:]
    moving = gif()
    comment = b"\x21\xfe" + bytes((len(TEXT),)) + TEXT.encode() + b"\0"
    moving = moving[:-1] + comment + moving[-1:]
    clips = {"mp4": video("a.mp4", "mp4v") + about, "avi": avi, "gif": moving}
    return Planted(yaml, {f"{WHO}/a.{ext}": data for ext, data in clips.items()}, 6, "endoscopy")


# ---- rows


def rows() -> Planted:
    yaml = 'cases: {match: "{patient}.parquet", rows: {image: image}, group: "{row.who}"}\n'
    yaml += 'annotations: [{kind: classes, value: "{row.label}"}]\n'
    cells = [{"bytes": data, "path": f"{WHO}.jpg"} for data in (*jpegs().values(), encoded(GREY, "PNG"))]
    table = pa.table({"image": cells, "label": ["pneumonia"] * len(cells), "who": [WHO] * len(cells)})
    table = table.append_column("note", pa.array([TEXT] * len(cells)))
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"author": TEXT}), sink)
    return Planted(yaml, {f"{WHO}.parquet": sink.getvalue()}, len(cells))


def arrays() -> Planted:
    sink = io.BytesIO()
    np.savez(sink, images=np.stack([GREY] * 2), who=np.array([TEXT] * 2), labels=np.array(["pneumonia"] * 2))
    with zipfile.ZipFile(sink, "a") as archive:
        archive.comment = TEXT.encode()
        archive.writestr(f"{WHO}.txt", TEXT)
    yaml = 'cases: {match: "{patient}.npz", rows: {image: images}, group: "{row.who}"}\n'
    yaml += 'annotations: [{kind: classes, value: "{row.labels}"}]\n'
    return Planted(yaml, {f"{WHO}.npz": sink.getvalue()}, 2)


# ---- annotations


BOX = [5, 3, 15, 10]


def _picture() -> bytes:
    return encoded(GREY, "PNG")


def table() -> Planted:
    """Readers' names, and columns that nothing uses."""
    yaml = 'cases: {match: "{patient}/{stem}.png", group: "{patient}"}\n'
    yaml += "tables: {t: {path: boxes.csv, key: file, match: '{name}'}}\n"
    yaml += "annotations: [{kind: boxes, table: t, box: [x, y, w, h], label: nodule, reader: doctor}]\n"
    head = "file,x,y,w,h,doctor,Patient,Born,Hospital,Number\n"
    readers = (f"Dr. {NAME}", f"{FIRST}@{PLACE}.org")
    lines = [
        f"{WHO}.png,5,{3 + n},15,10,{doctor},{FIRST},{BORN},{PLACE},{NUMBER}\n" for n, doctor in enumerate(readers)
    ]
    return Planted(yaml, {f"{WHO}/{WHO}.png": _picture(), "boxes.csv": (head + "".join(lines)).encode()}, 1)


def labelstudio() -> Planted:
    value = {"x": 10, "y": 10, "width": 30, "height": 30, "rectanglelabels": ["nodule"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30, "id": "a"}
    said = {"type": "textarea", "value": {"text": [TEXT]}, "id": "b", "to_name": "image"}
    who = {"id": 7, "email": f"{FIRST}@{PLACE}.org", "first_name": FIRST, "last_name": NAME}
    by_mail = {"completed_by": {"email": f"{NAME}@{PLACE}.org"}, "result": [result], "lead_time": 3}
    done = [{"completed_by": who, "result": [result, said], "unique_id": NUMBER}, by_mail]
    task = {"id": 1, "data": {"image": f"/data/upload/3/1a2b3c4d-{WHO}.png", "note": TEXT}, "annotations": done}
    yaml = 'cases: {match: "{patient}/{stem}.png", group: "{patient}"}\n'
    yaml += "annotations: [{kind: labelstudio, path: tasks.json}]\n"
    return Planted(yaml, {f"{WHO}/{WHO}.png": _picture(), "tasks.json": json.dumps([task]).encode()}, 1)


def coco() -> Planted:
    about = {"contributor": TEXT, "description": TEXT, "date_created": BORN}
    image = {"id": 1, "file_name": f"{WHO}.png", "width": 40, "height": 30, "coco_url": TEXT, "patient": KEYS}
    mark = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 3, 15, 10], "attributes": KEYS, "note": TEXT}
    data = {"info": about, "images": [image], "annotations": [mark], "categories": [{"id": 1, "name": "nodule"}]}
    yaml = 'cases: {match: "{patient}/{stem}.png", group: "{patient}"}\n'
    yaml += "annotations: [{kind: coco, path: all.json}]\n"
    return Planted(yaml, {f"{WHO}/{WHO}.png": _picture(), "all.json": json.dumps(data).encode()}, 1)


def cvat() -> Planted:
    box = '<box label="nodule" xtl="5" ytl="3" xbr="20" ybr="13" source="x"><attribute name="who">'
    meta = f"<meta><task><owner><username>{NAME}</username><email>{TEXT}</email></owner></task></meta>"
    image = f'<image id="0" name="{WHO}.png" width="40" height="30">{box}{TEXT}</attribute></box></image>'
    yaml = 'cases: {match: "{patient}/{stem}.png", group: "{patient}"}\n'
    yaml += "annotations: [{kind: cvat, path: all.xml}]\n"
    text = f"<!-- {TEXT} --><annotations>{meta}{image}</annotations>"
    return Planted(yaml, {f"{WHO}/{WHO}.png": _picture(), "all.xml": text.encode()}, 1)


def one_by_one() -> Planted:
    """Annotations of one picture each: VOC, LabelMe, ImageScope, YOLO; and masks with a reader in their name."""
    corner = "<xmin>6</xmin><ymin>4</ymin><xmax>25</xmax><ymax>20</ymax>"
    voc = f"<annotation><folder>{WHO}</folder><path>{TEXT}</path><owner><name>{TEXT}</name></owner>"
    voc += f"<object><name>nodule</name><pose>{TEXT}</pose><bndbox>{corner}</bndbox></object></annotation>"
    shape = {"label": "nodule", "points": [[5, 3], [25, 20]], "shape_type": "rectangle", "description": TEXT}
    labelme = {
        "imagePath": f"{WHO}.png",
        "imageData": TEXT,
        "otherData": KEYS,
        "flags": {TEXT: False},
        "shapes": [shape],
    }
    region = (
        f'<Region Type="1" Text="{TEXT}"><Vertices><Vertex X="5" Y="3"/><Vertex X="25" Y="20"/></Vertices></Region>'
    )
    scope = f'<Annotations MicronsPerPixel="{TEXT}"><Annotation Name="nodule" Note="{TEXT}"><Attributes>'
    scope += f'<Attribute Name="Description" Value="{TEXT}"/></Attributes>'
    scope += f"<Regions>{region}</Regions></Annotation></Annotations>"
    texts = {
        "voc.xml": voc.encode(),
        "labelme.json": json.dumps(labelme).encode(),
        "aperio.xml": scope.encode(),
        "mask.png": pngs_with_text(LABELS[1]),
    }
    keys = {"mask": ", label: nodule"}
    yaml = 'cases: {match: "{patient}/{stem}_picture.png", id: "{patient}/{stem}", group: "{patient}"}\nannotations:\n'
    files = {}
    for name, text in texts.items():
        kind = name.partition(".")[0]
        yaml += f'- {{kind: {kind}, path: "{{patient}}/{{stem}}_{name}"{keys.get(kind, "")}}}\n'
        files |= {f"{WHO}/{kind}_picture.png": _picture(), f"{WHO}/{kind}_{name}": text}
    return Planted(yaml, files, len(texts))


def pngs_with_text(pixels: np.ndarray) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Author", TEXT)
    return encoded(pixels, "PNG", pnginfo=info)


def readers() -> Planted:
    """Two readers' masks, each with a reader's name in its file name."""
    yaml = 'cases: {match: "{patient}/a.png", id: "{patient}/a", group: "{patient}"}\n'
    yaml += 'annotations: [{kind: mask, path: "masks/{stem}_by_{reader}.png", label: nodule}]\n'
    masks = {f"masks/a_by_{name}.png": pngs_with_text(LABELS[1] * 255) for name in (f"Dr{NAME}", f"{FIRST}{NUMBER}")}
    return Planted(yaml, {f"{WHO}{BORN}{PLACE}/a.png": _picture(), **masks}, 1)


@cache
def sources() -> dict[str, Planted]:
    """Return every data set, by the name of its source."""
    made = (
        series, contours, films, photos, volumes, videos, rows, arrays, table, labelstudio, coco, cvat, one_by_one,
        readers,
    )  # fmt: skip
    return {make.__name__: make() for make in made}


def write(folder: Path, name: str, more: str = "", files: Mapping[str, bytes] | None = None) -> Path:
    """Write a data set and its descriptor; returns the descriptor."""
    planted = sources()[name]
    for path, data in (planted.files if files is None else files).items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(data)
    head = (
        f"schema: medgloss/1\nid: {name}\ntitle: A toy\nlicense: {{name: CC0-1.0, redistribute: true}}\negress: any\n"
    )
    text = (
        f"{head}root: {name}\nmodality: {planted.modality}\nprivacy: {{hash_ids: true}}\nlimits: none\n{planted.yaml}"
    )
    (folder / f"{name}.yaml").write_text(text + more)
    return folder / f"{name}.yaml"
