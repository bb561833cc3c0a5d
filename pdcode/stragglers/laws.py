"""Delays of a few lines each."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config.tables import Factor, Fraction, NonNegative, Real, StragglersTable
from ..util.formats import duration
from .base import Delayed, Integers, Law, Model, Reals


class NoDelays(StragglersTable, tag="none"):
    """Tasks take what they compute."""

    def make(self, seed: int, workers: int) -> Model:
        return Undelayed(Delayed(), seed, workers)

    def describe(self) -> str:
        return "none injected"


class Undelayed(Model):
    """No delays."""

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        return np.zeros((len(workers), count))


class Shifted(Law):
    """A constant, and a random part."""

    shift_s: NonNegative = 0.0  # of every delay

    def words(self) -> str:
        shift = time(self.shift_s) if self.shift_s else ""
        return " plus ".join(filter(None, (shift, self.part()))) or "none"

    def part(self) -> str:
        """What is drawn beside the constant, for `describe`."""
        return ""


def time(seconds: float) -> str:
    """A time as people read it."""
    return duration(1e9 * seconds)


class ShiftedExponential(Shifted, tag="shifted-exponential", kw_only=True):
    """shift_s + mean_s · Exp(1) for each task: the usual model of service times in coded computing (Lee, Lam,
    Pedarsani, Papailiopoulos, Ramchandran, "Speeding up distributed machine learning using codes", IEEE
    Trans. Inf. Theory 2018)."""

    mean_s: Real  # of the exponential part

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s - self.mean_s * np.log1p(-u)

    def part(self) -> str:
        return f"an exponential one of mean {time(self.mean_s)}"


class Pareto(Law, tag="pareto", kw_only=True):
    """A heavy tail: shift_s · U^(-1/shape), which is longer than t with probability (shift_s / t)^shape.

    The mean is shift_s · shape / (shape - 1), and infinite where shape ≤ 1; the variance is where shape ≤ 2.
    Response times in data centres have such tails (Dean, Barroso, "The tail at scale", Comm. ACM 2013).
    """

    shift_s: Real  # the least delay
    shape: Real  # of the tail

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s * (1 - u) ** (-1 / self.shape)

    def words(self) -> str:
        return f"at least {time(self.shift_s)}, with a tail of shape {self.shape:g}"


class Bimodal(Shifted, tag="bimodal", kw_only=True):
    """shift_s, and extra_s more with ``probability``: a Bernoulli draw a task."""

    extra_s: Real  # more for the slow tasks
    probability: Fraction  # of a slow task

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s + self.extra_s * (u < self.probability).astype(np.float64)

    def part(self) -> str:
        return f"{time(self.extra_s)} in {100 * self.probability:g} % of the tasks"


class Lognormal(Shifted, tag="lognormal", kw_only=True):
    """shift_s + median_s · exp(sigma · N), a product of many small causes: N is standard normal, and the mean
    is shift_s + median_s · exp(sigma² / 2).

    N is cos(2πV) √(-2 ln U) of two uniform numbers (Box, Muller, "A note on the generation of random normal
    deviates", Ann. Math. Statist. 1958).
    """

    uniforms: ClassVar[int] = 2

    median_s: Real  # of the lognormal part
    sigma: Annotated[float, Meta(gt=0, le=10)]  # standard deviation of its logarithm

    def delay_s(self, u: Reals, v: Reals) -> Reals:
        normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
        return self.shift_s + self.median_s * np.exp(self.sigma * normal)

    def part(self) -> str:
        return f"a lognormal one of median {time(self.median_s)} and sigma {self.sigma:g}"


class SlowSet(Shifted, tag="slow-set"):
    """Workers that are slow all the time: every task is delayed by shift_s, on the workers in ``slow`` by
    ``slowdown`` times that. Without shift_s, slow workers take ``slowdown`` times their own compute time."""

    def make(self, seed: int, workers: int) -> Model:
        return Constant(self, seed, workers)

    def slower(self, that: str = "that") -> str:
        return super().slower("that" if self.shift_s else OWN)


OWN = "the task's compute time in all"


class Heterogeneous(Delayed, tag="heterogeneous"):
    """Worker i of n is 1 + (slowdown - 1) · i / (n - 1) times as slow as worker 0: so many times shift_s, or
    without shift_s its own compute time."""

    shift_s: NonNegative = 0.0  # of worker 0
    slowdown: Factor = 1.0  # of the last worker

    def make(self, seed: int, workers: int) -> Model:
        return Constant(self, seed, workers)

    def factors(self, workers: int) -> Reals:
        return np.linspace(1, self.slowdown, workers)

    def words(self) -> str:
        that = "that" if self.shift_s else OWN
        first = time(self.shift_s) if self.shift_s else "none"
        return f"{first} for worker 0, up to {self.slowdown:g}× {that} for the last"


class Constant(Model):
    """shift_s times a worker's factor; without shift_s its compute time times that."""

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        return np.full((len(workers), count), self.table.shift_s)

    def stretch(self, workers: Any) -> Reals:
        factors: Reals = self.factor[workers]
        return (factors - 1) * (self.table.shift_s == 0)
