"""The peeling decoder: least squares where all is released, zeros where a block is not."""

import numpy as np
import pytest
from hypothesis import given
from matrices import sparse_matrices

from pdcode import decoders


def peel(codewords):
    """Return pairs (codeword, block) in an order of possible releases."""
    known, pairs = np.zeros(codewords.shape[1], bool), []
    while len(ready := np.flatnonzero(((codewords != 0) & ~known).sum(axis=1) == 1)):
        pairs.append((int(ready[0]), int(np.flatnonzero((codewords[ready[0]] != 0) & ~known)[0])))
        known[pairs[-1][1]] = True
    return pairs


@given(words=sparse_matrices())
def test_released_blocks_are_exact_in_any_order_of_arrival(words):
    q, k = words.shape
    truth = np.random.default_rng(q).normal(size=(k, 3))
    decoder = decoders.create("peeling", k, (3,), "float64", capacity=1)
    for update in range(2):
        for i in range(1, q + 1):
            decoder.add(words[i - 1], words[i - 1] @ truth)
            known = sorted(block for _, block in peel(words[:i]))
            assert sorted(decoder.known) == known
            assert decoder.captured == len(known) / k
            assert decoder.decodable == (len(known) == k)
            if (i + update) % 3 == 0 or i == q:  # solves some releases at a time
                expected = np.zeros((k, 3))
                expected[known] = truth[known]
                np.testing.assert_allclose(decoder.gradient(), expected, atol=1e-6)
                assert decoder.residual < 1e-6
        words = words[::-1]
        truth = -truth
        decoder.reset()
        assert decoder.captured == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_least_squares_where_all_is_released(dtype):
    rng = np.random.default_rng(4)
    k = 40
    words = np.zeros((3 * k, k))
    for row, weight in zip(words, rng.choice([1, 2, 2, 3, 4], 3 * k), strict=True):
        row[rng.permutation(k)[:weight]] = rng.choice([-1, 1], weight)
    truth = rng.normal(size=(k, 5000)).astype(dtype)
    peeling, least = (decoders.create(kind, k, (5000,), dtype) for kind in ("peeling", "least_squares"))
    for word in words:
        payload = (word @ truth).astype(dtype)
        for decoder in (peeling, least):
            decoder.add(word, payload)
        assert peeling.captured <= least.captured
        if peeling.decodable:
            break
    assert peeling.decodable
    tolerance = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(peeling.gradient(), least.gradient(), atol=tolerance)
    np.testing.assert_allclose(peeling.gradient(), truth, atol=tolerance)


def test_a_contradiction_shows_in_the_residual():
    decoder = decoders.create("peeling", 2, (2,), "float64")
    decoder.add([1, 0], [1, 1])
    decoder.add([1, 2], [3, 3])
    assert decoder.residual == 0
    decoder.add([0, 1], [1, 4])
    assert decoder.residual == pytest.approx(3)


def test_payloads_are_not_changed_and_referenced_or_copied():
    indices, values = np.array([[0, 1], [1, 0]], np.int32), np.array([[1, 1], [2, 0]], np.float32)
    payload = np.array([[3, 3], [4, 4]], np.float32)
    for copy, expected in ((False, [[6, 6], [0, 0]]), (True, [[1, 1], [2, 2]])):
        decoder = decoders.create("peeling", 2, (2,), copy=copy)
        decoder.add_sparse(indices, values, payload)
        kept = payload.copy()
        np.testing.assert_array_equal(decoder.gradient(), [[1, 1], [2, 2]])
        np.testing.assert_array_equal(payload, kept)
        decoder.reset()
        decoder.add_sparse(indices, values, payload)
        payload[:] = [[6, 6], [0, 0]]
        np.testing.assert_array_equal(decoder.gradient(), expected)
        payload[:] = kept


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_a_repeated_block_add_up_and_cancelled_ones_are_not_there(dtype):
    decoder, values = decoders.create("peeling", 3, (1,), dtype), np.array([[1, 2, -2], [1, 0, 4]], dtype)
    indices = np.array([[0, 1, 1], [2, 0, 2]], np.int32)
    with pytest.raises(ValueError, match="weight for block 3: blocks are 0 to 2"):
        decoder.add_sparse(indices + 1, values, np.ones((2, 1), dtype))
    with pytest.raises(ValueError, match="weight for block -1"):
        decoder.add_sparse(indices - 1, values, np.ones((2, 1), dtype))
    assert decoder.count == 0
    decoder.add_sparse(indices, values, np.array([[2], [15]], dtype))
    assert decoder.known.tolist() == [0, 2]
    assert decoder.gradient().tolist() == [[2], [0], [3]]
