"""CSR products against their numpy twins."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import sparse

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
SHAPES = {
    "samples": st.integers(0, 6),
    "width": st.integers(1, 40),
    "units": st.integers(1, 20),
    "seed": st.integers(0, 2**32),
}


def matrix(random, height, width, dtype):
    """A random CSR matrix, some rows empty; read-only indptr, columns, data."""
    parts = [numpy.sort(random.permutation(width)[: random.integers(width + 1)]) for _ in range(height)]
    indptr = numpy.concatenate([[0], numpy.cumsum([len(part) for part in parts])]).astype(numpy.int64)
    columns = numpy.concatenate(parts).astype(numpy.int32)
    data = random.normal(size=len(columns)).astype(dtype)
    for array in (indptr, columns, data):
        array.flags.writeable = False
    return indptr, columns, data


def rows_of(random, samples, height):
    """A batch, with repetitions."""
    rows = random.integers(height, size=samples)
    rows.flags.writeable = False
    return rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["rows", "columns", "neither"])
@given(**SHAPES)
def test_forward_for_any_strides(dtype, layout, samples, width, units, seed):
    random = numpy.random.default_rng(seed)
    a, rows = matrix(random, 5, width, dtype), rows_of(random, samples, 5)
    weights = random.normal(size=(width, units)).astype(dtype)
    if layout == "columns":
        weights = numpy.asfortranarray(weights)
    elif layout == "neither":
        weights = numpy.repeat(weights, 2, axis=1)[::-1, ::2]
    weights.flags.writeable = False
    out, expected = numpy.full((samples, units), 7, dtype), numpy.empty((samples, units), dtype)
    sparse.csr_forward(*a, rows, weights, out)
    reference.csr_forward(*a, rows, weights, expected)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_outer(dtype, samples, width, units, seed):
    random = numpy.random.default_rng(seed)
    a, rows = matrix(random, 5, width, dtype), rows_of(random, samples, 5)
    encoded = random.normal(size=(samples, units)).astype(dtype)
    encoded.flags.writeable = False
    out, expected = numpy.full((units, width), 7, dtype), numpy.empty((units, width), dtype)
    sparse.csr_outer(*a, rows, encoded, out)
    reference.csr_outer(*a, rows, encoded, expected)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("r", [1, 3])
@given(block=st.integers(1, 9), **SHAPES)
def test_coded(dtype, r, block, samples, width, units, seed):
    random = numpy.random.default_rng(seed)
    a, rows = matrix(random, 5, width, dtype), rows_of(random, samples, 5)
    delta = random.normal(size=(samples, units)).astype(dtype)
    codewords = random.normal(size=(r, -(-width // block))).astype(dtype)
    codewords[random.random(codewords.shape) < 0.5] = 0
    delta.flags.writeable = codewords.flags.writeable = False
    out, expected = numpy.full((r * block, units), 7, dtype), numpy.empty((r * block, units), dtype)
    sparse.csr_coded(*a, rows, delta, codewords, block, out)
    reference.csr_coded(*a, rows, delta, codewords, block, expected)
    numpy.testing.assert_allclose(out, expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("bad", [-1, 2])
def test_rows_must_be_in_the_matrix(bad):
    a = numpy.array([0, 1, 2]), numpy.array([0, 1], "i4"), numpy.ones(2)
    rows = numpy.array([0, bad])
    message = rf"row {bad} is not in \[0, 2\)"
    with pytest.raises(ValueError, match=message):
        sparse.csr_forward(*a, rows, numpy.ones((2, 3)), numpy.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        sparse.csr_outer(*a, rows, numpy.ones((2, 3)), numpy.ones((3, 2)))
    with pytest.raises(ValueError, match=message):
        sparse.csr_coded(*a, rows, numpy.ones((2, 3)), numpy.ones((1, 2)), 1, numpy.ones((1, 3)))


def test_refuses_what_does_not_fit():
    a, rows = (numpy.array([0, 1, 2]), numpy.array([0, 1], "i4"), numpy.ones(2)), numpy.array([0])
    with pytest.raises(ValueError, match="arrays do not fit csr_forward"):
        sparse.csr_forward(*a, rows, numpy.ones((2, 3)), numpy.ones((1, 2)))
    with pytest.raises(ValueError, match="arrays do not fit csr_outer"):
        sparse.csr_outer(*a, rows, numpy.ones((1, 3)), numpy.ones((2, 2)))
    with pytest.raises(ValueError, match="arrays do not fit csr_coded"):
        sparse.csr_coded(*a, rows, numpy.ones((1, 3)), numpy.ones((1, 2)), 1, numpy.ones((2, 3)))
    with pytest.raises(ValueError, match="arrays do not fit csr_forward"):
        sparse.csr_forward(a[0], a[1][:1], a[2], rows, numpy.ones((2, 3)), numpy.ones((1, 3)))
    for indptr in numpy.array([0, 1, 3]), numpy.empty(0, int):
        with pytest.raises(ValueError, match="do not form a CSR matrix"):
            sparse.csr_forward(indptr, *a[1:], rows, numpy.ones((2, 3)), numpy.ones((1, 3)))
    with pytest.raises(ValueError):
        sparse.csr_forward(*a, rows, numpy.ones((2, 3), "f4"), numpy.ones((1, 3)))
