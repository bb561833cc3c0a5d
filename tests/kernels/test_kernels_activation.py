"""Activations against their numpy twins, finite differences and correctly rounded values."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from pdcode.kernels.activation import backward, forward
from test_kernels_encode import DTYPES, read_only

from pdcode.kernels import activation

KINDS = sorted(activation.KINDS)


def values(count, dtype, seed=0, scale=3.0):
    """Normal numbers, read-only, with a few special ones in front."""
    array = scale * numpy.random.default_rng(seed).normal(size=count)
    special = [0.0, -0.0, 1e-30, -1e-30, 0.625, -40.0, 40.0, 1e-3]
    array[: len(special)] = special[:count]
    return array.astype(dtype)


def test_kinds_are_those_of_the_reference():
    assert activation.KINDS == {"relu": reference.RELU, "tanh": reference.TANH, "gelu": reference.GELU}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KINDS)
@given(samples=st.integers(0, 4), units=st.integers(1, 40), gap=st.integers(0, 3), seed=st.integers(0, 99))
def test_equals_its_twin_with_rows_apart(dtype, name, samples, units, gap, seed):
    kind, epsilon = activation.KINDS[name], numpy.finfo(dtype).eps
    z = values(samples * (units + gap), dtype, seed).reshape(samples, units + gap)[:, :units]
    z.flags.writeable = False
    wide = numpy.full((samples, units + 1 + gap), 7, dtype)
    out = wide[:, :units]
    forward(kind, z, out)
    expected = numpy.empty_like(out)
    reference.forward(kind, z, expected)
    numpy.testing.assert_allclose(out, expected, rtol=8 * epsilon, atol=epsilon)
    delta = numpy.random.default_rng(seed).normal(size=(samples, units)).astype(dtype)
    expected = delta.copy()
    reference.backward(kind, z, out, expected)
    out.flags.writeable = False
    backward(kind, z, out, delta)
    numpy.testing.assert_allclose(delta, expected, rtol=8 * epsilon, atol=8 * epsilon)
    assert (wide[:, units:] == 7).all()


def ulps(actual, exact):
    """Largest error of actual, in units of its last place; exact has more digits."""
    return float((abs(actual - exact) / numpy.spacing(abs(exact).astype(actual.dtype))).max())


def test_float_tanh_is_within_two_ulp():
    z = numpy.concatenate([values(200_000, "f4", 1), values(200_000, "f4", 2, 0.3)])
    out = numpy.empty_like(z)
    forward(activation.KINDS["tanh"], z[None], out[None])
    assert ulps(out, numpy.tanh(z.astype("f8"))) < 2


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_double_tanh_is_within_two_ulp(scale):
    """Against long double, which on some machines is a double, itself right to 1 ulp."""
    z = values(200_000, "f8", 3, scale)
    out = numpy.empty_like(z)
    forward(activation.KINDS["tanh"], z[None], out[None])
    assert ulps(out, numpy.tanh(z.astype(numpy.longdouble))) < 2.5


@pytest.mark.parametrize("name", KINDS)
def test_backward_is_the_slope_of_forward(name):
    kind, step = activation.KINDS[name], 1e-6
    z = numpy.random.default_rng(0).normal(size=(5, 9))
    a, above, below, delta = (numpy.empty_like(z) for _ in range(4))
    delta[:] = 2.0
    forward(kind, z, a)
    forward(kind, z + step, above)
    forward(kind, z - step, below)
    backward(kind, z, a, delta)
    numpy.testing.assert_allclose(delta, (above - below) / step, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KINDS)
def test_in_place_and_not_a_number(dtype, name):
    kind = activation.KINDS[name]
    z = values(24, dtype).reshape(2, 12)
    out = numpy.empty_like(z)
    forward(kind, z, out)
    forward(kind, z, z)
    numpy.testing.assert_array_equal(z, out)
    bad = numpy.full((1, 9), numpy.nan, dtype)
    forward(kind, bad, bad)
    assert numpy.isnan(bad).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_at_its_limits(dtype):
    z = numpy.array([[numpy.inf, -numpy.inf, 1e30, -1e30, 0]], dtype)
    forward(activation.KINDS["tanh"], z, z)
    numpy.testing.assert_array_equal(z, [[1, -1, 1, -1, 0]])


def test_refuses_what_does_not_fit():
    z = numpy.ones((2, 4))
    with pytest.raises(ValueError, match="kind is 3"):
        forward(3, z, z)
    with pytest.raises(ValueError, match="kind is -1"):
        backward(-1, z, z, z)
    other = numpy.ones((2, 5))
    for a in (other, numpy.ones((2, 8))[:, ::2], z.astype("f4"), read_only(z.copy())):
        with pytest.raises(ValueError, match=r"arrays do not fit forward\("):
            forward(0, z, a)
    for arrays in ((z, z, other), (other, z, z), (z, z.astype("f4"), z), (z, z, read_only(z.copy()))):
        with pytest.raises(ValueError, match=r"arrays do not fit backward\("):
            backward(0, *arrays)
