"""Schedules: arrival times of the replies of virtual workers."""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, ClassVar

import msgspec
import numpy as np

from .. import stragglers
from ..config import Config
from ..kernels import events
from ..schemes import delay_model
from ..transport.events import Event
from ..transport.layout import HEADER
from ..transport.messages import NO_WORKERS
from ..transport.sums import tree_neighbours
from ..util.stateful import Stateful
from .faults import Injection

Sent = tuple[int, int]
"""Worker, and number of the task sent to it."""

NEVER_NS: int = events.LAST
BLOCK = 32  # tasks of a worker whose delays are drawn at a time


class Schedule(Stateful, ABC):
    """Virtual clock and the tasks in flight."""

    state_names: ClassVar[tuple[str, ...]] = ("steps",)

    now_ns: int  # time at which rank 0 is free
    t_recv_ns: int  # time at which the last reply was received
    # Times of each worker's last task, or part of one.
    t_start_ns: list[int] | np.ndarray
    t_compute_ns: list[int] | np.ndarray
    t_send_ns: list[int] | np.ndarray
    injected_delay_ns: list[int] | np.ndarray
    steps = 0  # number of rounds that have ended; an update has one or more
    accepted = True  # whether the last reply was not refused, in a run that is replayed
    cancel_interrupts_delays = True  # not so in runs of older traces
    can_leave = True  # whether workers may leave
    pending: list[Event]  # events besides replies, for the fleet, when `next` returns -1

    @abstractmethod
    def start(self) -> None:
        """Set the clock to 0."""

    @abstractmethod
    def send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        """Send tasks of round `number` together, with their common and their own bytes."""

    @abstractmethod
    def follow(self, worker: int, number: int, part: int) -> None:
        """Start a part of a worker's reply, in round `number`, at the end of the one just received."""

    @abstractmethod
    def next(self, limit_ns: int, wakes: bool = False) -> int:
        """Receive the next reply and return its worker.

        Return -1 if there are `pending` events before, or when the clock is at the limit; `wakes`: whether
        that is the state's `wake_ns`.
        """

    def times_ns(self, worker: int) -> tuple[int, int, int]:
        """Return `t_start_ns`, `t_compute_ns` and `t_send_ns` of a worker."""
        return int(self.t_start_ns[worker]), int(self.t_compute_ns[worker]), int(self.t_send_ns[worker])

    def time_ns(self) -> int:
        """Return `now_ns`."""
        return self.now_ns

    def stepped(self) -> None:
        """Account for the end of a round."""
        self.steps += 1

    @property
    def joining(self) -> bool:
        """Whether a worker that has died will come back."""
        return False

    def leaving(self, worker: int, task: int) -> bool:
        """Return whether a worker leaves after a task."""
        return False

    def dismiss(self, worker: int) -> None:
        """Record that a worker has left."""
        return

    def dispatch_stamp_ns(self, worker: int, task: int) -> int:
        """Return the time stamp for the header of a task that is dispatched now."""
        return self.now_ns

    def exclude(self, workers: np.ndarray) -> None:
        """Set the workers to which the others send no payloads from now on."""
        return

    def wait_for_others(self, worker: int, place: int, exchanged: int) -> None:
        """Have a worker's next task wait for what accompanies it, see `transport.companions.Freight`."""
        return

    def cancel(self) -> None:
        """Interrupt the delays of all tasks in flight; dead workers reply, too."""
        return


class CostModelSchedule(Schedule):
    """Schedule by the cost model of ``[machine]`` and ``[link]`` and the delays of ``[stragglers]``.

    A task takes the worker's compute time (`task_ns`, for each round, of shape (1,) or (n,), see
    `costs.task_times_ns`) plus a delay keyed by (seed, worker, task), or with several rounds by the
    update; part of the delay may be a multiple of the compute time. The parts of its reply divide both by
    `delay_fractions` in each round. `exchanged` are the bytes of a worker's message to each other worker.
    """

    # A run with injected faults takes no checkpoints.
    state_names = (
        *Schedule.state_names, "_events", "_cancelled", "_ahead_ns", "_delays_ns", "_drawn", "_injected_ns",
        "_others_ns",
    )  # fmt: skip

    def __init__(
        self,
        config: Config,
        task_ns: Sequence[np.ndarray],
        reply_bytes: Sequence[int],
        delay_fractions: Sequence[Sequence[float]] = ((1.0,),),
        exchanged: int | None = None,
    ) -> None:
        workers = config.workers.count
        self._events = make_events(config, reply_bytes[0], exchanged)
        self._part_ns = [
            split_compute_time(np.broadcast_to(round_ns, workers), own)
            for round_ns, own in zip(task_ns, delay_fractions, strict=True)
        ]
        self._split = config.machine.coordinators
        self._reply_bytes = [bytes_per_coordinator(size, self._split) for size in reply_bytes]
        self._delay_fractions, self._cancelled, self._excluded = delay_fractions, False, NO_WORKERS
        self._model, self._oversleep_ns = delay_model(config), round(1e9 * config.machine.oversleep_s)
        self.pending = []
        self._faults = Injection(config, self._events, self.pending) if config.faults else None
        self.can_leave = self._faults is not None
        self.time_ns = self._events.time_ns  # type: ignore[method-assign]
        # Delays of the next tasks, and of the parts of this one.
        self._ahead_ns = np.zeros((len(delay_fractions[0]), workers, BLOCK), np.int64)
        self._delays_ns = np.zeros((max(map(len, delay_fractions)), workers), np.int64)
        self._drawn = np.zeros(workers, np.int64)  # tasks drawn so far, a multiple of BLOCK
        self._others_ns = np.zeros(workers, np.int64)  # that the next task waits for what accompanies it
        link = config.link
        self._latency_s, self._byte_s = link.latency_s, (1 + link.half_duplex) / link.bandwidth
        self._hop_s = 0.0 if link.broadcast == "multicast" else link.latency_s + link.segment / link.bandwidth
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
        """Time that rank 0's link was busy receiving."""
        return self._events.ingress_ns

    @property
    def egress_ns(self) -> int:
        """Time that rank 0's link was busy sending."""
        return self._events.egress_ns

    def start(self) -> None:
        self._events.now_ns = 0

    def continue_from(self, before: "CostModelSchedule", tasks: Sequence[int]) -> None:
        """Continue the clock of another preset; `tasks` are the numbers of the workers' next tasks."""
        self._events.now_ns = before.now_ns
        self._drawn[:] = np.array(tasks) // BLOCK * BLOCK
        if self._faults is not None and before._faults is not None:
            self._faults.follow(before._faults)

    def send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        if self._faults is None:
            self._send(sent, body_bytes, own_bytes, number)
        elif sent := self._faults.present(sent):
            self._send(sent, body_bytes, own_bytes, number)
            self._faults.sent(sent)

    def _send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int) -> None:
        if self._split > 1:
            body_bytes = bytes_per_coordinator(body_bytes, self._split)
            own_bytes = bytes_per_coordinator(own_bytes, self._split)
        single = len(sent) == len(self._delay_fractions) == 1
        if single and self._send_one(*sent[0], body_bytes, own_bytes):
            return
        pairs = np.array(sent, np.int64)
        workers, tasks = pairs[:, 0], pairs[:, 1]
        compute_ns = np.take(self._part_ns[number], workers, axis=1)
        delay_fractions = self._delay_fractions[number]
        if len(self._delay_fractions) > 1:
            tasks = np.full(len(pairs), self.steps // len(self._delay_fractions))
            delays_ns = np.array(
                [
                    stragglers.delays_ns(self._model, workers, tasks, 1, each, fraction)[:, 0]
                    for each, fraction in zip(compute_ns, delay_fractions, strict=True)
                ]
            )
        else:
            undrawn = tasks >= self._drawn[workers]
            if len(short := workers[undrawn]):
                first = self._drawn[short]
                for part, fraction in enumerate(delay_fractions):
                    self._ahead_ns[part, short] = stragglers.delays_ns(
                        self._model, short, first, BLOCK, compute_ns[part, undrawn], fraction
                    )
                self._drawn[short] = first + BLOCK
            delays_ns = np.ascontiguousarray(self._ahead_ns[:, workers, tasks % BLOCK])
        self._delays_ns[: len(delay_fractions), workers] = delays_ns
        self._injected_ns[workers] = self._injected(delays_ns[0])
        reply_bytes = None if len(self._reply_bytes) == 1 else self._reply_bytes[number]
        busy_ns = compute_ns[0] + self._others_ns[workers]
        self._others_ns[workers] = 0
        self._events.send(workers.astype(np.int32), busy_ns, delays_ns[0], body_bytes, own_bytes, reply_bytes)

    def _send_one(self, worker: int, task: int, body_bytes: int, own_bytes: int) -> bool:
        """Send one task whose delay has been drawn: `send` without arrays. Return whether it was."""
        if task >= self._drawn.item(worker):
            return False
        for part in range(len(self._ahead_ns)):
            self._delays_ns[part, worker] = self._ahead_ns.item(part, worker, task % BLOCK)
        delay_ns = self._delays_ns.item(0, worker)
        self._injected_ns[worker] = self._injected(delay_ns)
        compute_ns = self._part_ns[0].item(0, worker) + self._others_ns.item(worker)
        self._others_ns[worker] = 0
        self._events.send_one(worker, compute_ns, delay_ns, body_bytes, own_bytes)
        return True

    def _injected(self, delay_ns: Any) -> Any:
        """Return delays, as a run over MPI records them: without the time by which sleeps last too long."""
        return delay_ns - self._oversleep_ns * (delay_ns > 0) if self._oversleep_ns else delay_ns

    def times_ns(self, worker: int) -> tuple[int, int, int]:
        times: tuple[int, int, int] = self._events.last_times(worker)
        return times

    def follow(self, worker: int, number: int, part: int) -> None:
        delay_ns = int(self._delays_ns[part, worker])
        if self._cancelled:
            delay_ns = min(delay_ns, 0)
        self._injected_ns[worker] = self._injected(delay_ns)
        self._events.follow(worker, self._part_ns[number][part, worker], max(delay_ns, 0))
        if self._faults is not None:
            self._faults.on_follow(worker)

    def next(self, limit_ns: int, wakes: bool = False) -> int:
        return self._events.pop(limit_ns) if self._faults is None else self._faults.next(limit_ns)

    @property
    def joining(self) -> bool:
        return self._faults is not None and self._faults.joining

    def leaving(self, worker: int, task: int) -> bool:
        return self._faults is not None and self._faults.leaving(worker)

    def dismiss(self, worker: int) -> None:
        if self._faults is not None:
            self._faults.on_gone(worker)

    def stepped(self) -> None:
        super().stepped()
        self._events.step()

    def exclude(self, workers: np.ndarray) -> None:
        if workers is not self._excluded:
            self._excluded, self._events.deaf[:] = workers, 0
            self._events.deaf[workers] = 1

    def wait_for_others(self, worker: int, place: int, exchanged: int) -> None:
        self._others_ns[worker] = self.others_ns(place, exchanged)

    @property
    def sums_ns(self) -> int | None:
        """Time of the sums of an update, if all workers wait for them; None: they do not."""
        return None

    def step_ns(self, members: int) -> int:
        """Return the time of the workers' part in a step of so many payloads."""
        return 0

    def others_ns(self, place: int, exchanged: int) -> int:
        """Return the time in ns for which a task waits for what others send, or pass on, to its worker."""
        seconds = place * self._hop_s
        if exchanged:
            seconds += self._latency_s + exchanged * self._byte_s
        return round(1e9 * seconds)

    def cancel(self) -> None:
        self._cancelled = True
        self._events.cancel(self.cancel_interrupts_delays)
        alive = self._injected_ns >= 0
        self._injected_ns[alive] = (self._events.t_send_ns - self._events.t_compute_ns)[alive]
        if self._faults is not None:
            self._faults.on_cancel()


class AllreduceSchedule(CostModelSchedule):
    """Schedule of workers that add up their payloads: all replies of a round arrive together.

    A round takes the slowest worker's time and the sum's, `allreduce_ns` of each round. Rank 0 takes no
    time; `update_s` is the time of a step at each worker. `payload_bytes` has the bytes of each round;
    the other parameters are as for `CostModelSchedule`.
    """

    state_names = (*CostModelSchedule.state_names, "_out", "_number", "_end_ns", "_done", "_ready_ns")

    def __init__(
        self,
        config: Config,
        task_ns: Sequence[np.ndarray],
        payload_bytes: Sequence[int],
        allreduce_ns: Sequence[int],
        delay_fractions: Sequence[Sequence[float]] = ((1.0,),),
    ) -> None:
        free = msgspec.structs.replace(
            config,
            link=msgspec.structs.replace(config.link, latency_s=0.0, bandwidth=1e18),
            machine=msgspec.structs.replace(
                config.machine, arrival_s=0.0, decode_bandwidth=None, dispatch_s=0.0
            ),
        )
        super().__init__(free, task_ns, payload_bytes, delay_fractions)
        self.allreduce_ns = allreduce_ns
        self._ready_ns = np.zeros(config.workers.count, np.int64)  # when each payload of the round is there
        self._out = self._number = self._end_ns = 0  # tasks in flight, their round, and their arrival time
        self._done = deque[int]()  # workers that have finished computing

    @property
    def t_recv_ns(self) -> int:  # type: ignore[override]
        return self._end_ns

    def send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        super().send(sent, 0, 0, number)
        self._out += len(sent)
        self._number = number

    def next(self, limit_ns: int, wakes: bool = False) -> int:
        while len(self._done) < self._out:
            worker = super().next(limit_ns)
            if worker < 0:
                return -1
            self._done.append(worker)
            self._ready_ns[worker] = self._end_ns = self._events.now_ns
            if len(self._done) == self._out:
                self._end_ns = self._summed_ns(self._number)
        if self._end_ns > limit_ns:
            self._events.now_ns = max(self._events.now_ns, limit_ns)
            return -1
        self._events.now_ns = self._end_ns
        self._out -= 1
        return self._done.popleft()

    def _summed_ns(self, number: int) -> int:
        """Return when the last worker has the sum."""
        return self._end_ns + self.allreduce_ns[number]

    @property
    def sums_ns(self) -> int:
        return sum(self.allreduce_ns)


class TreeSchedule(AllreduceSchedule):
    """Schedule of workers that add up their payloads along a tree (`reduce.fanout`).

    A worker's sum is ready once it has received the sums from the workers below it, one after the other;
    it then sends the sum of all to each of them in turn. Each worker's link is like rank 0's.
    """

    def __init__(
        self,
        config: Config,
        task_ns: Sequence[np.ndarray],
        payload_bytes: Sequence[int],
        delay_fractions: Sequence[Sequence[float]] = ((1.0,),),
    ) -> None:
        super().__init__(config, task_ns, payload_bytes, [0] * len(payload_bytes), delay_fractions)
        link, self._fanout = config.link, config.reduce.fanout
        byte_s, self._latency_ns = (1 + link.half_duplex) / link.bandwidth, round(1e9 * link.latency_s)
        self._message_ns = [round(1e9 * size * byte_s) for size in payload_bytes]
        self.allreduce_ns = [self._summed_ns(number) for number in range(len(payload_bytes))]

    def _summed_ns(self, number: int) -> int:
        workers, message_ns = len(self._ready_ns), self._message_ns[number]
        below = [tree_neighbours(worker, workers, self._fanout)[1] for worker in range(workers)]
        up_ns, down_ns = self._ready_ns.tolist(), [0] * workers
        for worker in reversed(range(workers)):
            received_ns = 0
            for sent_ns in sorted(up_ns[each] for each in below[worker]):
                received_ns = max(received_ns, sent_ns + self._latency_ns) + message_ns
            up_ns[worker] = max(up_ns[worker], received_ns)
        down_ns[0] = up_ns[0]
        for worker in range(workers):
            for place, each in enumerate(below[worker], 1):
                down_ns[each] = down_ns[worker] + place * message_ns + self._latency_ns
        return max(down_ns)


def allreduce_s(workers: int, size: float, latency_s: float, byte_s: float) -> float:
    """Return the time in s of adding up payloads of `size` bytes, S, by n workers.

    It is the least of ⌈log₂ n⌉ (α + S β), by recursive doubling, and 2 ⌈log₂ n⌉ α + 2 (n - 1)/n S β, by
    reduce-scatter and allgather (Thakur, Rabenseifner and Gropp, "Optimization of collective communication
    operations in MPICH", Int. J. High Perform. Comput. Appl. 2005, without the additions). Each worker's link
    is like rank 0's: α is the latency, and β one over the bandwidth, or two over it if half duplex.
    """
    steps = math.ceil(math.log2(workers))
    return min(
        steps * (latency_s + size * byte_s),
        2 * steps * latency_s + 2 * (workers - 1) / workers * size * byte_s,
    )


class FirstSchedule(CostModelSchedule):
    """Schedule of updates whose first payloads are added up by their senders.

    Rank 0 sends the q members of an update their list. Each sends q - 1 segments of its payload to others,
    averages its own range, and sends the mean to the others and to rank 0. All links are like rank 0's. Rank
    0 handles q messages with means. Its link and its processor are charged as usual for what it sends to all.
    `owned` are the bytes of the longest segment, and an owner's time to average, in s; `members` returns the
    number of members of the last update.
    """

    def __init__(
        self,
        config: Config,
        task_ns: Sequence[np.ndarray],
        reply_bytes: Sequence[int],
        delay_fractions: Sequence[Sequence[float]],
        owned: tuple[int, float],
        members: Callable[[], int],
    ) -> None:
        super().__init__(config, task_ns, reply_bytes, delay_fractions)
        machine, link, (size, owner_s), owners = config.machine, config.link, owned, config.reduction.owners
        self._ranges, self._fixed_s = owners, 3 * link.latency_s + owner_s
        self._segment_s = (1 + link.half_duplex) * size / link.bandwidth
        decoding_s = owners * size / (machine.decode_bandwidth or math.inf)
        self._fixed_s += owners * machine.arrival_s + decoding_s
        self._member_s, self._members = machine.dispatch_s, members

    def step_ns(self, members: int) -> int:
        segments = (2 * members - 1) * math.ceil(self._ranges / max(1, members))
        return round(1e9 * (self._fixed_s + members * self._member_s + segments * self._segment_s))

    def stepped(self) -> None:
        self._events.now_ns += self.step_ns(self._members())
        super().stepped()


def split_compute_time(task_ns: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Split times of tasks, int64, shape (n,), among parts in proportion to `fractions`; shape (parts, n)."""
    ends = [
        np.rint(task_ns * (each / sum(fractions))).astype(np.int64) for each in accumulate(fractions[:-1])
    ]
    return np.diff([*ends, task_ns], axis=0, prepend=0)


def make_events(config: Config, reply_bytes: int, exchanged: int | None = None) -> Any:
    """Build the event queue of rank 0, its link and its workers from ``[machine]`` and ``[link]``.

    `exchanged` is the length of a worker's message to each other worker, if payloads are exchanged.
    """
    machine, link = config.machine, config.link
    return events.Events(
        config.workers.count,
        bytes_per_coordinator(reply_bytes, machine.coordinators),
        link.bandwidth,
        *(round(1e9 * s) for s in (link.latency_s, machine.arrival_s, machine.dispatch_s, machine.update_s)),
        link.half_duplex,
        {"star": 0, "multicast": 2}.get(link.broadcast, 1),
        max(1, link.children),
        link.segment,
        machine.decode_bandwidth or math.inf,
        exchanged,
    )


def bytes_per_coordinator(size: int, coordinators: int) -> int:
    """Return the bytes of a message for one of several coordinators: a header, and a fraction of the rest."""
    head = min(size, HEADER.size)
    return head + -(-(size - head) // coordinators)
