"""Virtual workers spread over all MPI ranks: worker i belongs to rank i modulo their number.

Rank 0, where the fleet is, does the tasks of its own workers when they are given, as `InProcessExecutor`
does, and sends those of the others, so all ranks compute. A rank does its tasks in the order in which they
were sent, and MPI keeps messages in order, so rank 0 knows whose reply is the next of a rank: its receive is
posted, in that worker's own buffer, before the task leaves. Replies thus always have somewhere to go, however
long they are, and rank 0 may wait at any time. What is under way to a rank is bounded by the outboxes that
rank 0 has for it; when all are taken, it waits for the reply to the oldest task. The rank has as many
inboxes, whose receives are posted, so tasks travel while it computes.

When a reply is done has no bearing on the run: the schedule says when it arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TypeVar

import numpy as np
from mpi4py import MPI

from ..transport.layout import HEADER, STOP, Layout, buffer, longest
from ..transport.messages import Reply, Task, notice
from ..virtual.executor import BuildWorker, Executor
from .process import REPLY, TASK, Patience

MOST, MOST_BYTES = 64, 1 << 26  # tasks that are under way to a rank, and their length in all

Made = TypeVar("Made")


def places(layouts: Sequence[Layout]) -> int:
    """Tasks that may be under way to a rank."""
    return min(MOST, max(2, MOST_BYTES // longest(layouts)[0]))


class Share:
    """The workers of this rank.

    Parameters
    ----------
    layouts : sequence of Layout
    workers : int
        Of all ranks.
    build : callable
        Makes each worker.
    """

    def __init__(self, layouts: Sequence[Layout], workers: int, build: BuildWorker) -> None:
        comm = MPI.COMM_WORLD
        self._size = comm.size
        mine = range(comm.rank, workers, comm.size)
        size = longest(layouts)[1]
        self.messages = buffer(size, len(mine))[:, :size]
        self.replies = [[Reply(layout, message) for layout in layouts] for message in self.messages]
        self.staff = [build(worker, reply) for worker, reply in zip(mine, self.replies, strict=True)]

    def perform(self, worker: int, task: Task) -> float:
        """Do a task that has been read: leave the reply's body in its buffer, return the loss."""
        try:
            return self.staff[worker // self._size].perform(task)
        except BaseException as error:
            error.add_note(f"virtual worker {worker}, task {task.task}")
            raise


class MPIExecutor(Executor):
    """Rank 0's side; the other ranks `serve` meanwhile. Collective.

    Parameters
    ----------
    layouts : sequence of Layout
    workers : int
        Of all ranks.
    build : callable
        Makes each of rank 0's own workers.
    """

    def __init__(self, layouts: Sequence[Layout], workers: int, build: BuildWorker) -> None:
        self._comm = MPI.COMM_WORLD
        self._size = size = self._comm.size
        self._patience = Patience(50e-6)
        self._layouts = layouts
        self._share = Share(layouts, workers, build)
        self._losses = [0.0] * workers
        task_bytes, reply_bytes = longest(layouts)
        self._replies = buffer(reply_bytes, workers - len(self._share.staff))[:, :reply_bytes]
        self._slots = places(layouts)
        self._outboxes = [buffer(task_bytes, self._slots if rank else 0) for rank in range(size)]
        self._sent = [0] * size  # tasks, by rank
        # By rank, in the order in which they were sent: worker, and the requests of its task and its reply.
        self._under_way = [deque[tuple[int, MPI.Request, MPI.Request]]() for _ in range(size)]
        self._away = [False] * workers  # whether a task is under way

    def _reply(self, worker: int) -> np.ndarray:
        """Where the reply of another rank's worker is received."""
        return self._replies[worker - 1 - worker // self._size]  # rank 0's, one in size, have none

    def perform(self, worker: int, task: Task, number: int) -> None:
        rank = worker % self._size
        if not rank:
            self._comm.Iprobe(MPI.ANY_SOURCE, REPLY)  # finds nothing, but moves on what is under way
            task.read()
            self._losses[worker] = self._share.perform(worker, task)
            return
        under_way = self._under_way[rank]
        if len(under_way) == self._slots:
            self._take(rank)
        receive = self._comm.Irecv(self._reply(worker), rank, REPLY)
        size = self._layouts[number].body_at + HEADER.unpack_from(task.header)[2]
        message = self._outboxes[rank][self._sent[rank] % self._slots, :size]
        message[:] = task.message[:size]
        under_way.append((worker, self._comm.Isend(message, rank, TASK), receive))
        self._sent[rank] += 1
        self._away[worker] = True

    def _take(self, rank: int) -> None:
        """Wait for the next reply of a rank."""
        worker, send, receive = self._under_way[rank].popleft()
        self._patience.wait(receive.Test)
        send.Wait()  # done, for the worker has replied to it; this frees the request
        self._losses[worker] = HEADER.unpack_from(self._reply(worker).data)[-1]
        self._away[worker] = False

    def finish(self, worker: int, number: int) -> tuple[float, np.ndarray]:
        rank = worker % self._size
        if not rank:
            return self._losses[worker], self._share.replies[worker // self._size][number].body
        while self._away[worker]:
            self._take(rank)
        return self._losses[worker], self._reply(worker)[HEADER.size : self._layouts[number].reply_bytes]

    def close(self) -> None:
        last = notice(0, STOP)
        for rank in range(1, self._size):
            while self._under_way[rank]:
                self._take(rank)
            self._comm.Send(last, rank, TASK)


def serve(layouts: Sequence[Layout], workers: int, build: BuildWorker) -> None:
    """Do the tasks of this rank's workers until rank 0 has no more. Collective with `MPIExecutor`.

    Parameters
    ----------
    layouts : sequence of Layout
    workers : int
        Of all ranks.
    build : callable
        Makes each of this rank's workers.
    """
    comm = MPI.COMM_WORLD
    patience = Patience(1e-3)
    share = Share(layouts, workers, build)
    sends = [MPI.REQUEST_NULL] * len(share.staff)
    tasks = [Task(layouts, message) for message in buffer(longest(layouts)[0], places(layouts))]
    receives = deque(comm.Irecv(task.message, 0, TASK) for task in tasks)
    for task in cycle(tasks):
        patience.wait(receives.popleft().Test)
        task.read()
        if task.flags & STOP:
            break
        worker = HEADER.unpack_from(task.header)[0]
        mine = worker // comm.size
        sends[mine].Wait()  # rank 0 has the last reply; this frees the request
        loss = share.perform(worker, task)
        reply = share.replies[mine][task.round]
        reply.seal(worker, task, loss=loss)
        receives.append(comm.Irecv(task.message, 0, TASK))
        sends[mine] = comm.Isend(share.messages[mine, : reply.layout.reply_bytes], 0, REPLY)
    for receive in receives:
        receive.Cancel()
    MPI.Request.Waitall([*receives, *sends])


def together(make: Callable[[], Made]) -> Made:
    """Make what every rank needs of the input. Collective.

    If ranks cannot, the first of them says why and ends the job: most faults are found by all, and only one
    is to speak; but a file may be missing on one machine only.

    Parameters
    ----------
    make : callable
        May raise what `process.abort` reports.
    """
    try:
        made = make()
    except BaseException as error:
        if _first_to_fail(True) == MPI.COMM_WORLD.rank:
            raise
        MPI.COMM_WORLD.Barrier()  # until that rank has ended the job
        raise error  # not reached
    if _first_to_fail(False) < MPI.COMM_WORLD.size:
        MPI.COMM_WORLD.Barrier()
    return made


def _first_to_fail(failed: bool) -> int:
    """The first rank that has failed; the number of ranks if none has."""
    comm = MPI.COMM_WORLD
    first = np.array([comm.rank if failed else comm.size])
    comm.Allreduce(MPI.IN_PLACE, first, MPI.MIN)
    return int(first[0])
