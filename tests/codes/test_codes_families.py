"""The simple families: what each promises."""

import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import check_rows

from pdcode import codes
from pdcode.util.errors import InputError

seeds = st.integers(0, 2**63 - 1)


@given(st.integers(1, 40), st.integers(1, 12))
def test_uncoded_and_repetition(n, k):
    code = codes.design("uncoded", n, k)
    check_rows(code)
    np.testing.assert_array_equal(code.matrix, np.eye(k)[np.arange(n) % k])
    assert code.coherence == (1 if n > k else 0)
    repeated = codes.design("repetition", n * k, k)
    assert repeated.tightness == 1
    assert repeated.frame_bounds == (n, n)


@given(st.integers(2, 24), st.data(), seeds)
def test_pairs_have_full_rank(k, data, seed):
    n = data.draw(st.integers(k, 4 * k))
    code = codes.design("pairs", n, k, seed=seed)
    check_rows(code)
    assert code.weight == 2
    determinant = np.linalg.det(code.matrix[:k])
    assert abs(determinant) == pytest.approx(2 / math.sqrt(2) ** k)
    assert code.frame_bounds[0] > 0
    assert bool(code.notes) == bool(n % (2 * k))
    if n % (2 * k) == 0:
        np.testing.assert_allclose(code.matrix.T @ code.matrix, n / k * np.eye(k), atol=1e-14)
    if k > 2 and n <= 2 * k:
        assert code.coherence == pytest.approx(0.5)


@given(st.integers(1, 60), st.integers(1, 24), st.data(), seeds)
def test_random_is_sparse_rademacher(n, k, data, seed):
    w = data.draw(st.integers(1, k))
    code = codes.design("random", n, k, w, seed)
    check_rows(code)
    np.testing.assert_allclose(np.abs(code.values), w**-0.5, rtol=1e-15)
    np.testing.assert_array_equal(code.matrix, codes.design("random", n, k, w, seed).matrix)
    if n * w > 60:
        assert (code.matrix != codes.design("random", n, k, w, seed ^ 1).matrix).any()


def test_random_supports_are_uniform():
    code = codes.design("random", 60_000, 6, 3, seed=5)
    supports, counts = np.unique(np.sort(code.indices, axis=1), axis=0, return_counts=True)
    assert len(supports) == 20
    assert np.abs(counts / 3000 - 1).max() < 0.1  # five standard deviations
    assert abs(np.sign(code.values).mean()) < 0.02


@given(st.integers(1, 40), st.integers(1, 24), st.data(), seeds)
def test_random_gaussian(n, k, data, seed):
    w = data.draw(st.integers(1, k))
    code = codes.design("random", n, k, w, seed, entries="gaussian")
    check_rows(code)
    np.testing.assert_array_equal(code.indices, codes.design("random", n, k, w, seed).indices)
    np.testing.assert_array_equal(
        code.values, codes.design("random", n, k, w, seed, entries="gaussian").values
    )


def test_random_gaussian_directions_are_isotropic():
    values = codes.design("random", 40_000, 3, 3, seed=2, entries="gaussian").matrix
    moments = values.T @ values / len(values)
    np.testing.assert_allclose(moments, np.eye(3) / 3, atol=0.01)
    assert (values**4).mean() == pytest.approx(3 / 15, abs=0.005)  # 3/(k(k+2)) on the sphere
    with pytest.raises(InputError, match="entries: expected one of rademacher, gaussian"):
        codes.design("random", 4, 4, entries="uniform")


@pytest.mark.parametrize("kind", ["random", "circulant"])
@given(st.integers(3, 24), st.data(), seeds)
def test_graph_has_signed_edges_of_a_regular_graph(kind, k, data, seed):
    degree = data.draw(st.sampled_from([d for d in range(2, k) if d * k % 2 == 0]))
    code = codes.design("graph", k * degree, k, seed=seed, degree=degree, kind=kind)
    check_rows(code)
    assert code.coherence == pytest.approx(0.5)
    np.testing.assert_allclose(code.matrix.T @ code.matrix, degree * np.eye(k), atol=1e-12)
    edges = np.sort(code.indices[: len(code) // 2], axis=1)
    assert len(np.unique(edges, axis=0)) == len(edges)  # simple
    np.testing.assert_array_equal(np.bincount(edges.ravel()), degree)  # regular
    n = data.draw(st.integers(k, k * degree))
    part = codes.design("graph", n, k, seed=seed, degree=degree, kind=kind)
    np.testing.assert_array_equal(part.matrix, code.matrix[:n])
    assert part.frame_bounds[0] > 0
    default = codes.design("graph", n, k, seed=seed, kind=kind)
    assert default.frame_bounds[0] > 0
    assert len(default) == n


def test_random_graphs_depend_on_the_seed_and_refuse_degrees():
    first, second = (codes.design("graph", 60, 30, seed=seed).indices for seed in (1, 2))
    assert (first != second).any()
    with pytest.raises(InputError, match="degree = 3: no regular graph on 7 blocks has it; nearest: 2 or 4"):
        codes.design("graph", 7, 7, degree=3)
    with pytest.raises(InputError, match="at most 14 rows"):
        codes.design("graph", 15, 7, degree=2)
    with pytest.raises(InputError, match="kind: expected one of random, circulant"):
        codes.design("graph", 10, 10, kind="petersen")


def test_late_families_get_their_options(monkeypatch):
    seen = {}

    def optimized(rows, blocks, weight, seed, **options):
        seen.update(options, size=(rows, blocks, weight, seed))
        return np.arange(rows)[:, None] % blocks, np.ones((rows, 1))

    module = types.SimpleNamespace(optimized=optimized)
    monkeypatch.setitem(sys.modules, "pdcode_packings.search", module)
    code = codes.design("optimized", 3, 3, seed=4, restarts=2, supports=np.eye(2, dtype=int))
    assert seen["size"] == (3, 3, 3, 4)
    assert seen["restarts"] == 2
    assert code.options == {"restarts": 2, "supports": [[1, 0], [0, 1]]}  # as JSON has it
    with pytest.raises(InputError, match="steps = 5: not an option of the optimized code"):
        codes.design("optimized", 3, 3, steps=5)


@given(st.integers(1, 80), st.integers(1, 40), st.data())
def test_balanced_random_codes_take_blocks_equally_often(rows, blocks, data):
    weight = data.draw(st.integers(1, blocks))
    code = codes.design("random", rows, blocks, weight, seed=3, balanced=True)
    counts = np.bincount(code.indices.ravel(), minlength=blocks)
    assert counts.max() - counts.min() <= 1
    assert all(len(set(row)) == weight for row in code.indices.tolist())
    assert codes.design("random", rows, blocks, weight, seed=3, balanced=True).options == {"balanced": True}
