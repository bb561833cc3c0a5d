"""Oracle lower bound: the time of a scheduler that knows all delays and balances the work perfectly.

No schedule of the same tasks is faster. A scheme's time as a multiple of the oracle's shows how much could
still be gained: by dropping fewer payloads, by less waiting, or by better balance.
"""

import math

import numpy as np

from .. import stragglers
from ..config import Config
from ..schemes import delay_model

NEVER_NS = 2**61  # end of a dead worker's task
MIN_DRAWN = 16  # tasks of a worker drawn at a time, within `MAX_TASKS`
MAX_TASKS = 4_000_000  # tasks of all workers drawn at a time; also about the number stored


def oracle_s(config: Config, work: float, compute_ns: np.ndarray, model: stragglers.DelayModel) -> float:
    """Return the least time T, in seconds, in which all workers together complete `work` tasks.

    T is minimal with Σ_i tasks_i(T) ≥ work, where tasks_i(T) is the number of tasks that worker i completes
    by T back to back, each in its compute time (`compute_ns`, int64, shape (workers,)) and delay; partial
    tasks count by the fraction completed. The link and rank 0 take no time. Dead workers contribute nothing;
    T is infinite if all workers die before.
    """
    if work <= 0:
        return 0.0
    compute_ns = np.asarray(compute_ns, np.int64)
    drawn = np.zeros(config.workers.count, np.int64)  # tasks drawn for each worker
    free = np.zeros_like(drawn)  # the time when they end
    tasks: list[np.ndarray] = []  # starts and ends of tasks, without those counted in `before`
    before = 0  # tasks that end before the earliest end of a worker's drawn tasks
    aim, needed = 1, 1.25 * work / len(drawn)
    while True:
        behind = np.flatnonzero(free < aim)
        count = min(max(math.ceil(needed), MIN_DRAWN), max(1, MAX_TASKS // len(behind)))
        edges = _edges(model, behind, drawn[behind], count, compute_ns[behind], free[behind])
        begin, end = edges[:, :-1].ravel(), edges[:, 1:].ravel()
        ending = slice(None) if edges[:, -1].max() < NEVER_NS else end < NEVER_NS
        tasks.append(np.stack((begin[ending], end[ending])))
        drawn[behind] += count
        free[behind] = edges[:, -1]
        behind = behind[edges[:, -1] < aim]
        if not len(behind) or sum(map(np.size, tasks)) > 4 * MAX_TASKS:
            horizon = int(free.min())
            begin, end = np.concatenate(tasks, axis=1)
            amount = before + _tasks_done(begin, end, horizon)
            if amount >= work:
                return 1e-9 * _completion_ns(begin, end, work - before, horizon)
            if horizon >= NEVER_NS:
                return math.inf
            kept = end > horizon
            before += len(kept) - int(np.count_nonzero(kept))
            tasks = [np.stack((begin[kept], end[kept]))]
            alive = free < NEVER_NS
            rate = float((drawn[alive] / free[alive]).sum())  # tasks per ns
            aim = min(NEVER_NS, horizon + 1 + int(1.1 * min(work - amount, MAX_TASKS) / rate))
            behind = np.flatnonzero(free < aim)
        needed = float(np.median((aim - free[behind]) / free[behind] * drawn[behind]))


def time_s(config: Config, task_ns: np.ndarray, tasks: float) -> float:
    """Return `oracle_s` with a configuration's delays; `task_ns` has shape (1,), for all workers, or (n,)."""
    compute_ns = np.broadcast_to(task_ns, config.workers.count)
    return oracle_s(config, tasks, compute_ns, delay_model(config))


def _edges(
    model: stragglers.DelayModel,
    workers: np.ndarray,
    first: np.ndarray,
    count: int,
    compute_ns: np.ndarray,
    free: np.ndarray,
) -> np.ndarray:
    """Return the starts of each worker's next tasks and the end of the last, int64, shape (m, count + 1)."""
    edges = np.empty((len(workers), count + 1), np.int64)
    edges[:, 0] = free
    delays_ns = stragglers.delays_ns(model, workers, first, count, compute_ns)
    np.add(delays_ns, compute_ns[:, None], out=edges[:, 1:])
    np.maximum(edges[:, 1:], 1, out=edges[:, 1:])  # each task takes at least 1 ns
    late = None
    if int(edges[:, 1:].max()) * count + int(free.max()) >= NEVER_NS:  # int64 would overflow
        late = np.cumsum(edges, axis=1, dtype=np.float64) >= NEVER_NS
    np.cumsum(edges, axis=1, out=edges)
    if late is not None:
        edges[late] = NEVER_NS
    if (delays_ns < 0).any():
        edges[:, 1:][np.logical_or.accumulate(delays_ns < 0, axis=1)] = NEVER_NS
    return edges


def _completion_ns(begin: np.ndarray, end: np.ndarray, work: float, high: int) -> float:
    """Return the least time in ns, at most `high`, by which `work` tasks are done, interpolated exactly."""
    before, low = 0, 0  # tasks that ended before `low`, dropped from the arrays
    while high - low > 1:
        middle = (low + high) // 2
        if before + _tasks_done(begin, end, middle) >= work:
            high, kept = middle, begin < middle
        else:
            low, kept = middle, end > middle
            before += len(kept) - int(np.count_nonzero(kept))
        begin, end = begin[kept], end[kept]
    at_low, at_high = (before + _tasks_done(begin, end, when) for when in (low, high))
    return float(low + max(0.0, (work - at_low) / (at_high - at_low)))


def _tasks_done(begin: np.ndarray, end: np.ndarray, when: int) -> float:
    """Return the number of tasks done by a time in ns, partial tasks included."""
    whole = end <= when
    part = np.flatnonzero((begin < when) & ~whole)
    return float(np.count_nonzero(whole) + ((when - begin[part]) / (end[part] - begin[part])).sum())
