"""Rank 0 and one worker in the same process: the cost of rank 0, independent of other load on the machine.

The worker is a bare loop that answers a task immediately when rank 0 polls for arrivals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mpi4py import MPI

from pdcode.mpi.fleet import MPIFleet, Ranks
from pdcode.mpi.process import CLOCK, HELLO, REPLY, TASK
from pdcode.transport.events import Event
from pdcode.transport.layout import HEADER, Layout, buffer
from pdcode.util import clocks

TASK_FIELDS = slice(8, 24)  # task, version and row in a header


class Loopback:
    """Communicator of rank 0 and worker 0, which are both this process."""

    size, polls = 2, 64
    turns = 0  # of waiting loops, which rank 0 counts

    def __init__(self, layout: Layout) -> None:
        self._comm = MPI.COMM_SELF.Dup()
        self._task, reply = (buffer(size)[0, :size] for size in (layout.task_bytes, layout.reply_bytes))
        HEADER.pack_into(reply.data, 0, 0, 0, layout.payload_bytes, 0, 0, 0, 0, 0, 0, 0, 0.0)
        self._task_fields, self._reply_fields = self._task[TASK_FIELDS], reply[TASK_FIELDS]
        self._receive = self._comm.Recv_init(self._task, source=0, tag=TASK)
        self._send = self._comm.Send_init(reply, dest=0, tag=REPLY)

    def answer(self) -> None:
        """Receive a task and reply to it, as a worker."""
        self._receive.Start()
        self._receive.Wait()
        self._reply_fields[:] = self._task_fields
        self._send.Start()
        self._send.Wait()

    def close(self) -> None:
        """Receive what rank 0 has sent besides tasks, and free the communicator."""
        for tag in CLOCK, TASK:
            while self._comm.Iprobe(0, tag):
                self._comm.Recv(self._task, 0, tag)
        self._receive.Free()
        self._send.Free()
        self._comm.Free()

    def with_failure_check(self, poll: Callable[[], bool]) -> Callable[[], bool]:
        """Return what is polled: no rank fails here."""
        return poll

    def Split_type(self, kind: int) -> MPI.Comm:  # noqa: N802
        return self._comm.Split_type(kind)

    def Recv_init(self, message: Any, source: int, tag: int) -> MPI.Prequest:  # noqa: N802
        return self._comm.Recv_init(message, 0, tag)

    def Send_init(self, message: Any, dest: int, tag: int) -> MPI.Prequest:  # noqa: N802
        return self._comm.Send_init(message, 0, tag)

    def Irecv(self, message: Any, source: int, tag: int) -> MPI.Request:  # noqa: N802
        return self._comm.Irecv(message, 0, tag)

    def Isend(self, message: Any, dest: int, tag: int) -> MPI.Request:  # noqa: N802
        return self._comm.Isend(message, 0, tag)

    def Send(self, message: Any, dest: int, tag: int) -> None:  # noqa: N802
        self._comm.Send(message, 0, tag)


class LoopbackFleet(MPIFleet):
    """Fleet of the worker in this process."""

    def __init__(self, layout: Layout) -> None:
        self._loop = loop = Loopback(layout)
        hello = loop.Isend(f"{clocks.host()}\n{clocks.identity()}".encode(), 0, HELLO)
        super().__init__(Ranks(loop), [layout])  # type: ignore[arg-type]
        hello.Wait()

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        self._loop.answer()
        return super().events(timeout_ns, wake_ns)

    def close(self) -> None:
        super().close()
        self._loop.close()


def exchange(rounds: int, layout: Layout) -> float:
    """Return the round trips of a task and its reply in a bare Waitsome loop, per second of processor."""
    loop = Loopback(layout)
    task, reply = (buffer(size)[0, :size] for size in (layout.task_bytes, layout.reply_bytes))
    receive, send = loop.Recv_init(reply, 0, REPLY), loop.Send_init(task, 0, TASK)
    waiting = [receive]
    start_s = time.process_time()
    for _ in range(rounds):
        receive.Start()
        send.Start()
        loop.answer()
        MPI.Prequest.Waitsome(waiting)
        send.Wait()
    elapsed_s = time.process_time() - start_s
    receive.Free()
    send.Free()
    loop.close()
    return rounds / elapsed_s
