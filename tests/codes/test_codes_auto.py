"""The choice of the best design that exists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes

seeds = st.integers(0, 2**63 - 1)


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
        (16, 6, None, "steiner", 3), (64, 28, None, "steiner", 7), (36, 15, None, "tremain", 8),
        (10, 5, None, "tremain", 4), (8, 7, None, "haar-simplex", 3), (6, 3, None, "icosahedron", 2),
        (48, 9, None, "simplex-lines", 3), (144, 16, None, "kerdock", 16), (80, 16, None, "net", 4),
        (128, 64, 4, "net", 4), (128, 64, None, "net", 8), (10_000, 1000, 8, "net", 8),
        (120, 8, None, "e8", 8), (16, 16, None, "net", 4), (30, 6, 2, "net", 2), (42, 7, 2, "dk", 2),
        (5, 5, 1, "uncoded", 1), (9, 1, None, "uncoded", 1),
    ],
)  # fmt: skip
def test_auto_takes_the_design_that_fits(n, k, w, family, weight):
    code = codes.design("auto", n, k, w)
    assert (code.family, code.weight, code.options) == (family, weight, {})
    assert code.notes == (f"auto: {family} of weight {weight}",)
    if n % k == 0 or family not in ("uncoded",):
        assert code.tightness == pytest.approx(1, abs=1e-12)


def test_redraws_are_options_too():
    code = codes.design("net", 32, 16, 4, seed=3).dithered(5, 6).dithered(7, 8)
    again = codes.design("net", 32, 16, 4, seed=3, **code.options)
    np.testing.assert_array_equal(again.matrix, code.matrix)
    assert again.options == code.options


@pytest.mark.parametrize(
    "size",
    [(14, 13, 3), (38, 37, 5), (64, 63, 5), (98, 97, 5), (1100, 1021, 4), (2000, 997, 4), (2042, 1021, None)],
)
def test_auto_has_full_rank(size):
    code = codes.design("auto", *size)
    assert code.frame_bounds[0] > 1e-9
    assert code.coherence <= 0.5 + 1e-12
    assert code.weight <= (size[2] or code.blocks)
    again = codes.design(code.family, *size[:2], code.weight, **code.options)
    np.testing.assert_array_equal(again.values, code.values)


def test_the_frame_operator():
    code = codes.design("net", 4000, 1000, 8)  # large: by a sparse product
    np.testing.assert_allclose(code.frame, code.matrix.T @ code.matrix, atol=1e-12)
