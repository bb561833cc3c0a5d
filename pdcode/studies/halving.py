"""Successive halving in virtual time: many candidates run briefly, the better ones longer.

After Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016, the inner loop of Hyperband (Li et al., JMLR 2018). All candidates of a rung have the same seed,
and thus the same delays and mini-batches (common random numbers). A candidate is stopped as soon as it cannot
be among the survivors.
"""

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import methodcaller
from typing import Generic, TypeVar

from ..util.processes import Pool
from ..util.progress import track
from .goal import Goal
from .measurement import Measured
from .trial import Trial

T = TypeVar("T")


@dataclass(frozen=True)
class Rung:
    """A round of the search."""

    number: int  # counted from 1
    candidates: int
    keep: int  # number of candidates that survive
    seconds: float  # limit of a run's virtual time
    seed: int


@dataclass(frozen=True)
class RungResult(Generic[T]):
    """A rung's candidates with their runs, best first."""

    rung: Rung
    ranked: list[tuple[T, Measured]]

    @property
    def survivors(self) -> list[T]:
        return [candidate for candidate, _ in self.ranked[: self.rung.keep]]

    @property
    def cut_off_s(self) -> float:
        """Time of the worst survivor in s; infinity if not all survivors reached the target."""
        return self.ranked[min(self.rung.keep, len(self.ranked)) - 1][1].seconds


def make_rungs(candidates: int, eta: float, finalists: int, seconds: float, seed: int) -> list[Rung]:
    """Return the rungs from `candidates` to `finalists`.

    A rung keeps 1/η of its candidates. A run has η times the virtual time of the previous rung, and `seconds`
    on the last rung. Each rung has its own seed, counted from `seed`.
    """
    counts = [candidates]
    while counts[-1] > finalists:
        counts.append(max(finalists, min(counts[-1] - 1, math.ceil(counts[-1] / eta))))
    last = len(counts) - 1
    return [
        Rung(number, before, keep, seconds / eta ** (last - number), seed + number - 1)
        for number, (before, keep) in enumerate(pairwise(counts), 1)
    ]


def select_best(
    candidates: Sequence[T],
    keep: int,
    goal: Goal,
    pool: Pool,
    trial: Callable[[T, float], Trial],
    runs: str = "runs",
) -> list[tuple[T, Measured]]:
    """Perform a trial of each candidate, and return all, with the best `keep` first, in order.

    The cut-off is the time of the `keep`-th best so far. ``trial(candidate, cut_off_s)`` makes the trial of a
    candidate, which may end once its time to the target must exceed the cut-off. Promising candidates should
    come first, to stop others early. Candidates beyond the final cut-off keep their order in `candidates`, as
    their results depend on which trials had finished when they began.
    """
    reached: list[float] = []

    def cut_off_s() -> float:
        return reached[keep - 1] if len(reached) >= keep else math.inf

    found: dict[int, Measured] = {}
    items = ((number, trial(each, cut_off_s())) for number, each in enumerate(candidates))
    for number, measured in track(pool.results(methodcaller("perform"), items), len(candidates), runs):
        found[number] = measured
        if measured.reached:
            insort(reached, measured.seconds)
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
    trial: Callable[[T, Rung, float], Trial],
) -> Iterator[RungResult[T]]:
    """Perform the rungs, and yield the result of each; parameters as for `select_best`."""
    remaining = list(candidates)
    for rung in rungs:

        def of_rung(candidate: T, cut_off_s: float, rung: Rung = rung) -> Trial:
            return trial(candidate, rung, cut_off_s)

        runs = f"runs of rung {rung.number}"
        result = RungResult(rung, select_best(remaining, rung.keep, goal, pool, of_rung, runs))
        yield result
        remaining = result.survivors
