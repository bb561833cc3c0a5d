"""Ranks as processes: those that one launcher has started here, and the launcher. Imports no MPI."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

END_S = 2.0  # for ranks to end by themselves, and for a launcher to end after a signal
POLL_S = 0.02

_launcher = os.getppid()  # until it ends


def state(pid: int) -> str:
    """Return the state letter of a process, such as T for stopped; Z, that of a zombie, if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def living() -> list[int]:
    """Return the process ids of the launcher's children, without this process and those that have ended."""
    found = []
    for path in Path(f"/proc/{_launcher}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if pid != os.getpid() and state(pid) != "Z"]


def outlive(everyone_here: bool) -> None:
    """Wait until the other ranks have ended; if some hang, or may hang elsewhere, end the launcher.

    The launcher ends all ranks, this one too. A signal that reaches PRRTE 3, Open MPI's launcher, while its
    last rank ends makes it wait for ever: it completes the job twice, and uses freed memory. So this rank
    lives on until it is ended. After a third signal PRRTE ends all processes at once.
    """
    until = time.monotonic() + END_S
    while (hanging := bool(living()) or not everyone_here) and time.monotonic() < until:
        time.sleep(POLL_S)
    if hanging:
        for _ in range(3):
            if os.getppid() != _launcher:  # it has ended
                return
            os.kill(_launcher, signal.SIGTERM)
            time.sleep(END_S)
