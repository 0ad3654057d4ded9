"""What lies in a folder, by the ends of names: nothing is opened but files without a suffix, for four letters."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.propose.words import JUNK, words
from sources import listing, trees
from sources.templates import Paths

FORMS: Mapping[str, tuple[str, ...]] = {
    "volume": listing.SUFFIXES["volume"],
    "series": (*listing.SUFFIXES["series"], ".seg"),
    "video": listing.SUFFIXES["video"],
    "picture": tuple(f".{suffix}" for suffix in trees.SUFFIXES),
    "array": (".npz", ".npy"),
    "table": (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl", ".ndjson", ".xlsx", ".parquet", ".pq"),
    "json": (".json",),
    "xml": (".xml",),
    "text": (".txt",),
}
"""What a file may be, by the end of its name in lower case; the first that fits counts."""
DATA = ("picture", "volume", "series", "video", "array")
"""Forms of which cases are made; a table may be cases too."""
_PREAMBLE = 128


class Seen(NamedTuple):
    """A folder's files."""

    root: Path
    paths: Paths
    """Relative, sorted; those whose names are in no encoding are left out."""
    forms: Mapping[str, tuple[str, ...]]
    """Form to paths, each path once; what is of no form is left out."""

    def of(self, *forms: str) -> list[str]:
        """Return the files of some forms, sorted."""
        return sorted(path for form in forms for path in self.forms.get(form, ()))

    def below(self, folder: str) -> "Seen":
        """Return what lies in a folder of it; `""` is itself."""
        if not folder:
            return self
        start = len(folder) + 1
        inside = [path[start:] for path in self.paths if path.startswith(f"{folder}/")]
        forms = {
            form: tuple(path[start:] for path in paths if path.startswith(f"{folder}/"))
            for form, paths in self.forms.items()
        }
        return Seen(self.root / folder, Paths(inside), forms)


def look(root: Path) -> Seen:
    """List a folder.

    Raises:
        UserError: No such folder, or its name can not be written.
    """
    if not _is_text(str(root.resolve())):
        raise UserError(f"{root}: the name of the folder is in no encoding; rename it")
    paths = [path for path in listing.walk(root) if path.isprintable() and _is_text(path)]
    forms: dict[str, list[str]] = {}
    nameless: dict[str, list[str]] = {}
    for path in paths:
        form = form_of(path)
        if form:
            forms.setdefault(form, []).append(path)
        elif not listing.built_in(path)["suffix"]:
            nameless.setdefault(path.rpartition("/")[0], []).append(path)
    for alike in nameless.values():
        if len(alike) > 1 and _is_dicom(root / alike[0]) and _is_dicom(root / alike[-1]):
            forms.setdefault("series", []).extend(alike)
    return Seen(root, Paths(paths), {form: tuple(sorted(found)) for form, found in forms.items()})


def form_of(path: str) -> str | None:
    """Return what a file may be by its name.

    >>> form_of("a/CT.NII.GZ"), form_of("labels.csv"), form_of("README.md")
    ('volume', 'table', None)
    """
    name = path.lower()
    return next((form for form, suffixes in FORMS.items() if name.endswith(suffixes)), None)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def without_junk(paths: Sequence[str]) -> list[str]:
    """Leave out pictures that are about a data set: in `docs/` or `screenshots/`, where others lie elsewhere."""
    kept = [path for path in paths if not any(JUNK.issuperset(words(part) or ["x"]) for part in path.split("/")[:-1])]
    return kept or list(paths)


def suffixes(paths: Iterable[str]) -> list[tuple[str, int, str]]:
    """Return each suffix, how many files have it, and the first of them; the most frequent first."""
    counts, first = Counter[str](), dict[str, str]()
    for path in paths:
        suffix = listing.built_in(path)["suffix"].lower() or "without a suffix"
        counts[suffix] += 1
        first.setdefault(suffix, path)
    return [(suffix, count, first[suffix]) for suffix, count in sorted(counts.items(), key=lambda of: (-of[1], of[0]))]
