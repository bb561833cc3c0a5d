"""A fleet without MPI for tests of the coordinator: task times are given, arrivals come in their order."""

import heapq
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from pdcode.transport.base import Arrival, Fleet, RankInfo
from pdcode.transport.events import Died, Event
from pdcode.transport.layout import Codewords
from pdcode.transport.messages import Order

Compute = Callable[[int, int, int, Codewords, np.ndarray], list[np.ndarray]]


class ScriptedFleet(Fleet):
    """Workers with given task times, and payloads `compute(worker, task, version, codewords, θ)`."""

    library = "none"

    def __init__(self, workers: int, duration_ns: Callable[[int, int], int], compute: Compute) -> None:
        self.workers, self._duration_ns, self._compute = workers, duration_ns, compute
        self.members = [RankInfo(1 + worker, "here") for worker in range(workers)]
        self.bytes_up = self.bytes_down = 0
        self._now_ns, self._sequence = 0, 0
        self._heap: list[tuple[int, int, Arrival, list[np.ndarray]]] = []
        self._buffers: dict[tuple[int, int], list[np.ndarray]] = {}
        self.busy: set[int] = set()
        self.dispatched: list[tuple[int, int, int, int]] = []  # worker, task, version, row
        self.flags: list[int] = []
        self.shut_down: set[int] = set()
        self.cancelled: list[int] = []
        self.stopped = False
        self.dies_ns: dict[int, int] = {}  # when a worker dies, which is noticed at once

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        pass

    def start(self, at_ns: int = 0) -> None:
        self._now_ns = at_ns

    def now_ns(self) -> int:
        return self._now_ns

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        assert worker not in self.busy, f"worker {worker} has a task already"
        assert worker not in self.shut_down
        self.busy.add(worker)
        row, codewords, parts = order.row, order.codewords, order.segments
        self.dispatched.append((worker, task, version, row))
        self.flags.append(flags | order.flags)
        arrival = Arrival.__new__(Arrival)
        arrival.codewords, arrival.bytes_up, arrival.bytes_down = codewords, 0, 0
        arrival.round, arrival.part, arrival.last = order.round, 0, True
        arrival.worker, arrival.task, arrival.version, arrival.row = worker, task, version, row
        arrival.loss = 0.0
        theta = np.concatenate(parts).view(np.float64)
        payloads = self._compute(worker, task, version, codewords, theta)
        # Two buffers a worker in turn, as in MPIFleet; what was in one is gone when it is waited for again.
        arrival.payloads = self._buffers.setdefault(
            (worker, task % 2), [np.empty_like(part) for part in payloads]
        )
        for buffer in arrival.payloads:
            buffer.fill(np.nan)
        end_ns = self._now_ns + self._duration_ns(worker, task)
        arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns = self._now_ns, end_ns, end_ns
        arrival.t_recv_ns, arrival.injected_delay_ns = end_ns, 0
        heapq.heappush(self._heap, (end_ns, self._sequence, arrival, payloads))
        self._sequence += 1
        return self._now_ns

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        if dead := self._deaths():
            return [Died(dead)]
        until_ns = self._now_ns + timeout_ns
        if wake_ns is not None:
            until_ns = min(until_ns, max(self._now_ns, wake_ns))
        if not self._heap or self._heap[0][0] > until_ns:
            self._now_ns = until_ns
            return ()
        self._now_ns, _, arrival, payloads = heapq.heappop(self._heap)
        arrival.finite = True
        for buffer, payload in zip(arrival.payloads, payloads, strict=True):
            buffer[...] = payload
            arrival.finite &= bool(np.isfinite(payload).all())
        self.busy.remove(arrival.worker)
        return (arrival,)

    def _deaths(self) -> Sequence[int]:
        dead = [worker for worker, at_ns in self.dies_ns.items() if at_ns <= self._now_ns]
        for worker in dead:
            del self.dies_ns[worker]
            self.busy.discard(worker)
            self.shut_down.add(worker)
        self._heap = [each for each in self._heap if each[2].worker not in self.shut_down]
        heapq.heapify(self._heap)
        return dead

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        assert set(workers) == self.busy
        self.cancelled += workers

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        assert worker not in self.busy | self.shut_down
        self.shut_down.add(worker)
        return False

    def close(self) -> None:
        assert self.busy <= set(self.cancelled)
        assert len(self.shut_down | self.busy) == self.workers
        self.stopped = True
