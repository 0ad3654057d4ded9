"""May a DICOM picture show text of a patient? Told from its header alone: a person has to look where it may."""

from typing import Any

from pipeline.ingest.dicom_pixels import text

_ROOT = "1.2.840.10008.5.1.4.1.1."
_CLASSES = {
    "secondary_capture": "7 7.1 7.2 7.3 7.4",
    "ultrasound": "3 3.1 6 6.1 6.2",
    "photograph": "77.1 77.1.1 77.1.1.1 77.1.4 77.1.4.1",
}
_RISKS = {_ROOT + leaf: risk for risk, leaves in _CLASSES.items() for leaf in leaves.split()}
"""Storage classes whose pictures come from a screen, a banner or a camera."""
_MODALITIES = {
    "US": "ultrasound",
    "IVUS": "ultrasound",
    "ES": "photograph",
    "XC": "photograph",
    "SC": "secondary_capture",
}
_TYPES = {"SCREEN SAVE": "screen", "SECONDARY": "screen", "DOSE_INFO": "screen", "LABEL": "label", "OVERVIEW": "label"}
"""Values of ImageType: made after the examination; of a slide, the picture of its paper label."""


def risk(dataset: Any, cropped: bool = False) -> str | None:
    """Return why a picture may show a patient's name or dates, or None where nothing speaks for it.

    Args:
        dataset: The header.
        cropped: Only what an ultrasound file declares as its regions is kept, which leaves its banner out.

    Returns:
        `declared` (the header says so); and where the header does not deny it: `secondary_capture`, `ultrasound`,
        `photograph`, `screen`, `label`, `overlay`.
    """
    said = text(dataset, "BurnedInAnnotation")
    if said.startswith("Y"):
        return "declared"
    if said == "NO":
        return None
    kind = _kind(dataset)
    if kind and not (kind == "ultrasound" and cropped):
        return kind
    made = [_TYPES[part] for part in text(dataset, "ImageType").split("\\") if part in _TYPES]
    if made:
        return made[0]
    return "overlay" if _has_overlay(dataset) else None


def of_slice(dataset: Any) -> str | None:
    """Return why a slice may show a patient's name: as `risk`, but reformatted and derived slices are slices."""
    why = risk(dataset)
    types = text(dataset, "ImageType").split("\\")
    return None if why == "overlay" or (why == "screen" and "SCREEN SAVE" not in types) else why


def _kind(dataset: Any) -> str | None:
    return _RISKS.get(text(dataset, "SOPClassUID")) or _MODALITIES.get(text(dataset, "Modality"))


def _has_overlay(dataset: Any) -> bool:
    """Return whether graphics lie over the picture, beside its pixels or in their unused bits."""
    tags = dataset.keys()
    return any(0x6000 <= tag.group <= 0x60FF and tag.element in (0x0010, 0x3000) for tag in tags)
