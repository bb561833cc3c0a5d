"""Selection of the largest elements: exact, of equal ones the first, whatever the guesses come to."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_kernels_encode import DTYPES, read_only

from pdcode.kernels import selection


def largest(vector, chunk, most, room=None):
    """Indices that the kernel finds, with room for few or many candidates."""
    full, last = divmod(len(vector), chunk)
    out = numpy.full(full * min(most, chunk) + min(most, last), -1, "i4")
    room = 4 * most + 256 if room is None else room
    selection.largest(
        read_only(vector), chunk, most, out, numpy.empty(room, vector.dtype), numpy.empty(room, "i4")
    )
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    length=st.integers(1, 5000), chunk=st.sampled_from([1, 7, 64, 1000, 4096, 9999]),
    most=st.integers(1, 300), levels=st.sampled_from([1, 2, 30, 10**9]), spread=st.sampled_from([0, 3, 40]),
    zeros=st.sampled_from([0, 0.5, 0.99, 1]), room=st.sampled_from([0, 5, 300, 6000]),
    seed=st.integers(0, 2**32),
)  # fmt: skip
def test_the_largest_are_those_of_the_twin(dtype, length, chunk, most, levels, spread, zeros, room, seed):
    random = numpy.random.default_rng(seed)
    vector = random.normal(size=length) * 10.0 ** random.uniform(-spread, 0, size=length)
    vector = numpy.rint(vector * levels) / levels * (random.uniform(size=length) >= zeros)
    vector = vector.astype(dtype)
    numpy.testing.assert_array_equal(
        largest(vector, chunk, most, room), reference.largest(vector, chunk, most)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    vector=arrays.arrays(
        numpy.float64, st.integers(1, 40),
        elements=st.sampled_from([0.0, -0.0, 1, -1, 1e-310, 3e38, numpy.inf, -numpy.inf, numpy.nan]),
    ),
    most=st.integers(1, 40),
)  # fmt: skip
def test_signs_zeros_denormal_and_infinite_numbers(dtype, vector, most):
    """NaN comes before infinity; every NaN is the same one here."""
    vector = vector.astype(dtype)
    numpy.testing.assert_array_equal(largest(vector, 40, most), reference.largest(vector, 40, most))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("most", [1, 10, 999, 50_000, 99_999, 100_000])
def test_long_vectors_that_mislead_a_sample(dtype, most):
    """Sorted, periodic, in blocks, and with all that is not zero in one place."""
    random, length = numpy.random.default_rng(3), 100_000
    normal = random.normal(size=length)
    place = numpy.arange(length)
    for vector in (
        normal, numpy.sort(normal), -numpy.sort(numpy.abs(normal)), numpy.ones(length),
        numpy.where(place % 97 == 0, 100, 1) * normal, numpy.where(place // 1000 % 7 == 3, normal, 0),
        numpy.where(place < 700, normal, 0), numpy.where(place == 77_777, 1, 0), numpy.zeros(length),
    ):  # fmt: skip
        x = vector.astype(dtype)
        numpy.testing.assert_array_equal(largest(x, length, most), reference.largest(x, length, most))


def test_what_does_not_fit_is_refused():
    vector, out = numpy.ones(10, "f4"), numpy.zeros(5, "i4")
    values, places = numpy.empty(9, "f4"), numpy.empty(9, "i4")
    for chunk, most, match in (
        (0, 2, "chunk is 0, most is 2"),
        (4, 0, "chunk is 4, most is 0"),
        (4, 2, "n is 5"),
    ):
        with pytest.raises(ValueError, match=match):
            selection.largest(vector, chunk, most, out, values, places)
    with pytest.raises(ValueError, match="arrays do not fit largest"):
        selection.largest(vector, 5, 2, numpy.zeros(4, "i4"), values, places[1:])


def packed(numbers, bits):
    """Bytes of numbers."""
    out = numpy.full(selection.size(len(numbers), bits), 255, "u1")
    selection.pack(read_only(numbers), bits, out)
    return out


@given(bits=st.integers(0, 31), count=st.integers(0, 3000), seed=st.integers(0, 2**32))
def test_packed_numbers_are_those_of_the_twin_and_come_back(bits, count, seed):
    numbers = numpy.random.default_rng(seed).integers(0, 2**bits, count).astype("i4")
    out, back = packed(numbers, bits), numpy.full(count, -1, "i4")
    numpy.testing.assert_array_equal(out, reference.pack_indices(numbers, bits))
    assert -(-bits * count // 8) <= len(out) <= -(-bits * count // 8) + 3
    selection.unpack(read_only(out), bits, back)
    numpy.testing.assert_array_equal(back, numbers)


def test_sizes_of_indices_by_hand():
    assert selection.size(64, 12) == 96
    assert selection.size(64 * 100, 12) == 9600
    assert selection.size(5, 12) == 5 + 3  # a byte each, and half a byte each
    assert selection.size(5, 15) == 5 + 3 + 2 + 1
    assert selection.size(7, 0) == 0


@given(
    bound=st.integers(1, 400), share=st.floats(0, 1), keys=st.tuples(*[st.integers(0, 2**64 - 1)] * 5)
)  # fmt: skip
def test_samples_are_those_of_the_twin(bound, share, keys):
    out, marks = numpy.full(round(share * bound), -1, "i4"), numpy.zeros(-(-bound // 64), "u8")
    expected = out.copy()
    selection.sample(bound, out, *keys, marks)
    reference.sample(bound, expected, *keys)
    numpy.testing.assert_array_equal(out, expected)
    assert (numpy.diff(out) > 0).all()
    assert not marks.any()


def test_all_sets_are_equally_likely():
    """35 sets of 3 of 7, in 35,000 draws; their chi-square of 34 degrees is below 70 but once in 4,000."""
    counts, out, marks = {}, numpy.empty(3, "i4"), numpy.zeros(1, "u8")
    for task in range(35_000):
        selection.sample(7, out, 1, 2, 3, task, 0, marks)
        counts[tuple(out)] = counts.get(tuple(out), 0) + 1
    assert len(counts) == 35
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 70


def test_indices_and_samples_that_do_not_fit_are_refused():
    numbers, marks = numpy.zeros(6, "i4"), numpy.zeros(1, "u8")
    with pytest.raises(ValueError, match="bytes is 10"):
        selection.pack(numbers, 12, numpy.zeros(10, "u1"))
    with pytest.raises(ValueError, match="bytes is 8"):
        selection.unpack(numpy.zeros(8, "u1"), 12, numbers)
    with pytest.raises(ValueError, match="count is 6, bits is 32"):
        selection.size(6, 32)
    with pytest.raises(ValueError, match="bound is 5, N is 6"):
        selection.sample(5, numbers, 1, 2, 3, 4, 5, marks)
    with pytest.raises(ValueError, match="bound is 65, N is 6, M is 1"):
        selection.sample(65, numbers, 1, 2, 3, 4, 5, marks)
