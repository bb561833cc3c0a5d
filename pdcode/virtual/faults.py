"""Injected faults on the virtual clock: what they do to the times of replies."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from .. import faults
from ..config import Config
from ..kernels import events
from ..transport.events import Died, Event, Joined, Stray
from ..util.errors import Failure

NEVER_NS: int = events.LAST
Span = tuple[int, int]
"""Begin and end, ns."""


class Times(NamedTuple):
    """Times of a reply in flight, ns."""

    compute: int  # computed
    ready: int  # injected delay of `[stragglers]` over
    late: int  # what messages are late
    send: int  # sent; -1: never


def halted(start_ns: int, span_ns: int, halts: Iterable[Span]) -> int:
    """Return when work of a length ends that stands still in sorted, disjoint spans."""
    end_ns = start_ns + span_ns
    for begin, end in halts if span_ns else ():
        if begin < end_ns and end > start_ns:
            end_ns += end - max(begin, start_ns)
    return min(end_ns, NEVER_NS)


def released(at_ns: int, spans: Iterable[Span]) -> int:
    """Return the first time from `at_ns` on that is in none of sorted, disjoint spans."""
    for begin, end in spans:
        if begin <= at_ns < end:
            at_ns = end
    return at_ns


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the union of spans, sorted and disjoint."""
    made: list[Span] = []
    for begin, end in sorted(spans):
        if made and begin <= made[-1][1]:
            made[-1] = made[-1][0], max(end, made[-1][1])
        else:
            made.append((begin, end))
    return made


class Plan:
    """The faults of a worker."""

    def __init__(self, events: Sequence[faults.Fault]) -> None:
        self.task_faults = faults.ActiveFaults(events)
        self.active: list[faults.TaskFault] = []  # of the last task
        self.by_task = [
            each for each in events if isinstance(each, faults.ProcessFault) and each.task is not None
        ]
        self.halts: list[Span] = []
        self.cuts: list[Span] = []
        self.leaves_ns: list[int] = []
        self.times: Times | None = None  # of the reply in flight

    def begin(self, event: faults.ProcessFault, at_ns: int) -> None:
        """Note what lasts for some time from a time on."""
        end_ns = NEVER_NS if event.lasts_ns is None else min(at_ns + event.lasts_ns, NEVER_NS)
        if event.halts:
            self.halts = merged([*self.halts, (at_ns, end_ns)])
        if event.cuts:
            self.cuts = merged([*self.cuts, (at_ns, end_ns)])
        if event.leaves:
            self.leaves_ns.append(at_ns)

    def sent(self, ready_ns: int, late_ns: int) -> int:
        """Return when a reply is sent whose task is done, but for what its message is late; -1: never."""
        sent_ns = released(released(ready_ns, self.halts) + late_ns, self.cuts)
        return -1 if sent_ns >= NEVER_NS else sent_ns


class Injection:
    """The faults of a run, applied to the queue of events.

    A worker that dies takes its reply with it, even one that is on its way. Nothing cuts the time short for
    which a worker is halted, or a message is late. Spare ranks take the places of workers as over MPI.

    Parameters
    ----------
    config : Config
    events : kernels.events.Events
    happened : list of Event
        What has happened besides replies, see `Schedule`.
    """

    def __init__(self, config: Config, events: Any, happened: list[Event]) -> None:
        self._events, self._seed, self._summed = events, config.seed, config.reduce.summed
        self._plans: dict[int, Plan] = {}
        self._turns: list[tuple[int, int, int, bool]] = []  # heap: time, number, worker, whether it joins
        self._number = 0
        for worker in range(config.workers.count):
            if not (own := faults.of_worker(config, worker)):
                continue
            plan = self._plans[worker] = Plan(own)
            for event in own:
                if isinstance(event, faults.ProcessFault) and event.task is None:
                    plan.begin(event, event.at_ns)
                    if event.lethal:
                        self._turn(event.at_ns, worker)
        self._joins_ns, self._spares = faults.joins(config), config.workers.spares
        self._gone: set[int] = set()
        self._tasks: dict[int, int] = {}
        self._copies: list[int] = []  # workers whose last reply comes again now
        self._stamp_ns = 0
        self._happened = happened

    def _turn(self, at_ns: int, worker: int, joins: bool = False) -> None:
        heapq.heappush(self._turns, (at_ns, self._number, worker, joins))
        self._number += 1

    @property
    def joining(self) -> bool:
        """Whether a worker is to come back."""
        return any(joins for *_, joins in self._turns)

    def reachable(self, sent: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        """Return the tasks, of those that leave now, whose workers are there."""
        self._stamp_ns = self._events.now_ns
        return [pair for pair in sent if pair[0] not in self._gone] if self._gone else sent

    def sent(self, sent: Sequence[tuple[int, int]]) -> None:
        """Apply faults to tasks that have just been sent."""
        for worker, task in sent:
            if (plan := self._plans.get(worker)) is None:
                continue
            if any(fault.repeats for fault in plan.active):  # of the task before
                self._copies.append(worker)
            plan.active = plan.task_faults.at(task, self._stamp_ns)
            self._tasks[worker] = task
            start_ns = released(self._events.last_times(worker)[0], plan.cuts)
            due = [each for each in plan.by_task if task >= (each.task or 0)]
            plan.by_task = [each for each in plan.by_task if each not in due]
            for event in due:
                plan.begin(event, start_ns)
                if event.lethal:
                    self._turn(start_ns, worker)
            self._apply(worker, plan, start_ns)

    def followed(self, worker: int) -> None:
        """Apply faults to a further part of a worker's reply, which it has just begun."""
        if (plan := self._plans.get(worker)) is not None:
            self._apply(worker, plan, self._events.last_times(worker)[0])

    def _apply(self, worker: int, plan: Plan, start_ns: int) -> None:
        began, computed, ready = self._events.last_times(worker)
        if ready < 0:  # a worker that never answers
            plan.times = None
            return
        compute_ns, delay_ns = computed - began, ready - computed
        keys = self._seed, worker, self._tasks[worker]
        compute_ns += sum(fault.slower_ns(compute_ns) for fault in plan.active)
        late_ns = sum(fault.late_ns(keys) for fault in plan.active)
        computed = halted(start_ns, compute_ns, plan.halts)
        times = Times(computed, computed + delay_ns, late_ns, plan.sent(computed + delay_ns, late_ns))
        if start_ns >= NEVER_NS:
            times = times._replace(send=-1)
        self._set(worker, plan, min(start_ns, NEVER_NS), times, ready)

    def _set(self, worker: int, plan: Plan, start_ns: int, times: Times, before_ns: int) -> None:
        plan.times = times if times.send >= 0 else None
        if times.send != before_ns or self._events.last_times(worker)[1] != times.compute:
            self._events.postpone(worker, start_ns, times.compute, times.send)

    def cancelled(self) -> None:
        """Restore what the end of the run does not cut short."""
        for worker, plan in self._plans.items():
            if plan.times is None:
                continue
            start_ns, computed, sent_ns = self._events.last_times(worker)
            if sent_ns < plan.times.send:
                ready_ns = min(plan.times.ready, max(self._events.now_ns, computed))
                times = plan.times._replace(ready=ready_ns, send=plan.sent(ready_ns, plan.times.late))
                self._set(worker, plan, start_ns, times, sent_ns)

    def next(self, limit_ns: int) -> int:
        """Receive the next reply, up to the limit or the next event that is none; else return -1."""
        if self._copies:
            self._happened.append(Stray(self._copies.pop(0), "of another task"))
            return -1
        while True:
            until_ns = min(limit_ns, self._turns[0][0]) if self._turns else limit_ns
            worker: int = self._events.pop(until_ns)
            if worker >= 0:
                if worker in self._plans:
                    self._plans[worker].times = None
                return worker
            if not self._take_turns() or self._happened:
                return -1

    def _take_turns(self) -> bool:
        """Let the workers die and come back that are to by now; return whether there are any."""
        turns, died, joined = self._turns, list[int](), list[int]()
        any_due = bool(turns) and turns[0][0] <= self._events.now_ns
        while turns and turns[0][0] <= self._events.now_ns:
            _, _, worker, joins = heapq.heappop(turns)
            if joins and worker in self._gone:
                self._gone.remove(worker)
                joined.append(worker)
                plan = self._plans[worker]
                plan.leaves_ns = [at_ns for at_ns in plan.leaves_ns if at_ns > self._events.now_ns]
            elif not joins and worker not in self._gone:
                self._die(worker)
                died.append(worker)
        self._happened += [Died(died)] if died else []
        self._happened += [Joined(joined)] if joined else []
        return any_due

    def _die(self, worker: int) -> None:
        if self._summed:
            raise Failure(f"worker {worker} died; the run cannot continue without")
        plan = self._plans[worker]
        if plan.times is not None:
            start_ns, computed, _ = self._events.last_times(worker)
            self._events.postpone(worker, start_ns, computed, -1)
            plan.times = None
        self.gone(worker)

    def leaving(self, worker: int) -> bool:
        """Tell whether a worker leaves with the reply that has just arrived."""
        plan = self._plans.get(worker)
        if plan is None or not plan.leaves_ns:
            return False
        sent_ns = self._events.last_times(worker)[2]
        later_ns = [at_ns for at_ns in plan.leaves_ns if at_ns > sent_ns]
        leaves, plan.leaves_ns = len(later_ns) < len(plan.leaves_ns), later_ns
        return leaves

    def gone(self, worker: int) -> None:
        """Note that a worker has died or left; it comes back at its next time, or as a spare rank at once."""
        self._plans[worker].active = []
        self._gone.add(worker)
        times_ns, now_ns = self._joins_ns.get(worker), self._events.now_ns
        if times_ns:
            self._turn(max(now_ns, times_ns.pop(0)), worker, True)
        elif times_ns is None and self._spares:
            self._spares -= 1
            self._turn(now_ns, worker, True)
