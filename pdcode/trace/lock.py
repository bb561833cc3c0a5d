"""Locks on the names of traces: while a run writes a trace, no other one may take its name.

The lock is a file beside the trace, ``<trace>.lock``, that says who holds it, with POSIX record locks on it:
they hold on NFS too, and end with the process, however it ends, so that the file of a killed run locks
nothing. (HDF5's own lock does not do: it ends when SWMR mode begins, so that readers can open the file.)

Byte 0 is locked by the process that the user started, byte 1 by the writer. They are one process, except
under `pdcode run`, which takes the lock before it starts mpirun: rank 0 finds the lock's key in its
environment, and locks its byte. Nobody else gets the lock until both have ended.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..util.errors import InputError

KEY = "PDCODE_LOCK"  # environment variable with the key of the lock that a launched process may share
TAKEN = errno.EACCES, errno.EAGAIN

_held: dict[Path, Lock] = {}


@dataclass
class Lock:
    """A lock that this process holds.

    Attributes
    ----------
    path : Path
        The lock's file.
    descriptor : int
        Its open file. No other one may be closed in this process, as that would end the lock.
    key : str
        What a launched process finds as `KEY` in its environment, to share the lock.
    users : int
        Number of writers that use the lock.
    reserved : bool
        Whether it was taken for a writer that does not use it yet.
    """

    path: Path
    descriptor: int
    key: str
    users: int = 0
    reserved: bool = True

    def use(self, writer: object) -> Callable[[], object]:
        """Count a writer; return a function that ends the use, as does the end of the writer."""
        self.users += 1
        self.reserved = False
        return weakref.finalize(writer, self.leave)

    def leave(self) -> None:
        """End one use; after the last, remove the file, and end the lock."""
        self.users -= 1
        self._end()

    def drop(self) -> None:
        """End the lock if nobody uses it, reserved or not."""
        self.reserved = False
        self._end()

    def _end(self) -> None:
        if not self.users and not self.reserved and _held.get(self.path) is self:
            del _held[self.path]
            if _is_at(self.path, self.descriptor):
                self.path.unlink()
            os.close(self.descriptor)


def take(path: Path) -> Lock:
    """Lock the name of a trace until this process ends, or until nobody uses it.

    On a file system without locks the file is written, and locks nothing.

    Raises
    ------
    InputError
        If another process holds it; the message names the process.
    OSError
        If the lock's file cannot be created.
    """
    place = Path(f"{path.resolve()}.lock")
    if place in _held:
        _held[place].reserved = True  # its writer may be garbage, and end its use before the next one begins
        return _held[place]
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        holder, key = _holder(place, descriptor), os.environ.get(KEY)
        bytes_locked = (1, 1) if key is not None and key == holder.get("key") else (2, 0)  # length and start
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, *bytes_locked)
        except OSError as error:
            if error.errno not in TAKEN:
                break
            os.close(descriptor)
            who = "process {pid} on {host}, since {since}".format_map(holder) if holder else "another run"
            raise InputError(f"'{path}' is being written by {who}") from None
        if _is_at(place, descriptor):  # else its holder has just removed it
            break
        os.close(descriptor)
    if bytes_locked == (2, 0):
        key = os.urandom(16).hex()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        told = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "key": key}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(told).encode(), 0)
        with suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, 1)  # for the writer
    _held[place] = Lock(place, descriptor, key or "")
    return _held[place]


def _holder(path: Path, descriptor: int) -> dict[str, str]:
    """Read who holds a lock; empty if the file is new.

    Raises
    ------
    InputError
        If the file is not a lock of pdcode.
    """
    content = os.pread(descriptor, 4096, 0)
    try:
        holder = json.loads(content or "{}")
    except ValueError:
        holder = None
    if not isinstance(holder, dict) or (content and not {"pid", "host", "since", "key"} <= holder.keys()):
        os.close(descriptor)
        raise InputError(f"'{path}' is in the way: it is not a lock of pdcode")
    return holder


def _is_at(path: Path, descriptor: int) -> bool:
    """Tell whether an open file is the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@atexit.register
def _leave_all() -> None:
    for lock in [*_held.values()]:
        lock.users = 0
        lock.drop()
