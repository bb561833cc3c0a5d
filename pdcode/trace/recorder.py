"""The interface that records the rows of a run."""

from __future__ import annotations

from ..kernels import intake


class Recorder:
    """Recorder of a run's rows, in the order of `pdcode.trace.schema`; this base class drops them."""

    @property
    def batches(self) -> tuple[intake.Batch | None, intake.Batch | None]:
        """Batches to which compiled code appends rows directly instead of calling `arrived` and `update`."""
        own = type(self)
        dropped = own.arrived is Recorder.arrived and own.arrival is Recorder.arrival
        rows = intake.Batch(1, intake.ROW_BYTES) if dropped else None
        return rows, intake.Batch(1, intake.UPDATE_BYTES) if own.update is Recorder.update else None

    def arrival(self, *values: float) -> None:
        """Record a row of arrivals."""

    def arrived(
        self,
        reply: intake.Received,
        applied: int,
        staleness: int,
        t_dispatch_ns: int,
        t_decoded_ns: int,
        captured: float,
        status: int,
    ) -> None:
        """Record a row of arrivals: a reply and its fate."""
        self.arrival(
            reply.worker, reply.task, reply.version, applied, reply.row, staleness, t_dispatch_ns,
            reply.t_start_ns, reply.t_compute_ns, reply.t_send_ns, reply.t_recv_ns, t_decoded_ns,
            reply.injected_delay_ns, reply.bytes_up, reply.bytes_down, captured, status, reply.loss,
            reply.round, reply.part,
        )  # fmt: skip

    def update(self, *values: float) -> None:
        """Record a row of updates."""

    def progress(self, *values: float) -> None:
        """Record a row of progress."""

    def fault(self, t_ns: int, worker: int, task: int, kind: str, message: str) -> None:
        """Record a row of faults."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows of each table on disk."""
        return {}

    def fill(self) -> None:
        """Behave as if the disk were full from now on."""

    def due(self, now_ns: int) -> bool:
        """Return whether it is time to `flush`."""
        return False

    def flush(self, now_ns: int) -> None:
        """Write all rows to disk; `now_ns` is the time since the run's start."""
