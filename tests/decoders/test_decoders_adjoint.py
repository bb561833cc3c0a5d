"""The adjoint decoder: a plain sum, unbiased for tight codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders


@pytest.mark.parametrize("family", ["repetition", "pairs", "net"])
@pytest.mark.parametrize("scale", ["mean", None])
def test_unbiased_over_all_rows_of_a_tight_code(family, scale):
    code = codes.design(family, 16, 8, seed=2)
    truth = np.random.default_rng(1).normal(size=(8, 5))
    options = {"scale": scale} if scale else {"mean_of": 2}  # n/k = 2
    decoder = decoders.create("adjoint", 8, (5,), "float64", **options)
    estimates = []
    for row in code.matrix:  # each row alone
        decoder.reset()
        decoder.add(row, row @ truth)
        estimates.append(decoder.gradient())
    mean = np.mean(estimates, axis=0) if scale else np.sum(estimates, axis=0)
    np.testing.assert_allclose(mean, truth, atol=1e-13)


@given(st.sampled_from(["float32", "float64"]), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99))
def test_accumulator_is_the_plain_sum(dtype, r, e, seed):
    rng = np.random.default_rng(seed)
    code = codes.design("random", 20, 6, 3, seed)
    decoder = decoders.create("adjoint", 6, (e,), dtype)
    total, q = np.zeros((6, e)), 0
    for start in rng.integers(0, 20, 5):
        indices, values = code.rows(start, r)
        payload = rng.normal(size=(r, e)).astype(dtype)
        decoder.add_sparse(indices, values.astype(dtype), payload)
        for row in range(r):
            for j, v in zip(indices[row], values[row], strict=True):
                total[j] += v * payload[row]
        q += r
        tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"atol": 1e-13}
        np.testing.assert_allclose(decoder.accumulator.reshape(6, e), total, **tolerance)
        assert decoder.scale == 6 / q
        assert decoder.count == q
        np.testing.assert_allclose(decoder.gradient(), 6 / q * total, **tolerance)


def test_touched_blocks_are_references_and_reset_clears():
    code = codes.design("net", 16, 8, 2)
    decoder = decoders.create("adjoint", 8, (3,), "float64")
    indices, values = code.rows(3, 2)
    decoder.add_sparse(indices, values, np.ones((2, 3)))
    assert len(decoder.touched) == 1
    assert decoder.touched[0] is indices
    untouched = np.setdiff1d(np.arange(8), indices)
    assert not decoder.gradient()[untouched].any()
    list_of_touched = decoder.touched
    decoder.reset()
    assert not decoder.accumulator.any()
    assert decoder.touched == []
    assert decoder.touched is list_of_touched


@pytest.mark.parametrize(("n", "k"), [(16, 8), (8, 8), (4, 8), (1, 1), (9, 1), (1000, 8)])
def test_captured_fraction(n, k):
    decoder = decoders.create("adjoint", k, (1,), rows=n)
    captured = [decoder.captured]
    for q in range(1, 2 * n + 1):
        decoder.add(np.eye(k)[q % k], np.ones(1))
        expected = q / (k + (q - 1) * (n - k) / (n - 1)) if n >= k and n > 1 else q / k
        assert decoder.captured == pytest.approx(min(1, expected))
        captured.append(decoder.captured)
    assert captured == sorted(captured)
    assert not n >= k or captured[n] == pytest.approx(1)


def test_captured_is_the_energy_of_the_best_scaled_adjoint():
    code = codes.design("net", 16, 8, 2, seed=3)
    rng = np.random.default_rng(0)
    decoder = decoders.create("adjoint", 8, (4000,), "float64", rows=16)
    q, ratios = 6, []
    for _ in range(40):
        truth = rng.normal(size=(8, 4000))
        decoder.reset()
        for row in code.matrix[rng.permutation(16)[:q]]:
            decoder.add(row, row @ truth)
        estimate = decoder.gradient()
        ratios.append([(estimate * truth).sum(), (estimate**2).sum(), (truth**2).sum()])
    cross, own, energy = np.mean(ratios, axis=0)
    assert decoder.captured == pytest.approx(cross**2 / own / energy, rel=0.05)


def test_residual_is_not_known():
    assert np.isnan(decoders.create("adjoint", 2, (1,)).residual)
