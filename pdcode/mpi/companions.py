"""Companions over MPI: what reaches workers in other ways than with their tasks; by itself nothing does."""

from collections.abc import Sequence

import numpy as np

from ..transport.companions import Freight


class Carrier:
    """Rank 0's side; `bytes` counts what it has sent. `ranks` are the ranks of all workers."""

    bytes = 0

    def open(self, freight: Freight, ranks: Sequence[int]) -> None:
        """Begin what begins with a task."""

    def lost(self, worker: int, ranks: Sequence[int]) -> None:
        """Send what others wait for since a worker is lost."""

    def overdue(self, worker: int, ranks: Sequence[int]) -> None:
        """Send an overdue worker all that it may be waiting for."""

    def openings(self, worker: int) -> int:
        """Return the number of openings for whose content a worker waits before it ends."""
        return 0

    def complete(self) -> bool:
        """Return whether all messages have left."""
        return True


class Channel:
    """A worker's side."""

    def complete(self, message: np.ndarray) -> np.ndarray:
        """Return a message with its whole content, for which this waits."""
        return message

    def leave(self, openings: int, detached: bool) -> None:
        """Take part until the content of these openings has reached its workers."""

    def close(self) -> None:
        """End what runs beside the worker's loop; also after an error."""
