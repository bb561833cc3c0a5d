"""Polynomials that workers evaluate on coded data, and the kinds of numbers for their evaluation.

A polynomial is written once, as an expression in the inputs x (rows, inputs), the targets y (rows, outputs)
and the weights θ (outputs, inputs), with ``+``, ``-``, ``*``, ``@`` and ``.T``. It is evaluated with floating
point numbers; with fixed point numbers modulo a prime, `FixedMatrix`; and with `Bound`, which bounds the
result and determines its degree in the data and its cost.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.polynomial import Chebyshev
from numpy.polynomial import Polynomial as Powers

from ..kernels import field
from ..util.errors import InputError
from .field_code import PRIMES, product, residues, to_signed

GRID = 10_001  # points at which the error of an approximation is measured


class Polynomial(Protocol):
    """A polynomial of the data; its values for blocks of rows add up to the value for all rows.

    The last block is filled up with rows of zeros, which must add nothing.
    """

    def __call__(self, x: Any, y: Any, theta: Any) -> Any:
        """Return the sum over rows, shape (outputs, inputs), such as the gradient of a sum of losses."""
        ...


class LeastSquaresPolynomial:
    """Gradient of half the squared errors: (x θᵀ - y)ᵀ x."""

    def __call__(self, x: Any, y: Any, theta: Any) -> Any:
        return (x @ theta.T - y).T @ x


def centred_sigmoid(z: np.ndarray) -> np.ndarray:
    """Return σ(z) - ½."""
    return 0.5 * np.tanh(0.5 * z)


class LogisticApproximation:
    """Gradient of the logistic loss, with a polynomial in place of σ(z) = 1 / (1 + exp(-z)).

    The polynomial interpolates σ - ½, an odd function, at Chebyshev points, and therefore nearly has the
    least maximal error.

    Parameters
    ----------
    degree : int
        Odd.
    bound : float
        B; the approximation is for scores |z| ≤ B.
    bits : int, optional
        Fractional bits to which constants are rounded; default: they are not.

    Attributes
    ----------
    coefficients : list of float
        Of z, z³, …
    error : float
        Largest error of σ(z) for |z| ≤ B; nan or infinite where there is no such approximation.
    """

    def __init__(self, degree: int, bound: float, bits: int | None = None) -> None:
        self.degree, self.bound = degree, bound
        z = np.linspace(0, bound, GRID)
        with np.errstate(all="ignore"):
            found = (
                Chebyshev.interpolate(centred_sigmoid, degree, [-bound, bound])
                .convert(kind=Powers)
                .coef[1::2]
            )
            constants = np.append(found, 0.5)
            if bits is not None:
                constants = np.ldexp(np.rint(np.ldexp(constants, bits)), -bits)
            *self.coefficients, self._half = map(float, constants)
            self.error = float(np.abs(self.sigmoid(z) - 0.5 - centred_sigmoid(z)).max())

    def sigmoid(self, z: Any) -> Any:
        """Return the approximation of σ(z)."""
        value: Any
        *lower, value = self.coefficients
        square: Any = z * z if lower else None
        for coefficient in reversed(lower):
            value = value * square + coefficient
        return value * z + self._half

    def __call__(self, x: Any, y: Any, theta: Any) -> Any:
        return (self.sigmoid(x @ theta.T) - y).T @ x


class FixedPoint(msgspec.Struct, frozen=True):
    """Representation of numbers by integers modulo a prime.

    Attributes
    ----------
    bits : int
        Of the prime, see `field_code.PRIMES`.
    data, theta : int
        Fractional bits of data, and of weights and constants.
    """

    bits: int
    data: int
    theta: int

    @property
    def prime(self) -> int:
        return PRIMES[self.bits]

    @staticmethod
    def integers(numbers: np.ndarray | float, fraction: int) -> np.ndarray:
        """Return numbers as integers with `fraction` fractional bits, float64, which are exact below 2⁵³."""
        scaled: np.ndarray = np.rint(np.ldexp(np.asarray(numbers, np.float64), fraction))
        return scaled

    def fixed(self, numbers: np.ndarray | float, fraction: int) -> FixedMatrix:
        """Return a matrix, or a number, modulo the prime."""
        integers = np.atleast_2d(self.integers(numbers, fraction))
        return FixedMatrix(self, residues(integers, self.prime), fraction)

    def to_float(self, elements: np.ndarray, fraction: int) -> np.ndarray:
        """Return the numbers that residues with `fraction` fractional bits represent, float64."""
        return np.ldexp(to_signed(elements, self.prime).astype(np.float64), -fraction)


class FixedMatrix:
    """A matrix modulo a prime, uint64, whose elements represent numbers with `fraction` fractional bits.

    A product has the fractional bits of both factors; before a sum the term with fewer is multiplied by a
    power of 2.
    """

    def __init__(self, point: FixedPoint, residues: np.ndarray, fraction: int) -> None:
        self.point, self.residues, self.fraction = point, residues, fraction

    @property
    def T(self) -> FixedMatrix:  # noqa: N802
        return FixedMatrix(self.point, self.residues.T, self.fraction)

    def __matmul__(self, other: FixedMatrix) -> FixedMatrix:
        found = product(self.residues, other.residues, self.point.prime)
        return FixedMatrix(self.point, found, self.fraction + other.fraction)

    def __mul__(self, other: FixedMatrix | float) -> FixedMatrix:
        factor = self._constant(other)
        found = np.empty(self.residues.shape, np.uint64)
        spread = np.ascontiguousarray(np.broadcast_to(factor.residues, found.shape))
        mine = np.ascontiguousarray(self.residues)
        field.multiply(mine.ravel(), spread.ravel(), self.point.prime, found.reshape(-1))
        return FixedMatrix(self.point, found, self.fraction + factor.fraction)

    def __add__(self, other: FixedMatrix | float) -> FixedMatrix:
        mine, term = self._aligned(self._constant(other))
        prime = np.uint64(self.point.prime)
        total = mine.residues + term.residues
        return FixedMatrix(self.point, np.where(total >= prime, total - prime, total), mine.fraction)

    def __sub__(self, other: FixedMatrix | float) -> FixedMatrix:
        term = self._constant(other)
        negative = np.where(term.residues, np.uint64(self.point.prime) - term.residues, np.uint64(0))
        return self + FixedMatrix(self.point, negative, term.fraction)

    def __rsub__(self, other: float) -> FixedMatrix:
        return self._constant(other) - self

    def __neg__(self) -> FixedMatrix:
        return self * -1.0

    __rmul__, __radd__ = __mul__, __add__

    def _constant(self, other: FixedMatrix | float) -> FixedMatrix:
        if isinstance(other, FixedMatrix):
            return other
        return self.point.fixed(other, 0 if float(other).is_integer() else self.point.theta)

    def _aligned(self, other: FixedMatrix) -> tuple[FixedMatrix, FixedMatrix]:
        """Return both with the larger one of their numbers of fractional bits."""
        most = max(self.fraction, other.fraction)
        mine, others = (
            each if each.fraction == most else each * 2.0 ** (most - each.fraction) for each in (self, other)
        )
        return FixedMatrix(self.point, mine.residues, most), FixedMatrix(self.point, others.residues, most)


class BoundContext:
    """Context of an evaluation with `Bound`: rows of the data, representation, operations so far.

    Without a FixedPoint, numbers are floating point ones; `flops` counts multiplications and additions.
    """

    def __init__(self, rows: int, point: FixedPoint | None = None) -> None:
        self.rows, self.point, self.flops = rows, point, 0.0

    def data(self, most: np.ndarray, total: np.ndarray) -> Bound:
        """Return the bound of inputs or targets; magnitudes are of the integers that are sent."""
        return Bound(self, most, total, 1, 0 if self.point is None else self.point.data)

    def constant(self, numbers: np.ndarray | float) -> Bound:
        """Return the bound of weights or of a constant."""
        whole = self.point is None or (isinstance(numbers, float) and numbers.is_integer())
        fraction = 0 if whole or self.point is None else self.point.theta
        integers = numbers if self.point is None else self.point.integers(numbers, fraction)
        return Bound(self, np.atleast_2d(np.abs(integers)), None, 0, fraction)


class Bound:
    """Bounds of the elements of a matrix, and their degree in the data.

    Parameters
    ----------
    context : BoundContext
    most : ndarray, shape (a, b)
        Largest magnitudes; of one row, if the matrix has a row for each row of the data.
    total : ndarray, shape (1, b), or None
        With a row for each row of the data: bounds of the sums of the rows' magnitudes.
    degree : int
    fraction : int
        Fractional bits; magnitudes are of the integers.
    """

    def __init__(
        self, context: BoundContext, most: np.ndarray, total: np.ndarray | None, degree: int, fraction: int
    ) -> None:
        self.context, self.most, self.total = context, most, total
        self.degree, self.fraction, self._transposed = degree, fraction, False

    @property
    def T(self) -> Bound:  # noqa: N802
        total = None if self.total is None else self.total.T
        transposed = Bound(self.context, self.most.T, total, self.degree, self.fraction)
        transposed._transposed = not self._transposed
        return transposed

    def __matmul__(self, other: Bound) -> Bound:
        rows, total = self.context.rows if self.total is not None else 1, None
        if self._transposed and self.total is not None:  # the sum over all rows
            assert other.total is not None
            most = np.minimum(self.most @ other.total, self.total @ other.most)
        else:
            most = self.most @ other.most
            total = None if self.total is None else self.total @ other.most
        self.context.flops += 2.0 * rows * self.most.shape[1] * most.size
        return Bound(self.context, most, total, self.degree + other.degree, self.fraction + other.fraction)

    def __mul__(self, other: Bound | float) -> Bound:
        factor = other if isinstance(other, Bound) else self.context.constant(other)
        most, total = self.most * factor.most, None
        if self.total is not None:
            total = self.total * factor.most
            if factor.total is not None:
                total = np.minimum(total, self.most * factor.total)
        self._count(most)
        return Bound(self.context, most, total, self.degree + factor.degree, self.fraction + factor.fraction)

    def __add__(self, other: Bound | float) -> Bound:
        term = other if isinstance(other, Bound) else self.context.constant(other)
        fraction = max(self.fraction, term.fraction)
        mine, others = 2.0 ** (fraction - self.fraction), 2.0 ** (fraction - term.fraction)
        most, total = mine * self.most + others * term.most, None
        if self.total is not None:
            added = self.context.rows * term.most if term.total is None else term.total
            total = mine * self.total + others * added
        self._count(most)
        return Bound(self.context, most, total, max(self.degree, term.degree), fraction)

    def __neg__(self) -> Bound:
        return self

    __sub__, __rsub__, __rmul__, __radd__ = __add__, __add__, __mul__, __add__

    def _count(self, most: np.ndarray) -> None:
        """Count an operation for each element."""
        self.context.flops += most.size * (1 if self.total is None else self.context.rows)


def degree(polynomial: Polynomial) -> int:
    """Return the total degree of a polynomial in the data.

    Raises InputError if it cannot be evaluated, its values have another shape than θ, or it does not depend
    on the data.
    """
    context, (inputs, outputs) = BoundContext(1), (3, 2)
    x, y = (context.data(ones, ones) for ones in (np.ones((1, inputs)), np.ones((1, outputs))))
    try:
        value = polynomial(x, y, context.constant(np.ones((outputs, inputs))))
        shape, number = value.most.shape, int(value.degree)
    except Exception as error:  # a plug-in's expression may raise any exception
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"its polynomial cannot be evaluated ({what})") from error
    if shape != (outputs, inputs):
        raise InputError(
            f"its polynomial has values of shape {shape} for {inputs} inputs and {outputs} outputs, not "
            f"({outputs}, {inputs}), the shape of θ"
        )
    if not number:
        raise InputError("its polynomial does not depend on the data")
    return number
