"""The tracking decoder: Kaczmarz with memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders


@given(st.sampled_from(["float32", "float64"]), st.floats(0.1, 1.9), st.integers(1, 3), st.integers(0, 99))
def test_equals_a_numpy_twin_step_by_step(dtype, step, r, seed):
    rng = np.random.default_rng(seed)
    code = codes.design("random", 12, 6, 3, seed)
    decoder = decoders.create("tracking", 6, (2, 4), dtype, step=step)
    z = np.zeros((6, 8))
    for arrival, start in enumerate(rng.integers(0, 12, 8)):
        indices, values = code.rows(start, r)
        payload = rng.normal(size=(r, 8)).astype(dtype)
        decoder.add_sparse(indices, values.astype(dtype), payload)
        squared = 0.0
        for word, y in zip(code.matrix[np.arange(start, start + r) % 12], payload, strict=True):
            residual = y - word @ z
            squared += residual @ residual
            z += step * np.outer(word, residual) / (word @ word)
        tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-10, "atol": 1e-10}
        np.testing.assert_allclose(decoder.gradient().reshape(6, 8), z, **tolerance)
        assert decoder.residual == pytest.approx(np.sqrt(squared), rel=1e-3 if dtype == "float32" else 1e-9)
        if arrival % 3 == 2:
            decoder.reset()  # z stays
            assert decoder.count == 0
            assert decoder.captured == 0
            np.testing.assert_allclose(decoder.gradient().reshape(6, 8), z, **tolerance)


@pytest.mark.parametrize("family", ["repetition", "pairs", "random", "net"])
@pytest.mark.parametrize("step", [0.5, 1.0])
def test_converges_on_a_consistent_system(family, step):
    rng = np.random.default_rng(2)
    code = codes.design(family, 32, 8, seed=1) if family != "net" else codes.design("net", 32, 8, 2, seed=1)
    truth = rng.normal(size=(8, 6))
    decoder = decoders.create("tracking", 8, (6,), "float64", step=step)
    errors = []
    for _ in range(1500):
        word = code.matrix[rng.integers(32)]
        decoder.add(word, word @ truth)
        errors.append(np.linalg.norm(decoder.gradient() - truth))
    assert errors[-1] < 1e-9 * errors[0]
    assert (np.diff(errors) <= 1e-12).all()  # each step is a projection, or part of one
    assert decoder.residual < 1e-9
