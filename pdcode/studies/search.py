"""The search, from the user's configuration to the ranked finalists."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ..config import LARGEST, Config, StragglersTable
from ..config import load as configfile
from ..trace.reader import TraceReader
from ..training.monitor import Print
from ..util.errors import InputError, prefix_errors
from ..util.processes import Pool
from ..virtual import costs
from ..virtual.simulation import check_count
from . import halving, ranking
from . import search_space as space
from . import trial as trials
from .goal import Goal, choose_goal
from .halving import Rung, RungResult
from .plan_table import describe_rung, seconds
from .ranking import Row
from .search_space import Candidate
from .trial import POINTS, Outcome, Trial

FINALISTS = 3
SEARCH = 1000  # offset of the search's seeds from those of the last rung
MOST_SEED = 2**63 - 1 - 10**6  # leaves room for the seeds of search, tuning and descents
SLACK, OWN_SLACK = 3.0, 10.0  # limits for finalists and the user's configuration, in multiples of its time
COARSE = 16  # least number of measurements in the time of the user's configuration


@dataclasses.dataclass(frozen=True)
class Environment:
    """Environment of a plan: configuration, target, and recorded run."""

    user: Config  # the user's configuration
    config: Config  # the same under the stragglers, machine and link of the plan
    goal: Goal
    path: str = ""  # file of the configuration, for error messages
    trace: TraceReader | None = None  # recorded run that provides delays and costs


def load_environment(path: str, overrides: list[str], trace: str | None, target: float | None) -> Environment:
    """Read a configuration and, if a trace is given, delays and costs from that run.

    Raises
    ------
    InputError
        If the configuration is invalid; the message names file, key and value.
    """
    user, _ = configfile.load(path, overrides)
    recorded = None if trace is None else TraceReader(trace)
    with prefix_errors(path):
        user.faults.ensure_endless("descent")
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

    rows: list[Row[Candidate]]  # the finalists, best first
    rungs: list[RungResult[Candidate]]  # the earlier rungs
    candidates: int  # number of candidates
    seeds: tuple[int, ...]  # seeds of the finalists' descents

    @property
    def own(self) -> Row[Candidate]:
        """Row of the user's own configuration."""
        return next(row for row in self.rows if row.candidate.own)


def search(
    environment: Environment,
    pool: Pool,
    print_line: Print,
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
        Virtual time limit of the user's own configuration; by default its ``stop.seconds``. Without either,
        descents end after about `trials.ARRIVALS` arrivals.

    Raises
    ------
    InputError
        If the user's configuration cannot run or starts at the target under any of the seeds, or if nothing
        limits a descent.
    """
    base, goal, path = environment.config, environment.goal, environment.path
    offered = space.candidates(base, candidates, base.seed, path)
    limit = limit_s or base.stop.seconds
    arrivals = trials.ARRIVALS if limit is None else trials.MOST_ARRIVALS

    def tell(outcomes: Sequence[Outcome]) -> None:
        if ended := [outcome.exhausted for outcome in outcomes if outcome.exhausted]:
            more = "; --seconds or stop.seconds allows more" if limit is None else ""
            of_all = f"{len(ended)} of {len(outcomes)} descents"
            print_line(f"  {of_all} ended at the limit of arrivals, after {max(ended):,} at most{more}")

    own = baseline(environment, limit, base.stop.updates if limit_s is None else None, arrivals)
    length = own.spent_s
    rungs = halving.ladder(len(offered), eta, FINALISTS, length, base.seed + SEARCH)
    final_seeds = tuple(range(base.seed, base.seed + seeds))
    check_starts(environment, {*final_seeds, base.seed + SEARCH, *(s for rung in rungs for s in rung.seeds)})
    missed = "" if own.reached else f", target not reached ({goal.shown(own.value)} then)"
    print_line(f"your own configuration: {seconds(length)}{missed}")
    tell([own])

    def work(candidate: Candidate, rung: Rung, cut_off_s: float) -> Trial:
        step = rung.seconds / POINTS
        return Trial(candidate.config, goal, rung.seeds, rung.seconds, step, cut_off_s, arrivals=arrivals)

    results = []
    for result in halving.halve(offered, rungs, pool, trials.perform, work):
        results.append(result)
        print_line(describe_rung(result, len(rungs)))
        tell([outcome for _, score in result.ranked for outcome in score.outcomes])
    finalists = list(results[-1].kept if results else offered)
    if not any(candidate.own for candidate in finalists):
        finalists.append(offered[0])
    slack = (SLACK, OWN_SLACK) if own.reached else (1.0, 1.0)
    longest = max(length, limit or LARGEST)
    most, own_most = (min(factor * length, longest) for factor in slack)
    print_line(f"last rung: {len(finalists)} candidates to the target, {seconds(most)} each at the most")
    expected = {id(candidate): score.seconds for each in results for candidate, score in each.ranked}
    expected[id(offered[0])] = length

    def descents() -> Iterator[tuple[tuple[int, int], Trial]]:
        for seed in final_seeds:
            for number in reversed(range(len(finalists))):  # the user's own takes longest
                candidate = finalists[number]
                step = min(most, expected.get(id(candidate), most)) / POINTS
                longest_s = own_most if candidate.own else most
                trial = Trial(candidate.config, goal, (seed,), longest_s, step, arrivals=arrivals)
                yield (number, seed), trial

    outcomes = {key: score.outcomes[0] for key, score in pool.results(trials.perform, descents())}
    tell([*outcomes.values()])
    table = [[outcomes[number, seed] for seed in final_seeds] for number in range(len(finalists))]
    return Found(ranking.rank(finalists, table), results, len(offered), final_seeds)


def check_starts(environment: Environment, seeds: Iterable[int]) -> None:
    """Refuse a target that the configuration, and so any other, has reached before its first update.

    Raises
    ------
    InputError
        If there is a seed with which it has.
    """
    goal = environment.goal
    for seed in sorted(seeds):
        trial = Trial(environment.config, goal, (seed,), LARGEST, LARGEST, updates=1)
        start = trials.descend(trial, seed, LARGEST)
        if not start.seconds:
            shown = f"{goal.shown(start.value)} (seed {seed})"
            raise InputError(
                f"{environment.path}: nothing to plan: it starts with {shown}, the target is {goal}"
            )


def baseline(environment: Environment, limit: float | None, updates: int | None, arrivals: int) -> Outcome:
    """Simulate the user's own configuration, with sufficiently frequent measurements.

    Parameters
    ----------
    environment : Environment
    limit : float, optional
        Virtual time in s.
    updates : int, optional
        Number of updates.
    arrivals : int
        Approximate number of arrivals, if the number of updates is not limited.

    Raises
    ------
    InputError
        If it diverges and nothing limits its time.
    """
    config, longest_s = environment.config, limit or LARGEST
    seed, step = config.seed + SEARCH, config.trace.progress_s
    while True:
        trial = Trial(config, environment.goal, (seed,), longest_s, step, updates=updates, arrivals=arrivals)
        outcome = trials.descend(trial, seed, longest_s)
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
