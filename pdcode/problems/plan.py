"""Plan: coded derivatives and gradients of batches of a fixed size, without allocation once it is made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..kernels import activation, encode, specialise
from .forward import Forward
from .matrix import Array, Matrix
from .network import LayerViews, Network
from .partition import payload_layout, task_rows

Codeword = tuple[Array, Array]  # indices int32 (r, w), values (r, w)


class Plan:
    """Everything that a worker needs for its tasks.

    Parameters
    ----------
    network : Network
    x, y : ndarray or Csr, ndarray
        The rows from which batches are taken, see Forward.
    batch : int
        Rows of a batch; 0 takes all of them.
    codewords_per_task : int or one a layer, optional
        r; a layer that is sent whole has one codeword, [1]. Without it there is `gradient` alone.
    payload : ndarray, shape (payload_size,), optional
        Where payloads are to be written, such as the send buffer of a message; made if not given.
    weight : float
        Factor of gradients and coded derivatives, not of losses: u_i of a worker whose shard is larger or
        smaller than those of others.

    Attributes
    ----------
    payload : ndarray, shape (payload_size,)
        The coded derivatives of all layers; the gaps that round layers up to 64 bytes are zero.
    payload_size : int
        Its elements.
    offsets : list of int
        Start of each layer in it, in elements.
    views : list of ndarray
        Each layer in it, shape (r_l, b·m).
    """

    def __init__(
        self,
        network: Network,
        x: Matrix,
        y: Array,
        batch: int,
        codewords_per_task: int | Sequence[int] | None = None,
        payload: Array | None = None,
        weight: float = 1.0,
    ) -> None:
        self.network, self.weight = network, weight
        self._l2 = weight * network.l2
        dtype, rows = network.dtype, [0] * len(network.layers)
        self.offsets, self.payload_size = [0] * len(rows), 0
        if codewords_per_task is not None:
            rows = task_rows(network.layers, codewords_per_task)
            self.offsets, self.payload_size = payload_layout(network.layers, rows, dtype)
        self.payload = np.empty(self.payload_size, dtype) if payload is None else payload
        if self.payload.shape != (self.payload_size,) or self.payload.dtype != dtype:
            raise ValueError(f"the payload must be {self.payload_size} elements of {dtype}")
        self.payload.fill(0)
        self._forward = forward = Forward(network, x, y, batch)
        self._deltas = [np.empty_like(scores) for scores in forward.scores[:-1]] + [forward.scores[-1]]
        self.views: list[Array] = []
        self._matrices: list[Array] = []  # the same memory, (r·b, m)
        for layer, count, start, delta in zip(forward.layers, rows, self.offsets, self._deltas, strict=True):
            blocks = layer.blocks
            layer.attach(delta, count)
            part = self.payload[start : start + count * blocks.elements]
            self.views.append(part.reshape(count, blocks.elements))
            self._matrices.append(part.reshape(count * blocks.size, blocks.width))
        self._whole = (np.zeros((1, 1), np.int32), np.ones((1, 1), dtype))
        self._kind = activation.KINDS[network.activation]
        self._backward = specialise(activation.backward, dtype)
        self._encode = specialise(encode.encode, dtype)
        self._theta: Array | None = None
        self._weights: list[LayerViews] = []

    @cached_property
    def full_gradient(self) -> Array:
        """The result of `gradient`, θ-sized; made at first use, as coded derivatives never need it."""
        return np.empty(self.network.size, self.network.dtype)

    @cached_property
    def _gradients(self) -> list[Array]:
        return [layer.matrix(self.full_gradient) for layer in self.network.layers]

    def coded_derivative(
        self, theta: Array, indices: Array | None, codewords: Sequence[Codeword | None]
    ) -> float:
        """Write the coded derivatives of a batch to `payload`.

        Parameters
        ----------
        theta : ndarray, shape (size,)
        indices : ndarray of int64, shape (batch,)
            Rows of the batch, which must be in range; ignored if the batch is all rows.
        codewords : sequence of (indices, values)
            One pair a layer of arrays (r, w), int32 and of the network's dtype; ignored for whole layers.

        Returns
        -------
        float
            Mean loss over the batch, the penalty included.
        """
        loss = self._start(theta, indices)
        for number in range(len(self.views) - 1, -1, -1):
            layer, out = self._forward.layers[number], self._matrices[number]
            if layer.blocks.whole:
                support, values = self._whole
                layer.gradient(out)
            else:
                support, values = self._checked(number, codewords[number])
                layer.coded(support, values, out)
            if self._l2:
                view = self.views[number].reshape(1, -1)
                self._add_penalty(number, support, values, layer.blocks.elements, view)
            if number:
                self._propagate(number)
        return loss

    def gradient(self, theta: Array, indices: Array | None) -> float:
        """Write the gradient of a batch to `full_gradient`; parameters and result as of coded_derivative."""
        loss = self._start(theta, indices)
        for number in range(len(self.views) - 1, -1, -1):
            layer, out = self._forward.layers[number], self._gradients[number]
            layer.gradient(out)
            if self._l2:
                self._add_penalty(number, *self._whole, layer.blocks.length, out.reshape(1, -1))
            if number:
                self._propagate(number)
        return loss

    def _start(self, theta: Array, indices: Array | None) -> float:
        """Forward pass and loss; leaves the errors of the last layer."""
        if theta is not self._theta:
            self._weights, self._theta = self.network.views(theta), theta
        self._forward.select(indices)
        self._forward.run(self._weights)
        return self._forward.loss(self.weight) + self.network.penalty(theta)

    def _propagate(self, number: int) -> None:
        """From the errors of a layer to those of the layer below."""
        below = self._deltas[number - 1]
        np.matmul(self._deltas[number], self._weights[number].backward, out=below)
        self._backward(self._kind, self._forward.scores[number - 1], self._forward.hidden[number - 1], below)

    def _add_penalty(self, number: int, support: Array, values: Array, block: int, out: Array) -> None:
        """Add l2 times the combinations of blocks of a layer's weights."""
        self._encode(self._weights[number].flat, support, values, block, out, self._l2, True)

    def _checked(self, number: int, codeword: Codeword | None) -> Codeword:
        """Return a layer's codewords, if they are as many as its part of the payload has room for."""
        wanted = len(self.views[number])
        if codeword is None or len(codeword[0]) != wanted:
            raise ValueError(f"layer {number} needs {wanted} codewords")
        return codeword
