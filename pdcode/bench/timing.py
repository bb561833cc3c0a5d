"""Timing a piece of work beside its limit, in turn."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence

ROUNDS, LEAST_S = 15, 0.02

Work = Callable[[], object]


def in_turn(works: Sequence[Work], rounds: int = ROUNDS) -> list[list[float]]:
    """Time works in turn, A B C A B C …, so that a drift of the machine's speed hits all.

    Parameters
    ----------
    works : sequence of callables
        Each is repeated within a round until it takes about 20 ms.
    rounds : int
        Rounds that count, after one that does not.

    Returns
    -------
    list of list of float
        Seconds a call, one list a work, one entry a round.
    """
    repeats = [max(1, round(LEAST_S / max(_once(work, 1), 1e-9))) for work in works]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, repeat, mine in zip(works, repeats, times, strict=True):
            mine.append(_once(work, repeat))
    return times


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the median of first/second, round by round."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def _once(work: Work, repeat: int) -> float:
    start_s = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - start_s) / repeat


def processor() -> str:
    """Name of the processor, and how numpy's BLAS was told to treat it."""
    name = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(
                (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name
            )
    except OSError:
        pass
    core = os.environ.get("OPENBLAS_CORETYPE")
    return name + (f"; OPENBLAS_CORETYPE={core}" if core else "")
