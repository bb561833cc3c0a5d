"""The search of `pdcode plan`, from the user's configuration to the ranked finalists."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

import msgspec

from ..api import configs
from ..config import AUTO, MAX_VALUE, Config, StragglersTable
from ..config import load as configfile
from ..session.monitor import Print
from ..session.setup import check_count
from ..trace.reader import TraceReader
from ..util.errors import InputError, prefix_errors
from ..util.processes import Pool
from ..util.progress import track, work
from ..virtual import costs
from . import halving, limits, search_space
from .candidate import Candidate, identity
from .goal import Goal, choose_goal
from .halving import Rung, RungResult, TrialOfSeeds
from .learning_rates import settled
from .limits import OWN_SLACK, Limits, max_updates, measure_own, with_limits
from .measurement import Measured
from .ranking import Row, rank
from .results_table import describe_rung, format_seconds
from .search_space import SPACING, at_rates
from .trial import TUNING_OFFSET, Trial, check_seed, perform_all

FINALISTS = 3
OWN_SEEDS = 3  # runs of the user's own configuration, whose longest limits the search's
CONFIRMED = 6  # settings that the last rung confirms, beside the best of each scheme
LAST = 3.0  # limit of the last rung's runs, as a multiple of the time of the best scheme as it is
SLACK = 3.0  # limit of a finalist's time, in multiples of the time of the user's own configuration


@dataclass(frozen=True)
class Environment:
    """Conditions of a plan."""

    user: Config  # the user's configuration
    config: Config  # the same with the delays, machine and link of the plan
    goal: Goal
    path: str = ""  # file of the configuration, for error messages
    trace: TraceReader | None = None  # recorded run with the delays and costs


def load_environment(
    path: str, overrides: list[str], trace: str | None, target: float | None, like: bool = False
) -> Environment:
    """Read a configuration and, if a trace is given, the delays and costs of that run.

    `like`: the trace is of a script, and the configuration a stand-in for what it trains. The user's own
    configuration is then the stand-in's problem, with all-reduces of gradients and the script's times, at the
    learning rate "auto" if the stand-in's rate is for whitened gradients.
    """
    recorded, table = None if trace is None else TraceReader(trace), {}
    if recorded is not None:
        table = {"kind": "trace", "path": str(trace), "draw": "block"}
        if recorded.is_script and not like:
            raise InputError(
                f"--trace {trace}: has the times of a script, without its loss; give --like CONFIG"
            )
        if like and not recorded.is_script:
            raise InputError(f"--like {path}: {trace} is a run of pdcode, which needs no stand-in")
        if like and not recorded.arrivals.rows:
            raise InputError(f"--trace {trace}: has no step yet")
    if like and recorded is not None:
        own = configs.overrides({"stragglers": table}, recorded.worker_count)
        user, _ = configfile.load(path, [*own, *overrides])
        with prefix_errors(path):
            user = _of_script(user, recorded, choose_goal(user, recorded, target))
    else:
        user, _ = configfile.load(path, overrides)
    with prefix_errors(path):
        user.faults.ensure_endless()
        check_count(user)
        check_seed(user)
        goal = choose_goal(user, recorded, target)
    config = user
    if trace is not None and recorded is not None:
        config = msgspec.structs.replace(user, stragglers=StragglersTable.of(table))
        config = costs.load(trace, costs.under_delays(recorded, config), overrides, base="low")
    return Environment(config if like else user, config, goal, path, recorded)


def _of_script(stand_in: Config, trace: TraceReader, goal: Goal) -> Config:
    """Return a configuration with all-reduces of gradients, and without limits of time."""
    replace = msgspec.structs.replace
    config = search_space.apply_tables(stand_in, search_space.preset("allreduce"))
    if stand_in.code.whiten != "none":
        config = settled(replace(config, optimizer=replace(config.optimizer, rate=AUTO)))
    return replace(config, stop=goal.stop(None, None))


@dataclass(frozen=True)
class SearchResult:
    """The result of a search."""

    rows: list[Row[Candidate]]  # the finalists: the chosen one, then the others, best first
    rungs: list[RungResult[Candidate]]
    schemes: int  # number of schemes
    seeds: tuple[int, ...]  # seeds of the finalists' runs, by which nothing was chosen
    length_s: float = 0.0  # time of the user's own configuration
    spent: Sequence[Measured] = ()  # all runs

    @property
    def own(self) -> Row[Candidate]:
        """Row of the user's own configuration."""
        return next(row for row in self.rows if row.candidate.is_own)

    @property
    def spent_s(self) -> float:
        """Virtual time of all runs."""
        return sum(run.stop_s for run in self.spent)


def search(
    environment: Environment,
    pool: Pool,
    print_line: Print,
    candidates: int | None = None,
    seeds: int = 5,
    eta: float = 4.0,
    limit_s: float | None = None,
) -> SearchResult:
    """Search for the best scheme, and its learning rate and options.

    How long runs are follows from the user's own configuration, or from the best scheme as it is if that is
    quicker, which short runs find. Each scheme begins with three rates, a factor of `search_space.SPACING`
    apart. A rung keeps 1/η of the schemes, each with its best settings, and adds those beside them: rates at
    the root of the factor before, the options of the scheme, and in the last but one all knobs. The last rung
    confirms the best settings; the first is chosen. Its time is then the time under `seeds` other seeds,
    beside the times of the other finalists and of the user's own configuration.

    `candidates` is the number of schemes, by default the portfolio's. `limit_s` limits the virtual
    time of the user's own configuration, by default its ``stop.seconds``. Without either, runs end after
    approximately `limits.ARRIVALS` arrivals.
    """
    base, goal = environment.config, environment.goal
    study = _Study(environment, pool, print_line, candidates, limit_s)
    own = study.measure_own()
    length = max(run.spent_s for run in study.spent)
    seed = base.seed + TUNING_OFFSET
    ladder = partial(halving.make_rungs, len(study.offered), eta, FINALISTS, seed=seed)
    final_seeds = tuple(range(base.seed, base.seed + seeds))
    search_seeds = {seed for rung in ladder(length) for seed in rung.seeds}
    ensure_not_reached(environment, {*final_seeds, *search_seeds})
    missed = "" if own.reached else f", target not reached ({goal.format_value(own.value(goal))} then)"
    print_line(f"your own configuration: {format_seconds(length)}{missed}")
    if study.updates is None:
        study.note_exhausted([(base, own)])
    longest_s = study.pilot(halving.make_pilot(len(study.offered), length, seed), length)
    print_line(f"runs of the last rung: {format_seconds(longest_s)} at most")
    done = study.climb(ladder(longest_s))
    finalists = done[-1].survivors
    if not any(candidate.is_own for candidate in finalists):
        finalists.append(study.offered[0])
    slack = (SLACK, OWN_SLACK) if own.reached else (1.0, 1.0)
    longest = max(length, study.limit_s or MAX_VALUE)
    most_s, own_most_s = (min(factor * length, longest) for factor in slack)
    under = f"seed {final_seeds[0]}" if seeds == 1 else f"seeds {final_seeds[0]} – {final_seeds[-1]}"
    print_line(
        f"chosen: {finalists[0].title}; now {len(finalists)} candidates to the target under {under}, "
        f"{format_seconds(most_s)} each at the most"
    )
    rows = study.compare(finalists, final_seeds, most_s, own_most_s)
    return SearchResult(rows, done, len(study.offered), final_seeds, length, study.spent)


class _Study:
    """Runs of a search: pilots, rungs and the comparison of finalists; `spent` are all so far."""

    def __init__(
        self,
        environment: Environment,
        pool: Pool,
        print_line: Print,
        candidates: int | None,
        limit_s: float | None,
    ) -> None:
        self.base, self.goal, self.path = environment.config, environment.goal, environment.path
        self.pool, self.print_line = pool, print_line
        self.offered = search_space.candidates(self.base, candidates, self.base.seed, self.path)
        self.limit_s = limit_s or self.base.stop.seconds
        self.arrivals = limits.ARRIVALS if self.limit_s is None else limits.MAX_ARRIVALS
        self.updates = self.base.stop.updates if limit_s is None else None  # of the user's own configuration
        self.spent: list[Measured] = []

    def measure_own(self) -> Measured:
        """Run the user's own configuration, under several seeds if it reaches the target."""
        measure = partial(
            measure_own, self.base, self.goal, self.path, self.limit_s, self.updates, self.arrivals
        )
        with work("your own configuration", None):
            own = measure()
            self.spent = [own, *map(measure, range(1, OWN_SEEDS if own.reached else 1))]
        return own

    def pilot(self, pilots: Sequence[Rung], length: float) -> float:
        """Run short pilots until one reaches the target; return the limit of the last rung's runs."""
        for result in halving.halve(self.offered, pilots, self.goal, self.pool, self.trials):
            self.spent += [run for _, of_seeds in result.ranked for run in of_seeds.runs]
            if (best := result.ranked[0][1]).reached:
                return min(length, LAST * float(best.seconds))
        return length

    def climb(self, rungs: Sequence[Rung]) -> list[RungResult[Candidate]]:
        """Perform the rungs; return their results."""

        def extended(result: RungResult[Candidate]) -> list[Candidate]:
            """Return the survivors and the user's own configuration, then the settings beside the survivors.

            The last rung has the best settings so far, also of the same scheme.
            """
            left, factor = len(rungs) - result.rung.number, SPACING ** (0.5**result.rung.number)
            best = result.survivors
            more = [near for each in best for near in search_space.neighbours(each, factor, every=left == 2)]
            if left == 1:
                more = [candidate for candidate, _ in result.ranked[:CONFIRMED]]
            return distinct([*best, self.offered[0], *more])

        first = [each for one in self.offered for each in at_rates(one, (1 / SPACING, SPACING))]
        first, done = distinct([*self.offered, *first]), list[RungResult[Candidate]]()
        scheme = attrgetter("name")
        for result in halving.halve(first, rungs, self.goal, self.pool, self.trials, scheme, extended):
            done.append(result)
            for line in describe_rung(result, len(rungs), self.goal):
                self.print_line(line)
            every = [
                (candidate.config, run) for candidate, of_seeds in result.ranked for run in of_seeds.runs
            ]
            self.note_exhausted(every)
            self.spent += [run for _, run in every]
        return done

    def compare(
        self, finalists: Sequence[Candidate], seeds: Sequence[int], most_s: float, own_most_s: float
    ) -> list[Row[Candidate]]:
        """Run the finalists under other seeds; return the row of the first, then the others, best first."""

        def trials() -> Iterator[tuple[int, Trial]]:
            for place, seed in enumerate(seeds):
                for number in reversed(range(len(finalists))):  # the user's own configuration is slowest
                    candidate = finalists[number]
                    longest_s = own_most_s if candidate.is_own else most_s
                    yield number * len(seeds) + place, self.trial(candidate, seed, longest_s)

        total = len(seeds) * len(finalists)
        runs = dict(track(perform_all(trials(), self.pool), total, "runs of the finalists"))
        self.note_exhausted((finalists[number // len(seeds)].config, run) for number, run in runs.items())
        self.spent += runs.values()
        table = [
            [runs[start + place] for place in range(len(seeds))] for start in range(0, total, len(seeds))
        ]
        own_place = next(number for number, candidate in enumerate(finalists) if candidate.is_own)
        rows = rank(finalists, table, self.goal, own_place)
        rows.sort(key=lambda row: row.candidate is not finalists[0])
        return rows

    def trial(self, candidate: Candidate, seed: int, longest_s: float) -> Trial:
        """Return the trial of a candidate under a seed."""
        most = max_updates(candidate.config, self.arrivals)
        config = with_limits(candidate.config, self.goal, Limits(longest_s), most)
        return Trial(config, seed, self.goal)

    def trials(self, candidate: Candidate, rung: Rung, cut_off_s: float) -> TrialOfSeeds:
        """Return the trials of a candidate in a rung."""
        return TrialOfSeeds([self.trial(candidate, seed, rung.seconds) for seed in rung.seeds], cut_off_s)

    def note_exhausted(self, runs: Iterable[tuple[Config, Measured]]) -> None:
        """Print how many runs ended at the limit of arrivals."""
        every = list(runs)
        most = [
            int(run.arrivals)
            for config, run in every
            if not run.reached and run.updates >= max_updates(config, self.arrivals)
        ]
        if most:
            more = "; --seconds or stop.seconds allows more" if self.limit_s is None else ""
            of_all = f"{len(most)} of {len(every)} runs"
            self.print_line(f"  {of_all} ended at the limit of arrivals, after {max(most):,} at most{more}")


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the first of candidates with the same configuration."""
    found = dict[bytes, Candidate]()
    for candidate in candidates:
        found.setdefault(identity(candidate.config), candidate)
    return list(found.values())


def ensure_not_reached(environment: Environment, seeds: Iterable[int]) -> None:
    """Refuse a target that the configuration, and so any other, reaches before its first update."""
    goal = environment.goal
    config = with_limits(environment.config, goal, Limits(MAX_VALUE), 1)
    for seed in sorted(seeds):
        start = Trial(config, seed, goal).perform()
        if not start.seconds:
            shown = f"{goal.format_value(start.value(goal))} (seed {seed})"
            raise InputError(
                f"{environment.path}: nothing to plan: it starts with {shown}, the target is {goal}"
            )
