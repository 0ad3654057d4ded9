"""Real data sets, read where they lie: counts, boxes and areas that other programs gave.

Each descriptor in `tests/real` is read once as it stands and once with `limits: none`. The numbers of GOLD.json were
made with numpy, OpenCV, nibabel and pydicom; where it has none, other libraries read the raw files here.
"""

import functools
import hashlib
import itertools
import json
import os
import re
import warnings
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline import discovery, pictures, vocabulary
from pipeline import plan as plans
from pipeline.cli import main
from pipeline.defects import Scan
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Box, Case, Record, Region
from pipeline.settings import Settings
from sources import descriptor
from sources.cases import plan

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
HERE = Path(__file__).parent / "real"
NAMES = sorted(path.stem for path in HERE.glob("*.yaml") if not path.stem.startswith("dirty"))
WORDS = vocabulary.load()

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real data in {DATA}; MEDGLOSS_REAL_DATA names the folder"
)


class Found(NamedTuple):
    """All that a descriptor gives."""

    cases: tuple[Case, ...]
    reads: tuple[Any, ...]
    root: Path

    @property
    def records(self):
        return [record for read in self.reads for record in read.records]

    @property
    def rejected(self):
        return [row for read in self.reads for row in read.rejected]

    @property
    def tallies(self):
        return [read.tally for read in self.reads]

    @property
    def regions(self) -> list[tuple[Record, Region]]:
        return [(record, region) for record in self.records for region in record.regions]

    def reasons(self, level: str) -> Counter[str]:
        return Counter(row.reason for row in self.rejected if row.level == level)


def root_of(name: str) -> Path:
    root = DATA / yaml.safe_load((HERE / f"{name}.yaml").read_text())["root"]
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    return root


def source_of(name: str, **changes) -> Source:
    root_of(name)
    found = plans.open_source(str(HERE / f"{name}.yaml"), Settings(sources=(), data=str(DATA)), WORDS)
    return Source(found.descriptor.model_copy(update=changes), found.root, WORDS)


def found_in(name: str, **changes) -> Found:
    source = source_of(name, **changes)
    cases = plan(source.descriptor, source.root).cases
    return Found(cases, tuple(read_case(case, source) for case in cases), source.root)


@functools.cache
def as_written(name: str) -> Found:
    return found_in(name)


@functools.cache
def without_limits(name: str) -> Found:
    return found_in(name, limits=descriptor.NO_LIMITS)


def read_all(name: str, **changes):
    if changes and changes != {"limits": descriptor.NO_LIMITS}:
        found = found_in(name, **changes)
    else:
        found = without_limits(name) if changes else as_written(name)
    return found.records, found.rejected, found.tallies


def at_path(name: str, path: str, limits: descriptor.Limits | None = None, **keys) -> Found:
    """Read a set with another file as its only annotation."""
    spec = source_of(name).descriptor.specs[0].model_copy(update={"path": path, **keys})
    return found_in(name, annotations=(spec,), **({"limits": limits} if limits else {}))


@functools.cache
def gold(name: str):
    return json.loads((DATA / "GOLD.json").read_text())[name]


def mask_of(record: Record, region: Region):
    """Decode a region's mask with pycocotools, `(y, x)`."""
    assert record.picture
    code = {"size": [record.picture.height, record.picture.width], "counts": region.mask}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools speaks the language of NumPy 1
        return coco_mask.decode(code).astype(bool)


def in_source(record: Record, box: Box) -> tuple[float, ...]:
    """Return a box in px of the stored array's own two axes."""
    a, b, c, d, e, f = record.picture.to_source
    columns = [a * x + b * y + c for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    rows = [d * x + e * y + f for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    return tuple(round(v, 6) for v in (min(columns), min(rows), max(columns), max(rows)))


def said(region: Region) -> tuple[str, str | None]:
    return region.label or region.raw, region.side


def meant(name: str) -> tuple[str, str | None]:
    concept, side = WORDS.meaning(name)
    return concept or name, side


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
    assert roots | {"dirty_derived"} == sets  # whose descriptors test_dirty_data.py reads
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
        boxes_of.update({(split, key[0]): count for key, count in boxes.items() if count})
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


# ---- volumes, in mm


def header_names(path: Path) -> dict[int, str]:
    (extension,) = nib.load(path).header.extensions
    table = ET.fromstring(extension.get_content().strip(b"\0"))
    return {int(label.get("Key")): label.text for label in table.iter("Label") if label.get("Key") != "0"}


HIPPOCAMPUS = {1: "anterior hippocampus", 2: "posterior hippocampus"}
TOTAL = {number: f"structure {number}" for number in (1, 7, 8, 9)}
GREY = {"GREEN": 1, "LIGHT_BLUE": 4, "DARK_BLUE": 5}
VOLUMES = [
    ("totalseg_header", None, "totalseg_ref"),
    ("totalseg_torso", None, "totalseg_ref"),
    ("totalseg_mr", None, "totalseg_ref"),
    ("totalseg_dicom", None, "totalseg_ref"),
    ("totalseg_spine", None, None),
    ("msd_hippocampus", HIPPOCAMPUS, "msd_layout_derived"),
    ("nnunet_hippocampus", HIPPOCAMPUS, None),
    ("ivadomed_spleen", {1: "spleen"}, "ivadomed_testing"),
    ("pyradiomics_nrrd", {1: "tumor"}, None),
    ("pyradiomics_prostate", TOTAL, None),
    ("dcmqi_nrrd", {1: "liver", 5: "thoracic spine"}, None),
    ("dcmqi_multiframe", {1: "liver"}, None),
]


def voxels(records: list[Record], what: tuple[str, str | None], mask: Any):
    """Return the voxels of a SimpleITK mask that regions cover, found by their mm."""
    turn = np.reshape(mask.GetDirection(), (3, 3)) * mask.GetSpacing()
    found = []
    for record in records:
        for region in record.regions:
            if said(region) == what:
                rows, columns = np.nonzero(mask_of(record, region))
                world = np.reshape(record.picture.to_world, (3, 3)) @ [columns + 0.5, rows + 0.5, np.ones(len(rows))]
                found.append(np.linalg.solve(turn, world - np.reshape(mask.GetOrigin(), (3, 1))).T)
    return np.concatenate(found or [np.zeros((0, 3))])


@pytest.mark.parametrize(("name", "names", "set_name"), VOLUMES)
def test_every_voxel_of_a_mask_is_found_at_its_place_in_the_patient(name, names, set_name):
    found = without_limits(name)
    sampled = source_of(name).descriptor.slices.pick != "labelled"
    for case, read in zip(found.cases, found.reads, strict=True):
        if not read.records:
            continue
        path = found.root / case.files["0"][0]
        mask = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(mask)
        for number, text in (names or header_names(path)).items():
            exact = voxels(read.records, meant(text), mask)
            index = np.rint(exact).astype(int)
            assert np.abs(exact - index).max(initial=0) < 0.02
            assert (array[index[:, 2], index[:, 1], index[:, 0]] == number).all()
            assert len(np.unique(index, axis=0)) == len(index)
            assert sampled or len(index) == np.count_nonzero(array == number)
        if set_name:
            agrees_with_gold(read.records, path, set_name, names or header_names(path))


def agrees_with_gold(records: list[Record], path: Path, set_name: str, names: dict[int, str]) -> None:
    (wanted,) = (value for key, value in gold(set_name).items() if str(path).endswith(key))
    for number, text in names.items():
        areas = {r.picture.index: reg.area_px for r in records for reg in r.regions if said(reg) == meant(text)}
        numbers = wanted["labels"].get(str(number))
        assert bool(areas) == bool(numbers), text
        if numbers:
            assert sum(areas.values()) == numbers["voxels"], text
            assert [min(areas), max(areas)] == numbers["third_axis_slices"], text
            assert len(areas) == numbers["n_slices"], text
    assert {said(region) for r in records for region in r.regions} <= {meant(text) for text in names.values()}


def test_the_liver_has_its_density():
    """A DICOM series and a NIfTI mask, paired in mm; by the order of their arrays it would be -75."""
    wanted = gold("totalseg_ref")["physical_alignment"]["paired in physical space"]
    window, greys = (-160, 240), []
    for record in without_limits("totalseg_dicom").records:
        assert record.picture.window == "soft_tissue -160..240"
        pixels = pictures.pixels_of(record.picture.bytes)
        greys += [pixels[mask_of(record, r)] for r in record.regions if r.label == "liver"]
    hu = np.concatenate(greys) / 255 * (window[1] - window[0]) + window[0]
    assert abs(hu.mean() - wanted) < 2


def test_tissue_types_are_those_of_their_files():
    counted = Counter()
    for _, region in without_limits("totalseg_tissue").regions:
        counted[region.raw] += int(region.area_px)
    folder = root_of("totalseg_tissue") / "example_seg_tissue_types"
    files = {path.name.removesuffix(".nii.gz"): np.asanyarray(nib.load(path).dataobj) for path in folder.iterdir()}
    assert counted == {label: np.count_nonzero(array) for label, array in files.items()}


def test_bones_that_were_looked_for_and_are_not_there_are_absent():
    records = as_written("totalseg_absent").records
    assert len(records) == 3
    for record in records:
        assert record.regions == ()
        assert len(record.annotated) == 11
        assert {"fibula", "patella", "carpal_bone"} < set(record.annotated)
        assert not {"pulmonary_artery", "airway"} & set(record.annotated)


def test_msd_and_nnunet_say_the_same():
    def content(name):
        return {r.id.partition("/")[2]: (r.picture.sha256, r.regions) for r in without_limits(name).records}

    assert content("msd_hippocampus") == content("nnunet_hippocampus")


def test_files_that_are_no_volume_of_one_channel_are_told():
    assert as_written("niivue_images").reasons("case") == {"not_3d": 1}
    found = as_written("niivue_pcasl")
    assert {record.picture.channel for record in found.records} == {"v0", "v1"}
    report = "spine_report/example_ct_report/{case:spine_report}.nii.gz"
    cases = source_of("totalseg_mr").descriptor.cases.model_copy(update={"match": (report,), "unlabelled": "keep"})
    assert found_in("totalseg_mr", cases=cases, annotations=()).reasons("case") == {"not_3d": 1}


# ---- DICOM SEG and RTSTRUCT


def height(record: Record) -> float:
    return round(record.picture.to_world[8], 2)


SEGS = [
    ("dcmqi_ct", lambda: [gold("dcmqi_seg")["liver.dcm"], gold("dcmqi_seg")["partial_overlaps.dcm"]]),
    ("dcmqi_small", lambda: [gold("dcmqi_seg")[f"{size}/seg/label.seg"] for size in ("23x38x3", "24x38x3")]),
    ("pet_fnndsc", lambda: [gold("pet_fnndsc")]),
]


@pytest.mark.parametrize(("name", "files"), SEGS)
def test_every_frame_of_a_seg_lies_on_its_slice(name, files):
    wanted = Counter(
        (file["segments"][str(frame["segment"])], round(frame["z"], 2), frame["area"], *frame["box"])
        for file in files()
        for frame in file["frames"]
        if frame["area"]
    )
    found = without_limits(name)
    counted = Counter((r.raw, height(rec), int(r.area_px), *in_source(rec, r.box)) for rec, r in found.regions)
    assert counted == wanted


def test_segs_and_the_label_maps_that_they_were_made_from_say_the_same():
    def content(name, *left_out):
        regions = ((height(record), *said(r), r.mask) for record, r in without_limits(name).regions)
        return Counter(one for one in regions if one[1] not in left_out)

    assert content("dcmqi_ct") == content("dcmqi_nrrd", "heart", "thoracic_spine")
    assert content("dcmqi_small") == content("dcmqi_multiframe")


def test_a_seg_of_another_series_is_refused():
    found = at_path("highdicom_ct", "seg_image_ct_true_fractional.dcm")
    assert found.reasons("case") == {"geometry_mismatch": 1}
    found = at_path("dcmqi_ct", "sparse-labelmap-noppv.dcm")
    assert found.reasons("case") == {"geometry_mismatch": 1}


def test_segments_of_slides_are_where_highdicom_puts_them():
    found = as_written("highdicom_slides")
    assert len(found.records) == 2
    more = at_path("highdicom_slides", "seg_image_sm_{kind:control}_labelmap_palette_color.dcm", optional=True)
    for case, read in (*zip(found.cases, found.reads, strict=True), (more.cases[0], more.reads[0])):
        (record,) = read.records
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom warns of missing optional attributes
            seg = hd.seg.segread(found.root / case.files["0"][0])
            matrix = seg.get_total_pixel_matrix()
            image = hd.imread(found.root / case.files["image"][0]).get_total_pixel_matrix(apply_icc_profile=False)
        np.testing.assert_array_equal(pictures.pixels_of(record.picture.bytes), image)
        masks = {region.raw: mask_of(record, region) for region in record.regions}
        for place, number in enumerate(seg.segment_numbers):
            wanted, label = matrix[..., place] > 0, seg.get_segment_description(number).segment_label
            if wanted.any() and label != "Background":
                np.testing.assert_array_equal(masks.pop(label), wanted)
        assert masks == {}


STRUCTURES = [
    ("rtstruct_dicompyler", "rtss.dcm", 1),
    ("rtstruct_rtutils", "mock_data/rt.dcm", 1),
    # of three planes two have a slice, whatever images the contours refer to
    ("rtstruct_rtutils", "empty/dummy_rt.dcm", 8),
    ("rtstruct_rtutils", "mock_data/invalid_reference_rt.dcm", 8),
    ("rtstruct_rtutils", "mock_data/non_existent_reference_rt.dcm", 8),
]


@pytest.mark.parametrize(("name", "file", "count"), STRUCTURES)
def test_contours_lie_on_the_slices_that_are_there(name, file, count):
    found = at_path(name, file, limits=descriptor.NO_LIMITS)
    corners = {}
    dataset = pydicom.dcmread(found.root / file, force=True)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    for item in dataset.ROIContourSequence:
        for contour in item.get("ContourSequence", ()):
            points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
            if np.ptp(points, axis=0)[:2].min() > 1:  # mm: a sliver may hold no pixel's centre
                corners.setdefault((names[item.ReferencedROINumber], round(points[0, 2], 2)), []).append(points)
    for record, region in found.regions:
        image = pydicom.dcmread(next((found.root / p for p in found.cases[0].files["image"])), stop_before_pixels=True)
        points = np.concatenate(corners[region.raw, height(record)])[:, :2]
        px = (points - image.ImagePositionPatient[:2]) / image.PixelSpacing[::-1] + 0.5
        np.testing.assert_allclose(in_source(record, region.box), [*px.min(axis=0), *px.max(axis=0)], atol=1)
    assert len(found.regions) == count


def test_contours_are_where_gold_has_them():
    for name in ("rtstruct_dicompyler", "rtstruct_rtutils"):
        ((record, region),) = without_limits(name).regions
        (place,) = (place for one in gold(name).values() for place in one["on_present_slices"])
        assert height(record) == round(place["z"], 2)
        # a corner is the centre of a px; below the body lie two slivers that hold none
        x0, y0, x1, y1 = in_source(record, region.box)
        np.testing.assert_allclose((x0, y0, x1), np.add(place["vertex_box"][:3], 0.5), atol=0.5)
        assert place["vertex_box"][3] - 7 < y1 - 0.5 <= place["vertex_box"][3]


def test_an_oblique_stack_is_called_so():
    oblique = [record for record in as_written("rtstruct_rtutils_series").records if record.case == "oriented_data"]
    assert {record.picture.plane for record in oblique} == {"oblique"}


# ---- DICOM pictures


def test_what_pydicom_decodes_is_kept_but_for_objects_that_mark_others():
    found = without_limits("pydicom_files")
    marks = {"Segmentation Storage", "RT Dose Storage"}
    for case, read in zip(found.cases, found.reads, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(found.root / case.files["image"][0], force=True)
            try:
                pixels = dataset.pixel_array
            except (AttributeError, RuntimeError, ValueError):
                continue
        if getattr(dataset.SOPClassUID, "name", "") in marks:
            assert [row.reason for row in read.rejected] == ["not_an_image"], case.id
            continue
        assert read.records, case.id
        if dataset.PhotometricInterpretation == "RGB" and pixels.dtype == np.uint8 and pixels.ndim == 3:
            np.testing.assert_array_equal(pictures.pixels_of(read.records[0].picture.bytes), pixels)
    assert found.reasons("case") == {"not_an_image": 23, "undecodable": 4, "truncated": 1}
    by_simpleitk = {record.case for record in found.records if "decoded by SimpleITK" in record.history}
    assert by_simpleitk == {"JPEG-lossy", "JPGExtended", "SC_rgb_jpeg_gdcm"}


def test_of_white_is_zero_the_bones_are_white():
    (film,) = (record for record in as_written("highdicom_pictures").records if record.case == "dx_image")
    dataset = pydicom.dcmread(root_of("highdicom_pictures") / "dx_image.dcm")
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    shown = pictures.pixels_of(film.picture.bytes)
    assert np.corrcoef(shown.ravel(), dataset.pixel_array.ravel())[0, 1] < -0.95


# ---- video


def test_clips_have_as_many_frames_as_can_be_read():
    found = as_written("pocus_video")
    frames = {Path(path).stem: numbers for path, numbers in gold("video").items()}
    clips = {case.id: read for case, read in zip(found.cases, found.reads, strict=True) if case.id in frames}
    assert {name: read.tally.pictures_cut for name, read in clips.items()} == {
        name: numbers["frames_read"] for name, numbers in frames.items()
    }
    for name, read in clips.items():
        numbers = frames[name]
        assert {(r.picture.width, r.picture.height) for r in read.records} == {tuple(numbers["size"])}
        taken = [round(second * numbers["fps"] + 0.499) for second in range(len(read.records))]
        assert np.abs(np.subtract([r.picture.index for r in read.records], taken)).max() <= 1
        assert len(read.records) in (int(numbers["frames_read"] / numbers["fps"]) + extra for extra in (0, 1))


def test_frames_are_numbered_as_another_program_numbers_them():
    frames = descriptor.Frames(every_s=None)
    source = source_of("pocus_video", frames=frames)
    (case,) = (case for case in plan(source.descriptor, source.root).cases if case.id == "Vir_prospective_file1")
    records = {record.picture.index: record for record in read_case(case, source).records}
    stills = sorted((DATA / "us_folders_derived").rglob("Vir_prospective_file1_f*.jpg"))
    assert stills
    for still in stills:
        number, wanted = int(still.stem[-4:]), np.asarray(Image.open(still).convert("L"), int)
        off = {
            index: np.abs(np.asarray(pictures.pixels_of(records[index].picture.bytes), int) - wanted).mean()
            for index in range(number - 3, number + 4)
        }
        assert min(off, key=lambda index: off[index]) == number
        assert off[number] < 3  # it was a JPEG


def test_each_clip_has_the_licence_label_and_patient_of_its_row():
    found = as_written("pocus_video")
    assert Counter(case.captures["meta.License"] for case in found.cases) == {"CC BY 4.0": 20, "CC BY 2.0": 5}
    assert {record.license for record in found.records} == {"CC BY 4.0", "CC BY 2.0"}
    assert len({record.group for record in found.records}) == 14
    of_class = {record.case: next(region.label for region in record.regions) for record in found.records}
    assert Counter(of_class.values()) == {
        "covid_19": 8,
        "normal": 11,
        "viral_pneumonia": 3,
        "bacterial_pneumonia": 2,
        "pneumonia": 1,
    }
    terms = source_of("pocus_video").descriptor.license.model_copy(update={"each": {}})
    rule = descriptor.LicenseRule(drop=True)
    terms = terms.model_copy(update={"each": {"CC BY 4.0": descriptor.LicenseRule(), "CC BY 2.0": rule}})
    assert found_in("pocus_video", license=terms).reasons("case") == {"license": 5}
