"""Timing of several pieces of work in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

ROUNDS, MIN_ROUND_S = 15, 0.02

Work = Callable[[], object]


def time_in_turn(works: Sequence[Work], rounds: int = ROUNDS) -> list[list[float]]:
    """Time works in turn, A B C A B C …, so that drift of the machine's speed affects all.

    Each work is repeated within a round until it takes about 20 ms, and `rounds` rounds follow a warm-up
    round. Return seconds per call: a list per work, with one entry per round.
    """
    repeats = [max(1, round(MIN_ROUND_S / max(_once(work, 1), 1e-9))) for work in works]
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
