"""The quick benchmark runs and tells its numbers. How fast anything is, no test says."""

import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import anatomy

ROOT = Path(__file__).resolve().parents[1]
RATIOS = ("ratio_naive", "ratio_careful", "fraction_of_bound", "cpu_s", "wall_s", "peak_memory_mb")


@pytest.mark.slow
def test_the_quick_benchmark_ends_with_one_line_of_json():
    pytest.importorskip("skimage", reason="the comparison needs scikit-image")
    program = [sys.executable, ROOT / "benchmarks" / "ingest.py", "--quick"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert [name for name in RATIOS if not (math.isfinite(told[name]) and told[name] > 0)] == []
    assert told["slices"] == 300
    assert told["boxes"] > told["slices"]


@pytest.mark.parametrize("codes", ["LPS", "RAS", "IPL", "SAR"])
def test_a_volume_is_written_in_any_storage_order_and_nibabel_reads_it(tmp_path, codes):
    ct = anatomy.build(24, 12, 48)
    anatomy.save(tmp_path / "ct.nii.gz", ct.hu, codes)
    image = nib.load(tmp_path / "ct.nii.gz")
    assert nib.aff2axcodes(image.affine) == tuple(codes)
    canonical = np.asarray(nib.as_closest_canonical(image).dataobj)
    np.testing.assert_array_equal(canonical[::-1, ::-1].T, ct.hu)


def test_slices_there_and_back_are_one_gzip_member(tmp_path):
    hu = anatomy.build(24, 6, 32).hu
    order = anatomy.ping_pong(6, 15)
    anatomy.save(tmp_path / "ct.nii.gz", hu, level=1, order=order)
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "ct.nii.gz").dataobj).T, hu[order])


def test_the_same_volume_is_made_every_time():
    one, other = anatomy.build(104, 8, 64), anatomy.build(104, 8, 64)
    np.testing.assert_array_equal(one.hu, other.hu)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert len(np.unique(one.labels)) > 50
