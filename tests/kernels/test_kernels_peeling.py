"""The peeling graph and its payload arithmetic against a brute-force peeler."""

from __future__ import annotations

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from matrices import sparse_matrices
from pdcode.kernels.peeling import Peeling
from test_kernels_encode import DTYPES

from pdcode.kernels import combine
from pdcode.problems import sparse_codewords


@pytest.mark.parametrize("dtype", DTYPES)
@given(words=sparse_matrices(), together=st.integers(1, 4))
def test_releases_what_a_brute_force_peeler_does(dtype, words, together):
    q, k = words.shape
    graph, known = Peeling(k, 1), set()
    for start in range(0, q, together):
        graph.add_sparse(*sparse_codewords(words[start : start + together], dtype))
        prefix = words[: start + together]
        expected = {block for _, block in reference.peel(prefix)}
        assert graph.released == len(expected)
        assert set(graph.schedule[:, 1].tolist()) == expected
        numpy.testing.assert_array_equal(
            graph.unknown, [len(set(numpy.flatnonzero(word)) - expected) for word in prefix]
        )
    numpy.testing.assert_array_equal(graph.codewords(), words)
    for word, block in graph.schedule.tolist():  # each release needs what was released before, alone
        assert set(numpy.flatnonzero(words[word])) - known == {block}
        known.add(block)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("elements", [1, 7, 4096, 9000])
def test_executes_the_schedule_from_where_it_stopped(dtype, elements):
    random = numpy.random.default_rng(elements)
    words = numpy.array([[1, -1, 0, 0], [0, 1, 2, 0], [0, 0, 0.5, 0], [0, 0, 0, 0], [1, 1, 1, 1.0]])
    truth = random.normal(size=(4, elements))
    payloads = (words @ truth).astype(dtype)
    payloads.flags.writeable = False
    addresses = numpy.zeros(5, numpy.uint64)
    combine.locate(payloads, addresses, 0)
    graph, blocks = Peeling(4, 8), numpy.full((4, elements), 9, dtype)
    for row, (released, done) in enumerate([(0, 0), (0, 0), (3, 0), (0, 3), (1, 3)]):
        assert graph.add_sparse(*sparse_codewords(words[row], dtype)) == released
        graph.release(done, addresses[: row + 1], blocks)
        if row == 2:
            assert (blocks[3] == 9).all()
    numpy.testing.assert_allclose(blocks, truth, atol=1e-5 if dtype == "float32" else 1e-13)


def test_repeated_blocks_add_up_and_cancelled_ones_are_not_there():
    graph = Peeling(3, 4)
    indices = numpy.array([[0, 1, 1], [2, 0, 2]], numpy.int32)
    assert graph.add_sparse(indices, numpy.array([[1.0, 2, -2], [1, 0, 4]])) == 2
    numpy.testing.assert_array_equal(graph.codewords(), [[1, 0, 0], [0, 0, 5]])
    assert graph.add_sparse(indices[:1, ::-1].copy(), numpy.array([[3.0, 1, 1]])) == 1
    graph.reset()
    assert (graph.count, graph.released, len(graph.schedule)) == (0, 0, 0)


def test_refuses_what_does_not_fit():
    graph = Peeling(3, 1)
    with pytest.raises(ValueError, match="weight for block 3: blocks are 0 to 2"):
        graph.add_sparse(numpy.array([[0, 3]], "i4"), numpy.ones((1, 2)))
    with pytest.raises(ValueError, match="weight for block -1"):
        graph.add_sparse(numpy.array([[0, -1]], "i4"), numpy.ones((1, 2), "f4"))
    with pytest.raises(ValueError, match="same shape"):
        graph.add_sparse(numpy.zeros((1, 2), "i4"), numpy.ones((1, 3)))
    assert graph.count == 0
    with pytest.raises(ValueError, match="address for each codeword"):
        graph.release(0, numpy.zeros(1, "u8"), numpy.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 1"):
        Peeling(0, 1)
