"""Muon: steps along the orthogonalised momentum of each weight matrix.

Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein, "Muon: an optimizer for hidden layers in neural
networks", 2024. v ← βv + ĝ and u = ĝ + βv (Nesterov's momentum); five Newton–Schulz steps on U/‖U‖ bring the
singular values of a matrix U of u near 1, and the step is along the result times √max(1, d_out/d_in).
Coefficients, β and the scale are those of the authors' code.

This project's: output layers are treated like the others, and biases step along the signs of u, or along u;
Muon leaves both to AdamW.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta

from ..config import OptimizerTable, Positive, Real
from ..kernels import optimize
from .optimizers import NO_MOMENTUM, Optimizer

if TYPE_CHECKING:
    from ..decoders import Decoder
    from ..problems.partition import Blocks, Unit

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
    """Return the flops of `orthogonalise`."""
    short, long = sorted((rows, columns))
    return iterations * (4.0 * short**2 * long + 2.0 * short**3)


class Muon(Optimizer):
    """Momentum, then Newton–Schulz steps on the weights of each of `layers`."""

    table: MuonTable
    moments = ("velocity",)

    def __init__(self, table: MuonTable, size: int, dtype: Any, layers: Sequence[Blocks]) -> None:
        super().__init__(table, size, dtype)
        self._direction = np.zeros(self.size, self.dtype)
        views = [layer.weights(self._direction) for layer in layers]
        self._layers = [(view[:, :-1], view[:, -1]) for view in views]

    def _bind(self, theta: np.ndarray, units: Sequence[Unit], decoders: Sequence[Decoder]) -> None:
        super()._bind(theta, units, decoders)
        places = (slice(unit.offset, unit.offset + unit.length) for unit in units)
        self._plan = [
            (*views, self._direction[place]) for views, place in zip(self._plan, places, strict=True)
        ]

    def _advance(self, rate: float) -> float:
        table, beta = self.table, self.dtype.type(self.table.momentum)
        for decoder, _, gradient, velocity, direction in self._plan:
            decoder.solve()
            np.multiply(gradient, self.dtype.type(decoder.scale), out=direction)
            velocity *= beta
            velocity += direction
            if table.nesterov:
                direction += beta * velocity
            else:
                np.copyto(direction, velocity)
        for weights, biases in self._layers:
            scale = sqrt(max(1.0, weights.shape[0] / weights.shape[1]))
            np.multiply(orthogonalise(weights, table.iterations), self.dtype.type(scale), out=weights)
            if table.vectors == "sign":
                np.sign(biases, out=biases)
        views = self._theta, self._no_velocity, self._direction
        total: float = optimize.sgd_step(*views, 1.0, rate, *NO_MOMENTUM, False)
        return total


class MuonTable(OptimizerTable, tag="muon"):
    """Muon: momentum, then Newton–Schulz steps on each weight matrix."""

    rate: Real = 0.02  #: learning rate: the largest singular value of a step, about
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.95  #: factor on the last momentum, added to the gradient
    nesterov: bool = True  #: whether the momentum is Nesterov's; else it is the heavy ball's
    iterations: Positive = 5  #: Newton–Schulz steps on each matrix
    vectors: Literal["sign", "momentum"] = "sign"  #: steps of biases: along the signs of the momentum, or it

    def make(
        self, size: int, dtype: Any, penalty: Any = None, span: float = 1.0, layers: Sequence[Blocks] = ()
    ) -> Optimizer:
        return Muon(self, size, dtype, layers)

    def flops(self, layers: Sequence[Blocks]) -> float:
        steps = sum(orthogonalise_flops(layer.outputs, layer.inputs, self.iterations) for layer in layers)
        return steps + 8.0 * sum(layer.length for layer in layers)
