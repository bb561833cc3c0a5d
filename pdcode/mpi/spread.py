"""Virtual workers distributed over all MPI ranks: worker i belongs to rank i mod the number of ranks.

Rank 0, which has the fleet, performs its own workers' tasks at once, as `InProcessExecutor` does, and sends
the tasks of the others. A rank performs its tasks in the order of sending, and MPI preserves the order of
messages. Rank 0 therefore knows which worker's reply comes next from a rank, and posts its receive in that
worker's buffer before it sends the task. Every reply has a buffer, and rank 0 may wait at any time without
deadlock. Rank 0 has a fixed number of send buffers per rank; when all are in use, it waits for the oldest
reply. The rank has as many receive buffers with posted receives, and tasks travel while it computes.

The time at which a reply is computed does not affect the run: the schedule determines its arrival.
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TypeVar

import numpy as np

from ..transport.layout import HEADER, STOP, Layout, buffer, buffer_sizes
from ..transport.messages import Reply, Task, control_message
from ..virtual.executor import BuildWorker, Executor
from .initialise import MPI
from .process import BESIDE, REPLY, TASK, Group, Poller

MAX_TASKS, MAX_BYTES = 64, 1 << 26  # bounds on the tasks in flight to a rank, and their total bytes

T = TypeVar("T")


def slots(layouts: Sequence[Layout]) -> int:
    """Return the number of tasks that may be in flight to a rank."""
    return min(MAX_TASKS, max(2, MAX_BYTES // buffer_sizes(layouts)[0]))


class RankWorkers:
    """The workers of this rank, of a number of workers of all ranks."""

    def __init__(self, layouts: Sequence[Layout], workers: int, build: BuildWorker, comm: Group) -> None:
        self._size = comm.size
        mine = range(comm.rank, workers, comm.size)
        size = buffer_sizes(layouts)[1]
        self.messages = buffer(size, len(mine))[:, :size]
        self.replies = [[Reply(layout, message) for layout in layouts] for message in self.messages]
        self.local_workers = [build(worker, reply) for worker, reply in zip(mine, self.replies, strict=True)]

    def perform(self, worker: int, task: Task) -> float:
        """Perform a received task: write the reply's body to its buffer, return the loss."""
        try:
            return self.local_workers[worker // self._size].perform(task)
        except BaseException as error:
            error.add_note(f"virtual worker {worker}, task {task.task}")
            raise


class MPIExecutor(Executor):
    """Executor on rank 0, while the other ranks `serve`. Collective."""

    def __init__(self, layouts: Sequence[Layout], workers: int, build: BuildWorker, comm: Group) -> None:
        self._comm = comm
        self._size = size = self._comm.size
        self._poller = Poller(50e-6, comm)
        self._layouts = layouts
        self._own = RankWorkers(layouts, workers, build, comm)
        self._losses = [0.0] * workers
        task_bytes, reply_bytes = buffer_sizes(layouts)
        self._replies = buffer(reply_bytes, workers - len(self._own.local_workers))[:, :reply_bytes]
        self._slots = slots(layouts)
        self._outboxes = [buffer(task_bytes, self._slots if rank else 0) for rank in range(size)]
        self._sent = [0] * size  # number of tasks, by rank
        # By rank, in order of sending: worker, and the requests of its task and its reply.
        self._in_flight = [deque[tuple[int, MPI.Request, MPI.Request]]() for _ in range(size)]
        self._has_task = [False] * workers  # by worker

    def _reply(self, worker: int) -> np.ndarray:
        """Return the receive buffer of another rank's worker."""
        return self._replies[worker - 1 - worker // self._size]  # rank 0's own workers have none

    def perform(self, worker: int, task: Task, number: int) -> None:
        rank = worker % self._size
        if not rank:
            self._comm.Iprobe(MPI.ANY_SOURCE, REPLY)  # only makes MPI progress messages in flight
            task.read()
            self._losses[worker] = self._own.perform(worker, task)
            return
        in_flight = self._in_flight[rank]
        if len(in_flight) == self._slots:
            self._receive_next(rank)
        receive = self._comm.Irecv(self._reply(worker), rank, REPLY)
        size = self._layouts[number].body_offset + HEADER.unpack_from(task.message.data)[2]
        message = self._outboxes[rank][self._sent[rank] % self._slots, :size]
        message[:] = task.message[:size]
        in_flight.append((worker, self._comm.Isend(message, rank, TASK), receive))
        if task.companion is not None:
            self._comm.Send(task.companion, rank, BESIDE)
        self._sent[rank] += 1
        self._has_task[worker] = True

    def _receive_next(self, rank: int) -> None:
        """Wait for the next reply of a rank."""
        worker, send, receive = self._in_flight[rank].popleft()
        self._poller.wait(receive.Test)
        send.Wait()  # complete, as the worker has replied; this frees the request
        self._losses[worker] = HEADER.unpack_from(self._reply(worker).data)[-1]
        self._has_task[worker] = False

    def finish(self, worker: int, number: int, part: int) -> tuple[float, np.ndarray]:
        rank = worker % self._size
        if not rank:
            return self._losses[worker], self._own.replies[worker // self._size][number].parts[part].body
        while self._has_task[worker]:
            self._receive_next(rank)
        message = self._reply(worker)[self._layouts[number].reply_slice(part)]
        return self._losses[worker], message[HEADER.size :]

    def close(self) -> None:
        last = control_message(0, STOP)
        for rank in range(1, self._size):
            while self._in_flight[rank]:
                self._receive_next(rank)
            self._comm.Send(last, rank, TASK)


def serve(layouts: Sequence[Layout], workers: int, build: BuildWorker, comm: Group) -> None:
    """Perform the tasks of this rank's workers until rank 0 ends the run. Collective with `MPIExecutor`."""
    poller = Poller(1e-3, comm)
    own = RankWorkers(layouts, workers, build, comm)
    sends = [MPI.REQUEST_NULL] * len(own.local_workers)
    tasks = [Task(layouts, message) for message in buffer(buffer_sizes(layouts)[0], slots(layouts))]
    receives = deque(comm.Irecv(task.message, 0, TASK) for task in tasks)
    for task in cycle(tasks):
        poller.wait(receives.popleft().Test)
        task.read()
        if task.flags & STOP:
            break
        task.companion = np.empty(task.companion_bytes[0], np.uint8) if task.companion_bytes[0] else None
        if task.companion is not None:
            comm.Recv(task.companion, 0, BESIDE)
        worker = HEADER.unpack_from(task.message.data)[0]
        mine = worker // comm.size
        sends[mine].Wait()  # complete, as rank 0 has the last reply; this frees the request
        loss = own.perform(worker, task)
        reply = own.replies[mine][task.round]
        reply.write_header(worker, task, loss=loss)
        receives.append(comm.Irecv(task.message, 0, TASK))
        sends[mine] = comm.Isend(own.messages[mine, : reply.layout.buffer_bytes], 0, REPLY)
    for receive in receives:
        receive.Cancel()
    MPI.Request.Waitall([*receives, *sends])


def collective(make: Callable[[], T], comm: Group) -> T:
    """Call `make` on every rank; the first rank that fails reports the error and ends the job. Collective.

    Most errors occur on all ranks and should be reported once, but a file may be missing on one machine only.
    """
    try:
        result = make()
    except BaseException as error:
        if _first_to_fail(True, comm) == comm.rank:
            raise
        comm.Barrier()  # the failing rank ends the job meanwhile
        raise error  # not reached
    if _first_to_fail(False, comm) < comm.size:
        comm.Barrier()
    return result


def _first_to_fail(failed: bool, comm: Group) -> int:
    """Return the lowest rank that has failed; the number of ranks if none has."""
    first = np.array([comm.rank if failed else comm.size])
    comm.Allreduce(MPI.IN_PLACE, first, MPI.MIN)
    return int(first[0])
