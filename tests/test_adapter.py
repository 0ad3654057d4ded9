"""A function of the curator's own: found before the run begins, and its faults are those of one case."""

import importlib
import sys

import pytest

from pipeline.errors import Unusable, UserError
from pipeline.records import Box, Case
from sources.annotation import Given, LabelVolume, Mark, Marks
from sources.layouts import adapter

CODE = """
from pipeline.errors import Unusable
from pipeline.records import Box
from sources.annotation import Mark, Marks

def read(case, given):
    if not given.files:
        return None
    words = (given.root / given.files[0]).read_text().split()
    return Marks((Mark(words[0], Box(*map(float, words[1:]))),))

def refuse(case, given):
    raise Unusable("bad_annotation", "not today")

def wrong(case, given):
    return [1, 2]

not_a_function = 3
"""


@pytest.fixture(autouse=True)
def work_folder(tmp_path, monkeypatch):
    """Stand in a folder of one's own, as a curator does, and forget what other tests imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    adapter._function.cache_clear()
    yield tmp_path
    adapter._function.cache_clear()


def spec(function: str = "mine.py:read", **keys) -> adapter.Spec:
    return adapter.Spec(kind="adapter", adapter=function, **keys)


def call(function: str, files=(), root=None):
    return adapter.read(spec(function), Case("a", "toy", "a", {}, {}), Given(root, files, None))


def test_a_function_in_a_file_is_called_with_the_case_and_what_was_found(work_folder):
    (work_folder / "a.txt").write_text("nodule 1 2 9 9")
    assert call("mine.py:read", ("a.txt",), work_folder) == Marks((Mark("nodule", Box(1, 2, 9, 9)),))
    assert call("mine.py:read") is None


def test_a_function_of_an_installed_module_is_called(work_folder, monkeypatch):
    monkeypatch.syspath_prepend(work_folder)
    (work_folder / "my_package").mkdir()
    (work_folder / "my_package" / "__init__.py").write_text("")
    (work_folder / "my_package" / "labels.py").write_text(
        "from sources.annotation import LabelVolume as Map\ndef read(case, given):\n    return Map(case.id, {1: 'x'})\n"
    )
    importlib.invalidate_caches()
    assert call("my_package.labels:read") == LabelVolume("a", {1: "x"})
    sys.modules.pop("my_package.labels")


def test_what_the_function_raises_is_the_fault_of_its_case(work_folder):
    (work_folder / "a.txt").write_text("nodule 1 2 9 Jane")
    for files, kind in ((("a.txt",), "ValueError"), (("gone.txt",), "FileNotFoundError")):
        with pytest.raises(Unusable) as caught:
            call("mine.py:read", files, work_folder)
        assert (caught.value.reason, caught.value.detail) == ("adapter_failed", f"it raised {kind}")


def test_the_function_may_refuse_a_case_itself():
    with pytest.raises(Unusable, match="bad_annotation: not today"):
        call("mine.py:refuse")


def test_what_is_no_annotation_is_refused():
    with pytest.raises(Unusable, match="adapter_failed: it returned list, which is no annotation"):
        call("mine.py:wrong")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("mine.py:raed", "adapter mine.py: no function 'raed'; did you mean 'read'?"),
        ("mine.py:not_a_function", "adapter mine.py: no function 'not_a_function'"),
        ("other.py:read", "adapter other.py: no such file"),
        (
            "no_such_module:read",
            "adapter no_such_module: no such module; give file.py:function for one that is not installed",
        ),
        ("json.no_such:read", "adapter json.no_such: no such module"),
        ("broken.py:read", "adapter broken.py: it can not be imported: SyntaxError: "),
        (
            "lacking.py:read",
            "adapter lacking.py: it can not be imported: ModuleNotFoundError: No module named 'absent'",
        ),
        ("/etc/x.py:read", "adapter /etc/x.py: no such file"),
    ],
)
def test_a_function_that_is_not_there_is_one_line_before_the_run(work_folder, function, said):
    (work_folder / "broken.py").write_text("def read(:\n")
    (work_folder / "lacking.py").write_text("import absent\n")
    with pytest.raises(UserError) as caught:
        adapter.check(spec(function))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_outside_the_working_directory_is_refused(work_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.py"
    elsewhere.write_text(CODE)
    with pytest.raises(UserError, match="must lie in the working directory, so that a cluster gets it too"):
        adapter.check(spec(f"{elsewhere}:read"))


@pytest.mark.parametrize("function", ["mine.py", ":read", "mine.py:", "mine.py:a b"])
def test_a_name_that_can_be_no_function_is_refused_by_the_descriptor(data_set, function):
    with pytest.raises(UserError, match=r"annotations\.0: adapter: should be file\.py:function or package"):
        data_set(f'cases: {{match: "a.png"}}\nannotations: [{{kind: adapter, adapter: "{function}"}}]', {})


def test_a_data_set_with_a_function_of_its_own(data_set, grey_picture):
    yaml = """
cases: {match: "img/{stem}.png", id: "{stem}"}
tables: {t: {path: t.csv, key: image}}
annotations: [{kind: adapter, adapter: "mine.py:read", path: "notes/{stem}.txt", origin: detection}]
"""
    files = {"img/a.png": grey_picture(), "img/b.png": grey_picture(seed=1), "notes/a.txt": "nodule 1 2 9 9"}
    toy = data_set(yaml, files | {"t.csv": "image,site\na,x\n", "notes/gone.txt": "nodule 1 2 3 4"})
    cases = {case.id: case for case in toy.plan().cases}
    assert cases["a"].files["0"] == ("notes/a.txt",)
    assert cases["a"].captures["t.site"] == "x"  # it may use any cell
    assert cases["gone"].problem[0] == "missing_image"
    (record,) = toy.records()
    assert (record.origin, record.regions[0].label, record.regions[0].box) == ("detection", "nodule", Box(1, 2, 9, 9))
    assert toy.reasons()["b"] == ["nothing_kept"]


def test_the_plan_refuses_a_function_that_is_not_there(data_set):
    toy = data_set('cases: {match: "a.png"}\nannotations: [{kind: adapter, adapter: "mine.py:raed"}]', {"a.png": b"x"})
    with pytest.raises(UserError, match="no function 'raed'"):
        toy.plan()
