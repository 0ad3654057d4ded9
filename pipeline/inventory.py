"""`medgloss list --missing`: which data sets lie in a folder, and which of their files do not. Opens no picture."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pipeline import catalog, discovery
from pipeline.errors import UserError
from pipeline.plan import root_of
from pipeline.settings import Settings
from pipeline.strict import read_text
from sources import listing, presence, preset, templates
from sources.descriptor import Descriptor, parse
from sources.presence import many

Status = Literal["present", "partly", "broken", "absent"]
MOST_SAID = 300
"""Letters of a message; some list every name that a file has."""
Walk = Callable[[Path], templates.Paths]


class State(NamedTuple):
    """What became of looking for a data set."""

    name: str
    status: Status
    said: str
    absent: tuple[str, ...] = ()


def missing(data: Path, wanted: Sequence[str] = ()) -> str:
    """Return which data sets lie in a folder, and which of their files do not.

    Args:
        data: Holds a folder for each set, as `--data`.
        wanted: Names or paths of descriptors; empty: the catalog, of which absent sets are only counted.

    Raises:
        UserError: There is no such folder, or no such name.
    """
    if not data.is_dir():
        raise UserError(f"{data}: no such folder; name the one that holds the data sets' folders")
    walk = functools.cache(listing.walk)  # several sets may lie in one folder
    states = [_state(name, data, walk) for name in wanted or catalog.names()]
    told = [one for one in states if wanted or one.status != "absent"]
    wide = max((len(one.name) for one in told), default=0)
    lines = []
    for one in told:
        lines += [f"{one.name:<{wide}}  {one.status:<7}  {one.said}", *(f"  {line}" for line in one.absent)]
    if not wanted:
        counts = [f"{sum(one.status == status for one in states)} {status}" for status in get_args(Status)]
        lines.append(f"{', '.join(counts)}; `medgloss list NAME` shows the folder that is looked for")
    return "\n".join(lines)


def _state(name: str, data: Path, walk: Walk) -> State:
    path = discovery.find("source", catalog.FOLDER, ".yaml", name)  # an unknown name is a mistake of the command
    try:
        known = catalog.entry(name)
        root = root_of(known.id, known.root, path.parent, Settings(sources=(), data=str(data)))
        if not root.is_dir():
            return _absent(known, data)
        descriptor = parse(preset.expanded(read_text(path), str(path), lambda *_: root), str(path))
        found = presence.look(descriptor, root, walk(root))
    except UserError as error:
        return State(path.stem, "broken", _one_line(str(error)))
    except OSError as error:
        return State(path.stem, "broken", f"{error.filename}: {error.strerror}")
    published = descriptor.expect.cases
    said = many(found.cases, "case") if published is None else f"{found.cases:,} of {many(published, 'case')}"
    more = f", {found.cases - published:,} more than published" if published and found.cases > published else ""
    return State(known.id, "partly" if found.absent else "present", said + more, found.absent)


def _one_line(text: str) -> str:
    """Make a message fit to be printed: it may quote a damaged file, control characters and all."""
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    return shown if len(shown) <= MOST_SAID else f"{shown[:MOST_SAID]}…"


def _absent(known: Descriptor, data: Path) -> State:
    """Tell a set without a folder.

    Raises:
        UserError: There is something, and it is none.
    """
    folders = dict.fromkeys(data / name for name in (known.root, known.id) if name != ".")
    for folder in folders:
        if folder.exists():
            raise UserError(f"{folder}: should be a folder, is a file")
    return State(known.id, "absent", f"no {' and no '.join(map(str, folders))}")
