"""Cases that are rows of a file: what each captures, how it is called, and files that are not what they say."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from sources import rows, templates
from sources.cases import fingerprint, form_of
from sources.descriptor import RowsSpec

HUGGING_FACE = """
cases: {match: "data/{split}-{part}.parquet", rows: {image: image}, group: "{row.patient}"}
annotations: [{kind: classes, value: "{row.label}"}]
attributes: {age: "{row.age}"}
"""
MEDMNIST = """
cases: {match: "{stem}.npz", rows: {image: "{split}_images"}}
annotations: [{kind: classes, value: "{row.labels}", labels: {0: normal, 1: pneumonia}}]
"""
TEXTS = """
cases: {match: "{stem}.jsonl", rows: {text: "{row.question} {row.answer}"}, id: "{row.id}"}
annotations: [{kind: classes, value: "{row.topic}"}]
"""


def parquet(count: int = 3, **columns) -> bytes:
    pictures = [{"bytes": b"\x89PNG" + bytes([n]) * 40, "path": f"{n}.png"} for n in range(count)]
    held = {"image": pictures, "label": list(range(count)), "patient": [f"p{n // 2}" for n in range(count)]}
    sink = io.BytesIO()
    pq.write_table(pa.table({**held, "age": [40.5] * count, **columns}), sink, row_group_size=2)
    return sink.getvalue()


def npz(packed: bool = False, **arrays) -> bytes:
    sink = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(sink, **arrays)
    return sink.getvalue()


def medmnist(train: int = 3, test: int = 2) -> bytes:
    def images(count):
        return np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)

    def labels(count):
        return np.arange(count, dtype=np.uint8)[:, None] % 2

    return npz(
        train_images=images(train), train_labels=labels(train), test_images=images(test), test_labels=labels(test)
    )


def by_id(found):
    return {case.id: case for case in found.cases}


# ---- Parquet


def test_each_row_of_a_parquet_file_is_a_case(data_set):
    toy = data_set(HUGGING_FACE, {"data/train-0.parquet": parquet()})
    found = toy.plan()
    assert [case.id for case in found.cases] == [f"data/train-0/r00000{n}" for n in range(3)]
    case = found.cases[1]
    assert (case.row, case.files, case.group, case.problem) == (1, {"image": ("data/train-0.parquet",)}, "p0", None)
    assert case.captures == {
        "split": "train", "part": "0", "row": "1", "row.label": "1", "row.patient": "p0", "row.age": "40.5",
        "path": "data/train-0.parquet", "name": "train-0.parquet", "stem": "train-0", "suffix": ".parquet",
        "folder": "data",
    }  # fmt: skip
    assert form_of(case, toy.descriptor) == "rows"
    assert found.unclaimed == ()


def test_cells_that_nothing_uses_are_not_read(data_set):
    yaml = 'cases: {match: "{stem}.parquet", rows: {image: image}}'
    (case, *_) = data_set(yaml, {"a.parquet": parquet()}).plan().cases
    assert not [name for name in case.captures if name.startswith("row.")]


def test_nested_cells_are_json_and_bytes_are_no_cells(data_set):
    more = {"objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "categories": [n]} for n in range(3)], "raw": [b"x"] * 3}
    yaml = HUGGING_FACE.replace("{row.age}", "{row.objects}")
    (case, *_) = data_set(yaml, {"data/train-0.parquet": parquet(**more)}).plan().cases
    assert json.loads(case.captures["row.objects"]) == {"bbox": [[1, 2, 3, 4]], "categories": [0]}
    toy = data_set(HUGGING_FACE.replace("{row.age}", "{row.raw}"), {})
    with pytest.raises(UserError, match=r"attributes\.age: 'row\.raw' is not captured"):
        toy.plan()


def test_a_file_without_a_column_that_others_have_gives_empty_cells(data_set):
    files = {"data/train-0.parquet": parquet(), "data/test-0.parquet": parquet(site=["x"] * 3)}
    found = by_id(data_set(HUGGING_FACE.replace("{row.age}", "{row.site}"), files).plan())
    assert found["data/test-0/r000000"].captures["row.site"] == "x"
    assert found["data/train-0/r000000"].captures["row.site"] == ""


def test_a_table_may_be_joined_to_rows_by_one_of_their_cells(data_set):
    yaml = """
cases: {match: "{stem}.parquet", rows: {image: image}}
tables: {t: {path: t.csv, key: id, match: "{row.patient}"}}
annotations: [{kind: classes, value: "{t.finding}"}]
"""
    found = by_id(data_set(yaml, {"a.parquet": parquet(), "t.csv": "id,finding\np0,normal\np9,oedema\n"}).plan())
    assert (found["a/r000001"].captures["t.finding"], found["a/r000002"].captures["t.finding"]) == ("normal", "")
    assert found["p9"].problem[0] == "missing_image"


def test_ids_may_be_cells_but_must_differ(data_set):
    yaml = HUGGING_FACE.replace("rows:", 'id: "{split}-{row.label}", rows:')
    assert sorted(by_id(data_set(yaml, {"data/train-0.parquet": parquet()}).plan())) == [
        "train-0",
        "train-1",
        "train-2",
    ]
    toy = data_set(yaml, {"data/train-1.parquet": parquet(1)})
    said = r"row 0 of data/train-0\.parquet and row 0 of data/train-1\.parquet are both 'train-0'; add what differs"
    with pytest.raises(UserError, match=said):
        toy.plan()


def test_a_column_of_pictures_that_is_not_there_is_one_line(data_set):
    toy = data_set(HUGGING_FACE.replace("image: image", "image: imge"), {"data/train-0.parquet": parquet()})
    with pytest.raises(UserError, match=r"data/train-0\.parquet: rows\.image: no column 'imge'; did you mean 'image'?"):
        toy.plan()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (parquet()[:-20], "undecodable"),
        (b"", "undecodable"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "lfs_pointer"),
    ],
)
def test_a_damaged_file_is_one_case_and_the_others_are_read(data_set, content, reason):
    files = {"data/test-0.parquet": parquet(1), "data/train-0.parquet": content}
    found = by_id(data_set(HUGGING_FACE, files).plan())
    assert sorted(found) == ["data/test-0/r000000", "data/train-0"]
    bad = found["data/train-0"]
    assert (bad.problem[0], bad.row, bad.files["image"]) == (reason, None, ("data/train-0.parquet",))
    assert "train-0" not in bad.problem[1]


def test_a_file_that_claims_more_rows_than_bytes_is_refused(data_set):
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": pa.nulls(50_000, pa.binary())}), sink)
    assert len(sink.getvalue()) < 50_000
    yaml = 'cases: {match: "{stem}.parquet", rows: {image: image}}'
    (case,) = data_set(yaml, {"a.parquet": sink.getvalue()}).plan().cases
    assert case.problem == ("undecodable", f"its rows: claims 50000 rows in {len(sink.getvalue())} bytes")


# ---- NumPy


def test_members_of_an_npz_give_splits_and_the_members_beside_them_cells(data_set):
    found = by_id(data_set(MEDMNIST, {"chest.npz": medmnist()}).plan())
    assert sorted(found) == ["chest/test/r000000", "chest/test/r000001", *(f"chest/train/r00000{n}" for n in range(3))]
    case = found["chest/train/r000001"]
    assert (case.captures["split"], case.captures["row"], case.captures["row.labels"]) == ("train", "1", "1")
    assert rows.member(RowsSpec(image="{split}_images"), case.captures) == "train_images"
    assert case.row == 1


@pytest.mark.parametrize(
    ("image", "members", "cell"),
    [
        ("images", {"images": (2, 8, 8), "labels": (2,)}, "row.labels"),
        ("x_train", {"x_train": (2, 8, 8, 3), "y_train": (2, 1)}, "row.y_train"),
        ("images_{split}", {"images_a": (2, 8, 8), "target_a": (2,)}, "row.target"),
        ("{split}/image", {"a/image": (2, 8, 8), "a/label": (2,), "b/image": (2, 8, 8), "b/label": (2,)}, "row.label"),
    ],
)
def test_cells_are_named_as_their_members_are(data_set, image, members, cell):
    yaml = f'cases: {{match: "{{stem}}.npz", rows: {{image: "{image}"}}}}\nattributes: {{x: "{{{cell}}}"}}'
    arrays = {name: np.arange(np.prod(shape)).reshape(shape).astype(np.int16) for name, shape in members.items()}
    cases = data_set(yaml, {"a.npz": npz(**arrays)}).plan().cases
    assert [case.captures[cell] for case in cases] == ["0", "1"] * (len(cases) // 2)


def test_short_rows_are_cells_and_long_ones_are_not(data_set):
    yaml = 'cases: {match: "{stem}.npz", rows: {image: images}}\nattributes: {x: "{row.labels}"}'
    arrays = {"images": np.zeros((2, 8, 8)), "labels": np.eye(2, 3), "masks": np.zeros((2, 8, 8)), "n": np.zeros(5)}
    toy = data_set(yaml, {"a.npz": npz(**arrays)})
    assert [case.captures["row.labels"] for case in toy.plan().cases] == ["[1.0, 0.0, 0.0]", "[0.0, 1.0, 0.0]"]
    for absent in ("masks", "n", "images"):
        with pytest.raises(UserError, match=f"'row.{absent}' is not captured"):
            data_set(yaml.replace("row.labels", f"row.{absent}"), {}).plan()


def test_each_row_of_an_npy_is_a_case(data_set):
    sink = io.BytesIO()
    np.save(sink, np.zeros((2, 8, 8, 3)))
    yaml = 'cases: {match: "{fold}/{stem}.npy", rows: {image: array}, group: "{fold}"}'
    cases = data_set(yaml, {"f1/images.npy": sink.getvalue()}).plan().cases
    assert [(case.id, case.group, case.row) for case in cases] == [
        ("f1/images/r000000", "f1", 0), ("f1/images/r000001", "f1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "content", "said"),
    [
        ("image", npz(images=np.zeros((2, 8, 8))), "a.npz: rows.image: no member fits 'image'; did you mean 'images'?"),
        ("y", npz(y=np.zeros((2, 8))), "a.npz: rows.image: y has the shape (2, 8); rows of pictures have 3 or 4"),
    ],
)
def test_a_member_that_can_not_hold_the_pictures_is_one_line(data_set, image, content, said):
    toy = data_set(f'cases: {{match: "{{stem}}.npz", rows: {{image: {image}}}}}', {"a.npz": content})
    with pytest.raises(UserError) as caught:
        toy.plan()
    assert said in str(caught.value)


def test_a_damaged_npz_is_one_case(data_set):
    files = {"a.npz": medmnist()[:-200], "b.npz": medmnist(1, 1)}
    found = by_id(data_set(MEDMNIST, files).plan())
    assert sorted(found) == ["a", "b/test/r000000", "b/train/r000000"]
    assert found["a"].problem[0] == "undecodable"


# ---- texts


def test_each_line_is_a_text(data_set):
    lines = [{"id": "q1", "question": "What?", "answer": "That.", "topic": "lung"}, {"id": "q2", "topic": "eye"}]
    toy = data_set(TEXTS, {"a.jsonl": "\n".join(map(json.dumps, lines))})
    found = by_id(toy.plan())
    assert templates.fill(toy.descriptor.cases.rows.text, found["q1"].captures) == "What? That."
    assert (found["q1"].row, found["q1"].problem, found["q1"].files["image"]) == (0, None, ("a.jsonl",))
    assert found["q2"].problem == ("empty_text", "the text of the row is empty")


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "parquet"])
def test_texts_come_from_any_table(data_set, form):
    pairs = [("q1", "What?"), ("q2", "Why; where?")]
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": [n for n, _ in pairs], "text": [t for _, t in pairs]}), sink)
    written = {
        "csv": "id;text\n" + "".join(f'{n};"{t}"\n' for n, t in pairs),
        "tsv": "id\ttext\n" + "".join(f"{n}\t{t}\n" for n, t in pairs),
        "json": json.dumps([{"id": n, "text": t} for n, t in pairs]),
        "parquet": sink.getvalue(),
    }
    delimiter = {"tsv": '"\\t"'}.get(form, '";"')
    yaml = (
        f'cases: {{match: "{{stem}}.{form}", rows: {{text: "{{row.text}}", delimiter: {delimiter}}}, id: "{{row.id}}"}}'
    )
    toy = data_set(yaml, {f"a.{form}": written[form]})
    assert [
        (case.id, templates.fill(toy.descriptor.cases.rows.text, case.captures)) for case in toy.plan().cases
    ] == pairs


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ('{match: "a.csv", rows: {image: x}}', "a.csv: rows of pictures are read from Parquet, .npz or .npy"),
        ('{match: "a.npz", rows: {text: "{row.x}"}}', "a.npz: rows of texts are read from Parquet, CSV, JSON"),
        ('{match: "a.csv", rows: {text: "{row.y}"}}', "toy: cases.rows.text: 'row.y' is not captured"),
        ('{match: "b.csv", rows: {text: "{row.x}"}}', "toy: no row of a file that fits cases.match 'b.csv'"),
        ('{match: "c.csv", rows: {text: "{row.x}"}}', "toy: no file fits cases.match 'c.csv'"),
        ('{match: "a.csv", form: rows}', "toy: cases.form rows needs cases.rows"),
        ('{match: "a.csv", form: video, rows: {text: "{row.x}"}}', "cases.form video does not go with cases.rows"),
    ],
)
def test_rows_that_can_not_be_are_one_line(data_set, yaml, said):
    with pytest.raises(UserError) as caught:
        data_set(f"cases: {yaml}", {"a.csv": "x\n1\n", "a.npz": b"x", "b.csv": "x\n"}).plan()
    assert said in str(caught.value)


# ---- fingerprints


def test_a_changed_file_changes_the_fingerprint_of_its_rows_alone(data_set):
    files = {"data/test-0.parquet": parquet(2), "data/train-0.parquet": parquet(2)}
    toy = data_set(HUGGING_FACE, files)

    def prints():
        return {case.id: fingerprint(case, toy.root, contents=True) for case in toy.plan().cases}

    before = prints()
    assert len(set(before.values())) == 4
    (toy.root / "data/train-0.parquet").write_bytes(parquet(2, age=[1.0, 40.5]))
    after = prints()
    assert {id_ for id_ in before if before[id_] != after[id_]} == {"data/train-0/r000000", "data/train-0/r000001"}
