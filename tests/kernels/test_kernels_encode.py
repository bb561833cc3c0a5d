"""encode and feedback_encode against their numpy twins, and the law of error feedback."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import encode

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 2e-5, "float64": 1e-13}
LAYERS = {
    "length": st.integers(1, 400), "block": st.integers(1, 150), "r": st.integers(1, 4),
    "w": st.integers(1, 6), "seed": st.integers(0, 2**32),
}  # fmt: skip


def codewords(random, r, w, blocks, dtype):
    """r codewords of weight w (at most `blocks`, then padded) in sparse form."""
    indices, values = numpy.zeros((r, w), numpy.int32), numpy.zeros((r, w), dtype)
    for i in range(r):
        true = min(w, blocks)
        indices[i, :true] = random.permutation(blocks)[:true]
        values[i, :true] = random.normal(size=true)
    return indices, values


def read_only(array):
    """The array, no longer writable."""
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    samples=st.integers(0, 5), columns=st.integers(1, 200), block=st.integers(1, 70),
    r=st.sampled_from([1, 3]), w=st.integers(1, 9), accumulate=st.booleans(), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_encode_equals_its_twin(dtype, samples, columns, block, r, w, accumulate, seed):
    random = numpy.random.default_rng(seed)
    factor = random.normal(size=(samples, columns)).astype(dtype)
    indices, values = codewords(random, r, w, -(-columns // block), dtype)
    out = random.normal(size=(samples, r * block)).astype(dtype)
    expected = out.copy()
    reference.encode(factor, indices, values, block, expected, -0.7, accumulate)
    kernel = encode.encode
    kernel(read_only(factor), read_only(indices), read_only(values), block, out, -0.7, accumulate)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype] * 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [5000, 4 * 2049, 9001])
def test_encode_of_a_flat_layer_longer_than_a_tile(dtype, columns):
    random = numpy.random.default_rng(columns)
    block = -(-columns // 4)
    factor = random.normal(size=(1, columns)).astype(dtype)
    indices, values = codewords(random, 3, 4, 4, dtype)
    out, expected = numpy.empty((1, 3 * block), dtype), numpy.empty((1, 3 * block), dtype)
    encode.encode(factor, indices, values, block, out)
    reference.encode(factor, indices, values, block, expected)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_encode_takes_rows_any_distance_apart(dtype):
    random = numpy.random.default_rng(3)
    wide, target = random.normal(size=(6, 50)).astype(dtype), numpy.zeros((6, 40), dtype)
    indices, values = codewords(random, 2, 3, 4, dtype)
    expected = numpy.empty((6, 20), dtype)
    reference.encode(wide[::2, 3:43][:3], indices, values, 10, expected[:3])
    encode.encode(wide[::2, 3:43], indices, values, 10, target[::2, 5:25])
    numpy.testing.assert_allclose(target[::2, 5:25], expected[:3], atol=TOLERANCE[dtype])
    assert not target[1::2].any()
    assert not target[:, :5].any()
    assert not target[:, 25:].any()


@pytest.mark.parametrize("block", [2, 32])
def test_encode_skips_blocks_of_weight_zero_whatever_they_hold(block):
    factor = numpy.full((1, 3 * block), numpy.nan, numpy.float32)
    factor[0, block : 2 * block] = 1
    out = numpy.full((1, block), numpy.nan, numpy.float32)
    encode.encode(factor, numpy.array([[1, 0, 2]], "i4"), numpy.array([[0.5, 0, 0]], "f4"), block, out)
    numpy.testing.assert_array_equal(out, 0.5)


@pytest.mark.parametrize("block", [2, 32])
def test_blocks_outside_the_factor_count_as_zero(block):
    factor, out = numpy.ones((1, block), numpy.float32), numpy.ones((1, block), numpy.float32)
    encode.encode(factor, numpy.array([[-1, 1, 1000]], "i4"), numpy.ones((1, 3), "f4"), block, out)
    numpy.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize(
    ("factor", "indices", "values", "out"),
    [
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i4"), numpy.ones((1, 3)), numpy.ones((2, 4))),
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i4"), numpy.ones((1, 2)), numpy.ones((2, 5))),
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i4"), numpy.ones((1, 2)), numpy.ones((3, 4))),
        (numpy.ones((2, 16))[:, ::2], numpy.zeros((1, 2), "i4"), numpy.ones((1, 2)), numpy.ones((2, 4))),
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i4"), numpy.ones((1, 2)), numpy.ones((2, 8))[:, ::2]),
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i8"), numpy.ones((1, 2)), numpy.ones((2, 4))),
        (numpy.ones((2, 8)), numpy.zeros((1, 2), "i4"), numpy.ones((1, 2), "f4"), numpy.ones((2, 4))),
    ],
)
def test_encode_refuses_what_does_not_fit(factor, indices, values, out):
    with pytest.raises(ValueError):
        encode.encode(factor, indices, values, 4, out)


@pytest.mark.parametrize("dtype", DTYPES)
@given(**LAYERS)
def test_feedback_equals_its_twin_and_loses_nothing(dtype, length, block, r, w, seed):
    random = numpy.random.default_rng(seed)
    memory, gradient = random.normal(size=(2, length)).astype(dtype)
    before = memory + gradient
    indices, values = codewords(random, r, w, -(-length // block), dtype)
    values /= numpy.linalg.norm(values, axis=1, keepdims=True)
    out, expected = numpy.empty((r, block), dtype), numpy.empty((r, block), dtype)
    twin = memory.copy()
    reference.feedback_encode(twin, gradient, indices, values, block, expected)
    kernel = encode.feedback_encode
    kernel(memory, read_only(gradient), read_only(indices), read_only(values), block, out)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])
    numpy.testing.assert_allclose(memory, twin, atol=TOLERANCE[dtype])
    decoded = (reference.dense(indices, values, -(-length // block)).T @ out).ravel()[:length]
    numpy.testing.assert_allclose(memory + decoded, before, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_feedback_over_blocks_longer_than_a_tile(dtype):
    random = numpy.random.default_rng(5)
    memory, gradient = random.normal(size=(2, 8 * 2500 - 777)).astype(dtype)
    twin, indices, values = memory.copy(), *codewords(random, 3, 4, 8, dtype)
    out, expected = numpy.empty((3, 2500), dtype), numpy.empty((3, 2500), dtype)
    encode.feedback_encode(memory, gradient, indices, values, 2500, out)
    reference.feedback_encode(twin, gradient, indices, values, 2500, expected)
    numpy.testing.assert_allclose(out, expected, atol=20 * TOLERANCE[dtype])
    numpy.testing.assert_allclose(memory, twin, atol=40 * TOLERANCE[dtype])


def test_feedback_refuses_what_does_not_fit():
    indices, values = numpy.zeros((1, 2), "i4"), numpy.ones((1, 2))
    memory, gradient, out = numpy.zeros(8), numpy.ones(8), numpy.zeros((1, 4))
    for arguments in (
        (memory, gradient[:7], indices, values, 4, out),
        (memory, gradient, indices, values, 4, out[:, :3]),
        (memory, gradient, indices, values, 5, out),
        (memory, gradient.astype("f4"), indices, values, 4, out),
        (memory, gradient, indices.astype("i8"), values, 4, out),
        (memory, gradient, indices, values.astype("f4"), 4, out),
        (memory, gradient, indices[:, :1], values, 4, out),
        (memory, None, indices, numpy.ones((1, 3)), 4, out),
        (memory, None, indices.repeat(2, 0), values.repeat(2, 0), 4, out),
    ):
        with pytest.raises(ValueError, match=r"arrays do not fit feedback_encode\("):
            encode.feedback_encode(*arguments)
    assert not memory.any()
    with pytest.raises(ValueError, match="needs block >= 1: block is 0"):
        encode.feedback_encode(memory, None, indices, values, 0, out[:, :0].copy())


@pytest.mark.parametrize("dtype", DTYPES)
@given(**LAYERS)
def test_feedback_without_a_gradient_deflates_the_memory(dtype, length, block, r, w, seed):
    random = numpy.random.default_rng(seed)
    memory = random.normal(size=length).astype(dtype)
    before, twin = memory.copy(), memory.copy()
    indices, values = codewords(random, r, w, -(-length // block), dtype)
    values /= numpy.linalg.norm(values, axis=1, keepdims=True)
    out, expected = numpy.empty((r, block), dtype), numpy.empty((r, block), dtype)
    reference.deflate(twin, indices, values, block, expected)
    encode.feedback_encode(memory, None, read_only(indices), read_only(values), block, out)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])
    numpy.testing.assert_allclose(memory, twin, atol=TOLERANCE[dtype])
    decoded = (reference.dense(indices, values, -(-length // block)).T @ out).ravel()[:length]
    numpy.testing.assert_allclose(memory + decoded, before, atol=TOLERANCE[dtype])
    assert numpy.linalg.norm(memory) <= numpy.linalg.norm(before) * (1 + TOLERANCE[dtype])  # projections
    other, second = before.copy(), numpy.empty_like(out)
    encode.feedback_encode(other, numpy.zeros_like(other), indices, values, block, second)
    numpy.testing.assert_array_equal(other, memory)
    numpy.testing.assert_array_equal(second, out)
