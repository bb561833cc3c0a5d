"""Bare mpi4py round trips with the same messages: the upper bound for the benchmark `messages`."""

from __future__ import annotations

import time

from mpi4py import MPI

from pdcode.transport.layout import buffer

TASK, REPLY = 21, 22  # tags


def exchange(rounds: int, task_bytes: int, reply_bytes: int, comm: MPI.Intracomm) -> float:
    """Return the round trips per second of a task and its reply in a bare Waitsome loop.

    Collective over ranks 0 and 1 of a communicator.
    """
    task, reply = (buffer(size)[0, :size] for size in (task_bytes, reply_bytes))
    if comm.rank == 0:
        receive, send = comm.Recv_init(reply, source=1, tag=REPLY), comm.Send_init(task, dest=1, tag=TASK)
        waiting = [receive]
        start_s = time.perf_counter()
        for _ in range(rounds):
            receive.Start()
            send.Start()
            MPI.Prequest.Waitsome(waiting)
            send.Wait()
    else:
        receive, send = comm.Recv_init(task, source=0, tag=TASK), comm.Send_init(reply, dest=0, tag=REPLY)
        start_s = time.perf_counter()
        for _ in range(rounds):
            receive.Start()
            receive.Wait()
            send.Start()
            send.Wait()
    elapsed_s = time.perf_counter() - start_s
    receive.Free()
    send.Free()
    return rounds / elapsed_s
