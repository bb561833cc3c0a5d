"""The time of an oracle that knows all delays in advance and balances work perfectly over the workers.

No schedule of the same tasks is quicker, so the time that a scheme takes, as a multiple of the oracle's, says
how much is left to gain: by fewer tasks that nobody uses, by less waiting, or by a better balance.
"""

from __future__ import annotations

import math

import numpy as np

from .. import stragglers
from ..config.tables import Config

NEVER_NS = 2**61  # when a task of a dead worker ends
LEAST = 16  # tasks of a worker that are drawn at a time, unless that makes more …
MOST = 4_000_000  # … than these of all workers together, about which are kept


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
    compute_ns = np.asarray(compute_ns, np.int64)
    drawn = np.zeros(config.workers.count, np.int64)  # tasks of each worker so far …
    free = np.zeros_like(drawn)  # … and when they are done
    tasks: list[np.ndarray] = []  # their beginnings and ends, but for those …
    before = 0  # … that are over by the time up to which all are known
    aim, wanted = 1, 1.25 * work / len(drawn)
    while True:
        behind = np.flatnonzero(free < aim)
        count = min(max(math.ceil(wanted), LEAST), max(1, MOST // len(behind)))
        edges = _edges(model, behind, drawn[behind], count, compute_ns[behind], free[behind])
        begin, end = edges[:, :-1].ravel(), edges[:, 1:].ravel()
        ending = slice(None) if edges[:, -1].max() < NEVER_NS else end < NEVER_NS
        tasks.append(np.stack((begin[ending], end[ending])))
        drawn[behind] += count
        free[behind] = edges[:, -1]
        behind = behind[edges[:, -1] < aim]
        if not len(behind) or sum(map(np.size, tasks)) > 4 * MOST:
            known = int(free.min())
            begin, end = np.concatenate(tasks, axis=1)
            amount = before + _amount(begin, end, known)
            if amount >= work:
                return 1e-9 * _least(begin, end, work - before, known)
            if known >= NEVER_NS:
                return math.inf
            kept = end > known
            before += len(kept) - int(np.count_nonzero(kept))
            tasks = [np.stack((begin[kept], end[kept]))]
            alive = free < NEVER_NS
            rate = float((drawn[alive] / free[alive]).sum())  # tasks a ns
            aim = min(NEVER_NS, known + 1 + int(1.1 * min(work - amount, MOST) / rate))
            behind = np.flatnonzero(free < aim)
        wanted = float(np.median((aim - free[behind]) / free[behind] * drawn[behind]))


def time_s(config: Config, task_ns: int, tasks: int) -> float:
    """`genie_s` for equal workers, under the delays of a configuration."""
    workers = config.workers.count
    model = config.stragglers.make(config.seed, workers)
    return genie_s(config, tasks, np.full(workers, task_ns, np.int64), model)


def _edges(
    model: stragglers.Model,
    workers: np.ndarray,
    first: np.ndarray,
    count: int,
    compute_ns: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """When each worker's next tasks begin, and the last of them ends; int64 of shape (m, count + 1)."""
    edges = np.empty((len(workers), count + 1), np.int64)
    edges[:, 0] = free
    delays_ns = stragglers.delays_ns(model, workers, first, count, compute_ns)
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


def _least(begin: np.ndarray, end: np.ndarray, work: float, high: int) -> float:
    """The least time in ns, `high` at the most, by which so much of tasks is done; exact, for between whole
    ns that is linear."""
    before, low = 0, 0  # tasks that are done at `low` and no longer in the arrays
    while high - low > 1:
        middle = (low + high) // 2
        if before + _amount(begin, end, middle) >= work:
            high, kept = middle, begin < middle
        else:
            low, kept = middle, end > middle
            before += len(kept) - int(np.count_nonzero(kept))
        begin, end = begin[kept], end[kept]
    at_low, at_high = (before + _amount(begin, end, when) for when in (low, high))
    return float(low + max(0.0, (work - at_low) / (at_high - at_low)))


def _amount(begin: np.ndarray, end: np.ndarray, when: int) -> float:
    """Tasks done by then."""
    whole = end <= when
    part = np.flatnonzero((begin < when) & ~whole)
    return float(np.count_nonzero(whole) + ((when - begin[part]) / (end[part] - begin[part])).sum())
