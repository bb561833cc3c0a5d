"""A run on ranks of the caller's program, which goes on after it, also if the run fails on a rank.

At its end or failure a worker sends rank 0 its outcome. Rank 0 sends each worker a verdict once it has failed
or has the outcomes of all. Ranks that wait for something else look for these messages, so that a failure ends
all waits; other messages of a failed run are received and dropped.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from signal import SIG_IGN
from typing import Any

import numpy as np

from ..util import signals
from ..util.errors import Failure, InputError
from ..util.formats import workers_named
from .deaths import all_complete, dead_ranks, describe_deaths, failed_ranks, is_proc_failure
from .initialise import MPI
from .process import OUTCOME, VERDICT, Group, Poller

LONGEST = 1 << 12  # bytes of an outcome or a verdict
ERRORS: list[type[BaseException]] = [Failure, InputError, KeyboardInterrupt]  # by their numbers in messages
SUCCESS = b""

_failed: list["Hosted"] = []  # of failed runs: MPI may still write to their buffers, which they refer to


class Ended(Exception):
    """The run has ended by rank 0's verdict."""


class Hosted(Group):
    """Communicator of a run whose failure is an exception on all its ranks. Construction is collective."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__(comm)
        self._outcomes: dict[int, bytes] = {}  # by rank
        self._absent: set[int] = set()  # ranks that no longer answer
        self._verdict, self._receive = bytearray(LONGEST), MPI.REQUEST_NULL
        self._ending = self._torn = False  # whether the end has begun; whether it is not collective
        if self.rank:
            self._receive = self.Irecv(self._verdict, 0, VERDICT)
            self.workers  # noqa: B018  made while all ranks take part

    def with_failure_check(self, poll: Callable[[], Any]) -> Callable[[], Any]:
        def checked_poll() -> Any:
            self._look()
            return poll()

        return poll if self._ending else checked_poll

    def _look(self) -> None:
        """Raise the failure of another rank."""
        if self.rank:
            if self._receive.Test():
                raise Ended
        elif self.Iprobe(MPI.ANY_SOURCE, OUTCOME, status := MPI.Status()):
            self._drop(status)
            if outcome := self._outcomes[status.source]:
                raise decoded(outcome)

    def _drop(self, status: MPI.Status) -> None:
        """Receive a message; only outcomes are kept."""
        message = bytearray(status.count)
        self.Recv(message, status.source, status.tag)
        if status.tag == OUTCOME:
            self._outcomes[status.source] = bytes(message)

    def finish_coordinator(self, code: int, missing: Collection[int], failures: bool, detached: bool) -> None:
        self._torn |= failures
        if missing:
            self._absent |= {1 + worker for worker in missing}
            raise Failure(f"not waited for any longer: {workers_named(missing)}")

    def finish_detached(self) -> None:
        self._torn = True

    def finish(self, error: BaseException | None) -> None:
        """End the run together with the other ranks; raise the error of this rank, or else of another."""
        self._ending = True
        if isinstance(error, MPI.Exception) and is_proc_failure(error, self):
            error = Failure(describe_deaths(dead_ranks(self)))
        own = SUCCESS if error is None or isinstance(error, Ended) else self._encoded(error)
        try:
            verdict = self._conclude(own) if self.rank == 0 else self._report(own)
        except MPI.Exception as failed:
            if not is_proc_failure(failed, self):
                raise
            verdict = encoded(Failure, describe_deaths(dead_ranks(self)))
        if verdict or self._torn:
            _failed.append(self)
        else:
            for each in (self.workers,) if self.rank else ():
                if each != MPI.COMM_NULL:  # otherwise freed by the link
                    each.Free()
            self.Free()
        if own:
            assert error is not None
            raise error
        if verdict:
            raise decoded(verdict)

    def _conclude(self, own: bytes) -> bytes:
        """Send the verdict to the workers from rank 0, and wait for their outcomes."""
        if not own:
            self._wait(self._complete)
        verdict = next(filter(None, (own, *self._outcomes.values())), SUCCESS)
        living = set(range(1, self.size)) - dead_ranks(self)
        sends = {rank: self.Isend(verdict, rank, VERDICT) for rank in living}
        self._wait(self._complete)
        self._wait(lambda: all_complete([sends[rank] for rank in living & self._outcomes.keys()]))
        return verdict

    def _complete(self) -> bool:
        """Return whether all workers that still answer have sent their outcomes."""
        missing = set(range(1, self.size)) - self._outcomes.keys() - self._absent
        return not missing or not missing - dead_ranks(self)

    def _report(self, own: bytes) -> bytes:
        """Send this worker's outcome to rank 0, and return its verdict."""
        sent = self.Isend(own, 0, OUTCOME)
        self._wait(sent.Test)
        self._wait(lambda: self._receive == MPI.REQUEST_NULL or self._receive.Test())
        return bytes(self._verdict).rstrip(b"\0")

    def _wait(self, done: Callable[[], bool]) -> None:
        status = MPI.Status()

        def poll() -> bool:
            try:
                while self.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
                    self._drop(status)
            except MPI.Exception as error:
                if 0 in failed_ranks(error, self) and not done():  # it may have ended after its verdict
                    raise
            return done()

        Poller(1e-3, self).wait(poll)

    def _encoded(self, error: BaseException) -> bytes:
        """Describe an error for the other ranks."""
        kind = next((each for each in ERRORS if isinstance(error, each)), None)
        if kind is not None:
            return encoded(kind, str(error))
        who = f"worker {self.rank - 1}" if self.rank else "rank 0"
        return encoded(Failure, f"{who} failed: {type(error).__name__}: {error}")


def encoded(kind: type[BaseException], text: str) -> bytes:
    """Return the message of an error; it is not empty, and has no NUL byte."""
    return bytes([1 + ERRORS.index(kind)]) + text.replace("\0", "").encode(errors="replace")[: LONGEST - 1]


def decoded(message: bytes) -> BaseException:
    """Return the error of a message."""
    return ERRORS[message[0] - 1](message[1:].decode(errors="ignore"))


@contextmanager
def hosted(comm: MPI.Intracomm | None) -> Iterator[Hosted]:
    """Run on a communicator's ranks (default: all): an exception on one ends the block on all. Collective.

    The block's own exception is raised again, on other ranks a `Failure`, `InputError` or KeyboardInterrupt
    that describes it. Workers ignore terminating signals meanwhile: rank 0 acts on them.
    """
    ranks = MPI.COMM_WORLD if comm is None else comm
    if ranks == MPI.COMM_NULL or ranks.size < 2:
        count = 0 if ranks == MPI.COMM_NULL else ranks.size
        raise InputError(f"comm: {count} ranks; at least 2 are needed, as rank 0 is the coordinator")
    group, error = Hosted(ranks.Dup()), None
    ignored = dict.fromkeys(signals.TERMINATING if group.rank else (), SIG_IGN)
    with signals.handled(ignored), np.errstate(all="ignore"):
        try:
            yield group
        except BaseException as caught:  # noqa: BLE001  raised again
            error = caught
        group.finish(error)
