"""Which slices of a volume become pictures, by what lies on them. Pure functions; the same slices in every run."""

import bisect
from collections.abc import Hashable, Mapping, Sequence

from sources.descriptor import Slices

Areas = Mapping[int, Mapping[Hashable, float]]
"""Slice to label to its area: all that was found on it, too small to keep or not."""


def pick(areas: Areas, count: int, slices: Slices, spacing_mm: float | None, complete: bool) -> list[int]:
    """Return the slices that become pictures, in order.

    Args:
        areas: Slices without a label may be left out.
        count: Slices that there are.
        slices: The descriptor's rules.
        spacing_mm: Between neighbouring slices; None: unknown, and `gap_mm` counts slices.
        complete: Some annotation looked for all of its labels: a slice without one is a negative.
    """
    labelled = sorted(index for index, of_slice in areas.items() if of_slice)
    gap = slices.gap_mm / (spacing_mm or 1.0)
    if slices.pick == "all":
        return _largest(range(count)[:: slices.every], areas, slices.most)
    picked = _peaks(areas, labelled, slices.per_label, gap) if slices.pick == "peaks" else labelled
    picked = picked[:: slices.every]
    free = _away(labelled, count, gap) if complete and slices.negatives else []
    positives, negatives = _shares(len(picked), len(free), slices.negatives, slices.most)
    return sorted(_largest(picked, areas, positives) + _spread(free, negatives))


def _peaks(areas: Areas, labelled: Sequence[int], per_label: int, gap: float) -> list[int]:
    """Return for each label the slices on which it is largest, `gap` slices apart.

    Of slices with the same area the one nearest to the label's middle counts: a vessel's end is no good example of it.
    """
    of_label: dict[Hashable, list[int]] = {}
    for index in labelled:
        for label in areas[index]:
            of_label.setdefault(label, []).append(index)
    picked = set[int]()
    for label, indices in of_label.items():
        middle = sum(indices) / len(indices)
        peaks = list[int]()
        for _, _, index in sorted((-areas[n][label], abs(n - middle), n) for n in indices):
            if len(peaks) < per_label and all(abs(index - other) >= gap for other in peaks):
                peaks.append(index)
        picked.update(peaks)
    return sorted(picked)


def _away(labelled: Sequence[int], count: int, gap: float) -> list[int]:
    """Return the slices without a label, at least `gap` slices from every one that has one."""
    away = []
    for index in range(count):
        after = bisect.bisect_left(labelled, index)
        neighbours = labelled[max(0, after - 1) : after + 1]
        if all(abs(index - other) >= max(gap, 1) for other in neighbours):
            away.append(index)
    return away


def _shares(picked: int, free: int, negatives: float, most: int | None) -> tuple[int, int]:
    """Return how many picked and how many negative slices there will be, at most `most` together."""
    for positives in range(picked, -1, -1):
        added = min(free, int(positives * negatives + 0.5))
        if most is None or positives + added <= most:
            return positives, added
    return 0, 0


def _largest(indices: Sequence[int], areas: Areas, most: int | None) -> list[int]:
    """Return the slices with the largest regions; those without any are spread over the volume."""
    if most is None or len(indices) <= most:
        return list(indices)
    size = {index: max(areas.get(index, {}).values(), default=0.0) for index in indices}
    ranked = sorted((index for index in indices if size[index] > 0), key=lambda index: (-size[index], index))[:most]
    empty = [index for index in indices if size[index] <= 0]
    return sorted(ranked + _spread(empty, most - len(ranked)))


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """Return so many of the indices, evenly spread."""
    return [indices[(2 * n + 1) * len(indices) // (2 * count)] for n in range(count)] if count else []
