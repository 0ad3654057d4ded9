"""What annotations say of a volume: label maps on its grid, one at a time, and the regions of its slices."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import runlength
from pipeline.errors import Unusable
from pipeline.ingest import contours, header_labels, masks, segments, spheres, volumes
from pipeline.ingest.geometry import Volume, laid_over
from pipeline.ingest.planar import odd
from pipeline.ingest.slices import Cut, planes_of, take
from pipeline.ingest.source import Annotated, Laid, Placed, Source, remarks_on, sized
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


class OnSlice(NamedTuple):
    """A region found on a slice, in voxels."""

    spec: AnnotationSpec
    raw: str
    known: bool
    """Its id stands among the names."""
    found: masks.Found
    reader: str | None


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
    for layer in _layers(volume, annotations, source, sops, remarks, lost):
        if layer.unseen:
            _note_unseen(layer, source, unseen)
        for axis in planes:
            for index in _occupied(layer.array, axis):
                for region in _on_slice(layer, axis, index, volume.array.shape[0], source):
                    by_plane[axis].setdefault(index + layer.first[_ACROSS[axis]], []).append(region)
    placed, absent = _of_all(annotations, source, volume.array.shape[2 - volume.stack] == 1)
    doubted = frozenset(one.region.label for one in lost if one.region.label)
    kept = tuple(one for one in lost if one.problem)
    return Regions(by_plane, placed, absent, kept, unseen, doubted, tuple(remarks))


def _note_unseen(layer: Layer, source: Source, unseen: dict[str, dict[int, frozenset[str]]]) -> None:
    """Note the slices that hold voxels nobody looked at: what the annotation lists may be there."""
    labels = source.looked_for([layer.spec])
    there = np.isin(layer.array, sorted(layer.unseen))
    for axis, slices in unseen.items():
        for index in _occupied(there, axis) if labels and there.any() else ():
            slices[index] = slices.get(index, frozenset()) | labels


def _occupied(array: NDArray[Any], axis: str) -> list[int]:
    others = {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}[axis]
    occupied: list[int] = np.flatnonzero(array.any(axis=others)).tolist()
    return occupied


_ACROSS = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Axis of `(z, y, x)` across a plane."""


def _on_slice(layer: Layer, axis: str, index: int, height: int, source: Source) -> Iterator[OnSlice]:
    per_component = getattr(layer.spec, "boxes", "per_class") == "per_component"
    for found in masks.find(take(layer.array, axis, index), per_component, source.descriptor.limits.despeckle_px):
        raw = layer.names.get(found.value)
        if found.value in layer.ignore or (raw is not None and layer.spec.rule(raw).drop):
            continue
        moved = _moved(found, axis, layer, height)
        yield OnSlice(layer.spec, raw or str(found.value), raw is not None, moved, layer.reader)


def _moved(found: masks.Found, axis: str, layer: Layer, height: int) -> masks.Found:
    """Bring what was found in a block to its place on the whole slice; all but axial slices have the head on top."""
    z, y, x = layer.first
    top = height - z - layer.array.shape[0]
    right, down = {"axial": (x, y), "coronal": (x, top), "sagittal": (y, top)}[axis]
    if right == down == 0:
        return found
    return found._replace(
        x0=found.x0 + right,
        x1=found.x1 + right,
        y0=found.y0 + down,
        y1=found.y1 + down,
        rows=found.rows + down,
        starts=found.starts + right,
        stops=found.stops + right,
    )


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
    remarks: list[str],
    lost: list[Placed],
) -> Iterator[Layer]:
    """Yield the label maps of a case one at a time, each on the volume's grid; remark what is odd about them."""
    geometry = source.descriptor.geometry
    for spec, annotation in annotations:
        match annotation:
            case LabelVolume():
                for layer in _label_map(spec, annotation, volume, source):
                    remarks += remarks_on(layer.array)
                    yield layer
            case StructureVolumes(files):
                for raw, file in files.items():
                    structure = volumes.read_labels(source.root / file, geometry.assume)
                    binary = (laid_over(volume, structure, geometry.pairing).array != 0).view(np.uint8)
                    remarks += remarks_on(binary)
                    yield Layer(spec, binary, {1: raw})
            case Segments(file, threshold):
                path = source.root / file
                for raw, array in segments.read(path, volume, sops, geometry.pairing, threshold):
                    yield Layer(spec, array, {1: raw})
            case Contours(file):
                for raw, array, outside, left_out in contours.read(source.root / file, volume, sops):
                    remarks += ["planes_outside"] * (outside > 0)
                    region = source.region(spec, raw)
                    if left_out and region is not None:  # points and open lines: somewhere, and of no area
                        lost.append(Placed(region))
                    yield Layer(spec, array, {1: raw})
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
        yield Layer(spec, array, names or {}, no_label, annotation.ignore)
        for raw, ids in annotation.unions.items():
            yield Layer(spec, np.isin(array, sorted(ids)).view(np.uint8), {1: raw})


# ---- slices


def lay(cut: Cut, found: Sequence[OnSlice], regions: Regions, source: Source) -> Laid:
    """Place the regions of a slice on its stored picture."""
    placed = list(regions.of_all)
    for on_slice in found:
        region = source.region(on_slice.spec, on_slice.raw, reader=on_slice.reader)
        assert region is not None  # dropped labels were left out when regions were found
        if on_slice.known and not on_slice.found.speck:
            found_there = _placed(region, on_slice.found, cut, source)
            if layout(on_slice.spec.kind).ORIGIN == "detection":  # a painted sphere is no segmentation
                found_there = found_there._replace(region=replace(found_there.region, mask=None))
            placed.append(found_there)
        else:
            placed.append(Placed(region, odd(on_slice.found, on_slice.raw)))
    remarks = ("specks" for on_slice in found if on_slice.found.specks)
    doubted = regions.doubted | regions.unseen[cut.axis].get(cut.number, frozenset())
    return Laid(tuple(placed), regions.absent, tuple(remarks), doubted=doubted)


def _placed(region: Region, found: masks.Found, cut: Cut, source: Source) -> Placed:
    """Give a region its box, mask and areas in the stored picture; it is measured in voxels."""
    box = Box(found.x0 * cut.scale_x, found.y0 * cut.scale_y, found.x1 * cut.scale_x, found.y1 * cut.scale_y)
    area_mm2 = found.area * cut.voxel_mm2 if cut.voxel_mm2 else None
    region = replace(region, box=box, component=found.component)
    fits = sized(region, found.area, area_mm2, source, round(cut.width * cut.height / cut.scale_x / cut.scale_y))
    if fits.problem:
        return fits
    mask, x0, y0 = masks.mask_of(found), found.x0, found.y0
    area_px = float(found.area)
    if (cut.scale_x, cut.scale_y) != (1.0, 1.0):
        mask, x0, y0 = _stretched(mask, box, cut)
        area_px = float(np.count_nonzero(mask))
    code = runlength.encode(mask, x0, y0, cut.width, cut.height)
    return Placed(replace(fits.region, mask=code, area_px=area_px))


def _stretched(mask: NDArray[np.bool_], box: Box, cut: Cut) -> tuple[NDArray[np.bool_], int, int]:
    """Resample a region's mask onto the stored picture's pixels: each takes the voxel its centre lies in."""
    x0, y0 = math.floor(box.x0), math.floor(box.y0)
    x1, y1 = min(cut.width, math.ceil(box.x1)), min(cut.height, math.ceil(box.y1))
    columns = np.floor((np.arange(x0, x1) + 0.5) / cut.scale_x - box.x0 / cut.scale_x).astype(int)
    rows = np.floor((np.arange(y0, y1) + 0.5) / cut.scale_y - box.y0 / cut.scale_y).astype(int)
    inside = (rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1])
    taken = mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)]
    return taken & inside[0][:, None] & inside[1][None, :], x0, y0
