"""Penalties h of the weights; a step ends by the proximal operator of h.

Proximal gradient descent (Lions and Mercier 1979; Beck and Teboulle, "A fast iterative shrinkage-thresholding
algorithm for linear inverse problems", SIAM J. Imaging Sci. 2009) minimises f + h, f being the loss: θ ←
prox_{ηh}(θ - η ĝ), where prox_{ηh}(z) is the x that minimises ½‖x - z‖² + ηh(x). Unlike a step by the
gradient of a penalty it makes weights exactly zero, or keeps them in a set. Biases have no part in h, unless
``problem.penalise_bias`` is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from ..config import MAX_VALUE, NonNegative, Positive, Proximal
from ..config.requirements import KeyNeeds, one_of
from ..kernels import proximal
from ..util.errors import InputError

if TYPE_CHECKING:
    from ..problems import Problem

Bound = Annotated[float, Meta(ge=-MAX_VALUE, le=MAX_VALUE)]


class L1(Proximal, tag="l1"):
    """h = weight · Σ|w|, which makes weights zero: with least squares the lasso of Tibshirani 1996."""

    weight: NonNegative  #: factor of Σ|w|, scikit-learn's `alpha`

    def shrink(self, weights: np.ndarray, step: float) -> None:
        proximal.shrink(weights, step * self.weight, 1.0, -inf, inf)

    def value(self, weights: np.ndarray) -> float:
        return self.weight * float(np.abs(weights).sum(dtype=np.float64))


class ElasticNet(Proximal, tag="elastic-net"):
    """h = l1 · Σ|w| + ½ · l2 · Σw²: zeros, but weights of like inputs stay alike (Zou and Hastie 2005)."""

    l1: NonNegative  #: factor of Σ|w|, scikit-learn's `alpha * l1_ratio`
    l2: NonNegative  #: factor of ½Σw², scikit-learn's `alpha * (1 - l1_ratio)`

    def shrink(self, weights: np.ndarray, step: float) -> None:
        proximal.shrink(weights, step * self.l1, 1 / (1 + step * self.l2), -inf, inf)

    def value(self, weights: np.ndarray) -> float:
        squares = float(np.square(weights, dtype=np.float64).sum())
        return self.l1 * float(np.abs(weights).sum(dtype=np.float64)) + 0.5 * self.l2 * squares


class Box(Proximal, tag="box"):
    """Bounds of the weights: h is 0 between them, infinite elsewhere, and each step ends by a projection."""

    bounded = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {
            **Proximal.requires["kind"],
            "optimizer.nesterov": one_of(False, why="holds θ in a set that Nesterov's momentum leaves"),
        }
    }

    low: Bound | None = None  #: smallest weight; none: no bound
    high: Bound | None = None  #: largest weight; none: no bound

    def check_config(self, config: Any) -> None:
        if self.low is None and self.high is None:
            raise InputError(f"{self.table}.low: give a bound, low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"{self.table}.low: {self.low:g} is above {self.table}.high, {self.high:g}")

    def shrink(self, weights: np.ndarray, step: float) -> None:
        low, high = -inf if self.low is None else self.low, inf if self.high is None else self.high
        proximal.shrink(weights, 0.0, 1.0, low, high)

    def value(self, weights: np.ndarray) -> float:
        return 0.0


class GroupLasso(Proximal, tag="group-lasso"):
    """h = weight · Σ √p ‖w‖ over groups of p weights, which become zero together (Yuan and Lin 2006).

    A group has the weights of one input of a layer to all of its outputs: if it is zero, the layer does not
    need the input, or hidden unit. With one output and ``inputs = 1`` this is ``l1``.
    """

    weight: NonNegative  #: factor of the sum of norms
    inputs: Positive = 1  #: consecutive inputs of a layer that make a group; the last group may have fewer

    def shrink(self, weights: np.ndarray, step: float) -> None:
        norms, scales, inputs = self._groups(weights)
        with np.errstate(divide="ignore", invalid="ignore"):  # of groups that are zero
            factors = np.where(norms > 0, np.maximum(1 - step * self.weight * scales / norms, 0), norms)
        weights *= np.repeat(factors, inputs).astype(weights.dtype)

    def value(self, weights: np.ndarray) -> float:
        norms, scales, _ = self._groups(weights)
        return self.weight * float(scales @ norms)

    def _groups(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return norm, √p, and number of inputs of each group."""
        outputs, width = weights.shape
        starts = np.arange(0, width, self.inputs)
        squares = np.square(weights).sum(axis=0, dtype=np.float64)
        inputs = np.diff(starts, append=width)
        return np.sqrt(np.add.reduceat(squares, starts)), np.sqrt(outputs * inputs), inputs


class UnitNorm(Proximal, tag="unit-norm"):
    """Projection: the weights of each input of a layer have norm 1, as the features of a dictionary.

    Unlike the other kinds it goes with whitened steps, since it does not depend on the length of a step.
    """

    bounded = True
    requires: ClassVar[KeyNeeds] = {
        "kind": {"optimizer.nesterov": one_of(False, why="holds θ in a set that Nesterov's momentum leaves")}
    }

    def shrink(self, weights: np.ndarray, step: float) -> None:
        norms = np.sqrt(np.square(weights).sum(axis=0))
        weights /= np.where(norms > 0, norms, 1)

    def value(self, weights: np.ndarray) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class Penalty:
    """The penalty h of a model's weights."""

    kind: Proximal
    problem: Problem

    def apply(self, theta: np.ndarray, step: float) -> None:
        """Replace θ, shape (size,), by prox_{step·h}(θ); a step of 0 only moves it into the domain of h."""
        for weights in self.problem.penalised(theta):
            self.kind.shrink(weights, step)

    def value(self, theta: np.ndarray) -> float:
        """Return h(θ); 0, and not infinity, if θ is outside its domain."""
        return sum(self.kind.value(weights) for weights in self.problem.penalised(theta))


def penalty_of(kind: Proximal | None, problem: Problem) -> Penalty | None:
    """Return the penalty of a table ``[optimizer]``; None if it has none."""
    return None if kind is None else Penalty(kind, problem)
