"""SUVbw by the formula of QIBA, typed here with plain numbers, and the headers that do not allow it."""

import warnings

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.ingest import suv

WEIGHT, DOSE, HALF_LIFE = 66.2, 257.4e6, 6586.2


def header(tracer=None, **more) -> Dataset:
    injected = {
        "RadiopharmaceuticalStartTime": "121314.500000",
        "RadionuclideHalfLife": HALF_LIFE,
        "RadionuclideTotalDose": DOSE,
    }
    values = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"],
        "SeriesDate": "20200229",
        "SeriesTime": "131314.500000",
        "AcquisitionDate": "20200229",
        "AcquisitionTime": "131500",
        "PatientWeight": WEIGHT,
    }
    one, item = Dataset(), Dataset()
    for made, said in ((item, {**injected, **(tracer or {})}), (one, {**values, **more})):
        for keyword, value in said.items():
            if value is not None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # pydicom warns of what is no time
                    setattr(made, keyword, value)
    one.RadiopharmaceuticalInformationSequence = Sequence([item])
    return one


def factor(seconds: float) -> float:
    """g/ml of a Bq/ml so many seconds after the injection."""
    return (WEIGHT * 1000) / (DOSE * 2 ** (-seconds / HALF_LIFE))


def test_an_hour_after_the_injection():
    assert suv.scale([header()]) == (pytest.approx(factor(3600), rel=1e-12), "")


def test_no_decay_where_the_scan_begins_with_the_injection():
    assert suv.scale([header(SeriesTime="121314.5")]).factor == pytest.approx(WEIGHT * 1000 / DOSE)


def test_all_beds_are_corrected_to_the_begin_of_the_series():
    beds = [header(AcquisitionTime=hour) for hour in ("132000", "131314.5", "132600")]
    assert suv.scale(beds).factor == pytest.approx(factor(3600))


def test_a_series_that_was_made_later_counts_from_its_first_bed():
    beds = [header(SeriesTime="180000", AcquisitionTime=hour) for hour in ("132000", "131614.5", "132600")]
    assert suv.scale(beds).factor == pytest.approx(factor(3600 + 180))


@pytest.mark.parametrize("missing", ["SeriesTime", "AcquisitionTime"])
def test_one_of_the_two_times_is_enough(missing):
    one = header(SeriesTime="131314.5", AcquisitionTime="131314.5")
    delattr(one, missing)
    assert suv.scale([one]).factor == pytest.approx(factor(3600))


def test_an_injection_before_midnight():
    one = header({"RadiopharmaceuticalStartTime": "233000"}, SeriesTime="003000", AcquisitionTime="003000")
    assert suv.scale([one]).factor == pytest.approx(factor(3600))


@pytest.mark.parametrize("zone", ["", "+0900"])
def test_the_full_time_of_injection_counts_before_the_hour(zone):
    start = f"20200228131314.500000{zone}"
    one = header({"RadiopharmaceuticalStartDateTime": start, "RadionuclideHalfLife": 3e5})
    wanted = WEIGHT * 1000 / (DOSE * 2 ** (-86400 / 3e5))
    assert suv.scale([one]).factor == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"Units": "CNTS"}, "Units is not BQML"),
        ({"Units": "GML"}, "Units is not BQML"),
        ({"Units": None}, "Units is not BQML"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is not START"),
        ({"DecayCorrection": "ADMIN"}, "DecayCorrection is not START"),
        ({"CorrectedImage": ["DECY"]}, "not corrected for attenuation and decay"),
        ({"CorrectedImage": ["ATTN", "NORM"]}, "not corrected for attenuation and decay"),
        ({"PatientWeight": None}, "no radiopharmaceutical or no weight"),
        ({"PatientWeight": 0}, "no radiopharmaceutical or no weight"),
        ({"tracer": {"RadionuclideTotalDose": None}}, "no dose in Bq, half-life, or time of injection or scan"),
        ({"tracer": {"RadionuclideTotalDose": 257.4}}, "no dose in Bq, half-life, or time of injection or scan"),
        ({"tracer": {"RadionuclideHalfLife": None}}, "no dose in Bq, half-life, or time of injection or scan"),
        ({"tracer": {"RadionuclideHalfLife": -6586}}, "no dose in Bq, half-life, or time of injection or scan"),
        ({"tracer": {"RadiopharmaceuticalStartTime": None}}, "no dose in Bq, half-life, or time of injection or scan"),
        (
            {"tracer": {"RadiopharmaceuticalStartTime": "noon"}},
            "no dose in Bq, half-life, or time of injection or scan",
        ),
        (
            {"tracer": {"RadiopharmaceuticalStartTime": "256199"}},
            "no dose in Bq, half-life, or time of injection or scan",
        ),
        ({"SeriesTime": None, "AcquisitionTime": None}, "no dose in Bq, half-life, or time of injection or scan"),
        (
            {"tracer": {"RadiopharmaceuticalStartDateTime": "20200301000000"}},
            "the scan is not soon after the injection",
        ),
        (
            {"tracer": {"RadiopharmaceuticalStartDateTime": "19991231000000"}},
            "the scan is not soon after the injection",
        ),
    ],
)
def test_a_header_that_does_not_allow_it_says_why_and_nothing_of_the_patient(more, reason):
    assert suv.scale([header(**more)]) == (None, reason)


def test_a_header_without_a_radiopharmaceutical_says_so():
    one = header()
    del one.RadiopharmaceuticalInformationSequence
    assert suv.scale([one]) == (None, "no radiopharmaceutical or no weight")


def test_a_header_that_is_silent_on_corrections_is_believed():
    assert suv.scale([header(CorrectedImage=None)]).factor == pytest.approx(factor(3600))
