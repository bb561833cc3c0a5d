"""Successive halving on made-up scores: what it finds, what it spends, whom it cuts off."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.planning.halving import Rung, halve, ladder, race
from pdcode.util.processes import Pool


@dataclass(frozen=True)
class Made:
    """A score."""

    mean: float
    reached: bool
    value: float = 0.0

    @property
    def key(self) -> tuple[float, bool, float]:
        return self.mean, not self.reached, self.value


@dataclass(frozen=True)
class Work:
    """A candidate that reaches the goal after `needs`."""

    needs: float
    seconds: float
    seeds: tuple[int, ...]
    bar: float


def perform(work: Work) -> Made:
    """It is cut off at the bar, and beyond what it may take its time is extrapolated, rightly."""
    if work.needs > work.bar:
        return Made(math.inf, False)
    return Made(work.needs, work.needs <= work.seconds)


def order(candidate: float, rung: Rung, bar: float) -> Work:
    return Work(candidate, rung.seconds, rung.seeds, bar)


def test_the_ladder():
    assert ladder(24, 3, 3, 9.0, seed=11) == [Rung(1, 24, 8, 3.0, (11,)), Rung(2, 8, 3, 9.0, (12,))]
    assert ladder(3, 3, 3, 9.0, seed=11) == []
    assert [rung.keep for rung in ladder(5, 1.01, 3, 9.0, seed=1)] == [4, 3]
    assert [rung.candidates for rung in ladder(100, 2, 3, 1.0, 1)] == [100, 50, 25, 13, 7, 4]


@given(
    needs=st.lists(st.floats(0.01, 1000), min_size=1, max_size=40, unique=True),
    eta=st.floats(1.2, 5),
    length=st.floats(0.1, 100),
)
def test_the_best_is_found_for_what_was_promised_and_the_own_one_stays(needs, eta, length):
    rungs = ladder(len(needs), eta, 3, length, seed=5)
    spent = {rung.number: [] for rung in rungs}
    ranked = []

    def counted(work: Work) -> Made:
        number = next(rung.number for rung in rungs if rung.seeds == work.seeds)
        spent[number].append(min(work.needs, work.bar, work.seconds))
        return perform(work)

    finalists, rankings = halve(needs, rungs, Pool(1), counted, order, ranked.append)
    assert ranked == rankings
    assert needs[0] in finalists
    assert min(needs) in finalists
    others = [each for each in finalists if each != needs[0]]
    assert others == sorted(needs)[: max(3, len(others))] or set(sorted(needs)[:3]) <= set(finalists)
    assert len(finalists) <= max(4, len(needs) if not rungs else 0)
    for rung in rungs:
        assert len(spent[rung.number]) == rung.candidates
        assert max(spent[rung.number]) <= rung.seconds
        assert sum(spent[rung.number]) <= rung.candidates * rung.seconds * (1 + 1e-12)
        assert rung.seconds == pytest.approx(length / eta ** (len(rungs) - rung.number))


def test_who_cannot_survive_is_cut_off():
    bars = []

    def watched(candidate: float, rung: Rung, bar: float) -> Work:
        bars.append(bar)
        return order(candidate, rung, bar)

    ranking = race([3.0, 1.0, 2.0, 9.0, 0.5], Rung(1, 5, 2, 100.0, (1,)), Pool(1), perform, watched)
    assert bars == [math.inf, math.inf, 3.0, 2.0, 2.0]
    assert ranking.kept == [0.5, 1.0]
    assert ranking.bar == 1.0
    # Who has not reached the goal sets no bar, however soon it would.
    bars.clear()
    race([3.0, 1.0, 2.0, 9.0], Rung(1, 4, 2, 0.5, (1,)), Pool(1), perform, watched)
    assert bars == [math.inf] * 4


LATE = st.sampled_from([1.0, 1.5, math.inf])  # how far off bars were that were known when others began


@given(needs=st.lists(st.floats(0.1, 100), min_size=2, max_size=12), keep=st.integers(1, 5), data=st.data())
def test_the_order_does_not_depend_on_who_was_cut_off(needs, keep, data):
    rung = Rung(1, len(needs), keep, 50.0, (1,))

    def ranked(factor) -> list[float]:
        def work(each: float, rung: Rung, bar: float) -> Work:
            return order(each, rung, bar * factor())

        return [each for each, _ in race(needs, rung, Pool(1), perform, work).ranked]

    assert ranked(lambda: 1.0) == ranked(lambda: math.inf) == ranked(lambda: data.draw(LATE))


def test_equal_scores_keep_their_order():
    ranking = race([1.0, 1.0, 1.0], Rung(1, 3, 2, 5.0, (1,)), Pool(1), lambda work: Made(1.0, True), order)
    assert [candidate for candidate, _ in ranking.ranked] == [1.0, 1.0, 1.0]
    scores = {1: Made(2.0, True, 0.3), 2: Made(2.0, True, 0.2), 3: Made(2.0, False, 0.1)}
    ranking = race(
        [1, 2, 3], Rung(1, 3, 2, 5.0, (1,)), Pool(1), lambda work: scores[work.needs], order
    )  # fmt: skip
    assert [candidate for candidate, _ in ranking.ranked] == [2, 1, 3]


def slow_square(value: float) -> float:
    time.sleep(0.002 * (value % 3))
    return value * value


def test_work_is_spread_over_processes_as_they_get_free():
    drawn = []

    def items():
        for number in range(7):
            drawn.append(number)
            yield f"item {number}", float(number)

    with Pool(2) as pool:
        found = {}
        for key, value in pool.results(slow_square, items()):
            assert len(drawn) <= len(found) + 2
            found[key] = value
        assert found == {f"item {number}": float(number) ** 2 for number in range(7)}
        assert list(pool.results(slow_square, [])) == []
    with Pool(1) as pool:
        assert list(pool.results(slow_square, [(0, 3.0), (1, 2.0)])) == [(0, 9.0), (1, 4.0)]


def test_an_error_in_a_process_comes_out():
    with pytest.raises(TypeError), Pool(2) as pool:
        list(pool.results(slow_square, [(0, "x")]))
