"""SAG and DSAG: rank 0 keeps the last gradient of every part of the data, and steps by their mean.

SAG: Le Roux, Schmidt and Bach, "A stochastic gradient method with an exponential convergence rate for finite
training sets", NIPS 2012; Schmidt, Le Roux and Bach, "Minimizing finite sums with the stochastic average
gradient", Math. Program. 2017. DSAG: Severinson, Rosnes, El Rouayheb and Graell i Amat, "DSAG: a mixed
synchronous-asynchronous iterative method for training with stragglers", arXiv 2111.13877, 2021. A worker's
rows are cut into parts, and its tasks compute the gradients of the parts in turn. The mean is over the parts
known so far. An update waits for a number of gradients at the newest θ. SAG drops gradients at an older θ,
DSAG puts them into the table, too. A worker's replies arrive in the order of its tasks, so a part's gradient
is never replaced by an older one.

Not included: DSAG's additional waiting time for further workers, and its load balancing. Penalties (`l2`) are
in the gradients of the parts, as in all schemes; the papers add them at the newest θ. A mini-batch of a part
instead of all its rows is our addition, and gives up convergence to the optimum.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..codes import Code
from ..coding import flops
from ..coding.policies import Policy, Progress
from ..coding.source import Source
from ..config import Config, Positive, Table, Tables
from ..config.requirements import Needs, one_of
from ..decoders import Decoder
from ..decoders.table import TableDecoder
from ..problems import GradientPlan, Problem
from ..schemes.base import NOT_SUMMED, SENDS_THETA, UNCODED, Scheme, TaskSize, Work
from ..schemes.common.assignments import Assignment
from ..schemes.placement import Placement
from ..transport.layout import Codewords, Layout
from ..transport.messages import Reply, Task
from ..transport.units import Unit
from ..util.memory import ensure_fits
from ..util.rng import BatchSampler


class PartAssignment(Assignment):
    """Assignment of parts: part j of worker i is row ip + j, and a worker's tasks take its parts in turn."""

    state_names = ("_tasks",)

    def __init__(self, units: Sequence[Unit], dtype: np.dtype, workers: int, parts: int) -> None:
        super().__init__(units, [1] * len(units), dtype)
        self._parts, self._tasks = parts, [0] * workers

    def row(self, worker: int) -> int:
        part = self._tasks[worker] % self._parts
        self._tasks[worker] += 1
        return worker * self._parts + part

    def codewords(self, row: int) -> Codewords:
        _, one = self.uncoded
        return [(np.full((1, 1), row, np.int32), one)] * len(self.layers)


class PartGradient(Source):
    """Source of the gradient of a part of a worker's rows, by the row number of the task.

    A part is a run of rows. Weights are such that the mean over all parts is that over the `rows` training
    rows of all workers.
    """

    def __init__(self, problem: Problem, config: Config, worker: int, parts: int, rows: int) -> None:
        batch, share = config.problem.batch, config.workers.count * parts / rows
        self._bounds = [problem.rows * number // parts for number in range(parts + 1)]
        self._plans: dict[int, tuple[GradientPlan, BatchSampler]] = {}  # by number of rows of a part
        for size in sorted(set(np.diff(self._bounds).tolist())):
            plan = problem.plan(batch or (size if parts > 1 else 0), weight=share * size)
            self._plans[size] = plan, problem.batches(config.seed, worker, rows=size)
        self.gradient = plan.full_gradient

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        first, end = self._bounds[part := task.row % (len(self._bounds) - 1)], self._bounds[part + 1]
        plan, batches = self._plans[end - first]
        loss = plan.gradient(theta, first + batches.draw(task.task), batches.key(task.task))
        if plan.full_gradient is not self.gradient:
            self.gradient[:] = plan.full_gradient
        return loss


class SAG(Scheme):
    """Stochastic average gradient: steps by the mean of all parts' last gradients; late ones are dropped."""

    name = "sag"
    summary = "gradients of parts of the shards; rank 0 steps by the mean of the last one of every part"
    requires: ClassVar[Needs] = {
        "reduce.kind": one_of("star", why=NOT_SUMMED),
        "update.late": one_of("waste", why="drops gradients at an older θ"),
        "downlink.kind": one_of("full", why=SENDS_THETA),  # a replica would need the whole table
    }
    unused = ("code", "memory", "decoder")
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "first", "late": "waste"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        parts: Positive = 1  #: parts of a worker's shard, p; rank 0 keeps a gradient of each

    @property
    def task_size(self) -> TaskSize:
        return TaskSize([1.0 if self.config.problem.batch else 1.0 / self.options.parts])

    @cached_property
    def placement(self) -> Placement:
        return Placement(self.config, self.workers, self.options.parts)

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return PartAssignment(units, np.dtype(self.config.problem.dtype), self.workers, self.options.parts)

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,) = units
        rows, dtype = self.workers * self.options.parts, np.dtype(self.config.problem.dtype)
        ensure_fits("scheme.options.parts", f"{rows} gradients", rows * unit.length * dtype.itemsize)
        return [TableDecoder(1, unit.shape, dtype, rows=rows)]

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        return PartGradient(problem, self.config, worker, self.options.parts, rows)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        rows = max(1, shard // self.options.parts)
        coding = flops.coding_flops(self.config, problem, layouts[number])
        gradient = flops.gradient_flops(self.config, problem, rows)
        return Work(gradient + coding, self.config.problem.batch or rows)


class FreshCount(Policy):
    """Policy that steps at a number of gradients at the newest θ, and also uses late ones."""

    waits_for_overdue = True

    def enough(self, progress: Progress) -> bool:
        return self._min_payloads is not None and progress.fresh >= self._min_payloads


class DSAG(SAG):
    """SAG that uses late gradients: they replace older ones, but an update does not wait for them."""

    name = "dsag"
    summary = f"{SAG.summary}, the late ones too"
    requires: ClassVar[Needs] = {
        **SAG.requires,
        "update.late": one_of("use", why="puts late gradients into its table, too"),
    }
    tables: ClassVar[Tables] = {**SAG.tables, "update": {"mode": "first", "late": "use"}}

    def policy(self) -> Policy:
        update = self.config.update
        counts = update.by_count and not (update.asynchronous or update.complete)
        return FreshCount(update, self.workers) if counts else super().policy()
