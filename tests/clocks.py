"""The virtual clock in plain Python: what `pdcode.kernels.events.Events` computes, with the same methods."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from pdcode.kernels.events import Events

LAST = 2**62 - 1  # ns: the end of time


def after(*times: int) -> int:
    return min(sum(times), LAST)


def depth(number: int, fanout: int) -> int:
    """Where the tree has a worker: the first `fanout` workers are at depth 1, the next fanout² at 2, … ."""
    level, width = 1, fanout
    while number >= width:
        level, number, width = level + 1, number - width, width * fanout
    return level


class PlainEvents:
    """Rank 0's processor and links, and the replies under way by (reach, dispatch, worker)."""

    def __init__(
        self,
        workers: int,
        bytes_up: int,
        bandwidth: float,
        latency_ns: int,
        arrival_ns: int = 0,
        dispatch_ns: int = 0,
        update_ns: int = 0,
        half_duplex: bool = False,
        tree: bool = False,
        fanout: int = 2,
        segment: int = 65536,
    ) -> None:
        self.bandwidth, self.latency_ns = bandwidth, latency_ns
        self.arrival_ns, self.dispatch_ns, self.update_ns = arrival_ns, dispatch_ns, update_ns
        self.tree, self.fanout, self.segment = tree, fanout, segment
        self.up_ns = self.on_link(bytes_up)
        self.now_ns = self.ingress_ns = self.egress_ns = self.t_recv_ns = 0
        self.dispatched = self.arrived = 0
        self._ingress, self._egress = 0, 0 if half_duplex else 1  # which link each direction uses
        self._free = [0, 0]  # when the links are free
        self._heap: list[tuple[int, int, int]] = []
        self._number = [-1] * workers  # of each worker's dispatch
        self.t_dispatch_ns, self.t_start_ns, self.t_compute_ns, self.t_send_ns = (
            [0] * workers for _ in range(4)
        )

    def on_link(self, size: int) -> int:
        return min(round(1e9 * size / self.bandwidth), LAST)

    @property
    def outstanding(self) -> int:
        return self.dispatched - self.arrived

    def leave(self, busy_ns: int) -> int:
        """Occupy the egress link; return when the bytes are at the other end."""
        self._free[self._egress] = after(max(self._free[self._egress], self.now_ns), busy_ns)
        self.egress_ns = after(self.egress_ns, busy_ns)
        return after(self._free[self._egress], self.latency_ns)

    def send(
        self,
        workers: Sequence[int],
        compute_ns: Sequence[int],
        delay_ns: Sequence[int],
        body_bytes: int,
        own_bytes: int,
    ) -> None:
        begin_ns, there = self.now_ns, []
        if self.tree and len(workers) > 1:
            fanout = min(self.fanout, len(workers))
            self.now_ns = after(begin_ns, len(workers) * self.dispatch_ns)
            level_ns = self.leave(min(fanout * self.on_link(body_bytes), LAST))
            deeper_ns = self.latency_ns + fanout * self.on_link(min(body_bytes, self.segment))
            for i in range(len(workers)):
                body_there = after(level_ns, (depth(i, fanout) - 1) * deeper_ns)
                there.append(max(body_there, self._own(own_bytes)))
        else:
            for _ in workers:
                self.now_ns = after(self.now_ns, self.dispatch_ns)
                there.append(self.leave(self.on_link(body_bytes + own_bytes)))
        for worker, start_ns, compute, delay in zip(workers, there, compute_ns, delay_ns, strict=True):
            self.t_dispatch_ns[worker], self.t_start_ns[worker] = begin_ns, start_ns
            self.t_compute_ns[worker] = after(start_ns, int(compute))
            self.t_send_ns[worker] = -1 if delay < 0 else after(self.t_compute_ns[worker], int(delay))
            self._number[worker] = self.dispatched
            self.dispatched += 1
            if delay >= 0:
                self._reply(worker)

    def _own(self, size: int) -> int:
        """A worker's own part, which follows the body through the link, whatever the processor does."""
        busy_ns = self.on_link(size)
        self._free[self._egress] = after(self._free[self._egress], busy_ns)
        self.egress_ns = after(self.egress_ns, busy_ns)
        return after(self._free[self._egress], self.latency_ns)

    def _reply(self, worker: int) -> None:
        reach_ns = after(self.t_send_ns[worker], self.latency_ns)
        heapq.heappush(self._heap, (reach_ns, self._number[worker], worker))

    def pop(self, limit_ns: int = LAST) -> int:
        limit_ns = min(limit_ns, LAST)
        if self._heap:
            reach_ns, _, worker = self._heap[0]
            free_ns = after(max(self._free[self._ingress], reach_ns), self.up_ns)
            if (t_recv_ns := max(free_ns, self.now_ns)) <= limit_ns:
                heapq.heappop(self._heap)
                self._free[self._ingress], self.t_recv_ns = free_ns, t_recv_ns
                self.ingress_ns = after(self.ingress_ns, self.up_ns)
                self.now_ns = after(t_recv_ns, self.arrival_ns)
                self.arrived += 1
                return worker
        if limit_ns < LAST:
            self.now_ns = max(self.now_ns, limit_ns)
        return -1

    def recall(self, worker: int) -> None:
        self.t_send_ns[worker] = self.now_ns
        self._reply(worker)

    def step(self) -> None:
        self.now_ns = after(self.now_ns, self.update_ns)


def both(made: dict[str, Any]) -> tuple[Any, PlainEvents]:
    """The compiled clock and its twin."""
    return Events(**made), PlainEvents(**made)
