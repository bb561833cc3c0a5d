"""Faults of messages. MPI is reliable: its transport repeats messages that a network loses."""

from typing import ClassVar

from ..config import Fraction, Seconds
from ..config.requirements import KeyNeeds, one_of
from ..util.rng import FAULT, uniform
from .base import Keys, ProcessFault, TaskFault


class Delay(TaskFault, tag="delay"):
    """Replies arrive later."""

    delays: ClassVar[bool] = True
    delay_s: Seconds = 0.1  #: additional time [s]

    def late_ns(self, keys: Keys) -> int:
        return round(1e9 * self.delay_s)


class Drop(TaskFault, tag="drop"):
    """Replies are lost, once each; the transport sends them again after a time-out.

    A reply is therefore late, as over TCP, but never lost for good: MPI guarantees delivery.
    """

    delays: ClassVar[bool] = True
    share: Fraction = 1.0  #: share of the replies, drawn by (seed, worker, task)
    timeout_s: Seconds = 0.2  #: time-out; TCP's minimum is 0.2 [s]

    def late_ns(self, keys: Keys) -> int:
        seed, worker, task = keys
        lost = uniform(seed, FAULT, worker, 2**33 + task) < self.share
        return round(1e9 * self.timeout_s) if lost else 0


class Duplicate(TaskFault, tag="duplicate"):
    """Replies arrive a second time, while rank 0 waits for the next one."""

    repeats: ClassVar[bool] = True
    requires: ClassVar[KeyNeeds] = {"kind": {"reduce.kind": one_of("star", why="repeats replies to rank 0")}}


class Cut(ProcessFault, tag="cut"):
    """The worker's link is cut: the worker computes on, and messages in both directions wait."""

    delays: ClassVar[bool] = True
    cuts: ClassVar[bool] = True

    for_s: Seconds | None = None  #: duration; none: to the end of the run [s]
