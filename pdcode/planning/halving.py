"""Successive halving in virtual time: many candidates get a little of it, the better ones more.

After Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016; it is the inner loop of Hyperband (Li et al., JMLR 2018). All candidates of a rung run with the
same seeds, so they meet the same delays and mini-batches: their differences are those of the candidates. A
candidate that cannot be among the survivors any more is cut off.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

from ..util.processes import Pool

T = TypeVar("T")
Work = TypeVar("Work")


class Scored(Protocol):
    """The score of a candidate; see `trials.Score`."""

    @property
    def mean(self) -> float: ...

    @property
    def reached(self) -> bool: ...

    @property
    def key(self) -> tuple[float, bool, float]: ...


S = TypeVar("S", bound=Scored)


@dataclass(frozen=True)
class Rung:
    """A round of the search.

    Attributes
    ----------
    number : int
        From 1.
    candidates, keep : int
        How many are tried, and how many go on.
    seconds : float
        Virtual time of each of their descents, at the most.
    seeds : tuple of int
    """

    number: int
    candidates: int
    keep: int
    seconds: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Ranking(Generic[T, S]):
    """What a rung came to: its candidates with their scores, the best first; `keep` of them go on."""

    rung: Rung
    ranked: list[tuple[T, S]]

    @property
    def kept(self) -> list[T]:
        return [candidate for candidate, _ in self.ranked[: self.rung.keep]]

    @property
    def bar(self) -> float:
        """The score that a survivor had at worst."""
        return self.ranked[min(self.rung.keep, len(self.ranked)) - 1][1].mean


def ladder(candidates: int, eta: float, finalists: int, seconds: float, seed: int) -> list[Rung]:
    """The rungs that lead from so many candidates to so many finalists.

    Each keeps 1/η of its candidates and gives them η times the virtual time of the one before, the last of
    them `seconds`; the rungs have one seed each, none of them the same.

    Parameters
    ----------
    candidates, finalists : int
    eta : float
        More than 1.
    seconds : float
        Virtual time of a descent on the last rung.
    seed : int
        Of the first rung.
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
    rung: Rung,
    pool: Pool,
    perform: Callable[[Work], S],
    work: Callable[[T, Rung, float], Work],
) -> Ranking[T, S]:
    """Try the candidates of a rung.

    Parameters
    ----------
    candidates : sequence
        The most promising first, so that the others are cut off early.
    rung : Rung
    pool : Pool
    perform : callable
        ``perform(work) -> score``.
    work : callable
        ``work(candidate, rung, bar)``: what is to be done; if the candidate's mean time to the goal must come
        out beyond the bar, it need not be done to the end.
    """
    reached: list[float] = []

    def items() -> Iterator[tuple[int, Work]]:
        for number, candidate in enumerate(candidates):
            bar = reached[rung.keep - 1] if len(reached) >= rung.keep else math.inf
            yield number, work(candidate, rung, bar)

    scores: dict[int, S] = {}
    for number, score in pool.results(perform, items()):
        scores[number] = score
        if score.reached:
            insort(reached, score.mean)
    # What was found of those beyond the bar depends on who was done when they began.
    bar = reached[rung.keep - 1] if len(reached) >= rung.keep else math.inf
    order = sorted(scores, key=lambda n: (False, scores[n].key, n) if scores[n].mean <= bar else (True, n))
    return Ranking(rung, [(candidates[number], scores[number]) for number in order])


def halve(
    candidates: Sequence[T],
    rungs: Sequence[Rung],
    pool: Pool,
    perform: Callable[[Work], S],
    work: Callable[[T, Rung, float], Work],
    say: Callable[[Ranking[T, S]], None],
) -> tuple[list[T], list[Ranking[T, S]]]:
    """Climb the ladder; return the finalists, the best first, and what each rung came to.

    The first candidate is the user's own: it is among the finalists, as one more if it is none of the best.
    """
    left, rankings = list(candidates), []
    for rung in rungs:
        ranking = race(left, rung, pool, perform, work)
        rankings.append(ranking)
        say(ranking)
        left = ranking.kept
    own = candidates[0]
    return left if any(each is own for each in left) else [*left, own], rankings
