"""Benchmark of the recorders: processor time that they take of a step of 10 ms, on each rank.

    torchrun --nproc-per-node 4 -m benchmarks.recording ddp
    mpiexec -n 4 python -m benchmarks.recording mpi

A step over MPI is an exchange with both neighbours in a ring, and an Allreduce. The recorder adds the
processor time of its own functions, which other programs hardly affect: in a pass or a call, and in exchanges
with rank 0, which writes the trace.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

STEPS, STEP_S = 500, 0.01


class Timed:
    """Total processor time of functions."""

    def __init__(self) -> None:
        self.spent_ns = 0

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds its time."""

        @wraps(function)
        def timed(*args: Any, **keys: Any) -> Any:
            before = time.thread_time_ns()
            try:
                return function(*args, **keys)
            finally:
                self.spent_ns += time.thread_time_ns() - before

        return timed


def ddp(path: str, spent: Timed) -> list[int]:
    """Train by DDP; return the time of each rank's recorder in ns."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    import pdcode.torch
    from pdcode.torch.recording import Recording

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    own: Any = Recording
    for name in ("_begin", "_note_ready", "_note_reduced", "enter"):
        setattr(own, name, spent(getattr(own, name)))
    model = DistributedDataParallel(nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300)))
    recording: Any = pdcode.torch.record(model, path)
    recording._steps.exchange = spent(recording._steps.exchange)
    x = torch.randn(8, 300)
    for _ in range(STEPS):
        time.sleep(STEP_S)
        model(x).sum().backward()
    recording.close()
    times: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(times, spent.spent_ns)
    dist.destroy_process_group()
    return times


def mpi(path: str, spent: Timed) -> list[int]:
    """Take steps over MPI; return the time of each rank's recorder in ns."""
    from mpi4py import MPI

    import pdcode
    from pdcode.mpi import recording

    own: Any = recording.CallRecording
    own.enter, own.leave = spent(own.enter), spent(own.leave)
    comm = pdcode.record(MPI.COMM_WORLD, path)
    x, y, total = np.zeros(100), np.zeros(100), np.zeros(100)
    for _ in range(STEPS):
        time.sleep(STEP_S)
        requests = [comm.Irecv(y, (comm.rank - 1) % comm.size), comm.Isend(x, (comm.rank + 1) % comm.size)]
        MPI.Request.Waitall(requests)
        comm.Allreduce(x, total)
    comm.recording.end()
    return list(comm.allgather(spent.spent_ns))


def main() -> None:
    """Print the time on each rank."""
    which = {"ddp": ddp, "mpi": mpi}[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        spent = which(f"{folder}/job.h5", Timed())
    each = ", ".join(f"{1e-3 * ns / STEPS:.0f} µs" for ns in spent)
    most = 1e-9 * max(spent) / STEPS / STEP_S
    print(f"{which.__name__}: {each} a step of each rank, {100 * most:.2f} % of 10 ms at most")


if __name__ == "__main__":
    main()
