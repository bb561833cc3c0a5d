"""The process group ``pdcode:gloo``: gloo with the injected delays, the link and the faults of a TOML file.

A script imports this module and calls ``init_process_group("pdcode:gloo")``; the environment variable
``PDCODE_JOB`` names the file. An unchanged script, which says ``"gloo"``, is started by::

    torchrun --nproc-per-node 4 -m pdcode.torch.gloo JOB.toml SCRIPT ARGUMENTS

Rank i is worker i. A task ends with a step of a `torch.optim` optimizer, and its payload is what the rank
sends first: the delay of ``[stragglers]`` comes before that. Delays and faults are keyed by (seed, worker,
task), and therefore the same in each run. Collective operations take at least the time that ``[link]`` gives
them, one after another.
"""

import os
import runpy
import sys
import time
from collections.abc import Callable
from math import ceil, log2
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch.distributed as dist
from torch import Tensor, device
from torch.futures import Future
from torch.optim.optimizer import register_optimizer_step_post_hook

from .. import faults
from ..config import Config
from ..config import load as configfile
from ..faults import ActiveFaults, ProcessFault
from ..faults.link import FaultyLink
from ..faults.messages import Delay, Drop
from ..faults.tasks import Raise, Slow
from ..session.links import DelayedLink
from ..stragglers import WorkerDelays
from ..transport.base import Computed, Link
from ..util.errors import InputError, not_a_file, prefix_errors
from ..util.output import print_error

NAME, VARIABLE = "pdcode:gloo", "PDCODE_JOB"
NAP_NS = 10**9  # longest sleep at a time
SUMS = "allreduce", "allreduce_coalesced"
WHOLE = "broadcast", "reduce", "send", "recv", "recv_anysource"
PARTS = (
    *("allgather", "_allgather_base", "allgather_coalesced", "allgather_into_tensor_coalesced", "gather"),
    *("reduce_scatter", "_reduce_scatter_base", "reduce_scatter_tensor_coalesced", "scatter"),
    *("alltoall", "alltoall_base", "all_gather_single", "all_gather_single_coalesced", "all_to_all_single"),
    *("reduce_scatter_single", "reduce_scatter_single_coalesced"),
)
OPERATIONS = *SUMS, *WHOLE, *PARTS, "barrier"
"""Operations of this and of newer versions of PyTorch; a rank has an n-th of the bytes of `PARTS` already."""
UNDELAYED = "broadcast", "barrier"
"""Operations at which no task ends, as they have no payload of a rank's own."""


class Steps(Link):
    """Link of a rank of a script, without messages: its tasks end with steps of its optimizers.

    `delays_ns` has the injected delay of each task.
    """

    def __init__(self, worker: int) -> None:
        self.worker, self.delays_ns = worker, list[int]()
        self._task, self._start_ns = -1, time.perf_counter_ns()

    def now_ns(self) -> int:
        return time.perf_counter_ns() - self._start_ns

    def wait(self, delay_ns: int, spin: bool) -> int:
        end_ns = time.perf_counter_ns() + delay_ns
        while delay_ns < 0 or time.perf_counter_ns() < end_ns:
            if delay_ns < 0 or not spin:
                left_ns = NAP_NS if delay_ns < 0 else end_ns - time.perf_counter_ns()
                time.sleep(1e-9 * max(0, min(left_ns, NAP_NS)))
        return delay_ns

    def next_task(self) -> Any:
        self._task += 1
        return SimpleNamespace(task=self._task, version=self._task, round=0, sent_ns=[self.now_ns()])

    @property
    def flags(self) -> int:
        return 0

    def connect(self, layouts: Any) -> list[Any]:
        raise NotImplementedError

    def reply(self, computed: Computed) -> None:
        self.delays_ns.append(computed.delay_ns)


def load(path: str, rank: int, ranks: int) -> tuple[Config, list[Any]]:
    """Load the configuration of `ranks`, and the faults of a rank."""
    config, _ = configfile.load(path, [f"workers.count={ranks}"])
    events = faults.of_worker(config, rank)
    with prefix_errors(path):
        for event in (*config.faults.events, *events):
            fits = isinstance(event, ProcessFault) and not event.joins
            if not fits and not isinstance(event, Slow | Raise | Delay | Drop):
                raise InputError(f"faults.events: kind '{event.kind}': not one of process groups")
    return config, events


class Injection:
    """Injected delays, faults and link of a rank of `ranks`, from the TOML file at `path`.

    `close` ends the counting of tasks.
    """

    def __init__(self, path: str, rank: int, ranks: int) -> None:
        config, events = load(path, rank, ranks)
        self._worker, self._active, self._link = rank, ActiveFaults(events), config.link
        self.steps = Steps(rank)
        faulty = FaultyLink(self.steps, config.seed, rank, events) if events else self.steps
        self._outer = DelayedLink(faulty, WorkerDelays(config.stragglers.make(config.seed, ranks), rank))
        self._ranks, self._free_ns = ranks, 0  # time from which on the link is free
        self._begin()
        self.close = register_optimizer_step_post_hook(lambda *_: self._begin()).remove

    def _begin(self) -> None:
        """Begin a task."""
        task: Any = self._outer.next_task()
        self._task, self._replied = task, False
        self._start_ns = self.steps.now_ns()
        for fault in self._active.at(self._task.task, self._task.sent_ns[0]):
            fault.begin(self._worker, self._task.task)

    def reply(self) -> None:
        """Wait for the delays of a task, if this is its first payload."""
        if self._replied:
            return
        self._replied, now_ns = True, self.steps.now_ns()
        active = self._active.at(self._task.task, self._task.sent_ns[0])
        time.sleep(1e-9 * sum(fault.slower_ns(now_ns - self._start_ns) for fault in active))
        self._outer.reply(Computed(0, 0.0, self._start_ns, self.steps.now_ns()))

    def end_ns(self, name: str, size: int) -> int:
        """Return the earliest end of an operation on `size` bytes that starts now, on `steps`' clock."""
        ranks, link = self._ranks, self._link
        rounds = 2 if name in SUMS else 1
        share = 1.0 if name in WHOLE else rounds * (ranks - 1) / ranks
        hops = 1 if name in WHOLE[2:] else rounds * ceil(log2(ranks))
        took_s = hops * link.latency_s + share * (1 + link.half_duplex) * size / link.bandwidth
        self._free_ns = max(self._free_ns, self.steps.now_ns()) + round(1e9 * took_s)
        return self._free_ns


class LateWork(dist.Work):
    """Work that is done when an operation is, but not before `end_ns`, on the clock of `steps`."""

    _pending: ClassVar[set["LateWork"]] = set()  # DDP holds a work, but older versions not its methods

    def __init__(self, work: dist.Work, steps: Steps, end_ns: int) -> None:
        super().__init__()
        self._work, self._steps, self._end_ns = work, steps, end_ns
        self._pending.add(self)

    def _wait(self) -> None:
        self._steps.wait(max(0, self._end_ns - self._steps.now_ns()), False)
        self._pending.discard(self)

    def wait(self, *timeout: Any) -> bool:
        done = self._work.wait(*timeout)
        self._wait()
        return done

    def is_completed(self) -> bool:
        done = self._work.is_completed() and self._steps.now_ns() >= self._end_ns
        if done:
            self._pending.discard(self)
        return done

    def get_future(self) -> Future:
        def late(done: Future) -> Any:
            self._wait()
            return done.value()

        return self._work.get_future().then(late)


class Group(dist.ProcessGroup):
    """Process group of gloo whose operations wait for injected delays, and take the time of a link."""

    def __init__(self, store: dist.Store, rank: int, size: int, timeout: Any, injection: Injection) -> None:
        if old := hasattr(dist.ProcessGroup, "Options"):  # before version 2.6
            options = dist.ProcessGroup.Options("gloo")
            super().__init__(store, rank, size, options)
            self._gloo = dist.ProcessGroup(store, rank, size, options)
        else:
            super().__init__(rank, size)
            self._gloo = dist.ProcessGroup(store, rank, size)
        self._injection = injection
        gloo, kind = dist.ProcessGroupGloo(store, rank, size, timeout), dist.ProcessGroup.BackendType.GLOO
        for group in (self, self._gloo):
            if not old:
                group._set_default_backend(kind)
            group._register_backend(device("cpu"), kind, gloo)

    def getBackendName(self) -> str:  # noqa: N802  PyTorch's name
        return NAME

    def carry(self, name: str, *args: Any, **kwargs: Any) -> dist.Work:
        """Start an operation of gloo."""
        if name not in UNDELAYED:
            self._injection.reply()
        end_ns = self._injection.end_ns(name, max(map(_bytes, args), default=0))
        return LateWork(getattr(self._gloo, name)(*args, **kwargs), self._injection.steps, end_ns)


def _bytes(value: Any) -> int:
    """Return the bytes of tensors in nested lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_bytes, value)) if isinstance(value, list) else 0


def _operation(name: str) -> Callable[..., dist.Work]:
    return lambda self, *args, **kwargs: self.carry(name, *args, **kwargs)


for each in OPERATIONS:
    if hasattr(dist.ProcessGroup, each):
        setattr(Group, each, _operation(each))

injections: list[Injection] = []
"""The injection of this process, once its first group has been made."""


def create(store: dist.Store, rank: int, size: int, timeout: Any) -> Group:
    """Create a group; the first one, of all ranks, determines the number of this rank's worker."""
    if not injections:
        if not (path := os.environ.get(VARIABLE)):
            raise InputError(f"{VARIABLE}: not set: a TOML file with [stragglers], [link] or [faults]")
        injections.append(Injection(path, rank, size))
    return Group(store, rank, size, timeout, injections[0])


if __name__ != "__main__":  # the program imports this file under its own name, too
    dist.Backend.register_backend(NAME, create, devices=["cpu"])


def main(arguments: list[str]) -> None:
    """Run a script; its process groups of gloo, or of no named backend, are groups of this module."""
    if len(arguments) < 2:
        raise SystemExit(
            "usage: python -m pdcode.torch.gloo JOB.toml SCRIPT [ARGUMENTS]\n"
            "example: torchrun --nproc-per-node 4 -m pdcode.torch.gloo jobs/digits.toml train.py"
        )
    from pdcode.torch import gloo  # this file under its own name, not the program's

    try:
        if os.environ.keys() >= {"RANK", "WORLD_SIZE"}:  # otherwise only the script knows the number of ranks
            load(arguments[0], int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        if problem := not_a_file(arguments[1]):
            raise InputError(f"{arguments[1]}: {problem}")
    except InputError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print_error(str(error))
        else:
            time.sleep(60)  # torchrun ends this rank once the first one has printed the error
        raise SystemExit(2) from None
    os.environ[VARIABLE], sys.argv = arguments[0], arguments[1:]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(arguments[1]).resolve().parent)  # as python does
    init = dist.init_process_group

    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> None:
        init(gloo.NAME if backend in (None, "gloo", "cpu:gloo") else backend, *args, **kwargs)

    dist.init_process_group = init_process_group
    runpy.run_path(arguments[1], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
