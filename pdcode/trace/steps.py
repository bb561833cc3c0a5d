"""Traces of jobs that are not pdcode's: workers × steps × (own work, wait, link)."""

import os
from collections.abc import Sequence

import numpy as np

from .schema import ENOUGH, USED
from .writer import TraceWriter


class StepWriter:
    """Writer of the trace of a job whose workers wait for each other at each step.

    Parameters
    ----------
    path : str or Path
    hosts : sequence of str
        Host name of each worker; workers are numbered in this order.
    source : str
        What the times come from, such as "torch 2.13, gloo".
    parameters, gradient_bytes : int
        Size of the model; 0: unknown.
    reduction : {"allreduce", "star"}
        What follows a worker's own work. "allreduce": a wait for the others, then a link that all share.
        "star": its own link, then the wait.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        hosts: Sequence[str],
        source: str,
        parameters: int = 0,
        gradient_bytes: int = 0,
        reduction: str = "allreduce",
    ) -> None:
        config = {"reduce": {"kind": reduction}, "workers": {"count": len(hosts)}}  # others are unknown
        metadata = {
            "config": config, "seed": 0, "workers": len(hosts), "parameters": parameters,
            "gradient_bytes": gradient_bytes, "payload_bytes": gradient_bytes, "header_bytes": 0,
            "mpi_library": source,
        }  # fmt: skip
        members = [
            {"rank": rank, "host": host, "clock_offset_ns": 0, "clock_error_ns": 0}
            for rank, host in enumerate(hosts, 1)
        ]
        self.trace = TraceWriter(path, "", [], metadata, members)
        self._bytes, self._step = gradient_bytes, 0

    def write(
        self, start_ns: np.ndarray, ready_ns: np.ndarray, end_ns: np.ndarray, present: object = True
    ) -> None:
        """Write steps: when each worker began, had its own work done, and had the sum.

        Parameters
        ----------
        start_ns, ready_ns, end_ns : ndarray of int64, shape (steps, workers)
            Times in ns since the start of the job, later in each step than in the step before.
        present : ndarray of bool, shape (steps, workers), optional
            Which workers take part in each step; at least one does.
        """
        there = np.broadcast_to(np.asarray(present), start_ns.shape)
        end_ns = np.maximum(0, np.maximum(ready_ns, end_ns))
        done_ns = np.where(there, end_ns, 0).max(axis=1)
        step, worker = np.nonzero(there)
        numbers = self._step + step
        ready = ready_ns[there]
        self.trace.extend("arrivals", len(step), {
            "worker": worker, "task": numbers, "version": numbers, "applied_version": numbers + 1,
            "code_row": 0, "staleness": 0, "t_dispatch_ns": np.maximum(0, start_ns[there]),
            "t_start_ns": start_ns[there], "t_compute_ns": ready, "t_send_ns": ready,
            "t_recv_ns": end_ns[there], "t_decoded_ns": done_ns[step], "injected_delay_ns": 0,
            "bytes_up": self._bytes, "bytes_down": self._bytes, "captured": 1.0, "status": USED,
            "loss": np.nan,
        })  # fmt: skip
        least = np.iinfo(np.int64).min
        ranked = np.sort(np.where(there, ready_ns, least), axis=1)
        second = ranked[:, -2] if ranked.shape[1] > 1 else ranked[:, -1]
        waited = np.where(second == least, 0, ranked[:, -1] - second)
        self.trace.extend("updates", len(done_ns), {
            "version": self._step + 1 + np.arange(len(done_ns)), "t_ns": done_ns, "n_used": there.sum(axis=1),
            "captured": 1.0, "step_norm": 0.0, "digest": 0,
            "waited_for": np.where(there, ready_ns, least).argmax(axis=1), "waited_ns": waited, "why": ENOUGH,
        })  # fmt: skip
        self._step += len(done_ns)
        if len(done_ns) and self.trace.due(int(done_ns[-1])):
            self.trace.flush(int(done_ns[-1]))

    def close(self) -> None:
        """Complete the trace."""
        self.trace.close()
