"""The forward pass of a batch and its loss, with preallocated buffers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernels import activation, specialise
from .layers import DenseLayer, SparseLayer
from .matrix import Array, Csr, Matrix
from .network import LayerViews, Network


class Forward:
    """Forward pass of batches of a fixed size.

    Parameters
    ----------
    network : Network
    x : ndarray or Csr, shape (rows, d_in + 1)
        Inputs of all rows, with the last column of ones.
    y : ndarray
        Labels, int32, shape (rows,), or real targets, shape (rows, T).
    batch : int
        Rows of a batch. 0 takes all rows, without indices or copies.
    """

    def __init__(self, network: Network, x: Matrix, y: Array, batch: int) -> None:
        dtype = network.dtype
        self.count = batch or len(x)
        self._x, self._y, self._full = x, y, batch == 0
        self.targets = y if self._full else np.empty((batch, *y.shape[1:]), y.dtype)
        self.layers: list[DenseLayer | SparseLayer] = []
        first = network.layers[0]
        if isinstance(x, Csr):
            self._inputs = np.arange(self.count, dtype=np.int64)  # row numbers of the batch
            self.layers.append(SparseLayer(first, x, self._inputs))
        else:
            self._inputs = x if self._full else np.empty((batch, x.shape[1]), dtype)
            self.layers.append(DenseLayer(first, self._inputs))
        self.scores = [np.empty((self.count, layer.outputs), dtype) for layer in network.layers]
        self.hidden: list[Array] = []  # activations (B, h) of the hidden layers, without the ones
        for layer in network.layers[1:]:
            inputs = np.ones((self.count, layer.inputs + 1), dtype)
            self.hidden.append(inputs[:, :-1])
            self.layers.append(DenseLayer(layer, inputs))
        self._outputs = [*self.hidden, None]  # the last layer has no activations
        self._kind = activation.KINDS[network.activation]
        self._activate = specialise(activation.forward, dtype)
        self._loss = network.loss.evaluator(dtype)

    def select(self, indices: Array | None) -> None:
        """Select the rows of a batch, int64, shape (B,), in range; ignored if a batch is all rows."""
        if self._full:
            return
        if indices is None or len(indices) != self.count:
            raise ValueError(f"a batch of {self.count} rows needs {self.count} indices")
        if isinstance(self._x, Csr):
            self._inputs[:] = indices
        else:
            self._x.take(indices, 0, self._inputs, "clip")  # other modes copy `out`
        self._y.take(indices, 0, self.targets, "clip")

    def run(self, views: Sequence[LayerViews]) -> None:
        """Compute the scores of every layer and the activations of the hidden layers."""
        for layer, view, scores, hidden in zip(self.layers, views, self.scores, self._outputs, strict=True):
            layer.forward(view.forward, scores)
            if hidden is not None:
                self._activate(self._kind, scores, hidden)

    def loss(self, weight: float = 1.0) -> float:
        """Return the mean loss without the penalty, and replace the last scores by errors weight·Δ/B."""
        return self._loss(self.scores[-1], self.targets, self.scores[-1], weight)

    def zero_loss(self) -> float:
        """Return the mean loss of zero scores over all rows."""
        zeros = np.zeros((len(self._y), self.scores[-1].shape[1]), self.scores[-1].dtype)
        return self._loss(zeros, self._y, zeros, 1.0)
