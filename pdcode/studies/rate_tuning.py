"""Learning rates of candidates: chosen by the same number of runs for each, or read from a comparison."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from ..training.monitor import Print
from ..util.errors import InputError, did_you_mean
from ..util.formats import listing
from ..util.processes import Pool
from ..util.progress import work
from .candidate import Candidate
from .comparison import Comparison
from .goal import Goal
from .learning_rates import rate_key, rate_of
from .measurement import Measured
from .results_table import describe_run
from .trial import Trial, perform_all

FIRST_POWERS = (-2.0, 0.0, 2.0)  # first rates to try, as powers of 2 times the candidate's own rate
POWER_STEP = 2.0  # distance of the next rate beyond the least or largest one, as a power of 2


class RateSearch:
    """Search for the power of 2 by which a candidate's learning rate is best multiplied.

    It starts with `FIRST_POWERS`. While the best power is the least or the largest, it continues beyond that
    by `POWER_STEP`. Then it halves the wider of the two gaps beside the best power, or of equal gaps the one
    to the better neighbour.
    """

    def __init__(self) -> None:
        self._tried: dict[float, tuple[float, ...]] = {}

    def add(self, power: float, run: Measured, goal: Goal | None) -> None:
        """Record a run; a power is judged by the worst of its runs."""
        key = _key(power, run, goal)
        self._tried[power] = max(key, self._tried.get(power, key))

    @property
    def best(self) -> float:
        """The best power so far."""
        return min(self._tried, key=self._tried.__getitem__)

    @property
    def limit_s(self) -> float:
        """Time to the target with the best power so far, a limit for runs with other powers."""
        reached, seconds, _ = min(self._tried.values(), default=(1, 0, 0))
        return seconds if reached == 0 else math.inf

    @property
    def at_an_edge(self) -> bool:
        """Whether the best power is the least or largest that was tried."""
        return self.best in (min(self._tried), max(self._tried))

    def next(self) -> Sequence[float]:
        """Return the powers to try next."""
        if not self._tried:
            return FIRST_POWERS
        best, powers = self.best, sorted(self._tried)
        if self.at_an_edge:
            return [best + math.copysign(POWER_STEP, best - powers[len(powers) // 2])]
        place = powers.index(best)
        beside = (powers[place - 1], powers[place + 1])
        wider = min(beside, key=lambda power: (-abs(power - best), self._tried[power]))
        return [(best + wider) / 2]


def _key(power: float, run: Measured, goal: Goal | None) -> tuple[float, ...]:
    """Return the sort key of a run: less is better. Of failed runs, those with lower rates are better."""
    value = run.value(goal)
    if run.failed or not math.isfinite(value):
        return 2, power, 0
    if run.reached and goal:
        return 0, run.seconds, value
    return 1, value, power


def tune(
    candidates: Sequence[Candidate],
    goal: Goal | None,
    rates: int,
    seeds: Sequence[int],
    trial: Callable[[Candidate, int, int], Trial],
    pool: Pool,
    print_line: Print,
) -> tuple[list[Candidate], list[str]]:
    """Choose each candidate's learning rate of `rates` tried.

    A rate is judged by the worst of its runs, one for each seed. Runs end when they are too slow to be the
    best. ``trial(candidate, seed, number)`` makes a run with files of its own. Return also the names of the
    candidates whose best rate was the least or the largest that was tried.
    """
    searches = [RateSearch() for _ in candidates]
    done, total = 0, rates * len(seeds) * len(searches)
    with work("tuning runs", total) as tuning:
        while done < total:
            tried = [(place, power) for place, search in enumerate(searches) for power in search.next()]
            powers = [pair for pair in tried for _ in seeds]
            changed = [
                _with_time_limit(_scaled(candidates[place], power), searches[place].limit_s)
                for place, power in powers
            ]
            trials = [trial(each, seeds[number % len(seeds)], number) for number, each in enumerate(changed)]
            for number, run in perform_all(enumerate(trials), pool):
                done += 1
                tuning.report(done)
                place, power = powers[number]
                searches[place].add(power, run, goal)
                for path in (trials[number].trace, trials[number].file):
                    Path(path).unlink(missing_ok=True)
                each = changed[number]
                now = f"{each.name}, {'.'.join(rate_key(each.config))} {each.rate:g}"
                print_line(f"tuning {done} of {total}: {now}: {describe_run(run, goal)}")
    pairs = list(zip(candidates, searches, strict=True))
    edges = [candidate.name for candidate, search in pairs if search.at_an_edge]
    return [_scaled(candidate, search.best) for candidate, search in pairs], edges


def describe_tuning(rates: int, seeds: Sequence[int]) -> str:
    """Describe how learning rates are chosen, by `rates` rates under these seeds."""
    if len(seeds) == 1:
        return f"Learning rates: the best of {rates} runs each under seed {seeds[0]}."
    under = f"seeds {seeds[0]} – {seeds[-1]}"
    return f"Learning rates: the best of {rates} each, judged by the worst run under {under}."


def _with_time_limit(candidate: Candidate, limit_s: float) -> Candidate:
    """Return the candidate with a time limit of at most `limit_s`."""
    config, given = candidate.config, candidate.config.stop.seconds
    if not math.isfinite(limit_s) or (given is not None and given <= limit_s):
        return candidate
    stop = msgspec.structs.replace(config.stop, seconds=limit_s)
    return replace(candidate, config=msgspec.structs.replace(config, stop=stop))


def _scaled(candidate: Candidate, power: float) -> Candidate:
    """Return the candidate with its learning rate multiplied by a power of 2."""
    return candidate.at(candidate.rate * 2.0**power)


def take_rates(candidates: Sequence[Candidate], path: str, other: Comparison) -> list[Candidate]:
    """Give each candidate its learning rate in another comparison."""
    rates = dict(zip(other.names, map(rate_of, other.read_configs(path)), strict=True))
    if missing := [each.name for each in candidates if each.name not in rates]:
        meant = did_you_mean(missing[0], rates)
        raise InputError(f"--rates {path}: has no scheme {listing([*map(repr, missing)])}{meant}")
    return [each.at(rates[each.name]) for each in candidates]
