"""Reservation of disk space before HDF5 writes.

If the disk is full, a flush leaves columns longer than their data, and closing the file crashes the process.
File system statistics do not show quotas, so that only writing shows whether there is space.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..util.errors import Failure, reason

if TYPE_CHECKING:
    import h5py

SLACK = 1 << 20  # bytes that HDF5 may need for indices, headers and preallocation
NOTE = 1 << 16  # bytes of that, at least, for the note of a failure
ZEROS = bytes(1 << 20)


def reserve_space(descriptor: int, end: int) -> None:
    """Extend a file to `end` bytes if it is shorter; raise OSError and restore its length if that fails."""
    at = length = os.fstat(descriptor).st_size
    try:
        while at < end:
            at += os.pwrite(descriptor, ZEROS[: end - at], at)
    except OSError:
        os.ftruncate(descriptor, length)
        raise


class SpaceGuard:
    """Guard of an open HDF5 file that reserves space before each write; `path` is its name in messages.

    Attributes
    ----------
    torn : bool
        Whether HDF5 failed to write; closing the file would then crash.
    full : bool
        Whether to behave as if the disk were full, for tests.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self._failure: Failure | None = None
        self.note: Callable[[Failure], None] | None = None  # writes why the trace ends, in reserved space
        self.torn = self.full = False
        self._reserved = 0  # length of the file after the last write

    @contextmanager
    def writing(self, size: int | None = 0) -> Iterator[None]:
        """Reserve `size` bytes (None: they are reserved), let the block write them, and flush.

        If there is no space, only `note` is written, and this and every later call raises `Failure`.
        """
        if self._failure is not None:
            raise self._failure
        descriptor, length = self._file.id.get_vfd_handle(), self._file.id.get_filesize()
        if os.fstat(descriptor).st_size < self._reserved:
            self._tear(Failure(f"{self._path}: another program has cut off the trace while it was written"))
        try:
            if size is not None:
                if self.full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                reserve_space(descriptor, length + size + SLACK)
        except OSError as error:
            failure = write_failure(self._path, error)
            if self.note is not None and os.fstat(descriptor).st_size >= length + NOTE:
                with self.writing(None):
                    self.note(failure)
            self._failure = failure
            raise failure from None
        try:
            yield
            self._file.flush()
        except (OSError, RuntimeError) as error:
            self._tear(write_failure(self._path, error))
        self._reserved = os.fstat(descriptor).st_size

    def _tear(self, failure: Failure) -> NoReturn:
        """Give the file up: raise a failure, now and at every later write."""
        self.torn, self._failure = True, failure
        atexit.register(_exit_without_closing, self)
        raise failure from None

    def close(self) -> None:
        """Cut off unused space and close the file, which must be flushed."""
        os.ftruncate(self._file.id.get_vfd_handle(), self._file.id.get_filesize())
        self._file.close()


def _exit_without_closing(guard: SpaceGuard) -> None:
    """End the process before HDF5 tries to close the guard's file, which would crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def write_failure(path: Path, error: BaseException) -> Failure:
    """Return the Failure for a trace that can no longer be written."""
    return Failure(f"{path}: cannot write the trace: {reason(error)}")
