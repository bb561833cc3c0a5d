"""Injected faults on the virtual clock: their effects on the times of replies."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .. import faults
from ..config import Config
from ..kernels import events
from ..transport.events import Died, Event, Joined, Stray
from ..util.errors import Failure

NEVER_NS: int = events.LAST
Interval = tuple[int, int]
"""Start and end, ns."""


class Times(NamedTuple):
    """Times of a reply in flight, ns."""

    compute: int  # end of the computation
    ready: int  # end of the injected delay of `[stragglers]`
    late: int  # delay of the message
    send: int  # time of sending; -1: never


def end_of_work(start_ns: int, work_ns: int, halts: Iterable[Interval]) -> int:
    """Return the end of work that pauses in sorted, disjoint intervals."""
    end_ns = start_ns + work_ns
    for begin, end in halts if work_ns else ():
        if begin < end_ns and end > start_ns:
            end_ns += end - max(begin, start_ns)
    return min(end_ns, NEVER_NS)


def next_free(at_ns: int, intervals: Iterable[Interval]) -> int:
    """Return the first time from `at_ns` on outside of sorted, disjoint intervals."""
    for begin, end in intervals:
        if begin <= at_ns < end:
            at_ns = end
    return at_ns


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union of intervals, sorted and disjoint."""
    union: list[Interval] = []
    for begin, end in sorted(intervals):
        if union and begin <= union[-1][1]:
            union[-1] = union[-1][0], max(end, union[-1][1])
        else:
            union.append((begin, end))
    return union


class WorkerFaults:
    """The faults of a worker."""

    def __init__(self, events: Sequence[faults.Fault]) -> None:
        self.task_faults = faults.ActiveFaults(events)
        self.active: list[faults.TaskFault] = []  # in the last task
        self.by_task = [
            event for event in events if isinstance(event, faults.ProcessFault) and event.task is not None
        ]
        self.halts: list[Interval] = []
        self.cuts: list[Interval] = []
        self.leaves_ns: list[int] = []
        self.times: Times | None = None  # of the reply in flight

    def begin(self, event: faults.ProcessFault, at_ns: int) -> None:
        """Record the intervals of a fault that starts now."""
        end_ns = NEVER_NS if event.lasts_ns is None else min(at_ns + event.lasts_ns, NEVER_NS)
        if event.halts:
            self.halts = merged([*self.halts, (at_ns, end_ns)])
        if event.cuts:
            self.cuts = merged([*self.cuts, (at_ns, end_ns)])
        if event.leaves:
            self.leaves_ns.append(at_ns)

    def sent(self, ready_ns: int, late_ns: int) -> int:
        """Return the send time of a finished task's reply, with its message delay; -1 if it is never sent."""
        sent_ns = next_free(next_free(ready_ns, self.halts) + late_ns, self.cuts)
        return -1 if sent_ns >= NEVER_NS else sent_ns


class Injection:
    """The faults of a run, applied to the event queue; `pending` belongs to the `Schedule`.

    The death of a worker drops its reply, even one in flight. The end of the run shortens neither halts nor
    message delays. Spare ranks replace workers as over MPI.
    """

    def __init__(self, config: Config, events: Any, pending: list[Event]) -> None:
        self._events, self._seed, self._summed = events, config.seed, config.reduction.workers_step
        self._workers: dict[int, WorkerFaults] = {}
        self._changes: list[tuple[int, int, int, bool]] = []  # heap: time, number, worker, whether it joins
        self._number = 0  # of the next change
        for worker in range(config.workers.count):
            if not (own := faults.of_worker(config, worker)):
                continue
            injected = self._workers[worker] = WorkerFaults(own)
            for event in own:
                if isinstance(event, faults.ProcessFault) and event.task is None:
                    injected.begin(event, event.at_ns)
                    if event.lethal:
                        self._schedule_change(event.at_ns, worker)
        self._joins_ns, self._spares = faults.joins(config), config.workers.spares
        self._absent: set[int] = set()
        self._tasks: dict[int, int] = {}
        self._repeats: list[int] = []  # workers whose last reply arrives again next
        self._stamp_ns = 0
        self._pending = pending

    def follow(self, before: "Injection") -> None:
        """Continue the faults of the same run with another preset: none happens twice."""
        self._workers = before._workers
        for own in self._workers.values():
            own.active, own.times = [], None

    def _schedule_change(self, at_ns: int, worker: int, joins: bool = False) -> None:
        heapq.heappush(self._changes, (at_ns, self._number, worker, joins))
        self._number += 1

    @property
    def joining(self) -> bool:
        """Whether a worker will come back."""
        return any(joins for *_, joins in self._changes)

    def present(self, sent: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Return the tasks, of those sent now, whose workers are present."""
        self._stamp_ns = self._events.now_ns
        return [pair for pair in sent if pair[0] not in self._absent] if self._absent else sent

    def sent(self, sent: Sequence[tuple[int, int]]) -> None:
        """Apply faults to tasks that have just been sent."""
        for worker, task in sent:
            if (injected := self._workers.get(worker)) is None:
                continue
            if any(fault.repeats for fault in injected.active):  # of the previous task
                self._repeats.append(worker)
            injected.active = injected.task_faults.at(task, self._stamp_ns)
            self._tasks[worker] = task
            start_ns = next_free(self._events.last_times(worker)[0], injected.cuts)
            due = [each for each in injected.by_task if task >= (each.task or 0)]
            injected.by_task = [each for each in injected.by_task if each not in due]
            for event in due:
                injected.begin(event, start_ns)
                if event.lethal:
                    self._schedule_change(start_ns, worker)
            self._apply(worker, injected, start_ns)

    def on_follow(self, worker: int) -> None:
        """Apply faults to a further part of a worker's reply, which it has just started."""
        if (injected := self._workers.get(worker)) is not None:
            self._apply(worker, injected, self._events.last_times(worker)[0])

    def _apply(self, worker: int, injected: WorkerFaults, start_ns: int) -> None:
        began, computed, ready = self._events.last_times(worker)
        if ready < 0:  # the worker never replies
            injected.times = None
            return
        compute_ns, delay_ns = computed - began, ready - computed
        keys = self._seed, worker, self._tasks[worker]
        compute_ns += sum(fault.slower_ns(compute_ns) for fault in injected.active)
        late_ns = sum(fault.late_ns(keys) for fault in injected.active)
        computed = end_of_work(start_ns, compute_ns, injected.halts)
        times = Times(computed, computed + delay_ns, late_ns, injected.sent(computed + delay_ns, late_ns))
        if start_ns >= NEVER_NS:
            times = times._replace(send=-1)
        self._set(worker, injected, min(start_ns, NEVER_NS), times, ready)

    def _set(self, worker: int, injected: WorkerFaults, start_ns: int, times: Times, before_ns: int) -> None:
        injected.times = times if times.send >= 0 else None
        if times.send != before_ns or self._events.last_times(worker)[1] != times.compute:
            self._events.postpone(worker, start_ns, times.compute, times.send)

    def on_cancel(self) -> None:
        """Restore the times that the end of the run does not shorten."""
        for worker, injected in self._workers.items():
            if injected.times is None:
                continue
            start_ns, computed, sent_ns = self._events.last_times(worker)
            if sent_ns < injected.times.send:
                ready_ns = min(injected.times.ready, max(self._events.now_ns, computed))
                times = injected.times._replace(
                    ready=ready_ns, send=injected.sent(ready_ns, injected.times.late)
                )
                self._set(worker, injected, start_ns, times, sent_ns)

    def next(self, limit_ns: int) -> int:
        """Receive the next reply; return -1 at the limit, or before it at another event."""
        if self._repeats:
            self._pending.append(Stray(self._repeats.pop(0), "of another task"))
            return -1
        while True:
            until_ns = min(limit_ns, self._changes[0][0]) if self._changes else limit_ns
            worker: int = self._events.pop(until_ns)
            if worker >= 0:
                if worker in self._workers:
                    self._workers[worker].times = None
                return worker
            if not self._apply_changes() or self._pending:
                return -1

    def _apply_changes(self) -> bool:
        """Apply the deaths and joins that are due; return whether there were any."""
        changes, died, joined = self._changes, list[int](), list[int]()
        any_due = bool(changes) and changes[0][0] <= self._events.now_ns
        while changes and changes[0][0] <= self._events.now_ns:
            _, _, worker, joins = heapq.heappop(changes)
            if joins and worker in self._absent:
                self._absent.remove(worker)
                joined.append(worker)
                injected = self._workers[worker]
                injected.leaves_ns = [at_ns for at_ns in injected.leaves_ns if at_ns > self._events.now_ns]
            elif not joins and worker not in self._absent:
                self._kill(worker)
                died.append(worker)
        self._pending += [Died(died)] if died else []
        self._pending += [Joined(joined)] if joined else []
        return any_due

    def _kill(self, worker: int) -> None:
        if self._summed:
            raise Failure(f"worker {worker} died; the run cannot continue without")
        injected = self._workers[worker]
        if injected.times is not None:
            start_ns, computed, _ = self._events.last_times(worker)
            self._events.postpone(worker, start_ns, computed, -1)
            injected.times = None
        self.on_gone(worker)

    def leaving(self, worker: int) -> bool:
        """Return whether a worker leaves with the reply that has just arrived."""
        injected = self._workers.get(worker)
        if injected is None or not injected.leaves_ns:
            return False
        sent_ns = self._events.last_times(worker)[2]
        later_ns = [at_ns for at_ns in injected.leaves_ns if at_ns > sent_ns]
        leaves, injected.leaves_ns = len(later_ns) < len(injected.leaves_ns), later_ns
        return leaves

    def on_gone(self, worker: int) -> None:
        """Record that a worker is absent until its next join time; a spare rank joins at once."""
        self._workers[worker].active = []
        self._absent.add(worker)
        times_ns, now_ns = self._joins_ns.get(worker), self._events.now_ns
        if times_ns:
            self._schedule_change(max(now_ns, times_ns.pop(0)), worker, True)
        elif times_ns is None and self._spares:
            self._spares -= 1
            self._schedule_change(now_ns, worker, True)
