"""Volumes of a case as pictures: channels and stacks, windows, chosen slices."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import pictures
from pipeline.errors import Unusable
from pipeline.ingest import flat, layers, picking, reslice, series, volumes, windows
from pipeline.ingest.geometry import Volume, same_grid
from pipeline.ingest.reading import Reading, keep, settled
from pipeline.ingest.reslice import as_stored
from pipeline.ingest.slices import Cut, cuts, planes_of, stacked
from pipeline.ingest.source import Laid, Source
from pipeline.records import Picture
from sources.descriptor import WindowSpec


class Scan(NamedTuple):
    """One volume of a case: a channel, or a stack of a DICOM series."""

    name: str
    """Part of its records' ids; empty where the case has only one."""
    channel: str | None
    open: Callable[[], volumes.Opened] | None = None
    """Of a file, its header."""
    stack: series.Stack | None = None


def read_volumes(reading: Reading) -> None:
    """Read the volumes of a case: one, or its channels."""
    channels, assume = reading.source.descriptor.channels, reading.source.descriptor.geometry.assume
    paths = reading.paths
    if channels is None:
        _cut_scans(reading, [Scan("", None, partial(volumes.opened, paths[0], assume))])
        return
    names = reading.case.channels or channels.axis
    if not reading.case.channels:
        _check_axis(paths[0], names)
    scans = []
    for n, name in enumerate(names):
        path, number = (paths[n], None) if reading.case.channels else (paths[0], n)
        scans.append(Scan(name, name, partial(volumes.opened, path, assume, number)))
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
    scans = [Scan(stack.name, None, stack=stack) for stack in found.stacks]
    _cut_scans(reading, scans, several=bool(found.planar))


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
    display = reading.source.descriptor.display
    file, stack = scan.open() if scan.open else None, scan.stack
    fixed = _fixed(display.window, reading, stack)
    if file and fixed and not display.also:  # the header tells all: intensities become grey while they are read
        regions = _regions(reading, scan, file.grid(), before)
        grey = file.shaded(lambda raw: windows.grey(windows.adjusted(raw, display.slope, display.intercept), fixed))
        if grey is not None:
            _cut_volume(reading, scan, grey, [Shown("", fixed, display.invert, None)], regions)
            return
    loaded = file.voxels() if file else stack and stack.volume
    assert loaded is not None  # a scan is of a file or of a series
    volume = _checked(loaded, reading.source)
    _cut_volume(reading, scan, volume, _windows(reading, stack, volume), _regions(reading, scan, volume, before))


def _regions(reading: Reading, scan: Scan, volume: Volume, before: list[Before]) -> layers.Regions:
    """Find the regions of a scan, or take those of the one before on the same grid."""
    if not before or same_grid(before[-1].volume, volume):
        sops = scan.stack.sops if scan.stack else ()
        regions = layers.find(volume, reading.annotations, reading.source, sops)
        before[:] = [Before(volume, regions)]
        reading.out.remarks.update(regions.remarks)
        settled(reading, f"{reading.id}/{scan.name}".rstrip("/"), Laid(regions.lost))
    return before[-1].regions


def _checked(volume: Volume, source: Source) -> Volume:
    """Apply what the descriptor says of intensities; a volume of one value has nothing to show."""
    stored = as_stored(volume.array)
    if all((part == stored[0, 0, 0]).all() for part in stored):
        raise volumes.no_content(stored[0, 0, 0])
    display = source.descriptor.display
    return replace(volume, array=windows.adjusted(volume.array, display.slope, display.intercept))


class Shown(NamedTuple):
    """A window of a volume, and the part that it adds to its records' ids."""

    part: str
    bounds: windows.Bounds
    invert: bool
    shade: reslice.Shade | None
    """Makes grey of the volume's intensities; None: it is grey already."""


def _cut_volume(reading: Reading, scan: Scan, volume: Volume, shown: Sequence[Shown], regions: layers.Regions) -> None:
    source = reading.source
    for axis in planes_of(volume, source.descriptor.slices.planes):
        all_cuts = list(cuts(volume, axis, source.descriptor.geometry.allow_oblique))
        apart = volume.spacing["sca".index(axis[0])] if volume.geometry != "unknown" else None
        complete = bool(reading.looked_for or regions.absent)
        numbers = picking.pick(regions.areas(axis), len(all_cuts), source.descriptor.slices, apart, complete)
        if len(all_cuts) == 1 and regions.of_all:  # what is said of the volume is said of its only slice
            numbers = [0]
        for window in shown:
            reading.passed_over(len(all_cuts) - len(numbers))
            picked = [all_cuts[number] for number in numbers]
            sheets = reslice.sheets(stacked(volume.array, axis), numbers, window.shade)
            for cut, pixels, laid in zip(picked, sheets, layers.lay(picked, regions, source), strict=True):
                reading.out.tally.pictures_cut += 1
                _keep_slice(reading, scan, volume, cut, window, laid, pixels)


def _windows(reading: Reading, stack: series.Stack | None, volume: Volume) -> list[Shown]:
    """Choose the windows of a volume: one, and those that the descriptor wants beside it."""
    display = reading.source.descriptor.display
    # PET is inverted by its window; of other series the header may want it
    invert = display.invert != (stack is not None and stack.inverted and reading.modality != "pet")
    background = stack.background if stack else None
    shown = []
    for n, spec in enumerate((display.window, *display.also)):
        bounds = _fixed(spec, reading, stack)
        bounds = bounds or windows.of_foreground(spec, reading.modality, volume.array, background)
        part = ((spec and spec.preset) or f"w{n}") if n else ""
        shown.append(Shown(part, bounds, invert, windows.shader(bounds, volume.array.dtype)))
    return shown


def _fixed(spec: WindowSpec | None, reading: Reading, stack: series.Stack | None) -> windows.Bounds | None:
    source = reading.source
    return windows.fixed(
        spec,
        reading.modality,
        source.vocabulary,
        source.descriptor.id,
        labels=source.labels(),
        header=stack.voi if stack else (),
        suv=stack is not None and stack.suv,
    )


def _keep_slice(
    reading: Reading, scan: Scan, volume: Volume, cut: Cut, window: Shown, laid: Laid, pixels: NDArray[np.uint8]
) -> None:
    across = "xyz"["sca".index(cut.axis[0])]
    parts = [reading.id, scan.name, window.part, cut.axis, f"{across}{cut.number:04d}"]
    pixels = _shown(pixels, cut, window)
    data = pictures.png(pixels)
    name = window.bounds.name + (" inverted" if window.invert else "")
    blank = ("blank",) if pictures.is_blank(pixels) else ()
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


def _shown(pixels: NDArray[np.uint8], cut: Cut, window: Shown) -> NDArray[np.uint8]:
    if window.invert:
        pixels = windows.inverted(pixels)
    if pixels.shape != (cut.height, cut.width):
        pixels = pictures.resize(pixels, cut.width, cut.height)
    return pixels
