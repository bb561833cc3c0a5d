"""Locks on the names of traces: while a run writes a trace, no other run may write one of the same name.

The lock is a file beside the trace, ``<trace>.lock``, that names its holder, with POSIX record locks on it.
They work on NFS too and end with the process, so that a killed run leaves nothing locked. (HDF5's own lock
ends when SWMR mode begins, so that readers can open the file.)

Byte 0 is locked by the process that the user started, byte 1 by the writer. They are the same process, except
under `pdcode run`, which takes the lock before it starts mpirun: rank 0 finds the lock's key in its
environment and locks byte 1. No other process gets the lock until both have ended.
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

KEY = "PDCODE_LOCK"  # environment variable with the key by which a launched process shares a lock
TAKEN = errno.EACCES, errno.EAGAIN

_held: dict[Path, TraceLock] = {}


@dataclass
class TraceLock:
    """A lock that this process holds for its writers, or reserves for one that is not attached yet.

    No other descriptor of the file may be closed in this process, as that would end the lock.
    """

    path: Path
    descriptor: int
    key: str  # value of the variable `KEY` for a launched process
    writers: int = 0
    reserved: bool = True

    def attach(self, writer: object) -> Callable[[], object]:
        """Hold the lock until the returned function is called or the writer is garbage-collected."""
        self.writers += 1
        self.reserved = False
        return weakref.finalize(writer, self._detach)

    def _detach(self) -> None:
        self.writers -= 1
        self._release_if_unused()

    def cancel(self) -> None:
        """Give up the reservation."""
        self.reserved = False
        self._release_if_unused()

    def _release_if_unused(self) -> None:
        if not self.writers and not self.reserved and _held.get(self.path) is self:
            del _held[self.path]
            with suppress(OSError):  # of a file system that has turned read-only
                if _is_at(self.path, self.descriptor):
                    self.path.unlink()
            os.close(self.descriptor)


def acquire(path: Path) -> TraceLock:
    """Reserve the lock on the name of a trace; refuse a name that another process holds.

    On a file system without record locks the lock's file is written but locks nothing.
    """
    place = Path(f"{path.resolve()}.lock")
    if place in _held:
        _held[place].reserved = True  # its last writer may be collected before the next one is attached
        return _held[place]
    while True:
        descriptor = _open(place)
        holder, key = _read_holder(place, descriptor), os.environ.get(KEY)
        length, start = (1, 1) if key is not None and key == holder.get("key") else (2, 0)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except OSError as error:
            if error.errno not in TAKEN:
                break
            os.close(descriptor)
            who = "process {pid} on {host}, since {since}".format_map(holder) if holder else "another run"
            raise InputError(f"'{path}' is being written by {who}") from None
        if _is_at(place, descriptor):  # otherwise its holder has just removed it
            break
        os.close(descriptor)
    if start == 0:
        key = os.urandom(16).hex()
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": str(os.getpid()), "host": socket.gethostname(), "since": since, "key": key}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        with suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, 1)  # for the writer
    _held[place] = TraceLock(place, descriptor, key or "")
    return _held[place]


def _open(place: Path) -> int:
    """Open or create a lock's file; refuse a symbolic link, which may be somebody else's."""
    try:
        return os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP or not place.is_symlink():
            raise
        raise InputError(f"'{place}' is a symbolic link; remove it") from None


def _read_holder(path: Path, descriptor: int) -> dict[str, str]:
    """Read the holder of a lock, {} from a new file; refuse a file that is not a lock of pdcode."""
    content = os.pread(descriptor, 4096, 0)
    try:
        holder = json.loads(content or "{}")
    except ValueError:
        holder = None
    if not isinstance(holder, dict) or (content and not {"pid", "host", "since", "key"} <= holder.keys()):
        os.close(descriptor)
        raise InputError(f"'{path}' exists and is not a lock of pdcode")
    return holder


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file is still the one at this path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@atexit.register
def _release_all() -> None:
    for lock in [*_held.values()]:
        lock.writers = 0
        lock.cancel()
