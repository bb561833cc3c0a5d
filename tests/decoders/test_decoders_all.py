"""What holds for every decoder."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes, decoders
from pdcode.config import kinds
from pdcode.problems import sparse_codewords
from pdcode.util.errors import InputError

KINDS = sorted(kinds.KINDS["decoders"])


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
    if kind == "peeling":  # which needs codewords of weight 1 to begin
        matrix = np.eye(8)[[2, 7, 1, 0, 4, 3, 5, 6]]
        matrix[1:4] += 0.5 * matrix[0]
    else:
        matrix = codes.design("net", 16, 8, 2, seed=4).matrix
    truth = np.random.default_rng(0).normal(size=(8, *shape)).astype(dtype)
    decoder = decoders.create(kind, blocks=8, block_shape=shape, dtype=dtype)
    assert decoder.captured == 0
    assert not decoder.decodable
    assert decoder.gradient().shape == truth.shape
    assert not decoder.gradient().any()
    for row in range(4):
        word = matrix[row]
        decoder.add(word, np.tensordot(word, truth, 1))
        assert decoder.captured == pytest.approx((row + 1) / 8)
        assert not decoder.decodable
    decoder.add(matrix[4:8], np.tensordot(matrix[4:8], truth, 1))  # r = 4 at once
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
    matrix = np.eye(4) if kind == "peeling" else codes.design("net", 4, 4, 2, seed=1).matrix
    truth = np.arange(1.0, 13.0).reshape(4, 3)
    truth.reshape(-1)[10:] = 0
    decoder = decoders.create(kind, blocks=4, block_shape=(3,), dtype="float64", length=10)
    for row in matrix[:3]:
        decoder.add(row, row @ truth)
    assert not decoder.gradient().reshape(-1)[10:].any()
    decoder.add(matrix[3], matrix[3] @ truth)
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
        ("magic", {}, "decoder.kind: expected one of adjoint, least_squares, tracking, mmse"),
        ("tracking", {"step": 0.0}, "decoder.step = 0.0: not between 0 and 2"),
        ("tracking", {"step": 2.0}, "decoder.step = 2.0: not between 0 and 2"),
        ("adjoint", {"scale": "max"}, "decoder.scale = 'max': neither 'mean' nor a number"),
        ("adjoint", {"mean_of": 0}, "decoder.mean_of = 0: not a positive whole number"),
        ("adjoint", {"mean_of": 2, "scale": 1.0}, "decoder.mean_of = 2: scale is given too"),
        ("adjoint", {"rows": 0}, "decoder.rows = 0: not a positive whole number"),
        ("least_squares", {"capacity": 0}, "decoder.capacity = 0: not a positive whole number"),
        ("peeling", {"capacity": 0}, "decoder.capacity = 0: not a positive whole number"),
        ("mmse", {"noise": -1.0}, "decoder.noise = -1.0: negative"),
        ("mmse", {"noise": float("nan")}, "decoder.noise = nan: not a finite number"),
        ("mmse", {"covariance": [1, 2]}, "decoder.covariance: not a symmetric (4, 4) matrix, nor 4 energies"),
        ("mmse", {"covariance": -np.eye(4)}, "decoder.covariance: not positive semidefinite"),
        ("mmse", {"decay": 1.0}, "decoder.decay = 1.0: not from 0 to below 1"),
        ("mmse", {"sample": 0}, "decoder.sample = 0: not a positive whole number"),
        ("residual", {"tolerance": 0.0}, "decoder.tolerance = 0.0: not between 0 and 1"),
        ("residual", {"faults": 0}, "decoder.faults = 0: not a positive whole number"),
        ("adjoint", {"scale": None}, "decoder.scale = None: not a number"),
        ("tracking", {"step": "half"}, "decoder.step = 'half': not a number"),
        ("mmse", {"decay": float("nan")}, "decoder.decay = nan: not a number"),
        ("mmse", {"noise": "loud"}, "decoder.noise = 'loud': not a number"),
        ("mmse", {"covariance": "abcd"}, "decoder.covariance: not a (4, 4) matrix of numbers"),
        ("peeling", {"capacity": 1.5}, "decoder.capacity = 1.5: not a positive whole number"),
        ("residual", {"tolerance": [1]}, "decoder.tolerance = [1]: not a number"),
        ("residual", {"checks": 0}, "decoder.checks = 0: not a positive whole number"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(InputError) as error:
        decoders.create(kind, 4, (3,), **options)
    assert message in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(kind, bad):
    decoder = decoders.create(kind, blocks=2, block_shape=(2, 2))
    payload = np.zeros((1, 2, 2))
    payload[0, 1, 0] = bad
    with pytest.raises(InputError, match=r"payload: element \(0, 1, 0\) is .*: it must be finite"):
        decoder.add([[1, 0]], payload)
    with pytest.raises(InputError, match=r"codeword: element \(1,\) is .*: it must be finite"):
        decoder.add([1, bad], np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"payload: element \(\) is .*: it must be finite"):
        decoders.create(kind, blocks=2, block_shape=()).add([1, 0], bad)
    assert decoder.count == 0
    assert not decoder.gradient().any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_written_to_out(kind):
    decoder = decoders.create(kind, blocks=3, block_shape=(2,), length=5)
    decoder.add(np.eye(3)[:2], [[1, 2], [3, 4]])
    out = np.full((3, 2), np.nan, np.float32)
    expected = decoder.gradient()
    assert expected.any()
    decoder.add(np.eye(3)[2], [0, 9])
    assert decoder.gradient(out) is out
    assert decoder.gradient() is not out
    np.testing.assert_array_equal(out, decoder.gradient())
    decoder.solve()
    np.testing.assert_array_equal(out, decoder.gradient())
    for wrong in (np.empty((3, 2)), np.empty((2, 3), np.float32), np.empty((2, 3), np.float32).T):
        with pytest.raises(InputError, match="out: float"):
            decoder.gradient(wrong)


@pytest.mark.parametrize("kind", ["least_squares", "mmse", "residual", "peeling", "tracking"])
def test_codewords_of_any_norm_zero_ones_and_duplicates(kind):
    truth = np.random.default_rng(3).normal(size=(3, 4))
    decoder = decoders.create(kind, blocks=3, block_shape=(4,), dtype="float64")
    words = np.array([[0, 0, 0], [0, 50, 0], [0, 50, 0], [0, 1e-3, 1e-3], [0, 0, 0], [3, 1, -1], [0, 2, 0]])
    for word in words:
        decoder.add(word, word @ truth)
    for _ in range(300 if kind == "tracking" else 0):  # which gets there in the limit
        decoder.add(words, words @ truth)
    assert decoder.decodable
    np.testing.assert_allclose(decoder.gradient(), truth, atol=1e-9)


@pytest.mark.parametrize(
    ("blocks", "shape", "dtype"),
    [
        ("4", (3,), "f4"), (True, (3,), "f4"), (2.0, (3,), "f4"), (4, (-1, -1), "f4"), (4, 3, "f4"),
        (4, (3,), "x"),
    ],
)  # fmt: skip
def test_impossible_sizes(blocks, shape, dtype):
    with pytest.raises(InputError, match=r"^(blocks|block_shape|dtype) = "):
        decoders.create("adjoint", blocks, shape, dtype)


@pytest.mark.parametrize("payload", ["abc", [[1], [2, 3]], [None] * 3, np.ones(3) * 1j, [1e39] * 3])
def test_a_payload_that_is_not_of_real_numbers_is_refused(payload):
    decoder = decoders.create("least_squares", 4, (3,))
    with pytest.raises(InputError, match=r"^payload: "):
        decoder.add(np.ones(4), payload)
    assert decoder.count == 0
    assert not decoder.gradient().any()
