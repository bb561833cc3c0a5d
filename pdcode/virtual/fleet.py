"""The fleet of workers that are not real: their work is done somewhere, and replies arrive by a schedule.

Messages are written, rounded and read as over MPI, so a descent is the same as with ranks that take those
times; only the clock is not real. A task is computed as soon as it is sent, at the θ that it brings, so no θ
needs to be kept for it; when its reply arrives is the schedule's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..transport.base import Arrival, Fleet, Member
from ..transport.layout import Codewords, Layout, buffer
from ..transport.messages import Reply, Task
from .executor import Crew
from .schedule import NEVER_NS, Order, Schedule


class Roll:
    """Who is in a fleet of workers that are not real.

    Parameters
    ----------
    workers : int
    """

    library = "no MPI (virtual clock)"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.coordinator = Member(0, "virtual")
        self.members = [Member(1 + worker, "virtual") for worker in range(workers)]
        self.bytes_up = self.bytes_down = 0


class VirtualFleet(Roll, Fleet):
    """Rank 0's side.

    Parameters
    ----------
    layout : Layout
        Of the messages.
    workers : int
    crew : Crew
        Does the tasks.
    schedule : Schedule
        Says when replies arrive.
    until_ns : int, optional
        The time at which something happens though nothing arrives. Rank 0's waits then time out at it, once,
        and never else, as nothing would come of that.
    """

    def __init__(
        self, layout: Layout, workers: int, crew: Crew, schedule: Schedule, until_ns: int | None = None
    ) -> None:
        Roll.__init__(self, workers)
        self.crew, self.schedule = crew, schedule
        self._layout, self._until_ns = layout, until_ns
        self._replies = [Reply(layout, row) for row in buffer(layout.reply_bytes, 2 * workers)]
        self._order = Task(layout, buffer(layout.task_bytes)[0])
        self._arrivals = []
        for reply in self._replies:
            arrival = Arrival()
            arrival.payloads, arrival.codewords, arrival.body = reply.payloads, reply.codewords, reply.body
            arrival.bytes_up = layout.reply_bytes
            self._arrivals.append(arrival)
        self._slots = [2 * worker for worker in range(workers)]
        self._leaving: list[Order] = []  # tasks that leave together: nothing has arrived between them …
        self._sizes = 0, 0  # … and they are equally long, in the common part and in each one's own

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        pass

    def start(self) -> None:
        self.schedule.start()

    def now_ns(self) -> int:
        return self.schedule.now_ns

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
        order = self._order
        size = order.write(worker, task, version, row, codewords, parts, flags, digest)
        slot = self._slots[worker] = self._slots[worker] ^ 1
        arrival = self._arrivals[slot]
        if not self._layout.chosen:
            arrival.codewords = codewords
        arrival.worker, arrival.task, arrival.version, arrival.row = worker, task, version, row
        arrival.bytes_down = size
        self.crew.perform(worker, order)
        self.bytes_down += size
        body = sum(len(part) for part in parts)
        if (body, size - body) != self._sizes:
            self._send()
            self._sizes = body, size - body
        self._leaving.append((worker, task))
        return self.schedule.now_ns

    def _send(self) -> None:
        if self._leaving:
            self.schedule.send(self._leaving, *self._sizes)
            self._leaving.clear()

    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        self._send()
        schedule = self.schedule
        if self._until_ns is None:
            limit_ns = schedule.now_ns + timeout_ns
        else:
            limit_ns = max(schedule.now_ns, self._until_ns)
        worker = schedule.next(limit_ns)
        if worker < 0:
            if limit_ns == NEVER_NS:
                raise RuntimeError("virtual clock: no reply will ever arrive, and nothing ends the run")
            if self._until_ns is not None:
                self._until_ns = NEVER_NS
            return ()
        slot = self._slots[worker]
        reply, arrival = self._replies[slot], self._arrivals[slot]
        arrival.loss, body = self.crew.finish(worker)
        reply.body[:] = body
        arrival.finite = reply.read()
        arrival.t_start_ns = int(schedule.t_start_ns[worker])
        arrival.t_compute_ns = int(schedule.t_compute_ns[worker])
        arrival.t_send_ns = int(schedule.t_send_ns[worker])
        arrival.t_recv_ns = schedule.t_recv_ns
        arrival.injected_delay_ns = int(schedule.injected_delay_ns[worker])
        self.bytes_up += arrival.bytes_up
        return (arrival,)

    def stepped(self) -> None:
        self._send()  # what is to leave was sent before
        self.schedule.stepped()

    def recall(self, worker: int) -> None:
        self._send()
        self.schedule.recall(worker)

    def dismiss(self, worker: int) -> None:
        pass

    def close(self) -> None:
        self.crew.close()
