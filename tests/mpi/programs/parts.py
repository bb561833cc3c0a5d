"""Parts of the transport over MPI by themselves, on one rank: ``parts.py``."""

import gc
import weakref
from threading import Lock
from types import SimpleNamespace

import numpy as np

from pdcode.mpi.hosted import Ended, decoded, encoded
from pdcode.mpi.initialise import MPI
from pdcode.mpi.link import Entry, MPILink
from pdcode.mpi.process import CLOCK, ROWS, Group
from pdcode.mpi.reduce import ModularSummation, TreeSummation
from pdcode.mpi.rows import Broadcast, Message, RowChannel, RowSends
from pdcode.problems.partition import Unit
from pdcode.transport.layout import Layout
from pdcode.transport.rows import Kind, Missing, Opening, message
from pdcode.util.errors import Failure


def resent_broadcast() -> None:
    """Segments of two broadcasts, to eight workers and again to one, complete one another."""
    sent = list[Message]()
    comm = SimpleNamespace(
        Isend=lambda buffer, rank, tag: sent.append(Message.decode(buffer[0])) or MPI.REQUEST_NULL
    )
    content = np.random.default_rng(1).integers(0, 256, 10_000, np.uint8)
    opening, sends, ranks = Opening(0, 1, range(8), content), RowSends(comm), range(1, 9)
    sends.open(opening, ranks, 2000)
    first = sent[:-3]
    sent.clear()
    sends.replace(Missing([opening._replace(members=[7])], []), ranks, 2000)
    broadcast = Broadcast(len(content))
    complete = [broadcast.put(each.first, each.content) for each in first + sent]
    assert complete.count(True) == 1, complete
    assert (broadcast.content == content).all()


def broadcasts_out_of_order() -> None:
    """A later broadcast is complete first, after a death in the chain of the one before."""
    comm = Group(MPI.COMM_SELF)
    sends, contents = RowSends(comm), np.random.default_rng(1).integers(0, 256, (2, 10_000), np.uint8)
    openings = [Opening(epoch, epoch + 1, [0], content) for epoch, content in enumerate(contents)]

    def wait(poll) -> None:
        if not poll() and late:
            sends.replace(Missing(late, []), [0], 2000)
        while not poll():
            pass

    channel = RowChannel(comm, SimpleNamespace(wait=wait), SimpleNamespace(lock=Lock(), epoch=0))
    late = []
    sends.open(openings[1], [0], 2000)
    channel.leave(1, False)
    late = openings[:1]
    for count, each in enumerate(openings, 1):
        head = Kind.BROADCAST, each.base, each.epoch, count
        got = channel.complete(message(*head, contents[0][:0]))
        assert (got == message(*head, each.content)).all(), each.epoch
        late = openings  # copies
    channel.leave(2, False)
    channel.close()


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
        rank, polls = 1, 1

        def __init__(self) -> None:
            self.buffers, self.posted = [], []

        def watched(self, poll):
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

    for ending in (CLOCK, ROWS):
        comm = Comm()
        comm.ending = ending
        try:
            link = MPILink(Entry(comm))
            link._receive_rows(None, SimpleNamespace(rows_bytes=[1000]))
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
    resent_broadcast, broadcasts_out_of_order, many_summations, buffers_of_an_ended_run, errors_with_any_text,
):  # fmt: skip
    part()
    print(part.__name__, flush=True)
