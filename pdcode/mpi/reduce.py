"""Workers that add up their payloads by MPI_Iallreduce, without rank 0.

Every worker has the scheme's state: it folds the sum in, steps, and asks the state for its next task. Rank 0
is not one of those that add up. It follows by what workers tell it, measures and traces, and may be behind:
a worker waits for it only once `PENDING` messages, or `PENDING_BYTES`, have not been received. At the end
rank 0 sends word to all workers; they end after the sum by which the first of them has passed it on. A sum
that is not finite ends the run, too. A checkpoint is agreed on alike: rank 0 asks a worker for it, and all
write theirs after the sum by which that one has passed it on; so does rank 0 once it has come to that sum.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from mpi4py import MPI

from ..coding.reduced import due_digest
from ..coding.state import State
from ..transport.base import Arrival, Computed
from ..transport.events import Event
from ..transport.layout import HEADER, ROUND_SHIFT, SAVE, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Order, Reply, Task
from ..transport.sums import REPORT, REPORT_BYTES, Sum, exchanged_bytes
from ..util.errors import Failure
from . import clocks
from .deaths import dead, describe
from .fleet import MPIFleet
from .link import MPILink
from .process import REPLY

PENDING, PENDING_BYTES = 1024, 1 << 26  # of a worker's messages to rank 0


def report_bytes(total: Sum) -> int:
    """Return the length of a worker's message to rank 0."""
    return REPORT_BYTES + int(total.segments[0].nbytes)


class AllreduceFleet(MPIFleet):
    """Rank 0's side: the arrivals of a round come together, and hold the sum."""

    def _allocate(self, layouts: Sequence[Layout]) -> None:
        workers = self.workers
        self._sums = [Sum(layout, number, workers) for number, layout in enumerate(layouts)]
        self._reached = [
            [Arrival(total.reply, number) for _ in range(workers)] for number, total in enumerate(self._sums)
        ]
        for layout, arrivals in zip(layouts, self._reached, strict=True):
            for arrival in arrivals:
                arrival.bytes_up = arrival.bytes_down = exchanged_bytes(layout, workers)
        size = max(map(report_bytes, self._sums))
        self._messages = buffer(size, workers)[:, :size]
        self._requests = [
            self._comm.Recv_init(message, source=1 + worker, tag=REPLY)
            for worker, message in enumerate(self._messages)
        ]
        self._sends = [MPI.REQUEST_NULL] * workers
        self._reached_ns = [0] * workers  # when each worker had the last sum
        self._warned = False  # whether workers have been told of the end
        self._over = True  # whether workers add up no more
        self._begun: set[int] = set()  # workers that have been told to begin
        self._asked = False  # whether a checkpoint is asked for …
        self._saved = False  # … and whether the workers have written theirs after the last sum
        self._lost = False  # whether some worker did not come to the end

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        if worker not in self._begun:
            self._begun.add(worker)
            self._over, self._reached_ns[worker] = False, self.now_ns()
            self._tell(worker, 0, task, version, self._reached_ns[worker])
        self._requests[worker].Start()
        self._reached[order.round][worker].codewords = order.codewords
        return self._reached_ns[worker]

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        if self._patience.wait(self._told, timeout_ns):
            return self._read_sum()
        if ranks := dead(self._comm):  # of which the test of all receives says nothing
            raise Failure(describe(ranks))
        return ()

    def _told(self) -> bool:
        """Return whether all workers have told of the round."""
        return bool(MPI.Prequest.Testall(self._requests))

    def _read_sum(self) -> list[Arrival]:
        """Read what the workers have told of a round."""
        total, arrivals = self._take_sum()
        for worker, (message, arrival) in enumerate(zip(self._messages, arrivals, strict=True)):
            arrival.read_header(message, self._offsets_ns[worker])
            _, arrival.digest = REPORT.unpack_from(message.data, HEADER.size)
            arrival.t_recv_ns, arrival.finite = self._reached_ns[worker], total.is_finite
        return sorted(arrivals, key=lambda arrival: arrival.t_recv_ns)

    def _take_sum(self) -> tuple[Sum, list[Arrival]]:
        """Take over a round's sum, and note whether it is the last; return its arrivals, not yet read."""
        number = HEADER.unpack_from(self._messages[0].data)[1] >> ROUND_SHIFT
        total, arrivals = self._sums[number], self._reached[number]
        for worker, (message, arrival) in enumerate(zip(self._messages, arrivals, strict=True)):
            had_ns, _ = REPORT.unpack_from(message.data, HEADER.size)
            self._reached_ns[worker] = had_ns - self._offsets_ns[worker]
            total.segments[worker] = message[REPORT_BYTES : report_bytes(total)].view(total.vector.dtype)
            self.bytes_up += arrival.bytes_up
            self.bytes_down += arrival.bytes_down
        self._over = total.end_requested or not total.is_finite
        self._saved = total.save_requested and not self._over
        return total, arrivals

    def savable(self) -> bool:
        if self._saved:
            self._asked = self._saved = False
            return True
        if not self._asked:
            self._asked = True
            self._tell(0, SAVE)
        return False

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        self._warned = True
        super().cancel(workers, until_ns)

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        if not (self._over or self._warned):
            self.cancel(range(self.workers), 0)
        while not (self._over or self._lost):  # rounds that the workers have begun meanwhile
            MPI.Prequest.Startall(self._requests)
            if self._patience.wait(self._told, max(0, until_ns - self.now_ns())):
                self._take_sum()  # arrivals of the last round may still be handled
            else:
                self._lost = True
        return self._lost or super().shutdown(worker)

    def close(self) -> None:
        for request in () if self._lost else self._requests:
            request.Free()


class AllreduceLink(MPILink):
    """A worker's side: its next task is the one that its own state orders.

    Attributes
    ----------
    state : State
        Built as rank 0's; to be set before the first task.
    check : int
        Period, in updates, at which rank 0 is told a digest of θ.
    save : callable
        Writes this worker's part of a checkpoint, with which it goes on at a task of this number.
    """

    state: State
    check: int
    save: Callable[[int], None]

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__(comm)
        self._ring = comm.Create_group(comm.group.Excl([0]))
        self._patience.longest_s = 50e-6  # others wait for this rank to take part

    def _allocate(self, layouts: Sequence[Layout]) -> list[Reply]:
        own, total = (
            [Sum(layout, number, self._ring.size) for number, layout in enumerate(layouts)] for _ in range(2)
        )
        self._own, self._total = own, total
        self._task = Task(layouts, buffer(buffer_sizes(layouts)[0])[0])
        self._inbox = Task(layouts, buffer(HEADER.size)[0])
        size = max(map(report_bytes, total))
        places = max(2, min(PENDING, PENDING_BYTES // size))
        self._outbox, self._sends = buffer(size, places), [MPI.REQUEST_NULL] * places
        self._began = self._saving = False  # whether rank 0 has said so; whether it asks for a checkpoint
        self._tasks = self._version = self._digest = 0
        return [each.reply for each in own]

    def _heard(self) -> bool:
        if super()._heard():
            self._inbox.read()
            if self._inbox.flags & SAVE:
                self._saving = True
                self._listen()
        return not self._listening

    def wait(self, delay_ns: int, spin: bool) -> int:
        return 0 if self._heard() else super().wait(delay_ns, spin)

    def reply(self, computed: Computed) -> None:
        _, loss, t_start_ns, t_compute_ns, delay_ns = computed
        task = self._task
        own, total = self._own[task.round], self._total[task.round]
        own.end_requested, own.save_requested = self._heard(), self._saving
        now_ns = clocks.now_ns()
        total.reply.write_header(self.worker, task, t_start_ns, t_compute_ns, now_ns, delay_ns, loss)
        self._request = self._ring.Iallreduce(own.vector, total.vector)

    def next_task(self) -> Task | None:
        goes_on = self._step() if self._began else self._begin()
        if not goes_on:
            while not self._inbox.flags & STOP:
                self._hear()
            MPI.Request.Waitall(self._sends)
            self._ring.Free()
            return None
        order = self.state.order(self.worker, self._tasks)
        self._total[order.round].arrival.codewords = order.codewords
        self._task.write(self.worker, self._tasks, self._version, order, 0)
        self._task.sent_ns[0] = clocks.now_ns() - self._began_ns
        self._task.read()
        self._tasks += 1
        return self._task

    def _begin(self) -> bool:
        """Wait for rank 0's word to begin; return whether it is not the end."""
        self._hear()
        if self._inbox.flags & STOP:
            return False
        self._listen()  # for word of the end
        word = self._inbox
        self._tasks, self._version, self._began = word.task, word.version, True
        self._began_ns = clocks.now_ns() - word.sent_ns[0]
        self._digest = due_digest(self.state, self._version, self.check)
        return True

    def _step(self) -> bool:
        """Wait for the sum, tell rank 0 of it, and step; return whether the run goes on."""
        total = self._total[self._task.round]
        self._patience.wait(self._request.Test)
        self._tell(total)
        if total.end_requested or not total.is_finite:
            return False
        self.state.fold(total.arrival)
        if self.state.step(1.0) is not None:
            self._version += 1
            self._digest = due_digest(self.state, self._version, self.check)
        if total.save_requested:
            self._saving = False
            self.save(self._tasks + 1)  # for rank 0 the next task is on its way, and will be lost
        return True

    def _tell(self, total: Sum) -> None:
        """Send rank 0 the times of the last task, and this worker's part of the sum."""
        place = self._tasks % len(self._sends)
        self._patience.wait(self._sends[place].Test)
        message = self._outbox[place, : report_bytes(total)]
        message[: HEADER.size] = np.frombuffer(total.reply.header, np.uint8)
        REPORT.pack_into(message.data, HEADER.size, clocks.now_ns(), self._digest)
        message[REPORT_BYTES:] = total.segments[self.worker].view(np.uint8)
        self._sends[place] = self._comm.Isend(message, 0, REPLY)
