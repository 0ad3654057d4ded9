"""The data set card: README.md, its YAML head for the Hub and the loaders, its body for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from outputs.parquet import CONFIGS, IMAGE, Written
from pipeline.records import Egress
from pipeline.strict import dump_yaml

TABLES = ("kind", "modality", "department", "language", "split")
"""What samples are counted by."""

_CATEGORIES = {
    "caption": "image-to-text",
    "region_caption": "image-to-text",
    "grounding": "object-detection",
    "text": "text-generation",
}
"""The Hub's task categories; a kind that is not here is visual-question-answering."""
_SIZES = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"), (10**8, "100M"), (10**9, "1B"))


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the card says of a source."""

    id: str
    title: str
    license: str
    """SPDX identifier where there is one."""
    redistribute: bool
    """May its pictures be passed on?"""
    commercial: bool
    egress: Egress
    pictures: int
    """In the set."""
    samples: int
    """In the set."""
    citation: str | None = None
    url: str | None = None


def card(title: str, sources: Sequence[SourceFacts], written: Written, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return README.md of a set.

    Args:
        title: Of the set.
        sources: Those that gave a picture or a sample.
        written: What `outputs.parquet.write` returned.
        counts: Samples by value, for each of `TABLES`; a missing table is left out. What has no value counts under "".
    """
    head = dump_yaml(_head(title, written, counts), width=4096)
    parts = (
        f"# {_line(title)}",
        _about(written),
        _loading(written),
        _MADE,
        _sources(sources),
        *(_counted(table, counts[table]) for table in TABLES if counts.get(table)),
        _limits(sources),
    )
    return f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n"


# ---- head


def _head(title: str, written: Written, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    splits = _splits(written)
    head = {
        "pretty_name": _line(title),
        "configs": [_config(config, found) for config, found in splits.items()],
        "dataset_info": [{"config_name": config, "features": _features(CONFIGS[config])} for config in splits],
        "license": "other",
        "license_name": "per-source",
        "language": sorted(filter(None, counts.get("language", {}))),
        "task_categories": sorted(
            {_CATEGORIES.get(kind, "visual-question-answering") for kind in counts.get("kind", {}) if kind}
        ),
        "tags": ["medical", "synthetic", "medgloss"],
        "size_categories": [_size(sum(rows for name, rows in written.rows.items() if name.startswith("default/")))],
    }
    return {key: value for key, value in head.items() if value}


def _splits(written: Written) -> dict[str, list[str]]:
    """Return the splits that are there, by config, as they are usually listed."""
    found: dict[str, list[str]] = {}
    for config in CONFIGS:
        splits = [split for split in ("train", "validation", "test") if f"{config}/{split}" in written.rows]
        if splits:
            found[config] = splits
    return found


def _config(config: str, splits: Sequence[str]) -> dict[str, Any]:
    files = [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits]
    # ms-swift asks a folder for a config of this name
    default = {"default": True} if config == "default" else {}
    return {"config_name": config, **default, "data_files": files}


def _features(fields: Sequence[pa.Field] | pa.Schema) -> list[dict[str, Any]]:
    return [{"name": field.name, **_feature(field.type)} for field in fields]


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Return a column's type as the Hub writes it: `dtype: x`, `list: …` or `struct: …`."""
    if kind == IMAGE:
        return {"dtype": "image"}
    if pa.types.is_struct(kind):
        return {"struct": _features(list(kind))}
    if pa.types.is_list(kind):
        of = _feature(kind.value_type)
        return {"list": of.get("dtype", of.get("struct", of))}
    return {"dtype": {"float": "float32", "double": "float64"}.get(str(kind), str(kind))}


def _size(rows: int) -> str:
    """Return the Hub's size category.

    >>> _size(999), _size(1000), _size(5_000_000)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    above = [name for least, name in _SIZES if rows >= least]
    below = [name for least, name in _SIZES if rows < least]
    if not above:
        return f"n<{below[0]}"
    return f"{above[-1]}<n<{below[0]}" if below else f"n>{above[-1]}"


# ---- body

_COLUMNS = """\
- `default`: one training sample a row, with its pictures, its turns, its answer and where it comes from. The pictures
  of a row stand as `<image>` at the start of the first user turn.
- `records`: one annotated picture a row: image, modality, label, department, bbox.

Boxes are `x0, y0, x1, y1` in pixels of the stored picture, half-open, origin at the top left; boxes in the text of a
turn are as the turn says. Masks are COCO run-length code in the stored picture."""

_MADE = """\
## How it was made

Every picture comes from a data set with labels, boxes or masks, as 8-bit grey or colour; `window` says how intensities
became grey. Facts (modality, labels, places, sizes) come from the annotation and from tables, never from a model.
Captions, questions and dialogues were written from these facts and the picture, by a model or by a template, and
checked by plain code against the annotation. Splits never cut through a patient. `made_by` says who wrote a sample;
`provenance` names the model, the prompts with their digests, and the key of each request."""

_LICENCES = """\
## Sources and licences

The licence of a row is that of its source: `provenance.license` in `default`, `license` in `records`. Egress says what
may see a picture of the source: `none` (templates only), `local` models, endpoints with `zero_retention`, or `any`."""

_LIMITS = """\
## Known limits

- Not for diagnosis. No sample was written by a person unless its `made_by` is `human`.
- Samples with `made_by=template` have few phrasings; weigh them accordingly.
- Labels are open-world: what is not labelled in a picture may still be in it. Only the concepts in `annotated` were
  looked for; one that is there and not in `concept` is an annotated negative.
- Labels whose `certain` is false were given as uncertain by their source.
- Left and right are the patient's, and stand only where the label or known geometry gives them.
- Sizes in mm are there only where the spacing is known.
- Errors of the source annotations are in the samples too."""


def _about(written: Written) -> str:
    totals = dict.fromkeys(CONFIGS, 0)
    for name, rows in written.rows.items():
        totals[name.partition("/")[0]] += rows
    megabytes = sum(file.size for file in written.files) / 1e6
    return (
        "Vision-language training data grounded in the annotations of medical imaging data sets: "
        f"{totals['default']:,} samples and {totals['records']:,} annotated pictures in {len(written.files):,} Parquet "
        f"files, {megabytes:,.1f} MB.\n\n{_COLUMNS}"
    )


def _loading(written: Written) -> str:
    lines = ["from datasets import load_dataset", ""]
    for config, splits in _splits(written).items():
        name = "samples" if config == "default" else config
        lines.append(f'{name} = load_dataset("path/to/this/folder", "{config}", split="{splits[0]}")')
    code = "\n".join(lines)
    return (
        f"## Loading\n\n```python\n{code}\n```\n\nWith `streaming=True` nothing is copied first; `columns=[...]` and "
        '`filters=[("modality", "==", "ct")]` read less.'
    )


_SOURCE_COLUMNS = (
    "source", "title", "licence", "redistribute", "commercial use", "egress", "citation", "pictures", "samples",
)  # fmt: skip


def _sources(sources: Sequence[SourceFacts]) -> str:
    ranked = sorted(sources, key=lambda source: source.id)
    rows = [
        (
            f"`{source.id}`",
            f"[{_cell(source.title)}]({source.url})" if source.url else _cell(source.title),
            _cell(source.license),
            _yes(source.redistribute),
            _yes(source.commercial),
            source.egress,
            _cell(source.citation or ""),
            f"{source.pictures:,}",
            f"{source.samples:,}",
        )
        for source in ranked
    ]
    kept = ", ".join(row[0] for source, row in zip(ranked, rows, strict=True) if not source.redistribute)
    warning = f"\n\n**Do not publish this set as it is:** pictures of {kept} may not be passed on." if kept else ""
    return f"{_LICENCES}\n\n{_table(_SOURCE_COLUMNS, rows, numbers=2)}{warning}"


def _counted(table: str, counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    rows = [(_cell(value) or "not stated", f"{count:,}") for value, count in ranked]
    return f"## Samples by {table}\n\n{_table((table, 'samples'), rows, numbers=1)}"


def _limits(sources: Sequence[SourceFacts]) -> str:
    bound = not all(source.commercial for source in sources)
    return _LIMITS + ("\n- Some sources do not allow commercial use: see their table." if bound else "")


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> str:
    """Return a Markdown table; the last columns are numbers and stand right."""
    marks = ["---"] * (len(names) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, marks, *rows))


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
