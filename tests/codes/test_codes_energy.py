"""Energy codes, and the energies that rotate them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode.codes.constructions.energy import BlockEnergies, energy
from pdcode.util.errors import InputError

K, N = 32, 64
INVERSE_SQUARES = np.arange(1, K + 1) ** -2.0


def captured(matrix, energies, draws, seed):
    """Mean share of the energy that mmse without noise has after q = 0 … n random arrivals."""
    random = np.random.default_rng(seed)
    shares = np.zeros(len(matrix) + 1)
    for _ in range(draws):
        left = np.diag(energies)  # posterior covariance of the blocks
        for q, g in enumerate(random.permutation(matrix), 1):
            heard = left @ g
            variance = g @ heard
            if variance > 1e-13:
                left = left - np.outer(heard, heard) / variance
            shares[q] += 1 - np.trace(left) / energies.sum()
    return shares / draws


def arrivals(shares, level):
    """Arrivals, in units of k, after which the mean share reaches a level, interpolated."""
    q = int(np.argmax(shares >= level))
    return (q - 1 + (level - shares[q - 1]) / (shares[q] - shares[q - 1])) / K


def dense(indices, values, blocks):
    matrix = np.zeros((len(indices), blocks))
    np.put_along_axis(matrix, indices, values, axis=1)
    return matrix


@pytest.mark.parametrize(
    ("exponent", "most"), [(0.5, (0.23, 0.85)), (0.75, (0.23, 0.85)), (1.0, (0.2, 0.95))]
)
def test_mmse_needs_few_arrivals_where_energies_are_unequal(exponent, most):
    shares = np.mean(
        [
            captured(dense(*energy(N, K, 4, seed, INVERSE_SQUARES, exponent), K), INVERSE_SQUARES, 8, seed)
            for seed in range(24)
        ],
        axis=0,
    )
    assert arrivals(shares, 0.9) <= most[0]
    assert arrivals(shares, 0.99) <= most[1]


def test_repetition_needs_many():
    shares = captured(np.tile(np.eye(K), (2, 1)), INVERSE_SQUARES, 200, 1)
    assert arrivals(shares, 0.9) > 1.3
    assert arrivals(shares, 0.99) > 1.7


@given(
    rows=st.integers(1, 40), blocks=st.integers(1, 30), seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 2**63 - 1), exponent=st.sampled_from([0.0, 0.5, 1.0, 4.0]), data=st.data(),
)  # fmt: skip
def test_rows_are_unit_vectors_of_the_weight_with_their_own_block(rows, blocks, seed, epoch, exponent, data):
    weight = data.draw(st.integers(1, blocks))
    magnitude = st.floats(0, 1e300)
    energies = data.draw(st.none() | st.lists(magnitude, min_size=blocks, max_size=blocks))
    indices, values = energy(rows, blocks, weight, seed, energies, exponent, epoch)
    assert indices.shape == values.shape == (rows, weight)
    np.testing.assert_array_equal(indices[:, 0], np.arange(rows) % blocks)
    assert all(len(set(row)) == weight for row in indices.tolist())
    assert 0 <= indices.min() <= indices.max() < blocks
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-12)
    assert (values != 0).all()
    again = energy(rows, blocks, weight, seed, energies, exponent, epoch)
    np.testing.assert_array_equal(again, (indices, values))


def test_supports_follow_the_energies_and_entries_their_roots():
    energies = np.array([1.0, 4, 16, 64, 0])
    indices, values = energy(20_000, 5, 2, 3, energies, exponent=1)
    shares = np.bincount(indices[indices[:, 0] == 4][:, 1], minlength=5) / 4000
    np.testing.assert_allclose(shares, energies / 85, atol=4 * np.sqrt(0.25 / 4000))
    pair = (indices == [0, 3]).all(axis=1)
    np.testing.assert_allclose(abs(values[pair][:, 1] / values[pair][:, 0]), 8)
    assert abs(np.sign(values).mean()) < 4 / np.sqrt(values.size)
    other = energy(20_000, 5, 2, 3, energies, exponent=1, epoch=1)[0]
    assert (indices[:, 1] != other[:, 1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energies": ["a", 1, 2, 3]}, r"energies = \['a', 1, 2, 3\]: must be 4 numbers"),
        ({"exponent": "x"}, "exponent = 'x': must be a number"),
        ({"epoch": 1.5}, "epoch = 1.5: not a whole number"),
        ({"energies": [1, 2, 3]}, r"energies: shape \(3,\); must be \(4,\)"),
        ({"energies": [1, 2, -3, 4]}, r"energies\[2\] = -3.0: .*nearest: 0"),
        ({"energies": [1, np.nan, 3, 4]}, r"energies\[1\] = nan"),
        ({"exponent": -1}, "exponent = -1"),
        ({"exponent": np.inf}, "exponent = inf"),
        ({"epoch": -1}, "epoch = -1"),
    ],
)
def test_bad_parameters_are_named(options, message):
    with pytest.raises(InputError, match=message):
        energy(**{"rows": 8, "blocks": 4, "weight": 2, "seed": 1, **options})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_block_energies_are_learnt_from_payloads_and_followed(dtype):
    random, known = np.random.default_rng(5), BlockEnergies(K, 0.9)
    np.testing.assert_array_equal(known.energies, 1)
    truth = INVERSE_SQUARES / INVERSE_SQUARES.mean()
    for turn in (truth, truth[::-1]):
        for epoch in range(60):
            blocks = random.normal(size=(K, 200)) * np.sqrt(turn)[:, None]
            indices, values = energy(K, K, 4, 1, known.energies, epoch=epoch)
            for i in range(0, K, 4):
                index, value = indices[i : i + 4].astype("i4"), values[i : i + 4].astype(dtype)
                known.update(index, value, np.einsum("rw,rwe->re", value, blocks[index]).astype(dtype))
        strong = np.argsort(-turn)[:4]  # weak ones take longer to be noticed
        np.testing.assert_allclose(known.energies[strong], turn[strong] / turn.mean(), rtol=0.3)
        assert np.argmax(known.energies) == np.argmax(turn)


def test_block_energies_stay_finite_with_any_payload():
    known = BlockEnergies(6, 0.5, floor=0.01)
    index, value = np.array([[0, 1], [2, 0]], "i4"), np.array([[0.6, 0.8], [1, 0]], "f4")
    known.update(index, value, np.zeros((2, 3), "f4"))
    np.testing.assert_array_equal(known.energies, 1)
    for bad in (np.nan, np.inf, 1e30):  # the last one's square is beyond float32
        known.update(index, value, np.full((2, 3), bad, "f4"))
    np.testing.assert_array_equal(known.energies, 1)
    for _ in range(40):
        known.update(index, value, np.array([[2, 0, 0], [0, 0, 0]], "f4"))
    assert known.energies.min() >= 0.01
    assert known.energies[2] == 0.01
    assert 0.36 * known._energies[0] + 0.64 * known._energies[1] == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlockEnergies(0), "blocks = 0"),
        (lambda: BlockEnergies(4, decay=1.0), "decay = 1.0"),
        (lambda: BlockEnergies(4, floor=0.0), "floor = 0.0"),
    ],
)
def test_numbers_out_of_range_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
