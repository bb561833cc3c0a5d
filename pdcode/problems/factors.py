"""Factors of matrices' gradients, which a model may give in place of gradients that it forms.

The gradient of a matrix is a sum of products ΔᵀA over the samples of a batch, such as errors and inputs of a
layer. Codewords combine the columns of Δ, or along the input axis columns of A, before one small product, and
whitening by samples needs Δ and A alone. The cheaper way is chosen for each matrix by the numbers of rows,
samples and codewords.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ..fitted import FORMED_CENTRING, MEANS, UNFOLDING
from ..kernels import encode, passes
from ..transport.units import Blocks
from . import whitening
from .layers import CentredLayer, DenseLayer, InputMean
from .matrix import Array
from .whitening import NONE, WhitenedLayer, Whitening

# Measured time, in the same unit, of the calls that find a matrix's inputs and their mean in examples/gpt and
# examples/cnn. In smaller modules it is a fraction of the gradient, whose own calls are not counted either.
CALLS, MOST_CALLS = {"dense": 1e6, "convolution": 4e6}, 0.1


class Products(NamedTuple):
    """Products that a matrix's gradient is a sum of.

    Attributes
    ----------
    samples : float
        Number of samples for each row of a batch.
    kind : {"dense", "convolution", "lookup"}
        "dense": both factors are matrices of so many rows. "lookup": a sample adds to one row of the matrix.
    kernel : int
        Of a convolution, number of inputs of the matrix for each channel.
    centred : bool
        Whether the inputs can be centred: they depend on parameters, and each sample has the bias.
    biased : bool
        Whether the factors of each sample have the bias, too.
    """

    samples: float
    kind: Literal["dense", "convolution", "lookup"]
    kernel: int = 1
    centred: bool = False
    biased: bool = False

    def unfolded(self, blocks: Blocks) -> bool:
        """Return whether blocks are inputs of a convolution that are no whole channels."""
        channels = blocks.size % self.kernel == 0 and not blocks.bias
        return blocks.axis == "input" and self.kind == "convolution" and not channels

    def whitening(self, whiten: Whitening) -> Whitening:
        """Return the whitening of this matrix; not all matrices have centred inputs."""
        return whiten._replace(centred=whiten.centred and self.centred)


class Factors(ABC):
    """Factors of a matrix's gradient, or of a part of it that is added to the others."""

    @abstractmethod
    def add_coded(self, blocks: Blocks, indices: Array, values: Array, out: Array) -> None:
        """Add combinations of blocks of the gradient to `out`, (r·b, m), as by `encode.encode`."""


class DenseFactors(Factors):
    """Two matrices: the gradient is ΔᵀA, or Δᵀ[A b] with a column of biases.

    Attributes
    ----------
    errors : ndarray, shape (n, outputs)
        Δ.
    inputs : ndarray, shape (n, inputs)
        A.
    bias : float, optional
        All inputs b of the biases, 1 or 0.
    """

    def __init__(self, errors: Array, inputs: Array, bias: float | None) -> None:
        self.errors, self.inputs, self.bias = errors, inputs, bias

    def add_coded(self, blocks: Blocks, indices: Array, values: Array, out: Array) -> None:
        encoded = np.empty((len(self.errors), len(out)), out.dtype)
        if blocks.axis == "input":
            inputs = self.inputs
            if self.bias is not None:
                inputs = np.empty((len(inputs), blocks.rows), out.dtype)
                self._copy_inputs(inputs)
            encode.encode(inputs, indices, values, blocks.size, encoded)
            out += encoded.T @ self.errors
            return
        encode.encode(self.errors, indices, values, blocks.size, encoded)
        out[:, : self.inputs.shape[1]] += encoded.T @ self.inputs
        if self.bias:
            out[:, -1] += encoded.sum(axis=0)

    def copy_to(self, errors: Array, inputs: Array) -> None:
        """Write Δ and A, with the inputs of the biases as a last column."""
        errors[...] = self.errors
        self._copy_inputs(inputs)

    def _copy_inputs(self, out: Array) -> None:
        out[:, : self.inputs.shape[1]] = self.inputs
        if self.bias is not None:
            out[:, -1] = self.bias


class FactoredGradient(WhitenedLayer):
    """A layer whose gradient is whitened, of `samples` samples of the factors that `fill` gets.

    Combinations of blocks are computed into `payload`, shape (r·b, m). With a `mean` inputs are centred.
    """

    def __init__(
        self,
        blocks: Blocks,
        samples: int,
        whiten: Whitening,
        weight: float,
        payload: Array,
        mean: InputMean | None = None,
    ) -> None:
        self.samples, sides = samples, (blocks.outputs, blocks.inputs + blocks.bias)
        errors, self._inputs = (np.empty((samples, side), payload.dtype) for side in sides)
        layer = DenseLayer(blocks, self._inputs)
        self._centring: passes.Operation = None
        if mean is not None:
            layer = centred = CentredLayer(layer, mean)
            self._centring = centred.centring
        super().__init__(layer, whiten, samples, blocks.inputs + 1.0, weight)
        self.attach(errors, len(payload) // blocks.size, payload)
        self._formed: passes.Operation = None

    def fill(self, factors: Sequence[DenseFactors]) -> None:
        """Copy the factors, one after the other, and centre the inputs."""
        start = 0
        for each in factors:
            end = start + len(each.errors)
            each.copy_to(self._delta[start:end], self._inputs[start:end])
            start = end
        if self._centring is not None:
            self._centring()

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


def calls(products: Products, whiten: Whitening, gradient: float) -> float:
    """Return the flops of the calls for centring, beside a gradient of so many."""
    return min(CALLS[products.kind], MOST_CALLS * gradient) if products.whitening(whiten).centred else 0.0


def formed(blocks: Blocks, products: Products | None, batch: int, whiten: Whitening) -> float:
    """Return the flops of whitening and of centring a gradient that is formed; `products` may be unknown."""
    total = whitening.matrix_flops(whiten, blocks)
    if products is not None and products.whitening(whiten).centred:
        inputs = batch * products.samples * blocks.inputs / products.kernel
        total += MEANS * inputs + FORMED_CENTRING * blocks.length
    return total


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
    whiten = products.whitening(whiten)
    if whiten.kind != "none" and (products.kind != "dense" or not samples):
        return 0.0
    if whiten.centred and (whiten.kind == "none" or not products.biased):
        return 0.0
    by_gradient = formed(blocks, products, batch, whiten)
    if not r:
        by_samples = whitening.form_of(blocks, samples, entries, whiten, True) == "samples"
        if whiten.kind != "gram" or not by_samples:
            return 0.0
        return by_gradient - whitening.flops(whiten, blocks, samples, entries, True)
    product = 0.0 if products.kind == "lookup" else 2.0 * samples * blocks.length
    by_gradient += product + 2.0 * r * w * blocks.elements
    return by_gradient - coded(blocks, products, batch, r, w, whiten)


def coded(blocks: Blocks, products: Products, batch: int, r: int, w: int, whiten: Whitening = NONE) -> float:
    """Return the flops of coded derivatives from factors, with whitening; arguments are as for `saved`."""
    samples = round(batch * products.samples)
    if products.kind == "lookup" and blocks.axis == "input":
        return samples * r * blocks.size * (1 + 2.0 * w)
    if products.kind == "lookup":
        return samples * r * min(1.0, w / blocks.count) * (1 + 2.0 * blocks.width)
    combined = 2.0 * samples * r * blocks.size * (w + blocks.width)
    if products.unfolded(blocks):
        combined += UNFOLDING * samples * blocks.inputs
    return combined + whitening.flops(products.whitening(whiten), blocks, samples, blocks.inputs + 1.0, False)
