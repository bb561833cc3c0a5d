"""Hadamard matrices by Sylvester, Paley and Kronecker products, and the dense code built from them.

Sylvester (Phil. Mag. 1867) gives the orders 2^a. Paley ("On orthogonal matrices", J. Math. and Phys. 1933)
gives q + 1 for prime powers q ≡ 3 modulo 4 (I) and 2(q + 1) for q ≡ 1 modulo 4 (II). A Kronecker product of
two Hadamard matrices is a Hadamard matrix. Orders that these do not reach, 92 the least, are refused.
"""

from functools import cache, lru_cache
from math import isqrt

import numpy as np

from ...util.errors import InputError
from .. import keyed
from ..family import Family, Size
from .finite_field import FiniteField, is_prime_power


@cache
def _recipe(order: int) -> tuple[str, int] | None:
    """Find a construction of an order: "sylvester", "paley-1" or "paley-2" and q, "product" and a factor."""
    if order < 1 or (order > 2 and order % 4):
        return None
    if order & (order - 1) == 0:
        return "sylvester", order
    if is_prime_power(order - 1):  # 3 modulo 4, as the order is a multiple of 4
        return "paley-1", order - 1
    if order // 2 % 4 == 2 and is_prime_power(order // 2 - 1):
        return "paley-2", order // 2 - 1
    for factor in range(2, isqrt(order) + 1):
        if order % factor == 0 and _recipe(factor) and _recipe(order // factor):
            return "product", factor
    return None


def exists(order: int) -> bool:
    """Return whether `hadamard` makes this order."""
    return _recipe(order) is not None


def jacobsthal(q: int) -> np.ndarray:
    """Make Jacobsthal's matrix: the quadratic character of a - b for elements a, b of GF(q), int8, q odd."""
    field, elements = FiniteField(q), np.arange(q)
    return field.quadratic_character()[field.subtract(elements[:, None], elements)]


def conference(q: int) -> np.ndarray:
    """Make Paley's conference matrix of order q + 1: symmetric for q ≡ 1 modulo 4, skew for q ≡ 3."""
    matrix = np.zeros((q + 1, q + 1), np.int8)
    matrix[0, 1:] = 1
    matrix[1:, 0] = 1 if q % 4 == 1 else -1
    matrix[1:, 1:] = jacobsthal(q)
    return matrix


@lru_cache(maxsize=16)
def hadamard(order: int) -> np.ndarray:
    """Make a Hadamard matrix whose first row and first column are ones: int8, (order, order), read-only.

    Raises InputError if the constructions do not reach the order.
    """
    recipe = _recipe(order)
    if recipe is None:
        raise InputError(f"order = {order}: no Hadamard matrix by Sylvester, Paley and products")
    kind, size = recipe
    if kind == "sylvester":
        matrix = np.ones((1, 1), np.int8)
        while len(matrix) < order:
            matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    elif kind == "paley-1":
        matrix = conference(size) + np.eye(order, dtype=np.int8)
    elif kind == "paley-2":
        plus, minus = np.array([[1, 1], [1, -1]], np.int8), np.array([[1, -1], [-1, -1]], np.int8)
        matrix = np.kron(conference(size), plus) + np.kron(np.eye(size + 1, dtype=np.int8), minus)
    else:
        matrix = np.kron(hadamard(size), hadamard(order // size))
    matrix = matrix * matrix[:1]
    matrix = matrix * matrix[:, :1]
    matrix.flags.writeable = False
    return matrix


def stacked_hadamard(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack Hadamard matrices of order k over √k, all but the first with random column signs.

    Each k rows from a multiple of k are an orthonormal basis, so multiples of k rows are tight. Rows of
    different matrices are no better than random; if k is a power of 4, `kerdock` has the best signs.
    """
    count = -(-rows // blocks)
    signs = np.concatenate([np.ones((1, blocks)), keyed.signs(seed, keyed.SIGNS, 0, (count - 1, blocks))])
    values = (hadamard(blocks) / np.sqrt(blocks))[None] * signs[:, None]
    return np.broadcast_to(np.arange(blocks), (rows, blocks)), values.reshape(-1, blocks)[:rows]


HADAMARD = Family(
    "hadamard",
    "rows of Hadamard matrices, dense",
    stacked_hadamard,
    lambda blocks, weight: [Size(blocks)] if exists(blocks) else [],
    coherence=lambda rows, blocks, weight: 0.0 if rows <= blocks else None,  # a stack has random coherence
)
