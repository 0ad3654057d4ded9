"""From a label map to regions: boxes, components and run lengths."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from pipeline.ingest.masks import codes, find
from pipeline.runlength import decode, encode


def random_labels(seed: int, height: int = 23, width: int = 31, classes: int = 3, fill: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((height, width)) < fill, rng.integers(1, classes + 1, (height, width)), 0)


def flooded(labels: np.ndarray) -> list[tuple[int, set[tuple[int, int]]]]:
    """8-connected components by brute force: label and pixels, by label, then by first pixel in reading order."""
    seen, found = set(), []
    for start in zip(*np.nonzero(labels), strict=True):
        if start in seen:
            continue
        component, todo = set(), [start]
        while todo:
            y, x = todo.pop()
            inside = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
            if (y, x) in component or not inside or labels[y, x] != labels[start]:
                continue
            component.add((y, x))
            todo += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        seen |= component
        found.append((int(labels[start]), component))
    return sorted(found, key=lambda one: (one[0], min(one[1])))


def pixels_of(found) -> set[tuple[int, int]]:
    runs = zip(found.columns.tolist(), found.starts.tolist(), found.stops.tolist(), strict=True)
    return {(y, x) for x, start, stop in runs for y in range(start, stop)}


@pytest.mark.parametrize("seed", range(8))
def test_each_class_has_the_box_of_its_pixels(seed):
    labels = random_labels(seed, fill=0.05)
    found = list(find(labels, per_component=False))
    assert [one.value for one in found] == sorted(set(labels.ravel().tolist()) - {0})
    for one in found:
        rows, columns = np.where(labels == one.value)
        assert (one.x0, one.y0, one.x1, one.y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert one.area == len(rows)
        assert one.component is None
        assert pixels_of(one) == set(zip(rows.tolist(), columns.tolist(), strict=True))


@pytest.mark.parametrize("fill", [0.15, 0.4, 0.6, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_components_are_eight_connected_and_in_reading_order(seed, fill):
    labels = random_labels(seed, classes=2, fill=fill)
    found, wanted = list(find(labels, per_component=True)), flooded(labels)
    assert [(one.value, pixels_of(one)) for one in found] == wanted
    numbers = {value: 0 for value, _ in wanted}
    for one in found:
        assert one.component == numbers[one.value]
        numbers[one.value] += 1


def test_pixels_that_touch_at_a_corner_are_one_component():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert [one.area for one in find(labels, per_component=True)] == [4]
    assert [one.area for one in find(np.array([[1, 0, 1], [0, 0, 0]]), per_component=True)] == [1, 1]


def test_the_right_edge_does_not_touch_the_next_rows_left_edge():
    labels = np.array([[0, 0, 5], [5, 0, 0]])
    assert [one.area for one in find(labels, per_component=True)] == [1, 1]


def test_a_spiral_is_one_component():
    labels = np.zeros((11, 11), np.uint8)
    for n in range(0, 5, 2):
        labels[n, n : 11 - n] = labels[n : 11 - n, 10 - n] = labels[10 - n, n : 11 - n] = 1
        labels[n + 2 : 11 - n, n] = 1
        labels[n + 2, n : n + 2] = 1
    found = list(find(labels, per_component=True))
    assert [(one.value, pixels_of(one)) for one in found] == flooded(labels)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.int32, np.int64, ">i2"])
def test_every_whole_type_works_and_big_ids_too(dtype):
    value = 1 if dtype is bool else 200
    labels = np.zeros((4, 5), dtype)
    labels[1:3, 2:4] = value
    (found,) = find(labels, per_component=False)
    assert (found.value, found.area) == (value, 4)


def test_negative_ids_are_labels_too():
    assert [one.value for one in find(np.array([[-1, 0, 2]]), per_component=False)] == [-1, 2]


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_slices_of_one_row_or_column_work(shape):
    for per_component in (False, True):
        (found,) = find(np.ones(shape, np.uint8), per_component)
        assert (found.x0, found.y0, found.x1, found.y1, found.area) == (0, 0, shape[1], shape[0], shape[0] * shape[1])


def test_an_empty_slice_has_no_regions():
    for per_component in (False, True):
        assert list(find(np.zeros((5, 6), np.uint8), per_component)) == []


def test_views_of_a_volume_work_as_they_are():
    volume = random_labels(3, 12, 60).reshape(12, 10, 6)
    for view in (volume[4], volume[::-1, 3, :], volume[::-1, :, 2]):
        wanted = flooded(np.ascontiguousarray(view))
        assert [(one.value, pixels_of(one)) for one in find(view, per_component=True)] == wanted


# ---- run-length code


def by_pycocotools(mask: np.ndarray) -> str:
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


@pytest.mark.parametrize("fill", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("seed", range(4))
def test_the_code_is_the_one_pycocotools_writes(seed, fill):
    labels = random_labels(seed, fill=fill)
    for one in find(labels, per_component=False):
        ((code, area),) = codes([one], 31, 23)
        assert area == one.area
        assert code == by_pycocotools(labels == one.value)
        assert coco_mask.area({"size": [23, 31], "counts": code}) == one.area
        wanted = [one.x0, one.y0, one.x1 - one.x0, one.y1 - one.y0]
        assert coco_mask.toBbox({"size": [23, 31], "counts": code}).tolist() == wanted


@pytest.mark.parametrize("per_component", [False, True])
@pytest.mark.parametrize("fill", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("seed", range(4))
def test_the_codes_of_many_regions_are_those_of_each(seed, fill, per_component):
    found = list(find(random_labels(seed, fill=fill), per_component))
    wanted = []
    for one in found:
        mask = np.zeros((23, 31), bool)
        mask[tuple(np.array(sorted(pixels_of(one))).T)] = True
        wanted.append(by_pycocotools(mask))
    assert [code for code, _ in codes(found, 31, 23)] == wanted


@pytest.mark.parametrize(("width", "height"), [(31, 23), (62, 23), (31, 50), (47, 61), (40, 24)])
@pytest.mark.parametrize("seed", range(4))
def test_a_stretched_region_takes_the_pixel_that_each_centre_lies_in(seed, width, height):
    labels = random_labels(seed)
    columns = np.floor((np.arange(width) + 0.5) * 31 / width).astype(int)
    rows = np.floor((np.arange(height) + 0.5) * 23 / height).astype(int)
    larger = labels[rows][:, columns]
    found = list(find(labels, per_component=False))
    wanted = [(by_pycocotools(larger == one.value), (larger == one.value).sum()) for one in found]
    assert codes(found, width, height, width / 31, height / 23) == wanted
    assert codes([], width, height) == []


@pytest.mark.parametrize(
    "where",
    [np.s_[0, 0], np.s_[-1, -1], np.s_[0, -1], np.s_[:, :], np.s_[:, 0], np.s_[:, -1], np.s_[0, :], np.s_[3:5, 2:9]],
)
def test_the_code_is_right_at_the_edges(where):
    whole = np.zeros((17, 600), bool)  # runs above 32, 1024: several characters a number
    whole[where] = True
    (one,) = find(whole, per_component=False)
    assert codes([one], 600, 17) == [(by_pycocotools(whole), whole.sum())]


def test_the_code_of_large_runs_is_right():
    whole = np.zeros((900, 1100), bool)
    whole[880:, 1000:1010] = True
    whole[5, 3] = True
    (one,) = find(whole, per_component=False)
    assert codes([one], 1100, 900) == [(by_pycocotools(whole), whole.sum())]


def test_an_empty_mask_has_a_code():
    assert encode(np.zeros((2, 3), bool), 4, 5, 20, 10) == by_pycocotools(np.zeros((10, 20), bool))


@pytest.mark.parametrize("seed", range(20))
def test_decoding_gives_back_what_pycocotools_wrote(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < (0.02, 0.5, 0.98)[seed % 3]
    code = by_pycocotools(mask)
    np.testing.assert_array_equal(decode(code, 31, 23), mask)


def test_an_empty_and_a_full_mask_decode():
    for mask in (np.zeros((5, 7), bool), np.ones((5, 7), bool)):
        np.testing.assert_array_equal(decode(by_pycocotools(mask), 7, 5), mask)


# ---- specks


def despeckled(labels: np.ndarray, below: int) -> dict[int, tuple[set, int, bool]]:
    """By brute force: label to pixels that stay, how many went, and whether nothing would stay."""
    found: dict[int, list[set]] = {}
    for value, component in flooded(labels):
        found.setdefault(value, []).append(component)
    result = {}
    for value, components in found.items():
        kept = set().union(*(c for c in components if len(c) >= below))
        whole = set().union(*components)
        result[value] = (kept or whole, len(whole - kept) if kept else 0, not kept)
    return result


@pytest.mark.parametrize("below", [2, 5, 40])
@pytest.mark.parametrize("fill", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_parts_below_the_bound_are_taken_out_of_their_region(seed, fill, below):
    labels = random_labels(seed, fill=fill)
    wanted = despeckled(labels, below)
    for one in find(labels, per_component=False, despeckle=below):
        assert (pixels_of(one), one.specks, one.speck) == wanted[one.value]
        pixels = wanted[one.value][0]
        rows, columns = {y for y, _ in pixels}, {x for _, x in pixels}
        assert (one.x0, one.y0, one.x1, one.y1) == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        assert one.area == len(pixels)


@pytest.mark.parametrize("seed", range(4))
def test_of_components_the_small_ones_are_marked(seed):
    labels = random_labels(seed, fill=0.25)
    found = list(find(labels, per_component=True, despeckle=3))
    assert [(one.value, pixels_of(one)) for one in found] == flooded(labels)
    assert [one.speck for one in found] == [one.area < 3 for one in found]
    assert {one.specks for one in found} == {0}
    assert {one.speck for one in found} == {True, False}


def test_without_a_bound_nothing_is_a_speck():
    labels = random_labels(0, fill=0.05)
    for per_component in (False, True):
        assert {(one.specks, one.speck) for one in find(labels, per_component)} == {(0, False)}
        for one, other in zip(find(labels, per_component), find(labels, per_component, 1), strict=True):
            assert (one[:7], one.specks, one.speck) == (other[:7], other.specks, other.speck)


def test_an_empty_slice_has_no_specks():
    assert list(find(np.zeros((5, 6), np.uint8), per_component=False, despeckle=4)) == []
