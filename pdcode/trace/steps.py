"""Writing of traces of jobs that are not pdcode's: steps of ranks, each with its work and its waiting."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .schema import ENOUGH, USED
from .writer import TraceWriter


class StepWriter:
    """Writer of a trace of steps at whose end ranks wait for each other; worker i is rank i.

    A rank's work is the time from `t_start_ns` to `t_send_ns`; until `t_recv_ns` the operation takes that all
    ranks wait for, and from then to the next task the rank waits for others.

    Parameters
    ----------
    path : str or Path
        The file, see `TraceWriter`.
    recorder : str
        What has recorded the job.
    workers : sequence of dict
        One per rank: host and, if its clock is not that of rank 0, clock_offset_ns and clock_error_ns.
    attributes : dict
        Other root attributes that are known.
    reduction : {"allreduce", "star"}
        With "star" each rank has a link of its own, from `t_send_ns` to `t_recv_ns`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        recorder: str,
        workers: Sequence[Mapping[str, Any]],
        attributes: Mapping[str, Any],
        reduction: str = "allreduce",
    ) -> None:
        self.steps, self._end_ns, self._own = 0, 0, reduction == "star"
        config = {"reduce": {"kind": reduction}, "workers": {"count": len(workers)}}  # others are unknown
        known = {"parameters": 0, "gradient_bytes": 0, "payload_bytes": 0, **attributes}
        metadata = {
            "config": config, "recorder": recorder, "seed": 0, "workers": len(workers), "header_bytes": 0,
            **known,
        }  # fmt: skip
        clocks = {"clock_offset_ns": 0, "clock_error_ns": 0}
        members = [{"rank": 1 + rank, **clocks, **each} for rank, each in enumerate(workers)]
        self._size = int(known["payload_bytes"])
        self._trace = TraceWriter(path, "", [], metadata, members)
        self.notice = self._trace.renamed

    def write(self, times_ns: np.ndarray) -> None:
        """Write steps.

        Parameters
        ----------
        times_ns : array_like of int64, shape (steps, n, 3)
            When each rank began the step, was ready to wait for others, and went on, on rank 0's clock.
            A rank without a row has -1 in all three.
        """
        for step, times in enumerate(np.asarray(times_ns), self.steps):
            there = np.flatnonzero((times != -1).any(axis=1))
            if not len(there):
                continue
            start, ready, end = times[there].T
            # The last to be ready waits for none: the least time from ready to the end is the operation's.
            received = end if self._own else np.maximum(0, ready + max(0, int((end - ready).min())))
            rows = zip(there.tolist(), start.tolist(), ready.tolist(), received.tolist(), strict=True)
            for rank, began, computed, t_ns in rows:
                self._trace.arrival(
                    rank, step, step, step + 1, 0, 0, max(0, began), began, computed, computed, t_ns, t_ns,
                    0, self._size, self._size, 1.0, USED, np.nan, 0, 0,
                )  # fmt: skip
            self._end_ns = max(self._end_ns, int(end.max()), int(received.max()))
            work = ready - start  # of each rank's own clock
            waited_ns = int(np.diff(np.sort(work))[-1:].sum())
            last = int(there[work.argmax()])
            self._trace.update(step + 1, self._end_ns, len(there), 1.0, 0.0, 0, last, waited_ns, ENOUGH)
        self.steps += len(times_ns)
        if self._trace.due(self._end_ns):
            self._trace.flush(self._end_ns)

    def fault(self, worker: int, kind: str, message: str, t_ns: int | None = None) -> None:
        """Record a fault: a "missing" or "dead" worker, or an "exception" by which the job failed."""
        self._trace.fault(self._end_ns if t_ns is None else t_ns, worker, -1, kind, message)

    def close(self, end_offsets: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Complete the trace; `end_offsets` are the clocks of all ranks at the end, see `TraceWriter`."""
        self._trace.close(end_offsets=end_offsets, counters={"t_stop_ns": self._end_ns})
