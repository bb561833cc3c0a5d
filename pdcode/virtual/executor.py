"""Who does the work of workers that are not ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..transport.layout import Layout, buffer
from ..transport.messages import Reply, Task

if TYPE_CHECKING:
    from ..training.worker import Worker

Employ = Callable[[int, Reply], "Worker"]
"""(worker, reply buffer) -> what performs its tasks."""


class Crew(ABC):
    """The workers' code, wherever it runs."""

    numerics = True  # whether payloads are those of the problem

    @abstractmethod
    def perform(self, worker: int, order: Task) -> None:
        """Begin a task; the order is free again when this returns."""

    @abstractmethod
    def finish(self, worker: int) -> tuple[float, np.ndarray]:
        """Wait for the task; return the mini-batch loss and the reply's body, as it is until the next."""

    def close(self) -> None:
        """There is no more to do."""
        return


class LocalCrew(Crew):
    """All of them in this process, where a task is done at once.

    Parameters
    ----------
    layout : Layout
    workers : int
    employ : callable
        Makes each worker.

    Attributes
    ----------
    staff : list of Worker
    """

    def __init__(self, layout: Layout, workers: int, employ: Employ) -> None:
        self._replies = [Reply(layout, row) for row in buffer(layout.reply_bytes, workers)]
        self._losses = [0.0] * workers
        self.staff = [employ(worker, reply) for worker, reply in enumerate(self._replies)]

    def perform(self, worker: int, order: Task) -> None:
        order.read()
        self._losses[worker] = self.staff[worker].perform(order)

    def finish(self, worker: int) -> tuple[float, np.ndarray]:
        return self._losses[worker], self._replies[worker].body


class Idle(Crew):
    """Nobody: every payload is zero.

    Parameters
    ----------
    layout : Layout
    """

    numerics = False

    def __init__(self, layout: Layout) -> None:
        self._body = Reply(layout, buffer(layout.reply_bytes)[0]).body

    def perform(self, worker: int, order: Task) -> None:
        return

    def finish(self, worker: int) -> tuple[float, np.ndarray]:
        return float("nan"), self._body
