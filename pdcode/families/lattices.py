"""Codes from well-known configurations: roots of D_k and E8, the icosahedron, and the simplex."""

from functools import lru_cache
from math import sqrt

import numpy as np

from ..codes.constructions.partitions import matchings
from ..codes.family import Family, Rows, Size, exactly


def _signed(edges: np.ndarray) -> Rows:
    """Make the rows (e_a + e_b)/√2 of a group's edges, then (e_a - e_b)/√2; edges (groups, edges, 2)."""
    indices = np.repeat(edges[:, None], 2, axis=1)
    values = np.broadcast_to(np.array([[1.0, 1.0], [1.0, -1.0]])[:, None] / sqrt(2.0), indices.shape)
    return indices.reshape(-1, 2), values.reshape(-1, 2)


def dk(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make the roots ±e_a ± e_b of the lattice D_k over √2, one per line: n ≤ k(k-1), w = 2, coherence ½.

    Conway and Sloane, "Sphere Packings, Lattices and Groups", chapter 4. The pairs come as the perfect
    matchings of a round-robin tournament (k even), or as cycles a, a + s, a + 2s, … (k odd), with sign + and
    then -. So each k rows (2k for odd k) from a multiple of k (2k) are tight, and for even k an orthonormal
    basis.
    """
    if blocks % 2 == 0:
        edges = matchings(blocks, -(-rows // blocks))
    else:
        step, a = np.ogrid[1 : 1 - (-rows // (2 * blocks)), :blocks]
        edges = np.stack(np.broadcast_arrays(a, (a + step) % blocks), axis=-1)
    indices, values = _signed(edges)
    return indices[:rows], values[:rows]


@lru_cache(maxsize=1)
def _e8() -> Rows:
    """Make the 120 lines as 15 orthonormal bases of 8 rows, shape (15, 8, 8)."""
    indices, values = np.zeros((15, 8, 8), np.int64), np.zeros((15, 8, 8))
    pairs, signs = _signed(matchings(8, 7))
    indices[:7, :, :2], values[:7, :, :2] = pairs.reshape(7, 8, 2), signs.reshape(7, 8, 2)
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    even = bits[bits.sum(axis=1) % 2 == 0]
    x = np.arange(8)
    affine = np.array([(x >> 0 & 1), (x >> 1 & 1), (x >> 2 & 1)])
    words = np.arange(8)[:, None] >> np.arange(3) & 1
    linear = words @ affine % 2  # the code RM(1, 3) without complements
    seen, bases = set(), []
    for word in even:
        coset = (word + linear) % 2
        coset = np.where(coset[:, :1], 1 - coset, coset)  # the sign of a line is such that it begins with 0
        key = frozenset(map(tuple, coset.tolist()))
        if key not in seen:
            seen.add(key)
            bases.append((1.0 - 2.0 * coset) / sqrt(8.0))
    indices[7:], values[7:] = x, np.stack(bases)
    return indices, values


def e8(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make the roots of the lattice E8, one per line, on each 8 blocks: n ≤ 15k, coherence ½.

    Conway and Sloane, "Sphere Packings, Lattices and Groups", chapter 4. 56 lines ±e_a ± e_b and 64 lines
    (±1, …, ±1)/√8 with an even number of minus signs. They come as 15 orthonormal bases: 7 perfect matchings,
    weight 2, and the 8 cosets of the Reed-Muller code RM(1, 3) in the even code; so each k rows from a
    multiple of k are an orthonormal basis.
    """
    indices, values = (each[: -(-rows // blocks)] for each in _e8())
    copies = blocks // 8
    offset = 8 * np.arange(copies)[:, None, None]
    indices = np.where(values != 0, indices, 0)[:, None]
    placed = np.where(values[:, None] != 0, indices + offset, 0)
    repeated = np.broadcast_to(values[:, None], placed.shape)
    return placed.reshape(-1, 8)[:rows], repeated.reshape(-1, 8)[:rows]


def icosahedron(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make the six diagonals of an icosahedron on each 3 blocks: n = 2k, w = 2, coherence 1/√5, tight.

    The lines are (0, 1, ±φ) and their cyclic shifts over √(1 + φ²), φ the golden ratio: the six equiangular
    lines of space (Haantjes 1948). k/3 consecutive rows belong to different copies.
    """
    golden = (1 + sqrt(5.0)) / 2
    copy = 3 * np.arange(blocks // 3)
    kind, sign = np.divmod(np.arange(6), 2)
    first = copy + ((kind + 1) % 3)[:, None]
    second = copy + ((kind + 2) % 3)[:, None]
    values = np.stack([np.ones(6), golden * (1.0 - 2.0 * sign)], axis=1) / sqrt(1 + golden**2)
    indices = np.stack([first, second], axis=-1)
    return indices.reshape(-1, 2), np.broadcast_to(values[:, None], indices.shape).reshape(-1, 2)


def haar_simplex(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make a regular simplex of n = k + 1 rows in the basis of Haar wavelets of a balanced binary tree.

    Row l is the indicator of leaf l, minus its mean, expanded in the wavelets of the nodes above the leaf:
    w = ⌈log₂ n⌉, j for k = 2^j - 1. A node with L and R leaves has the wavelet √(R/(L(L+R))) on the left and
    -√(L/(R(L+R))) on the right. Coherence 1/k, the Welch bound, tight. The construction is new in this
    project (Haar 1910 has the wavelets of equal halves).
    """
    n = blocks + 1
    indices, values = np.zeros((n, weight), np.int64), np.zeros((n, weight))
    nodes, node = [(0, n, 0)], 0
    while node < len(nodes):
        start, size, depth = nodes[node]
        left = (size + 1) // 2
        right = size - left
        middle, end = start + left, start + size
        indices[start:end, depth] = node
        values[start:middle, depth] = sqrt(right / (left * size))
        values[middle:end, depth] = -sqrt(left / (right * size))
        nodes += [half for half in ((start, left, depth + 1), (middle, right, depth + 1)) if half[1] > 1]
        node += 1
    return indices, values / sqrt(1 - 1 / n)


HAAR_SIMPLEX = Family(
    "haar-simplex",
    "regular simplex in Haar wavelets; meets the Welch bound",
    haar_simplex,
    lambda blocks, weight: [exactly(blocks + 1, blocks.bit_length())],
    period=None,
    coherence=lambda rows, blocks, weight: 1 / blocks,
)
ICOSAHEDRON = Family(
    "icosahedron",
    "the diagonals of an icosahedron on every 3 blocks",
    icosahedron,
    lambda blocks, weight: [exactly(2 * blocks, 2)] if blocks % 3 == 0 else [],
    period=None,
    coherence=lambda rows, blocks, weight: 1 / sqrt(5.0),
)
DK = Family(
    "dk",
    "roots of the lattice D_k",
    dk,
    lambda blocks, weight: [Size(2, blocks * (blocks - 1))] if blocks > 1 else [],
    period=lambda blocks: 2 * blocks if blocks % 2 else blocks,  # a cycle or matching with both signs
    coherence=lambda rows, blocks, weight: 0.5 if rows > (1 if blocks % 2 else blocks) else 0.0,
)
E8 = Family(
    "e8",
    "roots of the lattice E8 on every 8 blocks",
    e8,
    lambda blocks, weight: [Size(8, 15 * blocks)] if blocks % 8 == 0 else [],
    coherence=lambda rows, blocks, weight: 0.5 if rows > blocks else 0.0,  # between different bases
)
