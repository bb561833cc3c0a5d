"""Scaling by the norm, and the Newton-Schulz step: their numbers by numpy, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES

from pdcode.kernels import blas, passes, whiten

NOTHING = passes.Pass([])
ONE = np.ones(1)


def squared(matrix):
    return blas.Dot(matrix.reshape(-1), matrix.reshape(-1))


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), length=st.floats(0, 1), seed=st.integers(0, 99))
def test_scales_to_one_length(dtype, rows, columns, length, seed):
    source = np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)
    out, share = np.empty_like(source), np.array([length])
    fill = passes.Call(np.copyto, out, source)
    operation = whiten.Scale(fill, squared(out), [], 3.0, share, source, out)
    for share[0] in (length, 1.0):
        operation()
        expected = source * (share[0] * 3.0 / float(squared(source)()) ** 0.5)
        np.testing.assert_allclose(out, expected, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_lost_is_zero_and_what_is_out_of_range_is_not_hidden(dtype):
    source, out = np.ones((2, 3), dtype), np.full((2, 3), 7, dtype)
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
    for value, expected in ((0, 0), (tiny, 0), (huge, np.nan), (np.nan, np.nan)):
        norm = np.full(4, value, dtype)
        with np.errstate(over="ignore"):
            whiten.Scale(NOTHING, blas.Dot(norm, norm), [], 1.0, ONE, source, out)()
        np.testing.assert_array_equal(out, np.full((2, 3), expected))
    weights, others = np.ones(2, dtype), [squared(np.full(2, 2, dtype))] * 2
    for first, lost in ((1, True), (1 + np.finfo(dtype).eps, True), (1.1, False)):
        difference = blas.Dot(np.array([first, -1], dtype), weights)
        whiten.Scale(NOTHING, difference, others, 1.0, ONE, source, out)()
        assert out.any() != lost


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=st.integers(1, 40), scale=st.floats(0.1, 9), in_place=st.booleans(), seed=st.integers(0, 99))
def test_a_step_is_the_polynomial_of_a_matrix(dtype, size, scale, in_place, seed):
    random = np.random.default_rng(seed)
    matrix, delta = random.standard_normal((2, size, size)).astype(dtype)
    power, square, total, out = np.empty((4, size, size), dtype)
    total = power if in_place else total
    fill, norm = passes.Call(np.copyto, power, matrix), squared(matrix)
    products = [blas.Product(power, power, square), blas.Product(total, delta, out)]
    small = power, products[0], (power, square, total), products[1]
    whiten.Step(fill, norm, [], scale, ONE, delta, out, (3.0, -4.0, 2.0), *small)()
    scaled = matrix.astype(float) / norm()
    polynomial = 3.0 * np.eye(size) - 4.0 * scaled + 2.0 * scaled @ scaled
    expected = scale / norm() ** 0.5 * polynomial @ delta
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance * abs(expected).max())
    matrix[:] = 0
    whiten.Step(fill, norm, [], scale, ONE, delta, out, (3.0, -4.0, 2.0), *small)()
    assert not out.any()


def test_refuses_what_does_not_fit():
    x, norm = np.ones((2, 3)), squared(np.ones((2, 2)))
    for length in (np.ones(2), np.ones(1, "f4"), 1.0):
        with pytest.raises(ValueError, match="length must be one number"):
            whiten.Scale(NOTHING, norm, [], 1.0, length, x, x)
    for source in (np.ones((3, 2)), np.ones((2, 3), "f4"), np.ones((3, 2)).T):
        with pytest.raises(ValueError, match="source and out"):
            whiten.Scale(NOTHING, norm, [], 1.0, ONE, source, x)
    with pytest.raises(ValueError, match="two other numbers, or none"):
        whiten.Scale(NOTHING, norm, [norm], 1.0, ONE, x, x)
    with pytest.raises(TypeError, match="is no Dot"):
        whiten.Scale(NOTHING, norm, [norm, 1.0], 1.0, ONE, x, x)
    small = np.ones((2, 2))
    for matrices in ((small, small, x), (small, small), (small, small, small.astype("f4"))):
        with pytest.raises(ValueError, match="small matrices"):
            whiten.Step(NOTHING, norm, [], 1.0, ONE, x, x, (1, 2, 3), small, NOTHING, matrices, NOTHING)
