"""PET: from Bq/ml to the standardised uptake value by body weight, by the rules of QIBA's vendor-neutral pseudo-code.

Weight, dose and times of a patient are used here and go nowhere: what leaves is one factor, or why there is none.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from pipeline.ingest.dicom_pixels import numbers, text, value

LEAST_DOSE = 1e5
"""Bq; a smaller dose makes no picture and was written in another unit."""
MOST_HALF_LIVES = 20.0
"""Between injection and scan; more means that dates were shifted apart when names were taken out."""


class Scale(NamedTuple):
    """What Bq/ml are multiplied with."""

    factor: float | None
    """g/ml of a Bq/ml; None: the header does not allow it."""
    reason: str = ""
    """What is missing."""


def scale(datasets: Sequence[Any]) -> Scale:
    """Return the factor that makes SUVbw of Bq/ml.

    Args:
        datasets: Headers of all slices of the series: beds are scanned one after the other.
    """
    first = datasets[0]
    corrected = text(first, "CorrectedImage")
    if text(first, "Units") != "BQML":
        return Scale(None, "Units is not BQML")
    if text(first, "DecayCorrection") != "START":
        return Scale(None, "DecayCorrection is not START")
    if corrected and not {"ATTN", "DECY"} <= set(corrected.split("\\")):
        return Scale(None, "not corrected for attenuation and decay")
    tracers = value(first, "RadiopharmaceuticalInformationSequence")
    weight, scanned = _above(first, "PatientWeight", 0), _scanned(datasets)
    if not tracers or weight is None:
        return Scale(None, "no radiopharmaceutical or no weight")
    dose = _above(tracers[0], "RadionuclideTotalDose", LEAST_DOSE)
    half_life = _above(tracers[0], "RadionuclideHalfLife", 0)
    injected = None if scanned is None else _injected(tracers[0], scanned)
    if dose is None or half_life is None or scanned is None or injected is None:
        return Scale(None, "no dose in Bq, half-life, or time of injection or scan")
    half_lives = (scanned - injected).total_seconds() / half_life
    if not 0 <= half_lives <= MOST_HALF_LIVES:
        return Scale(None, "the scan is not soon after the injection")
    return Scale(weight * 1000 / (dose * 0.5**half_lives))


def _above(holder: Any, keyword: str, least: float) -> float | None:
    found = numbers(holder, keyword)
    return found[0] if found and np.isfinite(found[0]) and found[0] > least else None


def _scanned(datasets: Sequence[Any]) -> datetime | None:
    """Return the time to which counts were corrected: the series', unless it was made after the acquisition."""
    first = datasets[0]
    series = _moment(text(first, "SeriesDate") + text(first, "SeriesTime"))
    days = [text(d, "AcquisitionDate") or text(d, "SeriesDate") for d in datasets]
    found = [_moment(day + text(d, "AcquisitionTime")) for day, d in zip(days, datasets, strict=True)]
    acquired = min((moment for moment in found if moment is not None), default=None)
    if series is None or acquired is None:
        return series or acquired
    return min(series, acquired)


def _injected(tracer: Any, scanned: datetime) -> datetime | None:
    """Return the time of injection; where only the hour is given it was within the day before the scan."""
    whole = _moment(text(tracer, "RadiopharmaceuticalStartDateTime"))
    if whole is not None:
        return whole
    hour = _moment(f"{scanned:%Y%m%d}" + text(tracer, "RadiopharmaceuticalStartTime"))
    return hour - timedelta(days=1) if hour is not None and hour > scanned else hour


def _moment(written: str) -> datetime | None:
    """Read YYYYMMDDHHMM[SS[.FFFFFF]][&ZZXX]; both ends of an interval are local time, so the zone says nothing."""
    found = re.fullmatch(r"(\d{12})(\d{2})?(?:\.(\d{1,6}))?(?:[+-]\d{4})?", written.strip())
    if found is None:
        return None
    minutes, seconds, fraction = found.groups()
    try:
        return datetime.strptime(f"{minutes}{seconds or '00'}.{fraction or '0'}", "%Y%m%d%H%M%S.%f")
    except ValueError:
        return None
