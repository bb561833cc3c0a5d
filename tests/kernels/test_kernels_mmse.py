"""Posterior against the formula of the linear estimate with least mean square error."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from pdcode.kernels.mmse import Posterior


def covariances(random, k, full):
    """A covariance and a root of it, as the kernel takes them."""
    if full:
        root = random.normal(size=(k, k))
        return root @ root.T, root
    energies = random.uniform(0.1, 2, k)
    return numpy.diag(energies), numpy.sqrt(energies)


@given(st.integers(1, 8), st.integers(1, 14), st.booleans(), st.floats(1e-3, 5), st.integers(0, 2**32))
def test_equals_the_formula_after_every_prefix(k, count, full, noise, seed):
    random = numpy.random.default_rng(seed)
    covariance, root = covariances(random, k, full)
    codewords = random.normal(size=(count, k)) * (random.random((count, k)) < 0.6)
    codewords[count // 2] = codewords[0]
    posterior = Posterior(k, 2, root, noise)
    for _ in range(2):
        assert posterior.remaining == posterior.total == pytest.approx(numpy.trace(covariance))
        for q in range(1, count + 1):
            posterior.add(codewords[q - 1])
            gain, remaining = reference.posterior(codewords[:q], covariance, noise)
            scale = max(1.0, abs(gain).max()) * max(1.0, 0.01 / noise)
            numpy.testing.assert_allclose(posterior.gain(), gain, rtol=0, atol=1e-10 * scale)
            assert posterior.remaining == pytest.approx(remaining, abs=1e-10 * posterior.total)
        posterior.reset()


@pytest.mark.parametrize("full", [False, True])
def test_without_noise_it_is_the_limit(full):
    random = numpy.random.default_rng(4)
    covariance, root = covariances(random, 6, full)
    codewords = random.normal(size=(8, 6))
    codewords[2] = codewords[0] - codewords[1]
    posterior = Posterior(6, 8, root)
    matrix = numpy.diag(root) if root.ndim == 1 else root
    for q in range(1, 9):
        posterior.add(codewords[q - 1])
        expected = matrix @ numpy.linalg.pinv(codewords[:q] @ matrix, rcond=1e-11)
        numpy.testing.assert_allclose(posterior.gain(), expected, atol=1e-9)
        remaining = numpy.trace(covariance - expected @ codewords[:q] @ covariance)
        assert posterior.remaining == pytest.approx(remaining, abs=1e-10)
        assert posterior.rank == min(6, q - (q > 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_codewords(dtype):
    indices = numpy.array([[3, 0], [1, 1]], numpy.int32)
    values = numpy.array([[1, 2], [4, 1]], dtype)
    energies = numpy.array([1.0, 4, 9, 16])
    posterior = Posterior(4, 1, numpy.sqrt(energies), 0.5)
    posterior.add_sparse(indices, values)
    gain, remaining = reference.posterior(
        numpy.array([[2.0, 0, 0, 1], [0, 5, 0, 0]]), numpy.diag(energies), 0.5
    )
    numpy.testing.assert_allclose(posterior.gain(), gain, atol=1e-14)
    assert posterior.remaining == pytest.approx(remaining)


def test_blocks_without_energy_are_known_to_be_zero():
    posterior = Posterior(3, 4, numpy.array([1.0, 0, 0]), 0.0)
    posterior.add(numpy.array([0, 1.0, 1]))
    assert posterior.remaining == 1
    assert not posterior.gain().any()
    posterior.add(numpy.array([2.0, 5, 0]))
    assert posterior.remaining == pytest.approx(0, abs=1e-15)
    numpy.testing.assert_allclose(posterior.gain(), [[0, 0.5], [0, 0], [0, 0]], atol=1e-15)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"matrix has shape \(2,\): must be \(3,\) or \(3, 3\)"):
        Posterior(3, 4, numpy.ones(2))
    for noise in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="noise is"):
            Posterior(3, 4, numpy.ones(3), noise)
    with pytest.raises(ValueError, match="at least 1"):
        Posterior(3, 0, numpy.ones(3))
