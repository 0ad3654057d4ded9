"""Which files of a folder are cases: what their paths capture, and which of them are one case."""

import bisect
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from sources import templates
from sources.descriptor import Cases, Channels, Descriptor

SUFFIXES = {
    "volume": (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"),
    "series": (".dcm", ".dicom", ".ima"),
    "video": (".mp4", ".avi", ".mov", ".mpeg", ".mpg", ".mkv", ".wmv", ".m4v", ".webm", ".gif"),
}
"""How a case is read, by the end of its file's name in lower case; everything else is a picture."""
_UNSAFE = re.compile(r"[^\w.()+/-]")


class Found(NamedTuple):
    """A case before anything is joined to it."""

    id: str
    files: tuple[str, ...]
    captures: dict[str, str]
    channels: tuple[str, ...] = ()
    row: int | None = None
    problem: tuple[str, str] | None = None


class Listed(NamedTuple):
    """The cases of a source, by id."""

    cases: Mapping[str, Found]
    names: frozenset[str]
    """What their captures may be called."""


JUNK = ("Thumbs.db", "desktop.ini", "ehthumbs.db", "lost+found")
"""What systems leave in folders of pictures."""


def walk(root: Path) -> templates.Paths:
    """List the files below a folder, relative, sorted, without hidden ones, macOS's `._` shadows and other junk.

    Raises:
        UserError: No such folder, or one below it that may not be listed.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; say where the data is with --data or --root")
    found, folders = list[str](), [""]
    while folders:
        below = folders.pop()
        try:
            with os.scandir(root / below) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name in JUNK:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{below}{entry.name}/")
                    elif _is_listed(entry):
                        found.append(below + entry.name)
        except OSError as error:
            raise UserError(f"{root / below}: {error.strerror}; what lies in it would be missing") from None
    return templates.Paths(sorted(found))


def _is_listed(entry: os.DirEntry[str]) -> bool:
    """Files, and links that lead nowhere: those are cases that can not be read. No pipes, no links to folders."""
    return not Path(entry.path).is_dir() if entry.is_symlink() else entry.is_file()


def safe(text: str) -> str:
    """Make a text safe in a path and an id; letters of every script stay.

    >>> safe("Viral pneumonia/file 3#a")
    'Viral_pneumonia/file_3_a'
    """
    cleaned = _UNSAFE.sub("_", text)
    return "/".join(part if part.strip(".") else "_" for part in cleaned.split("/"))


def form_of_file(path: str) -> str:
    """Return how a file is read by its suffix: volume, series, video or picture.

    >>> form_of_file("s01/CT.NII.GZ"), form_of_file("scan.IMA"), form_of_file("a.tif")
    ('volume', 'series', 'picture')
    """
    name = path.lower()
    return next((form for form, suffixes in SUFFIXES.items() if name.endswith(suffixes)), "picture")


def built_in(path: str) -> dict[str, str]:
    """Return the captures that every path has.

    >>> built_in("p1/ct.nii.gz")
    {'path': 'p1/ct.nii.gz', 'name': 'ct.nii.gz', 'stem': 'ct', 'suffix': '.nii.gz', 'folder': 'p1'}
    """
    folder, _, name = path.rpartition("/")
    plain = name[:-3] if name.lower().endswith(".gz") else name
    stem, _, last = plain.rpartition(".")
    if not stem or not last or last.isdigit():  # 1.2.840.7 is an identifier, whose last number is no suffix
        stem = plain
    suffix = name[len(stem) :]
    return {"path": path, "name": name, "stem": stem, "suffix": sys.intern(suffix), "folder": sys.intern(folder)}


def matching(spec: Cases, paths: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the files that are to be read, and what their paths capture."""
    for path in paths:
        if any(templates.match(template, path) is not None for template in spec.exclude):
            continue
        for template in spec.match:
            found = templates.match(template, path)
            if found is not None:
                yield path, {**built_in(path), **found}
                break


def excluded(descriptor: Descriptor, paths: Sequence[str]) -> set[str]:
    """Return the files that the descriptor says are no pictures, or no annotations."""
    said = [*descriptor.cases.exclude, *(one for spec in descriptor.specs for one in getattr(spec, "exclude", ()))]
    return {path for path in paths if any(templates.match(one, path) is not None for one in said)} if said else set()


HEADERS, VOXELS = (".mhd", ".nhdr"), (".raw", ".zraw", ".raw.gz", ".img", ".img.gz", ".gz")
"""Suffixes of headers, and of the file beside one that holds its voxels."""


def companions(headers: Iterable[str], paths: Sequence[str]) -> tuple[str, ...]:
    """Return the files with the voxels of detached headers: a case changes when they do."""
    stems = [path.rpartition(".")[0] for path in headers if path.lower().endswith(HEADERS)]
    named = (stem + suffix for stem in stems for suffix in VOXELS)
    return tuple(name for name in named if (at := bisect.bisect_left(paths, name)) < len(paths) and paths[at] == name)


def files(descriptor: Descriptor, paths: Sequence[str]) -> Listed:
    """Group the files that are to be read by case; the captures are those of a case's first file.

    Raises:
        UserError: Two files of one id that can not be one case, or channels that can not be told apart.
    """
    spec, channels = descriptor.cases, descriptor.channels
    names = {*templates.BUILT_IN, *(name for match in spec.match for name in templates.captures_of(match))}
    order = _channel_order(spec, channels) if channels and channels.files else {}
    of_case: dict[str, list[tuple[int, str]]] = {}
    captures: dict[str, tuple[int, dict[str, str]]] = {}
    for path, found in matching(spec, paths):
        place = order.get(found.pop("channel", "")) if order else 0
        if place is None:  # not a channel: a mask, most often
            continue
        case_id = safe(templates.fill(spec.id, found) if spec.id else path.removesuffix(found["suffix"]))
        of_case.setdefault(case_id, []).append((place, path))
        if case_id not in captures or place < captures[case_id][0]:
            captures[case_id] = place, found
    cases = {
        case_id: _case(case_id, sorted(listed), captures[case_id][1], spec, channels)
        for case_id, listed in of_case.items()
    }
    return Listed(cases, frozenset(names - {"channel"} if order else names))


def _channel_order(spec: Cases, channels: Channels) -> dict[str, int]:
    """Return the place of what `{channel}` captures, in the descriptor's order."""
    if any("channel" not in templates.captures_of(match) for match in spec.match):
        raise UserError("channels.files: cases.match should capture {channel}")
    if spec.id is None or "channel" in templates.captures_of(spec.id):
        raise UserError("channels.files: cases.id should name what the files of one body share, without {channel}")
    named = list(dict.fromkeys(channels.files.values()))
    return {captured: named.index(name) for captured, name in channels.files.items()}


def _case(
    case_id: str, listed: list[tuple[int, str]], captures: dict[str, str], spec: Cases, channels: Channels | None
) -> Found:
    paths = tuple(path for _, path in listed)
    named = list(dict.fromkeys(channels.files.values())) if channels else []
    if len(paths) > 1 and (spec.form or form_of_file(paths[0])) != "series":
        for (place, one), (following, other) in itertools.pairwise(listed):
            if place == following:
                of = f" of channel {named[place]}" if named else ""
                raise UserError(
                    f"case {case_id!r} has {len(paths)} files{of} ({one}, {other}); add a capture to cases.id, or say "
                    "form: series"
                )
    return Found(case_id, paths, captures, tuple(named[place] for place, _ in listed) if named else ())
