"""Outlines to pixels: even-odd at pixel centres, against exact arithmetic and pycocotools."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline import runlength
from pipeline.errors import Unusable
from pipeline.ingest import outlines

W, H = 24, 18


def filled(*rings, width=W, height=H) -> np.ndarray:
    """The whole picture."""
    whole = np.zeros((height, width), bool)
    found = outlines.fill(rings, width, height)
    if found is not None:
        mask, x0, y0 = found
        assert [edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])] == [True] * 4
        whole[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]] = mask
    return whole


def by_crossings(*rings, width=W, height=H) -> np.ndarray:
    """Crossing-number test of every pixel's centre, in fractions: no rounding at all."""
    whole = np.zeros((height, width), bool)
    for row, column in np.ndindex(height, width):
        x, y = Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)
        for ring in rings:
            corners = [(Fraction(a), Fraction(b)) for a, b in ring]
            for (xa, ya), (xb, yb) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (ya <= y) != (yb <= y) and xa + (y - ya) * (xb - xa) / (yb - ya) <= x:
                    whole[row, column] ^= True
    return whole


def by_coco(ring, width=W, height=H) -> np.ndarray:
    (code,) = coco.frPyObjects([np.ravel(ring).tolist()], height, width)
    return runlength.decode(code["counts"].decode(), width, height)


def box_of(mask: np.ndarray) -> tuple[int, ...]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def rectangle(x0, y0, x1, y1) -> tuple:
    return (x0, y0), (x1, y0), (x1, y1), (x0, y1)


def star(seed: int, corners: int, width=W, height=H) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.2, 1, corners) * min(width, height) * 0.48
    return np.stack([width / 2 + radii * np.cos(angles), height / 2 + radii * np.sin(angles)], axis=1)


def test_a_rectangle_holds_the_pixels_between_its_edges_and_no_more():
    mask, x0, y0 = outlines.fill([rectangle(4, 1, 8, 3)], W, H)
    assert (x0, y0, mask.shape, int(mask.sum())) == (4, 1, (2, 4), 8)


@pytest.mark.parametrize("box", [(4, 1, 8, 3), (0, 0, W, H), (3, 7, 4, 8), (20, 2, 24, 18)])
def test_a_rectangle_of_whole_pixels_is_pycocotools_rectangle(box):
    np.testing.assert_array_equal(filled(rectangle(*box)), by_coco(rectangle(*box)))
    assert box_of(filled(rectangle(*box))) == box


@pytest.mark.parametrize("edge", [0.0, 0.25, 0.5, 0.75])
def test_a_centre_on_the_left_or_top_edge_belongs_and_one_on_the_right_or_bottom_does_not(edge):
    mask, x0, y0 = outlines.fill([rectangle(4 + edge, 1 + edge, 8 + edge, 3 + edge)], W, H)
    assert (x0, y0) == ((4, 1) if edge <= 0.5 else (5, 2))
    assert (mask.shape, int(mask.sum())) == ((2, 4), 8)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["star", "tangle", "centres", "outside"])
def test_outlines_hold_the_centres_that_exact_arithmetic_says(seed, kind):
    rng = np.random.default_rng(seed)
    ring = {
        "star": lambda: star(seed, 9),
        "tangle": lambda: rng.uniform(0, W, (8, 2)),  # crosses itself
        "centres": lambda: rng.integers(0, H, (7, 2)) + 0.5,  # corners on centres: every tie there is
        "outside": lambda: rng.uniform(-W, 2 * W, (6, 2)),
    }[kind]()
    np.testing.assert_array_equal(filled(ring), by_crossings(ring))


@pytest.mark.parametrize("seed", range(8))
def test_boxes_of_smooth_outlines_are_those_of_pycocotools_within_a_pixel(seed):
    rng, turns = np.random.default_rng(seed), np.linspace(0, 2 * np.pi, 24, endpoint=False)
    (across, down), tilt = rng.uniform(12, 36, 2), rng.uniform(0, np.pi)
    ring = np.rint([45 + across * np.cos(turns), 40 + down * np.sin(turns + tilt)]).T
    mine, theirs = filled(ring, width=90, height=80), by_coco(ring, 90, 80)
    assert np.abs(np.subtract(box_of(mine), box_of(theirs))).max() <= 1
    assert mine.sum() == pytest.approx(theirs.sum(), rel=0.06)


def test_the_direction_the_first_corner_and_a_repeated_last_corner_do_not_matter():
    ring = star(3, 11)
    for other in (ring[::-1], np.roll(ring, 4, axis=0), np.vstack([ring, ring[:1]])):
        np.testing.assert_array_equal(filled(other), filled(ring))


def test_every_pixel_of_a_mesh_belongs_to_one_of_its_pieces():
    rng = np.random.default_rng(5)
    size, cell = 6, 4.0
    y, x = np.mgrid[0 : size + 1, 0 : size + 1] * cell
    inner = np.zeros((size + 1, size + 1), bool)
    inner[1:-1, 1:-1] = True
    x, y = x + inner * rng.uniform(-1.9, 1.9, x.shape), y + inner * rng.choice([-1.5, 0.5, 1.0, 0.3], y.shape)
    count = np.zeros((24, 24), int)
    for row, column in np.ndindex(size, size):
        around = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        a, b, c, d = ((x[corner], y[corner]) for corner in around)
        for triangle in ([a, b, c], [c, d, a]) if (row + column) % 2 else ([b, c, d], [d, a, b]):
            count += filled(triangle, width=24, height=24)
    assert (count == 1).all()


def test_a_ring_within_a_ring_is_a_hole_and_one_within_that_is_filled_again():
    rings = rectangle(2, 2, 16, 16), rectangle(4, 4, 14, 14), rectangle(6, 6, 8, 9)
    assert filled(*rings).sum() == 14 * 14 - 10 * 10 + 2 * 3
    np.testing.assert_array_equal(filled(*rings), by_crossings(*rings))


def test_a_keyhole_is_a_hole_whose_bridge_holds_no_pixel():
    outer, inner = [(2, 2), (16, 2), (16, 16), (2, 16), (2, 2)], [(5, 5), (5, 9), (9, 9), (9, 5), (5, 5)]
    np.testing.assert_array_equal(filled(outer + inner), filled(outer, inner))
    assert filled(outer + inner).sum() == 14 * 14 - 4 * 4


def test_rings_that_share_an_edge_are_one_region_and_the_same_ring_twice_is_none():
    np.testing.assert_array_equal(filled(rectangle(2, 2, 7, 9), rectangle(7, 2, 12, 9)), filled(rectangle(2, 2, 12, 9)))
    assert outlines.fill([star(1, 7), star(1, 7)], W, H) is None


@pytest.mark.parametrize(
    "rings",
    [[], [()], [((3, 3),)], [((3, 3), (9, 9))], [((3, 3), (9, 9), (3, 3))], [((3, 3), (9, 3), (20, 3))],
     [rectangle(3.6, 3.6, 4.4, 4.4)], [rectangle(-9, -9, -2, -2)], [rectangle(W, 2, W + 5, 9)],
     [rectangle(2, H, 9, 40)]],
    ids=["none", "empty", "point", "line", "there and back", "flat", "between centres", "left", "right", "below"],
)  # fmt: skip
def test_what_holds_no_centre_is_none(rings):
    assert outlines.fill(rings, W, H) is None


def test_what_leaves_the_picture_is_clipped():
    np.testing.assert_array_equal(filled(rectangle(-1e8, -5, 6, 7)), filled(rectangle(0, 0, 6, 7)))
    assert filled(rectangle(-1e9, -1e9, 1e9, 1e9)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_coordinate_that_is_no_number_is_a_problem(value):
    with pytest.raises(Unusable, match=r"^bad_annotation: an outline has a coordinate"):
        outlines.fill([((1, 1), (value, 5), (9, 9))], W, H)


def test_edges_that_are_hardly_any_are_no_trouble():
    tiny = np.nextafter(0.5, 1)
    ring = [(0, 0.5), (40, tiny), (5.3, 5e-324), (0, 9)]
    np.testing.assert_array_equal(filled(ring), by_crossings(ring))


def test_the_cost_is_of_the_box_and_not_of_the_picture():
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    ring = np.stack([15_000 + 800 * np.cos(angles), 4_000 + 700 * np.sin(angles)], axis=1)
    tracemalloc.start()
    mask, _, _ = outlines.fill([ring], 20_000, 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mask.sum() == pytest.approx(np.pi * 800 * 700, rel=1e-3)
    assert peak < 30_000_000


def test_what_would_take_all_memory_is_too_large():
    with pytest.raises(Unusable, match=r"^too_large: an outline's box is 20000x20000 px"):
        outlines.fill([rectangle(0, 0, 20_000, 20_000)], 20_000, 20_000)
    zigzag = np.stack([np.linspace(0, 900, 30_000), np.arange(30_000) % 2 * 60_000.0], axis=1)
    with pytest.raises(Unusable, match=r"^too_large: an outline crosses rows"):
        outlines.fill([zigzag], 1_000, 60_000)


def test_more_crossings_than_are_worked_on_together_make_no_difference(monkeypatch):
    ring = star(7, 30, 90, 80)
    whole = filled(ring, width=90, height=80)
    monkeypatch.setattr(outlines, "AT_ONCE", 17)
    np.testing.assert_array_equal(filled(ring, width=90, height=80), whole)


def test_a_column_with_hundreds_of_edges_does_not_run_over():
    rings = [rectangle(2, 2, 9, 9)] * 301
    np.testing.assert_array_equal(filled(*rings), filled(rectangle(2, 2, 9, 9)))
