"""Orthogonal weighing matrices W(c, w): entries 0 and ±1, w of them nonzero in each row and column, WWᵀ = wI.

A Hadamard matrix is W(w, w), Paley's conference matrix is W(q + 1, q) for odd prime powers q, and the
Kronecker product of W(c, w) and W(c', w') is W(cc', ww') (Geramita and Seberry, "Orthogonal Designs", 1979).
As each number is a product of prime powers, every weight has such a matrix. The one of least order is used: a
Hadamard matrix whenever there is one.
"""

from functools import cache, lru_cache
from math import isqrt

import numpy as np

from .finite_field import is_prime_power
from .hadamard import conference, exists, hadamard


@cache
def order(weight: int) -> int:
    """Return the least order c of a weighing matrix of this weight that can be constructed."""
    return _best(weight)[0]


@cache
def _best(weight: int) -> tuple[int, int]:
    """Return (order, factor of the weight); factor 0 for a Hadamard matrix, 1 for a conference matrix."""
    if exists(weight):
        return weight, 0
    factors = [factor for factor in range(2, isqrt(weight) + 1) if weight % factor == 0]
    products = [(order(factor) * order(weight // factor), factor) for factor in factors]
    return min([*products, *([(weight + 1, 1)] if is_prime_power(weight) else [])])


@lru_cache(maxsize=16)
def weighing(weight: int) -> np.ndarray:
    """Make a weighing matrix of a weight w ≥ 1: int8, shape (c, c), c = `order` (w), read-only.

    c is w if a Hadamard matrix of order w is known, and w + 1 for other prime powers.
    """
    factor = _best(weight)[1]
    if factor == 0:
        return hadamard(weight)
    matrix = (
        conference(weight)
        if factor == 1
        else np.kron(weighing(factor), weighing(weight // factor)).astype(np.int8)
    )
    matrix.flags.writeable = False
    return matrix
