"""Real data sets, read where they lie: every set, and boxes and masks of pictures.

Each descriptor in `tests/real` is read once as it stands and once with `limits: none`. The numbers of GOLD.json were
made with numpy, OpenCV, nibabel and pydicom; where it has none, other libraries read the raw files here.
"""

import hashlib
import itertools
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml
from pycocotools import mask as coco_mask
from real_sets import (
    DATA,
    HERE,
    NAMES,
    Found,
    as_written,
    at_path,
    found_in,
    gold,
    in_source,
    mask_of,
    read_all,
    root_of,
    said,
    source_of,
    without_limits,
)

from pipeline import pictures
from pipeline.cli import main
from pipeline.defects import Scan
from pipeline.ingest.stage import read_case
from sources import descriptor
from sources.cases import plan

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder"
)


# ---- pictures with boxes, and labels of whole pictures


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


# ---- every set


def test_every_set_has_a_descriptor():
    sets = {folder.name for folder in DATA.iterdir() if (folder / "SOURCE.md").is_file()}
    roots = {yaml.safe_load((HERE / f"{name}.yaml").read_text())["root"].split("/")[0] for name in NAMES}
    assert roots | {"dirty_derived"} == sets  # whose descriptors test_dirty.py reads
    assert len(sets) == 24


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_and_limits_take_away_exactly_what_they_reject(name):
    free, limited = without_limits(name), as_written(name)
    for found in (free, limited):
        lost = found.reasons("case")
        assert len(found.cases) == sum(bool(read.records) for read in found.reads) + lost.total()
        cut = sum(tally.pictures_cut - tally.pictures_not_selected for tally in found.tallies)
        assert cut == len(found.records) + found.reasons("record").total()
        counted = sum(tally.regions_found for tally in found.tallies)
        assert counted == len(found.regions) + found.reasons("region").total()
    assert [t.regions_found for t in free.tallies] == [t.regions_found for t in limited.tallies]
    missing = Counter((r.id, region) for r, region in free.regions)
    missing.subtract(Counter((r.id, region) for r, region in limited.regions))
    assert min(missing.values(), default=0) >= 0
    rejected = Counter(row.id.rpartition("/")[0] for row in limited.rejected if row.level == "region")
    rejected.subtract(Counter(row.id.rpartition("/")[0] for row in free.rejected if row.level == "region"))
    assert Counter(record for record, _ in missing.elements()) == +rejected


UNLABELLED = [name for name in NAMES if not yaml.safe_load((HERE / f"{name}.yaml").read_text()).get("annotations")]
UNLABELLED = [name for name in UNLABELLED if "hippocampus" not in name]  # their presets have annotations


@pytest.mark.parametrize("name", UNLABELLED)
def test_sets_without_labels_are_kept_on_demand_and_else_rejected_as_such(name):
    kept = as_written(name)
    assert kept.records
    assert kept.regions == []
    cases = source_of(name).descriptor.cases.model_copy(update={"unlabelled": "reject"})
    found = found_in(name, cases=cases)
    assert found.records == []
    shown = {row.id for row in kept.rejected if row.level == "case"}
    assert {row.reason for row in found.rejected if row.id not in shown} <= {"unlabelled", "nothing_kept"}
    assert "unlabelled" in {row.reason for row in found.rejected}


def test_sets_without_labels_are_these():
    wanted = {"mr_dicom_series", "niivue_images", "niivue_pcasl", "ivadomed_micrographs", "pydicom_files"}
    assert set(UNLABELLED) == wanted | {"highdicom_pictures", "rtstruct_rtutils_series"}


@pytest.mark.parametrize("name", ["mr_dicom_series", "pet_fnndsc", "highdicom_ct", "rtstruct_dicompyler", "dcmqi_ct"])
def test_nothing_of_a_patient_is_in_what_is_written(name):
    found, secrets = as_written(name), set()
    for path in itertools.chain.from_iterable(files for case in found.cases for files in case.files.values()):
        dataset = pydicom.dcmread(found.root / path, stop_before_pixels=True)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "InstitutionName"):
            secrets.add(str(dataset.get(keyword) or ""))
    secrets = {text for text in secrets if len(text) > 4}
    assert secrets
    written = repr([(record, row) for record in found.records for row in (None, *found.rejected)])
    coded = b"".join(record.picture.bytes for record in found.records)
    assert not [text for text in secrets if text in written or text.encode() in coded]


MEANINGLESS = r"(RGB\(.*|GREEN|ORANGE|PURPLE|(LIGHT|DARK)_BLUE|structure \d|ROI-\d|first segment|region of interest)"


def test_labels_are_in_the_vocabulary_unless_they_mean_nothing():
    unknown = {region.raw for name in NAMES for _, region in without_limits(name).regions if region.label is None}
    assert [raw for raw in sorted(unknown) if not re.fullmatch(MEANINGLESS, raw)] == []
    assert all(record.department and record.task for record, _ in without_limits("biomedparse_demo").regions)


# ---- boxes of pictures, against the raw files


def clipped(x0, y0, x1, y1, record):
    width, height = record.picture.width, record.picture.height
    return tuple(round(v, 4) for v in (max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)))


def drawn(name: str):
    """Yield each record and its boxes, with what they are."""
    for record in without_limits(name).records:
        yield record, Counter((*said(r), *(round(v, 4) for v in r.box)) for r in record.regions)


def test_voc_boxes_are_those_of_the_xml_files():
    names = {"RBC": "red_blood_cell", "WBC": "white_blood_cell", "Platelets": "platelet"}
    for record, boxes in drawn("bccd_voc"):
        wanted = Counter()
        for item in ET.parse(root_of("bccd_voc") / f"BCCD/Annotations/{record.case}.xml").iter("object"):
            x0, y0, x1, y1 = (int(item.find(f"bndbox/{key}").text) for key in ("xmin", "ymin", "xmax", "ymax"))
            if x0 < x1 and y0 < y1:
                wanted[names[item.find("name").text], None, *clipped(x0 - 1, y0 - 1, x1, y1, record)] += 1
        assert boxes == wanted, record.id


def test_coco_boxes_are_those_of_the_json_files():
    names = {"rbc": "red_blood_cell", "wbc": "white_blood_cell"}
    pictures_of, boxes_of = Counter(), Counter()
    for record, boxes in drawn("rbc_wbc_coco"):
        split = record.attributes["split"]
        content = json.loads((root_of("rbc_wbc_coco") / split / "_annotations.coco.json").read_text())
        kinds = {one["id"]: names.get(one["name"]) for one in content["categories"]}
        (image,) = (one for one in content["images"] if one["file_name"] == f"{record.case.partition('/')[2]}.jpg")
        wanted = Counter()
        for one in content["annotations"]:
            if one["image_id"] == image["id"]:
                x, y, width, height = one["bbox"]
                wanted[kinds[one["category_id"]], None, *clipped(x, y, x + width, y + height, record)] += 1
        assert boxes == wanted, record.id
        pictures_of[split] += 1
        boxes_of.update((split, key[0]) for key in boxes.elements())
    for split, numbers in gold("rbc_wbc_coco").items():
        assert pictures_of[split] == numbers["files"]
        assert sum(count for (one, _), count in boxes_of.items() if one == split) == numbers["boxes"]
        assert {kind: boxes_of[split, names[kind]] for kind in numbers["per_class"]} == numbers["per_class"]


YOLO = {
    "dental_yolo": ("data/{0}/labels/{1}.txt", ["dental_caries", "dental_filling", "impacted_tooth", "dental_implant"]),
    "fundus_idrid_yolo": ("images/{0}.txt", ["optic_disc", "hard_exudate", "retinal_hemorrhage"]),
}


@pytest.mark.parametrize("name", YOLO)
def test_yolo_boxes_are_those_of_the_text_files(name):
    path, names = YOLO[name]
    counted = Counter()
    for record, boxes in drawn(name):
        lines = (root_of(name) / path.format(*record.case.split("/"))).read_text().splitlines()
        wanted = Counter()
        for kind, x, y, w, h in (map(float, line.split()) for line in lines if line.strip()):
            width, height = record.picture.width, record.picture.height
            corners = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
            wanted[names[int(kind)], None, *clipped(*corners, record)] += 1
            counted[str(int(kind))] += 1
        assert boxes == wanted, record.id
    wanted = gold(name).get("counts") or gold(name)["lines_per_class"]
    assert counted == {key: count for key, count in wanted.items() if key.isdigit()}


def test_two_fundus_photographs_have_no_label_file():
    found = as_written("fundus_idrid_yolo")
    unlabelled = {row.id for row in found.rejected if row.reason == "unlabelled"}
    assert unlabelled == {"fundus_idrid_yolo/0046/image", "fundus_idrid_yolo/0088/image"}
    assert len(unlabelled) == gold("fundus_idrid_yolo")["counts"]["no label file"]
    assert len(found.cases) == gold("fundus_idrid_yolo")["images"] == 11


# ---- masks of pictures


@pytest.mark.parametrize(("name", "count"), [("biomedparse_demo", 57), ("sam_med2d_demo", 30)])
def test_every_mask_has_the_area_and_box_of_its_file(name, count):
    found = without_limits(name)
    cases = [record.case for record in found.records]
    wanted = Counter()
    for path, numbers in gold(name).items():
        stem = Path(path).stem
        (case,) = (case for case in cases if stem.startswith(f"{case}_"))
        label = re.sub(r"_[0-9]{3}$", "", stem.removeprefix(f"{case}_")).replace("+", " ")
        wanted[case, label, numbers["area"], *numbers["box"]] += 1
    regions = Counter((record.case, r.raw, int(r.area_px), *in_source(record, r.box)) for record, r in found.regions)
    assert regions == wanted
    assert regions.total() == count
    assert all(mask_of(record, r).sum() == r.area_px for record, r in found.regions)
    assert all(r.label for _, r in found.regions)


def test_components_are_as_many_as_opencv_finds():
    spec = source_of("biomedparse_demo").descriptor.specs[0].model_copy(update={"boxes": "per_component"})
    found = found_in("biomedparse_demo", limits=descriptor.NO_LIMITS, annotations=(spec,))
    assert len(found.regions) == sum(numbers["components"] for numbers in gold("biomedparse_demo").values())


def test_membranes_are_what_is_black():
    wanted = {Path(path).stem: numbers for path, numbers in gold("membrane_em").items()}
    areas = {record.case: region.area_px for record, region in as_written("membrane_em").regions}
    assert areas == {case: 512 * 512 - numbers["area"] for case, numbers in wanted.items()}
    upright = at_path("membrane_em", "label/{n}.png", invert=False)
    assert {record.case: region.area_px for record, region in upright.regions} == {
        case: numbers["area"] for case, numbers in wanted.items()
    }


def test_what_is_odd_is_told():
    def odd(found: Found) -> str:
        scan = Scan()
        for case, read in zip(found.cases, found.reads, strict=True):
            scan.add(case, read)
        return "\n".join(scan.lines())

    assert "12 mask(s) whose foreground fills border" in odd(at_path("membrane_em", "label/{n}.png", invert=False))
    assert odd(as_written("membrane_em")) == ""
    # the masks of lung and of COVID-19 on one radiograph are the same file
    assert "1 mask(s) that equal another" in odd(as_written("biomedparse_demo"))
    assert "10 picture(s) stand more than once" in odd(as_written("ivadomed_micrographs"))
    assert "77 mask(s) without foreground" in odd(as_written("totalseg_structures"))
    assert "9 structure(s) with outlines on planes of which there is no slice" in odd(as_written("rtstruct_dicompyler"))


def test_micrographs_of_16_bits_show_what_those_of_8_bits_show():
    window = descriptor.Display(window=descriptor.WindowSpec(low=0, high=65535))
    shown = {}
    for found, names in ((as_written("ivadomed_micrographs"), "rgb|8"), (None, "16gray")):
        for record in (found or found_in("ivadomed_micrographs", display=window)).records:
            pixels = pictures.pixels_of(record.picture.bytes)
            if re.search(names, record.case):
                shown[record.case] = pixels if pixels.ndim == 2 else pixels[..., 0]
    of_256 = {case: pixels for case, pixels in shown.items() if pixels.shape == (256, 256)}
    assert (len(shown), len(of_256)) == (14, 11)
    # no tolerance: 16-bit values are 257 times those of 8 bits
    assert len({pixels.tobytes() for pixels in of_256.values()}) == 1
    assert len({pixels.tobytes() for pixels in shown.values() if pixels.shape == (266, 278)}) == 1
    # without a window grey of 16 bits is stretched from percentile 0.5 to 99.5, which colours are not
    (stretched,) = (r for r in as_written("ivadomed_micrographs").records if r.case == "sub-png-16gray")
    grey = pictures.pixels_of(stretched.picture.bytes)
    assert np.corrcoef(grey.ravel(), of_256["sub-tif-8gray"].ravel())[0, 1] > 0.999
