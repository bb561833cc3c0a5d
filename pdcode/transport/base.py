"""Interface between the loops of coordinator and worker and their transport, on a real or virtual clock.

The loops do not depend on whether workers are MPI ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..kernels import headers
from ..util.errors import Failure, in_one_line, place_of_user
from ..util.stateful import Stateful
from .companions import Companion
from .events import Event
from .layout import PART_MASK, ROUND_SHIFT, Layout, Pair
from .messages import Order, Reply, Task

INVALID_PAYLOAD = "is not finite or too large, or has codewords out of range"
"""Reason to refuse a payload whose header is right."""


class Arrival(Stateful, headers.Received, Event):
    """Event of a reply; each place of a receive buffer has one such object, reused for every reply.

    Times are in ns since the start of the run, on rank 0's clock.
    """

    handler = "on_reply"
    state_names = ("worker", "task", "version", "row", "bytes_down", "ordered")  # of the expected reply
    state_types = (("ordered", list[Any]),)

    worker: int
    task: int
    version: int
    row: int
    round: int  # of the update
    part: int  # number of the message among those that answer the task
    last: bool  # whether it is the last of them
    loss: float
    t_start_ns: int
    t_compute_ns: int
    t_send_ns: int
    t_recv_ns: int
    injected_delay_ns: int
    codewords: Sequence[Pair]  # one pair per unit
    finite: bool  # whether the payload is finite, and header and codewords are valid
    fault: str = INVALID_PAYLOAD  # reason to refuse it if not
    bytes_up: int  # size of the reply
    bytes_down: int  # size of the task; 0 for the later messages of its answer
    # shape (r, elements) per unit; unchanged until the reply to the worker's next but one task
    payloads: list[np.ndarray]
    body: np.ndarray  # the encoded reply without its header, uint8
    digest: int  # of the worker's own θ, or 0

    def __init__(self, reply: Reply, number: int) -> None:
        """Bind to the buffer of a reply of round `number`."""
        layout = reply.layout
        self.payloads, self.codewords, self.body = reply.payloads, reply.codewords, reply.body
        self.bytes_up, self.round, self.digest = layout.reply_bytes, number, 0
        self.part, self.last = reply.part, reply.part == layout.messages - 1
        self.scale = reply.scale  # multiplies the payload, also in the message
        flags = number << ROUND_SHIFT | self.part & PART_MASK
        self._worker_selected = layout.worker_selected
        self.bind(reply.message, reply.reader, flags, layout.payload_bytes, layout.worker_selected)

    @property
    def ordered(self) -> Sequence[Pair]:
        """The codewords, if rank 0 has chosen them; else none."""
        return [] if self._worker_selected else self.codewords

    @ordered.setter
    def ordered(self, codewords: Sequence[Pair]) -> None:
        if not self._worker_selected:
            self.codewords = codewords


@dataclass
class RankInfo:
    """Identity of a rank, and its clock offset from rank 0, measured at the start and the end of a run."""

    rank: int
    host: str
    rounds: int = 0  # message exchanges per clock comparison; 0: same clock as rank 0
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
    initial_members: list[RankInfo]  # the workers at the start, for the trace
    library: str  # name of the message-passing library
    network: str = ""  # description of a simulated network
    interrupted: int = 0  # number of the signal that asks for the end of the run
    continues: bool = False  # whether workers are set up again after the shutdown
    ending_s: float = (
        0.0  # longest time in which the job ends after the wait for replies, if some are missing
    )
    virtual: bool = False  # whether its clock is virtual: only arrivals, tasks and updates take time
    local: bool = False  # whether the workers are in this process, and their state is part of the fleet's
    bytes_up: int  # total bytes received, including set-up
    bytes_down: int  # total bytes sent
    companion = Companion()  # what accompanies tasks; to be set

    @abstractmethod
    def set_up(self, worker: int, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Send a worker its settings and data arrays, before the first task."""

    @abstractmethod
    def start(self, at_ns: int = 0) -> None:
        """Start the clock, at `at_ns`."""

    @abstractmethod
    def now_ns(self) -> int:
        """Return the time since the run's start, in ns."""

    @abstractmethod
    def dispatch(self, worker: int, task: int, version: int, order: Order, flags: int = 0) -> int:
        """Send a task to an idle worker; return the time in ns.

        The body of the task is copied before this returns; the codewords must not change until the reply has
        been used.
        """

    @abstractmethod
    def events(self, timeout_ns: int, wake_ns: int | None = None) -> Sequence[Event]:
        """Return the next events, in order; none after `timeout_ns`, or at the time `wake_ns`."""

    def cause(self, error: BaseException) -> str:
        """Describe an error that ends the run, for the trace."""
        if place := place_of_user(error):
            return f"{in_one_line(error)}, in {place}"
        return str(error) if isinstance(error, Failure) else repr(error)

    @property
    def joining(self) -> bool:
        """Whether a worker that has died will return."""
        return False

    def forward(self, worker: int, messages: Sequence[np.ndarray]) -> None:
        """Send a worker payloads of others that it may be waiting for, see `State.undelivered_payloads`."""
        return

    def lost(self, worker: int) -> None:
        """Note that a worker has died or left, and gets no further task."""
        self.companion.lost(worker)

    def overdue(self, worker: int) -> None:
        """Send an overdue worker what it may be waiting for besides its task."""
        return

    def stepped(self) -> None:
        """Note a step of θ at rank 0; a virtual clock advances by its time."""
        return

    def savable(self) -> bool:
        """Return whether a checkpoint can be taken now; otherwise prepare for one."""
        return True

    @abstractmethod
    def cancel(self, workers: Collection[int], until_ns: int) -> None:
        """Notify workers with a task in flight that the run ends; rank 0 waits for replies until `until_ns`.

        They end an injected delay at once, even an infinite one, and reply.
        """

    @abstractmethod
    def shutdown(self, worker: int, until_ns: int = 0, flags: int = 0) -> bool:
        """Notify an idle worker, with further flags, that the run is over.

        Where workers proceed without rank 0, wait for their last tasks until `until_ns`. Return whether the
        time was too short.
        """

    def dismiss(self, worker: int, flags: int = 0) -> None:
        """Release an idle worker that has asked to leave, with further flags of its last message."""
        return

    @abstractmethod
    def close(self) -> None:
        """Free the fleet's resources, after the shutdown of all workers."""


class Computed(NamedTuple):
    """A message of a reply that is ready to be sent, with times on the worker's clock, in ns."""

    part: int  # number of the message in the reply
    loss: float  # of the mini-batch
    t_start_ns: int
    t_compute_ns: int
    delay_ns: int = 0  # injected delay; negative: without end


class Link(ABC):
    """A worker's side of the transport: it receives tasks and sends replies."""

    worker: int

    @abstractmethod
    def now_ns(self) -> int:
        """Return the time on the worker's clock, in ns."""

    @abstractmethod
    def wait(self, delay_ns: int, spin: bool) -> int:
        """Wait for an injected delay, asleep or (`spin`) keeping the core busy; a negative delay is infinite.

        Return the delay in ns; shorter if the end of the run has interrupted it.
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
    def reply(self, computed: Computed) -> None:
        """Send a message of the reply; after the last one, post the receive of the next task."""

    def repeat(self) -> None:
        """Send the last reply again (an injected fault); rank 0 refuses it."""
        raise NotImplementedError


class WrappedLink(Link):
    """Link that adds something to another one; by itself it adds nothing.

    Parameters
    ----------
    link : Link
    """

    def __init__(self, link: Link) -> None:
        self.link, self.worker = link, link.worker

    def now_ns(self) -> int:
        return self.link.now_ns()

    def wait(self, delay_ns: int, spin: bool) -> int:
        return self.link.wait(delay_ns, spin)

    def next_task(self) -> Task | None:
        return self.link.next_task()

    @property
    def flags(self) -> int:
        return self.link.flags

    def leave(self) -> None:
        self.link.leave()

    def connect(self, layouts: Sequence[Layout]) -> list[Reply]:
        return self.link.connect(layouts)

    def reply(self, computed: Computed) -> None:
        self.link.reply(computed)

    def repeat(self) -> None:
        self.link.repeat()
