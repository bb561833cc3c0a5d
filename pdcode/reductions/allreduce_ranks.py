"""Workers that add up their payloads among themselves, without rank 0.

Payloads in the problem's type are added up by MPI_Iallreduce, and integers modulo 2^bits with an operation of
ours, or along a tree. Rounded ones are averaged by owners of ranges (`owners`): MPI_Ialltoallv brings
each owner its segments, and MPI_Iallgatherv the means to all.

Every worker has the scheme's state: it folds the sum in, steps, and asks the state for its next task. Rank 0
takes no part in the sums. It follows by the workers' reports, measures and traces, and may lag behind: a
worker waits for it only once `PENDING` reports, or `PENDING_BYTES`, have not been received. To end the run,
rank 0 notifies all workers; they end after the first sum in which one of them has set the end flag, and after
a sum that is not finite. A checkpoint is agreed on likewise: rank 0 asks one worker for it, and all write
theirs after the sum in which that one has set the save flag; rank 0 writes its own once it has read that sum.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..coding.state import State
from ..kernels import modular
from ..mpi.deaths import Deaths, dead_ranks
from ..mpi.fleet import MPIFleet
from ..mpi.initialise import MPI
from ..mpi.link import Entry, MPILink
from ..mpi.process import REPLY
from ..transport.base import Arrival, Computed
from ..transport.events import Event
from ..transport.layout import HEADER, ROUND_SHIFT, SAVE, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Order, Reply, Task
from ..transport.sums import (
    REPORT,
    REPORT_BYTES,
    REQUEST_BYTES,
    Summation,
    Total,
    exchanged_bytes,
    total_of,
    tree_neighbours,
)
from ..util import clocks
from .owners import Owner
from .states import due_digest

PENDING, PENDING_BYTES = 1024, 1 << 26  # bounds on a worker's unreceived reports
TICK_NS = 20_000_000  # between looks for signals and deaths, in the wait for the last sum


def report_bytes(total: Total, worker: int) -> int:
    """Return the length of a worker's report to rank 0."""
    return REPORT_BYTES + int(total.segments[worker].nbytes)


def longest_report(totals: Sequence[Total]) -> int:
    """Return the length of the longest report."""
    return REPORT_BYTES + max(segment.nbytes for total in totals for segment in total.segments)


class AllreduceFleet(MPIFleet):
    """Rank 0's side: the arrivals of a round come together, and contain the sum."""

    def _allocate(self, layouts: Sequence[Layout]) -> None:
        workers = self.workers
        self._sums = [total_of(layout, number, workers) for number, layout in enumerate(layouts)]
        self._arrivals = [
            [Arrival(total.reply, number) for _ in range(workers)] for number, total in enumerate(self._sums)
        ]
        for layout, arrivals in zip(layouts, self._arrivals, strict=True):
            for arrival in arrivals:
                arrival.bytes_up = arrival.bytes_down = exchanged_bytes(layout, workers)
        size = longest_report(self._sums)
        self._messages = buffer(size, workers)[:, :size]
        self._requests = [
            self._comm.Recv_init(message, source=1 + worker, tag=REPLY)
            for worker, message in enumerate(self._messages)
        ]
        self._sends = [MPI.REQUEST_NULL] * workers
        self._reached_ns = [0] * workers  # when each worker had the last sum
        self._end_announced = False  # whether the workers have been notified of the end
        self._ended = True  # whether there are no further sums
        self._started: set[int] = set()  # workers that have been started
        self._save_requested = False  # whether a worker has been asked for a checkpoint
        self._saved = False  # whether the workers have written theirs after the last sum
        self._timed_out = False  # whether some worker did not reach the end in time

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        if worker not in self._started:
            self._started.add(worker)
            self._ended, self._reached_ns[worker] = False, self.now_ns()
            self._send_control(worker, 0, task, version, self._reached_ns[worker])
        self._requests[worker].Start()
        self._arrivals[order.round][worker].codewords = order.codewords
        return self._reached_ns[worker]

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        return self._read_sum() if self._reports_arrive(timeout_ns) else ()

    def _reports_arrive(self, timeout_ns: int) -> bool:
        """Wait for the reports of all workers on the round; return whether they have arrived."""
        if self._poller.wait(self._reports_complete, timeout_ns):
            return True
        if ranks := dead_ranks(self._comm):  # the test of all receives does not report them
            raise Deaths(ranks)
        return False

    def _reports_arrive_until(self, end_ns: int) -> bool:
        """Wait likewise until a time, or until a signal asks for the end."""
        asked = self.interrupted
        while not self._reports_arrive(max(0, min(TICK_NS, end_ns - self.now_ns()))):
            if self.interrupted != asked or self.now_ns() >= end_ns:
                return False
        return True

    def _reports_complete(self) -> bool:
        """Return whether the reports of all workers on the round have arrived."""
        return bool(MPI.Prequest.Testall(self._requests))

    def _read_sum(self) -> list[Arrival]:
        """Read the reports of a round."""
        total, arrivals = self._take_sum()
        for worker, (message, arrival) in enumerate(zip(self._messages, arrivals, strict=True)):
            arrival.read_header(message, self._offsets_ns[worker])
            _, arrival.digest = REPORT.unpack_from(message.data, HEADER.size)
            arrival.t_recv_ns, arrival.finite = self._reached_ns[worker], total.is_finite
        return sorted(arrivals, key=lambda arrival: arrival.t_recv_ns)

    def _take_sum(self) -> tuple[Total, list[Arrival]]:
        """Collect a round's sum, and note whether it is the last; return it and its unread arrivals."""
        number = HEADER.unpack_from(self._messages[0].data)[1] >> ROUND_SHIFT
        total, arrivals = self._sums[number], self._arrivals[number]
        for worker, (message, arrival) in enumerate(zip(self._messages, arrivals, strict=True)):
            summed_ns, _ = REPORT.unpack_from(message.data, HEADER.size)
            self._reached_ns[worker] = summed_ns - self._offsets_ns[worker]
            total.segments[worker].view(np.uint8)[:] = message[REPORT_BYTES : report_bytes(total, worker)]
            self.bytes_up += arrival.bytes_up
            self.bytes_down += arrival.bytes_down
        total.assemble()
        end, save = total.requested
        self._ended = end or not total.is_finite
        self._saved = save and not self._ended
        return total, arrivals

    def savable(self) -> bool:
        if self._saved:
            self._save_requested = self._saved = False
            return True
        if not self._save_requested:
            self._save_requested = True
            self._send_control(0, SAVE)
        return False

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        self._end_announced = True
        super().cancel(workers, until_ns)

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        if not (self._ended or self._end_announced):
            self.cancel(range(self.workers), 0)
        while not (self._ended or self._timed_out):  # rounds that the workers have started meanwhile
            MPI.Prequest.Startall(self._requests)
            if self._reports_arrive_until(until_ns):
                self._take_sum()  # arrivals of the last round may still be handled
            else:
                self._timed_out = True
        return self._timed_out or super().shutdown(worker, until_ns)

    def close(self) -> None:
        for request in () if self._timed_out else self._requests:
            request.Free()


class VectorSummation(Summation):
    """Sum of payloads in the problem's type, by MPI_Iallreduce."""

    def start(self, task: Task) -> None:
        self._request = self.comm.Iallreduce(self.own.vector, self.total.vector)

    def done(self) -> bool:
        return self._request.Test()


@cache
def block_type(words: int) -> MPI.Datatype:
    """Return the type of a block of words."""
    return MPI.UINT64_T.Create_contiguous(words).Commit()


@cache  # a process may create only 32 operations
def addition(bits: int) -> MPI.Op:
    """Return the operation that adds blocks of integers modulo 2^bits."""

    def add(words: Any, total: Any, datatype: MPI.Datatype) -> None:
        modular.add(*(np.frombuffer(each, np.uint64) for each in (total, words)), datatype.size // 8, bits)

    return MPI.Op.Create(add, commute=True)


class ModularSummation(Summation):
    """Sum of integers, by MPI_Iallreduce.

    An operation of ours adds whole blocks. MPI_SUM would not do: Open MPI's vectorised code saturates
    integers of 8 and 16 bits, and no type of MPI has fewer.
    """

    def __init__(self, layout: Layout, number: int, comm: MPI.Intracomm) -> None:
        super().__init__(layout, number, comm)
        assert layout.blocks is not None
        self._blocks = layout.blocks

    def start(self, task: Task) -> None:
        block, operation = block_type(self._blocks.words), addition(self._blocks.bits)
        self._request = self.comm.Iallreduce([self.own.vector, block], [self.total.vector, block], operation)

    def done(self) -> bool:
        if not self._request.Test():
            return False
        self.total.assemble()
        return True


class TreeSummation(ModularSummation):
    """Sum of integers along a tree whose root is worker 0.

    A worker adds the sums of those below it to its own, sends the result up, and the sum of all down.
    """

    def __init__(self, layout: Layout, number: int, comm: MPI.Intracomm, fanout: int) -> None:
        super().__init__(layout, number, comm)
        self._above, self._below = tree_neighbours(comm.rank, comm.size, fanout)
        self._sums = [np.empty_like(self.own.vector) for _ in self._below]
        self._sent: list[MPI.Request] = []

    def start(self, task: Task) -> None:
        MPI.Request.Waitall(self._sent)
        self._arriving = [
            (self.comm.Irecv(each, worker, REPLY), each)
            for worker, each in zip(self._below, self._sums, strict=True)
        ]
        self._steps = self._advance()

    def done(self) -> bool:
        return next(self._steps, False) is False

    def _advance(self) -> Iterator[bool]:
        """Add up, and pass on; yield true while another worker has to proceed."""
        own, total, comm = self.own.vector, self.total.vector, self.comm
        while self._arriving:
            arrived, self._arriving = self._arriving, []
            for request, words in arrived:
                if request.Test():
                    modular.add(own, words, self._blocks.words, self._blocks.bits)
                else:
                    self._arriving.append((request, words))
            yield True
        if self._above >= 0:
            sent = comm.Isend(own, self._above, REPLY)
            received = comm.Irecv(total, self._above, REPLY)
            while not received.Test():
                yield True
            sent.Wait()  # no later than the receive
        else:
            total[:] = own
        self._sent = [comm.Isend(total, worker, REPLY) for worker in self._below]
        self.total.assemble()


class Averaging(Summation):
    """Mean of rounded payloads; this worker owns a range of it."""

    def __init__(self, layout: Layout, number: int, comm: MPI.Intracomm, owner: Owner) -> None:
        super().__init__(layout, number, comm)
        own, total = self.own, self.total
        self._owner, self._averaged, self.stateful["owner"] = owner, False, owner
        size = len(own.segments[comm.rank])
        self._segments = buffer(comm.size * size)[0][: comm.size * size].reshape(comm.size, size)
        self._requests = self._segments[:, :REQUEST_BYTES].view(np.int32)
        sizes = np.full(comm.size, size)
        self._scattered = (
            [own.message, (own.sizes, own.offsets), MPI.BYTE],
            [self._segments, (sizes, sizes * np.arange(comm.size)), MPI.BYTE],
        )
        self._mean = np.empty(size, np.uint8)
        self._gathered = [self._mean, MPI.BYTE], [total.message, (total.sizes, total.offsets), MPI.BYTE]

    def start(self, task: Task) -> None:
        self._task, self._codewords, self._averaged = task.task, self.total.arrival.codewords, False
        self.own.divide()
        self._request = self.comm.Ialltoallv(*self._scattered)

    def done(self) -> bool:
        if not self._request.Test():
            return False
        if self._averaged:
            self.total.assemble()
            return True
        for segment in self._segments:
            self._owner.add(self._codewords, self._owner.read(segment[REQUEST_BYTES:]))
        self._mean[:REQUEST_BYTES].view(np.int32)[:] = self._requests.sum(axis=0)
        self._mean[REQUEST_BYTES:] = self._owner.average(self._codewords, self._task)
        self._averaged = True
        self._request = self.comm.Iallgatherv(*self._gathered)
        return False


class AllreduceLink(MPILink):
    """A worker's side: its own state orders its next task.

    `state` is built as rank 0's; `summation` builds the sums of a round from its layout, its number and the
    communicator of all workers. Digests of θ are in reports every `check` updates.
    """

    can_leave = False

    def __init__(
        self,
        entry: Entry,
        state: State,
        summation: Callable[[Layout, int, MPI.Intracomm], Summation],
        check: int,
    ) -> None:
        super().__init__(entry)
        self.state, self._summation, self._check = state, summation, check
        self._workers = self._comm.workers
        self._poller.longest_s = 50e-6  # others wait for this rank to take part

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        self._sums = [self._summation(layout, n, self._workers) for n, layout in enumerate(layouts)]
        self._task, self._inbox = (Task(layouts, row) for row in buffer(buffer_sizes(layouts)[0], 2))
        size = longest_report([each.total for each in self._sums])
        slots = max(2, min(PENDING, PENDING_BYTES // size))
        self._outbox, self._sends = buffer(size, slots), [MPI.REQUEST_NULL] * slots
        self._started = self._save_requested = False  # by rank 0
        self._tasks = self._version = self._digest = 0
        return [each.own.reply for each in self._sums]

    @property
    def stateful(self) -> dict[str, object]:
        made: dict[str, object] = {"state": self.state}
        for each in self._sums:
            made |= each.stateful
        return made

    def continue_with(self, theta: np.ndarray) -> None:
        self.state.theta[:] = theta

    def _message_arrived(self) -> bool:
        if super()._message_arrived():
            self._inbox.read()
            if self._inbox.flags & SAVE:
                self._save_requested = True
                self._post_receive()
        return not self._posted

    def wait(self, delay_ns: int, spin: bool) -> int:
        return 0 if self._message_arrived() else super().wait(delay_ns, spin)

    def reply(self, computed: Computed) -> None:
        _, loss, t_start_ns, t_compute_ns, delay_ns = computed
        task = self._task
        own, total = self._sums[task.round].own, self._sums[task.round].total
        own.request(self._message_arrived(), self._save_requested)
        now_ns = clocks.now_ns()
        total.reply.write_header(self.worker, task, t_start_ns, t_compute_ns, now_ns, delay_ns, loss)
        self._sums[task.round].start(task)

    def next_task(self) -> Task | None:
        if not (self._step() if self._started else self._start()):
            while not self._inbox.flags & STOP:
                self._next_message()
            MPI.Request.Waitall(self._sends)
            if not self.continues:
                self._workers.Free()
            return None
        order = self.state.order(0, self._tasks)  # the same for all workers
        assert order is not None
        self._sums[order.round].total.arrival.codewords = order.codewords
        self._task.write(self.worker, self._tasks, self._version, order, 0)
        self._task.sent_ns[0] = clocks.now_ns() - self._started_ns
        self._task.read()
        self._tasks += 1
        return self._task

    def _start(self) -> bool:
        """Wait for rank 0's start message; return false if it is the end."""
        self._next_message()
        if self._inbox.flags & STOP:
            return False
        self._post_receive()  # of the message of the end
        start = self._inbox
        self._tasks, self._version, self._started = start.task, start.version, True
        self._started_ns = clocks.now_ns() - start.sent_ns[0]
        self._digest = due_digest(self.state, self._version, self._check)
        return True

    def _step(self) -> bool:
        """Wait for the sum, report it to rank 0, and step; return false at the end of the run."""
        total = self._sums[self._task.round].total
        self._poller.wait(self._sums[self._task.round].done)
        self._report(total)
        end, save = total.requested
        if end or not total.is_finite:
            return False
        self.state.fold(total.arrival)
        if self.state.step(self.state.optimizer.table.factor(self._version)) is not None:
            self._version += 1
            self._digest = due_digest(self.state, self._version, self._check)
        if save:
            self._save_requested = False
            self.save(self._tasks + 1)  # for rank 0 the next task is in flight, and will be lost
        return True

    def _report(self, total: Total) -> None:
        """Send rank 0 the times of the last task, and this worker's part of the sum."""
        slot = self._tasks % len(self._sends)
        self._poller.wait(self._sends[slot].Test)
        message = self._outbox[slot, : report_bytes(total, self.worker)]
        message[: HEADER.size] = np.frombuffer(total.reply.header, np.uint8)
        REPORT.pack_into(message.data, HEADER.size, clocks.now_ns(), self._digest)
        message[REPORT_BYTES:] = total.segments[self.worker].view(np.uint8)
        self._sends[slot] = self._comm.Isend(message, 0, REPLY)
