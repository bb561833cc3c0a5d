"""adjoint_decode and tracking_decode against their numpy twins."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES, LAYERS, TOLERANCE, codewords, read_only

from pdcode.kernels import decode, encode

SHAPES = LAYERS | {"r": st.sampled_from([1, 3])}


def arrival(random, length, block, r, w, dtype):
    """State (length), codewords and payload (r, block), inputs read-only."""
    indices, values = codewords(random, r, w, -(-length // block), dtype)
    payload = random.normal(size=(r, block)).astype(dtype)
    return random.normal(size=length).astype(dtype), read_only(indices), read_only(values), read_only(payload)


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_adjoint_equals_its_twin(dtype, length, block, r, w, seed):
    state, *message = arrival(numpy.random.default_rng(seed), length, block, r, w, dtype)
    expected = state.copy()
    reference.adjoint_decode(expected, *message, -1.5)
    decode.adjoint_decode(state, *message, -1.5)
    numpy.testing.assert_allclose(state, expected, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_tracking_equals_its_twin(dtype, length, block, r, w, seed):
    state, *message = arrival(numpy.random.default_rng(seed), length, block, r, w, dtype)
    expected = state.copy()
    total = reference.tracking_decode(expected, *message, 0.3)
    assert decode.tracking_decode(state, *message, 0.3) == pytest.approx(
        total, rel=10 * TOLERANCE[dtype], abs=TOLERANCE[dtype]
    )
    numpy.testing.assert_allclose(state, expected, atol=100 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["adjoint_decode", "tracking_decode"])
def test_blocks_longer_than_a_tile(dtype, name):
    state, *message = arrival(numpy.random.default_rng(1), 5 * 2300 - 999, 2300, 3, 4, dtype)
    expected = state.copy()
    getattr(reference, name)(expected, *message, 0.5)
    getattr(decode, name)(state, *message, 0.5)
    numpy.testing.assert_allclose(state, expected, atol=20 * TOLERANCE[dtype])


@given(**SHAPES)
def test_adjoint_is_the_adjoint_of_encode(length, block, r, w, seed):
    """<encode(x), y> = <x, decode(y)>."""
    state, indices, values, payload = arrival(numpy.random.default_rng(seed), length, block, r, w, "float64")
    coded, decoded = numpy.empty((1, r * block)), numpy.zeros(length)
    encode.encode(state[None], indices, values, block, coded)
    decode.adjoint_decode(decoded, indices, values, payload, 1.0)
    assert coded.ravel() @ payload.ravel() == pytest.approx(state @ decoded, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tracking_with_step_one_projects_onto_a_unit_codeword(dtype):
    """After one call the residual of the same payload is 0."""
    state, indices, values, _ = arrival(numpy.random.default_rng(2), 64, 16, 1, 3, dtype)
    values = values / numpy.linalg.norm(values)
    target = numpy.random.default_rng(3).normal(size=(1, 64)).astype(dtype)
    payload = numpy.empty((1, 16), dtype)
    encode.encode(target, indices, values, 16, payload)
    assert decode.tracking_decode(state, indices, values, payload, 1.0) > 0.1
    assert decode.tracking_decode(state, indices, values, payload, 1.0) < 1e-10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["adjoint_decode", "tracking_decode"])
def test_blocks_outside_are_dropped_and_weights_of_zero_skipped(dtype, name):
    state = numpy.array([numpy.nan, 1, 2, 3, 4], dtype)
    indices = numpy.array([[1, 7, -1, 0]], "i4")
    getattr(decode, name)(state, indices, numpy.array([[1, 1, 1, 0]], dtype), numpy.ones((1, 2), dtype), 0.0)
    numpy.testing.assert_array_equal(state, numpy.array([numpy.nan, 1, 2, 3, 4], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", [1, 2, 3, 4, 8])
def test_whole_blocks_of_the_usual_weights(dtype, w):
    """These have loops of their own, from which a codeword with a short or missing block is kept out."""
    random = numpy.random.default_rng(w)
    for length in 10 * 1500, 10 * 1500 - 700, 7 * 1500 - 1:
        state, _, values, payload = arrival(random, length, 1500, 3, w, dtype)
        indices = numpy.array([random.permutation(10)[:w] for _ in range(3)], numpy.int32)
        expected = padded = numpy.concatenate([state, numpy.zeros(10 * 1500 - length, dtype)])
        for row in range(3):
            one = slice(row, row + 1)
            reference.tracking_decode(padded, indices[one], values[one], payload[one], 0.5)
            padded[length:] = 0
        decode.tracking_decode(state, indices, values, payload, 0.5)
        numpy.testing.assert_allclose(state, expected[:length], atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", [1, 4, 5, 12])
def test_tracking_projects_onto_codewords_of_any_norm(dtype, w):
    state, indices, values, _ = arrival(numpy.random.default_rng(2), 64, 4, 1, w, dtype)
    values = (7 * values).astype(dtype)
    target = numpy.random.default_rng(3).normal(size=(1, 64)).astype(dtype)
    payload = numpy.empty((1, 4), dtype)
    encode.encode(target, indices, values, 4, payload)
    assert decode.tracking_decode(state, indices, values, payload, 1.0) > 0.1
    assert decode.tracking_decode(state, indices, values, payload, 1.0) < 1e-8
    before = state.copy()
    decode.tracking_decode(state, indices, 0 * values, payload, 1.0)
    numpy.testing.assert_array_equal(state, before)


@pytest.mark.parametrize("name", ["adjoint_decode", "tracking_decode"])
def test_empty_payloads_change_nothing(name):
    state = numpy.ones(4)
    kernel, indices, values = getattr(decode, name), numpy.zeros((1, 3), "i4"), numpy.ones((1, 3))
    kernel(state, indices[:0], values[:0], numpy.zeros((0, 2)), 1.0)
    kernel(state, indices, values, numpy.zeros((1, 0)), 1.0)
    kernel(numpy.zeros(0), indices, values, numpy.ones((1, 2)), 1.0)
    numpy.testing.assert_array_equal(state, 1)


@pytest.mark.parametrize("name", ["adjoint_decode", "tracking_decode"])
def test_decoders_refuse_what_does_not_fit(name):
    kernel, indices, values = getattr(decode, name), numpy.zeros((2, 3), "i4"), numpy.ones((2, 3))
    with pytest.raises(ValueError):
        kernel(numpy.ones(8), indices, values[:1], numpy.ones((2, 4)), 1.0)
    with pytest.raises(ValueError):
        kernel(numpy.ones(8), indices, values, numpy.ones((1, 4)), 1.0)
    with pytest.raises(ValueError):
        kernel(read_only(numpy.ones(8)), indices, values, numpy.ones((2, 4)), 1.0)
    for state, payload in (("f4", "f8"), ("f8", "f4"), ("f2", "f2"), (">f8", "f8"), ("i8", "i8")):
        with pytest.raises(ValueError, match=rf"arrays do not fit {name}\("):
            kernel(numpy.ones(8, state), indices, values.astype(payload), numpy.ones((2, 4), payload), 1.0)
