"""Real data sets, read where they lie: counts that other programs gave."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline import discovery, pictures, vocabulary
from pipeline.cli import main
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from sources import descriptor
from sources.cases import plan

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
HERE = Path(__file__).parent / "real"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder"
)


def source_of(name: str, **changes) -> Source:
    found, _, _ = descriptor.load(str(HERE / f"{name}.yaml"))
    root = DATA / found.root
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    return Source(found.model_copy(update=changes), root, vocabulary.load())


def read_all(name: str, **changes):
    source = source_of(name, **changes)
    found = [read_case(case, source) for case in plan(source.descriptor, source.root).cases]
    return (
        [record for read in found for record in read.records],
        [row for read in found for row in read.rejected],
        [read.tally for read in found],
    )


def gold(name: str):
    return json.loads((DATA / "GOLD.json").read_text())[name]


def test_bccd_has_110_pictures_and_1529_boxes_two_of_them_without_size():
    records, rejected, tallies = read_all("bccd_voc")
    wanted = gold("bccd_voc")
    found = len(records), sum(tally.regions_found for tally in tallies)
    assert found == (wanted["images"], wanted["boxes"]) == (110, 1529)
    assert [(row.level, row.reason) for row in rejected] == [("region", "box_zero_size")] * 2
    kept = Counter(region.raw for record in records for region in record.regions)
    assert kept.total() == 1527
    missing = Counter(wanted["per_class"]) - kept
    assert missing.total() == 2  # the two without size
    assert kept <= Counter(wanted["per_class"])
    assert Counter(region.label for record in records for region in record.regions) == {
        "red_blood_cell": kept["RBC"],
        "white_blood_cell": kept["WBC"],
        "platelet": kept["Platelets"],
    }
    assert {record.department for record in records} == {"Hematology"}


def test_bccd_pictures_keep_their_coded_pixels_and_boxes_lie_inside():
    source = source_of("bccd_voc")
    case = plan(source.descriptor, source.root).cases[0]
    (record,) = read_case(case, source).records
    data = (source.root / case.files["image"][0]).read_bytes()
    np.testing.assert_array_equal(pictures.pixels_of(record.picture.bytes), pictures.pixels_of(data))
    assert record.picture.sha256 == hashlib.sha256(record.picture.bytes).hexdigest()
    for region in record.regions:
        assert 0 <= region.box.x0 < region.box.x1 <= record.picture.width
        assert 0 <= region.box.y0 < region.box.y1 <= record.picture.height


def test_hannover_has_22_films_each_with_its_patient():
    records, rejected, _ = read_all("hannover_cxr_csv")
    assert (len(records), rejected) == (22, [])
    assert {record.regions[0].label for record in records} == {"covid_19"}
    assert {record.attributes.get("projection") for record in records} <= {"pa", "ap"}
    by_case = {record.case: record for record in records}
    assert by_case["fff13f3a"].group == "024e7871"
    assert by_case["fff13f3a"].attributes == {"sex": "f", "projection": "pa"}


def test_lung_ultrasound_has_50_frames_in_four_classes():
    records, rejected, _ = read_all("us_folders_derived")
    assert (len(records), rejected) == (50, [])
    counts = Counter(record.regions[0].raw for record in records)
    assert sorted(counts.values(), reverse=True) == [26, 13, 8, 3]
    assert all(record.regions[0].label is not None for record in records)
    frames = [record for record in records if record.case.endswith(("f0025", "f0075")) and "file3" in record.case]
    assert len({record.group for record in frames}) == 1  # frames of one clip stay together


# ---- TotalSegmentator: one label map, and the same as 117 files


def structures():
    folder = DATA / "totalseg_ref/tests/reference_files/example_seg_fast"
    return {path.name.removesuffix(".nii.gz"): path for path in sorted(folder.glob("*.nii.gz"))}


@pytest.fixture(scope="module")
def labelmap():
    return read_all("totalseg_labelmap", limits=descriptor.NO_LIMITS)


@pytest.fixture(scope="module")
def as_files():
    return read_all("totalseg_structures", limits=descriptor.NO_LIMITS)


def regions_by_slice(records):
    return {
        record.id.partition("/")[2]: sorted(
            (region.label or region.raw, region.side or "", region.box, region.area_px) for region in record.regions
        )
        for record in records
    }


def test_the_label_map_and_the_structure_files_say_the_same(labelmap, as_files):
    assert (labelmap[1], as_files[1]) == ([], [])
    assert regions_by_slice(labelmap[0]) == regions_by_slice(as_files[0])
    one, other = ({r.picture.index: r.picture.sha256 for r in records} for records, *_ in (labelmap, as_files))
    assert one == other


def test_empty_structure_files_give_nothing(as_files):
    found = {region.raw for record in as_files[0] for region in record.regions}
    empty = {name for name, path in structures().items() if not np.asanyarray(nib.load(path).dataobj).any()}
    assert (len(structures()), len(empty)) == (117, 77)
    assert found == set(structures()) - empty
    assert sorted(found) == sorted(gold("totalseg_ref")["example_seg_fast"]["nonempty"])


def test_no_voxel_is_lost_over_the_slices(as_files):
    counted = Counter()
    for record in as_files[0]:
        for region in record.regions:
            code = {"size": [record.picture.height, record.picture.width], "counts": region.mask}
            assert coco_mask.area(code) == region.area_px
            counted[region.raw] += int(region.area_px)
    wanted = {name: int(np.count_nonzero(np.asanyarray(nib.load(path).dataobj))) for name, path in structures().items()}
    assert counted == {name: count for name, count in wanted.items() if count}


def test_sides_are_those_of_the_names(as_files):
    for record in as_files[0]:
        for region in record.regions:
            words = region.raw.split("_")
            said = "left" if "left" in words else "right" if "right" in words else None
            if region.label and said and region.label.find(said) < 0:
                assert region.side == said, region.raw


def test_the_patients_left_is_on_the_pictures_right(as_files):
    for left, right in (("kidney_left", "kidney_right"), ("hip_left", "hip_right")):
        for record in as_files[0]:
            boxes = {region.raw: region.box for region in record.regions}
            if left in boxes and right in boxes:
                assert boxes[left].x0 > boxes[right].x0


def test_slices_know_where_they_are(labelmap):
    path = DATA / "totalseg_ref/tests/reference_files/example_ct_sm.nii.gz"
    image = nib.load(path)
    inverse = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ image.affine)
    stored = np.asanyarray(image.dataobj)
    for record in labelmap[0][::20]:
        picture = record.picture
        pixels = pictures.pixels_of(picture.bytes)
        for y, x in ((10, 20), (50, 60), (70, 30)):
            world = np.reshape(picture.to_world, (3, 3)) @ [x + 0.5, y + 0.5, 1]
            i, j, k = np.rint((inverse @ [*world, 1])[:3]).astype(int)
            grey = np.floor(np.clip((stored[i, j, k] + 160) / 400 * 255 + 0.5, 0, 255))
            assert abs(int(pixels[y, x]) - grey) <= 1


def test_the_main_job_makes_one_training_set_of_all_of_them(tmp_path, monkeypatch):
    names = ("bccd_voc", "totalseg_labelmap", "totalseg_structures", "us_folders_derived", "hannover_cxr_csv")
    sources = [str(HERE / f"{name}.yaml") for name in names]
    assert main(["run", *sources, "--data", str(DATA), "--out", str(tmp_path / "run"), "--workers", "1"]) == 0
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    folder, cache = str(tmp_path / "run" / "dataset"), str(tmp_path / "cache")
    records = [row for split in datasets.load_dataset(folder, "records", cache_dir=cache).values() for row in split]
    by_source = Counter(row["source"] for row in records)
    assert by_source == {
        "bccd_voc": 110,
        "totalseg_labelmap": 30,
        "totalseg_structures": 30,
        "us_folders_derived": 50,
        "hannover_cxr_csv": 22,
    }
    assert sum(len(row["bbox"]) for row in records if row["source"] == "bccd_voc") == 1527
    assert all(row["image"].size == (row["width"], row["height"]) for row in records)
    samples = [row for split in datasets.load_dataset(folder, cache_dir=cache).values() for row in split]
    assert {row["source"] for row in samples} == set(by_source)
    assert all(len(row["images"]) == 1 and row["messages"][0]["content"].startswith("<image>\n") for row in samples)
