"""Messages of rows that follow a worker's task, as their sender at rank 0 and a fleet see them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from ..util.stateful import Stateful

HEAD_BYTES = 32


class Kind(IntEnum):
    """Content of a message of rows."""

    ROWS = 0  #: rows that the worker lacks, in the order of their numbers
    XORS = 1  #: XORs that the worker needs
    BROADCAST = 2  #: all XORs, which every worker gets
    EXCHANGED = 3  #: rows that other workers send, by worker and number


def message(kind: Kind, base: int, epoch: int, openings: int, content: np.ndarray) -> np.ndarray:
    """Return a message of rows, uint8: 32 bytes of kind, two epochs and a number, and the content.

    `base` is the epoch whose rows the worker has, -1 if it shall get all; `openings` as for `RowSender`.
    """
    head = np.array([kind, base, epoch, openings], np.int64)
    return np.concatenate([head.view(np.uint8), content.reshape(-1)])


def read(rows: np.ndarray) -> tuple[Kind, int, int, int, np.ndarray]:
    """Return kind, base, epoch, openings and content of a message of rows."""
    kind, base, epoch, openings = rows[:HEAD_BYTES].view(np.int64).tolist()
    return Kind(kind), base, epoch, openings, rows[HEAD_BYTES:]


class Opening(NamedTuple):
    """Begin of an epoch whose rows do not come with tasks."""

    base: int  # the epoch before
    epoch: int
    members: Sequence[int]  # workers that take part, the fastest first
    content: np.ndarray | None  # what all of them get from rank 0; None: they send rows to each other


class Missing(NamedTuple):
    """What workers may wait for in vain, of the last openings."""

    broadcasts: Sequence[Opening]  # with these workers
    rows: Sequence[tuple[int, int, int, np.ndarray]]  # receiver, epoch, sender, and its rows, uint8


class Rows(NamedTuple):
    """Rows for a worker's task."""

    message: np.ndarray  # uint8, with its whole content
    # What is sent after the task: without the content of a broadcast, and the rows from other workers.
    sent: np.ndarray
    size: int  # bytes that rank 0 sends, with those of a broadcast for the first task of an epoch
    place: int  # number of workers that pass on a broadcast before this one
    exchanged: int  # bytes that the worker gets from others
    opening: Opening | None  # of the first task of an epoch


class RowSender(Stateful, ABC):
    """Sender of rows at rank 0."""

    @abstractmethod
    def rows(self, worker: int, version: int) -> Rows | None:
        """Return the rows for a worker's next task, of a version of θ; None if the worker has its rows."""

    @abstractmethod
    def members(self, worker: int) -> int:
        """Return the number of openings of which a worker has been a member."""

    @abstractmethod
    def lost(self, worker: int) -> None:
        """Note that a worker gets no further task."""

    @abstractmethod
    def joined(self, worker: int) -> None:
        """Note that a worker has no rows but its first ones."""

    @abstractmethod
    def restart(self) -> None:
        """Note that this holds for all workers."""

    @abstractmethod
    def missing(self, lost: int) -> Missing:
        """Return what workers may wait for since one is lost."""

    @abstractmethod
    def awaited(self, worker: int) -> Missing:
        """Return all that a worker may wait for."""
