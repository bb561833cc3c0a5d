"""Evaluation: loss and accuracy on a fixed set of rows."""

from __future__ import annotations

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

    def loss(self, theta: Array) -> float:
        """Return the mean loss, the penalty included."""
        self._forward.run(self._network.views(theta))
        return self._forward.loss() + self._network.penalty(theta)

    def accuracy(self, theta: Array) -> float:
        """See `Loss.accuracy`."""
        self._forward.run(self._network.views(theta))
        return self._network.loss.accuracy(self._forward.scores[-1], self._targets)
