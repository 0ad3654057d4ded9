"""Presets: a well-known layout's own files say what a descriptor leaves out.

A preset is a module of `sources/presets/` with `fill(root, said)`: the keys that it knows, as a descriptor has them.
What the descriptor says itself wins, mapping by mapping; a list takes the place of the preset's. Where the descriptor
has a mapping and the preset a list of mappings (`annotations: {complete: true}`), it is laid over each of them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline import discovery
from pipeline.errors import UserError
from pipeline.records import Origin
from pipeline.strict import checked, dump_yaml, load_yaml
from sources.descriptor import AnnotationSpec, Descriptor, parse

OPEN = "?"
"""Stands for a modality, or a template of cases, that only the data tells."""


class Filled(AnnotationSpec):
    """Annotations that a preset will find in the data: what the descriptor lays over them."""

    origin: Origin | None = None
    """None: a preset from outside that does not say."""


def expanded(text: str, where: str, root_of: Callable[[str, str], Path]) -> str:
    """Return a descriptor's text with all that its preset fills in; without a preset, as it is.

    Args:
        text: YAML.
        where: What to call it in an error.
        root_of: Gives the data's folder for the descriptor's `id` and `root`.

    Raises:
        UserError: Not YAML, no such preset, or its files are not there or not what they should be.
    """
    said = load_yaml(text, where)
    if not isinstance(said, Mapping) or "preset" not in said:
        return text
    name = said["preset"]
    if not isinstance(name, str):
        raise UserError(f"{where}: preset should be a name, is {type(name).__name__}")
    preset = discovery.module("preset", "sources.presets", name)
    root = root_of(str(said.get("id", "")), str(said.get("root", ".")))
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; say where the data is with --data or --root")
    try:
        whole = merged(preset.fill(root, said), said)
    except UserError as error:
        raise UserError(f"{where}: preset {name}: {error}") from None
    except OSError as error:
        raise UserError(f"{where}: preset {name}: {error.filename or root}: {error.strerror or error}") from None
    if "modality" not in whole:
        raise UserError(f"{where}: preset {name} can not know the modality; say it: modality: …")
    return dump_yaml(whole)


def without_data(text: str, where: str) -> Descriptor:
    """Read a descriptor whose data need not be there: what its preset would find is left open.

    Args:
        text: YAML.
        where: What to call it in an error.

    Raises:
        UserError: Not YAML, no such preset, or a fault in what the descriptor says itself.
    """
    said = load_yaml(text, where)
    if not isinstance(said, Mapping) or "preset" not in said:
        return parse(text, where)
    laid = said.get("annotations", {})
    own = {**said, "annotations": [] if isinstance(laid, Mapping) else laid}
    descriptor = parse(dump_yaml(merged({"modality": OPEN, "cases": {"match": OPEN}}, own)), where)
    if not isinstance(laid, Mapping):
        return descriptor
    origin = getattr(discovery.module("preset", "sources.presets", said["preset"]), "ORIGIN", None)
    keys = {key: laid[key] for key in AnnotationSpec.model_fields if key in laid}
    filled = checked(Filled, {**keys, "kind": said["preset"], "origin": origin}, f"{where}: annotations")
    return descriptor.model_copy(update={"annotations": (filled,)})


def merged(filled: Any, said: Any) -> Any:
    """Lay what a descriptor says over what its preset fills in.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [{"e": 3}]}, {"a": {"b": 9}, "d": {"f": 4}})
    {'a': {'b': 9, 'c': 2}, 'd': [{'f': 4, 'e': 3}]}
    """
    if isinstance(said, Mapping) and isinstance(filled, Mapping):
        keys = dict.fromkeys([*said, *filled])
        return {key: merged(filled.get(key), said[key]) if key in said else filled[key] for key in keys}
    if isinstance(said, Mapping) and isinstance(filled, list) and all(isinstance(one, Mapping) for one in filled):
        return [merged(one, said) for one in filled]
    return said
