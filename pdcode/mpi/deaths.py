"""Deaths of ranks, where MPI goes on without them: the ULFM extension, as of ``mpirun --with-ft ulfm``.

A call that needs a process that has died fails. A test of several requests that fails hides which of them
have ended; these are null or inactive afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mpi4py import MPI

FAILURES = {MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_IN_STATUS}
"""Classes of the errors by which MPI tells that a process has died."""


def failed(error: MPI.Exception, comm: MPI.Intracomm) -> set[int]:
    """Return the ranks that have died, of an error of MPI's; others, and the end of the job, are raised."""
    forgive(error)
    ranks = dead(comm)
    if not ranks or comm.Is_revoked():
        raise error
    return ranks


def tells(error: MPI.Exception, comm: MPI.Intracomm) -> bool:
    """Tell whether an error of MPI's comes from a death, or from the end of the job by another rank."""
    kind = error.Get_error_class()
    return kind == MPI.ERR_REVOKED or (kind in FAILURES and (comm.Is_revoked() or bool(dead(comm))))


def dead(comm: MPI.Intracomm) -> set[int]:
    """Return the ranks that have died, as far as MPI goes on without."""
    try:
        group = comm.Get_failed()
    except NotImplementedError:
        return set()
    ranks = set(group.Translate_ranks(None, comm.group))
    group.Free()
    if ranks:
        comm.Ack_failed()
    return ranks


def describe(ranks: Collection[int]) -> str:
    """Say that ranks have died that cannot be spared."""
    names = ["rank 0" if rank == 0 else f"worker {rank - 1}" for rank in sorted(ranks)]
    return f"{', '.join(names)} died; the run cannot go on without"


def forgive(error: MPI.Exception) -> None:
    """Raise an error of MPI's again, unless it says that a process has died; what that was sent is lost."""
    if error.Get_error_class() not in FAILURES:
        raise error


def all_tested(requests: Sequence[MPI.Request]) -> bool:
    """Return whether sends have ended; those to a process that has died end, too."""
    ended: bool
    try:
        ended = MPI.Request.Testall(requests)
    except MPI.Exception as error:
        forgive(error)
        ended = not [request for request in requests if not _tested(request)]  # tests all of them
    return ended


def _tested(request: MPI.Request) -> bool:
    ended: bool = True
    try:
        ended = request.Test()
    except MPI.Exception as error:
        forgive(error)
    return ended
