"""Events: what happens to rank 0, reported by a fleet or an observer and handled in this order.

A `transport.base.Arrival` is the event of a reply.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Event:
    """Event; `handler` is the name of the method of `training.coordinator.Coordinator` that handles it."""

    handler: ClassVar[str]


@dataclass(frozen=True)
class Died(Event):
    """Workers have died; replies that they have not sent never arrive."""

    handler = "on_died"
    workers: Sequence[int]


@dataclass(frozen=True)
class Joined(Event):
    """Workers that had died or left are back, without anything that was sent to them before."""

    handler = "on_joined"
    workers: Sequence[int]


@dataclass(frozen=True)
class Left(Event):
    """A worker leaves with the reply that is being handled; nothing of its task is lost."""

    handler = "on_left"
    worker: int


@dataclass(frozen=True)
class Stray(Event):
    """A message that answers no task."""

    handler = "on_stray"
    worker: int
    description: str


@dataclass(frozen=True)
class Overdue(Event):
    """Workers are presumed lost: their tasks take too long."""

    handler = "on_overdue"
    workers: Sequence[int]


@dataclass(frozen=True)
class Interrupted(Event):
    """A signal asks for the end of the run."""

    handler = "on_interrupted"
    signal: int


class SaveDue(Event):
    """A checkpoint is due."""

    handler = "on_save_due"


class Timeout(Event):
    """Nothing has happened for some time."""

    handler = "on_timeout"
