"""DICOM series, assembled by our own rules: SimpleITK's reader scrambles an unchecked folder.

Files are sorted out, grouped by grid, split where two acquisitions share a place, sorted by ImagePositionPatient along
the slice normal and filled into one array a volume. One bad file is one row; nothing is guessed.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import Unusable
from pipeline.ingest import burned_in, dicom, dicom_pictures, enhanced, suv, windows
from pipeline.ingest.dicom import SPLITS, Slice
from pipeline.ingest.dicom_pixels import count, is_colour, text, value
from pipeline.ingest.geometry import Volume
from pipeline.ingest.stacking import fill, normal_of, stacked
from pipeline.ingest.windows import Header

FEW = 3
"""Slices of another direction than most of their series that pass for a localizer."""


class Stack(NamedTuple):
    """One volume of a case."""

    name: str
    """Empty where it is the only one, else `s0`, `s1`, … by series number and place."""
    volume: Volume
    """Flags: `gap`, `irregular_spacing`, `gantry_tilt`, `oblique`, `suv_unavailable`. `stack` is the axis across the
    slices, of even stacks too."""
    voi: tuple[Header, ...]
    """How the header wants the slice in the middle to be shown, in the volume's own unit."""
    modality: str | None
    """DICOM code, by the storage class where the tag is missing; None: neither says."""
    sops: tuple[str, ...]
    """SOPInstanceUID of each slice, by its index along `volume.stack`: to place an RTSTRUCT or SEG, never to be
    written."""
    background: float | None
    """The intensity of all pixels that stand for no tissue (PixelPaddingValue); None: there is no such pixel."""
    suv: bool
    """Intensities are SUVbw, g/ml."""
    inverted: bool
    """The file wants high intensities to be shown black."""


class LeftOut(NamedTuple):
    """Files, or frames of them, that became no slice."""

    reason: str
    """`localizer`, `duplicate`, `not_an_image`, or why a file or a group of slices can not be read."""
    detail: str
    count: int  # type: ignore[assignment]  # hides that of tuples


class Assembled(NamedTuple):
    """What the files of a case are."""

    stacks: tuple[Stack, ...]
    planar: tuple[Path, ...]
    """Pictures without a place in the body: radiographs, cine, screen captures."""
    left_out: tuple[LeftOut, ...]


Left = Counter[tuple[str, str]]
"""Reason and detail to files."""


def read(paths: Sequence[Path], cleared: bool = True) -> Assembled:
    """Read the DICOM files of a case, in any order and from any folders.

    Args:
        paths: The files.
        cleared: Slices that may show a patient's name are read.

    Raises:
        Unusable: Neither a volume nor a picture is among them; the reason is what most of the damaged files have.
    """
    left: Left = Counter()
    planar, groups = _sorted_out(paths, left, cleared)
    stacks = []
    while groups:
        parts = _split(_without_copies(groups.pop(0), left))
        while parts:
            part = parts.pop(0)
            try:
                stack = _stack(part, left)
                stacks += [stack] if stack else []
            except Unusable as error:
                left[error.reason, error.detail] += len(part)
    rows = tuple(LeftOut(*why, files) for why, files in left.most_common())
    if not stacks and not planar:
        # a damaged slice says more than the report beside it
        why = min(rows, key=lambda row: row.reason in ("not_an_image", "localizer", "duplicate"), default=None)
        raise Unusable(why.reason, why.detail) if why else Unusable("missing_image", "no files")
    named = (one._replace(name=f"s{n}" if len(stacks) > 1 else "") for n, one in enumerate(stacks))
    return Assembled(tuple(named), tuple(planar), rows)


# ---- files


def _sorted_out(paths: Sequence[Path], left: Left, cleared: bool) -> tuple[list[Path], list[list[Slice]]]:
    """Tell slices from pictures without a place and from what is neither; return pictures and groups of slices."""
    slices: list[Slice] = []
    flat: list[tuple[Path, str]] = []
    for path in sorted(set(paths)):
        try:
            dataset = dicom.read_file(path, defer=True)
            dicom.check_picture(dataset)
            _check_slice(dataset)
            try:
                found = _slices(dataset, path)
                why = None if cleared else burned_in.of_slice(dataset)
                if why:
                    said = f"{why}; set privacy.burned_in: cleared after a person has looked"
                    raise Unusable("burned_in", said)
                slices += found
            except Unusable as error:
                if error.reason != "no_geometry":
                    raise
                flat.append((path, text(dataset, "SeriesInstanceUID")))
        except Unusable as error:
            left[error.reason, error.detail] += 1
    placed = {one.body[0] for one in slices}
    lost = sum(series in placed for _, series in flat)
    if lost:
        left["no_geometry", "slices of a series that do not say where they lie"] += lost
    return [path for path, series in flat if series not in placed], _without_localizers(_groups(slices), left)


def _check_slice(dataset: Any) -> None:
    types = text(dataset, "ImageType").split("\\")
    if "LOCALIZER" in types:
        raise Unusable("localizer", "ImageType says so")
    if "MOSAIC" in types:
        raise Unusable("not_3d", "a mosaic of slices in one frame")


def _slices(dataset: Any, path: Path) -> list[Slice]:
    if enhanced.is_enhanced(dataset):
        found = enhanced.slices(dataset, path)
    elif count(dataset) > 1:
        raise Unusable("no_geometry", "several frames, and one place at most")
    else:
        found = [dicom.slice_of(dataset, path, 0, dicom.kinds_of(dataset))]
    if is_colour(dataset):
        raise Unusable("not_3d", "its pixels are colours; a slice is grey")
    return found


# ---- groups


def _groups(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Gather slices of one grid, each group sorted along its normal."""
    by_body: dict[Any, list[list[Slice]]] = defaultdict(list)
    for one in slices:
        groups = by_body[one.body, one.size]
        fitting = (group for group in groups if _same_grid(group[0], one))
        found = next(fitting, None)
        if found is None:
            groups.append([one])
        else:
            found.append(one)
    sorted_ = [_along_normal(group) for groups in by_body.values() for group in groups]
    return sorted(sorted_, key=lambda group: (group[0].number, *group[0].position.tolist(), group[0].body))


def _same_grid(one: Slice, other: Slice) -> bool:
    """Compare directions and spacing as headers round them."""
    turned = max(np.abs(one.row - other.row).max(), np.abs(one.column - other.column).max())
    return bool(turned < 1e-3 and (np.abs(one.spacing / other.spacing - 1) < 1e-3).all())


def _along_normal(group: Sequence[Slice]) -> list[Slice]:
    normal = normal_of(group[0])
    return sorted(group, key=lambda one: (float(one.position @ normal), one.path, one.frame))


def _without_localizers(groups: Sequence[list[Slice]], left: Left) -> list[list[Slice]]:
    """Leave out the few slices of a series that lie across its others."""
    main: dict[str, list[Slice]] = {}
    for group in groups:
        series = group[0].body[0]
        main[series] = max(main.get(series, group), group, key=len)
    kept = []
    for group in groups:
        most = main[group[0].body[0]]
        turned = abs(float(normal_of(group[0]) @ normal_of(most[0]))) < np.cos(np.radians(5))
        if turned and len(group) <= FEW and 2 * len(group) <= len(most):
            left["localizer", "few slices that lie across the others of their series"] += len(group)
        else:
            kept.append(group)
    return kept


def _places(group: Sequence[Slice]) -> list[list[Slice]]:
    """Gather slices of one place; those of a group are sorted along its normal."""
    normal, apart = normal_of(group[0]), 0.01 * group[0].spacing.min()
    places: list[list[Slice]] = []
    for one in group:
        if places and abs((one.position - places[-1][0].position) @ normal) <= apart:
            places[-1].append(one)
        else:
            places.append([one])
    return places


def _without_copies(group: Sequence[Slice], left: Left) -> list[Slice]:
    """Keep one of each slice that is there twice: the same SOPInstanceUID, or the same pixels, at the same place."""
    kept: list[Slice] = []
    digests: dict[Path, bytes] = {}
    for place in _places(group):
        seen = set[Any]()
        # of two copies the longer file: the other may have lost its end
        for one in sorted(place, key=lambda one: -one.path.stat().st_size) if len(place) > 1 else place:
            marks = _marks(one, digests) if len(place) > 1 else set()
            if marks & seen:
                left["duplicate", "another file of the same slice"] += 1
            else:
                kept.append(one)
                seen |= marks
    return kept


def _marks(one: Slice, digests: dict[Path, bytes]) -> set[Any]:
    """Return what no two slices have in common that are not the same; a file's digest is made once."""
    if one.path not in digests:
        digests[one.path] = dicom.digest(one.dataset, one.path)
    at = (one.frame, *np.round(one.position, 3).tolist())
    scale = tuple(str(value(one.dataset, keyword)) for keyword in ("RescaleSlope", "RescaleIntercept"))
    return {(at, scale, digests[one.path])} | ({(at, one.sop)} if one.sop else set())


# ---- acquisitions of one place


def _split(group: list[Slice]) -> list[list[Slice]]:
    """Part acquisitions that share places; tags that only vary from slice to slice part nothing.

    What no tag tells apart stays together, and is refused later.
    """
    places = _places(group)
    most = max(len(place) for place in places)
    if most == 1:
        return [group]
    for keyword in SPLITS:
        parts = _by_value(group, keyword)
        fewer = max(len(place) for part in parts for place in _places(part)) < most
        # a number that runs on from slice to slice would leave single slices
        single = sum(len(part) == 1 for part in parts)
        if fewer and (len(parts) <= most or 2 * single < len(group)):
            return [whole for part in parts for whole in _split(part)]
    for keyword in SPLITS:
        if all(len(place) == most == len({one.kinds.get(keyword) for one in place} - {None}) for place in places):
            ranked = [sorted(place, key=lambda one: one.kinds[keyword]) for place in places]
            return [[place[rank] for place in ranked] for rank in range(most)]
    return [group]


def _by_value(group: Sequence[Slice], keyword: str) -> list[list[Slice]]:
    parts: dict[Any, list[Slice]] = defaultdict(list)
    for one in group:
        parts[one.kinds.get(keyword, ())].append(one)
    return [parts[said] for said in sorted(parts)]


# ---- volumes


def _stack(part: list[Slice], left: Left) -> Stack | None:
    """Make a volume; None where no slice of it can be decoded. The slices' data sets are let go one by one."""
    again = len(part) - len(_places(part))
    if again:
        raise Unusable("duplicate_slices", f"{again} slices share a place with another, and nothing tells them apart")
    middle = part[len(part) // 2]
    modality, inverted = dicom.modality(middle.dataset), dicom_pictures.is_inverted(middle.dataset)
    voi = windows.of_header(middle.dataset, middle.frame)
    factor = suv.scale([one.dataset for one in part]).factor if modality == "PT" else None
    flags = ("suv_unavailable",) if modality == "PT" and factor is None else ()
    filled = fill(part)
    left.update(filled.left)
    if not filled.slices:
        return None
    array, background = filled.array, filled.background
    if factor is not None:
        array = array.astype(np.float32, copy=False)
        array *= np.float32(factor)
        background = None if background is None else float(np.float32(background) * np.float32(factor))
        voi = tuple(_scaled(one, factor) for one in voi if not one.bounds.table)
    volume = stacked(array, filled.slices, flags)
    sops = [one.sop for one in filled.slices]
    back = volume.flipped[volume.stack]
    return Stack(
        "", volume, voi, modality, tuple(sops[::-1] if back else sops), background, factor is not None, inverted
    )


def _scaled(header: Header, factor: float) -> Header:
    low, high = header.bounds.low * factor, header.bounds.high * factor
    return header._replace(bounds=header.bounds._replace(low=low, high=high, name=f"header {low:.3g}..{high:.3g}"))
