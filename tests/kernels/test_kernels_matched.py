"""Cutting directions to codewords and keeping them orthonormal, against the numpy twins."""

import numpy
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from test_kernels_encode import DTYPES, TOLERANCE, read_only

from pdcode.kernels import matched

SHAPES = {"m": st.integers(1, 5), "k": st.integers(1, 70), "seed": st.integers(0, 2**32)}


def empty(r, w, dtype):
    return numpy.full((r, w), -1, "i4"), numpy.full((r, w), 7, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(w=st.integers(1, 75), fewer=st.integers(0, 2), **SHAPES)
def test_select_equals_its_twin(dtype, w, fewer, m, k, seed):
    directions = numpy.random.default_rng(seed).normal(size=(m, k)).astype(dtype)
    directions[m // 2] += k  # so that nothing is left of none of them but by chance
    r = max(1, min(m, k) - fewer)
    directions, expected = directions.copy(), directions.astype("float64")
    (indices, values), (support, entries) = empty(r, w, dtype), empty(r, w, "float64")
    matched.select(directions, indices, values)
    reference.matched_select(expected, support, entries)
    if w < k or r == 1:  # dense ones leave nothing but rounding errors after the k-th
        numpy.testing.assert_array_equal(indices, support)
        numpy.testing.assert_allclose(values, entries, atol=1e3 * TOLERANCE[dtype])
        numpy.testing.assert_allclose(directions, expected, atol=1e3 * TOLERANCE[dtype])
    numpy.testing.assert_allclose(numpy.linalg.norm(values, axis=1), 1, atol=TOLERANCE[dtype])
    assert (numpy.diff(indices[:, : min(w, k)], axis=1) > 0).all()
    assert not indices[:, k:].any()
    assert not values[:, k:].any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_equal_entries_those_of_smaller_index_are_kept(dtype):
    directions = numpy.array([[1, -3, 3, 1, -1, 3, 1, 0]], dtype)
    for w, kept in ((2, [1, 2]), (3, [1, 2, 5]), (5, [0, 1, 2, 3, 5]), (7, [0, 1, 2, 3, 4, 5, 6])):
        indices, values = empty(1, w, dtype)
        matched.select(directions.copy(), indices, values)
        assert indices[0].tolist() == kept
        assert numpy.sign(values[0]).tolist() == numpy.sign(directions[0, kept]).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [0, numpy.nan, numpy.inf])
def test_no_direction_gives_block_0(dtype, bad):
    directions = numpy.array([[bad, 0, 0], [0, 2, 1]], dtype)
    indices, values = empty(2, 2, dtype)
    matched.select(directions, indices, values)
    assert (indices[0].tolist(), values[0].tolist()) == ([0, 0], [1, 0])
    assert indices[1].tolist() == [1, 2]
    numpy.testing.assert_allclose(values[1], numpy.array([2, 1]) / numpy.sqrt(5), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_orthonormalise_equals_its_twin(dtype, m, k, seed):
    random = numpy.random.default_rng(seed)
    directions = numpy.eye(min(m, k), k) * 3 + random.normal(size=(min(m, k), k)) / k
    directions = directions.astype(dtype)
    expected = directions.copy()
    matched.orthonormalise(directions, read_only(numpy.full_like(directions, numpy.nan)))
    reference.matched_orthonormalise(expected)
    numpy.testing.assert_allclose(directions, expected, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    k=st.integers(5, 60),
    bad=st.sampled_from(["zero", "nan", "inf", "same", "nearly", "huge", "tiny"]),
    row=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_lost_directions_give_way_to_spare_ones(dtype, k, bad, row, seed):
    """Whatever comes, orthonormal rows leave, and those that were sound keep their span."""
    directions, spare = numpy.random.default_rng(seed).normal(size=(2, 4, k)).astype(dtype)
    before = directions.copy()
    directions[row] = {
        "zero": 0,
        "nan": numpy.nan,
        "inf": numpy.inf,
        "same": before[(row + 1) % 4],
        "nearly": before[(row + 1) % 4] * 3 + before[row] * 1e-5,
        "huge": before[row] * 1e30,
        "tiny": before[row] * 1e-30,
    }[bad]
    matched.orthonormalise(directions, read_only(spare))
    numpy.testing.assert_allclose(directions @ directions.T, numpy.eye(4), atol=10 * TOLERANCE[dtype])
    first = before[1] if row == 0 and bad in ("same", "nearly") else spare[0] if row == 0 else before[0]
    if bad not in ("nearly", "huge", "tiny") or row:
        numpy.testing.assert_allclose(
            directions[0], first / numpy.linalg.norm(first.astype("f8")), atol=10 * TOLERANCE[dtype]
        )


def test_what_does_not_fit_is_refused():
    directions, (indices, values) = numpy.ones((2, 4)), empty(2, 3, "f8")
    for arguments in (
        (directions, indices, values[:1]),
        (directions[:1], indices, values),
        (directions, indices[:, :0], values[:, :0]),
        (directions[:, :0].copy(), indices, values),
        (read_only(directions.copy()), indices, values),
    ):
        with pytest.raises(ValueError):
            matched.select(*arguments)
    with pytest.raises(ValueError, match="arrays do not fit orthonormalise"):
        matched.orthonormalise(directions, directions[:1])
    with pytest.raises(ValueError, match="m is 3, k is 2"):
        matched.orthonormalise(numpy.ones((3, 2)), numpy.ones((3, 2)))
