"""Descents for the benches: the coordinator's loop and the workers' code in one process, on a clock of given
task times, so that the number of a machine's cores and its load change nothing but how long it takes."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..coding import replica as downlink
from ..config import load as configfile
from ..trace import Recorder
from ..training import setup as parts
from ..training.coordinator import Coordinator
from ..util.rng import DELAY, uniform
from ..virtual.executor import LocalCrew
from ..virtual.fleet import VirtualFleet
from ..virtual.schedule import Durations

Tables = dict[str, Any]
In = TypeVar("In")
Out = TypeVar("Out")

UNIT_NS = 1_000_000  # the shortest task
NEAR = 1.3  # times the target


def merged(*tables: Mapping[str, Any]) -> Tables:
    """Tables of a configuration, later keys over earlier ones."""
    result: Tables = {}
    for some in tables:
        for name, value in some.items():
            result[name] = {**result.get(name, {}), **value} if isinstance(value, dict) else value
    return result


class Descent:
    """A run of a configuration whose tasks take 1 + Exp(1) units of time, keyed by (seed, worker, task).

    Parameters
    ----------
    tables : dict
        Of the configuration; what they say of stragglers and traces does not count.
    slowdowns : dict of int to float
        Workers that are slower, and how many times.
    """

    def __init__(self, tables: Tables, slowdowns: Mapping[int, float] | None = None) -> None:
        self.config = config = configfile.resolve(tables)
        self.parts = parts.prepare(config)
        self._slowdowns = dict(slowdowns or {})
        workers, layout = config.workers.count, self.parts.layout
        self.crew = crew = LocalCrew(layout, workers, parts.employer(config, self.parts))
        self.fleet = VirtualFleet(layout, workers, crew, Durations(workers, self._duration_ns))
        self.coordinator = Coordinator(
            self.fleet, self.parts.assignment, self.parts.layout, self.parts.state, self.parts.ready,
            Recorder(), config.update.late, parts.make_downlink(config, self.parts),
        )  # fmt: skip

    def _duration_ns(self, worker: int, task: int) -> int:
        units = 1 - math.log1p(-uniform(self.config.seed, DELAY, worker, task))
        return round(UNIT_NS * units * self._slowdowns.get(worker, 1.0))


@dataclass(frozen=True)
class Trial:
    """A descent until something is small enough.

    Attributes
    ----------
    tables : dict
        Of the configuration; ``stop.updates`` is the most that it may take.
    target : float
        What ends it.
    stride : int
        Updates from one measurement to the next until the target is near; every one from there on.
    distance : bool
        Whether ‖θ - θ*‖ / ‖θ*‖ is measured, θ* being the optimum, and not the training loss.
    """

    tables: Tables
    target: float
    stride: int = 1
    distance: bool = False


@dataclass
class Outcome:
    """How a trial went.

    Attributes
    ----------
    updates : float
        Updates until the target was reached; infinite if it was not.
    steps : int
        Updates made.
    value : float
        Loss or distance at the end.
    bytes_up, bytes_down : int
        All that was sent by then, headers included.
    units : float
        Time, in that of the shortest task.
    digest : int
        Of θ.
    curve : list of (int, float)
        What was measured.
    """

    updates: float = math.inf
    steps: int = 0
    value: float = math.inf
    bytes_up: int = 0
    bytes_down: int = 0
    units: float = 0.0
    digest: int = 0
    curve: list[tuple[int, float]] = field(default_factory=list)


def perform(trial: Trial) -> Outcome:
    """Descend; a trial that has got nowhere in a quarter of its updates is given up."""
    descent = Descent(trial.tables)
    problem, most = descent.parts.problem, descent.config.stop.updates
    assert most is not None
    optimum = problem.optimum if trial.distance else None
    outcome, due = Outcome(), 0

    def measure(theta: np.ndarray) -> float:
        if optimum is None:
            return problem.loss(theta)
        return float(np.linalg.norm(theta - optimum) / np.linalg.norm(optimum))

    def observe(now_ns: int, coordinator: Coordinator) -> str:
        nonlocal due
        version = coordinator.version
        if coordinator.stopping or (version < due and version < most):
            return ""
        with np.errstate(all="ignore"):  # where it diverges
            value = measure(coordinator.theta)
        outcome.curve.append((version, value))
        due = version + (1 if value < NEAR * trial.target else trial.stride)
        reached, first = value <= trial.target, outcome.curve[0][1]
        stuck = not value < 100 * first or (version >= most / 4 and value >= first)
        if not (reached or stuck or version >= most):
            return ""
        fleet = coordinator.fleet
        outcome.updates, outcome.steps = version if reached else math.inf, version
        outcome.value = value if math.isfinite(value) else math.inf
        outcome.bytes_up, outcome.bytes_down = fleet.bytes_up, fleet.bytes_down
        outcome.units, outcome.digest = now_ns / UNIT_NS, downlink.digest(coordinator.theta)
        return "reached" if reached else "stuck" if stuck else "enough"

    with np.errstate(all="ignore"):
        descent.coordinator.run(observe)
    return outcome


def spread(function: Callable[[In], Out], items: Sequence[In], processes: int | None = None) -> Iterator[Out]:
    """Apply a function to items, over as many processes as there are cores; results in the items' order."""
    processes = processes or len(os.sched_getaffinity(0))
    if processes == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # BLAS threads do not survive a fork
    with ProcessPoolExecutor(min(processes, len(items)), context) as pool:
        yield from pool.map(function, items)


def middle(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Median of updates and of the last value: the less, the better."""
    return statistics.median(o.updates for o in outcomes), statistics.median(o.value for o in outcomes)


def tune(
    trials: Mapping[str, Callable[[float, int], Trial]],
    rates: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    processes: int | None = None,
) -> dict[str, float]:
    """Find the rate of the fewest updates, by the median over seeds; print a line for each scheme.

    Parameters
    ----------
    trials : mapping of str to callable
        ``trial(rate, seed)`` of each scheme.
    rates : mapping of str to sequence of float
        Those to be tried of each.
    seeds : sequence of int
        Not those that are reported later.
    """
    plan = [(name, rate, seed) for name in trials for rate in rates[name] for seed in seeds]
    outcomes = spread(perform, [trials[name](rate, seed) for name, rate, seed in plan], processes)
    best: dict[str, float] = {}
    for name in trials:
        found = {}
        for rate in rates[name]:
            found[rate] = middle([next(outcomes) for _ in seeds])
        best[name] = min(rates[name], key=found.__getitem__)
        cells = (f"{rate:.3g}: {shown(*found[rate])}" for rate in rates[name])
        print(f"  {name:34} {', '.join(cells)}", flush=True)
    return best


def shown(updates: float, value: float) -> str:
    """Updates, or in brackets what there was at the end."""
    return f"{updates:.0f}" if math.isfinite(updates) else f"({value:.2g})"
