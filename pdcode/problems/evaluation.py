"""Evaluation: loss and accuracy on a fixed set of rows."""

from __future__ import annotations

import numpy as np

from .forward import Forward
from .matrix import Array, Matrix
from .network import Network
from .split import evenly


class Evaluation:
    """Loss and accuracy of a network on some rows, with buffers of its own that are made once.

    Parameters
    ----------
    network : Network
    x, y : ndarray or Csr, ndarray
        See Forward.
    most : int
        If there are more rows, so many of them, evenly spaced, stand for all.
    """

    def __init__(self, network: Network, x: Matrix, y: Array, most: int) -> None:
        if len(x) > most:
            chosen = evenly(len(x), most)
            x, y = x[chosen], y[chosen]
        self._network = network
        self._forward = Forward(network, x, y, batch=0)
        self._targets = y
        if network.loss == "squared":
            self._variation = float(np.square(y - y.mean(axis=0, dtype=np.float64)).sum())
        elif network.loss == "softmax":
            self._predicted = np.empty(len(y), np.int64)

    def loss(self, theta: Array) -> float:
        """Mean loss, the penalty included."""
        self._forward.run(self._network.views(theta))
        return self._forward.loss() + self._network.penalty(theta)

    def accuracy(self, theta: Array) -> float:
        """Share of rows whose class is right; for real targets R², the share of their variation explained.

        Where the targets do not vary, R² is 1 if they are met exactly and 0 if not.
        """
        self._forward.run(self._network.views(theta))
        scores = self._forward.scores[-1]
        if self._network.loss == "softmax":
            np.argmax(scores, axis=1, out=self._predicted)
            return float(np.count_nonzero(self._predicted == self._targets) / len(scores))
        if self._network.loss == "logistic":
            return float(np.count_nonzero((scores[:, 0] > 0) == self._targets) / len(scores))
        np.subtract(scores, self._targets, out=scores)
        residual = float(np.einsum("ij,ij->", scores, scores, dtype=np.float64))
        if self._variation == 0:
            return float(residual == 0)
        return 1 - residual / self._variation
