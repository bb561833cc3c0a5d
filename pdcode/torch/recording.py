"""A recorder of scripts of DistributedDataParallel (DDP): when each rank's gradient is ready, and reduced.

A rank's own work is told from its waiting: it ends when the last bucket is ready, where the wall time of the
backward pass is the same on all ranks, as it includes the wait for the slowest.

The hook takes two times a step. A thread brings them to rank 0 by the store at which the ranks have met, so
that no rank waits for another, and the script goes on without one that does not answer.
"""

import atexit
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from ..mpi import clocks
from ..trace.steps import CLOSE_S, Mail, StepRecording
from ..util.errors import InputError

EXCHANGE_S = 0.5  # between two exchanges
_recordings = Counter[str]()  # by group


class HostClock:
    """Clock of tensors on the CPU."""

    stamp = staticmethod(clocks.now_ns)

    def has_happened(self, stamp: int) -> bool:
        """Return whether the time of a stamp is known."""
        return True

    def read(self, stamp: int) -> int:
        """Return the time of a stamp in ns."""
        return stamp


class DeviceClock:
    """Clock of tensors on a device, by its events: when a hook runs, the device's work is only enqueued.

    Parameters
    ----------
    module : module
        Such as ``torch.cuda``.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._last = self.stamp()
        self._last.synchronize()
        self._last_ns = clocks.now_ns()

    def stamp(self) -> Any:
        """Return an event that happens when the work enqueued so far is done."""
        event = self._module.Event(enable_timing=True)
        event.record()
        return event

    def has_happened(self, stamp: Any) -> bool:
        """Return whether the time of an event is known, and of those before it."""
        return bool(stamp.query())

    def read(self, stamp: Any) -> int:
        """Return the time of an event in ns; events are read in their order."""
        self._last_ns += round(1e6 * self._last.elapsed_time(stamp))  # a float32 of ms: too coarse at once
        self._last = stamp
        return self._last_ns


class StoreMail(Mail):
    """Messages by the store at which the ranks of a group have met; it works with all backends."""

    def __init__(self, group: Any) -> None:
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        name = group.group_name
        _recordings[name] += 1
        place = f"pdcode/{name}/{_recordings[name]}"
        self._store = dist.PrefixStore(place, dist.distributed_c10d._get_default_store())
        self._rounds = [0] * self.ranks  # of a comparison of clocks; 0: that of rank 0
        self._count = Counter[int]()  # messages of a rank

    def meet(self) -> list[dict[str, Any]]:
        if self.rank:
            self._store.set(f"host {self.rank}", f"{clocks.host()}\n{clocks.identity()}")
            self._rounds[self.rank] = int(self._store.get(f"rounds {self.rank}"))
            return [self.clock(self.rank)]
        workers = [{"host": clocks.host(), **self.clock(0)}]
        for rank in range(1, self.ranks):
            host, _, identity = self._store.get(f"host {rank}").decode().partition("\n")
            self._rounds[rank] = clocks.ROUNDS * (identity != clocks.identity())
            self._store.set(f"rounds {rank}", str(self._rounds[rank]))
            workers.append({"host": host, **self.clock(rank)})
        return workers

    def agree(self, text: str) -> str:
        if self.rank == 0:
            self._store.set("agreed", f"={text}")
        return str(self._store.get("agreed").decode()[1:])

    def clock(self, rank: int) -> dict[str, int]:
        def take(key: str) -> bytes:
            self._store.wait([key], timedelta(seconds=CLOSE_S))
            value: bytes = self._store.get(key)
            self._store.delete_key(key)
            return value

        def exchange() -> int:
            self._store.set(f"ask {rank}", "now")
            return int(take(f"answer {rank}"))

        offset = 0, 0
        if self._rounds[rank] and self.rank == 0:
            offset = clocks.offset(exchange, self._rounds[rank])
        for _ in range(self._rounds[rank] if self.rank else 0):
            take(f"ask {rank}")
            self._store.set(f"answer {rank}", str(clocks.now_ns()))
        return dict(zip(("clock_offset_ns", "clock_error_ns"), offset, strict=True))

    def post(self, message: bytes) -> None:
        self._store.set(f"{self.rank} {self._count[self.rank]}", message)
        self._count[self.rank] += 1

    def take(self, rank: int) -> bytes | None:
        key = f"{rank} {self._count[rank]}"
        if not self._store.check([key]):
            return None
        message: bytes = self._store.get(key)
        self._store.delete_key(key)
        self._count[rank] += 1
        return message


class Recording:
    """Recording of a model's steps, by a trace at rank 0; see `record`."""

    def __init__(self, model: DistributedDataParallel, path: str) -> None:
        self._hook: Callable[[Any, Any], Any] = default_hooks.allreduce_hook
        self._state: Any = model.process_group
        if model._comm_hooks:
            self._hook, self._state = model._comm_hooks[-1]
            renew_reducer(model)
        try:
            model.register_comm_hook(None, self._reduce)
        except RuntimeError as error:
            raise InputError(f"pdcode.torch.record: {str(error).splitlines()[0]}") from None
        self._check, model.register_comm_hook = model._check_comm_hook, self._use
        trained = [each for each in model.parameters() if each.requires_grad]
        size = sum(each.nbytes for each in trained)
        attributes = {
            "parameters": sum(each.numel() for each in trained),
            "gradient_bytes": size,
            "payload_bytes": size,
            "mpi_library": f"torch {torch.__version__}, {dist.get_backend(model.process_group)}",
        }
        mail = StoreMail(model.process_group)
        self._steps = StepRecording(mail, path, "pdcode.torch.record", attributes)
        device = trained[0].device.type
        self._clock: Any = HostClock() if device == "cpu" else DeviceClock(getattr(torch, device))
        self._lock, self._ready = threading.Lock(), None
        self._buckets = self._done = 0
        self._stamps = deque[tuple[Any, Any]]()  # of steps: ready, reduced
        self._start_ns = clocks.now_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._exchange_often, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _use(self, state: Any, hook: Callable[[Any, Any], Any]) -> None:
        """Reduce by another hook, in place of `DistributedDataParallel.register_comm_hook`."""
        self._check(hook)
        self._state, self._hook = state, hook

    def _reduce(self, _: Any, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        if bucket.is_last():
            ready = self._clock.stamp()
            with self._lock:
                self._ready, self._buckets = ready, bucket.index() + 1
        return self._hook(self._state, bucket).then(self._reduced)

    def _reduced(self, future: Any) -> Any:
        with self._lock:
            self._done += 1
            if self._done == self._buckets:
                self._stamps.append((self._ready, self._clock.stamp()))
                self._done = self._buckets = 0
        return future.value()

    def _rows(self) -> list[tuple[int, int, int]]:
        """Return this rank's steps since the last call: start, ready and reduced, in ns."""
        rows = []
        while self._stamps and self._clock.has_happened(self._stamps[0][-1]):
            ready_ns, reduced_ns = map(self._clock.read, self._stamps.popleft())
            rows.append((self._start_ns, ready_ns, reduced_ns))
            self._start_ns = reduced_ns
        return rows

    def _exchange_often(self) -> None:
        with suppress(RuntimeError):  # of a store that has ended with rank 0
            while not self._ended.wait(EXCHANGE_S):
                self._steps.exchange(np.array(self._rows(), np.int64).reshape(-1, 3))

    def close(self) -> None:
        """Write the last steps and complete the trace, as the end of the process also does.

        Rank 0 waits up to 10 s for the last steps of the others.
        """
        atexit.unregister(self.close)
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            error = getattr(sys, "last_value", None)  # by which the script ends
            with suppress(RuntimeError):
                self._steps.close(
                    np.array(self._rows(), np.int64).reshape(-1, 3), repr(error) if error else ""
                )


def renew_reducer(model: DistributedDataParallel) -> None:
    """Have a model reduce by a new reducer without a hook, as it takes one only once.

    It does what `DistributedDataParallel.__setstate__` does.
    """
    parameters, sparse = model._build_params_for_reducer()
    names = model._build_debug_param_to_name_mapping(parameters)
    model._ddp_init_helper(parameters, sparse, names, model.static_graph)
    if model.static_graph:
        model.reducer._set_static_graph()
        model.logger._set_static_graph()
    model._comm_hooks.clear()


def record(model: DistributedDataParallel, path: str = "ddp.h5") -> Recording:
    """Record when each rank of a script has its gradient, and when it is reduced, in an ordinary trace.

    All ranks of the model call it, outside of a forward or backward pass.

    Parameters
    ----------
    model : DistributedDataParallel
        Or what ``torch.compile`` has made of it. The hook that it has, or that is registered later, is
        wrapped.
    path : str
        The trace, which rank 0 writes.

    Returns
    -------
    Recording
        Its `close` completes the trace, as the end of the process does.

    Raises
    ------
    InputError
        If the model is none of DDP or has a hook of C++, or rank 0 cannot write the trace.
    """
    given = getattr(model, "_orig_mod", model)
    if not isinstance(given, DistributedDataParallel):
        raise InputError(f"pdcode.torch.record: {type(given).__name__}: expected a DistributedDataParallel")
    return Recording(given, path)
