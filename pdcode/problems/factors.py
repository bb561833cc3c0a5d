"""Factors of matrices' gradients, which a model may give in place of gradients that it forms.

The gradient of a matrix is a sum of products SᵀO over the samples of a batch, such as errors and inputs of a
layer. Codewords combine the columns of S, before one small product, and whitening by samples needs S and O
alone. What is cheaper is decided for each matrix from the numbers of rows, samples and codewords.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..kernels import encode, passes
from . import whitening
from .layers import DenseLayer
from .matrix import Array
from .partition import Blocks
from .whitening import NONE, WhitenedLayer, Whitening


class Products(NamedTuple):
    """Products that a matrix's gradient is a sum of.

    Attributes
    ----------
    samples : float
        Number of samples for each row of a batch.
    kind : {"dense", "convolution", "lookup"}
        "dense": both factors are matrices of so many rows. "lookup": a sample adds to one row of the matrix.
    """

    samples: float
    kind: Literal["dense", "convolution", "lookup"]


class Factors(ABC):
    """Factors of a matrix's gradient, or of a part of it that is added to the others."""

    @abstractmethod
    def add_coded(self, indices: Array, values: Array, block: int, out: Array) -> None:
        """Add combinations of blocks of the gradient's rows to `out`, (r·block, m), as by `encode.encode`."""


class DenseFactors(Factors):
    """Two matrices: the gradient is SᵀO, or Sᵀ[O b] with a column of biases.

    Attributes
    ----------
    small : ndarray, shape (n, p)
        S.
    other : ndarray, shape (n, m) or (n, m - 1)
        O, without the inputs of the biases.
    bias : float, optional
        All inputs b of the biases, 1 or 0.
    """

    def __init__(self, small: Array, other: Array, bias: float | None) -> None:
        self.small, self.other, self.bias = small, other, bias

    def add_coded(self, indices: Array, values: Array, block: int, out: Array) -> None:
        encoded = np.empty((len(self.small), len(out)), out.dtype)
        encode.encode(self.small, indices, values, block, encoded)
        out[:, : self.other.shape[1]] += encoded.T @ self.other
        if self.bias:
            out[:, -1] += encoded.sum(axis=0)

    def copy_to(self, small: Array, other: Array) -> None:
        """Write S and O, with the inputs of the biases as a last column."""
        small[...] = self.small
        other[:, : self.other.shape[1]] = self.other
        if self.bias is not None:
            other[:, -1] = self.bias


class FactoredGradient(WhitenedLayer):
    """A layer whose gradient is whitened, of `samples` samples of the factors that `fill` gets.

    Combinations of blocks are computed into `payload`, shape (r·b, m).
    """

    def __init__(
        self, blocks: Blocks, samples: int, whiten: Whitening, weight: float, payload: Array
    ) -> None:
        self.samples = samples
        small, self._other = (
            np.empty((samples, side), payload.dtype) for side in (blocks.rows, blocks.width)
        )
        super().__init__(DenseLayer(blocks, self._other), whiten, samples, blocks.inputs + 1.0, weight)
        self.attach(small, len(payload) // blocks.size, payload)
        self._formed: passes.Operation = None

    def fill(self, factors: Sequence[DenseFactors]) -> None:
        """Copy the factors, one after the other."""
        start = 0
        for each in factors:
            end = start + len(each.small)
            each.copy_to(self._delta[start:end], self._other[start:end])
            start = end

    def form(self, out: Array) -> None:
        """Compute the whitened gradient into `out`, shape (p, m), the same array each time."""
        if self._formed is None:
            self._formed = self.gradient(out)
        self._formed()


def chosen(
    layers: Sequence[Blocks],
    products: Mapping[str, Products],
    batch: int,
    rows: Sequence[int],
    whiten: Whitening = NONE,
) -> set[str]:
    """Return the matrices for which factors are cheaper than the gradient; arguments are as for `saved`."""
    names = set()
    for layer, r in zip(layers, rows, strict=True):
        each = products.get(layer.name) if layer.inputs else None
        if each is not None:
            looked_up = each.kind == "lookup" and r and whiten.kind == "none"
            if looked_up or saved(layer, each, batch, r, 0, whiten) > 0:
                names.add(layer.name)
    return names


def saved(blocks: Blocks, products: Products, batch: int, r: int, w: int, whiten: Whitening = NONE) -> float:
    """Return the flops that factors save.

    Parameters
    ----------
    blocks : Blocks
    products : Products
    batch : int
        Rows of the batch.
    r, w : int
        Codewords of a task and their weight; r = 0 if the gradient is needed in any case.
    whiten : Whitening
    """
    samples, entries = round(batch * products.samples), blocks.inputs + 1.0
    if whiten.kind != "none" and (products.kind != "dense" or not samples):
        return 0.0
    by_gradient = whitening.matrix_flops(whiten, blocks)
    if not r:
        by_samples = whitening.form_of(blocks, samples, entries, whiten, True) == "samples"
        if whiten.kind != "gram" or not by_samples:
            return 0.0
        return by_gradient - whitening.flops(whiten, blocks, samples, entries, True)
    formed = 0.0 if products.kind == "lookup" else 2.0 * samples * blocks.length
    return formed + by_gradient + 2.0 * r * w * blocks.elements - coded(blocks, products, batch, r, w, whiten)


def coded(blocks: Blocks, products: Products, batch: int, r: int, w: int, whiten: Whitening = NONE) -> float:
    """Return the flops of coded derivatives from factors, with whitening; arguments are as for `saved`."""
    samples = round(batch * products.samples)
    if products.kind == "lookup":
        return samples * r * min(1.0, w / blocks.count) * (1 + 2.0 * blocks.width)
    combined = 2.0 * samples * r * blocks.size * (w + blocks.width)
    return combined + whitening.flops(whiten, blocks, samples, blocks.inputs + 1.0, False)
