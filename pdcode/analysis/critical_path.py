"""The critical path of a run across its ranks: the chain of events that the last step had to wait for.

It is followed backward. A step waited for the last payload that it used, or, of a reduction by the workers,
for the last one that was ready. A payload waited for its task; its task for the event that rank 0 handled
before it was sent: a step, or the decoding of a payload. Hollingsworth, "Critical path profiling of message
passing and shared-memory programs", IEEE TPDS 1998, has the path of a message-passing program.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..stragglers import bases
from ..trace.reader import TraceReader
from ..trace.schema import APPLIED, DRAINED, TIME
from . import timing
from .timing import Columns

STAGES = "link down", "compute", "delay", "send", "link up", "queue", "decode"
"""Stages of a task, in order: on its way to the worker, computed, delayed by injection, waiting to
be sent, on its way to rank 0, waiting there for other payloads and steps, decoded. Of a task's later
messages, the stages of earlier ones at the worker, too."""
OWN = "step", "waiting", "dispatch"
"""Rank 0's own parts of the path: from a decoding to the step; the same where the step was due to a time-out;
from an event to the dispatch of the task that follows."""


def stages(arrivals: Columns, steps_ns: np.ndarray, queued_ns: np.ndarray | None = None) -> np.ndarray:
    """Split each task's time, from its dispatch to its decoding, into `STAGES`.

    Parameters
    ----------
    arrivals : mapping of str to ndarray
        Columns of a trace's table.
    steps_ns : ndarray of int64, shape (updates,)
        Times of the steps.
    queued_ns : ndarray of float64, shape (m,), optional
        `timing.queued_ns` of the arrivals, if it is known.

    Returns
    -------
    ndarray of int64, shape (7, m)
        Times in ns, none below 0.
    """
    events = "dispatch", "start", "compute", "send", "recv", "decoded"
    times = np.maximum.accumulate(np.stack([arrivals[f"t_{event}_ns"] for event in events]), axis=0)
    decoded, order, _ = _rank_0(times[-1], steps_ns)
    ends = np.concatenate((times[-1], steps_ns))[order]
    before = np.zeros_like(times[-1])
    before[order[decoded]] = np.concatenate(([0], ends))[:-1][decoded]
    down, compute, gap, up, rest = np.diff(times, axis=0)
    delay = timing.injected_ns(gap, arrivals["injected_delay_ns"])
    own = np.stack((compute, delay, gap - delay))
    if arrivals["part"].any():
        earlier = _earlier_messages(arrivals, own)
        earlier = (earlier * np.minimum(1.0, down / np.maximum(earlier.sum(axis=0), 1))).astype(np.int64)
        down, own = down - earlier.sum(axis=0), own + earlier
    queued = bases.queued_ns(arrivals, steps_ns) if queued_ns is None else queued_ns
    queued = np.clip(queued, 0, up).astype(np.int64)
    later = np.clip(before - times[-2], 0, rest)
    return np.stack((down, *own, up - queued, queued + later, rest - later))


def _earlier_messages(arrivals: Columns, own: np.ndarray) -> np.ndarray:
    """Return the times `own`, (stages, m), of all earlier messages of the same task."""
    order = np.lexsort((arrivals["part"], arrivals["task"], arrivals["worker"]))
    first = np.append(True, arrivals["part"][order][1:] == 0)
    before = np.cumsum(own[:, order], axis=1) - own[:, order]
    earlier = np.empty_like(own)
    earlier[:, order] = before - before[:, first][:, np.cumsum(first) - 1]
    return earlier


def _rank_0(decoded_ns: np.ndarray, steps_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order rank 0's events, decodings before steps of the same time.

    Return a mask of the decodings, the order, and each event's place in it; an event is a row of arrivals or,
    after them, an update.
    """
    order = np.argsort(np.concatenate((decoded_ns, steps_ns)), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return order < len(decoded_ns), order, place


@dataclass(frozen=True)
class CriticalPath:
    """The critical path of a run.

    Attributes
    ----------
    rows : ndarray of int64, shape (hops,)
        Arrivals on the path, the first at the beginning of the run.
    begin_ns, end_ns : ndarray of int64, shape (pieces,)
        The pieces of the path, in order.
    whose, part : ndarray of int64, shape (pieces,)
        Worker of each piece, n for rank 0, and what happens in it: a place in `STAGES` and `OWN`.
    worker_count : int
        Number of workers n.
    """

    rows: np.ndarray
    begin_ns: np.ndarray
    end_ns: np.ndarray
    whose: np.ndarray
    part: np.ndarray
    worker_count: int

    @cached_property
    def spent_ns(self) -> np.ndarray:
        """Time on the path by worker, at the end rank 0, and by `STAGES` and `OWN`: float64, (n + 1, 10)."""
        shape = self.worker_count + 1, len(STAGES + OWN)
        cells = np.ravel_multi_index((self.whose, self.part), shape)
        return np.bincount(cells, self.end_ns - self.begin_ns, math.prod(shape)).reshape(shape)

    @property
    def length_ns(self) -> int:
        """Length from the beginning of the path to the last step."""
        return int((self.end_ns - self.begin_ns).sum())

    @property
    def by_part(self) -> dict[str, float]:
        """Time of each part of the path in ns."""
        return dict(zip(STAGES + OWN, self.spent_ns.sum(axis=0).tolist(), strict=True))

    @property
    def workers(self) -> Sequence[int]:
        """Workers on the path, the one with the most time first."""
        total = self.spent_ns[:-1].sum(axis=1)
        return [int(worker) for worker in np.argsort(-total, kind="stable") if total[worker] > 0]


@timing.once
def stages_of(trace: TraceReader) -> np.ndarray:
    """Return the `stages` of a run's tasks, computed once."""
    return stages(trace.arrivals, trace.updates["t_ns"], timing.queued_of(trace))


@timing.once
def of_trace(trace: TraceReader, until_ns: float = math.inf) -> CriticalPath | None:
    """Return the critical path of a run; None without steps, or if not all arrivals were recorded.

    It ends with the last step until `until_ns`.
    """
    if trace.sample > 1 or not trace.updates.rows or not trace.arrivals.rows:
        return None
    rows, steps, summed = trace.arrivals, trace.updates, trace.summed
    return critical_path(rows, steps, trace.worker_count, summed, until_ns, stages_of(trace))


def critical_path(
    arrivals: Columns,
    updates: Columns,
    workers: int,
    shared: bool | np.ndarray = False,
    until_ns: float = math.inf,
    split: np.ndarray | None = None,
) -> CriticalPath | None:
    """Follow the critical path from a step back to the start.

    Parameters
    ----------
    arrivals, updates : mapping of str to ndarray
        Columns of a trace's tables, all rows.
    workers : int
        Number of workers n.
    shared : bool or ndarray of bool, shape (m,)
        Whether payloads are added up by the workers, so that the last one that was ready decides.
    until_ns : float, default: inf
        Time of the step, at the latest.
    split : ndarray of int64, shape (7, m), optional
        `stages` of the arrivals, if they are known.

    Returns
    -------
    CriticalPath or None
        None if no step used a recorded payload.
    """
    split, m = stages(arrivals, updates["t_ns"]) if split is None else split, len(arrivals["worker"])
    decoded_ns = arrivals["t_dispatch_ns"] + split.sum(axis=0)
    cause, place = _causes(arrivals, updates, decoded_ns, shared)
    caused = m + np.flatnonzero((cause[m:] >= 0) & (updates["t_ns"] <= until_ns))
    causes, places = cause.tolist(), place.tolist()
    event = int(caused[-1]) if len(caused) else -1
    steps, rows, begun_by = list[int](), list[int](), list[int]()
    while event >= 0:
        before = causes[event]
        if before >= 0 and places[before] >= places[event]:  # in damaged files
            before = -1
        if event >= m:
            steps.append(event - m)
        else:
            rows.append(event)
            begun_by.append(before)
        event = before
    if not rows:
        return None
    dispatch_ns, steps_ns = arrivals["t_dispatch_ns"], updates["t_ns"]
    at, whose, by = np.array(rows), arrivals["worker"][rows], np.array(begun_by)
    # A task's stages, until the next one on the path begins.
    until = decoded_ns[at] - np.append(0, np.maximum(decoded_ns[at[1:]] - dispatch_ns[at[:-1]], 0))
    edges = dispatch_ns[at] + np.concatenate(
        (np.zeros((1, len(at)), np.int64), np.cumsum(split[:, at], axis=0))
    )
    edges = np.minimum(edges, until)
    part = np.repeat(np.arange(len(STAGES)), len(at))
    pieces = [(edges[:-1].ravel(), edges[1:].ravel(), np.tile(whose, len(STAGES)), part)]
    # Rank 0 from a decoding to the step, and from an event to the dispatch that follows.
    step, end_ns = np.array(steps), steps_ns.copy()
    end_ns[by[by >= m] - m] = np.minimum(end_ns[by[by >= m] - m], dispatch_ns[at[by >= m]])
    step = step[cause[m + step] >= 0]
    late = np.where(updates["why"][step] == TIME, OWN.index("waiting"), OWN.index("step"))
    begun, every = by >= 0, np.concatenate((decoded_ns, steps_ns))
    sent = np.full(int(begun.sum()), OWN.index("dispatch"))
    for begins, ends, own in (
        (decoded_ns[cause[m + step]], end_ns[step], late),
        (every[by[begun]], dispatch_ns[at[begun]], sent),
    ):
        pieces.append((begins, ends, np.full(len(own), workers), len(STAGES) + own))
    begin, end, whose, part = (np.concatenate(each) for each in zip(*pieces, strict=True))
    order = np.lexsort((end, begin))
    order = order[end[order] > begin[order]]
    return CriticalPath(at[::-1], begin[order], end[order], whose[order], part[order], workers)


def _causes(
    arrivals: Columns, updates: Columns, decoded_ns: np.ndarray, shared: bool | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which event caused each of rank 0's, -1 if none did, and its place in their order.

    Events are the arrivals, in their order, then the steps.
    """
    m, dispatch_ns, steps_ns = len(decoded_ns), arrivals["t_dispatch_ns"], updates["t_ns"]
    ready = np.where(shared, arrivals["t_send_ns"], decoded_ns)
    _, order, place = _rank_0(decoded_ns, steps_ns)
    # Each step's payload: of those with its version, the last.
    used = np.flatnonzero(np.isin(arrivals["status"], APPLIED))
    used = used[np.lexsort((ready[used], arrivals["applied_version"][used]))]
    versions = arrivals["applied_version"][used]
    last = np.searchsorted(versions, updates["version"] - 1, side="right") - 1
    known = last >= 0
    known[known] = versions[last[known]] == updates["version"][known] - 1
    cause = np.full(m + len(steps_ns), -1)
    cause[m:][known] = used[last[known]]
    # Each payload's cause: rank 0's last event until the dispatch of its task, of those before its decoding.
    ends = np.concatenate((decoded_ns, steps_ns))[order]
    until = np.minimum(np.searchsorted(ends, dispatch_ns, side="right"), place[:m]) - 1
    cause[:m] = np.where(until >= 0, order[until], -1)
    # Workers that add up payloads step before rank 0 does, and begin the next task at once.
    begun = np.minimum(np.searchsorted(updates["version"], arrivals["version"]), len(steps_ns) - 1)
    cause[:m] = np.where(shared & (updates["version"][begun] == arrivals["version"]), m + begun, cause[:m])
    return cause, place


def latencies(trace: TraceReader) -> dict[str, np.ndarray]:
    """Return median, 90 % and 99 % quantile and maximum, in ns, of tasks and of their `STAGES`.

    Only arrivals before the stop count; parts that took no time in any task are left out.
    """
    split = stages_of(trace)[:, trace.arrivals["status"] != DRAINED]
    if not split.shape[1]:
        return {}
    parts = {"task": split.sum(axis=0), **dict(zip(STAGES, split, strict=True))}
    return {name: np.quantile(times, [0.5, 0.9, 0.99, 1.0]) for name, times in parts.items() if times.any()}
