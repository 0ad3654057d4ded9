"""A source as ingest sees it: its descriptor, its folder, and what its labels mean."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable, UserError
from pipeline.ingest.reslice import as_stored
from pipeline.records import Case, Egress, Origin, Region
from pipeline.vocabulary import Vocabulary
from sources.annotation import Annotation, Given
from sources.cases import form_of
from sources.descriptor import AnnotationSpec, Descriptor, Limits, layout
from sources.templates import fill

FINE_PIXEL_MM2 = 0.0025
"""Below it (0.05 mm a side) a picture is a microscope's or an OCT's, and what matters on it is below 10 mm²."""
ORIGINS: tuple[Origin, ...] = ("segmentation_3d", "segmentation_2d", "detection", "classification")


class Annotated(NamedTuple):
    """One annotation of a case, and what the descriptor says of its kind."""

    spec: AnnotationSpec
    annotation: Annotation


class Placed(NamedTuple):
    """A region on its picture, or why it can not be one."""

    region: Region
    problem: tuple[str, str] | None = None
    remark: str | None = None
    """`clipped_box`: more than 1 px of it stood outside the picture; `specks`: small parts were taken out of it."""


class Laid(NamedTuple):
    """What the annotations say of one picture."""

    placed: tuple[Placed, ...] = ()
    absent: frozenset[str] = frozenset()
    """Labels that were looked for on this picture, beside those of complete annotations."""
    remarks: tuple[str, ...] = ()
    """What is odd about its masks and regions: the keys of `defects.REMARKS`."""
    history: tuple[str, ...] = ()
    """What was done to its masks."""
    doubted: frozenset[str] = frozenset()
    """Labels that may be on it or not: a part of it was not looked at, or a finding has no place."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What a reader of the record should know of it."""
        names = {"clipped_box": "box_clipped", "full_mask": "full_mask", "specks": "despeckled"}
        return tuple(flag for remark, flag in names.items() if remark in self.remarks)


class Terms(NamedTuple):
    """Under what licence a picture is, and what that allows."""

    name: str
    redistribute: bool
    commercial: bool
    egress: Egress


class Source(NamedTuple):
    """All that reading a case of a source needs."""

    descriptor: Descriptor
    root: Path
    vocabulary: Vocabulary

    def modality(self, case: Case) -> str:
        """Return the key of a case's modality.

        Raises:
            Unusable: `unknown_modality`: what the descriptor's template gives is none.
        """
        if "{" not in self.descriptor.modality:
            return self.vocabulary.modality(self.descriptor.modality, self.descriptor.id)
        name = fill(self.descriptor.modality, case.captures).strip()
        try:
            return self.vocabulary.modality(self.descriptor.modalities.get(name, name), self.descriptor.id)
        except UserError:
            said = f"what stands there ({len(name)} characters) is no modality"
            raise Unusable("unknown_modality", f"{said}; list it in modalities") from None

    def filled(self, template: str | None, case: Case) -> str | None:
        """Fill one of the descriptor's templates; None where nothing comes of it."""
        return fill(template, case.captures).strip() or None if template else None

    def annotations(self, case: Case) -> list[Annotated]:
        """Read what is known of a case; annotations that say nothing of it are left out."""
        found = []
        for n, spec in enumerate(self.descriptor.specs):
            shared = case.files.get(f"{n}.shared", ())
            given = Given(self.root, case.files.get(str(n), ()), case.notes.get(str(n)), shared)
            annotation = layout(spec.kind).read(spec, case, given)
            if annotation is not None:
                found.append(Annotated(spec, annotation))
        return found

    def labels(self) -> tuple[str, ...]:
        """Return the concepts that the descriptor's labels mean, one for each label: what windows are chosen by."""
        named = (spec.rule(raw).label or raw for spec in self.descriptor.specs for raw in spec.labels)
        found = (self.vocabulary.meaning(name).concept for name in named)
        return tuple(concept for concept in found if concept)

    def origin(self, case: Case) -> Origin:
        """Return what kind of data set a picture comes from."""
        form = form_of(case, self.descriptor)
        if form == "video":
            return "video"
        origins = {getattr(spec, "origin", None) or layout(spec.kind).ORIGIN for spec in self.descriptor.specs}
        return next((origin for origin in ORIGINS if origin in origins), "classification")

    def looked_for(self, specs: Iterable[AnnotationSpec]) -> frozenset[str]:
        """Return the labels of those annotations among some that are complete."""
        found = set()
        for spec in specs:
            for raw in spec.labels if spec.complete else ():
                rule = spec.rule(raw)
                concept = self.vocabulary.meaning(rule.label or raw).concept
                if concept and not rule.drop:
                    found.add(concept)
        return frozenset(found)

    def region(self, spec: AnnotationSpec, raw: str, certain: bool = True, reader: str | None = None) -> Region | None:
        """Return a region without a place, or None where the descriptor drops the label."""
        rule = spec.rule(raw)
        if rule.drop:
            return None
        known = rule.label or raw
        concept, side = self.vocabulary.meaning(known)
        name = known if concept is None else raw
        return Region(concept, name, side=rule.side or side, certain=certain and spec.certain, reader=reader)

    def terms(self, case: Case) -> Terms:
        """Return the licence of a case's pictures.

        Raises:
            Unusable: `license`: the descriptor leaves out pictures under it, or does not list it.
        """
        said, egress = self.descriptor.license, self.descriptor.egress
        if not said.each:
            return Terms(fill(said.name, case.captures), said.redistribute, said.commercial, egress)
        name = fill(said.name, case.captures).strip()
        rule = said.each.get(name)
        if rule is None:
            raise Unusable("license", f"what stands there ({len(name)} characters) is not listed in license.each")
        if rule.drop:
            raise Unusable("license", "license.each leaves out pictures under it")
        return Terms(name, rule.redistribute, rule.commercial, rule.egress or egress)

    def attributes(self, case: Case) -> dict[str, str]:
        """Fill the descriptor's attributes; the empty ones are left out."""
        filled = {name: fill(template, case.captures) for name, template in self.descriptor.attributes.items()}
        return {name: value for name, value in filled.items() if value}


def remarks_on(mask: NDArray[Any]) -> tuple[str, ...]:
    """Return what is odd about a mask, of any number of axes: told to the curator, never mended in silence.

    >>> remarks_on(np.zeros((4, 4)))
    ('empty_mask',)
    """
    held = int(np.count_nonzero(as_stored(mask)))
    if held in (0, mask.size):
        return ("full_mask",) if held else ("empty_mask",)
    if held <= 0.5 * mask.size:
        return ()
    edges = [np.take(mask, at, axis) != 0 for axis in range(mask.ndim) for at in (0, -1)]
    border = sum(int(edge.sum()) for edge in edges) / sum(edge.size for edge in edges)
    return ("inverted_mask",) if border > 0.75 else ()


def sized(region: Region, area_px: float, area_mm2: float | None, source: Source, picture_px: int) -> Placed:
    """Give a region its areas, or refuse it by the limits for masks; arguments as of `too_small`."""
    problem = too_small(region, area_px, area_mm2, source.descriptor.limits, picture_px)
    return Placed(replace(region, area_px=area_px, area_mm2=area_mm2), problem)


def too_small(
    region: Region, area_px: float, area_mm2: float | None, limits: Limits, picture_px: int
) -> tuple[str, str] | None:
    """Return why the limits for masks refuse a region, or None.

    Args:
        region: With its label.
        area_px: px of the stored picture.
        area_mm2: None where spacing is unknown.
        limits: The descriptor's.
        picture_px: Area of the stored picture.
    """
    name = region.label or region.raw
    in_mm = area_mm2 is not None and area_px > 0 and area_mm2 / area_px >= FINE_PIXEL_MM2
    if in_mm and area_mm2 is not None and area_mm2 < limits.min_area_mm2:
        return "too_small", f"{name}: {area_mm2:.1f} mm2; at least {limits.min_area_mm2:g} are kept"
    if not in_mm and area_px < limits.min_area_px:
        return "too_small", f"{name}: {area_px:g} px; at least {limits.min_area_px:g} are kept"
    if area_px < limits.min_share * picture_px:
        share = f"{area_px / picture_px:.3%} of the picture"
        return "too_small", f"{name}: {share}; at least {limits.min_share:.3%} are kept"
    return None
