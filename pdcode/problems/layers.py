"""A layer's products with a batch: forward, gradient and coded derivative, for dense or sparse inputs."""

from __future__ import annotations

import numpy as np

from ..kernels import decode, encode, sparse, specialise
from .matrix import Array, Csr, product_of
from .partition import Blocks


class DenseLayer:
    """A layer with dense inputs.

    Parameters
    ----------
    blocks : Blocks
        The blocks of the layer's gradient.
    inputs : ndarray, shape (B, d_in + 1)
        Buffer for the inputs of each batch; its last column is ones.
    """

    def __init__(self, blocks: Blocks, inputs: Array) -> None:
        self.blocks = blocks
        self.inputs = inputs
        self._encode = specialise(encode.encode, inputs.dtype)
        self._score = product_of((len(inputs), blocks.outputs))
        self._multiply = product_of((blocks.rows, blocks.width))

    def forward(self, weights: Array, scores: Array) -> None:
        """Compute scores (B, d_out) = inputs @ weights (d_in + 1, d_out)."""
        self._score(self.inputs, weights, scores)

    def attach(self, delta: Array, rows: int) -> None:
        """Prepare for derivatives: `delta` (B, d_out) will hold the errors; a task has `rows` codewords."""
        small, self._other = (delta, self.inputs) if self.blocks.axis == "output" else (self.inputs, delta)
        self._small, self._transposed = small, small.T
        if not self.blocks.whole:
            self._encoded = np.empty((len(delta), rows * self.blocks.size), delta.dtype)
            self._encoded_transposed = self._encoded.T
            self._combine = product_of((rows * self.blocks.size, self.blocks.width))

    def gram(self, out: Array) -> None:
        """Compute the inner products of the inputs into `out`, shape (B, B)."""
        np.matmul(self.inputs, self.inputs.T, out=out)

    def gradient(self, out: Array) -> None:
        """Compute the gradient SᵀO into `out`, shape (p, m)."""
        self._multiply(self._transposed, self._other, out)

    def coded(self, indices: Array, values: Array, out: Array) -> None:
        """Compute combinations of blocks of SᵀO into `out`, shape (r·b, m): encode S, then multiply once."""
        self._encode(self._small, indices, values, self.blocks.size, self._encoded)
        self._combine(self._encoded_transposed, self._other, out)


class SparseLayer:
    """A first layer with sparse inputs; methods as for `DenseLayer`.

    Parameters
    ----------
    blocks : Blocks
        The blocks of the layer's gradient.
    x : Csr
        Inputs of all rows, including the bias as an explicit one in the last column of each row.
    rows : ndarray of int64, shape (B,)
        Buffer for the row numbers of each batch.
    """

    def __init__(self, blocks: Blocks, x: Csr, rows: Array) -> None:
        self.blocks = blocks
        self._batch = (x.indptr, x.columns, x.data, rows)
        self._forward = specialise(sparse.csr_forward, x.dtype)
        self._outer = specialise(sparse.csr_outer, x.dtype)
        self._coded = specialise(sparse.csr_coded, x.dtype)
        self._encode = specialise(encode.encode, x.dtype)
        self._scatter = specialise(decode.adjoint_decode, x.dtype)
        self._one = np.ones((1, 1), x.dtype)
        self._dense: Array | None = None

    def forward(self, weights: Array, scores: Array) -> None:
        self._forward(*self._batch, weights, scores)

    def attach(self, delta: Array, rows: int) -> None:
        self._delta = delta
        if self.blocks.whole:
            return
        if self.blocks.axis == "output":
            self._encoded = np.empty((len(delta), rows * self.blocks.size), delta.dtype)
        else:
            self._codewords = np.empty((rows, self.blocks.count), delta.dtype)

    def gram(self, out: Array) -> None:
        if self._dense is None:  # of the batch, which is no larger than the gradient's other factor
            rows = len(self._batch[-1])
            self._identity = np.eye(rows, dtype=out.dtype)
            self._dense = np.empty((rows, self.blocks.inputs + 1), out.dtype)
        self._outer(*self._batch, self._identity, self._dense)
        self._forward(*self._batch, self._dense.T, out)

    def gradient(self, out: Array) -> None:
        if self.blocks.axis == "output":
            self._outer(*self._batch, self._delta, out)
        else:
            self._coded(*self._batch, self._delta, self._one, self.blocks.rows, out)

    def coded(self, indices: Array, values: Array, out: Array) -> None:
        if self.blocks.axis == "output":
            self._encode(self._delta, indices, values, self.blocks.size, self._encoded)
            self._outer(*self._batch, self._encoded, out)
        else:  # this kernel needs dense coefficients: scatter the codewords, as blocks of one element
            self._codewords.fill(0)
            for row, codeword in enumerate(self._codewords):
                self._scatter(codeword, indices[row : row + 1], values[row : row + 1], self._one, 1.0)
            self._coded(*self._batch, self._delta, self._codewords, self.blocks.size, out)
