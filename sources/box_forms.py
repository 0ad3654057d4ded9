"""Four numbers to a box, in each of the orders that tables and JSON have them."""

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.errors import Unusable
from pipeline.records import Box
from sources import shapes

Form = Literal["xywh", "xyxy", "cxcywh"]


def box(form: Form, values: Sequence[Any], one_based: bool = False) -> Box:
    """Return a box; half-open, from 0.

    Args:
        form: `xywh`: corner and size; `xyxy`: two corners; `cxcywh`: centre and size.
        values: Four numbers, or texts of numbers.
        one_based: The first pixel is 1; of `xyxy` the last pixel belongs to the box.

    Raises:
        Unusable: `bad_box`: not four numbers; `box_zero_size`.
    """
    try:
        a, b, c, d = (shapes.number(value) for value in values)
    except (TypeError, ValueError):
        raise Unusable("bad_box", "a box should be four numbers") from None
    first = 1.0 if one_based else 0.0
    if form == "xywh":
        return shapes.box(a - first, b - first, a - first + c, b - first + d)
    if form == "cxcywh":
        return shapes.box(a - first - c / 2, b - first - d / 2, a - first + c / 2, b - first + d / 2)
    return shapes.box(a - first, b - first, c, d)
