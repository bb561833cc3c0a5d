"""A layer's products with a batch: forward, gradient and coded derivative, for dense or sparse inputs.

Products of arrays that stay the same for every batch are built once, as operations to be run for each batch.
"""

from typing import Any, NamedTuple, Self

import numpy as np

from ..kernels import blas, centre, decode, encode, passes, sparse
from ..transport.units import Blocks
from .matrix import Array, Csr

LEAST_SHARE = 0.03  # of a batch in the running mean of a layer's inputs


class Layer:
    """Defaults of the layers whose inputs are not centred."""

    @property
    def centred(self) -> Any:
        """The layer by whose gradient norm and singular values are taken."""
        return self

    def carry(self, out: Array) -> list[passes.Operation]:
        """Return the operations that make a gradient of `centred`, in `out`, one of this layer."""
        return []


class InputMean(NamedTuple):
    """Running mean of a layer's inputs; a batch has weight 3 %, and at first all batches count alike.

    Attributes
    ----------
    mean : ndarray, shape (d_in,)
        μ.
    batches : ndarray of int64, shape (1,)
        Number of batches so far.
    """

    mean: Array
    batches: Array

    @classmethod
    def of(cls, blocks: Blocks, state: dict[str, Array], dtype: np.dtype) -> Self:
        """Return the mean for a layer in a worker's arrays, to which it is added."""
        mean = state.setdefault(f"mean {blocks.layer}", np.zeros(blocks.inputs, dtype))
        return cls(mean, state.setdefault(f"batches {blocks.layer}", np.zeros(1, np.int64)))

    def move(self, batch: Array) -> None:
        """Count the mean of a batch; `CentredLayer.centring` does so by the batch itself."""
        mean, batches = self
        batches += 1
        mean += max(1 / batches.item(), LEAST_SHARE) * (batch - mean)

    def centre(self, blocks: Blocks, gradient: Array) -> passes.Operation:
        """Return the operation that makes a gradient ΔᵀA, shape (p, m), one by centred inputs."""
        bring = centre.centre_columns if blocks.axis == "output" else centre.centre_rows
        return passes.Call(bring, self.mean, gradient)

    def carry(self, blocks: Blocks, gradient: Array) -> passes.Operation:
        """Return the operation that gives a gradient by centred inputs the bias of inputs that are not."""
        bring = centre.carry_columns if blocks.axis == "output" else centre.carry_rows
        return passes.Call(bring, self.mean, gradient)


class DenseLayer(Layer):
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


class CentredLayer(DenseLayer):
    """A layer with the gradient by inputs less their running mean μ; methods as for `DenseLayer`.

    With weights W and bias b the scores are W(a - μ) + (b + Wμ). A step along the gradient of W and b + Wμ at
    fixed μ, G = (Δᵀ(A - 1μᵀ), Δᵀ1), changes b itself by its last column less the others times μ: so does a
    step along ΔᵀA' with rows a' = (a - μ, 1 - μᵀ(a - μ)). `centred` has the gradient G, and `carry` makes it
    ΔᵀA'.

    Parameters
    ----------
    layer : DenseLayer
        The layer, with the buffer of its inputs.
    mean : InputMean
    """

    def __init__(self, layer: DenseLayer, mean: InputMean) -> None:
        super().__init__(layer.blocks, np.empty_like(layer.inputs))
        self._layer, self._mean = layer, mean
        self._centred = DenseLayer(layer.blocks, np.empty_like(layer.inputs))

    @property
    def centred(self) -> DenseLayer:
        return self._centred

    def carry(self, out: Array) -> list[passes.Operation]:
        return [self._mean.carry(self.blocks, out)]

    def forward(self, weights: Array, scores: Array) -> passes.Operation:
        return self._layer.forward(weights, scores)

    def attach(self, delta: Array, rows: int, payload: Array) -> None:
        super().attach(delta, rows, payload)
        self._centred.attach(delta, rows, payload)

    @property
    def centring(self) -> passes.Operation:
        """The operation that centres the inputs of a batch, after they have moved the mean."""
        arrays = self._centred.inputs, self.inputs
        return passes.Call(centre.centre, self._layer.inputs, *self._mean, LEAST_SHARE, *arrays)


class SparseLayer(Layer):
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
