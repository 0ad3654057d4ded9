"""Volumes of a case as pictures: channels and stacks, windows, chosen slices."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.ingest import flat, layers, picking, series, volumes, windows
from pipeline.ingest.geometry import Volume, same_grid
from pipeline.ingest.reading import Reading, keep, settled
from pipeline.ingest.slices import Cut, cuts, planes_of, take
from pipeline.ingest.source import Laid, Source
from pipeline.records import Picture


class Scan(NamedTuple):
    """One volume of a case: a channel, or a stack of a DICOM series."""

    name: str
    """Part of its records' ids; empty where the case has only one."""
    channel: str | None
    load: Callable[[], Volume]
    stack: series.Stack | None = None


def read_volumes(reading: Reading) -> None:
    """Read the volumes of a case: one, or its channels."""
    channels, assume = reading.source.descriptor.channels, reading.source.descriptor.geometry.assume
    paths = reading.paths
    if channels is None:
        _cut_scans(reading, [Scan("", None, partial(volumes.read, paths[0], assume))])
        return
    names = reading.case.channels or channels.axis
    if not reading.case.channels:
        _check_axis(paths[0], names)
    scans = []
    for n, name in enumerate(names):
        path, number = (paths[n], None) if reading.case.channels else (paths[0], n)
        scans.append(Scan(name, name, partial(volumes.read, path, assume, number)))
    wanted = [scan for scan in scans if scan.name in (channels.show or names)]
    if not wanted:
        raise Unusable("missing_image", f"none of the channels {', '.join(channels.show)} is there")
    _cut_scans(reading, wanted)


def _check_axis(path: Path, names: Sequence[str]) -> None:
    found = volumes.channels(path)
    if found != len(names):
        raise Unusable("not_3d", f"its fourth axis has {found} volumes, channels.axis names {len(names)}")


def read_series(reading: Reading) -> None:
    """Read the DICOM files of a case: its stacks, its pictures without a place, and what is left out."""
    found = series.read(reading.paths, reading.source.descriptor.privacy.burned_in == "cleared")
    left = [row for row in found.left_out for _ in range(row.count)]
    for n, (reason, detail, _) in enumerate(left):
        reading.lost(f"left{n:04d}", reason, detail)
    for n, path in enumerate(found.planar):
        several = len(found.planar) + len(found.stacks) > 1
        prefix = f"i{n:03d}-" if len(found.planar) > 1 else ""
        reading.alone(f"i{n:03d}", several, partial(flat.read_dicom, reading, path, prefix))
    scans = [Scan(stack.name, None, partial(_volume_of, stack), stack) for stack in found.stacks]
    _cut_scans(reading, scans, several=bool(found.planar))


def _volume_of(stack: series.Stack) -> Volume:
    return stack.volume


class Before(NamedTuple):
    """The regions that were found last, and on which grid: channels of one grid share them."""

    volume: Volume
    regions: layers.Regions


def _cut_scans(reading: Reading, scans: Sequence[Scan], several: bool = False) -> None:
    if scans and not reading.annotations and reading.source.descriptor.cases.unlabelled == "reject":
        raise Unusable("unlabelled", "no annotation speaks of it; cases.unlabelled: keep keeps it")
    before: list[Before] = []
    for scan in scans:
        reading.alone(scan.name, several or len(scans) > 1, partial(_read_scan, reading, scan, before))


def _read_scan(reading: Reading, scan: Scan, before: list[Before]) -> None:
    volume = _checked(scan.load(), reading.source)
    if not before or same_grid(before[-1].volume, volume):
        sops = scan.stack.sops if scan.stack else ()
        regions = layers.find(volume, reading.annotations, reading.source, sops)
        before[:] = [Before(volume, regions)]
        reading.out.remarks.update(regions.remarks)
        settled(reading, f"{reading.id}/{scan.name}".rstrip("/"), Laid(regions.lost))
    _cut_volume(reading, scan, volume, before[-1].regions)


def _checked(volume: Volume, source: Source) -> Volume:
    """Apply what the descriptor says of intensities; a volume of one value has nothing to show."""
    if volume.array.min() == volume.array.max():
        raise Unusable("no_content", f"every voxel is {volume.array.flat[0]:g}")
    display = source.descriptor.display
    return replace(volume, array=windows.adjusted(volume.array, display.slope, display.intercept))


def _cut_volume(reading: Reading, scan: Scan, volume: Volume, regions: layers.Regions) -> None:
    source = reading.source
    shown = _windows(scan, volume, reading.modality, source)
    for axis in planes_of(volume, source.descriptor.slices.planes):
        all_cuts = list(cuts(volume, axis, source.descriptor.geometry.allow_oblique))
        apart = volume.spacing["sca".index(axis[0])] if volume.geometry != "unknown" else None
        complete = bool(reading.looked_for or regions.absent)
        numbers = picking.pick(regions.areas(axis), len(all_cuts), source.descriptor.slices, apart, complete)
        if len(all_cuts) == 1 and regions.of_all:  # what is said of the volume is said of its only slice
            numbers = [0]
        for window in shown:
            reading.out.tally.pictures_cut += len(all_cuts)
            reading.out.tally.pictures_not_selected += len(all_cuts) - len(numbers)
            for number in numbers:
                _keep_slice(reading, scan, volume, all_cuts[number], window, regions)


class Shown(NamedTuple):
    """A window of a volume, and the part that it adds to its records' ids."""

    part: str
    bounds: windows.Bounds
    invert: bool


def _windows(scan: Scan, volume: Volume, modality: str, source: Source) -> list[Shown]:
    """Choose the windows of a volume: one, and those that the descriptor wants beside it."""
    display, stack = source.descriptor.display, scan.stack
    # PET is inverted by its window; of other series the header may want it
    invert = display.invert != (stack is not None and stack.inverted and modality != "pet")
    found = []
    for n, spec in enumerate((display.window, *display.also)):
        bounds = windows.bounds(
            spec,
            modality,
            volume.array,
            source.vocabulary,
            source.descriptor.id,
            labels=source.labels(),
            header=stack.voi if stack else (),
            suv=stack is not None and stack.suv,
            background=stack.background if stack else None,
        )
        part = (spec and spec.preset) or f"w{n}"
        found.append(Shown(part if n else "", bounds, invert))
    return found


def _keep_slice(reading: Reading, scan: Scan, volume: Volume, cut: Cut, window: Shown, regions: layers.Regions) -> None:
    across = "xyz"["sca".index(cut.axis[0])]
    parts = [reading.id, scan.name, window.part, cut.axis, f"{across}{cut.number:04d}"]
    laid = layers.lay(cut, regions.by_plane[cut.axis].get(cut.number, ()), regions, reading.source)
    pixels = _pixels(take(volume.array, cut.axis, cut.number), cut, window)
    data = pictures.png(pixels)
    name = window.bounds.name + (" inverted" if window.invert else "")
    blank = ("blank",) if (pixels == pixels[:1, :1]).all() else ()
    picture = Picture(
        data,
        cut.width,
        cut.height,
        pictures.sha256(data),
        cut.to_source,
        cut.to_world,
        cut.plane,
        scan.channel,
        name,
        cut.number,
        None,
        cut.spacing_mm,
        volume.geometry,
        (*volume.flags, *cut.flags, *laid.flags, *blank),
    )
    keep(reading, "/".join(filter(None, parts)), picture, laid, (f"window {name}",))


def _pixels(intensities: NDArray[Any], cut: Cut, window: Shown) -> NDArray[np.uint8]:
    pixels = windows.grey(intensities, window.bounds)
    if window.invert:
        pixels = windows.inverted(pixels)
    if pixels.shape != (cut.height, cut.width):
        pixels = pictures.resize(np.ascontiguousarray(pixels), cut.width, cut.height)
    return pixels
