"""Common parts of all ranks: waiting with sleeps, and failure of the job."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..launch import launcher, siblings, supervised
from ..util import clocks, signals
from ..util.errors import RESUMABLE, Failure, InputError, explained, place_of_user
from ..util.output import print_error
from . import segments
from .deaths import Deaths, dead_ranks, describe_deaths, is_proc_failure, reraise_unless_proc_failed
from .initialise import MPI

# Tags; NEVER is not sent.
HELLO, SETUP, TASK, REPLY, CLOCK, PACE, PEER, SAVED, MEMBERS, ANSWER, NEVER, OUTCOME, VERDICT = range(1, 14)
BESIDE, SPREAD = 14, 15  # what accompanies a task, and rows that come in other ways
REPORT_S = 1.0  # time for one rank to report an error of all
CHUNK = 1 << 30  # maximum bytes of a set-up message: counts are C ints
CORES = 4096  # upper bound on the cores of a node


def oversubscribed(comm: MPI.Intracomm) -> bool:
    """Return whether ranks outnumber the cores available to them on this node. Collective."""
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = np.zeros(CORES, bool)
    cores[[core for core in os.sched_getaffinity(0) if core < CORES]] = True
    bits = np.packbits(cores)
    node.Allreduce(MPI.IN_PLACE, bits, MPI.BOR)
    ranks = node.size
    node.Free()
    return ranks > int(np.count_nonzero(np.unpackbits(bits)))


class Group(MPI.Intracomm):
    """Communicator of a run's ranks, which are a job of their own. Construction is collective."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.polls = 20 if oversubscribed(self) else 200_000  # before a rank that waits sleeps
        self.buffers: list[object] = []  # owners of those that MPI may write to until the end of the job
        self.checkpoint: Path | None = None  # where the newest one is, if any is taken
        self.turns = 0  # of loops that wait; a process in which it does not grow stands still
        self.Set_errhandler(MPI.ERRORS_RETURN)  # as exceptions

    @cached_property
    def workers(self) -> MPI.Intracomm:
        """Communicator of all ranks but rank 0; collective among these at first."""
        return self.Create_group(self.group.Excl([0]))

    def with_failure_check(self, poll: Callable[[], Any]) -> Callable[[], Any]:
        """Return what a waiting rank calls: `poll`, in a subclass after a check for failed ranks."""
        return poll

    def finish_coordinator(self, code: int, missing: Collection[int], failures: bool, detached: bool) -> None:
        """End rank 0 without MPI_Finalize if workers are `missing`, or if all have left after failures."""
        if missing:
            end_job(code, self)
        elif failures:
            supervised.report_job_exit(code)
            if detached:
                exit_without_finalize(code)

    def finish_detached(self) -> None:
        """End a worker without MPI_Finalize, as others have failed."""
        exit_without_finalize(0)


class Poller:
    """Waiting strategy: busy polling at first, then sleeps of growing length, up to `longest_s`."""

    def __init__(self, longest_s: float, comm: Group) -> None:
        self.longest_s, self._comm = longest_s, comm

    def wait(self, poll: Callable[[], Any], timeout_ns: int | None = None) -> Any:
        """Poll until the result is true or the timeout has passed; return the last result."""
        comm, poll = self._comm, self._comm.with_failure_check(poll)
        until = None if timeout_ns is None else clocks.now_ns() + timeout_ns
        comm.turns += 1
        for count in range(comm.polls):
            if (result := poll()) or (until and count % 64 == 63 and clocks.now_ns() >= until):
                return result
        pause_s = 20e-6
        while not (result := poll()) and (until is None or clocks.now_ns() < until):
            comm.turns += 1
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, self.longest_s)
        return result


def abort(error: BaseException, named: bool = True, comm: MPI.Intracomm = MPI.COMM_WORLD) -> NoReturn:
    """End the whole job because of an error.

    It is reported in one line for bad input (exit code 2), for failures of the environment and for errors of
    a user's code (exit code 1; 2 if that ends the program), else with a traceback (exit code 1). With
    `named`, the message names the worker.
    """
    ended, by_user = isinstance(error, SystemExit), bool(place_of_user(error))
    died = isinstance(error, Deaths)
    if isinstance(error, MPI.Exception) and is_proc_failure(error, comm):
        died = _report_deaths(comm)
    elif isinstance(error, InputError | Failure):
        print_error(str(error))
    elif isinstance(error, MemoryError):
        print_error(f"rank {comm.rank}: not enough memory: {error}")
    elif not ended or by_user:
        worker = f", worker {comm.rank - 1}," if comm.rank and named else ""
        print_error(explained(error, f"rank {comm.rank}{worker} failed:"))
    code = 2 if isinstance(error, InputError) or (ended and by_user) else 1
    if died and isinstance(comm, Group) and comm.checkpoint is not None and comm.checkpoint.exists():
        code = RESUMABLE
    supervised.report_exit(code, died)
    _abort(code, comm)


def _report_deaths(comm: MPI.Intracomm) -> bool:
    """Report failed processes that the run needs, on the first living rank; return whether there are any.

    If another rank has ended the job, that rank reports.
    """
    ranks = set[int]() if comm.Is_revoked() else dead_ranks(comm)
    if ranks and comm.rank == min(set(range(comm.size)) - ranks):
        print_error(describe_deaths(ranks))
    else:
        time.sleep(REPORT_S)
    return bool(ranks)


def end_job(code: int, comm: MPI.Intracomm = MPI.COMM_WORLD) -> NoReturn:
    """End the finished job while some ranks do not respond: MPI_Finalize would wait for them.

    The user's own launcher reports that the job was aborted, and also exits with `code`.
    """
    supervised.report_job_exit(code)
    _abort(code, comm)


def exit_without_finalize(code: int) -> NoReturn:
    """Exit without MPI_Finalize, as all living ranks do in a job with failed ranks."""
    sys.stdout.flush()
    supervised.report_exit(code)
    os._exit(code)


def _abort(code: int, comm: MPI.Intracomm) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPICH prints a banner here
    if launcher.survives_deaths(os.environ):  # MPI_Abort ends this rank alone
        comm.Revoke()
        if comm.rank == 0 and not supervised.is_attached():
            siblings.outlive(launcher.on_one_machine(os.environ))
        os._exit(code)
    comm.Abort(code)
    raise SystemExit(code)  # not reached


def check_launcher() -> None:
    """Compare the launcher's rank and size with MPI's, right after MPI_Init.

    If they differ, the library cannot connect to the launcher, and each rank is alone in its world.
    """
    world, place = MPI.COMM_WORLD, launcher.launched_rank(os.environ)
    if place is None or place == (world.rank, world.size):
        return
    path = launcher.library_path()
    mpirun = (path and launcher.mpirun_beside(path)) or "the library's own mpirun"
    raise InputError(
        f"the launcher calls this rank {place[0]} of {place[1]}, MPI ({library()}) rank {world.rank} of "
        f"{world.size}: they belong to different MPIs; use {mpirun}"
    )


def library() -> str:
    """Return name and version of the MPI library."""
    text = MPI.Get_library_version().partition("\0")[0]
    return " ".join(text.partition(",")[0].splitlines()[0].replace("Version:", "").split())


@contextmanager
def job(named: bool = True) -> Iterator[Group]:
    """Run a rank's work after MPI_Init: an exception on any rank ends the whole job. Collective.

    Terminating signals, which launchers send to all ranks, are handled by rank 0 only. Ctrl-C remains
    ignored after the job, at the end of the process. With `named`, error messages name the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ExitStack() as stack:
        stack.enter_context(signals.handled(dict.fromkeys(signals.TERMINATING, signal.SIG_IGN)))
        stack.enter_context(np.errstate(all="ignore"))  # rank 0 checks for non-finite payloads and losses
        ranks = MPI.COMM_WORLD
        check_launcher()
        segments.mark_job(os.environ)
        stack.push(lambda kind, error, trace: None if error is None else abort(error, named, ranks))
        siblings.mpi_started()
        ranks = group = Group(ranks.Dup())
        gc.freeze()  # existing objects are permanent
        gc.enable()
        yield group
        gc.freeze()  # remaining objects end with the process
        try:
            ranks.Free()  # collective: only at the end of a job, not before its abort
        except MPI.Exception as error:
            reraise_unless_proc_failed(error)
