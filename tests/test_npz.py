"""NumPy's files: what they hold, read row by row, and files that nobody should have."""

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import Unusable
from sources import npz

PICTURES = np.random.default_rng(0).integers(0, 256, (7, 12, 9, 3), dtype=np.uint8)


@pytest.fixture(params=["plain.npz", "packed.npz", "one.npy", "lzma.npz"])
def saved(tmp_path, request):
    def save(array: np.ndarray) -> Path:
        path = tmp_path / request.param
        if path.suffix == ".npy":
            np.save(path, array)
        elif path.stem == "lzma":
            sink = io.BytesIO()
            np.save(sink, array)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
                archive.writestr("x.npy", sink.getvalue())
        else:
            (np.savez_compressed if path.stem == "packed" else np.savez)(path, other=np.zeros(3), x=array)
        return path

    return save


def member(path: Path) -> npz.Member:
    return npz.members(path)["" if path.suffix == ".npy" else "x"]


def refused(path: Path, name: str = "x", row: int = 0) -> str:
    with pytest.raises(Unusable) as caught:
        npz.row(path, name, row)
    assert path.name not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">u2", np.int32, np.float16, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_come_as_they_were_saved_in_any_order(saved, dtype, order):
    array = np.asarray(PICTURES.astype(dtype), order=order)
    path = saved(array)
    assert (member(path).shape, member(path).dtype, member(path).fortran) == (array.shape, array.dtype, order == "F")
    for row in (0, 1, 4, 6, 2, 2, 0):
        found = npz.row(path, "x", row)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array[row])


def test_a_file_that_is_written_anew_is_read_anew(saved):
    path = saved(PICTURES)
    npz.row(path, "x", 3)
    path = saved(PICTURES[::-1].copy())
    np.testing.assert_array_equal(npz.row(path, "x", 3), PICTURES[::-1][3])
    path = saved(PICTURES[:2])
    assert refused(path, "x", 3) == "missing_image"


def test_a_row_or_an_array_that_is_not_there(saved):
    path = saved(PICTURES)
    assert (refused(path, row=7), refused(path, row=-1)) == ("missing_image", "missing_image")
    if path.suffix == ".npz":
        assert refused(path, "y") == "missing_image"


def test_arrays_of_python_objects_are_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", allow_pickle=True, x=np.array([{}, []], object), y=np.zeros((2, 2)))
    assert list(npz.members(tmp_path / "a.npz")) == ["y"]
    np.save(tmp_path / "a.npy", np.array([{}], object))
    assert refused(tmp_path / "a.npy") == "undecodable"


@pytest.mark.parametrize(
    ("array", "texts"),
    [
        (np.array([3, 250], np.uint8), ["3", "250"]),
        (np.array([[3], [250]], np.int64), ["3", "250"]),
        (np.array([True, False]), ["true", "false"]),
        (np.array([0.1, np.nan, np.inf, 2.0], np.float32), ["0.1", "", "inf", "2.0"]),
        (np.array(["肺", " a "]), ["肺", "a"]),
        (np.array([b"x", b"\xff"]), ["x", "\ufffd"]),
        (np.array([[1, 0], [0, 1]], np.uint8), ["[1, 0]", "[0, 1]"]),
        (np.array([[0.1, 1]], np.float32), ["[0.1, 1.0]"]),
    ],
)
def test_labels_are_texts(saved, array, texts):
    path = saved(array)
    assert npz.can_be_cells(member(path), len(array))
    assert npz.cells(path, "x", member(path)) == texts


def test_what_is_too_wide_or_not_one_a_row_is_no_cell(tmp_path):
    arrays = {"wide": np.zeros((2, 2000)), "deep": np.zeros((2, 2, 2)), "long": np.zeros(3), "one": np.array(1)}
    np.savez(tmp_path / "a.npz", **arrays)
    assert [npz.can_be_cells(found, 2) for found in npz.members(tmp_path / "a.npz").values()] == [False] * 4


def npy(descr: str = "'|u1'", shape: str = "(2, 3, 3)", version: int = 1, more: str = "") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + b"x" * 18


def test_the_header_is_read_in_both_versions(tmp_path):
    for version in (1, 2):
        (tmp_path / "a.npy").write_bytes(npy(version=version))
        np.testing.assert_array_equal(npz.row(tmp_path / "a.npy", "", 1), np.full((3, 3), ord("x"), np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "undecodable"),
        (b"\x93NUMPY", "undecodable"),
        (npy(descr="'|O'"), "undecodable"),
        (npy(descr="[('a', '<f4')]"), "undecodable"),
        (npy(descr="'<q9'"), "undecodable"),
        (npy(shape="()"), "undecodable"),
        (npy(shape="(2, -3)"), "undecodable"),
        (npy(shape="(2, 3, 4)"), "truncated"),
        (npy(shape=f"({10**30}, 3)"), "truncated"),
        (npy(more=" " * 70_000, version=2), "undecodable"),
        (npy(shape="(0, 3, 3)"), "missing_image"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content, reason):
    (tmp_path / "a.npy").write_bytes(content)
    assert refused(tmp_path / "a.npy") == reason


def test_a_file_that_is_not_there_is_unreadable(tmp_path):
    assert (refused(tmp_path / "a.npz"), refused(tmp_path / "a.npy")) == ("unreadable", "unreadable")


def test_a_row_of_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MOST_ROW", 100)
    np.save(tmp_path / "a.npy", PICTURES)
    assert refused(tmp_path / "a.npy") == "too_large"


def test_an_encrypted_member_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=PICTURES)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags] |= 1
    (tmp_path / "a.npz").write_bytes(data)
    assert refused(tmp_path / "a.npz") == "undecodable"


@pytest.mark.parametrize("name", ["plain.npz", "packed.npz", "one.npy"])
def test_damage_anywhere_is_read_or_refused(tmp_path, name):
    """Bytes flipped and files cut at many places, most of them in headers and in the zip's directory."""
    path = tmp_path / name
    labels = np.array(["ab", "c"] * 3 + ["d"])
    if name == "one.npy":
        np.save(path, PICTURES)
    else:
        (np.savez_compressed if "packed" in name else np.savez)(path, x=PICTURES, y=labels)
    whole = path.read_bytes()
    chance, refusals = random.Random(name), 0
    for n in range(600):
        damaged = bytearray(whole)
        if n % 4 == 0:
            del damaged[chance.randrange(len(whole)) :]
        for _ in range(n % 4):
            near = chance.choice([0, 0, len(damaged) - 300, chance.randrange(len(damaged))])
            damaged[max(0, near) + chance.randrange(min(300, len(damaged) - max(0, near)))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            found = npz.members(path)
            for key, held in found.items():
                if held.shape and npz.can_be_cells(held, held.shape[0]):
                    npz.cells(path, key, held)
            for row in (5, 1):
                npz.row(path, "x", row)
        except Unusable:
            refusals += 1
    assert refusals > 50
