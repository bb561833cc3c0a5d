"""A rank's side of `supervisor`: its connection to the command that started mpirun. Imports no MPI.

Every rank imports this module at its start; modules that only the command needs are not imported here.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..util import clocks
from ..util.errors import escape
from . import launcher

VARIABLE = "PDCODE_SUPERVISOR"  # name of the socket, in Linux's abstract namespace
END_S = 4.0  # for mpirun to end, at most, once rank 0 has reported the end of the job or any rank an error
QUIET_S = 0.05  # until all ranks have no stderr
READY, EXIT, DEATH, JOB_EXIT = b"r", b"e", b"d", b"l"

_command: socket.socket | None = None  # the connection
_own_stderr, _mpirun_stderr = 2, -1


def here() -> str:
    """Return the identity of this machine, and of its network, in which the socket's name is known."""
    network = Path("/proc/self/ns/net")
    return f"{clocks.identity()} {os.readlink(network) if network.exists() else ''}"


def attach(kill_launcher: Callable[[], None]) -> None:
    """Take over stdout and stderr of the command that started mpirun on this machine, and end with it.

    If the command is killed, `kill_launcher` is called before this process ends.
    """
    global _command, _mpirun_stderr
    name, _, place = os.environ.pop(VARIABLE, "").partition(" ")
    if not name:
        return
    command = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        command.connect(f"\0{name}")
        _, streams, _, _ = socket.recv_fds(command, 1, 2)
    except OSError:
        if place == here():  # the command has ended
            kill_launcher()
            os._exit(1)
        command.close()
        return
    _mpirun_stderr = os.dup(2)
    for target, stream in enumerate(streams, 1):
        os.dup2(stream, target)
        os.close(stream)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # as `stty tostop` stops background processes that print
    _command = command
    threading.Thread(target=_follow, args=(command, kill_launcher), daemon=True).start()


def _follow(command: socket.socket, kill_launcher: Callable[[], None]) -> None:
    """End this process when the command ends, even if it is killed; then rank 0 prints a line."""
    ended = b""
    with suppress(OSError):
        ended = command.recv(1)
    place = launcher.launched_rank(os.environ)
    if not ended:
        if place and place[0] == 0:
            print_line("the command that started mpirun was killed; the job ends")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI in a rank that loses mpirun prints a banner
        time.sleep(QUIET_S)
        kill_launcher()
    os._exit(1)


@contextmanager
def through_launcher() -> Iterator[None]:
    """Let the block print errors through mpirun: the command drops them if a rank has said why it ends."""
    if _command is None:
        yield
        return
    global _own_stderr
    _own_stderr = os.dup(2)
    os.dup2(_mpirun_stderr, 2)
    try:
        yield
    finally:
        os.dup2(_own_stderr, 2)
        _own_stderr = 2


def print_line(text: str) -> None:
    """Print a line on stderr, in another thread than the one that lets errors go through mpirun."""
    with suppress(OSError):
        if is_writable(_own_stderr):  # its reader may have stopped
            os.write(_own_stderr, f"pdcode: {escape(text)}\n".encode())


def is_writable(descriptor: int) -> bool:
    """Return whether up to `select.PIPE_BUF` bytes can be written without waiting, or fail at once."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def is_attached() -> bool:
    """Return whether the command that started mpirun is on this machine."""
    return _command is not None


def report_ready() -> None:
    """In rank 0: report that it handles signals from now on."""
    _report(READY)


def report_exit(code: int, died: bool = False) -> None:
    """Report the exit code of this rank, after its last output, and whether others' deaths have ended it."""
    _report((DEATH if died else EXIT) + bytes([code & 0xFF]))


def report_job_exit(code: int) -> None:
    """In rank 0: report the exit code of the job, which the other ranks no longer affect."""
    _report(JOB_EXIT + bytes([code & 0xFF]))


def _report(message: bytes) -> None:
    if _command is not None:
        with suppress(OSError):
            _command.send(message)
