"""What recorded tasks take without delay: low quantiles of their times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .base import Integers, Reals

if TYPE_CHECKING:
    from ..trace.reader import Trace

BASE = 0.05  # share of tasks that took less than the base


def base(times: Integers) -> float:
    """Of all workers: the 5 % quantile of all times, and never less than 0."""
    return max(0.0, float(np.quantile(times, BASE, method="lower")))


def of_workers(times: Integers, counts: Integers) -> Reals:
    """Of each worker: the 5 % quantile of its own times, of a few the least, but no less than that of all.

    How much slower than `base` a worker computes is a property of the machine: with other work it is as many
    times slower, and not later by as much.

    Parameters
    ----------
    times : ndarray
        Of all tasks, one worker after the other.
    counts : ndarray of int64, shape (m,)
        How many are each worker's.

    Returns
    -------
    ndarray of float64, shape (m,)
        In the unit of the times; `base` for a worker without any.
    """
    workers = np.repeat(np.arange(len(counts)), counts)
    ordered = times[np.lexsort((times, workers))]
    at = np.cumsum(counts) - counts + (BASE * np.maximum(counts - 1, 0)).astype(np.int64)
    own = np.take(ordered, at, mode="clip").astype(np.float64)
    return np.where(counts > 0, np.maximum(own, base(times)), base(times))


def base_ns(trace: Trace) -> int:
    """What tasks of a run took without delay, in ns: a low quantile of their compute times, see `base`.

    What a recorded task took beyond that of its own worker counts as delay, be it injected or the machine's
    own, so that base, `stretch` and delay together are the time from its start to its reply.
    """
    rows = trace.arrivals
    return int(base(rows["t_compute_ns"] - rows["t_start_ns"]))
