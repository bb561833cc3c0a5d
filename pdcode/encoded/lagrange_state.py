"""Both sides of Lagrange coded computing: workers evaluate a polynomial of coded data, rank 0 decodes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..coding.memory import Memoryless
from ..coding.optimizers import Optimizer
from ..problems import Problem
from ..transport.layout import Layout
from ..transport.messages import Order, Reply, Task
from ..transport.units import Blocks
from ..util.errors import Failure
from ..util.rng import BatchSampler
from .data_blocks import DataBlockCode, RealLagrangeCode, ReplicationCode
from .decoded_state import SAMPLED_SETS, DecodedState
from .polynomials import Bound, BoundContext, FixedMatrix, FixedPoint, LogisticApproximation, Polynomial


class ValueBound(NamedTuple):
    """Bound of a polynomial's values, given θ."""

    polynomial: Polynomial
    # largest magnitudes, shape (1, columns), and bounds of the sums over rows, in the integers that are sent
    x: tuple[np.ndarray, np.ndarray]
    y: tuple[np.ndarray, np.ndarray]
    rows: int  # rows in a sum
    point: FixedPoint | None

    def sum_bound(self, weights: np.ndarray) -> Bound:
        """Return the bound of the sum over rows."""
        context = BoundContext(self.rows, self.point)
        with np.errstate(over="ignore", invalid="ignore"):  # θ may have diverged
            x, y = context.data(*self.x), context.data(*self.y)
            bound: Bound = self.polynomial(x, y, context.constant(weights))
        return bound


class PolynomialEncoder(Memoryless):
    """A worker's side: it evaluates the polynomial on its coded rows.

    `x`, (rows, inputs), and `y`, (rows, outputs), are coded; without a FixedPoint they are real numbers.
    `layer` is the layer of the weights in θ, and `batches` draws the numbers of the rows of an update.
    """

    def __init__(
        self,
        polynomial: Polynomial,
        x: np.ndarray,
        y: np.ndarray,
        layer: Blocks,
        batches: BatchSampler,
        point: FixedPoint | None,
        reply: Reply,
    ) -> None:
        super().__init__(reply)
        self._polynomial, self._x, self._y, self._layer = polynomial, x, y, layer
        self._batches, self._point = batches, point

    def encode(self, theta: np.ndarray, task: Task) -> float:
        x, y, point = self._x, self._y, self._point
        if not self._batches.full:
            rows = self._batches.draw(task.version)
            x, y = x[rows], y[rows]
        weights, payload = self._layer.weights, self._reply.payloads[0][0]
        if point is None:
            with np.errstate(over="ignore", invalid="ignore"):  # rank 0 refuses results that are not finite
                payload[:] = self._polynomial(x, y, weights(theta)).ravel()
        elif (theta.view(np.uint64) < point.prime).all():
            inputs, targets = (FixedMatrix(point, array, point.data) for array in (x, y))
            sent = FixedMatrix(point, weights(theta.view(np.uint64)), point.theta)
            payload.view(np.uint64)[:] = self._polynomial(inputs, targets, sent).residues.ravel()
        else:  # a fault has corrupted θ
            payload.fill(np.nan)
        return float("nan")


class LagrangeState(DecodedState):
    """State with the results of an update.

    `value_bound` bounds the sum over the rows of all parts, or with real numbers of one worker's result.
    `scale` is the factor that makes the decoded sum the mean over the training rows. `error` bounds the
    rounding error of an element of the last decoded gradient; modulo a prime it is zero, as it does not
    include the rounding of data and θ to fixed point.
    """

    state_names = (*DecodedState.state_names, "_payloads", "_sent", "_ready", "error")
    _ready: bool  # whether `_sent` is this update's θ

    def __init__(
        self,
        theta: np.ndarray,
        optimizer: Optimizer,
        layout: Layout,
        problem: Problem,
        code: DataBlockCode,
        value_bound: ValueBound,
        scale: float,
    ) -> None:
        super().__init__(theta, optimizer, [layout], problem, code.liars, code.least)
        self._code, self._value_bound, self._scale = code, value_bound, scale
        dtype = theta.dtype if value_bound.point is None else np.dtype(np.uint64)
        self._payloads = np.empty((len(code.generator), len(theta)), dtype)
        self._sent = np.empty(len(theta), dtype)
        self.error = 0.0
        self._begin()

    def remarks(self) -> list[str]:
        code, point, polynomial = self._code, self._value_bound.point, self._value_bound.polynomial
        enough = (
            f"any {code.needed} of {len(code.generator)} results are enough for {code.parts} "
            f"part{'s' * (code.parts > 1)}"
        )
        if isinstance(code, ReplicationCode):
            enough += ", which are replicated: with so few workers, this tolerates more than coded parts"
        lines = [enough + (f"; {code.liars} of them may be wrong" if code.liars else "")]
        if isinstance(code, RealLagrangeCode):
            conditions = code.conditions(SAMPLED_SETS)
            error, median, worst = self.bound(conditions[-1]), np.median(conditions), conditions[-1]
            lines.append(
                f"condition number {median:.2g}, in the worst of {SAMPLED_SETS} random sets of results "
                f"{worst:.2g}: decoding multiplies rounding errors by this factor; an element of the first "
                f"gradient then has an error of at most {error:.1g}"
            )
        if point is not None:
            exponent = self.log2_bound
            lines.append(f"sums modulo 2^{point.bits} - 1 reach at most 2^{exponent:.1f} at the first θ")
        if isinstance(polynomial, LogisticApproximation):
            falls = polynomial.coefficients[-1] < 0
            lines.append(
                f"σ(z) is replaced by a polynomial of degree {polynomial.degree}: its error is at most "
                f"{polynomial.error:.2g} for |z| ≤ {polynomial.bound:g}"
                + ("; outside it falls: scores must stay inside" if falls else ", and larger outside")
            )
        return lines

    def order(self, worker: int, task: int) -> Order:
        if not self._ready:
            if excess := self.overflow():
                raise Failure(f"{excess} (update {self._version})")
            point = self._value_bound.point
            self._sent[:] = self.theta if point is None else point.fixed(self.theta, point.theta).residues[0]
            self._ready = True
        return Order(0, self.layouts[0].empty_codewords(), [self._sent.view(np.uint8)])

    def step(self, damping: float) -> float | None:
        places = self._correct_places()
        workers, point = [self._workers[place] for place in places], self._value_bound.point
        total = self._code.decode(workers, self._payloads[places])
        if point is None:
            self.error = self.bound(float(np.abs(self._code.weights(workers)).sum()))
        else:
            total = point.to_float(total, self._size.fraction)
        derivatives = self._scale * total.reshape(self._layer.outputs, -1)
        norm = self._apply_derivatives(np.arange(derivatives.shape[1]), derivatives, damping)
        self._begin()
        return norm

    @property
    def log2_bound(self) -> float:
        """Logarithm to base 2 of the bound on sums modulo a prime; infinite or nan if θ has diverged."""
        with np.errstate(divide="ignore"):
            return float(np.log2(self._size.most.max()))

    def overflow(self) -> str:
        """Return the reason why this update's sum may not fit into the field, or ""."""
        point, exponent = self._value_bound.point, self.log2_bound
        if point is None or exponent < np.log2(point.prime / 2):
            return ""
        size = f"sums may reach 2^{exponent:.1f}" if np.isfinite(exponent) else "sums are beyond all bounds"
        return (
            f"scheme.options.prime: {size}, with {point.data} fractional bits of data and {point.theta} of "
            f"θ; modulo 2^{point.bits} - 1 they must be below 2^{point.bits - 1}"
        )

    def _begin(self) -> None:
        super()._begin()
        self._ready = False
        self._bound_values()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._bound_values()

    def _bound_values(self) -> None:
        """Bound the results at this θ."""
        self._size = self._value_bound.sum_bound(self._layer.weights(self.theta))

    def bound(self, amplification: float) -> float:
        """Return a bound on the rounding error of an element of the decoded gradient, of real numbers.

        `amplification` is the sum of the magnitudes of the decoding weights.
        """
        # Sums over rows and inputs, of coding and decoding; the weights have errors of some ε a worker.
        terms = self._value_bound.rows + len(self.theta) + 16 * len(self._payloads)
        return self._scale * amplification * terms * self._noise()

    def _noise(self) -> float:
        """Return the error of a single rounding of an element of a result, of real numbers."""
        limits = np.finfo(self.theta.dtype)
        return float(limits.eps * self._size.most.max() + limits.tiny * self._value_bound.rows)

    def _store(self, payload: np.ndarray) -> None:
        self._payloads[len(self._workers)] = payload[0].view(self._payloads.dtype)

    def _fraction(self) -> float:
        return self._code.captured(self._workers)

    def _locate(self) -> list[int] | None:
        noise = self._noise() if self._value_bound.point is None else 0.0
        return self._code.locate(self._workers, self._payloads[: len(self._workers)], noise)
