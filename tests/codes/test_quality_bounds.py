"""Lower bounds on coherence: known values, and that no code known to anyone beats one."""

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdcode import codes
from pdcode.codes import catalogue
from pdcode.codes.quality import bounds

BEST = [
    (3, 4, 1 / 3), (3, 6, 5**-0.5), (3, 7, 3**-0.5), (4, 5, 0.25), (5, 10, 1 / 3), (6, 16, 1 / 3),
    (8, 120, 0.5), (3, 19, 0.836654416), (3, 22, 0.848923829),
]  # fmt: skip
MEASURED = [entry for entry in catalogue.ENTRIES if entry.workers <= 2200]


def test_no_known_packing_beats_a_bound():
    for k, n, coherence in BEST:
        for bound in bounds.welch, bounds.orthoplex, bounds.levenshtein, bounds.bukh_cox:
            assert bound(n, k) <= coherence + 2e-9, (k, n, bound.__name__)  # nine digits are known


@pytest.mark.parametrize("entry", MEASURED, ids=lambda entry: f"{entry.family}-{entry.workers}")
def test_no_code_of_ours_beats_a_bound(entry):
    code = codes.design(entry.family, entry.workers, entry.blocks, entry.weight, **entry.options)
    assert code.bounds
    for name, bound in code.bounds.items():
        assert 0 <= bound <= code.coherence + 1e-12, name


def test_bounds_that_are_reached():
    for family, n, k, w, name in [
        ("steiner", 28, 7, 3, "welch"),
        ("tremain", 36, 15, 8, "welch"),
        ("haar-simplex", 8, 7, 3, "bukh-cox"),
        ("icosahedron", 6, 3, 2, "bukh-cox"),
        ("kerdock", 144, 16, 16, "orthoplex"),
        ("e8", 120, 8, 8, "levenshtein"),
        ("dk", 12, 4, 2, "levenshtein"),
        ("net", 128, 64, 8, "weight-flat"),
        ("simplex-lines", 48, 9, 3, "weight-flat"),
    ]:
        code = codes.design(family, n, k, w)
        assert code.bounds[name] == pytest.approx(code.coherence, abs=1e-12), family


@pytest.mark.parametrize(("blocks", "first", "regular"), [(3, 0, True), (4, 1, False)])
def test_the_padding_of_a_short_codeword_is_in_no_block(blocks, first, regular):
    indices, values = np.array([[first, first + 1], [first + 2, 0]]), np.array([[0.5**0.5] * 2, [1.0, 0.0]])
    assert ("weight-regular" in codes.Code(indices, values, blocks, "any").bounds) == regular


def test_most_flat_rows():
    assert bounds.max_flat_rows(5, 1) == inf
    assert bounds.max_flat_rows(16, 4) == 80  # all lines of AG(2, 4): the net has as many
    assert bounds.max_flat_rows(9, 3) == 48  # simplices on the lines of AG(2, 3)
    assert bounds.max_flat_rows(4, 2) == 12  # the roots of D4
    assert bounds.weight_flat(80, 16, 4) == 0.25
    assert bounds.weight_flat(81, 16, 4) == 0.5
    assert bounds.weight_flat(16, 16, 4) == 0
    assert bounds.weight_flat(9, 4, 1) == 1
    for k, w in product(range(2, 60), range(2, 60)):  # a simpler bound is weaker
        assert w > k or bounds.max_flat_rows(k, w) <= 2 * k * (k - 1) / w + 1e-9


@given(st.integers(2, 8), st.data())
def test_flat_rows_obey_their_bounds(k, data):
    w = data.draw(st.integers(1, k))
    n = data.draw(st.integers(k + 1, 60))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = np.zeros((n, k))
    for row in rows:
        row[random.choice(k, w, replace=False)] = random.choice([-1, 1], w) / np.sqrt(w)
    gram = np.abs(rows @ rows.T) - np.eye(n)
    assert gram.max() >= bounds.weight_flat(n, k, w) - 1e-12


def test_greedy_flat_codes_stay_below_the_limit():
    """Rows of {0, ±1}^k of weight w, added as long as all products are at most 1/w."""
    for k, w in [(4, 2), (5, 2), (6, 3), (7, 3), (6, 4), (8, 4)]:
        words = np.array(list(product((-1, 0, 1), repeat=k)))
        words = words[np.abs(words).sum(axis=1) == w]
        kept = words[:0]
        for word in np.random.default_rng(k).permutation(words):
            if (np.abs(kept @ word) <= 1).all():
                kept = np.vstack([kept, word])
        assert len(kept) <= bounds.max_flat_rows(k, w)
