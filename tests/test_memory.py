"""Memory of one worker: a volume of clinical size is read in three times its own bytes, and a little more.

Files are sparse: mostly holes, so that 160 million voxels cost no time to write. Peaks are those of a process of its
own, as the kernel counts them.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
from hostile_forms import encoded, saved
from isal import igzip
from test_series import ct_slice

MIB = 1 << 20
SHAPE = (512, 512, 610)
"""160 million voxels, x, y, z."""
PROGRAM_MIB = 300
"""What the program takes with all its libraries, and then some."""
READ = """
import json, re, sys
from pathlib import Path
import cv2, highdicom, pydicom, SimpleITK
from conftest import Toy
from sources.descriptor import parse

root = Path(sys.argv[1])
reads = Toy(parse((root / "toy.yaml").read_text(), "toy.yaml"), root).read().values()
# ru_maxrss would count the parent, too: what a process held before it became another one
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
counts = [len(read.records) for read in reads], [row.reason for read in reads for row in read.rejected]
print(json.dumps([peak, *counts]))
"""
HEAD = "schema: medgloss/1\nid: toy\ntitle: A toy\nlicense: {name: CC0-1.0}\negress: any\nmodality: ct\n"


class Peak(NamedTuple):
    """What reading a data set came to."""

    bytes: int
    records: list[int]
    reasons: list[str]


def read(root: Path, yaml: str) -> Peak:
    """Read a data set in a process of its own."""
    (root / "toy.yaml").write_text(HEAD + yaml)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = f"import sys; sys.path[:0] = {paths!r}\n{READ}"
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Peak(*json.loads(done.stdout))


def header(dtype: type, codes: str) -> bytes:
    """A NIfTI header of that size, 0.8 x 0.8 x 1.5 mm, each axis running to the given side."""
    image = nib.Nifti1Header()
    image.set_data_dtype(dtype)
    image.set_data_shape(SHAPE)
    steps = [mm if code in "RAS" else -mm for mm, code in zip((0.8, 0.8, 1.5), codes, strict=True)]
    image.set_sform(np.diag([*steps, 1]), 1)
    image.set_qform(np.diag([*steps, 1]), 1)
    image["vox_offset"], image["magic"] = 352, b"n+1"
    return bytes(image.binaryblock) + bytes(4)


def sparse(path: Path, dtype: type, codes: str, filled: dict[int, np.ndarray]) -> int:
    """Write a volume of which only some slices are not 0; returns the bytes of its voxels."""
    size = np.dtype(dtype).itemsize
    with path.open("wb") as file:
        file.write(header(dtype, codes))
        file.truncate(352 + math.prod(SHAPE) * size)
        for index, pixels in filled.items():
            file.seek(352 + index * pixels.size * size)
            file.write(pixels.astype(dtype).tobytes())
    return math.prod(SHAPE) * size


def packed(path: Path) -> Path:
    with path.open("rb") as file, igzip.open(f"{path}.gz", "wb", compresslevel=1) as out:
        for block in iter(lambda: file.read(1 << 24), b""):
            out.write(block)
    path.unlink()
    return path.with_name(f"{path.name}.gz")


def slabs() -> Iterator[tuple[int, np.ndarray]]:
    labels = np.zeros(SHAPE[1::-1], np.uint8)
    labels[100:300, 100:300], labels[320:400, 60:200] = 1, 2
    yield from ((index, labels) for index in range(290, 310))


@pytest.mark.parametrize(("codes", "gz"), [("LPS", False), ("RAS", False), ("LAI", True)])
@pytest.mark.parametrize("pick", ["labelled", "all"])
def test_a_ct_of_160_million_voxels_with_its_label_map(tmp_path, codes, gz, pick):
    noise = np.random.default_rng(0).integers(-900, 900, SHAPE[1::-1])
    own = sparse(tmp_path / "ct.nii", np.int16, codes, dict.fromkeys((0, 300, 609), noise))
    sparse(tmp_path / "seg.nii", np.uint8, codes, dict(slabs()))
    for name in ("ct.nii", "seg.nii") if gz else ():
        packed(tmp_path / name)
    suffix = ".nii.gz" if gz else ".nii"
    yaml = f"cases: {{match: ct{suffix}}}\nslices: {{pick: {pick}, most: 30}}\n"
    yaml += f"annotations: [{{kind: labelmap, path: seg{suffix}, labels: {{1: liver, 2: spleen}}}}]\n"
    found = read(tmp_path, yaml)
    assert (found.records, set(found.reasons)) == ([20], {"no_region"} if pick == "all" else set())
    assert own / MIB == 305
    assert found.bytes <= 3 * own + PROGRAM_MIB * MIB


def test_a_series_of_300_slices(tmp_path):
    """Slices are read one after the other into one array; their data sets are let go."""
    rng = np.random.default_rng(0)
    tile = rng.integers(-900, 900, (64, 64))
    (tmp_path / "s").mkdir()
    for number in range(300):
        hu = np.tile(np.roll(tile, number, axis=1), (8, 8))
        one = ct_slice(number, hu, (0, 0, 1.5 * number), PixelSpacing=[0.8, 0.8])
        (tmp_path / "s" / f"{number}.dcm").write_bytes(saved(one))
    own = 300 * 512 * 512 * 2
    yaml = 'cases: {match: "s/*.dcm", id: s, form: series}\nslices: {pick: all, most: 5}\n'
    found = read(tmp_path, yaml + "annotations: [{kind: classes, value: pneumonia}]\n")
    assert (found.records, found.reasons) == ([5], [])
    assert found.bytes <= 3 * own + PROGRAM_MIB * MIB


def test_pictures_are_not_kept_when_their_case_is_done(tmp_path):
    """Eight times as many pictures of 12 MB each take no more."""
    pixels = np.tile(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8), (4, 4, 1))
    data = encoded(pixels, "JPEG", quality=50)
    peaks = []
    for count in (4, 32):
        root = tmp_path / f"{count}"
        root.mkdir()
        for n in range(count):
            (root / f"{n}.jpg").write_bytes(data)
        found = read(root, 'cases: {match: "{stem}.jpg"}\nannotations: [{kind: classes, value: pneumonia}]\n')
        assert found.records == [1] * count
        peaks.append(found.bytes)
    assert peaks[1] <= peaks[0] + 32 * len(data) + 60 * MIB
