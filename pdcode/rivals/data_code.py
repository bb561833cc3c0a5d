"""Codes over data: a worker sends one combination of the gradients of its shards.

A `DataCode` is a matrix U over workers and shards, decoded by decoder `target`. A `GradientCode` is exact for
any s stragglers.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from .. import problems
from ..codes import Code
from ..coding import flops
from ..coding.source import Source
from ..config import Candidates, Config, Count, Table, Tables
from ..config.requirements import Needs, none_of, one_of, unrounded
from ..decoders import Decoder
from ..decoders.target import TargetDecoder
from ..problems import GradientPlan, Problem
from ..schemes.base import NOT_SUMMED, SENDS_THETA, UNCODED, WHITENING, Scheme, Work
from ..schemes.common.assignments import Assignment, DataRows
from ..schemes.placement import Placement
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..transport.units import Unit
from ..util.errors import InputError
from ..util.rng import BatchSampler

NO_ROUNDING: Needs = {"wire.dtype": unrounded("decodes with weights that amplify rounding errors")}
"""Requirement of codes whose payloads cancel in decoding: Σ_i |a_i| Σ_s |u_is| is a large multiple of m for
decoding weights a_i."""


class ShardedProblem(Problem):
    """A problem on several shards, by number; its own data are the data of the first."""

    def __init__(self, shards: dict[int, Problem]) -> None:
        first = next(iter(shards.values()))
        super().__init__(first.table, first.dataset, first.model, first.layers)
        self.shards = shards
        self.state = {f"{n}/{name}": a for n, own in shards.items() for name, a in own.state.items()}


class SeveralShards(Placement):
    """Placement of several shards at a worker: shards with a weight in its row of a matrix, shape (n, m)."""

    def __init__(self, config: Config, matrix: np.ndarray) -> None:
        super().__init__(config, matrix.shape[1])
        self._matrix = matrix

    def shards_of(self, worker: int) -> list[int]:
        """Return the shards of a worker."""
        return [int(shard) for shard in np.flatnonzero(self._matrix[worker])]

    def worker_data(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        return {
            f"{shard}/{name}": array
            for shard in self.shards_of(worker)
            for name, array in super(SeveralShards, self).worker_data(data, shard).items()
        }

    def build_problem(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        own: dict[int, dict[str, np.ndarray]] = {shard: {} for shard in self.shards_of(worker)}
        for key, array in arrays.items():
            shard, _, name = key.partition("/")
            own[int(shard)][name] = array
        return ShardedProblem(
            {shard: super(SeveralShards, self).build_problem(own[shard], shard) for shard in own}
        )


class ShardSum(Source):
    """Source of Σ_s u_s · gradient of shard s; its mini-batches are the same at all workers that share it."""

    def __init__(self, parts: Sequence[tuple[float, GradientPlan, BatchSampler]]) -> None:
        self._shards, plan = parts, parts[0][1]
        self.gradient = np.empty(plan.size, plan.dtype)
        self._scaled = np.empty_like(self.gradient)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        return self.compute(theta, task.version)

    def compute(self, theta: np.ndarray, number: int) -> float:
        """Compute the sum at θ, of mini-batches of this number; return their mean loss."""
        self.gradient.fill(0)
        loss = 0.0
        for weight, plan, batches in self._shards:
            loss += plan.gradient(theta, batches.draw(number), batches.key(number)) / len(self._shards)
            np.multiply(plan.full_gradient, self.gradient.dtype.type(weight), out=self._scaled)
            self.gradient += self._scaled
        return loss


class DataCode(Scheme):
    """Code over data shards: y_i = Σ_s u_is d(shard s), decoded to Σ_s d(shard s) or an approximation."""

    unused: ClassVar[tuple[str, ...]] = ("code", "memory", "decoder", *WHITENING)
    requires: ClassVar[Needs] = {
        "reduce.kind": one_of("star", why=NOT_SUMMED),
        "downlink.kind": one_of("full", why=SENDS_THETA),  # the decoder of a replica would hold all payloads
        "update.late": one_of("waste", why="decodes gradients at one θ"),
        "code.centre": one_of(
            False, "auto", why="has a shard's gradient from several workers, which must agree"
        ),
        "problem.shards": none_of(
            "replicated", needed="another way to divide the rows", why="codes over shards that differ"
        ),
    }
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "first", "late": "waste"}}

    @cached_property
    def matrix(self) -> np.ndarray:
        """U, the weights of the workers over the shards, shape (n, m), float64."""
        raise NotImplementedError

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return DataRows(units, np.dtype(self.config.problem.dtype), self.matrix)

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,) = units
        return [TargetDecoder(1, unit.shape, self.config.problem.dtype, target=np.ones(self.matrix.shape[1]))]

    @cached_property
    def placement(self) -> SeveralShards:
        return SeveralShards(self.config, self.matrix)

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        return self.shard_sum(problem, worker, rows, self.placement.shards_of(worker))

    def shard_sum(self, problem: Problem, worker: int, rows: int, shards: Sequence[int]) -> ShardSum:
        """Build the source of a worker's combination of some of its shards."""
        assert isinstance(problem, ShardedProblem)
        batch, seed, parts = self.config.problem.batch, self.config.seed, []
        for shard in shards:
            own = problem.shards[shard]
            plan = own.plan(batch, weight=own.rows / rows, whiten=self.config.code.whitening)
            parts.append((self.matrix[worker, shard], plan, own.batches(seed, shard)))
        return ShardSum(parts)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        workers, shards = self.matrix.shape
        held = np.count_nonzero(self.matrix) / workers  # mean number of shards of a worker
        rows = max(1, shard * workers // shards)  # of a shard
        one = flops.gradient_flops(self.config, problem, rows) + flops.touched(problem, 2.0)
        coding = flops.coding_flops(self.config, problem, layouts[number])
        return Work(held * one + coding, held * (self.config.problem.batch or rows))


class GradientCode(DataCode):
    """Data code from which the sum over shards is decoded exactly if any s of the workers are missing."""

    tables: ClassVar[Tables] = {
        **DataCode.tables,
        "update": {"mode": "captured", "fraction": 1.0, "late": "waste"},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        stragglers: Count = 1  #: number of stragglers tolerated, s

        candidates: ClassVar[Candidates] = {"stragglers": (1, 2, 3)}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        s = config.scheme.options.stragglers
        if s >= config.workers.count:
            raise InputError(
                f"scheme.options.stragglers: {s} must be less than the {config.workers.count} workers"
            )
