"""Cases that are rows of a file: of Parquet, `.npz` or `.npy` for pictures, of any table for texts.

The picture itself is not read: the plan takes only the cells that the descriptor uses.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import Unusable, UserError, did_you_mean
from sources import listing, npz, parquet_files, sheets, templates
from sources.cells import Row
from sources.descriptor import Descriptor, RowsSpec
from sources.listing import Found, Listed

_POINTER = b"version https://git-lfs"


class Part(NamedTuple):
    """Rows that have their pictures in one place."""

    captures: Mapping[str, str]
    """Of the member's name: `split`."""
    columns: tuple[str, ...]
    """Those that the file has."""
    taken: tuple[str, ...]
    """Those that the plan reads."""
    rows: Iterable[Row]
    """Cells in the order of `taken`."""


def listed(descriptor: Descriptor, paths: Sequence[str], root: Path, used: frozenset[str] | None) -> Listed:
    """List every row of every matching file; a file that can not be read is one case that says so.

    Args:
        descriptor: With `cases.rows`.
        paths: Below the root.
        root: Folder of the data.
        used: Captures that the descriptor uses; None: all are wanted.

    Raises:
        UserError: The file is of no form that has rows, lacks the column of the pictures, or two rows have one id.
    """
    spec = descriptor.cases
    assert spec.rows is not None
    wanted = None if used is None else frozenset(name[4:] for name in used if name.startswith("row."))
    cases, damaged, without = dict[str, Found](), dict[str, Found](), ""
    names = {*templates.BUILT_IN, "row", *templates.captures_of(spec.rows.image or "")}
    names.update(name for match in spec.match for name in templates.captures_of(match))
    for path, captures in listing.matching(spec, paths):
        file_id = listing.safe(path.removesuffix(captures["suffix"]))
        try:
            for part in _parts(root / path, path, spec.rows, captures, wanted):
                names.update(f"row.{column}" for column in part.columns)
                for found in _cases(part, file_id, path, captures, descriptor, wanted):
                    other = cases.setdefault(found.id, found)
                    if other is not found:
                        rows = f"row {other.row} of {other.files[0]} and row {found.row} of {path}"
                        raise UserError(
                            f"cases.id {spec.id!r}: {rows} are both {found.id!r}; add what differs, or {{row}}"
                        )
        except Unusable as error:
            damaged[file_id] = Found(file_id, (path,), captures, problem=(error.reason, f"its rows: {error.detail}"))
            without = without or (f"{path}: {error.detail}" if error.reason == "missing_column" else "")
    if without and not cases:  # the descriptor names what none of the files has
        raise UserError(without)
    for found in damaged.values():
        found.captures.update({name: "" for name in names if name not in found.captures})
    return Listed({**damaged, **cases}, frozenset(names))


def member(spec: RowsSpec, captures: Mapping[str, str]) -> str:
    """Return the column or member that holds the picture of a case.

    >>> member(RowsSpec(image="{split}_images"), {"split": "train", "row": "3"})
    'train_images'
    """
    return templates.fill(spec.image or "", captures)


def _cases(
    part: Part,
    file_id: str,
    path: str,
    captures: Mapping[str, str],
    descriptor: Descriptor,
    wanted: frozenset[str] | None,
) -> Iterator[Found]:
    spec = descriptor.cases
    keys = [f"row.{column}" for column in part.taken]
    known = {**captures, **part.captures, **{f"row.{column}": "" for column in wanted or () if column not in keys}}
    within = "/".join([file_id, *(listing.safe(value) for value in part.captures.values())])
    files = (path,)
    problem = "empty_text", "the text of the row is empty"
    used = templates.captures_of(spec.rows.text) if spec.rows and spec.rows.text else None
    for number, row in enumerate(part.rows):
        of_row = {**known, "row": str(number), **dict(zip(keys, row, strict=True))}
        case_id = listing.safe(templates.fill(spec.id, of_row)) if spec.id else f"{within}/r{number:06d}"
        empty = used is not None and not any(of_row.get(name) for name in used)
        yield Found(case_id, files, of_row, row=number, problem=problem if empty else None)


def _parts(
    file: Path, path: str, spec: RowsSpec, captures: Mapping[str, str], wanted: frozenset[str] | None
) -> Iterator[Part]:
    """Yield the rows of a file, in parts.

    Raises:
        Unusable: The file is damaged.
    """
    suffix, form = file.suffix.lower(), sheets.form_of(path)
    if suffix in (".npz", ".npy") and spec.image is not None:
        _refuse_pointer(file)
        yield from _of_arrays(file, path, spec.image, captures, wanted)
    elif form == "parquet":
        _refuse_pointer(file)
        yield _of_parquet(file, path, spec.image, wanted)
    elif spec.image is not None or suffix in (".npz", ".npy"):
        fitting = "Parquet, .npz or .npy" if spec.image is not None else "Parquet, CSV, JSON or JSON Lines"
        raise UserError(f"{path}: rows of {'pictures' if spec.image is not None else 'texts'} are read from {fitting}")
    else:
        columns, rows = sheets.read(file, path, spec.delimiter, spec.encoding)
        places = [at for at, column in enumerate(columns) if wanted is None or column in wanted]
        taken = tuple(columns[at] for at in places)
        yield Part({}, columns, taken, (tuple([row[at] for at in places]) for row in rows))


def _refuse_pointer(file: Path) -> None:
    with npz.sound(), file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise Unusable("lfs_pointer", "a pointer of git LFS; `git lfs pull` fetches it")


# ---- Parquet


def _of_parquet(file: Path, path: str, image: str | None, wanted: frozenset[str] | None) -> Part:
    found = parquet_files.described(file)
    if image is not None and image not in found.every:
        raise Unusable("missing_column", f"rows.image: no column {image!r}{did_you_mean(image, found.every)}")
    _check_count(found.rows, file)
    columns = tuple(column for column in found.columns if column != image)
    taken = tuple(column for column in columns if wanted is None or column in wanted)
    return Part({}, columns, taken, parquet_files.rows(file, taken) if taken else itertools.repeat((), found.rows))


def _check_count(count: int, file: Path) -> None:
    """Refuse a header that lies: a picture takes more than a byte."""
    size = file.stat().st_size
    if count > size:
        raise Unusable("undecodable", f"claims {count} rows in {size} bytes")


# ---- NumPy


def _of_arrays(
    file: Path, path: str, image: str, captures: Mapping[str, str], wanted: frozenset[str] | None
) -> Iterator[Part]:
    """Yield the pictures of each member that `image` names, with the cells of the members beside it."""
    members = npz.members(file)
    names = sorted(members)
    pictures = {"": dict[str, str]()} if npz.is_npy(file) else dict(templates.find(image, names, captures))
    if not pictures:
        raise Unusable("missing_column", f"rows.image: no member fits {image!r}{did_you_mean(image, names)}")
    for name, found in pictures.items():
        count = _count(members[name], name, path)
        _check_count(count, file)
        beside = {
            of["column"]: other
            for other, of in templates.find(_beside(image), names, {**captures, **found})
            if other not in pictures and npz.can_be_cells(members[other], count)
        }
        taken = tuple(column for column in beside if wanted is None or column in wanted)
        cells = [npz.cells(file, beside[column], members[beside[column]]) for column in taken]
        yield Part(found, tuple(beside), taken, zip(*cells, strict=True) if cells else itertools.repeat((), count))


def _count(pictures: npz.Member, name: str, path: str) -> int:
    if len(pictures.shape) < 3:
        said = f"{name or 'it'} has the shape {pictures.shape}; rows of pictures have 3 or 4"
        raise Unusable("missing_column", f"rows.image: {said}")
    if not pictures.row_bytes:
        raise Unusable("undecodable", f"pictures without pixels: shape {pictures.shape}")
    return pictures.shape[0]


def _beside(image: str) -> str:
    """Return the template of the members beside the pictures: `{split}_images` makes `{split}_{column}`."""
    if not templates.captures_of(image):
        return "{column}"
    words = [w for kind, text in templates.parts(image) if kind == "literal" for w in re.findall(r"[^\W_]+", text)]
    if not words:
        return "{column}"
    longest = max(words, key=len)
    written = ""
    for kind, text in templates.parts(image):
        if kind == "literal":
            written += text.replace(longest, "{column}")
        else:
            written += text if kind in ("any", "deep") else f"{{{text}}}"
    return written
