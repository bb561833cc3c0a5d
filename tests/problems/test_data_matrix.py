"""Sparse inputs behave as the dense ones do."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pdcode.problems.matrix import Csr, as_dense, with_ones


@given(st.integers(0, 8), st.integers(1, 6), st.floats(0, 1), st.integers(0, 99), st.data())
def test_rows_ones_and_density_agree(rows, width, density, seed, data):
    random = np.random.default_rng(seed)
    dense = random.standard_normal((rows, width)) * (random.random((rows, width)) < density)
    row, column = np.nonzero(dense)
    indptr = np.searchsorted(row, np.arange(rows + 1)).astype(np.int64)
    sparse = Csr(indptr, column.astype(np.int32), dense[row, column], width)
    chosen = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=9) if rows else st.just([])), int)
    for select in (chosen, slice(1, None, 2), slice(0, 0)):
        np.testing.assert_array_equal(as_dense(sparse[select]), dense[select])
        extended = with_ones(sparse[select])
        np.testing.assert_array_equal(as_dense(extended), with_ones(dense[select]))
        assert (extended.columns[extended.indptr[1:] - 1] == width).all()
    whole = with_ones(sparse.astype(np.float32))
    assert (whole.indptr.dtype, whole.columns.dtype, whole.dtype) == (np.int64, np.int32, np.float32)
    assert whole.shape == (rows, width + 1)
    assert len(whole) == rows
