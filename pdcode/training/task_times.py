"""Recent task times: when a task is overdue, and how many replies are expected soon."""

from collections.abc import Sequence

import numpy as np

from ..kernels import roster
from ..util.stateful import Stateful

RECENT = 32  # task times stored for each worker
MIN_RECENT = 3  # task times of a worker before its own limit applies
MULTIPLE, RELATIVE = 10, 0.2  # overdue: spreads after the median; least spread relative to the median
LONGEST_MULTIPLE = 2  # a worker is not overdue before this multiple of its longest recent task time
FLOOR_NS = 1_000_000_000  # least limit


class TaskTimes(Stateful, roster.RecentTimes):
    """The last task times of each worker, from dispatch to arrival."""

    state_names = ("counts", "kept_ns")

    def __init__(self, workers: int) -> None:
        super().__init__(workers, RECENT)

    def last(self, workers: np.ndarray, most: int) -> np.ndarray:
        """Return the last times of these workers, the newest first, shape (m, most); nan: none yet."""
        counts = np.array(self.counts, np.int64)[workers, None] - 1 - np.arange(most)
        return np.where(counts < 0, np.nan, self.kept_ns[workers[:, None], counts % RECENT])

    def limits_ns(self) -> np.ndarray:
        """Return the time after which a task of each worker is overdue, shape (workers,); infinite: unknown.

        A worker's own limit is `MULTIPLE` interquartile ranges above its median, and at least
        `LONGEST_MULTIPLE` times its longest time. No limit is below the median of all workers' own limits,
        nor below `FLOOR_NS`.
        """
        known = np.minimum(self.counts, RECENT)
        if not known.any():
            return np.full(len(known), np.inf)
        kept = np.sort(self.kept_ns, axis=1)  # nan last
        rows, last = np.arange(len(kept)), np.maximum(known - 1, 0)
        low, median, high, longest = (kept[rows, last * part // 4] for part in range(1, 5))
        spread = np.maximum(high - low, RELATIVE * median)
        own = np.maximum(median + MULTIPLE * spread, LONGEST_MULTIPLE * longest)
        usual = float(np.median(own[known > 0]))
        return np.maximum(np.where(known >= MIN_RECENT, own, 0), max(usual, FLOOR_NS))

    def expected_soon(self, workers: Sequence[int], elapsed_ns: Sequence[int], within_ns: float) -> float:
        """Return the expected number of replies within a time, given workers and their elapsed times.

        Each worker's task takes as long as one of its recent tasks that took no less than the elapsed time;
        without such a task, no reply is expected.
        """
        elapsed, kept = np.array(elapsed_ns, np.float64)[:, None], self.kept_ns[list(workers)]
        possible = kept >= elapsed  # no number is ≥ nan
        soon = (possible & (kept <= elapsed + within_ns)).sum(axis=1)
        return float((soon / np.maximum(possible.sum(axis=1), 1)).sum())
