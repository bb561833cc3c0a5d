"""A layer's products with a batch: forward, gradient and coded derivative, for dense or sparse inputs.

Products of arrays that stay the same for every batch are built once, as operations to be run for each batch.
"""

import numpy as np

from ..kernels import blas, decode, encode, passes, sparse
from .matrix import Array, Csr
from .partition import Blocks


class DenseLayer:
    """A layer with dense inputs, in a buffer (B, d_in + 1) whose last column is ones."""

    def __init__(self, blocks: Blocks, inputs: Array) -> None:
        self.blocks = blocks
        self.inputs = inputs

    def forward(self, weights: Array, scores: Array) -> passes.Operation:
        """Return the operation scores (B, d_out) = inputs @ weights (d_in + 1, d_out)."""
        return blas.Product(self.inputs, weights, scores)

    def attach(self, delta: Array, rows: int, payload: Array) -> None:
        """Prepare for derivatives of errors in `delta`, shape (B, d_out).

        A task's `rows` combinations of blocks are computed into `payload`, shape (rows·b, m).
        """
        small, self._other = (delta, self.inputs) if self.blocks.axis == "output" else (self.inputs, delta)
        self._small = small
        if not self.blocks.uncoded:
            self._encoded = np.empty((len(delta), rows * self.blocks.size), delta.dtype)
            self._combine = blas.Product(self._encoded.T, self._other, payload)

    def gram(self, out: Array) -> passes.Operation:
        """Return the operation that computes the inner products of the inputs into `out`, shape (B, B)."""
        return blas.Product(self.inputs, self.inputs.T, out)

    def gradient(self, out: Array) -> passes.Operation:
        """Return the operation that computes the gradient SᵀO into `out`, shape (p, m)."""
        return blas.Product(self._small.T, self._other, out)

    def coded(self, indices: Array, values: Array) -> None:
        """Compute combinations of blocks of SᵀO into the payload: encode S, then multiply once."""
        encode.encode(self._small, indices, values, self.blocks.size, self._encoded)
        self._combine()


class SparseLayer:
    """A first layer with sparse inputs; methods as for `DenseLayer`.

    `x` has all rows, with the bias as an explicit one in the last column of each; `rows`, int64 (B,), is a
    buffer for the row numbers of each batch.
    """

    def __init__(self, blocks: Blocks, x: Csr, rows: Array) -> None:
        self.blocks = blocks
        self._batch = (x.indptr, x.columns, x.data, rows)
        self._one = np.ones((1, 1), x.dtype)

    def forward(self, weights: Array, scores: Array) -> passes.Operation:
        return passes.Call(sparse.csr_forward, *self._batch, weights, scores)

    def attach(self, delta: Array, rows: int, payload: Array) -> None:
        self._delta, self._payload = delta, payload
        if self.blocks.uncoded:
            return
        if self.blocks.axis == "output":
            self._encoded = np.empty((len(delta), rows * self.blocks.size), delta.dtype)
        else:
            self._codewords = np.empty((rows, self.blocks.count), delta.dtype)

    def gram(self, out: Array) -> passes.Operation:
        rows = len(self._batch[-1])
        identity = np.eye(rows, dtype=out.dtype)
        dense = np.empty((rows, self.blocks.inputs + 1), out.dtype)  # no larger than the gradient's factor O
        to_dense = passes.Call(sparse.csr_outer, *self._batch, identity, dense)
        return passes.Pass([to_dense, passes.Call(sparse.csr_forward, *self._batch, dense.T, out)])

    def gradient(self, out: Array) -> passes.Operation:
        if self.blocks.axis == "output":
            return passes.Call(sparse.csr_outer, *self._batch, self._delta, out)
        return passes.Call(sparse.csr_coded, *self._batch, self._delta, self._one, self.blocks.rows, out)

    def coded(self, indices: Array, values: Array) -> None:
        if self.blocks.axis == "output":
            encode.encode(self._delta, indices, values, self.blocks.size, self._encoded)
            sparse.csr_outer(*self._batch, self._encoded, self._payload)
        else:  # this kernel needs dense coefficients: scatter the codewords, as blocks of one element
            self._codewords.fill(0)
            for row, codeword in enumerate(self._codewords):
                decode.adjoint_decode(codeword, indices[row : row + 1], values[row : row + 1], self._one, 1.0)
            sparse.csr_coded(*self._batch, self._delta, self._codewords, self.blocks.size, self._payload)
