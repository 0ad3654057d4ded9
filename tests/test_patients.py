"""All that is made of one patient stands in one split: frames, slices, stacks, channels, rows, copies, both eyes.

Who a picture is of is known from how the test wrote it, never from the run's own groups.
"""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_forms import arrays, encoded, saved, written
from test_series import ct_slice

from pipeline.cli import main

PATIENTS = [f"p{n:02d}" for n in range(14)]
HEAD = "schema: medgloss/1\nid: toy\ntitle: A toy\nlicense: {name: CC0-1.0}\negress: any\nlimits: none\nroot: data\n"
CLASS = "annotations: [{kind: classes, value: pneumonia}]\n"


class Set(NamedTuple):
    """A data set in which every patient has several pictures."""

    yaml: str
    files: Mapping[str, bytes]
    records: int
    """Of each patient."""
    of: Callable[[str], str] = lambda record: re.findall(r"p\d\d", record)[0]
    """Record id to patient."""
    modality: str = "xray"


def noise(seed: int, shape: tuple[int, ...] = (30, 40), low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape)


def picture(seed: int) -> bytes:
    return encoded(noise(seed).astype(np.uint8), "PNG")


def each(name: str, make: Callable[[int], bytes], times: int = 3) -> dict[str, bytes]:
    """Write a file for each patient and number: `{p}` and `{n}` in the name."""
    return {
        name.format(p=patient, n=n): make(100 * at + n) for at, patient in enumerate(PATIENTS) for n in range(times)
    }


def clip(seed: int) -> bytes:
    def write(path: Path) -> None:
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
        for frame in noise(seed, (4, 48, 64, 3)).astype(np.uint8):
            writer.write(frame)
        writer.release()

    return written(write, "a.avi")


def volume(seed: int, shape: tuple[int, ...] = (40, 30, 3)) -> bytes:
    image = nib.Nifti1Image(noise(seed, shape, -900, 900).astype(np.int16), np.diag([-1.5, -1.5, 3, 1]))
    return written(lambda path: nib.save(image, path), "a.nii.gz")


def stacks() -> dict[str, bytes]:
    """Two studies of each patient, each with two series in one folder."""
    files = {}
    for at, patient in enumerate(PATIENTS):
        for study in range(2):
            for number in range(6):
                uid = f"1.2.{at + 1}.{study + 1}.{number // 3 + 1}"
                hu = noise(at * 100 + study * 10 + number, (30, 40), -900, 900)
                one = ct_slice(number, hu, (0, 0, 3.0 * (number % 3)), uid=uid, SeriesNumber=number // 3 + 1)
                files[f"{patient}/s{study}/{number}.dcm"] = saved(one)
    return files


def rows() -> bytes:
    names = [patient for n in range(3) for patient in PATIENTS]  # a patient's rows stand apart
    images = np.stack([noise(n) for n in range(len(names))]).astype(np.uint8)
    return arrays(images=images, who=np.array(names))


def cells() -> bytes:
    count = 3 * len(PATIENTS)
    held = [{"bytes": picture(n), "path": None} for n in range(count)]
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": held, "who": [n % len(PATIENTS) for n in range(count)]}), sink)
    return sink.getvalue()


def of_row(record: str) -> str:
    return PATIENTS[int(re.findall(r"r(\d{6})", record)[0]) % len(PATIENTS)]


def listed() -> bytes:
    lines = [f"x{100 * at + n}.png, {patient} ,{n}\n" for at, patient in enumerate(PATIENTS) for n in range(3)]
    return ("file,patient,visit\n" + "".join(lines)).encode()


SETS: dict[str, Set] = {
    "frames of a patient's clips": Set(
        'cases: {match: "{patient}_{n}.avi", group: "{patient}"}\nframes: {every_s: all}\n' + CLASS,
        each("{p}_{n}.avi", clip, 2),
        8,
        modality="endoscopy",
    ),
    "stacks of a patient's studies": Set(
        'cases: {form: series, match: "{patient}/{study}/*.dcm", id: "{patient}-{study}", group: "{patient}"}\n'
        "slices: {pick: all}\n" + CLASS,
        stacks(),
        12,
        modality="ct",
    ),
    "slices in three planes": Set(
        'cases: {match: "{patient}_{n}.nii.gz", group: "{patient}"}\nslices: {pick: all, planes: xyz, every: 10}\n'
        + CLASS,
        each("{p}_{n}.nii.gz", volume, 2),
        16,
        modality="ct",
    ),
    "channels beside each other": Set(
        'cases: {match: "{patient}_{visit}_{channel}.nii.gz", id: "{patient}_{visit}", group: "{patient}"}\n'
        "channels: {files: {0: t1, 1: t2, 2: flair}}\nslices: {pick: all}\n" + CLASS,
        {**each("{p}_a_{n}.nii.gz", volume), **each("{p}_b_{n}.nii.gz", lambda seed: volume(seed + 50))},
        18,
        modality="mr",
    ),
    "channels of one file": Set(
        'cases: {match: "{patient}_{n}.nii.gz", group: "{patient}"}\nchannels: {axis: [t1, t2]}\n'
        "slices: {pick: all}\n" + CLASS,
        each("{p}_{n}.nii.gz", lambda seed: volume(seed, (40, 30, 3, 2)), 2),
        12,
        modality="mr",
    ),
    "rows of an npz": Set(
        'cases: {match: "{stem}.npz", rows: {image: images}, group: "{row.who}"}\n' + CLASS,
        {"all.npz": rows()},
        3,
        of_row,
    ),
    "rows of a Parquet file": Set(
        'cases: {match: "{stem}.parquet", rows: {image: image}, group: "{row.who}"}\n' + CLASS,
        {"all.parquet": cells()},
        3,
        of_row,
    ),
    "augmented copies": Set(
        'cases: {match: "{patient}_aug{n}.png", group: "{patient}"}\n' + CLASS, each("{p}_aug{n}.png", picture), 3
    ),
    "both eyes": Set(
        'cases: {match: "{eye:OD|OS}/{patient}.png", group: "{patient}"}\n' + CLASS,
        {**each("OD/{p}.png", picture, 1), **each("OS/{p}.png", lambda seed: picture(seed + 50), 1)},
        2,
    ),
    "pictures whose patient a table names": Set(
        'cases: {match: "{stem}.png", group: "{t.patient}"}\n'
        'tables: {t: {path: t.csv, key: file, match: "{name}"}}\n' + CLASS,
        {**{f"x{100 * at + n}.png": picture(100 * at + n) for at in range(14) for n in range(3)}, "t.csv": listed()},
        3,
        lambda record: PATIENTS[int(re.findall(r"x(\d+)", record)[0]) // 100],
    ),
}  # fmt: skip


def splits(folder: Path, made: Set, *flags: str) -> dict[str, set[str]]:
    """Run a data set to its end; return patient to the splits that the pictures of the training set are in."""
    for name, data in made.files.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_bytes(data)
    (folder / "toy.yaml").write_text(f"{HEAD}modality: {made.modality}\n{made.yaml}")
    call = ["run", str(folder / "toy.yaml"), "--out", str(folder / "run"), "--workers", "1", "--language", "en"]
    call += ["--split", "train=0.4", "--split", "validation=0.3", "--split", "test=0.3", "--shards", "toy=3", *flags]
    assert main(call) == 0
    found, records = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for row in table(folder / "run" / "curated"):
        found[made.of(row["record"])].add(row["split"])
        records[made.of(row["record"])].add(row["record"])
    assert {len(of_patient) for of_patient in records.values()} == {made.records}
    by_file = defaultdict[str, set[str]](set)
    for file in (folder / "run" / "dataset").rglob("*.parquet"):
        for row in pq.read_table(file, columns=["record_id"]).to_pylist():
            by_file[made.of(row["record_id"])].add(file.name.partition("-")[0])
    assert by_file == found
    return dict(found)


def table(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("name", SETS)
def test_all_of_a_patient_is_in_one_split(tmp_path, name):
    found = splits(tmp_path, SETS[name], "--prompt", "perception.modality")
    assert sorted(found) == PATIENTS
    assert {len(of_patient) for of_patient in found.values()} == {1}
    assert set().union(*found.values()) == {"train", "validation", "test"}


def test_without_a_group_a_patient_is_torn_apart(tmp_path):
    """The test above can fail."""
    made = SETS["augmented copies"]
    found = splits(tmp_path, made._replace(yaml=made.yaml.replace(', group: "{patient}"', "")))
    assert max(len(of_patient) for of_patient in found.values()) > 1


def test_hashed_patients_stay_together(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGLOSS_ID_KEY", "a secret of 22 letters")
    made = SETS["augmented copies"]
    for name, data in made.files.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(data)
    (tmp_path / "toy.yaml").write_text(f"{HEAD}modality: xray\nprivacy: {{hash_ids: true}}\n{made.yaml}")
    call = ["run", str(tmp_path / "toy.yaml"), "--out", str(tmp_path / "run"), "--workers", "1"]
    assert main([*call, "--split", "train=0.4", "--split", "validation=0.3", "--split", "test=0.3"]) == 0
    lines = (tmp_path / "run" / "private" / "cases.csv").read_text().splitlines()[1:]
    patient_of = {line.split(",")[1]: line.split(",")[2][:3] for line in lines}
    found = defaultdict[str, set[str]](set)
    for row in table(tmp_path / "run" / "curated"):
        found[patient_of[row["record"].split("/")[1]]].add(row["split"])
    assert {len(of_patient) for of_patient in found.values()} == {1}
    assert len(set().union(*found.values())) > 1


def test_a_picture_whose_patient_is_not_known_is_a_patient_of_its_own(data_set):
    yaml = 'cases: {match: "{stem}.png", group: "{t.patient}"}\n'
    yaml += 'tables: {t: {path: t.csv, key: file, match: "{name}"}}\n' + CLASS
    files = {**{f"{name}.png": picture(n) for n, name in enumerate("abcd")}, "t.csv": "file,patient\na.png,\nb.png,7\n"}
    toy = data_set(yaml, files)
    assert {case.id: case.group for case in toy.plan().cases} == {"a": "a", "b": "7", "c": "c", "d": "d"}
