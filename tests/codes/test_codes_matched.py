"""Matched codewords: energy captured against singular vectors, and what they do to a memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.codes.constructions.matched import MatchedSelector
from pdcode.kernels import encode
from pdcode.util.errors import InputError


def dense(indices, values, blocks):
    matrix = np.zeros((len(indices), blocks), values.dtype)
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices), values)
    return matrix


def left_over(residual, words, k, e):
    """Energy that is left when the codewords have been sent, as a share."""
    left, out = residual.copy(), np.empty((len(words[0]), e), residual.dtype)
    encode.feedback_encode(left, np.zeros_like(left), *words, e, out)
    return float(left @ left) / float(residual @ residual)


def spectrum(seed, k, e, decay, length=None):
    """Random residual with singular values decay^j, float64."""
    random = np.random.default_rng(seed)
    rank = min(k, e)
    left, right = (np.linalg.qr(random.normal(size=(size, rank)))[0] for size in (k, e))
    return ((left * decay ** np.arange(rank)) @ right.T).ravel()[:length]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("k", "e", "r"), [(40, 90, 1), (40, 90, 4), (90, 40, 3), (6, 500, 6)])
@pytest.mark.parametrize("decay", [0.5, 0.8])
def test_dense_codewords_capture_as_much_as_singular_vectors(dtype, k, e, r, decay):
    """After one step part of it, after some all of what r singular vectors capture."""
    residual = spectrum(1, k, e, decay).astype(dtype)
    squares = np.linalg.svd(residual.reshape(k, e), compute_uv=False).astype("f8") ** 2
    best = squares[:r].sum() / squares.sum()
    select = MatchedSelector(k, e, k * e, r, k, dtype, seed=2)
    shares = [1 - left_over(residual, select.select(residual), k, e) for _ in range(12)]
    assert shares[0] >= 0.3 * best
    assert shares[-1] >= (1 - 1e-3) * best
    assert max(shares) <= best + 1e-5


def test_one_dense_codeword_is_the_power_iteration():
    k, e = 30, 70
    residual = spectrum(3, k, e, 0.9)
    matrix, select = residual.reshape(k, e), MatchedSelector(k, e, k * e, 1, k, "float64", seed=4)
    vector = select._kept[0].copy()
    for _ in range(6):
        vector = matrix @ (matrix.T @ vector)
        vector /= np.linalg.norm(vector)
        indices, values = select.select(residual)
        np.testing.assert_array_equal(indices[0], np.arange(k))
        np.testing.assert_allclose(values[0], vector, atol=1e-12)


def test_a_warm_start_beats_a_cold_one_where_directions_last():
    k, e, r = 60, 100, 3
    random, cold, warm = np.random.default_rng(5), [], []
    chosen, base = MatchedSelector(k, e, k * e, r, 20, "float64"), spectrum(5, k, e, 0.93)
    for step in range(8):
        residual = base + 0.01 * random.normal(size=k * e)
        warm.append(left_over(residual, chosen.select(residual), k, e))
        cold.append(
            left_over(residual, MatchedSelector(k, e, k * e, r, 20, "float64", step).select(residual), k, e)
        )
    assert np.mean(warm[2:]) < np.mean(cold[2:]) - 0.05


@given(
    k=st.integers(1, 30), e=st.integers(1, 30), cut=st.floats(0, 1), w=st.integers(1, 35),
    dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_codewords_are_sparse_unit_vectors_of_real_blocks(k, e, cut, w, dtype, seed, data):
    r = data.draw(st.integers(1, k))
    length = max(1, round(k * e * (1 - cut)))
    select = MatchedSelector(k, e, length, r, w, dtype, seed)
    residual = np.random.default_rng(seed).normal(size=length).astype(dtype)
    residual.flags.writeable = False
    for _ in range(2):
        indices, values = select.select(residual)
        assert indices.dtype == np.int32
        assert values.dtype == dtype
        assert indices.shape == values.shape == (r, w)
        assert 0 <= indices.min() <= indices.max() < k
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)
        assert not values[:, k:].any()
        assert (np.diff(indices[:, : min(w, k)], axis=1) > 0).all() or (values[:, 1:] == 0).any()
        assert left_over(residual, (indices, values), k, e) < 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [40 * 50, 40 * 50 - 13])
def test_a_ragged_end_counts_as_padded_with_zeros(dtype, length):
    residual = spectrum(6, 40, 50, 0.8, length).astype(dtype)
    padded = np.zeros(40 * 50, dtype)
    padded[:length] = residual
    one, other = (MatchedSelector(40, 50, size, 3, 8, dtype, 1) for size in (length, 40 * 50))
    for _ in range(3):
        np.testing.assert_array_equal(one.select(residual)[0], other.select(padded)[0])
        np.testing.assert_allclose(one._values, other._values, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r_blocks_that_alone_have_something_are_sent_exactly(dtype):
    k, e, r = 64, 30, 3
    for seed in range(5):
        random, residual = np.random.default_rng(seed), np.zeros((k, e), dtype)
        residual[random.permutation(k)[:r]] = random.normal(size=(r, e))
        words = MatchedSelector(k, e, k * e, r, 8, dtype, seed).select(residual.ravel())
        assert left_over(residual.ravel(), words, k, e) < (1e-10 if dtype == "float32" else 1e-24)


def test_selection_recovers_from_zeros_lost_directions_and_nan():
    k, e, r = 20, 30, 2
    residual, select = spectrum(8, k, e, 0.6).astype("f4"), MatchedSelector(k, e, k * e, r, 5, "float32", 1)
    fresh = left_over(residual, MatchedSelector(k, e, k * e, r, 5, "float32", 2).select(residual), k, e)
    only = np.zeros(k * e, "f4")
    only[:e] = 1  # nothing outside block 0: all directions end there
    elsewhere = np.zeros(k * e, "f4")
    elsewhere[-e:] = 1
    for bad in (np.zeros(k * e, "f4"), np.full(k * e, np.nan, "f4"), residual * np.float32(1e38), only):
        indices, values = select.select(bad)
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-6)
        assert indices.min() >= 0
        assert left_over(elsewhere, select.select(elsewhere), k, e) < 1e-6
        assert left_over(residual, select.select(residual), k, e) < 2 * fresh + 0.1


def test_error_feedback_with_matched_codewords_bounds_the_memory():
    """What stays of a stream of gradients of norm 1 is a few of them, whatever r and w."""
    k, e, random = 32, 40, np.random.default_rng(9)
    for r, w in ((1, 8), (4, 8), (2, 32)):
        memory, out, norms = np.zeros(k * e), np.empty((r, e)), []
        select = MatchedSelector(k, e, k * e, r, w, "float64")
        for _ in range(300):
            gradient = random.normal(size=k * e) / np.sqrt(k * e)
            words = select.select(memory + gradient)
            encode.feedback_encode(memory, gradient, *words, e, out)
            norms.append(np.linalg.norm(memory))
        assert max(norms) < 4 * k / r
        assert np.mean(norms[-50:]) < 1.2 * np.mean(norms[100:150])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((0, 3, 3, 1, 1), "blocks, elements, weight = 0, 3, 1"),
        ((4, 3, 12, 5, 1), "rows = 5: .*nearest: 4"),
        ((4, 3, 12, 0, 1), "rows = 0: .*nearest: 1"),
        ((4, 3, 13, 1, 1), "length = 13: .*nearest: 12"),
        ((4, 3, 0, 1, 1), "length = 0: .*nearest: 1"),
        ((4, 3, 12, 1, 0), "weight = 4, 3, 0"),
    ],
)
def test_numbers_out_of_range_are_named(parameters, message):
    with pytest.raises(InputError, match=message):
        MatchedSelector(*parameters)


def test_another_residual_is_refused():
    select = MatchedSelector(4, 3, 12, 1, 1, "float32")
    with pytest.raises(ValueError, match="12 elements of float32"):
        select.select(np.zeros(11, "f4"))
    with pytest.raises(ValueError, match="float32"):
        select.select(np.zeros(12))
