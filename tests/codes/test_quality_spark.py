"""Spark: exact where all sets can be tried, else enclosed, with a dependent set as a witness."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes


def brute(rows):
    """Least number of dependent rows, n + 1 if there are none."""
    for size in range(1, len(rows) + 1):
        for chosen in combinations(range(len(rows)), size):
            if np.linalg.matrix_rank(rows[list(chosen)]) < size:
                return size
    return len(rows) + 1


def coherence(rows):
    gram = np.abs(rows @ rows.T)
    np.fill_diagonal(gram, 0)
    return float(gram.max(initial=0))


def check(rows, found):
    """The witness is dependent, and no smaller part of it is."""
    if not len(found.rows):
        assert np.linalg.matrix_rank(rows) == len(rows)
        assert found.lower == found.upper == len(rows) + 1
        return
    assert len(set(found.rows.tolist())) == len(found.rows) == found.upper
    assert np.linalg.matrix_rank(rows[found.rows]) < found.upper
    assert 2 <= found.lower <= found.upper <= rows.shape[1] + 1


@given(st.integers(1, 10), st.integers(2, 6), st.integers(0, 2**32))
def test_small_codes_exactly(n, k, seed):
    random = np.random.default_rng(seed)
    rows = random.integers(-1, 2, size=(n, k)).astype(float)
    rows[~rows.any(axis=1), 0] = 1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = codes.spark(rows, coherence(rows))
    check(rows, found)
    assert found.exact
    assert found.upper == brute(rows)


@pytest.mark.parametrize(
    ("family", "n", "k", "w", "spark"),
    [
        ("repetition", 32, 16, 1, 2),
        ("uncoded", 8, 8, 1, 9),
        ("pairs", 16, 8, 2, 4),  # both signs of two edges that meet
        ("steiner", 16, 6, 3, 4),  # a simplex of r₀ + 1 rows on r₀ blocks
        ("steiner", 64, 28, 7, 8),
        ("haar-simplex", 8, 7, 3, 8),
        ("icosahedron", 6, 3, 2, 4),
        ("net", 16, 8, 2, 4),
    ],
)
def test_known_sparks(family, n, k, w, spark):
    code = codes.design(family, n, k, w)
    found = codes.spark(code, code.coherence)
    check(code.matrix, found)
    assert (found.lower, found.upper) == (spark, spark)


@pytest.mark.parametrize(
    ("family", "n", "k", "w"), [("net", 128, 64, 8), ("random", 200, 64, 4), ("net", 96, 48, 4)]
)
def test_larger_codes_are_enclosed(family, n, k, w):
    code = codes.design(family, n, k, w)
    found = codes.spark(code, code.coherence, work=10**6)
    check(code.matrix, found)
    assert found.lower >= np.ceil(1 + 1 / code.coherence - 1e-9)
    assert found.upper <= (2 * w if family == "net" else k // 3)
    assert " to " in str(found) or found.exact
    again = codes.spark(code, code.coherence, work=10**6)
    np.testing.assert_array_equal(found.rows, again.rows)


def test_generic_rows_have_full_spark():
    code = codes.design("random", 12, 6, 6, entries="gaussian")
    found = codes.spark(code, code.coherence)
    assert (found.lower, found.upper, found.reason) == (7, 7, "search")
    assert str(found) == "7, exact"
    few = codes.design("random", 5, 6, 6, entries="gaussian")
    assert str(codes.spark(few, few.coherence)) == "all 5 rows are independent"
