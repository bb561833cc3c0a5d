"""A plug-in for tests: a scheme whose updates have two rounds, norms of gradients and then the gradients."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from msgspec.structs import replace

from pdcode.coding import flops
from pdcode.coding.state import Coded
from pdcode.config import Real, Table, Tables
from pdcode.schemes import Scheme, Work, coded_state
from pdcode.schemes.common import builders
from pdcode.schemes.common.assignments import Assignment
from pdcode.transport.layout import Layout
from pdcode.transport.units import Unit
from pdcode.util.rng import BatchSampler
from pdcode.util.stateful import Stateful


class ClippedState(Coded):
    """Round 0 folds norms in; round 1 gradients, by a factor that bounds the mean norm by `limit`."""

    state_names = (*Coded.state_names, "norms", "factor")

    limit: float
    norms: tuple[float, ...] = ()
    factor: np.ndarray

    def order(self, worker: int, task: int) -> Any:
        order = super().order(worker, task)
        parts = [*order.segments, self.factor.view(np.uint8)] if self.round else order.segments
        return replace(order, segments=parts, round=self.round)

    def fold(self, arrival: Any) -> float:
        if self.round:
            return super().fold(arrival)
        self.norms += (float(arrival.payloads[0][0, 0]),)
        return 0.0

    def step(self, damping: float) -> float | None:
        self.round = 1 - self.round
        if not self.round:
            return super().step(damping)
        self.factor[0] = self.limit / max(self.limit, np.mean(self.norms))
        self.norms = ()
        return None


class Answer(Stateful):
    """Either round's side at a worker; `rolled` counts payloads that rank 0 has not used."""

    state_names = ("rolled",)

    def __init__(self, plan: Any, batches: BatchSampler, reply: Any, number: int) -> None:
        self.plan, self.batches, self.reply, self.number, self.rolled = plan, batches, reply, number, 0

    def encode(self, theta: np.ndarray, task: Any) -> float:
        size = self.plan.size
        loss = self.plan.gradient(theta[:size], self.batches.draw(task.version))
        gradient = self.plan.full_gradient
        self.reply.payloads[0][0] = gradient * theta[size] if self.number else np.linalg.norm(gradient)
        return float(loss)

    def quantise(self, keys: tuple[int, int, int]) -> None:
        self.reply.quantise(*keys)

    def rollback(self) -> None:
        self.rolled += 1


class Clipped(Scheme):
    """Gradients of which the mean norm is bounded."""

    name = "clipped"
    summary = "gradients of which the mean norm is bounded"
    steps_by_update = False
    tables: ClassVar[Tables] = {
        "code": {"family": "uncoded", "blocks": 1, "rotate": False},
        "memory": {"kind": "none"},
        "update": {"mode": "all", "late": "waste"},
    }

    class Options(Table):
        """Keys of ``[scheme] options``."""

        limit: Real = 0.5

    def units(self, problem: Any) -> Sequence[Unit]:
        return [Unit(0, problem.size, 1)]

    def layouts(self, problem: Any, weights: Sequence[int], body_bytes: int | None = None) -> list[Layout]:
        item = problem.dtype.itemsize
        bodies = item * problem.size, item * (problem.size + 1)
        sizes = 1, problem.size
        return [
            Layout([Unit(0, size, 1)], [1], [1], problem.dtype, body_bytes=body)
            for size, body in zip(sizes, bodies, strict=True)
        ]

    def assignment(self, units: Sequence[Unit]) -> Assignment:
        return Assignment(units, [1], np.dtype(self.config.problem.dtype))

    def state(self, problem: Any) -> ClippedState:
        made = coded_state(self, problem, self.assignment(self.units(problem)))
        state = ClippedState(made.theta, made.units, made.decoders, made.optimizer, made.assignment)
        state.layouts, state.limit = made.layouts, self.options.limit
        state.factor = np.zeros(1, problem.dtype)
        state.policy = self.policy()
        return state

    def encoders(self, problem: Any, worker: int, rows: int, replies: Sequence[Any]) -> list[Answer]:
        batch = self.config.problem.batch
        plan = problem.plan(batch, weight=builders.gradient_weight(self.config, problem, rows))
        batches = BatchSampler(self.config.seed, worker, problem.rows, batch)
        return [Answer(plan, batches, reply, number) for number, reply in enumerate(replies)]

    def work(self, problem: Any, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        return Work(flops.gradient_flops(self.config, problem, shard) + (2.0 - number) * problem.size)
