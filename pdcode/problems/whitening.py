"""Whitening of a layer's gradient from its small factors, before the product that forms or encodes it.

The gradient of a layer is G = ΔᵀA, with errors Δ (B × k) and inputs A (B × d, the bias a column of ones). One
Newton–Schulz step X ← aX + b(XXᵀ)X + c(XXᵀ)²X, from X = G/‖G‖, moves its singular values towards each other:
the quintic step of Muon (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024),
whose coefficients these are. Since G has rank B at most, the step is a change of Δ alone: with Ka = AAᵀ,
Kd = ΔΔᵀ, ν² = ΣKa∘Kd = ‖G‖² and M = KaKd/ν² it is Δᵀ(aI + bM + cM²)A/ν, and the same product as before
follows. A layer of few outputs has the same in k × k matrices, of XXᵀ. Steps are scaled by √max(1, k/d).

Steps of one length for ever would let weights grow long after the loss is small. So they shrink with the
mini-batch's loss f once it is less than a fiftieth of that of zero scores, f₀: by the factor 50 f/f₀. Steps
proportional to the loss, up to a largest one, are Polyak's, on mini-batches those of Loizou et al.
("Stochastic Polyak step-size for SGD", AISTATS 2021), for losses whose least value is about 0.

That whitening is done here, on B × B matrices, by each worker on its own gradient, and that its steps shrink
so, is this project's addition.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Literal

import numpy as np

from ..kernels import blas, passes
from .layers import DenseLayer, SparseLayer
from .matrix import Array
from .partition import Blocks

Form = Literal["samples", "outputs"]
COEFFICIENTS = 3.4445, -4.7750, 2.0315
SMALL_LOSS = 1 / 50  # of the loss of zero scores: below it steps shrink
POINTWISE = 8  # flops of an element of a small matrix: the polynomial, sums and scaling
SMALL = 2.5  # measured time of small products and sums, as a multiple of that of as many flops of a gradient
SCALING = 12.0  # measured time, in the same unit, of the norm and the scaling of a gradient's element


def form_of(blocks: Blocks, batch: int, entries: float) -> Form:
    """Return the cheaper form of the step for a layer: matrices of B × B, or of k × k of its gradient."""
    forms: tuple[Form, ...] = "samples", "outputs"
    return min(forms, key=lambda form: _gram(form, blocks, batch, entries))


def flops(kind: str, blocks: Blocks, batch: int, entries: float, formed: bool) -> float:
    """Return the flops that whitening adds to a layer's gradient, as many as take its time.

    Parameters
    ----------
    kind : {"none", "norm", "gram"}
    blocks : Blocks
    batch : int
        B, the samples of a mini-batch.
    entries : float
        Nonzero inputs of a sample, with the bias.
    formed : bool
        Whether the gradient is formed; else it is encoded at once.
    """
    if kind == "none":
        return 0.0
    if kind == "norm" and formed:
        return SCALING * blocks.length
    form = form_of(blocks, batch, entries)
    if kind == "gram":
        return SMALL * _gram(form, blocks, batch, entries)
    grams = _grams(blocks, batch, entries)
    return SMALL * (grams if form == "samples" else 2.0 * batch * entries * blocks.outputs)


def _grams(blocks: Blocks, batch: int, entries: float) -> float:
    """Count both Gram matrices. BLAS computes one half of them; sparse inputs are made dense first."""
    share = 1.0 if entries == blocks.inputs + 1 else 4.0
    return batch * batch * (share * entries + blocks.outputs)


def _gram(form: Form, blocks: Blocks, batch: int, entries: float) -> float:
    """Count a Newton–Schulz step."""
    k, width = blocks.outputs, blocks.inputs + 1
    if form == "samples":
        small = 4.0 * batch**3 + POINTWISE * batch**2
        return _grams(blocks, batch, entries) + small + 2.0 * batch * batch * k
    small = 2.0 * k**3 + POINTWISE * k * k
    return 2.0 * batch * entries * k + 1.0 * k * k * width + small + 2.0 * batch * k * k


def length(loss: float, zero: float) -> float:
    """Return the factor on the length of a step at a mini-batch's loss; `zero` is that of zero scores."""
    return loss / (SMALL_LOSS * zero) if 0 <= loss < SMALL_LOSS * zero else 1.0


class WhitenedLayer:
    """A layer whose gradient is whitened; methods as for `DenseLayer`.

    Parameters
    ----------
    layer : DenseLayer or SparseLayer
    kind : {"norm", "gram"}
        "norm": G/‖G‖; "gram": one Newton–Schulz step from there.
    batch : int
        B, the samples of a mini-batch.
    entries : float
        Nonzero inputs of a sample, with the bias, from which the form is chosen.
    weight : float
        Factor of the result.

    Attributes
    ----------
    length : float
        Further factor, of the next gradient, see `length`.
    """

    length = 1.0

    def __init__(
        self, layer: DenseLayer | SparseLayer, kind: str, batch: int, entries: float, weight: float = 1.0
    ) -> None:
        self.layer, self.blocks, self.forward = layer, layer.blocks, layer.forward
        self._step, self._form = kind == "gram", form_of(layer.blocks, batch, entries)
        self._scale = weight * sqrt(max(1.0, layer.blocks.outputs / (layer.blocks.inputs + 1)))

    def attach(self, delta: Array, rows: int, payload: Array) -> None:
        self._delta, self._errors = delta, np.empty_like(delta)
        self.layer.attach(self._errors, rows, payload)
        size = len(delta) if self._form == "samples" else delta.shape[1]
        self._first, self._second, self._third = (np.empty((size, size), delta.dtype) for _ in range(3))
        self._lost, self._least = 16 * float(np.finfo(delta.dtype).eps), float(np.finfo(delta.dtype).tiny)
        self._diagonal = self._third.reshape(-1)[:: size + 1]
        shape = (self.blocks.rows, self.blocks.width) if self._form == "outputs" else (0, 0)
        self._gradient = np.empty(shape, delta.dtype)
        self._outputs = self._gradient if self.blocks.axis == "output" else self._gradient.T  # (k, d)
        if self._form == "samples":
            errors = blas.Product(delta, delta.T, self._second)
            self._grams = passes.Pass([self.layer.gram(self._first), errors])
        else:
            self._form_gradient = self.layer.gradient(self._gradient)

    def gradient(self, out: Array) -> passes.Operation:
        """Return what computes the whitened gradient into `out`, shape (p, m)."""
        if self._step:
            return passes.Pass([passes.Call(self._whiten), self.layer.gradient(out)])
        before = passes.Call(np.copyto, self._errors, self._delta)
        return passes.Pass([before, self.layer.gradient(out), passes.Call(self._scale_down, out.reshape(-1))])

    def _scale_down(self, gradient: Array) -> None:
        np.multiply(gradient, self._factor(float(np.dot(gradient, gradient))), out=gradient)

    def coded(self, indices: Array, values: Array) -> None:
        """Compute combinations of blocks of the whitened gradient into the payload."""
        self._whiten()
        self.layer.coded(indices, values)

    def _whiten(self) -> None:
        """Change the errors so that their product with the inputs is the whitened gradient."""
        if self._form == "samples":
            self._grams()
            squares = self._product(self._first, self._second)
            both = self._product(self._first, self._first) * self._product(self._second, self._second)
            if squares <= self._lost * sqrt(both):
                squares = 0.0  # the samples' gradients cancel: what is left is rounding
        else:
            self._errors[:] = self._delta
            self._form_gradient()
            flat = self._gradient.reshape(-1)
            squares = float(np.dot(flat, flat))
        factor = self._factor(squares)
        if not self._step or factor == 0.0:
            np.multiply(self._delta, factor, out=self._errors)
            return
        a, b, c = COEFFICIENTS
        power, square, total = self._first, self._second, self._third
        if self._form == "samples":
            np.multiply(self._second, 1 / squares, out=self._second)
            np.matmul(self._first, self._second, out=total)
            power, square = total, self._first
        else:
            np.matmul(self._outputs, self._outputs.T, out=power)
            np.multiply(power, 1 / squares, out=power)
        np.matmul(power, power, out=square)
        np.multiply(power, b * factor, out=total)
        np.multiply(square, c * factor, out=square)
        np.add(total, square, out=total)
        np.add(self._diagonal, a * factor, out=self._diagonal)
        if self._form == "samples":
            np.matmul(total.T, self._delta, out=self._errors)
        else:
            np.matmul(self._delta, total, out=self._errors)

    @staticmethod
    def _product(first: Array, second: Array) -> float:
        return float(np.dot(first.reshape(-1), second.reshape(-1)))

    def _factor(self, squares: float) -> float:
        """Return the scale over the norm; 0 if its square is lost, NaN for a gradient out of range."""
        if self._least <= squares < inf:
            return self.length * self._scale / sqrt(squares)
        return 0.0 if squares < self._least else float("nan")
