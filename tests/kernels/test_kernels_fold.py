"""Codewords and rounding in one pass: the bits of the kernels that it joins, and their laws."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES, read_only

from pdcode import codes
from pdcode.kernels import decode, encode, fold, optimize, quantise

CODED = [name for name, kind in quantise.KINDS.items() if kind in reference.CODE_BITS]
KEYS = (1, 2, 3, 4)


def codewords(rows, dtype, together, blocks=16):
    """Rows of a net: of all sets one each, or all four of a set; indices and values."""
    code = codes.design("net", workers=blocks, blocks=blocks, weight=4)
    sets = numpy.unique(code.indices, axis=0, return_inverse=True)[1].ravel()
    order = numpy.argsort(sets, kind="stable")
    if not together:
        order = order.reshape(-1, 4).T.ravel()
    picked = order[:rows]
    return (numpy.ascontiguousarray(code.indices[picked], "i4"),
            numpy.ascontiguousarray(code.values[picked], dtype))  # fmt: skip


def payload(name, rows, block, dtype, seed=0):
    """Rounded normal numbers."""
    y = numpy.random.default_rng(seed).normal(size=rows * block).astype(dtype)
    wire = numpy.zeros(quantise.size(quantise.KINDS[name], rows, block), "u1")
    quantise.encode(quantise.KINDS[name], y, wire, rows, *KEYS)
    return wire


def apart(target, indices, values, block, kind, wire, factor):
    """Take the step of `fold.decode` by the kernels that it joins."""
    numbers, accumulator = numpy.empty((len(indices), block), target.dtype), numpy.zeros_like(target)
    quantise.decode(kind, wire, numbers.reshape(-1), len(indices))
    decode.adjoint_decode(accumulator, indices, values, numbers, 1.0)
    touched = numpy.unique(indices[(values != 0).any(axis=1)]).astype("i4")
    return optimize.sgd_blocks(target, accumulator, touched, block, factor)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("block", [1, 3, 16, 785, 1024, 2050])
def test_a_step_has_the_bits_of_the_kernels_that_it_joins(name, dtype, together, block):
    kind, random = quantise.KINDS[name], numpy.random.default_rng(block)
    for rows, missing in ((4, 0), (7 if together else 3, 0), (16 if together else 4, 2)):
        words = codewords(rows, dtype, together)
        wire = payload(name, rows, block, dtype, block)
        theta = random.normal(size=max(1, 16 * block - missing)).astype(dtype)
        there, twin = theta.copy(), theta.copy()
        kernel = fold.decode
        norm = kernel(theta, *map(read_only, words), block, kind, read_only(wire), 0.3)
        assert norm == pytest.approx(apart(there, *words, block, kind, wire, 0.3), rel=1e-5)
        assert theta.tobytes() == there.tobytes()
        reference.fold_decode(twin, *words, block, kind, wire, 0.3)
        numpy.testing.assert_allclose(theta, twin, rtol=1e-5, atol=1e-5)


@given(
    st.sampled_from(CODED),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 40),
    st.integers(0, 30),
    st.integers(0, 2**32),
)
def test_any_codewords_are_folded_in_as_its_twin_does(name, rows, weight, block, missing, seed):
    """Equal and overlapping sets, padding, blocks that are short or not there."""
    random = numpy.random.default_rng(seed)
    indices = random.integers(0, 7, (rows, weight)).astype("i4")
    indices[random.random(rows) < 0.5] = indices[0]
    values = (random.normal(size=(rows, weight)) * (random.random((rows, weight)) < 0.8)).astype("f8")
    theta = random.normal(size=max(1, 6 * block - missing))
    twin, wire = theta.copy(), payload(name, rows, block, "f8", seed)
    fold.decode(theta, indices, values, block, quantise.KINDS[name], wire, 0.7)
    reference.fold_decode(twin, indices, values, block, quantise.KINDS[name], wire, 0.7)
    numpy.testing.assert_allclose(theta, twin, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("bad", [numpy.nan, numpy.inf])
def test_a_payload_that_is_not_finite_changes_nothing(name, bad):
    words, kind = codewords(4, "f4", True), quantise.KINDS[name]
    y = numpy.ones((4, 1100), "f4")
    y[3, 1050] = bad
    wire = numpy.zeros(quantise.size(kind, 4, 1100), "u1")
    assert not quantise.encode(kind, y.ravel(), wire, 4, *KEYS)
    theta = numpy.ones(16 * 1100, "f4")
    assert fold.decode(theta, *words, 1100, kind, wire, 1.0) < 0
    assert (theta == 1).all()


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("block", [1, 3, 16, 785, 1024, 2050])
def test_what_is_not_sent_stays_in_the_memory(name, dtype, together, block):
    """Of whole numbers, whose sums are exact; in sets the codewords after the first meet rounding errors."""
    kind, random = quantise.KINDS[name], numpy.random.default_rng(block)
    words = codewords(4, dtype, together)
    memory, gradient = random.integers(-20, 21, (2, 16 * block)).astype(dtype)
    before, y = memory + gradient, numpy.empty((4, block), dtype)
    encode.feedback_encode(memory.copy(), gradient, *words, block, y)
    sent, wire = numpy.empty_like(y), numpy.full(quantise.size(kind, 4, block), 255, "u1")
    kernel = fold.encode
    assert kernel(memory, read_only(gradient), *words, block, kind, wire, sent, *KEYS)
    numbers, rounded = numpy.empty_like(y), numpy.empty_like(y)
    quantise.decode(kind, wire, numbers.reshape(-1), 4)
    assert sent.tobytes() == numbers.tobytes()
    decode.adjoint_decode(before, *words, sent, -1.0)
    numpy.testing.assert_allclose(memory, before, rtol=1e-5, atol=1e-4)
    quantise.encode(kind, y.reshape(-1), expected := numpy.empty_like(wire), 4, *KEYS, 0, rounded.reshape(-1))
    if not together:
        assert wire.tobytes() == expected.tobytes()
    errors = [numpy.square(numpy.float64(some) - y).sum() for some in (sent, rounded)]
    assert errors[0] <= 1.2 * errors[1] + 1e-6 * numpy.square(y).sum() + 1


def test_encoding_equals_its_twin():
    words, random = codewords(8, "f8", True), numpy.random.default_rng(3)
    memory, gradient = random.normal(size=(2, 16 * 40))
    for name in ("int2", "sign"):  # means: no threshold at which the last bit of a sum matters much
        kind, ours, twin = quantise.KINDS[name], memory.copy(), memory.copy()
        sent, expected = numpy.empty((2, 8, 40))
        wire, there = numpy.zeros((2, quantise.size(kind, 8, 40)), "u1")
        fold.encode(ours, gradient, *words, 40, kind, wire, sent, *KEYS)
        reference.fold_encode(twin, gradient, *words, 40, kind, there, expected, KEYS)
        numpy.testing.assert_allclose(sent, expected, rtol=1e-5)
        numpy.testing.assert_allclose(ours, twin, atol=1e-5)


def test_what_is_not_finite_stays_in_the_memory():
    words, kind = codewords(8, "f4", True), quantise.KINDS["int2"]
    memory = numpy.ones(16 * 4, "f4")
    memory[4 * words[0][0, 1]] = numpy.inf
    before, sent = memory.copy(), numpy.empty((8, 4), "f4")
    wire = numpy.zeros(quantise.size(kind, 8, 4), "u1")
    assert not fold.encode(memory, None, *words, 4, kind, wire, sent, *KEYS)
    bad = numpy.repeat(numpy.isin(numpy.arange(16), words[0][0]), 4)
    numpy.testing.assert_array_equal(memory[bad], before[bad])
    assert numpy.isnan(sent[:4]).all()
    assert numpy.isfinite(sent[4:]).all()
    assert fold.decode(before, *words, 4, kind, wire, 1.0) < 0


def test_what_does_not_fit_is_refused():
    words, x = codewords(4, "f4", True), numpy.ones(16 * 8, "f4")
    wire, sent = numpy.zeros(quantise.size(6, 4, 8), "u1"), numpy.ones((4, 8), "f4")
    with pytest.raises(ValueError, match="format of codes"):
        fold.decode(x, *words, 8, 1, wire, 1.0)
    with pytest.raises(ValueError, match=r"arrays do not fit decode\("):
        fold.decode(x, words[0], words[1][:3], 8, 6, wire, 1.0)
    with pytest.raises(ValueError, match="bytes: must have"):
        fold.decode(x, *words, 8, 6, wire[:8], 1.0)
    none = numpy.zeros((0, 4), "i4"), numpy.zeros((0, 4), "f4")
    with pytest.raises(ValueError, match="must not be empty"):
        fold.encode(x, None, *none, 8, 6, wire[:0], sent[:0], *KEYS)
    with pytest.raises(ValueError, match=r"arrays do not fit encode\("):
        fold.encode(x, x[:3], *words, 8, 6, wire, sent, *KEYS)
    with pytest.raises(ValueError, match=r"arrays do not fit encode\("):
        fold.encode(x, None, *words, 8, 6, wire, sent[:3], *KEYS)
