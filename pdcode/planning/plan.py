"""The search, from the user's configuration to the ranked finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import msgspec

from ..analysis import statistics
from ..config.tables import LARGEST, Config, Stragglers
from ..trace.reader import Trace
from ..util.errors import InputError
from ..util.processes import Pool
from ..virtual import costs
from . import halving, ranking, space, trials
from .goal import Goal
from .halving import Ranking, Rung
from .ranking import Line
from .space import Candidate
from .table import rung_line, seconds
from .trials import POINTS, Outcome, Score, Trial

FINALISTS = 3
SEARCH = 1000  # seeds of the search begin so far after those of the last rung
SLACK, OWN_SLACK = 3.0, 10.0  # times the own configuration's time that finalists, and it itself, may take
COARSE = 16  # measurements that a time must be made of; else it is measured more finely

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is planned.

    Attributes
    ----------
    ground : Config
        The user's configuration, under the stragglers, machine and link of the plan.
    goal : Goal
    candidates, seeds : int
        How many to begin with, and descents of each finalist.
    eta : float
    most_s : float, optional
        Virtual time that the user's own configuration may take; as its ``[stop]`` says if not given.
    path : str
        Of the configuration, for errors.
    """

    ground: Config
    goal: Goal
    candidates: int = 24
    seeds: int = 5
    eta: float = 3.0
    most_s: float | None = None
    path: str = ""

    @property
    def limit_s(self) -> float | None:
        """Virtual time of a descent, at the most, if somebody says so."""
        return self.most_s or self.ground.stop.seconds

    @property
    def final_seeds(self) -> tuple[int, ...]:
        """Seeds of the last rung: the configuration's own and those that follow."""
        return tuple(range(self.ground.seed, self.ground.seed + self.seeds))


@dataclasses.dataclass(frozen=True)
class Found:
    """What a plan came to.

    Attributes
    ----------
    lines : list of Line
        The finalists, the best first.
    rankings : list of Ranking
        Of the rungs before.
    candidates : int
        That were tried.
    """

    lines: list[Line]
    rankings: list[Ranking[Candidate, Score]]
    candidates: int

    @property
    def own(self) -> Line:
        """The user's configuration."""
        return next(line for line in self.lines if line.candidate.own)


def measured(config: Config, path: str) -> Config:
    """The configuration under the stragglers, machine and link of a recorded run.

    Raises
    ------
    InputError
        If the file is no trace, or tells nothing of them.
    """
    table = Stragglers.of({"kind": "trace", "path": path, "draw": "bootstrap"})
    return costs.load(path, msgspec.structs.replace(config, stragglers=table), base="low")


def recorded(trace: Trace, goal: Goal) -> float:
    """When a recorded run reached the goal, between two measurements, in seconds; infinite if it did not."""
    values = goal.value(trace.progress["loss"], trace.progress["accuracy"])
    return 1e-9 * statistics.crossing(trace.progress["t_ns"], values, goal.bound)


def search(plan: Plan, pool: Pool, say: Say) -> Found:
    """Find the finalists.

    Raises
    ------
    InputError
        If the user's configuration cannot run or is at the goal before it has begun, or if nothing says how
        long a descent may take.
    """
    offered = space.candidates(plan.ground, plan.candidates, plan.ground.seed, plan.path)
    own = own_descent(plan)
    length = own.seconds if own.reached else own.ended_s
    if own.reached and not length:
        at = plan.goal.shown(own.value)
        raise InputError(f"{plan.path}: nothing to plan: it begins with {at}, and wanted is {plan.goal}")
    if own.reached:
        say(f"your own configuration: {seconds(length)}")
    else:
        at = plan.goal.shown(own.value)
        say(f"your own configuration does not reach it within {seconds(length)} ({at} then)")
    rungs = halving.ladder(len(offered), plan.eta, FINALISTS, length, plan.ground.seed + SEARCH)

    def work(candidate: Candidate, rung: Rung, bar: float) -> Trial:
        return Trial(candidate.config, plan.goal, rung.seeds, rung.seconds, rung.seconds / POINTS, bar)

    def tell(found: Ranking[Candidate, Score]) -> None:
        say(rung_line(found, len(rungs)))

    finalists, rankings = halving.halve(offered, rungs, pool, trials.perform, work, tell)
    slack = (SLACK, OWN_SLACK) if own.reached else (1.0, 1.0)
    most, own_most = (min(factor * length, max(length, plan.limit_s or LARGEST)) for factor in slack)
    say(f"last rung: {len(finalists)} candidates to the target, {seconds(most)} each at the most")
    expected = {id(candidate): score.mean for each in rankings for candidate, score in each.ranked}
    expected[id(offered[0])] = length

    def descents() -> Iterator[tuple[tuple[int, int], Trial]]:
        for seed in plan.final_seeds:
            for number in reversed(range(len(finalists))):  # the user's own takes longest
                candidate = finalists[number]
                step = min(most, expected.get(id(candidate), most)) / POINTS
                limit = own_most if candidate.own else most
                yield (number, seed), Trial(candidate.config, plan.goal, (seed,), limit, step)

    outcomes = {key: score.outcomes[0] for key, score in pool.results(trials.perform, descents())}
    results = [[outcomes[number, seed] for seed in plan.final_seeds] for number in range(len(finalists))]
    return Found(ranking.rank(finalists, results), rankings, len(offered))


def own_descent(plan: Plan) -> Outcome:
    """A descent of the user's own configuration, measured finely enough.

    Raises
    ------
    InputError
        If it diverges, and nothing says how long another may take.
    """
    config, stop = plan.ground, plan.ground.stop
    limit = plan.limit_s
    updates = stop.updates if plan.most_s is None else None
    seed, step = config.seed + SEARCH, config.trace.progress_s
    while True:
        trial = Trial(config, plan.goal, (seed,), limit or LARGEST, step, updates=updates)
        outcome = trials.descend(trial, seed, trial.seconds)
        ended = min(outcome.seconds, outcome.ended_s)
        if not outcome.reached and outcome.diverged:
            if limit is None:
                raise InputError(
                    f"{plan.path}: the configuration diverges, and nothing says how long a run may take; "
                    "give --seconds or stop.seconds"
                )
            return dataclasses.replace(outcome, ended_s=limit)
        if ended >= COARSE * step or ended <= 0:
            return outcome
        step = ended / POINTS
