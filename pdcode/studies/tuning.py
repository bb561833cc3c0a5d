"""Tuning: each candidate's learning rate and knobs, by a number of runs, or read from a file."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..session import setup
from ..session.monitor import Print
from ..util.errors import InputError, did_you_mean, prefix_errors
from ..util.formats import listing
from ..util.processes import Pool
from ..util.progress import work
from .candidate import Candidate
from .comparison import Comparison
from .goal import Goal
from .knobs import Knob, changed, knobs
from .learning_rates import rate_key, rate_of
from .measurement import Measured
from .results_table import describe_run
from .trial import Journal, Trial, data_source, payloads_per_update, perform_all

FARTHEST = 2.0  # largest first change of a rate, as a power of 2
REMAIN = 6  # candidates of a group that are tuned to the end, at least
DRAWN = 4  # points with knobs at random places that are tried before steps around the best

Point = tuple[float, ...]
"""A power of 2 that multiplies the learning rate, and the place of each knob's value."""


@dataclass(frozen=True)
class Tuning:
    """How candidates are tuned."""

    runs: int  # of each candidate
    seeds: int = 1  # runs of settings that may be the best
    with_knobs: bool = True
    hold: bool = True  # whether keys that a name gives stay; else the search begins with them
    untuned: Collection[str] = ()  # names of candidates that run as they are
    slack: float = math.inf  # limit of a run's time, as a multiple of the best candidate's under its seed
    equal: bool = False  # whether all candidates have as many runs, also candidates that are behind
    longer: Mapping[str, float] = field(
        default_factory=dict
    )  # slack of names' runs after tuning, if it differs


class Search:
    """Search for the best settings of a candidate by single runs.

    It begins with the candidate as it is, then tries rates and places of knobs that cover their ranges (a
    Latin square), then steps around the best: along one axis as long as that helps, then along the next.
    When no step helps, steps of the rate are halved. Settings are dropped after the first seeds under which
    they are behind the best.

    Parameters
    ----------
    sizes : sequence of int
        Number of values of each knob.
    start : sequence of int
        The candidate's own places.
    seeds : int
        Runs of settings that are not dropped.
    goal : Goal or None
    """

    def __init__(self, sizes: Sequence[int], start: Sequence[int], seeds: int, goal: Goal | None) -> None:
        self._sizes, self._seeds, self._goal = sizes, seeds, goal
        self.best = self.now = (0.0, *start)
        self._runs: dict[Point, list[Measured]] = {self.now: []}
        self._queue = _latin_points(sizes)
        self._step = 1.0 if sizes else FARTHEST
        self._axis, self._heading = 0, [1] * (1 + len(sizes))
        self._stepped = False

    @property
    def seed(self) -> int:
        """Number of the seed of the next run, of the settings `now`."""
        return len(self._runs[self.now])

    @property
    def seconds(self) -> list[float]:
        """Time to the target of each run of the best settings."""
        return [run.seconds for run in self._runs[self.best]]

    @property
    def limit_s(self) -> float:
        """Time after which the next run cannot make its settings the best."""
        own = [run.seconds for run in self._runs[self.now]]
        ahead = self.seconds[: len(own) + 1]
        if self.now == self.best or not all(map(math.isfinite, ahead)):
            return math.inf
        return math.exp(_log_mean(ahead) * len(ahead) - _log_mean(own) * len(own))

    @property
    def at_an_edge(self) -> bool:
        """Whether the best rate is the least or largest of several that were tried."""
        powers = {power for (power, *_), runs in self._runs.items() if runs}
        return len(powers) > 1 and self.best[0] in (min(powers), max(powers))

    def add(self, run: Measured) -> None:
        """Record the run of the settings `now`, and choose the next."""
        runs, beaten = self._runs[self.now], not run.reached and run.stop_s >= self.limit_s
        runs.append(run)
        ahead = self.now == self.best or (not beaten and self._is_ahead())
        if ahead and len(runs) < self._seeds:
            return
        self._choose(ahead and self.now != self.best)

    def skip(self) -> None:
        """Choose other settings than `now`, which cannot run."""
        self._choose(False)

    @property
    def stops_s(self) -> list[float]:
        """Length of each run of the best settings."""
        return [run.stop_s for run in self._runs[self.best]]

    def key(self, until_s: Sequence[float]) -> tuple[float, ...]:
        """Return the sort key of the best settings: less is better.

        Runs that missed the target by the times `until_s` are judged by their values then.
        """
        return self._key(self.best, until_s)

    def _is_ahead(self) -> bool:
        """Return whether the settings `now` are better than the best under the seeds so far.

        Where one of two runs missed the target, they are judged at the end of the shorter one.
        """
        pairs = zip(self._runs[self.now], self._runs[self.best], strict=False)
        until_s = [
            math.inf if run.reached and other.reached else min(run.stop_s, other.stop_s)
            for run, other in pairs
        ]
        return self._key(self.now, until_s) < self._key(self.best, until_s)

    def _key(self, point: Point, until_s: Sequence[float]) -> tuple[float, ...]:
        """Return the sort key of as many runs; of failed runs, the ones with lower rates are better."""
        pairs = list(zip(self._runs[point], until_s, strict=False))
        runs = [run for run, _ in pairs]
        values = [run.value_at(self._goal, t_s) for run, t_s in pairs]
        if any(run.failed for run in runs) or not all(map(math.isfinite, values)):
            return 2, point[0]
        if self._goal and all(run.reached and run.seconds <= t_s for run, t_s in pairs):
            return 0, _log_mean([run.seconds for run in runs])
        return 1, float(np.mean(values)), point[0]

    def _choose(self, better: bool) -> None:
        if better:
            self.best = self.now
        elif self._stepped:
            self._heading[self._axis] *= -1
            self._axis = (self._axis + 1) % len(self._heading)
        self._stepped = not self._queue
        self.now = self._queue.pop(0) if self._queue else self._beside()
        if self.now in self._runs:
            return self._choose(False)
        self._runs[self.now] = []

    def _beside(self) -> Point:
        """Return untried settings one step from the best."""
        axes = len(self._heading)
        while True:
            for axis in ((self._axis + more) % axes for more in range(axes)):
                for heading in (self._heading[axis], -self._heading[axis]):
                    point = list(self.best)
                    point[axis] += heading * (1 if axis else self._step)
                    inside = not axis or 0 <= point[axis] < self._sizes[axis - 1]
                    if inside and tuple(point) not in self._runs:
                        self._axis, self._heading[axis] = axis, heading
                        return tuple(point)
            self._step /= 2


def _latin_points(sizes: Sequence[int]) -> list[Point]:
    """Return settings that cover the range of each axis, in random combinations, the same for all."""
    count, random = DRAWN if sizes else 2, np.random.default_rng(1)
    columns: list[Any] = [np.linspace(-FARTHEST, FARTHEST, count)]
    columns += [(random.permutation(count) * size + size // 2) // count for size in sizes]
    return [(float(power), *map(int, places)) for power, *places in zip(*columns, strict=True)]


def _log_mean(values: Sequence[float]) -> float:
    return float(np.mean(np.log(np.maximum(values, 1e-12)))) if len(values) else 0.0


class Entrant:
    """A candidate, its knobs, and the search for its settings."""

    def __init__(self, candidate: Candidate, how: Tuning, goal: Goal | None) -> None:
        self.candidate = candidate
        self.fixed = candidate.name in how.untuned or candidate.config.scheme.is_auto
        self.knobs = tunable(candidate, how.hold) if how.with_knobs and not self.fixed else []
        self.budget = how.seeds if self.fixed else how.runs
        start = [knob.place_in(candidate.config) for knob in self.knobs]
        self.search = Search([len(knob.values) for knob in self.knobs], start, how.seeds, goal)
        self._made: dict[Point, Candidate] = {self.search.now: candidate}

    @property
    def tuned(self) -> Candidate:
        """The candidate with the best settings."""
        return self._made[self.search.best]

    def next(self) -> Candidate:
        """Return the candidate with the settings of the next run."""
        while self.search.now not in self._made:
            try:
                self._made[self.search.now] = self._make(self.search.now)
            except InputError:  # knobs that do not go together
                self.search.skip()
        return self._made[self.search.now]

    def _make(self, point: Point) -> Candidate:
        own, settings = self.candidate.config, dict[str, Any]()
        for knob, place in zip(self.knobs, point[1:], strict=True):
            if place != knob.place_in(own):
                settings |= knob.settings(int(place))
        config = changed(own, settings) if settings else own
        if settings and own.stop.updates is not None:  # as many payloads
            updates = own.stop.updates * payloads_per_update(own) / payloads_per_update(config)
            config = config.with_keys(stop={"updates": max(1, round(updates))})
        setup.prepare(config, source=data_source(config))
        made = replace(self.candidate, config=config)
        return made.at(made.rate * 2.0 ** point[0])


def tunable(candidate: Candidate, hold: bool = True) -> list[Knob]:
    """Return the knobs of a candidate: the keys that tuning may change.

    With `hold`, keys that the candidate's name or the command sets are left out. The user's own configuration
    has no knobs. Whitening is never a knob, as it makes another candidate; look-ahead is one if the candidate
    whitens or looks ahead.
    """
    config = candidate.config
    if candidate.is_own:
        return []
    armed = config.code.whiten != "none" or bool(config.memory.lookahead)
    held = [*(candidate.held if hold else ()), "code.whiten", *([] if armed else ["memory.lookahead"])]
    return [
        knob
        for knob in knobs(config)
        if not any(f"{key}.".startswith(f"{each}.") for key in knob.keys for each in held)
    ]


def settings_of(config: Config, found: Sequence[Knob]) -> str:
    """Describe the values of knobs in a configuration, the first key of each, and its learning rate."""
    values = {knob.keys[0]: knob.read(config)[knob.keys[0]] for knob in found}
    values[rate_key(config)] = f"{rate_of(config):.3g}"
    last = [key.rpartition(".")[2] for key in values]
    names = [key if last.count(name) > 1 else name for key, name in zip(values, last, strict=True)]
    return ", ".join(f"{name} {value}" for name, value in zip(names, values.values(), strict=True))


def tune(
    candidates: Sequence[Candidate],
    goal: Goal | None,
    how: Tuning,
    seeds: Sequence[int],
    trial: Callable[[Candidate, int, int], Trial],
    pool: Pool,
    print_line: Print,
    journal: Journal | None = None,
    groups: Sequence[Collection[str]] = (),
) -> list[Entrant]:
    """Choose each candidate's learning rate and knobs by `how.runs` runs of each, at most.

    Runs end when they are too slow for their settings to be the best of the candidate, or beyond
    `how.slack`. If that is finite, and `how.equal` is not set, the better half of each group of names goes on
    after a third of the runs, and the better quarter after half of them, as by `halving`, but `REMAIN` at
    least.
    ``trial(candidate, seed, number)`` makes a run with files of its own. All candidates make their next run
    at the same time, so that results do not depend on the number of processes.
    """
    entrants = [Entrant(candidate, how, goal) for candidate in candidates]
    done, total = 0, sum(entrant.budget for entrant in entrants)
    most = "" if how.equal or math.isinf(how.slack) else "at most "
    print_line(f"tuning: {most}{how.runs} runs of each scheme, {most}{total} in total")
    with work("tuning runs", total) as tuning:
        for turn in range(max(entrant.budget for entrant in entrants)):
            for each in _behind(entrants, turn, how, groups):
                done, each.budget = done + each.budget - turn, turn
            now = [entrant for entrant in entrants if turn < entrant.budget]
            first = 1 if turn < how.seeds and math.isfinite(how.slack) else 0  # its time limits the others
            for group in (now[:first], now[first:]):
                chosen = [(each, each.next()) for each in group]
                limits = [
                    min(each.search.limit_s, how.slack * _best_s(entrants, each.search.seed))
                    for each in group
                ]
                trials = [
                    trial(made.within(limit), seeds[each.search.seed], number)
                    for number, ((each, made), limit) in enumerate(zip(chosen, limits, strict=True))
                ]
                for number, run in perform_all(enumerate(trials), pool, journal):
                    done += 1
                    tuning.report(done)
                    each, made = chosen[number]
                    each.search.add(run)
                    for path in filter(None, (trials[number].trace, trials[number].file)):
                        Path(path).unlink(missing_ok=True)
                    text = f"{made.name}, {settings_of(made.config, each.knobs)}: {describe_run(run, goal)}"
                    print_line(f"tuning {done} of {total}: {text}")
    return entrants


def _behind(
    entrants: Sequence[Entrant], turn: int, how: Tuning, groups: Sequence[Collection[str]]
) -> list[Entrant]:
    """Return the entrants that are tuned no further than these runs."""
    parts = {how.runs // 3: 2, how.runs // 2: 4}
    if how.equal or turn not in parts or turn < how.seeds or math.isinf(how.slack):
        return []
    ranked = sorted(entrants, key=_key_among(entrants))
    members = [[each for each in ranked if each.candidate.name in group] for group in groups]
    behind = [each for mine in members for each in mine[max(REMAIN, -(-len(mine) // parts[turn])) :]]
    return [each for each in behind if each.budget > turn]


def _key_among(entrants: Sequence[Entrant]) -> Callable[[Entrant], tuple[float, ...]]:
    """Return the sort key of entrants by their best settings."""
    until_s = [min(times) for times in zip(*(each.search.stops_s for each in entrants), strict=False)]

    def key(entrant: Entrant) -> tuple[float, ...]:
        reached = all(map(math.isfinite, entrant.search.seconds))
        return entrant.search.key([math.inf] * len(until_s) if reached else until_s)

    return key


def _best_s(entrants: Sequence[Entrant], seed: int) -> float:
    """Return the least time of any candidate's best settings under a seed."""
    times = [entrant.search.seconds[seed] for entrant in entrants if len(entrant.search.seconds) > seed]
    return min(times, default=math.inf)


def describe_tuning(how: Tuning, seeds: Sequence[int]) -> str:
    """Describe how candidates are tuned under these seeds."""
    what = "Learning rates and knobs" if how.with_knobs else "Learning rates"
    most = "" if how.equal or math.isinf(how.slack) else "at most "
    under = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} – {seeds[-1]}"
    return f"{what}: the best of {most}{how.runs} runs each under {under}."


def describe_ends(entrants: Sequence[Entrant], how: Tuning) -> list[str]:
    """Name the candidates that were tuned by fewer runs, as others were better, or not at all."""
    ended = [each for each in entrants if not each.fixed and each.budget < how.runs]
    named = [
        (end, listing([each.candidate.name for each in ended if each.budget == end]))
        for end in sorted({each.budget for each in ended})
    ]
    alone = [
        each.candidate.name for each in entrants if each.fixed and each.candidate.name not in how.untuned
    ]
    return [
        *(f"Tuned by {end} runs, as enough of their kind were better: {names}." for end, names in named),
        *([f"Not tuned, as preset 'auto' chooses by itself: {listing(alone)}."] if alone else []),
    ]


def describe_edges(entrants: Sequence[Entrant]) -> str:
    """Name the candidates whose best rate is the least or largest that was tried."""
    edges = [each.candidate.name for each in entrants if each.search.at_an_edge]
    return f" Rates of {listing(edges)} are the least or largest that were tried." if edges else ""


def select(
    entrants: Sequence[Entrant], slack: float, groups: Sequence[Collection[str]]
) -> tuple[list[Entrant], list[str]]:
    """Choose the entrants within `slack` of the best, and the best of each group; return the others' names.

    They are sorted, the best first.
    """
    key = _key_among(entrants)
    ranked = sorted(entrants, key=key)
    firsts = [next((each for each in ranked if each.candidate.name in group), None) for group in groups]
    reached, *best = key(ranked[0])
    kept, dropped = list[Entrant](), list[Entrant]()
    for each in ranked:
        near = reached > 0 or key(each) <= (0, best[0] + math.log(slack))
        (kept if near or each in firsts else dropped).append(each)
    return kept, [each.candidate.name for each in dropped]


def take_rates(candidates: Sequence[Candidate], path: str, other: Comparison) -> list[Candidate]:
    """Give each candidate its learning rate and its knobs' values in another comparison."""
    found = dict(zip(other.names, other.read_configs(path), strict=True))
    if missing := [each.name for each in candidates if each.name not in found]:
        meant = did_you_mean(missing[0], found)
        raise InputError(f"--rates {path}: has no scheme {listing([*map(repr, missing)])}{meant}")
    taken = []
    for each in candidates:
        if each.config.scheme.is_auto:
            taken.append(each)
            continue
        with prefix_errors(f"--rates {path}: {each.name}"):
            values = {
                key: value for knob in tunable(each) for key, value in knob.read(found[each.name]).items()
            }
            config = changed(each.config, values) if values else each.config
        taken.append(replace(each, config=config).at(rate_of(found[each.name])))
    return taken
