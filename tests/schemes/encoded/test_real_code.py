"""Codes of polynomial values over the reals: who is wrong, by any means, and what remains is exact."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pdcode.encoded.real_code import RealCode, barycentric_weights, chebyshev_points
from pdcode.util.errors import InputError

LENGTH, S = 40, 3
LIES = {
    "noise": lambda random, honest: honest + 100 * random.standard_normal(honest.shape),
    "colluding": lambda random, honest: honest + 100 * random.standard_normal(honest.shape[1]),
    "constant": lambda random, honest: np.full_like(honest, 1e6),
    "sign": lambda random, honest: -honest,
    "scale": lambda random, honest: 1e6 * honest,
    "small": lambda random, honest: honest + 1e-6 * random.standard_normal(honest.shape),
    "one element": lambda random, honest: honest + (np.arange(honest.shape[1]) == 7),
    "unequal": lambda random, honest: (
        honest + 10.0 ** random.uniform(-6, 8, (len(honest), 1)) * random.standard_normal(honest.shape)
    ),
    "not finite": lambda random, honest: honest * np.inf,
}


class Words:
    """Random codewords of a code that bears `liars` and `stragglers` of n symbols, float64 or float32."""

    def __init__(
        self, n: int, liars: int, stragglers: int = 0, seed: int = 0, dtype: str = "float64"
    ) -> None:
        points = chebyshev_points(n)
        self.code = RealCode(points, n - 2 * liars - stragglers, barycentric_weights(points))
        self.random, self.liars, self.dtype = np.random.default_rng(seed), liars, dtype
        self.generator = self.code.generator()
        self.message = self.random.standard_normal((self.code.dimension, LENGTH))
        self.symbols = (self.generator @ self.message).astype(dtype)
        self.combinations = self.random.uniform(-1, 1, (LENGTH, S))

    def located(self, rows: np.ndarray, symbols: np.ndarray) -> list[int] | None:
        noise = np.finfo(self.dtype).eps * np.linalg.norm(self.message)
        with np.errstate(invalid="ignore", over="ignore"):
            seen = symbols.astype(float) @ self.combinations
        return self.code.locate(rows, seen, self.liars, noise)

    def assert_located(self, rows: np.ndarray, wrong: list[int], how: str) -> None:
        symbols = self.symbols[rows].astype(float)
        if wrong:
            symbols[wrong] = LIES[how](self.random, symbols[wrong])
        assert self.located(rows, symbols.astype(self.dtype)) == wrong
        kept = np.setdiff1d(np.arange(len(rows)), wrong)
        decoded = np.linalg.pinv(self.generator[rows[kept]]) @ symbols[kept]
        near = 1e-8 if self.dtype == "float64" else 1e-3
        np.testing.assert_allclose(decoded, self.message, atol=near)


@pytest.mark.every(4)
@pytest.mark.parametrize("liars", range(1, 8))
@pytest.mark.parametrize("how", LIES)
def test_wrong_symbols_are_found(liars: int, how: str) -> None:
    """Of 15: each single one, pair and three of them (for most lies some of these); of more, some."""
    words = Words(15, liars)
    rows, random = np.arange(15), np.random.default_rng(liars)
    words.assert_located(rows, [], how)
    sets = [list(wrong) for few in range(1, min(liars, 3) + 1) for wrong in combinations(range(15), few)]
    for wrong in sets if how == "noise" and liars <= 3 else sets[:: 7 + liars]:
        words.assert_located(rows, wrong, how)
    for _ in range(20 if liars > 3 else 0):
        words.assert_located(
            rows, sorted(random.choice(15, random.integers(4, liars + 1), replace=False)), how
        )


@given(
    n=st.integers(3, 60), share=st.floats(0, 1), missing=st.floats(0, 1),
    how=st.sampled_from(sorted(LIES)), seed=st.integers(0, 9999),
)  # fmt: skip
@example(n=49, share=0.875, missing=0.875, how="unequal", seed=50)
@example(n=54, share=0.4438139971141082, missing=0.3428326122911064, how="one element", seed=7635)
def test_stragglers_are_erasures(n: int, share: float, missing: float, how: str, seed: int) -> None:
    liars = round(share * (n - 1) // 2)
    stragglers = round(missing * (n - 1 - 2 * liars))
    words = Words(n, liars, stragglers, seed)
    rows = np.sort(words.random.permutation(n)[: n - stragglers])
    count = int(words.random.integers(0, liars + 1))
    wrong = sorted(words.random.choice(len(rows), count, replace=False).tolist())
    honest = np.delete(rows, wrong)
    # Else a small lie may be within what the honest ones' noise allows.
    assume(np.linalg.cond(words.generator[honest]) < 1e5)
    symbols = words.symbols[rows].copy()
    symbols[wrong] = LIES[how](words.random, symbols[wrong])
    assert words.located(rows, symbols) == wrong


@pytest.mark.parametrize("liars", range(1, 8))
def test_float32_raises_no_false_alarm(liars: int) -> None:
    for seed in range(50):
        words = Words(15, liars, seed=seed, dtype="float32")
        words.assert_located(np.arange(15), [], "noise")
        words.assert_located(np.arange(15), sorted(words.random.choice(15, liars, replace=False)), "sign")
    for seed in range(16 - liars):  # neighbours, whose polynomials are small beside them, too
        words = Words(15, liars, seed=seed, dtype="float32")
        words.assert_located(np.arange(15), [*range(seed, seed + liars)], "sign")


def test_too_many_errors_are_detected() -> None:
    for liars in (1, 2, 3):
        words = Words(15, liars)
        symbols = words.symbols.copy()
        symbols[: liars + 1] = LIES["noise"](words.random, symbols[: liars + 1])
        assert words.located(np.arange(15), symbols) is None


@given(n=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 999))
def test_any_k_symbols_give_all_symbols(n: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    k = 1 + round(share * min(n - 1, 7))
    code = RealCode(np.sort(random.permutation(2 * n)[:n]) / n - 1, k, random.uniform(0.5, 2, n))
    f = np.polynomial.Polynomial(random.standard_normal(k))
    rows, symbols = random.permutation(n)[: random.integers(k, n + 1)], code.multipliers * f(code.points)
    decoding = code.generator() @ np.linalg.pinv(code.generator()[rows])
    np.testing.assert_allclose(decoding @ symbols[rows], symbols, atol=1e-11 * np.abs(decoding).sum())


@pytest.mark.parametrize(("points", "k"), [([0.1, 0.1], 1), ([0.1, 0.2], 3), ([0.1], 0)])
def test_invalid_codes_are_refused(points: list[float], k: int) -> None:
    with pytest.raises(InputError, match="code:"):
        RealCode(points, k)
