"""The search of `pdcode plan`, from the user's configuration to the ranked finalists."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from ..config import MAX_VALUE, Config, StragglersTable
from ..config import load as configfile
from ..trace.reader import TraceReader
from ..training.monitor import Print
from ..util.errors import InputError, prefix_errors
from ..util.processes import Pool
from ..util.progress import track, work
from ..virtual import costs
from ..virtual.simulation import check_count
from . import halving, limits, search_space
from .candidate import Candidate
from .goal import Goal, choose_goal
from .halving import Rung, RungResult
from .limits import OWN_SLACK, POINTS, Limits, max_updates, measure_own, with_limits
from .measurement import Measured
from .ranking import Row, rank
from .results_table import describe_rung, format_seconds
from .trial import TUNING_OFFSET, Trial, check_seed, perform_all

FINALISTS = 3
SLACK = 3.0  # limit of a finalist's time, in multiples of that of the user's own configuration


@dataclass(frozen=True)
class Environment:
    """Conditions of a plan."""

    user: Config  # the user's configuration
    config: Config  # the same with the delays, machine and link of the plan
    goal: Goal
    path: str = ""  # file of the configuration, for error messages
    trace: TraceReader | None = None  # recorded run with the delays and costs


def load_environment(path: str, overrides: list[str], trace: str | None, target: float | None) -> Environment:
    """Read a configuration and, if a trace is given, the delays and costs of that run."""
    user, _ = configfile.load(path, overrides)
    recorded = None if trace is None else TraceReader(trace)
    with prefix_errors(path):
        user.faults.ensure_endless("run")
        check_count(user)
        check_seed(user)
        goal = choose_goal(user, recorded, target)
    config = user
    if trace is not None:
        table = StragglersTable.of({"kind": "trace", "path": trace, "draw": "block"})
        config = costs.load(trace, msgspec.structs.replace(user, stragglers=table), base="low")
    return Environment(user, config, goal, path, recorded)


@dataclass(frozen=True)
class SearchResult:
    """The result of a search."""

    rows: list[Row[Candidate]]  # the finalists, best first
    rungs: list[RungResult[Candidate]]  # the earlier rungs
    candidates: int  # number of candidates
    seeds: tuple[int, ...]  # seeds of the finalists' runs

    @property
    def own(self) -> Row[Candidate]:
        """Row of the user's own configuration."""
        return next(row for row in self.rows if row.candidate.is_own)


def search(
    environment: Environment,
    pool: Pool,
    print_line: Print,
    candidates: int = 26,
    seeds: int = 5,
    eta: float = 3.0,
    limit_s: float | None = None,
) -> SearchResult:
    """Search for the best of `candidates` candidates; each finalist has a run for each of `seeds` seeds.

    A rung keeps 1/η of its candidates. `limit_s` limits the virtual time of the user's own configuration, by
    default its ``stop.seconds``. Without either, runs end after approximately `limits.ARRIVALS` arrivals.
    """
    base, goal, path = environment.config, environment.goal, environment.path
    offered = search_space.candidates(base, candidates, base.seed, path)
    limit = limit_s or base.stop.seconds
    arrivals = limits.ARRIVALS if limit is None else limits.MAX_ARRIVALS

    def note_exhausted(runs: Sequence[tuple[Config, Measured]]) -> None:
        """Print how many runs ended at the limit of arrivals."""
        most = [
            int(run.arrivals)
            for config, run in runs
            if not run.reached and run.updates >= max_updates(config, arrivals)
        ]
        if most:
            more = "; --seconds or stop.seconds allows more" if limit is None else ""
            of_all = f"{len(most)} of {len(runs)} runs"
            print_line(f"  {of_all} ended at the limit of arrivals, after {max(most):,} at most{more}")

    updates = base.stop.updates if limit_s is None else None
    with work("your own configuration", None):
        own = measure_own(base, goal, path, limit, updates, arrivals)
    length = own.spent_s
    rungs = halving.make_rungs(len(offered), eta, FINALISTS, length, base.seed + TUNING_OFFSET)
    final_seeds = tuple(range(base.seed, base.seed + seeds))
    ensure_not_reached(environment, {*final_seeds, base.seed + TUNING_OFFSET, *(rung.seed for rung in rungs)})
    missed = "" if own.reached else f", target not reached ({goal.format_value(own.value(goal))} then)"
    print_line(f"your own configuration: {format_seconds(length)}{missed}")
    if updates is None:
        note_exhausted([(base, own)])

    def trial(candidate: Candidate, seed: int, longest_s: float, step_s: float) -> Trial:
        most = max_updates(candidate.config, arrivals)
        return Trial(with_limits(candidate.config, goal, Limits(longest_s, step_s), most), seed, goal)

    def of_rung(candidate: Candidate, rung: Rung, cut_off_s: float) -> Trial:
        step_s = rung.seconds / POINTS
        return trial(candidate, rung.seed, min(rung.seconds, cut_off_s + step_s), step_s)

    done = []
    for result in halving.halve(offered, rungs, goal, pool, of_rung):
        done.append(result)
        print_line(describe_rung(result, len(rungs), goal))
        note_exhausted([(candidate.config, run) for candidate, run in result.ranked])
    finalists = list(done[-1].survivors if done else offered)
    if not any(candidate.is_own for candidate in finalists):
        finalists.append(offered[0])
    slack = (SLACK, OWN_SLACK) if own.reached else (1.0, 1.0)
    longest = max(length, limit or MAX_VALUE)
    most_s, own_most_s = (min(factor * length, longest) for factor in slack)
    print_line(
        f"last rung: {len(finalists)} candidates to the target, {format_seconds(most_s)} each at the most"
    )
    expected = {id(candidate): run.seconds for each in done for candidate, run in each.ranked}
    expected[id(offered[0])] = length

    def last_trials() -> Iterator[tuple[int, Trial]]:
        for place, seed in enumerate(final_seeds):
            for number in reversed(range(len(finalists))):  # the user's own configuration is slowest
                candidate = finalists[number]
                step_s = min(most_s, expected.get(id(candidate), most_s)) / POINTS
                longest_s = own_most_s if candidate.is_own else most_s
                yield number * seeds + place, trial(candidate, seed, longest_s, step_s)

    runs = dict(
        track(perform_all(last_trials(), pool), seeds * len(finalists), f"runs of rung {len(rungs) + 1}")
    )
    note_exhausted([(finalists[number // seeds].config, run) for number, run in runs.items()])
    table = [[runs[number * seeds + place] for place in range(seeds)] for number in range(len(finalists))]
    own_place = next(number for number, candidate in enumerate(finalists) if candidate.is_own)
    return SearchResult(rank(finalists, table, goal, own_place), done, len(offered), final_seeds)


def ensure_not_reached(environment: Environment, seeds: Iterable[int]) -> None:
    """Refuse a target that the configuration, and so any other, reaches before its first update."""
    goal = environment.goal
    config = with_limits(environment.config, goal, Limits(MAX_VALUE, MAX_VALUE), 1)
    for seed in sorted(seeds):
        start = Trial(config, seed, goal).perform()
        if not start.seconds:
            shown = f"{goal.format_value(start.value(goal))} (seed {seed})"
            raise InputError(
                f"{environment.path}: nothing to plan: it starts with {shown}, the target is {goal}"
            )
