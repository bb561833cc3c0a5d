"""The forward pass of a batch and its loss, with preallocated buffers."""

import numpy as np

from ..kernels import activation, passes
from .layers import DenseLayer, SparseLayer
from .matrix import Array, Csr, Matrix, inputs_per_row
from .network import LayerViews, Network


class Forward:
    """Forward pass of batches of a fixed number of rows; 0 takes all rows, without indices or copies.

    `run` computes the scores of every layer and the activations of the hidden layers at the θ of `bind`, and
    `weights` are the views of the layers' weights there.
    """

    run: passes.Operation
    weights: list[LayerViews]

    def __init__(self, network: Network, x: Matrix, y: Array, batch: int) -> None:
        dtype, loss = network.dtype, network.loss
        self.batch, self._latent = batch or len(x), loss.latent
        self.count = self.batch * network.samples  # rows of inputs
        self._y, self._full = y, batch == 0
        self.targets = y if self._full else np.empty((batch, *y.shape[1:]), y.dtype)
        self.layers: list[DenseLayer | SparseLayer] = []
        first = network.layers[0]
        self.entries = first.inputs + 1.0 if loss.latent else inputs_per_row(x)
        if loss.latent:
            self._inputs = np.zeros((self.count, first.inputs + 1), dtype)  # biases have no effect
            self.layers.append(DenseLayer(first, self._inputs))
        elif isinstance(x, Csr):
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
        if not self._full:
            rows = np.arange(len(x)) if isinstance(x, Csr) else x
            self._rows = passes.Rows([(rows, self._inputs)] * (not loss.latent) + [(y, self.targets)])
        self.kind = activation.KINDS[network.activation]
        self._loss = loss.evaluator(dtype)
        self._network = network
        self._theta: Array | None = None

    def select(self, indices: Array | None) -> None:
        """Select the rows of a batch by their numbers, int64, shape (B,); ignored if a batch is all rows."""
        if not self._full:
            self._rows.take(indices)

    def bind(self, theta: Array) -> bool:
        """Compute at θ, whose elements may change, from now on; return whether it is another array."""
        if theta is self._theta:
            return False
        self.weights, self._theta = self._network.layer_views(theta), theta
        products = [
            layer.forward(weights.forward, scores)
            for layer, weights, scores in zip(self.layers, self.weights, self.scores, strict=True)
        ]
        operations = products[:1]
        if self._latent:
            infer = self._network.loss.inference(self.targets, self.weights[0].forward, self._inputs)
            operations.insert(0, infer)
        for product, scores, hidden in zip(products[1:], self.scores, self.hidden, strict=False):
            operations += [passes.Call(activation.forward, self.kind, scores, hidden), product]
        self.run, self._squares = passes.Pass(operations), self._network.squares(theta, self.weights)
        return True

    @property
    def penalty(self) -> float:
        """The penalty ½·l2·‖W‖², or ½·l2·‖θ‖² with `penalise_bias`."""
        l2 = self._network.l2
        return 0.5 * l2 * self._squares.sum() if l2 else 0.0

    def loss(self, weight: float = 1.0) -> float:
        """Return the mean loss without the penalty, and replace the last scores by errors weight·Δ/B."""
        mean = self._loss(self.scores[-1], self.targets, self.scores[-1], weight)
        return mean + self._network.loss.prior(self._inputs) / self.batch if self._latent else mean

    def zero_loss(self) -> float:
        """Return the mean loss of zero scores over all rows."""
        rows = len(self._y) * self._network.samples
        zeros = np.zeros((rows, self.scores[-1].shape[1]), self.scores[-1].dtype)
        return self._loss(zeros, self._y, zeros, 1.0)
