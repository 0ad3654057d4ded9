"""How much of a data set lies in its folder: the cases that have a picture, and what is not there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.records import Case
from sources import cases as source_cases
from sources import joins, listing, rows, templates
from sources.descriptor import AnnotationSpec, Descriptor, layout

EXAMPLES = 3


class Presence(NamedTuple):
    """What a folder holds of a data set."""

    cases: int
    """With a picture."""
    absent: tuple[str, ...]
    """What is not there, a line each: how often, and a few examples."""


def look(descriptor: Descriptor, root: Path, paths: templates.Paths) -> Presence:
    """Compare what a descriptor speaks of with the files of a folder.

    Args:
        descriptor: The data set.
        root: Its folder.
        paths: What lies in it, as `listing.walk` lists it.

    Raises:
        UserError: Tables and annotations are there, and the descriptor does not fit them.
    """
    lines = [*_needed(descriptor, root, paths)]
    if lines:  # without them there is no plan, but pictures can be counted
        cases = _listed(descriptor, root, paths) if any(listing.matching(descriptor.cases, paths)) else 0
        of_cases: list[str] = []
    else:
        planned = source_cases.plan(descriptor, root, paths).cases
        whole = [case for case in planned if case.files.get("image") and not _damaged(descriptor, case)]
        cases = len(whole)
        of_cases = [*_without_picture(descriptor, planned), *_without_channel(descriptor, whole)]
        of_cases += _without_annotation(descriptor, paths, whole)
    lines += [*_unmatched_annotations(descriptor, paths), *of_cases]
    published = descriptor.expect.cases
    if published is not None and cases < published:
        lines += [f"{many(published - cases, 'case')} short of the published {published:,}"]
        lines += _unmatched_cases(descriptor, paths) if cases else ()
    return Presence(cases, tuple(lines))


def many(count: int, what: str) -> str:
    """Return a number with its noun.

    >>> many(1228, "case"), many(1, "case")
    ('1,228 cases', '1 case')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# ---- files that all cases need


def _needed(descriptor: Descriptor, root: Path, paths: templates.Paths) -> Iterator[str]:
    for name, table in descriptor.tables.items():
        if not (root / table.path).is_file():
            yield f"table {name}: {table.path} is not there"
    for spec in descriptor.specs:
        named = getattr(layout(spec.kind), "shared_files", None)
        for file in named(spec) if named else ():
            if not (root / file).is_file():
                yield f"{spec.kind}: {file} is not there"
        if _is_shared(spec) and not _fits(_path(spec), paths):
            yield f"{spec.kind}: no file fits {_path(spec)}"
    if not any(listing.matching(descriptor.cases, paths)):
        yield f"cases: no file fits {' or '.join(descriptor.cases.match)}"


def _listed(descriptor: Descriptor, root: Path, paths: templates.Paths) -> int:
    if not descriptor.cases.rows:
        return len(listing.files(descriptor, paths).cases)
    found = rows.listed(descriptor, paths, root, joins.used_by(descriptor)).cases.values()
    return sum(case.row is not None for case in found)


def _unmatched_cases(descriptor: Descriptor, paths: templates.Paths) -> Iterator[str]:
    """Name the templates that fit nothing, where several say what is read: a part that was not fetched, most often."""
    return (f"cases: no file fits {match}" for match in descriptor.cases.match if not _fits(match, paths))


def _unmatched_annotations(descriptor: Descriptor, paths: templates.Paths) -> Iterator[str]:
    for spec in descriptor.specs:
        if source_cases.is_per_case(spec) and not _fits(_path(spec), paths):
            yield f"{spec.kind}: no file fits {_path(spec)}"


def _path(spec: AnnotationSpec) -> str:
    path: str = getattr(spec, "path", None) or ""
    return path


def _is_shared(spec: AnnotationSpec) -> bool:
    return hasattr(layout(spec.kind), "index")


def _fits(template: str, paths: templates.Paths) -> bool:
    for name in ("path", "folder"):  # what a case knows of itself, and no name of a single folder
        template = template.replace(f"{{{name}}}", f"{{{name}:.+}}")
    return any(True for _ in templates.find(template, paths, {}))


# ---- files of single cases


def _damaged(descriptor: Descriptor, case: Case) -> bool:
    """Tell the file whose rows can not be listed: it stands for cases that nobody knows the number of."""
    return descriptor.cases.rows is not None and case.row is None


def _without_picture(descriptor: Descriptor, cases: Sequence[Case]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for case in cases:
        if case.problem and case.problem[0] == "missing_image":
            found.setdefault(case.problem[1].replace(", but there is no picture", ""), []).append(case.id)
        elif case.problem and _damaged(descriptor, case):
            yield f"{case.files['image'][0]} can not be read: {case.problem[1].removeprefix('its rows: ')}"
    for why, ids in sorted(found.items()):
        yield f"{many(len(ids), 'case')} without a picture, {_examples(ids)}: {why}"


def _without_channel(descriptor: Descriptor, cases: Sequence[Case]) -> Iterator[str]:
    named = dict.fromkeys(descriptor.channels.files.values()) if descriptor.channels else {}
    for channel in named:
        ids = [case.id for case in cases if channel not in case.channels]
        if ids:
            yield f"{many(len(ids), 'case')} without the channel {channel}, {_examples(ids)}"


def _without_annotation(descriptor: Descriptor, paths: templates.Paths, cases: Sequence[Case]) -> Iterator[str]:
    """Count the cases whose annotation is a file that is not there, where the descriptor does not allow for it."""
    filed = [
        (str(n), spec)
        for n, spec in enumerate(descriptor.specs)
        if _is_shared(spec) or (source_cases.is_per_case(spec) and _fits(_path(spec), paths))
    ]
    groups = [[one] for one in filed if _is_required(one[1])]
    if not groups and len(filed) == len(descriptor.specs) and not _may_lack(descriptor):
        groups = [filed]  # any of them may speak of a case
    for group in groups:
        ids = [case.id for case in cases if not any(_has(case, number, spec, paths) for number, spec in group)]
        if ids:
            wanted = " or ".join(dict.fromkeys(_path(spec) for _, spec in group))
            yield f"{many(len(ids), 'case')} without a file of {wanted}, {_examples(ids)}"


def _has(case: Case, number: str, spec: AnnotationSpec, paths: templates.Paths) -> bool:
    if _is_shared(spec):
        return templates.fill(_path(spec), case.captures) in paths
    return bool(case.files.get(number))


def _is_required(spec: AnnotationSpec) -> bool:
    """Tell the kinds that leave a case out, `missing_mask`, where its file is not there."""
    return getattr(spec, "optional", None) is False or getattr(spec, "missing", None) == "reject"


def _may_lack(descriptor: Descriptor) -> bool:
    if descriptor.cases.unlabelled == "keep" or not descriptor.specs:
        return True
    said = {getattr(spec, key, None) for spec in descriptor.specs for key in ("missing", "no_file", "optional")}
    return not said.isdisjoint({"negative", True})


def _examples(ids: Sequence[str]) -> str:
    return f"e.g. {', '.join(sorted(ids)[:EXAMPLES])}"
