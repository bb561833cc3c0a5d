"""Workers that are slow sometimes: late in a part of their tasks, which no median over all of them shows.

A task is late if it takes a multiple of the usual time of all tasks that begin at about the same time. Late
tasks that follow each other closely are one event. Of equal workers each has as large a part of the events as
of the tasks; a worker with more than chance explains, by the binomial distribution, is slow sometimes.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy.special import bdtrc

LEVELS = 1.5, 2.0, 4.0, 8.0  # multiples of the usual time from which tasks are late
TIMES = 64  # parts of the run, at most, whose usual times are taken
EACH = 64  # tasks of such a part, at least
LEAST = 0.03  # part of a worker's time by which late tasks are late, at least
REGULAR = 0.1  # relative deviation of the distances of events that come regularly


class Timed(Protocol):
    """Tasks of a worker: when each began, and how long it took, in ns, both of shape (m,)."""

    @property
    def begin(self) -> np.ndarray: ...
    @property
    def total(self) -> np.ndarray: ...


class Late(NamedTuple):
    """Late tasks of a worker."""

    worker: int
    tasks: np.ndarray  # their places among its tasks
    ratios: np.ndarray  # time of each over the usual one
    excess_ns: float  # time beyond the usual one
    usual_ns: float  # mean usual time of these tasks
    chance: float  # probability that equal workers look like this
    period: int  # tasks from one event to the next, if they come regularly; else 0


def find(tasks: Sequence[Timed], told: Collection[int], apart: int, chance: float) -> list[Late]:
    """Find workers that are late in a part of their tasks.

    Parameters
    ----------
    tasks : sequence of Timed
        Of each worker.
    told : collection of int
        Workers that are slow in another way, which are left out.
    apart : int
        Tasks that are as good as independent: late ones nearer to each other are one event.
    chance : float
        Probability of a wrong verdict, at most.
    """
    workers = [worker for worker, each in enumerate(tasks) if worker not in told and len(each.begin)]
    if len(workers) < 2:
        return []
    begin = np.concatenate([tasks[worker].begin for worker in workers])
    total = np.concatenate([tasks[worker].total for worker in workers])
    usual = _usual(begin, total)
    ratios = total / usual
    counts = np.array([len(tasks[worker].begin) for worker in workers])
    ends = np.cumsum(counts)
    own = [slice(end - count, end) for end, count in zip(ends.tolist(), counts.tolist(), strict=True)]
    best: dict[int, Late] = {}
    for level in LEVELS:
        places = [np.flatnonzero(ratios[each] >= level) for each in own]
        starts = [each[np.diff(each, prepend=-apart) >= apart] for each in places]
        events = np.array([*map(len, starts)])
        parts = counts / counts.sum()
        found = bdtrc(events - 1, events.sum(), parts) * len(workers) * len(LEVELS)
        for number in np.flatnonzero((events > 1) & (found <= chance)).tolist():
            worker, late = workers[number], places[number]
            excess = total[own[number]][late] - usual[own[number]][late]
            if excess.sum() < LEAST * total[own[number]].sum():
                continue
            made = Late(
                worker, late, ratios[own[number]][late], float(excess.sum()),
                float(usual[own[number]][late].mean()), float(found[number]), _period(starts[number]),
            )  # fmt: skip
            if worker not in best or made.chance < best[worker].chance:
                best[worker] = made
    return [*best.values()]


def _usual(begin: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the median time of the tasks that begin in the same part of the run as each one."""
    parts = max(1, min(TIMES, len(begin) // EACH))
    order = np.argsort(begin, kind="stable")
    usual = np.empty(len(total))
    for part in np.array_split(order, parts):
        usual[part] = np.median(total[part])
    return np.maximum(usual, 1.0)


def _period(starts: np.ndarray) -> int:
    """Return the distance of events that come regularly; 0 if they do not."""
    apart = np.diff(starts)
    if len(apart) < 3:
        return 0
    usual = float(np.median(apart))
    regular = usual > 1 and np.mean(np.abs(apart - usual)) <= REGULAR * usual
    return round(usual) if regular else 0
