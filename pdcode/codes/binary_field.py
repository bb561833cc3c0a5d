"""Arithmetic of GF(2^e) on integers whose bits are coefficients of a polynomial. Addition is exclusive or."""

from __future__ import annotations

import numpy as np


def irreducible(degree: int) -> int:
    """Return the least irreducible polynomial over GF(2) of a degree, as an integer.

    By trial division: a reducible polynomial has a factor of at most half its degree.
    """
    candidates = range(1 << degree, 2 << degree)
    divisors = range(2, 2 << degree // 2)
    return next(c for c in candidates if all(_remainder(c, d) for d in divisors if d < c))


def _remainder(dividend: int, divisor: int) -> int:
    while dividend.bit_length() >= divisor.bit_length():
        dividend ^= divisor << (dividend.bit_length() - divisor.bit_length())
    return dividend


def multiply(left: np.ndarray, right: np.ndarray, degree: int) -> np.ndarray:
    """Multiply elements of GF(2^degree); int64 arrays that broadcast."""
    modulus = irreducible(degree)
    product = np.zeros(np.broadcast_shapes(left.shape, right.shape), np.int64)
    left = left + np.zeros_like(product)
    for bit in range(degree):
        product ^= left * (right >> bit & 1)
        left = left << 1
        left ^= modulus * (left >> degree)  # keep the degree below that of the modulus
    return product
