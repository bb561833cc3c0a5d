"""Owners: workers that average a range of elements of all rounded payloads, and round the mean again.

With ``memory.kind = "worker"`` an owner adds what its rounding has left out to the next mean, as workers do
with gradients: error feedback at both ends (Tang, Yu, Lian, Zhang and Liu, "DoubleSqueeze", ICML 2019; with
such an all-reduce: Tang et al., "1-bit Adam", ICML 2021). Payloads are added in the order of the workers, so
that a replay gets the same bits.

If an update adds up the first q payloads, there are q ranges, and its *members*, the workers with these
payloads, own a range each. A worker has a memory for every range that it has owned: a residual in several
parts is still error feedback.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, cycle
from typing import Any

import numpy as np

from ..coding.memory import MemoryEncoder
from ..coding.source import Source
from ..config import Config
from ..kernels import decode
from ..transport.layout import HEADER, Codewords, Layout, buffer
from ..transport.messages import Reply, Task
from ..transport.sums import owned_fields
from ..transport.units import Unit
from ..util.errors import InputError
from ..util.stateful import Stateful


class MeanPayload(Source):
    """The mean of payloads, each a linear combination of blocks, as a vector of the range's size."""

    def __init__(self, size: int, dtype: np.dtype, payloads: int) -> None:
        self.gradient, self.payloads = np.zeros(size, dtype), payloads

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        self.gradient *= self.gradient.dtype.type(1 / self.payloads)
        return 0.0


class Owner(Stateful):
    """Owner of range number `worker` of the elements: worker `worker`'s part in the messages of `layout`.

    Attributes
    ----------
    fields : slice
        Numbers of the units of `layout` that it owns; there may be none.
    received : Reply
        Buffer for its segment of a worker's payload.
    """

    state_names = ("_encoders",)

    def __init__(self, config: Config, layout: Layout, worker: int) -> None:
        workers = config.workers.count
        self.fields = own = owned_fields(layout, config.reduction.owners)[worker]
        self._keys = config.seed, workers + worker  # other keys than the workers' own rounding has
        self._encoders: list[MemoryEncoder] = []
        if own.start == own.stop:
            return
        start = layout.units[own.start].offset
        units = [Unit(unit.offset - start, unit.length, unit.count) for unit in layout.units[own]]
        sizes = layout.rows[own], layout.weights[own]
        small = Layout(units, *sizes, layout.dtype, layout.wires[own], body_bytes=0)
        replies = [Reply(small, message) for message in buffer(small.buffer_bytes, 2)]
        self.received, self._sent = replies
        self._task = Task([small], buffer(small.task_bytes)[0])
        size = sum(unit.length for unit in units)
        self._mean = MeanPayload(size, layout.dtype, workers)
        self._kind = "worker" if config.memory.kind == "worker" else "none"
        self._encoders.append(MemoryEncoder(self._mean, self._sent, self._kind, [None] * len(units)))
        views = [self._mean.gradient[unit.offset : unit.offset + unit.length] for unit in units]
        self._sums = decode.Accumulators(views)

    def read(self, segment: np.ndarray) -> Sequence[np.ndarray]:
        """Return its part of a worker's payload, from the bytes of the worker's message."""
        if not self._encoders:
            return ()
        self.received.body[: len(segment)] = segment
        self.received.read()
        return self.received.payloads

    def add(self, codewords: Codewords, payloads: Sequence[np.ndarray]) -> None:
        """Add its part of a worker's payload; `codewords` has all units."""
        if self._encoders:
            self._sums.add(codewords[self.fields], payloads)

    def average(self, codewords: Codewords, task: int, payloads: int | None = None) -> np.ndarray:
        """Return the rounded mean of what has been added, as the bytes of its part of a message.

        It is the sum over the number of payloads, by default of all workers.
        """
        if not self._encoders:
            return np.empty(0, np.uint8)
        (encoder,) = self._encoders
        if payloads is not None:
            self._mean.payloads = payloads
        self._task.codewords = list(codewords[self.fields])
        encoder.encode(self._mean.gradient, self._task)
        encoder.quantise((*self._keys, task))
        self._mean.gradient.fill(0)
        return self._sent.body[: self._sent.layout.reply_bytes - HEADER.size]

    @property
    def residual(self) -> np.ndarray:
        """What rounding has left out; empty without a memory."""
        return self._encoders[0].residual if self._encoders and self._kind == "worker" else np.zeros(0)


class Owners(Stateful):
    """Owners of all ranges, and workers' memories for them: of all workers, or of one."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.owners = [Owner(config, layout, number) for number in range(config.reduction.owners)]
        self._memories: dict[str, np.ndarray] = {}  # by worker and range
        self._changed: dict[str, np.ndarray] = {}  # arrays of the last update, which may be made again

    def average(
        self,
        worker: int,
        number: int,
        payloads: Iterable[Sequence[np.ndarray]],
        count: int,
        codewords: Codewords,
        version: int,
    ) -> np.ndarray:
        """Return the rounded mean of `count` payloads in a worker's range, as bytes of its part."""
        owner, key = self.owners[number], f"{worker} {number}"
        residual = owner.residual
        residual[:] = self._memories.get(key, 0)
        for each in payloads:
            owner.add(codewords, each)
        mean = owner.average(codewords, version, count)
        if len(residual):
            self._changed[key] = residual.copy()
        return mean

    def resolve(self, made: bool) -> None:
        """Keep what the last means have changed if the update has been `made` with them, else drop it."""
        if made:
            self._memories |= self._changed
        self._changed = {}

    def forget(self, worker: int) -> None:
        """Empty the memories of a worker."""
        for key in [key for key in self._memories if key.startswith(f"{worker} ")]:
            del self._memories[key]

    def state_dict(self) -> dict[str, Any]:
        return {key: memory.copy() for key, memory in self._memories.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for key, memory in state.items():
            if memory.shape != self.owners[int(key.split()[1])].residual.shape:
                raise InputError(f"{key}: a memory of {len(memory)} elements")
        self._memories, self._changed = {key: memory.copy() for key, memory in state.items()}, {}


def assigned(members: Sequence[int], ranges: int) -> list[int]:
    """Return the member that owns each range.

    Worker r owns range r if it is a member; the other members own the ranges that are left.
    """
    takers = chain((worker for worker in members if worker >= ranges), cycle(members))
    return [number if number in members else next(takers) for number in range(ranges)]
