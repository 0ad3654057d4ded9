"""From cases to a whole guess: classes of their folders, files of annotations, tables."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.propose import annotation_files, tables
from pipeline.propose.files import Base, Part
from pipeline.propose.folder import Seen
from pipeline.propose.guess import Guess, Keys, tried
from pipeline.propose.levels import known
from pipeline.propose.tables import Joined
from pipeline.records import Case
from pipeline.vocabulary import Vocabulary
from sources.templates import captures_of

_KINDS = ("coco", "voc", "labelme", "cvat", "labelstudio", "yolo", "aperio", "intervals")
"""Of two that speak of the same cases, the former is taken."""
_PLACED = ("labelmap", "mask_per_class", "seg", "rtstruct", "spheres")
"""Kinds that say on which slices a label is."""
_FEWEST_PATIENTS, _MOST_OF_A_PATIENT = 5, 100
ASK_GROUP = "what tells patients apart, for example group: {}: pictures of one patient stay in one split"


def guesses(base: Base, seen: Seen, vocabulary: Vocabulary) -> Iterator[Guess]:
    """Yield what cases may be with all that speaks of them, and then with less, where that does not fit."""
    bare = tried(Guess("", base.keys), seen)
    if bare is None:
        return
    cases = [case for case in bare.plan.cases if case.files.get("image") and case.problem is None]
    if not cases:
        return
    written, also = _written(base, cases, seen)
    joined = tables.joined(cases, seen, vocabulary)
    classes = _classes(base, joined, vocabulary)
    yield _guess(base, (*base.parts, *written, *classes), joined, also)
    yield _guess(base, (*base.parts, *written, *classes), (), also)
    yield _guess(base, (*base.parts, *classes), ())
    yield _guess(base, (), ())


def _written(base: Base, cases: Sequence[Case], seen: Seen) -> tuple[list[Part], tuple[str, ...]]:
    """Return the annotations of one kind of file, and what is said of the others: they may say the same again."""
    found: dict[str, list[Part]] = {}
    for part in annotation_files.parts(base, cases, seen):
        found.setdefault(part.keys["kind"], []).append(part)
    if not found:
        return [], ()
    taken = min(found, key=_KINDS.index)
    others = [f"there are {kind} files too, which may say the same again: not taken" for kind in sorted(found)
              if kind != taken]  # fmt: skip
    return found[taken], tuple(others)


def _classes(base: Base, joined: Sequence[Joined], vocabulary: Vocabulary) -> list[Part]:
    """Return the label that the folder of a case is, unless a table says better."""
    values = base.files.levels.captures.get("class", ())
    if not values or (known(values, vocabulary) == 0 and any(one.parts for one in joined)):
        return []
    return [Part({"kind": "classes", "value": "{class}"}, (), ("the folder of a case is its label",))]


def _guess(base: Base, parts: Sequence[Part], joined: Sequence[Joined], also: tuple[str, ...] = ()) -> Guess:
    used = _used(joined)
    every = [*parts, *(part for one in used for part in one.parts)]
    patient = _patient(base)
    group = next((one.group for one in used if one.group), patient)
    keys: Keys = {**base.keys, "cases": {**base.keys["cases"], **({"group": group} if group else {})}}
    if used:
        keys["tables"] = {one.name: one.table for one in used}
    if every:
        keys["annotations"] = [dict(part.keys) for part in every]
    else:
        keys["cases"]["unlabelled"] = "keep"
    if base.deep and not any(part.keys["kind"] in _PLACED for part in every):
        keys["slices"] = {"pick": "all"}
    ask = {f"annotations.{n}.{key}": said for n, part in enumerate(every) for key, said in part.ask.items()}
    outer = next((name for name in base.files.captures if name not in ("split", "class")), None)
    if not group and outer:
        ask["cases.group"] = ASK_GROUP.format(f'"{{{outer}}}"')
    if not any(part.keys.get("value") == "{class}" for part in parts):
        keys = _without_class(keys)
    told = [
        *base.assumed,
        *([f"{group} is a patient: pictures of one stay in one split"] if group and group == patient else []),
        *(text for part in parts for text in part.assumed),
        *(text for one in used for text in one.assumed),
    ]
    kinds = dict.fromkeys(str(part.keys["kind"]) for part in every)
    return Guess(", ".join(kinds) or "no annotation", keys, (*told, *also), ask=ask)


def _patient(base: Base) -> str | None:
    """Return the folders that may be a patient each: many, with some of the cases in each."""
    above, taken = base.files.levels, list[str]()
    paths = [path.split("/") for path in base.files.paths if path.count("/") == above.depth]
    for name in (name for name in above.places if name not in ("split", "class")):
        taken.append(name)
        groups = len({tuple(path[above.places[one]] for one in taken) for path in paths})
        if groups >= _FEWEST_PATIENTS and 1 < len(paths) / groups <= _MOST_OF_A_PATIENT:
            shared = all(set(taken) <= captures_of(match) for match in base.files.match)
            return "/".join(f"{{{one}}}" for one in taken) if shared else None
    return None


def _without_class(value: Any) -> Any:
    """Call a level of folders that is no label after nothing."""
    if isinstance(value, str):
        return value.replace("{class}", "{level}").replace("{class:", "{level:")
    if isinstance(value, dict):
        return {key: _without_class(one) for key, one in value.items()}
    return [_without_class(one) for one in value] if isinstance(value, list | tuple) else value


def _used(joined: Sequence[Joined]) -> list[Joined]:
    """Return the tables that add something: labels, or the first that knows the patient."""
    said = [one for one in joined if one.parts]
    more = [one for one in joined if not one.parts and (one.group or one.licensed)]
    return [*said, *more[:1]]
