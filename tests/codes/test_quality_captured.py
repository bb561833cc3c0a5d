"""Captured energy: closed forms against all sets of rows, samples against both, the law of tight frames."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.codes.quality import projection
from pdcode.codes.quality.captured import check_arguments, sample_curves
from pdcode.kernels import factor
from pdcode.util.errors import InputError

ROOT = np.random.default_rng(5).normal(size=(4, 4))
COVARIANCES = {"isotropic": None, "energies": [1.0, 0.5, 0.2, 0.1], "correlated": ROOT @ ROOT.T}
CODES = {
    "net": codes.design("net", 8, 4, 2, seed=1),
    "repetition": codes.design("repetition", 8, 4),
    "uncoded": codes.design("uncoded", 7, 4),
    "orthonormal": codes.design("net", 4, 4, 2),
}


def tight_law(n, k):
    """Captured energy of the adjoint after q = 0 … n arrivals of any unit-norm tight frame."""
    q = np.arange(n + 1)
    return q / (k + (q - 1) * (n - k) / (n - 1))


def by_sets(rows, q, decoder, sigma):
    """Captured energy as it is defined, by all sets of q rows."""
    k, errors, straight, square = rows.shape[1], [], 0.0, 0.0
    for chosen in combinations(range(len(rows)), q):
        part = rows[list(chosen)]
        if decoder == "adjoint":
            frame = part.T @ part
            straight += np.trace(frame @ sigma)
            square += np.trace(frame @ sigma @ frame)
            errors.append(0.0)
            continue
        if decoder == "mmse":
            gram = part @ sigma @ part.T
            inverse = sigma @ part.T @ np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
        else:
            inverse = np.linalg.pinv(part)
        left = np.eye(k) - inverse @ part
        errors.append(np.trace(left @ sigma @ left.T))
    if decoder == "adjoint":
        return straight**2 / square / len(errors) / np.trace(sigma)
    return 1 - np.mean(errors) / np.trace(sigma)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("decoder", ["least_squares", "adjoint", "mmse"])
@pytest.mark.parametrize("name", CODES)
def test_as_it_is_defined(name, decoder, covariance):
    rows, given_ = CODES[name].matrix, COVARIANCES[covariance]
    sigma = np.eye(4) if given_ is None else np.diag(given_) if np.ndim(given_) == 1 else given_
    expected = [0.0] + [by_sets(rows, q, decoder, sigma) for q in range(1, len(rows) + 1)]
    mean, error = codes.captured_energy(CODES[name], None, decoder, given_, draws=300)
    if not error.any():
        np.testing.assert_allclose(mean, expected, atol=1e-12)
    assert (np.abs(mean - expected) <= 4.5 * error + 1e-9).all()
    if decoder == "adjoint" or (name != "net" and decoder == "least_squares"):
        assert not error.any()  # closed forms
    if name in ("repetition", "uncoded") and covariance != "correlated":
        assert not error.any()


@pytest.mark.parametrize(
    ("family", "n", "k", "w"),
    [("net", 8, 4, 2), ("dk", 12, 4, 2), ("icosahedron", 6, 3, 2), ("tremain", 10, 5, 4)],
)
def test_the_law_of_tight_frames(family, n, k, w):
    code = codes.design(family, n, k, w)
    law = tight_law(n, k)
    np.testing.assert_allclose(codes.captured_energy(code, decoder="adjoint").mean, law, rtol=0, atol=1e-12)


def test_the_law_of_tight_frames_by_samples():
    code = codes.design("net", 128, 64, 8)
    random, gram = np.random.default_rng(1), np.square(code.matrix @ code.matrix.T)
    for q in 16, 64, 100:
        squares = [
            gram[np.ix_(rows, rows)].sum() for rows in (random.permutation(128)[:q] for _ in range(400))
        ]
        mean, error = np.mean(squares), np.std(squares) / 20
        law = tight_law(128, 64)[q]
        assert abs(q * q / (64 * law) - mean) < 4.5 * error + 1e-9


@given(st.integers(1, 8), st.integers(1, 70), st.integers(0, 2**32))
def test_steps_find_the_rank_of_every_prefix(k, q, seed):
    random = np.random.default_rng(seed)
    vectors = random.integers(-1, 2, size=(3, q, k)).astype(float)
    vectors[:, random.integers(0, q)] = 0
    found = projection.orthogonalise(vectors.copy())
    for i in range(3):
        factors = factor.Factorisation(k, q)
        grown = [factors.add(row) for row in vectors[i]]
        np.testing.assert_array_equal(found.gain[i] > 0, grown)
    rank = found.gain.sum(axis=1)
    np.testing.assert_array_equal(rank, [np.linalg.matrix_rank(part) for part in vectors])


def test_samples_are_keyed_and_grow_to_the_rank():
    code = codes.design("random", 40, 16, 3, seed=2)
    curves = sample_curves(check_arguments(code, 30), 9, seed=4)
    np.testing.assert_array_equal(curves, sample_curves(check_arguments(code, 30), 9, seed=4))
    np.testing.assert_array_equal(curves[:5], sample_curves(check_arguments(code, 30), 5, seed=4))
    np.testing.assert_array_equal(curves[:, :21], sample_curves(check_arguments(code, 20), 9, seed=4))
    assert (curves != sample_curves(check_arguments(code, 30), 9, seed=5)).any()
    assert (np.diff(curves) >= 0).all()
    assert curves.max() <= 1


def test_mmse_captures_most():
    code, energies = codes.design("net", 32, 16, 4), 1 / np.arange(1.0, 17) ** 2
    mmse = sample_curves(check_arguments(code, None, "mmse", energies), 20, 0)
    assert (
        mmse >= sample_curves(check_arguments(code, None, "least_squares", energies), 20, 0) - 1e-12
    ).all()
    np.testing.assert_allclose(
        sample_curves(check_arguments(code, None, "mmse"), 20, 0),
        sample_curves(check_arguments(code), 20, 0),
        atol=1e-9,
    )


def test_arrivals_needed():
    repetition = codes.design("repetition", 128, 64)
    (ninety, exact), (_, _), (everything, error) = codes.arrivals_needed(repetition, draws=400)
    mean = codes.captured_energy(repetition).mean
    assert exact == 0
    assert np.interp(ninety, np.arange(129), mean) == pytest.approx(0.9)
    assert abs(everything / 64 - 1.797) < 4 * error / 64 + 0.01
    assert codes.arrivals_needed(codes.design("net", 16, 16, 4), (0.5, 1.0)) == [(8.0, 0.0), (16.0, 0.0)]
    assert codes.arrivals_needed(codes.design("uncoded", 8, 16), (0.25, 0.9, 1.0))[1:] == [(np.inf, 0)] * 2
    assert codes.arrivals_needed(codes.design("net", 32, 16, 4), (1.0,), "adjoint") == [(32.0, 0.0)]


def test_bad_questions_are_refused():
    code = codes.design("net", 16, 8, 2)
    for arguments, message in [
        ({"arrivals": 17}, "arrivals = 17: not from 0 to the code's 16 rows; nearest: 16"),
        ({"decoder": "magic"}, "decoder: expected one of least_squares, adjoint, mmse"),
        ({"covariance": np.zeros(8)}, "covariance: zero"),
        ({"covariance": np.eye(7)}, r"covariance: not a symmetric \(8, 8\) matrix, nor 8 energies"),
        ({"covariance": -np.eye(8)}, "not positive semidefinite"),
        ({"draws": 0}, "draws = 0"),
    ]:
        with pytest.raises(InputError, match=message):
            codes.captured_energy(code, **arguments)
    with pytest.raises(InputError, match=r"fractions: 1\.5"):
        codes.arrivals_needed(code, (1.5,))
