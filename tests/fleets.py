"""A fleet without MPI for tests of the coordinator: task times are given, arrivals come in their order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np

from pdcode.fleet.base import Arrival, Codewords, Fleet, Member

Compute = Callable[[int, int, int, Codewords, np.ndarray], list[np.ndarray]]


class ScriptedFleet(Fleet):
    """Workers whose task times are `duration_ns(worker, task)` and whose payloads are `compute(worker, task,
    version, codewords, θ)`."""

    library = "none"

    def __init__(self, workers: int, duration_ns: Callable[[int, int], int], compute: Compute) -> None:
        self.workers, self._duration_ns, self._compute = workers, duration_ns, compute
        self.members = [Member(1 + worker, "here") for worker in range(workers)]
        self.bytes_up = self.bytes_down = 0
        self._now_ns, self._sequence = 0, 0
        self._heap: list[tuple[int, int, Arrival]] = []
        self.busy: set[int] = set()
        self.dispatched: list[tuple[int, int, int, int]] = []  # worker, task, version, row
        self.stopped = False

    def now_ns(self) -> int:
        return self._now_ns

    def dispatch(
        self, worker: int, task: int, version: int, row: int, codewords: Codewords, theta: np.ndarray
    ) -> int:
        assert worker not in self.busy, f"worker {worker} has a task already"
        assert not self.stopped
        self.busy.add(worker)
        self.dispatched.append((worker, task, version, row))
        arrival = Arrival()
        arrival.worker, arrival.task, arrival.version, arrival.row, arrival.loss = (
            worker,
            task,
            version,
            row,
            0.0,
        )
        arrival.payloads = self._compute(worker, task, version, codewords, theta.copy())
        end_ns = self._now_ns + self._duration_ns(worker, task)
        arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns = self._now_ns, end_ns, end_ns
        arrival.t_recv_ns, arrival.injected_delay_ns = end_ns, 0
        heapq.heappush(self._heap, (end_ns, self._sequence, arrival))
        self._sequence += 1
        return self._now_ns

    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        if not self._heap or self._heap[0][0] > self._now_ns + timeout_ns:
            self._now_ns += timeout_ns
            return ()
        self._now_ns, _, arrival = heapq.heappop(self._heap)
        self.busy.remove(arrival.worker)
        return (arrival,)

    def stop(self) -> None:
        assert not self.busy
        self.stopped = True
