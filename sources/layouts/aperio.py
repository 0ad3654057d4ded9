"""Aperio ImageScope and ASAP: one XML file a picture with outlines, in px of the picture (of a slide: of level 0).

ImageScope keeps outlines in layers, whose name is the label; a negative outline is a hole of the one it lies in.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pipeline.errors import Unusable
from pipeline.records import Box, Case, Origin
from sources import shapes
from sources.annotation import Given, Mark, Marks, Ring, only_one
from sources.descriptor import AnnotationSpec
from sources.safe_xml import Element, parsed
from sources.shapes import Shape

ORIGIN: Origin = "segmentation_2d"
PER_CASE = True
KINDS = {"0": "polygon", "1": "rectangle", "2": "ellipse", "3": "arrow", "4": "ruler"}
"""ImageScope's numbers of them; other programs write words."""
NO_AREA = ("arrow", "ruler", "dot", "pointset", "measurement")


class Spec(AnnotationSpec):
    """Keys of ImageScope and ASAP outlines."""

    kind: Literal["aperio"]
    path: str
    """Template of the XML file."""
    label_from: Literal["name", "id", "text"] = "name"
    """Of ImageScope: the layer's name (or its attribute, where it has no name), its id, or each region's own text. Of
    ASAP it is always the group."""


class Outline(NamedTuple):
    """One region of a layer."""

    raw: str
    kind: str
    points: tuple[tuple[str | None, str | None], ...]
    negative: bool


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the outlines of a picture; None where it has no file.

    Raises:
        Unusable: `ambiguous_annotation`; `bad_annotation`, the file is not the XML it should be.
    """
    if not given.files:
        return None
    only_one(given)
    tree = parsed((given.root / given.files[0]).read_bytes(), "ImageScope")
    if tree.tag == "ASAP_Annotations":
        return Marks(tuple(_marks([_of_asap(one) for one in tree.iter("Annotation")])))
    if tree.tag != "Annotations":
        raise Unusable("bad_annotation", "neither ImageScope nor ASAP XML: the root is not <Annotations>")
    layers = (_layer(layer, spec.label_from) for layer in tree.findall("Annotation"))
    return Marks(tuple(mark for layer in layers for mark in _marks(layer)))


def _layer(layer: Element, label_from: str) -> list[Outline]:
    regions = layer.findall("Regions/Region")
    name = layer.get("Id", "") if label_from == "id" else _name(layer)
    texts = {"text": [region.get("Text", "") for region in regions]}.get(label_from, [name] * len(regions))
    return [
        Outline(
            text,
            _kind(region.get("Type") or "0"),
            tuple((vertex.get("X"), vertex.get("Y")) for vertex in region.findall("Vertices/Vertex")),
            region.get("NegativeROA") == "1",
        )
        for text, region in zip(texts, regions, strict=True)
    ]


def _name(layer: Element) -> str:
    """Return a layer's name: its own, else the value or the name of its first attribute."""
    attributes = layer.findall("Attributes/Attribute")
    names = [one.get("Name", "") for one in attributes if one.get("Name") != "Description"]  # what ImageScope puts in
    said = [layer.get("Name", ""), *(one.get("Value", "") for one in attributes), *names]
    return next((name for name in said if name.strip()), "")


def _kind(said: str) -> str:
    return KINDS.get(said, said.lower())


def _of_asap(one: Element) -> Outline:
    points = sorted(one.findall("Coordinates/Coordinate"), key=lambda point: _order(point.get("Order", "")))
    kind = {"spline": "polygon"}.get(_kind(one.get("Type", "")), _kind(one.get("Type", "")))
    return Outline(one.get("PartOfGroup", ""), kind, tuple((point.get("X"), point.get("Y")) for point in points), False)


def _order(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _marks(layer: Sequence[Outline]) -> Iterator[Mark]:
    """Yield the regions of a layer, each with the holes that lie in it."""
    marks = [shapes.marked("hole" if one.negative else one.raw, _shape, one) for one in layer]
    whole = [n for n, one in enumerate(layer) if not one.negative and not marks[n].problem]
    whole.sort(key=lambda n: _extent(marks[n]).area)  # a hole is of the smallest that it lies in
    cut = {n: list[Ring]() for n in whole}
    for n, one in enumerate(layer):
        if not one.negative:
            continue
        around = None if marks[n].problem else next((m for m in whole if _lies_in(marks[n], marks[m])), None)
        if around is not None:
            cut[around].append(_outer(marks[n]))
        else:
            problem = marks[n].problem or ("bad_outline", "a negative region lies in no other")
            yield Mark(one.raw, problem=problem)
    for n, one in enumerate(layer):
        if not one.negative:
            yield _with_holes(marks[n], cut.get(n, []))


def _outer(mark: Mark) -> Ring:
    return shapes.corners(mark.box) if mark.box else mark.rings[0]


def _extent(mark: Mark) -> Box:
    columns, rows = zip(*_outer(mark), strict=True)
    return Box(min(columns), min(rows), max(columns), max(rows))


def _lies_in(hole: Mark, around: Mark) -> bool:
    (x, y), extent = _outer(hole)[0], _extent(around)
    return extent.x0 <= x <= extent.x1 and extent.y0 <= y <= extent.y1 and shapes.holds(_outer(around), x, y)


def _with_holes(mark: Mark, holes: list[Ring]) -> Mark:
    return Mark(mark.raw, mark.box, rings=(_outer(mark),), holes=tuple(holes)) if holes else mark


def _shape(one: Outline) -> Shape:
    if one.kind == "rectangle":
        return shapes.spanned(one.points)
    if one.kind == "ellipse" and len(one.points) == 2:
        found = shapes.spanned(one.points).box
        assert found is not None  # of two corners
        centre = (found.x0 + found.x1) / 2, (found.y0 + found.y1) / 2
        return Shape(rings=(shapes.ellipse(*centre, found.width / 2, found.height / 2),))
    if one.kind in ("polygon", "ellipse"):
        return Shape(rings=(shapes.ring(one.points),))
    if one.kind in NO_AREA:
        raise Unusable("not_an_area", f"a {one.kind} has no area")
    raise Unusable("unsupported_shape", "its type is none of those that are read")
