"""What a run reports its rows to."""

from __future__ import annotations


class Recorder:
    """Receiver of a run's rows; this one discards them.

    The values of a row are in the order of its table in `pdcode.trace.schema`.
    """

    def arrival(self, *values: float) -> None:
        """Take a row of arrivals."""

    def update(self, *values: float) -> None:
        """Take a row of updates."""

    def progress(self, *values: float) -> None:
        """Take a row of progress."""

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Take a row of faults."""

    def due(self, now_ns: int) -> bool:
        """Whether it is time to `flush`."""
        return False

    def flush(self, now_ns: int) -> None:
        """Bring all rows to disk; `now_ns` is the time since the run's start."""
