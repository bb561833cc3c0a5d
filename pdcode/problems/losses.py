"""Kinds of problems: what a network's outputs are compared with, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..config.tables import ProblemTable
from ..kernels import loss, specialise
from .matrix import Array

Evaluator = Callable[[Array, Array, Array, float], float]


class Loss(ProblemTable):
    """A problem of one loss, the mean over the samples; without `deep` a linear model learns it."""

    deep: ClassVar[bool] = False

    def loss(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Return the losses of some samples, and their derivatives by the outputs.

        Parameters
        ----------
        outputs : ndarray, shape (B, T)
            Of the network.
        targets : ndarray
            Real targets (B, T); or int32 classes (B,).

        Returns
        -------
        losses : ndarray, shape (B,)
        derivatives : ndarray, shape (B, T)
        """
        raise NotImplementedError

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """How well the outputs, which may be overwritten, fit the targets: 1 is best."""
        raise NotImplementedError

    def outputs_for(self, targets: int, classes: int | None) -> int:
        """Return the outputs T of the network, for so many real targets a sample or so many classes."""
        return targets if classes is None else classes

    def loss_of(self, classes: int | None) -> Loss:
        return self

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        """Return a function of outputs, targets, an array for the result, which may be the outputs, and a factor: it
        writes factor · derivative of the mean loss, and returns the mean loss."""

        def evaluate(outputs: Array, targets: Array, out: Array, factor: float) -> float:
            losses, derivatives = self.loss(outputs, targets)
            np.multiply(derivatives, factor / len(outputs), out=out)
            return float(np.mean(losses, dtype=np.float64))

        return evaluate


class Regression(Loss):
    """Real targets; their accuracy is R², the share of their variation that is explained."""

    classes: ClassVar[bool | None] = False

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """Return R²; where the targets do not vary, 1 if they are met exactly and 0 if not."""
        variation = float(np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum())
        np.subtract(outputs, targets, out=outputs)
        residual = float(np.einsum("ij,ij->", outputs, outputs, dtype=np.float64))
        if variation == 0:
            return float(residual == 0)
        return 1 - residual / variation


class Classification(Loss):
    """Classes, of which the largest output tells one; their accuracy is the share that is right."""

    classes: ClassVar[bool | None] = True

    def accuracy(self, outputs: Array, targets: Array) -> float:
        return float(np.count_nonzero(np.argmax(outputs, axis=1) == targets) / len(outputs))


class LeastSquares(Regression, tag="least-squares"):
    """½‖z - t‖² of outputs z and real targets t."""

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return _kernel(loss.squared_loss, dtype)


class Logistic(Classification, tag="logistic"):
    """Cross-entropy of two classes, by one output."""

    most_classes: ClassVar[int | None] = 2

    def outputs_for(self, targets: int, classes: int | None) -> int:
        return 1

    def accuracy(self, outputs: Array, targets: Array) -> float:
        return float(np.count_nonzero((outputs[:, 0] > 0) == targets) / len(outputs))

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return _kernel(loss.logistic_loss, dtype)


class Softmax(Classification, tag="softmax"):
    """Cross-entropy of classes, by an output each."""

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return _kernel(loss.softmax_loss, dtype)


class Perceptron(ProblemTable, tag="mlp"):
    """A multilayer perceptron, with the loss that the targets ask for: whole numbers are classes."""

    def loss_of(self, classes: int | None) -> Loss:
        return LeastSquares() if classes is None else Softmax()


def _kernel(function: Any, dtype: np.dtype) -> Evaluator:
    evaluator: Evaluator = specialise(function, dtype)
    return evaluator
