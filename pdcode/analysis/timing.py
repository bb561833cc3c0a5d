"""Where the time of a run went, and which worker is slow: definitions and numbers. All times are in ns.

Every function takes mappings column -> array (`pdcode.trace.schema` names the columns), so that it works on
the tables of a `Trace` and on a few numbers typed into a test alike. Tables may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np

Columns = Mapping[str, np.ndarray]
SLOW = 1.5  # a worker is called slow from this ratio on …
SLOW_ERRORS = 3.0  # … if that is at least as many standard errors of its median
EVENTS = ("dispatch", "start", "compute", "send", "recv", "decoded")


@dataclass(frozen=True)
class Split:
    """How each worker spent a run, in ns: arrays of shape (workers,) that sum to the run's length."""

    compute: np.ndarray  # from the start of a task to its payload
    delay: np.ndarray  # from the payload to its sending: the injected delay
    # From the sending to the arrival at rank 0, and from rank 0's dispatch to the start, while the worker has
    # nothing else to do (a task that was sent ahead while it computed is not counted).
    flight: np.ndarray
    # Rank 0 has the worker's last payload and has not decoded it: it decodes, or serves others first. Not
    # counted while the worker is busy with a task that was sent ahead.
    decode: np.ndarray
    idle: np.ndarray  # rank 0 has decoded the worker's last payload, and has not sent a new task
    quiet: np.ndarray  # after the decoding of the worker's last arrival


@dataclass(frozen=True)
class Pace:
    """How fast the workers are: arrays of shape (workers,)."""

    arrivals: np.ndarray  # recorded arrivals
    median: np.ndarray  # median task time in ns, nan without an arrival; see `task_times`
    ratio: np.ndarray  # that median over the median of the other workers' medians; nan if there are none

    def slow(self) -> list[int]:
        """List the slow workers, slowest first.

        A worker is slow if its ratio is at least `SLOW` and its excess over 1 at least `SLOW_ERRORS` standard
        errors, so that one late arrival does not make a worker slow. As the relative standard error of a
        median serves that of m exponential times, 1 / (√m ln 2): most task times scatter less.
        """
        error = 1 / (np.sqrt(np.maximum(self.arrivals, 1)) * np.log(2))
        slow = np.flatnonzero(np.nan_to_num(self.ratio) >= np.maximum(SLOW, 1 + SLOW_ERRORS * error))
        return [int(worker) for worker in slow[np.argsort(-self.ratio[slow], kind="stable")]]

    def silent(self) -> list[int]:
        """List the workers without any arrival."""
        return [int(worker) for worker in np.flatnonzero(self.arrivals == 0)]


def length_ns(tables: Iterable[Columns]) -> int:
    """Measure a run in ns, from its start to the last event in any of its tables."""
    last = [
        int(table[key].max())
        for table in tables
        for key in ("t_recv_ns", "t_decoded_ns", "t_ns")
        if key in table and len(table[key])
    ]
    return max([0, *last])


def by_worker(arrivals: Columns, workers: int) -> Iterator[np.ndarray]:
    """Give for each worker the rows of its arrivals, in the order in which it started them."""
    order = np.lexsort((arrivals["t_start_ns"], arrivals["worker"]))
    ends = np.searchsorted(arrivals["worker"][order], np.arange(workers + 1))
    return (order[first:last] for first, last in pairwise(ends))


def split(arrivals: Columns, workers: int, length: int, sample: int = 1) -> Split:
    """Split a run of `length` ns for each worker.

    With `sample` > 1 only every so many-th task is recorded: compute, delay, flight and decode are then those
    of the recorded tasks times `sample` (scaled down where they would exceed the run), the rest counts as
    idle.
    """
    parts = np.zeros((len(fields(Split)), workers))
    for worker, rows in enumerate(by_worker(arrivals, workers)):
        columns = [arrivals[f"t_{event}_ns"][rows] for event in EVENTS]
        parts[:, worker] = _estimate(columns, length, sample) if sample > 1 else _partition(columns, length)
    return Split(*parts)


def _partition(columns: list[np.ndarray], length: int) -> tuple[float, ...]:
    """Split one worker's time at its tasks' times, even where clocks disagree."""
    if not len(columns[0]):
        return 0, 0, 0, 0, 0, length
    dispatch, *own, recv, decoded = columns
    times = np.stack(own, axis=1).clip(0, length)
    start, compute, send = np.maximum.accumulate(times.ravel()).reshape(-1, 3).T
    free = np.concatenate(([0], send[:-1]))  # from here to start the worker has nothing to do
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
        ns, which sum to `length`. `decode`: from an arrival, but not before the decoding or step before it,
        to its decoding. `step`: from a decoding to the step that follows it; not known of a sample. What rank
        0 measured itself, the counters ``spent_<name>_ns``, replaces these. `idle`: the rest.
    """
    recv, decoded = arrivals["t_recv_ns"], arrivals["t_decoded_ns"]
    if sample == 1:
        times = np.concatenate((decoded, updates["t_ns"]))
        order = np.argsort(times, kind="stable")
        end, stepped = times[order], order >= len(decoded)
        begin = np.concatenate(([0], end))[:-1]
        begin[~stepped] = np.maximum(begin[~stepped], recv[order[~stepped]])
        spent = np.maximum(end - begin, 0)
        follows = np.concatenate(([True], stepped))[:-1]  # no decoding just before
        parts = {"decode": float(spent[~stepped].sum()), "step": float(spent[stepped & ~follows].sum())}
    else:
        parts = {"decode": float(sample * np.maximum(decoded - recv, 0).sum())}
    for key, value in counters.items():
        if key.startswith("spent_") and key.endswith("_ns"):
            parts[key.removeprefix("spent_").removesuffix("_ns")] = float(value)
    parts["idle"] = max(0.0, length - sum(parts.values()))
    return parts


def task_times(arrivals: Columns, rows: np.ndarray) -> np.ndarray:
    """Measure the time of each task of one worker, in ns, as rank 0 sees it.

    It ends when the payload arrives. It begins at the dispatch, or at the sending of the worker's payload
    before if that is later, so a task that waited for the worker to be free is not blamed on it twice. `rows`
    are the worker's arrivals in order, as `by_worker` gives them.
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
    known = np.flatnonzero(~np.isnan(values))
    ratio = np.full(len(values), np.nan)
    if len(known) > 1:
        order = known[np.argsort(values[known], kind="stable")]
        ranked, place = values[order], np.arange(len(order))
        low, high = (len(order) - 2) // 2, (len(order) - 1) // 2  # the middle, among all but one
        others = (ranked[low + (place <= low)] + ranked[high + (place <= high)]) / 2
        ratio[order] = ranked / np.where(others > 0, others, np.nan)
    return ratio
