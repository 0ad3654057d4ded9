"""`dataset.json` of the Medical Segmentation Decathlon and of nnU-Net: channels, labels, pairs of files."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UserError
from sources.safe_json import parsed

Keys = dict[str, Any]
"""Keys of a descriptor."""

FILE = "dataset.json"
NOT_CASES = (FILE, "imagesTs/*")
"""What a preset does not take for cases: the file that it reads itself, and pictures without labels."""
_MODALITIES = {"ct": "ct", "mri": "mr", "mr": "mr", "pet": "pet"}
"""Not the sequences: `T2` may be anything."""


class Pairs(NamedTuple):
    """Where the images of cases and their labels lie."""

    image: str
    """Template."""
    label: str
    """Template."""
    cases: int


def load(root: Path) -> Mapping[str, Any]:
    """Read a data set's own description.

    Raises:
        UserError: It is not there, or no JSON object.
    """
    try:
        data = parsed((root / FILE).read_bytes())
    except OSError as error:
        raise UserError(f"{root / FILE}: {error.strerror or error}; root should be the folder that holds it") from None
    except ValueError:
        raise UserError(f"{root / FILE}: not JSON") from None
    if not isinstance(data, Mapping):
        raise UserError(f"{root / FILE}: should be an object, is {type(data).__name__}")
    return data


def channels(data: Mapping[str, Any], key: str) -> list[str]:
    """Return the names of the channels in order: `{"0": "T1", "1": "T2"}`.

    Raises:
        UserError: There are none.
    """
    said = data.get(key)
    numbered = dict(enumerate(said)) if isinstance(said, list) else said
    if not isinstance(numbered, Mapping) or not numbered:
        raise UserError(f'{FILE}: {key} should be {{"0": "CT"}}, is {str(said)[:60]}')
    try:
        return [str(numbered[number]) for number in sorted(numbered, key=int)]
    except ValueError:
        raise UserError(f"{FILE}: {key} should go by number, has {str(list(numbered))[:60]}") from None


def distinct(names: Sequence[str]) -> list[str]:
    """Return names of which each stands once.

    >>> distinct(["MRI", "MRI"])
    ['MRI', 'MRI 1']
    """
    return [name if name not in names[:at] else f"{name} {at}" for at, name in enumerate(names)]


def by_number(names: Sequence[str]) -> dict[str, str]:
    """Return a channel's number in nnU-Net's file names to its name.

    >>> by_number(["T1", "T2"])
    {'0000': 'T1', '0001': 'T2'}
    """
    return {f"{number:04d}": name for number, name in enumerate(distinct(names))}


def modality(names: Sequence[str]) -> Keys:
    """Return the modality where all channels name one; sequences do not."""
    found = {_MODALITIES.get(name.strip().lower()) for name in names}
    return {"modality": found.pop()} if len(found) == 1 and None not in found else {}


def names_by_id(data: Mapping[str, Any]) -> dict[str, str]:
    """Return label id to name, without the background: `{"0": "background", "1": "liver"}`.

    Raises:
        UserError: They are not of this form.
    """
    said = data.get("labels")
    if not isinstance(said, Mapping) or not all(re.fullmatch("[0-9]{1,9}", str(number)) for number in said):
        raise UserError(f'{FILE}: labels should be {{"1": "liver"}}; nnU-Net v2 has names first: preset: nnunet_v2')
    found = {str(int(number)): str(name) for number, name in said.items() if int(number)}
    if not found:
        raise UserError(f"{FILE}: labels name nothing but the background")
    return found


def label_map(path: str, data: Mapping[str, Any]) -> Keys:
    """Return the annotation of label maps whose labels are `{name: id}`, `{name: [ids]}` among them (nnU-Net v2).

    Raises:
        UserError: Labels are not of this form.
    """
    said = data.get("labels")
    if not isinstance(said, Mapping):
        raise UserError(f'{FILE}: labels should be {{"background": 0, "liver": 1}}, is {str(said)[:60]}')
    names: dict[str, Any] = {}
    unions, ignore = dict[str, list[int]](), list[int]()
    for name, value in said.items():
        ids = [_id(name, one) for one in (value if isinstance(value, list) else [value])]
        if name == "ignore":
            ignore += ids
        elif len(ids) == 1 and str(ids[0]) not in names:
            names[str(ids[0])] = name
        else:
            unions[name] = [one for one in ids if one]
    names.pop("0", None)
    for one in sorted({one for ids in unions.values() for one in ids}):
        names.setdefault(str(one), {"drop": "true"})  # a part that has no name of its own
    if not names:
        raise UserError(f"{FILE}: labels name nothing but the background")
    more = {"unions": unions} if unions else {}
    return {"kind": "labelmap", "path": path, "labels": names, **more, **({"ignore": ignore} if ignore else {})}


def _id(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        hint = "; names by id are of the Decathlon: preset: msd or nnunet_v1" if isinstance(value, str) else ""
        raise UserError(f"{FILE}: label {name!r} should be an id or a list of ids, is {str(value)[:60]!r}{hint}")
    return value


def pairs(data: Mapping[str, Any]) -> Pairs:
    """Return where the list of training pairs says that images and labels lie.

    Raises:
        UserError: There is no list, or its files are in several folders or differ in their names.
    """
    said = data.get("training")
    if not isinstance(said, list) or not said:
        raise UserError(f"{FILE}: training should be a list of image and label")
    found = {_pair(entry) for entry in said}
    if len(found) > 1:
        raise UserError(f"{FILE}: training files lie in several folders; write cases and annotations yourself")
    return Pairs(*found.pop(), len(said))


def _pair(entry: Any) -> tuple[str, str]:
    paths = [entry.get(key) if isinstance(entry, Mapping) else None for key in ("image", "label")]
    if not all(isinstance(path, str) for path in paths):
        raise UserError(f"{FILE}: a training entry should have image and label, is {str(entry)[:60]}")
    (image, name), (label, other) = (os.path.split(os.path.normpath(str(path))) for path in paths)
    ending = next((ending for ending in (".nii.gz", ".nii") if name.endswith(ending)), None)
    if ending is None or name != other:
        raise UserError(f"{FILE}: {name} and {other} should be NIfTI files of one name")
    return f"{image}/{{case}}{ending}", f"{label}/{{case}}{ending}"
