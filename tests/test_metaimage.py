"""MetaImage headers: what ITK reads of them, we read; what it reads wrong, we refuse."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.errors import Unusable
from pipeline.ingest import volumes

RNG = np.random.default_rng(9)
ARRAY = RNG.integers(-100, 100, (3, 4, 5)).astype("<i2")
PLACE = "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 1 -2 30.5\nElementSpacing = 0.5 2 3\n"


@pytest.fixture
def meta(tmp_path):
    """Write a file: the given lines between sizes and type, then the voxels."""

    def make(lines=PLACE, data=None, sizes="3 4 5", kind="MET_SHORT", file="LOCAL", name="v.mha"):
        head = f"ObjectType = Image\nNDims = {len(sizes.split())}\nDimSize = {sizes}\n{lines}ElementType = {kind}\n"
        data = ARRAY.tobytes("F") if data is None else data
        (tmp_path / name).write_bytes(f"{head}ElementDataFile = {file}\n".encode() + data)
        return tmp_path / name

    return make


def same_as_itk(path: Path) -> None:
    volume, itk = volumes.read(path), sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(itk))
    directions = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    np.testing.assert_allclose(volume.affine[:3, :3], directions, atol=1e-9)
    np.testing.assert_allclose(volume.affine[:3, 3], itk.GetOrigin(), atol=1e-9)


def refused(path: Path, **how) -> Unusable:
    with pytest.raises(Unusable) as caught:
        volumes.read(path, **how)
    return caught.value


@pytest.mark.parametrize("name", ["TransformMatrix", "Rotation", "Orientation"])
@pytest.mark.parametrize(
    "matrix",
    ["1 0 0 0 1 0 0 0 1", "0 1 0 0 0 -1 -1 0 0", "0.8 0.6 0 -0.6 0.8 0 0 0 1"],
    ids=["identity", "permuted", "oblique"],
)
def test_positions_are_those_that_itk_reads(meta, name, matrix):
    path = meta(f"{name} = {matrix}\nOffset = 1 -2 30.5\nElementSpacing = 0.5 2 3\n")
    assert (volumes.read(path).geometry, volumes.read(path).flags) == ("known", ())
    same_as_itk(path)


@pytest.mark.parametrize("name", ["v.mha", "v.mhd"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_that_itk_writes_is_read(tmp_path, kind, compressed, name):
    image = sitk.GetImageFromArray(RNG.integers(0, 100, (5, 4, 3)).astype(kind))
    sitk.WriteImage(image, str(tmp_path / name), compressed)
    assert volumes.read(tmp_path / name).array.dtype == np.dtype(kind)
    same_as_itk(tmp_path / name)


@pytest.mark.parametrize("name", ["BinaryDataByteOrderMSB", "ElementByteOrderMSB"])
def test_the_other_byte_order_is_turned_round(meta, name):
    same_as_itk(meta(f"{PLACE}{name} = True\n", ARRAY.astype(">i2").tobytes("F")))


def test_voxels_may_stand_in_a_file_of_their_own_behind_other_bytes(meta, tmp_path):
    (tmp_path / "v.raw").write_bytes(b"7 bytes" + ARRAY.tobytes("F"))
    for size in (7, -1):
        same_as_itk(meta(f"{PLACE}HeaderSize = {size}\n", b"", file="v.raw", name="v.mhd"))


def test_voxels_that_are_not_there_are_a_missing_image(meta):
    assert refused(meta(data=b"", file="v.raw", name="v.mhd")).reason == "missing_image"


@pytest.mark.parametrize("name", ["/etc/hostname", "../v.raw", "LIST\nv.raw", "v%02d.raw 1 4 1"])
def test_a_header_reads_no_other_folder_and_one_file_only(meta, tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "v.raw").write_bytes(ARRAY.tobytes("F"))
    assert refused(meta(data=b"", file=name, name="in/v.mhd")).reason == "undecodable"


@pytest.mark.parametrize("lines", ["", "ElementSpacing = 0.5 2 3\n", "Offset = 1 2 3\nElementSize = 0.5 2 3\n"])
def test_without_a_matrix_the_geometry_is_unknown_and_may_be_assumed(meta, lines):
    path = meta(lines)
    assert (volumes.read(path).geometry, volumes.read(path).flags) == ("unknown", ("no_orientation",))
    assumed = volumes.read(path, assume="RAS")
    assert (assumed.geometry, assumed.spacing) == ("assumed", (0.5, 2, 3) if lines else (1, 1, 1))
    np.testing.assert_array_equal(assumed.array, ARRAY[::-1, ::-1].transpose(2, 1, 0))


def test_axes_that_lean_are_kept_and_flagged(meta):
    path = meta(PLACE.replace("0 0 1\n", "0 0.3 1\n"))
    assert (volumes.read(path).geometry, volumes.read(path).flags) == ("known", ("sheared",))
    assert volumes.read(path).affine[:3, 2].tolist() == pytest.approx([0, 0.9, 3])


@pytest.mark.parametrize(
    "lines",
    [
        PLACE.replace("= 0.5", "= 0"),
        PLACE.replace("-2", "nan"),
        PLACE.replace("= 0.5", "= 1e99"),
        PLACE.replace("2 3\n", "2 inf\n"),
    ],
)
def test_numbers_that_are_no_places_are_bad_geometry(meta, lines):
    assert refused(meta(lines)).reason == "bad_geometry"


def test_channels_and_a_fourth_axis_are_volumes_of_their_own(meta):
    both = RNG.integers(0, 9, (2, 3, 4, 5)).astype("<i2")
    mixed = meta(f"{PLACE}ElementNumberOfChannels = 2\n", both.tobytes("F"))
    matrix = "TransformMatrix = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\nOffset = 1 -2 30.5 0\nElementSpacing = 0.5 2 3 9\n"
    after = meta(matrix, np.moveaxis(both, 0, 3).tobytes("F"), "3 4 5 2", name="w.mha")
    for path in (mixed, after):
        assert volumes.channels(path) == 2
        for channel in (0, 1):
            volume = volumes.read(path, channel=channel)
            np.testing.assert_array_equal(volume.array, both[channel].transpose(2, 1, 0))
            assert (volume.spacing, volume.affine[:3, 3].tolist()) == ((0.5, 2, 3), [1, -2, 30.5])
        assert "channels.axis" in refused(path).detail
    np.testing.assert_array_equal(
        sitk.GetArrayFromImage(sitk.ReadImage(str(mixed)))[..., 1], both[1].transpose(2, 1, 0)
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(after)))[1], both[1].transpose(2, 1, 0))


def test_a_picture_is_a_volume_of_one_slice(meta):
    path = meta("ElementSpacing = 0.5 2\n", sizes="12 5")
    volume = volumes.read(path)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    assert (volume.geometry, volume.spacing) == ("unknown", (0.5, 2, 1))


# ---- broken files


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("MET_SHORT", "MET_SHORT_ARRAY", "undecodable"),
        ("MET_SHORT", "DOE^JANE", "undecodable"),
        ("DimSize = 3 4 5", "DimSize = 3 4", "undecodable"),
        ("DimSize = 3 4 5\n", "", "undecodable"),
        ("DimSize = 3 4 5", "DimSize = 3 -4 5", "not_3d"),
        ("Offset = 1 -2 30.5", "Offset = 1 -2", "undecodable"),
        ("Offset = 1 -2 30.5", "BinaryData = False", "undecodable"),
        ("ElementDataFile = LOCAL\n", "", "truncated"),
        ("Offset", "HeaderSize = x\nOffset", "undecodable"),
        ("DimSize = 3 4 5", "DimSize = 9000 9000 9000", "too_large"),
    ],
)
def test_a_header_that_can_not_be_read_is_refused(meta, old, new, reason):
    path = meta()
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))
    error = refused(path)
    assert error.reason == reason
    assert "DOE" not in error.detail


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_anywhere_is_refused(meta, compressed):
    lines = f"{PLACE}CompressedData = {compressed}\n"
    data = meta(lines, (zlib.compress if compressed else bytes)(ARRAY.tobytes("F"))).read_bytes()
    path = meta()
    reasons = set()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        reasons.add(refused(path).reason)
    assert reasons <= {"empty_file", "truncated", "undecodable", "missing_image"}
    path.write_bytes(data[:-3])
    assert refused(path).reason == "truncated"


def test_compressed_voxels_with_a_changed_byte_are_never_read_as_others(meta):
    """ITK returns other voxels for most of these, without an error."""
    packed = zlib.compress(ARRAY.tobytes("F"))
    wrong = 0
    for at in range(2, len(packed)):
        changed = bytearray(packed)
        changed[at] ^= 0x10
        try:
            found = volumes.read(meta(f"{PLACE}CompressedData = True\n", bytes(changed))).array
            wrong += not np.array_equal(found, ARRAY.transpose(2, 1, 0))
        except Unusable as error:
            assert error.reason in ("undecodable", "truncated")  # noqa: PT017
    assert wrong == 0


def test_a_header_that_promises_more_than_the_file_can_hold_takes_no_memory(meta):
    path = meta(f"{PLACE}CompressedData = True\n", zlib.compress(bytes(1000)), "1000 1000 1000")
    assert refused(path).reason == "truncated"


def test_a_header_with_changed_bytes_is_a_volume_or_a_reason(meta):
    data = meta().read_bytes()
    path = meta(name="changed.mha")
    for seed in range(300):
        rng = np.random.default_rng(seed)
        changed = bytearray(data)
        for at in rng.integers(0, data.index(b"LOCAL"), 3):
            changed[at] = rng.choice(list(b"0123456789.-+ \n:=(),eEnaif\xff\0"))
        path.write_bytes(changed)
        try:
            found = volumes.read(path).array.ndim
        except Unusable as error:
            found = error.reason
        assert found in (3, "undecodable", "truncated", "too_large", "not_3d", "bad_geometry", "missing_image")
