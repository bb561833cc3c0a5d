"""Whitening of a layer's gradient from its small factors, before the product that forms or encodes it.

The gradient of a layer is G = ΔᵀA, with errors Δ (B × k) and inputs A (B × d, the bias a column of ones). One
Newton–Schulz step X ← aX + b(XXᵀ)X + c(XXᵀ)²X, from X = G/‖G‖, brings its singular values closer together:
the quintic step of Muon, with its coefficients (Jordan et al., "Muon: an optimizer for hidden layers in
neural networks", 2024). Since G has rank B at most, the step is a change of Δ alone: with Ka = AAᵀ, Kd = ΔΔᵀ,
ν² = ΣKa∘Kd = ‖G‖² and M = KaKd/ν² it is Δᵀ(aI + bM + cM²)A/ν, followed by the same product as without
whitening. For a layer of few outputs the same step is made in k × k matrices, of XXᵀ. Steps are scaled by
√max(1, k/d).

With steps of constant length, weights would grow long after the loss is small. Steps therefore shrink with
the mini-batch's loss f once it is less than a fiftieth of the loss of zero scores, f₀: by the factor 50 f/f₀.
Steps proportional to the loss, up to a largest one, are Polyak's, on mini-batches those of Loizou et al.
("Stochastic Polyak step-size for SGD", AISTATS 2021), for losses with a minimum near 0.

Two things are this project's addition: each worker whitens its own gradient here, on B × B matrices, and its
steps shrink in this way.
"""

from math import sqrt
from typing import Any, Literal

import numpy as np

from ..kernels import blas, passes, whiten
from .layers import DenseLayer, SparseLayer
from .matrix import Array
from .partition import Blocks

Form = Literal["samples", "outputs"]
COEFFICIENTS = 3.4445, -4.7750, 2.0315
SMALL_LOSS = 1 / 50  # of the loss of zero scores: below it steps shrink
POINTWISE = 8  # flops of an element of a small matrix: the polynomial, sums and scaling
SMALL_PRODUCTS = 2.5  # measured time of a flop of small products and sums, relative to one of a gradient
SCALING = 12.0  # measured time, in the same unit, of the norm and the scaling of a gradient's element


def form_of(blocks: Blocks, batch: int, entries: float) -> Form:
    """Return the cheaper form of the step for a layer: matrices of B × B, or of k × k of its gradient."""
    forms: tuple[Form, ...] = "samples", "outputs"
    return min(forms, key=lambda form: _step_flops(form, blocks, batch, entries))


def flops(kind: str, blocks: Blocks, batch: int, entries: float, formed: bool) -> float:
    """Return the additional flops of whitening a layer's gradient, in flops of a gradient that take its time.

    `entries` are the nonzero inputs of a sample, with the bias; `formed` is set if the gradient is formed,
    and not encoded at once.
    """
    if kind == "none":
        return 0.0
    if kind == "norm" and formed:
        return SCALING * blocks.length
    form = form_of(blocks, batch, entries)
    if kind == "gram":
        return SMALL_PRODUCTS * _step_flops(form, blocks, batch, entries)
    grams = _gram_flops(blocks, batch, entries)
    return SMALL_PRODUCTS * (grams if form == "samples" else 2.0 * batch * entries * blocks.outputs)


def _gram_flops(blocks: Blocks, batch: int, entries: float) -> float:
    """Count the flops of both Gram matrices; BLAS computes half of each, and sparse inputs are made dense."""
    per_entry = 1.0 if entries == blocks.inputs + 1 else 4.0
    return batch * batch * (per_entry * entries + blocks.outputs)


def _step_flops(form: Form, blocks: Blocks, batch: int, entries: float) -> float:
    """Count the flops of a Newton–Schulz step."""
    k, width = blocks.outputs, blocks.inputs + 1
    if form == "samples":
        small = 4.0 * batch**3 + POINTWISE * batch**2
        return _gram_flops(blocks, batch, entries) + small + 2.0 * batch * batch * k
    small = 2.0 * k**3 + POINTWISE * k * k
    return 2.0 * batch * entries * k + 1.0 * k * k * width + small + 2.0 * batch * k * k


def step_factor(loss: float, zero: float) -> float:
    """Return the factor on the length of a step at a mini-batch's loss; `zero` is the loss of zero scores."""
    return loss / (SMALL_LOSS * zero) if 0 <= loss < SMALL_LOSS * zero else 1.0


class WhitenedLayer:
    """A layer whose gradient is whitened; methods as for `DenseLayer`.

    The kind is "norm": G/‖G‖, or "gram": one Newton–Schulz step from there. The result is multiplied by
    `weight`.
    """

    def __init__(
        self, layer: DenseLayer | SparseLayer, kind: str, batch: int, entries: float, weight: float = 1.0
    ) -> None:
        self.layer, self.blocks, self.forward = layer, layer.blocks, layer.forward
        self._step, self._form = kind == "gram", form_of(layer.blocks, batch, entries)
        self._scale = weight * sqrt(max(1.0, layer.blocks.outputs / (layer.blocks.inputs + 1)))
        self._step_factor = np.ones(1)

    @property
    def step_factor(self) -> float:
        """Further factor, of the next gradient, see `length`."""
        return self._step_factor.item()

    @step_factor.setter
    def step_factor(self, value: float) -> None:
        """Further factor of the next gradient, see the function `step_factor`."""
        self._step_factor[0] = value

    def attach(self, delta: Array, rows: int, payload: Array) -> None:
        self._delta, self._errors = delta, np.empty_like(delta)
        self.layer.attach(self._errors, rows, payload)
        self._whiten = self._sample_form() if self._form == "samples" else self._output_form()

    def gradient(self, out: Array) -> passes.Operation:
        """Return the operation that computes the whitened gradient into `out`, shape (p, m)."""
        if self._step:
            return passes.Pass([self._whiten, self.layer.gradient(out)])
        before = passes.Pass([self._copy, self.layer.gradient(out)])
        return whiten.Scale(before, _squared(out), [], self._scale, self._step_factor, out, out)

    def coded(self, indices: Array, values: Array) -> None:
        """Compute combinations of blocks of the whitened gradient into the payload."""
        self._whiten()
        self.layer.coded(indices, values)

    def _sample_form(self) -> passes.Operation:
        """Return the operation on the errors that whitens their product with inputs, by B × B matrices."""
        delta = self._delta
        inputs, errors, total = self._small(len(delta))
        before = passes.Pass([self.layer.gram(inputs), blas.Product(delta, delta.T, errors)])
        # If the samples' gradients cancel, their sum is rounding error: small in comparison with these.
        others = [_squared(inputs), _squared(errors)]
        powers = passes.Pass([blas.Product(inputs, errors, total), blas.Product(total, total, inputs)])
        after = blas.Product(total.T, delta, self._errors)
        square = blas.Dot(inputs.reshape(-1), errors.reshape(-1))
        return self._operation(before, square, others, errors, powers, (total, inputs, total), after)

    def _output_form(self) -> passes.Operation:
        """Return the same operation by k × k matrices."""
        gradient = np.empty((self.blocks.rows, self.blocks.width), self._delta.dtype)
        outputs = gradient if self.blocks.axis == "output" else gradient.T  # (k, d)
        power, square, total = self._small(self.blocks.outputs)
        form = passes.Pass([self._copy, self.layer.gradient(gradient)])
        powers = blas.Product(power, power, square)
        after = blas.Product(self._delta, total, self._errors)
        before = passes.Pass([form, blas.Product(outputs, outputs.T, power)]) if self._step else form
        return self._operation(before, _squared(gradient), [], power, powers, (power, square, total), after)

    def _operation(self, before: Any, square: Any, others: list[Any], *step: Any) -> passes.Operation:
        """Return the operation from those that compute the norm and those of a step."""
        norm = before, square, others, self._scale, self._step_factor, self._delta, self._errors
        return whiten.Step(*norm, COEFFICIENTS, *step) if self._step else whiten.Scale(*norm)

    @property
    def _copy(self) -> passes.Operation:
        return passes.Call(np.copyto, self._errors, self._delta)

    def _small(self, size: int) -> list[Array]:
        return [np.empty((size, size), self._delta.dtype) for _ in range(3)]


def _squared(matrix: Array) -> blas.Dot:
    """Return the operation that sums up the squares of a matrix's elements."""
    return blas.Dot(matrix.reshape(-1), matrix.reshape(-1))
