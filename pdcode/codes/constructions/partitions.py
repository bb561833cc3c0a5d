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

from functools import cache
from math import gcd, inf

import numpy as np

from .finite_field import FieldProduct, prime_powers


def _integer_slants(m: int, c: int) -> int:
    """Count the slants of the integers modulo m: m | s·d has no solution with 0 < s < this, 0 < d < c."""
    return min(m // gcd(m, d) for d in range(1, min(c, m + 1)))  # d = m leaves one slant


def _binary_field_slants(m: int, c: int) -> int:
    """Count the slants that GF(m) admits for m a power of 2."""
    return m if m & (m - 1) == 0 and c <= m else 1


def _field_product_slants(m: int, c: int) -> int:
    """Count the slants of the product of fields; the diagonal has as many elements as the smallest field."""
    return m if all(p**e >= c for p, e in prime_powers(m)) else 1


def _plain_count(m: int, c: int) -> int:
    """Count the partitions of the plain construction: one ring, and the columns cut once."""
    return max(_integer_slants(m, c), _binary_field_slants(m, c)) + (m % c == 0)


@cache
def max_partitions(blocks: int, size: int) -> float:
    """Count the partitions of k blocks into sets of a size that divides k; infinity for size 1."""
    if size == 1:
        return inf
    if size == 2:
        return blocks - 1
    m = blocks // size
    slants = max(_integer_slants(m, size), _field_product_slants(m, size))
    return slants + (max_partitions(m, size) if m % size == 0 else 0)


def max_plain_partitions(blocks: int, size: int) -> float:
    """Count the partitions of the plain construction, with one ring and one cut of the columns.

    Its first partitions do not depend on how many are made.
    """
    return inf if size == 1 else _plain_count(blocks // size, size)


def partitions(blocks: int, size: int, count: int) -> np.ndarray:
    """Partition k blocks into sets of c = `size` blocks, in `count` ≤ `max_partitions` ways; c divides k.

    The result has the blocks of each set of each partition, int64, shape (count, k/c, c).
    """
    if size == 1:
        return np.broadcast_to(np.arange(blocks)[:, None], (count, blocks, 1))
    m = blocks // size
    modular, ring = _integer_slants(m, size), _binary_field_slants(m, size)
    if count > _plain_count(m, size):
        if size == 2:
            return matchings(blocks, count)
        ring = _field_product_slants(m, size)
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
    inner = partitions(m, size, count - slants)  # of one column
    turn, place = np.divmod(inner, m // size)
    inner = place * size + turn  # ordered such that the first cuts it consecutively
    columns = np.arange(size)[:, None, None] * m + inner[:, None]
    return np.concatenate([sets, columns.reshape(-1, m, size)])


def matchings(points: int, count: int) -> np.ndarray:
    """Make `count` disjoint perfect matchings of an even number of points, as in a round-robin tournament.

    There are at most points - 1; the result is int64, shape (count, points/2, 2).
    """
    odd = points - 1
    day, game = np.ogrid[:count, 1 : points // 2]
    pairs = np.stack([(day + game) % odd, (day - game) % odd], axis=-1)
    fixed = np.stack([np.arange(count), np.full(count, odd)], axis=-1)
    return np.concatenate([fixed[:, None], pairs], axis=1)
