"""Products of matrices: the bits of numpy.matmul, whatever the shapes and orders that layers have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.problems.matrix import product_of

SIDE = st.sampled_from([1, 2, 3, 4, 5, 8, 10, 16, 31, 33, 64, 65])
ORDER = st.sampled_from(["rows", "columns"])


def matrix(random, rows, columns, order, dtype):
    if order == "columns":
        return random.standard_normal((columns, rows)).astype(dtype).T
    return random.standard_normal((rows, columns)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(sides=st.tuples(SIDE, SIDE, SIDE), orders=st.tuples(ORDER, ORDER), seed=st.integers(0, 99))
def test_products_have_the_bits_of_matmul(dtype, sides, orders, seed):
    (rows, inner, columns), random = sides, np.random.default_rng(seed)
    first = matrix(random, rows, inner, orders[0], dtype)
    second = matrix(random, inner, columns, orders[1], dtype)
    mine, theirs = np.empty((2, rows, columns), dtype)
    product_of(mine.shape)(first, second, mine)
    np.matmul(first, second, out=theirs)
    assert mine.tobytes() == theirs.tobytes()
