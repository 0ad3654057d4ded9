"""The coordinator: what is spent adds up, the first reason to stop is kept, and workers ask now and then."""

import threading

import pytest

from pipeline.coordinator import TOLD_S, Shared, Sparing


class Counted(Shared):
    """A coordinator that counts how often it is asked."""

    asked = 0

    def stopped(self):
        self.asked += 1
        return super().stopped()


@pytest.fixture
def clock(monkeypatch):
    """Time that only goes on when it is told to."""
    now = [1000.0]
    monkeypatch.setattr("pipeline.coordinator.time.monotonic", lambda: now[0])

    def forward(seconds):
        now[0] += seconds

    return forward


@pytest.mark.parametrize(
    ("workers", "concurrency", "share"), [(1, 16, 16), (4, 16, 4), (3, 16, 5), (32, 16, 1), (0, 16, 16)]
)
def test_a_lease_is_the_same_share_for_every_worker_and_never_none(workers, concurrency, share):
    assert Shared(workers, {"http://a": concurrency}).lease("http://a") == share


def test_an_unknown_endpoint_has_sixteen_slots():
    assert Shared(4, {}).lease("http://b") == 4


def test_spending_adds_up_and_an_unknown_price_is_told():
    shared = Shared(1, {})
    shared.spend(100, 10, 0.5)
    assert shared.spent() == (100, 10, 0.5, False)
    shared.spend(1, 2, None)
    assert shared.spent() == (101, 12, 0.5, True)


def test_spending_adds_up_over_threads():
    shared = Shared(1, {})

    def spend():
        for _ in range(2_000):
            shared.spend(1, 2, 0.25)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared.spent() == (16_000, 32_000, 4_000.0, False)


def test_the_first_reason_to_stop_is_kept():
    shared = Shared(1, {})
    assert shared.stopped() is None
    shared.stop("the key is refused")
    shared.stop("a worker died")
    assert shared.stopped() == "the key is refused"


def test_a_worker_tells_in_slices_and_nothing_is_lost(clock):
    shared = Shared(1, {})
    sparing = Sparing(shared)
    sparing.spend(1, 1, 0.1)  # the first is told at once
    assert shared.spent() == (1, 1, 0.1, False)
    for _ in range(5):
        sparing.spend(10, 1, 0.1)
    assert shared.spent() == (1, 1, 0.1, False)
    clock(TOLD_S + 0.01)
    sparing.spend(10, 1, 0.1)
    assert shared.spent() == (61, 7, pytest.approx(0.7), False)
    sparing.spend(5, 5, 0.2)
    sparing.tell()
    sparing.tell()
    assert shared.spent() == (66, 12, pytest.approx(0.9), False)


def test_an_unknown_price_does_not_swallow_the_known_ones_told_with_it(clock):
    shared = Shared(1, {})
    sparing = Sparing(shared)
    sparing.tell()
    sparing.spend(10, 1, 0.5)
    sparing.spend(20, 2, None)
    sparing.spend(30, 3, 0.25)
    sparing.tell()
    assert shared.spent() == (60, 6, 0.75, True)


def test_a_worker_asks_at_most_twice_a_second(clock):
    shared = Counted(1, {})
    sparing = Sparing(shared)
    assert [sparing.stopped() for _ in range(100)] == [None] * 100
    assert shared.asked == 1
    shared.stop("enough")
    assert sparing.stopped() is None  # as of at most half a second ago
    clock(TOLD_S + 0.01)
    assert sparing.stopped() == "enough"
    assert [sparing.stopped() for _ in range(100)] == ["enough"] * 100
    assert shared.asked == 2


def test_a_worker_that_stops_the_run_knows_it_at_once(clock):
    shared = Shared(1, {})
    sparing, other = Sparing(shared), Sparing(shared)
    sparing.stop("HTTP 401")
    other.stop("HTTP 500")
    assert (sparing.stopped(), other.stopped(), shared.stopped()) == ("HTTP 401", "HTTP 500", "HTTP 401")


def test_a_worker_passes_its_lease_through():
    assert Sparing(Shared(2, {"e": 8})).lease("e") == 4
