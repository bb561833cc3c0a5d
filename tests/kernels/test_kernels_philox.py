"""Keyed random numbers against numpy.random.Philox."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from pdcode.kernels import philox

WORD = st.integers(0, 2**64 - 1)


@given(WORD, WORD, WORD, WORD, st.integers(0, 19))
def test_raw_numbers_are_those_of_numpy(seed, stream, worker, task, count):
    """With bound 2^63 - 1 or in the 53 bits of a uniform, (nearly) every bit of the raw number shows."""
    for name, bound, dtype in (("uniforms", (), float), ("integers", (2**63 - 1,), numpy.int64)):
        out, expected = numpy.empty(count, dtype), numpy.empty(count, dtype)
        getattr(philox, name)(seed, stream, worker, task, *bound, out)
        getattr(reference, name)(seed, stream, worker, task, *bound, expected)
        numpy.testing.assert_array_equal(out, expected)


@given(WORD, st.integers(1, 2**63 - 1))
def test_integers_stay_below_their_bound(seed, bound):
    out, expected = numpy.empty(9, numpy.int64), numpy.empty(9, numpy.int64)
    philox.integers(seed, 1, 2, 3, bound, out)
    reference.integers(seed, 1, 2, 3, bound, expected)
    numpy.testing.assert_array_equal(out, expected)
    assert out.min() >= 0
    assert out.max() < bound


@given(st.data(), WORD, st.integers(0, 5), st.integers(0, 9), st.integers(0, 4))
def test_many_keys_at_once_are_those_one_by_one(data, seed, m, count, words):
    keys = st.lists(st.integers(0, 2**63 - 10), min_size=m, max_size=m)
    workers, first = (numpy.array(data.draw(keys), numpy.int64) for _ in range(2))
    out, expected = (numpy.full((m, count, words), numpy.nan) for _ in range(2))
    philox.uniforms_of(seed, 2, workers, first, count, words, out)
    reference.uniforms_of(seed, 2, workers, first, count, words, expected)
    numpy.testing.assert_array_equal(out, expected)
    for (i, j), one in numpy.ndenumerate(out[..., 0] if words else numpy.empty((0, 0))):
        single = numpy.empty(1)
        philox.uniforms(seed, 2, int(workers[i]), int(first[i]) + j, single)
        assert single[0] == one


def test_uniforms_are_those_of_numpys_generator():
    out = numpy.empty(1000)
    philox.uniforms(5, 6, 7, 8, out)
    generator = numpy.random.Generator(numpy.random.Philox(key=[5, 6], counter=[0, 0, 7, 8]))
    numpy.testing.assert_array_equal(out, generator.random(1000))


def test_a_shorter_draw_is_the_beginning_of_a_longer_one_and_keys_matter():
    long, short, other = numpy.empty(11), numpy.empty(6), numpy.empty(11)
    philox.uniforms(1, 2, 3, 4, long)
    philox.uniforms(1, 2, 3, 4, short)
    numpy.testing.assert_array_equal(long[:6], short)
    for key in ((0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)):
        philox.uniforms(*key, other)
        assert not (long == other).any()


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="bound is 0"):
        philox.integers(1, 2, 3, 4, 0, numpy.empty(1, numpy.int64))
    with pytest.raises(OverflowError):
        philox.uniforms(-1, 2, 3, 4, numpy.empty(1))
    with pytest.raises(ValueError):
        philox.uniforms(1, 2, 3, 4, numpy.empty(1, numpy.float32))


def test_refuses_keys_and_shapes_that_do_not_fit():
    two, out = numpy.zeros(2, numpy.int64), numpy.empty((2, 3, 1))
    with pytest.raises(ValueError, match="words is 5"):
        philox.uniforms_of(1, 2, two, two, 3, 5, numpy.empty((2, 3, 5)))
    for workers, first, count, words in ((two, two[:1], 3, 1), (two[:1], two[:1], 3, 1), (two, two, 2, 1)):
        with pytest.raises(ValueError, match=r"arrays do not fit uniforms_of\("):
            philox.uniforms_of(1, 2, workers, first, count, words, out)
    for workers, first in ((two - 1, two), (two, two - 1)):
        with pytest.raises(ValueError, match="at least 0"):
            philox.uniforms_of(1, 2, workers, first, 3, 1, out)
