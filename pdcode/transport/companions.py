"""Companions: what travels with workers' tasks besides θ and codewords, such as rows of another epoch.

Neither the loops nor the fleets know what it is. A `Companion` at rank 0 says at each dispatch whether
something accompanies the task; it follows the task as a message of its own, which a worker gives to its
`Recipient` before it computes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..util.stateful import Stateful


class Freight(NamedTuple):
    """What accompanies a task."""

    message: np.ndarray  # uint8, with its whole content
    sent: np.ndarray  # what follows the task over MPI: without the parts that come in other ways
    size: int  # bytes that rank 0 sends, also in other ways
    place: int = 0  # number of workers that pass parts on before this one
    exchanged: int = 0  # bytes that the worker gets from others
    opening: Any = None  # what begins with this task, for the `mpi.companions.Carrier`


class Companion(Stateful):
    """What accompanies tasks, at rank 0; by itself nothing does."""

    record: Callable[..., None] = staticmethod(lambda *values: None)  # of a row of the trace; to be set

    def freight(self, worker: int, version: int) -> Freight | None:
        """Return what accompanies a worker's next task, of a version of θ; None: nothing."""
        return None

    def lost(self, worker: int) -> None:
        """Note that a worker gets no further task."""

    def joined(self, worker: int) -> None:
        """Note that a worker has got nothing yet."""

    def restart(self) -> None:
        """Note that this holds for all workers."""


class Recipient(Stateful):
    """A worker's side; by itself it gets nothing."""

    def take(self, message: np.ndarray) -> None:
        """Use the message that has accompanied a task."""
        raise NotImplementedError
