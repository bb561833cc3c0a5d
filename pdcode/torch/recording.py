"""A recorder of scripts of DistributedDataParallel (DDP): when each rank's gradient is ready, and reduced.

A rank's own work is told from its waiting: it ends when the last bucket is ready, where the wall time of the
backward pass is the same on all ranks, as it includes the wait for the slowest.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from ..trace.steps import StepWriter
from ..util.errors import InputError

EVERY = 20  # steps after which rank 0 gets the rows of all ranks and writes them


class Recording:
    """Recording of a model's steps in a trace, at rank 0; see `record`.

    `close` writes the last steps and completes the trace; all ranks call it, before the group is destroyed.
    """

    def __init__(self, model: DistributedDataParallel, path: str) -> None:
        if model._comm_hooks:
            raise InputError("pdcode.torch.record: the model has a hook: record it before it gets one")
        self._group, self._lock = model.process_group, threading.Lock()
        self._rank, self._ranks = dist.get_rank(self._group), dist.get_world_size(self._group)
        self._hook: Callable[[Any, Any], Any] = default_hooks.allreduce_hook
        self._state: Any = self._group
        self._ready_ns = self._buckets = self._done = 0
        self._rows: list[tuple[int, int, int]] = []  # of a step: start, ready, reduced
        hosts: list[Any] = [None] * self._ranks
        dist.all_gather_object(hosts, socket.gethostname(), self._group)
        trained = [each for each in model.parameters() if each.requires_grad]
        size, count = sum(each.nbytes for each in trained), sum(map(torch.numel, trained))
        sizes, workers = (
            {"parameters": count, "gradient_bytes": size, "payload_bytes": size},
            [{"host": host} for host in hosts],
        )
        source = f"torch {torch.__version__}, {dist.get_backend(self._group)}"
        self._trace = StepWriter(path, source, workers, sizes) if self._rank == 0 else None
        model.register_comm_hook(None, self._reduce)
        model.register_comm_hook = self._use
        zero, self._elsewhere = torch.tensor([time.monotonic_ns()]), np.array(hosts) != hosts[0]
        dist.broadcast(zero, dist.get_global_rank(self._group, 0), self._group)
        self._zero_ns = time.monotonic_ns() if self._elsewhere[self._rank] else int(zero)
        self._start_ns = time.monotonic_ns()

    def _use(self, state: Any, hook: Callable[[Any, Any], Any]) -> None:
        """Reduce by another hook, in place of `DistributedDataParallel.register_comm_hook`."""
        self._state, self._hook = state, hook

    def _reduce(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        now_ns = time.monotonic_ns()
        if bucket.index() == 0 and len(self._rows) >= EVERY:
            self._collect()
        if bucket.is_last():
            with self._lock:
                self._ready_ns, self._buckets = now_ns, bucket.index() + 1
        future = self._hook(self._state, bucket)
        return future.then(self._reduced)

    def _reduced(self, future: Any) -> Any:
        now_ns = time.monotonic_ns()
        with self._lock:
            self._done += 1
            if self._done == self._buckets:
                self._rows.append((self._start_ns, self._ready_ns, now_ns))
                self._start_ns, self._done, self._buckets = now_ns, 0, 0
        return future.value()

    def _collect(self) -> None:
        """Collect the rows of all ranks; write them at rank 0."""
        own = torch.tensor(self._rows, dtype=torch.int64) - self._zero_ns
        gathered = [torch.empty_like(own) for _ in range(self._ranks)]
        dist.all_gather(gathered, own, group=self._group)
        self._rows = []
        if self._trace is None:
            return
        times = torch.stack(gathered, 1).numpy()  # steps, ranks, (start, ready, reduced)
        # Reductions end on all ranks at about the same time, by which the clocks of other hosts are set.
        late = np.median(times[:, :, 2] - times[:, :1, 2], axis=0).astype(np.int64)
        times -= np.where(self._elsewhere, late, 0)[:, None]
        self._trace.write(times)

    def close(self) -> None:
        """Write the last steps and complete the trace; called on all ranks."""
        if self._rows:
            self._collect()
        if self._trace is not None:
            self._trace.close()
            self._trace = None


def record(model: DistributedDataParallel, path: str = "ddp.h5") -> Recording:
    """Record when each rank of a script has its gradient, and when it is reduced, in an ordinary trace.

    Parameters
    ----------
    model : DistributedDataParallel
        A hook that is registered after this call is wrapped.
    path : str
        The trace, which rank 0 writes every 20 steps.

    Returns
    -------
    Recording
        Its `close` writes the last steps.

    Raises
    ------
    InputError
        If the model has a hook already.
    """
    return Recording(model, path)
