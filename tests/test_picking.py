"""Which slices of a volume become pictures."""

import numpy as np
import pytest

from pipeline.ingest.picking import pick
from sources.descriptor import Slices

LIVER = {n: {"liver": float(area)} for n, area in zip(range(5, 12), (10, 40, 90, 120, 80, 30, 5), strict=True)}
"""On slices 5 to 11, largest on 8."""


def picked(areas=LIVER, count=20, spacing=None, complete=False, **rules) -> list[int]:
    return pick(areas, count, Slices(**rules), spacing, complete)


def test_labelled_slices_are_those_with_a_label():
    assert picked() == [5, 6, 7, 8, 9, 10, 11]
    assert picked({3: {}, 7: {"a": 1}}) == [7]
    assert picked({}) == []


def test_all_slices_are_all():
    assert picked(pick="all") == list(range(20))
    assert picked({}, pick="all") == list(range(20))


@pytest.mark.parametrize(("every", "wanted"), [(1, [5, 6, 7, 8, 9, 10, 11]), (3, [5, 8, 11]), (9, [5])])
def test_every_nth_is_counted_among_the_picked(every, wanted):
    assert picked(every=every) == wanted


def test_every_nth_of_all():
    assert picked(pick="all", every=6) == [0, 6, 12, 18]


# ---- peaks


def test_a_peak_is_the_slice_on_which_a_label_is_largest():
    assert picked(pick="peaks") == [8]


def test_every_label_has_its_own_peak():
    areas = {2: {"a": 5}, 3: {"a": 9, "b": 1}, 4: {"b": 7, "c": 1}, 5: {"b": 6}}
    assert picked(areas, pick="peaks") == [3, 4]


@pytest.mark.parametrize(
    ("gap_mm", "spacing", "wanted"),
    [
        (0, 1.0, [7, 8]),
        (2, 1.0, [6, 8]),  # 10 is two away as well, but smaller
        (2, None, [6, 8]),  # in slices
        (10, 5.0, [6, 8]),
        (10, 4.0, [5, 8]),
        (10, 2.5, [8]),
    ],
)
def test_peaks_of_a_label_keep_their_distance_in_mm(gap_mm, spacing, wanted):
    assert picked(pick="peaks", per_label=2, gap_mm=gap_mm, spacing=spacing) == wanted


def test_the_gap_is_between_peaks_of_one_label_only():
    areas = {4: {"a": 9}, 5: {"b": 9}}
    assert picked(areas, pick="peaks", gap_mm=100) == [4, 5]


def test_of_equal_slices_the_middle_one_is_the_peak():
    assert picked({n: {"tube": 7} for n in range(3, 10)}, pick="peaks") == [6]


def test_more_peaks_than_slices_are_the_slices():
    assert picked(pick="peaks", per_label=50, gap_mm=0) == picked()


# ---- at most


@pytest.mark.parametrize(("most", "wanted"), [(1, [8]), (3, [7, 8, 9]), (7, [5, 6, 7, 8, 9, 10, 11])])
def test_the_slices_with_the_largest_regions_stay(most, wanted):
    assert picked(most=most) == wanted


def test_the_largest_region_counts_and_not_their_sum():
    areas = {1: {"a": 50, "b": 50}, 2: {"a": 60}, 3: {"b": 55}}
    assert picked(areas, most=2) == [2, 3]


def test_of_all_slices_the_labelled_stay_and_the_rest_is_spread():
    assert picked({3: {"a": 1}}, pick="all", most=1) == [3]
    assert picked({}, pick="all", most=4) == [2, 7, 12, 17]
    assert picked({3: {"a": 1}}, pick="all", most=3, count=11) == [2, 3, 8]


# ---- negatives


def test_negatives_are_added_where_the_annotation_is_complete():
    assert picked(negatives=0.5) == picked()
    added = sorted(set(picked(negatives=0.5, complete=True, spacing=5.0)) - set(picked()))
    assert len(added) == 4  # half of seven, rounded up
    assert picked(pick="all", negatives=0.5, complete=True) == list(range(20))


@pytest.mark.parametrize("gap_mm", [0, 1, 10, 15])
@pytest.mark.parametrize("spacing", [None, 1.0, 5.0])
def test_negatives_lie_away_from_what_is_labelled(gap_mm, spacing):
    rules = {"gap_mm": gap_mm, "negatives": 10, "complete": True, "spacing": spacing}
    added = set(picked(count=60, **rules)) - set(LIVER)
    away = {n for n in range(60) if min(abs(n - other) for other in LIVER) * (spacing or 1) >= max(gap_mm, 1)}
    assert added == away
    assert added


def test_a_slice_whose_regions_are_too_small_to_keep_is_no_negative():
    areas = {**LIVER, 18: {"speck": 0.5}}
    added = set(picked(areas, negatives=10, complete=True, gap_mm=0)) - set(areas)
    assert added == set(range(20)) - set(areas)


def test_negatives_are_spread_evenly():
    areas = {50: {"a": 1}, 51: {"a": 1}, 52: {"a": 1}, 53: {"a": 1}}
    added = [n for n in picked(areas, count=100, negatives=1, complete=True) if n not in areas]
    free = [n for n in range(100) if abs(n - 51.5) >= 11.5]
    assert added == [free[(2 * n + 1) * len(free) // 8] for n in range(4)]
    assert np.diff(added).min() >= 15


def test_most_holds_for_positives_and_negatives_together():
    found = picked(most=4, negatives=1, complete=True, spacing=10.0)
    assert len(found) == 4
    assert [n for n in found if n in LIVER] == [7, 8]
    assert picked(most=4, negatives=1, complete=True, gap_mm=1000) == [6, 7, 8, 9]


def test_a_volume_without_labels_has_no_negatives_to_add():
    assert picked({}, negatives=1, complete=True) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_result_is_ordered_unique_and_in_the_volume_whatever_the_rules(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    areas = {
        int(n): {str(label): float(rng.integers(1, 9)) for label in rng.choice(4, rng.integers(0, 4), False)}
        for n in rng.choice(count, rng.integers(0, count + 1), False)
    }
    rules = {
        "pick": str(rng.choice(["labelled", "peaks", "all"])),
        "every": int(rng.integers(1, 4)),
        "per_label": int(rng.integers(1, 4)),
        "gap_mm": float(rng.choice([0, 3, 10, 1e9])),
        "most": [None, 1, 5][rng.integers(0, 3)],
        "negatives": float(rng.choice([0, 0.3, 2])),
    }
    spacing = float(rng.choice([0.01, 1.0, 5.0]))
    found = picked(areas, count, spacing, bool(seed % 2), **rules)
    assert found == sorted(set(found))
    assert set(found) <= set(range(count))
    assert len(found) <= (rules["most"] or count)
    assert found == picked(dict(reversed(areas.items())), count, spacing, bool(seed % 2), **rules)
