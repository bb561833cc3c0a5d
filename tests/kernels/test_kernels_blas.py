"""Products by BLAS: the bits of numpy.matmul and numpy.dot, for the shapes and orders that layers have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES

from pdcode.kernels import blas

SIDE = st.sampled_from([0, 1, 2, 3, 4, 5, 8, 10, 16, 31, 33, 64, 65])
ORDER = st.sampled_from(["rows", "columns", "rows apart", "columns apart", "neither"])


def matrix(random, rows, columns, order, dtype):
    if order.startswith("columns"):
        return matrix(random, columns, rows, order.replace("columns", "rows"), dtype).T
    step = 2 if order == "neither" else 1
    wide = random.standard_normal((rows, step * columns + 3)).astype(dtype)[:, : step * columns : step]
    return wide if "apart" in order or step == 2 else np.ascontiguousarray(wide)


def test_numpys_blas_is_found():
    """On the machines of the tests; on others numpy is called."""
    assert blas.FOUND


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    sides=st.tuples(SIDE, SIDE, SIDE),
    orders=st.tuples(ORDER, ORDER),
    seed=st.integers(0, 99),
    direct=st.booleans(),
)
def test_products_have_the_bits_of_matmul(dtype, sides, orders, seed, direct):
    (rows, inner, columns), random = sides, np.random.default_rng(seed)
    first = matrix(random, rows, inner, orders[0], dtype)
    second = matrix(random, inner, columns, orders[1], dtype)
    mine, theirs = np.full((2, rows, columns), 7, dtype)
    product = blas.Product(first, second, mine, direct)
    for _ in range(2):  # of arrays whose contents change
        product()
        np.matmul(first, second, out=theirs)
        assert mine.tobytes() == theirs.tobytes()
        first[:], second[:] = random.standard_normal(first.shape), random.standard_normal(second.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=SIDE, inner=SIDE, order=ORDER, seed=st.integers(0, 99), direct=st.booleans())
def test_grams_have_the_bits_of_matmul(dtype, rows, inner, order, seed, direct):
    factor = matrix(np.random.default_rng(seed), rows, inner, order, dtype)
    for first in (factor, factor.T):
        mine, theirs = np.full((2, len(first), len(first)), 7, dtype)
        blas.Product(first, first.T, mine, direct)()
        np.matmul(first, first.T, out=theirs)
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    size=st.integers(0, 70), other=st.integers(0, 9), seed=st.integers(0, 99), direct=st.booleans(),
    data=st.data(),
)  # fmt: skip
def test_squares_have_the_bits_of_dot(dtype, size, other, seed, direct, data):
    random = np.random.default_rng(seed)
    vector = random.standard_normal(size).astype(dtype)
    step = data.draw(st.sampled_from([1, 2, 5, -1]))
    others = [random.standard_normal(abs(step) * other).astype(dtype)[::step], np.ones(3, dtype)]
    expected = float(vector.dot(vector)) - sum(float(each.dot(each)) for each in others)
    assert blas.Squares(vector, others, direct).sum() == expected
    assert blas.Squares(vector, direct=direct).sum() == float(vector.dot(vector))


def test_refuses_what_does_not_fit():
    a, b, c = np.ones((2, 3)), np.ones((3, 4)), np.ones((2, 4))
    for matrices in (
        (a, b, np.ones((4, 2))), (a, a, c), (a, b.astype("f4"), c), (a, np.ones(3), c), (a, b, c[0]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="no product of"):
            blas.Product(*matrices)
    fixed = np.ones((2, 4))
    fixed.flags.writeable = False
    for place in (np.ones((4, 2)).T, np.ones((2, 8))[:, ::2], fixed):
        with pytest.raises(ValueError, match="C-ordered, and writeable"):
            blas.Product(a, b, place)
    with pytest.raises(ValueError, match="float32 and float64"):
        blas.Product(*(each.astype("i4") for each in (a, b, c)))
    for vectors in ((c, c), (c[0], c), (c[0], np.ones(3)), (c[0], np.ones(4, "f4"))):
        with pytest.raises(ValueError, match="no inner product"):
            blas.Dot(*vectors)
    other = "<f8" if np.dtype(float).str[0] == ">" else ">f8"
    with pytest.raises(ValueError, match="float32 and float64"):
        blas.Product(*(each.astype(other) for each in (a, b, c)))
    with pytest.raises(ValueError, match="float32 and float64"):
        blas.Dot(c[0].astype(other), c[0].astype(other))
