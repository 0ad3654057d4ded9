"""The defective files of `dirty_derived` in one run: each ends as `dirty.csv` says, within what the manifest allows.

A line of `dirty.csv` fixes the outcome of one path, its reason code (or flag), the level of the row that has it, and
what is compared: `name=value`, commas between. A path of several parts has semicolons between them, in every column.
Where the manifest leaves a choice, `why` gives the reason for ours.
"""

import contextlib
import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps
from test_real_data import DATA, HERE

from pipeline import pictures, rows
from pipeline.cli import main
from pipeline.ingest import series
from pipeline.records import Record, Region
from pipeline.store import Store, read_table
from sources.listing import safe

DIRTY = DATA / "dirty_derived"

pytestmark = pytest.mark.skipif(not DIRTY.is_dir(), reason=f"no {DIRTY}; MEDGLOSS_REAL_DATA names the folder above")

IMPLIED = {("record", "no_region"), ("case", "nothing_kept")}
"""What follows, where the last region or the last picture of a case is left out."""
ALLOWED = {
    "accept": {"kept", "flagged"},
    "reject": {"rejected"},
    "flag": {"flagged"},
    "warn": {"flagged"},
    "clip": {"flagged"},
}
"""By the first words of what the manifest wants, where it leaves no choice."""
GROUPS = {
    "inverted": ("inverted",),
    "palette_classes": ("palette",),
    "rgb_classes": ("colours",),
    "speck": ("binary", "speck"),
}
"""Masks that a descriptor of their own reads; all others are `binary`."""


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


MANIFEST = {row["path"]: row for row in table(DIRTY / "manifest.csv")} if DIRTY.is_dir() else {}
WANTED = {row["path"]: row for row in table(Path(__file__).parent / "dirty.csv")}


# ---- one folder for all


def link(link_: Path, file: Path) -> None:
    link_.parent.mkdir(parents=True, exist_ok=True)
    link_.symlink_to(file)


def staged(root: Path) -> None:
    """Give every file the picture it speaks of, under the name that it has for it; nothing is copied."""
    for kind in ("raster", "dicom", "video", "det"):
        for file in (DIRTY / kind).rglob("*"):
            if file.is_file():
                link(root / file.relative_to(DIRTY), file)
    link(root / "dicom/ct_image.dcm", DATA / "highdicom_test/data/test_files/ct_image.dcm")
    for file in (DIRTY / "mask2d").glob("*.*"):
        for group in GROUPS.get(file.stem, ("binary",)) if file.stem != "img" else ():
            link(root / f"mask2d_{group}/masks" / file.name, file)
            link(root / f"mask2d_{group}/images/{file.stem}.jpg", DIRTY / "mask2d/img.jpg")
    for file in (DIRTY / "nifti").glob("*"):
        if file.name.startswith("seg"):
            link(root / "nifti_seg" / file.name.removesuffix(".nii.gz") / "seg.nii.gz", file)
            link(root / "nifti_seg" / file.name.removesuffix(".nii.gz") / "ct.nii.gz", DIRTY / "nifti/ct.nii.gz")
        else:
            link(root / "nifti" / file.name, file)
    for file in (DIRTY / "det/voc").glob("*.xml"):
        link(root / f"det/voc/{file.stem}.jpg", DIRTY / "det/images/a.jpg")
    for file in (DIRTY / "csv").glob("*.csv"):
        link(root / "csv" / file.stem / "table.csv", file)
        for name in {"bom_semicolon": "ab", "dups": "ab", "onehot": "abc"}.get(file.stem, "a"):
            link(root / "csv" / file.stem / f"{name}.jpg", DIRTY / "det/images/a.jpg")
    for name, size, box in (("filed", (320, 240), (41, 31, 120, 90)), ("shown", (240, 320), (151, 41, 210, 120))):
        link(root / f"raster_exif/{name}.jpg", DIRTY / "raster/exif6.jpg")
        (root / f"raster_exif/{name}.xml").write_text(voc(size, box))


def voc(size: Sequence[int], box: Sequence[int]) -> str:
    """A box by the first and last column and row that belong to it, from 1."""
    sides = "".join(f"<{key}>{n}</{key}>" for key, n in zip(("width", "height"), size, strict=True))
    ends = "".join(f"<{key}>{n}</{key}>" for key, n in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<annotation><size>{sides}</size><object><name>RBC</name><bndbox>{ends}</bndbox></object></annotation>"


def cases_of(path: str) -> list[str]:
    """What begins the ids of all that came of a path."""
    kind, _, name = path.partition("/")
    stem = name.rpartition("/")[2].partition(".")[0]
    by_kind = {
        "raster": [f"dirty_raster/{safe(path.removeprefix('raster/'))}"],
        "mask2d": [f"dirty_mask2d_{group}/{stem}" for group in GROUPS.get(stem, ("binary",))],
        "nifti": [f"dirty_nifti_seg/{stem}" if stem.startswith("seg") else f"dirty_nifti/{stem}"],
        "dicom": [f"dirty_dicom/{stem}"],
        "det": [f"dirty_det_{name.partition('/')[0]}/{stem}" if "/" in name else "dirty_det_coco"],
        "csv": [f"dirty_csv_{stem}"],
        "video": [f"dirty_video/{stem}"],
    }
    return by_kind[kind] + (["dirty_raster_exif"] if stem == "exif6" else [])


# ---- one run


class Ran(NamedTuple):
    """What a run left behind."""

    status: int
    said: str
    store: Store
    records: list[Record]
    rejected: list[dict[str, str]]

    def of(self, prefix: str) -> tuple[list[Record], list[dict[str, str]]]:
        """Records, in the order of their ids, and rejected rows of what a prefix names."""
        records = [record for record in self.records if begins(record.id, prefix)]
        return sorted(records, key=lambda record: record.id), [
            row for row in self.rejected if begins(row["id"], prefix)
        ]


def begins(id_: str, prefix: str) -> bool:
    return id_ == prefix or id_.startswith(f"{prefix}/")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("dirty")
    staged(folder / "data")
    descriptors = sorted(str(path) for path in HERE.glob("dirty_*.yaml"))
    said = io.StringIO()
    heard = logging.StreamHandler(said)  # what a program that turns on logging would see
    logging.getLogger().addHandler(heard)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["ingest", str(folder / "run"), *descriptors, "--data", str(folder / "data"), "--workers", "1"])
    logging.getLogger().removeHandler(heard)
    store = Store(str(folder / "run"))
    files = [file for file in store.list("") if file.endswith(".parquet")]
    records = list(rows.read_records(store, [file for file in files if file.startswith("records/")]))
    left = [row for file in files if file.startswith("rejected/") for row in read_table(store, file).to_pylist()]
    return Ran(status, said.getvalue(), store, records, left)


class Part(NamedTuple):
    """What a line wants of one part of its path."""

    outcome: str
    reason: str
    level: str
    what: dict[str, list[str]]
    """Name to values."""


def parts_of(line: Mapping[str, str]) -> list[Part]:
    columns = [[cell.strip() for cell in line[key].split(";")] for key in ("outcome", "reason", "level", "what")]
    many = len(columns[0])
    assert all(len(column) == many for column in columns), f"{line['path']}: columns with another number of parts"
    return [Part(*cells, _said(what)) for *cells, what in zip(*columns, strict=True)]  # type: ignore[arg-type]


def _said(what: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in what.split(", ") if what else ():
        name, _, text = entry.partition("=")
        found.setdefault(name, []).append(text)
    return found


# ---- what is compared


def pixels(record: Record) -> np.ndarray:
    assert record.picture is not None
    return pictures.pixels_of(record.picture.bytes)


def stretched(values: np.ndarray) -> np.ndarray:
    """Percentiles 0.5 and 99.5 of what is above the lowest value, as black and white."""
    low, high = np.percentile(values[values > values.min()], (0.5, 99.5))
    return np.clip((values.astype(float) - low) * 255 / (high - low), 0, 255)


def shown_elsewhere(file: Path, how: str) -> np.ndarray:
    if how == "16 bits as 8":  # Pillow takes the upper 8 bits only
        return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[..., ::-1] / 257
    with Image.open(file) as image:
        match how:
            case "rgb":
                return np.asarray(image.convert("RGB"))
            case "grey":
                return np.asarray(image.convert("L"))
            case "upright":
                return np.asarray(ImageOps.exif_transpose(image))
            case "without alpha":
                return np.asarray(image)[..., :3]
            case "stretched grey":
                return stretched(np.asarray(image))
            case _:
                raise AssertionError(f"{how}: no other program is asked")


def slice_of_nifti(file: Path, index: int) -> np.ndarray:
    """An axial slice as radiologists look at it, soft tissue; what is no number is black."""
    image = nib.as_closest_canonical(nib.load(file))
    hu = np.asanyarray(image.dataobj).reshape(image.shape[:3])[::-1, ::-1, index].T.astype(float)
    return np.clip((np.where(np.isfinite(hu), hu, -1e4) + 160) * 255 / 400, 0, 255)


def slice_of_dicom(files: Sequence[Path], z: float) -> np.ndarray:
    """The slice at a height, through the first window of its header: LINEAR of PS3.3 C.11.2.1.2.1."""
    (found,) = {
        str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, files) if abs(d.ImagePositionPatient[2] - z) < 0.01
    }.values()
    hu = found.pixel_array * float(found.RescaleSlope) + float(found.RescaleIntercept)
    center, width = float(found.WindowCenter[0]), float(found.WindowWidth[0])
    return np.clip(((hu - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def height_of(record: Record) -> float:
    assert record.picture is not None
    assert record.picture.to_world is not None
    _, _, _, _, _, _, by_x, by_y, z = record.picture.to_world
    assert (by_x, by_y) == (0, 0)
    return round(z, 3)


def regions_of(records: Sequence[Record], without: str = "") -> dict[int | None, list[Any]]:
    """What is on each slice."""
    return {
        record.picture.index: sorted(
            (region.raw, region.label or "", region.side or "", region.box, region.area_px, region.mask)
            for region in record.regions
            if region.raw != without
        )
        for record in records
        if record.picture
    }


class Here(NamedTuple):
    """What a part is compared with."""

    path: str
    records: list[Record]
    ran: Ran

    @property
    def regions(self) -> list[Region]:
        return [region for record in self.records for region in record.regions]

    @property
    def file(self) -> Path:
        return DIRTY / self.path

    def each(self, name: str) -> set[Any]:
        return {getattr(record.picture, name) for record in self.records}


def compare_shows(here: Here, how: str) -> None:
    for record in here.records:
        assert record.picture is not None
        if how == "hu":
            wanted = slice_of_nifti(here.file, record.picture.index or 0)
        elif how == "slices":
            files = [here.file] if here.file.is_file() else sorted(here.file.iterdir())
            wanted = slice_of_dicom(files, height_of(record))
        else:
            wanted = shown_elsewhere(here.file, how)
        off = np.abs(pixels(record).astype(float) - wanted).max()
        assert pixels(record).shape == wanted.shape
        assert off <= 0.51, f"{record.id} is {off:g} off"


def compare_box(here: Here, texts: Sequence[str]) -> None:
    """Each box is `x0 y0 x1 y1`, half-open; a label may follow."""
    wanted = sorted(text.split() for text in texts if text != "none")
    boxes = {tuple(region.box): region.label for region in here.regions if region.box}
    found = sorted([*(f"{round(edge, 2):g}" for edge in box), label or ""] for box, label in boxes.items())
    assert [box[: len(said)] for box, said in zip(found, wanted, strict=True)] == wanted


def compare_geometry(here: Here, wanted: str) -> None:
    assert here.each("geometry") == {wanted}
    if wanted == "unknown":  # nothing that could say left or right
        assert (here.each("to_world"), here.each("plane")) == ({None}, {"unknown"})
        assert not any(region.side for region in here.regions)


def compare_like(here: Here, other: str, change: Callable[[np.ndarray], np.ndarray] = lambda same: same) -> None:
    (control,), _ = here.ran.of(f"dirty_dicom/{other}")
    for record in here.records:
        np.testing.assert_array_equal(pixels(record), change(pixels(control)))


def compare_regions(here: Here, said: str) -> None:
    other, _, without = said.partition(" without ")
    wanted = regions_of(here.ran.of(f"dirty_nifti_seg/{other}")[0], without)
    assert sum(map(len, wanted.values())) > 100
    assert regions_of(here.records) == wanted


def compare(here: Here, name: str, texts: list[str]) -> None:
    match name:
        case "records":
            assert len(here.records) == int(texts[0])
        case "size":
            assert {f"{record.picture.width}x{record.picture.height}" for record in here.records} == {*texts}  # type: ignore[union-attr]
        case "box":
            compare_box(here, texts)
        case "area":
            assert {region.area_px for region in here.regions} == set(map(float, texts))
        case "label":
            assert {region.label for region in here.regions} == {*texts}
        case "raw":
            assert [(region.raw, region.label) for region in here.regions] == [(texts[0], None)]
        case "absent":
            present = {region.label for region in here.regions}
            assert {label for record in here.records for label in record.annotated} - present == {*texts}
        case "z":
            in_order = sorted(here.records, key=lambda record: record.id)
            assert [height_of(record) for record in in_order] == [float(z) for z in texts[0].split()]
        case "shows":
            compare_shows(here, texts[0])
        case "like":
            compare_like(here, texts[0])
        case "inverse":
            compare_like(here, texts[0], lambda same: 255 - same)
        case "regions":
            compare_regions(here, texts[0])
        case "geometry":
            compare_geometry(here, texts[0])
        case "window":
            assert here.each("window") == {*texts}
        case "tells":  # in its history
            steps = [step for record in here.records for step in record.history]
            assert [step for step in steps if step.startswith(texts[0])], steps
        case "notes":
            assert {record.attributes["notes"] for record in here.records} == {*texts}
        case _:
            raise AssertionError(f"{name}: nothing compares it")


def check_part(path: str, part: Part, prefixes: Sequence[str], ran: Ran) -> None:
    found = [ran.of(prefix) for prefix in prefixes]
    records = [record for of_prefix, _ in found for record in of_prefix]
    left = [row for _, of_prefix in found for row in of_prefix]
    matching = [row for row in left if (row["level"], row["reason"]) == (part.level, part.reason)]
    flags = {flag for record in records if record.picture for flag in record.picture.flags}
    what = dict(part.what)
    if part.outcome == "rejected" and "region" in what:
        (number,) = what.pop("region")
        assert [row for row in matching if row["id"].endswith(f"/r{int(number):03d}")], left
    elif part.outcome in ("rejected", "skipped"):
        assert not records
        assert bool(matching) == (part.outcome == "rejected"), left
    else:
        assert records, left
        assert flags == ({part.reason} if part.outcome == "flagged" else set())
        assert part.outcome == "flagged" or bool(matching) == bool(part.reason), left
    for name, texts in what.items():
        compare(Here(path, records, ran), name, texts)


# ---- the tests


def test_all_87_are_read_in_one_run_without_a_crash(ran):
    assert ran.status == 0, ran.said
    assert len(MANIFEST) == 87
    assert list(MANIFEST) == list(WANTED)


@pytest.mark.parametrize("path", WANTED)
def test_each_ends_as_it_should(path, ran):
    parts, prefixes, stated = parts_of(WANTED[path]), cases_of(path), set()
    named = {name for part in parts for name in part.what.get("case", ()) if name != "*"}
    for part in parts:
        (case,) = part.what.pop("case", [""])
        here = [f"{prefix}/{case}" if case else prefix for prefix in prefixes]
        if case == "*":  # whatever it is called
            ids = {row["id"] for prefix in prefixes for row in ran.of(prefix)[1] if row["level"] == "case"}
            here = sorted(ids - {f"{prefix}/{name}" for prefix in prefixes for name in named})
            assert here, "a row of the table ended nowhere"
        check_part(path, part, here, ran)
        stated |= {(part.level, part.reason)} if part.outcome != "flagged" and part.reason else set()
    left = {(row["level"], row["reason"]) for prefix in prefixes for row in ran.of(prefix)[1]}
    assert left - IMPLIED == stated - IMPLIED


@pytest.mark.parametrize("path", WANTED)
def test_outcomes_are_within_what_the_manifest_allows(path):
    wanted = MANIFEST[path]["wanted"]
    outcomes = {part.outcome for part in parts_of(WANTED[path])}
    assert outcomes <= {"kept", "flagged", "rejected", "skipped"}
    assert (outcomes == {"skipped"}) == (wanted == "skip")
    for words, allowed in ALLOWED.items():
        if wanted.startswith(words) and " or " not in wanted:
            assert outcomes <= allowed, wanted


def test_a_box_follows_its_picture_when_exif_turns_it(ran):
    upright = shown_elsewhere(DIRTY / "raster/exif6.jpg", "upright")
    filed = shown_elsewhere(DIRTY / "raster/exif6.jpg", "rgb")
    records, _ = ran.of("dirty_raster_exif")
    assert [record.case for record in records] == ["filed", "shown"]
    for record in records:
        ((x0, y0, x1, y1),) = [tuple(map(int, region.box)) for region in record.regions if region.box]
        cut = pixels(record)[y0:y1, x0:x1]
        np.testing.assert_array_equal(cut, upright[40:120, 150:210])
        np.testing.assert_array_equal(cut, np.rot90(filed[30:90, 40:120], -1))


def test_the_controls_are_what_other_programs_read(ran):
    (ct,), _ = ran.of("dirty_dicom/ct_image")
    file = pydicom.dcmread(DATA / "highdicom_test/data/test_files/ct_image.dcm")
    hu = file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)
    assert np.abs(pixels(ct) - np.clip((hu + 160) * 255 / 400, 0, 255)).max() <= 0.51
    stored = np.asanyarray(nib.load(DIRTY / "nifti/seg.nii.gz").dataobj)
    records, _ = ran.of("dirty_nifti_seg/seg")
    counted = {value: 0.0 for value in np.unique(stored).tolist() if value}
    for record in records:
        for region in record.regions:
            counted[int(region.raw)] += region.area_px or 0
    assert counted == {value: int((stored == value).sum()) for value in counted}


def test_the_storage_class_names_a_modality_that_the_header_leaves_out():
    (stack,) = series.read([DIRTY / "dicom/no_modality.dcm"]).stacks
    assert stack.modality == "CT"


def texts_of(row: Any) -> list[str]:
    """All texts of a row, but hashes and run lengths: any four characters may stand in them."""
    if isinstance(row, Mapping):
        return [text for key, value in row.items() if key not in ("sha256", "mask") for text in texts_of(value)]
    if isinstance(row, list | tuple):
        return [text for value in row for text in texts_of(value)]
    return [row] if isinstance(row, str) else []


def patients() -> set[str]:
    """What the DICOM files say of patients, and the numbers that lead to them."""
    found = set[str]()
    for file in (path for path in (DIRTY / "dicom").rglob("*") if path.is_file()):
        dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "SOPInstanceUID"):
            found.update(str(dataset.get(keyword, "")).split("^"))
    return found - {""}


def test_nothing_of_a_patient_is_written_anywhere(ran):
    names = patients()
    assert {"Meier", "Hans", "4711", "19500101"} <= names
    files = {file: ran.store.read(file) for file in ran.store.list("")}
    for name in (name for name in names if len(name) > 4):  # shorter ones stand in compressed bytes by chance
        assert name not in ran.said
        assert [file for file, data in files.items() if name.encode() in data] == []
    tables = [read_table(ran.store, file).to_pylist() for file in files if file.endswith(".parquet")]
    texts = [text for of_file in tables for row in of_file for text in texts_of(row)]
    assert len(texts) > 1000
    assert [text for text in texts if any(name in text for name in names)] == []
    ((phi,), _) = ran.of("dirty_dicom/phi")
    assert phi.picture.bytes.count(b"tEXt") == phi.picture.bytes.count(b"eXIf") == 0


def test_no_external_entity_is_resolved(ran):
    first = Path("/etc/passwd").read_text().splitlines()[0]
    texts = [text for row in (*ran.rejected, *map(rows.record_row, ran.records)) for text in texts_of(row)]
    assert len(texts) > 1000
    assert [text for text in (*texts, ran.said) if first in text] == []
