"""What happens to rank 0: events of a fleet, and of observers, in the order in which they are handled.

A `transport.base.Arrival` is the event of a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Event:
    """An event.

    Attributes
    ----------
    handler : str
        Name of the method of `training.coordinator.Coordinator` that handles it.
    """

    handler: ClassVar[str]


@dataclass(frozen=True)
class Died(Event):
    """Workers have died; what they have not sent never arrives."""

    handler = "on_died"
    workers: Sequence[int]


@dataclass(frozen=True)
class Joined(Event):
    """Workers that had died or left are back, and have nothing of what they were sent."""

    handler = "on_joined"
    workers: Sequence[int]


@dataclass(frozen=True)
class Left(Event):
    """A worker has sent its last reply, and leaves; nothing of its task is lost."""

    handler = "on_left"
    worker: int


@dataclass(frozen=True)
class Stray(Event):
    """A message has arrived that answers no task."""

    handler = "on_stray"
    worker: int
    description: str


@dataclass(frozen=True)
class Overdue(Event):
    """Workers are presumed lost, as their tasks take longer than they should."""

    handler = "on_overdue"
    workers: Sequence[int]


@dataclass(frozen=True)
class Interrupted(Event):
    """The user asks for the end of the run, by a signal."""

    handler = "on_interrupted"
    signal: int


class SaveDue(Event):
    """A checkpoint is due."""

    handler = "on_save_due"


class Timeout(Event):
    """Nothing has happened for some time."""

    handler = "on_timeout"
