"""The virtual clock in plain Python: what `pdcode.kernels.events.Events` computes, with the same methods."""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pdcode.kernels.events import Events

LAST = 2**62 - 1  # ns: the end of time

SPANS = st.sampled_from([0, 0, 1, 3, 10, 1000])  # few values, so that there are ties
OPTIONS = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 40),
        "bytes_up": st.integers(0, 30),
        "bandwidth": st.sampled_from([1e9, 3e8, 1e12]),
        **dict.fromkeys(("latency_ns", "arrival_ns", "dispatch_ns", "update_ns"), SPANS),
        "half_duplex": st.booleans(),
        "tree": st.integers(0, 2),
        "fanout": st.integers(1, 5),
        "segment": st.integers(1, 40),
        "decode_bandwidth": st.sampled_from([math.inf, 1e9, 3e7]),
        "exchanged": st.none() | st.integers(0, 30),
    }
)
COLUMNS = ("t_dispatch_ns", "t_start_ns", "t_compute_ns", "t_send_ns")


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
        self, workers: int, bytes_up: int, bandwidth: float, latency_ns: int, arrival_ns: int = 0,
        dispatch_ns: int = 0, update_ns: int = 0, half_duplex: bool = False, tree: int = 0,
        fanout: int = 2, segment: int = 65536, decode_bandwidth: float = math.inf,
        exchanged: int | None = None,
    ) -> None:  # fmt: skip
        self.bandwidth, self.latency_ns = bandwidth, latency_ns
        self.dispatch_ns, self.update_ns = dispatch_ns, update_ns
        self.arrival_ns = after(arrival_ns, round(1e9 * bytes_up / decode_bandwidth))
        self.tree, self.fanout, self.segment = tree, 1 if tree == 2 else fanout, segment
        self.up_ns = self.on_link(bytes_up)
        self.now_ns = self.ingress_ns = self.egress_ns = self.t_recv_ns = 0
        self.dispatched = self.arrived = 0
        self._ingress, self._egress = 0, 0 if half_duplex else 1  # which link each direction uses
        self._free = [0, 0]  # when the links are free
        self._heap: list[tuple[int, int, int]] = []
        self._inbox: deque[tuple[int, int]] = deque()  # half duplex: when they passed the link, worker
        self.exchanged, self.deaf = exchanged, np.zeros(workers, np.uint8)
        self._heard = [0] * workers  # when each worker has the others' replies …
        self._spoken = self._heard if half_duplex else [0] * workers  # … and has sent them its own
        self._number = [-1] * workers  # of each worker's dispatch
        self._lost = set[int]()  # workers whose reply never comes, and who are idle
        self.t_dispatch_ns, self.t_start_ns, self.t_compute_ns, self.t_send_ns = (
            [0] * workers for _ in range(4)
        )

    def on_link(self, size: int) -> int:
        return min(round(1e9 * size / self.bandwidth), LAST)

    @property
    def outstanding(self) -> int:
        return self.dispatched - self.arrived

    def leave(self, tasks: int, busy_ns: int) -> int:
        """Work on tasks, then occupy the egress link; return when the bytes are at the other end."""
        self.now_ns = after(self.now_ns, tasks * self.dispatch_ns)
        while self._egress == 0 and self._heap and max(self._free[0], self._heap[0][0]) < self.now_ns:
            self._inbox.append(self._admit())  # the link would be idle until the processor has done
        self._free[self._egress] = after(max(self._free[self._egress], self.now_ns), busy_ns)
        self.egress_ns = after(self.egress_ns, busy_ns)
        return after(self._free[self._egress], self.latency_ns)

    def send(
        self, workers: Sequence[int], compute_ns: Sequence[int], delay_ns: Sequence[int], body_bytes: int,
        own_bytes: int,
    ) -> None:  # fmt: skip
        begin_ns, whole = self.now_ns, not (self.tree and len(workers) > 1)
        ready = level_ns = deeper_ns = 0  # a star has no levels, and works on each task when it leaves
        fanout = min(self.fanout, len(workers))
        if not whole:
            ready, size = fanout, min(body_bytes, self.segment)
            level_ns = self.leave(fanout, min(fanout * self.on_link(body_bytes), LAST))
            deeper_ns = 0 if self.tree == 2 else self.latency_ns + fanout * self.on_link(size)
        own_ns = self.on_link(own_bytes + whole * body_bytes)
        for i, (worker, compute, delay) in enumerate(zip(workers, compute_ns, delay_ns, strict=True)):
            body_there_ns = after(level_ns, (depth(i, fanout) - 1) * deeper_ns)
            start_ns = max(body_there_ns, self.leave(int(i >= ready), own_ns), self._heard[worker])
            self.t_dispatch_ns[worker], self.t_start_ns[worker] = begin_ns, start_ns
            self.t_compute_ns[worker] = after(start_ns, int(compute))
            send_ns = max(after(self.t_compute_ns[worker], int(delay)), self._spoken[worker])
            self.t_send_ns[worker] = -1 if delay < 0 else send_ns
            self._number[worker] = self.dispatched
            self._lost.discard(worker)
            self.dispatched += 1
            if delay >= 0:
                self._reply(worker)

    def follow(self, worker: int, compute_ns: int, delay_ns: int) -> None:
        self.t_start_ns[worker] = self.t_send_ns[worker]
        self.t_compute_ns[worker] = after(self.t_start_ns[worker], compute_ns)
        self.t_send_ns[worker] = after(self.t_compute_ns[worker], delay_ns)
        self._number[worker] = self.dispatched
        self.dispatched += 1
        self._reply(worker)

    def _reply(self, worker: int) -> None:
        reach_ns = after(self.t_send_ns[worker], self.latency_ns)
        heapq.heappush(self._heap, (reach_ns, self._number[worker], worker))

    def _passed_ns(self) -> int:
        """When the next reply will have passed the link."""
        return after(max(self._free[self._ingress], self._heap[0][0]), self.up_ns)

    def _admit(self) -> tuple[int, int]:
        """The next reply passes the link."""
        self._free[self._ingress] = self._passed_ns()
        _, _, worker = heapq.heappop(self._heap)
        self.ingress_ns = after(self.ingress_ns, self.up_ns)
        return self._free[self._ingress], worker

    def pop(self, limit_ns: int = LAST) -> int:
        limit_ns = min(limit_ns, LAST)
        if self._inbox or self._heap:
            passed_ns = self._inbox[0][0] if self._inbox else self._passed_ns()
            if max(passed_ns, self.now_ns) <= limit_ns:
                passed_ns, worker = self._inbox.popleft() if self._inbox else self._admit()
                self.t_recv_ns = max(passed_ns, self.now_ns)
                self.now_ns = after(self.t_recv_ns, self.arrival_ns)
                self.arrived += 1
                if self.exchanged is not None:
                    self._spread(worker)
                return worker
        if limit_ns < LAST:
            self.now_ns = max(self.now_ns, limit_ns)
        return -1

    def _spread(self, worker: int) -> None:
        """A reply leaves for the other workers, one after the other, and passes their links."""
        out_ns = after(max(self.t_send_ns[worker], self._spoken[worker]), self.up_ns)
        n = len(self._heard)
        peer_ns = self.on_link(self.exchanged)
        for step in range(1, n):
            to = (worker + step) % n
            if not self.deaf[to]:
                self._heard[to] = after(max(self._heard[to], after(out_ns, self.latency_ns)), peer_ns)
                out_ns = after(out_ns, peer_ns)
        self._spoken[worker] = max(self._spoken[worker], out_ns)

    def cancel(self, cut: bool = True) -> None:
        waiting, self._heap = self._heap, []
        for _, _, worker in waiting:
            if cut:
                soonest_ns = max(self.now_ns, self.t_compute_ns[worker])
                self.t_send_ns[worker] = min(self.t_send_ns[worker], soonest_ns)
            self._reply(worker)
        for worker, send_ns in enumerate(self.t_send_ns):
            if send_ns < 0 and worker not in self._lost:
                self.t_send_ns[worker] = max(self.now_ns, self.t_compute_ns[worker])
                self._reply(worker)

    def postpone(self, worker: int, start_ns: int, compute_ns: int, send_ns: int) -> None:
        others = [each for each in self._heap if each[2] != worker]
        if len(others) == len(self._heap) and self.t_send_ns[worker] >= 0:
            return  # it has passed the link
        self._heap = others
        heapq.heapify(self._heap)
        self.t_start_ns[worker], self.t_compute_ns[worker] = start_ns, compute_ns
        self.t_send_ns[worker] = send_ns
        if send_ns < 0:
            self._lost.add(worker)
        else:
            self._reply(worker)

    def step(self) -> None:
        self.now_ns = after(self.now_ns, self.update_ns)


def both(made: dict[str, Any]) -> tuple[Any, PlainEvents]:
    """The compiled clock and its twin."""
    return Events(**made), PlainEvents(**made)


def send(clock: Any, workers: list[int], compute: Any, delay: Any, body: int = 0, own: int = 0) -> None:
    times = (np.full(len(workers), time, np.int64) for time in (compute, delay))
    clock.send(np.array(workers, np.int32), *times, body, own)
