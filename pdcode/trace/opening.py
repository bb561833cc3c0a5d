"""Making and opening trace files: in the right mode, past locks and marks, without losing an older one."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Failure, InputError

if TYPE_CHECKING:
    import h5py

LIBVER = ("v110", "v110")  # the oldest format with SWMR, so that every HDF5 since 2016 reads the file
PATIENCE_S = 5.0  # how long to wait for another process to let go of a file
NAP_S = 0.01
LEAST = 4 << 20  # bytes that the disk must have room for
SLACK = 1 << 20  # bytes that HDF5 may need beside the data: indices, headers, what it takes ahead

_abandoned: list[h5py.File] = []  # never closed, for HDF5 would write to them again


def previous(path: Path) -> Path:
    """Where the file that a new run finds at `path` is moved to."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def create(path: Path) -> h5py.File:
    """Make the file and its folder; a file that is there already is kept under another name.

    Raises
    ------
    InputError
        If there cannot be such a file.
    """
    import h5py

    check(path)
    if path.is_file():
        os.replace(path, previous(path))
    try:
        return h5py.File(path, "x", libver=LIBVER, locking="best-effort")
    except OSError as error:
        raise InputError(f"trace.path: cannot write '{path}': {error.strerror or error}") from error


def check(path: Path) -> None:
    """Make the folder of a file, and find out whether the disk takes a short trace there.

    Raises
    ------
    InputError
        If it does not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent) as file:
            reserve(file.fileno(), 0, LEAST)
    except OSError as error:
        raise InputError(f"trace.path: cannot write '{path}': {error.strerror or error}") from None


def amend(path: Path, size: int) -> h5py.File:
    """Open a file for its last additions, as soon as no reader that came in between holds its lock.

    `size` is what they need of the disk, at the most: it is taken first, because a file that cannot be
    finished once it is open cannot be read either.

    Raises
    ------
    Failure
        If there is no room; the file is as it was.
    """
    import h5py

    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            reserve(file.fileno(), end, end + size)
    except OSError as error:
        raise unwritable(path, error) from None
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError):
            return h5py.File(path, "r+", libver=LIBVER, locking="best-effort")
        time.sleep(NAP_S)
    return h5py.File(
        path, "r+", libver=LIBVER, locking=False
    )  # the result of a run outweighs a reader's lock


def reserve(descriptor: int, start: int, end: int) -> None:
    """Take what a file needs of the disk, from one offset to another, before it is written.

    HDF5 gives back what it does not use when it is flushed or closed.

    Raises
    ------
    OSError
        If there is no room; the file is as long as it was.
    """
    if not hasattr(os, "posix_fallocate") or end <= start:
        return
    length = os.fstat(descriptor).st_size
    try:
        os.posix_fallocate(descriptor, start, end - start)
    except OSError as error:
        with suppress(OSError):
            os.ftruncate(descriptor, length)
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # else this file system cannot
            raise


class Guard:
    """Writes to an open file only what the disk has room for.

    HDF5 cannot be asked to write to a full disk: the file is torn then, and the process crashes when it is
    closed. So the room for all that is not flushed yet is taken before. Should writing fail all the same,
    what HDF5 has kept, and tries to write again at every close, goes to memory.

    Parameters
    ----------
    path : Path
    file : h5py.File
        Open.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path, self._file = path, file
        self._descriptor = file.id.get_vfd_handle()
        self._flushed = 0
        self._failure: Failure | None = None

    @contextmanager
    def writing(self, size: int) -> Iterator[None]:
        """Writing, within this context, makes the file longer by so many bytes at the most.

        Raises
        ------
        Failure
            Naming the file and the reason, then and ever after.
        """
        if self._failure is not None:
            raise self._failure
        try:
            end = self._file.id.get_filesize() + size
            reserve(self._descriptor, max(0, self._flushed - SLACK), end)
        except OSError as error:
            self._failure = unwritable(self._path, error)
            raise self._failure from None
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._abandon()
            self._failure = unwritable(self._path, error)
            raise self._failure from None

    def flush(self) -> None:
        """Bring all to disk."""
        with self.writing(SLACK):
            self._file.flush()
        self._flushed = os.fstat(self._descriptor).st_size

    def _abandon(self) -> None:
        with suppress(OSError, RuntimeError):
            there = hasattr(os, "memfd_create")
            memory = os.memfd_create("pdcode") if there else os.open(os.devnull, os.O_RDWR)
            os.dup2(memory, self._descriptor)
            os.close(memory)
        _abandoned.append(self._file)


def unwritable(path: Path, error: BaseException) -> Failure:
    """What to raise where a trace cannot be written on."""
    number = getattr(error, "errno", None) or int((re.findall(r"errno = (\d+)", str(error)) or [0])[0])
    reason = os.strerror(number) if number else str(error)
    return Failure(f"{path}: cannot write the trace: {reason}")


def read(path: Path) -> h5py.File:
    """Open a trace that may be finished, live or killed: the latter two are only to be had in SWMR mode.

    Raises
    ------
    InputError
        If there is no such file, or it is not HDF5, or not whole.
    """
    import h5py

    if not path.is_file():
        raise InputError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    problem, end = "", time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            return h5py.File(path, "r", locking="best-effort")
        except OSError as error:
            problem = str(error)
        if "open for write" in problem:  # else never: in SWMR mode HDF5 waits for hours for what is missing
            with suppress(OSError):
                return h5py.File(path, "r", swmr=True, locking="best-effort")
        elif "unable to lock" not in problem:
            break
        time.sleep(NAP_S)
    what = (
        "a part of the file is missing" if "truncated" in problem else "not a pdcode trace, or not readable"
    )
    raise InputError(f"{path}: {what}")
