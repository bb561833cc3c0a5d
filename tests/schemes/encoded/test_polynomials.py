"""Polynomials of the data: the same in fixed point as in floating point, never larger than their bound."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.encoded.field_code import residues
from pdcode.encoded.polynomials import (
    BoundContext,
    FixedMatrix,
    FixedPoint,
    LeastSquaresPolynomial,
    LogisticApproximation,
    Polynomial,
    degree,
)
from pdcode.util.errors import InputError


class Cubic:
    """Degree 3, with a product of two matrices, and constants on both sides."""

    def __call__(self, x: Any, y: Any, theta: Any) -> Any:
        return (2.0 * (x @ theta.T - y) * y + (0.25 + y) * 0.5).T @ x


POLYNOMIALS: dict[str, Polynomial] = {
    "least squares": LeastSquaresPolynomial(),
    "cubic": Cubic(),
    **{f"logistic {degree}": LogisticApproximation(degree, 3.0) for degree in (1, 3, 5)},
}
DEGREES = {"least squares": 2, "cubic": 3, "logistic 1": 2, "logistic 3": 4, "logistic 5": 6}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_degrees_are_counted(name: str) -> None:
    assert degree(POLYNOMIALS[name]) == DEGREES[name]


@pytest.mark.parametrize("name", POLYNOMIALS)
@given(
    rows=st.integers(1, 6), inputs=st.integers(1, 4), outputs=st.integers(1, 3), seed=st.integers(0, 2**32)
)
def test_fixed_point_is_exact_and_within_the_bound(name, rows, inputs, outputs, seed):
    """Numbers that are exact in fixed point, and small enough for float64 to be exact, too."""
    random, point = np.random.default_rng(seed), FixedPoint(61, 1, 3)
    x, y = (random.integers(-3, 4, (rows, columns)) / 2 for columns in (inputs, outputs))
    theta = random.integers(-4, 5, (outputs, inputs)) / 8
    polynomial: Any = POLYNOMIALS[name]
    if "logistic" in name:
        polynomial = LogisticApproximation(DEGREES[name] - 1, 3.0)
        polynomial.coefficients = [round(8 * each) / 8 for each in polynomial.coefficients]
    exact = polynomial(x, y, theta)
    found = polynomial(point.fixed(x, 1), point.fixed(y, 1), point.fixed(theta, 3))
    np.testing.assert_array_equal(point.to_float(found.residues, found.fraction), exact)
    context = BoundContext(rows, point)
    data = [np.abs(point.integers(array, 1)) for array in (x, y)]
    sizes = [context.data(each.max(axis=0)[None], each.sum(axis=0)[None]) for each in data]
    size = polynomial(*sizes, context.constant(theta))
    assert size.fraction == found.fraction
    assert size.most.shape == exact.shape
    assert (np.abs(np.ldexp(exact, size.fraction)) <= size.most).all()
    floating = BoundContext(rows)
    sizes = [floating.data(np.abs(each).max(axis=0)[None], np.abs(each).sum(axis=0)[None]) for each in (x, y)]
    assert (np.abs(exact) <= polynomial(*sizes, floating.constant(theta)).most + 1e-9).all()


@given(numbers=st.lists(st.integers(-1000, 1000), min_size=1), other=st.integers(-1000, 1000))
def test_arithmetic_in_fixed_point(numbers: list[int], other: int) -> None:
    """With different fractional bits, of which a sum has the more."""
    point = FixedPoint(31, 0, 0)
    array = np.array([numbers], float) / 4
    fixed, one = point.fixed(array, 2), FixedMatrix(point, residues(np.array([[other]]), point.prime), 0)
    for found, expected in (
        (fixed + one, array + other), (fixed - one, array - other), (fixed * one, array * other),
        (fixed - 7.0, array - 7), (3.0 * fixed, 3 * array), (1.0 + fixed.T, 1 + array.T),
        (fixed @ fixed.T, array @ array.T),
    ):  # fmt: skip
        np.testing.assert_array_equal(point.to_float(found.residues, found.fraction), expected)


def test_operations_are_counted() -> None:
    context, (rows, inputs, outputs) = BoundContext(50), (50, 7, 3)
    x, y = (context.data(np.ones((1, columns)), np.ones((1, columns))) for columns in (inputs, outputs))
    LeastSquaresPolynomial()(x, y, context.constant(np.ones((outputs, inputs))))
    assert context.flops == 2 * 2 * rows * inputs * outputs + rows * outputs


@pytest.mark.parametrize(("degree", "most"), [(1, 0.18), (3, 0.06), (5, 0.018), (9, 2e-3), (15, 5e-5)])
def test_the_error_of_the_logistic_approximation(degree: int, most: float) -> None:
    found, z = LogisticApproximation(degree, 5.0), np.linspace(-5, 5, 777)
    error = np.abs(found.sigmoid(z) - 1 / (1 + np.exp(-z))).max()
    assert 0.9 * found.error < error <= found.error * (1 + 1e-6) < most
    least = np.polynomial.Chebyshev.fit(z, 1 / (1 + np.exp(-z)), degree)(z) - 1 / (1 + np.exp(-z))
    assert found.error < 2 * np.abs(least).max()


@pytest.mark.parametrize(
    ("polynomial", "said"),
    [
        (lambda x, y, theta: x.T @ (x @ theta.T - y), "values of shape (3, 2)"),
        (lambda x, y, theta: x @ theta.T - y, "values of shape (1, 2)"),
        (lambda x, y, theta: (x @ theta.T - y).T @ x * y, "cannot be evaluated (ValueError"),
        (lambda x, y, theta: theta, "does not depend on the data"),
        (lambda x, y, theta: (x @ theta.T - y).T @ x / 2, "cannot be evaluated (TypeError"),
        (lambda x, y, theta: np.exp(x @ theta.T).T @ x, "cannot be evaluated (TypeError"),
    ],
)
def test_polynomials_without_a_gradients_shape_are_refused(polynomial, said):
    with pytest.raises(InputError, match=re.escape(said)):
        degree(polynomial)


def test_negatives_and_differences_from_numbers():
    random, point = np.random.default_rng(2), FixedPoint(61, 10, 12)
    x = np.rint(random.normal(size=(3, 3)) * 1024) / 1024
    for expression in (lambda x: -x, lambda x: 1.5 - x, lambda x: 2.0 - x * x):
        found = expression(point.fixed(x, point.data))
        np.testing.assert_allclose(point.to_float(found.residues, found.fraction), expression(x), atol=1e-12)


def test_constants_of_too_few_bits_are_far_off():
    assert LogisticApproximation(5, 5.0, 24).error < 1.1 * LogisticApproximation(5, 5.0).error
    assert LogisticApproximation(5, 5.0, 1).error > 0.2
    assert not np.isfinite(LogisticApproximation(31, 1e-300).error)
