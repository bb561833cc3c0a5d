"""combine and locate against their numpy twins, and the promise that bits do not depend on the cut."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES, TOLERANCE, read_only

from pdcode.kernels import combine


def located(payloads):
    """Their addresses."""
    addresses = numpy.zeros(len(payloads), numpy.uint64)
    for i, payload in enumerate(payloads):
        combine.locate(payload[None], addresses, i)
    return read_only(addresses)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    payloads=st.integers(0, 9), rows=st.integers(0, 21), start=st.integers(0, 40), count=st.integers(0, 500),
    gap=st.integers(0, 3), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_equals_its_twin(dtype, payloads, rows, start, count, gap, seed):
    random = numpy.random.default_rng(seed)
    kept = [read_only(random.normal(size=start + count + gap).astype(dtype)) for _ in range(payloads)]
    matrix = read_only(random.normal(size=(payloads, rows)).astype(dtype))
    wide = numpy.full((rows, count + gap), 7, dtype)
    combine.combine(located(kept), start, matrix, wide[:, :count])
    expected = numpy.zeros((rows, count), dtype)
    if payloads:
        reference.combine(kept, start, matrix, expected)
    numpy.testing.assert_allclose(wide[:, :count], expected, atol=10 * TOLERANCE[dtype])
    assert (wide[:, count:] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_the_cut_into_rows_and_columns(dtype):
    """Nor on the processor: a sum runs in the order of payloads, with fused multiplications."""
    random = numpy.random.default_rng(5)
    kept = [random.normal(size=1003).astype(dtype) for _ in range(13)]
    matrix, whole = random.normal(size=(13, 15)).astype(dtype), numpy.empty((15, 1003), dtype)
    kernel, addresses = combine.combine, located(kept)
    kernel(addresses, 0, matrix, whole)
    for row in range(0, 15, 4):
        for column in range(0, 1003, 91):
            some = numpy.ascontiguousarray(matrix[:, row : row + 4])
            out = numpy.empty((some.shape[1], min(91, 1003 - column)), dtype)
            kernel(addresses, column, some, out)
            numpy.testing.assert_array_equal(out, whole[row : row + 4, column : column + 91])


def test_products_are_fused():
    """1 - (1 - h)(1 + h) = h squared, which a product rounded on its own would lose."""
    h = 2.0**-30
    kept = [numpy.array([1.0]), numpy.array([1 + h])]
    out = numpy.empty((1, 1))
    combine.combine(located(kept), 0, numpy.array([[1.0], [h - 1]]), out)
    assert out[0, 0] == h * h


@pytest.mark.parametrize("dtype", DTYPES)
def test_locate_takes_the_rows_of_a_payload(dtype):
    payload, addresses = read_only(numpy.ones((3, 5), dtype)), numpy.zeros(6, numpy.uint64)
    combine.locate(payload, addresses, 2)
    expected = [payload.ctypes.data + row * payload.strides[0] for row in range(3)]
    assert addresses.tolist() == [0, 0, *expected, 0]


def test_refuses_what_does_not_fit():
    kept = [numpy.zeros(4)]
    addresses, out = located(kept), numpy.zeros((2, 4))
    with pytest.raises(ValueError, match=r"fit combine\("):
        combine.combine(addresses, 0, numpy.zeros((2, 2)), out)
    with pytest.raises(ValueError, match=r"fit combine\("):
        combine.combine(addresses, 0, numpy.zeros((1, 3)), out)
    with pytest.raises(ValueError, match="needs start >= 0: start is -1"):
        combine.combine(addresses, -1, numpy.zeros((1, 2)), out)
    with pytest.raises(ValueError, match=r"out is float64\[4, 2\], not C-ordered"):
        combine.combine(addresses, 0, numpy.zeros((1, 4)), out.T[:, ::-1])
    with pytest.raises(ValueError, match="read-only"):
        combine.combine(addresses, 0, numpy.zeros((1, 2)), read_only(numpy.zeros((2, 4))))
    with pytest.raises(ValueError, match="position is 1, r is 1, q is 1"):
        combine.locate(kept[0][None], numpy.zeros(1, "u8"), 1)
    with pytest.raises(ValueError, match="position is -1"):
        combine.locate(kept[0][None], numpy.zeros(1, "u8"), -1)
