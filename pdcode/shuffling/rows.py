"""Messages of rows that accompany a worker's task, and what rank 0 tells those that carry rows."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

HEAD_BYTES = 32


class Kind(IntEnum):
    """Content of a message of rows."""

    ROWS = 0  #: rows that the worker lacks, in the order of their numbers
    XORS = 1  #: XORs that the worker needs
    BROADCAST = 2  #: all XORs, which every worker gets
    EXCHANGED = 3  #: rows that other workers send, by worker and number


def message(kind: Kind, base: int, epoch: int, openings: int, content: np.ndarray) -> np.ndarray:
    """Return a message of rows, uint8: 32 bytes of kind, two epochs and a number, and the content.

    `base` is the epoch whose rows the worker has, -1 if it shall get all; `openings` is the number of
    openings with the worker as a member.
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
