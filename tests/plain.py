"""Ingest's fast blocks as one would write them down: slow, a slice and a label at a time, by other libraries.

`use(monkeypatch)` puts them in the place of the fast ones. What a block means is said here once more, in plain words.
"""

import numpy as np
import scipy.ndimage as ndi
from pycocotools import mask as coco_mask

from pipeline.ingest import layers, masks, reslice, volumes
from pipeline.ingest.masks import Found
from pipeline.ingest.source import remarks_on


def use(patch) -> None:
    """Ingest plainly from now on."""
    patch.setattr(volumes.Opened, "shaded", lambda *_: None)  # intensities are read whole, and shown after that
    patch.setattr(layers, "_held", lambda layer: layer._replace(remarks=remarks_on(layer.array)))
    patch.setattr(reslice, "sheets", sheets)
    patch.setattr(reslice, "tabled", lambda shade, dtype: shade)
    patch.setattr(masks, "find_all", find_all)
    patch.setattr(masks, "find", lambda *how: next(find_all([how[0]], *how[1:])))
    patch.setattr(masks, "codes", codes)


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


def codes(found, width, height, scale_x=1.0, scale_y=1.0):
    """Paint each mask on its slice, take each px of the picture from there, and let pycocotools code it."""
    columns, rows = (
        np.floor((np.arange(n) + 0.5) / scale).astype(int) for n, scale in ((width, scale_x), (height, scale_y))
    )
    made = []
    for one in found:
        mask = np.zeros((rows[-1] + 1, columns[-1] + 1), np.uint8)
        mask[one.starts, one.columns] = 1
        larger = np.asfortranarray(mask[rows][:, columns])
        made.append(masks.Coded(coco_mask.encode(larger)["counts"].decode(), int(larger.sum())))
    return made
