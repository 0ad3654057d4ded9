"""Whether a picture may show text of a patient, told from its header."""

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLEndoscopicImageStorage,
    VLPhotographicImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from pipeline.ingest.burned_in import risk


def header(storage=ComputedRadiographyImageStorage, **tags) -> Dataset:
    d = Dataset()
    d.SOPClassUID = storage
    for key, value in tags.items():
        setattr(d, key, value)
    return d


@pytest.mark.parametrize(
    ("storage", "why"),
    [
        (ComputedRadiographyImageStorage, None),
        (CTImageStorage, None),
        (VLWholeSlideMicroscopyImageStorage, None),
        (SecondaryCaptureImageStorage, "secondary_capture"),
        (UltrasoundImageStorage, "ultrasound"),
        (UltrasoundMultiFrameImageStorage, "ultrasound"),
        (VLEndoscopicImageStorage, "photograph"),
        (VLPhotographicImageStorage, "photograph"),
    ],
)
def test_the_class_of_a_file_tells_and_the_header_may_deny_or_declare(storage, why):
    assert risk(header(storage)) == why
    assert risk(header(storage, BurnedInAnnotation="")) == why
    assert risk(header(storage, BurnedInAnnotation="NO")) is None
    assert risk(header(storage, BurnedInAnnotation="YES")) == "declared"


@pytest.mark.parametrize(("code", "why"), [("US", "ultrasound"), ("ES", "photograph"), ("CT", None)])
def test_the_modality_tells_where_there_is_no_class(code, why):
    d = Dataset()
    d.Modality = code
    assert risk(d) == why


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], None),
        (["DERIVED", "PRIMARY"], None),
        (["DERIVED", "SECONDARY"], "screen"),
        (["DERIVED", "PRIMARY", "SCREEN SAVE"], "screen"),
        (["ORIGINAL", "PRIMARY", "LABEL", "NONE"], "label"),
        (["ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"], "label"),
        ("", None),
    ],
)
def test_pictures_of_screens_and_of_paper_labels_are_a_risk(values, why):
    assert risk(header(CTImageStorage, ImageType=values)) == why
    assert risk(header(CTImageStorage, ImageType=values, BurnedInAnnotation="NO")) is None


@pytest.mark.parametrize("group", [0x6000, 0x601E])
def test_graphics_over_a_picture_are_a_risk(group):
    d = header()
    d.add_new((group, 0x0010), "US", 4)
    assert risk(d) == "overlay"
    d.BurnedInAnnotation = "NO"
    assert risk(d) is None


def test_an_ultrasound_cut_to_its_regions_has_lost_its_banner_unless_it_declares_text():
    assert risk(header(UltrasoundImageStorage), cropped=True) is None
    assert risk(header(UltrasoundImageStorage, BurnedInAnnotation="YES"), cropped=True) == "declared"
    assert risk(header(UltrasoundImageStorage, ImageType=["DERIVED", "SECONDARY"]), cropped=True) == "screen"
    assert risk(header(SecondaryCaptureImageStorage), cropped=True) == "secondary_capture"


def test_an_empty_header_is_no_risk():
    assert risk(Dataset()) is None
