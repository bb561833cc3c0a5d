"""Proximal operators of single weights, and displacements, against their twins."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import proximal

DTYPES = ["float32", "float64"]
INF = float("inf")


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    rows=st.integers(1, 9), columns=st.integers(1, 70), cut=st.integers(0, 1), turned=st.booleans(),
    threshold=st.sampled_from([0.0, 0.3, 5.0]), factor=st.sampled_from([1.0, 0.7]),
    bounds=st.sampled_from([(-INF, INF), (0.0, INF), (-0.5, 0.25)]), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_shrink_equals_its_twin_and_leaves_the_rest(
    dtype, rows, columns, cut, turned, threshold, factor, bounds, seed
):
    whole = np.random.default_rng(seed).normal(size=(rows, columns + cut)).astype(dtype)
    kept, expected = whole.copy(), whole.copy()
    reference.shrink(expected[:, :columns], threshold, factor, *bounds)
    part = whole[:, :columns]
    proximal.shrink(part.T if turned else part, threshold, factor, *bounds)
    np.testing.assert_allclose(whole, expected, rtol=4 * np.finfo(dtype).eps, atol=2e-7)
    np.testing.assert_array_equal(whole[:, columns:], kept[:, columns:])
    assert not whole[:, :columns][abs(kept[:, :columns]) <= 0.9 * threshold].any() or bounds[0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_displace_equals_its_twin(dtype, length, seed):
    random = np.random.default_rng(seed)
    before, theta = random.normal(size=(2, length)).astype(dtype)
    expected = before.copy()
    total = reference.displace(expected, theta)
    assert proximal.displace(before, theta) == pytest.approx(total, rel=1e-4 if dtype == "float32" else 1e-12)
    np.testing.assert_array_equal(before, expected)


def test_nan_is_not_hidden():
    weights = np.array([[1.0, np.nan, -1.0]])
    proximal.shrink(weights, 0.5, 1.0, 0.0, INF)
    np.testing.assert_array_equal(weights, [[0.5, np.nan, 0.0]])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="stride"):
        proximal.shrink(np.ones((4, 4))[::2, ::2], 0.1, 1.0, -INF, INF)
    with pytest.raises(ValueError, match="threshold is -1"):
        proximal.shrink(np.ones((4, 4)), -1.0, 1.0, -INF, INF)
    with pytest.raises(ValueError, match="arrays do not fit displace"):
        proximal.displace(np.ones(3), np.ones(4))
    weights = np.ones((0, 4))
    proximal.shrink(weights, 0.1, 1.0, -INF, INF)
