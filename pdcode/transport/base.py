"""What the two loops need of a fleet, whatever its clock.

Above this interface nothing knows whether workers are MPI ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .layout import Layout, Pair
from .messages import Order, Reply, Task


class Arrival:
    """A reply as rank 0 sees it. There is one object for each receive buffer, used again and again.

    Times are ns since the run's start on rank 0's clock.
    """

    __slots__ = (
        "worker", "task", "version", "row", "round", "loss", "codewords", "bytes_up", "bytes_down", "finite",
        "t_start_ns", "t_compute_ns", "t_send_ns", "t_recv_ns", "injected_delay_ns", "payloads", "body",
    )  # fmt: skip

    worker: int
    task: int
    version: int
    row: int
    round: int  # of the update
    loss: float
    t_start_ns: int
    t_compute_ns: int
    t_send_ns: int
    t_recv_ns: int
    injected_delay_ns: int
    codewords: Sequence[Pair]  # one pair a unit
    finite: bool  # whether all of the payload is
    bytes_up: int  # of the reply
    bytes_down: int  # of the task
    # (r, elements) a unit; as they are until the worker's next but one reply
    payloads: list[np.ndarray]
    body: np.ndarray  # the reply as it travelled, uint8, without its header

    def __init__(self, reply: Reply, number: int) -> None:
        """The arrival of a reply in this buffer, in round `number`."""
        self.payloads, self.codewords, self.body = reply.payloads, reply.codewords, reply.body
        self.bytes_up, self.round = reply.layout.reply_bytes, number


@dataclass
class RankInfo:
    """Who a rank is, and its clock minus rank 0's, measured at the start and again at the end."""

    rank: int
    host: str
    rounds: int = 0  # exchanges by which its clock is compared; 0 if it is rank 0's
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
    coordinator: RankInfo  # rank 0 itself
    members: list[RankInfo]  # of the workers, as of now
    library: str  # that carries the messages
    interrupted: bool = False  # whether the outside asked for an end, by Ctrl-C or SIGTERM
    bytes_up: int  # all that was received, set-up included
    bytes_down: int

    @abstractmethod
    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Send a worker what it needs before its first task: plain facts, and arrays."""

    @abstractmethod
    def start(self) -> None:
        """Set the clock to 0."""

    @abstractmethod
    def now_ns(self) -> int:
        """Time since the run's start."""

    @abstractmethod
    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        """Send a task to an idle worker; return the time in ns.

        The body of the task is copied before this returns; codewords must stay as they are until the reply
        has been folded in.
        """

    @abstractmethod
    def arrivals(self, timeout_ns: int) -> Sequence[Arrival]:
        """Replies in order of arrival; none if the timeout passes first."""

    def stepped(self) -> None:
        """Rank 0 has stepped θ: on a clock that is not real, that takes its time now."""
        return

    def cancel(self, worker: int) -> None:
        """Tell a worker whose task is out that the run is over.

        A worker that may never answer then gives back what it has; to others this need not be said.
        """
        return

    @abstractmethod
    def shutdown(self, worker: int) -> None:
        """Tell an idle worker that there is no more to do."""

    @abstractmethod
    def close(self) -> None:
        """Free what the fleet holds; all workers are dismissed by now."""


class Link(ABC):
    """A worker's side: tasks in, replies out."""

    worker: int

    @abstractmethod
    def now_ns(self) -> int:
        """Time on the worker's clock."""

    @abstractmethod
    def wait(self, delay_ns: int, spin: bool) -> None:
        """Let an injected delay pass, the core given away or kept busy."""

    @abstractmethod
    def wait_for_shutdown(self) -> None:
        """Let an injected delay without end pass: until rank 0 says that the run is over."""

    @abstractmethod
    def next_task(self) -> Task | None:
        """Wait for a task; None when the run is over."""

    @abstractmethod
    def connect(self, layouts: Sequence[Layout]) -> list[Reply]:
        """Make the buffers of the messages; return the reply of each round."""

    @abstractmethod
    def reply(self, t_start_ns: int, t_compute_ns: int, delay_ns: int, loss: float) -> None:
        """Send the payload as it lies in the buffer, and be ready for the next task."""
