"""Use of time in a run, and slow workers: definitions and statistics. All times are in ns.

Every function takes mappings column -> array (`pdcode.trace.schema` names the columns), such as the tables of
a `Trace`. Tables may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

Columns = Mapping[str, np.ndarray]
SLOW = 1.5  # least ratio of task times of a slow worker
SLOW_ERRORS = 3.0  # least excess of that ratio over 1, in standard errors of the worker's median
EVENTS = ("dispatch", "start", "compute", "send", "recv", "decoded")


@dataclass(frozen=True)
class Split:
    """Use of each worker's time, in ns: arrays of shape (workers,) that sum to the run's length."""

    compute: np.ndarray  # from the start of a task to its payload
    delay: np.ndarray  # from the payload to its sending: the injected delay
    # From sending to arrival at rank 0, and from dispatch to start, while the worker has nothing else to do
    # (not while it computes another task).
    flight: np.ndarray
    # From arrival to decoding at rank 0, while the worker has no other task.
    decode: np.ndarray
    idle: np.ndarray  # from decoding to the dispatch of the next task
    quiet: np.ndarray  # after the decoding of the worker's last arrival


@dataclass(frozen=True)
class Pace:
    """Speed of the workers: arrays of shape (workers,)."""

    arrivals: np.ndarray  # number of recorded arrivals
    median: np.ndarray  # median task time in ns, nan without an arrival; see `task_times`
    ratio: np.ndarray  # median task time over the median of the other workers' medians; nan without others

    def slow(self) -> list[int]:
        """List the slow workers, slowest first.

        A worker is slow if its ratio is at least `SLOW` and exceeds 1 by at least `SLOW_ERRORS` standard
        errors, so that one late arrival does not make a worker slow. The relative standard error of a median
        is taken to be that of m exponential times, 1 / (√m ln 2): most task times vary less.
        """
        error = 1 / (np.sqrt(np.maximum(self.arrivals, 1)) * np.log(2))
        slow = np.flatnonzero(np.nan_to_num(self.ratio) >= np.maximum(SLOW, 1 + SLOW_ERRORS * error))
        return [int(worker) for worker in slow[np.argsort(-self.ratio[slow], kind="stable")]]

    def silent(self) -> list[int]:
        """List the workers without arrivals."""
        return [int(worker) for worker in np.flatnonzero(self.arrivals == 0)]


def length_ns(tables: Iterable[Columns]) -> int:
    """Return the length of a run in ns, from its start to the last event in any table."""
    last = [
        int(table[key].max())
        for table in tables
        for key in ("t_recv_ns", "t_decoded_ns", "t_ns")
        if key in table and len(table[key])
    ]
    return max([0, *last])


def by_worker(arrivals: Columns, workers: int) -> Iterator[np.ndarray]:
    """Yield for each worker the rows of its arrivals, in the order of its tasks' start."""
    order = np.lexsort((arrivals["t_start_ns"], arrivals["worker"]))
    ends = np.searchsorted(arrivals["worker"][order], np.arange(workers + 1))
    return (order[first:last] for first, last in pairwise(ends))


def split(arrivals: Columns, workers: int, length: int, sample: int = 1) -> Split:
    """Split a run of `length` ns for each worker.

    With `sample` > 1 only every `sample`-th task is recorded: compute, delay, flight and decode are then the
    recorded times multiplied by `sample` (scaled down if they exceed the run), and the rest counts as idle.
    """
    parts = np.zeros((len(fields(Split)), workers))
    for worker, rows in enumerate(by_worker(arrivals, workers)):
        columns = [arrivals[f"t_{event}_ns"][rows] for event in EVENTS]
        parts[:, worker] = _estimate(columns, length, sample) if sample > 1 else _partition(columns, length)
    return Split(*parts)


def _partition(columns: list[np.ndarray], length: int) -> tuple[float, ...]:
    """Split one worker's time at its tasks' times, robustly against clock errors."""
    if not len(columns[0]):
        return 0, 0, 0, 0, 0, length
    dispatch, *own, recv, decoded = columns
    times = np.stack(own, axis=1).clip(0, length)
    start, compute, send = np.maximum.accumulate(times.ravel()).reshape(-1, 3).T
    free = np.concatenate(([0], send[:-1]))  # from here to the start the worker has no task
    heard = np.clip(np.concatenate(([0], recv[:-1])), free, start)
    wait = np.maximum(np.clip(dispatch, free, start) - heard, 0)
    decode = np.clip(np.concatenate(([0], decoded[:-1])) - heard, 0, wait)
    last = np.clip(recv[-1], send[-1], length)
    end = np.clip(decoded[-1], last, length)
    flight = (start - free - wait).sum() + last - send[-1]
    return (
        (compute - start).sum(), (send - compute).sum(), flight, decode.sum() + end - last,
        (wait - decode).sum(), length - end,
    )  # fmt: skip


def _estimate(columns: list[np.ndarray], length: int, sample: int) -> tuple[float, ...]:
    """Estimate one worker's split from a sample of its tasks."""
    dispatch, start, compute, send, recv, decoded = columns
    parts = [compute - start, send - compute, recv - send + start - dispatch, decoded - recv]
    sums = sample * np.array([np.maximum(part, 0).sum() for part in parts], dtype=np.float64)
    sums *= min(1.0, length / max(sums.sum(), 1.0))
    return *sums, max(0.0, length - sums.sum()), 0.0


def coordinator(
    arrivals: Columns, updates: Columns, counters: Mapping[str, Any], length: int, sample: int = 1
) -> dict[str, float]:
    """Split a run of `length` ns for rank 0.

    Returns
    -------
    dict
        Times in ns that sum to `length`. `decode`: from an arrival, or the previous decoding or step if
        later, to its decoding. `step`: from a decoding to the following step; unknown for a sample. Rank 0's
        own measurements, the counters ``spent_<name>_ns``, replace these. `idle`: the rest.
    """
    recv, decoded = arrivals["t_recv_ns"], arrivals["t_decoded_ns"]
    if sample == 1:
        times = np.concatenate((decoded, updates["t_ns"]))
        order = np.argsort(times, kind="stable")
        end, stepped = times[order], order >= len(decoded)
        begin = np.concatenate(([0], end))[:-1]
        begin[~stepped] = np.maximum(begin[~stepped], recv[order[~stepped]])
        spent = np.maximum(end - begin, 0)
        follows = np.concatenate(([True], stepped))[:-1]  # no decoding directly before
        parts = {"decode": float(spent[~stepped].sum()), "step": float(spent[stepped & ~follows].sum())}
    else:
        parts = {"decode": float(sample * np.maximum(decoded - recv, 0).sum())}
    for key, value in counters.items():
        if key.startswith("spent_") and key.endswith("_ns"):
            parts[key.removeprefix("spent_").removesuffix("_ns")] = float(value)
    parts["idle"] = max(0.0, length - sum(parts.values()))
    return parts


def task_times(arrivals: Columns, rows: np.ndarray) -> np.ndarray:
    """Compute the time of each task of one worker, in ns, as seen by rank 0.

    It ends when the payload arrives. It begins at the dispatch, or at the sending of the worker's previous
    payload if that is later, so that waiting for the worker is not counted twice. `rows` are the worker's
    arrivals in order, as from `by_worker`.
    """
    send = arrivals["t_send_ns"][rows]
    begin = arrivals["t_dispatch_ns"][rows]
    begin = np.maximum(begin, np.concatenate((begin[:1], send[:-1])))
    return np.maximum(arrivals["t_recv_ns"][rows] - begin, 0)


def pace(arrivals: Columns, workers: int) -> Pace:
    """Compare the median task times of the workers."""
    count, median = np.zeros(workers, np.int64), np.full(workers, np.nan)
    for worker, rows in enumerate(by_worker(arrivals, workers)):
        count[worker] = len(rows)
        if len(rows):
            median[worker] = np.median(task_times(arrivals, rows))
    return Pace(count, median, _ratio_to_others(median))


def _ratio_to_others(values: np.ndarray) -> np.ndarray:
    """Divide each value by the median of the others, by one sort; nan values take no part."""
    finite = np.flatnonzero(~np.isnan(values))
    ratio = np.full(len(values), np.nan)
    if len(finite) > 1:
        order = finite[np.argsort(values[finite], kind="stable")]
        ranked, place = values[order], np.arange(len(order))
        low, high = (len(order) - 2) // 2, (len(order) - 1) // 2  # middle ranks among all values but one
        others = (ranked[low + (place <= low)] + ranked[high + (place <= high)]) / 2
        ratio[order] = ranked / np.where(others > 0, others, np.nan)
    return ratio
