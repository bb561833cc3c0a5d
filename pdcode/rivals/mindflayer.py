"""MindFlayer SGD: gradients that take a worker too long are interrupted, and count as zero.

Maranjyan, Omar and Richtárik, "MindFlayer SGD: efficient parallel SGD in the presence of heterogeneous and
random worker compute times", UAI 2025. At each θ worker i makes B trials of a gradient, and interrupts a
trial after the time t_i. With the probability p_i of a trial's success, rank 0 steps by the sum of the
gradients over B Σ p_i, which is unbiased, and no heavy tail of delays holds it up.

Source: the abstract and descriptions of the paper. This project's: a worker sends the sum of its trials; all
workers have the same B; by default t_i is the median of worker i's delays. p_i is estimated from delays under
another seed. Only injected delays are interrupted, not delays that are multiples of the compute time, and a
worker that is slow by itself is waited for.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np

from ..coding import flops
from ..coding.source import Source
from ..config import Candidates, Positive, Seconds, Table, Tables
from ..config.requirements import Needs, one_of
from ..problems import GradientPlan, Problem
from ..schemes.base import NESTEROV, UNCODED, WHITENED, Entrants, Scheme, TaskSize, Work
from ..schemes.common import builders
from ..stragglers import DelayModel
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..util.rng import BatchSampler

DRAWS = 1024  # delays of a worker, from which its time and probability are estimated


class Trials(Source):
    """Source of the sum of a task's gradients whose delays in s, by `delays`, are at most `limit_s`."""

    def __init__(
        self,
        plan: GradientPlan,
        batches: BatchSampler,
        delays: DelayModel,
        worker: int,
        trials: int,
        limit_s: float,
    ) -> None:
        self._plan, self._batches, self._delays, self._worker = plan, batches, delays, worker
        self._trials, self._limit_s = trials, limit_s
        self.gradient = np.empty(plan.size, plan.dtype)

    def __call__(self, theta: np.ndarray, task: Task) -> float:
        first = [task.task * self._trials]
        succeeds = self._delays.delays_s([self._worker], first, self._trials)[0] <= self._limit_s
        rows, losses = self._batches.draw(task.task), []
        self.gradient.fill(0)
        for trial in np.flatnonzero(succeeds):
            own = rows if self._batches.full else np.split(rows, self._trials)[trial]
            losses.append(self._plan.gradient(theta, own, self._batches.key(task.task, int(trial))))
            self.gradient += self._plan.full_gradient
        return float(np.mean(losses)) if losses else float("nan")


class MindFlayer(Scheme):
    """MindFlayer SGD: B trials of a gradient at each worker, each within a time; the sum of the successes."""

    name = "mindflayer"
    summary = "the sum of the gradients, of B at each worker, that are not delayed for too long"
    entrants: ClassVar[Entrants] = {"MindFlayer": NESTEROV, "whitened MindFlayer": WHITENED}
    requires: ClassVar[Needs] = {"update.mode": one_of("all", why="expects the trials of every worker")}
    tables: ClassVar[Tables] = {**UNCODED, "update": {"mode": "all"}}

    class Options(Table):
        """Keys of ``[scheme] options``."""

        trials: Positive = 2  #: B, trials of a gradient at each worker and θ
        #: t, longest delay of a trial [s]; none: the median of each worker's delays
        limit_s: Seconds | None = None

        candidates: ClassVar[Candidates] = {"trials": (1, 2, 4)}

    @cached_property
    def _drawn_s(self) -> np.ndarray:
        """Delays of each worker under another seed, shape (n, DRAWS)."""
        model = self.config.stragglers.make(self.config.seed + 1, self.workers)
        drawn: np.ndarray = model.delays_s(np.arange(self.workers), np.zeros(self.workers, np.int64), DRAWS)
        return drawn

    @cached_property
    def limits_s(self) -> np.ndarray:
        """Longest delay of a trial of each worker, t_i, shape (n,)."""
        given = self.options.limit_s
        return np.median(self._drawn_s, axis=1) if given is None else np.full(self.workers, given)

    @property
    def task_size(self) -> TaskSize:
        return TaskSize([float(self.options.trials)], limits_s=self.limits_s)

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        batch, trials = self.config.problem.batch, self.options.trials
        batches = problem.batches(self.config.seed, worker, trials * batch)
        successes = max(1.0, float((self._drawn_s <= self.limits_s[:, None]).mean(axis=1).sum()) * trials)
        weight = builders.gradient_weight(self.config, problem, rows) * self.workers / successes
        plan = problem.plan(batch, weight=weight, whiten=self.config.code.whitening)
        delays = self.config.stragglers.make(self.config.seed, self.workers)
        return Trials(plan, batches, delays, worker, trials, float(self.limits_s[worker]))

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        trials = self.options.trials
        one = flops.gradient_flops(self.config, problem, shard) + flops.touched(problem, 2.0)
        coding = flops.coding_flops(self.config, problem, layouts[number])
        return Work(trials * one + coding, trials * (self.config.problem.batch or shard))
