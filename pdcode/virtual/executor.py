"""Executors: computation of the tasks of virtual workers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..transport.layout import Layout, buffer, buffer_sizes
from ..transport.messages import Reply, Task
from ..util.errors import Failure
from ..util.stateful import Stateful

if TYPE_CHECKING:
    from ..training.worker import Worker

BuildWorker = Callable[[int, Sequence[Reply]], "Worker"]
"""Function (worker, reply buffers of each round) -> Worker."""


class Executor(ABC):
    """Executor of the tasks of virtual workers."""

    numerics = True  # whether gradients are computed
    local = False  # whether all workers are in this process
    shares = False  # whether workers use rank 0's θ in place of replicas

    @abstractmethod
    def perform(self, worker: int, task: Task, number: int) -> None:
        """Start a task of round `number`; its buffer may be reused when this returns."""

    @abstractmethod
    def finish(self, worker: int, number: int, part: int) -> tuple[float, np.ndarray]:
        """Wait for the task of round `number`; return its loss and the body of a part of the reply, valid
        until the worker's next task."""

    def rebuild(self, worker: int) -> None:
        """Build a worker again, without the state that it had."""
        raise Failure(f"worker {worker} cannot come back when MPI ranks compute")

    def close(self) -> None:
        """End the executor's work."""
        return


class InProcessExecutor(Stateful, Executor):
    """Executor in this process, which performs a task at once; `build` builds a worker, which may share θ."""

    state_names = ("_losses", "local_workers")
    local = True

    def __init__(
        self, layouts: Sequence[Layout], workers: int, build: BuildWorker, shares: bool = False
    ) -> None:
        self.shares = shares
        rows = buffer(buffer_sizes(layouts)[1], workers)
        self._replies = [[Reply(layout, row) for layout in layouts] for row in rows]
        self._losses, self._build = [0.0] * workers, build
        self.local_workers = [build(worker, replies) for worker, replies in enumerate(self._replies)]

    def rebuild(self, worker: int) -> None:
        self.local_workers[worker] = self._build(worker, self._replies[worker])

    def perform(self, worker: int, task: Task, number: int) -> None:
        task.read()
        self._losses[worker] = self.local_workers[worker].perform(task)

    def finish(self, worker: int, number: int, part: int) -> tuple[float, np.ndarray]:
        return self._losses[worker], self._replies[worker][number].parts[part].body


class NullExecutor(Executor):
    """Executor that computes nothing: every payload is zero."""

    numerics = False

    def __init__(self, layouts: Sequence[Layout]) -> None:
        replies = [Reply(layout, buffer(layout.buffer_bytes)[0]) for layout in layouts]
        self._bodies = [[part.body for part in reply.parts] for reply in replies]

    def rebuild(self, worker: int) -> None:
        return

    def perform(self, worker: int, task: Task, number: int) -> None:
        return

    def finish(self, worker: int, number: int, part: int) -> tuple[float, np.ndarray]:
        return float("nan"), self._bodies[number][part]
