"""Common parts of all ranks: waiting with sleeps, and failure of the job."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import numpy as np
from mpi4py import MPI

from ..util import signals
from ..util.errors import Failure, InputError
from . import clocks

HELLO, SETUP, TASK, REPLY, CLOCK = range(1, 6)  # tags
CHUNK = 1 << 30  # maximum bytes of a set-up message: counts are C ints
CORES = 4096  # upper bound on the cores of a node


def crowded() -> bool:
    """Tell whether ranks outnumber the cores available to them on this node. Collective."""
    node = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
    cores = np.zeros(CORES, bool)
    cores[[core for core in os.sched_getaffinity(0) if core < CORES]] = True
    bits = np.packbits(cores)
    node.Allreduce(MPI.IN_PLACE, bits, MPI.BOR)
    ranks = node.size
    node.Free()
    return ranks > int(np.count_nonzero(np.unpackbits(bits)))


class Patience:
    """Waiting strategy: busy polling at first, then sleeps of growing length.

    Parameters
    ----------
    longest_s : float
        Longest sleep.
    """

    def __init__(self, longest_s: float) -> None:
        self.polls = 20 if crowded() else 200_000
        self.longest_s = longest_s

    def wait(self, poll: Callable[[], Any], timeout_ns: int | None = None) -> Any:
        """Poll until the result is true or the timeout has passed; return the last result."""
        until = None if timeout_ns is None else clocks.now_ns() + timeout_ns
        for count in range(self.polls):
            if (result := poll()) or (until and count % 64 == 63 and clocks.now_ns() >= until):
                return result
        pause_s = 20e-6
        while not (result := poll()) and (until is None or clocks.now_ns() < until):
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, self.longest_s)
        return result


def abort(error: BaseException, named: bool = True) -> NoReturn:
    """End the whole job: with one line for bad input (exit code 2) and for failures of the environment
    (exit code 1), else with a traceback (exit code 1).

    With `named`, the message names the worker.
    """
    if isinstance(error, InputError | Failure):
        print(f"pdcode: {error}", file=sys.stderr, flush=True)
        MPI.COMM_WORLD.Abort(2 if isinstance(error, InputError) else 1)
    if not isinstance(error, SystemExit):
        rank = MPI.COMM_WORLD.rank
        worker = f", worker {rank - 1}," if rank and named else ""
        print(f"pdcode: rank {rank}{worker} failed:", file=sys.stderr)
        traceback.print_exception(error)
        sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
    raise error  # not reached


@contextmanager
def job(named: bool = True) -> Iterator[None]:
    """Run a rank's work after MPI_Init: an exception on any rank ends the whole job.

    With `named`, error messages name the worker. Ctrl-C and SIGTERM, which launchers send to all ranks, are
    handled by rank 0 only.
    """
    for number in signals.ENDS:
        signal.signal(number, signal.SIG_IGN)
    np.seterr(all="ignore")  # rank 0 checks for non-finite payloads and losses
    with ExitStack() as stack:
        stack.push(lambda kind, error, trace: None if error is None else abort(error, named))
        yield
