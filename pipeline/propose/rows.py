"""Cases that are rows of a file: MedMNIST-like arrays, Parquet with pictures, tables of texts."""

import re
from collections.abc import Iterator, Sequence

from pipeline.errors import Unusable, UserError
from pipeline.propose import patterns
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Guess, Keys
from pipeline.propose.words import IMAGE, says_mask, words
from sources import npz, parquet_files, sheets

_LABELS = ("label", "labels", "class", "target", "targets", "y", "diagnosis", "dx", "finding", "category")
_OBJECTS = ("objects", "annotations", "boxes")
_TEXTS = ("text", "report", "question", "caption", "findings", "impression", "note", "abstract")


def guesses(seen: Seen, alone: bool) -> Iterator[Guess]:
    """Yield what a folder may be whose cases are rows.

    Args:
        seen: The folder.
        alone: Nothing but tables lies there: they may hold texts.
    """
    for guess in (_arrays(seen), _parquet(seen), _texts(seen) if alone else None):
        if guess:
            yield guess


def _match(paths: Sequence[str]) -> list[str] | str:
    found = [patterns.literal(path) for path in paths]
    return found[0] if len(found) == 1 else found


def _arrays(seen: Seen) -> Guess | None:
    """Guess that arrays `images` and `train_images` hold pictures, and those of as many rows their labels."""
    for path in seen.of("array"):
        try:
            members = npz.members(seen.root / path)
        except Unusable:
            continue
        pictures = sorted(name for name, member in members.items() if _holds_pictures(name, path, len(member.shape)))
        if not pictures:
            continue
        count = members[pictures[0]].shape[0]
        beside = [name for name, member in members.items() if name not in pictures and npz.can_be_cells(member, count)]
        image, label = _template(pictures), _chosen([name.rpartition("_")[2] for name in beside], _LABELS)
        notes: list[Keys] = [{"kind": "classes", "value": f"{{row.{label}}}"}] if label else []
        masks = [name for name in members if "mask" in words(name) and len(members[name].shape) > 2]
        if masks and not label:
            notes = [{"kind": "mask", "path": path, "array": masks[0], "label": "structure"}]
        notes = notes or _mask_beside(path, count, seen)
        keys = {"cases": {"match": _match([path]), "rows": {"image": image}}, "annotations": notes}
        return Guess("rows", keys, (f"array {image} holds the pictures, a row each",))
    return None


def _mask_beside(pictures: str, count: int, seen: Seen) -> list[Keys]:
    """Return the annotation of an `.npy` file with a mask, or a channel of masks, for each row."""
    for path in (path for path in seen.of("array") if path.endswith(".npy") and says_mask(path.rpartition("/")[2])):
        try:
            shape = npz.members(seen.root / path)[""].shape
        except Unusable:
            continue
        if path != pictures and len(shape) in (3, 4) and shape[0] == count:
            several = {str(n): f"structure {n}" for n in range(shape[3])} if len(shape) == 4 else None
            more: Keys = {"encoding": "indexed", "labels": several} if several else {"label": "structure"}
            return [{"kind": "mask", "path": path, **more}]
    return []


def _holds_pictures(name: str, path: str, axes: int) -> bool:
    said = words(name or path.rpartition("/")[2].partition(".")[0])
    return axes in (3, 4) and not IMAGE.union(("x",)).isdisjoint(said)


def _template(pictures: Sequence[str]) -> str:
    """Return the template of arrays: `{split}_images`."""
    found = [re.fullmatch(r"([A-Za-z]+)_(\w+)", name) for name in pictures]
    if len(pictures) > 1 and all(found) and len({one[2] for one in found if one}) == 1:
        return f"{{split}}_{found[0][2] if found[0] else ''}"
    return pictures[0] or "images"


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for one in wanted for name in names if name.lower() == one), None)


def _parquet(seen: Seen) -> Guess | None:
    """Guess that Parquet files with bytes in a column hold pictures."""
    taken: dict[tuple[str, ...], list[str]] = {}
    for path in (path for path in seen.of("table") if sheets.form_of(path) == "parquet"):
        try:
            taken.setdefault(parquet_files.described(seen.root / path).every, []).append(path)
        except Unusable:
            continue
    for every, paths in sorted(taken.items(), key=lambda of: -len(of[1])):
        columns = parquet_files.described(seen.root / paths[0]).columns
        held = [column for column in every if column not in columns]
        if not held:
            continue
        image = next((column for column in held if not IMAGE.isdisjoint(words(column))), held[0])
        notes: list[Keys] = []
        objects, label = _chosen(columns, _OBJECTS), _chosen(columns, _LABELS)
        if objects:
            notes.append({"kind": "objects", "value": f"{{row.{objects}}}"})
        if label:
            notes.append({"kind": "classes", "value": f"{{row.{label}}}"})
        keys = {"cases": {"match": _match(paths), "rows": {"image": image}}, "annotations": notes}
        return Guess("rows", keys, (f"column {image!r} holds the pictures, a row each",))
    return None


def _texts(seen: Seen) -> Guess | None:
    """Guess that a table is a set of texts, where nothing else lies in the folder."""
    for path in seen.of("table", "json"):
        try:
            columns = sheets.read(seen.root / path, path).columns
        except UserError:
            continue
        column = _chosen(columns, _TEXTS)
        if column:
            label = _chosen(columns, _LABELS)
            notes: list[Keys] = [{"kind": "classes", "value": f"{{row.{label}}}"}] if label else []
            keys = {"cases": {"match": _match([path]), "rows": {"text": f"{{row.{column}}}"}}, "annotations": notes}
            return Guess("rows", keys, (f"column {column!r} holds the texts, a row each",))
    return None
