"""Nets: exact coherence and tightness for every weight, whatever the ring, and the order of their rows."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import check_rows

from pdcode import codes
from pdcode.codes.constructions import partitions, weighing
from pdcode.util.errors import InputError

seeds = st.integers(0, 2**63 - 1)


@st.composite
def nets(draw, whole=True):
    """Parameters of a net: whole partitions, or any number of rows."""
    w = draw(st.integers(1, 16))
    k = weighing.order(w) * draw(st.integers(1, 20 if w < 8 else 5))
    most = min(partitions.max_partitions(k, weighing.order(w)), 6)
    n = draw(st.integers(1, most)) * k if whole else draw(st.integers(1, most * k))
    return n, k, w


@given(nets(), seeds, st.booleans())
def test_net_is_tight_with_coherence_one_over_w(parameters, seed, dither):
    n, k, w = parameters
    code = codes.design("net", n, k, w, seed, dither=dither)
    check_rows(code)
    np.testing.assert_allclose(code.matrix.T @ code.matrix, n / k * np.eye(k), atol=1e-13)
    assert code.coherence == pytest.approx(1 / w if n > k else 0, abs=1e-15)
    assert code.tightness == pytest.approx(1, abs=1e-12)
    assert code.notes == ()
    for start in range(0, n, k):
        basis = code.matrix[start : start + k]
        np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=1e-13)
    size = weighing.order(w)
    for start in range(0, n, k // size):  # one row of each set: blocks once at the most
        touched = np.sort(code.indices[start : start + k // size].ravel())
        assert (np.diff(touched) > 0).all()
        assert size != w or len(touched) == k


@given(st.integers(2, 9), st.integers(1, 40), st.data())
def test_sets_of_different_partitions_share_one_block_at_the_most(size, m, data):
    k = size * m
    count = data.draw(st.integers(1, min(int(partitions.max_partitions(k, size)), 12)))
    sets = partitions.partitions(k, size, count)
    assert sets.shape == (count, m, size)
    incidence = np.zeros((count * m, k))
    np.put_along_axis(incidence, sets.reshape(-1, size), 1, axis=1)
    np.testing.assert_array_equal(incidence.sum(axis=1), size)
    shared = incidence @ incidence.T
    for partition in range(count):
        own = slice(partition * m, partition * m + m)
        np.testing.assert_array_equal(shared[own, own], size * np.eye(m))
        shared[own, own] = 0
    assert shared.max(initial=0) <= 1


@pytest.mark.parametrize(
    ("k", "size", "most"),
    [
        (16, 4, 5), (64, 4, 21), (256, 4, 85), (64, 8, 9), (49, 7, 8), (81, 9, 10), (81, 3, 40), (125, 5, 31),
        (10, 2, 9), (36, 2, 35), (80, 4, 25), (54, 6, 9),
    ],
)  # fmt: skip
def test_most_partitions_with_affine_spaces_products_and_matchings(k, size, most):
    assert partitions.max_partitions(k, size) == most
    sets = partitions.partitions(k, size, most)
    pairs = {
        tuple(pair)
        for a in range(size)
        for b in range(a)
        for pair in np.sort(sets[..., [a, b]].reshape(-1, 2))
    }
    assert len(pairs) == most * k * (size - 1) // 2  # no two blocks together twice


@pytest.mark.parametrize("w", [2, 4, 8, 16])
def test_every_allowed_net_in_a_range(w):
    for k in range(w, (13 if w < 16 else 7) * w, w):
        most = partitions.max_partitions(k, weighing.order(w))
        code = codes.design("net", most * k, k, w)
        assert code.coherence == pytest.approx(1 / w if most > 1 else 0, abs=1e-15)
        assert np.abs(code.matrix.T @ code.matrix - most * np.eye(k)).max() < 1e-13
        with pytest.raises(InputError, match=f"nearest: workers = {most * k}, blocks"):
            codes.design("net", most * k + 1, k, w)


def test_net_reaches_the_bounds_of_affine_planes():
    assert partitions.max_partitions(16, 4) == 5  # AG(2, 4), by the field of four elements
    assert partitions.max_partitions(40, 8) == 1  # m = 5 is less than w
    assert partitions.max_partitions(56, 4) == 7  # m = 14: as 7·2 = 0 modulo 14
    assert partitions.max_partitions(44, 4) == 11  # m prime
    assert (
        partitions.max_partitions(4, 2) * 4 == 2 * 4 * 3 / 2
    )  # the most that flat rows of coherence 1/w can be
    large = codes.design("net", 10_000, 1000, 8)
    assert large.coherence == pytest.approx(0.125, abs=1e-15)  # by the sparse Gram matrix


@given(nets(whole=False), seeds)
def test_an_incomplete_net_has_a_note(parameters, seed):
    n, k, w = parameters
    code = codes.design("net", n, k, w, seed)
    check_rows(code)
    whole = codes.design("net", -(-n // k) * k, k, w, seed)
    np.testing.assert_array_equal(code.matrix, whole.matrix[:n])
    assert bool(code.notes) == bool(n % k)
    if n % k and w > 1:
        assert code.tightness < 1 - 1e-9
    assert code.coherence <= 1 / w + 1e-15


@given(nets(), seeds, st.integers(0, 1000))
def test_dithered_net_stays_a_net(parameters, seed, epoch):
    n, k, w = parameters
    code = codes.design("net", n, k, w, seed)
    drawn = code.dithered(seed, epoch)
    assert drawn.weight == w
    check_rows(drawn)
    np.testing.assert_allclose(drawn.matrix.T @ drawn.matrix, n / k * np.eye(k), atol=1e-13)
    assert drawn.coherence == pytest.approx(code.coherence, abs=1e-15)
    np.testing.assert_allclose(
        drawn.matrix @ drawn.matrix.T, code.matrix @ code.matrix.T, atol=1e-13
    )  # isometry
    np.testing.assert_array_equal(drawn.matrix, code.dithered(seed, epoch).matrix)
    assert drawn.options["dithered"] == [[seed, epoch]]
    if k > 16:
        assert (drawn.matrix != code.matrix).any()
        assert (drawn.matrix != code.dithered(seed, epoch + 1).matrix).any()


@pytest.mark.parametrize(
    ("n", "k", "w"),
    [(16, 16, 4), (80, 16, 4), (81, 16, 2), (16, 8, 2), (6, 6, 2), (1, 1, 1), (64 * 18, 64, 2), (30, 6, 2)],
)
def test_default_weight_of_nets(n, k, w):
    assert codes.design("net", n, k).weight == w


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        (("net", 80, 16, 4, 7), "25501fd5e14d50af"), (("net", 200, 40, 4, 1), "dc95e75a5b9613d3"),
        (("net", 560, 80, 4, 1), "c94c9b7e3bc8b79b"), (("net", 1088, 64, 4, 3), "826a5af1296bfebe"),
        (("net", 108, 36, 4, 2), "e67d21130451d805"), (("net", 54, 18, 2, 4), "9c5f9e5d2fdec081"),
        (("net", 100, 100, None, 5), "5022aaf8dae8722b"), (("net", 10000, 1000, 8, 0), "f7623c3d2bcbc2eb"),
        (("pairs", 40, 20, None, 3), "480dd163ab324c6e"), (("random", 50, 30, 4, 3), "5d695c5f0d344766"),
    ],
)  # fmt: skip
def test_codes_of_earlier_traces_stay_the_same(size, digest):
    family, n, k, w, seed = size
    code = codes.design(family, n, k, w, seed)
    data = code.indices.astype("<i4").tobytes() + code.values.astype("<f8").tobytes()
    assert hashlib.sha256(data).hexdigest()[:16] == digest
