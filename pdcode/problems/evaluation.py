"""Evaluation of loss and accuracy on fixed rows."""

from collections.abc import Iterator

import numpy as np

from .forward import Forward
from .matrix import Array, Matrix
from .network import Network


class Evaluation:
    """Evaluator of a network's loss and accuracy on fixed rows, `batch` at a time if all take much memory."""

    def __init__(self, network: Network, x: Matrix, y: Array, batch: int = 0) -> None:
        self._network, self._targets, size = network, y, network.rows_at_once(len(x), batch, (x, y))
        if size == len(x):
            self._parts: list[tuple[Forward, Array | None]] = [(Forward(network, x, y, batch=0), None)]
            return
        forward, numbers = Forward(network, x, y, size), np.arange(len(x))
        self._parts = [(forward, part) for part in np.split(numbers, range(size, len(x), size))]
        if rest := len(x) % size:
            self._parts[-1] = Forward(network, x, y, rest), self._parts[-1][1]

    def _run(self, theta: Array) -> Iterator[tuple[Forward, float]]:
        """Compute the scores of each part; yield them with the part's share of the rows."""
        for forward, rows in self._parts:
            forward.bind(theta)
            forward.select(rows)
            forward.run()
            yield forward, forward.batch / len(self._targets)

    def loss(self, theta: Array) -> float:
        """Return the mean loss, including the penalty, in the units of the data."""
        loss = sum(share * forward.loss() for forward, share in self._run(theta))
        return self._network.in_units(loss + self._parts[0][0].penalty)

    def accuracy(self, theta: Array) -> float:
        """Return the accuracy, see `Loss.accuracy`."""
        parts, single = self._run(theta), len(self._parts) == 1
        scores = [each.scores[-1] if single else each.scores[-1].copy() for each, _ in parts]
        return self._network.loss.accuracy(scores[0] if single else np.concatenate(scores), self._targets)
