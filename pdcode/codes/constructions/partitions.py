"""Partitions of the blocks into sets of size c; sets of different partitions share at most one block.

The k = c·m blocks are the points (i, x) with i = 0 … c-1 and x in a ring of m elements; point (i, x) is block
i·m + x. Slant s consists of the m sets {(i, x + s·i) : i = 0 … c-1}, one for each x. Sets of slants s ≠ s'
meet in at most one point if (s - s')(i - i') ≠ 0 for all i ≠ i'. There are three rings: the integers modulo
m; the field GF(m), for m a prime power; and the product of the fields of the prime powers of m, where i runs
over the diagonal (MacNeish, Annals of Mathematics 1922). The ring that admits most slants is used. If c
divides m, the columns (i, ·) are partitioned in the same way, all at once; k = q^d with c = q then gives all
lines of the affine space AG(d, q). Pairs (c = 2) have the k - 1 perfect matchings of a round-robin
tournament.
"""

from __future__ import annotations

from functools import cache
from math import gcd, inf

import numpy as np

from .finite_field import FieldProduct, prime_powers


def _modular(m: int, c: int) -> int:
    """Count the slants of the integers modulo m: m | s·d has no solution with 0 < s < this, 0 < d < c."""
    return min(m // gcd(m, d) for d in range(1, min(c, m + 1)))  # d = m leaves one slant


def _binary(m: int, c: int) -> int:
    """Count the slants that GF(m) admits for m a power of 2."""
    return m if m & (m - 1) == 0 and c <= m else 1


def _product(m: int, c: int) -> int:
    """Count the slants of the product of fields; the diagonal has as many elements as the smallest field."""
    return m if all(p**e >= c for p, e in prime_powers(m)) else 1


def _first(m: int, c: int) -> int:
    """Count the partitions of the plain construction: one ring, and the columns cut once."""
    return max(_modular(m, c), _binary(m, c)) + (m % c == 0)


@cache
def most(blocks: int, size: int) -> float:
    """Count the partitions of k blocks into sets of a size that divides k; infinity for size 1."""
    if size == 1:
        return inf
    if size == 2:
        return blocks - 1
    m = blocks // size
    slants = max(_modular(m, size), _product(m, size))
    return slants + (most(m, size) if m % size == 0 else 0)


def plain_most(blocks: int, size: int) -> float:
    """Count the partitions, as `most`, of the construction with one ring and one cut of the columns.

    Its first partitions do not depend on how many are made.
    """
    return inf if size == 1 else _first(blocks // size, size)


def partitions(blocks: int, size: int, count: int) -> np.ndarray:
    """Partition the blocks in several ways.

    Parameters
    ----------
    blocks, size : int
        k, a multiple of the size c of the sets.
    count : int
        Number of partitions, at most `most`.

    Returns
    -------
    ndarray of int64, shape (count, k/c, c)
        Blocks of each set of each partition.
    """
    if size == 1:
        return np.broadcast_to(np.arange(blocks)[:, None], (count, blocks, 1))
    m = blocks // size
    modular, ring = _modular(m, size), _binary(m, size)
    if count > _first(m, size):
        if size == 2:
            return matchings(blocks, count)
        ring = _product(m, size)
    slants = min(count, max(modular, ring))
    s, x, i = np.ogrid[:slants, :m, :size]
    if ring > modular:
        fields = FieldProduct(m)
        points = fields.add(x, fields.multiply(s, fields.diagonal(i)))
    else:
        points = (x + s * i) % m
    sets = i * m + points
    if count == slants:
        return sets
    inner = partitions(
        m, size, count - slants
    )  # of one column, ordered such that the first cuts it consecutively
    inner = inner % (m // size) * size + inner // (m // size)
    columns = np.arange(size)[:, None, None] * m + inner[:, None]
    return np.concatenate([sets, columns.reshape(-1, m, size)])


def matchings(points: int, count: int) -> np.ndarray:
    """Make disjoint perfect matchings of an even number of points: a round-robin tournament.

    Parameters
    ----------
    points, count : int
        Number of points, and of matchings, at most points - 1.

    Returns
    -------
    ndarray of int64, shape (count, points/2, 2)
    """
    odd = points - 1
    day, game = np.ogrid[:count, 1 : points // 2]
    pairs = np.stack([(day + game) % odd, (day - game) % odd], axis=-1)
    fixed = np.stack([np.arange(count), np.full(count, odd)], axis=-1)
    return np.concatenate([fixed[:, None], pairs], axis=1)
