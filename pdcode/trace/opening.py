"""Creating and opening trace files: access modes, locks, and the renaming of an older file."""

from __future__ import annotations

import errno
import faulthandler
import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import InputError, not_a_file, reason
from ..util.output import ensure_replaceable, temporary_file
from . import contents, lock, room
from .schema import SCHEMA

if TYPE_CHECKING:
    import h5py

LIBVER = ("v110", "v110")  # the oldest format with SWMR, so that every HDF5 since 2016 reads the file
PATIENCE_S = 5.0  # time to wait for another process to release a file that is read
NAP_S = 0.01
CACHE = 1 << 16  # bytes of a column's chunks that HDF5 keeps: those that are being filled
FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
LEAST = 4 << 20  # bytes that must be free on the disk
MEMORY = 100 << 20  # bytes that HDF5 may take besides datasets: damage may claim that a text has gigabytes
LONGEST_S, FAST = 2, 50 << 20  # processor time to read a file: seconds, and bytes a second beyond them


def previous(path: Path) -> Path:
    """Return the name that an existing file at `path` gets when a new run writes there."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def reserve(path: Path) -> lock.Lock:
    """Create the folder of a trace, and lock its name until this process ends.

    An existing trace will be renamed, in place of an older one of that name; no other file may be there.

    Raises
    ------
    InputError
        If another run writes this trace or the older one, or if another file is in the way.
    """
    if "\0" in str(path):
        raise InputError(f"trace.path: {str(path)!r}: a file's name has no NUL byte")
    ensure_room_for_trace(path)
    name, older = f"trace.path: cannot write '{path}'", previous(path)
    try:
        held = lock.take(path)
        try:
            ensure_replaceable(path, name, "a trace", is_trace)
            if path.exists() and older.exists():
                kept = f"{name}, as its trace becomes '{older}'"
                ensure_replaceable(older, kept, "a trace", is_trace)
                lock.take(older).drop()
        except BaseException:
            held.drop()
            raise
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from None
    return held


def renaming(path: Path) -> str:
    """Describe what will become of an existing trace; empty if there is none."""
    older = previous(path)
    also = ", in place of an older one" if older.exists() else ""
    return f"the trace that was there is kept as {older}{also}" if path.exists() else ""


def keep(path: Path) -> None:
    """Rename an existing trace, as `renaming` says."""
    if path.is_file():
        os.replace(path, previous(path))


def create_file(path: Path) -> h5py.File:
    """Create a file that will take the name of a reserved trace, in place of one of an earlier attempt.

    Raises
    ------
    InputError
        If it cannot be created.
    """
    import h5py

    try:
        path.unlink(missing_ok=True)
        return h5py.File(path, "x", libver=LIBVER, locking="best-effort", rdcc_nbytes=CACHE)
    except OSError as error:
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}") from error


def ensure_room_for_trace(path: Path) -> None:
    """Create the folder of a trace, and check that the disk has room for a short trace.

    Raises
    ------
    InputError
        If a trace cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with temporary_file(path.parent) as file:
            room.take(file.fileno(), LEAST)
    except OSError as error:
        need = f" (a trace needs at least {LEAST >> 20} MiB)" if error.errno in FULL else ""
        raise InputError(f"trace.path: cannot write '{path}': {reason(error)}{need}") from None


@contextmanager
def amended(path: Path, size: int) -> Iterator[h5py.File]:
    """Open a closed trace for additions of `size` bytes; it changes only once they are whole.

    A kill during additions to a file leaves one that HDF5 refuses to open, so they are made to a copy, or to
    the trace itself if there is no room for two.

    Raises
    ------
    Failure
        If the file cannot be opened or written.
    """
    import h5py

    copy = path.with_name(f"{path.name}.amended")
    try:
        place = copy if _copied(path, copy, size) else path
        try:  # the result of a run is worth more than a reader's lock
            file = h5py.File(place, "r+", libver=LIBVER, locking=False)
        except OSError as error:
            raise room.unwritable(path, error) from None
        guard = room.Guard(path, file)
        with guard.writing(size):
            yield file
        guard.close()
        if place == copy:
            os.replace(copy, path)
    finally:
        copy.unlink(missing_ok=True)


def _copied(path: Path, copy: Path, size: int) -> bool:
    """Copy a file if there is room for the copy and `size` more bytes; return whether there is."""
    try:
        shutil.copy(path, copy)
        with copy.open("r+b") as file:
            room.take(file.fileno(), path.stat().st_size + size + room.SLACK)
            file.truncate(path.stat().st_size)
    except OSError:
        return False
    return True


def survive(path: str | Path) -> None:
    """Read a file in a forked process first: HDF5 may crash, or never end, if bytes of a file are damaged.

    For commands alone, whose process has no threads, before MPI starts.

    Raises
    ------
    InputError
        If it does. Damage that HDF5 notices is left to whoever reads the file.
    RuntimeError
        If the forked process cannot do its work.
    """
    if not_a_file(path):
        return
    stat = os.stat(path)
    status = _status(path, (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    if os.WIFSIGNALED(status):
        what = "HDF5 crashes or does not end when it reads it, or takes too much memory"
        raise contents.damaged(str(path), what)
    if status:
        raise RuntimeError(f"{path} could not be read in a forked process")


@lru_cache(maxsize=64)
def _status(path: str | Path, stamp: tuple[int, ...]) -> int:
    """Return the status with which a process ends that reads a file; an unchanged one is read only once."""
    import h5py  # noqa: F401 (once, for both processes)

    child = os.fork()
    if not child:
        code = 1
        try:
            _read_all(path)
            code = 0
        except BaseException:  # noqa: BLE001 (nothing of this process may go on)
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def _read_all(path: str | Path) -> None:
    """Read all datasets of a file, in limited processor time and, but for them, limited memory."""
    claimed, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    faulthandler.disable()
    _limit_processor_time(claimed)
    with suppress(InputError), open_for_reading(Path(path)) as file:
        for dataset in contents.datasets(file, str(path)):
            claimed += dataset.nbytes
            _limit_processor_time(claimed)
            with suppress(InputError):
                contents.array(dataset, str(path))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before << 10
    if used > 2 * claimed + MEMORY:
        os.kill(os.getpid(), signal.SIGKILL)


def _limit_processor_time(claimed: int) -> None:
    """Kill this process once it has taken longer than reading so many bytes does."""
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]  # only root may raise it
    limit_s = LONGEST_S + claimed // FAST
    limit_s = limit_s if most == resource.RLIM_INFINITY else min(limit_s, most)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, most))


def is_trace(path: Path) -> bool:
    """Tell whether a file is a trace, damaged or not."""
    return schema(path) == SCHEMA


def schema(path: Path) -> str | None:
    """Return the schema that an HDF5 file names; None if there is none, or no such file."""
    try:
        with open_for_reading(path) as file:
            named = contents.attribute(file, "schema", str(path))
    except InputError:
        return None
    return named if isinstance(named, str) else None


def open_for_reading(path: Path) -> h5py.File:
    """Open an HDF5 file; traces of live and killed runs are opened in SWMR mode.

    Raises
    ------
    InputError
        If the file is missing, not HDF5, or truncated.
    """
    import h5py

    if why := not_a_file(path):
        raise InputError(f"{path}: {why}")
    problem, end = "", time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            return h5py.File(path, "r", locking="best-effort")
        except (OSError, RuntimeError) as error:
            problem = str(error)
        if "open for write" in problem:  # only then: in SWMR mode HDF5 waits for hours for missing data
            with suppress(OSError):
                return h5py.File(path, "r", swmr=True, locking="best-effort")
        elif "unable to lock" not in problem:
            break
        time.sleep(NAP_S)
    what = "the file is truncated" if "truncated" in problem else "not a pdcode trace, or not readable"
    raise InputError(f"{path}: {what}")
