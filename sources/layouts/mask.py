"""Masks of 2D pictures, as picture files or arrays: binary, indexed, coloured, or every value an object.

```yaml
- kind: mask
  path: "masks/{stem}_{label}.png"
```
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.errors import Unusable, UserError
from pipeline.records import Case, Origin
from pipeline.strict import Strict
from sources import readers, safe_json, templates
from sources.annotation import Given, MaskFile, MaskPictures
from sources.descriptor import AnnotationSpec, Texts

ORIGIN: Origin = "segmentation_2d"
PER_CASE = True
MOST_BYTES = 16 << 20
"""Of a file of names; more is something else."""


class Names(Strict):
    """Where a JSON file says what the class numbers in the masks' paths mean: `{group: {name: number}}`."""

    path: str
    """Relative to the data's folder."""
    of: str
    """Template of the group: `{dataset}`."""
    drop: Texts = ()
    """Templates of names that are no labels: `union_*`."""


class Spec(AnnotationSpec):
    """Keys of masks of pictures."""

    kind: Literal["mask"]
    path: str
    """Template of the masks; several files of one picture need captures that tell them apart."""
    encoding: Literal["binary", "indexed", "colour", "instances"] = "binary"
    label: str | None = None
    """Template of what a binary mask or an object is; default: what the path captures as `{label}`."""
    names: Names | None = None
    """What `label` gives is a number of this file, and the raw label its name there."""
    spaces: str = ""
    """Characters that stand for a space in `label`: `+` in `left+kidney`."""
    colours: dict[str, str] = Field(default_factory=dict)
    """`#ff0000` or `255, 0, 0` to raw label."""
    invert: bool = False
    """Of a binary mask: the label is black."""
    threshold: float | None = None
    """Of a binary mask: value from which on it is the label; default: what is not 0, soft edges cut half way."""
    resize: Literal["nearest"] | None = None
    """For masks of another size and the same aspect; else they are left out."""
    boxes: Literal["per_class", "per_component"] = "per_class"
    one_file: Literal["instance", "class"] = "instance"
    """Several binary masks of one label are a region each, or one together."""
    missing: Literal["unlabelled", "negative", "reject"] = "unlabelled"
    """A picture without a mask: not annotated, free of what was looked for, or a fault."""
    exclude: Texts = ()
    """Templates of files that fit the path and are no masks."""
    array: str | None = None
    """Array of an `.npz`: rows of masks `(y, x)`, or of channels `(y, x, channel)` that `labels` numbers from 0."""

    @model_validator(mode="before")
    @classmethod
    def _labels_hold_what_is_named_here(cls, data: Any) -> Any:
        """What `label` and `colours` name is looked for as what `labels` lists is."""
        if not isinstance(data, dict):
            return data
        labels, colours = data.get("labels", {}), data.get("colours", {})
        if not isinstance(labels, dict) or not isinstance(colours, dict):
            return data
        named = [name for name in (data.get("label"), *colours.values()) if isinstance(name, str) and "{" not in name]
        return {**data, "labels": {**dict(zip(named, named, strict=True)), **labels}}

    @model_validator(mode="after")
    def _fits_its_encoding(self) -> "Spec":
        if self.colours and self.encoding != "colour":
            raise ValueError(f"colours: they are for encoding: colour, not {self.encoding}")
        if self.label is not None and self.encoding in ("indexed", "colour"):
            raise ValueError("label: it is for encoding: binary and instances; name values in labels or colours")
        if any(kind in ("any", "deep") for kind, _ in templates.parts(self.label or "")):
            raise ValueError("label: a wildcard has no value here")
        if self.encoding != "binary" and (self.invert or self.threshold is not None or self.one_file == "class"):
            raise ValueError("invert, threshold and one_file are for encoding: binary")
        if self.missing == "negative" and not self.complete:
            raise ValueError("missing: negative needs complete: true")
        return self

    @model_validator(mode="after")
    def _says_what_values_mean(self) -> "Spec":
        if self.encoding == "colour":
            rgb = [_rgb(colour) for colour in self.colours]
            if not rgb or len(set(rgb)) < len(rgb):
                raise ValueError("colours: encoding: colour needs colours, each once")
        elif self.by_id:
            _ids(self.labels)
        elif self.label is None and "label" not in templates.captures_of(self.path):
            raise ValueError("label: say what the masks show, or capture {label} in path")
        if self.names is not None and (self.encoding == "colour" or self.by_id):
            raise ValueError("names: they are of numbers in the path; name values in labels or colours")
        return self

    @property
    def by_id(self) -> bool:
        """Do `labels` number values of pixels, or channels of an array?"""
        channels = self.array is not None and self.label is None and "label" not in templates.captures_of(self.path)
        return self.encoding == "indexed" or (self.encoding == "instances" and channels)


def _rgb(colour: str) -> tuple[int, int, int]:
    if re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:], 16)
    found = re.fullmatch(r"([0-9]{1,3})[ ,]+([0-9]{1,3})[ ,]+([0-9]{1,3})", colour.strip("()[] "))
    if not found or max(map(int, found.groups())) > 255:
        raise ValueError(f"colours: {colour!r} is none; write '#ff0000' or '255, 0, 0'")
    return int(found[1]), int(found[2]), int(found[3])


def _ids(labels: Any) -> dict[int, str]:
    """Return pixel value (or number of a channel) to raw label, which is that number as it was written."""
    ids = {int(raw): raw for raw in labels if re.fullmatch(r"-?[0-9]{1,9}", raw)}
    if len(ids) < max(1, len(labels)):
        raise ValueError("labels: should be pixel values to names, each once: {1: liver, 2: spleen}")
    return ids


def shared_files(spec: Spec) -> tuple[str, ...]:
    """Return the file of names, relative to the data's folder, where there is one."""
    return (spec.names.path,) if spec.names else ()


def read(spec: Spec, case: Case, given: Given) -> MaskPictures | None:
    """Return the masks of a picture; None where it has none and that says nothing.

    Raises:
        Unusable: `missing_mask`; `ambiguous_annotation`; `bad_annotation`: a path captures no label.
        UserError: The file of names is absent or damaged.
    """
    files = [file for file in given.files if all(templates.match(out, file) is None for out in spec.exclude)]
    if not files and spec.missing == "reject":
        raise Unusable("missing_mask", "no file fits the masks' path")
    if not files:
        return MaskPictures(()) if spec.missing == "negative" else None
    captured = [_captured(spec, file, case) for file in files]
    if len({tuple(sorted(captures.items())) for captures in captured}) < len(files):
        why = f"{len(files)} files fit the masks' path; add captures that tell them apart"
        raise Unusable("ambiguous_annotation", why)
    known = [{**case.captures, **captures} for captures in captured]
    names = readers.pseudonyms(captures["reader"] for captures in known if "reader" in captures)
    listed = _listed(spec.names, given.root) if spec.names else {}
    both = zip(files, known, strict=True)
    masks = (_mask(spec, file, captures, names.get(captures.get("reader", "")), listed) for file, captures in both)
    return MaskPictures(tuple(mask for mask in masks if mask))


def _captured(spec: Spec, file: str, case: Case) -> dict[str, str]:
    """Return what the path captures beyond the case: matched without it, `{stem}_{label}` may be cut elsewhere."""
    return next((captures for _, captures in templates.find(spec.path, [file], case.captures)), {})


def _mask(
    spec: Spec, file: str, captures: dict[str, str], reader: str | None, listed: Mapping[str, Mapping[str, str]]
) -> MaskFile | None:
    """Return one mask, or None where its name is one to be dropped."""
    if spec.encoding == "colour":
        colours = {_rgb(colour): raw for colour, raw in spec.colours.items()}
        return MaskFile(file, spec.array, colours=colours, reader=reader)
    objects = spec.encoding == "instances"
    if spec.by_id:
        return MaskFile(file, spec.array, names=_ids(spec.labels), instances=objects, reader=reader)
    raw = templates.fill(spec.label or "{label}", captures)
    for character in spec.spaces:
        raw = raw.replace(character, " ")
    if not raw.strip():
        raise Unusable("bad_annotation", "a mask's label is empty")
    if spec.names is None:
        return MaskFile(file, spec.array, raw.strip(), instances=objects, reader=reader)
    group = templates.fill(spec.names.of, captures)
    name = listed.get(group, {}).get(_number(raw))
    if name is None:
        return MaskFile(file, spec.array, f"class {raw} of {group}", instances=objects, reader=reader, unknown=True)
    if any(templates.match(out, name) is not None for out in spec.names.drop):
        return None
    return MaskFile(file, spec.array, name, instances=objects, reader=reader)


# ---- names of class numbers


def _listed(names: Names, root: Path) -> Mapping[str, Mapping[str, str]]:
    path = root / names.path
    try:
        state = path.stat()
        return _names_in(path, state.st_mtime_ns, state.st_size)
    except (OSError, ValueError):
        raise UserError(f"{names.path}: no file that can be read below {root}; names.path should name one") from None


@functools.lru_cache(maxsize=8)
def _names_in(path: Path, changed_ns: int, size: int) -> Mapping[str, Mapping[str, str]]:
    """Return group to class number to name; time and size tell a changed file."""
    if size > MOST_BYTES:
        raise UserError(f"{path.name}: {size} bytes are no list of names; at most {MOST_BYTES} are read")
    try:
        data = safe_json.parsed(path.read_bytes())
    except ValueError:
        raise UserError(f"{path.name}: not JSON") from None
    wanted = 'should be {"group": {"name": number}}'
    if not isinstance(data, dict):
        raise UserError(f"{path.name}: {wanted}, is {type(data).__name__}")
    for group, classes in data.items():
        if not isinstance(classes, dict) or not all(_is_number(number) for number in classes.values()):
            raise UserError(f"{path.name}: {wanted}; {group[:60]!r} is not")
    return {group: _by_number(classes) for group, classes in data.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, str | int) and re.fullmatch(r"[0-9]{1,9}", str(value), re.ASCII) is not None


def _number(text: str | int) -> str:
    """Return a number without the zeros before it: files write 3 and 0003."""
    return str(text).lstrip("0") or "0"


def _by_number(classes: Mapping[str, str | int]) -> dict[str, str]:
    """Turn a list of names round; a number with two names means neither."""
    often = Counter(map(_number, classes.values()))
    return {_number(number): name for name, number in classes.items() if often[_number(number)] == 1}
