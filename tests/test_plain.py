"""Speed costs no pixel: the fast path gives the records that the plain one gives, byte by byte."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import plain
import pytest
import real_sets
import SimpleITK as sitk

PLANES = {"planes": ("axial", "coronal", "sagittal")}
CODES = ["".join(axes) for sides in itertools.product("LR", "PA", "SI") for axes in itertools.permutations(sides)]


def told(reads) -> list:
    """All that reading gives, with what was counted."""
    return [(read.records, read.rejected, read.tally, sorted(read.remarks.items())) for read in reads]


def check_same(read, *, some: bool = True) -> None:
    """Compare what `read()` gives with what it gives plainly."""
    fast = told(read())
    with pytest.MonkeyPatch.context() as patch:
        plain.use(patch)
        wanted = told(read())
    assert not some or any(records for records, *_ in fast)
    assert fast == wanted


# ---- random volumes


def blobs(seed: int, shape: tuple[int, int, int], kinds: int) -> np.ndarray:
    """A label map of overlapping boxes, with specks between them; `(x, y, z)`."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, kinds + 1):
        for _ in range(3):
            low = [rng.integers(0, size - 2) for size in shape]
            labels[tuple(slice(at, at + rng.integers(2, 9)) for at in low)] = value
    labels[rng.random(shape) < 0.01] = rng.integers(1, kinds + 2)  # one of them is no label of the descriptor
    labels[:3], labels[-2:], labels[:, :2], labels[..., -3:] = 0, 0, 0, 0  # they begin and end somewhere
    labels[5:9, 5:9, 4] = 5
    return labels


def intensities(seed: int, shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, shape).astype(dtype) * (1 if dtype == "uint8" else 3)


YAML = """
cases: {{match: "{{id}}/v{suffix}", id: "{{id}}"}}
annotations:
  - {{kind: labelmap, path: "{{id}}/m{suffix}", labels: {{1: liver, 2: spleen, 3: kidney}}, boxes: {boxes},
    complete: true, ignore: {ignore}}}
limits: {limits}
slices: {{planes: [axial, coronal, sagittal], pick: {pick}}}
display: {display}
"""
REST = {"boxes": "per_class", "limits": "none", "display": "{}", "ignore": "[]", "pick": "labelled"}
WAYS = [
    ("per_class", "none", "{}"),
    ("per_component", "none", "{window: {low: 10, high: 400}}"),
    ("per_class", "{min_area_px: 6, min_area_mm2: 6, min_side_px: 1, despeckle_px: 3}", "{slope: 2, intercept: -50}"),
    ("per_component", "{min_area_px: 6, min_area_mm2: 6, min_side_px: 1, despeckle_px: 3}", "{also: [bone]}"),
]


@pytest.mark.parametrize("codes", CODES)
def test_volumes_in_every_order_of_storage(data_set, lps_nifti, codes):
    n = CODES.index(codes)
    boxes, limits, display = WAYS[n % len(WAYS)]
    shape, spacing = (17 + n % 5, 23, 11), [(1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (3.0, 1.0, 1.0)][n % 3]
    dtype = ("int16", "uint16", "uint8", "int32", "float32")[n % 5]
    files = {
        "a/v.nii": lps_nifti(intensities(n, shape, dtype), spacing, codes=codes),
        "a/m.nii": lps_nifti(blobs(n, shape, 3), spacing, codes=codes),
    }
    modality = "mr" if n % 7 == 0 else "ct"
    ignore, pick = [("[]", "labelled"), ("[0]", "all"), ("[5]", "all")][n % 3]
    told = {"boxes": boxes, "limits": limits, "display": display, "ignore": ignore, "pick": pick}
    toy = data_set(YAML.format(suffix=".nii", **told), files, modality)
    check_same(lambda: toy.read().values())


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (2.0, -1024.0), (1.0, -1024.0)])
def test_compressed_and_scaled_volumes(data_set, tmp_path, suffix, scale):
    shape = (19, 14, 12)
    voxels, labels = intensities(1, shape, "int16"), blobs(1, shape, 3)
    toy = data_set(YAML.format(suffix=suffix, **REST), {}, "ct")
    (toy.root / "a").mkdir(parents=True)
    for name, array, (slope, intercept) in (("v", voxels, scale), ("m", labels, (1.0, 0.0))):
        path = toy.root / "a" / f"{name}{suffix}"
        if suffix == ".nii.gz":
            image = nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0]))
            image.header.set_slope_inter(slope, intercept)
            path.write_bytes(gzip.compress(image.to_bytes()))
        else:
            image = sitk.GetImageFromArray((array * slope + intercept).astype(array.dtype).transpose(2, 1, 0))
            image.SetSpacing((1, 1, 2))
            sitk.WriteImage(image, str(path), useCompression=True)
    check_same(lambda: toy.read().values())


def test_a_large_volume_of_many_labels(data_set, lps_nifti):
    """More slices than are worked on together, and components that touch them all."""
    shape = (150, 40, 140)
    labels = np.random.default_rng(5).integers(0, 3, shape).astype(np.uint8)
    labels[:, 10:20] = 3
    files = {"a/v.nii": lps_nifti(intensities(2, shape, "int16")), "a/m.nii": lps_nifti(labels)}
    toy = data_set(YAML.format(suffix=".nii", **REST), files, "ct")
    check_same(lambda: toy.read().values())


# ---- real data


VOLUMES = [name for name in real_sets.NAMES if name not in ("bccd_voc", "us_folders_derived", "pocus_video")]


@pytest.mark.slow
@pytest.mark.skipif(not real_sets.DATA.is_dir(), reason=f"no real data in {real_sets.DATA}")
@pytest.mark.parametrize("name", real_sets.NAMES)
def test_real_data(name):
    check_same(lambda: real_sets.found_in(name).reads, some=False)


@pytest.mark.slow
@pytest.mark.skipif(not real_sets.DATA.is_dir(), reason=f"no real data in {real_sets.DATA}")
@pytest.mark.parametrize("name", VOLUMES)
def test_real_data_in_three_planes(name):
    slices = real_sets.source_of(name).descriptor.slices.model_copy(update=PLANES)
    check_same(lambda: real_sets.found_in(name, slices=slices).reads, some=False)
