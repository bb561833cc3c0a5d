"""Interface between the loops of coordinator and worker and their transport, on a real or virtual clock.

Code above it does not know whether workers are MPI ranks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels import headers
from ..util.stateful import Stateful
from .events import Event
from .layout import PART, ROUND, Layout, Pair
from .messages import Order, Reply, Task

NOT_FINITE = "is not finite, or has codewords out of range"
"""What is wrong with a payload whose header is right."""


class Arrival(Stateful, headers.Received, Event):
    """Event of a reply; each place of a receive buffer has one such object, reused for every reply.

    Times are in ns since the start of the run, on rank 0's clock.
    """

    handler = "on_reply"
    state_names = ("worker", "task", "version", "row", "bytes_down")  # of the expected reply

    worker: int
    task: int
    version: int
    row: int
    round: int  # of the update
    part: int  # of the replies to the task …
    last: bool  # … and whether it is the last of them
    loss: float
    t_start_ns: int
    t_compute_ns: int
    t_send_ns: int
    t_recv_ns: int
    injected_delay_ns: int
    codewords: Sequence[Pair]  # one pair per unit
    finite: bool  # whether the whole payload is, and header and codewords are those of an answer …
    fault: str = NOT_FINITE  # … and what is wrong if not
    bytes_up: int  # size of the reply
    bytes_down: int  # size of the task; 0 for its later parts
    # shape (r, elements) per unit; unchanged until the reply to the worker's next but one task
    payloads: list[np.ndarray]
    body: np.ndarray  # the reply as it travelled, uint8, without its header
    digest: int  # of the worker's own θ, or 0

    def __init__(self, reply: Reply, number: int) -> None:
        """Bind to the reply of round `number` in a buffer."""
        layout = reply.layout
        self.payloads, self.codewords, self.body = reply.payloads, reply.codewords, reply.body
        self.bytes_up, self.round, self.digest = layout.reply_bytes, number, 0
        self.part, self.last = reply.part, reply.part == layout.replies - 1
        self.scale = reply.scale  # multiplies the payload, in the message, too
        flags = number << ROUND | self.part & PART
        if not layout.chosen:
            self.state_names = (*self.state_names, "codewords")  # type: ignore[assignment, misc]
        self.bind(reply.message, reply.reader, flags, layout.payload_bytes, layout.chosen)


@dataclass
class RankInfo:
    """Identity of a rank, and its clock offset from rank 0, measured at the start and the end of a run."""

    rank: int
    host: str
    rounds: int = 0  # message exchanges per clock comparison; 0 on rank 0's clock
    offset_ns: int = 0
    error_ns: int = 0
    measured_ns: int = 0  # time of the measurement since the run's start

    def row(self) -> dict[str, object]:
        """Return the rank's row of the trace."""
        return {
            "rank": self.rank,
            "host": self.host,
            "clock_offset_ns": self.offset_ns,
            "clock_error_ns": self.error_ns,
            "t_ns": self.measured_ns,
        }


class Fleet(ABC):
    """Rank 0's side of the transport: it sends tasks, receives replies and has a clock."""

    workers: int
    coordinator: RankInfo  # rank 0 itself
    members: list[RankInfo]  # the workers
    listed: list[RankInfo]  # those at the start, which the trace lists
    library: str  # name of the message-passing library
    interrupted: int = 0  # the signal that has asked for an end
    local: bool = False  # whether the workers are in this process, and their state is the fleet's
    bytes_up: int  # bytes received in all, set-up included
    bytes_down: int

    @abstractmethod
    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Send a worker its facts and data arrays, before the first task."""

    @abstractmethod
    def start(self, at_ns: int = 0) -> None:
        """Set the clock."""

    @abstractmethod
    def now_ns(self) -> int:
        """Return the time since the run's start, in ns."""

    @abstractmethod
    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        """Send a task to an idle worker; return the time in ns.

        The body of the task is copied before this returns; the codewords must not change until the reply has
        been folded in.
        """

    @abstractmethod
    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        """Return what has happened, in order; nothing if the timeout, or the time `wake_ns`, passes first."""

    @property
    def joining(self) -> bool:
        """Whether a worker that has died is to come back."""
        return False

    def forward(self, worker: int, messages: Sequence[np.ndarray]) -> None:
        """Send a worker payloads of others that it may be waiting for, see `State.owed`."""
        return

    def stepped(self) -> None:
        """Note that rank 0 has stepped θ; a virtual clock advances by the time of a step."""
        return

    def savable(self) -> bool:
        """Return whether a checkpoint can be taken now; where it cannot, see to it that it soon can be."""
        return True

    @abstractmethod
    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        """Tell the workers with a task in flight that the run is over, and is waited for until `until_ns`.

        They cut an injected delay short and reply, even if it has no end.
        """

    @abstractmethod
    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        """Tell an idle worker that the run is over, with further flags of a task.

        Where workers go on by themselves, their last tasks are waited for until `until_ns`. Return whether
        that was too short.
        """

    def dismiss(self, worker: int, flags: int = 0) -> None:
        """Let an idle worker go that wants to leave; with further flags of a task."""
        return

    @abstractmethod
    def close(self) -> None:
        """Free the fleet's resources, after the shutdown of all workers."""


class Link(ABC):
    """A worker's side of the transport: it receives tasks and sends replies."""

    worker: int

    @abstractmethod
    def now_ns(self) -> int:
        """Return the time on the worker's clock, in ns."""

    @abstractmethod
    def wait(self, delay_ns: int, spin: bool) -> int:
        """Wait for an injected delay, asleep or (`spin`) keeping the core busy.

        Returns
        -------
        int
            The delay; shorter if the end of the run has cut it short. A negative one has no end.
        """

    @abstractmethod
    def next_task(self) -> Task | None:
        """Wait for a task; None when the run is over."""

    @property
    @abstractmethod
    def flags(self) -> int:
        """Flags of rank 0's last message."""

    def leave(self) -> None:  # noqa: B027  most have nothing to do
        """Take part in the end of the run, after the last task."""

    @abstractmethod
    def connect(self, layouts: Sequence[Layout]) -> list[Reply]:
        """Allocate the message buffers; return the reply of each round."""

    @abstractmethod
    def reply(self, part: int, t_start_ns: int, t_compute_ns: int, delay_ns: int, loss: float) -> None:
        """Send a part of the reply; after the last one, post the receive of the next task."""

    def repeat(self) -> None:
        """Send the last reply again, which rank 0 is to refuse, as it waits for that of a later task."""
        raise NotImplementedError
