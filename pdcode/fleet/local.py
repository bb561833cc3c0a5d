"""A fleet within one process: workers compute at once, and their replies arrive after given times.

Messages are written, rounded and read as over MPI, so a descent is the same as with ranks that take those
times; only the clock is not real.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..layout import Codewords, Layout, buffer
from ..messages import Reply, Task
from .base import Arrival, Fleet, Member

if TYPE_CHECKING:
    from ..worker import Worker

Employ = Callable[[int, Reply], "Worker"]
"""(worker, reply buffer) -> what performs its tasks."""


class LocalFleet(Fleet):
    """Rank 0's side, and all the others.

    Parameters
    ----------
    layout : Layout
        Of the messages.
    workers : int
    employ : callable
        Makes each worker.
    duration_ns : callable
        ``duration_ns(worker, task)``: from a task's dispatch to its reply's arrival.

    Attributes
    ----------
    staff : list of Worker
    """

    library = "none"

    def __init__(
        self, layout: Layout, workers: int, employ: Employ, duration_ns: Callable[[int, int], int]
    ) -> None:
        self.workers, self._layout, self._duration_ns = workers, layout, duration_ns
        self.coordinator = Member(0, "here")
        self.members = [Member(1 + worker, "here") for worker in range(workers)]
        self.bytes_up = self.bytes_down = self._now_ns = 0
        self._sent = [Reply(layout, row) for row in buffer(layout.reply_bytes, workers)]
        self._received = [Reply(layout, row) for row in buffer(layout.reply_bytes, 2 * workers)]
        self._task = Task(layout, buffer(layout.task_bytes)[0])  # read before the next one is written
        self.staff = [employ(worker, reply) for worker, reply in enumerate(self._sent)]
        self._arrivals = []
        for reply in self._received:
            arrival = Arrival()
            arrival.payloads, arrival.codewords, arrival.body = reply.payloads, reply.codewords, reply.body
            arrival.bytes_up = layout.reply_bytes
            self._arrivals.append(arrival)
        self._slots = [2 * worker for worker in range(workers)]
        self._heap: list[tuple[int, int, int]] = []  # time of arrival, number of the dispatch, worker
        self._dispatched = 0

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        pass

    def start(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def dispatch(
        self,
        worker: int,
        task: int,
        version: int,
        row: int,
        codewords: Codewords,
        parts: Sequence[np.ndarray],
        flags: int = 0,
        digest: int = 0,
    ) -> int:
        order = self._task
        size = order.write(worker, task, version, row, codewords, parts, flags, digest)
        order.read()
        slot = self._slots[worker] = self._slots[worker] ^ 1
        arrival = self._arrivals[slot]
        arrival.loss = self.staff[worker].perform(order)
        if not self._layout.chosen:
            arrival.codewords = codewords
        arrival.worker, arrival.task, arrival.version, arrival.row = worker, task, version, row
        end_ns = self._now_ns + self._duration_ns(worker, task)
        arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns = self._now_ns, end_ns, end_ns
        arrival.t_recv_ns, arrival.injected_delay_ns, arrival.bytes_down = end_ns, 0, size
        heapq.heappush(self._heap, (end_ns, self._dispatched, worker))
        self._dispatched += 1
        self.bytes_down += size
        return self._now_ns

    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        if not self._heap or self._heap[0][0] > self._now_ns + timeout_ns:
            self._now_ns += timeout_ns
            return ()
        self._now_ns, _, worker = heapq.heappop(self._heap)
        slot = self._slots[worker]
        reply, arrival = self._received[slot], self._arrivals[slot]
        reply.body[:] = self._sent[worker].body
        arrival.finite = reply.read()
        self.bytes_up += arrival.bytes_up
        return (arrival,)

    def dismiss(self, worker: int) -> None:
        pass

    def close(self) -> None:
        pass
