"""Base classes of the kinds of fault, and the task faults that are active when a task begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from ..config import Config, Count, FaultEvent, Span
from ..transport.messages import Reply
from ..util.errors import InputError

Keys = tuple[int, int, int]
"""Seed, worker, task."""

GradientOracle = Callable[[int], np.ndarray]
"""Returns the payload of another mini-batch, given its number, at the same θ."""


class Fault(FaultEvent):
    """A fault of a worker, at a time or at one of its tasks."""

    worker: Count | None = None  #: worker that it happens to
    task: Count | None = None  #: with no `at_s`: task of the worker at whose beginning it happens, from 0

    def check(self, config: Config) -> None:
        if any(each is self for each in config.faults.events):
            self._check_place(config.workers.count)

    def _check_place(self, workers: int) -> None:
        where = f"faults.events: kind '{self.kind}'"
        if self.worker is None:
            raise InputError(f"{where}: worker: must be given")
        if self.worker >= workers:
            raise InputError(f"{where}: worker {self.worker} does not exist (there are {workers}, from 0)")
        if (self.at_s is None) == (self.task is None):
            raise InputError(f"{where}, worker {self.worker}: give either at_s or task")

    @property
    def at_ns(self) -> int:
        """When it happens, ns since the start of the run."""
        assert self.at_s is not None
        return round(1e9 * self.at_s)


class ProcessFault(Fault):
    """A fault of a worker's process or link at a moment, whatever the worker does then.

    Attributes
    ----------
    lethal : bool
        Whether the worker dies.
    leaves : bool
        Whether the worker goes after its task.
    halts, cuts : bool
        Whether the worker does nothing for some time, or neither gets nor sends messages.
    """

    lethal: ClassVar[bool] = False
    leaves: ClassVar[bool] = False
    halts: ClassVar[bool] = False
    cuts: ClassVar[bool] = False

    @property
    def lasts_ns(self) -> int | None:
        """For how long; None: for good."""
        lasts_s = getattr(self, "for_s", None)
        return None if lasts_s is None else round(1e9 * lasts_s)

    def execute(self) -> None:
        """Execute the fault on this process."""


class TaskFault(Fault):
    """A fault of a worker's tasks, or of their replies.

    It is active from the task at which it begins, or the first one that rank 0 sends from `at_s` on, for all
    tasks that rank 0 sends within `for_s`.
    """

    for_s: Span | None = None  #: for how long; 0: for one task; none: to the end of the run [s]

    repeats: ClassVar[bool] = False  #: whether rank 0 gets a reply again, once the next task is out

    def begin(self, worker: int, task: int) -> None:
        """Act when a task begins, at its worker."""

    def corrupt_parameters(self, theta: np.ndarray) -> np.ndarray:
        """Return the θ at which the worker computes."""
        return theta

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        """Change a reply that is complete."""

    def slower_ns(self, compute_ns: int) -> int:
        """Return by how much longer a part of the task is computed, in ns."""
        return 0

    def late_ns(self, keys: Keys) -> int:
        """Return by how much later a reply arrives, in ns; nothing cuts that short."""
        return 0


class ActiveFaults:
    """The task faults of a worker, and which of them are active.

    Parameters
    ----------
    events : iterable of Fault
        Of one worker; other faults than those of tasks are left out.
    """

    def __init__(self, events: Iterable[Any]) -> None:
        self._faults = [event for event in events if isinstance(event, TaskFault)]
        self._since_ns: list[int | None] = [None] * len(self._faults)  # when each began
        self._task, self._active = -1, list[TaskFault]()  # those of the last task

    def __bool__(self) -> bool:
        return bool(self._faults)

    def at(self, task: int, sent_ns: int) -> list[TaskFault]:
        """Return the faults of a task that rank 0 sent at a time since the start of the run."""
        if task == self._task:
            return self._active
        self._task, self._active = task, []
        for place, fault in enumerate(self._faults):
            since_ns = self._since_ns[place]
            if since_ns is None:
                if task < fault.task if fault.task is not None else sent_ns < fault.at_ns:
                    continue
                self._since_ns[place] = sent_ns if fault.task is not None else fault.at_ns
            elif fault.for_s is not None and sent_ns >= since_ns + round(1e9 * fault.for_s):
                continue
            self._active.append(fault)
        return self._active
