"""Successive halving on made-up results: what it finds, what it spends, which candidates it cuts off."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.studies.goal import Goal
from pdcode.studies.halving import Rung, RungResult, halve, make_rungs, select_best
from pdcode.studies.measurement import Measured
from pdcode.util.processes import Pool

GOAL = Goal("loss", 0.0)


@dataclass(frozen=True)
class Work:
    """A trial that reaches the target after `needs`, with limits of its time."""

    needs: float
    cut_off_s: float
    seconds: float = 50.0
    spent: list[float] | None = None

    def perform(self) -> Measured:
        """Reach the target in time, or end with the value that is proportional to the time needed."""
        if self.spent is not None:
            self.spent.append(min(self.needs, self.cut_off_s, self.seconds))
        if self.needs > self.cut_off_s:
            return Measured(loss=1.0)
        return Measured(
            seconds=self.needs if self.needs <= self.seconds else math.inf, loss=self.needs / 1000
        )


def test_the_ladder():
    assert make_rungs(24, 3, 3, 9.0, seed=11) == [Rung(1, 24, 8, 3.0, 11), Rung(2, 8, 3, 9.0, 12)]
    assert make_rungs(3, 3, 3, 9.0, seed=11) == []
    assert [rung.keep for rung in make_rungs(5, 1.01, 3, 9.0, seed=1)] == [4, 3]
    assert [rung.candidates for rung in make_rungs(100, 2, 3, 1.0, 1)] == [100, 50, 25, 13, 7, 4]


@given(
    needs=st.lists(st.floats(0.01, 1000), min_size=4, max_size=40, unique=True),
    eta=st.floats(1.2, 5),
    length=st.floats(0.1, 100),
)
def test_the_best_three_are_found_for_what_was_promised(needs, eta, length):
    rungs = make_rungs(len(needs), eta, 3, length, seed=5)
    spent = {rung.number: [] for rung in rungs}

    def work(candidate: float, rung: Rung, cut_off_s: float) -> Work:
        return Work(candidate, cut_off_s, rung.seconds, spent[rung.number])

    results = list(halve(needs, rungs, GOAL, Pool(1), work))
    assert results[-1].survivors == sorted(needs)[:3]
    for rung in rungs:
        assert len(spent[rung.number]) == rung.candidates
        assert max(spent[rung.number]) <= rung.seconds
        assert rung.seconds == pytest.approx(length / eta ** (len(rungs) - rung.number))


def test_who_cannot_survive_is_cut_off():
    cut_offs = []

    def watched(candidate: float, cut_off_s: float) -> Work:
        cut_offs.append(cut_off_s)
        return Work(candidate, cut_off_s)

    ranked = select_best([3.0, 1.0, 2.0, 9.0, 0.5], 2, GOAL, Pool(1), watched)
    assert cut_offs == [math.inf, math.inf, 3.0, 2.0, 2.0]
    result = RungResult(Rung(1, 5, 2, 50.0, 1), ranked)
    assert result.survivors == [0.5, 1.0]
    assert result.cut_off_s == 1.0
    cut_offs.clear()
    select_best([300.0, 100.0, 200.0, 900.0], 2, GOAL, Pool(1), watched)
    assert cut_offs == [math.inf] * 4  # nobody has reached the target


LATE = st.sampled_from([1.0, 1.5, math.inf])  # how far off cut-offs were that were known when others began


@given(needs=st.lists(st.floats(0.1, 100), min_size=2, max_size=12), keep=st.integers(1, 5), data=st.data())
def test_the_order_does_not_depend_on_who_was_cut_off(needs, keep, data):
    def ranked(factor) -> list[float]:
        def work(each: float, cut_off_s: float) -> Work:
            return Work(each, cut_off_s * factor())

        return [each for each, _ in select_best(needs, keep, GOAL, Pool(1), work)]

    assert ranked(lambda: 1.0) == ranked(lambda: math.inf) == ranked(lambda: data.draw(LATE))


def test_equal_times_are_ordered_by_value_and_then_by_place():
    figures = {1: (2.0, 0.3), 2: (2.0, 0.2), 3: (math.inf, 0.1), 4: (2.0, 0.2)}

    def made_up(candidate: int, cut_off_s: float) -> SimpleNamespace:
        seconds, loss = figures[candidate]
        return SimpleNamespace(perform=lambda: Measured(seconds=seconds, loss=loss))

    ranked = select_best([1, 2, 3, 4], 4, GOAL, Pool(1), made_up)
    assert [candidate for candidate, _ in ranked] == [2, 4, 1, 3]
