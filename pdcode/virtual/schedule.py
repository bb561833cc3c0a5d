"""When the replies of workers that are not real arrive."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import stragglers
from ..config.tables import Config
from ..kernels import events

Order = tuple[int, int]
"""Worker and its task."""

NEVER_NS: int = events.LAST
BLOCK = 32  # tasks of a worker for which delays are drawn at a time


class Schedule(ABC):
    """A clock, and what has been sent on its way.

    Attributes
    ----------
    now_ns : int
        When rank 0 is free again.
    t_recv_ns : int
        When the last reply was received.
    t_start_ns, t_compute_ns, t_send_ns, injected_delay_ns : sequence of int
        By worker: of its last task.
    """

    now_ns: int
    t_recv_ns: int
    t_start_ns: list[int] | np.ndarray
    t_compute_ns: list[int] | np.ndarray
    t_send_ns: list[int] | np.ndarray
    injected_delay_ns: list[int] | np.ndarray

    @abstractmethod
    def start(self) -> None:
        """Set the clock to 0."""

    @abstractmethod
    def send(self, orders: Sequence[Order], body_bytes: int, own_bytes: int) -> None:
        """Tasks leave together: so many bytes that are the same for all, and so many of each one's own."""

    @abstractmethod
    def next(self, limit_ns: int) -> int:
        """The worker whose reply is received next; -1 if none is up to the limit, which then is the time."""

    def stepped(self) -> None:
        """Rank 0 steps θ."""
        return

    def recall(self, worker: int) -> None:
        """A worker that never answers is told that the run is over."""
        return


class Durations(Schedule):
    """Task times are given, and there is no network.

    Parameters
    ----------
    workers : int
    duration_ns : callable
        ``duration_ns(worker, task)``: from a task's dispatch to its reply's arrival.
    """

    def __init__(self, workers: int, duration_ns: Callable[[int, int], int]) -> None:
        self._duration_ns = duration_ns
        self._heap: list[tuple[int, int, int]] = []  # time of arrival, number of the task, worker
        self._sent = 0
        self.now_ns = self.t_recv_ns = 0
        self.t_start_ns = [0] * workers
        self.t_send_ns = self.t_compute_ns = [0] * workers
        self.injected_delay_ns = [0] * workers

    def start(self) -> None:
        self.now_ns = 0

    def send(self, orders: Sequence[Order], body_bytes: int, own_bytes: int) -> None:
        for worker, task in orders:
            end_ns = self.now_ns + self._duration_ns(worker, task)
            self.t_start_ns[worker], self.t_send_ns[worker] = self.now_ns, end_ns
            heapq.heappush(self._heap, (end_ns, self._sent, worker))
            self._sent += 1

    def next(self, limit_ns: int) -> int:
        if not self._heap or self._heap[0][0] > limit_ns:
            self.now_ns = limit_ns
            return -1
        self.now_ns, _, worker = heapq.heappop(self._heap)
        self.t_recv_ns = self.now_ns
        return worker


class Modelled(Schedule):
    """Task times by the cost model of ``[machine]`` and ``[link]`` and the delays of ``[stragglers]``.

    A task takes the worker's compute time, the same for all its tasks, and its delay, keyed by (seed, worker,
    task), which may in part be a multiple of the compute time.

    Parameters
    ----------
    config : Config
    task_ns : int
        Compute time of a task, `costs.task_ns`.
    reply_bytes : int
        Of each reply.
    """

    def __init__(self, config: Config, task_ns: int, reply_bytes: int) -> None:
        self._n = workers = config.workers.count
        self._events = make_events(config, reply_bytes)
        self._model = config.stragglers.make(config.seed, workers)
        self._compute_ns = np.full(workers, task_ns, np.int64)
        self._delays_ns = np.zeros((workers, BLOCK), np.int64)
        self._drawn = np.zeros(workers, np.int64)  # tasks that were drawn, a multiple of BLOCK
        self.injected_delay_ns = self._injected_ns = np.zeros(workers, np.int64)
        self.t_start_ns, self.t_compute_ns = self._events.t_start_ns, self._events.t_compute_ns
        self.t_send_ns = self._events.t_send_ns

    @property
    def now_ns(self) -> int:  # type: ignore[override]
        return self._events.now_ns

    @property
    def t_recv_ns(self) -> int:  # type: ignore[override]
        return self._events.t_recv_ns

    @property
    def ingress_ns(self) -> int:
        """Time that rank 0's link was busy with replies."""
        return self._events.ingress_ns

    @property
    def egress_ns(self) -> int:
        """Time that rank 0's link was busy with tasks."""
        return self._events.egress_ns

    def start(self) -> None:
        self._events.now_ns = 0

    def send(self, orders: Sequence[Order], body_bytes: int, own_bytes: int) -> None:
        pairs = np.array(orders, np.int64)
        workers, tasks = pairs[:, 0], pairs[:, 1]
        if len(short := workers[tasks >= self._drawn[workers]]):
            first = self._drawn[short]
            self._delays_ns[short] = stragglers.delays_ns(
                self._model, short, first, BLOCK, self._compute_ns[short]
            )
            self._drawn[short] = first + BLOCK
        delays_ns = self._delays_ns[workers, tasks % BLOCK]
        self._injected_ns[workers] = delays_ns
        self._events.send(
            workers.astype(np.int32), self._compute_ns[workers], delays_ns, body_bytes, own_bytes
        )

    def next(self, limit_ns: int) -> int:
        return self._events.pop(limit_ns)

    def stepped(self) -> None:
        self._events.step()

    def recall(self, worker: int) -> None:
        if self._injected_ns[worker] < 0:
            self._events.recall(worker)


def make_events(config: Config, reply_bytes: int) -> Any:
    """Rank 0, its link and its workers, as ``[machine]`` and ``[link]`` say."""
    machine, link = config.machine, config.link
    return events.Events(
        config.workers.count,
        reply_bytes,
        link.bandwidth,
        *(round(1e9 * s) for s in (link.latency_s, machine.arrival_s, machine.dispatch_s, machine.update_s)),
        link.half_duplex,
        link.broadcast == "tree",
        link.fanout,
        link.segment,
    )
