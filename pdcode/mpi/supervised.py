"""A rank's side of `supervisor`: its connection to the command that started mpirun. Imports no MPI.

All ranks import this when they start, and nothing else of what only the command needs.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress

VARIABLE = "PDCODE_SUPERVISOR"  # name of the socket, in Linux's abstract namespace
READY, ENDED, LEFT = b"r", b"e", b"l"

_command: socket.socket | None = None  # the connection


def attach() -> None:
    """Take over stdout and stderr of the command that started mpirun here, and end with it."""
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


def present() -> bool:
    """Return whether the command that started mpirun is here."""
    return _command is not None


def ready() -> None:
    """In rank 0: say that it handles signals from now on."""
    _tell(READY)


def ended(code: int) -> None:
    """Say with which exit code it ends, after its last words."""
    _tell(ENDED + bytes([code & 0xFF]))


def left(code: int) -> None:
    """In rank 0: say with which exit code the job ends, whatever becomes of the other ranks."""
    _tell(LEFT + bytes([code & 0xFF]))


def _tell(message: bytes) -> None:
    if _command is not None:
        with suppress(OSError):
            _command.send(message)
