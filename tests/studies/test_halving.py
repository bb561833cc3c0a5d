"""Successive halving on made-up results: what it finds, what it spends, which candidates it cuts off."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.config import load as configfile
from pdcode.studies.goal import Goal
from pdcode.studies.halving import (
    Rung,
    RungResult,
    Runs,
    TrialOfSeeds,
    halve,
    make_pilot,
    make_rungs,
    select_best,
)
from pdcode.studies.measurement import Measured
from pdcode.studies.trial import Trial
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
    assert make_rungs(24, 3, 3, 9.0, seed=11) == [
        Rung(1, 24, 8, 3.0, (11, 12)),
        Rung(2, 8, 3, 9.0, (13, 14, 15)),
        Rung(3, 3, 3, 9.0, (*range(16, 24),)),
    ]
    assert make_rungs(2, 3, 3, 9.0, seed=11) == [
        Rung(1, 2, 2, 3.0, (11, 12)),
        Rung(2, 2, 2, 9.0, (13, 14, 15)),
        Rung(3, 2, 2, 9.0, (*range(16, 24),)),
    ]
    assert [rung.keep for rung in make_rungs(5, 1.01, 3, 9.0, seed=1)] == [4, 3, 3]
    many = make_rungs(100, 2, 3, 1.0, 1)
    assert [rung.schemes for rung in many] == [100, 50, 25, 13, 7, 4, 3]
    assert [rung.seconds for rung in many] == pytest.approx([1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 3, 1, 1])
    assert len({seed for rung in many for seed in rung.seeds}) == 2 + 3 + 4 + 5 + 6 + 7 + 8


def test_the_pilot_finds_how_long_runs_need_to_be():
    rungs = make_pilot(65, 64.0, seed=11)
    assert [rung.seconds for rung in rungs] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert [(rung.schemes, rung.keep) for rung in rungs[:2]] == [(65, 32), (32, 16)]
    assert rungs[-1].keep == 1
    assert all(rung.schemes * rung.seconds <= 65 for rung in rungs)
    assert [rung.keep for rung in make_pilot(3, 64.0, seed=11)] == [1] * 6


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
        assert len(spent[rung.number]) == rung.schemes
        assert max(spent[rung.number]) <= rung.seconds
    assert rungs[-1].seconds == length


def test_who_cannot_survive_is_cut_off():
    cut_offs = []

    def watched(candidate: float, cut_off_s: float) -> Work:
        cut_offs.append(cut_off_s)
        return Work(candidate, cut_off_s)

    ranked = select_best([3.0, 1.0, 2.0, 9.0, 0.5], 2, GOAL, Pool(1), watched)
    assert cut_offs == [math.inf, math.inf, 3.0, 2.0, 2.0]
    result = RungResult(Rung(1, 5, 2, 50.0, (1,)), ranked)
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


def test_the_best_settings_of_a_scheme_count_and_bring_their_neighbours():
    needs = {"a": {1: 30.0, 2: 8.0, 3: 5.0}, "b": {1: 10.0, 2: 1.0}, "c": {1: 20.0}, "d": {1: 40.0}}
    tried = []

    def work(candidate: tuple[str, int], rung: Rung, cut_off_s: float) -> Work:
        tried.append((rung.number, candidate))
        name, settings = candidate
        return Work(needs[name][settings], cut_off_s)

    def beside(result: RungResult) -> list[tuple[str, int]]:
        return [
            *result.survivors,
            *((name, near + 1) for name, near in result.survivors if near + 1 in needs[name]),
        ]

    rungs = [Rung(1, 4, 2, 50.0, (1, 2)), Rung(2, 2, 1, 50.0, (3, 4, 5))]
    first = [(name, 1) for name in needs] + [("a", 2)]
    results = list(halve(first, rungs, GOAL, Pool(1), work, lambda each: each[0], beside))
    # Two settings of "a" are one survivor, so that the second is of another scheme.
    assert results[0].survivors == [("a", 2), ("b", 1)]
    assert results[0].cut_off_s == 10.0
    assert [each for number, each in tried if number == 2] == [("a", 2), ("b", 1), ("a", 3), ("b", 2)]
    assert results[1].survivors == [("b", 2)]


def run(seconds: float, loss: float = 0.1) -> Measured:
    return Measured(seconds=seconds, stop_s=min(seconds, 9.0), loss=loss)


def test_the_cut_off_ends_the_runs_of_several_seeds():
    preset = "scheme.preset=default"
    config = configfile.resolve({}, [preset, "problem.hidden=[16]", "workers.count=4", "stop.loss=0.3"])
    goal = Goal("loss", 0.3)
    trials = [Trial(config, seed, goal) for seed in (1, 2, 3)]
    whole = TrialOfSeeds(trials, math.inf).perform()
    assert whole.reached
    assert whole.seconds == pytest.approx(sum(each.seconds for each in whole.runs) / 3)
    for factor in (1.1, 0.9, 0.2):
        cut = TrialOfSeeds(trials, factor * whole.seconds).perform()
        assert cut.reached == (factor > 1)
        assert sum(each.spent_s for each in cut.runs) <= 3 * 1.001 * factor * whole.seconds
    assert len(cut.runs) == 1


def test_the_mean_of_several_seeds():
    goal = Goal("loss", 0.3)
    one, three, missed = run(1.0, 0.2), run(3.0, 0.2), run(math.inf, 0.1)
    whole, some, none, cut = (
        Runs(runs, 2) for runs in ([one, three], [one, missed], [missed, missed], [one])
    )
    assert whole.key(goal) == (2.0, 0, pytest.approx(0.2))
    assert some.key(goal) == (math.inf, 1, pytest.approx(0.15))
    assert cut.seconds == math.inf
    diverged = Runs([run(math.inf, math.nan)] * 2, 2)
    ranked = sorted([diverged, none, some, whole], key=lambda each: each.key(goal))
    assert ranked == [whole, some, none, diverged]
