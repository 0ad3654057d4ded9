"""A guess that fits, written as a descriptor: what was seen and assumed, and what a person has to say."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.propose import folder
from pipeline.propose.folder import DATA, Seen
from pipeline.propose.guess import MODALITY, Keys, Tried
from pipeline.propose.text import At, Remarks, lines, scalar
from pipeline.propose.words import words
from pipeline.vocabulary import Vocabulary, normalise
from sources.descriptor import AnnotationSpec

MOST_LABELS = 300
MOST_SUFFIXES = 12
_TERMS = re.compile(r"(licen[cs]e|copying|readme|source)", re.IGNORECASE)
NORMAL = "normal"
"""Concept of a picture on which nothing was found."""
_ONE_LABEL = ("mask", "boxes", "spheres")
"""Kinds whose `label` may be that of all regions."""
_ORDER = ("cases", "tables", "channels", "annotations", "slices")


def written(best: Tried, others: Sequence[Tried], seen: Seen, beside: Path, vocabulary: Vocabulary) -> str:
    """Return the text of a descriptor.

    Args:
        best: What it describes.
        others: Further guesses that fit, of folders below.
        seen: The folder.
        beside: Folder in which the descriptor will lie.
        vocabulary: Says what labels mean.
    """
    keys = _keys(best, beside)
    behind = {**_say(best, keys, seen, vocabulary), **_asked(best)}
    below: dict[At, list[str]] = {}
    if "cases.group" in best.guess.ask:
        below["cases",] = [f"group: …  # say: {best.guess.ask['cases.group']}"]
    below[()] = [f"expect: {{cases: {len(best.pictured)}}}  # say: where that is all; a check tells when it changes"]
    if not best.descriptor.specs:
        below[()].insert(
            0, "annotations: …  # say: nothing names what is seen; docs/adding-a-data-set.md has all kinds"
        )
    _list_labels(keys, best, behind, below, vocabulary)
    remarks = Remarks(behind, {("schema",): list(_head(best, others, seen)), **_above(best)}, below)
    return "\n".join((*lines(keys, remarks), ""))


def _keys(best: Tried, beside: Path) -> Keys:
    """Return the keys of the descriptor in the order of the guide, without labels."""
    name, guessed = best.root.resolve().name, best.guess.keys
    modality: Keys = {} if "modality" in guessed or best.knows_modality else {"modality": MODALITY}
    return {
        "schema": "medgloss/1",
        "id": re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "data_set",
        "title": name or "data set",
        "license": {"name": "unknown", "redistribute": "false", "commercial": "false"},
        "egress": "none",
        **{key: guessed[key] for key in ("preset", "modality") if key in guessed},
        **modality,
        "root": Path(os.path.relpath(best.root.resolve(), beside.resolve())).as_posix(),
        **{key: _copied(guessed[key]) for key in _ORDER if guessed.get(key)},
    }


def _copied(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list | tuple) else value


# ---- comments


def _say(best: Tried, keys: Keys, seen: Seen, vocabulary: Vocabulary) -> dict[At, str]:
    terms = sorted(path for path in seen.paths if path.count("/") < 2 and _TERMS.match(path.rpartition("/")[2]))
    found: dict[At, str] = {
        ("title",): "say: its name, for people",
        ("license", "name"): "say: SPDX identifier" + (f"; see {', '.join(terms[:3])}" if terms else ""),
        ("egress",): "say: who may see its pictures: none, local, zero_retention or any",
    }
    if keys.get("modality") == MODALITY:
        hint = _hint(best, vocabulary)
        found["modality",] = f"say: what kind of pictures these are{f'; names say {hint}' if hint else ''}"
    elif "modality" in keys:
        found["modality",] = "as the files' headers say"
    return found


def _hint(best: Tried, vocabulary: Vocabulary) -> str | None:
    """Return the modality that the names of most cases have a word for."""
    known = {
        normalise(name): term.id for term in vocabulary.terms.modalities for name in (term.id, term.en, *term.synonyms)
    }
    paths = [case.files["image"][0] for case in best.pictured[:200]]
    said = [{known[word] for word in words(f"{best.root.name}/{path}") if word in known} for path in paths]
    shared = set.intersection(*said) if said else set()
    return min(shared) if len(shared) == 1 else None


def _asked(best: Tried) -> dict[At, str]:
    return {
        tuple(int(part) if part.isdigit() else part for part in key.split(".")): f"say: {said}"
        for key, said in best.guess.ask.items()
        if key != "cases.group"
    }


def _above(best: Tried) -> dict[At, list[str]]:
    """Return what stands before `root`: keys that may be left out."""
    by_preset = best.knows_modality and "modality" not in best.guess.keys
    return {
        ("root",): [
            *([f"modality: {best.descriptor.modality}  # the preset says so"] if by_preset else []),
            "body_part: …  # say: where every picture shows the same",
            "department: …  # say: where the vocabulary's table should not decide",
        ]
    }


def _head(best: Tried, others: Sequence[Tried], seen: Seen) -> Iterator[str]:
    yield "Proposed by `medgloss init`; no picture was opened. Edit the lines with `say:`, then"
    yield "medgloss check THIS_FILE --sheet sheet.png"
    yield ""
    yield f"seen: {len(seen.paths)} files"
    every = folder.suffixes(seen.paths)
    width = len(str(every[0][1])) if every else 1
    yield from (f"  {count:>{width}} {suffix}, e.g. {example}" for suffix, count, example in every[:MOST_SUFFIXES])
    if len(every) > MOST_SUFFIXES:
        yield f"  {sum(count for _, count, _ in every[MOST_SUFFIXES:]):>{width}} others"
    share = "" if not best.descriptor.specs else f", {best.annotated:.0%} of them annotated"
    yield f"found: {best.guess.name}; {len(best.pictured)} cases{share}"
    absent = sum(not case.files.get("image") for case in best.plan.cases)
    if absent:
        yield f"  {absent} annotations have no picture: medgloss check tells which"
    yield "assumed:"
    yield from (f"  - {text}" for text in best.guess.assumed or ("nothing",))
    left = _left(best, seen)
    if left:
        yield "not taken:"
        yield from (
            f"  {count} {suffix}, e.g. {example}" for suffix, count, example in folder.suffixes(left)[:MOST_SUFFIXES]
        )
    yield from (f"also there: {one.guess.below} ({one.guess.name}, {len(one.pictured)} cases)" for one in others)


def _left(best: Tried, seen: Seen) -> list[str]:
    """Return the data files that no template speaks of."""
    start = f"{best.guess.below}/" if best.guess.below else ""
    unclaimed = {start + path for path in best.plan.unclaimed}
    outside = {path for path in seen.of(*DATA) if not path.startswith(start)}
    return [path for path in seen.of(*DATA) if path in unclaimed or path in outside]


# ---- labels


def _list_labels(
    keys: Keys, best: Tried, behind: dict[At, str], below: dict[At, list[str]], vocabulary: Vocabulary
) -> None:
    """List under each annotation the labels that were found, as the vocabulary calls them."""
    near = _names(vocabulary)
    for number, spec in enumerate(best.descriptor.specs):
        at, target = _annotation(keys, number)
        one = spec.kind in _ONE_LABEL and "label" in target
        raws = [] if one else _raws(spec, best.labels.get(number, ()))
        found = {raw: _meaning(spec.rule(raw).label or raw, vocabulary, near) for raw in raws[:MOST_LABELS]}
        if found:
            target["labels"] = {**target.get("labels", {}), **{raw: name for raw, (name, _) in found.items()}}
        behind.update({(*at, "labels", raw): said for raw, (_, said) in found.items() if said})
        remarks = below.setdefault(at, [])
        if len(raws) > MOST_LABELS:
            remarks.append(f"{len(raws)} labels were found, {MOST_LABELS} are listed")
        if not raws and not one:
            remarks.append("labels: …  # `medgloss check` tells which it finds in the files")
        normal = [raw for raw in found if vocabulary.meaning(spec.rule(raw).label or raw).concept == NORMAL]
        if spec.kind == "classes" and normal and len(found) > 1 and "preset" not in keys:
            remarks.append(f"negatives: {{{scalar(normal[0])}: all}}  # say: where none of the others is there then")
        if "preset" not in keys or number == 0:
            remarks.append("complete: true  # say: where all of these labels were looked for in every case")


def _annotation(keys: Keys, number: int) -> tuple[At, Keys]:
    """Return where an annotation stands; of a preset, what is laid over all of its annotations."""
    if "preset" in keys:
        return ("annotations",), keys.setdefault("annotations", {})
    return ("annotations", number), keys["annotations"][number]


def _raws(spec: AnnotationSpec, found: Sequence[str]) -> list[str]:
    columns: tuple[str, ...] = getattr(spec, "columns", ())
    every = {raw for raw in (*spec.labels, *found, *columns) if not spec.rule(raw).drop and raw.isprintable()}
    return sorted(every, key=lambda raw: (not raw.isdecimal(), int(raw) if raw.isdecimal() else 0, raw))


def _names(vocabulary: Vocabulary) -> dict[str, str]:
    """Return every way to write a concept, folded, to its English name."""
    return {
        normalise(name): concept.en
        for concept in vocabulary.concepts.values()
        for name in (concept.id, concept.en, concept.zh, *concept.synonyms)
    }


def _meaning(label: str, vocabulary: Vocabulary, near: Mapping[str, str]) -> tuple[str, str | None]:
    """Return a label as the vocabulary calls it; or as it stands, and what is said of it."""
    concept, side = vocabulary.meaning(label)
    if concept is not None:
        name = vocabulary.name(concept, label, "en", side)
        return (name, None) if vocabulary.meaning(name) == (concept, side) else (label, None)
    close = difflib.get_close_matches(normalise(label), near, n=1, cutoff=0.6)
    return label, f"not in the vocabulary{f'; near {near[close[0]]!r}' if close else ''}"
