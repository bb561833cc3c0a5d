"""Muon: steps along the orthogonalised momentum of each weight matrix.

Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: an optimizer for hidden layers in neural
networks", 2024. v ← βv + ĝ and u = ĝ + βv (Nesterov's momentum); five Newton–Schulz steps on U/‖U‖ bring the
singular values of a matrix U of u near 1, and the step is along the result times √max(1, d_out/d_in).
Coefficients, β and the scale are as in the authors' code.

`Dion2`: Ahn, Amsel and Langford, "Dion2: a simple method to shrink matrix in Muon", arXiv 2512.16928, 2025,
after the abstract and the authors' package (github.com/microsoft/dion). M ← M + Ĝ; of the rows, or columns if
there are fewer of them, the share of largest sums of magnitudes is orthogonalised and stepped along, and only
these are then multiplied by μ in M, as error feedback.

`Orthogonal`: Tuddenham, Prügel-Bennett and Hare, "Orthogonalising gradients to speed up neural network
optimisation", arXiv 2202.07052, 2022, by Newton–Schulz steps in place of a singular value decomposition: ĝ is
orthogonalised, and momentum follows. That steps shrink with the root of a matrix's norm, relative to the
largest so far, and that biases are a column of it, is this project's.

This project's: output layers are treated like the others, and biases step along the signs of u, or along u;
the papers leave both to AdamW or Lion.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from ..config import Candidates, Fraction, OptimizerTable, Positive, Rate
from ..fitted import LARGE_PRODUCTS
from ..kernels import optimize
from .optimizers import NO_MOMENTUM, Optimizer

if TYPE_CHECKING:
    from ..decoders import Decoder
    from ..transport.units import Blocks, Unit

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of X, X Xᵀ X and (X Xᵀ)² X


def orthogonalise(matrix: np.ndarray, iterations: int) -> np.ndarray:
    """Return a matrix with singular values near 1, by Newton–Schulz steps on the normalised matrix."""
    a, b, c = map(matrix.dtype.type, COEFFICIENTS)
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / max(float(np.linalg.norm(x)), float(np.finfo(matrix.dtype).tiny))
    for _ in range(iterations):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x if wide else x.T


def orthogonalise_flops(rows: int, columns: int, iterations: int) -> float:
    """Return the flops of a gradient that take as long as `orthogonalise`."""
    short, long = sorted((rows, columns))
    return LARGE_PRODUCTS * iterations * (4.0 * short**2 * long + 2.0 * short**3)


class Muon(Optimizer):
    """Momentum, then Newton–Schulz steps on the weights of each layer."""

    table: MuonTable
    moments = ("velocity",)
    with_biases: ClassVar[bool] = False  # whether the biases are a column of their matrix

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._direction = np.zeros(self.size, self.dtype)

    def _bind(self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]) -> None:
        super()._bind(theta, units, decoders)
        places = (slice(unit.offset, unit.offset + unit.length) for unit in units)
        self._plan = [
            (*views, self._direction[place]) for views, place in zip(self._plan, places, strict=True)
        ]

    def _advance(self, rate: float) -> float:
        for decoder, _, gradient, _, direction in self._plan:
            decoder.solve()
            np.multiply(gradient, self.dtype.type(decoder.scale * self._shrinkage), out=direction)
        self.turn(self._direction, self.state["velocity"])
        views = self._theta, self._no_velocity, self._direction
        total: float = optimize.sgd_step(*views, 1.0, rate, *NO_MOMENTUM, False)
        return total

    def turn(self, direction: np.ndarray, velocity: np.ndarray) -> None:
        """Replace the gradient in `direction` by the step's direction, and update the momentum."""
        self.add_momentum(direction, velocity)
        self.orthogonalise(direction)

    def add_momentum(self, direction: np.ndarray, velocity: np.ndarray) -> None:
        """Update the momentum by the vector in `direction`, and replace this by the sum of both."""
        beta = self.dtype.type(self.table.momentum)
        velocity *= beta
        velocity += direction
        if self.table.nesterov:
            direction += beta * velocity
        else:
            np.copyto(direction, velocity)

    def orthogonalise(self, direction: np.ndarray) -> None:
        """Orthogonalise the weights of each layer in place, and replace vectors by their signs."""
        for layer in self._layers:
            if layer.inputs:
                weights = layer.weights(direction) if self.with_biases else layer.unbiased(direction)
                weights[:] = self.orthogonal(layer, weights)
            if not (layer.inputs and self.with_biases):
                self.turn_vectors(layer.biases(direction))

    def turn_vectors(self, vectors: np.ndarray) -> None:
        """Replace vectors by their signs in place, unless they step along the momentum."""
        if self.table.vectors == "sign":
            np.sign(vectors, out=vectors)

    def orthogonal(self, layer: Blocks, weights: np.ndarray) -> np.ndarray:
        """Return an orthogonalised matrix, a layer's weights or a part of them, times the layer's scale."""
        scale = sqrt(max(1.0, layer.outputs / layer.inputs))
        return self.dtype.type(scale) * orthogonalise(weights, self.table.iterations)


class Orthogonal(Muon):
    """Newton–Schulz steps on the gradient of each layer, with its biases as a column, then momentum."""

    with_biases = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state["largest"] = np.zeros(len(self._layers), self.dtype)

    def turn(self, direction: np.ndarray, velocity: np.ndarray) -> None:
        self.orthogonalise(direction)
        self.add_momentum(direction, velocity)

    def orthogonal(self, layer: Blocks, weights: np.ndarray) -> np.ndarray:
        largest, place = self.state["largest"], self._layers.index(layer)
        norm = np.linalg.norm(weights)
        largest[place] = max(largest[place], norm)  # if it decayed, steps would not shrink with the gradient
        shrinkage = sqrt(norm / largest[place]) if norm else 0.0
        return self.dtype.type(shrinkage) * super().orthogonal(layer, weights)


class Dion2(Muon):
    """Newton–Schulz steps on the rows or columns of largest momentum of each layer's weights."""

    table: Dion2Table

    def turn(self, direction: np.ndarray, velocity: np.ndarray) -> None:
        velocity += direction
        direction.fill(0)
        mu = self.dtype.type(self.table.momentum)
        for layer in self._layers:
            vectors = layer.biases(velocity)
            turned = layer.biases(direction)
            turned[:] = vectors
            self.turn_vectors(turned)
            vectors *= mu
            if not layer.inputs:
                continue
            momentum, step = layer.unbiased(velocity), layer.unbiased(direction)
            if layer.outputs > layer.inputs:
                momentum, step = momentum.T, step.T
            order = np.argsort(-np.abs(momentum).sum(axis=1), kind="stable")
            chosen = np.sort(order[: self.table.chosen(layer)])
            step[chosen] = self.orthogonal(layer, momentum[chosen])
            momentum[chosen] *= mu


class MuonTable(OptimizerTable, tag="muon"):
    """Muon: momentum, then Newton–Schulz steps on each weight matrix."""

    makes: ClassVar[type[Optimizer]] = Muon
    touches: ClassVar[float] = 10.0
    has_length: ClassVar[bool] = True

    rate: Rate = 0.02  #: learning rate: the largest singular value of a step, about
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95  #: factor on the last momentum, added to the gradient
    nesterov: bool = True  #: whether the momentum is Nesterov's; else it is the heavy ball's
    iterations: Positive = 5  #: Newton–Schulz steps on each matrix
    vectors: Literal["sign", "momentum"] = "sign"  #: steps of biases: along the signs of the momentum, or it

    candidates: ClassVar[Candidates] = {
        "momentum": (0.8, 0.9, 0.95), "iterations": (1, 2, 5), "vectors": ("sign", "momentum")
    }  # fmt: skip

    def step_lengths(self, layer: Blocks) -> tuple[float | None, float | None]:
        outputs, inputs = layer.outputs, layer.inputs
        scale = max(1.0, outputs / max(1, inputs))
        return sqrt(scale * self.chosen(layer)), sqrt(outputs) if self.vectors == "sign" else None

    def chosen(self, layer: Blocks) -> int:
        """Return the number of rows of a layer that a step moves, or of columns, if there are fewer."""
        return min(layer.outputs, layer.inputs)

    def flops(self, layers: Sequence[Blocks]) -> float:
        steps = sum(orthogonalise_flops(layer.outputs, layer.inputs, self.iterations) for layer in layers)
        return steps + super().flops(layers)


class OrthogonalTable(MuonTable, tag="orthogonal"):
    """Newton–Schulz steps on the gradient of each weight matrix, then momentum."""

    makes: ClassVar[type[Optimizer]] = Orthogonal
    has_length: ClassVar[bool] = False  # steps shrink with the gradient

    fewest_samples: ClassVar[int] = 64

    rate: Rate = 0.6  #: learning rate: the largest singular value of a step without momentum, about
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.8  #: factor on the last momentum
    iterations: Positive = 2  #: Newton–Schulz steps on each matrix
    #: steps of vectors that are no biases: along the momentum of the signs of their gradient, or of itself
    vectors: Literal["sign", "momentum"] = "momentum"

    candidates: ClassVar[Candidates] = {
        key: MuonTable.candidates[key] for key in ("momentum", "iterations")
    }  # at its rates, steps along signs are far too long


class Dion2Table(MuonTable, tag="dion2"):
    """Dion2: Muon on a fraction of each weight matrix: the rows or columns of largest momentum."""

    makes: ClassVar[type[Optimizer]] = Dion2

    share: Fraction = 0.25  #: fraction of the rows, or of fewer columns, that a step moves, rounded up

    def chosen(self, layer: Blocks) -> int:
        return max(1, ceil(self.share * super().chosen(layer) - 1e-9))

    def flops(self, layers: Sequence[Blocks]) -> float:
        sides = [(self.chosen(layer), max(layer.outputs, layer.inputs)) for layer in layers]
        steps = sum(orthogonalise_flops(*pair, self.iterations) for pair in sides)
        return steps + OptimizerTable.flops(self, layers)
