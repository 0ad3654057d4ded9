"""JSON of data sets: one kind of error, and long lists that are read piece by piece."""

import json

import pytest

from sources.safe_json import parsed, parsed_but


def split(data: bytes) -> tuple[dict, list]:
    elements = []
    return parsed_but(data, "list", elements.append), elements


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        " {\n} ",
        '{"list": []}',
        '{"a": 1, "list": [], "b": [2]}',
        '{"list":[1,{"a":[1,2]},"x",null,[[]]],"b":{"list":[3]}}',
        ' { "b" : true , "list" : [ 1 , 2.50 ,\t"]" ,{ "c" : "}" } ] } \r\n',
        '{"list": {"a": 1}}',
        '{"list": null, "é": "ü"}',
        '{"list": [NaN, -1e5, "\\ud83d\\ude00"]}',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_members_and_elements_are_those_of_the_standard_library(text, encoding):
    data = text.encode(encoding)
    rest, elements = split(data)
    wanted = json.loads(data)
    kept = wanted.get("list")
    assert repr(rest) == repr({**wanted, "list": []} if isinstance(kept, list) else wanted)
    assert repr(elements) == repr(kept if isinstance(kept, list) else [])


GOOD = '{"a": 1, "list": [1, {"b": [2, 3]}, "x"], "c": {"d": null}}'


def test_all_that_is_no_json_object_is_a_value_error():
    for at in range(len(GOOD)):
        for bad in (GOOD[:at], GOOD[:at] + "%" + GOOD[at + 1 :], GOOD[:at] + GOOD[at + 1 :]):
            try:
                json.loads(bad)
            except ValueError:
                with pytest.raises(ValueError):
                    split(bad.encode())
            else:
                split(bad.encode())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}{}", '{"list": [1,]}', '{"list": [,]}', '{"list": [1}', '{"a": 1,}', "{1: 2}", '{"a" 1}', "{,}"],
)
def test_a_fault_is_a_value_error(text):
    with pytest.raises(ValueError):
        split(text.encode())


@pytest.mark.parametrize("read", [parsed, split])
@pytest.mark.parametrize("data", [b'{"list": [' + b"[" * 100_000, b"{" + b'"a":{' * 100_000, b'{"list": \xff}'])
def test_deep_nesting_and_bad_bytes_are_value_errors(read, data):
    with pytest.raises(ValueError):
        read(data)


def test_a_giant_number_is_a_value_error():
    with pytest.raises(ValueError):
        parsed("9" * 5000)
