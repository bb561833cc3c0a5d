"""Making and opening trace files: in the right mode, past locks and marks, without losing an older one."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import InputError, reason
from . import room

if TYPE_CHECKING:
    import h5py

LIBVER = ("v110", "v110")  # the oldest format with SWMR, so that every HDF5 since 2016 reads the file
PATIENCE_S = 5.0  # how long to wait for another process to let go of a file
NAP_S = 0.01
DAMAGE = OSError, KeyError, RuntimeError, ValueError
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
LEAST = 4 << 20  # bytes that the disk must have room for


def previous(path: Path) -> Path:
    """Where the file that a new run finds at `path` is moved to."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def create(path: Path) -> tuple[h5py.File, bool]:
    """Make the file and its folder; a file that is there already is kept under another name.

    Returns the file, and whether there was one.

    Raises
    ------
    InputError
        If there cannot be such a file.
    """
    import h5py

    check(path)
    there = path.is_file()
    try:
        if there:
            os.replace(path, previous(path))
        return h5py.File(path, "x", libver=LIBVER, locking="best-effort"), there
    except OSError as error:
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}") from error


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
            room.take(file.fileno(), LEAST)
    except OSError as error:
        wants = f" (a trace wants {LEAST >> 20} MiB at least)" if error.errno in FULL else ""
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}{wants}") from None


def amend(path: Path) -> h5py.File:
    """Open a file for its last additions, as soon as no reader that came in between holds its lock.

    Raises
    ------
    Failure
        If the file cannot be opened.
    """
    import h5py

    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError):
            return h5py.File(path, "r+", libver=LIBVER, locking="best-effort")
        time.sleep(NAP_S)
    try:  # the result of a run outweighs a reader's lock
        return h5py.File(path, "r+", libver=LIBVER, locking=False)
    except OSError as error:
        raise room.unwritable(path, error) from None


@contextmanager
def read(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file; if reading in the block fails, the file is damaged: do nothing else there.

    A trace may be finished, live or killed: the latter two are only to be had in SWMR mode.

    Raises
    ------
    InputError
        If there is no such file, or it is not HDF5, or not whole, or damaged.
    """
    try:
        with _opened(path) as file:
            yield file
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: damaged: {error}") from None


def _opened(path: Path) -> h5py.File:
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
