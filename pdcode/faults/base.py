"""Base classes of the kinds of fault, and the task faults that are active in a task."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from ..config import Config, Count, FaultEvent, Seconds
from ..transport.messages import Reply
from ..util.errors import InputError

Keys = tuple[int, int, int]
"""Seed, worker, task."""

GradientOracle = Callable[[int], np.ndarray]
"""Function (number of another mini-batch) -> its payload at the same θ."""


class Fault(FaultEvent):
    """A fault of a worker, at a time or at one of its tasks."""

    worker: Count | None = None  #: the faulty worker
    task: Count | None = None  #: instead of `at_s`: it happens at the start of this task, from 0

    def check_config(self, config: Config) -> None:
        if any(event is self for event in config.faults.events):
            self._check_target(config.workers.count)

    def _check_target(self, workers: int) -> None:
        where = f"faults.events: kind '{self.kind}'"
        if self.worker is None:
            raise InputError(f"{where}: worker: must be given")
        if self.worker >= workers:
            raise InputError(f"{where}: worker {self.worker} does not exist (there are {workers}, from 0)")
        if (self.at_s is None) == (self.task is None):
            raise InputError(f"{where}, worker {self.worker}: give either at_s or task")

    @property
    def at_ns(self) -> int:
        """Time of the fault since the start of the run, ns."""
        assert self.at_s is not None
        return round(1e9 * self.at_s)


class ProcessFault(Fault):
    """A fault of a worker's process or link at a moment, independent of the worker's tasks.

    Attributes
    ----------
    lethal : bool
        Whether the worker dies.
    leaves : bool
        Whether the worker leaves after its task.
    halts, cuts : bool
        Whether the process pauses for some time, or its link is cut: it receives and sends no messages.
    """

    lethal: ClassVar[bool] = False
    leaves: ClassVar[bool] = False
    halts: ClassVar[bool] = False
    cuts: ClassVar[bool] = False

    @property
    def lasts_ns(self) -> int | None:
        """Duration, ns; None: to the end of the run."""
        lasts_s = getattr(self, "for_s", None)
        return None if lasts_s is None else round(1e9 * lasts_s)

    def execute(self) -> None:
        """Execute the fault on this process."""


class TaskFault(Fault):
    """A fault of a worker's tasks, or of their replies.

    It is active from its `task` on, or from the first task that rank 0 sends after `at_s`, for all tasks that
    rank 0 sends within `for_s`.
    """

    for_s: Seconds | None = None  #: duration; 0: one task; none: to the end of the run [s]

    repeats: ClassVar[bool] = False  #: whether rank 0 gets a reply again after it has sent the next task

    def begin(self, worker: int, task: int) -> None:
        """Act at the start of a task, on its worker."""

    def corrupt_parameters(self, theta: np.ndarray) -> np.ndarray:
        """Return the θ at which the worker computes."""
        return theta

    def corrupt_payload(self, reply: Reply, keys: Keys, oracle: GradientOracle) -> None:
        """Change a complete reply."""

    def slower_ns(self, compute_ns: int) -> int:
        """Return the additional compute time of a part of the task, in ns."""
        return 0

    def late_ns(self, keys: Keys) -> int:
        """Return the additional delay of a reply, in ns; the end of the run does not shorten it."""
        return 0


class ActiveFaults:
    """The task faults among a worker's `events`, and which of them are active."""

    def __init__(self, events: Iterable[Any]) -> None:
        self._faults = [event for event in events if isinstance(event, TaskFault)]
        self._since_ns: list[int | None] = [None] * len(self._faults)  # when each became active
        self._task, self._active = -1, list[TaskFault]()  # the last task and its faults

    def __bool__(self) -> bool:
        return bool(self._faults)

    def at(self, task: int, sent_ns: int) -> list[TaskFault]:
        """Return the active faults of a task, given when rank 0 sent it, since the start of the run."""
        if task == self._task:
            return self._active
        self._task, self._active = task, []
        for number, fault in enumerate(self._faults):
            since_ns = self._since_ns[number]
            if since_ns is None:
                if task < fault.task if fault.task is not None else sent_ns < fault.at_ns:
                    continue
                self._since_ns[number] = sent_ns if fault.task is not None else fault.at_ns
            elif fault.for_s is not None and sent_ns >= since_ns + round(1e9 * fault.for_s):
                continue
            self._active.append(fault)
        return self._active
