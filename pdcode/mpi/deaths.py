"""Failures of processes that MPI survives: the ULFM extension (``mpirun --with-ft ulfm``).

A call that involves a failed process raises an error. After an error of a test of several requests it is
unknown which of them have completed; completed ones are null or inactive.
"""

from collections.abc import Collection, Sequence

from ..util.errors import Failure
from .initialise import MPI

FAILURES = {MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_IN_STATUS}  # classes of errors


class Deaths(Failure):
    """Failure of a run by the deaths of ranks that it needs."""

    def __init__(self, ranks: Collection[int]) -> None:
        super().__init__(describe_deaths(ranks))


def failed_ranks(error: MPI.Exception, comm: MPI.Intracomm) -> set[int]:
    """Return the failed ranks after an MPI error; re-raise other errors, and all after a revocation."""
    reraise_unless_proc_failed(error)
    ranks = dead_ranks(comm)
    if not ranks or comm.Is_revoked():
        raise error
    return ranks


def is_proc_failure(error: MPI.Exception, comm: MPI.Intracomm) -> bool:
    """Return whether an MPI error is due to a failed process, or to another rank that has ended the job."""
    kind = error.Get_error_class()
    return kind == MPI.ERR_REVOKED or (kind in FAILURES and (comm.Is_revoked() or bool(dead_ranks(comm))))


def dead_ranks(comm: MPI.Intracomm) -> set[int]:
    """Return the failed ranks, and acknowledge them; none without ULFM."""
    try:
        group = comm.Get_failed()
    except NotImplementedError:
        return set()
    ranks = set(group.Translate_ranks(None, comm.group))
    group.Free()
    if ranks:
        comm.Ack_failed()
    return ranks


def describe_deaths(ranks: Collection[int]) -> str:
    """Describe the failure of ranks that the run needs."""
    names = ["rank 0" if rank == 0 else f"worker {rank - 1}" for rank in sorted(ranks)]
    return f"{', '.join(names)} died; the run cannot continue without"


def reraise_unless_proc_failed(error: MPI.Exception) -> None:
    """Re-raise an MPI error unless it reports a failed process; messages to that process are lost."""
    if error.Get_error_class() not in FAILURES:
        raise error


def all_complete(requests: Sequence[MPI.Request]) -> bool:
    """Return whether all sends are complete; a send to a failed process counts as complete."""
    try:
        return bool(MPI.Request.Testall(requests))
    except MPI.Exception as error:
        reraise_unless_proc_failed(error)
        incomplete = [request for request in requests if not _complete(request)]  # tests all of them
        return not incomplete


def _complete(request: MPI.Request) -> bool:
    try:
        return bool(request.Test())
    except MPI.Exception as error:
        reraise_unless_proc_failed(error)
        return True
