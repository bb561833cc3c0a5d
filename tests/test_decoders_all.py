"""What holds for every decoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.errors import InputError
from pdcode.problems import sparse_codewords

KINDS = sorted(decoders.KINDS)


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32))
def test_sparse_pads_with_zeros(r, k, seed):
    rng = np.random.default_rng(seed)
    words = rng.normal(size=(r, k)) * (rng.random((r, k)) < 0.4)
    indices, values = sparse_codewords(words, words.dtype)
    assert indices.dtype == np.int32
    assert indices.shape == values.shape
    assert values.shape[1] == max(1, np.count_nonzero(words, axis=1).max())
    assert not indices[values == 0].any()
    dense = np.zeros((r, k))
    np.add.at(dense, (np.arange(r)[:, None], indices), values)
    np.testing.assert_array_equal(dense, words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 1, 2)])
def test_an_orthonormal_basis_decodes_exactly(kind, dtype, shape):
    code = codes.design("net", 16, 8, 2, seed=4)
    truth = np.random.default_rng(0).normal(size=(8, *shape)).astype(dtype)
    decoder = decoders.create(kind, blocks=8, block_shape=shape, dtype=dtype)
    assert decoder.captured == 0
    assert not decoder.decodable
    assert decoder.gradient().shape == truth.shape
    assert not decoder.gradient().any()
    for row in range(4):
        word = code.matrix[row]
        decoder.add(word, np.tensordot(word, truth, 1))
        assert decoder.captured == pytest.approx((row + 1) / 8)
        assert not decoder.decodable
    decoder.add(code.matrix[4:8], np.tensordot(code.matrix[4:8], truth, 1))  # r = 4 at once
    assert decoder.captured == 1
    assert decoder.decodable
    assert decoder.count == 8
    result = decoder.gradient()
    assert result.dtype == dtype
    assert result.shape == truth.shape
    np.testing.assert_allclose(result, truth, rtol=1e-5, atol=1e-5)
    decoder.reset()
    assert decoder.captured == 0
    assert not decoder.decodable
    assert decoder.count == 0


@pytest.mark.parametrize("kind", KINDS)
def test_add_takes_what_numpy_takes(kind):
    decoder = decoders.create(kind, blocks=2, block_shape=(2,))
    decoder.add([1, 0], [3, 4])
    decoder.add(np.array([[0.0, 1.0]]), np.array([[5.0, 6.0], [0.0, 0.0]]).T[:1])
    decoder.add(np.empty((0, 2)), np.empty((0, 2)))
    np.testing.assert_allclose(decoder.gradient(), [[3, 4], [5, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_short_last_blocks(kind):
    code = codes.design("net", 4, 4, 2, seed=1)
    truth = np.arange(1.0, 13.0).reshape(4, 3)
    truth.reshape(-1)[10:] = 0
    decoder = decoders.create(kind, blocks=4, block_shape=(3,), dtype="float64", length=10)
    for row in code.matrix[:3]:
        decoder.add(row, row @ truth)
    assert not decoder.gradient().reshape(-1)[10:].any()
    decoder.add(code.matrix[3], code.matrix[3] @ truth)
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input(kind):
    decoder = decoders.create(kind, blocks=4, block_shape=(3, 2))
    with pytest.raises(InputError, match=r"codeword: shape \(3,\) is not \(4,\) or \(r, 4\)"):
        decoder.add(np.ones(3), np.ones((3, 2)))
    with pytest.raises(InputError, match=r"payload: shape \(2, 3\) is not \(3, 2\)"):
        decoder.add(np.ones(4), np.ones((2, 3)))
    with pytest.raises(InputError, match=r"payload: shape \(3, 2\) is not \(2, 3, 2\)"):
        decoder.add(np.ones((2, 4)), np.ones((3, 2)))
    with pytest.raises(InputError, match=r"decoder\.colour = 'red': not an option of"):
        decoders.create(kind, blocks=4, block_shape=(3,), colour="red")
    with pytest.raises(InputError, match="dtype = 'int32'"):
        decoders.create(kind, blocks=4, block_shape=(3,), dtype="int32")
    with pytest.raises(InputError, match=r"decoder\.length = 13: not from 1 to 12"):
        decoders.create(kind, blocks=4, block_shape=(3,), length=13)
    with pytest.raises(InputError, match="blocks = 0"):
        decoders.create(kind, blocks=0, block_shape=(3,))
    with pytest.raises(InputError, match="block_shape"):
        decoders.create(kind, blocks=2, block_shape=(0, 3))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("magic", {}, "decoder.kind = 'magic': not one of adjoint, least_squares, tracking"),
        ("tracking", {"step": 0.0}, "decoder.step = 0.0: not between 0 and 2"),
        ("tracking", {"step": 2.0}, "decoder.step = 2.0: not between 0 and 2"),
        ("adjoint", {"scale": "max"}, "decoder.scale = 'max': neither 'mean' nor a number"),
        ("adjoint", {"mean_of": 0}, "decoder.mean_of = 0: not a positive number"),
        ("adjoint", {"mean_of": 2, "scale": 1.0}, "decoder.mean_of = 2: not a positive number, or scale"),
        ("adjoint", {"rows": 0}, "decoder.rows = 0: not a positive number"),
        ("least_squares", {"capacity": 0}, "decoder.capacity = 0: not a positive number"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(InputError) as error:
        decoders.create(kind, 4, (3,), **options)
    assert message in str(error.value)
