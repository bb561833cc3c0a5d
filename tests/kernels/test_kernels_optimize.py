"""Optimizer steps against their numpy twins."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import optimize

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
PLAIN, HEAVY, NESTEROV = (0.0, 0.0, 1.0, 0.0), (0.9, 1.0, 0.0, 1.0), (0.9, 1.0, 1.0, 0.9)
LENGTH = st.sampled_from([0, 1, 7, 64, 1000, 3001])


def arrays(seed, length, dtype, count):
    """count arrays of normal numbers, twice."""
    first = [array.astype(dtype) for array in numpy.random.default_rng(seed).normal(size=(count, length))]
    return first, [array.copy() for array in first]


def compare(kernel, twin, mine, theirs, dtype, *arguments):
    """Both change the same arrays in the same way and return the same squared norm."""
    norm = kernel(*mine, *arguments)
    assert norm == pytest.approx(twin(*theirs, *arguments), rel=TOLERANCE[dtype], abs=TOLERANCE[dtype])
    for actual, expected in zip(mine, theirs, strict=True):
        numpy.testing.assert_allclose(actual, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("coefficients", [PLAIN, HEAVY, NESTEROV, (0.5, 0.25, 0.75, 0.9)])
@given(length=LENGTH, clear=st.booleans(), seed=st.integers(0, 99))
def test_sgd(dtype, coefficients, length, clear, seed):
    mine, theirs = arrays(seed, length, dtype, 3)
    if coefficients == PLAIN:
        mine[1] = theirs[1] = numpy.empty(0, dtype)
    compare(optimize.sgd_step, reference.sgd_step, mine, theirs, dtype, 0.25, 0.1, *coefficients, clear)
    assert clear is False or not mine[2].any()


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=LENGTH, seed=st.integers(0, 99))
def test_the_heavy_balls_bits_are_those_of_its_formula(dtype, length, seed):
    (theta, velocity, gradient), (other, speed, same) = arrays(seed, length, dtype, 3)
    optimize.sgd_step(theta, velocity, gradient, 0.3, 0.1, *HEAVY, False)
    scale, rate, momentum = (numpy.dtype(dtype).type(number) for number in (0.3, 0.1, 0.9))
    speed[:] = momentum * speed + scale * same
    numpy.testing.assert_array_equal(velocity, speed)
    numpy.testing.assert_array_equal(theta, other - rate * speed)


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=LENGTH, seed=st.integers(0, 99), share=st.floats(0, 1))
def test_an_average_moves_by_a_share_and_stays_where_theta_does(dtype, length, seed, share):
    (mine, theta), (theirs, _) = arrays(seed, length, dtype, 2)
    optimize.average(mine, theta, share)
    reference.average(theirs, theta, numpy.dtype(dtype).type(share))
    numpy.testing.assert_array_equal(mine, theirs)
    optimize.average(theirs, mine, share)
    numpy.testing.assert_array_equal(theirs, mine)
    with pytest.raises(ValueError, match="arrays do not fit average"):
        optimize.average(numpy.zeros(3), numpy.zeros(4), share)


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=LENGTH, seed=st.integers(0, 99))
def test_the_bits_of_a_look_ahead_are_those_of_its_formula(dtype, length, seed):
    (point, theta, residual), _ = arrays(seed, length, dtype, 3)
    optimize.look_ahead(point, theta, residual, 0.3)
    numpy.testing.assert_array_equal(point, theta - numpy.dtype(dtype).type(0.3) * residual)
    with pytest.raises(ValueError, match="arrays do not fit look_ahead"):
        optimize.look_ahead(numpy.zeros(3), numpy.zeros(3), numpy.zeros(4), 0.3)


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=LENGTH, clear=st.booleans(), seed=st.integers(0, 99), t=st.integers(1, 10_000))
def test_adam(dtype, length, clear, seed, t):
    mine, theirs = arrays(seed, length, dtype, 4)
    numpy.abs(mine[2], out=mine[2])
    numpy.abs(theirs[2], out=theirs[2])
    options = (0.25, 1e-2, 0.9, 0.999, 1e-8, t, clear)
    compare(optimize.adam_step, reference.adam_step, mine, theirs, dtype, *options)
    assert clear is False or not mine[3].any()


def test_adams_first_step_is_the_rate_whatever_the_gradient():
    theta, gradient = numpy.zeros(3), numpy.array([1e-3, -5.0, 1e6])
    optimize.adam_step(theta, numpy.zeros(3), numpy.zeros(3), gradient, 1.0, 0.1, 0.9, 0.999, 1e-12, 1, False)
    numpy.testing.assert_allclose(theta, [-0.1, 0.1, -0.1], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@given(length=LENGTH, seed=st.integers(0, 99), share=st.sampled_from([0.01, 0.5, 1.0]))
def test_schedule_free(dtype, length, seed, share):
    mine, theirs = arrays(seed, length, dtype, 3)
    step = optimize.schedule_free_step, reference.schedule_free_step
    compare(*step, mine, theirs, dtype, 0.3, share, 0.9)


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    length=LENGTH,
    block=st.sampled_from([1, 5, 64, 300, 1500]),
    blocks=st.lists(st.integers(-1, 12), max_size=6),
    seed=st.integers(0, 99),
)
def test_sgd_of_touched_blocks(dtype, length, block, blocks, seed):
    """Duplicates count once, blocks outside not at all, the other blocks stay as they are."""
    mine, theirs = arrays(seed, length, dtype, 2)
    touched = numpy.array(blocks, numpy.int32)
    touched.flags.writeable = False
    compare(optimize.sgd_blocks, reference.sgd_blocks, mine, theirs, dtype, touched, block, 0.3)


def test_a_step_over_all_blocks_is_a_step():
    (theta, gradient), (other, same) = arrays(1, 3001, "float64", 2)
    norm = optimize.sgd_step(theta, numpy.empty(0), gradient, 0.5, 0.2, *PLAIN, True)
    blocks = numpy.arange(7, dtype="i4")
    assert optimize.sgd_blocks(other, same, blocks, 450, 0.5 * 0.2) == pytest.approx(norm, rel=1e-12)
    numpy.testing.assert_array_equal(theta, other)
    assert not same.any()


def test_refuses_what_does_not_fit():
    x, y = numpy.ones(4), numpy.ones(5)
    with pytest.raises(ValueError, match="arrays do not fit sgd_step"):
        optimize.sgd_step(x, x, y, 1.0, 1.0, *HEAVY, False)
    with pytest.raises(ValueError, match="V is 5"):
        optimize.sgd_step(x, y, x, 1.0, 1.0, *HEAVY, False)
    with pytest.raises(ValueError, match=r"decay is 0\.9, gain is 1\.0, own is 0\.0, keep is 1\.0"):
        optimize.sgd_step(x, numpy.empty(0), x, 1.0, 1.0, *HEAVY, False)
    with pytest.raises(ValueError, match="arrays do not fit adam_step"):
        optimize.adam_step(x, x, y, x, 1.0, 1.0, 0.9, 0.9, 1e-8, 1, False)
    with pytest.raises(ValueError, match="t is 0"):
        optimize.adam_step(x, x, x, x, 1.0, 1.0, 0.9, 0.9, 1e-8, 0, False)
    with pytest.raises(ValueError, match="arrays do not fit sgd_blocks"):
        optimize.sgd_blocks(x, y, numpy.zeros(1, "i4"), 2, 1.0)
