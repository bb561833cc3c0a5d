"""The choice of the best code, and designs cut or filled up to other sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdcode import codes
from pdcode.util.errors import InputError

seeds = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 200), st.integers(1, 48), st.one_of(st.none(), st.integers(1, 60)), seeds)
def test_auto_always_finds_a_code_that_can_be_made_again(n, k, w, seed):
    code = codes.design("auto", n, k, w, seed)
    assert (len(code), code.blocks) == (n, k)
    assert code.weight <= min(w or k, k)
    np.testing.assert_allclose((code.values**2).sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose((code.matrix**2).sum(axis=1), 1, atol=1e-12)
    assert code.family in codes.FAMILIES
    assert code.notes[0] == f"auto: {code.family} of weight {code.weight}"
    again = codes.design(code.family, n, k, code.weight, seed, **code.options)
    np.testing.assert_array_equal(again.indices, code.indices)
    np.testing.assert_array_equal(again.values, code.values)
    assert again.notes == code.notes[1:]
    if n <= k and w is None:
        assert code.coherence <= 1e-12
    elif n > k > 1 and w != 1:
        assert np.linalg.matrix_rank(code.matrix) == k
        assert code.coherence < 1 or n > k * (k - 1)


@pytest.mark.parametrize(
    ("n", "k", "w", "family", "weight"),
    [
        (16, 6, None, "steiner", 3),
        (64, 28, None, "steiner", 7),
        (36, 15, None, "tremain", 8),
        (10, 5, None, "tremain", 4),
        (8, 7, None, "haar-simplex", 3),
        (6, 3, None, "icosahedron", 2),
        (48, 9, None, "simplex-lines", 3),
        (144, 16, None, "kerdock", 16),
        (80, 16, None, "net", 4),
        (128, 64, 4, "net", 4),
        (128, 64, None, "net", 8),
        (10_000, 1000, 8, "net", 8),
        (120, 8, None, "e8", 8),
        (16, 16, None, "net", 4),
        (30, 6, 2, "net", 2),
        (42, 7, 2, "dk", 2),
        (5, 5, 1, "uncoded", 1),
        (9, 1, None, "uncoded", 1),
    ],
)
def test_auto_takes_the_design_that_fits(n, k, w, family, weight):
    code = codes.design("auto", n, k, w)
    assert (code.family, code.weight, code.options) == (family, weight, {})
    assert code.notes == (f"auto: {family} of weight {weight}",)
    if n % k == 0 or family not in ("uncoded",):
        assert code.tightness == pytest.approx(1, abs=1e-12)


def test_auto_says_how_it_fits_a_design():
    cut = codes.design("auto", 14, 6)
    assert cut.family == "steiner"
    assert cut.options == {"whole": [16, 6, 3]}
    assert cut.notes[1] == "random 14 of the 16 rows of steiner (16, 6, 3): not tight"
    assert cut.coherence == pytest.approx(1 / 3)
    narrow = codes.design("auto", 254, 127)
    assert narrow.options["whole"][1] > 127
    assert "without its last" in narrow.notes[1]
    assert narrow.coherence < codes.design("random", 254, 127, narrow.weight).coherence


@pytest.mark.parametrize("size", [(10, 17), (17, 17), (40, 17), (60, 23), (100, 31), (250, 64), (300, 100)])
def test_auto_is_no_worse_than_random_rows(size):
    auto = codes.design("auto", *size, 8)
    rivals = [
        codes.design("random", *size, 8, seed, entries=entries)
        for seed in range(3)
        for entries in ("rademacher", "gaussian")
    ]
    assert auto.coherence <= min(code.coherence for code in rivals) + 1e-12


@pytest.mark.parametrize("family", ["net", "steiner", "hadamard", "random", "kerdock"])
@settings(deadline=None, max_examples=30)
@given(st.integers(1, 70), st.integers(0, 5), seeds)
def test_whole_designs_are_cut_and_filled(family, n, lost, seed):
    size = {"net": [32, 16, 4], "steiner": [28, 7, 3], "hadamard": [24, 12, 12], "kerdock": [32, 16, 16]}
    whole = size.get(family, [20, 9, 3])
    k = whole[1] - min(lost, (whole[1] - 1) // 2)
    code = codes.design(family, n, k, seed=seed, whole=whole)
    assert (len(code), code.blocks) == (n, k)
    assert code.weight == min(whole[2], k)
    assert code.indices.max() < k
    np.testing.assert_allclose((code.matrix**2).sum(axis=1), 1, atol=1e-12)
    base = codes.design(family, *whole, seed)
    if k == whole[1]:
        assert code.coherence <= base.coherence + 1e-12 or n > len(base)
        own = min(n, len(base))
        if family != "steiner" or n >= len(base):
            np.testing.assert_array_equal(code.matrix[:own], base.matrix[:own])
    assert bool(code.notes) == (n != len(base) or k != base.blocks)
    assert code.options["whole"] == whole


def test_net_without_some_blocks_is_nearly_a_net():
    code = codes.design("net", 80, 17, whole=[80, 20, 4])
    assert code.coherence <= 1 / 3 + 1e-12  # rows of 3 entries, in sets that share one block
    assert code.tightness == pytest.approx(0.8)  # 4 rows of 4/4 against 4 of 4/3 a block and partition
    frame = code.matrix.T @ code.matrix
    np.testing.assert_allclose(frame, np.diag(np.diagonal(frame)), atol=1e-12)  # columns stay orthogonal


def test_redraws_are_options_too():
    code = codes.design("net", 32, 16, 4, seed=3).dithered(5, 6).dithered(7, 8)
    again = codes.design("net", 32, 16, 4, seed=3, **code.options)
    np.testing.assert_array_equal(again.matrix, code.matrix)
    assert again.options == code.options


def test_whole_that_cannot_be_fitted():
    with pytest.raises(InputError, match="whole: blocks = 16 cannot be cut to 8; nearest: 15"):
        codes.design("net", 8, 8, whole=[16, 16, 4])
    with pytest.raises(InputError, match="whole: blocks = 4 cannot be cut to 8; nearest: 8"):
        codes.design("net", 8, 8, whole=[4, 4, 4])
    with pytest.raises(InputError, match="weight = 2: the net code fitted to 14 blocks has another"):
        codes.design("net", 8, 14, 2, whole=[16, 16, 4])


@pytest.mark.parametrize(
    "size",
    [(14, 13, 3), (38, 37, 5), (64, 63, 5), (98, 97, 5), (1100, 1021, 4), (2000, 997, 4), (2042, 1021, None)],
)
def test_auto_has_full_rank_where_cut_designs_have_not(size):
    code = codes.design("auto", *size)
    assert code.frame_bounds[0] > 1e-9
    assert code.coherence <= 0.5 + 1e-12
    assert code.weight <= (size[2] or code.blocks)
    again = codes.design(code.family, *size[:2], code.weight, **code.options)
    np.testing.assert_array_equal(again.values, code.values)


def test_the_frame_operator():
    code = codes.design("net", 4000, 1000, 8)  # large: by a sparse product
    np.testing.assert_allclose(code.frame, code.matrix.T @ code.matrix, atol=1e-12)
