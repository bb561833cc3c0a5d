"""Fleet of virtual workers: an executor computes their tasks, and a schedule times their replies.

Messages are written, rounded and read as over MPI; a run equals a run of real ranks with the same timing. A
task is computed when it is sent, at its own θ, so that no old θ is stored. The schedule determines when its
reply arrives.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from ..transport.base import Arrival, Fleet, RankInfo
from ..transport.companions import Companion
from ..transport.events import Event, Joined, Stray
from ..transport.layout import Layout, buffer, buffer_sizes
from ..transport.messages import Order, Reply, Task
from ..util.errors import Failure
from ..util.stateful import Stateful
from .executor import Executor
from .schedule import NEVER_NS, Schedule, Sent


class VirtualRanks:
    """Ranks of a fleet of virtual workers."""

    library = "no MPI (virtual clock)"

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.coordinator = RankInfo(0, "virtual")
        self.members = self.initial_members = [RankInfo(1 + worker, "virtual") for worker in range(workers)]
        self.bytes_up = self.bytes_down = 0


class VirtualFleet(Stateful, VirtualRanks, Fleet):
    """Rank 0's side of virtual workers.

    The executor computes the tasks, and the schedule determines when replies arrive. `until_ns` is the time
    limit of the run: rank 0's wait times out once at this limit, once at the limit of `cancel`, and when the
    state is to be woken; other time-outs have no effect. `exchanged` are the bytes that a worker sends, and
    receives, in each round; default: the bytes of its messages, whose lengths in each round are
    `reply_bytes`; default: the layouts'. `companion` is what accompanies tasks; default: nothing.
    """

    state_names = (
        "executor", "schedule", "bytes_up", "bytes_down", "_until_ns", "_arrivals", "_rounds", "_parts",
        "_slots", "_leaving", "_sizes", "companion",
    )  # fmt: skip
    state_types = (("_leaving", list[tuple[int, int]]),)
    virtual = True
    step_bytes = 0, 0  # that rank 0 receives, and sends, for a step; to be set

    def __init__(
        self,
        layouts: Sequence[Layout],
        workers: int,
        executor: Executor,
        schedule: Schedule,
        until_ns: int | None = None,
        exchanged: Sequence[int] | None = None,
        reply_bytes: Sequence[int] | None = None,
        companion: Companion | None = None,
    ) -> None:
        VirtualRanks.__init__(self, workers)
        self.executor, self.schedule = executor, schedule
        self._until_ns, self._exchanged = until_ns, exchanged
        self.companion = companion or Companion()
        self.now_ns = schedule.time_ns  # type: ignore[method-assign]
        task_bytes, longest = buffer_sizes(layouts)
        self._replies = [[Reply(layout, row) for layout in layouts] for row in buffer(longest, 2 * workers)]
        self._task = Task(layouts, buffer(task_bytes)[0])
        self._arrivals = [
            [[Arrival(part, number) for part in reply.parts] for number, reply in enumerate(rounds)]
            for rounds in self._replies
        ]
        for arrivals in self._arrivals:
            for parts, size in zip(arrivals, exchanged or reply_bytes or (), strict=False):
                for arrival in parts:
                    arrival.bytes_up = size
        self._starts = [layout.body_offset for layout in layouts]
        self._rounds = [0] * workers  # round of each worker's task
        self._parts = [0] * workers  # next part of each worker's reply
        self._slots = [2 * worker for worker in range(workers)]
        self._joining_now = False  # whether the last events include a Joined
        self._leaving: list[Sent] = []  # tasks to send together: no arrival between them, equal `_sizes`
        self._sizes = 0, 0, 0  # common bytes, own bytes, round

    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        pass

    @property
    def local(self) -> bool:  # type: ignore[override]
        return self.executor.local

    def start(self, at_ns: int = 0) -> None:
        if not at_ns:
            self.schedule.start()

    def now_ns(self) -> int:
        return self.schedule.now_ns

    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        number = self._rounds[worker] = order.round
        if order.standalone is None:
            size = self._task.write(worker, task, version, order, flags)
        else:  # payloads of other workers are in this process
            size = self._starts[number] + sum(map(len, order.segments))
            self.schedule.exclude(order.excluded)
            if not self.executor.shares:
                own, segments = order.standalone()
                order = replace(order, flags=own, segments=segments)
            self._task.write(worker, task, version, order, flags)
        self._task.sent_ns[0] = self.schedule.dispatch_stamp_ns(worker, task)
        freight, self._task.companion, beside = self.companion.freight(worker, version), None, 0
        if freight is not None:
            self._task.companion, beside = freight.message, freight.size
            self._task.companion_bytes[0] = len(freight.message)
            self.schedule.wait_for_others(worker, freight.place, freight.exchanged)
            size += beside
        slot = self._slots[worker] = self._slots[worker] ^ 1
        self._parts[worker] = 0
        for arrival in self._arrivals[slot][number]:
            arrival.answers(worker, task, version, order.row, order.codewords, size)
            if self._exchanged is not None:
                arrival.bytes_down = self._exchanged[number]
        self.executor.perform(worker, self._task, number)
        self.bytes_down += size if self._exchanged is None else self._exchanged[number]
        own = self._starts[number] + beside
        sizes = size - own, own, number
        if sizes != self._sizes:
            self.flush()
            self._sizes = sizes
        self._leaving.append((worker, task))
        return self.schedule.now_ns

    def flush(self) -> None:
        """Send the tasks that leave together."""
        if self._leaving:
            self.schedule.send(self._leaving, *self._sizes)
            self._leaving.clear()

    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        self.flush()
        schedule, self._joining_now = self.schedule, False
        until_ns, wakes = self._until_ns, False
        if wake_ns is not None and (until_ns is None or wake_ns <= until_ns):
            until_ns, wakes = wake_ns, True
        limit_ns = schedule.now_ns + timeout_ns if until_ns is None else max(schedule.now_ns, until_ns)
        worker = schedule.next(limit_ns, wakes)
        if worker >= 0:
            return (self._receive(worker),)
        if schedule.pending:
            return self._membership()
        if not wakes:
            if limit_ns == NEVER_NS:
                raise Failure("virtual clock: no reply will ever arrive, and nothing ends the run")
            if self._until_ns is not None:
                self._until_ns = NEVER_NS
        return ()

    def _receive(self, worker: int) -> Arrival:
        """Read a worker's reply."""
        schedule = self.schedule
        slot, number, part = self._slots[worker], self._rounds[worker], self._parts[worker]
        reply, arrival = self._replies[slot][number].parts[part], self._arrivals[slot][number][part]
        arrival.loss, body = self.executor.finish(worker, number, part)
        reply.body[:] = body
        arrival.finite = reply.read() and schedule.accepted
        arrival.t_start_ns, arrival.t_compute_ns, arrival.t_send_ns = schedule.times_ns(worker)
        arrival.t_recv_ns = schedule.t_recv_ns
        arrival.leaving = schedule.can_leave and arrival.last and schedule.leaving(worker, arrival.task)
        arrival.injected_delay_ns = int(schedule.injected_delay_ns[worker])
        self.bytes_up += arrival.bytes_up
        if not arrival.last:
            self._parts[worker] = part + 1
            schedule.follow(worker, number, part + 1)
        return arrival

    def _membership(self) -> Sequence[Event]:
        """Return the pending events besides replies, and rebuild the workers that join."""
        events = list(self.schedule.pending)
        self.schedule.pending.clear()
        self._joining_now = any(isinstance(event, Joined) for event in events)
        for event in events:
            if isinstance(event, Joined):
                for worker in event.workers:
                    self.executor.rebuild(worker)
                    self.companion.joined(worker)
            elif isinstance(event, Stray):
                worker = event.worker
                number, part = self._rounds[worker], self._parts[worker]
                self.bytes_up += self._arrivals[self._slots[worker] ^ 1][number][part].bytes_up
        return events

    @property
    def joining(self) -> bool:
        return self._joining_now or self.schedule.joining

    def stepped(self) -> None:
        up, down = self.step_bytes
        self.bytes_up, self.bytes_down = self.bytes_up + up, self.bytes_down + down
        self.flush()  # earlier tasks leave before this message
        self.schedule.stepped()

    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        self.flush()
        self.schedule.cancel()
        self._until_ns = min(until_ns, NEVER_NS)

    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        return False

    def dismiss(self, worker: int, flags: int = 0) -> None:
        self.schedule.dismiss(worker)
        self.lost(worker)

    def close(self) -> None:
        self.executor.close()
