"""Successive halving in virtual time: many candidates run briefly, the better ones longer.

After Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016; it is the inner loop of Hyperband (Li et al., JMLR 2018). All candidates of a rung have the same
seeds, and thus the same delays and mini-batches (common random numbers). A candidate that can no longer be
among the survivors is stopped.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from ..util.processes import Pool
from .trial import Score

T = TypeVar("T")
Work = TypeVar("Work")


@dataclass(frozen=True)
class Rung:
    """A round of the search."""

    number: int  # counted from 1
    candidates: int
    keep: int  # number of candidates that survive
    seconds: float  # maximum virtual time of a descent
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class RungResult(Generic[T]):
    """A rung's candidates with their scores, best first."""

    rung: Rung
    ranked: list[tuple[T, Score]]

    @property
    def kept(self) -> list[T]:
        return [candidate for candidate, _ in self.ranked[: self.rung.keep]]

    @property
    def cut_off_s(self) -> float:
        """Time of the worst survivor in s; infinity if not all survivors reached the target."""
        return self.ranked[min(self.rung.keep, len(self.ranked)) - 1][1].seconds


def ladder(candidates: int, eta: float, finalists: int, seconds: float, seed: int) -> list[Rung]:
    """Make the rungs that lead from `candidates` to `finalists`.

    A rung keeps 1/η of its candidates. A descent has η times the virtual time of the previous rung, and
    `seconds` on the last rung. Each rung has one seed, counted from `seed`.
    """
    counts = [candidates]
    while counts[-1] > finalists:
        counts.append(max(finalists, min(counts[-1] - 1, math.ceil(counts[-1] / eta))))
    last = len(counts) - 1
    return [
        Rung(number, before, keep, seconds / eta ** (last - number), (seed + number - 1,))
        for number, (before, keep) in enumerate(pairwise(counts), 1)
    ]


def race(
    candidates: Sequence[T],
    keep: int,
    pool: Pool,
    perform: Callable[[Work], Score],
    work: Callable[[T, float], Work],
) -> list[tuple[T, Score]]:
    """Run trials of candidates, and return all with the best `keep` first, in order.

    The cut-off is the time of the `keep`-th best so far. Candidates beyond the final cut-off keep their order
    in `candidates`, as their scores depend on which trials had finished when they began.

    Parameters
    ----------
    candidates : sequence
        The candidates, the most promising first to stop others early.
    keep : int
        Number of survivors.
    pool : Pool
        Processes that run the trials.
    perform : callable
        ``perform(trial) -> Score``.
    work : callable
        ``work(candidate, cut_off_s)`` makes the trial of a candidate, which may end once its time to the
        target must exceed the cut-off.
    """
    reached: list[float] = []

    def cut_off_s() -> float:
        return reached[keep - 1] if len(reached) >= keep else math.inf

    scores: dict[int, Score] = {}
    items = ((number, work(each, cut_off_s())) for number, each in enumerate(candidates))
    for number, score in pool.results(perform, items):
        scores[number] = score
        if score.reached:
            insort(reached, score.seconds)
    last_s = cut_off_s()
    order = sorted(
        scores, key=lambda n: (False, scores[n].key, n) if scores[n].seconds <= last_s else (True, n)
    )
    return [(candidates[number], scores[number]) for number in order]


def halve(
    candidates: Sequence[T],
    rungs: Sequence[Rung],
    pool: Pool,
    perform: Callable[[Work], Score],
    work: Callable[[T, Rung, float], Work],
) -> Iterator[RungResult[T]]:
    """Race the candidates through the rungs, and yield the result of each rung.

    `work` takes the rung as its second argument; other parameters as for `race`.
    """
    left = list(candidates)
    for rung in rungs:

        def trial(candidate: T, cut_off_s: float, rung: Rung = rung) -> Work:
            return work(candidate, rung, cut_off_s)

        result = RungResult(rung, race(left, rung.keep, pool, perform, trial))
        yield result
        left = result.kept
