"""Faults of a worker over MPI, executed on this process by wrappers of its link and its computation."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..transport.base import Computed, Link, WrappedLink
from ..transport.messages import Task
from .base import ActiveFaults, Fault, Keys, ProcessFault, TaskFault

FOREVER_S = 1e6


class FaultyLink(WrappedLink):
    """Link of a worker whose process or messages have faults, from its `events`.

    A thread executes the faults of the process at given times, whatever the worker does then.
    """

    def __init__(self, link: Link, seed: int, worker: int, events: Iterable[Fault]) -> None:
        super().__init__(link)
        events = list(events)
        self._seed, self._worker, self.faults = seed, worker, ActiveFaults(events)
        process = [event for event in events if isinstance(event, ProcessFault)]
        self._timed = [event for event in process if event.task is None and not event.cuts]
        self._by_task = [event for event in process if event.task is not None]
        self._cuts = [(event.at_ns, event.lasts_ns) for event in process if event.task is None and event.cuts]
        self._active: list[TaskFault] = []
        self._keys: Keys = seed, worker, -1
        self._zero_ns: int | None = None  # start of the run, on the clock of `time.perf_counter_ns`

    def continue_with(self, link: Link) -> None:
        """Continue with another link, as the run does with another preset: no fault happens twice."""
        self.link, self._active = link, []

    def _since_start_ns(self) -> int:
        assert self._zero_ns is not None
        return time.perf_counter_ns() - self._zero_ns

    def next_task(self) -> Task | None:
        task = self.link.next_task()
        if task is not None:
            self._begin(task)
        return task

    def _begin(self, task: Task) -> None:
        """Execute the faults that are due at the start of a task."""
        if self._zero_ns is None:
            self._zero_ns = time.perf_counter_ns() - task.sent_ns[0]
            if task.task:
                self._drop_earlier(task)
            if self._timed:
                threading.Thread(target=self._execute_timed, daemon=True).start()
        if any(fault.repeats for fault in self._active):  # of the previous task
            self.link.repeat()
        self._wait_for_cuts()
        self._keys = self._seed, self._worker, task.task
        self._active = self.faults.at(task.task, task.sent_ns[0])
        due = [event for event in self._by_task if task.task >= (event.task or 0)]
        self._by_task = [event for event in self._by_task if event not in due]
        for event in due:
            if event.cuts:
                self._cuts.append((self._since_start_ns(), event.lasts_ns))
            else:
                event.execute()

    def _drop_earlier(self, first: Task) -> None:
        """Drop faults before the first task, on a rank that replaces a worker or resumes a run."""
        sent_ns = first.sent_ns[0]
        self._timed = [event for event in self._timed if event.at_ns > sent_ns]
        self._by_task = [event for event in self._by_task if (event.task or 0) >= first.task]
        self._cuts = [cut for cut in self._cuts if cut[0] > sent_ns]

    def _execute_timed(self) -> None:
        for event in self._timed:
            time.sleep(max(0.0, 1e-9 * (event.at_ns - self._since_start_ns())))
            event.execute()

    def reply(self, computed: Computed) -> None:
        if late_ns := sum(fault.late_ns(self._keys) for fault in self._active):
            time.sleep(1e-9 * late_ns)
        self._wait_for_cuts()
        self.link.reply(computed)

    def _wait_for_cuts(self) -> None:
        """Wait while the link is cut."""
        for at_ns, lasts_ns in self._cuts:
            now_ns = self._since_start_ns()
            if at_ns <= now_ns and (lasts_ns is None or now_ns < at_ns + lasts_ns):
                time.sleep(FOREVER_S if lasts_ns is None else 1e-9 * (at_ns + lasts_ns - now_ns))


class SlowedWorker:
    """Worker whose tasks take longer by injected faults."""

    def __init__(self, worker: Any, active: ActiveFaults) -> None:
        self._worker, self._faults = worker, active

    def parts(self, task: Task) -> Iterator[float]:
        """Compute the messages of the reply; yield the mini-batch loss at each."""
        active = self._faults.at(task.task, task.sent_ns[0])
        start_ns = time.perf_counter_ns()
        for loss in self._worker.parts(task):
            took_ns = time.perf_counter_ns() - start_ns
            time.sleep(1e-9 * sum(fault.slower_ns(took_ns) for fault in active))
            yield loss
            start_ns = time.perf_counter_ns()
