"""Multiplexed sequential gradient coding: codes over workers and over time, for bursts of stragglers.

Krishnan, Ebrahimi and Khisti, "Sequential gradient coding for straggler mitigation", ICLR 2023. The gradient
of θ after t updates is job t. A task of round t has W - 1 + B mini-tasks, one of each of the jobs t, t - 1, …
The first W - 1 mini-tasks of a job are gradients of a worker's own chunks of the data. The other B repeat
those that failed, or else are combinations of λ + 1 smaller chunks by B cyclic gradient codes for λ
stragglers (without any if λ = n). A round ends after (1 + μ) times the time of its fastest worker. Who has
not replied is a straggler, whose results are lost; but rank 0 waits on as long as the stragglers do not
conform to the model: in any W rounds at most λ workers, each in at most B rounds, from first to last. Then
job t is complete after round t + W - 2 + B.

What we read into it: the paper trains W - 1 + B models in turn, so that no gradient is stale. Here is one
model, and θ is moved by the gradient of W - 2 + B updates ago, which asks for smaller steps; the first
W - 2 + B updates leave θ as it is. In the authors' simulator rank 0 waits for all workers where the
stragglers do not conform; here it waits until those left do. Workers know by the flags of their tasks which
results were lost, so that nothing else has to be sent; who has missed rounds is sent the θ of those, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from .. import problems
from ..coding import flops
from ..coding.assignments import DataRows
from ..coding.memory import Respond
from ..coding.optimizers import Optimizer
from ..coding.policies import Seen
from ..coding.state import State
from ..config.tables import Config, Count, NonNegative, Positive, Table, Tables
from ..decoders.summing import Summing
from ..decoders.target import Target
from ..problems import Problem
from ..problems.partition import Unit
from ..transport.base import Arrival
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..util.errors import InputError
from .cyclic import cyclic_code
from .data_code import DataCode, ShardSum


class MiniTasks:
    """The mini-tasks of a worker, as it and rank 0 know them.

    Parameters
    ----------
    own, coded : int
        Mini-tasks of a job: W - 1 own chunks, and B that repeat them or are coded.
    """

    def __init__(self, own: int, coded: int) -> None:
        self._own, self._count = own, own + coded
        self._left: dict[int, list[int]] = {}  # own chunks without a result, by job

    def of(self, number: int) -> list[tuple[int, int]]:
        """Return the mini-tasks of a round: their jobs, and what to compute, an own chunk or a code from
        W - 1 on."""
        self._left = {job: left for job, left in self._left.items() if job > number - self._count}
        found = []
        for slot in range(min(self._count, number + 1)):
            left = self._left.setdefault(number - slot, list(range(self._own)))
            found.append((number - slot, left[0] if slot >= self._own and left else slot))
        return found

    def done(self, tasks: Sequence[tuple[int, int]]) -> None:
        """Note that rank 0 has the results of a round's mini-tasks."""
        for job, what in tasks:
            if what < self._own:
                self._left[job].remove(what)


class BurstModel:
    """The model of bursty stragglers, and the stragglers of the last rounds.

    Parameters
    ----------
    burst, window, most : int
        B, W and λ.
    """

    def __init__(self, burst: int, window: int, most: int) -> None:
        self._burst, self._most = burst, most
        self._past = deque[frozenset[int]](maxlen=window - 1)  # newest last

    def allows(self, stragglers: frozenset[int]) -> bool:
        """Tell whether these may be the stragglers of this round."""
        before = list(self._past)[: max(0, len(self._past) - self._burst + 1)]
        long_ago = frozenset[int]().union(*before)
        return len(stragglers.union(*self._past)) <= self._most and not stragglers & long_ago

    def add(self, stragglers: frozenset[int]) -> None:
        """Add the stragglers of a round."""
        self._past.append(stragglers)


class SequentialState(State):
    """State of rank 0: the sums of the jobs under way, and the decoders of this round's coded results.

    Parameters
    ----------
    theta : ndarray, shape (size,)
    optimizer : Optimizer
    rows : DataRows or None
        Rows of the gradient codes, by worker; None without any.
    own, coded : int
        As for `MiniTasks`.
    shares : (float, float)
        Share of the data in an own chunk, and in the chunks of a gradient code.
    model : BurstModel
    workers : int
    margin : float
        μ.
    """

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        rows: DataRows | None,
        own: int,
        coded: int,
        shares: tuple[float, float],
        model: BurstModel,
        workers: int,
        margin: float,
    ) -> None:
        self.theta, self.optimizer = theta, optimizer
        self._rows, self._own, self._shares, self._model, self._margin = rows, own, shares, model, margin
        jobs, size, dtype = own + coded, len(theta), theta.dtype
        self._thetas, self._sums = np.tile(theta, (jobs, 1)), np.zeros((jobs, size), dtype)
        self._known = np.zeros(jobs)  # share of the data in the sums
        self._targets = [Target(1, (size,), dtype, target=np.ones(workers)) for _ in range(coded)]
        self._unit, self._total = Unit(0, size, 1), [Summing(1, (size,), dtype)]
        self._tasks = [MiniTasks(own, coded) for _ in range(workers)]
        self._sent = [-1] * workers  # last job whose θ each worker has
        self._late = frozenset(range(workers))  # workers that have not replied in this round
        self._workers = self._late
        self._number = 0  # of the round
        self._until_ns = 0  # when the stragglers of this round are known

    def order(self, worker: int, task: int) -> Order:
        first = max(self._sent[worker], self._number - len(self._sums)) + 1
        self._sent[worker] = self._number
        jobs = range(max(0, first), self._number + 1)
        return Order(0, (), [self._thetas[job % len(self._sums)].view(np.uint8) for job in jobs])

    def fold(self, arrival: Arrival) -> float:
        if self._late == self._workers:  # the fastest; its own times, because a replay has them
            took_ns = max(0, arrival.t_recv_ns - arrival.t_start_ns)
            self.wake_ns = self._until_ns = arrival.t_recv_ns + round(self._margin * took_ns)
        worker = arrival.worker
        self._late -= {worker}
        tasks = self._tasks[worker].of(self._number)
        self._tasks[worker].done(tasks)
        for slot, ((job, what), payload) in enumerate(zip(tasks, arrival.payloads, strict=False)):
            if what < self._own:
                self._sums[job % len(self._sums)] += payload[0]
                self._known[job % len(self._sums)] += self._shares[0]
            elif self._rows is not None:
                ((indices, values),) = self._rows.codewords(worker)
                self._targets[slot - self._own].add_sparse(indices, values, payload)
        oldest = self._known[(self._number + 1) % len(self._sums)]
        return float(oldest + self._shares[1] * self._targets[-1].captured)

    def ready(self, seen: Seen, expected: int) -> bool:
        if expected and seen.now_ns < self._until_ns:
            return False
        self.wake_ns = None  # from now on another arrival is needed
        return not expected or self._model.allows(self._late)

    def step(self, damping: float) -> float | None:
        for slot, target in enumerate(self._targets, self._own):
            if target.count:
                job = (self._number - slot) % len(self._sums)
                self._sums[job] += target.gradient()[0]
                self._known[job] += self._shares[1] * target.captured
                target.reset()
        self._model.add(self._late)
        self._late, self.wake_ns = self._workers, None
        self._number += 1
        new, norm = self._number % len(self._sums), 0.0  # the oldest job gives way to the next one
        if self._number >= len(self._sums):
            self._total[0].accumulator[:] = self._sums[new]
            norm = self.optimizer.step(self.theta, [self._unit], self._total, damping)
        self._sums[new], self._known[new], self._thetas[new] = 0, 0, self.theta
        return norm


class SequentialEncoder:
    """A worker's side: it computes the mini-tasks of a round, each for a unit of the reply.

    Parameters
    ----------
    reply : Reply
    sources : sequence of ShardSum
        Combinations of shards: the own chunks, then the codes.
    tasks : MiniTasks
    theta : ndarray, shape (size,)
        Of the size and type of θ.
    """

    def __init__(
        self, reply: Reply, sources: Sequence[ShardSum], tasks: MiniTasks, theta: np.ndarray
    ) -> None:
        self._reply, self._sources, self._tasks = reply, sources, tasks
        self._thetas = [theta.copy() for _ in reply.payloads]  # by job
        self._last: list[tuple[int, int]] = []  # mini-tasks of the last round, unless it was lost

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        self._tasks.done(self._last)
        count, loss = len(self._thetas), 0.0
        news = theta.reshape(-1, len(self._thetas[0]))
        for job, one in enumerate(news, task.version + 1 - len(news)):
            self._thetas[job % count][:] = one
        self._last = self._tasks.of(task.version)
        self._reply.payload.fill(0)
        for payload, (job, what) in zip(self._reply.payloads, self._last, strict=False):
            if what < len(self._sources):
                source = self._sources[what]
                loss += source.compute(self._thetas[job % count], job) / len(self._last)
                payload[0] = source.gradient
        return loss

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self._reply.write(*keys)

    def rollback(self) -> None:
        self._last = []


class SequentialCode(DataCode):
    """Multiplexed sequential gradient coding: exact gradients of W - 2 + B updates ago."""

    name = "sgc"
    summary = (
        "own chunks, repeats of lost ones, and codes for stragglers, of several updates' gradients in turn"
    )
    amplifies = True
    single_round = False  # a round ends by its own rule
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
        found = []
        for worker in range(n):
            first = worker * own * size
            mine = [list(range(first + part * size, first + (part + 1) * size)) for part in range(own)]
            if code is not None:
                held = np.flatnonzero(code[worker])
                mine += [(n * own * size + group * n + held).tolist() for group in range(self.options.burst)]
            found.append(mine)
        return found

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

    def dealt(self, data: problems.DataSource) -> int:
        shards = self.matrix.shape[1]
        if data.rows < shards:
            raise InputError(
                f"workers.count: {self.workers} workers need {shards} shards with these options of scheme "
                f"'{self.name}', more than the {data.rows} training rows of problem.data"
            )
        return super().dealt(data)

    def layouts(
        self, problem: Problem, weights: Sequence[int], body_bytes: int | None = None
    ) -> list[Layout]:
        count, wire = self.own + self.options.burst, self.config.wire.dtype or ""
        units, ones = [*self.units(problem)] * count, [1] * count  # a gradient a mini-task
        body_bytes = count * problem.size * problem.dtype.itemsize
        return [Layout(units, ones, ones, problem.dtype, wire, body_bytes=body_bytes)]

    def state(self, problem: Problem) -> State:
        options, n, shards = self.options, self.workers, self.matrix.shape[1]
        rows = None if self.code is None else DataRows(self.units(problem), problem.dtype, self.code)
        state = SequentialState(
            problem.initial(self.config.seed),
            self.optimizer(problem),
            rows,
            self.own,
            options.burst,
            (len(self.chunks[0][0]) / shards, 0.0 if rows is None else n / shards),
            BurstModel(options.burst, options.window, options.stragglers),
            n,
            options.margin,
        )
        state.layouts, state.policy = self.layouts(problem, [1]), self.policy()
        return state

    def responds(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[Respond]:
        sources = [self.shard_sum(problem, worker, rows, shards) for shards in self.chunks[worker]]
        tasks = MiniTasks(self.own, self.options.burst)
        return [SequentialEncoder(replies[0], sources, tasks, np.zeros(problem.size, problem.dtype))]

    def flops(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> float:
        rows = (shard or problem.rows // self.workers) * self.workers // self.matrix.shape[1]
        one = flops.gradient_flops(self.config, problem, max(1, rows)) + 2.0 * problem.size
        # As many as if nothing is lost: where there is no code, the last B mini-tasks are then empty.
        each = sum(map(len, self.chunks[0]))
        return each * one + flops.coding_flops(self.config, problem, layouts[number])
