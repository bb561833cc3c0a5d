"""Shadowheart SGD: as many gradients, and compressed messages of their mean, as fit into a common time.

Tyurin, Pozzi, Ilin and Richtárik, "Shadowheart SGD: distributed asynchronous SGD with optimal time complexity
under arbitrary computation and communication heterogeneity", NeurIPS 2024. Worker i takes the time h_i for a
gradient, and τ_i for a message of k random elements, a compressor of variance ω = d/k - 1. At each θ it
computes b_i = ⌊t*/h_i⌋ gradients and sends m_i = ⌊t*/τ_i⌋ such messages of their sum. Rank 0 steps by the
mean of the messages, with weights 1/(b_i ω + ω σ²/ε + m_i σ²/ε) for worker i, and does not wait for
workers with b_i m_i = 0. The equilibrium time t* is the least, over the numbers j of fastest workers, of
max(h_j, τ_j, s) with

    s = 1 / Σ_{i ≤ j} 1 / (2 τ_i ω + 4 τ_i h_i ω (σ²/ε) / s + 2 h_i σ²/ε).

Times are from ``[machine]``, ``[link]`` and ``[stragglers]``, or measured. This project's: links are
equal, so that m is one number, at most ⌈d/k⌉ as in the authors' code; the m messages of a worker are one
payload of m sets of elements, drawn at both ends; k/d is the same in each layer; workers that are not waited
for try a gradient each.
"""

from collections.abc import Sequence
from functools import cached_property
from math import ceil
from typing import ClassVar

import msgspec
import numpy as np
from scipy import optimize

from ..coding import flops
from ..coding.memory import Memoryless, PayloadEncoder
from ..coding.source import BatchGradient, Source
from ..config import Candidates, Config, Count, NonNegative, Positive, Tables
from ..config.requirements import KeyNeeds, Need, Needs, given, none_of, one_of
from ..problems import Problem
from ..schemes.base import EXCHANGE, NESTEROV, WHITENED, Entrants, TaskSize, Work
from ..schemes.common import builders
from ..schemes.elements import SingleElements
from ..transport.layout import Layout
from ..transport.messages import Reply, Task
from ..util.errors import InputError
from ..util.formats import duration
from .randomk import DRAW_FLOPS, RandomK

MARGIN = 1e-9  # relative one, for rounding errors


def equilibrium_s(gradient_s: np.ndarray, message_s: float, variance: float, noise: float) -> float:
    """Return the equilibrium time t* in s.

    Parameters
    ----------
    gradient_s : ndarray of float64, shape (n,)
        Time of a gradient of each worker, h_i; infinite if it never answers.
    message_s : float
        Time of a message, τ.
    variance : float
        Variance of the compressor, ω.
    noise : float
        Variance of a gradient over the squared norm of the gradient to reach, σ²/ε.
    """
    found = []
    for number, slowest_s in enumerate(times_s := np.sort(gradient_s[np.isfinite(gradient_s)]), 1):
        sums = 2 * message_s * variance + 2 * times_s[:number] * noise
        products = 4 * message_s * variance * times_s[:number] * noise
        # The root is between those if all workers were as the fastest one, and if it were alone.
        low, high = (
            (sums[0] + np.sqrt(sums[0] ** 2 + 4 * many * products[0])) / (2 * many) for many in (number, 1)
        )
        found.append(max(slowest_s, message_s, low))
        if 0 < low < high:
            bracket = low * (1 - MARGIN), high * (1 + MARGIN)
            root = optimize.brentq(lambda s, a, b: np.sum(s / (a + b / s)) - 1, *bracket, (sums, products))
            found[-1] = max(found[-1], root)
    return float(min(found))


class ElementsEncoder(Memoryless):
    """Encoder of single elements, which codewords may have several times."""

    state_names = ("source",)

    def __init__(self, source: Source, reply: Reply) -> None:
        super().__init__(reply)
        self.source = source

    def encode(self, theta: np.ndarray, task: Task) -> float:
        loss, reply = self.source(theta, task), self._reply
        for unit, view, (places, _) in zip(reply.layout.units, reply.payloads, task.codewords, strict=True):
            own = self.source.gradient[unit.offset : unit.offset + unit.length]
            view[:] = own[places]
        return loss


class Shadowheart(RandomK):
    """Shadowheart SGD: means of as many gradients, in as many random elements, as fit into a common time."""

    name = "shadowheart"
    summary = "random elements of the mean of as many gradients as a worker computes in a common time"
    entrants: ClassVar[Entrants] = {
        "Shadowheart": f"{EXCHANGE}{NESTEROV}",
        "whitened Shadowheart": f"{EXCHANGE}{WHITENED}",
    }
    requires: ClassVar[Needs] = {
        "memory.kind": one_of("none", why="has an unbiased compressor"),
        "decoder.kind": one_of("adjoint", why="has an unbiased compressor"),
        "update.mode": one_of("first", why="waits for the workers that are fast enough"),
        "update.late": one_of("waste", why="weights the payloads of an update"),
        "update.count": none_of("auto", needed="a number", why="counts the workers that are fast enough"),
        "problem.batch": Need(lambda batch, config: batch > 0, "a positive number", "averages mini-batches"),
    }
    tables: ClassVar[Tables] = {
        **RandomK.tables,
        "memory": {"kind": "none"},
        "update": {"mode": "first", "late": "waste"},
    }

    class Options(SingleElements.Options):
        """Keys of ``[scheme] options``."""

        noise: NonNegative = 4.0  #: σ²/ε, variance of a gradient over the squared norm of that to reach
        #: b_i, gradients of each worker's task; 0 for all but the `update.count` that are waited for; none:
        #: by the times of gradients and messages, as are m and `update.count`
        gradients: list[Count] = msgspec.field(default_factory=list)
        draws: Positive = 1  #: m, messages of a task

        candidates: ClassVar[Candidates] = {
            "share": (0.0025, 0.01, 0.05, 0.2, 1.0), "noise": (0.25, 1.0, 4.0, 16.0, 64.0),
            "update.count": (),
        }  # fmt: skip

        effective: ClassVar[KeyNeeds] = {"draws": {"scheme.options.gradients": given("numbers")}}

    @classmethod
    def check(cls, config: Config) -> None:
        super().check(config)
        gradients, workers = config.scheme.options.gradients, config.workers.count
        waited = config.update.min_payloads(workers)
        if gradients and (len(gradients) != workers or np.count_nonzero(gradients) != waited):
            raise InputError(
                f"scheme.options.gradients: {gradients} for {workers} workers and update.count {waited}; "
                "give each a number, above 0 for workers that are waited for"
            )

    @property
    def awaits_speeds(self) -> bool:
        return not self.options.gradients

    def with_speeds(self, problem: Problem, rates: np.ndarray, bandwidth: float) -> tuple[Config, str]:
        if not rates.any():
            raise InputError("stragglers.dead: no worker is left")
        gradient_s = np.divide(1.0, rates, out=np.full(self.workers, np.inf), where=rates > 0)
        (layout,) = self.layouts(problem, [1] * len(problem.layers))
        message_s = self.workers * layout.payload_bytes / bandwidth
        common_s = equilibrium_s(gradient_s, message_s, self._variance, self.options.noise)
        gradients = [int(common_s / each * (1 + MARGIN)) for each in gradient_s]
        draws = min(int(common_s / message_s * (1 + MARGIN)), ceil(1 / self.options.share))
        options = msgspec.structs.replace(self.options, gradients=gradients, draws=draws)
        count = int(np.count_nonzero(gradients))
        least, common, message = (duration(1e9 * each) for each in (gradient_s.min(), common_s, message_s))
        return self.config.with_keys(scheme={"options": options}, update={"count": count}), (
            f"scheme.options.draws {draws}, gradients {min(gradients)} to {max(gradients)} a worker: as many "
            f"as fit into {common}; a message takes {message}, a gradient {least} at the fastest worker"
        )

    @property
    def draws(self) -> int:
        return int(self.options.draws)

    @cached_property
    def counts(self) -> np.ndarray:
        """Gradients of each worker's task, int64, shape (n,); 1 for workers that are not waited for."""
        return np.maximum(1, np.broadcast_to(np.array(self.options.gradients or [1]), self.workers))

    @cached_property
    def weights(self) -> np.ndarray:
        """Factor of each worker's mean gradient in a mean over the payloads of active workers, shape (n,)."""
        variance, noise = self._variance, self.options.noise
        error = self.counts * variance + variance * noise + self.draws * noise
        weights = self.counts / (error if error.all() else 1.0)
        return weights / weights[np.array(self.options.gradients or self.counts) > 0].mean()

    @property
    def _variance(self) -> float:
        return 1 / self.options.share - 1

    @property
    def task_size(self) -> TaskSize:
        return TaskSize(self.counts.tolist())

    def source(self, problem: Problem, worker: int, rows: int, reply: Reply | None = None) -> Source:
        batch = int(self.counts[worker]) * self.config.problem.batch
        weight = builders.gradient_weight(self.config, problem, rows) * float(self.weights[worker])
        plan = problem.plan(batch, weight=weight, whiten=self.config.code.whitening)
        return BatchGradient(plan, problem.batches(self.config.seed, worker, batch))

    def encoders(
        self, problem: Problem, worker: int, rows: int, replies: Sequence[Reply]
    ) -> Sequence[PayloadEncoder]:
        (reply,) = replies
        return [ElementsEncoder(self.source(problem, worker, rows), reply)]

    def work(self, problem: Problem, layouts: Sequence[Layout], number: int, shard: int) -> Work:
        rows, (layout,) = self.counts * self.config.problem.batch, layouts
        gradients = [problem.gradient_flops(each, self.config.code.whitening) for each in rows.tolist()]
        coding = flops.message_flops(self.config, problem, layout) + DRAW_FLOPS * sum(layout.rows)
        return Work(np.array(gradients) + coding, float(rows.mean()))
