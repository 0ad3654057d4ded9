"""COCO: one JSON file for many pictures, boxes as x, y, width, height from the top left edge.

The plan reads the JSON once and hands each case its own entries, so that one more picture touches one shard.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import Unusable, UserError
from pipeline.records import Box, Case, Origin
from sources.annotation import Given, Mark, Marks
from sources.descriptor import AnnotationSpec

ORIGIN: Origin = "detection"


class Spec(AnnotationSpec):
    """Keys of COCO boxes."""

    kind: Literal["coco"]
    path: str
    """Template of the JSON file."""
    match: str = "{name}"
    """Template of the `file_name` that a case looks up."""
    keep_crowd: bool = False


def index(spec: Spec, path: Path) -> dict[str, str]:
    """Return `file_name` to what the file says of it, as JSON; boxes of an image that is not listed stand apart.

    Raises:
        UserError: It is not COCO JSON.
    """
    try:
        data = json.loads(path.read_bytes())
        names = {category["id"]: str(category["name"]) for category in data["categories"]}
        marks: dict[int, list[Any]] = defaultdict(list)
        for entry in data.get("annotations", ()):
            if spec.keep_crowd or not entry.get("iscrowd"):
                label = names.get(entry["category_id"], f"category {entry['category_id']}")
                marks[entry["image_id"]].append([label, entry.get("bbox")])
        sizes, listed = dict[str, list[Any]](), dict[str, list[Any]]()
        for image in data["images"]:
            # one file name may stand twice, as when two readers' exports were joined: the boxes of both count
            name = str(image["file_name"])
            sizes.setdefault(name, [image.get("width"), image.get("height")])
            listed.setdefault(name, []).extend(marks.pop(image["id"], []))
        for image_id, left in marks.items():
            sizes[f"image {image_id}"], listed[f"image {image_id}"] = [None, None], left
        entries = {name: {"size": sizes[name], "marks": found} for name, found in listed.items()}
        return {name: json.dumps(entry, separators=(",", ":")) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path.name}: not COCO JSON ({type(error).__name__}: {error})") from None


def read(spec: Spec, case: Case, given: Given) -> Marks | None:
    """Return the boxes of a picture; None where the JSON does not list it.

    Raises:
        Unusable: `bad_annotation`.
    """
    if given.note is None:
        return None
    entry = json.loads(given.note)
    size = entry["size"]
    if not all(side is None or (isinstance(side, int | float) and side >= 0) for side in size):
        raise Unusable("bad_annotation", f"width and height should be numbers, are {str(size)[:60]}")
    return Marks(
        tuple(_mark(raw, box) for raw, box in entry["marks"]),
        (int(size[0]), int(size[1])) if all(size) else None,
    )


def _mark(raw: str, box: Any) -> Mark:
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        return Mark(raw, problem=("bad_box", f"should be x, y, width, height, is {str(box)[:60]}"))
    if not (width > 0 and height > 0):
        return Mark(raw, problem=("box_zero_size", f"x {x:g}, y {y:g}, width {width:g}, height {height:g}"))
    return Mark(raw, Box(x, y, x + width, y + height))
