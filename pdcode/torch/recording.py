"""A recorder of scripts of DistributedDataParallel (DDP): when each rank's gradient is ready, and reduced.

A rank's own work is told from its waiting: it ends when its backward pass has computed the gradient, where
the wall time of the pass is the same on all ranks, as it includes the wait for the slowest. At the end of a
pass autograd calls what has been enqueued meanwhile: first the recorder, which notes that the gradient is
ready; then DDP, which waits for the reductions, whatever its communication hook; then the recorder again.
A rank's own work is divided into phases, which begin where it waits for its data loader, and with passes.

A thread brings the times to rank 0 by the store at which the ranks have met, so that no rank waits for
another, and the script goes on without one that does not answer.
"""

import atexit
import functools
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
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, dataloader

from ..trace.steps import CLOSE_S, Mail, StepRecording
from ..util import clocks
from ..util.errors import InputError

EXCHANGE_S = 1.0  # between two exchanges
LOADING, FORWARD, BACKWARD, BETWEEN, READY = range(5)  # phases; in the last, gradients are reduced
_recordings = Counter[str]()  # by group
_active = list["Recording"]()  # recordings that are told the phase


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
        """Return whether the times of an event and of all earlier ones are known."""
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
        self._rounds = [0] * self.ranks  # of a comparison of clocks; 0: rank 0's clock
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


class PhasedSteps(StepRecording):
    """Recording of steps with their phases."""

    columns = step_columns = 3 + BETWEEN


def _tell(holder: Any, name: str, phase: int, after: int) -> None:
    """Replace a function by one that says when a phase begins, and which one follows."""
    function = getattr(holder, name)
    if hasattr(function, "_tells"):
        return

    @functools.wraps(function)
    def told(*args: Any, **keys: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **keys)
        inside = [each for each in _active if each.enter(phase)]
        try:
            return function(*args, **keys)
        finally:
            for each in inside:
                each.enter(after)

    told._tells = True  # type: ignore[attr-defined]
    setattr(holder, name, told)


class Recording:
    """Recording of a model's steps, by a trace at rank 0; see `record`."""

    def __init__(self, model: DistributedDataParallel, path: str) -> None:
        trained = [each for each in model.parameters() if each.requires_grad]
        size = sum(each.nbytes for each in trained)
        attributes = {
            "parameters": sum(each.numel() for each in trained),
            "gradient_bytes": size,
            "payload_bytes": size,
            "mpi_library": f"torch {torch.__version__}, {dist.get_backend(model.process_group)}",
        }
        mail = StoreMail(model.process_group)
        self._steps = PhasedSteps(mail, path, "pdcode.torch.record", attributes)
        device = trained[0].device.type
        self._clock: Any = HostClock() if device == "cpu" else DeviceClock(getattr(torch, device))
        self._model, self._pass = model, -1
        self._thread_id, self._phase = threading.get_ident(), BETWEEN
        self._marks = deque[tuple[int, Any]]()  # phases and when they begin
        self._start_ns = self._since_ns = clocks.now_ns()
        self._in, self._spent_ns = BETWEEN, [0] * (READY + 1)  # up to the last mark that was read
        _tell(DataLoader, "__iter__", LOADING, BETWEEN)  # which starts workers
        _tell(dataloader._BaseDataLoaderIter, "__next__", LOADING, BETWEEN)
        _tell(DistributedDataParallel, "forward", FORWARD, FORWARD)  # the loss follows
        _tell(torch.autograd, "backward", BACKWARD, BETWEEN)
        _active.append(self)
        self._ended = threading.Event()
        # Each pass that DDP reduces has all gradients, unless it looks for missing ones.
        some = model.find_unused_parameters or model.static_graph
        for parameter in trained if some else trained[-1:]:
            parameter.register_post_accumulate_grad_hook(self._begin)
        self._thread = threading.Thread(target=self._exchange_often, daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _begin(self, _: torch.Tensor) -> None:
        """Enqueue the recorder in a pass before DDP."""
        if self._model.require_backward_grad_sync and not self._ended.is_set():
            number = torch._C._current_graph_task_id()
            if number != self._pass:
                self._pass = number
                self._enqueue(self._note_ready)

    @staticmethod
    def _enqueue(function: Callable[[], None]) -> None:
        torch.autograd.Variable._execution_engine.queue_callback(function)

    def _note_ready(self) -> None:
        self._mark(READY)
        self._enqueue(self._note_reduced)

    def _note_reduced(self) -> None:
        self._mark(BETWEEN)

    def _mark(self, phase: int) -> None:
        self._marks.append((phase, self._clock.stamp()))
        self._phase = phase

    def enter(self, phase: int) -> bool:
        """Note that a phase begins, if it does: it may be under way, and other threads have none."""
        begins = self._phase not in (phase, READY) and threading.get_ident() == self._thread_id
        if begins:
            self._mark(phase)
        return begins

    def _rows(self) -> np.ndarray:
        """Return this rank's steps since the last call: start, ready, reduced, and phases, in ns."""
        rows, spent_ns = [], self._spent_ns
        while self._marks and self._clock.has_happened(self._marks[0][1]):
            phase, stamp = self._marks.popleft()
            now_ns = max(self._since_ns, self._clock.read(stamp))  # streams of a device are apart
            spent_ns[self._in] += now_ns - self._since_ns
            if (self._in, phase) == (READY, BETWEEN):
                rows.append((self._start_ns, self._since_ns, now_ns, *spent_ns[:BETWEEN]))
                self._start_ns, spent_ns[:] = now_ns, [0] * len(spent_ns)
            self._in, self._since_ns = phase, now_ns
        return np.array(rows, np.int64).reshape(-1, PhasedSteps.columns)

    def _exchange_often(self) -> None:
        with suppress(RuntimeError):  # of a store that has ended with rank 0
            while not self._ended.wait(EXCHANGE_S):
                self._steps.exchange(self._rows())

    def close(self) -> None:
        """Write the last steps and complete the trace, as the end of the process also does.

        Rank 0 waits up to 10 s for the last steps of the others.
        """
        atexit.unregister(self.close)
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            _active.remove(self)
            error = getattr(sys, "last_value", None)  # by which the script ends
            with suppress(RuntimeError):
                self._steps.close(self._rows(), repr(error) if error else "")


def record(model: DistributedDataParallel, path: str = "ddp.h5") -> Recording:
    """Record when each rank of a script has its gradient, and when it is reduced, in an ordinary trace.

    All ranks of the model call it.

    Parameters
    ----------
    model : DistributedDataParallel
        Or what ``torch.compile`` has made of it; with any communication hook.
    path : str
        The trace, which rank 0 writes.

    Returns
    -------
    Recording
        Its `close` completes the trace, as the end of the process does.

    Raises
    ------
    InputError
        If the model is none of DDP, or rank 0 cannot write the trace.
    """
    given = getattr(model, "_orig_mod", model)
    if not isinstance(given, DistributedDataParallel):
        raise InputError(f"pdcode.torch.record: {type(given).__name__}: expected a DistributedDataParallel")
    return Recording(given, path)
