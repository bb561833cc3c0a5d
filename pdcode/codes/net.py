"""Nets, the default static code: Hadamard rows on the sets of partitions of the blocks.

Two sets of different partitions meet in one block at the most. The k = w·m blocks are the points (i, x) with
i = 0 … w-1 and x in a ring of m elements; point (i, x) is block i·m + x. Partition c consists of the m sets
{(i, x + c·i) : i = 0 … w-1}, one for each x. Sets of partitions c ≠ c' meet in at most one point if
(c - c')(i - i') ≠ 0 for all i ≠ i'. There are two rings: the integers modulo m and, for m a power of two, the
field GF(m); the one that admits more partitions is taken. Where w divides m, cutting each column (i, ·) into
sets of w adds one partition more.

On each set stand the w rows of a Sylvester-Hadamard matrix over √w, with a random sign a column (dither),
which repairs the rank of subsets and changes neither coherence nor tightness. So rows of different partitions
have inner product 0 or ±1/w, and those of one partition are an orthonormal basis of R^k: coherence 1/w (0 for
a single partition), and GᵀG = (n/k) I.
"""

from __future__ import annotations

from math import gcd, inf

import numpy as np

from ..errors import InputError
from . import binary_field, keyed


def hadamard(order: int) -> np.ndarray:
    """Sylvester's Hadamard matrix, float64, shape (order, order); the order is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def _modular(m: int, w: int) -> int:
    """Partitions that the integers modulo m admit: m | c·d has no solution with 0 < c < this, 0 < d < w."""
    return min(m // gcd(m, d) for d in range(1, w))


def _field(m: int, w: int) -> int:
    """Partitions that GF(m) admits; a field has no zero divisors, but needs w distinct elements i."""
    return m if m & (m - 1) == 0 and w <= m else 1


def most_partitions(blocks: int, weight: int) -> float:
    """Most partitions that the construction has; infinity for weight 1, where all partitions are the same."""
    if weight == 1:
        return inf
    m = blocks // weight
    return max(_modular(m, weight), _field(m, weight)) + (m % weight == 0)


def partitions(blocks: int, weight: int, count: int) -> np.ndarray:
    """Partition the blocks in several ways; sets of different partitions share one block at the most.

    Parameters
    ----------
    blocks, weight : int
        k, a multiple of w.
    count : int
        Number of partitions, at most `most_partitions`.

    Returns
    -------
    ndarray of int64, shape (count, k/w, w)
        Blocks of each set of each partition.
    """
    m = blocks // weight
    if weight == 1:
        return np.broadcast_to(np.arange(blocks)[:, None], (count, blocks, 1))
    modular, field = _modular(m, weight), _field(m, weight)
    slanted = min(count, max(modular, field))
    c, x, i = np.ogrid[:slanted, :m, :weight]
    points = x ^ binary_field.multiply(c, i, m.bit_length() - 1) if field > modular else (x + c * i) % m
    sets = i * m + points
    if count > slanted:  # the columns themselves, cut into sets
        sets = np.concatenate([sets, np.arange(blocks).reshape(1, m, weight)])
    return sets


def default_weight(rows: int, blocks: int) -> int:
    """Return 4, or 2 where that is the heaviest net that exists; else a weight for `check` to refuse."""
    for weight in (4, 2):
        if blocks % weight == 0 and rows <= most_partitions(blocks, weight) * blocks:
            return weight
    return min(4, 1 << blocks.bit_length() - 1)


def _multiples(weight: int, near: int) -> str:
    below = near // weight * weight
    return f"{below} or {below + weight}" if below else f"{weight}"


def check(rows: int, blocks: int, weight: int) -> None:
    """Raise InputError, with the nearest possible parameters, unless the construction exists."""
    if weight & (weight - 1):
        below = 1 << weight.bit_length() - 1
        raise InputError(
            f"weight = {weight}: not a power of two, as a net needs; nearest: {below} or {2 * below}"
        )
    if blocks % weight:
        divisor = blocks & -blocks
        raise InputError(
            f"blocks = {blocks}: not a multiple of the net's weight {weight}; "
            f"nearest: blocks = {_multiples(weight, blocks)}, or weight = {divisor}"
        )
    most = most_partitions(blocks, weight) * blocks
    if rows > most:
        larger, lighter = blocks + weight, weight // 2
        while rows > most_partitions(larger, weight) * larger:
            larger += weight
        while rows > most_partitions(blocks, lighter) * blocks:
            lighter //= 2
        raise InputError(
            f"workers = {rows}: a net of weight {weight} over {blocks} blocks has at most {most} rows; "
            f"nearest: {most} rows, blocks = {larger}, or weight = {lighter}"
        )


def net(rows: int, blocks: int, weight: int, seed: int, dither: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Make the sparse rows of a net.

    Within a partition the first Hadamard row of every set comes first, then the second of every set, and so
    on: k/w consecutive rows touch each block once, and k consecutive ones, from a multiple of k, are an
    orthonormal basis.

    Parameters
    ----------
    rows, blocks, weight : int
        n, k, w. If n is not a multiple of k, the last partition is not complete.
    seed : int
        Key of the dither.
    dither : bool
        Whether each set has random column signs.

    Returns
    -------
    indices : ndarray of int64, shape (n, w)
    values : ndarray of float64, shape (n, w)

    Raises
    ------
    InputError
        If w is not a power of two, w does not divide k, or n is too large.
    """
    check(rows, blocks, weight)
    sets = partitions(blocks, weight, -(-rows // blocks))[:, None]  # (t, 1, k/w, w)
    values = hadamard(weight)[:, None, :] / np.sqrt(weight)  # (w, 1, w): Hadamard row, any set, column
    if dither:
        values = values * keyed.signs(seed, keyed.SIGNS, 0, sets.shape)
    shape = (sets.shape[0], weight, blocks // weight, weight)
    indices = np.broadcast_to(sets, shape).reshape(-1, weight)[:rows]
    return indices, np.broadcast_to(values, shape).reshape(-1, weight)[:rows]
