"""Shared memory that a killed job leaves: Open MPI's files of 16 MiB for each rank.

A job marks itself by a file beside them, locked until its process ends. The next job on the machine removes
the files of the user's jobs whose mark is not locked any more; nothing of other programs.
"""

import atexit
import fcntl
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FOLDER = Path("/dev/shm")
NAME = re.compile(r"/(sm_segment\.[^/\s]+)\.\d+$", re.MULTILINE)  # of a job's files, and the number of a rank
MARK, NEW = "pdcode.", "pdcode-new."  # begin of the names of marks, and of marks that are not locked yet
LOCAL_RANK = "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"  # variables of launchers


def mark_job(environment: Mapping[str, str]) -> None:
    """Remove what dead jobs have left here, and mark this one; one rank of each host does so."""
    if any(environment.get(name, "0") != "0" for name in LOCAL_RANK):
        return
    with suppress(OSError):  # another MPI, or system, without these files
        remove_dead()
        if found := NAME.search(Path("/proc/self/maps").read_text()):
            _mark(found[1])


def _mark(job: str) -> None:
    """Mark a job of this process, until its end."""
    new, mark = FOLDER / f"{NEW}{os.urandom(8).hex()}", FOLDER / f"{MARK}{job}"
    fcntl.flock(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), fcntl.LOCK_EX)
    new.replace(mark)  # it has its name once it is locked
    atexit.register(mark.unlink, missing_ok=True)


def remove_dead() -> None:
    """Remove the files and marks of the user's jobs that have ended."""
    for mark in FOLDER.glob(f"{MARK}sm_segment.*"):
        try:
            descriptor = os.open(mark, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # of another user, or gone
            continue
        try:
            if not _is_own(os.fstat(descriptor)):
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in FOLDER.glob(f"{mark.name.removeprefix(MARK)}.*"):
                if _is_own(file.lstat()):
                    file.unlink()
            mark.unlink()
        except OSError:  # locked: its job goes on
            continue
        finally:
            os.close(descriptor)


def _is_own(status: os.stat_result) -> bool:
    """Return whether a file is a plain one of this user's."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
