"""One binary volume per structure: which files a case has."""

from pathlib import Path

import pytest

from pipeline.errors import Unusable
from pipeline.records import Case
from sources.annotation import Given, StructureVolumes
from sources.layouts import mask_per_class

CASE = Case("a", "toy", "a", {}, {})


def read(*files: str, **keys) -> StructureVolumes | None:
    spec = mask_per_class.Spec(kind="mask_per_class", path="a/{label}.nii.gz", **keys)
    return mask_per_class.read(spec, CASE, Given(Path(), files, None))


def test_the_file_name_carries_the_label():
    assert read("a/spleen.nii.gz", "a/aorta.nii.gz") == StructureVolumes(
        {"aorta": "a/aorta.nii.gz", "spleen": "a/spleen.nii.gz"}
    )


def test_a_case_without_structures_is_unusable_unless_they_are_optional():
    assert read(optional=True) is None
    with pytest.raises(Unusable, match=r"^missing_mask: "):
        read()
