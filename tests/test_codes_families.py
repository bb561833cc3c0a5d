"""The families of codes: what each promises, and refusals that name the nearest possibility."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdcode import codes
from pdcode.codes import binary_field, net
from pdcode.errors import InputError

seeds = st.integers(0, 2**63 - 1)


@st.composite
def nets(draw, whole=True):
    """Parameters of a net: whole partitions, or any number of rows."""
    w = 2 ** draw(st.integers(0, 4))
    k = w * draw(st.integers(1, 20))
    most = min(net.most_partitions(k, w), 6)
    n = draw(st.integers(1, most)) * k if whole else draw(st.integers(1, most * k))
    return n, k, w


def check_rows(code):
    assert code.indices.dtype == np.int32
    assert code.values.dtype == np.float64
    assert code.indices.shape == code.values.shape == (len(code), code.weight)
    assert code.matrix.shape == (len(code), code.blocks)
    np.testing.assert_allclose(np.linalg.norm(code.matrix, axis=1), 1, atol=1e-14)
    np.testing.assert_array_equal(np.count_nonzero(code.matrix, axis=1), code.weight)  # distinct blocks


@settings(deadline=None)
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
    for start in range(0, n, k // w):  # one Hadamard row of each set: every block once
        assert sorted(code.indices[start : start + k // w].ravel()) == list(range(k))


@pytest.mark.parametrize("w", [2, 4, 8, 16])
def test_every_allowed_net_in_a_range(w):
    for k in range(w, 13 * w, w):
        most = net.most_partitions(k, w)
        code = codes.design("net", most * k, k, w)
        assert code.coherence == pytest.approx(1 / w if most > 1 else 0, abs=1e-15)
        assert np.abs(code.matrix.T @ code.matrix - most * np.eye(k)).max() < 1e-13
        with pytest.raises(InputError, match=f"at most {most * k} rows; nearest: {most * k} rows, blocks = "):
            codes.design("net", most * k + 1, k, w)


def test_net_reaches_the_bounds_of_affine_planes():
    assert net.most_partitions(16, 4) == 5  # AG(2, 4), by the field of four elements
    assert net.most_partitions(40, 8) == 1  # m = 5 is less than w
    assert net.most_partitions(56, 4) == 7  # m = 14: as 7·2 = 0 modulo 14
    assert net.most_partitions(44, 4) == 11  # m prime
    assert net.most_partitions(4, 2) * 4 == 2 * 4 * 3 / 2  # the most that flat rows of coherence 1/w can be
    large = codes.design("net", 10_000, 1000, 8)
    assert large.coherence == pytest.approx(0.125, abs=1e-15)  # by the sparse Gram matrix


@pytest.mark.parametrize("degree", range(1, 7))
def test_binary_field(degree):
    elements = np.arange(1 << degree)
    table = binary_field.multiply(elements[:, None], elements, degree)
    np.testing.assert_array_equal(table, table.T)
    np.testing.assert_array_equal(table[1], elements)
    for row in table[1:]:
        assert sorted(row) == list(elements)  # no zero divisors
    a, b, c = np.meshgrid(elements, elements, elements[-3:])
    np.testing.assert_array_equal(table[a, b ^ c], table[a, b] ^ table[a, c])


@settings(deadline=None)
@given(nets(whole=False), seeds)
def test_net_cut_short_says_so(parameters, seed):
    n, k, w = parameters
    code = codes.design("net", n, k, w, seed)
    check_rows(code)
    whole = codes.design("net", -(-n // k) * k, k, w, seed)
    np.testing.assert_array_equal(code.matrix, whole.matrix[:n])
    assert bool(code.notes) == bool(n % k)
    if n % k and w > 1:
        assert code.tightness < 1 - 1e-9
    assert code.coherence <= 1 / w + 1e-15


@settings(deadline=None)
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
    ("arguments", "message"),
    [
        (("net", 8, 12, 3), "weight = 3: not a power of two, as a net needs; nearest: 2 or 4"),
        (
            ("net", 8, 18, 4),
            "not a multiple of the net's weight 4; nearest: blocks = 16 or 20, or weight = 2",
        ),
        (
            ("net", 8, 3),
            "blocks = 3: not a multiple of the net's weight 2; nearest: blocks = 2 or 4, or weight = 1",
        ),
        (("net", 8, 4, 8), "weight = 8: more than the 4 blocks; nearest: 4"),
        (
            ("net", 9, 4, 4),
            "a net of weight 4 over 4 blocks has at most 4 rows; nearest: 4 rows, blocks = 12, or weight = 2",
        ),
        (("repetition", 10, 4), "workers = 10: repetition needs a multiple of 4 blocks; nearest: 8 or 12"),
        (("repetition", 3, 4), "workers = 3: repetition needs a multiple of 4 blocks; nearest: 4"),
        (("repetition", 8, 4, 2), "weight = 2: the repetition code has weight 1"),
        (("pairs", 3, 4), "workers = 3: pairs need a row a block for full rank; nearest: 4"),
        (("pairs", 3, 1), "blocks = 1: pairs need at least 2 blocks"),
        (("random", 3, 4, 5), "weight = 5: more than the 4 blocks; nearest: 4"),
        (("fountain", 3, 4), "family = 'fountain': not one of uncoded"),
        (("net", 0, 4), "workers = 0: not a positive whole number"),
        (("net", 4, 4.0), "blocks = 4.0: not a positive whole number"),
        (("net", 4, 4, 4, -1), "seed = -1: not a whole number"),
    ],
)
def test_impossible_parameters_name_the_nearest(arguments, message):
    with pytest.raises(InputError) as error:
        codes.design(*arguments)
    assert message in str(error.value)


def test_unknown_option():
    with pytest.raises(InputError, match="dither = True: not an option of the pairs code"):
        codes.design("pairs", 8, 4, dither=True)


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


@pytest.mark.parametrize("family", codes.FAMILIES)
@pytest.mark.parametrize("k", [2, 4, 16])
def test_fitting_rows_are_whole(family, k):
    for least in (1, k, k + 1, 3 * k - 1):
        n = codes.fitting_rows(family, least, k)
        assert n >= max(least, k)
        if family == "net" and n > net.most_partitions(k, 2) * k:
            continue
        code = codes.design(family, n, k)
        assert code.notes == ()
        assert family == "random" or code.tightness == pytest.approx(1)


@pytest.mark.parametrize(
    ("n", "k", "w"), [(16, 16, 4), (80, 16, 4), (81, 16, 2), (16, 8, 2), (6, 6, 2), (1, 1, 1)]
)
def test_default_weight_of_nets(n, k, w):
    assert codes.design("net", n, k).weight == w
