"""Arithmetic modulo a prime against its twins in Python's integers; decoding against exhaustive search."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import read_only

from pdcode.kernels import field

M31, M61 = 2**31 - 1, 2**61 - 1
PRIMES = 3, 7, 251, 2**31 - 99, M31, 2**31 + 11, 2**61 - 31, M61


def residues(random, p, *shape):
    """Read-only residues, of which many are the largest: sums come as near to overflow as they can."""
    drawn = random.integers(0, p, shape, numpy.uint64)
    return read_only(numpy.where(random.random(shape) < 0.7, numpy.uint64(p - 1), drawn))


def filled(*shape):
    return numpy.full(shape, 7, numpy.uint64)


@pytest.mark.parametrize("p", PRIMES)
@given(
    rows=st.integers(0, 3), inner=st.integers(0, 600), columns=st.integers(0, 300), seed=st.integers(0, 99)
)
def test_products_equal_their_twin(p, rows, inner, columns, seed):
    random = numpy.random.default_rng(seed)
    a, b, out, expected = (
        residues(random, p, rows, inner),
        residues(random, p, inner, columns),
        *(filled(rows, columns) for _ in range(2)),
    )
    field.product(a, b, p, out)
    reference.field_product(a, b, p, expected)
    numpy.testing.assert_array_equal(out, expected)
    out[:] = 7
    field.product_transposed(a, numpy.ascontiguousarray(b.T), p, out)
    numpy.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("p", PRIMES)
def test_the_largest_residues_do_not_overflow(p):
    a, b = (numpy.full(shape, p - 1, numpy.uint64) for shape in ((2, 5000), (5000, 3)))
    for kernel, right in (field.product, b), (field.product_transposed, numpy.ascontiguousarray(b.T)):
        out = filled(2, 3)
        kernel(a, right, p, out)
        assert (out == 5000 % p).all()  # (-1)² each
    field.multiply(a[0], a[0], p, out := filled(5000))
    assert (out == 1).all()


@pytest.mark.parametrize("p", PRIMES)
@given(count=st.integers(1, 9), rows=st.integers(1, 4), data=st.data())
def test_the_basis_equals_its_twin(p, count, rows, data):
    count = min(count, p)
    numbers = st.integers(0, p - 1)
    points = numpy.array(
        data.draw(st.lists(numbers, min_size=count, max_size=count, unique=True)), numpy.uint64
    )
    targets = numpy.array(
        [*data.draw(st.lists(numbers, min_size=rows, max_size=rows)), points[0]], numpy.uint64
    )
    out, expected = filled(rows + 1, count), filled(rows + 1, count)
    field.basis(read_only(points), read_only(targets), p, out, numpy.empty_like(points))
    reference.field_basis(points, targets, p, expected)
    numpy.testing.assert_array_equal(out, expected)
    assert list(out[-1]) == [1] + [0] * (count - 1)  # at its own point


@pytest.mark.parametrize("p", [11, 251, M31, M61])
@given(
    count=st.integers(1, 8), dimension=st.integers(1, 8), damage=st.integers(0, 4), seed=st.integers(0, 2**32)
)
def test_errors_are_those_of_exhaustive_search(p, count, dimension, damage, seed):
    """Of words at any distance from the code: also of those for which nothing is near enough."""
    dimension, random = min(dimension, count), numpy.random.default_rng(seed)
    points = numpy.sort(random.choice(11, count, replace=False)).astype(numpy.uint64)
    basis, word = filled(count, dimension), filled(count, 1)
    reference.field_basis(points[:dimension], points, p, basis)
    reference.field_product(basis, random.integers(0, p, (dimension, 1), numpy.uint64), p, word)
    for place in random.choice(count, min(damage, count), replace=False):
        word[place] = random.integers(0, p)
    wrong = numpy.full(count, -1, numpy.int64)
    room = numpy.empty(5 * count + 5, numpy.uint64)
    found = field.errors(points, read_only(word[:, 0].copy()), dimension, p, room, wrong)
    expected = reference.field_errors(points, word[:, 0], dimension, p)
    assert (None if found < 0 else wrong[:found].tolist()) == expected


def test_refuses_what_does_not_fit():
    a, vector = filled(2, 3), filled(3)
    for kernel in field.product, field.product_transposed:
        with pytest.raises(ValueError, match="arrays do not fit product"):
            kernel(a, filled(4, 4), 7, a)
    for p in 2, 2**61:
        with pytest.raises(ValueError, match=rf"needs 3 <= p < 1 << 61: p is {p}"):
            field.multiply(vector, vector, p, vector)
    with pytest.raises(ValueError, match=r"dimension is 4, .*n is 3"):
        field.errors(vector, vector, 4, 7, filled(20), numpy.empty(3, numpy.int64))
    with pytest.raises(ValueError, match="s is 19"):
        field.errors(vector, vector, 1, 7, filled(19), numpy.empty(3, numpy.int64))
    with pytest.raises(ValueError, match=r"arrays do not fit basis\("):
        field.basis(vector, vector, 7, a, vector)
