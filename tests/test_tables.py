"""Tables by key: several rows, no key, and what is said of a key column that is not there."""

import pytest

from pipeline.errors import UserError
from sources import tables
from sources.descriptor import Table


def read(tmp_path, text: str | bytes, name: str = "t.csv", key: str = "image", **keys) -> tables.Rows:
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tables.read("t", Table(path=name, key=key, **keys), tmp_path)


def test_all_rows_of_a_key_are_kept_in_order(tmp_path):
    found = read(tmp_path, "image,x\na,1\nb,2\na,3\n")
    assert (found.columns, list(found.by_key)) == (("image", "x"), ["a", "b"])
    assert (found.of("a"), found.of("b"), found.of("c")) == ((("a", "1"), ("a", "3")), (("b", "2"),), ())
    assert list(found.repeated) == ["a"]
    assert found.by_key["a"] == ("a", "1")


def test_rows_without_a_key_are_counted_and_belong_to_nobody(tmp_path):
    found = read(tmp_path, "image,x\n,1\na,2\n  ,3\n")
    assert (list(found.by_key), found.without_key) == (["a"], 2)
    assert found.of("") == ()


def test_a_prefix_may_be_all_of_a_key(tmp_path):
    found = read(tmp_path, "image,x\nimg/,1\nimg/a,2\n", strip="img/")
    assert (list(found.by_key), found.without_key) == (["a"], 1)


def test_keys_are_compared_exactly_but_for_blanks_around_them(tmp_path):
    found = read(tmp_path, "image,x\n a ,1\nA,2\n007,3\n")
    assert list(found.by_key) == ["a", "A", "007"]


def test_a_row_that_is_not_in_the_encoding_is_set_aside(tmp_path):
    found = read(tmp_path, "image,x\na,ödem\nb,ok\n".encode("cp1252"))
    assert found.undecodable == {"a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image;label;x\na;1;2\n", "table t: no column 'image': the first line has 2 ';'; set delimiter: ';'"),
        ("image\tlabel\na\t1\n", "table t: no column 'image': the first line has 1 '\\t'; set delimiter: '\\t'"),
        ("Image,label\na,1\n", "table t: no column 'image'; did you mean 'Image'? Known: Image, label"),
        ("", "table t: no column 'image'. Known: none"),
    ],
)
def test_a_key_that_is_no_column_says_what_may_be_wrong(tmp_path, text, said):
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == said


def test_the_proposed_delimiter_is_the_right_one(tmp_path):
    assert read(tmp_path, "image\tx\na\t1\n", delimiter="\\t").by_key == {"a": ("a", "1")}


def test_a_json_object_may_go_by_key(tmp_path):
    found = read(tmp_path, '{"a": {"x": 1}, "b": {"x": 2, "y": null}}', "t.json")
    assert (found.columns, found.by_key) == (("image", "x", "y"), {"a": ("a", "1", ""), "b": ("b", "2", "")})
