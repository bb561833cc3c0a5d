"""Factorisation against numpy's pseudoinverse and minimum-norm solutions, after every prefix of codewords."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pdcode.kernels.factor import Factorisation

from pdcode.kernels.reference import pseudoinverse


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
        scale = max(1.0, abs(expected).max(initial=0))
        numpy.testing.assert_allclose(inverse, expected, rtol=0, atol=tolerance * scale)
        solution = numpy.linalg.lstsq(prefix, right[: i + 1], rcond=1e-10)[0]
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


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 7).flatmap(
        lambda k: arrays(numpy.int64, st.tuples(st.integers(1, 12), st.just(k)), elements=st.integers(-3, 3))
    )
)
def test_small_whole_numbers(matrix):
    assert check_prefixes(matrix.astype(float)).rank == exact_rank(matrix)


@settings(max_examples=80, deadline=None)
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
    tracemalloc.start()
    for codeword in codewords:
        factorisation.add(codeword)
        factorisation.pseudoinverse()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 64 * 64 // 4


def test_refuses_what_does_not_fit():
    factorisation = Factorisation(3, 1)
    with pytest.raises(ValueError, match="4 entries"):
        factorisation.add(numpy.ones(4))
    with pytest.raises(ValueError):
        factorisation.add(numpy.ones(3, "f4"))
    factorisation.add(numpy.ones(3))
    with pytest.raises(ValueError, match="capacity"):
        factorisation.add(numpy.ones(3))
    with pytest.raises(ValueError, match="at least 1"):
        Factorisation(0, 1)
