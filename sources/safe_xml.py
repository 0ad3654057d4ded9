"""XML of data sets: no document types, no entities, and one reason for whatever is not XML."""

from xml.etree import ElementTree

from pipeline.errors import Unusable

Element = ElementTree.Element


def parsed(data: bytes, what: str) -> Element:
    """Return the root of an XML file.

    Args:
        data: The file.
        what: The format's name, for the detail.

    Raises:
        Unusable: `bad_annotation`: not XML, or it declares a document type, through which a file could make a program
            read others or fill its memory.
    """
    plain = data.replace(b"\0", b"")  # of UTF-16 too
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise Unusable("bad_annotation", "XML declares a document type or entities; remove them")
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        line, column = error.position
        raise Unusable("bad_annotation", f"not {what} XML: it breaks at line {line}, column {column}") from None
    except (ValueError, LookupError):  # of an encoding that expat does not know
        raise Unusable("bad_annotation", f"not {what} XML: its encoding can not be read; save it as UTF-8") from None
