"""Successive halving in virtual time: many candidates get a little of it, the better ones more.

After Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016; it is the inner loop of Hyperband (Li et al., JMLR 2018). All candidates of a rung run with the
same seeds, and meet the same delays and mini-batches (common random numbers). A candidate that can no longer
be among the survivors is cut off.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from ..util.processes import Pool
from .trials import Score

T = TypeVar("T")
Work = TypeVar("Work")


@dataclass(frozen=True)
class Rung:
    """A round of the search."""

    number: int  # from 1
    candidates: int
    keep: int  # number of candidates that survive
    seconds: float  # virtual time of a descent, at the most
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Ranking(Generic[T]):
    """The candidates of a rung with their scores, best first."""

    rung: Rung
    ranked: list[tuple[T, Score]]

    @property
    def kept(self) -> list[T]:
        return [candidate for candidate, _ in self.ranked[: self.rung.keep]]

    @property
    def cut_off_s(self) -> float:
        """Time of the worst survivor; infinity if not all survivors reached the target."""
        return self.ranked[min(self.rung.keep, len(self.ranked)) - 1][1].seconds


def ladder(candidates: int, eta: float, finalists: int, seconds: float, seed: int) -> list[Rung]:
    """Make the rungs that lead from `candidates` to `finalists`.

    Each keeps 1/η of its candidates and gives a descent η times the virtual time of the rung before, the last
    of them `seconds`. Each has one seed: `seed` and those that follow.
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
    """Try candidates; find the first `keep` of them, in order.

    The cut-off is the time of the `keep`-th best so far. Who is beyond it at the end keeps its place in
    `candidates`, as what was measured of it depends on who had finished when it began.

    Parameters
    ----------
    candidates : sequence
        The most promising first, to cut the others off early.
    keep : int
    pool : Pool
    perform : callable
        ``perform(work) -> Score``.
    work : callable
        ``work(candidate, cut_off_s)``: the trial of a candidate; it may be ended once its time to the target
        must exceed the cut-off.
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
) -> Iterator[Ranking[T]]:
    """Race the candidates up the ladder; yield the ranking of each rung.

    `work` takes the rung as its second argument; the rest is as in `race`.
    """
    left = list(candidates)
    for rung in rungs:

        def trial(candidate: T, cut_off_s: float, rung: Rung = rung) -> Work:
            return work(candidate, rung, cut_off_s)

        ranking = Ranking(rung, race(left, rung.keep, pool, perform, trial))
        yield ranking
        left = ranking.kept
