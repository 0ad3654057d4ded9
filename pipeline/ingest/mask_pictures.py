"""Masks of 2D pictures: the labels of their pixels, out of a picture file or a row of an array.

What is stored counts, not how it looks: palette indices, not their colours, and no EXIF orientation. Nothing is resized
that the descriptor does not say.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import rasters
from pipeline.errors import Unusable
from pipeline.ingest import mask_values
from pipeline.ingest.mask_values import Labelled, Values
from pipeline.records import Affine2
from sources import npz
from sources.annotation import MaskFile
from sources.descriptor import AnnotationSpec


def read(
    path: Path,
    mask: MaskFile,
    spec: AnnotationSpec,
    row: int | None,
    size: tuple[int, int],
    turn: Affine2 | None = None,
    as_filed: bool = False,
) -> tuple[Labelled, ...]:
    """Read a mask: one set of labels, of an array with channels one for each.

    Args:
        path: The mask's file.
        mask: What its values mean.
        spec: Where its kind has them: `invert`, `threshold`, `resize`.
        row: Of an array in an `.npz` or `.npy`; None: the whole array.
        size: Width and height in px of the picture that annotations speak of.
        turn: From px of that picture to px of the picture's file, where EXIF turned it.
        as_filed: Masks speak of the picture's file; without it only one of its size and not of the upright one does.

    Raises:
        Unusable: `size_mismatch`; `missing_mask`: no such array or row; what `mask_values`, `npz` and `rasters` raise.
    """
    if path.suffix.lower() in (".npz", ".npy"):
        found = _of_array(_array(path, mask.array or "", row), mask, spec)
    else:
        raster = rasters.opened(path.read_bytes())
        values = _values(raster, expand=mask.colours is not None)
        labelled = _labelled(values, mask, spec, raster.format in ("JPEG", "MPO"))
        pages = (f"mask_first_page_of_{raster.pages}",) if raster.pages > 1 else ()
        found = (labelled._replace(flags=labelled.flags + pages),)
    if mask.unknown:
        found = tuple(one._replace(names={}, unknown=one.names) for one in found)
    resize = getattr(spec, "resize", None) is not None
    return tuple(_laid(labelled, size, turn, as_filed, resize) for labelled in found)


# ---- files


def _values(raster: rasters.Raster, expand: bool) -> Values:
    """Return the values of a mask, grey or colour, without alpha.

    Args:
        raster: The file.
        expand: Colours of a palette instead of its indices.
    """
    if not isinstance(raster.samples, Image.Image):
        return _without_alpha(raster.samples)
    image = raster.samples
    if image.mode == "P":
        return np.asarray(image.convert("RGBA"))[..., :3] if expand else np.asarray(image)
    if image.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        raise Unusable("bad_annotation", f"a mask with pixels of mode {image.mode}")
    return _without_alpha(np.asarray(image))


def _without_alpha(samples: NDArray[Any]) -> Values:
    """Drop alpha, or take it for the mask where it varies and the colours do not."""
    if samples.ndim == 2 or samples.shape[2] == 3:
        return samples
    colours, alpha = samples[..., :-1], samples[..., -1]
    if (alpha != alpha[0, 0]).any() and (colours == colours[0, 0]).all():
        return alpha
    return colours if colours.shape[2] == 3 else colours[..., 0]


def _labelled(values: Values, mask: MaskFile, spec: AnnotationSpec, lossy: bool) -> Labelled:
    if mask.colours is not None:
        return mask_values.coloured(values, mask.colours, lossy)
    if mask.names is None and not mask.instances:
        assert mask.raw is not None  # the layout says what a binary mask shows
        return _binary(values, mask.raw, spec, lossy)
    grey = mask_values.grey(values, lossy)
    if mask.instances:
        if lossy:
            raise Unusable("interpolated_mask", "a JPEG does not keep the values of objects")
        assert mask.raw is not None
        return mask_values.instances(values if grey is None else grey, mask.raw)
    if grey is None or mask.names is None:
        raise Unusable("bad_annotation", "a colour picture where label ids should be; say encoding: colour")
    return mask_values.indexed(grey, mask.names, lossy)


def _binary(values: Values, raw: str, spec: AnnotationSpec, lossy: bool) -> Labelled:
    threshold, invert = getattr(spec, "threshold", None), getattr(spec, "invert", False)
    return mask_values.binary(values, raw, threshold, invert, lossy)


def _array(path: Path, name: str, row: int | None) -> NDArray[Any]:
    """Return a row of an array, or all of it."""
    if row is not None:
        try:
            return npz.row(path, name, row)
        except Unusable as error:
            raise Unusable(error.reason.replace("missing_image", "missing_mask"), error.detail) from None
    member = npz.members(path).get("" if npz.is_npy(path) else name)
    if member is None:
        raise Unusable("missing_mask", f"the file has no array {name!r}")
    if member.bytes > npz.MOST_ROW:
        raise Unusable("too_large", f"an array of shape {member.shape} and type {member.dtype}")
    with npz.sound():
        return npz.whole(path, name, member)


def _of_array(values: NDArray[Any], mask: MaskFile, spec: AnnotationSpec) -> tuple[Labelled, ...]:
    """Read an array: a mask, or channels that the names number from 0."""
    if values.dtype.kind not in "buif" or 0 in values.shape:
        raise Unusable("bad_annotation", f"an array of shape {values.shape} and type {values.dtype} is no mask")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3 and mask.colours is not None):
        return (_labelled(values, mask, spec, lossy=False),)
    if values.ndim != 3 or mask.names is None:
        raise Unusable("bad_annotation", f"a mask of shape {values.shape}; it should be rows, columns (and channels)")
    if any(not 0 <= channel < values.shape[2] for channel in mask.names):
        named = ", ".join(map(str, mask.names))
        raise Unusable("bad_annotation", f"{values.shape[2]} channels, numbered from 0; labels has {named}")
    each = ((values[..., channel], raw) for channel, raw in sorted(mask.names.items()))
    if mask.instances:
        return tuple(mask_values.instances(channel, raw) for channel, raw in each)
    return tuple(_binary(channel, raw, spec, lossy=False) for channel, raw in each)


# ---- the picture's pixels


def _laid(labelled: Labelled, size: tuple[int, int], turn: Affine2 | None, as_filed: bool, resize: bool) -> Labelled:
    """Bring labels onto the px that annotations speak of, or refuse them."""
    own = (labelled.array.shape[1], labelled.array.shape[0])
    of_file = size[::-1] if turn is not None and turn[0] == 0 else size
    fits, fits_file = _fits(own, size, resize), turn is not None and _fits(own, of_file, resize)
    if not fits and not fits_file:
        said = f"picture is {size[0]}x{size[1]} px, its mask {own[0]}x{own[1]}"
        raise Unusable("size_mismatch", f"{said}; it looks transposed" if own == size[::-1] else said)
    turns = fits_file and (as_filed or not fits)
    wanted = of_file if turns else size
    array, history = labelled.array, labelled.history
    if own != wanted:
        array = _scaled(array, wanted)
        history += (f"mask of {own[0]}x{own[1]} px brought to {wanted[0]}x{wanted[1]}, nearest neighbour",)
    if turns and turn is not None:
        array = _upright(array, turn)
    return labelled._replace(array=np.ascontiguousarray(array), history=history)


def _fits(own: tuple[int, int], size: tuple[int, int], resize: bool) -> bool:
    """Is it of that size, or, where it may be resized, of that aspect to less than a pixel?"""
    if own == size or not resize:
        return own == size
    return abs(own[1] - size[1] * own[0] / size[0]) < 1 and abs(own[0] - size[0] * own[1] / size[1]) < 1


def _scaled(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Give each pixel the label that its centre lies in."""
    rows = (np.arange(size[1]) * 2 + 1) * array.shape[0] // (2 * size[1])
    columns = (np.arange(size[0]) * 2 + 1) * array.shape[1] // (2 * size[0])
    scaled: NDArray[Any] = array[rows][:, columns]
    return scaled


def _upright(array: NDArray[Any], turn: Affine2) -> NDArray[Any]:
    """Turn labels of a file that lies on its side as its picture was turned."""
    a, b, _, d, e, _ = turn
    swapped = a == 0
    array = array[:: 1 if (d if swapped else e) > 0 else -1, :: 1 if (b if swapped else a) > 0 else -1]
    return array.T if swapped else array
