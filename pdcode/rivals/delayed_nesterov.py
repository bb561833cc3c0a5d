"""Asynchronous local SGD with delayed Nesterov momentum and local steps in proportion to speed.

Liu, Chhaparia, Douillard, Kale, Rusu, Shen, Szlam and Ranzato, "Asynchronous local-SGD training for language
modeling", 2024. Workers take local steps of AdamW as in DiLoCo, and rank 0 steps at every displacement g.
Delayed Nesterov (DN, algorithm 3 of the paper with c = 0, its default): each step moves θ by a gradient step,
θ ← θ - η g/N; only every N-th updates the momentum by the mean of the last N, m ← βm + Σg/N, and also moves θ
by ηβm. N steps thus equal one step of Nesterov's momentum by the mean of their gradients. Dynamic local
updates (DyLU, equation 6): a worker of speed v takes ⌊v/max v · H⌋ steps a task, so that tasks take equally
long.

Speeds are assumed to be known, as in the paper, and are given by the option ``speeds``; by default they are
equal. This project's choices: by default N is the number of workers, and a worker takes at least one step.
Left out: a fraction c of the momentum in the other steps, the grace period in which rank 0 collects
displacements before it sends θ, the choice of a shard for each task, and schedules of the inner rate.
"""

from typing import Any, ClassVar

import msgspec
import numpy as np

from ..coding.optimizers import Momentum, Optimizer
from ..config import Config, Positive, Real, Tables
from ..config.requirements import Needs, one_of
from ..problems import Problem
from ..util.errors import InputError
from .diloco import DiLoCo


class DelayedMomentum(Momentum):
    """Nesterov's momentum, updated at every N-th step by the mean of the last N gradients.

    Between these steps the velocity is βm plus 1/N of the gradients since then. `period` is N.
    """

    def __init__(self, period: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._period = period
        self.state["steps"] = np.zeros(1, np.int64)

    def coefficients(self) -> tuple[float, float, float, float]:
        beta, share, step = self.table.momentum, 1 / self._period, int(self.state["steps"][0]) % self._period
        first, last = step == 0, step == self._period - 1
        return beta if first else 1.0, share, share, beta if last else 0.0

    def _advance(self, rate: float) -> float:
        total = super()._advance(rate)
        self.state["steps"] += 1
        return total


OWN_MOMENTUM = "has Nesterov's momentum, delayed"


class DelayedNesterov(DiLoCo):
    """Asynchronous DiLoCo with delayed Nesterov momentum, and local steps in proportion to speed."""

    name = "delayed-nesterov"
    summary = "asynchronous DiLoCo; the momentum is updated every N displacements"
    tables: ClassVar[Tables] = {**DiLoCo.tables, "update": {"mode": "async"}}
    requires: ClassVar[Needs] = {
        "optimizer.kind": one_of("sgd", why=OWN_MOMENTUM),
        "optimizer.nesterov": one_of(
            True, why=OWN_MOMENTUM, when=lambda config: config.optimizer.momentum > 0
        ),
        "optimizer.proximal": one_of(None, why="has steps of its own"),
    }

    class Options(DiLoCo.Options):
        """Keys of ``[scheme] options``."""

        period: Positive | None = None  #: N, updates per update of the momentum; none: the number of workers
        #: speed of each worker, in any unit: the fastest takes `steps` local steps a task, the others as many
        #: as fit into that time; none: all are equal
        speeds: list[Real] = msgspec.field(default_factory=list)

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        speeds = config.scheme.options.speeds
        if speeds and len(speeds) != config.workers.count:
            raise InputError(
                f"scheme.options.speeds: {len(speeds)} for {config.workers.count} workers; give one for each"
            )

    @property
    def steps(self) -> np.ndarray:
        speeds = np.array(self.options.speeds or [1.0])
        # 1e-9: an exact ratio must not be rounded below its value.
        steps = np.floor(speeds / speeds.max() * self.options.steps + 1e-9)
        return np.maximum(1, steps).astype(np.int64)

    def optimizer(self, problem: Problem, span: float = 1.0) -> Optimizer:
        period = self.options.period or self.workers
        table, size, dtype = self.config.optimizer, problem.size, problem.dtype
        return DelayedMomentum(period, table, size, dtype, problem.layers, span * self.span)
