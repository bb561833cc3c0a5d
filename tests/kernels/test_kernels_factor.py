"""Factorisation against numpy's pseudoinverse and minimum-norm solutions, after every prefix of codewords."""

from fractions import Fraction

import numpy
import pytest
from allocations import allocated
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pdcode.kernels.factor import Factorisation
from reference import pseudoinverse

EPSILON = numpy.finfo(float).eps


def exact_rank(rows):
    """Rank of a matrix of whole numbers, by elimination in fractions."""
    rows, rank = [[Fraction(int(x)) for x in row] for row in rows], 0
    for column in range(len(rows[0])):
        pivot = next((i for i in range(rank, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for i in range(rank + 1, len(rows)):
            factor = rows[i][column] / rows[rank][column]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def check_prefixes(codewords, tolerance=1e-10):
    """Pseudoinverse and the solution for inconsistent right sides, after each codeword."""
    count, k = codewords.shape
    factorisation = Factorisation(k, count)
    right = numpy.random.default_rng(0).normal(size=(count, 3))
    for i in range(count):
        before = factorisation.rank
        grew = factorisation.add(codewords[i])
        prefix = codewords[: i + 1]
        assert factorisation.count == i + 1
        assert factorisation.rank == numpy.linalg.matrix_rank(prefix) == before + grew
        inverse = factorisation.pseudoinverse()
        expected = numpy.linalg.pinv(prefix, 1e-10)
        # No algorithm in double precision can promise more than its epsilon times the condition number.
        condition = numpy.linalg.norm(prefix, 2) * numpy.linalg.norm(expected, 2)
        scale = max(1.0, abs(expected).max(initial=0)) * max(1.0, 16 * EPSILON * condition / tolerance)
        numpy.testing.assert_allclose(inverse, expected, rtol=0, atol=tolerance * scale)
        solution = numpy.linalg.lstsq(prefix, right[: i + 1], rcond=1e-10)[0]
        scale = max(scale, abs(solution).max())
        numpy.testing.assert_allclose(inverse @ right[: i + 1], solution, rtol=0, atol=tolerance * scale)
    return factorisation


@pytest.mark.parametrize(("k", "count"), [(1, 4), (2, 1), (7, 20), (16, 16), (32, 80)])
def test_random_codewords(k, count):
    codewords = numpy.random.default_rng(k).normal(size=(count, k))
    check_prefixes(codewords / numpy.linalg.norm(codewords, axis=1, keepdims=True))


@pytest.mark.parametrize("k", [8, 48])
def test_sparse_signed_codewords_with_duplicates(k):
    random = numpy.random.default_rng(k)
    codewords = numpy.zeros((2 * k, k))
    for row in codewords:
        row[random.permutation(k)[:4]] = random.choice([-0.5, 0.5], 4)
    check_prefixes(numpy.concatenate([codewords[:k], codewords[: k // 2], -codewords[k // 2 :]]))


def test_ring_of_differences_never_has_full_rank():
    codewords = (numpy.eye(12) - numpy.roll(numpy.eye(12), 1, axis=1)) / numpy.sqrt(2)
    assert check_prefixes(numpy.tile(codewords, (3, 1))).rank == 11


@given(
    st.integers(1, 7).flatmap(
        lambda k: arrays(numpy.int64, st.tuples(st.integers(1, 12), st.just(k)), elements=st.integers(-3, 3))
    )
)
def test_small_whole_numbers(matrix):
    assert check_prefixes(matrix.astype(float)).rank == exact_rank(matrix)


@given(
    base=arrays(numpy.int64, (3, 5), elements=st.integers(-9, 9)),
    nudges=arrays(numpy.int64, (4, 5), elements=st.integers(-1, 1)),
    mixing=arrays(numpy.int64, (4, 3), elements=st.integers(-3, 3)),
)
def test_nearly_dependent_whole_numbers(base, nudges, mixing):
    """Rows that differ by one part in thousands are told from rows that do not differ, and stay accurate."""
    matrix = numpy.concatenate([1000 * base, 1000 * mixing @ base + nudges, 1000 * base, mixing @ base])
    assert check_prefixes(matrix.astype(float), 1e-8).rank == exact_rank(matrix)


@pytest.mark.parametrize("gap", [1e-2, 1e-3])
def test_nearly_equal_codewords_then_more(gap):
    """A small singular value costs digits only in proportion, and no longer than it lasts."""
    random = numpy.random.default_rng(4)
    first = random.normal(size=(6, 12))
    close, more = first + gap * random.normal(size=(6, 12)), random.normal(size=(20, 12))
    codewords = numpy.concatenate([first, close, more])
    factorisation = check_prefixes(codewords)
    numpy.testing.assert_allclose(factorisation.pseudoinverse(), pseudoinverse(codewords), rtol=0, atol=1e-12)


def test_zero_codewords():
    factorisation = check_prefixes(numpy.array([[0, 0], [1, 0], [0, 0], [1, 1.0]]))
    assert (factorisation.rank, factorisation.count) == (2, 4)


def test_reset_forgets():
    factorisation = Factorisation(3, 4)
    random = numpy.random.default_rng(0)
    for _ in range(3):
        codewords = random.normal(size=(4, 3))
        for codeword in codewords:
            codeword.flags.writeable = False
            factorisation.add(codeword)
        numpy.testing.assert_allclose(factorisation.pseudoinverse(), pseudoinverse(codewords), atol=1e-12)
        factorisation.reset()
        assert (factorisation.rank, factorisation.count) == (0, 0)
        assert factorisation.pseudoinverse().shape == (3, 0)


def test_no_array_is_allocated_after_init():
    factorisation = Factorisation(64, 64)
    codewords = numpy.random.default_rng(0).normal(size=(64, 64))

    def fill() -> None:
        factorisation.reset()
        for codeword in codewords:
            factorisation.add(codeword)
            factorisation.pseudoinverse()

    _, peak = allocated(fill, 1)
    assert peak < 8 * 64 * 64 // 4


def test_grows_when_its_capacity_is_used_up():
    codewords = numpy.random.default_rng(1).normal(size=(23, 5))
    factorisation = Factorisation(5, 1)
    for i, codeword in enumerate(codewords):
        factorisation.add(codeword)
        numpy.testing.assert_allclose(
            factorisation.pseudoinverse(), pseudoinverse(codewords[: i + 1]), atol=1e-11
        )
    numpy.testing.assert_array_equal(factorisation.codewords, codewords)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_codewords_are_scattered(dtype):
    indices = numpy.array([[3, 0, 3], [1, 2, 0], [9, -1, 0]], numpy.int32)
    values = numpy.array([[1, 2, 4], [5, 0, 0], [0, 0, 0]], dtype)
    indices.flags.writeable = values.flags.writeable = False
    factorisation = Factorisation(4, 1)
    factorisation.add_sparse(indices, values)
    expected = [[2, 0, 0, 5], [0, 5, 0, 0], [0, 0, 0, 0]]
    numpy.testing.assert_array_equal(factorisation.codewords, expected)
    assert factorisation.rank == 2
    numpy.testing.assert_allclose(factorisation.pseudoinverse(), pseudoinverse(expected), atol=1e-15)


def test_basis_gives_the_hat_matrix():
    random = numpy.random.default_rng(2)
    codewords = random.normal(size=(9, 4)) @ numpy.diag([1, 1, 1, 0])
    factorisation = check_prefixes(codewords, 1e-9)
    basis = factorisation.basis
    assert basis.shape == (3, 9)
    numpy.testing.assert_allclose(basis @ basis.T, numpy.eye(3), atol=1e-13)
    numpy.testing.assert_allclose(basis.T @ basis, codewords @ pseudoinverse(codewords), atol=1e-12)


@given(st.integers(1, 8), st.integers(1, 15), st.floats(1e-3, 10), st.integers(0, 2**32))
def test_a_prior_makes_it_ridge_regression(k, count, prior, seed):
    codewords = numpy.random.default_rng(seed).normal(size=(count, k))
    factorisation = Factorisation(k, 2, prior)
    for _ in range(2):
        assert (factorisation.rank, factorisation.count) == (k, 0)
        for codeword in codewords:
            assert not factorisation.add(codeword)
        expected = numpy.linalg.solve(codewords.T @ codewords + prior**2 * numpy.eye(k), codewords.T)
        scale = max(1.0, abs(expected).max())
        numpy.testing.assert_allclose(factorisation.pseudoinverse(), expected, atol=1e-8 * scale)
        factorisation.reset()


def test_refuses_what_does_not_fit():
    factorisation = Factorisation(3, 1)
    with pytest.raises(ValueError, match="4 entries"):
        factorisation.add(numpy.ones(4))
    with pytest.raises(ValueError):
        factorisation.add(numpy.ones(3, "f4"))
    with pytest.raises(ValueError, match="at least 1"):
        Factorisation(0, 1)
    with pytest.raises(ValueError, match="prior is -1"):
        Factorisation(3, 1, -1.0)
    with pytest.raises(ValueError, match="weight for block 3: blocks are 0 to 2"):
        factorisation.add_sparse(numpy.array([[0, 3]], "i4"), numpy.ones((1, 2)))
    with pytest.raises(ValueError, match="same shape"):
        factorisation.add_sparse(numpy.zeros((1, 2), "i4"), numpy.ones((1, 3)))
    with pytest.raises(ValueError):
        factorisation.add_sparse(numpy.zeros((1, 2), "i4"), numpy.ones((1, 2), "i4"))
    assert factorisation.count == 0
