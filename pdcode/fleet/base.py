"""What the two loops need of a fleet, whatever its clock.

Above this interface nothing knows whether workers are MPI ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Codewords = dict[int, tuple[np.ndarray, np.ndarray]]
"""Block count k -> (indices, values), each of shape (r, w)."""


class Arrival:
    """A reply as rank 0 sees it. There is one object for each receive buffer, used again and again.

    Times are ns since the run's start on rank 0's clock.
    """

    __slots__ = (
        "worker", "task", "version", "row", "loss",
        "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "injected_delay_ns", "payloads",
    )  # fmt: skip

    worker: int
    task: int
    version: int
    row: int
    loss: float
    t_start_ns: int
    t_compute_ns: int
    t_send_ns: int
    t_recv_ns: int
    injected_delay_ns: int
    payloads: list[
        np.ndarray
    ]  # views of the receive buffer, (r, elements) a layer; whole until the worker's next but one reply


class Task:
    """A task as its worker sees it: one object, with views of the receive buffer."""

    __slots__ = ("task", "version", "row", "theta", "codewords")

    task: int
    version: int
    row: int
    theta: np.ndarray
    codewords: list[tuple[np.ndarray, np.ndarray]]  # a layer; empty arrays for layers sent whole


@dataclass
class Member:
    """Who a rank is, and its clock minus rank 0's, measured at the start and again at the end."""

    rank: int
    host: str
    offset_ns: int = 0
    error_ns: int = 0
    measured_ns: int = 0  # when, since the run's start

    def row(self) -> dict[str, object]:
        """As the trace wants it."""
        return {
            "rank": self.rank,
            "host": self.host,
            "clock_offset_ns": self.offset_ns,
            "clock_error_ns": self.error_ns,
            "t_ns": self.measured_ns,
        }


class Fleet(ABC):
    """Rank 0's side: tasks out, replies in, a clock."""

    workers: int
    members: list[Member]  # of the workers, as of now
    library: str  # that carries the messages
    bytes_up: int  # all that was received, set-up included
    bytes_down: int

    @abstractmethod
    def now_ns(self) -> int:
        """Time since the run's start."""

    @abstractmethod
    def dispatch(
        self, worker: int, task: int, version: int, row: int, codewords: Codewords, theta: np.ndarray
    ) -> int:
        """Send a task to an idle worker; return the time in ns. θ is copied before this returns."""

    @abstractmethod
    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        """Replies in order of arrival; none if the timeout passes first."""

    @abstractmethod
    def stop(self) -> None:
        """Tell all workers, idle by now, that there is no more to do, and part from them."""


class Link(ABC):
    """A worker's side: tasks in, replies out."""

    worker: int

    @abstractmethod
    def next_task(self) -> Task | None:
        """Wait for a task; None when the run is over."""

    @abstractmethod
    def reply(self, t_start_ns: int, t_compute_ns: int, delay_ns: int, loss: float) -> None:
        """Send the payload as it lies in the buffer, and be ready for the next task."""
