"""Trials on the virtual clock: common random numbers, what is measured, where they end."""

import math

import msgspec
import pytest

from pdcode.config import Config
from pdcode.config import load as configfile
from pdcode.studies import limits, search_space
from pdcode.studies.candidate import OWN
from pdcode.studies.goal import Goal
from pdcode.studies.limits import Limits, max_updates, with_limits
from pdcode.studies.measurement import Measured
from pdcode.studies.trial import ProgressRecorder, Trial, data_source, within
from pdcode.trace.schema import ARRIVALS, DRAINED
from pdcode.virtual.simulation import simulate

GOAL = Goal("loss", 1.5)
SMALL = [
    "problem.hidden=[16]", "code.blocks=[8,1]", "workers.count=4", "optimizer.rate=0.5", "stop.loss=1.5",
    "stragglers.kind=shifted-exponential", "stragglers.shift_s=0.001", "stragglers.mean_s=0.002",
]  # fmt: skip


def config(*overrides: str) -> Config:
    return configfile.resolve({}, [*SMALL, *overrides])


class Arrivals(ProgressRecorder):
    """Keeps the delay of each task too."""

    def __init__(self) -> None:
        super().__init__()
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
        for candidate in search_space.candidates(config("stop.updates=12"), 9, seed=3)
        if candidate.name != OWN
    ]
    assert len(found) >= 6
    first = found[0]
    for other in found[1:]:
        common = first.keys() & other.keys()
        assert len(common) >= 6
        assert all(first[key] == other[key] for key in common)
    assert len(set(first.values())) > 8
    other_seed = delays(config("stop.updates=12", "seed=2"))
    assert all(first[key] != other_seed[key] for key in first.keys() & other_seed.keys())


def performed(
    config: Config, seed: int, seconds: float, step_s: float, goal: Goal = GOAL, updates: int | None = None
) -> Measured:
    most = updates or max_updates(config, limits.ARRIVALS)
    return Trial(with_limits(config, goal, Limits(seconds, step_s), most), seed, goal).perform()


def test_a_trial_to_the_goal():
    run = performed(config(), 1, 10.0, 0.005)
    assert run.reached
    assert run.stop_s - 0.006 <= run.seconds <= run.stop_s
    assert run.value(GOAL) <= 1.5
    assert 0 < run.oracle_s <= run.stop_s
    assert run.bytes_up > 0
    assert run.bytes_down > run.bytes_up
    assert not run.failed
    assert performed(config(), 1, 10.0, 0.005) == run
    assert performed(config(), 2, 10.0, 0.005) != run
    # The configuration's own stop and seed do not count.
    assert performed(config("stop.updates=1", "seed=9", "trace.progress_s=9.0"), 1, 10.0, 0.005) == run


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["scheme.preset=default"],
        ["downlink.kind=exchange", "memory.kind=worker", "optimizer.momentum=0.5"],
    ],
)
def test_a_trial_with_a_trace_has_the_same_result(tmp_path, changes):
    """Without a trace workers have no replicas of θ."""
    whole = with_limits(config(*changes), GOAL, Limits(10.0, 0.005), 1000)
    fast = Trial(whole, 1, GOAL).perform()
    recorded = Trial(whole, 1, GOAL, trace=str(tmp_path / "a.h5")).perform()
    for name in ("seconds", "stop_s", "updates", "loss", "accuracy"):
        assert getattr(recorded, name) == pytest.approx(getattr(fast, name), rel=1e-15)
    assert recorded.curves["loss"][-1] == fast.loss


def test_a_trial_may_measure_the_loss_alone():
    whole = with_limits(config(), GOAL, Limits(10.0, 0.005), 1000)
    scored, unscored = (Trial(whole, 1, GOAL, scored=each).perform() for each in (True, False))
    assert scored.accuracy > 0
    assert math.isnan(unscored.accuracy)
    assert unscored.curves["loss"].tolist() == scored.curves["loss"].tolist()
    assert (unscored.seconds, unscored.updates) == (scored.seconds, scored.updates)
    goal = Goal("accuracy", 0.3)
    config_of_goal = with_limits(config(), goal, Limits(10.0, 0.005), 1000)
    assert Trial(config_of_goal, 1, goal, scored=False).perform().reached


def test_a_trial_that_misses_the_target():
    goal = Goal("accuracy", 0.9)
    run = performed(config(), 1, 0.06, 0.002, goal)
    assert math.isinf(run.seconds)
    assert run.stop_s == run.spent_s == pytest.approx(0.06, abs=0.01)
    assert 0.1 < run.value(goal) < 1  # 1 - accuracy
    assert performed(config(), 1, 10.0, 0.002, goal, updates=7).updates == 7
    diverged = performed(config("optimizer.rate=1e6"), 1, 1.0, 0.002)
    assert diverged.failed
    assert not diverged.reached


def test_data_are_read_once_for_all_trials():
    first = data_source(config())
    assert data_source(config("seed=5", "optimizer.rate=0.1")) is first
    other = data_source(config("problem.test_fraction=0.5"))
    assert other.rows < first.rows


def test_how_many_updates_a_trial_may_take():
    for settings, payloads in (
        (["update.mode=async"], 1),
        (["update.mode=all"], 4),
        (["update.mode=first", "update.count=2"], 2),
        (["update.mode=first"], 3),  # ¾ of the workers
    ):
        assert max_updates(config(*settings), 3000) == 3000 // payloads


def test_a_run_that_cannot_be_the_best_has_a_limit_that_a_file_may_have():
    limited = within(config("stop.updates=3"), 0.0)
    assert 0 < limited.stop.seconds < 1e-6
    assert Config.of(msgspec.to_builtins(limited)) == limited
