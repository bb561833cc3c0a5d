"""Successive halving in virtual time: many candidates run briefly, the better ones longer.

After Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016, the inner loop of Hyperband (Li et al., JMLR 2018). All candidates of a rung have the same
seeds, and thus the same delays and mini-batches (common random numbers). A candidate is stopped as soon as it
cannot be among the survivors.

Candidates may be settings of the same scheme. The best of each scheme then counts, and survivors may bring
settings beside theirs to the next rung.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import methodcaller
from typing import Any, Generic, TypeVar

from ..util.processes import Pool
from ..util.progress import track
from .goal import Goal
from .measurement import Measured
from .trial import Trial

T = TypeVar("T")
GROWTH = 3.0  # factor of the time of runs from rung to rung
SHORTEST = 1 / 9  # of the time of the last rung: in less, some schemes have no update
PILOTS = 6  # rungs that find how long runs need to be
CONFIRMING = 8  # seeds of the last rung, as the best of many settings by few seeds was lucky
FIRST_SEEDS = 2  # of a candidate in the first rung; one more in each further one


@dataclass(frozen=True)
class Runs:
    """Runs of a candidate under several seeds; fewer than planned if the first were too slow."""

    runs: list[Measured]
    planned: int

    @property
    def seconds(self) -> float:
        """Mean time to the target; infinity unless all runs reached it."""
        complete = len(self.runs) == self.planned
        return sum(run.seconds for run in self.runs) / self.planned if complete else math.inf

    @property
    def reached(self) -> bool:
        return math.isfinite(self.seconds)

    @property
    def diverged(self) -> bool:
        """Whether a run diverged."""
        return any(run.diverged for run in self.runs)

    @property
    def failed(self) -> bool:
        """Whether a run failed."""
        return any(run.failed for run in self.runs)

    def value(self, goal: Goal) -> float:
        """Return the mean of the values at the end."""
        return sum(run.value(goal) for run in self.runs) / len(self.runs)

    @property
    def loss(self) -> float:
        """Mean of the losses at the end."""
        return sum(run.loss for run in self.runs) / len(self.runs)

    def key(self, goal: Goal) -> tuple[float, int, float]:
        """Return the sort key: time, runs that missed the target, value at the end; less is better."""
        value, missed = self.value(goal), self.planned - sum(run.reached for run in self.runs)
        return self.seconds, missed, value if math.isfinite(value) else math.inf


@dataclass(frozen=True)
class TrialOfSeeds:
    """Trials of a candidate, one for each seed, which may end once their mean must exceed the cut-off."""

    trials: Sequence[Trial]
    cut_off_s: float
    step_s: float = 0.0  # time between measurements, within which the target is reached before it is noticed

    def perform(self) -> Runs:
        """Perform the trials in turn, until their mean time must exceed the cut-off."""
        runs: list[Measured] = []
        left_s = self.cut_off_s * len(self.trials)
        for trial in self.trials:
            runs.append(trial.within(left_s + self.step_s).perform())
            left_s -= runs[-1].spent_s
            if left_s < 0 or (math.isfinite(left_s) and not runs[-1].reached):
                break
        return Runs(runs, len(self.trials))


@dataclass(frozen=True)
class Rung:
    """A round of the search."""

    number: int  # counted from 1
    schemes: int
    keep: int  # number of schemes that survive
    seconds: float  # limit of a run's virtual time
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RungResult(Generic[T]):
    """A rung's candidates with their runs, best first."""

    rung: Rung
    ranked: list[tuple[T, Any]]
    scheme: Callable[[T], Hashable] = id

    @property
    def schemes(self) -> list[tuple[T, Any]]:
        """The best candidate of each scheme, with its runs."""
        found: dict[Hashable, tuple[T, Any]] = {}
        for candidate, runs in self.ranked:
            found.setdefault(self.scheme(candidate), (candidate, runs))
        return list(found.values())

    @property
    def survivors(self) -> list[T]:
        """The best candidate of each scheme that survives."""
        return [candidate for candidate, _ in self.schemes[: self.rung.keep]]

    @property
    def cut_off_s(self) -> float:
        """Time of the worst survivor in s; infinity if not all survivors reached the target."""
        _, runs = self.schemes[: self.rung.keep][-1]
        return float(runs.seconds)


def make_rungs(schemes: int, eta: float, finalists: int, seconds: float, seed: int) -> list[Rung]:
    """Return the rungs, three at least, from `schemes` schemes to `finalists`.

    A rung keeps 1/η of its schemes. A run has `seconds` of virtual time on the last rung, and 1/`GROWTH` of
    the next rung's on others, but at least `SHORTEST` of `seconds`. Each rung has seeds of its own, counted
    from `seed`, and one more than the rung before. A further rung confirms the finalists by `CONFIRMING`
    seeds.
    """
    counts = [schemes]
    while counts[-1] > finalists:
        counts.append(max(finalists, min(counts[-1] - 1, math.ceil(counts[-1] / eta))))
    counts += [min(finalists, schemes)] * (3 - len(counts))
    last, rungs = len(counts) - 1, list[Rung]()
    for number, (before, keep) in enumerate(pairwise(counts), 1):
        seeds = tuple(range(seed, seed + FIRST_SEEDS + number - 1))
        part = max(SHORTEST, GROWTH ** (number - last))
        rungs.append(Rung(number, before, keep, part * seconds, seeds))
        seed += len(seeds)
    confirming = tuple(range(seed, seed + CONFIRMING))
    return [*rungs, Rung(last + 1, counts[-1], counts[-1], seconds, confirming)]


def make_pilot(schemes: int, seconds: float, seed: int) -> list[Rung]:
    """Return rungs of two seeds that keep half of the schemes, in twice the time each, to `seconds` / 2."""
    keeps = [max(1, schemes >> number) for number in range(PILOTS + 1)]
    return [
        Rung(number, before, keep, seconds / 2 ** (PILOTS + 1 - number), (seed, seed + 1))
        for number, (before, keep) in enumerate(pairwise(keeps), 1)
    ]


def select_best(
    candidates: Sequence[T],
    keep: int,
    goal: Goal,
    pool: Pool,
    trial: Callable[[T, float], Any],
    runs: str = "runs",
    scheme: Callable[[T], Hashable] = id,
) -> list[tuple[T, Any]]:
    """Perform a trial of each candidate, and return all, with the best of the best `keep` schemes in order.

    The cut-off is the time of the `keep`-th best scheme so far. ``trial(candidate, cut_off_s)`` makes the
    trial of a candidate, which may end once its time to the target must exceed the cut-off. Promising
    candidates should come first, to stop others early. Candidates beyond the final cut-off keep their order
    in `candidates`, as their results depend on which trials had finished when they began.
    """
    reached: dict[Hashable, float] = {}

    def cut_off_s() -> float:
        return sorted(reached.values())[keep - 1] if len(reached) >= keep else math.inf

    found: dict[int, Any] = {}
    items = ((number, trial(each, cut_off_s())) for number, each in enumerate(candidates))
    for number, measured in track(pool.results(methodcaller("perform"), items), len(candidates), runs):
        found[number] = measured
        if measured.reached:
            mine = scheme(candidates[number])
            reached[mine] = min(measured.seconds, reached.get(mine, math.inf))
    last_s = cut_off_s()
    order = sorted(
        found, key=lambda n: (False, found[n].key(goal), n) if found[n].seconds <= last_s else (True, n)
    )
    return [(candidates[number], found[number]) for number in order]


def halve(
    candidates: Sequence[T],
    rungs: Sequence[Rung],
    goal: Goal,
    pool: Pool,
    trial: Callable[[T, Rung, float], Any],
    scheme: Callable[[T], Hashable] = id,
    extend: Callable[[RungResult[T]], Sequence[T]] | None = None,
) -> Iterator[RungResult[T]]:
    """Perform the rungs, and yield the result of each; parameters as for `select_best`.

    ``extend(result)`` returns the candidates of the next rung; default: the survivors.
    """
    remaining = list(candidates)
    for rung in rungs:

        def of_rung(candidate: T, cut_off_s: float, rung: Rung = rung) -> Any:
            return trial(candidate, rung, cut_off_s)

        runs = f"runs of rung {rung.number}"
        ranked = select_best(remaining, rung.keep, goal, pool, of_rung, runs, scheme)
        result = RungResult(rung, ranked, scheme)
        yield result
        if rung is not rungs[-1]:
            remaining = list(extend(result) if extend else result.survivors)
