"""Measurement of rank 0's link and of the workers' speed, before the size of messages is chosen.

The workers compute gradients at the same time. Then, several times, all send to rank 0, and rank 0 sends to
all. Bandwidths are those of messages as long as a run's, for what a message takes besides its bytes counts,
and the best of all times: a rank that waits for a core makes the link seem slow, never fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

from ..transport.speeds import Speeds
from .process import PACE, Patience

BUDGET = 1 << 18  # bytes that rank 0 receives, and that it sends, at most, each time …
MOST, LONGEST = 16, 1 << 17  # … and at most as many messages to a worker, of as many bytes
TIMES, SPAN_S = 32, 0.3  # at most as many times, and no other one after that time
POLL_S = 50e-6  # longest sleep of a rank that waits


def plan(workers: int, reply_bytes: int, task_bytes: int) -> list[int]:
    """Return bytes and number of messages that each worker sends, and of those that it receives."""
    planned = []
    for size in (reply_bytes, task_bytes):
        size = max(1, min(size, LONGEST, BUDGET // workers))
        planned += [size, max(1, min(MOST, BUDGET // (workers * size)))]
    return planned


def measure(comm: MPI.Intracomm, planned: list[int], count: int) -> tuple[Speeds, int, int]:
    """Measure at rank 0, while `count` workers are in `answer`; return bytes received and sent, too."""
    workers = range(1, 1 + count)
    up, ups, down, downs = planned
    patience, moved = Patience(POLL_S, comm), [0, 0]

    def exchange(sent: np.ndarray, copies: int, inbox: np.ndarray) -> float:
        """Send as many copies to all workers, and receive a row's items from each; return the time in s."""
        requests = [comm.Irecv(item, rank, PACE) for rank in workers for item in inbox[rank - 1]]
        start_s = time.perf_counter()
        requests += [comm.Isend(sent, rank, PACE) for _ in range(copies) for rank in workers]
        patience.wait(lambda: MPI.Request.Testall(requests))
        moved[0] += inbox.nbytes
        moved[1] += len(workers) * copies * sent.nbytes
        return time.perf_counter() - start_s

    def best_s(sent: np.ndarray, copies: int, inbox: np.ndarray) -> float:
        """Exchange several times, the last of which the first byte tells; return the shortest time."""
        times, end_s = list[float](), time.perf_counter() + SPAN_S
        while not sent[0]:
            sent[0] = len(times) == TIMES - 1 or time.perf_counter() > end_s
            times.append(exchange(sent, copies, inbox))
        return min(times)

    compute_s = np.zeros(len(workers))
    exchange(np.zeros(1, np.uint8), 1, compute_s.reshape(-1, 1, 1))
    inbox, word = np.empty((len(workers), ups, up), np.uint8), np.empty((len(workers), 1, 1), np.uint8)
    into_s = best_s(np.zeros(1, np.uint8), 1, inbox)
    out_s = best_s(np.zeros(down, np.uint8), downs, word)
    return Speeds(inbox.nbytes / into_s, len(workers) * downs * down / out_s, compute_s), moved[0], moved[1]


def answer(comm: MPI.Intracomm, planned: list[int], time_s: Callable[[], float]) -> None:
    """Take part at a worker; `time_s` measures the time of a task."""
    up, ups, down, downs = planned
    patience = Patience(POLL_S, comm)

    def receive(inbox: np.ndarray) -> bool:
        """Receive the items; return whether they are the last."""
        requests = [comm.Irecv(item, 0, PACE) for item in inbox]
        patience.wait(lambda: MPI.Request.Testall(requests))
        return bool(inbox[0, 0])

    def send(message: np.ndarray, copies: int) -> None:
        MPI.Request.Waitall([comm.Isend(message, 0, PACE) for _ in range(copies)])

    word, message, inbox = (np.zeros(shape, np.uint8) for shape in ((1, 1), up, (downs, down)))
    receive(word)
    send(np.array([time_s()]), 1)
    for asked, sent, copies in ((word, message, ups), (inbox, word, 1)):
        last = False
        while not last:
            last = receive(asked)
            send(sent, copies)
