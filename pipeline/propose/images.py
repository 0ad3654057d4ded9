"""Cases that are files, and the masks that lie beside them: pictures, volumes, videos."""

from collections.abc import Iterator, Sequence

from pipeline.propose import files as case_files
from pipeline.propose import masks, pairs, patterns, siblings
from pipeline.propose.files import Base, Files, Part
from pipeline.propose.folder import Seen, without_junk
from pipeline.propose.levels import by_depth
from pipeline.propose.pairs import Pair
from pipeline.propose.siblings import Siblings
from pipeline.vocabulary import Vocabulary


def bases(seen: Seen, vocabulary: Vocabulary) -> Iterator[Base]:
    """Yield what a folder may be whose pictures, videos or volumes are cases."""
    flat, volumes = without_junk(seen.of("picture", "video")), seen.of("volume")
    if flat:
        yield _pictures(flat, seen, vocabulary)
    if volumes:
        yield _volumes(volumes, seen, vocabulary)


def _pictures(paths: Sequence[str], seen: Seen, vocabulary: Vocabulary) -> Base:
    """Return pictures and their masks; where nothing pairs up, all are pictures, and videos too."""
    moving = set(seen.of("video"))
    plain, maybe = pairs.apart(paths)
    plain = [path for path in plain if path not in moving]
    if plain and maybe:
        names, found = pairs.paired(plain, maybe)
        if 2 * len(found) >= len(maybe):
            files = case_files.described(plain, names, vocabulary)
            parts = masks.annotations(files, found, seen, vocabulary, flat=True)
            if parts:
                return Base(files, {"cases": case_files.cases(files, _exclude(files, files.paths, parts, seen))}, parts)
    files = case_files.described(paths, case_files.whole(paths), vocabulary)
    files = case_files.with_class_in_names(files, vocabulary)
    return Base(files, {"cases": case_files.cases(files)})


def _exclude(files: Files, wanted: Sequence[str], parts: Sequence[Part], seen: Seen) -> list[str]:
    """Return the templates of masks that the templates of cases would take as well."""
    stray = set(case_files.strays(files.match, wanted, seen.paths))
    return [str(part.keys["path"]) for part in parts if not stray.isdisjoint(part.others)]


def _volumes(paths: Sequence[str], seen: Seen, vocabulary: Vocabulary) -> Base:
    plain, maybe = pairs.apart(paths)
    if not plain:  # label maps alone are all that there is to show
        plain, maybe = list(paths), []
    several = siblings.found(plain)
    if several:
        return _with_channels(several, maybe, seen, vocabulary)
    names, found = pairs.paired(plain, maybe)
    files = case_files.described(plain, names if found else case_files.whole(plain), vocabulary, "case")
    parts = masks.annotations(files, found, seen, vocabulary, flat=False)
    keys = {"cases": case_files.cases(files, _exclude(files, files.paths, parts, seen), named=True)}
    return Base(files, keys, parts, deep=True)


def _with_channels(several: Siblings, maybe: Sequence[str], seen: Seen, vocabulary: Vocabulary) -> Base:
    """Return cases of several volumes each."""
    first = by_depth(sorted(several.names))[0]
    named = {path: several.names[path] for path in first}
    found: list[Pair] = pairs.of_names(named, maybe)
    files = case_files.described(first, named, vocabulary, "case")
    every = [path for one in first for path in several.paths[one]]
    bodies = [several.names[path].key for path in first]
    same = patterns.explained(bodies, files.levels.columns(first)) if len(first) > 1 else None
    key = "" if same is not None else case_files.own("case", files.levels)
    start = f"{{{key}}}" if same is None else same
    file = f"{start}{several.before}{patterns.one_of('channel', several.channels)}{patterns.ending(every)}"
    files = files._replace(key=key, match=(files.levels.template + file,))
    parts = masks.annotations(files, found, seen, vocabulary, flat=False)
    keys = {
        "cases": case_files.cases(files, _exclude(files, every, parts, seen), named=True),
        "channels": {"files": {name: name for name in several.channels}},
    }
    return Base(files, keys, tuple(parts), ("volumes beside each other are channels of one body, on one grid",), True)
