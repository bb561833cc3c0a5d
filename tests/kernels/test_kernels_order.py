"""middle_mean against its numpy twin."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_combine import located
from test_kernels_encode import DTYPES, TOLERANCE, read_only

from pdcode.kernels import order


def middle_mean(payloads, low, high, out):
    """Call the kernel for payloads, with room."""
    order.middle_mean(located(payloads), low, high, out, numpy.empty((len(payloads), order.TILE), out.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@given(payloads=st.integers(1, 70), length=st.integers(1, 600), seed=st.integers(0, 2**32), data=st.data())
def test_equals_its_twin(dtype, payloads, length, seed, data):
    low = data.draw(st.integers(0, payloads - 1))
    high = data.draw(st.integers(low + 1, payloads))
    random = numpy.random.default_rng(seed)
    kept = [read_only(random.normal(size=length + 3).astype(dtype)) for _ in range(payloads)]
    out = numpy.full(length + 2, 7, dtype)
    middle_mean(kept, low, high, out[:length])
    expected = numpy.empty(length, dtype)
    reference.middle_mean(kept, low, high, expected)
    numpy.testing.assert_allclose(out[:length], expected, atol=10 * TOLERANCE[dtype])
    assert (out[length:] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("payloads", range(1, 12))
def test_each_rank_is_exact(dtype, payloads):
    """Of numbers of all sizes and both signs, some of them equal; zeros, too."""
    limits = numpy.finfo(dtype)
    some = [limits.min, -1, -limits.tiny, -limits.smallest_subnormal, -0.0, 0.0, 1, 1, limits.max]
    kept = list(numpy.random.default_rng(2).choice(numpy.array(some, dtype), (payloads, 777)))
    out, ranked = numpy.empty(777, dtype), numpy.sort(kept, axis=0)
    for rank in range(payloads):
        middle_mean(kept, rank, rank + 1, out)
        numpy.testing.assert_array_equal(out, ranked[rank])


@pytest.mark.parametrize(("low", "high"), [(0, 0), (-1, 1), (2, 4), (2, 1)])
def test_refuses_ranks_that_there_are_not(low, high):
    with pytest.raises(ValueError, match=f"low is {low}, high is {high}, q is 3"):
        middle_mean([numpy.zeros(4)] * 3, low, high, numpy.zeros(4))
    with pytest.raises(ValueError, match="tile is 255"):
        order.middle_mean(located([numpy.zeros(4)]), 0, 1, numpy.zeros(4), numpy.zeros((1, order.TILE - 1)))
