"""Small synthetic data sets, written to a folder and read the way a run reads them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from pipeline import vocabulary
from pipeline.ingest import phantoms
from pipeline.ingest.reading import Read
from pipeline.ingest.source import Source
from pipeline.ingest.stage import read_case
from pipeline.records import Record, Rejected
from sources.cases import CasePlan, plan
from sources.descriptor import Descriptor, parse


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantoms of `medgloss demo-data`: to read from, not to change."""
    folder = tmp_path_factory.mktemp("phantoms")
    phantoms.write(folder)
    return folder


HEAD = """
schema: medgloss/1
id: toy
title: A toy
license: {name: CC0-1.0}
egress: any
"""


class Toy(NamedTuple):
    """A data set in a temporary folder."""

    descriptor: Descriptor
    root: Path

    def plan(self) -> CasePlan:
        return plan(self.descriptor, self.root)

    def read(self) -> dict[str, Read]:
        """Read every case of the plan, by id."""
        source = Source(self.descriptor, self.root, vocabulary.load())
        return {case.id: read_case(case, source) for case in self.plan().cases}

    def records(self) -> list[Record]:
        return [record for read in self.read().values() for record in read.records]

    def rejected(self) -> list[Rejected]:
        return [row for read in self.read().values() for row in read.rejected]

    def reasons(self) -> dict[str, list[str]]:
        """Case id to the reason codes of its rows of level case."""
        return {id_: [row.reason for row in read.rejected if row.level == "case"] for id_, read in self.read().items()}


Content = bytes | str | np.ndarray | nib.Nifti1Image


def _write(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, nib.Nifti1Image):
        nib.save(content, path)
    elif isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def data_set(tmp_path: Path) -> Callable[..., Toy]:
    """Write a descriptor's files and return the data set: `data_set(yaml, {"a.png": pixels, "t.csv": "id,x"})`."""

    def make(yaml: str, files: Mapping[str, Content], modality: str = "xray", license: bool = True) -> Toy:
        root = tmp_path / "data"
        for name, content in files.items():
            _write(root / name, content)
        head = HEAD if license else HEAD.replace("license: {name: CC0-1.0}\n", "")
        return Toy(parse(f"{head}modality: {modality}\n{yaml}", "toy.yaml"), root)

    return make


@pytest.fixture
def grey_picture() -> Callable[..., np.ndarray]:
    """Return pixels without a pattern: `grey_picture(40, 30, seed=1)` is 40 px wide."""

    def make(width: int = 40, height: int = 30, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Encode a picture with Pillow: `encoded(pixels, "PNG")`."""

    def make(pixels: np.ndarray | Image.Image, form: str = "PNG", **how: Any) -> bytes:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        sink = io.BytesIO()
        image.save(sink, form, **how)
        return sink.getvalue()

    return make


@pytest.fixture
def lps_nifti() -> Callable[..., nib.Nifti1Image]:
    """Make a NIfTI image of an LPS array `(x, y, z)`: `lps_nifti(array, (1, 1, 3), origin, "RAS")` stores it as RAS."""

    def make(
        array: np.ndarray,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        codes: str = "LPS",
    ) -> nib.Nifti1Image:
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # NIfTI counts mm to the right's and front's
        affine[:3, 3] = -origin[0], -origin[1], origin[2]
        image = nib.Nifti1Image(array, affine, dtype=array.dtype)
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(codes)
        )
        return image.as_reoriented(turn)

    return make
