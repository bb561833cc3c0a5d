"""Measurement of rank 0's link and of the workers' speed, before the size of messages is settled.

The workers compute gradients at the same time, then all send to rank 0, then rank 0 sends to all. Bandwidths
are those of messages as long as a run's: what a message takes besides its bytes counts.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from ..training.share import Pace
from . import clocks
from .process import PACE, Patience

BUDGET = 1 << 20  # bytes that rank 0 receives, and that it sends, at most …
MOST, LONGEST = 16, 1 << 17  # … and at most as many messages to a worker, of as many bytes
POLL_S = 50e-6  # longest sleep of a rank that waits


def plan(workers: int, reply_bytes: int, task_bytes: int) -> list[int]:
    """Return bytes and number of messages that each worker sends, and of those that it receives."""
    planned = []
    for size in (reply_bytes, task_bytes):
        size = max(1, min(size, LONGEST, BUDGET // workers))
        planned += [size, max(1, min(MOST, BUDGET // (workers * size)))]
    return planned


def measure(comm: MPI.Intracomm, planned: list[int]) -> Pace:
    """Measure at rank 0, while the workers are in `answer`."""
    workers = range(1, comm.size)
    up, ups, down, downs = planned
    patience, one = Patience(POLL_S, comm), np.zeros(1, np.uint8)
    compute_s, inbox = np.zeros(len(workers)), np.empty((len(workers), ups, up), np.uint8)

    def wait(requests: list[MPI.Request]) -> None:
        patience.wait(lambda: MPI.Request.Testall(requests))

    wait([comm.Irecv(compute_s[rank - 1 : rank], rank, PACE) for rank in workers])
    receives = [comm.Irecv(row, rank, PACE) for rank in workers for row in inbox[rank - 1]]
    start_ns = clocks.now_ns()
    wait([comm.Isend(one, rank, PACE) for rank in workers] + receives)
    into_s = 1e-9 * (clocks.now_ns() - start_ns)
    acks, message = np.zeros((len(workers), 1), np.uint8), np.zeros(down, np.uint8)
    receives = [comm.Irecv(acks[rank - 1], rank, PACE) for rank in workers]
    start_ns = clocks.now_ns()
    wait([comm.Isend(message, rank, PACE) for _ in range(downs) for rank in workers] + receives)
    out_s = 1e-9 * (clocks.now_ns() - start_ns)
    return Pace(inbox.nbytes / into_s, len(workers) * downs * down / out_s, compute_s)


def answer(comm: MPI.Intracomm, planned: list[int], compute_s: float) -> None:
    """Take part at a worker, which has measured the time of a task."""
    up, ups, down, downs = planned
    patience, one = Patience(POLL_S, comm), np.zeros(1, np.uint8)

    def receive(count: int, size: int) -> None:
        inbox = np.empty((count, size), np.uint8)
        requests = [comm.Irecv(row, 0, PACE) for row in inbox]
        patience.wait(lambda: MPI.Request.Testall(requests))

    comm.Send(np.array([compute_s]), 0, PACE)
    receive(1, 1)
    message = np.zeros(up, np.uint8)
    sends = [comm.Isend(message, 0, PACE) for _ in range(ups)]
    receive(downs, down)
    MPI.Request.Waitall(sends)
    comm.Send(one, 0, PACE)


def traffic(workers: int, planned: list[int]) -> tuple[int, int]:
    """Return the bytes that rank 0 receives and sends in a measurement."""
    up, ups, down, downs = planned
    return workers * (8 + up * ups + 1), workers * (1 + down * downs)
