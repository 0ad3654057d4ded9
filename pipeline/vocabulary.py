"""The vocabulary: what a raw label means, in both languages, and its department, task and window.

Tables, never a model's guess: an unknown label stays raw and is listed to the curator.
"""

import functools
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import Field

from pipeline import discovery
from pipeline.errors import UserError, did_you_mean
from pipeline.records import Region, Side
from pipeline.strict import Strict, checked, load_yaml, read_text

LANGUAGES = ("en", "zh")
FOLDER = "sources/vocabulary"

_SIDES: dict[str, Side] = {"left": "left", "right": "right", "左": "left", "右": "right"}
_SIDE_WORDS = re.compile(r"\b(left|right)\b|[左右]侧?")


class Code(Strict):
    """A code of a public terminology."""

    scheme: Literal["SCT", "DCM"]
    value: str
    meaning: str


class Concept(Strict):
    """One thing that a label can mean."""

    id: str
    en: str
    zh: str
    synonyms: tuple[str, ...] = ()
    kind: Literal["anatomy", "finding", "cell", "instrument", "attribute"]
    side: Literal["paired", "none"] = "none"
    code: Code | None = None
    parent: str | None = None
    department: dict[str, str] = Field(default_factory=dict)
    """`default` or a modality to the department's name."""
    task: dict[str, str] = Field(default_factory=dict)
    """`default` or a modality to the clinical task's name."""
    window: str | None = None


class Term(Strict):
    """A department, task, modality, plane or side."""

    id: str
    en: str
    zh: str
    abbreviation: str | None = None
    alike: tuple[str, ...] = ()
    """Ids of modalities that a picture could be called as well: no wrong answers for it."""
    synonyms: tuple[str, ...] = ()


class Window(Strict):
    """A CT display preset, HU."""

    center: float
    width: float
    en: str
    zh: str
    source: str


class _Terms(Strict):
    departments: tuple[Term, ...]
    tasks: tuple[Term, ...]
    modalities: tuple[Term, ...]
    planes: tuple[Term, ...]
    sides: tuple[Term, ...]
    windows: dict[str, Window]
    dicom_modalities: dict[str, str]


class Meaning(NamedTuple):
    """What a raw label resolves to."""

    concept: str | None
    side: Side | None


@dataclass(frozen=True)
class Vocabulary:
    """Concepts and terms, with the look-ups that every stage uses."""

    concepts: Mapping[str, Concept]
    terms: _Terms
    digest: str
    """sha256 of the files it was read from."""

    @functools.cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for concept in self.concepts.values():
            for name in (concept.id, concept.en, concept.zh, *concept.synonyms):
                found.setdefault(normalise(name), concept.id)
        return found

    @functools.cached_property
    def _by_term(self) -> dict[tuple[str, str], Term]:
        groups = ("departments", "tasks", "modalities", "planes", "sides")
        terms = [(group, term) for group in groups for term in getattr(self.terms, group)]
        return {(group, name): term for group, term in terms for name in (term.id, term.en)}

    @functools.cached_property
    def _modality_keys(self) -> dict[str, str]:
        found = {}
        for term in self.terms.modalities:
            for name in (term.id, term.en, term.zh, *term.synonyms):
                found[normalise(name)] = term.id
        return found | {normalise(code): key for code, key in self.terms.dicom_modalities.items()}

    def meaning(self, raw: str) -> Meaning:
        """Resolve a raw label: as it stands first, then without its side words."""
        text = normalise(raw)
        sides = {_SIDES[word[:1] if word[0] in "左右" else word] for word in _side_words(text)}
        if text in self._by_name:
            return Meaning(self._by_name[text], None)
        bare = normalise(_SIDE_WORDS.sub(" ", text))
        side = sides.pop() if len(sides) == 1 else None
        return Meaning(self._by_name.get(bare), side)

    def modality(self, name: str, where: str) -> str:
        """Return the key of a modality.

        Raises:
            UserError: Unknown, with the near name.
        """
        key = self._modality_keys.get(normalise(name))
        if key is None:
            raise UserError(
                f"{where}: unknown modality {name!r}{did_you_mean(name, [t.id for t in self.terms.modalities])}"
            )
        return key

    def name(self, label: str | None, raw: str, language: str, side: Side | None = None) -> str:
        """Return how a label is written in a language, its side included; the raw label where it is unknown."""
        concept = self.concepts.get(label or "")
        if concept is None:
            return raw.replace("_", " ")
        words = concept.zh if language == "zh" else concept.en
        if side is None:
            return words
        return f"{'左' if side == 'left' else '右'}{words}" if language == "zh" else f"{side} {words}"

    def term(self, group: str, name: str | None, language: str) -> str | None:
        """Return how a department, task, modality, plane or side is written in a language.

        Args:
            group: `departments`, `tasks`, `modalities`, `planes` or `sides`.
            name: Its id or English name.
            language: `en` or `zh`.
        """
        found = self._by_term.get((group, name or ""))
        if found is None:
            return name
        return found.zh if language == "zh" else found.en

    def department(self, regions: Sequence[Region], modality: str) -> str | None:
        """Return the department of a picture: that of the labels that fill most of it, None where none has one."""
        return self._most(regions, modality, "department")

    def task(self, regions: Sequence[Region], modality: str) -> str | None:
        """Return the clinical task of a picture: that of the labels that fill most of it, None where none has one."""
        return self._most(regions, modality, "task")

    def _most(self, regions: Iterable[Region], modality: str, column: str) -> str | None:
        areas: defaultdict[str, float] = defaultdict(float)
        for region in regions:
            if region.label:
                # a dozen ribs must not outvote the liver: what fills most of the picture decides
                areas[region.label] += region.area_px or 0.0
        votes: defaultdict[str, float] = defaultdict(float)
        for label, area in areas.items():
            table: dict[str, str] = getattr(self.concepts[label], column)
            value = table.get(modality, table.get("default"))
            if value:
                votes[value] += max(1.0, area)
        return min(votes, key=lambda value: (-votes[value], value)) if votes else None

    @functools.cached_property
    def _families(self) -> dict[str, frozenset[str]]:
        above = {concept: frozenset(self._ancestors(concept)) for concept in self.concepts}
        return {c: above[c] | {other for other, found in above.items() if c in found} for c in self.concepts}

    def _ancestors(self, concept: str) -> list[str]:
        found: list[str] = []
        parent = self.concepts[concept].parent
        while parent and parent not in found and parent in self.concepts:
            found.append(parent)
            parent = self.concepts[parent].parent
        return found

    def family(self, concept: str | None) -> frozenset[str]:
        """Return a concept's ancestors and descendants: a lobe is no wrong answer for a lung."""
        return self._families.get(concept or "", frozenset())

    def window(self, preset: str, where: str) -> Window:
        """Return a display preset.

        Raises:
            UserError: Unknown, with the near name.
        """
        if preset not in self.terms.windows:
            raise UserError(f"{where}: unknown window {preset!r}{did_you_mean(preset, self.terms.windows)}")
        return self.terms.windows[preset]


def _side_words(text: str) -> list[str]:
    return [found.group() for found in _SIDE_WORDS.finditer(text)]


def normalise(name: str) -> str:
    """Fold what does not change a label's meaning: case, `_` and `-`, spaces, a plural s.

    >>> normalise("Kidney_Cysts")
    'kidney cyst'
    """
    text = " ".join(re.sub(r"[_\-]+", " ", unicodedata.normalize("NFC", name)).lower().split())
    return text[:-1] if len(text) > 4 and text.endswith("s") and not text.endswith(("ss", "us", "is")) else text


@functools.lru_cache(maxsize=1)
def load() -> Vocabulary:
    """Read the package's vocabulary.

    Raises:
        UserError: A fault in a file, a concept given twice, a parent that is not there.
    """
    digest = hashlib.sha256()
    concepts: dict[str, Concept] = {}
    terms: _Terms | None = None
    for name in discovery.names(FOLDER, ".yaml"):
        path = discovery.ROOT / FOLDER / f"{name}.yaml"
        text = read_text(path)
        digest.update(text.encode())
        data: Any = load_yaml(text, path.name)
        if name == "terms":
            terms = checked(_Terms, data, path.name)
            continue
        for n, entry in enumerate(data):
            concept = checked(Concept, entry, f"{path.name}: concept {n}")
            if concept.id in concepts:
                raise UserError(f"{path.name}: concept {concept.id!r} is given twice")
            concepts[concept.id] = concept
    assert terms is not None  # the package ships it
    return Vocabulary(concepts, terms, digest.hexdigest())
