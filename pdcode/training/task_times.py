"""Task times of the past: when a task is overdue, and how many replies are to be expected soon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernels import roster
from ..util.stateful import Stateful

KEPT = 32
"""Task times kept of each worker."""
LEAST = 3
"""Task times of a worker from which on its own count."""
MULTIPLE, RELATIVE = 10, 0.2
"""A task is overdue `MULTIPLE` spreads after the median; the spread is at least `RELATIVE` of the median."""
AGAIN = 2
"""A worker that came back is overdue again after so many times its longest task time that is kept."""
FLOOR_NS = 1_000_000_000
"""Least time after which a task is overdue."""


class TaskTimes(Stateful, roster.RecentTimes):
    """The last task times of each worker, from dispatch to arrival.

    Parameters
    ----------
    workers : int
    """

    state_names = ("counts", "kept_ns")

    def __init__(self, workers: int) -> None:
        super().__init__(workers, KEPT)

    def limits_ns(self) -> np.ndarray:
        """Return the time after which a task of each worker is overdue, shape (workers,); infinite: unknown.

        A worker's own limit is `MULTIPLE` interquartile ranges above its median, and at least `AGAIN` times
        the longest. No worker's limit is less than the median of the others' and its own, nor than the floor.
        """
        known = np.minimum(self.counts, KEPT)
        if not known.any():
            return np.full(len(known), np.inf)
        kept = np.sort(self.kept_ns, axis=1)  # nan last
        rows, last = np.arange(len(kept)), np.maximum(known - 1, 0)
        low, median, high, longest = (kept[rows, last * part // 4] for part in range(1, 5))
        spread = np.maximum(high - low, RELATIVE * median)
        own = np.maximum(median + MULTIPLE * spread, AGAIN * longest)
        usual = float(np.median(own[known > 0]))
        return np.maximum(np.where(known >= LEAST, own, 0), max(usual, FLOOR_NS))

    def expected_soon(self, workers: Sequence[int], elapsed_ns: Sequence[int], within_ns: float) -> float:
        """Return how many replies of workers are to be expected soon.

        Each worker's task takes as long as one of its earlier ones that took no less than this one so far;
        of a worker without any such, no reply is expected.

        Parameters
        ----------
        workers : sequence of int
            Workers that have a task …
        elapsed_ns : sequence of int
            … and for how long.
        within_ns : float
            Time from now on.
        """
        elapsed, kept = np.array(elapsed_ns, np.float64)[:, None], self.kept_ns[list(workers)]
        possible = kept >= elapsed  # no number is ≥ nan
        soon = (possible & (kept <= elapsed + within_ns)).sum(axis=1)
        return float((soon / np.maximum(possible.sum(axis=1), 1)).sum())
