"""Simulated descents to a goal: what one cost, or how far it came."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from .. import problems
from ..analysis.statistics import crossing
from ..config.tables import Config, Problem
from ..trace import Recorder
from ..training import setup as parts
from ..virtual.simulation import Simulation
from .goal import Goal, extrapolate

ARRIVALS = 100_000  # of one descent, at the most
POINTS = 128  # measurements of one descent, about


class Curve(Recorder):
    """Keeps loss and accuracy over time, of a trace's rows."""

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
    """How a descent went.

    Attributes
    ----------
    seconds : float
        Virtual time to the measurement that found the goal reached; infinite if none did.
    estimate : float
        When the curve crossed the goal between two measurements, or would cross it, extrapolated.
    ended_s : float
        Virtual time at the end.
    value : float
        Loss, or what the accuracy lacks of 1, at the end.
    genie_s : float
        Time of an oracle that balances the work perfectly; infinite if there is none.
    updates, bytes_up, bytes_down : int
    wasted : float
        Share of the replies that were not used.
    diverged : bool
        Whether it cannot be called a success.
    """

    seconds: float
    estimate: float
    ended_s: float
    value: float
    genie_s: float = math.inf
    updates: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    wasted: float = 0.0
    diverged: bool = False

    @property
    def reached(self) -> bool:
        return math.isfinite(self.seconds)


@dataclass(frozen=True)
class Trial:
    """Descents of a configuration, one a seed.

    Attributes
    ----------
    config : Config
        Its seed and its stop do not count.
    goal : Goal
    seeds : tuple of int
    seconds : float
        Virtual time of each, at the most.
    step_s : float
        From one measurement to the next.
    bar : float
        Mean time to the goal from which on nobody asks for this trial any more.
    updates : int, optional
        Of each descent, at the most; by default as many as make `ARRIVALS` arrivals.
    """

    config: Config
    goal: Goal
    seeds: tuple[int, ...]
    seconds: float
    step_s: float
    bar: float = math.inf
    updates: int | None = None


@dataclass(frozen=True)
class Score:
    """What a trial is worth.

    Attributes
    ----------
    mean : float
        Mean over the seeds of the time to the goal, reached or extrapolated; infinite if the trial was broken
        off because it had passed the bar.
    reached : bool
        Whether no time is extrapolated.
    value : float
        Mean over the seeds of what there was at the end.
    outcomes : tuple of Outcome
    """

    mean: float
    reached: bool
    value: float
    outcomes: tuple[Outcome, ...]

    @property
    def key(self) -> tuple[float, bool, float]:
        """The less, the better: by time, and where that does not decide by what there was at the end."""
        return self.mean, not self.reached, self.value if math.isfinite(self.value) else math.inf


def perform(trial: Trial) -> Score:
    """Run the trial's descents, one after the other; stop when their mean must come out beyond the bar."""
    outcomes: list[Outcome] = []
    left = trial.bar * len(trial.seeds)
    for seed in trial.seeds:
        outcome = descend(trial, seed, min(trial.seconds, left + trial.step_s))
        outcomes.append(outcome)
        left -= outcome.estimate if outcome.reached else outcome.ended_s
        if left < 0:
            break
    return score(outcomes, len(trial.seeds))


def score(outcomes: Sequence[Outcome], seeds: int) -> Score:
    """Sum up a trial of so many seeds."""
    whole = len(outcomes) == seeds
    mean = sum(outcome.estimate for outcome in outcomes) / seeds if whole else math.inf
    value = sum(outcome.value for outcome in outcomes) / len(outcomes)
    return Score(mean, whole and all(outcome.reached for outcome in outcomes), value, tuple(outcomes))


def descend(trial: Trial, seed: int, seconds: float) -> Outcome:
    """One descent of at most so much virtual time."""
    config, goal = trial.config, trial.goal
    updates = trial.updates or most_updates(config)
    config = msgspec.structs.replace(
        config,
        seed=seed,
        stop=goal.stop(seconds, updates),
        trace=msgspec.structs.replace(config.trace, progress_s=trial.step_s),
    )
    curve = Curve(goal)
    with np.errstate(all="ignore"):  # where it diverges
        _, result = Simulation(config, parts.prepare(config, source=source(config))).run(curve)
    where = curve.times, curve.values, goal.bound
    if math.isfinite(result.target_s):
        estimate = crossing(*where)
    else:
        estimate = math.inf if result.failed else extrapolate(*where)
    return Outcome(
        result.target_s, estimate, result.seconds, goal.value(result.loss, result.accuracy), result.genie_s,
        result.updates, result.bytes_up, result.bytes_down,
        (result.wasted + result.refused) / max(1, result.arrivals), result.failed,
    )  # fmt: skip


def source(config: Config) -> problems.Source:
    """The configuration's data, which this process reads once for all descents."""
    return _source(msgspec.json.encode(config.problem))


@functools.lru_cache(1)
def _source(table: bytes) -> problems.Source:
    return problems.describe(msgspec.json.decode(table, type=Problem))


def most_updates(config: Config) -> int:
    """Updates that make about `ARRIVALS` arrivals."""
    workers = config.workers.count
    each = 1 if config.update.mode == "async" else (config.update.count or workers)
    return max(100, ARRIVALS // each)
