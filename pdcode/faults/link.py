"""Faults of a worker over MPI, as wrappers of its link and its computation: they happen to this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ..transport.base import Computed, Link, WrappedLink
from ..transport.messages import Task
from .base import ActiveFaults, Fault, Keys, ProcessFault, TaskFault

FOREVER_S = 1e6


class FaultyLink(WrappedLink):
    """Link of a worker whose process or messages have faults.

    Faults of the process at a time are executed by a thread, whatever the worker does then.

    Parameters
    ----------
    link : Link
    seed, worker : int
    events : iterable of Fault
        Of this worker.
    """

    def __init__(self, link: Link, seed: int, worker: int, events: Iterable[Fault]) -> None:
        super().__init__(link)
        events = list(events)
        self._seed, self._worker, self._faults = seed, worker, ActiveFaults(events)
        process = [each for each in events if isinstance(each, ProcessFault)]
        self._timed = [each for each in process if each.task is None and not each.cuts]
        self._by_task = [each for each in process if each.task is not None]
        self._cuts = [(each.at_ns, each.lasts_ns) for each in process if each.task is None and each.cuts]
        self._active: list[TaskFault] = []
        self._keys: Keys = seed, worker, -1
        self._zero_ns: int | None = None  # start of the run, on the clock of `time.perf_counter_ns`

    def _since_start_ns(self) -> int:
        assert self._zero_ns is not None
        return time.perf_counter_ns() - self._zero_ns

    def next_task(self) -> Task | None:
        task = self.link.next_task()
        if task is not None:
            self._begin(task)
        return task

    def _begin(self, task: Task) -> None:
        """Execute the faults that are due when a task begins."""
        if self._zero_ns is None:
            self._zero_ns = time.perf_counter_ns() - task.sent_ns[0]
            if task.task:
                self._leave_out_earlier(task)
            if self._timed:
                threading.Thread(target=self._execute_timed, daemon=True).start()
        if any(fault.repeats for fault in self._active):  # of the task before
            self.link.repeat()
        self._wait_for_cuts()
        self._keys = self._seed, self._worker, task.task
        self._active = self._faults.at(task.task, task.sent_ns[0])
        due = [each for each in self._by_task if task.task >= (each.task or 0)]
        self._by_task = [each for each in self._by_task if each not in due]
        for each in due:
            if each.cuts:
                self._cuts.append((self._since_start_ns(), each.lasts_ns))
            else:
                each.execute()

    def _leave_out_earlier(self, first: Task) -> None:
        """Leave out faults before the first task, of a rank that takes a worker's place or resumes a run."""
        sent_ns = first.sent_ns[0]
        self._timed = [each for each in self._timed if each.at_ns > sent_ns]
        self._by_task = [each for each in self._by_task if (each.task or 0) >= first.task]
        self._cuts = [cut for cut in self._cuts if cut[0] > sent_ns]

    def _execute_timed(self) -> None:
        for each in self._timed:
            time.sleep(max(0.0, 1e-9 * (each.at_ns - self._since_start_ns())))
            each.execute()

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
    """Worker that takes longer over its tasks by injected faults.

    Parameters
    ----------
    worker : training.worker.Worker
    events : iterable of Fault
        Of this worker.
    """

    def __init__(self, worker: Any, events: Iterable[Fault]) -> None:
        self._worker, self._faults = worker, ActiveFaults(events)

    def parts(self, task: Task) -> Iterator[float]:
        """Compute the messages of the reply; yield the mini-batch loss at each."""
        active = self._faults.at(task.task, task.sent_ns[0])
        start_ns = time.perf_counter_ns()
        for loss in self._worker.parts(task):
            took_ns = time.perf_counter_ns() - start_ns
            time.sleep(1e-9 * sum(fault.slower_ns(took_ns) for fault in active))
            yield loss
            start_ns = time.perf_counter_ns()
