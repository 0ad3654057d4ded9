"""Masks of 2D pictures: which files are a picture's masks, and what each of their values means."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline import discovery
from pipeline.errors import Unusable, UserError
from pipeline.records import Case
from sources import cases
from sources.annotation import Given, MaskFile, MaskPictures
from sources.descriptor import layout, parse
from sources.layouts import mask

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
PIXELS = np.full((30, 40), 128, np.uint8)


def spec(**keys) -> mask.Spec:
    return mask.Spec.model_validate({"kind": "mask", "path": "masks/{stem}.png", **keys})


def read(found: mask.Spec, *files: str, **captures: str) -> MaskPictures | None:
    case = Case("a", "toy", "a", {}, {"stem": "a", **captures})
    return mask.read(found, case, Given(Path("/nowhere"), files, None))


def labels_of(toy) -> dict[str, list[str | None]]:
    """Case id to the raw labels of its masks, by the plan and the layout."""
    found = {}
    for case in toy.plan().cases:
        (one,) = toy.descriptor.specs
        masks = layout("mask").read(one, case, Given(toy.root, case.files.get("0", ()), None))
        found[case.id] = [file.raw for file in masks.files] if masks else []
    return found


# ---- binary


def test_a_constant_names_what_a_mask_shows():
    found = read(spec(label="polyp"), "masks/a.png")
    assert found == MaskPictures((MaskFile("masks/a.png", raw="polyp"),))


def test_the_path_may_name_it():
    found = read(spec(path="masks/{stem}_{label}.png", spaces="+"), "masks/a_left+kidney.png", "masks/a_liver.png")
    assert [file.raw for file in found.files] == ["left kidney", "liver"]


def test_a_label_may_be_made_of_captures_and_cells():
    found = read(spec(label="{class} {t.kind}"), "masks/a.png", **{"class": "benign", "t.kind": "mass"})
    assert found.files[0].raw == "benign mass"
    with pytest.raises(UserError, match="'klass' is not captured"):
        read(spec(label="{klass}"), "masks/a.png")


def test_what_the_case_captured_is_not_captured_again(data_set):
    """Without it `{stem}_{label}` would be cut at the last underscore."""
    toy = data_set(
        'cases: {match: "images/{stem}.png", id: "{stem}"}\n'
        'annotations: [{kind: mask, path: "masks/{stem}_{label}_{n:[0-9]+}.png"}]\n',
        {
            "images/amos_0006_90.png": PIXELS,
            "masks/amos_0006_90_inferior_vena_cava_000.png": PIXELS,
            "masks/amos_0006_90_liver_000.png": PIXELS,
            "masks/amos_0006_90_liver_001.png": PIXELS,
        },
    )
    assert labels_of(toy) == {"amos_0006_90": ["inferior_vena_cava", "liver", "liver"]}


def test_masks_beside_their_pictures_may_be_numbered(data_set):
    """As in BUSI: no mask, one, or several of one lesion."""
    toy = data_set(
        'cases: {match: "{class:benign|normal}/{stem:[^_]*}.png", id: "{class}/{stem}"}\n'
        'annotations: [{kind: mask, path: "{class}/{stem}_mask{n:(?:_[0-9]+)?}.png", label: "{class} lesion"}]\n',
        {
            "benign/benign (1).png": PIXELS,
            "benign/benign (1)_mask.png": PIXELS,
            "benign/benign (1)_mask_1.png": PIXELS,
            "benign/benign (10).png": PIXELS,
            "normal/normal (1).png": PIXELS,
        },
    )
    assert labels_of(toy) == {
        "benign/benign_(1)": ["benign lesion", "benign lesion"],
        "benign/benign_(10)": [],
        "normal/normal_(1)": [],
    }
    assert toy.plan().unclaimed == ()


def test_files_that_nothing_tells_apart_are_ambiguous():
    with pytest.raises(Unusable, match="ambiguous_annotation"):
        read(spec(path="*/{stem}.png", label="polyp"), "one/a.png", "two/a.png")


def test_excluded_files_are_no_masks():
    found = spec(path="masks/{stem}_{label}.png", exclude="masks/*_overlay.png")
    assert [file.raw for file in read(found, "masks/a_liver.png", "masks/a_overlay.png").files] == ["liver"]
    assert read(found, "masks/a_overlay.png") is None


def test_an_empty_label_is_said():
    with pytest.raises(Unusable, match="bad_annotation"):
        read(spec(path="masks/{stem}_{label:.*}.png", spaces="_"), "masks/a__.png")


def test_a_capture_named_reader_is_who_drew_it_and_stays_unnamed():
    found = read(spec(path="{reader}/{stem}.png", label="cup"), "Dr Zeta/a.png", "alpha/a.png")
    assert [(file.raw, file.reader) for file in found.files] == [("cup", "r1"), ("cup", "r2")]
    assert read(spec(path="{stem}.png", label="cup"), "a.png").files[0].reader is None


@pytest.mark.parametrize("missing", ["unlabelled", "negative", "reject"])
def test_a_picture_without_a_mask_says_what_the_descriptor_says(missing):
    found = spec(label="polyp", missing=missing, complete=True)
    if missing == "reject":
        with pytest.raises(Unusable, match="missing_mask"):
            read(found)
    else:
        assert read(found) == (MaskPictures(()) if missing == "negative" else None)
    assert read(found, "masks/a.png").files[0].raw == "polyp"


def test_what_label_and_colours_name_is_looked_for():
    assert spec(label="polyp", complete=True).labels == {"polyp": "polyp"}
    assert spec(label="polyp", labels={"polyp": "colonic polyp"}).labels == {"polyp": "colonic polyp"}
    assert spec(encoding="colour", colours={"#ff0000": "cup"}, labels={"rim": "rim"}).labels.keys() == {"cup", "rim"}
    assert spec(label="{class}").labels == {}


# ---- other encodings


def test_label_ids_are_raw_labels_as_they_are_written():
    found = read(
        spec(encoding="indexed", labels={"1": "liver", "-1": {"drop": "true"}, "002": "spleen"}), "masks/a.png"
    )
    assert found.files[0].names == {1: "1", -1: "-1", 2: "002"}
    assert (found.files[0].raw, found.files[0].instances) == (None, False)


def test_colours_are_written_in_two_ways():
    found = read(spec(encoding="colour", colours={"#FF0080": "a", "0, 128,7": "b", "(1 2 3)": "c"}), "masks/a.png")
    assert found.files[0].colours == {(255, 0, 128): "a", (0, 128, 7): "b", (1, 2, 3): "c"}


def test_instances_share_a_label():
    found = read(spec(encoding="instances", label="nucleus"), "masks/a.png")
    assert found.files[0] == MaskFile("masks/a.png", raw="nucleus", instances=True)


def test_channels_of_an_array_are_numbered():
    keys = {"path": "{stem}.npz", "array": "masks", "labels": {"0": "neoplastic cell", "3": "dead cell"}}
    names = {0: "0", 3: "3"}
    assert read(spec(encoding="instances", **keys), "a.npz").files[0] == (
        MaskFile("a.npz", "masks", names=names, instances=True)
    )
    assert read(spec(encoding="indexed", **keys), "a.npz").files[0] == MaskFile("a.npz", "masks", names=names)
    one = spec(encoding="instances", path="{stem}.npz", array="masks", label="cell")
    assert read(one, "a.npz").files[0] == MaskFile("a.npz", "masks", "cell", instances=True)


# ---- class numbers that a file names, group by group

CLASSES = {
    "AMOS": {"liver": "0003", "left_kidney": 0, "union_liver_left_kidney": "0004"},
    "CAD_PE": {"pulmonary_embolism": "0000", "one": "0007", "other": 7},
}
NUMBERED = (
    'cases: {match: "images/{dataset:[A-Z_]+}--{name}.png", id: "{stem}"}\n'
    'annotations: [{kind: mask, path: "masks/{stem}--{label:[0-9]+}_{n}.png", KEYS\n'
    '  names: {path: classes.json, of: "{dataset}", drop: "union_*"}}]\nlimits: none\n'
)


@pytest.fixture
def numbered(data_set):
    """A data set as SA-Med2D-20M writes it: masks by number, of two source sets."""

    def make(classes=CLASSES, keys=""):
        painted = {}
        for n, name in enumerate(("AMOS--a--0003", "AMOS--a--0000", "AMOS--a--0004", "CAD_PE--b--0000")):
            painted[f"masks/{name}_000.png"] = np.zeros((30, 40), np.uint8)
            painted[f"masks/{name}_000.png"][5 : 20 + n, 5:30] = 255
        pictures = {f"images/{name}.png": PIXELS + np.arange(40, dtype=np.uint8) for name in ("AMOS--a", "CAD_PE--b")}
        text = classes if isinstance(classes, str) else json.dumps(classes)
        return data_set(NUMBERED.replace("KEYS", keys), {**pictures, **painted, "classes.json": text})

    return make


def named(toy) -> dict[str, list[tuple[str | None, str, str | None]]]:
    found = {record.case: record.regions for record in toy.records()}
    return {case: sorted((one.label, one.raw, one.side) for one in regions) for case, regions in found.items()}


def test_one_number_means_something_else_in_each_group(numbered):
    toy = numbered()
    assert named(toy) == {
        "AMOS--a": [("kidney", "left_kidney", "left"), ("liver", "liver", None)],  # a union is dropped
        "CAD_PE--b": [("pulmonary_embolism", "pulmonary_embolism", None)],
    }
    assert toy.rejected() == []
    assert toy.plan().unclaimed == ()


def test_labels_speak_of_the_names(numbered):
    toy = numbered(keys="labels: {liver: spleen, left_kidney: {drop: true}},")
    assert named(toy)["AMOS--a"] == [("spleen", "liver", None)]


@pytest.mark.parametrize("keys", ["", "one_file: class,", "encoding: instances,"])
@pytest.mark.parametrize("classes", [{}, {"one": "0003", "other": 3}])
def test_a_number_that_no_name_has_is_told_and_nothing_is_absent(numbered, classes, keys):
    """One that has two names means neither."""
    toy = numbered({**CLASSES, "AMOS": classes}, f"{keys} complete: true, labels: {{spleen: spleen}},")
    rows = {(row.reason, row.detail) for row in toy.rejected() if row.level == "region"}
    assert ("unknown_label_id", "class 0003 of AMOS is not in the descriptor's labels") in rows
    assert {record.case: record.annotated for record in toy.records()} == {"CAD_PE--b": ("spleen",)}


def test_a_group_that_the_file_does_not_list_has_no_names(numbered):
    toy = numbered({"AMOS": CLASSES["AMOS"]})
    assert named(toy).keys() == {"AMOS--a"}
    assert [row.detail for row in toy.rejected() if row.level == "region"] == [
        "class 0000 of CAD_PE is not in the descriptor's labels"
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "classes.json: not JSON"),
        ("[" * 100_000, "classes.json: not JSON"),
        ("[]", r"should be {\"group\": .*, is list"),
        ('{"AMOS": ["liver"]}', "'AMOS' is not"),
        ('{"AMOS": {"liver": "x3"}}', "'AMOS' is not"),
        ('{"AMOS": {"liver": -1}}', "'AMOS' is not"),
        ('{"AMOS": {"liver": true}}', "'AMOS' is not"),
        ('{"AMOS": {"liver": 1.5}}', "'AMOS' is not"),
        (" " * (mask.MOST_BYTES + 1), "at most 16777216 are read"),
    ],
)
def test_a_damaged_file_of_names_is_one_line(numbered, text, said):
    with pytest.raises(UserError, match=said) as caught:
        numbered(text).records()
    assert "\n" not in str(caught.value)


def test_a_file_of_names_that_is_not_there_stops_the_plan(numbered):
    toy = numbered()
    (toy.root / "classes.json").unlink()
    with pytest.raises(UserError, match=r"classes\.json: no such file"):
        toy.plan()


def test_a_changed_file_of_names_is_read_again(numbered):
    toy = numbered()
    assert named(toy)["CAD_PE--b"][0][0] == "pulmonary_embolism"
    (toy.root / "classes.json").write_text(json.dumps({**CLASSES, "CAD_PE": {"spleen": 0}}))
    assert named(toy)["CAD_PE--b"][0][0] == "spleen"


# ---- mistakes


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("path: 'm/{stem}.png'", "say what the masks show"),
        ("path: 'm/{stem}.png', encoding: instances", "say what the masks show"),
        ("path: 'm/{stem}.png', encoding: indexed", "pixel values"),
        ("path: 'm/{stem}.png', encoding: indexed, labels: {liver: 1}", "pixel values"),
        ("path: 'm/{stem}.png', encoding: indexed, labels: {1: a, 01: b}", "pixel values"),
        ("path: 'm/{stem}.png', encoding: indexed, labels: {1: a}, label: b", "label: it is for"),
        ("path: 'm/{stem}.png', encoding: colour", "needs colours"),
        ("path: 'm/{stem}.png', encoding: colour, colours: {'#f00': a}", "'#f00' is none"),
        ("path: 'm/{stem}.png', encoding: colour, colours: {'255, 0, 256': a}", "is none"),
        ("path: 'm/{stem}.png', encoding: colour, colours: {'#ff0000': a, '255,0,0': b}", "each once"),
        ("path: 'm/{stem}.png', label: a, colours: {'#ff0000': a}", "for encoding: colour"),
        ("path: 'm/{stem}.png', encoding: colour, colours: {'#ff0000': a}, invert: true", "for encoding: binary"),
        ("path: 'm/{stem}.png', encoding: indexed, labels: {1: a}, threshold: 3", "for encoding: binary"),
        ("path: 'm/{stem}.png', label: a, missing: negative", "complete: true"),
        ("path: 'm/{stem}.png', label: 'a*'", "wildcard"),
        ("path: 'm/{stem}.png', label: a, resize: linear", "nearest"),
        ("path: 'm/{stem}.png', label: a, treshold: 3", "threshold"),
        ("path: 'm/{stem}.png', label: a, names: {path: n.json}", "names.of' is missing"),
        (
            "path: 'm/{stem}.png', encoding: indexed, labels: {1: a}, names: {path: n.json, of: a}",
            "numbers in the path",
        ),
    ],
)
def test_a_mistake_in_the_descriptor_is_one_line(keys, said):
    text = f"schema: medgloss/1\nid: toy\ntitle: T\nlicense: {{name: CC0-1.0}}\negress: any\nmodality: ct\n" \
        f"cases: {{match: '{{stem}}.png'}}\nannotations: [{{kind: mask, {keys}}}]\n"  # fmt: skip
    with pytest.raises(UserError, match=said) as caught:
        parse(text, "toy.yaml")
    assert "\n" not in str(caught.value)


# ---- real data


@pytest.mark.skipif(not (DATA / "biomedparse_demo").is_dir(), reason=f"no real data in {DATA}")
def test_every_real_mask_finds_its_picture_and_its_name():
    head = "schema: medgloss/1\nid: toy\ntitle: T\nlicense: {name: CC0-1.0}\negress: any\nmodality: ct\n"
    for name, keys, masks, unlabelled, sample in (
        (
            "biomedparse_demo/biomedparse_datasets/BiomedParseData-Demo",
            'cases: {match: "demo/{stem}.png"}\n'
            'annotations: [{kind: mask, path: "demo_mask/{stem}_{label}.png", spaces: "+"}]\n',
            57,
            0,
            {"COVID-19 infection", "left adrenal gland", "non-enhancing tumor"},
        ),
        (
            "sam_med2d_demo/data_demo",
            'cases: {match: "images/{stem}.png"}\n'
            'annotations: [{kind: mask, path: "masks/{stem}_{label}_{n:[0-9]+}.png"}]\n',
            30,
            1,  # amos_0507_31
            {"inferior_vena_cava", "heart_atrium_left", "vertebrae_T9"},
        ),
    ):
        descriptor = parse(head + keys, "toy.yaml")
        planned = cases.plan(descriptor, DATA / name)
        (one,) = descriptor.specs
        found = [mask.read(one, case, Given(DATA / name, case.files["0"], None)) for case in planned.cases]
        labels = [file.raw for pictures in found if pictures for file in pictures.files]
        assert sum(pictures is None for pictures in found) == unlabelled
        assert len(labels) == masks
        assert sample <= set(labels)
        assert not [file for file in planned.unclaimed if file.endswith(".png")]
