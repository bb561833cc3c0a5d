"""Faults of a worker over MPI: they happen to this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from ..transport.base import Link
from ..transport.messages import Task
from .base import Fault, Keys, Spell, Spells, Strike

LONG_S = 1e6


class Injector:
    """What happens to the worker of this process, on the real clock.

    Strikes at a time are carried out by a thread, wherever the worker is then.

    Parameters
    ----------
    seed, worker : int
    events : iterable of Fault
        Of this worker.
    """

    def __init__(self, seed: int, worker: int, events: Iterable[Fault] = ()) -> None:
        events = list(events)
        self._seed, self._worker, self._spells = seed, worker, Spells(events)
        strikes = [each for each in events if isinstance(each, Strike)]
        self._timed = [each for each in strikes if each.task is None and not each.cuts]
        self._by_task = [each for each in strikes if each.task is not None]
        self._cuts = [(each.at_ns, each.lasts_ns) for each in strikes if each.task is None and each.cuts]
        self._any = bool(events)
        self._on: list[Spell] = []
        self._keys: Keys = seed, worker, -1
        self._zero_ns: int | None = None  # start of the run, on the clock of `time.perf_counter_ns`

    def _now_ns(self) -> int:
        assert self._zero_ns is not None
        return time.perf_counter_ns() - self._zero_ns

    def begin(self, task: Task, link: Link) -> None:
        """Let a task begin."""
        if not self._any:
            return
        if self._zero_ns is None:
            self._zero_ns = time.perf_counter_ns() - task.sent_ns[0]
            if task.task:
                self._forget(task)
            if self._timed:
                threading.Thread(target=self._strike, daemon=True).start()
        if any(spell.repeats for spell in self._on):  # of the task before
            link.repeat()
        self._hold()
        self._keys = self._seed, self._worker, task.task
        self._on = self._spells.begin(task.task, task.sent_ns[0])
        due = [each for each in self._by_task if task.task >= (each.task or 0)]
        self._by_task = [each for each in self._by_task if each not in due]
        for each in due:
            if each.cuts:
                self._cuts.append((self._now_ns(), each.lasts_ns))
            else:
                each.strike()

    def _forget(self, first: Task) -> None:
        """Leave out what struck before the first task of a rank that takes a worker's place, or goes on."""
        sent_ns = first.sent_ns[0]
        self._timed = [each for each in self._timed if each.at_ns > sent_ns]
        self._by_task = [each for each in self._by_task if (each.task or 0) >= first.task]
        self._cuts = [cut for cut in self._cuts if cut[0] > sent_ns]

    def computed(self, compute_ns: int) -> None:
        """Be slower than a part of the task, which took so long, was computed."""
        if self._on and (slower_ns := sum(spell.slower_ns(compute_ns) for spell in self._on)):
            time.sleep(1e-9 * slower_ns)

    def replying(self) -> None:
        """Hold a reply back."""
        if not self._any:
            return
        if late_ns := sum(spell.late_ns(self._keys) for spell in self._on):
            time.sleep(1e-9 * late_ns)
        self._hold()

    def _hold(self) -> None:
        """Wait while the link is cut."""
        for at_ns, lasts_ns in self._cuts:
            now_ns = self._now_ns()
            if at_ns <= now_ns and (lasts_ns is None or now_ns < at_ns + lasts_ns):
                time.sleep(LONG_S if lasts_ns is None else 1e-9 * (at_ns + lasts_ns - now_ns))

    def _strike(self) -> None:
        """Carry out the strikes at a time."""
        for each in self._timed:
            time.sleep(max(0.0, 1e-9 * (each.at_ns - self._now_ns())))
            each.strike()
