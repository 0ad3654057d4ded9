"""PASCAL VOC: one XML file a picture with named boxes, 1-based and inclusive.

A box that covers columns 1 to 10 is written `<xmin>1</xmin><xmax>10</xmax>`; half-open it is `0, 10`.
Files of later tools are often 0-based: `one_based: false`.
"""

from typing import Literal
from xml.etree import ElementTree

from pipeline.errors import Unusable
from pipeline.records import Box, Case, Origin
from sources.annotation import Given, Mark, Marks, only_one
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "detection"
PER_CASE = True


class Spec(AnnotationSpec):
    """Keys of VOC boxes."""

    kind: Literal["voc"]
    path: str
    """Template of the XML file."""
    one_based: bool = True
    keep_difficult: bool = True


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes of a picture; None where it has no file.

    Raises:
        Unusable: `ambiguous_annotation`; `bad_annotation`, the file is not the XML it should be.
    """
    if not given.files:
        return None
    only_one(given)
    data = (given.root / given.files[0]).read_bytes()
    plain = data.replace(b"\0", b"")  # of UTF-16 too
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise Unusable("bad_annotation", "XML declares a document type or entities; remove them")
    try:
        tree = ElementTree.fromstring(data)
        objects = [o for o in tree.findall("object") if spec.keep_difficult or o.findtext("difficult") != "1"]
        return Marks(tuple(_mark(o, spec.one_based) for o in objects), _size(tree))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unusable("bad_annotation", f"not VOC XML: {error}") from None


def _size(tree: ElementTree.Element) -> tuple[int, int] | None:
    width, height = tree.findtext("size/width"), tree.findtext("size/height")
    size = (int(width or 0), int(height or 0))
    return size if min(size) > 0 else None


def _mark(element: ElementTree.Element, one_based: bool) -> Mark:
    name = (element.findtext("name") or "").strip()
    x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{key}") or "nan") for key in ("xmin", "ymin", "xmax", "ymax"))
    if not (x1 > x0 and y1 > y0):
        said = f"xmin {x0:g}, ymin {y0:g}, xmax {x1:g}, ymax {y1:g}"
        return Mark(name, problem=("box_zero_size", f"{said}: the maximum must be above the minimum"))
    first = 1 if one_based else 0
    return Mark(name, Box(x0 - first, y0 - first, x1 - first + 1, y1 - first + 1))
