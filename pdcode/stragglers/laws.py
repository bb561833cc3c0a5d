"""Laws of delay that take a few lines each."""

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import Delay, Duration, Factor, Fraction, Real, StragglersTable
from ..util.formats import duration
from .base import Delayed, DelayModel, Integers, Law, Reals


class NoDelays(StragglersTable, tag="none"):
    """No injected delays."""

    def make(self, seed: int, workers: int) -> DelayModel:
        return ConstantDelays(SlowSet(), seed, workers)

    def describe(self) -> str:
        return "none injected"


class Shifted(Law):
    """A constant delay plus a random part."""

    shift_s: Delay = 0.0  #: constant part of every delay [s]

    def description(self) -> str:
        shift = format_s(self.shift_s) if self.shift_s else ""
        return " plus ".join(filter(None, (shift, self.random_part()))) or "none"

    def random_part(self) -> str:
        """Return a description of the random part, for `description`."""
        return ""


def format_s(seconds: float) -> str:
    """Format a time in s for people."""
    return duration(1e9 * seconds)


class ShiftedExponential(Shifted, tag="shifted-exponential", kw_only=True):
    """Shifted exponential law, shift_s + mean_s · Exp(1): the usual service times in coded computing.

    Lee, Lam, Pedarsani, Papailiopoulos, Ramchandran, "Speeding up distributed machine learning using codes",
    IEEE Trans. Inf. Theory 2018.
    """

    mean_s: Duration  #: mean of the exponential part [s]

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s - self.mean_s * np.log1p(-u)

    def random_part(self) -> str:
        return f"an exponential one of mean {format_s(self.mean_s)}"


class Pareto(Law, tag="pareto", kw_only=True):
    """Pareto law, heavy-tailed: shift_s · U^(-1/shape), longer than t with probability (shift_s / t)^shape.

    The mean is shift_s · shape / (shape - 1), infinite for shape ≤ 1; the variance is infinite for shape ≤ 2.
    Response times in data centres have such tails (Dean, Barroso, "The tail at scale", Comm. ACM 2013).
    """

    shift_s: Duration  #: least delay [s]
    shape: Real  #: exponent of the tail; the mean is infinite for shape ≤ 1

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s * (1 - u) ** (-1 / self.shape)

    def description(self) -> str:
        return f"at least {format_s(self.shift_s)}, with a tail of shape {self.shape:g}"


class Bimodal(Shifted, tag="bimodal", kw_only=True):
    """Two delays: shift_s, or with ``probability`` shift_s + extra_s, drawn independently for each task."""

    extra_s: Duration  #: additional delay of slow tasks [s]
    probability: Fraction  #: probability of a slow task

    def delay_s(self, u: Reals) -> Reals:
        return self.shift_s + self.extra_s * (u < self.probability).astype(np.float64)

    def random_part(self) -> str:
        return f"{format_s(self.extra_s)} in {100 * self.probability:g} % of the tasks"


class Lognormal(Shifted, tag="lognormal", kw_only=True):
    """Lognormal law, shift_s + median_s · exp(sigma · N) with N standard normal: a product of many causes.

    The mean is shift_s + median_s · exp(sigma² / 2). N is cos(2πV) √(-2 ln U) of two uniform numbers (Box,
    Muller, "A note on the generation of random normal deviates", Ann. Math. Statist. 1958).
    """

    uniforms: ClassVar[int] = 2

    median_s: Duration  #: median of the lognormal part [s]
    sigma: Annotated[float, Meta(gt=0, le=10)]  #: standard deviation of the logarithm

    def delay_s(self, u: Reals, v: Reals) -> Reals:
        normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
        return self.shift_s + self.median_s * np.exp(self.sigma * normal)

    def random_part(self) -> str:
        return f"a lognormal one of median {format_s(self.median_s)} and sigma {self.sigma:g}"


class SlowSet(Shifted, tag="slow-set"):
    """Permanently slow workers: a task is delayed by shift_s, on the workers in ``slow`` by slowdown × that.

    Without shift_s, slow workers take slowdown × their own compute time.
    """

    def make(self, seed: int, workers: int) -> DelayModel:
        return ConstantDelays(self, seed, workers)

    def slowdown_text(self, that: str = "that") -> str:
        return super().slowdown_text("that" if self.shift_s else COMPUTE_TIME)


COMPUTE_TIME = "the task's compute time in all"


class Heterogeneous(Delayed, tag="heterogeneous"):
    """Workers of graded speed: worker i of n is slower than worker 0 by 1 + (slowdown - 1) · i / (n - 1).

    Its delay is this factor times shift_s. Without shift_s, its tasks take this factor times its own compute
    time.
    """

    shift_s: Delay = 0.0  #: delay of worker 0; 0: factors apply to the compute time [s]
    slowdown: Factor = 1.0  #: factor of the last worker's delays; worker 0 has 1, others are evenly spaced

    def make(self, seed: int, workers: int) -> DelayModel:
        return ConstantDelays(self, seed, workers)

    def factors(self, workers: int) -> Reals:
        return np.linspace(1, self.slowdown, workers)

    def description(self) -> str:
        that = "that" if self.shift_s else COMPUTE_TIME
        first = format_s(self.shift_s) if self.shift_s else "none"
        return f"{first} for worker 0, up to {self.slowdown:g}× {that} for the last"


class ConstantDelays(DelayModel):
    """Constant delays: a worker's factor times shift_s, or without shift_s times its compute time."""

    def _draw_s(self, workers: Integers, first: Integers, count: int) -> Reals:
        return np.full((len(workers), count), self.table.shift_s)

    def stretch(self, workers: Any) -> Reals:
        factors: Reals = self.factor[workers]
        return (factors - 1) * (self.table.shift_s == 0)
