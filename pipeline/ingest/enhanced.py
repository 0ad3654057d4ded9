"""Enhanced multi-frame DICOM: what its functional groups say of each frame.

Slope, window, spacing and place stand in groups, per frame or shared by all; pydicom's and ITK's readers of single
frames see none of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword

from pipeline.errors import Unusable
from pipeline.ingest.dicom import Slice, kind_of, kinds_of, slice_of
from pipeline.ingest.dicom_pixels import count, group, value

_KINDS = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "KVP": ("CTXRayDetailsSequence", "KVP"),
    "ConvolutionKernel": ("CTReconstructionSequence", "ConvolutionKernel"),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "AcquisitionTime": ("FrameContentSequence", "FrameReferenceDateTime"),
}
"""Keyword of a single-frame file to the group and keyword that stand for it."""
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
_PLACES = frozenset(map(tag_for_keyword, ("ImagePositionPatient", "InStackPositionNumber", "StackID")))
"""Dimensions that say where a frame lies and not what it shows."""


def is_enhanced(dataset: Any) -> bool:
    """Say whether a file's frames are described by functional groups."""
    return any(value(dataset, f"{whose}FunctionalGroupsSequence") for whose in ("Shared", "PerFrame"))


def slices(dataset: Any, path: Path) -> list[Slice]:
    """Return the frames of a file, in its order.

    Raises:
        Unusable: `undecodable`: groups and frames are not as many; `no_geometry`: a frame has no place.
    """
    frames, described = count(dataset), len(value(dataset, "PerFrameFunctionalGroupsSequence") or ())
    if described and described != frames:
        raise Unusable("undecodable", f"{frames} frames, and {described} are described")
    of_file, others = kinds_of(dataset), _other_dimensions(dataset)
    return [_slice(dataset, path, frame, of_file, others) for frame in range(frames)]


def _slice(dataset: Any, path: Path, frame: int, of_file: dict[str, Any], others: list[int]) -> Slice:
    content = group(dataset, frame, "FrameContentSequence")
    indices = value(content, "DimensionIndexValues") or ()
    dimensions = [indices[n] for n in others if n < len(indices)]
    found = {**of_file, **dict(_kinds(dataset, frame))}
    if dimensions:
        found["Dimensions"] = kind_of(dimensions)
    return slice_of(dataset, path, frame, found, str(value(content, "StackID") or ""))


def _kinds(dataset: Any, frame: int) -> Iterator[tuple[str, Any]]:
    for keyword, (sequence, inside) in _KINDS.items():
        said = value(group(dataset, frame, sequence), inside)
        if said is not None:
            yield keyword, kind_of(said)
    for sequence in _FRAME_TYPES:
        said = value(group(dataset, frame, sequence), "FrameType")
        if said is not None:
            yield "ImageType", kind_of(said)
    diffusion = value(group(dataset, frame, "MRDiffusionSequence"), "DiffusionGradientDirectionSequence")
    if diffusion:
        yield "DiffusionGradientOrientation", kind_of(value(diffusion[0], "DiffusionGradientOrientation"))


def _other_dimensions(dataset: Any) -> list[int]:
    """Return the numbers of the dimensions along which frames of one place differ."""
    dimensions = value(dataset, "DimensionIndexSequence") or ()
    return [n for n, item in enumerate(dimensions) if value(item, "DimensionIndexPointer") not in _PLACES]
