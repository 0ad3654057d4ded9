"""YAML that people write: scalars as written, one line for a fault."""

import pytest
from pydantic import Field

from pipeline.errors import UserError
from pipeline.strict import Strict, checked, dump_yaml, load_yaml, read_text


class Inner(Strict):
    width: float = Field(1.0, gt=0)


class Outer(Strict):
    name: str
    inner: Inner = Inner()
    schema_: str = Field("x", alias="schema")


def test_scalars_stay_as_written():
    text = "{a: yes, b: no, c: 012, d: 1.10, e: 2020-01-02, f: 1e3, g: ~, h: 0x1F, i: on}"
    assert load_yaml(text, "f") == {
        "a": "yes", "b": "no", "c": "012", "d": "1.10", "e": "2020-01-02", "f": "1e3", "g": "~", "h": "0x1F", "i": "on",
    }  # fmt: skip


def test_keys_stay_as_written_too():
    assert load_yaml("yes: 1\nno: 2\n012: 3\n", "f") == {"yes": "1", "no": "2", "012": "3"}


def test_what_is_dumped_loads_as_the_same_text():
    data = {"b": "no", "a": ["012", "1.10", "脾"], "c": {"yes": "x: y"}}
    assert load_yaml(dump_yaml(data), "f") == data
    assert list(load_yaml(dump_yaml(data), "f")) == ["b", "a", "c"]


def test_a_key_given_twice_is_an_error_in_one_line():
    with pytest.raises(UserError, match="f: not YAML: key 'a' is given twice") as caught:
        load_yaml("a: 1\nb: 2\na: 3\n", "f")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="key 'a' is given twice"):
        load_yaml("x:\n  - {a: 1, a: 1}\n", "f")


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\ta: 1", "[a]: b"])
def test_what_is_not_plain_yaml_is_an_error_in_one_line(text):
    with pytest.raises(UserError, match=r"^f: not YAML: ") as caught:
        load_yaml(text, "f")
    assert "\n" not in str(caught.value)


def test_numbers_are_made_where_a_field_wants_them():
    assert checked(Outer, load_yaml("{name: 1.10, inner: {width: 1.10}}", "f"), "f") == Outer(
        name="1.10", inner=Inner(width=1.1)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: x, iner: {}}", "f: unknown key 'iner'; did you mean 'inner'? Known: inner, name, schema"),
        (
            "{name: x, inner: {widht: 2}}",
            "f: unknown key 'inner.widht'; did you mean 'width'? Known: width",
        ),
        ("{inner: {}}", "f: key 'name' is missing"),
        ("{name: x, inner: {width: 0}}", "f: inner.width: Input should be greater than 0 (is '0')"),
        ("[a, b]", "f: should be a mapping of keys, is list"),
        ("", "f: should be a mapping of keys, is NoneType"),
    ],
)
def test_a_fault_is_one_line_that_says_where_and_what(text, said):
    with pytest.raises(UserError) as caught:
        checked(Outer, load_yaml(text, "f"), "f")
    assert str(caught.value) == said


def test_models_do_not_change_after_construction():
    with pytest.raises(ValueError, match="frozen"):
        Inner().width = 3


def test_files_are_read_as_utf8_with_or_without_mark(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "bom.yaml") == "a: 1"
    (tmp_path / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: not UTF-8; save it as UTF-8"):
        read_text(tmp_path / "latin.yaml")
    with pytest.raises(UserError, match=r"none\.yaml: No such file or directory"):
        read_text(tmp_path / "none.yaml")


@pytest.mark.parametrize("tag", ["!!int", "!!timestamp", "!!bool", "!!python/object:os.system", "!own"])
def test_a_tag_makes_nothing_of_a_scalar(tag):
    assert load_yaml(f"name: {tag} x", "x.yaml") == {"name": "x"}
    assert load_yaml(f"{tag} [x]", "x.yaml") == ["x"]
