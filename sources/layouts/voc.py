"""PASCAL VOC: one XML file a picture with named boxes, 1-based and inclusive.

A box that covers columns 1 to 10 is written `<xmin>1</xmin><xmax>10</xmax>`; half-open it is `0, 10`.
Files of later tools are often 0-based: `one_based: false`. Some add a `<polygon>`, whose corners count like the box.
"""

from typing import Literal

from pipeline.errors import Unusable
from pipeline.records import Case, Origin
from sources import shapes
from sources.annotation import Given, Marks, Ring, only_one
from sources.descriptor import AnnotationSpec
from sources.safe_xml import Element, parsed
from sources.shapes import Shape

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
    tree = parsed((given.root / given.files[0]).read_bytes(), "VOC")
    if tree.tag != "annotation" and tree.find("object") is None and tree.find("size") is None:
        raise Unusable("bad_annotation", "not VOC XML: it has neither objects nor a size")
    objects = [o for o in tree.findall("object") if spec.keep_difficult or o.findtext("difficult") != "1"]
    try:
        size = (shapes.number(tree.findtext(f"size/{side}") or "0") for side in ("width", "height"))
        found = (shapes.marked(o.findtext("name"), _shape, o, 1 if spec.one_based else 0) for o in objects)
        return Marks(tuple(found), shapes.size(*size))
    except ValueError:
        raise Unusable("bad_annotation", "not VOC XML: a side or a coordinate is not a number") from None


def _shape(element: Element, first: int) -> Shape:
    rings = tuple(_ring(polygon, first) for polygon in element.findall("polygon"))
    if rings and element.find("bndbox") is None:
        return Shape(rings=rings)
    x0, y0, x1, y1 = (float(element.findtext(f"bndbox/{key}") or "nan") for key in ("xmin", "ymin", "xmax", "ymax"))
    if not (x1 > x0 and y1 > y0):
        said = f"xmin {x0:g}, ymin {y0:g}, xmax {x1:g}, ymax {y1:g}"
        raise Unusable("box_zero_size", f"{said}: the maximum must be above the minimum")
    return Shape(shapes.box(x0 - first, y0 - first, x1 - first + 1, y1 - first + 1), rings)


def _ring(polygon: Element, first: int) -> Ring:
    """Return the outline of x1, y1, x2 and so on."""
    said = {child.tag: child.text for child in polygon}
    points = [(said[f"x{n}"], said.get(f"y{n}")) for n in range(1, len(said) + 1) if f"x{n}" in said]
    return tuple((x - first, y - first) for x, y in shapes.ring(points))
