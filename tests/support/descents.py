"""Whole runs of a configuration in one process, without MPI: VirtualFleet and all that runs on it."""

import heapq
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pdcode.coding.clipping import make_clip
from pdcode.coding.replica import MirroredReplica
from pdcode.config import load as configfile
from pdcode.session import setup
from pdcode.trace.recorder import Recorder
from pdcode.trace.schema import ARRIVALS, FAULTS, PROGRESS, UPDATES
from pdcode.training.coordinator import Coordinator
from pdcode.training.fused import make_coordinator
from pdcode.training.worker import Worker
from pdcode.virtual.executor import InProcessExecutor
from pdcode.virtual.fleet import VirtualFleet
from pdcode.virtual.schedule import Schedule, Sent

MS = 1_000_000
SMALL = ["problem.batch=8", "code.blocks=[8,1]", "optimizer.rate=0.05", "stop.updates=40"]


class Rows(Recorder):
    """Keeps the rows of a trace in memory."""

    def __init__(self) -> None:
        self.arrivals: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.measured: list[dict[str, Any]] = []

    def arrival(self, *values: float) -> None:
        self.arrivals.append(dict(zip(ARRIVALS, values, strict=True)))

    def update(self, *values: float) -> None:
        self.updates.append(dict(zip(UPDATES, values, strict=True)))

    def fault(self, *values: Any) -> None:
        self.faults.append(dict(zip(FAULTS, values, strict=True)))

    def progress(self, *values: float) -> None:
        self.measured.append(dict(zip(PROGRESS, values, strict=True)))

    def due(self, now_ns: int) -> bool:
        return False

    def flush(self, now_ns: int) -> None:
        pass

    def column(self, name: str) -> np.ndarray:
        """A column of the arrivals."""
        return np.array([row[name] for row in self.arrivals])


class FixedDurations(Schedule):
    """Schedule without a network; ``duration_ns(worker, task)`` lasts until a reply, or its next part."""

    def __init__(self, workers: int, duration_ns: Callable[[int, int], int]) -> None:
        self._tasks = [0] * workers
        self._duration_ns = duration_ns
        self._heap: list[tuple[int, int, int]] = []  # arrival time, number of the task, worker
        self._sent = 0
        self.now_ns = self.t_recv_ns = 0
        self.t_start_ns, self.pending = [0] * workers, []
        self.t_send_ns = self.t_compute_ns = [0] * workers
        self.injected_delay_ns = [0] * workers

    def start(self) -> None:
        self.now_ns = 0

    def send(self, sent: Sequence[Sent], body_bytes: int, own_bytes: int, number: int = 0) -> None:
        for worker, task in sent:
            self._tasks[worker] = task
            self.follow(worker, number, 0)

    def follow(self, worker: int, number: int, part: int) -> None:
        end_ns = self.now_ns + self._duration_ns(worker, self._tasks[worker])
        self.t_start_ns[worker], self.t_send_ns[worker] = self.now_ns, end_ns
        heapq.heappush(self._heap, (end_ns, self._sent, worker))
        self._sent += 1

    def next(self, limit_ns: int, wakes: bool = False) -> int:
        if not self._heap or self._heap[0][0] > limit_ns:
            self.now_ns = limit_ns
            return -1
        self.now_ns, _, worker = heapq.heappop(self._heap)
        self.t_recv_ns = self.now_ns
        return worker


class Descent:
    """A run that is ready to start; `thetas` has θ of each version.

    Overrides are on top of the defaults, a hidden layer of 16 units, and `SMALL`. `duration_ns` is that of
    `FixedDurations`, or a list of ms, one a worker.
    """

    def __init__(self, overrides: Sequence[str], duration_ns: Any, trace: Recorder | None = None) -> None:
        self.config = configfile.resolve({"problem": {"hidden": [16]}}, [*SMALL, *overrides])
        config, workers = self.config, self.config.workers.count
        self.components = setup.prepare(config)
        if not callable(duration_ns):
            times = [round(MS * each) for each in duration_ns]
            duration_ns = lambda worker, task: times[worker]  # noqa: E731
        layouts = self.components.layouts
        self.executor = InProcessExecutor(layouts, workers, setup.worker_builder(config, self.components))
        schedule = FixedDurations(workers, duration_ns)
        companion = config.shuffle.companion(config, self.components.source)
        self.fleet = VirtualFleet(layouts, workers, self.executor, schedule, companion=companion)
        self.state, self.trace = self.components.state, Rows() if trace is None else trace
        self.coordinator = make_coordinator(self.fleet, self.state, self.trace, clip=make_clip(config))
        self.thetas = [self.state.theta.copy()]

    @property
    def workers(self) -> list[Worker]:
        return self.executor.local_workers

    def observe(self, now_ns: int, coordinator: Coordinator) -> str:
        """Keep θ, and stop when there are as many updates as asked for."""
        if coordinator.version == len(self.thetas):
            self.thetas.append(self.state.theta.copy())
        return "enough" if coordinator.version >= (self.config.stop.updates or 0) else ""

    def run(self) -> str:
        """To the end; return why it ended."""
        return self.coordinator.run(self.observe)

    def loss_ratio(self) -> float:
        """Run to as many updates as asked for; return the last loss over the first."""
        first = self.components.problem.loss(self.state.theta)
        assert self.run() == "enough"
        if self.config.downlink.kind == "codewords":  # each task's digest of θ was that of rank 0
            assert all(isinstance(worker.replica, MirroredReplica) for worker in self.workers)
        return self.components.problem.loss(self.state.theta) / first


def lies(workers: Sequence[int], how: str = "kind='lie', how='gaussian', value=100.0") -> str:
    """Faults by which these workers lie from their first task on, as a setting."""
    return f"faults.events=[{', '.join(f'{{worker={each}, task=0, {how}}}' for each in workers)}]"
