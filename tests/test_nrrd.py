"""NRRD headers: what ITK reads of them, we read; what it can not say of them, we say."""

import bz2
import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import Unusable
from pipeline.ingest import volumes

RNG = np.random.default_rng(8)
ARRAY = RNG.integers(-100, 100, (3, 4, 5)).astype("<i2")
"""`(i, j, k)`."""
LPS = """space: left-posterior-superior
space directions: (0.5,0,0) (0,2,0) (0,0,3)
space origin: (1,-2,30.5)
"""


@pytest.fixture
def nrrd(tmp_path):
    """Write a file: the given fields after type, sizes and encoding, then the voxels."""

    def make(fields=LPS, data=None, sizes="3 4 5", kind="short", encoding="raw", name="v.nrrd", magic="NRRD0004"):
        head = f"{magic}\ntype: {kind}\ndimension: {len(sizes.split())}\nsizes: {sizes}\nencoding: {encoding}\n"
        data = ARRAY.tobytes("F") if data is None else data
        (tmp_path / name).write_bytes(f"{head}endian: little\n{fields}\n".encode() + data)
        return tmp_path / name

    return make


def by_itk(path: Path):
    return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")


def same_as_itk(path: Path) -> None:
    volume, itk = volumes.read(path), by_itk(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    directions = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], directions, atol=1e-9)
    np.testing.assert_allclose(volume.affine[:3, 3], itk.GetOrigin(), atol=1e-9)


def refused(path: Path, **how) -> Unusable:
    with pytest.raises(Unusable) as caught:
        volumes.read(path, **how)
    return caught.value


@pytest.mark.parametrize(
    "space", ["left-posterior-superior", "RAS", "left-anterior-superior", "right-anterior-superior"]
)
@pytest.mark.parametrize(
    "directions",
    ["(0.5,0,0) (0,2,0) (0,0,3)", "(0, -0.5, 0) (0,0,2) (-3,0,0)", "(0.4,0.3,0) (-1.2,1.6,0) (0,0,-3)"],
    ids=["diagonal", "permuted", "oblique"],
)
def test_positions_are_those_that_itk_reads(nrrd, space, directions):
    path = nrrd(f"space: {space}\nspace directions: {directions}\nspace origin: (1,-2,30.5)\n")
    assert (volumes.read(path).geometry, volumes.read(path).flags) == ("known", ())
    same_as_itk(path)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_that_itk_writes_is_read(tmp_path, kind, compressed):
    image = sitk.GetImageFromArray(RNG.integers(0, 100, (5, 4, 3)).astype(kind))
    sitk.WriteImage(image, str(tmp_path / "v.nrrd"), compressed)
    found = volumes.read(tmp_path / "v.nrrd").array
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(by_itk(tmp_path / "v.nrrd")))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("gz", gzip.compress), ("bzip2", bz2.compress)]
)
def test_compressed_voxels_are_read(nrrd, encoding, pack):
    path = nrrd(data=pack(ARRAY.tobytes("F")), encoding=encoding)
    np.testing.assert_array_equal(volumes.read(path).array, ARRAY.transpose(2, 1, 0))


def test_the_other_byte_order_is_turned_round(nrrd):
    path = nrrd(data=ARRAY.astype(">i2").tobytes("F"))
    path.write_bytes(path.read_bytes().replace(b"endian: little", b"endian: big"))
    same_as_itk(path)
    assert volumes.read(path).array.dtype.isnative


def test_voxels_may_stand_in_a_file_of_their_own_behind_other_bytes(nrrd, tmp_path):
    path = nrrd(f"{LPS}byte skip: 7\ndata file: v.raw\n", b"", name="v.nhdr")
    (tmp_path / "v.raw").write_bytes(b"7 bytes" + ARRAY.tobytes("F"))
    same_as_itk(path)
    path = nrrd(f"{LPS}byte skip: -1\ndatafile: ./v.raw\n", b"", name="w.nhdr")
    same_as_itk(path)


def test_voxels_that_are_not_there_are_a_missing_image(nrrd):
    assert refused(nrrd(f"{LPS}data file: v.raw\n", b"", name="v.nhdr")).reason == "missing_image"


@pytest.mark.parametrize("name", ["/etc/hostname", "../v.raw", "a/../../v.raw", "slice%03d.raw 0 4 1", "LIST\nv.raw"])
def test_a_header_reads_no_other_folder_and_one_file_only(nrrd, tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "v.raw").write_bytes(ARRAY.tobytes("F"))
    error = refused(nrrd(f"{LPS}data file: {name}\n", b"", name="in/v.nhdr"))
    assert error.reason == "undecodable"
    assert name not in error.detail


# ---- positions that nobody gave


@pytest.mark.parametrize(
    ("fields", "spacing"),
    [
        ("", (1, 1, 1)),
        ("spacings: 0.5 2 3\n", (0.5, 2, 3)),
        ("spacings: nan 2 0\n", (1, 2, 1)),
        ("space dimension: 3\nspace directions: (0.5,0,0) (0,2,0) (0,0,3)\n", (0.5, 2, 3)),
        ("space: scanner-xyz\nspace directions: (0.5,0,0) (0,2,0) (0,0,3)\n", (0.5, 2, 3)),
    ],
    ids=["nothing", "spacings", "bad spacings", "no space", "another space"],
)
def test_without_the_patients_space_the_geometry_is_unknown_and_may_be_assumed(nrrd, fields, spacing):
    path = nrrd(fields)
    volume = volumes.read(path)
    assert (volume.geometry, volume.flags) == ("unknown", ("no_orientation",))
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))
    assumed = volumes.read(path, assume="RAS")
    assert (assumed.geometry, assumed.spacing) == ("assumed", spacing)
    np.testing.assert_array_equal(assumed.array, ARRAY[::-1, ::-1].transpose(2, 1, 0))


def test_axes_that_lean_are_kept_and_flagged(nrrd):
    path = nrrd("space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0.3,3)\nspace origin: (0,0,0)\n")
    volume = volumes.read(path)
    assert (volume.geometry, volume.flags) == ("known", ("sheared",))
    np.testing.assert_allclose(volume.affine[:3, 2], (0, 0.3, 3))
    same_as_itk(path)


def test_a_microscopes_axes_may_be_short_and_none_may_be_nothing(nrrd):
    assert volumes.read(nrrd(LPS.replace("(0.5", "(0.0005"))).spacing == (0.0005, 2, 3)
    for bad in ("0", "nan", "inf", "1e300"):
        assert refused(nrrd(LPS.replace("(0.5", f"({bad}"))).reason == "bad_geometry"


# ---- other numbers of axes

KINDS = ["list domain domain domain", "domain list domain domain", "domain domain domain vector"]


@pytest.mark.parametrize("kinds", KINDS)
def test_an_axis_of_volumes_may_stand_anywhere(nrrd, kinds):
    at = next(n for n, kind in enumerate(kinds.split()) if kind != "domain")
    both = RNG.integers(0, 9, (2, 3, 4, 5)).astype("<i2")
    sizes, vectors = [3, 4, 5], ["(0.5,0,0)", "(0,2,0)", "(0,0,3)"]
    sizes.insert(at, 2)
    vectors.insert(at, "none")
    fields = f"space: LPS\nkinds: {kinds}\nspace directions: {' '.join(vectors)}\nspace origin: (0,0,0)\n"
    path = nrrd(fields, np.moveaxis(both, 0, at).tobytes("F"), " ".join(map(str, sizes)))
    assert volumes.channels(path) == 2
    for channel in (0, 1):
        volume = volumes.read(path, channel=channel)
        np.testing.assert_array_equal(volume.array, both[channel].transpose(2, 1, 0))
        assert (volume.spacing, volume.geometry) == ((0.5, 2, 3), "known")
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(itk, both.transpose(3, 2, 1, 0))
    error = refused(path)
    assert (error.reason, "channels.axis" in error.detail) == ("not_3d", True)
    assert refused(path, channel=2).reason == "not_3d"


def test_an_axis_of_time_is_one_of_volumes_though_itk_refuses_it(nrrd):
    both = RNG.integers(0, 9, (3, 4, 5, 2)).astype("<i2")
    vectors = "space: LPS\nkinds: domain domain domain time\nspace directions: (1,0,0) (0,1,0) (0,0,1) none\n"
    path = nrrd(vectors, both.tobytes("F"), "3 4 5 2")
    with pytest.raises(RuntimeError, match="not supported"):
        sitk.ReadImage(str(path))
    for channel in (0, 1):
        np.testing.assert_array_equal(volumes.read(path, channel=channel).array, both[..., channel].transpose(2, 1, 0))


@pytest.mark.parametrize(
    ("kinds", "sizes"),
    [
        ("RGB-color domain domain domain", "3 4 5 1"),
        ("3D-symmetric-matrix domain domain domain", "6 2 5 1"),
        ("list list domain domain", "3 4 5 1"),
        ("list domain", "12 5"),
        ("domain", "60"),
        ("domain domain domain", "3 4 0"),
    ],
)
def test_colours_tensors_and_fewer_axes_are_no_volume(nrrd, kinds, sizes):
    assert refused(nrrd(f"kinds: {kinds}\n", sizes=sizes)).reason == "not_3d"


def test_a_picture_is_a_volume_of_one_slice(nrrd):
    path = nrrd("spacings: 0.5 2\n", sizes="12 5")
    volume = volumes.read(path)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert (volume.array.shape, volume.geometry, volume.spacing) == ((1, 5, 12), "unknown", (0.5, 2, 1))


# ---- broken files


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("type: short", "type: block"),
        ("type: short\n", ""),
        ("sizes: 3 4 5", "sizes: 3 4"),
        ("sizes: 3 4 5", "sizes: 3 four 5"),
        ("encoding: raw", "encoding: ascii"),
        ("encoding: raw", "encoding: DOE^JANE"),
        ("(0,2,0)", "(0,2)"),
        ("(0,2,0)", "(0,two,0)"),
        ("space origin:", "line skip: 3\nspace origin:"),
        ("space origin:", "byte skip: -2\nspace origin:"),
    ],
)
def test_a_header_that_can_not_be_read_is_refused(nrrd, old, new):
    path = nrrd()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    error = refused(path)
    assert error.reason == "undecodable"
    assert "DOE" not in error.detail


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_a_file_cut_anywhere_is_refused(nrrd, encoding):
    pack = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding]
    data = nrrd(data=pack(ARRAY.tobytes("F")), encoding=encoding).read_bytes()
    path = nrrd()
    reasons = set()
    for size in range(len(data) - 9):
        path.write_bytes(data[:size])
        reasons.add(refused(path).reason)
    assert reasons <= {"empty_file", "truncated", "undecodable", "not_3d"}
    path.write_bytes(data[:-20])
    assert refused(path).reason == "truncated"


def test_compressed_voxels_with_a_changed_byte_are_never_read_as_others(nrrd):
    packed = gzip.compress(ARRAY.tobytes("F"))
    wrong = 0
    for at in range(10, len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 0x10
        try:
            found = volumes.read(nrrd(data=bytes(changed), encoding="gzip")).array
            wrong += not np.array_equal(found, ARRAY.transpose(2, 1, 0))
        except Unusable as error:
            assert error.reason in ("undecodable", "truncated")  # noqa: PT017
    assert wrong == 0


def test_a_header_with_changed_bytes_is_a_volume_or_a_reason(nrrd):
    data = nrrd(f"{LPS}kinds: domain domain domain\nSegment0_Name:=x\n").read_bytes()
    path = nrrd(name="changed.nrrd")
    for seed in range(300):
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for at in rng.integers(8, data.index(b"\n\n"), 3):
            changed[at] = rng.choice(list(b"0123456789.-+ \n:=(),eEnaif\xff\0"))
        path.write_bytes(changed)
        try:
            found = volumes.read(path).array.ndim
        except Unusable as error:
            found = error.reason
        assert found in (3, "undecodable", "truncated", "too_large", "not_3d", "bad_geometry", "missing_image")
