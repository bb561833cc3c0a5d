"""Local SGD: a worker takes H local steps and sends codewords of the displacement.

Stich, "Local SGD converges fast and communicates little", ICLR 2019. Encoding the displacement like a
gradient, with any code and memory, is this project's addition, and so is whitening of the local gradients.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.optimizers import Optimizer
from ..coding.source import Source
from ..config import Candidates, Positive, Real, Table, Tables
from ..problems import GradientPlan, Problem
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..util.rng import BatchSampler
from ..util.stateful import Stateful
from .base import ALLREDUCE, EQUAL, NESTEROV, UNCODED, WHITENED, Entrants, Scheme, TaskSize, Work
from .common import builders


def _preset(steps: int, rate: float) -> Tables:
    """Return the tables of a preset of so many local steps."""
    return {
        "scheme": {"options": {"steps": steps, "rate": rate}},
        "problem": {"standardise_targets": True},
        "code": {**UNCODED["code"], **EQUAL},
        "wire": {"dtype": "int4"},
        "update": {"mode": "all"},
        "reduce": {"kind": "allreduce"},
        "optimizer": {"kind": "sgd", "rate": 1.0, "momentum": 0.8, "nesterov": True, "average": True},
    }


class InnerOptimizer(Stateful, ABC):
    """Optimizer of a worker's local steps."""

    @abstractmethod
    def step(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        """Move θ, shape (size,), in place; the gradient, shape (size,), may be overwritten."""


class InnerSGD(InnerOptimizer):
    """Local gradient steps, without a state."""

    def __init__(self, rate: float, dtype: np.dtype) -> None:
        self._rate = dtype.type(rate)

    def step(self, theta: np.ndarray, gradient: np.ndarray) -> None:
        gradient *= self._rate
        theta -= gradient


class LocalSteps(Source):
    """Source of the displacement, θ before minus θ after H local steps, times a weight.

    Each step has its own mini-batch, or all rows.
    """

    state_names = ("inner",)

    def __init__(
        self, plan: GradientPlan, batches: BatchSampler, steps: int, inner: InnerOptimizer, weight: float
    ) -> None:
        dtype = plan.dtype
        self._plan, self._batches, self._steps, self.inner = plan, batches, steps, inner
        self._weight = dtype.type(weight)
        self._theta = np.empty(plan.size, dtype)
        self.gradient = np.empty_like(self._theta)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        self._theta[:] = theta
        rows, loss = self._batches.draw(task.task), 0.0
        for step in range(self._steps):
            batch = rows if self._batches.full else np.split(rows, self._steps)[step]
            loss += self._plan.gradient(self._theta, batch, self._batches.key(task.task, step)) / self._steps
            self.inner.step(self._theta, self._plan.full_gradient)
        np.subtract(theta, self._theta, out=self.gradient)
        self.gradient *= self._weight
        return loss


class Local(Scheme):
    """Local SGD: H local steps, then codewords of the displacement."""

    name = "local"
    summary = "H steps at the worker, then codewords of the displacement"
    entrants: ClassVar[Entrants] = {
        "local steps": f"{ALLREDUCE}{NESTEROV}",
        "whitened local steps": f"{ALLREDUCE}{WHITENED}",
    }
    gradient_rate = "scheme.options.rate"
    inner_touches: ClassVar[float] = 3.0  # of an element of θ in a local step
    tables: ClassVar[Tables] = {
        **UNCODED,
        "update": {"mode": "all"},
        "optimizer": {"kind": "sgd", "rate": 1.0},  # θ becomes the mean of the workers' θ
    }

    # Messages that take longer than tasks, and workers that are all as fast: gradients of equal length.
    presets: ClassVar[Mapping[str, Tables]] = {"four-steps": _preset(4, 0.5), "eight-steps": _preset(8, 0.6)}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        steps: Positive = 8  #: local steps per task, H
        rate: Real = 0.1  #: learning rate of the local steps; rank 0's rate is in [optimizer]

        candidates: ClassVar[Candidates] = {"steps": (1, 2, 4, 8)}

    @property
    def steps(self) -> np.ndarray:
        """H, the number of local steps of a task: of all workers, shape (1,), or of each, shape (n,)."""
        return np.array([self.options.steps])

    @property
    def task_size(self) -> TaskSize:
        return TaskSize(self.steps.tolist())

    def optimizer(self, problem: Problem, span: float = 1.0) -> Optimizer:
        return super().optimizer(problem, span * self.span)

    @property
    def span(self) -> float:
        """Learning rate of the local steps of a task together, η·H."""
        return float(self.options.rate * self.steps.mean())

    def inner_optimizer(self, problem: Problem) -> InnerOptimizer:
        """Build the optimizer of a worker's local steps."""
        return InnerSGD(self.options.rate, problem.dtype)

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        batch, steps = self.config.problem.batch, int(np.broadcast_to(self.steps, self.workers)[worker])
        batches = problem.batches(self.config.seed, worker, steps * batch)
        weight = builders.gradient_weight(self.config, problem, rows)
        plan = problem.plan(batch, whiten=self.config.code.whitening)
        return LocalSteps(plan, batches, steps, self.inner_optimizer(problem), weight)

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        step = flops.gradient_flops(self.config, problem, shard) + flops.touched(problem, self.inner_touches)
        coding = flops.coding_flops(self.config, problem, layouts[number])
        rows = float(self.steps.mean()) * (self.config.problem.batch or shard)
        return Work(self.steps * step + coding, rows)
