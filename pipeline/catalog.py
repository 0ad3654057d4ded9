"""`medgloss list`: the data sets of the catalog, and one of them in full. Needs none of their data."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from pipeline import discovery
from pipeline.records import Origin
from pipeline.strict import read_text
from pipeline.vocabulary import Vocabulary
from sources import preset
from sources.descriptor import AnnotationSpec, Descriptor, layout
from sources.presence import many
from sources.preset import OPEN, Filled

TASKS: Mapping[Origin, str] = {
    "segmentation_3d": "segmentation",
    "segmentation_2d": "segmentation",
    "detection": "detection",
    "video": "phases",
    "classification": "classification",
}
"""What annotations are good for, by what their layout or preset makes of a data set; the richest first."""
HEADER = ("id", "modality", "task", "cases", "licence", "egress", "title")
WIDEST = {"modality": 10, "licence": 15}
LEAST_TITLE = 12
"""With names of up to 20 letters and millions of cases, a line then fits into 110 columns; `list NAME` cuts nothing."""
FOLDER = "sources/catalog"
_NOT_SAID = "–"
_TREE = re.compile(r"```\n(.*?)```", re.DOTALL)


def names() -> list[str]:
    """Return the names of the catalog."""
    return discovery.names(FOLDER, ".yaml")


def entry(name: str) -> Descriptor:
    """Read an entry by name, or a descriptor by path, as far as it is known without its data.

    Raises:
        UserError: Unknown name, or a fault in the file.
    """
    path = discovery.find("source", FOLDER, ".yaml", name)
    return preset.without_data(read_text(path), str(path))


def tasks(descriptor: Descriptor) -> list[str]:
    """Return what a data set's annotations are good for, the richest first."""
    origins = [_origin(spec) for spec in descriptor.specs]
    return list(dict.fromkeys(word for origin, word in TASKS.items() if origin in origins))


def _origin(spec: AnnotationSpec) -> Origin | None:
    said: Origin | None = getattr(spec, "origin", None)
    return said or (None if isinstance(spec, Filled) else layout(spec.kind).ORIGIN)


# ---- list


def overview(entries: Sequence[Descriptor], words: Vocabulary, width: int) -> str:
    """Return a line for each entry, their titles cut to the width."""
    rows = [HEADER, *(_row(descriptor, words) for descriptor in entries)]
    wide = [max(len(row[n]) for row in rows) for n in range(len(HEADER) - 1)]
    room = max(width - sum(wide) - 2 * len(HEADER), LEAST_TITLE)
    lines = []
    for row, doubted in zip(rows, [False, *(bool(one.unverified) for one in entries)], strict=True):
        *cells, title = row
        aligned = [
            cell.rjust(w) if n == 3 else cell.ljust(w) for n, (cell, w) in enumerate(zip(cells, wide, strict=True))
        ]
        lines.append(f"{'?' if doubted else ' '} {'  '.join([*aligned, _cut(title, room)])}")
    if any(one.unverified for one in entries):
        lines.append("? not all of it could be compared with what is published: `medgloss list NAME` says what")
    return "\n".join(lines)


def _row(descriptor: Descriptor, words: Vocabulary) -> tuple[str, ...]:
    first, *more = tasks(descriptor) or [_NOT_SAID]
    size = descriptor.expect.cases
    return (
        descriptor.id,
        _cut(_modality(descriptor, words), WIDEST["modality"]),
        f"{first}, …" if more else first,
        _NOT_SAID if size is None else f"{size:,}",
        _cut("several" if "{" in descriptor.license.name else descriptor.license.name, WIDEST["licence"]),
        descriptor.egress,
        descriptor.title,
    )


def _modality(descriptor: Descriptor, words: Vocabulary) -> str:
    if descriptor.modality == OPEN:
        return _NOT_SAID
    return "several" if "{" in descriptor.modality else words.modality(descriptor.modality, descriptor.id)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


# ---- list NAME


def shown(descriptor: Descriptor, words: Vocabulary, width: int) -> str:
    """Return all that is known of an entry without its data."""
    lines, before = [f"{descriptor.id}: {descriptor.title}"], ""
    for key, text in _facts(descriptor, words):
        wrapped = textwrap.wrap(text, max(width - 14, 40), break_long_words=False, break_on_hyphens=False)
        for line in [text] if key == "folder" else wrapped:  # a tree is no prose
            lines.append(f"{key if key != before else '':<13} {line}".rstrip())
            before = key
    return "\n".join(lines)


def _facts(descriptor: Descriptor, words: Vocabulary) -> Iterator[tuple[str, str]]:
    terms, expect = descriptor.license, descriptor.expect
    seen = [_modality(descriptor, words), descriptor.sub_modality, descriptor.body_part]
    size = [many(n, what) for n, what in ((expect.cases, "case"), (expect.regions, "region")) if n is not None]
    may = [
        "may be redistributed" if terms.redistribute else "not to be redistributed",
        "commercial use allowed" if terms.commercial else "no commercial use",
    ]
    yield "modality", ", ".join(text for text in seen if text and "{" not in text)
    yield "task", ", ".join(tasks(descriptor)) or _NOT_SAID
    yield "size", ", ".join(size) or _NOT_SAID
    yield "licence", f"{terms.name}: {'each picture its own' if terms.each else ', '.join(may)}"
    yield "licence", terms.url or ""
    yield "egress", descriptor.egress
    yield "citation", descriptor.citation or ""
    yield "url", descriptor.url or ""
    yield from (("checked", said) for said in descriptor.checked)
    yield "unverified", descriptor.unverified or ""
    for spec in descriptor.specs:
        for raw in _raw_labels(spec):
            rule = spec.rule(raw)
            meaning = "left out" if rule.drop else " ".join(filter(None, (rule.side, rule.label or raw)))
            yield "labels", f"{raw}: {meaning}"
    yield from (("folder", line) for line in _folder(descriptor))


def _raw_labels(spec: AnnotationSpec) -> Iterator[str]:
    """Yield the raw labels that an annotation names, wherever it does: each once."""
    named = [raw for key in ("labels", "columns", "present", "unions") for raw in getattr(spec, key, ())]
    label = None if spec.kind == "intervals" else getattr(spec, "label", None)  # of intervals it is a column
    yield from dict.fromkeys([*named, *([label] if label and "{" not in label else [])])


def _folder(descriptor: Descriptor) -> Iterator[str]:
    """Yield the files that are looked for; of a preset that finds them itself, the tree that it knows."""
    yield f"{descriptor.id if descriptor.root == '.' else descriptor.root}/ (below --data)"
    files = [("cases", match) for match in descriptor.cases.match if match != OPEN]
    files += [(f"table {name}", table.path) for name, table in descriptor.tables.items()]
    for spec in descriptor.specs:
        named = None if isinstance(spec, Filled) else getattr(layout(spec.kind), "shared_files", None)
        paths = [getattr(spec, "path", None), *(named(spec) if named else ())]
        files += [(spec.kind, path) for path in paths if path]
    widest = max((len(path) for _, path in files), default=0)
    yield from (f"  {path:<{widest}}  {what}" for what, path in files)
    if descriptor.preset and OPEN in descriptor.cases.match:
        module = discovery.module("preset", "sources.presets", descriptor.preset)
        yield f"  what preset {descriptor.preset} reads, for example:"
        yield from (f"    {line}" for tree in _TREE.findall(module.__doc__ or "") for line in tree.splitlines())
