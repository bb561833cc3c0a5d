"""all_finite and all_usable against their numpy twins."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_kernels_encode import DTYPES, read_only

from pdcode.kernels import finite


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_equals_its_twin(dtype, data):
    width = 32 if dtype == "float32" else 64
    elements = st.floats(width=width, allow_nan=True, allow_infinity=True)
    values = data.draw(arrays(dtype, st.integers(0, 40), elements=elements))
    assert finite.all_finite(read_only(values)) == reference.all_finite(values)
    assert finite.all_usable(read_only(values)) == reference.all_usable(values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [numpy.nan, -numpy.nan, numpy.inf, -numpy.inf])
@pytest.mark.parametrize("place", [0, 1, 4095, 4096, 9999, 10_000])
def test_one_bad_element_anywhere(dtype, bad, place):
    values = numpy.random.default_rng(0).normal(size=10_001).astype(dtype)
    assert finite.all_finite(values)
    values[place] = bad
    assert not finite.all_finite(values)


@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_smallest_and_every_payload_of_a_nan(dtype):
    limits = numpy.finfo(dtype)
    extremes = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0]
    assert finite.all_finite(numpy.array(extremes, dtype))
    whole = {"float32": "u4", "float64": "u8"}[dtype]
    infinity = numpy.array([numpy.inf], dtype).view(whole)[0]
    for bit in range(limits.nmant):
        nan = numpy.array([infinity | numpy.array(1, whole) << numpy.array(bit, whole)], whole)
        assert not finite.all_finite(nan.view(dtype))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 2.0**60), ("float64", 2.0**480)])
def test_the_limit_of_payloads(dtype, limit, sign):
    at = numpy.array([0, sign * limit], dtype)
    assert not finite.all_usable(at)
    assert finite.all_usable(numpy.nextafter(at, numpy.zeros(2, dtype)))


def test_refuses_what_does_not_fit():
    with pytest.raises((ValueError, TypeError)):
        finite.all_finite(numpy.zeros((2, 2)))
    with pytest.raises(ValueError):
        finite.all_finite(numpy.zeros(4)[::2])
    with pytest.raises((ValueError, TypeError)):
        finite.all_finite(numpy.zeros(4, "i4"))
