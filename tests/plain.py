"""Ingest's fast blocks as one would write them down: slow, a slice and a label at a time, by other libraries.

`use(monkeypatch)` puts them in the place of the fast ones. What a block means is said here once more, in plain words.
"""

import numpy as np
import scipy.ndimage as ndi
from pycocotools import mask as coco_mask

from pipeline.ingest import masks, reslice, volumes
from pipeline.ingest.masks import Found


def use(patch) -> None:
    """Ingest plainly from now on."""
    patch.setattr(volumes.Opened, "shaded", lambda *_: None)  # intensities are read whole, and shown after that
    patch.setattr(reslice, "sheets", sheets)
    patch.setattr(reslice, "tabled", lambda shade, dtype: shade)
    patch.setattr(masks, "find_all", find_all)
    patch.setattr(masks, "find", lambda *how: next(find_all([how[0]], *how[1:])))
    patch.setattr(masks, "codes", codes)
    patch.setattr(masks, "Stretch", Stretch)


def sheets(stack, wanted, shade=None):
    """Take slices as they stand."""
    for number in wanted:
        yield np.ascontiguousarray(stack[number] if shade is None else shade(stack[number]))


def find_all(slices, per_component, despeckle=0, x0=0, y0=0):
    """Look for each label of each slice by itself."""
    for labels in slices:
        found = []
        for value in sorted(set(np.unique(labels).tolist()) - {0}):
            found += _of_label(labels == value, int(value), per_component, despeckle, x0, y0)
        yield found


def _of_label(there, value, per_component, despeckle, x0, y0):
    parts, count = ndi.label(there, np.ones((3, 3)))  # numbered in reading order
    sizes = np.bincount(parts.ravel())
    if per_component:
        return [
            _found(parts == n + 1, value, n, x0, y0, speck=bool(despeckle and sizes[n + 1] < despeckle))
            for n in range(count)
        ]
    kept = np.isin(parts, [n for n in range(1, count + 1) if sizes[n] >= despeckle])
    if not kept.any():
        return [_found(there, value, None, x0, y0, speck=True)]
    return [_found(kept, value, None, x0, y0, specks=int(there.sum() - kept.sum()))]


def _found(mask, value, component, x0, y0, specks=0, speck=False):
    y, x = np.nonzero(mask)
    columns, rows = (np.array(part) for part in zip(*sorted(zip(x.tolist(), y.tolist(), strict=True)), strict=True))
    box = (columns[0] + x0, rows.min() + y0, columns[-1] + 1 + x0, rows.max() + 1 + y0)
    # a run of one px each: longer ones are a matter of speed
    runs = columns + x0, rows + y0, rows + 1 + y0
    return Found(value, component, *map(int, box), len(columns), *runs, specks, speck)


def codes(found, width, height):
    """Paint each mask and let pycocotools code it."""
    made = []
    for one in found:
        mask = np.zeros((height, width), np.uint8, order="F")
        mask[one.starts, one.columns] = 1
        made.append(coco_mask.encode(mask)["counts"].decode())
    return made


class Stretch:
    """Each px of the picture takes the px of the slice that its centre lies in."""

    def __init__(self, columns, rows):
        self._columns, self._rows = columns, rows

    @classmethod
    def of(cls, width, height, scale_x, scale_y):
        """Note where each column and row of the picture comes from."""
        return cls(*(np.floor((np.arange(n) + 0.5) / scale) for n, scale in ((width, scale_x), (height, scale_y))))

    def applied(self, found):
        """Paint each region on the slice, and take it from there px by px."""
        made = []
        for one in found:
            mask = np.zeros((int(self._rows[-1]) + 1, int(self._columns[-1]) + 1), bool)
            mask[one.starts, one.columns] = True
            larger = mask[self._rows.astype(int)][:, self._columns.astype(int)]
            made.append(_found(larger, one.value, one.component, 0, 0))
        return made
