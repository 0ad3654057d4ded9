"""The plan: which cases a source holds, and what does not fit."""

import hashlib
import hmac
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from sources.cases import ID_KEY, fingerprint, plan, write_names
from sources.listing import safe, walk

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
BOXES = f"<annotation><object><name>a</name>{BOX}</object></annotation>"
PIXELS = np.zeros((20, 20), np.uint8)
FOLDERS = """
cases: {match: "{class}/{stem}.png"}
annotations: [{kind: classes, value: "{class}"}]
"""
TABLE = """
cases: {match: "img/{stem}.png", id: "{stem}", group: "{t.patient}"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: classes, value: "{t.finding}"}]
"""
COCO = """
cases: {match: "img/{stem}.png", id: "{stem}"}
annotations: [{kind: coco, path: "boxes.json"}]
"""


def coco(*names: str) -> str:
    images = [{"id": n, "file_name": name, "width": 20, "height": 20} for n, name in enumerate(names)]
    marks = [{"image_id": n, "category_id": 1, "bbox": [n, 0, 5, 5]} for n in range(len(names))]
    return json.dumps({"images": images, "annotations": marks, "categories": [{"id": 1, "name": "RBC"}]})


def by_id(found):
    return {case.id: case for case in found.cases}


def test_the_id_is_the_path_without_its_suffix(data_set):
    found = data_set(FOLDERS, {"yes/a.png": PIXELS, "no/a.png": PIXELS}).plan()
    assert [case.id for case in found.cases] == ["no/a", "yes/a"]
    case = found.cases[0]
    assert (case.source, case.group, case.problem) == ("toy", "no/a", None)
    assert case.files["image"] == ("no/a.png",)
    assert case.captures == {
        "class": "no", "stem": "a", "path": "no/a.png", "name": "a.png", "suffix": ".png", "folder": "no",
    }  # fmt: skip


def test_the_id_of_a_compressed_volume_loses_both_suffixes(data_set):
    toy = data_set('cases: {match: "{c}/{c}_ct.nii.gz"}', {"p1/p1_ct.nii.gz": b"x"})
    case = toy.plan().cases[0]
    assert (case.id, case.captures["stem"], case.captures["suffix"]) == ("p1/p1_ct", "p1_ct", ".nii.gz")


def test_id_and_group_are_templates(data_set):
    yaml = 'cases: {match: "{patient}/{date}/{stem}.png", id: "{patient}-{date}-{stem}", group: "{patient}"}'
    found = data_set(yaml, {"p1/d1/a.png": PIXELS, "p1/d2/a.png": PIXELS}).plan()
    assert [(case.id, case.group) for case in found.cases] == [("p1-d1-a", "p1"), ("p1-d2-a", "p1")]


@pytest.mark.parametrize(
    ("text", "made_safe"),
    [
        ("Viral pneumonia/file 3#a", "Viral_pneumonia/file_3_a"),
        ("肺炎/1", "肺炎/1"),
        ("a/../b", "a/_/b"),
        ("..", "_"),
        ("a:b*c?d", "a_b_c_d"),
        ("bad\udcffbyte", "bad_byte"),
    ],
)
def test_ids_are_safe_in_paths(text, made_safe):
    assert safe(text) == made_safe


def test_two_files_of_one_id_are_an_error_that_says_what_to_do(data_set):
    toy = data_set('cases: {match: "{class}/{stem}.png", id: "{stem}"}', {"a/x.png": PIXELS, "b/x.png": PIXELS})
    with pytest.raises(UserError, match=r"case 'x' has 2 files \(a/x\.png, b/x\.png\); add a capture to cases\.id"):
        toy.plan()


def test_the_files_of_a_series_are_one_case_in_sorted_order(data_set):
    yaml = 'cases: {match: "{s}/*.dcm", id: "{s}", form: series}'
    found = data_set(yaml, {"s1/2.dcm": b"x", "s1/1.dcm": b"x", "s2/1.dcm": b"x"}).plan()
    assert [(c.id, c.files["image"]) for c in found.cases] == [("s1", ("s1/1.dcm", "s1/2.dcm")), ("s2", ("s2/1.dcm",))]


def test_several_templates_and_exclusions(data_set):
    yaml = 'cases: {match: ["a/{stem}.png", "b/{stem}.jpg"], exclude: "**/*_mask.png"}'
    found = data_set(yaml, {"a/x.png": PIXELS, "a/x_mask.png": PIXELS, "b/y.jpg": PIXELS}).plan()
    assert [case.id for case in found.cases] == ["a/x", "b/y"]
    assert found.unclaimed == ()  # the descriptor speaks of the mask: it is none of its pictures


def test_a_table_is_joined_by_key(data_set):
    table = "image,patient,finding\na,p7,normal\nb,p8, pneumonia \n"
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "img/b.png": PIXELS, "t.csv": table}).plan())
    assert (found["a"].group, found["a"].captures["t.finding"]) == ("p7", "normal")
    assert (found["b"].group, found["b"].captures["t.finding"]) == ("p8", "pneumonia")


def test_a_table_may_have_a_mark_a_delimiter_a_prefix_and_lines_above_its_header(data_set):
    yaml = """
cases: {match: "{stem}.png"}
tables: {t: {path: t.tsv, key: image, strip: "img_", delimiter: "\\t", skip_rows: 1, encoding: utf-8}}
annotations: [{kind: classes, value: "{t.finding}"}]
"""
    table = "\ufeffexport of today\nimage\tfinding\nimg_a\t肺炎\n"
    assert by_id(data_set(yaml, {"a.png": PIXELS, "t.tsv": table}).plan())["a"].captures["t.finding"] == "肺炎"


def test_a_row_ends_where_its_line_ends_and_nowhere_else(data_set):
    table = 'image,patient,finding\na,p1,dense\u2028nodule\u0085here\nb,p2,"two\nlines"\n'
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "img/b.png": PIXELS, "t.csv": table}).plan())
    assert sorted(found) == ["a", "b"]
    assert found["a"].captures["t.finding"] == "dense\u2028nodule\u0085here"
    assert found["b"].captures["t.finding"] == "two\nlines"


def test_a_picture_without_a_row_has_empty_cells(data_set):
    table = "image,patient,finding\na,p7,normal\n"
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "img/b.png": PIXELS, "t.csv": table}).plan())
    assert (found["b"].captures["t.finding"], found["b"].problem) == ("", None)


def test_a_row_without_a_picture_is_a_missing_case(data_set):
    table = "image,patient,finding\na,p7,normal\ngone,p8,normal\n"
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table}).plan())
    assert found["gone"].problem == ("missing_image", "table t has a row for it, but there is no picture")
    assert found["gone"].files == {}
    assert found["a"].problem is None


def test_a_table_of_mere_attributes_lists_no_cases(data_set):
    yaml = FOLDERS + 'tables: {t: {path: t.csv, key: image}}\nattributes: {sex: "{t.sex}"}\n'
    table = "image,sex\na,f\ngone,m\n"
    assert [c.id for c in data_set(yaml, {"x/a.png": PIXELS, "t.csv": table}).plan().cases] == ["x/a"]
    listing = yaml.replace("key: image", "key: image, lists_cases: true")
    assert [c.id for c in data_set(listing, {}).plan().cases] == ["gone", "x/a"]


def test_a_row_that_is_not_utf8_spoils_only_its_own_case(data_set):
    table = "image,patient,finding\na,p1,normal\nb,p2,ödem\nc,p3,normal\n".encode("latin-1")
    files = {f"img/{stem}.png": PIXELS for stem in "abc"} | {"t.csv": table}
    found = by_id(data_set(TABLE, files).plan())
    assert found["b"].problem == ("table_encoding", "table t: the row is not utf-8; declare its encoding")
    assert (found["a"].problem, found["c"].problem) == (None, None)
    assert (found["a"].captures["t.finding"], found["c"].group) == ("normal", "p3")


def test_a_declared_encoding_is_used(data_set):
    table = "image,patient,finding\nb,p2,ödem\n".encode("cp1252")
    yaml = TABLE.replace("key: image", "key: image, encoding: cp1252")
    found = by_id(data_set(yaml, {"img/b.png": PIXELS, "t.csv": table}).plan())
    assert found["b"].captures["t.finding"] == "ödem"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("key: image", "key: imge"), "table t: no column 'imge'; did you mean 'image'?"),
        (("path: t.csv", "path: x.csv"), "table t: x.csv: No such file or directory"),
        (("key: image", "key: image, encoding: utf-99"), "table t: t.csv: unknown encoding 'utf-99'"),
        (("{t.patient}", "{t.patnt}"), "cases.group: 't.patnt' is not captured; did you mean 't.patient'?"),
        (("img/{stem}.png", "img/{stem}.jpg"), "toy: no file fits cases.match 'img/{stem}.jpg' in"),
    ],
)
def test_a_descriptor_that_does_not_fit_is_one_line(data_set, change, said):
    toy = data_set(TABLE.replace(*change), {"img/a.png": PIXELS, "t.csv": "image,patient,finding\na,p,x\n"})
    with pytest.raises(UserError) as caught:
        toy.plan()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none: no such folder; say where the data is with --data or --root"):
        walk(tmp_path / "none")


def test_a_coco_entry_without_a_picture_is_a_missing_case(data_set):
    found = by_id(data_set(COCO, {"img/a.png": PIXELS, "boxes.json": coco("a.png", "gone.png")}).plan())
    assert found["gone.png"].problem == ("missing_image", "annotation 0 lists it, but there is no picture")
    assert json.loads(found["a"].notes["0"])["size"] == [20, 20]


def test_an_xml_without_a_picture_is_a_missing_case(data_set):
    yaml = 'cases: {match: "img/{stem}.png", id: "{stem}"}\nannotations: [{kind: voc, path: "xml/{stem}.xml"}]'
    files = {"img/a.png": PIXELS, "xml/a.xml": BOXES, "xml/gone.xml": BOXES}
    found = data_set(yaml, files).plan()
    assert by_id(found)["a"].files == {"image": ("img/a.png",), "0": ("xml/a.xml",)}
    assert by_id(found)["gone"].problem == (
        "missing_image",
        "annotation 0 has a file for it, but there is no picture",
    )
    assert found.unclaimed == ()


def test_a_table_may_name_a_cases_annotation(data_set):
    yaml = """
cases: {match: "img/{stem}.png", id: "{stem}"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: voc, path: "xml/{t.file}.xml"}]
"""
    files = {"img/a.png": PIXELS, "xml/17.xml": BOXES, "t.csv": "image,file\na,17\n"}
    found = data_set(yaml, files).plan()
    assert [(case.id, case.files["0"]) for case in found.cases] == [("a", ("xml/17.xml",))]
    assert found.unclaimed == ()


def test_what_no_template_speaks_of_is_unclaimed(data_set):
    files = {"a/x.png": PIXELS, "README.md": "hi", "a/notes.txt": "hi", ".git/config": "x", "a/._x.png": "x"}
    assert data_set(FOLDERS, files).plan().unclaimed == ("README.md", "a/notes.txt")


def test_the_plan_does_not_depend_on_the_order_of_the_file_system(data_set, monkeypatch):
    toy = data_set(FOLDERS, {f"{c}/{n}.png": PIXELS for c in "ba" for n in range(5)})
    before = toy.plan()
    real = os.walk

    def backwards(top):
        for folder, folders, files in real(top):
            folders.reverse()
            yield folder, folders, files[::-1]

    monkeypatch.setattr("os.walk", backwards)
    assert toy.plan() == before


# ---- hashed ids

HASHED = TABLE + "privacy: {hash_ids: true}\n"
ROWS = "image,patient,finding\njohn_doe,p7,normal\njane,p7,normal\n"


def test_hashed_ids_need_a_key(data_set, monkeypatch):
    toy = data_set(HASHED, {"img/jane.png": PIXELS, "t.csv": ROWS})
    for key in (None, "short"):
        monkeypatch.delenv(ID_KEY, raising=False) if key is None else monkeypatch.setenv(ID_KEY, key)
        with pytest.raises(UserError, match="toy hashes its ids: set MEDGLOSS_ID_KEY to a secret of at least 16"):
            toy.plan()


def test_hashed_ids_are_keyed_and_keep_groups_together(data_set, monkeypatch):
    toy = data_set(HASHED, {"img/john_doe.png": PIXELS, "img/jane.png": PIXELS, "t.csv": ROWS})
    monkeypatch.setenv(ID_KEY, "a secret of 22 letters")
    found = toy.plan()
    wanted = {hmac.new(b"a secret of 22 letters", n, hashlib.sha256).hexdigest()[:20] for n in (b"john_doe", b"jane")}
    assert {case.id for case in found.cases} == wanted
    assert len({case.group for case in found.cases}) == 1
    assert found.cases[0].group not in ("p7", *wanted)
    assert sorted(found.names.values()) == ["jane", "john_doe"]
    assert [case.id for case in found.cases] == sorted(wanted)
    monkeypatch.setenv(ID_KEY, "another secret of letters")
    assert {case.id for case in toy.plan().cases}.isdisjoint(wanted)


def test_the_table_of_names_is_its_owners_only(tmp_path):
    path = tmp_path / "private" / "cases.csv"
    write_names({"toy": {"b": "jane, p7", "a": "john"}}, path)
    assert path.read_bytes() == b'source,id,case\r\ntoy,a,john\r\ntoy,b,"jane, p7"\r\n'
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_table_of_names_that_was_open_to_all_is_closed(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("old")
    path.chmod(0o644)
    write_names({"toy": {"a": "john"}}, path)
    assert path.stat().st_mode & 0o777 == 0o600


# ---- fingerprints


def prints(toy, contents=False):
    return {case.id: fingerprint(case, toy.root, contents) for case in toy.plan().cases}


def changed(before, after):
    return {id_ for id_ in before | after if before.get(id_) != after.get(id_)}


def test_one_added_case_changes_only_its_own_fingerprint(data_set):
    files = {f"img/{stem}.png": PIXELS for stem in "abc"}
    table = "image,patient,finding\n" + "".join(f"{stem},p{stem},normal\n" for stem in "abc")
    before = prints(data_set(TABLE, files | {"t.csv": table}))
    after = prints(data_set(TABLE, {"img/aa.png": PIXELS, "t.csv": table + "aa,paa,normal\n"}))
    assert changed(before, after) == {"aa"}


def test_one_added_coco_entry_changes_only_its_own_fingerprint(data_set):
    before = prints(data_set(COCO, {"img/a.png": PIXELS, "img/b.png": PIXELS, "boxes.json": coco("a.png", "b.png")}))
    after = prints(data_set(COCO, {"img/aa.png": PIXELS, "boxes.json": coco("a.png", "b.png", "aa.png")}))
    assert changed(before, after) == {"aa"}


def test_a_changed_row_or_box_or_mask_changes_its_cases_fingerprint(data_set):
    files = {"img/a.png": PIXELS, "img/b.png": PIXELS}
    rows = "image,patient,finding\na,p1,normal\nb,p2,{}\n"
    before = prints(data_set(TABLE, files | {"t.csv": rows.format("normal")}))
    assert changed(before, prints(data_set(TABLE, {"t.csv": rows.format("oedema")}))) == {"b"}
    voc = 'cases: {match: "img/{stem}.png", id: "{stem}"}\nannotations: [{kind: voc, path: "xml/{stem}.xml"}]'
    before = prints(data_set(voc, {"xml/a.xml": BOXES, "xml/b.xml": BOXES}))
    assert changed(before, prints(data_set(voc, {"xml/b.xml": BOXES + " "}))) == {"b"}


def test_a_copy_with_new_times_has_the_same_fingerprint_by_contents(data_set):
    toy = data_set(FOLDERS, {"x/a.png": PIXELS, "x/b.png": PIXELS})
    cases = toy.plan().cases
    by_time, by_contents = prints(toy), prints(toy, contents=True)
    copy = toy.root.parent / "copy"
    shutil.copytree(toy.root, copy)
    os.utime(copy / "x" / "a.png", ns=(1, 1))
    assert {case.id: fingerprint(case, copy, contents=True) for case in cases} == by_contents
    assert fingerprint(cases[0], copy) != by_time[cases[0].id]


def test_rows_and_channels_of_one_file_differ(data_set):
    toy = data_set(FOLDERS, {"x/a.png": PIXELS})
    case = plan(toy.descriptor, toy.root).cases[0]
    others = [replace(case, row=0), replace(case, row=1), replace(case, channels=("T1",))]
    assert len({fingerprint(other, toy.root) for other in (case, *others)}) == 4


def test_a_file_that_vanished_after_the_plan_still_has_a_fingerprint(data_set):
    toy = data_set(FOLDERS, {"x/a.png": PIXELS})
    case = plan(toy.descriptor, toy.root).cases[0]
    before = fingerprint(case, toy.root)
    (toy.root / "x" / "a.png").unlink()
    assert len(fingerprint(case, toy.root)) == 64
    assert fingerprint(case, toy.root) != before


def test_a_quote_that_is_not_closed_is_told_with_its_line(data_set):
    table = 'image,patient,finding\na,"p7,normal\nb,p8,pneumonia\n'
    toy = data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table})
    with pytest.raises(UserError, match=r"^table t: t\.csv, after line 1: unexpected end of data$"):
        toy.plan()


def test_a_table_of_a_header_alone_makes_every_picture_unlabelled(data_set):
    toy = data_set(TABLE, {"img/a.png": PIXELS, "t.csv": "image,patient,finding\n"})
    assert by_id(toy.plan())["a"].captures["t.finding"] == ""


def test_a_file_name_in_no_encoding_is_a_case_like_any_other(data_set, tmp_path):
    toy = data_set(COCO.split("annotations")[0], {"img/a.png": PIXELS})
    Path(os.fsdecode(os.fsencode(toy.root / "img") + b"/b\xffad.png")).write_bytes(b"x")
    case = by_id(toy.plan())["b_ad"]
    assert len(fingerprint(case, toy.root)) == 64


# ---- rows that do not agree, names, files of all cases


@pytest.mark.parametrize("template", ["value: '{t.finding}'", "value: x, match: '{t.finding}'"])
def test_rows_that_contradict_each_other_spoil_their_case(data_set, template):
    if "match" in template:
        yaml = COCO.replace('path: "boxes.json"', "path: boxes.json, match: '{t.finding}'")
        yaml += "tables: {t: {path: t.csv, key: image}}\n"
    else:
        yaml = TABLE
    table = "image,patient,finding\na,p1,a.png\na,p1,b.png\nb,p2,b.png\nb,p2,b.png\n"
    toy = data_set(yaml, {"img/a.png": PIXELS, "img/b.png": PIXELS, "t.csv": table, "boxes.json": coco("b.png")})
    found = by_id(toy.plan())
    assert found["a"].problem == ("contradictory_rows", "table t: its 2 rows say 2 different things")
    assert found["b"].problem is None


def test_rows_may_differ_in_what_nothing_depends_on(data_set):
    table = "image,patient,finding,age\na,p1,normal,40\na,p1,normal,41\n"
    yaml = TABLE + 'attributes: {age: "{t.age}"}\n'
    case = by_id(data_set(yaml, {"img/a.png": PIXELS, "t.csv": table}).plan())["a"]
    assert (case.problem, case.captures["t.age"]) == (None, "40")


def test_a_picture_of_two_patients_is_contradictory(data_set):
    table = "image,patient,finding\na,p1,normal\na,p2,normal\n"
    case = by_id(data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table}).plan())["a"]
    assert case.problem[0] == "contradictory_rows"


def test_a_row_without_a_key_is_a_missing_picture(data_set):
    table = "image,patient,finding\n,p1,normal\na,p2,normal\n,p3,normal\n"
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table}).plan())
    assert list(found) == ["a", "t_without_key_0", "t_without_key_1"]
    said = "a row of table t has an empty key, so it names no picture"
    assert found["t_without_key_1"].problem == ("missing_image", said)


def test_a_key_that_differs_in_case_alone_says_so(data_set):
    table = "image,patient,finding\nA,p1,normal\nother,p2,normal\n"
    found = by_id(data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table}).plan())
    said = "table t has a row for it, but there is no picture"
    assert found["A"].problem == ("missing_image", f"{said}; one differs in upper and lower case alone")
    assert found["other"].problem == ("missing_image", said)
    assert found["a"].captures["t.finding"] == ""


def test_cells_that_the_descriptor_does_not_use_are_no_captures(data_set):
    table = "image,patient,finding,report\na,p7,normal,long\n"
    case = by_id(data_set(TABLE, {"img/a.png": PIXELS, "t.csv": table}).plan())["a"]
    assert {name for name in case.captures if name.startswith("t.")} == {"t.patient", "t.finding"}


def test_the_licence_may_be_a_cell(data_set):
    yaml = TABLE.replace("cases:", "license: {name: '{t.terms}', each: {CC0-1.0: {redistribute: true}}}\ncases:")
    table = "image,patient,finding,terms\na,p7,normal,CC0-1.0\n"
    toy = data_set(yaml, {"img/a.png": PIXELS, "t.csv": table}, license=False)
    assert by_id(toy.plan())["a"].captures["t.terms"] == "CC0-1.0"
    assert [record.redistribute for record in toy.records()] == [True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("{t.finding}", "{t.fnding}"), "annotations.0.value: 't.fnding' is not captured; did you mean 't.finding'?"),
        (("{name: CC0-1.0}", "{name: '{t.terms}'}"), "license.name: 't.terms' is not captured"),
        (('kind: classes, value: "{t.finding}"', "kind: voc, path: 'x/{t.fil}.xml'"), "annotations.0.path: 't.fil'"),
        (("key: image", "key: image, match: '{stm}'"), "'stm' is not captured"),
    ],
)
def test_names_that_nothing_captures_are_one_line(data_set, change, said):
    yaml = f"license: {{name: CC0-1.0}}\n{TABLE}".replace(*change)
    toy = data_set(yaml, {"img/a.png": PIXELS, "t.csv": "image,patient,finding\na,p,x\n"}, license=False)
    with pytest.raises(UserError) as caught:
        toy.plan()
    assert said in str(caught.value)


YOLO = """
cases: {match: "img/{stem}.png", id: "{stem}"}
annotations: [{kind: yolo, path: "txt/{stem}.txt", names: classes.txt}]
"""


def test_files_that_serve_all_cases_belong_to_each_fingerprint(data_set):
    files = {"img/a.png": PIXELS, "img/b.png": PIXELS, "txt/a.txt": "0 .5 .5 .5 .5\n"}
    toy = data_set(YOLO, files | {"classes.txt": "polyp\n"})
    found = toy.plan()
    assert by_id(found)["a"].files == {"image": ("img/a.png",), "0": ("txt/a.txt",), "0.shared": ("classes.txt",)}
    assert by_id(found)["b"].files["0.shared"] == ("classes.txt",)
    assert found.unclaimed == ()
    before = prints(toy, contents=True)
    assert changed(before, prints(data_set(YOLO, {"classes.txt": "mass\n"}), contents=True)) == {"a", "b"}


def test_a_file_for_all_cases_that_is_not_there_is_one_line(data_set):
    toy = data_set(YOLO, {"img/a.png": PIXELS})
    with pytest.raises(UserError, match=r"toy: annotations\.0: classes\.txt: no such file"):
        toy.plan()


# ---- annotations that take all rows of a case

ROWS_OF = """
cases: {match: "img/{stem}.png", id: "{stem}"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: boxes, table: t, box: [x, y, w, h], label_column: finding}]
"""
BOXES_CSV = "image,patient,finding,x,y,w,h\n"


def test_a_case_gets_all_its_rows_and_of_them_the_columns_that_are_read(data_set):
    table = BOXES_CSV + "a,p1,nodule,1,2,3,4\nb,p2,mass,1,1,1,1\na,p1,肿块,5,6,7,8\n"
    toy = data_set(ROWS_OF, {f"img/{stem}.png": PIXELS for stem in "abc"} | {"t.csv": table})
    found = by_id(toy.plan())
    assert json.loads(found["a"].notes["0"]) == [
        {"x": "1", "y": "2", "w": "3", "h": "4", "finding": "nodule"},
        {"x": "5", "y": "6", "w": "7", "h": "8", "finding": "肿块"},
    ]
    assert (found["c"].notes, found["c"].problem) == ({}, None)
    assert found["a"].problem is None


def test_rows_of_a_picture_that_is_not_there_are_a_missing_case(data_set):
    toy = data_set(ROWS_OF, {"img/a.png": PIXELS, "t.csv": BOXES_CSV + "gone,p1,nodule,1,2,3,4\n"})
    found = by_id(toy.plan())
    assert found["gone"].problem == ("missing_image", "table t has a row for it, but there is no picture")
    attribute = ROWS_OF.replace("key: image", "key: image, lists_cases: false")
    assert list(by_id(data_set(attribute, {}).plan())) == ["a"]


def test_a_row_of_another_encoding_is_a_problem_of_its_case_and_no_annotation(data_set):
    table = BOXES_CSV.encode() + "a,p1,ödem,1,2,3,4\n".encode("latin-1")
    case = by_id(data_set(ROWS_OF, {"img/a.png": PIXELS, "t.csv": table}).plan())["a"]
    assert (case.problem[0], case.notes) == ("table_encoding", {})


def test_a_changed_row_changes_its_cases_fingerprint_and_a_column_that_is_not_read_none(data_set):
    files = {"img/a.png": PIXELS, "img/b.png": PIXELS}
    before = prints(data_set(ROWS_OF, files | {"t.csv": BOXES_CSV + "a,p1,x,1,2,3,4\nb,p2,x,1,2,3,4\n"}))
    other = prints(data_set(ROWS_OF, {"t.csv": BOXES_CSV + "a,p9,x,1,2,3,4\nb,p2,x,1,2,3,5\n"}))
    assert changed(before, other) == {"b"}


OUTSIDE = """
from typing import Literal
from sources.annotation import Mark, Marks
from sources.descriptor import AnnotationSpec
ORIGIN = "classification"

class Spec(AnnotationSpec):
    kind: Literal["outside.py"]

def read(spec, case, given):
    return Marks((Mark(case.captures["t.finding"]),))
"""


def test_a_layout_from_outside_may_use_every_cell(data_set, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.py").write_text(OUTSIDE)
    yaml = TABLE.partition("annotations")[0] + "annotations: [{kind: outside.py}]"
    toy = data_set(yaml, {"img/a.png": PIXELS, "t.csv": "image,patient,finding\na,p1,normal\n"})
    assert [record.regions[0].label for record in toy.records()] == ["normal"]


def test_the_voxels_beside_a_header_belong_to_its_case(data_set):
    yaml = """
cases: {match: "{stem}.mhd", id: "{stem}"}
annotations: [{kind: labelmap, path: "seg/{stem}.mhd", labels: {1: liver}}]
"""
    files = {"a.mhd": "x", "a.raw": "1", "seg/a.mhd": "x", "seg/a.zraw": "2", "b.raw": "3"}
    toy = data_set(yaml, files)
    (case,) = toy.plan().cases
    assert case.files["voxels"] == ("a.raw", "seg/a.zraw")
    assert toy.plan().unclaimed == ("b.raw",)
    before = fingerprint(case, toy.root)
    (toy.root / "a.raw").write_text("changed")
    assert fingerprint(toy.plan().cases[0], toy.root) != before


def test_excluded_files_are_spoken_of(data_set):
    yaml = """
cases: {match: "{stem}.png", id: "{stem}", exclude: "*_preview.png"}
annotations: [{kind: mask, path: "mask/{stem}_{n}.png", label: liver, exclude: "mask/*_all.png"}]
"""
    toy = data_set(yaml, {"a.png": "x", "a_preview.png": "x", "mask/a_1.png": "x", "mask/gone_all.png": "x"})
    assert [case.id for case in toy.plan().cases] == ["a"]
    assert toy.plan().unclaimed == ()
