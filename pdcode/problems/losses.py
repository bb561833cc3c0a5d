"""Kinds of problems: losses that compare a network's outputs with targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from ..config import NetworkTable
from ..kernels import loss, passes
from ..util.capabilities import Capable
from ..util.errors import InputError
from .matrix import Array

Evaluator = Callable[[Array, Array, Array, float], float]


class Loss(NetworkTable, Capable):
    """Problem with one loss, the mean over the samples; its model is linear unless `deep`."""

    covers: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "by_samples": ("evaluator",),
        "squared": ("loss", "evaluator", "predict"),
    }
    by_samples: ClassVar[bool] = True  #: capability: `loss` is what is evaluated
    deep: ClassVar[bool] = False
    score: ClassVar[str] = "accuracy"  #: name of the accuracy
    curvature: ClassVar[float | None] = None  #: largest second derivative along the outputs; None: no limit

    def loss(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Compute the losses of samples, and their derivatives with respect to the outputs.

        Parameters
        ----------
        outputs : ndarray, shape (B, T)
            Outputs of the network.
        targets : ndarray
            Real targets, shape (B, T), or classes, int32, shape (B,).

        Returns
        -------
        losses : ndarray, shape (B,)
        derivatives : ndarray, shape (B, T)
        """
        raise NotImplementedError

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """Return the accuracy of the outputs, 1 at best; the outputs may be overwritten."""
        raise NotImplementedError

    def predict(self, outputs: Array) -> Array:
        """Return predictions for outputs: real targets, shape (B, T), or numbers of classes, shape (B,)."""
        return np.argmax(outputs, axis=1) if self.classes else outputs

    def probabilities(self, outputs: Array) -> Array:
        """Return the probabilities of the classes, shape (B, classes).

        Raises
        ------
        InputError
            If this kind of problem has none.
        """
        raise InputError(f"problem.kind: '{self.kind}' has no probabilities of classes")

    def outputs_for(self, targets: int, classes: int | None) -> int:
        """Return the number T of the network's outputs, given the number of real targets or of classes."""
        return targets if classes is None else classes

    def loss_of(self, classes: int | None) -> Loss:
        return self

    def inputs_for(self, features: int) -> int:
        """Return the number of inputs of the first layer, given the number in the data."""
        return features

    def samples_for(self, targets: int) -> int:
        """Return the number of rows of latent inputs, and of outputs, for a row of so many targets."""
        return 1

    def prepare(self, rows: Array, train: Array) -> Array:
        """Return the targets of a model with latent inputs for rows of data; `train` are training rows."""
        return rows

    def inference(self, targets: Array, weights: Array, inputs: Array) -> passes.Operation:
        """Return the operation that infers latent inputs, before each product of inputs and weights.

        Parameters
        ----------
        targets : ndarray, shape (B, T)
            Targets, which change from mini-batch to mini-batch, as `weights` do.
        weights : ndarray, shape (d_in + 1, d_out)
            Weights of the first layer; the last row is the bias, which stays zero.
        inputs : ndarray, shape (B·samples_for(T), d_in + 1)
            To be filled by the operation, but for the last column, of zeros.
        """
        raise NotImplementedError

    def prior(self, inputs: Array) -> float:
        """Return what latent inputs add to the sum of the losses of a mini-batch."""
        return 0.0

    def inference_flops(self, inputs: int, outputs: int) -> float:
        """Return the operations of `inference` for each row of latent inputs."""
        return 0.0

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        """Return a function (outputs, targets, out, factor) -> mean loss.

        It writes factor · derivative of the mean loss to `out`, which may be `outputs`.
        """

        def evaluate(outputs: Array, targets: Array, out: Array, factor: float) -> float:
            losses, derivatives = self.loss(outputs, targets)
            np.multiply(derivatives, factor / len(outputs), out=out)
            return float(np.mean(losses, dtype=np.float64))

        return evaluate


class Regression(Loss):
    """Regression of real targets; its accuracy is R²."""

    classes: ClassVar[bool | None] = False
    score: ClassVar[str] = "R²"

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """Return R²; for constant targets, 1 if they are met exactly and 0 if not."""
        variation = float(np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum())
        np.subtract(outputs, targets, out=outputs)
        residual = float(np.einsum("ij,ij->", outputs, outputs, dtype=np.float64))
        if variation == 0:
            return float(residual == 0)
        return 1 - residual / variation


class Classification(Loss):
    """Classification by the largest output; its accuracy is the fraction of correct classes."""

    classes: ClassVar[bool | None] = True

    def accuracy(self, outputs: Array, targets: Array) -> float:
        return float(np.count_nonzero(self.predict(outputs) == targets) / len(outputs))


class LeastSquaresProblem(Regression, tag="least-squares"):
    """Least squares: ½‖z - t‖² of outputs z and real targets t."""

    asks: ClassVar[bool] = True
    squared: ClassVar[bool] = True
    curvature: ClassVar[float | None] = 1.0

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return loss.squared_loss


class Poisson(Regression, tag="poisson"):
    """Poisson regression: half the deviance of targets t ≥ 0 from rates e^z, e^z - tz + t ln t - t.

    With `l2` this is what scikit-learn's ``PoissonRegressor`` minimises. From z = 80 on e^z continues as its
    tangent, so that it does not overflow; counts of more than e^80 are out of reach. The accuracy is D², the
    explained share of the deviance.
    """

    counts: ClassVar[bool] = True
    score: ClassVar[str] = "D²"

    def accuracy(self, outputs: Array, targets: Array) -> float:
        """Return D²; for constant targets, 1 if they are met exactly and 0 if not."""
        t, unused = targets.astype(np.float64), np.empty(targets.shape)
        null = np.log(np.maximum(t.mean(axis=0), np.finfo(np.float64).tiny))
        variation = loss.poisson_loss(np.tile(null, (len(t), 1)), t, unused, 1.0)
        deviance = loss.poisson_loss(outputs.astype(np.float64), t, unused, 1.0)
        if (t == t[0]).all():
            return float(deviance == 0)
        return 1 - deviance / variation

    def predict(self, outputs: Array) -> Array:
        return np.exp(outputs)

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return loss.poisson_loss


class Logistic(Classification, tag="logistic"):
    """Logistic regression: cross-entropy of two classes, with one output."""

    max_classes: ClassVar[int | None] = 2
    curvature: ClassVar[float | None] = 0.25

    def outputs_for(self, targets: int, classes: int | None) -> int:
        return 1

    def predict(self, outputs: Array) -> Array:
        return (outputs[:, 0] > 0).astype(np.int64)

    def probabilities(self, outputs: Array) -> Array:
        from scipy.special import expit

        return np.column_stack([expit(-outputs[:, 0]), expit(outputs[:, 0])])

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return loss.logistic_loss


class Softmax(Classification, tag="softmax"):
    """Softmax regression: cross-entropy of classes, with one output per class."""

    curvature: ClassVar[float | None] = 0.5

    def probabilities(self, outputs: Array) -> Array:
        from scipy.special import softmax

        return np.asarray(softmax(outputs, axis=1))

    def evaluator(self, dtype: np.dtype) -> Evaluator:
        return loss.softmax_loss


class Perceptron(NetworkTable, tag="mlp"):
    """Multilayer perceptron: softmax cross-entropy for integer targets, least squares for real ones."""

    squared: ClassVar[bool] = True

    def loss_of(self, classes: int | None) -> Loss:
        return LeastSquaresProblem() if classes is None else Softmax()
