"""Durations of recorded tasks without delay, estimated by low quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .base import Integers, Reals

if TYPE_CHECKING:
    from ..trace.reader import TraceReader

BASE = 0.05  # fraction of the tasks that took less than the base
APART = 3.0  # distance of a slow link from the usual one, over that of the quickest link, at least
SLOW_LINK = (
    0.1  # what a slow link takes longer than the usual one, over a task's time at the worker, at least
)


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


def queued_ns(arrivals: Mapping[str, np.ndarray], steps_ns: Integers) -> np.ndarray:
    """Return the time for which each payload waited while rank 0 was busy with others or with a step."""
    if not len(arrivals["t_recv_ns"]):
        return np.empty(0)
    ends = np.concatenate((arrivals["t_decoded_ns"], steps_ns))
    begins = np.concatenate((arrivals["t_recv_ns"], np.zeros_like(steps_ns)))
    order = np.argsort(ends, kind="stable")
    ends, begins = ends[order], begins[order]
    begins[1:] = np.where(begins[1:] > 0, np.maximum(begins[1:], ends[:-1]), ends[:-1])
    begins = np.minimum(begins, ends)
    busy = np.concatenate(([0], np.cumsum(ends - begins)))

    def busy_until(t_ns: np.ndarray) -> np.ndarray:
        ended = np.searchsorted(ends, t_ns)
        under_way = np.maximum(t_ns - begins[np.minimum(ended, len(ends) - 1)], 0)
        return np.asarray(busy[ended] + np.where(ended < len(ends), under_way, 0))

    sent, received = (busy_until(arrivals[f"t_{name}_ns"]) for name in ("send", "recv"))
    return np.maximum(received - sent, 0)


def slow_link_ns(trace: TraceReader) -> Reals:
    """Return what the messages of a task take longer on each worker's link than on a usual one, shape (n,).

    It is by `BASE` quantiles, without waiting at rank 0, and 0 unless it is far beyond what the links of
    usual workers differ by. Of sums of several workers, and of samples, it is not known: 0.
    """
    rows, n = trace.arrivals, trace.worker_count
    workers = rows["worker"]
    counts = np.bincount(workers, minlength=n)
    if trace.sample > 1 or trace.summed.any() or np.count_nonzero(counts) < 2:
        return np.zeros(n)
    flight_ns = rows["t_start_ns"] - rows["t_dispatch_ns"] + rows["t_recv_ns"] - rows["t_send_ns"]
    flight_ns = np.maximum(flight_ns - queued_ns(rows, trace.updates["t_ns"]), 0)
    own = np.full(n, np.nan)
    own[counts > 0] = [np.quantile(flight_ns[workers == each], BASE) for each in np.flatnonzero(counts)]
    usual, least = np.nanmedian(own), np.nanmin(own)
    own_time_ns = float(np.median(rows["t_send_ns"] - rows["t_start_ns"]))
    slow = own - usual > max(APART * (usual - least), SLOW_LINK * own_time_ns)
    return np.where(slow, own - usual, 0.0)


def base_ns(trace: TraceReader) -> int:
    """Return the duration of a run's tasks without delay, in ns: `base` of their compute times.

    Time of a task beyond its worker's base counts as delay, whether injected or caused by the machine: base,
    `stretch` and delay add up to the time from start to reply.
    """
    rows = trace.arrivals
    return int(base(rows["t_compute_ns"] - rows["t_start_ns"]))
