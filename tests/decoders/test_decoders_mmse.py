"""The mmse decoder: the formula, least squares as its limit, optimality, and estimated moments."""

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.decoders.energies import EmEstimate, expectation_maximisation


@given(st.integers(1, 8), st.integers(1, 14), st.booleans(), st.floats(1e-2, 5), st.integers(0, 2**32))
def test_equals_the_formula_for_every_prefix(k, q, full, noise, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(k, k)) if full else np.diag(rng.uniform(0.1, 2, k))
    covariance = root @ root.T
    given_as = covariance if full else np.diagonal(covariance)
    decoder = decoders.create("mmse", k, (5,), "float64", covariance=given_as, noise=noise, capacity=2)
    words = rng.normal(size=(q, k)) * (rng.random((q, k)) < 0.6)
    payloads = rng.normal(size=(q, 5))
    assert decoder.captured == 0
    for i in range(1, q + 1):
        decoder.add(words[i - 1], payloads[i - 1])
        gain, remaining = reference.posterior(words[:i], covariance, noise)
        np.testing.assert_allclose(decoder.gradient(), gain @ payloads[:i], rtol=0, atol=1e-10)
        assert decoder.captured == pytest.approx(1 - remaining / np.trace(covariance), abs=1e-10)
        assert decoder.decodable == (np.linalg.matrix_rank(words[:i]) == k)
        expected = np.linalg.norm(payloads[:i] - words[:i] @ gain @ payloads[:i])
        assert decoder.residual == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("noise", "tolerance"), [(0.0, 1e-11), (1e-14, 1e-9), (1e-8, 1e-5)])
def test_is_least_squares_in_the_limit(noise, tolerance):
    rng = np.random.default_rng(1)
    code = codes.design("random", 30, 12, 4, seed=3)
    truth = rng.normal(size=(12, 7))
    mmse = decoders.create("mmse", 12, (7,), "float64", covariance=np.ones(12), noise=noise)
    least = decoders.create("least_squares", 12, (7,), "float64")
    for word in code.matrix[rng.permutation(30)]:
        for decoder in (mmse, least):
            decoder.add(word, word @ truth)
        np.testing.assert_allclose(mmse.gradient(), least.gradient(), atol=tolerance)
        assert mmse.captured == pytest.approx(least.captured, abs=1e-5)
        assert mmse.decodable == least.decodable


def test_is_optimal_among_linear_estimates():
    """Any other gain has a larger mean square error tr((WG - I) Σ (WG - I)ᵀ) + σ² |W|²."""
    rng = np.random.default_rng(2)
    energies, noise = np.arange(1.0, 9) ** -2, 0.01
    words = codes.design("random", 6, 8, 3, seed=1).matrix

    def error(gain):
        return (
            np.trace((gain @ words - np.eye(8)) * energies @ (gain @ words - np.eye(8)).T)
            + noise * (gain**2).sum()
        )

    decoder = decoders.create("mmse", 8, (6,), "float64", covariance=energies, noise=noise)
    for i, word in enumerate(words):
        decoder.add(word, np.eye(6)[i])  # so that the estimate is the gain
    gain = decoder.gradient()
    best = error(gain)
    assert best == pytest.approx(energies.sum() * (1 - decoder.captured))
    for size in (1e-3, 1e-1, 1):
        for _ in range(50):
            assert error(gain + size * rng.normal(size=gain.shape)) > best
    assert error(np.linalg.pinv(words)) > best
    assert error(words.T) > best


def updates(decoder, count, energies, noise, seed, weight=4, arrivals=12, e=300):
    """Run updates; return the mean relative square error of the last half."""
    rng, k, errors = np.random.default_rng(seed), len(energies), []
    for _ in range(count):
        truth = rng.normal(size=(k, e)) * np.sqrt(energies)[:, None]
        for _ in range(arrivals):
            word = np.zeros(k)
            word[rng.permutation(k)[:weight]] = rng.choice([-1, 1], weight) / np.sqrt(weight)
            decoder.add(word, word @ truth + np.sqrt(noise) * rng.normal(size=e))
        errors.append(np.square(decoder.gradient() - truth).sum() / np.square(truth).sum())
        decoder.reset()
    return np.mean(errors[count // 2 :])


def test_estimated_moments_are_nearly_as_good_as_known_ones():
    energies, noise, k = np.arange(1.0, 17) ** -2, 0.05**2, 16
    learning = decoders.create("mmse", k, (300,), "float64")
    known = decoders.create("mmse", k, (300,), "float64", covariance=energies, noise=noise)
    least = decoders.create("least_squares", k, (300,), "float64")
    errors = [updates(decoder, 40, energies, noise, seed=5) for decoder in (learning, known, least)]
    assert errors[0] < 1.05 * errors[1]
    assert errors[0] < 0.5 * errors[2]
    np.testing.assert_allclose(learning.energies[:8], energies[:8], rtol=0.35)
    assert learning.noise == pytest.approx(noise, rel=0.5)


def test_one_of_both_moments_may_be_known():
    energies, noise = np.arange(1.0, 9) ** -1, 0.04
    for options, scale in (({"noise": noise}, 0.4), ({"covariance": energies}, 0.4)):
        decoder = decoders.create("mmse", 8, (300,), "float64", **options)
        updates(decoder, 30, energies, noise, seed=2)
        np.testing.assert_allclose(decoder.energies, energies, rtol=scale)
        assert decoder.noise == pytest.approx(noise, rel=scale)
        assert (decoder.noise == noise) == ("noise" in options)
        assert np.array_equal(decoder.energies, energies) == ("covariance" in options)


def test_is_least_squares_until_something_is_known():
    rng = np.random.default_rng(8)
    decoder = decoders.create("mmse", 6, (4,), "float32")
    decoder.reset()  # nothing has arrived: nothing is learnt
    words, payloads = rng.normal(size=(5, 6)), rng.normal(size=(5, 4))
    for q, (word, payload) in enumerate(zip(words, payloads, strict=True), 1):
        decoder.add(word, payload)
        np.testing.assert_allclose(decoder.gradient(), np.linalg.pinv(words[:q]) @ payloads[:q], atol=1e-4)
        assert decoder.captured == pytest.approx(q / 6)
    decoder.reset()
    decoder.add(np.ones(6), np.zeros(4))
    assert decoder.noise > 0
    decoder.reset()
    decoder.add(np.zeros(6), np.zeros(4))  # zeros teach nothing
    energies = decoder.energies
    decoder.reset()
    assert decoder.energies is energies
    assert decoder.captured == 0


def test_the_likelihood_never_falls():
    rng = np.random.default_rng(3)
    words, energies, noise = rng.normal(size=(9, 6)), np.ones(6), 1.0
    payloads = words @ (rng.normal(size=(6, 80)) * [[3], [1], [1], [0.3], [0], [0]])
    payloads += 0.2 * rng.normal(size=(9, 80))
    before = -np.inf
    for _ in range(60):
        gram = (words * energies) @ words.T + noise * np.eye(9)
        quadratic = (payloads * np.linalg.solve(gram, payloads)).sum() / 80
        likelihood = -np.linalg.slogdet(gram)[1] - quadratic
        assert likelihood >= before - 1e-9
        before = likelihood
        energies, noise = expectation_maximisation(words, payloads, energies, noise)
    assert energies[0] > 4 > 2 > energies[1] > energies[3]
    assert noise == pytest.approx(0.04, rel=0.3)


def test_blocks_without_payloads_have_the_same_energy():
    estimate = EmEstimate(3, 0.5, 0.01, None)
    payloads = np.random.default_rng(1).normal(size=(2, 400)) * [[2], [1]]
    for _ in range(12):
        estimate.update(np.eye(3)[:2], payloads)
    np.testing.assert_allclose(estimate.energies[:2], [4, 1], rtol=0.2)
    assert estimate.energies[2] == pytest.approx(np.square(payloads).mean(), rel=1e-6)
