"""Multiplexed sequential gradient coding: codes over workers and over time, for bursts of stragglers.

Krishnan, Ebrahimi and Khisti, "Sequential gradient coding for straggler mitigation", ICLR 2023. The gradient
of θ after t updates is job t. A task of round t has W - 1 + B mini-tasks, one of each of the jobs t, t - 1, …
The first W - 1 mini-tasks of a job are gradients of a worker's own chunks of the data. The other B repeat
those that failed, or else are combinations of λ + 1 smaller chunks by B cyclic gradient codes for λ
stragglers (without any if λ = n). A round ends after (1 + μ) times the time of its fastest worker. A worker
that has not replied by then is a straggler, and its results are lost; but rank 0 waits longer as long as the
stragglers do not conform to the model: in any W rounds at most λ workers, each in at most B rounds, from
first to last. Then job t is complete after round t + W - 2 + B.

Our reading: the paper trains W - 1 + B models in turn, so that no gradient is stale. Here is one model, and θ
is moved by the gradient of W - 2 + B updates ago, which requires smaller steps; the first W - 2 + B updates
leave θ as it is. In the authors' simulator rank 0 waits for all workers if the stragglers do not conform;
here it waits until the remaining ones do. The flags of its tasks show a worker which of its results were
lost, so nothing else is sent; a worker that has missed rounds is also sent the θ of these.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from ...coding import flops
from ...coding.memory import Memoryless, PayloadEncoder
from ...coding.state import State
from ...config import Config, Count, NonNegative, Positive, Table, Tables
from ...config.requirements import Needs
from ...problems import Problem
from ...schemes.base import Work
from ...schemes.common import builders
from ...schemes.common.assignments import DataRows
from ...transport.layout import Layout
from ...transport.messages import Reply, Task
from ...util.errors import InputError
from ..cyclic import cyclic_code
from ..data_code import NO_ROUNDING, DataCode, ShardSum
from .multiplexed_state import BurstModel, MiniTasks, SequentialState


class SequentialEncoder(Memoryless):
    """A worker's encoder: computes the mini-tasks of a round, each for a unit of the reply.

    Sources are combinations of shards: the own chunks, then the codes.
    """

    state_names = ("_tasks", "_thetas", "_last")

    def __init__(
        self, reply: Reply, sources: Sequence[ShardSum], tasks: MiniTasks, theta: np.ndarray
    ) -> None:
        super().__init__(reply)
        self._sources, self._tasks = sources, tasks
        self._thetas = [theta.copy() for _ in reply.payloads]  # by job
        self._last: list[tuple[int, int]] = []  # mini-tasks of the last round, unless it was lost

    def encode(self, theta: np.ndarray, task: Task) -> float:
        self._tasks.done(self._last)
        count, loss = len(self._thetas), 0.0
        received = theta.reshape(-1, len(self._thetas[0]))
        for job, each in enumerate(received, task.version + 1 - len(received)):
            self._thetas[job % count][:] = each
        self._last = self._tasks.of(task.version)
        self._reply.payload.fill(0)
        for payload, (job, chunk) in zip(self._reply.payloads, self._last, strict=False):
            if chunk < len(self._sources):
                source = self._sources[chunk]
                loss += source.compute(self._thetas[job % count], job) / len(self._last)
                payload[0] = source.gradient
        return loss

    def rollback(self) -> None:
        self._last = []


class SequentialCode(DataCode):
    """Multiplexed sequential gradient coding: exact gradients of W - 2 + B updates ago."""

    name = "sgc"
    summary = "several updates' gradients in turn: own chunks, repeats of lost ones, and codes for stragglers"
    requires: ClassVar[Needs] = {**DataCode.requires, **NO_ROUNDING}
    steps_by_update = False  # a round ends by its own rule
    unused = (*DataCode.unused, "update")
    tables: ClassVar[Tables] = {**DataCode.tables, "update": {"mode": "all", "late": "waste"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        stragglers: Count = 1  #: stragglers tolerated in a window, λ
        burst: Positive = 1  #: rounds in a row that a worker may straggle, B
        window: Positive = 2  #: rounds that a window has, W, more than `burst`
        margin: NonNegative = 1.0  #: time to wait after the fastest worker, in units of its own, μ

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        options, workers = config.scheme.options, config.workers.count
        if options.stragglers > workers:
            raise InputError(
                f"scheme.options.stragglers: {options.stragglers} are more than {workers} workers"
            )
        if options.burst >= options.window:
            raise InputError(
                f"scheme.options.burst: {options.burst} must be less than the window, {options.window} rounds"
            )

    @property
    def own(self) -> int:
        """Own chunks of a worker, W - 1."""
        return int(self.options.window) - 1

    @cached_property
    def code(self) -> np.ndarray | None:
        """The gradient code, shape (n, n); None if all workers may straggle."""
        stragglers = self.options.stragglers
        if stragglers == self.workers:
            return None
        return cyclic_code(self.workers, stragglers, self.config.seed)

    @cached_property
    def chunks(self) -> list[list[list[int]]]:
        """Shards of each chunk, or chunks of each code, of each worker; shards are of equal size."""
        n, own, code = self.workers, self.own, self.code
        size = 1 if code is None else self.options.stragglers + 1
        chunks = []
        for worker in range(n):
            first = worker * own * size
            mine = [list(range(first + part * size, first + (part + 1) * size)) for part in range(own)]
            if code is not None:
                held = np.flatnonzero(code[worker])
                mine += [(n * own * size + group * n + held).tolist() for group in range(self.options.burst)]
            chunks.append(mine)
        return chunks

    @cached_property
    def matrix(self) -> np.ndarray:
        """Weights of the shards in a worker's chunks and codes."""
        shards = 1 + max(shard for mine in self.chunks for each in mine for shard in each)
        U = np.zeros((self.workers, shards))
        for worker, mine in enumerate(self.chunks):
            for each in mine[: self.own]:
                U[worker, each] = 1
            for each in mine[self.own :]:
                assert self.code is not None
                U[worker, each] = self.code[worker][self.code[worker] != 0]
        return U

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        count, wire = self.own + self.options.burst, self.config.wire.dtype or ""
        units, ones = [*self.units(problem)] * count, [1] * count  # one gradient per mini-task
        body_bytes = count * problem.size * problem.dtype.itemsize
        return [Layout(units, ones, ones, problem.dtype, wire, body_bytes=body_bytes)]

    def state(self, problem: Problem) -> State:
        options, n, shards = self.options, self.workers, self.matrix.shape[1]
        rows = None if self.code is None else DataRows(self.units(problem), problem.dtype, self.code)
        theta, optimizer = builders.initial_theta(self.config, problem), self.optimizer(problem)
        shares = len(self.chunks[0][0]) / shards, 0.0 if rows is None else n / shards
        model = BurstModel(options.burst, options.window, options.stragglers)
        margin, own, coded = options.margin, self.own, options.burst
        state = SequentialState(theta, optimizer, rows, own, coded, shares, model, n, margin)
        state.layouts, state.policy = self.layouts(problem, [1]), self.policy()
        return state

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        sources = [self.shard_sum(problem, worker, rows, shards) for shards in self.chunks[worker]]
        tasks = MiniTasks(self.own, self.options.burst)
        return [SequentialEncoder(replies[0], sources, tasks, np.zeros(problem.size, problem.dtype))]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        rows = shard * self.workers // self.matrix.shape[1]
        one = flops.gradient_flops(self.config, problem, max(1, rows)) + flops.touched(problem, 2.0)
        # As if no result is lost. Without a code, the last B mini-tasks are then empty.
        each = sum(map(len, self.chunks[0]))
        coding = flops.coding_flops(self.config, problem, layouts[number])
        return super().work(problem, layouts, number, shard)._replace(flops=each * one + coding)
