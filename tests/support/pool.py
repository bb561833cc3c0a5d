"""Ranks of MPI that run `pdcode` job after job, without a start of mpirun and imports for each.

They are for jobs in which no rank fails: a rank that ends its job ends the pool; the next job has another.
As a program, ``pool.py FOLDER -n RANKS … pdcode ARGUMENTS`` takes the place of an mpirun (PDCODE_LAUNCHER).
This module imports nothing but Python's own, so that this program starts at once.
"""

import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

POLL_S = 0.2
# Begin of the names of variables for ranks that mpirun has started.
LAUNCHER = "OMPI_", "PMIX_", "PRTE_", "PMI_", "PDCODE_SUPERVISOR"


class Ended(Exception):
    """The ranks have ended, in the middle of a job; the argument is mpirun's exit code, if known."""


def send(folder: Path, ranks: int, job: Mapping[str, Any], mpirun: int, timeout_s: float = 200) -> int:
    """Have the first ranks of the pool in a folder do a job; return the exit code, a rank's that is not 0.

    `mpirun` is the id of its process.
    """
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one job at a time
        line = json.dumps({**job, "ranks": ranks}).encode() + b"\n"
        for rank in range(ranks):
            fifo = os.open(folder / str(rank), os.O_RDWR)
            os.set_blocking(fifo, True)
            os.write(fifo, line)
            os.close(fifo)
        return wait(folder, ranks, mpirun, timeout_s)


def wait(folder: Path, ranks: int, mpirun: int, timeout_s: float) -> int:
    """Wait until ranks have reported an exit code; return one that is not 0."""
    until, codes = time.monotonic() + timeout_s, b""
    ended = os.open(folder / "ended", os.O_RDWR)
    try:
        while len(codes) < ranks:
            if select.select([ended], [], [], POLL_S)[0]:
                codes += os.read(ended, ranks - len(codes))
            elif not lives(mpirun):
                raise Ended
            elif time.monotonic() > until:
                raise TimeoutError(f"{ranks - len(codes)} ranks have not ended within {timeout_s} s")
    finally:
        os.close(ended)
    return next((code for code in codes if code), 0)


def lives(pid: int) -> bool:
    """Return whether a process lives; a zombie does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def main(words: Sequence[str]) -> int:
    """Run the job of a launcher's command line on the pool."""
    folder, ranks = Path(words[0]), int(words[words.index("-n") + 1])
    arguments = list(words[words.index("pdcode") + 1 :])
    streams = [f"/proc/{os.getpid()}/fd/{number}" for number in (1, 2)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER)}
    job = {"arguments": arguments, "streams": streams, "folder": os.getcwd(), "environment": own}
    try:
        return send(folder, ranks, job, int((folder / "mpirun").read_text()))
    except Ended:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
