"""Descents of a plan: common random numbers, what is measured, when they are cut off."""

from __future__ import annotations

import math

import pytest

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.studies import search_space as space
from pdcode.studies import trial as trials
from pdcode.studies.goal import Goal
from pdcode.studies.trial import Curve, Trial
from pdcode.trace.schema import ARRIVALS, DRAINED
from pdcode.virtual.simulation import simulate

GOAL = Goal("loss", 1.5)
SMALL = [
    "problem.hidden=[16]", "code.blocks=[8,1]", "workers.count=4", "optimizer.rate=0.5", "stop.loss=1.5",
    "stragglers.kind=shifted-exponential", "stragglers.shift_s=0.001", "stragglers.mean_s=0.002",
]  # fmt: skip


def config(*overrides: str) -> Config:
    return configfile.resolve({}, [*SMALL, *overrides])


class Arrivals(Curve):
    """Keeps the delay of each task too."""

    def __init__(self) -> None:
        super().__init__(GOAL)
        self.delays: dict[tuple[int, int], int] = {}

    def arrival(self, *values: float) -> None:
        row = dict(zip(ARRIVALS, values, strict=True))
        if row["status"] != DRAINED:  # the stop cuts delays short
            self.delays[int(row["worker"]), int(row["task"])] = int(row["injected_delay_ns"])


def delays(config: Config) -> dict[tuple[int, int], int]:
    sink = Arrivals()
    simulate(config, trace=sink)
    return sink.delays


def test_all_candidates_meet_the_same_delays():
    found = [
        delays(candidate.config)
        for candidate in space.candidates(config("stop.updates=12"), 9, seed=3)
        if candidate.name != space.OWN
    ]
    assert len(found) >= 6
    first = found[0]
    for other in found[1:]:
        common = first.keys() & other.keys()
        assert len(common) >= 8
        assert all(first[key] == other[key] for key in common)
    assert len(set(first.values())) > 8
    other_seed = delays(config("stop.updates=12", "seed=2"))
    assert all(first[key] != other_seed[key] for key in first.keys() & other_seed.keys())


def test_a_descent_to_the_goal():
    trial = Trial(config(), GOAL, (1,), 10.0, 0.005)
    outcome = trials.descend(trial, 1, 10.0)
    assert outcome.reached
    assert outcome.ended_s - 0.006 <= outcome.seconds <= outcome.ended_s
    assert outcome.value <= 1.5
    assert 0 < outcome.oracle_s <= outcome.ended_s
    assert outcome.bytes_up > 0
    assert outcome.bytes_down > outcome.bytes_up
    assert not outcome.diverged
    assert trials.descend(trial, 1, 10.0) == outcome
    assert trials.descend(trial, 2, 10.0) != outcome
    # The configuration's own stop and seed do not count.
    moved = Trial(config("stop.updates=1", "seed=9", "trace.progress_s=9.0"), GOAL, (1,), 10.0, 0.005)
    assert trials.descend(moved, 1, 10.0) == outcome


def test_a_descent_that_misses_the_target():
    goal = Goal("accuracy", 0.9)
    outcome = trials.descend(Trial(config(), goal, (1,), 0.06, 0.002), 1, 0.06)
    assert math.isinf(outcome.seconds)
    assert outcome.ended_s == outcome.spent_s == pytest.approx(0.06, abs=0.01)
    assert 0.1 < outcome.value < 1  # 1 - accuracy
    few = Trial(config(), goal, (1,), 10.0, 0.002, updates=7)
    assert trials.descend(few, 1, 10.0).updates == 7
    diverged = trials.descend(Trial(config("optimizer.rate=1e6"), GOAL, (1,), 1.0, 0.002), 1, 1.0)
    assert diverged.diverged
    assert not diverged.reached


def test_the_cut_off_ends_a_trial():
    whole = trials.perform(Trial(config(), GOAL, (1, 2, 3), 7.0, 0.01))
    assert whole.reached
    assert whole.seconds == pytest.approx(sum(each.seconds for each in whole.outcomes) / 3)
    for factor in (1.001, 0.9, 0.2):
        cut = trials.perform(Trial(config(), GOAL, (1, 2, 3), 7.0, 0.01, cut_off_s=factor * whole.seconds))
        assert cut.reached == (factor > 1)
        assert sum(each.spent_s for each in cut.outcomes) <= 3 * factor * whole.seconds + 2 * 0.01
    assert len(cut.outcomes) == 1


def test_data_are_read_once_for_all_descents():
    first = trials.source(config())
    assert trials.source(config("seed=5", "optimizer.rate=0.1")) is first
    other = trials.source(config("problem.test_fraction=0.5"))
    assert other.rows < first.rows


def test_how_many_updates_a_descent_may_take():
    assert trials.most_updates(config("update.mode=async")) == trials.ARRIVALS
    assert trials.most_updates(config("update.mode=all")) == trials.ARRIVALS // 4
    assert trials.most_updates(config("update.mode=first", "update.count=2")) == trials.ARRIVALS // 2
    assert trials.most_updates(config("update.mode=first")) == trials.ARRIVALS // 3  # ¾ of the workers
