"""Codes over data: a worker sends one combination of the gradients of its shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from .. import problems
from ..codes import Code
from ..coding import flops
from ..coding.assignments import Assignment, DataRows
from ..coding.source import Source
from ..config.tables import Config, Tables
from ..decoders import Decoder
from ..decoders.target import Target
from ..problems import Plan, Problem
from ..problems.partition import Unit
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..util.errors import InputError
from ..util.rng import Batches
from .base import Scheme


class ShardedProblem(Problem):
    """A problem on several shards; its own data are those of the first.

    Attributes
    ----------
    shards : dict of int to Problem
    """

    def __init__(self, shards: dict[int, Problem]) -> None:
        first = next(iter(shards.values()))
        super().__init__(first.table, first.dataset, first.network)
        self.shards = shards


class ShardSum:
    """Source of Σ_s u_s · gradient of shard s; workers that share a shard draw the same mini-batch of it.

    Parameters
    ----------
    parts : sequence of (float, Plan, Batches)
        For each shard u_s, the plan of its gradient, and its mini-batches.
    """

    def __init__(self, parts: Sequence[tuple[float, Plan, Batches]]) -> None:
        self._parts, network = parts, parts[0][1].network
        self.gradient = np.empty(network.size, network.dtype)
        self._scaled = np.empty_like(self.gradient)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        self.gradient.fill(0)
        loss = 0.0
        for weight, plan, batches in self._parts:
            loss += plan.gradient(theta, batches.draw(task.version)) / len(self._parts)
            np.multiply(plan.full_gradient, self.gradient.dtype.type(weight), out=self._scaled)
            self.gradient += self._scaled
        return loss


class DataCode(Scheme):
    """Code over data shards: y_i = Σ_s u_is d(shard s), decoded to Σ_s t_s d(shard s).

    A subclass defines `matrix`, and `target` unless it is the plain sum.
    """

    fused = False
    summable = False
    unused = ("code", "memory", "decoder")
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
        "update": {"mode": "captured", "fraction": 1.0, "late": "waste"},
    }

    def matrix(self) -> np.ndarray:
        """Return U, shape (n, m), float64: the weights of each worker over the shards."""
        raise NotImplementedError

    def target(self) -> np.ndarray:
        """Return t, shape (m,), float64: the combination of shard gradients to decode."""
        return np.ones(self.matrix().shape[1])

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        name = config.scheme.name
        if config.wire.dtype not in (None, config.problem.dtype):
            raise InputError(
                f"wire.dtype: '{config.wire.dtype}': scheme '{name}' decodes with weights that "
                "amplify rounding errors; leave it out"
            )
        if config.downlink.kind != "full":  # each decoder would have to hold payloads
            raise InputError(
                f"downlink.kind: '{config.downlink.kind}': scheme '{name}' sends θ with each task"
            )
        if config.update.late != "waste":
            raise InputError(
                f"update.late: '{config.update.late}': scheme '{name}' needs gradients at one θ; use 'waste'"
            )
        if config.problem.shards == "replicated":
            raise InputError(f"problem.shards: 'replicated': scheme '{name}' codes over shards that differ")

    def units(self, problem: Problem) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return DataRows(units, np.dtype(self.config.problem.dtype), self.matrix())

    def decoders(self, units: Sequence[Unit], designs: Mapping[int, Code] | None) -> list[Decoder]:
        (unit,) = units
        return [Target(1, unit.shape, self.config.problem.dtype, target=self.target())]

    def shards_of(self, worker: int) -> list[int]:
        """Return the shards of a worker."""
        return [int(shard) for shard in np.flatnonzero(self.matrix()[worker])]

    def share(self, data: problems.DataSource, worker: int) -> dict[str, np.ndarray]:
        count = self.matrix().shape[1]
        return {
            f"{shard}/{name}": array
            for shard in self.shards_of(worker)
            for name, array in data.shard(shard, count).items()
        }

    def learn(self, arrays: dict[str, np.ndarray], worker: int) -> Problem:
        table, count = self.config.problem, self.matrix().shape[1]
        shards = {}
        for shard in self.shards_of(worker):
            own = {
                name[len(f"{shard}/") :]: array
                for name, array in arrays.items()
                if name.startswith(f"{shard}/")
            }
            dataset = problems.receive(table, own, shard, count)
            shards[shard] = Problem.from_dataset(table, dataset, self.config.code.blocks)
        return ShardedProblem(shards)

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        assert isinstance(problem, ShardedProblem)
        weights, batch, seed = self.matrix()[worker], self.config.problem.batch, self.config.seed
        return ShardSum(
            [
                (
                    weights[shard],
                    part.plan(batch, weight=part.rows / rows),
                    Batches(seed, shard, part.rows, batch),
                )
                for shard, part in problem.shards.items()
            ]
        )

    def flops(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int | None) -> float:
        most = max(len(self.shards_of(worker)) for worker in range(self.workers))
        one = flops.gradient_flops(self.config, problem, shard) + 2.0 * problem.size
        return most * one + flops.coding_flops(self.config, problem, layouts[number])
