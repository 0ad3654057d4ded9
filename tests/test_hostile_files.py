"""Files that are not what they should be: one row with a reason each, and the rest of the data set is read as ever."""

import gzip
import io
import json
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import HEAD, Toy
from hostile_forms import (
    GREY,
    HU,
    LABELS,
    Form,
    arrays,
    by_itk,
    encoded,
    film,
    forms,
    gif,
    nifti,
    npy,
    on_picture,
    pictures,
)
from small_tiff import tiff

from pipeline import vocabulary
from pipeline.errors import UserError
from pipeline.ingest.source import Source
from pipeline.ingest.stage import Read, read_case
from sources.descriptor import parse

NAMES = sorted(forms())
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Doe, Jane: not found</body></html>\n"
NEVER = {
    "empty": b"",
    "pointer": POINTER,
    "page": PAGE,
    "zeros": bytes(5000),
    "random": np.random.default_rng(7).bytes(5000),
}
"""What no form can be read from."""
REASONS = {
    "empty_file", "lfs_pointer", "undecodable", "truncated", "bad_annotation", "not_an_image", "missing_image",
    "unreadable", "not_3d", "too_large", "no_content", "size_mismatch", "geometry_mismatch", "not_binary",
    "missing_column",
    "interpolated_mask", "missing_mask", "nothing_kept", "bad_geometry", "mask_outside", "no_geometry",
    "not_normalised", "prediction", "burned_in",
}  # fmt: skip
"""Of a case that can not be read."""
PRINTS = re.compile(r"tiff|^film jpeg( 2000)?$")
"""Forms whose libraries (libtiff of Pillow, the JPEG codecs of ITK) complain on standard error whatever one does."""


def written(folder: Path, form: Form, cases: Mapping[str, bytes | None]) -> Toy:
    """Write a data set; None: a sound case."""
    root = folder / "Doe_Jane_1970"
    for case, data in cases.items():
        for name, content in form.of(case, data).items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.replace(b"{}.raw", f"{case}.raw".encode()) if name.endswith("mhd") else content)
    return Toy(parse(f"{HEAD}modality: {form.modality}\n{form.yaml}", "toy.yaml"), root)


def settled(read: Read) -> str:
    """Check what holds for every case, and return the reason of its row, or `kept`."""
    levels = Counter(row.level for row in read.rejected)
    kept = sum(len(record.regions) for record in read.records)
    assert read.tally.pictures_cut == len(read.records) + read.tally.pictures_not_selected + levels["record"]
    assert read.tally.regions_found == kept + levels["region"]
    assert levels["case"] == (0 if read.records else 1)
    for row in read.rejected:
        assert re.fullmatch(r"[a-z0-9_]+", row.reason)
        assert not re.search(r"Doe|Jane|1970|/tmp|\.(png|nii|dcm|xml|json|txt|npz|npy|tif)\b", row.detail), row
        assert len(row.detail) < 400
    return next((row.reason for row in read.rejected if row.level == "case"), "kept")


def by_case(toy: Toy) -> Iterator[tuple[str, Read]]:
    """Read all cases of a data set; of rows, the case is the file."""
    for id_, read in toy.read().items():
        yield id_.partition("/")[0], read


def check_all(toy: Toy, form: Form, never: set[str]) -> None:
    """Check every case: sound ones are kept whole, what can not be read is one row."""
    seen = set[str]()
    for case, read in by_case(toy):
        reason = settled(read)
        seen.add(case)
        if case.startswith("good"):
            assert reason == "kept"
            assert not [row for row in read.rejected if row.reason not in ("no_region", "unlabelled")]
        elif case in never and not form.partly:
            assert not read.records
            assert reason in REASONS
            assert [row.level for row in read.rejected if row.reason != "no_region"] == ["case"]
        else:
            assert reason == "kept" or reason in REASONS
    assert {"good", "good2"} <= seen
    assert never <= seen


def cuts(data: bytes) -> dict[str, bytes]:
    places = {1, 3, 8, 20, 128, 132, 140, 348, 352, len(data) - 4, len(data) - 1}
    places |= {len(data) * part // 8 for part in range(1, 8)}
    return {f"cut{at}": data[:at] for at in sorted(places) if 0 < at < len(data)}


@pytest.mark.parametrize("name", NAMES)
def test_what_can_not_be_read_is_one_row_and_its_neighbours_are_read(tmp_path, capfd, name):
    form = forms()[name]
    never = {case: data for case, data in NEVER.items() if (name, case) != ("yolo", "empty")}
    if name == "mhd's voxels":  # any bytes are voxels, if they are enough
        never = {case: data[:9000] for case, data in never.items()}
    cases = {"good": None, **NEVER, **never, **cuts(form.files[form.damaged]), "good2": None}
    check_all(written(tmp_path, form, cases), form, set(never))
    said = capfd.readouterr()
    assert not re.search(r"Doe|Jane|1970|cut\d|pointer", said.out + said.err)
    assert PRINTS.search(name) or name == "mask" or said == ("", "")


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change, cut out or put in some bytes, most often near the beginning, where headers are."""
    damaged, kind = bytearray(data), int(rng.integers(5))
    reach = min(len(data), (len(data), 400, 60)[int(rng.integers(3))])
    at = int(rng.integers(reach))
    if kind < 2:
        for _ in range(int(rng.integers(1, 9))):
            damaged[int(rng.integers(reach))] = int(rng.integers(256))
    elif kind == 2:
        del damaged[at : at + int(rng.integers(1, 100))]
    elif kind == 3:
        many = int(rng.integers(1, 9))
        damaged[at : at + many] = (b"\xff" * many, b"\0" * many, b"\x7f" + b"\xff" * (many - 1))[int(rng.integers(3))]
    else:
        damaged[at:at] = rng.bytes(int(rng.integers(1, 300)))
    return bytes(damaged)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_changed_bytes_has_one_of_the_fates(tmp_path, capfd, name):
    form = forms()[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    cases = {f"bad{n}": mutated(form.files[form.damaged], rng) for n in range(25)}
    check_all(written(tmp_path, form, {"good": None, **cases, "good2": None}), form, set())
    said = capfd.readouterr()
    assert not re.search(r"Doe|Jane|1970|bad\d", said.out + said.err)
    assert PRINTS.search(name) or name == "mask" or said == ("", "")


WRONG = ("png", "jpeg", "lzw tiff", "film", "nifti gz", "nrrd", "mha", "mp4", "gif", "npz", "npy", "parquet", "voc")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_type_under_the_right_name_has_one_of_the_fates(tmp_path, capfd, name):
    form = forms()[name]
    others = {f"bad{n}": forms()[other].files[forms()[other].damaged] for n, other in enumerate(WRONG)}
    check_all(written(tmp_path, form, {"good": None, **others, "good2": None}), form, set())
    said = capfd.readouterr()
    assert not re.search(r"Doe|Jane|1970|bad\d", said.out + said.err)


LOST = {"parquet": (b"image", b"imago"), "npz stored": (b"images.npy", b"imagos.npy")}
"""What damage of a few bytes makes of the name of a column or a member."""


@pytest.mark.parametrize(("name", "change"), LOST.items(), ids=LOST)
def test_one_file_of_rows_that_lost_its_pictures_does_not_stop_the_run(tmp_path, name, change):
    form = forms()[name]
    data = form.files[form.damaged].replace(*change)
    check_all(written(tmp_path, form, {"good": None, "bad": data, "good2": None}), form, {"bad"})


# ---- what becomes of a file between the plan and the reading


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def a_dead_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("Doe_Jane_is_gone"))


def a_long_name(path: Path) -> None:
    path.unlink()
    path.symlink_to("Doe_Jane" * 40)  # no file system has such a name


CHANGES = (gone, a_folder, a_loop, a_dead_link, a_long_name)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_lost_after_the_plan_is_one_row(tmp_path, capfd, name, change):
    form = forms()[name]
    toy = written(tmp_path, form, {"good": None, "lost": None})
    cases = toy.plan().cases
    change(toy.root / form.damaged.format("lost"))
    source = Source(toy.descriptor, toy.root, vocabulary.load())
    for case in cases:
        read = read_case(case, source)
        reason = settled(read)
        if case.id.startswith("good") or form.partly:
            assert reason == "kept"
        else:
            assert reason in ("unreadable", "missing_image", "missing_mask", "undecodable", "truncated")
    said = capfd.readouterr()
    assert said == ("", "")


@pytest.mark.parametrize("change", [a_folder, a_loop, a_dead_link], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_before_the_plan_spoils_its_own_case_at_most(tmp_path, name, change):
    form = forms()[name]
    toy = written(tmp_path, form, {"good": None, "lost": None, "good2": None})
    change(toy.root / form.damaged.format("lost"))
    for case, read in by_case(toy):
        reason = settled(read)
        assert reason == "kept" if case.startswith("good") or form.partly else reason != "kept"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_may_not_be_read_is_one_row(tmp_path, name):
    form = forms()[name]
    toy = written(tmp_path, form, {"good": None, "shut": None})
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder.name.startswith(("pytest-", "test_")):
            folder.chmod(folder.stat().st_mode | 0o055)
    (toy.root / form.damaged.format("shut")).chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        found = list(by_case(toy))
    finally:
        if root:
            os.seteuid(0)
    for case, read in found:
        reason = settled(read)
        assert reason == "kept" if case == "good" or form.partly else reason in ("unreadable", "undecodable")


# ---- bombs and giants


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int = 8, more: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(31 * 41)))
    return b"\x89PNG\r\n\x1a\n" + header + more + body + chunk(b"IEND", b"")


def patched(data: bytes, at: int, form: str, *values: float) -> bytes:
    held = bytearray(data)
    struct.pack_into(form, held, at, *values)
    return bytes(held)


def patched_nifti(at: int, form: str, *values: float, array: np.ndarray = HU) -> bytes:
    return patched(nifti(array, ".nii"), at, form, *values)


def gzip_bomb() -> bytes:
    """A header of 20 000³ voxels and 256 MB of zeros in 250 KB."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb") as file:
        file.write(patched_nifti(40, "<8h", 3, 20_000, 20_000, 20_000, 1, 1, 1, 1)[:352])
        for _ in range(16):
            file.write(bytes(1 << 24))
    return sink.getvalue()


def npz_of(shape: tuple[int, ...], held: int) -> bytes:
    """An array that claims a shape, and the zeros that it holds."""
    head, sink = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        file.write(head.getvalue())
        for _ in range(held >> 24):
            file.write(bytes(1 << 24))
        file.write(bytes(held & (1 << 24) - 1))
    return sink.getvalue()


def giant_jpeg() -> bytes:
    data = encoded(GREY, "JPEG")
    return patched(data, data.find(b"\xff\xc0") + 5, ">HH", 65_000, 65_000)


def giant_tiff(side: int) -> bytes:
    data = tiff(np.zeros((4, 4), np.uint8))
    for tag in (256, 257):
        old, new = (struct.pack("<HHII", tag, 4, 1, length) for length in (4, side))
        assert old in data
        data = data.replace(old, new)
    return data


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "png of 100k": ("png", lambda: png(100_000, 100_000), "too_large"),
    "png of 2^31": ("png", lambda: png(2**31 - 1, 2**31 - 1), "too_large"),
    "deep png of 100k": ("deep png", lambda: png(100_000, 100_000, 16), "too_large"),
    "png without pixels": ("png", lambda: png(0, 10), "undecodable"),
    "png with a text bomb": (
        "png",
        lambda: png(40, 30, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))),
        "undecodable",
    ),
    "jpeg of 65k": ("jpeg", giant_jpeg, "too_large"),
    "bmp of 100k": ("bmp", lambda: patched(encoded(GREY, "BMP"), 18, "<ii", 100_000, 100_000), "too_large"),
    "gif of 65k": ("gif", lambda: patched(gif(), 6, "<HH", 65_535, 65_535), "too_large"),
    "tiff of 100k": ("tiff", lambda: giant_tiff(100_000), "too_large"),
    "nifti of 32k": ("nifti", lambda: patched_nifti(40, "<4h", 3, 32_767, 32_767, 32_767), "too_large"),
    "nifti of negative sides": ("nifti", lambda: patched_nifti(40, "<4h", 3, -40, 30, 4), "not_3d"),
    "nifti of 0 sides": ("nifti", lambda: patched_nifti(40, "<4h", 3, 0, 30, 4), "not_3d"),
    "nifti with 4 axes": ("nifti", lambda: patched_nifti(40, "<5h", 4, 40, 30, 2, 2), "not_3d"),
    "nifti with 5 axes": ("nifti", lambda: patched_nifti(40, "<6h", 5, 40, 30, 2, 1, 2), "not_3d"),
    "nifti longer than its file": ("nifti", lambda: patched_nifti(40, "<4h", 3, 40, 30, 9), "truncated"),
    "gzip bomb": ("nifti gz", gzip_bomb, "too_large"),
    "label map bomb": ("labelmap", gzip_bomb, "too_large"),
    "nrrd of 40k": (
        "nrrd",
        lambda: by_itk(HU, "a.nrrd").replace(b"sizes: 40 30 4", b"sizes: 40000 30000 40000"),
        "too_large",
    ),
    "mha of 40k": (
        "mha",
        lambda: by_itk(HU, "a.mha").replace(b"DimSize = 40 30 4", b"DimSize = 40000 30000 40000"),
        "too_large",
    ),
    "film of 60k": ("film", lambda: film(Rows=60_000, Columns=60_000), "too_large"),
    "film of a million frames": ("film", lambda: film(NumberOfFrames=1_000_000), "truncated"),
    "film of 0 rows": ("film", lambda: film(Rows=0), "undecodable"),
    "npz of 10^9 rows": ("npz", lambda: npz_of((10**9, 30, 40), 3600), "truncated"),
    "npz of 10^9 columns": ("npz", lambda: npz_of((3, 10**9, 10**9), 3600), "truncated"),
    "npz of pictures without pixels": ("npz", lambda: npz_of((3, 0, 40), 0), "undecodable"),
    "npz of more rows than bytes": ("npz", lambda: npz_of((200_000_000, 1, 1), 200_000_000), "undecodable"),
    "npy of more rows than it holds": ("npy", lambda: npy(HU).replace(b"(4,", b"(9,"), "truncated"),
}
"""Form, file, and the reason of its row."""


@pytest.mark.parametrize(("name", "data", "reason"), BOMBS.values(), ids=BOMBS)
def test_bombs_and_giants_are_refused_by_their_headers(tmp_path, name, data, reason):
    toy = written(tmp_path, forms()[name], {"good": None, "bad": data(), "good2": None})
    found = {case: settled(read) for case, read in by_case(toy)}
    assert found == {"good": "kept", "bad": reason, "good2": "kept"}


@pytest.mark.parametrize("name", ["film jpeg", "film jpeg 2000"])
def test_a_frame_that_claims_more_pixels_than_its_header_is_refused(tmp_path, name):
    data = forms()[name].files["{}.dcm"]
    at = data.find(b"\xff\xc0") + 5
    bomb = patched(data, at, ">HH", 65_000, 65_000)
    if name == "film jpeg 2000":
        at = data.find(b"\xff\x4f\xff\x51") + 8
        bomb = patched(patched(data, at, ">II", 60_000, 60_000), at + 16, ">II", 60_000, 60_000)
    toy = written(tmp_path, forms()[name], {"good": None, "bad": bomb, "good2": None})
    assert {case: settled(read) for case, read in by_case(toy)} == {
        "good": "kept",
        "bad": "undecodable",
        "good2": "kept",
    }


# ---- numbers that are none


def float_nifti(array: np.ndarray, value: float | None = None, dtype: type = np.float32) -> bytes:
    held = array.astype(dtype)
    if value is not None:
        held[0, 0, :5] = value
    image = nib.Nifti1Image(held.transpose(2, 1, 0), np.diag([-1.5, -1.5, 3, 1]), dtype=dtype)
    return image.to_bytes()


NUMBERS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "all NaN": ("nifti", lambda: float_nifti(HU * np.nan), "no_content"),
    "all infinite": ("nifti", lambda: float_nifti(HU * 0 + np.inf), "no_content"),
    "one value": ("nifti", lambda: float_nifti(HU * 0 + 5), "no_content"),
    "some NaN": ("nifti", lambda: float_nifti(HU, np.nan), "kept"),
    "some infinite": ("nifti", lambda: float_nifti(HU, -np.inf), "kept"),
    "some 1e300": ("nifti", lambda: float_nifti(HU, 1e300, np.float64), "kept"),
    "slope 0 is no slope": ("nifti", lambda: patched_nifti(112, "<f", 0.0), "kept"),
    "slope NaN is no slope": ("nifti", lambda: patched_nifti(112, "<f", np.nan), "kept"),
    "slope infinite": ("nifti", lambda: patched_nifti(112, "<f", np.inf), "kept"),
    "slope 1e38": ("nifti", lambda: patched_nifti(112, "<f", 1e38), "kept"),
    "spacing NaN": ("nifti", lambda: patched_nifti(280, "<f", np.nan), "bad_geometry"),
    "labels NaN": ("labelmap", lambda: gzip.compress(float_nifti(LABELS, np.nan)), "interpolated_mask"),
    "labels infinite": ("labelmap", lambda: gzip.compress(float_nifti(LABELS, np.inf)), "interpolated_mask"),
    "labels of 0.5": ("labelmap", lambda: gzip.compress(float_nifti(LABELS, 0.5)), "interpolated_mask"),
    "labels of 1e30": ("labelmap", lambda: gzip.compress(float_nifti(LABELS, 1e30)), "interpolated_mask"),
    "tiff of NaN": ("tiff", lambda: tiff((HU[0] * np.nan).astype("<f4")), "no_content"),
    "tiff with NaN": ("tiff", lambda: tiff(np.where(HU[0] > 0, HU[0], np.nan).astype("<f4")), "kept"),
    "npy of NaN": ("npy", lambda: npy(np.stack([HU[0] * np.nan])), "no_content"),
    "npy of texts": ("npy", lambda: npy(np.full((3, 30, 40), "Doe")), "undecodable"),
    "npy of complex numbers": ("npy", lambda: npy(HU.astype(complex)), "undecodable"),
    "npy of 5 axes": ("npy", lambda: npy(np.zeros((3, 4, 5, 6, 7), np.uint8)), "undecodable"),
    "film with slope 0": ("film", lambda: film(RescaleSlope="0"), "undecodable"),
    "film with slope 1e308": ("film", lambda: film(RescaleSlope="1e308", RescaleIntercept="1e308"), "no_content"),
    "film of padding": ("film", lambda: film(PixelPaddingValue=0, PixelPaddingRangeLimit=65_535), "no_content"),
    "film with long pixels": ("film", lambda: film(PixelSpacing=[1000, 0.001]), "too_large"),
    "mask of NaN": ("mask npz", lambda: arrays(mask=LABELS[1] * np.nan), "bad_annotation"),
    "mask of texts": ("mask npz", lambda: arrays(mask=np.full((30, 40), "Doe")), "bad_annotation"),
    "mask of 4 axes": ("mask npz", lambda: arrays(mask=np.zeros((2, 30, 40, 2))), "bad_annotation"),
    "yolo of NaN": ("yolo", lambda: b"0 nan 0.5 0.5 0.5\n", "nothing_kept"),
    "yolo of px": ("yolo", lambda: b"0 12 9 10 7\n", "not_normalised"),
}


@pytest.mark.parametrize(("name", "data", "reason"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_that_are_none_have_their_reason(tmp_path, name, data, reason):
    toy = written(tmp_path, forms()[name], {"good": None, "bad": data(), "good2": None})
    found = {case: settled(read) for case, read in by_case(toy)}
    assert found == {"good": "kept", "bad": reason, "good2": "kept"}


# ---- texts that grow


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol"}">' for n in range(9))
TEXTS = {
    "billion laughs": ("voc", f'<?xml version="1.0"?><!DOCTYPE a [{LAUGHS}]><annotation>&l8;</annotation>'),
    "laughs for ImageScope": ("aperio", f"<!DOCTYPE a [{LAUGHS}]><Annotations>&l8;</Annotations>"),
    "a file of the system": (
        "voc",
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><object><name>&e;</name></object></annotation>',
    ),
    "entities in UTF-16": ("voc", f"<!DOCTYPE a [{LAUGHS}]><annotation>&l8;</annotation>".encode("utf-16")),
    "deep XML": ("voc", "<annotation>" * 100_000),
    "deep JSON": ("labelme", '{"shapes":' * 100_000),
    "deep JSON lists": ("labelme", "[" * 1_000_000),
    "a giant number": ("labelme", json.dumps({"shapes": [], "imageWidth": 0}).replace("0", "9" * 5000)),
    "a giant outline": (
        "labelme",
        json.dumps({"shapes": [{"label": "RBC", "shape_type": "polygon", "points": [[1e308, -1e308]] * 9}]}),
    ),
    "text of another encoding": ("yolo", "0 0.5 0.5 0.25 0.5".encode("utf-16")),
    "a table without end of line": ("intervals", "Frame\tPhase" + "x" * 1_000_000),
}


@pytest.mark.parametrize(("name", "text"), TEXTS.values(), ids=TEXTS)
def test_texts_that_grow_are_refused(tmp_path, name, text):
    data = text if isinstance(text, bytes) else text.encode()
    toy = written(tmp_path, forms()[name], {"good": None, "bad": data, "good2": None})
    found = {case: settled(read) for case, read in by_case(toy)}
    assert found.pop("bad") in ("bad_annotation", "nothing_kept")
    assert set(found.values()) == {"kept"}


SHARED = {
    "coco": '{kind: coco, path: "all.txt"}',
    "labelstudio": '{kind: labelstudio, path: "all.txt"}',
    "cvat": '{kind: cvat, path: "all.txt"}',
    "a table": '{kind: classes, value: "{t.x}"}',
}


@pytest.mark.parametrize("text", [*NEVER.values(), b"[" * 100_000, b'{"images":' * 100_000, b"<a>" * 1000], ids=len)
@pytest.mark.parametrize("name", SHARED)
def test_a_file_that_speaks_of_all_cases_stops_the_run_with_one_line(tmp_path, name, text):
    form = on_picture(SHARED[name], "all.txt", text)
    if name == "a table":
        form = form._replace(yaml=form.yaml + "tables: {t: {path: all.txt, key: name}}\n")
    with pytest.raises(UserError) as caught:
        written(tmp_path, form, {"a": None}).plan()
    assert "\n" not in str(caught.value)
    assert ("table t: " if name == "a table" else "all.txt: ") in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not re.search(r"Doe|Jane", str(caught.value))


# ---- names


ODD = ["a b", "c\nd", "e\tf", "-rf", "{stem}", "g*h", "%s%n", "i'j\"k", "é", "左肾", "l\u202em", "x" * 240, "n;o&p"]


def test_files_with_odd_names_are_cases_with_plain_ids(data_set):
    data = encoded(GREY, "PNG")
    toy = data_set(forms()["png"].yaml, {f"{name}.png": data for name in ODD} | {"...png": data})
    found = toy.plan().cases
    assert len(found) == len({case.id for case in found}) == len(ODD)
    assert all(re.fullmatch(r"[\w.()+/-]+", case.id) for case in found)
    assert {settled(read) for read in toy.read().values()} == {"kept"}


def test_names_that_are_no_text_do_not_stop_a_run(tmp_path):
    toy = written(tmp_path, forms()["png"], {"good": None})
    shutil.copy(toy.root / "good.png", os.fsencode(toy.root) + b"/p\xe9.png")
    assert [settled(read) for read in toy.read().values()] == ["kept", "kept"]
    assert all(id_.isprintable() for id_ in toy.read())


def test_a_damaged_picture_and_its_damaged_annotation_are_one_row(tmp_path):
    form = forms()["voc"]
    toy = written(tmp_path, form, {"good": None, "bad": b"<annotation>"})
    (toy.root / "bad.png").write_bytes(PAGE)
    assert {case: settled(read) for case, read in by_case(toy)} == {"good": "kept", "bad": "bad_annotation"}


def test_pages_and_pointers_are_named_for_what_they_are(tmp_path):
    for name in ("png", "nifti gz", "mp4", "npz", "parquet"):
        toy = written(tmp_path / name, forms()[name], {"good": None, "bad": POINTER})
        assert dict(by_case(toy))["bad"].rejected[0].reason == "lfs_pointer"
    (row,) = dict(by_case(written(tmp_path, pictures("{}.png", PAGE), {"page": None})))["page"].rejected
    assert (row.reason, row.detail) == ("undecodable", "an HTML page, not a picture")


def test_a_folder_that_may_not_be_listed_is_not_passed_over_in_silence(tmp_path):
    form = forms()["png"]
    toy = written(tmp_path, form._replace(yaml=form.yaml.replace('"{stem}', '"**/{stem}')), {"good": None})
    shutil.copytree(toy.root, toy.root / "shut")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and folder.name.startswith(("pytest-", "test_")):
            folder.chmod(folder.stat().st_mode | 0o055)
    (toy.root / "shut").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="shut"):
            toy.plan()
    finally:
        if root:
            os.seteuid(0)
        (toy.root / "shut").chmod(0o755)
