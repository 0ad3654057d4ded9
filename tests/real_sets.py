"""The real data sets, read once each for all tests, and what GOLD.json says of them."""

import functools
import json
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from pycocotools import mask as coco_mask

from pipeline import discovery, vocabulary
from pipeline import plan as plans
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Box, Case, Record, Region
from pipeline.settings import Settings
from sources import descriptor
from sources.cases import plan

DATA = Path(os.environ.get("MEDGLOSS_REAL_DATA", discovery.ROOT.parent / "shared" / "data")).resolve()
HERE = Path(__file__).parent / "real"
NAMES = sorted(path.stem for path in HERE.glob("*.yaml") if not path.stem.startswith("dirty"))
WORDS = vocabulary.load()


class Found(NamedTuple):
    """All that a descriptor gives."""

    cases: tuple[Case, ...]
    reads: tuple[Any, ...]
    root: Path

    @property
    def records(self):
        return [record for read in self.reads for record in read.records]

    @property
    def rejected(self):
        return [row for read in self.reads for row in read.rejected]

    @property
    def tallies(self):
        return [read.tally for read in self.reads]

    @property
    def regions(self) -> list[tuple[Record, Region]]:
        return [(record, region) for record in self.records for region in record.regions]

    def reasons(self, level: str) -> Counter[str]:
        return Counter(row.reason for row in self.rejected if row.level == level)


def root_of(name: str) -> Path:
    root = DATA / yaml.safe_load((HERE / f"{name}.yaml").read_text())["root"]
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    return root


def source_of(name: str, **changes) -> Source:
    root_of(name)
    found = plans.open_source(str(HERE / f"{name}.yaml"), Settings(sources=(), data=str(DATA)), WORDS)
    return Source(found.descriptor.model_copy(update=changes), found.root, WORDS)


def found_in(name: str, **changes) -> Found:
    source = source_of(name, **changes)
    cases = plan(source.descriptor, source.root).cases
    return Found(cases, tuple(read_case(case, source) for case in cases), source.root)


@functools.cache
def as_written(name: str) -> Found:
    return found_in(name)


@functools.cache
def without_limits(name: str) -> Found:
    return found_in(name, limits=descriptor.NO_LIMITS)


def read_all(name: str, **changes):
    if changes and changes != {"limits": descriptor.NO_LIMITS}:
        found = found_in(name, **changes)
    else:
        found = without_limits(name) if changes else as_written(name)
    return found.records, found.rejected, found.tallies


def at_path(name: str, path: str, limits: descriptor.Limits | None = None, **keys) -> Found:
    """Read a set with another file as its only annotation."""
    spec = source_of(name).descriptor.specs[0].model_copy(update={"path": path, **keys})
    return found_in(name, annotations=(spec,), **({"limits": limits} if limits else {}))


@functools.cache
def gold(name: str):
    return json.loads((DATA / "GOLD.json").read_text())[name]


def mask_of(record: Record, region: Region):
    """Decode a region's mask with pycocotools, `(y, x)`."""
    assert record.picture
    code = {"size": [record.picture.height, record.picture.width], "counts": region.mask}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pycocotools speaks the language of NumPy 1
        return coco_mask.decode(code).astype(bool)


def in_source(record: Record, box: Box) -> tuple[float, ...]:
    """Return a box in px of the stored array's own two axes."""
    a, b, c, d, e, f = record.picture.to_source
    columns = [a * x + b * y + c for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    rows = [d * x + e * y + f for x, y in ((box.x0, box.y0), (box.x1, box.y1))]
    return tuple(round(v, 6) for v in (min(columns), min(rows), max(columns), max(rows)))


def said(region: Region) -> tuple[str, str | None]:
    return region.label or region.raw, region.side


def meant(name: str) -> tuple[str, str | None]:
    concept, side = WORDS.meaning(name)
    return concept or name, side
