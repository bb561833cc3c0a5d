"""Room on the disk, taken before HDF5 writes.

HDF5 cannot be asked to write to a full disk: what it has of the file is torn then, and the process crashes
when the file is closed. So a trace takes the room for all that is not on disk yet, and writes only into that.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import Failure, reason

if TYPE_CHECKING:
    import h5py

SLACK = 1 << 20  # bytes that HDF5 may need beside the data: indices, headers, what it takes ahead
ZEROS = 1 << 20  # bytes that are written at a time where a file system cannot be asked for room

_abandoned: list[h5py.File] = []  # never closed, for HDF5 would write to them again


def reserve(descriptor: int, start: int, end: int) -> None:
    """Take the room of a file from one offset to another; what is there stays, and the file may get longer.

    HDF5 cuts off what it has not used, when it closes the file at the latest.

    Raises
    ------
    OSError
        If there is no room; the file is as long as it was.
    """
    if end <= start:
        return
    length = os.fstat(descriptor).st_size
    try:
        if not _allocate(descriptor, start, end):
            for at in range(max(start, length), end, ZEROS):
                os.pwrite(descriptor, bytes(min(ZEROS, end - at)), at)
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, length)
        raise


def _allocate(descriptor: int, start: int, end: int) -> bool:
    """Ask the file system; whether it can be asked."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return False
    try:
        os.posix_fallocate(descriptor, start, end - start)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        return False
    return True


class Guard:
    """Writes to an open file only what the disk has room for.

    Should that fail all the same, what HDF5 has kept, and tries to write again at every close, goes to
    memory.

    Parameters
    ----------
    path : Path
    file : h5py.File
        Open.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self._descriptor = file.id.get_vfd_handle()
        self._flushed = 0  # end of the file when it was last flushed …
        self._end = 0  # … and if it is flushed now, at the most
        self._reserved = 0  # up to where there is room
        self._failure: Failure | None = None

    def need(self, size: int) -> None:
        """Take room for so many bytes more.

        HDF5 finds a place for what is written only when it is flushed, so all since then counts.

        Raises
        ------
        Failure
            Naming the file and the reason, then and ever after.
        """
        self._check()
        self._end += size
        end = self._end + SLACK
        if end <= self._reserved:
            return
        try:
            reserve(self._descriptor, max(self._reserved, self._flushed - SLACK), end)
        except OSError as error:
            with self.writing():
                self._file.flush()  # what there is room for
            self._failure = unwritable(self._path, error)
            self._check()
        self._reserved = end

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A context in which there is writing, into the room that was taken.

        Raises
        ------
        Failure
            As above.
        """
        self._check()
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._abandon()
            self._failure = unwritable(self._path, error)
        self._check()

    def flush(self) -> None:
        """Bring all to disk."""
        with self.writing():
            self._file.flush()
        self._end = self._flushed = self._file.id.get_filesize()
        self._reserved = 0  # HDF5 may have cut it off

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _abandon(self) -> None:
        with suppress(OSError, RuntimeError):
            there = hasattr(os, "memfd_create")
            memory = os.memfd_create("pdcode") if there else os.open(os.devnull, os.O_RDWR)
            os.dup2(memory, self._descriptor)
            os.close(memory)
        _abandoned.append(self._file)


def unwritable(path: Path, error: BaseException) -> Failure:
    """What to raise where a trace cannot be written on."""
    return Failure(f"{path}: cannot write the trace: {reason(error)}")
