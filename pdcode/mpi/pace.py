"""Measurement of rank 0's link and of the workers' speeds, by which preset and size of messages are chosen.

The workers compute gradients at the same time. Then, repeatedly, all send to rank 0, and rank 0 sends to all.
The messages are as long as the run's, as the overhead of a message counts. Bandwidths are the best of all
repeats: a rank that waits for a core makes the link seem slower, never faster.
"""

import time
from collections.abc import Callable

import numpy as np

from ..automatic.link_sizing import SAMPLES
from ..transport.speeds import Speeds
from .initialise import MPI
from .process import PACE, Group, Poller

MAX_TOTAL_BYTES = 1 << 18  # that rank 0 receives, or sends, in one repeat
MAX_MESSAGES, MAX_MESSAGE_BYTES = 16, 1 << 17  # per worker and repeat; per message
MAX_REPEATS, MAX_REPEAT_S = 32, 0.3  # number; time after which none is started
POLL_S = 50e-6  # longest sleep of a rank that waits


def plan(workers: int, reply_bytes: int, task_bytes: int) -> list[int]:
    """Return bytes and number of the messages that each worker sends, and of the ones that it receives."""
    planned = []
    for size in (reply_bytes, task_bytes):
        size = max(1, min(size, MAX_MESSAGE_BYTES, MAX_TOTAL_BYTES // workers))
        planned += [size, max(1, min(MAX_MESSAGES, MAX_TOTAL_BYTES // (workers * size)))]
    return planned


def measure(comm: Group, planned: list[int], count: int) -> tuple[Speeds, int, int]:
    """Measure at rank 0, while `count` workers are in `answer`; return also the bytes received and sent."""
    workers = range(1, 1 + count)
    up, ups, down, downs = planned
    poller, moved = Poller(POLL_S, comm), [0, 0]

    def exchange(sent: np.ndarray, copies: int, inbox: np.ndarray) -> float:
        """Send `copies` messages to each worker, receive its row of `inbox`; return the seconds."""
        requests = [comm.Irecv(item, rank, PACE) for rank in workers for item in inbox[rank - 1]]
        start_s = time.perf_counter()
        requests += [comm.Isend(sent, rank, PACE) for _ in range(copies) for rank in workers]
        poller.wait(lambda: MPI.Request.Testall(requests))
        moved[0] += inbox.nbytes
        moved[1] += len(workers) * copies * sent.nbytes
        return time.perf_counter() - start_s

    def best_s(sent: np.ndarray, copies: int, inbox: np.ndarray) -> float:
        """Repeat the exchange, the last time with first byte 1; return the shortest time."""
        times, end_s = list[float](), time.perf_counter() + MAX_REPEAT_S
        while not sent[0]:
            sent[0] = len(times) == MAX_REPEATS - 1 or time.perf_counter() > end_s
            times.append(exchange(sent, copies, inbox))
        return min(times)

    samples_s = np.zeros((len(workers), SAMPLES))
    exchange(np.zeros(1, np.uint8), 1, samples_s.reshape(-1, 1, SAMPLES))
    inbox, word = np.empty((len(workers), ups, up), np.uint8), np.empty((len(workers), 1, 1), np.uint8)
    into_s = best_s(np.zeros(1, np.uint8), 1, inbox)
    out_s = best_s(np.zeros(down, np.uint8), downs, word)
    rates = inbox.nbytes / into_s, len(workers) * downs * down / out_s
    return Speeds(*rates, samples_s.mean(axis=1), samples_s), moved[0], moved[1]


def answer(comm: Group, planned: list[int], times_s: Callable[[], np.ndarray]) -> None:
    """Take part at a worker; `times_s` measures times of gradients."""
    up, ups, down, downs = planned
    poller = Poller(POLL_S, comm)

    def receive(inbox: np.ndarray) -> bool:
        """Receive the messages of a repeat; return whether it is the last."""
        requests = [comm.Irecv(item, 0, PACE) for item in inbox]
        poller.wait(lambda: MPI.Request.Testall(requests))
        return bool(inbox[0, 0])

    def send(message: np.ndarray, copies: int) -> None:
        MPI.Request.Waitall([comm.Isend(message, 0, PACE) for _ in range(copies)])

    word, message, inbox = (np.zeros(shape, np.uint8) for shape in ((1, 1), up, (downs, down)))
    receive(word)
    send(times_s(), 1)
    for received, sent, copies in ((word, message, ups), (inbox, word, 1)):
        last = False
        while not last:
            last = receive(received)
            send(sent, copies)
