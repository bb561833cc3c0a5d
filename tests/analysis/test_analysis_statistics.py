"""Staleness, loss levels and bytes, on numbers typed in."""

from itertools import pairwise

import numpy as np
import pytest
import traces
from hypothesis import given
from hypothesis import strategies as st

from pdcode.analysis import statistics
from pdcode.trace.schema import DRAINED, USED, WASTED


def test_staleness_takes_observed_values() -> None:
    assert statistics.Staleness.of(np.arange(10)) == statistics.Staleness(10, 4, 8, 9)
    assert statistics.Staleness.of(np.array([0, 100])) == statistics.Staleness(2, 0, 100, 100)
    assert statistics.Staleness.of(np.array([], int)) == statistics.Staleness(0, 0, 0, 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_staleness_quantiles_cover_what_they_say(values: list[int]) -> None:
    array = np.array(values)
    got = statistics.Staleness.of(array)
    for share, value in ((0.5, got.median), (0.9, got.tail)):
        assert value in values
        assert (array <= value).mean() >= share
        assert (array < value).mean() < share


def test_drained_arrivals_are_not_in_time() -> None:
    arrivals = traces.columns([traces.row(status=status) for status in (USED, DRAINED, WASTED)])
    assert statistics.in_time(arrivals).tolist() == [True, False, True]


def test_histogram_bins() -> None:
    assert statistics.histogram(np.array([0, 0, 2])) == [(0, 0, 2), (1, 1, 0), (2, 2, 1)]
    assert statistics.histogram(np.array([], int)) == [(0, 0, 0)]
    assert statistics.histogram(np.array([0, 1, 2, 3, 7, 15])) == [
        (0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 1), (8, 15, 1)
    ]  # fmt: skip
    assert statistics.histogram(np.array([5, 63]), bins=3) == [(0, 15, 1), (16, 31, 0), (32, 63, 1)]


@given(st.lists(st.integers(0, 5000), max_size=50), st.integers(3, 14))
def test_histogram_counts_every_value_once(values: list[int], bins: int) -> None:
    got = statistics.histogram(np.array(values, int), bins)
    assert len(got) <= bins
    assert got[0][0] == 0
    assert all(a[1] + 1 == b[0] for a, b in pairwise(got))
    for first, last, count in got:
        assert count == sum(first <= value <= last for value in values)
    assert sum(count for _, _, count in got) == len(values)


def test_levels_are_round_and_between_first_and_best() -> None:
    assert statistics.levels(np.array([2.3, 1.0, 0.3])) == [2.0, 1.0, 0.5]
    assert statistics.levels(np.array([2.3, 0.01, 0.5])) == [2.0, 0.5, 0.1, 0.05, 0.01]
    assert statistics.levels(np.array([1.0, 2.0])) == []
    assert statistics.levels(np.array([np.nan, np.inf])) == []
    assert statistics.levels(np.array([])) == []


@given(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=10), st.integers(1, 6))
def test_levels_law(loss: list[float], most: int) -> None:
    got = statistics.levels(np.array(loss), most)
    assert len(got) <= most
    assert got == sorted(set(got), reverse=True)
    assert all(min(loss) <= level < loss[0] for level in got)
    assert {f"{level:.0e}"[0] for level in got} <= {"1", "2", "5"}


def test_the_times_between_which_a_level_was_reached() -> None:
    loss = np.array([2.0, 1.0, 0.4, 0.6])
    rows = {"t_ns": np.array([0, 10, 20, 30]), "version": np.array([0, 7, 8, 9])}
    assert statistics.reached_ns(rows, loss, 0.5) == (20, 20)  # update 7 was measured, 8 is the first
    assert statistics.reached_ns(rows, loss, 1.0) == (0, 10)
    assert statistics.reached_ns(rows, loss, 2.0) == (0, 0)
    assert statistics.reached_ns(rows, loss, 0.1) == (np.inf, np.inf)


def test_crossing_is_between_two_measurements() -> None:
    crossing = statistics.crossing
    assert crossing([0.0, 1.0, 3.0], [4.0, 2.0, 0.5], 1.0) == pytest.approx(2.0)  # half-way in ln v
    assert crossing([0.0, 1.0, 3.0], [4.0, 2.0, -2.0], 0.0) == pytest.approx(2.0)  # half-way
    assert crossing([0.0, 2.0], [1.0, 0.5], 0.5) == 2.0
    assert crossing([1.0], [0.5], 0.5) == 1.0
    assert crossing([0.0, 1.0, 3.0, 4.0], [4.0, 2.0, 0.5, 3.0], 1.0) == pytest.approx(2.0)  # the first time
    assert crossing([0.0, 1.0, 3.0], [4.0, 2.0, 0.5], 1.0, np.array([0, 8, 9])) == 3.0  # by an update
    for times, values in (([0.0, 1.0], [1.0, 0.6]), ([], []), ([0.0, 1.0], [1.0, np.nan])):
        assert crossing(times, values, 0.5) == np.inf


ROWS = [traces.row(bytes_up=100, bytes_down=1000), traces.row(bytes_up=120, bytes_down=1000)]
SIZES = {"gradient_bytes": 800, "header_bytes": 64, "setup_bytes_up": 7, "setup_bytes_down": 9}


def test_traffic_of_all_arrivals() -> None:
    got = statistics.traffic(traces.columns(ROWS), SIZES, {"arrivals": 5, "bytes_up": 9, "bytes_down": 9})
    assert got == statistics.Traffic(2, 220, 2000, 2 * 864, 7, 9, exact=True)


def test_traffic_of_a_sample_is_what_rank_0_counted_or_an_estimate() -> None:
    attributes = {**SIZES, "arrivals": "sampled", "sample": 10}
    estimate = statistics.traffic(traces.columns(ROWS), attributes, {})
    assert estimate == statistics.Traffic(20, 2200, 20000, 20 * 864, 7, 9, exact=False)
    counters = {"arrivals": 21, "bytes_up": 2307, "bytes_down": 21009}
    counted = statistics.traffic(traces.columns(ROWS), attributes, counters)
    assert counted == statistics.Traffic(21, 2300, 21000, 21 * 864, 7, 9, exact=True)


@pytest.mark.parametrize("attributes", [{}, {"arrivals": "none"}])
def test_traffic_of_nothing(attributes: dict[str, str]) -> None:
    assert statistics.traffic(traces.columns([]), attributes, {}).up == 0
