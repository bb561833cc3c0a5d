"""Parts of the transport over MPI by themselves, on one rank: ``parts.py``."""

import gc
import time
import weakref
from threading import Lock
from types import SimpleNamespace

import numpy as np

from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.hosted import Ended, decoded, encoded
from pdcode.mpi.initialise import MPI
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import BESIDE, CLOCK, Group, Poller
from pdcode.reductions.allreduce_ranks import ModularSummation, TreeSummation
from pdcode.reductions.first_ranks import tags
from pdcode.shuffling.ranks import Broadcast, Message, RowCarrier, RowChannel
from pdcode.shuffling.rows import Kind, Missing, Opening, message
from pdcode.transport.layout import Layout
from pdcode.transport.units import Unit
from pdcode.util.errors import Failure


def resent_broadcast() -> None:
    """Segments of two broadcasts, to eight workers and again to one, complete one another."""
    sent = list[Message]()
    comm = SimpleNamespace(
        Isend=lambda buffer, rank, tag: sent.append(Message.decode(buffer[0])) or MPI.REQUEST_NULL
    )
    content = np.random.default_rng(1).integers(0, 256, 10_000, np.uint8)
    opening, sends, ranks = Opening(0, 1, range(8), content), RowCarrier(comm, None, 2000), range(1, 9)
    sends.begin(opening, ranks)
    first = sent[:-3]
    sent.clear()
    sends.replace(Missing([opening._replace(members=[7])], []), ranks)
    broadcast = Broadcast(len(content))
    complete = [broadcast.put(each.first, each.content) for each in first + sent]
    assert complete.count(True) == 1, complete
    assert (broadcast.content == content).all()


def broadcasts_out_of_order() -> None:
    """A later broadcast is complete first, after a death in the chain of the one before."""
    comm = Group(MPI.COMM_SELF)
    sends, contents = (
        RowCarrier(comm, None, 2000),
        np.random.default_rng(1).integers(0, 256, (2, 10_000), np.uint8),
    )
    openings = [Opening(epoch, epoch + 1, [0], content) for epoch, content in enumerate(contents)]

    def wait(poll) -> None:
        if not poll() and late:
            sends.replace(Missing(late, []), [0])
        while not poll():
            pass

    channel = RowChannel(comm, SimpleNamespace(wait=wait), SimpleNamespace(lock=Lock(), epoch=0))
    late = []
    sends.begin(openings[1], [0])
    channel.leave(1, False)
    late = openings[:1]
    for count, each in enumerate(openings, 1):
        head = Kind.BROADCAST, each.base, each.epoch, count
        got = channel.complete(message(*head, contents[0][:0]))
        assert (got == message(*head, each.content)).all(), each.epoch
        late = openings  # copies
    channel.leave(2, False)
    channel.close()
    assert len(sends._requests) > 4
    sends.begin(openings[1]._replace(content=contents[1][:1]), [0])
    assert len(sends._requests) == 1  # no buffer is left of those before


def one_thread_at_a_time() -> None:
    """A worker and its thread do not test the same send at once: both would take it from the queue."""

    class Sends:
        calls, busy = 0, False

        def complete(self) -> bool:
            assert not self.busy
            self.calls, self.busy = self.calls + 1, True
            time.sleep(0.005)
            self.busy = False
            return self.calls > 40

    comm = Group(MPI.COMM_SELF)
    comm.polls = 1
    channel = RowChannel(comm, Poller(1e-4, comm), SimpleNamespace(lock=Lock(), epoch=0))
    channel._sends = Sends()
    channel.leave(0, False)
    assert channel._thread.is_alive() == (MPI.Query_thread() == MPI.THREAD_MULTIPLE)
    channel.close()


def late_answer() -> None:
    """A clock's answer that comes too late is not written to where it was expected."""
    comm = Group(MPI.COMM_SELF)
    fleet = object.__new__(Ranks)
    fleet._comm, fleet._ranks, fleet._poller = comm, [0], Poller(1e-4, comm)
    fleet._send = lambda *given: None
    try:
        fleet.clock_offset(0, 1, 1000)
    except TimeoutError:
        late = comm.Isend(np.ones(1, np.int64), 0, CLOCK)
        late.Wait()
        assert comm.Iprobe(0, CLOCK)
        comm.Recv(np.zeros(1, np.int64), 0, CLOCK)


def stopped_at_the_end() -> None:
    """Rank 0 does not wait for rows to reach a worker that has not taken part in the end."""
    fleet = object.__new__(MPIFleet)
    fleet._slots, fleet._spares, fleet._failed, fleet._left, fleet.bytes_down = [], [], set(), set(), 0
    fleet._ranks, fleet._shut_down, fleet._poller = [1, 2], {1}, Poller(1e-4, Group(MPI.COMM_SELF))
    fleet.carrier = SimpleNamespace(complete=lambda: False, bytes=7)
    fleet.close()
    assert fleet.bytes_down == 7


def sizes_of_spare_ranks() -> None:
    """A message that is too long arrives with one of a rank that has replaced worker 0."""
    fleet = object.__new__(MPIFleet)
    fleet._ranks, fleet._comm = [4, 2], MPI.COMM_SELF
    fleet._active = [SimpleNamespace(Test=lambda status: True)] * 2
    fleet._statuses = [
        SimpleNamespace(source=source, error=error, Get_count=lambda kind, size=size: size)
        for source, error, size in ((4, MPI.SUCCESS, 60), (2, MPI.ERR_TRUNCATE, 64), (1, MPI.SUCCESS, 8))
    ]
    assert fleet._sort_out(MPI.Exception(MPI.ERR_IN_STATUS)) == ([0, 1], {0: 60, 1: 64})


def tags_of_attempts() -> None:
    """Receives of an attempt that has failed may remain."""
    assert len({tag for attempt in range(100_000) for tag in tags(attempt)}) == 200_000


def many_summations() -> None:
    """More summations than a process may have operations of its own."""
    for bits in range(2, 17):
        for size in (30, 300, 3000):
            layout = Layout([Unit(0, size, 1)], [1], [1], np.dtype("float32"), bits=bits)
            tree, summation = (
                TreeSummation(layout, 0, MPI.COMM_SELF, 2),
                ModularSummation(layout, 0, MPI.COMM_SELF),
            )
            summation.own.vector[:] = size
            for each in (summation, tree):
                each.start(None)
                while not each.done():
                    pass
            assert (summation.total.vector == size).all()


def buffers_of_an_ended_run() -> None:
    """MPI may write to a buffer after the wait for it has ended."""

    class Comm:
        rank, polls, turns = 1, 1, 0

        def __init__(self) -> None:
            self.buffers, self.posted = [], []

        def with_failure_check(self, poll):
            return poll

        def Send(self, *given, **named) -> None: ...  # noqa: N802

        def Irecv(self, array, source, tag):  # noqa: N802
            if tag == self.ending:
                self.posted.append(weakref.ref(array))

            def test() -> bool:
                if tag == self.ending:
                    raise Ended
                return True

            return SimpleNamespace(Test=test)

    for ending in (CLOCK, BESIDE):
        comm = Comm()
        comm.ending = ending
        try:
            link = MPILink(Entry(comm))
            link._receive_companion(SimpleNamespace(companion_bytes=[1000]))
        except Ended:
            pass
        link = None
        gc.collect()
        assert [each() is not None for each in comm.posted] == [True]


def errors_with_any_text() -> None:
    """Also with a file name that is not UTF-8."""
    error = decoded(encoded(Failure, b"no \xff.npz".decode(errors="surrogateescape")))
    assert str(error) == "no ?.npz"


for part in (
    resent_broadcast, broadcasts_out_of_order, one_thread_at_a_time, late_answer, stopped_at_the_end,
    sizes_of_spare_ranks, tags_of_attempts, many_summations, buffers_of_an_ended_run, errors_with_any_text,
):  # fmt: skip
    part()
    print(part.__name__, flush=True)
