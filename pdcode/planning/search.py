"""The search, from the user's configuration to the ranked finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import msgspec

from ..config import load as configfile
from ..config.tables import LARGEST, Config, StragglersTable
from ..trace.reader import Trace
from ..util.errors import InputError, within
from ..util.processes import Pool
from ..virtual import costs
from ..virtual.simulation import check_count
from . import halving, ranking, space, trials
from .goal import Goal, choose_goal
from .halving import Ranking, Rung
from .ranking import Row
from .report import describe_rung, seconds
from .space import Candidate
from .trials import POINTS, Outcome, Trial

FINALISTS = 3
SEARCH = 1000  # offset of the search's seeds from those of the last rung
MOST_SEED = 2**63 - 1 - 10**6  # leaves room for the seeds of search, tuning and descents
SLACK, OWN_SLACK = 3.0, 10.0  # limits for finalists and the user's configuration, in multiples of its time
COARSE = 16  # least number of measurements in the time of the user's configuration

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Environment:
    """Environment of a plan: configuration, target, and recorded run."""

    user: Config  # the user's configuration
    config: Config  # the same under the stragglers, machine and link of the plan
    goal: Goal
    path: str = ""  # file of the configuration, for error messages
    trace: Trace | None = None  # recorded run that provides delays and costs


def load_environment(path: str, overrides: list[str], trace: str | None, target: float | None) -> Environment:
    """Read a configuration and, if a trace is given, delays and costs from that run.

    Raises
    ------
    InputError
        If the configuration is invalid; the message names file, key and value.
    """
    user, _ = configfile.load(path, overrides)
    recorded = None if trace is None else Trace(trace)
    with within(path):
        if user.faults.raise_worker is not None:
            worker = user.faults.raise_worker
            raise InputError(f"faults.raise_worker: worker {worker} would end every descent")
        check_count(user)
        if user.seed > MOST_SEED:
            raise InputError(f"seed: {user.seed}: a plan also uses larger seeds; give {MOST_SEED} at most")
        goal = choose_goal(user, recorded, target)
    config = user
    if trace is not None:
        table = StragglersTable.of({"kind": "trace", "path": trace, "draw": "block"})
        config = costs.load(trace, msgspec.structs.replace(user, stragglers=table), base="low")
    return Environment(user, config, goal, path, recorded)


@dataclasses.dataclass(frozen=True)
class Found:
    """The result of a search."""

    rows: list[Row]  # the finalists, best first
    rankings: list[Ranking[Candidate]]  # rankings of the earlier rungs
    candidates: int  # number of candidates
    seeds: tuple[int, ...]  # seeds of the finalists' descents

    @property
    def own(self) -> Row:
        """Row of the user's own configuration."""
        return next(row for row in self.rows if row.candidate.own)


def search(
    environment: Environment,
    pool: Pool,
    print_line: Say,
    candidates: int = 24,
    seeds: int = 5,
    eta: float = 3.0,
    limit_s: float | None = None,
) -> Found:
    """Search for the best schemes.

    Parameters
    ----------
    environment : Environment
        Configuration, target and recorded run.
    pool : Pool
        Processes that run the descents.
    print_line : callable
        Prints a line of progress.
    candidates, seeds : int
        Initial number of candidates, and number of descents of each finalist.
    eta : float
        η; a rung keeps 1/η of its candidates.
    limit_s : float, optional
        Virtual time limit of the user's own configuration; by default its ``stop.seconds``.

    Raises
    ------
    InputError
        If the user's configuration cannot run or starts at the target, or if nothing limits a descent.
    """
    base, goal, path = environment.config, environment.goal, environment.path
    offered = space.candidates(base, candidates, base.seed, path)
    own = baseline(environment, limit_s)
    length = own.spent_s
    if own.reached and not length:
        raise InputError(
            f"{path}: nothing to plan: it starts with {goal.shown(own.value)}, the target is {goal}"
        )
    missed = "" if own.reached else f", target not reached ({goal.shown(own.value)} then)"
    print_line(f"your own configuration: {seconds(length)}{missed}")
    rungs = halving.ladder(len(offered), eta, FINALISTS, length, base.seed + SEARCH)

    def work(candidate: Candidate, rung: Rung, cut_off_s: float) -> Trial:
        return Trial(candidate.config, goal, rung.seeds, rung.seconds, rung.seconds / POINTS, cut_off_s)

    rankings = []
    for found in halving.halve(offered, rungs, pool, trials.perform, work):
        rankings.append(found)
        print_line(describe_rung(found, len(rungs)))
    finalists = list(rankings[-1].kept if rankings else offered)
    if not any(candidate.own for candidate in finalists):
        finalists.append(offered[0])
    slack = (SLACK, OWN_SLACK) if own.reached else (1.0, 1.0)
    longest = max(length, limit_s or base.stop.seconds or LARGEST)
    most, own_most = (min(factor * length, longest) for factor in slack)
    print_line(f"last rung: {len(finalists)} candidates to the target, {seconds(most)} each at the most")
    expected = {id(candidate): score.seconds for each in rankings for candidate, score in each.ranked}
    expected[id(offered[0])] = length
    final_seeds = tuple(range(base.seed, base.seed + seeds))

    def descents() -> Iterator[tuple[tuple[int, int], Trial]]:
        for seed in final_seeds:
            for number in reversed(range(len(finalists))):  # the user's own takes longest
                candidate = finalists[number]
                step = min(most, expected.get(id(candidate), most)) / POINTS
                limit = own_most if candidate.own else most
                yield (number, seed), Trial(candidate.config, goal, (seed,), limit, step)

    outcomes = {key: score.outcomes[0] for key, score in pool.results(trials.perform, descents())}
    results = [[outcomes[number, seed] for seed in final_seeds] for number in range(len(finalists))]
    return Found(ranking.rank(finalists, results), rankings, len(offered), final_seeds)


def baseline(environment: Environment, limit_s: float | None) -> Outcome:
    """Simulate the user's own configuration, with sufficiently frequent measurements.

    Raises
    ------
    InputError
        If it diverges and nothing limits its time.
    """
    config, stop = environment.config, environment.config.stop
    limit = limit_s or stop.seconds
    updates = stop.updates if limit_s is None else None
    seed, step = config.seed + SEARCH, config.trace.progress_s
    while True:
        trial = Trial(config, environment.goal, (seed,), limit or LARGEST, step, updates=updates)
        outcome = trials.descend(trial, seed, trial.seconds)
        if not outcome.reached and outcome.diverged:
            if limit is None:
                raise InputError(
                    f"{environment.path}: the configuration diverges, and nothing limits the time of a run; "
                    "give --seconds or stop.seconds"
                )
            return dataclasses.replace(outcome, ended_s=limit)
        if outcome.ended_s >= COARSE * step or outcome.ended_s <= 0:
            return outcome
        step = outcome.ended_s / POINTS
