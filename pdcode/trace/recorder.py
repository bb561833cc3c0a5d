"""The interface that records the rows of a run."""

from __future__ import annotations


class Recorder:
    """Recorder of a run's rows; this base class discards them.

    The values of a row are in the order of `pdcode.trace.schema`.
    """

    def arrival(self, *values: float) -> None:
        """Record a row of arrivals."""

    def update(self, *values: float) -> None:
        """Record a row of updates."""

    def progress(self, *values: float) -> None:
        """Record a row of progress."""

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Record a row of faults."""

    def due(self, now_ns: int) -> bool:
        """Return whether it is time to `flush`."""
        return False

    def flush(self, now_ns: int) -> None:
        """Write all rows to disk; `now_ns` is the time since the run's start."""
