"""Durations of recorded tasks without delay, estimated by low quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .base import Integers, Reals

if TYPE_CHECKING:
    from ..trace.reader import TraceReader

BASE = 0.05  # fraction of the tasks that took less than the base


def base(times: Integers) -> float:
    """Return the 5 % quantile of all workers' times, at least 0."""
    return max(0.0, float(np.quantile(times, BASE, method="lower")))


def per_worker(times: Integers, counts: Integers) -> Reals:
    """Return each worker's base: the 5 % quantile of its own times, but at least `base` of all.

    The ratio of a worker's base to `base` is taken as a property of its machine: with other work the worker
    is slower by the same factor, not by the same time. `times` has the times of all tasks, one worker after
    the other, and `counts` each worker's number of tasks. A worker without tasks has the base of all.
    """
    workers = np.repeat(np.arange(len(counts)), counts)
    ordered = times[np.lexsort((times, workers))]
    at = np.cumsum(counts) - counts + (BASE * np.maximum(counts - 1, 0)).astype(np.int64)
    own = np.take(ordered, at, mode="clip").astype(np.float64)
    return np.where(counts > 0, np.maximum(own, base(times)), base(times))


def shared_link_ns(trace: TraceReader) -> Integers:
    """Return for each arrival of a script the least link time of its step, which all workers have."""
    rows = trace.arrivals
    steps, place = np.unique(rows["task"], return_inverse=True)
    least = np.full(len(steps), np.iinfo(np.int64).max)
    np.minimum.at(least, place, rows["t_recv_ns"] - rows["t_send_ns"])
    return np.maximum(least, 0)[place]


def base_ns(trace: TraceReader) -> int:
    """Return the duration of a run's tasks without delay, in ns: `base` of their compute times.

    Time of a task beyond its worker's base counts as delay, whether injected or caused by the machine: base,
    `stretch` and delay add up to the time from start to reply.
    """
    rows = trace.arrivals
    return int(base(rows["t_compute_ns"] - rows["t_start_ns"]))
