"""Creating and opening trace files: access modes, locks, and the renaming of an existing trace."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import InputError, ensure_file, reason
from ..util.output import ensure_replaceable, temporary_file
from . import contents, disk, lock
from .schema import SCHEMA

if TYPE_CHECKING:
    import h5py

LIBVER = ("v110", "v110")  # the oldest format with SWMR, so that every HDF5 since 2016 reads the file
TIMEOUT_S = 5.0  # for another process to release a file that is read
NAP_S = 0.01
CACHE = 1 << 16  # bytes of a column's chunks that HDF5 caches: those that are being filled
DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
MIN_FREE = 4 << 20  # bytes that must be free on the disk


def previous(path: Path) -> Path:
    """Return the name that an existing trace at `path` gets when a new run writes there."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def reserve(path: Path) -> lock.TraceLock:
    """Create the folder of a trace, and lock its name until this process ends.

    An existing trace will be renamed to its previous name, and replaces one there. Refused are names that
    another run writes, and files that are not traces.
    """
    if "\0" in str(path):
        raise InputError(f"trace.path: {str(path)!r}: a file's name has no NUL byte")
    ensure_space_for_trace(path)
    name, older = f"trace.path: cannot write '{path}'", previous(path)
    try:
        held = lock.acquire(path)
        try:
            ensure_replaceable(path, name, "a trace", is_trace)
            if path.exists() and older.exists():
                ensure_replaceable(older, f"{name}, as its trace becomes '{older}'", "a trace", is_trace)
                lock.acquire(older).cancel()
        except BaseException:
            held.cancel()
            raise
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from None
    return held


def rename_notice(path: Path) -> str:
    """Describe for the user how an existing trace will be renamed; empty if there is none."""
    older = previous(path)
    also = ", in place of an older one" if older.exists() else ""
    return f"the trace that was there is kept as {older}{also}" if path.exists() else ""


def rename_to_previous(path: Path) -> None:
    """Rename an existing trace."""
    if path.is_file():
        os.replace(path, previous(path))


def create_file(path: Path) -> h5py.File:
    """Create a file that will get the name of a reserved trace; replace one of an earlier attempt."""
    import h5py

    try:
        path.unlink(missing_ok=True)
        return h5py.File(path, "x", libver=LIBVER, locking="best-effort", rdcc_nbytes=CACHE)
    except OSError as error:
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}") from error


def ensure_space_for_trace(path: Path) -> None:
    """Create the folder of a trace, and check that the disk has space for a short trace."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with temporary_file(path.parent) as file:
            disk.reserve_space(file.fileno(), MIN_FREE)
    except OSError as error:
        need = f" (a trace needs at least {MIN_FREE >> 20} MiB)" if error.errno in DISK_FULL else ""
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}{need}") from None


@contextmanager
def open_for_additions(path: Path, end: int) -> Iterator[h5py.File]:
    """Open a closed trace for additions, which take effect together, up to a length of `end` bytes.

    HDF5 refuses to open a file after a kill during additions. They are therefore made to a copy that replaces
    the trace, or to the trace itself if there is no space for two. Space is reserved before HDF5 opens the
    file: a full disk leaves the trace as it is. An error of the file is a `Failure`.
    """
    import h5py

    place = copy = path.with_name(f"{path.name}.amended")
    try:
        try:
            try:
                copy.unlink(missing_ok=True)
                with path.open("rb") as source, copy.open("xb") as target:  # follows no link
                    shutil.copyfileobj(source, target)
                shutil.copymode(path, copy)
                _extend(copy, end)
            except OSError:
                with suppress(OSError):
                    copy.unlink()  # frees what the trace itself needs
                place = path
                _extend(path, end)
            # A reader's lock must not prevent that a run's result is written.
            file = h5py.File(place, "r+", libver=LIBVER, locking=False)
        except OSError as error:
            raise disk.write_failure(path, error) from None
        guard = disk.SpaceGuard(path, file)
        try:
            with guard.writing(None):
                yield file
        finally:
            if not guard.torn:
                guard.close()
        if place == copy:
            os.replace(copy, path)
    finally:
        with suppress(OSError):  # it is not there, or the file system has turned read-only
            copy.unlink()


def _extend(path: Path, end: int) -> None:
    with path.open("r+b") as file:
        disk.reserve_space(file.fileno(), end)


def is_trace(path: Path) -> bool:
    """Return whether a file is a trace, damaged or not."""
    return schema(path) == SCHEMA


def schema(path: Path) -> str | None:
    """Return the schema that an HDF5 file names; None if the file or the name is missing."""
    try:
        with open_for_reading(path) as file:
            named = contents.attribute(file, "schema", str(path))
    except InputError:
        return None
    return named if isinstance(named, str) else None


def open_for_reading(path: Path) -> h5py.File:
    """Open an HDF5 file; traces of running and killed runs are opened in SWMR mode."""
    import h5py

    ensure_file(path)
    problem, end_s = "", time.monotonic() + TIMEOUT_S
    while time.monotonic() < end_s:
        try:
            return h5py.File(path, "r", locking="best-effort")
        except (OSError, RuntimeError) as error:
            problem = str(error)
        if "open for write" in problem:  # not for others: in SWMR mode HDF5 waits hours for missing data
            with suppress(OSError):
                return h5py.File(path, "r", swmr=True, locking="best-effort")
        elif "unable to lock" not in problem:
            break
        time.sleep(NAP_S)
    what = "the file is truncated" if "truncated" in problem else "not a pdcode trace, or not readable"
    if Path(path).suffix == ".toml":
        what = "a configuration, not a trace; `pdcode run` and `simulate` write one"
    raise InputError(f"{path}: {what}")
