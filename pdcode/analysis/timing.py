"""Use of time in a run, slow workers and outages: definitions and statistics. All times are in ns.

Tables are mappings column -> array, such as the tables of a `Trace`, and may be empty.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from ..stragglers import bases
from ..trace.reader import TraceReader

Columns = Mapping[str, np.ndarray]
SLOW = 1.5  # least ratio of task times of a slow worker
SLOW_ERRORS = 3.0  # least excess of that ratio over 1, in standard errors of the worker's median
# A task is an outage if it takes OUT times the usual time, and OUT_FRACTION of the run or OUT_NS.
OUT, OUT_FRACTION, OUT_NS = 10.0, 0.05, 10e9
LONGEST = 1000  # number of outages that are grouped
PHASES = "between steps", "loading", "forward", "backward"
"""Phases of a script's own work in a step, in their order: of the optimizer, and of what else comes first."""
EVENTS = ("dispatch", "start", "compute", "send", "recv", "decoded")

Made = TypeVar("Made")


def once(function: Callable[..., Made]) -> Callable[..., Made]:
    """Make a function of a trace, and of other arguments, keep its results with the trace."""

    @wraps(function)
    def kept(trace: TraceReader, *others: Any) -> Made:
        made: dict[Any, Any] = vars(trace).setdefault("_made", {})
        if (key := (function, *others)) not in made:
            made[key] = function(trace, *others)
        return made[key]

    return kept


@dataclass(frozen=True)
class Split:
    """Use of each worker's time, in ns: arrays of shape (workers,) that sum to the run's length."""

    compute: np.ndarray  # from the start of a task to its payload
    delay: np.ndarray  # the injected delay, which follows
    send: np.ndarray  # from then to the sending, such as waiting for a processor
    flight: np.ndarray  # from sending to arrival at rank 0, and from dispatch to start, without another task
    decode: np.ndarray  # from arrival to decoding at rank 0, while the worker has no other task
    idle: np.ndarray  # from decoding to the dispatch of the next task
    quiet: np.ndarray  # from the decoding of the worker's last arrival to the end or its death
    dead: np.ndarray  # after the worker's death


@dataclass(frozen=True)
class Pace:
    """Speed of the workers: arrays of shape (workers,)."""

    arrivals: np.ndarray  # number of recorded arrivals
    median: np.ndarray  # median task time in ns, nan without an arrival; see `task_times`
    ratio: np.ndarray  # median task time over the median of the other workers' medians; nan without others

    def slow(self) -> list[int]:
        """Return the slow workers, slowest first.

        A worker is slow if its ratio is at least `SLOW` and exceeds 1 by at least `SLOW_ERRORS` standard
        errors, so that one late arrival does not suffice. The relative standard error of a median is as for
        m exponential times, 1 / (√m ln 2); most task times vary less.
        """
        error = 1 / (np.sqrt(np.maximum(self.arrivals, 1)) * np.log(2))
        slow = np.flatnonzero(np.nan_to_num(self.ratio) >= np.maximum(SLOW, 1 + SLOW_ERRORS * error))
        return [int(worker) for worker in slow[np.argsort(-self.ratio[slow], kind="stable")]]

    def usual(self, worker: int) -> float:
        """Return the larger of this worker's median task time and the median of all workers', ns."""
        return float(np.nanmax([self.median[worker], np.nanmedian(self.median)]))

    def silent(self) -> list[int]:
        """Return the workers without arrivals."""
        return [int(worker) for worker in np.flatnonzero(self.arrivals == 0)]


@dataclass(frozen=True)
class Outage:
    """A task that took so long that its worker or the network must have been stalled."""

    worker: int
    task: int
    begin_ns: int  # when rank 0 began to wait for it
    length_ns: int
    ended: bool = True  # whether its payload has arrived

    @property
    def end_ns(self) -> int:
        return self.begin_ns + self.length_ns


def length_ns(tables: Iterable[Columns]) -> int:
    """Return the length of a run: the time of the last event in any table."""
    last = [
        int(table[key].max())
        for table in tables
        for key in ("t_recv_ns", "t_decoded_ns", "t_ns")
        if key in table and len(table[key])
    ]
    return max([0, *last])


def by_worker(arrivals: Columns, workers: int) -> Iterator[np.ndarray]:
    """Yield for each worker the indices of its arrivals, in the order of its tasks' start."""
    order = np.lexsort((arrivals["t_start_ns"], arrivals["worker"]))
    ends = np.searchsorted(arrivals["worker"][order], np.arange(workers + 1))
    return (order[first:last] for first, last in pairwise(ends))


def split(
    arrivals: Columns, workers: int, length: int, scale: float = 1, faults: Columns | None = None
) -> Split:
    """Split the first `length` ns of a run for each worker; deaths are read from `faults`.

    With `scale` > 1 only some tasks are recorded: their times are multiplied by `scale`
    (scaled down if they exceed the run), and the rest counts as idle.
    """
    parts = np.zeros((len(fields(Split)), workers))
    for worker, rows in enumerate(by_worker(arrivals, workers)):
        columns = [np.minimum(arrivals[f"t_{event}_ns"][rows], length) for event in EVENTS]
        injected = arrivals["injected_delay_ns"][rows]
        parts[:, worker] = (
            _estimate(columns, injected, length, scale)
            if scale > 1
            else _partition(columns, injected, length)
        )
    if faults is not None:
        *_, idle, quiet, dead = parts
        for place in np.flatnonzero(faults["kind"] == "dead"):
            worker, since_ns = int(faults["worker"][place]), max(0, length - int(faults["t_ns"][place]))
            if 0 <= worker < workers:
                rest = idle if scale > 1 else quiet
                dead[worker] = min(since_ns, rest[worker])
                rest[worker] -= dead[worker]
    return Split(*parts)


def injected_ns(gap: np.ndarray, injected: np.ndarray) -> np.ndarray:
    """Return the injected part of the times between payload and sending; -1 is a delay without end."""
    return np.where(injected < 0, gap, np.clip(injected, 0, np.maximum(gap, 0)))


def _partition(columns: list[np.ndarray], injected: np.ndarray, length: int) -> tuple[float, ...]:
    """Split one worker's time at the times of its tasks, robustly against clock errors."""
    if not len(columns[0]):
        return 0, 0, 0, 0, 0, 0, length, 0
    dispatch, *own, recv, decoded = columns
    times = np.stack(own, axis=1).clip(0, length)
    start, compute, send = np.maximum.accumulate(times.ravel()).reshape(-1, 3).T
    free = np.concatenate(([0], send[:-1]))  # from then to the start the worker has no task
    received = np.clip(np.concatenate(([0], recv[:-1])), free, start)
    wait = np.maximum(np.clip(dispatch, free, start) - received, 0)
    decode = np.clip(np.concatenate(([0], decoded[:-1])) - received, 0, wait)
    last = np.clip(recv[-1], send[-1], length)
    end = np.clip(decoded[-1], last, length)
    flight = (start - free - wait).sum() + last - send[-1]
    delay = injected_ns(send - compute, injected)
    return (
        (compute - start).sum(), delay.sum(), (send - compute - delay).sum(), flight,
        decode.sum() + end - last, (wait - decode).sum(), length - end, 0,
    )  # fmt: skip


def _estimate(
    columns: list[np.ndarray], injected: np.ndarray, length: int, scale: float
) -> tuple[float, ...]:
    """Estimate one worker's split from a sample of its tasks."""
    dispatch, start, compute, send, recv, decoded = columns
    delay = injected_ns(send - compute, injected)
    flight = recv - send + start - dispatch
    parts = [compute - start, delay, send - compute - delay, flight, decoded - recv]
    sums = scale * np.array([np.maximum(part, 0).sum() for part in parts], dtype=np.float64)
    sums *= min(1.0, length / max(sums.sum(), 1.0))
    return *sums, max(0.0, length - sums.sum()), 0.0, 0.0


def busy_ns(counters: Mapping[str, Any], what: str) -> float:
    """Return the time until the stop in which rank 0's processor, ingress or egress was busy (virtual clock).

    The counters are the times until the last payload; the times of payloads after the stop are subtracted.
    """
    taken = sum(counters.get(outcome, 0) for outcome in ("used", "wasted", "refused")) / counters["arrivals"]
    part = 1.0 if what == "egress" else taken
    return float(min(part * counters[f"{what}_ns"], counters["t_stop_ns"]))


def coordinator(
    arrivals: Columns, updates: Columns, counters: Mapping[str, Any], length: int, scale: float = 1
) -> dict[str, float]:
    """Split the first `length` ns of a run for rank 0; return times by name, in ns, that sum to `length`.

    `decode`: from an arrival, or the previous decoding or step if later, to its decoding. `step`: from a
    decoding to the following step; unknown for a sample. The counters ``spent_<name>_ns``, which rank 0
    measures, replace these. `dispatch`: sending of tasks, known on the virtual clock only. `idle`: the rest,
    which includes receiving and sending of a real run.
    """
    recv, decoded = (np.minimum(arrivals[key], length) for key in ("t_recv_ns", "t_decoded_ns"))
    if scale == 1:
        times = np.concatenate((decoded, np.minimum(updates["t_ns"], length)))
        order = np.argsort(times, kind="stable")
        end, stepped = times[order], order >= len(decoded)
        begin = np.concatenate(([0], end))[:-1]
        begin[~stepped] = np.maximum(begin[~stepped], recv[order[~stepped]])
        spent = np.maximum(end - begin, 0)
        follows = np.concatenate(([True], stepped))[:-1]  # no decoding directly before
        parts = {"decode": float(spent[~stepped].sum()), "step": float(spent[stepped & ~follows].sum())}
    else:
        parts = {"decode": min(float(length), scale * float(np.maximum(decoded - recv, 0).sum()))}
    for key, value in counters.items():
        if key.startswith("spent_") and key.endswith("_ns"):
            parts[key.removeprefix("spent_").removesuffix("_ns")] = float(value)
    if counters.get("arrivals") and {"processor_ns", "t_stop_ns"} <= counters.keys():
        parts["dispatch"] = max(0.0, busy_ns(counters, "processor") - sum(parts.values()))
    parts["idle"] = max(0.0, length - sum(parts.values()))
    return parts


def own_tasks(trace: TraceReader) -> Columns:
    """Return columns of arrivals that time tasks: summed payloads arrive at once, as the rest is waiting."""
    rows, summed = trace.arrivals, trace.summed
    columns = {f"t_{event}_ns": rows[f"t_{event}_ns"] for event in ("dispatch", "start", "send", "recv")}
    columns["t_recv_ns"] = np.where(summed, columns["t_send_ns"], columns["t_recv_ns"])
    return {"worker": rows["worker"], **columns}


def idle(trace: TraceReader, length: int) -> float:
    """Return the fraction of the first `length` ns of a run in which its workers had no task."""
    rows = own_tasks(trace)
    busy = np.minimum(rows["t_recv_ns"], length) - np.minimum(rows["t_dispatch_ns"], length)
    return max(0.0, 1 - trace.scale * float(busy.sum()) / (max(length, 1) * trace.worker_count))


def task_times(arrivals: Columns, rows: np.ndarray) -> np.ndarray:
    """Return the time of each task of one worker, from `task_begins` to the payload's arrival.

    `rows` are the indices of its arrivals, of `by_worker`.
    """
    return np.maximum(arrivals["t_recv_ns"][rows] - task_begins(arrivals, rows), 0)


def task_begins(arrivals: Columns, rows: np.ndarray) -> np.ndarray:
    """Return when rank 0 began to wait for each task of one worker.

    That is the dispatch or, if later, the sending of the worker's previous payload, so that no time counts
    twice.
    """
    begin = arrivals["t_dispatch_ns"][rows]
    return np.maximum(begin, np.concatenate((begin[:1], arrivals["t_send_ns"][rows][:-1])))


def pace(arrivals: Columns, workers: int) -> Pace:
    """Compare the median task times of the workers."""
    count, median = np.zeros(workers, np.int64), np.full(workers, np.nan)
    for worker, rows in enumerate(by_worker(arrivals, workers)):
        count[worker] = len(rows)
        if len(rows):
            median[worker] = np.median(task_times(arrivals, rows))
    return Pace(count, median, _ratio_to_others(median))


def outages(trace: TraceReader, pace: Pace, length: int) -> list[Outage]:
    """Return the outages until `length` ns, longest first; injected delays do not count.

    Nor do waits for other workers, where these add up payloads, and the usual time of a task with the rows of
    another epoch. If a step followed a worker's last payload, its next task is outstanding, and may be an
    outage that has not ended; not so if the worker died or left, or if a sample was recorded.
    """
    arrivals, updates, faults, found = trace.arrivals, trace.updates, trace.faults, []
    gone = np.isin(faults["kind"], ("dead", "left"))
    ends = np.minimum(own_tasks(trace)["t_recv_ns"], length)
    shuffled = with_rows(trace)
    took = (arrivals["t_recv_ns"] - arrivals["t_dispatch_ns"])[shuffled]
    usual_ns = float(np.median(took)) if len(took) else 0.0
    for worker, rows in enumerate(by_worker(arrivals, len(pace.arrivals))):
        if not len(rows):
            continue
        least = max(OUT * pace.usual(worker), min(OUT_FRACTION * length, OUT_NS))
        begin, end = task_begins(arrivals, rows), ends[rows]
        gap = arrivals["t_send_ns"][rows] - arrivals["t_compute_ns"][rows]
        excess = end - begin - injected_ns(gap, arrivals["injected_delay_ns"][rows])
        most = np.where(shuffled[rows], max(least, OUT * usual_ns), least)
        for place in np.flatnonzero(excess >= most):
            task = int(arrivals["task"][rows[place]])
            found.append(Outage(worker, task, int(begin[place]), int(end[place] - begin[place])))
        last = rows[-1]
        gone_ns = faults["t_ns"][gone & (faults["worker"] == worker)]
        if trace.sample > 1 or (gone_ns >= arrivals["t_recv_ns"][last]).any():
            continue
        step = int(np.searchsorted(updates["t_ns"], arrivals["t_decoded_ns"][last]))
        if step < len(updates["t_ns"]) and (out := length - int(updates["t_ns"][step])) >= least:
            found.append(Outage(worker, int(arrivals["task"][last]) + 1, length - out, out, ended=False))
    return sorted(found, key=lambda outage: -outage.length_ns)


def group_overlapping(outages: Sequence[Outage]) -> list[list[Outage]]:
    """Group outages, sorted longest first, that overlap for more than half of the group's longest."""
    groups: list[list[Outage]] = []
    for outage in outages[:LONGEST]:
        for group in groups:
            first = group[0]
            overlap = min(first.end_ns, outage.end_ns) - max(first.begin_ns, outage.begin_ns)
            if 2 * overlap > first.length_ns:
                group.append(outage)
                break
        else:
            groups.append([outage])
    return groups


@once
def pace_of(trace: TraceReader) -> Pace:
    """Compare the median task times of a run's workers."""
    return pace(own_tasks(trace), trace.worker_count)


@once
def queued_of(trace: TraceReader) -> np.ndarray:
    """Return the time for which each payload of a run waited while rank 0 was busy, `queued_ns`."""
    return bases.queued_ns(trace.arrivals, trace.updates["t_ns"])


@once
def with_rows(trace: TraceReader) -> np.ndarray:
    """Return whether the rows of another epoch accompanied each arrival's task, shape (m,)."""
    sought, keys = (
        each["version"] * trace.worker_count + each["worker"] for each in (trace.arrivals, trace.shuffles)
    )
    return np.isin(sought, keys)


@once
def phases_of(trace: TraceReader) -> np.ndarray | None:
    """Return each arrival's own work by `PHASES` in ns, shape (4, m); None if phases were not recorded."""
    rows, table = trace.arrivals, trace.phases
    if not table.rows:
        return None
    sought, keys = (each["worker"] + trace.worker_count * each["task"] for each in (rows, table))
    order = np.argsort(keys, kind="stable")
    place = order[np.minimum(np.searchsorted(keys[order], sought), len(order) - 1)]
    left = np.maximum(rows["t_compute_ns"] - rows["t_start_ns"], 0)
    found = []
    for name in reversed(PHASES[1:]):
        found.append(np.where(keys[place] == sought, np.minimum(table[f"{name}_ns"][place], left), 0))
        left = left - found[-1]
    return np.stack((left, *reversed(found)))


def _ratio_to_others(values: np.ndarray) -> np.ndarray:
    """Divide each value by the median of the others, by one sort; nan values are ignored."""
    finite = np.flatnonzero(~np.isnan(values))
    ratio = np.full(len(values), np.nan)
    if len(finite) > 1:
        order = finite[np.argsort(values[finite], kind="stable")]
        ranked, place = values[order], np.arange(len(order))
        low, high = (len(order) - 2) // 2, (len(order) - 1) // 2  # middle ranks among all values but one
        others = (ranked[low + (place <= low)] + ranked[high + (place <= high)]) / 2
        ratio[order] = ranked / np.where(others > 0, others, np.nan)
    return ratio
