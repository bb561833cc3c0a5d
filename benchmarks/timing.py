"""Timing of several pieces of work in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

ROUNDS, LEAST_S = 15, 0.02

Work = Callable[[], object]


def in_turn(works: Sequence[Work], rounds: int = ROUNDS) -> list[list[float]]:
    """Time works in turn, A B C A B C …, so that drift of the machine's speed affects all.

    Parameters
    ----------
    works : sequence of callables
        Calls to time; each is repeated within a round until it takes about 20 ms.
    rounds : int
        Number of rounds after a warm-up round.

    Returns
    -------
    list of list of float
        Seconds per call: a list per work, with one entry per round.
    """
    repeats = [max(1, round(LEAST_S / max(_once(work, 1), 1e-9))) for work in works]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, repeat, mine in zip(works, repeats, times, strict=True):
            mine.append(_once(work, repeat))
    return times


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the median over rounds of first/second."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def _once(work: Work, repeat: int) -> float:
    start_s = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - start_s) / repeat
