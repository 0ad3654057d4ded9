"""What annotations say of a volume: label maps on its grid, one at a time, and the regions of its slices."""

import functools
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Unusable
from pipeline.ingest import contours, header_labels, masks, reslice, segments, spheres, volumes
from pipeline.ingest.geometry import Volume, laid_over
from pipeline.ingest.planar import odd
from pipeline.ingest.slices import Cut, planes_of, stacked
from pipeline.ingest.source import Annotated, Laid, Placed, Source, remarks_on, too_small
from pipeline.records import Box, Region
from sources.annotation import Contours, LabelVolume, Marks, Segments, Spheres, StructureVolumes
from sources.descriptor import AnnotationSpec, layout


class Layer(NamedTuple):
    """A label map on the volume's grid, and what its ids mean."""

    spec: AnnotationSpec
    array: NDArray[Any]
    """`(z, y, x)`, LPS; of a block of the volume only its own voxels."""
    names: Mapping[int, str]
    """Ids that are not in it are unknown."""
    ignore: frozenset[int] = frozenset()
    """Ids that are no label."""
    unseen: frozenset[int] = frozenset()
    """Of these, voxels that nobody looked at."""
    reader: str | None = None
    first: tuple[int, int, int] = (0, 0, 0)
    """z, y, x of a block's first voxel in the volume."""
    remarks: tuple[str, ...] = ()
    """What is odd about it."""


class OnSlice(NamedTuple):
    """A region found on a slice, in voxels."""

    region: Region
    """Without its place."""
    raw: str
    known: bool
    """Its id stands among the names."""
    found: masks.Found
    painted: bool
    """Its mask was drawn from a place and a size: nobody outlined it."""


class Regions(NamedTuple):
    """All regions of a volume."""

    by_plane: dict[str, dict[int, list[OnSlice]]]
    """Plane to slice to regions."""
    of_all: tuple[Placed, ...]
    """Labels of the whole volume: true of it, not surely seen on each slice."""
    absent: frozenset[str]
    lost: tuple[Placed, ...]
    """Findings that could not be laid on the volume, each once."""
    unseen: dict[str, dict[int, frozenset[str]]]
    """Plane to slice to labels that were not looked for all over it."""
    doubted: frozenset[str]
    """Labels that may be anywhere: some of their findings have no place."""
    remarks: tuple[str, ...]
    """What is odd about its masks."""

    def areas(self, axis: str) -> dict[int, dict[Hashable, float]]:
        """Return slice to raw label to area in voxels, of the labels that are known."""
        areas: dict[int, dict[Hashable, float]] = {}
        for index, regions in self.by_plane[axis].items():
            of_slice: dict[Hashable, float] = defaultdict(float)
            for region in regions:
                of_slice[region.raw] += region.found.area
            areas[index] = dict(of_slice)
        return areas


def find(volume: Volume, annotations: Sequence[Annotated], source: Source, sops: Sequence[str] = ()) -> Regions:
    """Find all regions of a volume.

    Args:
        volume: On whose grid they are wanted.
        annotations: Of the case.
        source: Says planes and policies.
        sops: SOPInstanceUID of each slice, where it is a DICOM series.

    Raises:
        Unusable: A mask can not be read or does not fit the volume.
    """
    planes = planes_of(volume, source.descriptor.slices.planes)
    by_plane: dict[str, dict[int, list[OnSlice]]] = {axis: {} for axis in planes}
    remarks, lost = list[str](), list[Placed]()
    unseen: dict[str, dict[int, frozenset[str]]] = {axis: {} for axis in planes}
    for layer in _layers(volume, annotations, source, sops, lost):
        remarks += layer.remarks
        if layer.unseen:
            _note_unseen(layer, source, unseen)
        z, y, x = layer.first
        top = volume.array.shape[0] - z - layer.array.shape[0]  # all but axial slices have the head on top
        for axis, first, right, down in (("axial", z, x, y), ("coronal", y, x, top), ("sagittal", x, y, top)):
            if axis in by_plane and layer.array.size:
                for index, found in enumerate(_on_slices(layer, stacked(layer.array, axis), source, right, down)):
                    if found:
                        by_plane[axis].setdefault(index + first, []).extend(found)
    placed, absent = _of_all(annotations, source, volume.array.shape[2 - volume.stack] == 1)
    doubted = frozenset(one.region.label for one in lost if one.region.label)
    kept = tuple(one for one in lost if one.problem)
    return Regions(by_plane, placed, absent, kept, unseen, doubted, tuple(remarks))


def _note_unseen(layer: Layer, source: Source, unseen: dict[str, dict[int, frozenset[str]]]) -> None:
    """Note the slices that hold voxels nobody looked at: what the annotation lists may be there."""
    labels = source.looked_for([layer.spec])
    there = np.isin(layer.array, sorted(layer.unseen))
    for axis, slices in unseen.items():
        for found in _occupied(there, axis) if labels and there.any() else ():
            index = found + layer.first[_ACROSS[axis]]
            slices[index] = slices.get(index, frozenset()) | labels


def _occupied(array: NDArray[Any], axis: str) -> list[int]:
    others = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}[axis]
    occupied: list[int] = np.flatnonzero(array.any(axis=others)).tolist()
    return occupied


_ACROSS = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Axis of `(z, y, x)` across a plane."""


def _held(layer: Layer) -> Layer:
    """Return the block of a whole map that holds all its labels, and what is odd about the map."""
    if 0 in layer.unseen:  # what lies around the labels is not background: nobody looked at it
        return layer._replace(remarks=remarks_on(layer.array))
    first, array = [0, 0, 0], layer.array
    for axis in sorted(range(3), key=lambda axis: -abs(array.strides[axis])):
        held = np.flatnonzero(array.any(axis=tuple(other for other in range(3) if other != axis)))
        begin, end = (int(held[0]), int(held[-1]) + 1) if len(held) else (0, 0)
        array = array[(slice(None),) * axis + (slice(begin, end),)]
        first[axis] = begin
    # to be full or inverted, a mask must hold more than a small part of the volume
    odd = remarks_on(layer.array) if not array.size or 2 * array.size > layer.array.size else ()
    return layer._replace(array=array, first=(first[0], first[1], first[2]), remarks=odd)


def _on_slices(layer: Layer, stack: NDArray[Any], source: Source, x0: int, y0: int) -> Iterator[list[OnSlice]]:
    """Yield the regions of each slice of a layer; x0 and y0 are where the slices begin on those of the volume."""
    spec = layer.spec
    per_component = getattr(spec, "boxes", "per_class") == "per_component"
    painted = layout(spec.kind).ORIGIN == "detection"

    @functools.cache
    def meant(value: int) -> tuple[Region, str, bool] | None:
        raw = layer.names.get(value)
        if value in layer.ignore or (raw is not None and spec.rule(raw).drop):
            return None
        region = source.region(spec, raw or str(value), reader=layer.reader)
        return None if region is None else (region, raw or str(value), raw is not None)

    sheets = reslice.sheets(stack, range(len(stack)))
    for regions in masks.find_all(sheets, per_component, source.descriptor.limits.despeckle_px, x0, y0):
        known = ((meant(found.value), found) for found in regions)
        yield [OnSlice(*meaning, found, painted) for meaning, found in known if meaning is not None]


def _of_all(
    annotations: Sequence[Annotated], source: Source, one_slice: bool
) -> tuple[tuple[Placed, ...], frozenset[str]]:
    """Return the labels of the whole volume; nobody said on which slices they can be seen, where there are several."""
    placed, absent = list[Placed](), set[str]()
    for spec, annotation in annotations:
        for mark in annotation.marks if isinstance(annotation, Marks) else ():
            region = source.region(spec, mark.raw, certain=one_slice, reader=mark.reader)
            if mark.box or mark.rings or mark.code:
                raise Unusable("bad_annotation", "boxes of a picture on a volume")
            if region is not None and mark.negative:
                absent.update([region.label] if region.label else ())
            elif region is not None:
                placed.append(Placed(region, mark.problem))
    return tuple(placed), frozenset(absent)


def _layers(
    volume: Volume,
    annotations: Sequence[Annotated],
    source: Source,
    sops: Sequence[str],
    lost: list[Placed],
) -> Iterator[Layer]:
    """Yield the label maps of a case one at a time, each on the volume's grid."""
    geometry = source.descriptor.geometry
    for spec, annotation in annotations:
        match annotation:
            case LabelVolume():
                yield from _label_map(spec, annotation, volume, source)
            case StructureVolumes(files):
                for raw, file in files.items():
                    structure = volumes.read_labels(source.root / file, geometry.assume)
                    layer = _held(Layer(spec, laid_over(volume, structure, geometry.pairing).array, {1: raw}))
                    yield layer._replace(array=(layer.array != 0).view(np.uint8))
            case Segments(file, threshold):
                path = source.root / file
                for raw, array in segments.read(path, volume, sops, geometry.pairing, threshold):
                    yield Layer(spec, array, {1: raw})
            case Contours(file):
                for raw, array, outside, left_out in contours.read(source.root / file, volume, sops):
                    region = source.region(spec, raw)
                    if left_out and region is not None:  # points and open lines: somewhere, and of no area
                        lost.append(Placed(region))
                    yield Layer(spec, array, {1: raw}, remarks=("planes_outside",) * (outside > 0))
            case Spheres(found):
                for sphere, mask, z, y, x, problem in spheres.paint(found, volume):
                    region = source.region(spec, sphere.raw, reader=sphere.reader)
                    if problem is None:
                        yield Layer(spec, mask.view(np.uint8), {1: sphere.raw}, reader=sphere.reader, first=(z, y, x))
                    elif region is not None:
                        lost.append(Placed(region, problem))
            case Marks():
                continue
            case _:
                raise Unusable("bad_annotation", "a picture's annotation on a volume")


def _label_map(spec: AnnotationSpec, annotation: LabelVolume, volume: Volume, source: Source) -> Iterator[Layer]:
    """Yield the layers of a label map: one, or as many as a file with several names the ids of; then its unions."""
    geometry, path = source.descriptor.geometry, source.root / annotation.file
    by_layer: list[Mapping[int, str] | None] = [annotation.names]
    if annotation.names is None:
        by_layer = [header_labels.names(path, layer) for layer in range(volumes.channels(path))]
    if all(names is None for names in by_layer):
        raise Unusable("bad_annotation", "the label map's header names no labels; list them in `labels`")
    parts = frozenset(value for ids in annotation.unions.values() for value in ids)
    for layer, names in enumerate(by_layer):
        channel = layer if len(by_layer) > 1 else None
        labels = volumes.read_labels(path, geometry.assume, annotation.threshold, channel)
        array = laid_over(volume, labels, geometry.pairing).array
        no_label = annotation.ignore | (parts - (names or {}).keys())
        yield _held(Layer(spec, array, names or {}, no_label, annotation.ignore))
        for raw, ids in annotation.unions.items():
            yield _held(Layer(spec, np.isin(array, sorted(ids)).view(np.uint8), {1: raw}))


# ---- slices


AT_ONCE = 64
"""Slices whose masks are coded together."""


def lay(cuts: Sequence[Cut], regions: Regions, source: Source) -> Iterator[Laid]:
    """Yield what lies on each of some slices of one plane, placed on its stored picture."""
    for begin in range(0, len(cuts), AT_ONCE):
        some = cuts[begin : begin + AT_ONCE]
        found = [regions.by_plane[cut.axis].get(cut.number, []) for cut in some]
        problems = [[_problem(one, cut, source) for one in there] for cut, there in zip(some, found, strict=True)]
        whole = iter([*zip(itertools.chain(*found), itertools.chain(*problems), strict=True)])
        placed = _placed([one for one, problem in whole if problem is None], some[0])
        for cut, there, whys in zip(some, found, problems, strict=True):
            on_slice = [
                Placed(next(placed)) if why is None else Placed(one.region, why)
                for one, why in zip(there, whys, strict=True)
            ]
            specks = tuple("specks" for one in there if one.found.specks)
            doubted = regions.doubted | regions.unseen[cut.axis].get(cut.number, frozenset())
            yield Laid((*regions.of_all, *on_slice), regions.absent, specks, doubted=doubted)


def _problem(one: OnSlice, cut: Cut, source: Source) -> tuple[str, str] | None:
    """Return why a region is left out, or None; it is measured in voxels."""
    if not one.known or one.found.speck:
        return odd(one.found, one.raw)
    area, picture_px = one.found.area, round(cut.width * cut.height / cut.scale_x / cut.scale_y)
    area_mm2 = area * cut.voxel_mm2 if cut.voxel_mm2 else None
    return too_small(one.region, area, area_mm2, source.descriptor.limits, picture_px)


def _placed(kept: Sequence[OnSlice], cut: Cut) -> Iterator[Region]:
    """Give regions their boxes, masks and areas in the stored pictures, which are all alike."""
    scale_x, scale_y = cut.scale_x, cut.scale_y
    coded = masks.codes([one.found for one in kept], cut.width, cut.height, scale_x, scale_y)
    for one, (code, area) in zip(kept, coded, strict=True):
        region, voxels = one.region, one.found
        yield Region(
            label=region.label,
            raw=region.raw,
            box=Box(voxels.x0 * scale_x, voxels.y0 * scale_y, voxels.x1 * scale_x, voxels.y1 * scale_y),
            mask=None if one.painted else code,
            component=voxels.component,
            area_px=float(area),
            area_mm2=voxels.area * cut.voxel_mm2 if cut.voxel_mm2 else None,
            side=region.side,
            certain=region.certain,
            reader=region.reader,
        )
