"""Simulated descents to a target, and their costs."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from .. import problems
from ..analysis.statistics import crossing
from ..config import Config, ProblemTable
from ..schemes import make_scheme
from ..trace import Recorder
from ..training import setup
from ..virtual.simulation import Simulation
from .goal import Goal

ARRIVALS = 100_000  # maximum number of arrivals of a descent that no time limit of the user's ends
MOST_ARRIVALS = 10_000_000  # maximum number of arrivals of any other, whose time limit may be years
SPARE = 8  # limit of a run's updates, as a multiple of those that it is expected to need
POINTS = 128  # approximate number of measurements of a descent


class Curve(Recorder):
    """Recorder of measurements only: times in s, and the goal's value."""

    def __init__(self, goal: Goal) -> None:
        self._goal = goal
        self.times: list[float] = []
        self.values: list[float] = []

    def progress(self, *values: float) -> None:
        _, t_ns, loss, accuracy, *_ = values
        self.times.append(1e-9 * t_ns)
        self.values.append(self._goal.value(loss, accuracy))


@dataclass(frozen=True)
class Outcome:
    """Result of a descent."""

    seconds: float  # virtual time at which the target was reached; infinity if it was not
    ended_s: float  # virtual time at the end
    value: float  # loss, or 1 - accuracy, at the end
    oracle_s: float = math.inf  # time of an oracle that balances the work perfectly; infinity if unknown
    updates: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    wasted: float = 0.0  # fraction of the replies that were not used
    diverged: bool = False
    exhausted: int = 0  # arrivals at the limit of arrivals, if that ended it before the target

    @property
    def reached(self) -> bool:
        return math.isfinite(self.seconds)

    @property
    def spent_s(self) -> float:
        """Time to the target, or length of the descent."""
        return self.seconds if self.reached else self.ended_s


@dataclass(frozen=True)
class Trial:
    """Descents of a configuration, one for each seed."""

    config: Config  # seed and [stop] are replaced
    goal: Goal
    seeds: tuple[int, ...]
    seconds: float  # maximum virtual time of a descent
    step_s: float  # virtual time between measurements
    cut_off_s: float = math.inf  # mean time to the target beyond which the trial may be ended early
    updates: int | None = None  # maximum number per descent; by default that of `arrivals`
    arrivals: int = ARRIVALS  # approximate maximum number per descent


@dataclass(frozen=True)
class Score:
    """Result of a trial."""

    seconds: float  # mean time to the target; infinity unless all descents reached it
    value: float  # mean of the final loss, or 1 - accuracy
    outcomes: tuple[Outcome, ...] = ()  # fewer than seeds if the trial was cut off

    @property
    def reached(self) -> bool:
        return math.isfinite(self.seconds)

    @property
    def key(self) -> tuple[float, float]:
        """Sort key: time, then the value at the end; less is better."""
        return self.seconds, self.value if math.isfinite(self.value) else math.inf


def perform(trial: Trial) -> Score:
    """Run a trial's descents in turn, until their mean time must exceed the cut-off."""
    outcomes: list[Outcome] = []
    left_s = trial.cut_off_s * len(trial.seeds)
    for seed in trial.seeds:
        outcome = descend(trial, seed, min(trial.seconds, left_s + trial.step_s))
        outcomes.append(outcome)
        left_s -= outcome.spent_s
        if left_s < 0:
            break
    return score(outcomes, len(trial.seeds))


def score(outcomes: Sequence[Outcome], seeds: int) -> Score:
    """Compute the score of a trial from its descents; `seeds` is the planned number."""
    mean = sum(outcome.seconds for outcome in outcomes) / seeds if len(outcomes) == seeds else math.inf
    return Score(mean, sum(outcome.value for outcome in outcomes) / len(outcomes), tuple(outcomes))


def descend(trial: Trial, seed: int, seconds: float) -> Outcome:
    """Simulate one descent of at most `seconds` of virtual time."""
    goal, most = trial.goal, most_updates(trial.config, trial.arrivals)
    config = msgspec.structs.replace(
        trial.config,
        seed=seed,
        stop=goal.stop(seconds, trial.updates or most),
        trace=msgspec.structs.replace(trial.config.trace, progress_s=trial.step_s),
    )
    curve = Curve(goal)
    with np.errstate(all="ignore"):  # descents may diverge
        _, result = Simulation(config, setup.prepare(config, source=source(config))).run(curve)
    reached_s = crossing(curve.times, curve.values, goal.bound)
    limited = math.isinf(reached_s) and trial.updates is None and result.updates >= most
    return Outcome(
        seconds=reached_s,
        ended_s=result.seconds,
        value=goal.value(result.loss, result.accuracy),
        oracle_s=result.oracle_s,
        updates=result.updates,
        bytes_up=result.bytes_up,
        bytes_down=result.bytes_down,
        wasted=(result.wasted + result.refused) / max(1, result.arrivals),
        diverged=result.failed,
        exhausted=result.arrivals if limited else 0,
    )


def source(config: Config) -> problems.DataSource:
    """Read the configuration's data, once per process for all descents."""
    return _source(msgspec.json.encode(config.problem))


@functools.lru_cache(1)
def _source(table: bytes) -> problems.DataSource:
    return problems.load_source(ProblemTable.of(msgspec.json.decode(table)))


def payloads(config: Config) -> float:
    """Return about how many payloads of whole tasks an update uses."""
    if config.update.asynchronous:
        return 1 / make_scheme(config).task_size.messages
    return config.update.payloads(config.workers.count)


def most_updates(config: Config, arrivals: int = ARRIVALS) -> int:
    """Return the number of updates with about this many arrivals."""
    return max(100, int(arrivals / payloads(config)))
