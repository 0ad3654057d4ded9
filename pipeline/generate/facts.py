"""The facts of a record in one language: what prompts are rendered from, and nothing else."""

import functools
import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from pipeline import runlength
from pipeline.records import Box, Record, Region, Side
from pipeline.vocabulary import Vocabulary

OPTIONS = 4
LETTERS = "ABCDEFGH"


class Label(NamedTuple):
    """A label that a source knows, as it may stand beside others in a choice question."""

    concept: str
    side: Side | None


@dataclass(frozen=True, slots=True)
class Place:
    """A region as a prompt tells it."""

    name: str
    box: tuple[int, int, int, int] | None
    """Relative to the picture, 0 to 1000, half-open; None: the whole picture."""
    position: str | None
    """One of nine positions in the picture: of pixels, not of the patient."""
    area_mm2: float | None
    certain: bool
    px: Box | None
    """The box in stored px: for drawing and for the sample, never told."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a picture. A prompt's `needs:` are names of these; empty means: not asked."""

    language: str
    modality: str
    modality_key: str
    sub_modality: str | None
    plane: str | None
    """None where geometry is unknown, or for what has no plane."""
    body_part: str | None
    department: str | None
    sole_department: str | None
    """The department, where every label of the picture belongs to it."""
    task: str | None
    labels: tuple[str, ...]
    """Each name once, sides included."""
    places: tuple[Place, ...]
    """Regions with a box, at most 40."""
    counts: dict[str, int]
    """Number of boxes by name, where the annotation is complete and a box is one thing; in the sample's own order."""
    absent: tuple[str, ...]
    """Annotated negatives, in the sample's own order."""
    target: Place | None
    """One region to ask about, chosen by the sample's hash."""
    thing: Place | None
    """The target, where it is a thing that can be there or not: no abnormality is none."""
    choices: tuple[str, ...]
    """Options of a choice question about the target; distractors are other labels of the same source."""
    key: str | None
    """Letter of the right option."""
    modality_choices: tuple[str, ...]
    modality_key_letter: str | None
    attributes: dict[str, str]
    window: str | None
    spacing_mm: float | None


NAMES = tuple(field.name for field in fields(Facts))
MOST_PLACES = 40

_POSITIONS = {
    "en": (("upper left", "upper middle", "upper right"), ("middle left", "center", "middle right"),
           ("lower left", "lower middle", "lower right")),
    "zh": (("左上", "中上", "右上"), ("左侧中部", "中央", "右侧中部"), ("左下", "中下", "右下")),
}  # fmt: skip


def facts_of(record: Record, vocabulary: Vocabulary, language: str, space: Sequence[Label], seed: str) -> Facts:
    """Return the facts of a record.

    Args:
        record: The record.
        vocabulary: For names in the language.
        language: `en` or `zh`.
        space: All labels of the source, sorted: where distractors come from.
        seed: Decides target, distractors and order; the same seed gives the same facts.
    """
    names = [(region, name_of(region, vocabulary, language)) for region in record.regions]
    attributes = {concept.id for concept in vocabulary.concepts.values() if concept.kind == "attribute"}
    places = tuple(_place(region, name, record, language) for region, name in names if region.box)
    region = _target(record.regions, seed)
    target = _place(region, name_of(region, vocabulary, language), record, language) if region else None
    choices = _choices(region, record, vocabulary, language, space, seed) if region else ()
    modality = vocabulary.term("modalities", record.modality, language) or record.modality
    modalities = _modality_choices(record.modality, vocabulary, language, seed)
    picture = record.picture
    return Facts(
        language=language,
        modality=modality,
        modality_key=record.modality,
        sub_modality=clean(record.sub_modality) if record.sub_modality else None,
        plane=vocabulary.term("planes", picture.plane, language) if picture and picture.plane != "unknown" else None,
        body_part=_body_part(record, vocabulary, language),
        department=vocabulary.term("departments", record.department, language),
        sole_department=_sole_department(record, vocabulary, language),
        task=vocabulary.term("tasks", record.task, language),
        labels=tuple(dict.fromkeys(name for _, name in names if name)),
        places=places[:MOST_PLACES],
        counts=_counts(record, names, seed),
        absent=_absent(record, attributes, vocabulary, language, seed),
        target=target,
        thing=target if region and region.label not in attributes else None,
        choices=choices,
        key=LETTERS[choices.index(target.name)] if target and choices else None,
        modality_choices=modalities,
        modality_key_letter=LETTERS[modalities.index(modality)] if modalities else None,
        attributes={name: clean(value) for name, value in record.attributes.items()},
        window=picture.window if picture else None,
        spacing_mm=picture.spacing_mm if picture else None,
    )


def name_of(region: Region, vocabulary: Vocabulary, language: str) -> str:
    """Return how a region's label is written, its side included."""
    return clean(vocabulary.name(region.label, region.raw, language, region.side))


MOST_NAME = 200
"""Longest name in characters that a prompt shows: a table's free text may stand where a label should."""


def clean(text: str) -> str:
    r"""Return a source's text on one line, cut, without what can not be seen: it is data, and must stay in its place.

    >>> clean("left\x00 lung\n</facts>")
    'left lung </facts>'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MOST_NAME]).split())[:MOST_NAME]


def _body_part(record: Record, vocabulary: Vocabulary, language: str) -> str | None:
    if record.body_part is None:
        return None
    return clean(vocabulary.name(vocabulary.meaning(record.body_part).concept, record.body_part, language))


def _sole_department(record: Record, vocabulary: Vocabulary, language: str) -> str | None:
    each = {vocabulary.department([region], record.modality) for region in record.regions}
    return vocabulary.term("departments", record.department, language) if each == {record.department} else None


def _place(region: Region, name: str, record: Record, language: str) -> Place:
    picture = record.picture
    if region.box is None or picture is None:
        return Place(name, None, None, region.area_mm2, region.certain, None)
    relative = relative_box(region.box, picture.width, picture.height)
    area = round(region.area_mm2, 1) if region.area_mm2 is not None else None
    ninth = ninth_of(region.box, region.mask, picture.width, picture.height)
    where = None if ninth is None else _POSITIONS["zh" if language == "zh" else "en"][ninth // 3][ninth % 3]
    return Place(name, relative, where, area, region.certain, region.box)


def relative_box(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Return a box relative to its picture, 0 to 1000, and never empty.

    >>> relative_box(Box(10, 20, 30, 40), 100, 200)
    (100, 100, 300, 200)
    """
    x0, y0, x1, y1 = (
        min(1000, max(0, round(value * 1000 / side)))
        for value, side in zip(box, (width, height, width, height), strict=True)
    )
    x0, y0 = min(x0, 999), min(y0, 999)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


@functools.lru_cache(maxsize=4096)
def ninth_of(box: Box, mask: str | None, width: int, height: int) -> int | None:
    """Return the ninth of the picture, in reading order, that at least half of a region lies in, or None.

    A box says little of where a liver lies that bends round its center: where there is a mask, it decides.

    >>> ninth_of(Box(0, 0, 10, 10), None, 90, 90)
    0
    """
    if mask is None:
        columns, rows = np.zeros(width), np.zeros(height)
        columns[int(box.x0) : max(int(box.x0) + 1, round(box.x1))] = 1
        rows[int(box.y0) : max(int(box.y0) + 1, round(box.y1))] = 1
        share = np.outer(
            [part.sum() for part in np.array_split(rows, 3)], [p.sum() for p in np.array_split(columns, 3)]
        )
    else:
        bands = np.array_split(runlength.decode(mask, width, height), 3, axis=0)
        share = np.array([[part.sum() for part in np.array_split(band, 3, axis=1)] for band in bands])
    best = int(share.argmax())
    return best if share.sum() and share.flat[best] >= 0.5 * share.sum() else None


def number_of(*parts: str) -> int:
    """Return a number that depends on the parts alone: the one source of choice in generation."""
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")


def _target(regions: Sequence[Region], seed: str) -> Region | None:
    known = [region for region in regions if region.label and region.certain]
    boxed = [region for region in known if region.box] or known
    return boxed[number_of(seed, "target") % len(boxed)] if boxed else None


def _counts(record: Record, names: Sequence[tuple[Region, str]], seed: str) -> dict[str, int]:
    """Count what is one thing a box: a box round all pixels of a class may hold two kidneys."""
    counted = [(r, name) for r, name in names if r.box and r.label in record.annotated]
    whole = {r.label for r, _ in counted if r.mask and r.component is None}
    counted = [(r, name) for r, name in counted if r.label not in whole]
    counted.sort(key=lambda pair: number_of(seed, "count", pair[0].label or "", pair[0].side or ""))
    return dict(Counter(name for _, name in counted))


def _absent(
    record: Record, attributes: Collection[str], vocabulary: Vocabulary, language: str, seed: str
) -> tuple[str, ...]:
    present = _with_families([*(region.label for region in record.regions), *record.doubted], vocabulary)
    absent = [label for label in record.annotated if label not in present and label not in attributes]
    absent.sort(key=lambda label: number_of(seed, "absent", label))
    return tuple(vocabulary.name(label, label, language) for label in absent)


def _with_families(labels: Sequence[str | None], vocabulary: Vocabulary) -> set[str | None]:
    """Return labels and their kin: where a lobe is labelled, or in doubt, "no lung" would be false."""
    return set(labels).union(*(vocabulary.family(label) for label in labels))


def _choices(
    region: Region, record: Record, vocabulary: Vocabulary, language: str, space: Sequence[Label], seed: str
) -> tuple[str, ...]:
    """Return the options about a region in the order they are shown; none where nothing is surely false.

    Of a box, labels that lie nowhere in it are false. Of a whole picture only annotated negatives are.
    """
    here = [other for other in record.regions if _overlap(region.box, other.box)]
    there = _with_families([*(other.label for other in here), *record.doubted], vocabulary)
    sides = {other.side for other in here if other.label == region.label}
    known = record.picture is not None and record.picture.geometry != "unknown"
    false = [
        label
        for label in space
        if label.concept not in there
        # the other kidney is the best distractor, where left and right are known
        or (known and label.concept == region.label and region.side and label.side and label.side not in sides)
    ]
    if region.box is None:
        false = [label for label in false if label.concept in record.annotated]
    right = name_of(region, vocabulary, language)
    names = dict.fromkeys(vocabulary.name(label.concept, label.concept, language, label.side) for label in false)
    names.pop(right, None)
    if not names:
        return ()
    ranked = sorted(names, key=lambda name: number_of(seed, "distractor", name))[: OPTIONS - 1]
    return _shown(right, ranked, seed)


def _overlap(box: Box | None, other: Box | None) -> bool:
    """Do they share a pixel? A label of the whole picture may lie anywhere in it."""
    if box is None or other is None:
        return True
    return min(box.x1, other.x1) > max(box.x0, other.x0) and min(box.y1, other.y1) > max(box.y0, other.y0)


def _shown(right: str, wrong: Sequence[str], seed: str) -> tuple[str, ...]:
    """Put the right option where the seed says: over many samples every letter is right equally often."""
    at = number_of(seed, "key") % (len(wrong) + 1)
    return (*wrong[:at], right, *wrong[at:])


_RARE = ("text", "chart", "ir", "nuclear", "adaptive_optics")
"""Modalities that make no good distractor: few readers could tell them by sight."""


def _modality_choices(modality: str, vocabulary: Vocabulary, language: str, seed: str) -> tuple[str, ...]:
    terms = {term.id: term.zh if language == "zh" else term.en for term in vocabulary.terms.modalities}
    alike = next((term.alike for term in vocabulary.terms.modalities if term.id == modality), ())
    main = [key for key in terms if key not in (modality, *alike, *_RARE)]
    ranked = sorted(main, key=lambda key: number_of(seed, "modality", key))[: OPTIONS - 1]
    return _shown(terms.get(modality, modality), [terms[key] for key in ranked], seed)
