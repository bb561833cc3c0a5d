"""A rank's side of `supervisor`: its connection to the command that started mpirun. Imports no MPI.

Every rank imports this module at its start; modules that only the command needs are not imported here.
"""

import os
import signal
import socket
import threading
from contextlib import suppress

VARIABLE = "PDCODE_SUPERVISOR"  # name of the socket, in Linux's abstract namespace
READY, EXIT, JOB_EXIT = b"r", b"e", b"l"

_command: socket.socket | None = None  # the connection


def attach() -> None:
    """Take over stdout and stderr of the command that started mpirun on this machine, and end with it."""
    global _command
    name = os.environ.pop(VARIABLE, None)
    if name is None:
        return
    command = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        command.connect(f"\0{name}")
        _, streams, _, _ = socket.recv_fds(command, 1, 2)
    except OSError:  # on another machine
        command.close()
        return
    for target, stream in enumerate(streams, 1):
        os.dup2(stream, target)
        os.close(stream)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # as `stty tostop` stops background processes that print
    _command = command
    threading.Thread(target=_follow, args=(command,), daemon=True).start()


def _follow(command: socket.socket) -> None:
    """End this process when the command ends, even if it is killed."""
    with suppress(OSError):
        command.recv(1)
    os._exit(1)


def is_attached() -> bool:
    """Return whether the command that started mpirun is on this machine."""
    return _command is not None


def report_ready() -> None:
    """In rank 0: report that it handles signals from now on."""
    _report(READY)


def report_exit(code: int) -> None:
    """Report the exit code of this rank, after its last output."""
    _report(EXIT + bytes([code & 0xFF]))


def report_job_exit(code: int) -> None:
    """In rank 0: report the exit code of the job, which the other ranks no longer affect."""
    _report(JOB_EXIT + bytes([code & 0xFF]))


def _report(message: bytes) -> None:
    if _command is not None:
        with suppress(OSError):
            _command.send(message)
