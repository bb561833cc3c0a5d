"""Kinds of problems whose samples have weights: the last column of the targets."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..util.errors import InputError
from .losses import Loss
from .matrix import Array


class Weighted(Loss):
    """Problem with real targets and, as a last column, weights of samples: (B, T + 1) for T outputs."""

    classes: ClassVar[bool | None] = False
    deep: ClassVar[bool] = True
    plain: ClassVar[str]  #: kind for samples without weights

    def outputs_for(self, targets: int, classes: int | None) -> int:
        if targets < 2:
            raise InputError(
                f"problem.kind: {self.kind!r} needs targets and, as a last column, the samples' weights, but "
                f"{self.data!r} has one column of targets; without weights take {self.plain!r}"
            )
        return targets - 1

    def loss(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        weights = targets[:, -1]
        losses, derivatives = self.unweighted(outputs, targets[:, :-1])
        return weights * losses, weights[:, None] * derivatives

    def unweighted(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Compute losses and derivatives as `loss`, without weights."""
        raise NotImplementedError

    def accuracy(self, outputs: Array, targets: Array) -> float:
        weights, hits = targets[:, -1].astype(np.float64), self.hits(outputs, targets[:, :-1])
        return float(weights @ hits / max(weights.sum(), 1e-300))

    def hits(self, outputs: Array, targets: Array) -> Array:
        """Return whether each sample is predicted right, shape (B,)."""
        raise NotImplementedError


class WeightedLeastSquares(Weighted, tag="weighted-least-squares"):
    """Least squares of samples with weights: ½w‖z - t‖²."""

    score: ClassVar[str] = "R²"
    plain: ClassVar[str] = "least-squares"

    def unweighted(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        left = outputs - targets
        return 0.5 * np.square(left).sum(axis=1), left

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """Return R² of weighted squares; for constant targets, 1 if they are met exactly and 0 if not."""
        weights, t = targets[:, -1:].astype(np.float64), targets[:, :-1]
        mean = (weights * t).sum(axis=0) / max(weights.sum(), 1e-300)
        variation, left = (float((weights * np.square(t - each)).sum()) for each in (mean, outputs))
        return 1 - left / variation if variation else float(left == 0)


class WeightedSoftmax(Weighted, tag="weighted-softmax"):
    """Cross-entropy of the softmax of outputs and probabilities of classes, times the weight."""

    plain: ClassVar[str] = "softmax"

    def unweighted(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(axis=1, keepdims=True)
        losses = -(targets * (shifted - np.log(sums))).sum(axis=1)
        return losses, exponentials / sums * targets.sum(axis=1, keepdims=True) - targets

    def hits(self, outputs: Array, targets: Array) -> Array:
        return np.argmax(outputs, axis=1) == np.argmax(targets, axis=1)


class Multilabel(Weighted, tag="multilabel"):
    """Sum of the cross-entropies of labels, 0 or 1, and the sigmoids of the outputs, times the weight."""

    plain: ClassVar[str] = "logistic"

    def unweighted(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        from scipy.special import expit

        return (np.logaddexp(0, outputs) - targets * outputs).sum(axis=1), expit(outputs) - targets

    def hits(self, outputs: Array, targets: Array) -> Array:
        return ((outputs > 0) == (targets > 0.5)).all(axis=1)
