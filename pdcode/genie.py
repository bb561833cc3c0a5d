"""The time of an oracle that knows all delays in advance and balances work perfectly over the workers.

No schedule of the same tasks is quicker, so the time that a scheme takes, as a multiple of the oracle's, says
how much is left to gain: by fewer tasks that nobody uses, by less waiting, or by a better balance.
"""

from __future__ import annotations

import math

import numpy as np

from . import stragglers
from .config import Config

NEVER_NS = 2**61  # when a task of a dead worker ends
LEAST = 16  # tasks of a worker that are drawn at a time …
MOST = 4_000_000  # … and of all workers together, after the first time


def genie_s(config: Config, work: float, compute_ns: np.ndarray, model: stragglers.Model) -> float:
    """The least time T in which all workers together do so many tasks' worth of work.

    Σ_i tasks_i(T) ≥ work, where tasks_i(T) is how many of its tasks worker i has done by T if it does them
    back to back, each in its compute time and its delay, and a task that is half done counts as half. The
    link and rank 0 take no time. A dead worker does nothing.

    Parameters
    ----------
    config : Config
        For the number of workers.
    work : float
        Tasks, at least 0.
    compute_ns : ndarray of int64, shape (workers,)
        Compute time of a task of each worker.
    model : stragglers.Model
        Of the delays.

    Returns
    -------
    float
        Seconds; infinite if the workers die before.
    """
    if work <= 0:
        return 0.0
    workers = np.arange(config.workers.count, dtype=np.int64)
    compute_ns = np.asarray(compute_ns, np.int64)
    blocks: list[np.ndarray] = []
    done, free = 0, np.zeros_like(workers)  # tasks of each of these workers so far, and when they are done
    count, until = max(LEAST, math.ceil(1.25 * work / len(workers))), math.inf
    while True:
        edges = _edges(model, workers, done, count, compute_ns[workers], free)
        blocks.append(edges)
        # With the tasks that are drawn it takes this long; who has none left by then may shorten it.
        until = _least(blocks, work)
        done += count
        last = edges[:, -1]
        more = last < min(until, NEVER_NS)
        if not more.any():
            return 1e-9 * until
        workers, free = workers[more], last[more]
        wanted = 1.25 * done * float((until / free).max() - 1) if until < NEVER_NS else done
        count = max(LEAST, math.ceil(min(wanted, MOST / len(workers))))


def _edges(
    model: stragglers.Model,
    workers: np.ndarray,
    first: int,
    count: int,
    compute_ns: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """When each worker's next tasks begin, and the last of them ends; int64 of shape (m, count + 1)."""
    edges = np.empty((len(workers), count + 1), np.int64)
    edges[:, 0] = free
    delays_ns = stragglers.delays_ns(model, workers, np.full_like(workers, first), count, compute_ns)
    np.add(delays_ns, compute_ns[:, None], out=edges[:, 1:])
    np.maximum(edges[:, 1:], 1, out=edges[:, 1:])  # else a worker could do any number of tasks at once
    late = None
    if int(edges[:, 1:].max()) * count + int(free.max()) >= NEVER_NS:  # beyond what the numbers hold
        late = np.cumsum(edges, axis=1, dtype=np.float64) >= NEVER_NS
    np.cumsum(edges, axis=1, out=edges)
    if late is not None:
        edges[late] = NEVER_NS
    if (delays_ns < 0).any():
        edges[:, 1:][np.logical_or.accumulate(delays_ns < 0, axis=1)] = NEVER_NS
    return edges


def _least(blocks: list[np.ndarray], work: float) -> float:
    """The least time in ns in which tasks between these edges add up to so many; exact, for between whole ns
    the sum is linear."""
    begin = np.concatenate([edges[:, :-1].ravel() for edges in blocks])
    end = np.concatenate([edges[:, 1:].ravel() for edges in blocks])
    if (end >= NEVER_NS).any():
        begin, end = begin[end < NEVER_NS], end[end < NEVER_NS]
    if len(end) < work:
        return math.inf
    before, low, high = 0.0, 0, int(end.max())  # tasks that are done at `low` and no longer in the arrays
    while high - low > 1:
        middle = (low + high) // 2
        if before + _amount(begin, end, middle) >= work:
            high, kept = middle, begin < middle
        else:
            low, kept = middle, end > middle
            before += len(kept) - np.count_nonzero(kept)
        begin, end = begin[kept], end[kept]
    at_low, at_high = (before + _amount(begin, end, when) for when in (low, high))
    return float(low + max(0.0, (work - at_low) / (at_high - at_low)))


def _amount(begin: np.ndarray, end: np.ndarray, when: int) -> float:
    """Tasks done by then."""
    whole = end <= when
    part = np.flatnonzero((begin < when) & ~whole)
    return float(np.count_nonzero(whole) + ((when - begin[part]) / (end[part] - begin[part])).sum())
