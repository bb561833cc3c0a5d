"""Faults of a worker's tasks."""

from typing import ClassVar

from ..config import Factor
from .base import TaskFault


class InjectedFault(RuntimeError):
    """Exception raised on purpose by ``[faults]``."""


class Raise(TaskFault, tag="raise"):
    """The worker raises an exception, as after a programming error; this ends the run."""

    ends: ClassVar[bool] = True
    numeric: ClassVar[bool] = True

    def begin(self, worker: int, task: int) -> None:
        raise InjectedFault(f"worker {worker} raises at task {task}, as [faults] asks")


class Slow(TaskFault, tag="slow"):
    """The worker computes more slowly."""

    delays: ClassVar[bool] = True
    factor: Factor = 10.0  #: factor of its compute time

    def slower_ns(self, compute_ns: int) -> int:
        return round((self.factor - 1) * compute_ns)
