"""Faults of a worker's process."""

import ctypes
import os
import signal
from typing import ClassVar

from ..config import Config, Seconds
from ..config.requirements import KeyNeeds, one_of
from ..util.errors import InputError
from .base import ProcessFault

LONG_S = 10**9


class Kill(ProcessFault, tag="kill"):
    """SIGKILL: the worker dies, and its state is lost."""

    lethal: ClassVar[bool] = True

    def execute(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Exit(ProcessFault, tag="exit"):
    """The process exits with code 1 and without a message: Open MPI does not report it."""

    halts: ClassVar[bool] = True

    def execute(self) -> None:
        os._exit(1)


class Stop(ProcessFault, tag="stop"):
    """SIGSTOP, and SIGCONT after a time: the process pauses."""

    delays: ClassVar[bool] = True
    halts: ClassVar[bool] = True

    for_s: Seconds | None = None  #: for how long; none: for good [s]

    def execute(self) -> None:
        import subprocess  # not needed by ranks without this fault

        waker = None
        if self.for_s is not None:
            waker = subprocess.Popen(
                ["/bin/sh", "-c", f"sleep {self.for_s:.9f}; kill -CONT {os.getpid()}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        os.kill(os.getpid(), signal.SIGSTOP)
        if waker is not None:
            waker.wait()


class Timespec(ctypes.Structure):
    """C's struct timespec."""

    _fields_: ClassVar = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class Hang(ProcessFault, tag="hang"):
    """A thread of the process holds the interpreter lock: no Python code runs meanwhile."""

    delays: ClassVar[bool] = True
    halts: ClassVar[bool] = True

    for_s: Seconds | None = None  #: for how long; none: for good [s]

    def execute(self) -> None:
        lasts_ns = LONG_S * 10**9 if self.lasts_ns is None else self.lasts_ns
        span = Timespec(*divmod(lasts_ns, 10**9))
        ctypes.PyDLL(None).nanosleep(ctypes.byref(span), None)  # unlike CDLL, keeps the lock


class Leave(ProcessFault, tag="leave"):
    """SIGTERM, as before a preemption of the node: the worker finishes its task, and leaves."""

    leaves: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {"reduce.kind": one_of("star", why="leaves too few workers for a sum over all")}
    }

    def execute(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


class Join(ProcessFault, tag="join"):
    """A worker that has died or left is back, without memory and θ; over MPI, a spare rank replaces it."""

    joins: ClassVar[bool] = True

    def check_config(self, config: Config) -> None:
        super().check_config(config)
        if self.at_s is None and self is not config.faults.failure:
            raise InputError(f"faults.events: kind 'join', worker {self.worker}: at_s: must be given")
        ensure_joinable(config)


def ensure_joinable(config: Config) -> None:
    """Refuse workers that come back where rank 0 relies on the lost state of the worker."""
    if config.memory.kind == "difference":
        raise InputError("memory.kind: 'difference': a worker that comes back has lost its part of the state")
