"""XML of data sets: refused where it is none, or where it could make a program read other files."""

import pytest

from pipeline.errors import Unusable
from sources.safe_xml import parsed


@pytest.mark.parametrize(
    ("head", "encoding"),
    [("", "utf-8"), ("", "utf-8-sig"), ('<?xml version="1.0" encoding="utf-16"?>', "utf-16")]
    + [(f'<?xml version="1.0" encoding="{name}"?>', name) for name in ("utf-8", "latin-1", "cp1252", "koi8-r")],
)
def test_a_file_is_read_in_the_encoding_it_declares(head, encoding):
    text = "Ж" if encoding == "koi8-r" else "é"
    tree = parsed(f"{head}<a><b>{text}</b></a>".encode(encoding), "VOC")
    assert (tree.tag, tree.findtext("b")) == ("a", text)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><a/>',
        '<!DOCTYPE a [<!ENTITY l "ll"><!ENTITY m "&l;&l;">]><a>&m;</a>',
        "<!DOCTYPE a><a/>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_document_type_is_refused(text, encoding):
    with pytest.raises(Unusable, match=r"^bad_annotation: XML declares a document type or entities; remove them$"):
        parsed(text.encode(encoding), "VOC")


@pytest.mark.parametrize("data", [b"", b"<a>", b"no xml", b"<a/><b/>", b"\xff\xfe<\x00", b"<a>&x;</a>", b"\x00" * 9])
def test_what_is_no_xml_is_told_by_its_place_alone(data):
    with pytest.raises(Unusable, match=r"^bad_annotation: not VOC XML: it breaks at line \d+, column \d+$"):
        parsed(data, "VOC")


@pytest.mark.parametrize("name", ["odd", "gb2312", "big5"])
def test_an_encoding_that_is_not_known_is_told(name):
    data = f'<?xml version="1.0" encoding="{name}"?><a/>'.encode()
    with pytest.raises(Unusable, match=r"its encoding can not be read; save it as UTF-8"):
        parsed(data, "VOC")


def test_deep_nesting_does_no_harm():
    tree = parsed(b"<a>" * 100_000 + b"</a>" * 100_000, "VOC")
    assert tree.find("b") is None
