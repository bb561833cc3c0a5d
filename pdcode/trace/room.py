"""Room on the disk, taken before HDF5 writes.

A flush for which the disk has no room leaves columns longer than their data, and the process crashes when the
file is closed. Only writing shows whether there is room: a quota is in no statistics of the file system.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import Failure, reason

if TYPE_CHECKING:
    import h5py

SLACK = 1 << 20  # bytes that HDF5 may need beside the data: indices, headers, what it takes ahead
ZEROS = bytes(1 << 20)


def take(descriptor: int, end: int) -> None:
    """Lengthen a file to `end` bytes, if it is shorter.

    Raises
    ------
    OSError
        If there is no room; the file is as long as it was.
    """
    at = length = os.fstat(descriptor).st_size
    try:
        while at < end:
            at += os.pwrite(descriptor, ZEROS[: end - at], at)
    except OSError:
        os.ftruncate(descriptor, length)
        raise


class Guard:
    """Room for what is written to an open HDF5 file.

    Parameters
    ----------
    path : Path
    file : h5py.File

    Attributes
    ----------
    torn : bool
        Whether HDF5 failed to write; it would crash over closing the file.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self._failure: Failure | None = None
        self.torn = False

    @contextmanager
    def writing(self, size: int = 0) -> Iterator[None]:
        """Take room for `size` bytes, let the block write them, and flush.

        Raises
        ------
        Failure
            Naming the file and the reason, ever after. If there is no room, nothing was written.
        """
        if self._failure is not None:
            raise self._failure
        try:
            take(self._file.id.get_vfd_handle(), self._file.id.get_filesize() + size + SLACK)
        except OSError as error:
            self._failure = unwritable(self._path, error)
            raise self._failure from None
        try:
            yield
            self._file.flush()
        except (OSError, RuntimeError) as error:
            self.torn = True
            atexit.register(_leave, self)
            self._failure = unwritable(self._path, error)
            raise self._failure from None

    def close(self) -> None:
        """Close a file that is flushed, without the room that it has not used."""
        os.ftruncate(self._file.id.get_vfd_handle(), self._file.id.get_filesize())
        self._file.close()


def _leave(guard: Guard) -> None:
    """End the process before HDF5 closes the guard's file, which it would crash over."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def unwritable(path: Path, error: BaseException) -> Failure:
    """What to raise where a trace cannot be written on."""
    return Failure(f"{path}: cannot write the trace: {reason(error)}")
