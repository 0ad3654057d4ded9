"""`medgloss check`: read some of a source's cases and tell its curator what was understood and what was not.

Names no absolute path, and no file or table key of a source that hashes its ids: the text may be sent to a colleague.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from pipeline import pictures, plan
from pipeline.defects import Scan
from pipeline.errors import UserError
from pipeline.generate.facts import name_of
from pipeline.ingest.reading import Read
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.plan import SourcePlan
from pipeline.records import Box, Case, Level, Record, Region
from pipeline.settings import Settings
from pipeline.store import Store
from pipeline.vocabulary import Vocabulary, normalise
from pipeline.vocabulary import load as load_vocabulary
from sources import tables
from sources.templates import fill

TILES = 12
"""Pictures on a contact sheet."""
TILE = 384
"""Side of a tile in px."""
MOST_NAMES = 10
"""Lines of a list before the rest is only counted."""
_SHORT = 14
_CROWDED = 8
_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}(\.gz)?$")
"""Not the last arc of a UID, which ends many a DICOM file's name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found."""

    text: str
    ok: bool
    """False: no case can be read, or a count is not the expected one."""


class Example(NamedTuple):
    """The first row of its reason."""

    id: str
    detail: str


@dataclass(slots=True)
class Seen:
    """What the cases that were read came to."""

    cases: int = 0
    """That gave a record."""
    records: int = 0
    regions: int = 0
    pictures_cut: int = 0
    pictures_not_selected: int = 0
    regions_found: int = 0
    left_out: Counter[tuple[Level, str]] = field(default_factory=Counter)
    examples: dict[tuple[Level, str], Example] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    sides: Counter[tuple[str, str]] = field(default_factory=Counter)
    small: Counter[str] = field(default_factory=Counter)
    """Labels of masks that are below the limits."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Raw labels that are not in the vocabulary."""
    geometry: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)

    def add(self, read: Read) -> None:
        """Count one case."""
        self.cases += bool(read.records)
        self.records += len(read.records)
        self.pictures_cut += read.tally.pictures_cut
        self.pictures_not_selected += read.tally.pictures_not_selected
        self.regions_found += read.tally.regions_found
        for row in read.rejected:
            self.left_out[row.level, row.reason] += 1
            self.examples.setdefault((row.level, row.reason), Example(row.id, row.detail))
            if (row.level, row.reason) == ("region", "too_small") and ": " in row.detail:
                self.small[row.detail.partition(": ")[0]] += 1
        for record in read.records:
            self._add(record)

    def _add(self, record: Record) -> None:
        self.regions += len(record.regions)
        for region in record.regions:
            if region.label is None:
                self.unknown[region.raw] += 1
            else:
                self.labels[region.label] += 1
                self.sides[region.label, region.side or "none"] += 1
        picture = record.picture
        if picture:
            self.sizes.add((picture.width, picture.height))
            self.windows[picture.window or "as stored"] += 1
            self.geometry.update([f"geometry {picture.geometry}", f"plane {picture.plane}", *picture.flags])


def check(name: str, settings: Settings, out: Path | None, limit: int = 200) -> Checked:
    """Read up to `limit` cases of a source, evenly spread, and tell what became of them.

    Args:
        name: Catalog name or path of a descriptor.
        settings: Says where the data is.
        out: File for the contact sheet (PNG); None: no sheet.
        limit: Cases to read; those that the plan knows to be unreadable are counted always.

    Raises:
        UserError: A fault in the descriptor, its data is not there, or `out` can not be written.
    """
    vocabulary = load_vocabulary()
    found = plan.open_source(name, settings, vocabulary)
    source = Source(found.descriptor, found.root, vocabulary)
    readable = [case for case in found.cases.cases if case.problem is None]
    chosen = spread(readable, limit)
    seen, scan, sheet = Seen(), Scan(), list[tuple[str, pictures.Pixels]]()
    for case in found.cases.cases:
        if case.problem:
            seen.add(read_case(case, source))
    for n, case in enumerate(chosen, 1):
        read = read_case(case, source)
        seen.add(read)
        scan.add(case, read)
        # the sheet fills as the cases go by, and catches up after cases that give nothing
        wanted = -(-TILES * n // len(chosen)) - len(sheet) if out else 0
        sheet += [_tile(record, vocabulary) for record in spread(read.records, wanted) if record.picture]
    if out:
        write_file(out, pictures.contact_sheet(sheet, side=TILE))
    counts = _counts(found, seen, complete=len(chosen) == len(readable))
    lines = [
        *_facts(found, vocabulary),
        *(f"{count.name:<13} {count.text}" for count in counts),
        *_groups(readable),
        f"{'read':<13} {len(chosen)} of {len(readable)} cases{_partly(chosen, readable)}",
        *_left_out("can not be read", seen, ("case",)),
        *_pictures(seen),
        *_left_out("rejected", seen, ("record", "region")),
        *_small(seen),
        *_labels(seen, vocabulary),
        *_unseen(source, seen),
        *_odd(scan),
        *_tables(found),
        *_unclaimed(found),
    ]
    return Checked("\n".join(lines), seen.cases > 0 and not any(count.differs for count in counts))


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many items, evenly spread, the same in every run.

    >>> spread("abcdefghi", 3)
    ['b', 'e', 'h']
    """
    if len(items) <= most:
        return list(items)
    return [items[(2 * n + 1) * len(items) // (2 * most)] for n in range(most)]


def write_file(path: Path, data: bytes) -> None:
    """Write a file that the user asked for, whole or not at all.

    Raises:
        UserError: It can not be written.
    """
    try:
        Store(str(path.parent)).write(path.name, data)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or type(error).__name__}") from None


# ---- text


def _facts(found: SourcePlan, vocabulary: Vocabulary) -> list[str]:
    descriptor = found.descriptor
    each = "{" in descriptor.modality
    key = "each picture its own" if each else vocabulary.modality(descriptor.modality, descriptor.id)
    modality = key if each else vocabulary.term("modalities", key, "en")
    allowed = descriptor.license
    may = [
        "may be redistributed" if allowed.redistribute else "not to be redistributed",
        "commercial use allowed" if allowed.commercial else "no commercial use",
    ]
    return [
        f"{descriptor.id}: {descriptor.title}",
        f"{'modality':<13} {', '.join(filter(None, (modality, descriptor.sub_modality, descriptor.body_part)))}",
        f"{'licence':<13} {allowed.name}: {', '.join(may)}",
        f"{'egress':<13} {descriptor.egress}",
    ]


def _partly(chosen: Sequence[Case], readable: Sequence[Case]) -> str:
    return ", evenly spread; what follows is of these" if len(chosen) < len(readable) else ""


class Count(NamedTuple):
    """A count beside what it should be."""

    name: str
    text: str
    differs: bool


def _counts(found: SourcePlan, seen: Seen, complete: bool) -> list[Count]:
    """Compare cases that have a picture, and regions as the annotation has them, with what is expected."""
    expect, cases = found.descriptor.expect, found.cases.cases
    pictured = sum(bool(case.files.get("image")) for case in cases)
    counts = [_compared("cases", f"{len(cases)} listed, {pictured} with a picture", pictured, expect.cases)]
    if complete or expect.regions is None:
        return [*counts, _compared("regions", f"{seen.regions_found} found", seen.regions_found, expect.regions)]
    text = f"{seen.regions_found} found; expected {expect.regions}: not compared, not all cases were read"
    return [*counts, Count("regions", text, False)]


def _compared(name: str, text: str, value: int, expected: int | None) -> Count:
    if expected is None:
        return Count(name, text, False)
    return Count(name, f"{text}; expected {expected}: {'ok' if value == expected else 'differs'}", value != expected)


def _groups(cases: Sequence[Case]) -> Iterator[str]:
    sizes = Counter(case.group for case in cases)
    if sizes:
        largest, size = min(sizes.items(), key=lambda item: (-item[1], item[0]))
        yield f"{'groups':<13} {len(sizes)}; the largest, {largest}, has {_many(size, 'case')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _left_out(title: str, seen: Seen, levels: tuple[Level, ...]) -> Iterator[str]:
    rows = sorted((levels.index(level), -count, reason) for (level, reason), count in seen.left_out.items()
                  if level in levels)  # fmt: skip
    if rows:
        yield f"{title}:"
    for at, count, reason in rows:
        example = seen.examples[levels[at], reason]
        yield f"  {-count:>6} {levels[at]:<6} {reason}, e.g. {example.id}: {example.detail}"


def _pictures(seen: Seen) -> Iterator[str]:
    yield f"{'pictures':<13} {seen.pictures_cut} cut, {seen.pictures_not_selected} not selected, {seen.records} kept"
    yield f"{'regions kept':<13} {seen.regions} of {seen.regions_found}"
    if not seen.sizes:
        return
    small, large = (most(seen.sizes, key=lambda size: (size[0] * size[1], size)) for most in (min, max))
    yield f"{'sizes':<13} {small[0]}x{small[1]} to {large[0]}x{large[1]} px"
    yield f"{'windows':<13} {_listed(seen.windows)}"
    yield f"{'geometry':<13} {_listed(seen.geometry)}"


def _listed(counts: Counter[str]) -> str:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f", and {len(rows) - MOST_NAMES} more" if len(rows) > MOST_NAMES else ""
    return ", ".join(f"{name} ({count})" for name, count in rows[:MOST_NAMES]) + more


def _small(seen: Seen) -> Iterator[str]:
    """Tell what the limits cost each label: small lesions are what a set may be about."""
    if seen.small:
        yield f"{'too small':<13} {_listed(seen.small)}"


def _labels(seen: Seen, vocabulary: Vocabulary) -> Iterator[str]:
    yield f"labels: {len(seen.labels)} in the vocabulary, {len(seen.unknown)} not"
    for label, count in sorted(seen.labels.items(), key=lambda item: (-item[1], item[0])):
        sides = [f"{side} {seen.sides[label, side]}" for side in ("left", "right") if seen.sides[label, side]]
        told = f" ({', '.join(sides)})" if sides else ""
        yield f"  {count:>6} {vocabulary.name(label, label, 'en')}{told}"
    names = _names(vocabulary)
    for raw, count in sorted(seen.unknown.items(), key=lambda item: (-item[1], item[0])):
        near = difflib.get_close_matches(normalise(raw), names, n=1, cutoff=0.6)
        hint = f"; near {names[near[0]]!r}" if near else ""
        yield f"  {count:>6} {raw!r} is not in the vocabulary{hint}"


def _unseen(source: Source, seen: Seen) -> Iterator[str]:
    """Name the labels that the descriptor lists and no picture that was read has."""
    wanted = [
        spec.rule(raw).label or raw
        for spec in source.descriptor.specs
        for raw in spec.labels
        if not spec.rule(raw).drop
    ]
    present = {*seen.labels, *seen.unknown}
    unseen = [
        name for name in dict.fromkeys(wanted) if (source.vocabulary.meaning(name).concept or name) not in present
    ]
    if unseen:
        more = f", and {len(unseen) - MOST_NAMES} more" if len(unseen) > MOST_NAMES else ""
        yield f"  {len(unseen):>6} of the descriptor's labels on no picture: {', '.join(unseen[:MOST_NAMES])}{more}"


def _names(vocabulary: Vocabulary) -> dict[str, str]:
    """Return every way to write a concept, folded, to its English name."""
    return {
        normalise(name): concept.en
        for concept in vocabulary.concepts.values()
        for name in (concept.id, concept.en, concept.zh, *concept.synonyms)
    }


def _odd(scan: Scan) -> Iterator[str]:
    lines = list(scan.lines())
    if lines:
        yield "odd, to be looked at:"
    yield from (f"  {line}" for line in lines)


def _tables(found: SourcePlan) -> Iterator[str]:
    """Tell how each table joins: rows without a picture, cases without a row."""
    hidden = found.descriptor.privacy.hash_ids
    cases = [case for case in found.cases.cases if case.files.get("image")]
    for name, table in found.descriptor.tables.items():
        rows = tables.read(name, table, found.root)
        keys = {case.id: fill(table.match, case.captures) for case in cases}
        unused = sorted(set(rows.by_key) - set(keys.values()))
        without = [id_ for id_, key in keys.items() if key not in rows.by_key]
        yield f"table {name}: {len(rows.by_key)} rows"
        for count, what, examples in (
            (len(unused), "rows without a picture", [] if hidden else unused),
            (len(without), "cases without a row", without),
            (len(rows.repeated), "keys in more than one row", []),
            (len(rows.undecodable), f"rows that are not {table.encoding}", []),
            (rows.without_key, "rows without a key", []),
        ):
            if count:
                yield f"  {count:>6} {what}{', e.g. ' if examples else ''}{', '.join(examples[:3])}"


def _unclaimed(found: SourcePlan) -> Iterator[str]:
    """Tell which files the descriptor does not speak of; of a source that hashes its ids only their suffixes."""
    paths = found.cases.unclaimed
    yield f"unclaimed: {_many(len(paths), 'file')} that no template speaks of"
    alike: dict[str, list[str]] = {}
    for path in paths:
        pure = PurePosixPath(path)
        suffix = _SUFFIX.search(pure.name)
        folder = "" if found.descriptor.privacy.hash_ids or str(pure.parent) == "." else f"{pure.parent}/"
        alike.setdefault(f"{folder}*{suffix[0] if suffix else ''}", []).append(path)
    rows = sorted(alike.items(), key=lambda item: (-len(item[1]), item[0]))
    for pattern, files in rows[:MOST_NAMES]:
        alone = len(files) == 1 and not found.descriptor.privacy.hash_ids
        yield f"  {len(files):>6} {files[0] if alone else pattern}"
    if len(rows) > MOST_NAMES:
        yield f"  {sum(len(files) for _, files in rows[MOST_NAMES:]):>6} elsewhere"


# ---- contact sheet


def _tile(record: Record, vocabulary: Vocabulary) -> tuple[str, pictures.Pixels]:
    """Return a picture's title and its tile: resized first, so that lines and labels stay readable."""
    assert record.picture is not None  # the caller left out texts
    scale = TILE / max(record.picture.width, record.picture.height)
    width, height = (max(1, round(side * scale)) for side in (record.picture.width, record.picture.height))
    pixels = pictures.resize(pictures.pixels_of(record.picture.bytes), width, height)
    boxes = list(islice(_on_tile(record.regions, vocabulary, scale, Box(0, 0, width, height)), 60))
    return record.id.removeprefix(f"{record.source}/"), pictures.with_boxes(pixels, boxes)


def _on_tile(regions: Sequence[Region], vocabulary: Vocabulary, scale: float, whole: Box) -> Iterator[tuple[str, Box]]:
    """Yield short names and boxes on the tile; where it is crowded, the largest box of a name carries it."""
    told, line = set[str](), 0.0
    for region in sorted(regions, key=lambda region: -region.box.area if region.box else 0):  # small ones on top
        name = name_of(region, vocabulary, "en")
        short = name if len(name) <= _SHORT else f"{name[: _SHORT - 1]}…"
        text = "" if len(regions) > _CROWDED and short in told else short
        told.add(short)
        if region.box:
            yield text, Box(*(value * scale for value in region.box))
        else:  # a label of the whole picture: its frame, each name below the last
            yield text, whole._replace(y0=line)
            line += 12
