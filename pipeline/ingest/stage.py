"""The ingest stage: a case in, its records and what was left out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import pictures, runlength
from pipeline.errors import Unusable
from pipeline.ingest import dicom, masks, volumes
from pipeline.ingest.geometry import Volume, laid_over, placed
from pipeline.ingest.slices import Cut, cuts, take
from pipeline.ingest.windows import Bounds, bounds, grey
from pipeline.records import Box, Case, Level, Origin, Picture, Record, Region, Rejected
from pipeline.vocabulary import Vocabulary
from sources.annotation import Annotation, Given, LabelVolume, Mark, Marks, Segments, StructureVolumes
from sources.cases import form_of
from sources.descriptor import AnnotationSpec, Descriptor, layout
from sources.templates import fill

ORIGINS: tuple[Origin, ...] = ("segmentation_3d", "segmentation_2d", "detection", "classification")


@dataclass(slots=True)
class Tally:
    """What was found, counted where it is found: the left sides of the ledgers."""

    pictures_cut: int = 0
    pictures_not_selected: int = 0
    regions_found: int = 0


@dataclass(slots=True)
class Read:
    """What became of one case."""

    records: list[Record] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def reject(self, id_: str, level: Level, reason: str, detail: str) -> None:
        """Add a row for what is left out."""
        self.rejected.append(Rejected(id_, level, "ingest", reason, detail))


class Source(NamedTuple):
    """All that reading a case of a source needs."""

    descriptor: Descriptor
    root: Path
    vocabulary: Vocabulary

    @property
    def modality(self) -> str:
        """Key of the vocabulary's modalities."""
        return self.vocabulary.modality(self.descriptor.modality, self.descriptor.id)


def read_case(case: Case, source: Source) -> Read:
    """Read one case: every picture of it ends as a record, not selected, or rejected; a bad file is one row."""
    out = Read()
    case_id = f"{case.source}/{case.id}"
    try:
        if case.problem:
            raise Unusable(*case.problem)
        if form_of(case, source.descriptor) == "picture":
            _read_picture(case, source, out)
        else:
            _read_volume(case, source, out)
    except Unusable as error:
        out = Read()
        out.reject(case_id, "case", error.reason, error.detail)
    except OSError as error:
        out = Read()
        out.reject(case_id, "case", "unreadable", error.strerror or type(error).__name__)
    except MemoryError:
        out = Read()
        out.reject(case_id, "case", "too_large", "does not fit into memory")
    if not out.records and not any(row.level == "case" for row in out.rejected):
        out.reject(case_id, "case", "nothing_kept", "no picture of it was kept; its pictures and regions say why")
    return out


def _annotations(case: Case, source: Source) -> list[tuple[AnnotationSpec, Annotation]]:
    """Read what is known of a case; annotations that say nothing of it are left out."""
    found = []
    for n, spec in enumerate(source.descriptor.specs):
        given = Given(source.root, case.files.get(str(n), ()), case.notes.get(str(n)))
        annotation = layout(spec.kind).read(spec, case, given)
        if annotation is not None:
            found.append((spec, annotation))
    return found


def _origin(source: Source) -> Origin:
    origins = {layout(spec.kind).ORIGIN for spec in source.descriptor.specs}
    return next((origin for origin in ORIGINS if origin in origins), "classification")


def _looked_for(source: Source, specs: Iterable[AnnotationSpec]) -> frozenset[str]:
    """Return the labels that were looked for: those of the complete annotations among the ones that speak of a case."""
    found = set()
    for spec in specs:
        for raw in spec.labels if spec.complete else ():
            rule = spec.rule(raw)
            concept = source.vocabulary.meaning(rule.label or raw).concept
            if concept and not rule.drop:
                found.add(concept)
    return frozenset(found)


def _region(source: Source, spec: AnnotationSpec, raw: str, certain: bool = True) -> Region | None:
    """Return a region without a place, or None where the descriptor drops the label."""
    rule = spec.rule(raw)
    if rule.drop:
        return None
    concept, side = source.vocabulary.meaning(rule.label or raw)
    known = rule.label or raw
    return Region(concept, known if concept is None else raw, side=rule.side or side, certain=certain and spec.certain)


class Laid(NamedTuple):
    """The regions of one picture."""

    regions: tuple[Region, ...]
    doubted: frozenset[str | None]
    """Labels with a region that was left out: neither present nor absent."""


# ---- 2D pictures


def _read_picture(case: Case, source: Source, out: Read) -> None:
    decoded = pictures.decode((source.root / case.files["image"][0]).read_bytes())
    height, width = decoded.pixels.shape[:2]
    data = decoded.original or pictures.png(decoded.pixels)
    picture = Picture(data, width, height, pictures.sha256(data), flags=("exif_turned",) if decoded.turned else ())
    annotations = _annotations(case, source)
    for _, annotation in annotations:
        if not isinstance(annotation, Marks):
            raise Unusable("bad_annotation", "a volume's annotation on a 2D picture")
        if annotation.size and annotation.size != (width, height):
            raise Unusable("size_mismatch", f"picture is {width}x{height} px, annotated at {annotation.size}")
    out.tally.pictures_cut += 1
    record_id = f"{case.source}/{case.id}/image"
    laid = _marked(record_id, annotations, picture, source, out)
    if not annotations and source.descriptor.cases.unlabelled == "reject":
        out.reject(record_id, "record", "unlabelled", "no annotation speaks of it; cases.unlabelled: keep keeps it")
        return
    looked_for = _looked_for(source, (spec for spec, _ in annotations))
    _keep(record_id, case, source, picture, laid, looked_for, decoded.history, out)


def _marked(
    record_id: str,
    annotations: Sequence[tuple[AnnotationSpec, Annotation]],
    picture: Picture,
    source: Source,
    out: Read,
) -> Laid:
    found = [(s, m) for s, a in annotations if isinstance(a, Marks) for m in a.marks]
    kept, doubted = list[Region](), set[str | None]()
    for n, (spec, mark) in enumerate(found):
        region = _region(source, spec, mark.raw)
        if region is None:
            continue
        out.tally.regions_found += 1
        try:
            kept.append(_placed(region, mark, picture, source.descriptor.limits.min_box_px))
        except Unusable as error:
            doubted.add(region.label)
            out.reject(f"{record_id}/r{n:03d}", "region", error.reason, error.detail)
    return Laid(tuple(kept), frozenset(doubted))


def _placed(region: Region, mark: Mark, picture: Picture, min_box_px: float) -> Region:
    """Lay a mark on its picture: up to 1 px outside is rounding and is clipped, a box wholly outside is an error."""
    if mark.problem:
        raise Unusable(*mark.problem)
    if mark.box is None:
        return replace(region, reader=mark.reader)
    if not all(math.isfinite(value) for value in mark.box):
        raise Unusable("bad_box", "a coordinate is not a number")
    box = Box(
        max(0.0, mark.box.x0),
        max(0.0, mark.box.y0),
        min(float(picture.width), mark.box.x1),
        min(float(picture.height), mark.box.y1),
    )
    said = f"{tuple(round(v, 1) for v in mark.box)} on {picture.width}x{picture.height} px"
    if box.x1 <= box.x0 or box.y1 <= box.y0:
        raise Unusable("box_outside", f"{said}: no part of it is inside")
    if box.area < 0.5 * mark.box.area:
        raise Unusable("box_outside", f"{said}: more than half of it is outside")
    if min(box.width, box.height) < min_box_px:
        raise Unusable("too_small", f"{box.width:.1f}x{box.height:.1f} px; at least {min_box_px:g} px are kept")
    return replace(region, box=box, area_px=box.area, reader=mark.reader)


# ---- volumes


class Layer(NamedTuple):
    """A label map on the volume's grid, and what its ids mean."""

    spec: AnnotationSpec
    array: NDArray[Any]
    """`(z, y, x)`, LPS."""
    names: dict[int, str]
    """Empty: ids stand for themselves and none is known."""


def _read_volume(case: Case, source: Source, out: Read) -> None:
    geometry = source.descriptor.geometry
    paths = [source.root / path for path in case.files["image"]]
    series = form_of(case, source.descriptor) == "series"
    volume = dicom.read_series(paths) if series else volumes.read(paths[0], geometry.assume)
    if volume.array.min() == volume.array.max():
        raise Unusable("no_content", f"every voxel is {volume.array.flat[0]:g}")
    annotations = _annotations(case, source)
    if not annotations and source.descriptor.cases.unlabelled == "reject":
        raise Unusable("unlabelled", "no annotation speaks of it; cases.unlabelled: keep keeps it")
    window = bounds(
        source.descriptor.display.window, source.modality, volume.array, source.vocabulary, source.descriptor.id
    )
    found = _found(volume, annotations, source)
    looked_for = _looked_for(source, (spec for spec, _ in annotations))
    for axis in source.descriptor.slices.planes:
        _cut_plane(axis, case, source, volume, window, found[axis], looked_for, out)


def _layers(
    volume: Volume, annotations: Sequence[tuple[AnnotationSpec, Annotation]], source: Source
) -> Iterator[Layer]:
    """Yield the label maps of a case one at a time, each on the volume's grid."""
    geometry = source.descriptor.geometry
    for spec, annotation in annotations:
        match annotation:
            case LabelVolume(file, names):
                mask = volumes.read_labels(source.root / file, geometry.assume)
                yield Layer(spec, laid_over(volume, mask, geometry.pairing).array, dict(names))
            case StructureVolumes(files):
                for raw, file in files.items():
                    mask = volumes.read_labels(source.root / file, geometry.assume)
                    binary = laid_over(volume, mask, geometry.pairing).array != 0
                    yield Layer(spec, binary.view(np.uint8), {1: raw})
            case Segments(file):
                for raw, mask in dicom.read_segments(source.root / file):
                    resample = geometry.pairing == "resample"
                    laid = laid_over(volume, mask, "resample") if resample else placed(volume, mask)
                    yield Layer(spec, laid.array, {1: raw})
            case Marks():
                raise Unusable("bad_annotation", "a picture's annotation on a volume")


class OnSlice(NamedTuple):
    """A region found on a slice, in voxels."""

    spec: AnnotationSpec
    raw: str
    known: bool
    """Its id stands in the descriptor's labels."""
    found: masks.Found


def _found(
    volume: Volume, annotations: Sequence[tuple[AnnotationSpec, Annotation]], source: Source
) -> dict[str, dict[int, list[OnSlice]]]:
    """Find all regions of a volume: plane to slice to regions."""
    planes = source.descriptor.slices.planes
    found: dict[str, dict[int, list[OnSlice]]] = {axis: {} for axis in planes}
    for layer in _layers(volume, annotations, source):
        dropped = [value for value, raw in layer.names.items() if layer.spec.rule(raw).drop]
        per_component = getattr(layer.spec, "boxes", "per_class") == "per_component"
        occupied = np.flatnonzero(layer.array.any(axis=(1, 2)))
        if not len(occupied):
            continue
        for axis in planes:
            indices = occupied if axis == "axial" else _occupied(layer.array, axis)
            for index in indices.tolist():
                for region in masks.find(take(layer.array, axis, index), per_component):
                    if region.value not in dropped:
                        raw = layer.names.get(region.value)
                        on_slice = OnSlice(layer.spec, raw or str(region.value), raw is not None, region)
                        found[axis].setdefault(index, []).append(on_slice)
    return found


def _occupied(array: NDArray[Any], axis: str) -> NDArray[np.int64]:
    return np.flatnonzero(array.any(axis=(0, 2) if axis == "coronal" else (0, 1)))


def _cut_plane(
    axis: str,
    case: Case,
    source: Source,
    volume: Volume,
    window: Bounds,
    found: dict[int, list[OnSlice]],
    looked_for: frozenset[str],
    out: Read,
) -> None:
    slices = source.descriptor.slices
    all_cuts = list(cuts(volume, axis, source.descriptor.geometry.allow_oblique))
    wanted = [cut for cut in all_cuts if slices.pick == "all" or cut.number in found][:: slices.every]
    out.tally.pictures_cut += len(all_cuts)
    out.tally.pictures_not_selected += len(all_cuts) - len(wanted)
    for cut in wanted:
        record_id = f"{case.source}/{case.id}/{axis}/{'xyz'['sca'.index(axis[0])]}{cut.number:04d}"
        laid = _slice_regions(record_id, cut, found.get(cut.number, []), source, out)
        picture = _slice_picture(volume, cut, window)
        _keep(record_id, case, source, picture, laid, looked_for, (f"window {window.name}",), out)


def _slice_picture(volume: Volume, cut: Cut, window: Bounds) -> Picture:
    pixels = grey(take(volume.array, cut.axis, cut.number), window)
    if pixels.shape != (cut.height, cut.width):
        pixels = pictures.resize(np.ascontiguousarray(pixels), cut.width, cut.height)
    data = pictures.png(pixels)
    return Picture(
        data,
        cut.width,
        cut.height,
        pictures.sha256(data),
        cut.to_source,
        cut.to_world,
        cut.plane,
        None,
        window.name,
        cut.number,
        None,
        cut.spacing_mm,
        volume.geometry,
        volume.flags,
    )


def _slice_regions(record_id: str, cut: Cut, found: Sequence[OnSlice], source: Source, out: Read) -> Laid:
    kept, doubted = list[Region](), set[str | None]()
    for n, (spec, raw, known, region) in enumerate(found):
        out.tally.regions_found += 1
        plain = _region(source, spec, raw)
        assert plain is not None  # dropped labels were left out when regions were found
        try:
            if not known:
                raise Unusable("unknown_label_id", f"label id {raw} is not in the descriptor's labels")
            kept.append(_sized(plain, region, cut, source.descriptor))
        except Unusable as error:
            doubted.add(plain.label)
            out.reject(f"{record_id}/r{n:03d}", "region", error.reason, f"{raw}: {error.detail}")
    return Laid(tuple(kept), frozenset(doubted))


def _sized(region: Region, found: masks.Found, cut: Cut, descriptor: Descriptor) -> Region:
    """Give a region its box, mask and areas in the stored picture, or refuse it as too small."""
    limits = descriptor.limits
    area_mm2 = found.area * cut.voxel_mm2 if cut.voxel_mm2 else None
    if area_mm2 is not None and area_mm2 < limits.min_area_mm2:
        raise Unusable("too_small", f"{area_mm2:.1f} mm2; at least {limits.min_area_mm2:g} are kept")
    if area_mm2 is None and found.area < limits.min_area_px:
        raise Unusable("too_small", f"{found.area} px; at least {limits.min_area_px:g} are kept")
    box = Box(found.x0 * cut.scale_x, found.y0 * cut.scale_y, found.x1 * cut.scale_x, found.y1 * cut.scale_y)
    mask, x0, y0 = masks.mask_of(found), found.x0, found.y0
    area_px = float(found.area)
    if (cut.scale_x, cut.scale_y) != (1.0, 1.0):
        mask, x0, y0 = _stretched(mask, box, cut)
        area_px = float(np.count_nonzero(mask))
    code = runlength.encode(mask, x0, y0, cut.width, cut.height)
    return replace(region, box=box, mask=code, component=found.component, area_px=area_px, area_mm2=area_mm2)


def _stretched(mask: NDArray[np.bool_], box: Box, cut: Cut) -> tuple[NDArray[np.bool_], int, int]:
    """Resample a region's mask onto the stored picture's pixels: each takes the voxel its centre lies in."""
    x0, y0 = math.floor(box.x0), math.floor(box.y0)
    x1, y1 = min(cut.width, math.ceil(box.x1)), min(cut.height, math.ceil(box.y1))
    columns = np.floor((np.arange(x0, x1) + 0.5) / cut.scale_x - box.x0 / cut.scale_x).astype(int)
    rows = np.floor((np.arange(y0, y1) + 0.5) / cut.scale_y - box.y0 / cut.scale_y).astype(int)
    inside = (rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1])
    taken = mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)]
    return taken & inside[0][:, None] & inside[1][None, :], x0, y0


# ---- records


def _keep(
    record_id: str,
    case: Case,
    source: Source,
    picture: Picture,
    laid: Laid,
    looked_for: frozenset[str],
    history: tuple[str, ...],
    out: Read,
) -> None:
    """Make a record, or reject the picture with its regions."""
    descriptor, modality, regions = source.descriptor, source.modality, laid.regions
    annotated = tuple(sorted(looked_for - laid.doubted))
    problem = None
    if min(picture.width, picture.height) < descriptor.limits.min_side_px:
        problem = (
            "too_small",
            f"{picture.width}x{picture.height} px; shorter side at least {descriptor.limits.min_side_px}",
        )
    elif not regions and not annotated and descriptor.cases.unlabelled == "reject":
        problem = ("no_region", "no region is left on it, and absence is not annotated")
    if problem:
        out.reject(record_id, "record", *problem)
        for n, _ in enumerate(regions):
            out.reject(f"{record_id}/k{n:03d}", "region", "picture_rejected", problem[0])
        return
    vocabulary = source.vocabulary
    out.records.append(
        Record(
            id=record_id,
            picture=picture,
            text=None,
            modality=modality,
            sub_modality=descriptor.sub_modality,
            department=descriptor.department or vocabulary.department(regions, modality),
            task=descriptor.task or vocabulary.task(regions, modality),
            origin=_origin(source),
            regions=regions,
            annotated=annotated,
            doubted=tuple(sorted(label for label in laid.doubted if label)),
            attributes=_attributes(case, descriptor),
            body_part=descriptor.body_part,
            source=case.source,
            case=case.id,
            group=case.group,
            license=descriptor.license.name,
            redistribute=descriptor.license.redistribute,
            commercial=descriptor.license.commercial,
            egress=descriptor.egress,
            history=history,
        )
    )


def _attributes(case: Case, descriptor: Descriptor) -> dict[str, str]:
    """Fill the descriptor's attributes; the empty ones are left out."""
    filled = {name: fill(template, case.captures) for name, template in descriptor.attributes.items()}
    return {name: value for name, value in filled.items() if value}
