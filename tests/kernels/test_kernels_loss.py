"""Losses and their deltas against numpy twins and finite differences."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import loss

DTYPES = ["float32", "float64"]
NAMES = ["softmax_loss", "logistic_loss", "squared_loss", "poisson_loss"]


def batch(name, samples, columns, dtype, seed):
    """Scores (B, C) and labels or targets, read-only."""
    random = numpy.random.default_rng(seed)
    columns = 1 if name == "logistic_loss" else columns
    scores = (4 * random.normal(size=(samples, columns))).astype(dtype)
    classes = 2 if name == "logistic_loss" else columns
    labels = random.integers(classes, size=samples).astype(numpy.int32)
    target = labels
    if name in ("squared_loss", "poisson_loss"):
        target = random.normal(size=scores.shape).astype(dtype)
    if name == "poisson_loss":
        target = numpy.maximum(numpy.rint(3 * target), 0)
    scores.flags.writeable = target.flags.writeable = False
    return scores, target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@given(samples=st.integers(1, 40), columns=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_equals_its_twin_also_in_place(dtype, name, samples, columns, seed):
    scores, target = batch(name, samples, columns, dtype, seed)
    epsilon = 8 * float(numpy.finfo(dtype).eps)
    delta, expected, in_place = numpy.empty_like(scores), numpy.empty_like(scores), scores.copy()
    value = getattr(reference, name)(scores.astype("f8"), target, expected, 3.0)
    kernel = getattr(loss, name)
    near = pytest.approx(value, rel=4 * epsilon, abs=epsilon)  # of terms that may cancel
    assert kernel(scores, target, delta, 3.0) == near
    numpy.testing.assert_allclose(delta, expected, rtol=2 * epsilon, atol=2 * epsilon)
    assert kernel(in_place, target, in_place, 3.0) == near
    numpy.testing.assert_array_equal(in_place, delta)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [1, 10, 3000])
def test_chunks_of_large_batches(name, columns):
    scores, target = batch(name, 600 if columns < 3000 else 3, columns, "float64", 0)
    delta, expected = numpy.empty_like(scores), numpy.empty_like(scores)
    value = getattr(loss, name)(scores, target, delta, 1.0)
    assert value == pytest.approx(getattr(reference, name)(scores, target, expected, 1.0), rel=1e-13)
    numpy.testing.assert_allclose(delta, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_delta_is_the_slope_of_the_loss(name):
    scores, target = batch(name, 4, 5, "float64", 1)
    delta, slope, unused = (numpy.empty_like(scores) for _ in range(3))
    kernel, step = getattr(loss, name), 1e-6
    kernel(scores, target, delta, 2.0)
    for place in numpy.ndindex(scores.shape):
        above, below = scores.copy(), scores.copy()
        above[place] += step
        below[place] -= step
        slope[place] = (kernel(above, target, unused, 2.0) - kernel(below, target, unused, 2.0)) / step
    numpy.testing.assert_allclose(delta, slope, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_scores_neither_overflow_nor_vanish(dtype):
    scores, labels = numpy.array([[1e4, -1e4], [-1e4, 1e4]], dtype), numpy.array([0, 0], "i4")
    delta = numpy.empty_like(scores)
    assert loss.softmax_loss(scores, labels, delta, 2.0) == pytest.approx(1e4)
    numpy.testing.assert_array_equal(delta, [[0, 0], [-1, 1]])
    scores, delta = numpy.array([[1e4], [-1e4]], dtype), numpy.empty((2, 1), dtype)
    assert loss.logistic_loss(scores, labels, delta, 2.0) == pytest.approx(5e3)
    numpy.testing.assert_array_equal(delta, [[1], [0]])
    scores, targets = numpy.array([[1e4], [-1e4]], dtype), numpy.array([[5], [3]], dtype)
    value, largest = loss.poisson_loss(scores, targets, delta, 2.0), numpy.exp(80)
    assert value == pytest.approx(0.5 * largest * (1 + 1e4 - 80))
    numpy.testing.assert_allclose(delta, [[largest], [-3]], rtol=8 * numpy.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_is_within_two_ulp(dtype):
    """The smaller chance of softmax (0, -x): it shows the error of exp, beside that of a division."""
    x = numpy.linspace(0, 80 if dtype == "float32" else 700, 20_001)[1:].astype(dtype)
    scores, delta = numpy.zeros((len(x), 2), dtype), numpy.empty((len(x), 2), dtype)
    scores[:, 1] = -x
    loss.softmax_loss(scores, numpy.zeros(len(x), "i4"), delta, float(len(x)))
    small = numpy.exp(-x.astype(numpy.longdouble))
    exact = small / (1 + small)
    assert float((abs(delta[:, 1] - exact) / numpy.spacing(exact.astype(dtype))).max()) < 3.5


@pytest.mark.parametrize("name", ["softmax_loss", "logistic_loss"])
def test_refuses_what_does_not_fit(name):
    kernel, scores = getattr(loss, name), numpy.ones((2, 1))
    with pytest.raises(ValueError, match="B is 0"):
        kernel(numpy.ones((0, 1)), numpy.zeros(0, "i4"), numpy.ones((0, 1)), 1.0)
    with pytest.raises(ValueError, match="label 2 of sample 1"):
        kernel(scores, numpy.array([0, 2], "i4"), scores, 1.0)
    with pytest.raises(ValueError, match="label -1 of sample 0"):
        kernel(scores, numpy.array([-1, 0], "i4"), scores, 1.0)
    with pytest.raises(ValueError, match=f"arrays do not fit {name}"):
        kernel(scores, numpy.zeros(3, "i4"), scores, 1.0)
    with pytest.raises(ValueError, match=f"arrays do not fit {name}"):
        kernel(scores, numpy.zeros(2, "i4"), numpy.ones((2, 2)), 1.0)


@pytest.mark.parametrize("name", ["squared_loss", "poisson_loss"])
def test_losses_of_real_targets_refuse_what_does_not_fit(name):
    kernel = getattr(loss, name)
    with pytest.raises(ValueError, match="B is 0"):
        kernel(numpy.ones((0, 2)), numpy.ones((0, 2)), numpy.ones((0, 2)), 1.0)
    with pytest.raises(ValueError, match=f"arrays do not fit {name}"):
        kernel(numpy.ones((2, 2)), numpy.ones((2, 1)), numpy.ones((2, 2)), 1.0)
