"""Steps that infer sparse codes, against their twins."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import lca


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(
    samples=st.integers(1, 3), down=st.integers(1, 4), across=st.integers(1, 4), rows=st.integers(1, 5),
    columns=st.integers(1, 5), stride=st.integers(1, 3), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_leave_equals_its_twin(dtype, samples, down, across, rows, columns, stride, seed):
    random = np.random.default_rng(seed)
    height, width = rows + stride * (down - 1), columns + stride * (across - 1)
    images = random.normal(size=(samples, height * width)).astype(dtype)
    patches = random.normal(size=(samples * down * across, rows * columns)).astype(dtype)
    expected, rest = patches.astype("f8"), np.empty(height * width, dtype)
    energy = reference.leave(images.astype("f8"), expected, height, rows, columns, stride, -0.5)
    found = lca.leave(images, patches, rest, height, rows, stride, -0.5)
    eps = 100 * float(np.finfo(dtype).eps)
    assert found == pytest.approx(energy, rel=eps)
    np.testing.assert_allclose(patches, expected, rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("nonnegative", [False, True])
@given(samples=st.integers(1, 5), units=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_compete_equals_its_twin_and_leaves_the_last_column(dtype, hard, nonnegative, samples, units, seed):
    random = np.random.default_rng(seed)
    drive, potential = random.normal(0, 2, (2, samples, units)).astype(dtype)
    inputs = random.normal(size=(samples, units + 1)).astype(dtype)
    thresholds = np.abs(random.normal(size=units)).astype(dtype)
    u, a, last = potential.astype("f8"), inputs[:, :-1].astype("f8"), inputs[:, -1].copy()
    reference.compete(drive, u, a, thresholds, 0.3, hard, nonnegative)
    lca.compete(drive, potential, inputs[:, :-1], thresholds, 0.3, hard, nonnegative)
    np.testing.assert_allclose(potential, u, rtol=1e-5, atol=1e-5)
    far = abs(abs(u) - thresholds) > 1e-4  # rounding decides at the threshold
    np.testing.assert_allclose(inputs[:, :-1][far], a[far], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(inputs[:, -1], last)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nonnegative", [False, True])
@given(samples=st.integers(1, 5), units=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_descend_equals_its_twin_and_leaves_the_last_column(dtype, nonnegative, samples, units, seed):
    random = np.random.default_rng(seed)
    drive, points = random.normal(0, 2, (2, samples, units)).astype(dtype)
    inputs = random.normal(size=(samples, units + 1)).astype(dtype)
    thresholds = np.abs(random.normal(size=units)).astype(dtype)
    z, a, last = points.astype("f8"), inputs[:, :-1].astype("f8"), inputs[:, -1].copy()
    reference.descend(drive, z, a, thresholds, 0.3, 0.7, nonnegative)
    lca.descend(drive, points, inputs[:, :-1], thresholds, 0.3, 0.7, nonnegative)
    np.testing.assert_allclose(points, z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(inputs[:, :-1], a, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(inputs[:, -1], last)


def test_misfits_are_refused():
    images, rest = np.zeros((2, 36)), np.zeros(36)
    for patches, height, rows, stride in (((2, 9), 6, 3, 1), ((8, 9), 6, 3, 2), ((2, 36), 5, 6, 1)):
        with pytest.raises(ValueError):
            lca.leave(images, np.zeros(patches), rest, height, rows, stride, 1.0)
    lca.leave(images, np.zeros((8, 9)), rest, 6, 3, 3, 1.0)
