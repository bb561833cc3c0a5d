"""Evaluation of loss and accuracy on fixed rows."""

from .forward import Forward
from .matrix import Array, Matrix
from .network import Network


class Evaluation:
    """Evaluator of a network's loss and accuracy on fixed rows."""

    def __init__(self, network: Network, x: Matrix, y: Array) -> None:
        self._network = network
        self._forward = Forward(network, x, y, batch=0)
        self._targets = y

    def loss(self, theta: Array) -> float:
        """Return the mean loss, including the penalty, in the units of the data."""
        self._forward.bind(theta)
        self._forward.run()
        return self._network.in_units(self._forward.loss() + self._forward.penalty)

    def accuracy(self, theta: Array) -> float:
        """Return the accuracy, see `Loss.accuracy`."""
        self._forward.bind(theta)
        self._forward.run()
        return self._network.loss.accuracy(self._forward.scores[-1], self._targets)
