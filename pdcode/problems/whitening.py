"""Whitening of a layer's gradient from its small factors, before the product that forms or encodes it.

The gradient of a layer is G = ΔᵀA, with errors Δ (B × k) and inputs A (B × d, the bias a column of ones). One
Newton–Schulz step X ← aX + b(XXᵀ)X + c(XXᵀ)²X, from X = G/‖G‖, brings its singular values closer together:
the quintic step of Muon, with its coefficients (Jordan et al., "Muon: an optimizer for hidden layers in
neural networks", 2024). A layer's step takes the form that needs the fewest operations:

- By samples. Since G has rank B at most, the step is a change of Δ alone: with Ka = AAᵀ, Kd = ΔΔᵀ,
  ν² = ΣKa∘Kd = ‖G‖² and M = KaKd/ν² it is Δᵀ(aI + bM + cM²)A/ν, followed by the same product as without
  whitening.
- By outputs: the same change of Δ in k × k matrices, with M = GGᵀ/ν².
- By the gradient, where it is formed: (aI + bM + cM²)G/ν, or, if d < k, G(aI + bM + cM²)/ν with M = GᵀG/ν².

Further steps multiply the polynomial by p(M), where M becomes p(M)²M each time: all of these commute. The
result is scaled by √max(1, k/d).

With steps of constant length, weights would grow long after the loss is small. Steps therefore shrink with
the mini-batch's loss f once it is less than a fiftieth of the loss of zero scores, f₀: by the factor 50 f/f₀.
Steps proportional to the loss, up to a largest one, are Polyak's; on mini-batches they are by Loizou et al.
("Stochastic Polyak step-size for SGD", AISTATS 2021), for losses with a minimum near 0 (`Model.near_zero`).
Squared errors of scaled targets (`standardise_targets`), whose least mean is not known, shrink steps by the
root of f/f₀: they are as long as the errors, as those along plain gradients. Elsewhere steps shrink by
`optimizer.schedule` alone; so do the steps of a language model, whose loss is never that small.

Two things are this project's addition: each worker whitens its own gradient here, on B × B matrices, and its
steps shrink in this way.
"""

from functools import cached_property
from math import sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

from ..fitted import CENTRING, NORMING, SMALL_LOSS
from ..kernels import blas, passes, whiten
from ..transport.units import Blocks
from ..util.touches import flops_per_touch
from .layers import DenseLayer, InputMean, Layer, SparseLayer
from .matrix import Array

Form = Literal["samples", "outputs", "gradient"]
COEFFICIENTS = 3.4445, -4.7750, 2.0315
POINTWISE = 8  # flops of an element of a small matrix: the polynomial, sums and scaling


class Whitening(NamedTuple):
    """Whitening of gradients; the default is none.

    Attributes
    ----------
    kind : {"none", "norm", "gram"}
        "norm": G/‖G‖; "gram": Newton–Schulz steps from there.
    steps : int
        Number of these steps.
    form : {"auto", "factors"}
        "factors": by samples or outputs only.
    centred : bool
        Whether gradients are by inputs of hidden layers less their running mean, also if not whitened; see
        `layers.CentredLayer`. Of a single layer: whether its are.
    """

    kind: str = "none"
    steps: int = 1
    form: str = "auto"
    centred: bool = False


NONE = Whitening()


def form_of(
    blocks: Blocks, batch: int, entries: float, whitening: Whitening = NONE, formed: bool = False
) -> Form:
    """Return the form of the steps for a layer that needs the fewest flops; `formed` as for `flops`."""
    forms: list[Form] = ["samples", "outputs"]
    if formed and whitening.form == "auto":
        forms.append("gradient")
    return min(forms, key=lambda form: _step_flops(form, blocks, batch, entries, whitening.steps))


def flops(whitening: Whitening, blocks: Blocks, batch: int, entries: float, formed: bool) -> float:
    """Return the additional flops of whitening a layer's gradient, in flops of a gradient that take its time.

    `entries` are the nonzero inputs of a sample, with the bias; `formed` is set if the gradient is formed,
    and not encoded at once.
    """
    centring = CENTRING * batch * blocks.inputs if whitening.centred else 0.0
    if whitening.centred and formed:
        centring += 2.0 * flops_per_touch(blocks.length) * blocks.length
    if whitening.kind == "none":
        return centring
    if whitening.kind == "norm" and formed:
        return centring + _scaling_flops(blocks)
    form = form_of(blocks, batch, entries, whitening, formed)
    if whitening.kind == "gram":
        return centring + _slowness(batch) * _step_flops(form, blocks, batch, entries, whitening.steps)
    grams = _gram_flops(blocks, batch, entries)
    work = grams if form == "samples" else 2.0 * batch * entries * blocks.outputs
    return centring + _slowness(batch) * work


def _slowness(batch: int) -> float:
    """Return the time of a flop of small products and sums, as a multiple of the time of a gradient's flop.

    Measured for 16 to 512 samples by ``python -m benchmarks charges``.
    """
    return 1.2 + 40 / batch


def _scaling_flops(blocks: Blocks) -> float:
    """Return the flops of scaling a layer's gradient by its norm; it has just been computed."""
    return NORMING * flops_per_touch(blocks.length) * blocks.length


def _gram_flops(blocks: Blocks, batch: int, entries: float) -> float:
    """Count the flops of both Gram matrices; BLAS computes half of each, and sparse inputs are made dense."""
    per_entry = 1.0 if entries == blocks.inputs + 1 else 4.0
    return batch * batch * (per_entry * entries + blocks.outputs)


def _step_flops(form: Form, blocks: Blocks, batch: int, entries: float, steps: int) -> float:
    """Count the flops of Newton–Schulz steps."""
    k, (short, long) = blocks.outputs, sorted((blocks.rows, blocks.width))
    size = {"samples": batch, "outputs": k, "gradient": short}[form]
    powers = 4.0 if form == "samples" else 2.0
    small = (powers + 8.0 * (steps - 1)) * size**3 + POINTWISE * steps * size**2
    if form == "samples":
        return _gram_flops(blocks, batch, entries) + small + 2.0 * batch * batch * k
    if form == "outputs":
        formed = 2.0 * batch * entries * k
        return formed + 1.0 * k * k * (blocks.inputs + 1) + small + 2.0 * batch * k * k
    return 3.0 * short * short * long + small


def step_factor(loss: float, zero: float) -> float:
    """Return the factor on the length of a step at a mini-batch's loss.

    `zero` is the loss of zero scores; it is 0 where steps do not shrink.
    """
    return loss / (SMALL_LOSS * zero) if 0 <= loss < SMALL_LOSS * zero else 1.0


def root_factor(loss: float, zero: float) -> float:
    """Return the factor on the length of a step of squared errors at a mini-batch's loss.

    It is the root of that loss over zero scores' loss, at most 1: as errors become smaller, steps shrink as
    those along plain gradients do.
    """
    return sqrt(loss / zero) if 0 <= loss < zero else 1.0


class WhitenedLayer:
    """A layer whose gradient is whitened; methods as for `DenseLayer`.

    The result is multiplied by `weight`.
    """

    def __init__(
        self,
        layer: DenseLayer | SparseLayer,
        whitening: Whitening,
        batch: int,
        entries: float,
        weight: float = 1.0,
    ) -> None:
        self.layer, self.blocks, self.forward = layer, layer.blocks, layer.forward
        self._steps = whitening.steps if whitening.kind == "gram" else 0
        forms = [form_of(layer.blocks, batch, entries, whitening, formed) for formed in (False, True)]
        self._form, self._form_if_formed = forms
        self._scale, self._step_factor = weight * _length(layer.blocks), np.ones(1)

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

    def gradient(self, out: Array) -> passes.Operation:
        """Return the operation that computes the whitened gradient into `out`, shape (p, m)."""
        if self._steps and self._form_if_formed != "gradient":
            return passes.Pass([self._whiten, self.layer.gradient(out)])
        if self._steps:
            whitened = self._gradient_form(out)
        else:
            before = passes.Pass([self._copy, self.layer.centred.gradient(out)])
            whitened = whiten.Scale(before, _squared(out), [], self._scale, self._step_factor, out, out)
        after = self.layer.carry(out)
        return passes.Pass([whitened, *after]) if after else whitened

    def coded(self, indices: Array, values: Array) -> None:
        """Compute combinations of blocks of the whitened gradient into the payload."""
        self._whiten()
        self.layer.coded(indices, values)

    @cached_property
    def _whiten(self) -> passes.Operation:
        """Operation on the errors that whitens their product with inputs."""
        return self._sample_form() if self._form == "samples" else self._output_form()

    def _sample_form(self) -> passes.Operation:
        """Return the operation by B × B matrices."""
        delta = self._delta
        inputs, errors, total = self._small(len(delta))
        before = passes.Pass([self.layer.centred.gram(inputs), blas.Product(delta, delta.T, errors)])
        # If the samples' gradients cancel, their sum is rounding error: small in comparison with these.
        others = [_squared(inputs), _squared(errors)]
        powers = passes.Pass([blas.Product(inputs, errors, total), blas.Product(total, total, inputs)])
        square = blas.Dot(inputs.reshape(-1), errors.reshape(-1))
        sums = before, square, others, errors, powers, (total, inputs, total)
        return self._operation(self._delta, self._errors, sums, lambda p: (p.T, delta))

    def _output_form(self) -> passes.Operation:
        """Return the same operation by k × k matrices."""
        gradient = np.empty((self.blocks.rows, self.blocks.width), self._delta.dtype)
        outputs = gradient if self.blocks.axis == "output" else gradient.T  # (k, d)
        sums = self._sums(gradient, outputs)
        return self._operation(self._delta, self._errors, sums, lambda p: (self._delta, p))

    def _gradient_form(self, out: Array) -> passes.Operation:
        """Return the operation that whitens the gradient itself, by its smaller Gram matrix."""
        gradient = np.empty_like(out)
        if len(out) <= out.shape[1]:
            return self._operation(gradient, out, self._sums(gradient, gradient), lambda p: (p, gradient))
        return self._operation(gradient, out, self._sums(gradient, gradient.T), lambda p: (gradient, p))

    def _sums(self, gradient: Array, matrix: Array) -> tuple[Any, ...]:
        """Return the operations that form the gradient, its norm, and M of a view of it, and M's square."""
        power, square, total = self._small(len(matrix))
        form = passes.Pass([self._copy, self.layer.centred.gradient(gradient)])
        before = passes.Pass([form, blas.Product(matrix, matrix.T, power)]) if self._steps else form
        small = power, square, total
        return before, _squared(gradient), [], power, blas.Product(power, power, square), small

    def _operation(self, source: Array, out: Array, sums: tuple[Any, ...], factors: Any) -> passes.Operation:
        """Return the operation that computes `out`, the product of `factors(P)` with the polynomial P of M.

        Without steps it scales `source`, by the norm.
        """
        before, square, others, power, powers, (matrix, squared, total) = sums
        norm = before, square, others, self._scale, self._step_factor, source, out
        if not self._steps:
            return whiten.Scale(*norm)
        further: list[passes.Operation] = []
        if self._steps > 1:
            total = np.empty_like(total)  # the matrices are needed longer
            further = _further_steps(self._steps - 1, matrix, squared, total)
        after = passes.Pass([*further, blas.Product(*factors(total), out)])
        return whiten.Step(*norm, COEFFICIENTS, power, powers, (matrix, squared, total), after)

    @property
    def _copy(self) -> passes.Operation:
        return passes.Call(np.copyto, self._errors, self._delta)

    def _small(self, size: int) -> list[Array]:
        return [np.empty((size, size), self._delta.dtype) for _ in range(3)]


def _further_steps(count: int, matrix: Array, square: Array, total: Array) -> list[passes.Operation]:
    """Return the operations of further steps: M ← p(M)²M, its square, and P ← p(M)P in `total`."""
    polynomial, product = np.empty_like(total), np.empty_like(total)
    evaluate = passes.Call(_evaluate, matrix, square, polynomial)
    step = [
        blas.Product(polynomial, matrix, product),
        blas.Product(polynomial, product, matrix),
        blas.Product(matrix, matrix, square),
        evaluate,
        blas.Product(polynomial, total, product),
        passes.Call(np.copyto, total, product),
    ]
    return [evaluate, *step * count]


def _evaluate(power: Array, square: Array, out: Array) -> None:
    """Compute the polynomial aI + bM + cM² of M and its square, which is overwritten."""
    a, b, c = map(out.dtype.type, COEFFICIENTS)
    np.multiply(power, b, out=out)
    square *= c
    out += square
    np.einsum("ii->i", out)[:] += a


def _length(blocks: Blocks) -> float:
    """Return the factor √max(1, k/d) of a whitened matrix; a single column has the length of rank 1."""
    columns = blocks.inputs + blocks.bias
    return sqrt(max(1.0, blocks.outputs / columns if columns > 1 else 1.0))


def _squared(matrix: Array) -> blas.Dot:
    """Return the operation that sums up the squares of a matrix's elements."""
    return blas.Dot(matrix.reshape(-1), matrix.reshape(-1))


class FormedGradient(Layer):
    """A gradient that is there, in place of a layer that computes it; with a mean, by centred inputs."""

    def __init__(self, blocks: Blocks, matrix: Array, mean: InputMean | None) -> None:
        self._blocks, self._matrix, self._mean = blocks, matrix, mean

    def gradient(self, out: Array) -> passes.Operation:
        """Return the operation that copies the gradient, and centres it."""
        steps = [] if out is self._matrix else [passes.Call(np.copyto, out, self._matrix)]
        if self._mean is not None:
            steps.append(self._mean.centre(self._blocks, out))
        return passes.Pass(steps)

    def carry(self, out: Array) -> list[passes.Operation]:
        return [] if self._mean is None else [self._mean.carry(self._blocks, out)]


class WhitenedGradient(WhitenedLayer):
    """A gradient, of any matrix, that `run` whitens in place.

    One column is scaled to the length of a matrix of rank 1.
    """

    def __init__(
        self,
        blocks: Blocks,
        matrix: Array,
        whitening: Whitening,
        weight: float = 1.0,
        mean: InputMean | None = None,
    ) -> None:
        self.blocks, self._form_if_formed = blocks, "gradient"
        self.layer = FormedGradient(blocks, matrix, mean)  # type: ignore[assignment]
        self._steps = whitening.steps if whitening.kind == "gram" else 0
        self._scale, self._step_factor = weight * _length(blocks), np.ones(1)
        self._delta = self._errors = np.empty((1, 1), matrix.dtype)  # there are no factors
        self.run = self.gradient(matrix)


def matrix_flops(whitening: Whitening, blocks: Blocks) -> float:
    """Return the flops of whitening a gradient that is formed."""
    if whitening.kind == "gram":
        return _step_flops("gradient", blocks, 0, 0.0, whitening.steps)
    return _scaling_flops(blocks) if whitening.kind == "norm" else 0.0
