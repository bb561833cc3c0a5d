"""Steiner systems S(2, B, v): sets of B out of v points such that any two points are in exactly one.

B = 2: all pairs. B = 3: triple systems by Bose ("On the construction of balanced incomplete block designs",
Annals of Eugenics 1939) for v ≡ 3 modulo 6 and Skolem ("Some remarks on the triple systems of Steiner",
Mathematica Scandinavica 1958) for v ≡ 1. Larger B: lines of affine and projective spaces (`geometry`).
"""

from collections.abc import Iterator
from functools import cache
from math import isqrt
from typing import NamedTuple

import numpy as np

from ..codes.constructions.finite_field import is_prime_power
from . import geometry


class System(NamedTuple):
    """Parameters of a Steiner system that can be constructed."""

    points: int  # v
    size: int  # B
    source: str  # pairs, triples, affine or projective
    dimension: int = 0  # dimension of the space

    @property
    def lines(self) -> int:
        """Number of sets, v(v-1) / (B(B-1))."""
        return self.points * (self.points - 1) // (self.size * (self.size - 1))

    @property
    def degree(self) -> int:
        """Number of sets that contain a point, r₀ = (v-1)/(B-1)."""
        return (self.points - 1) // (self.size - 1)


def is_triple_system(points: int) -> bool:
    """Return whether there is a triple system of more than one triple on this many points (Kirkman 1847)."""
    return points > 3 and points % 6 in (1, 3)


def with_lines(lines: int) -> Iterator[System]:
    """Yield the systems with this many sets (more than one), in ascending order of set size."""
    for size, source in ((2, "pairs"), (3, "triples")):
        v = (1 + isqrt(1 + 4 * size * (size - 1) * lines)) // 2
        if v * (v - 1) == size * (size - 1) * lines and v > size and (size == 2 or is_triple_system(v)):
            yield System(v, size, source)
    yield from _spaces(lines.bit_length()).get(lines, ())


@cache
def _spaces(bits: int) -> dict[int, list[System]]:
    """List the affine and projective spaces of fewer than 2^bits lines, B > 3, by the number of lines."""
    spaces: dict[int, list[System]] = {}
    for q in range(3, isqrt(1 << bits) + 1):
        if not is_prime_power(q):
            continue
        for source, size, points in (("affine", q, q * q), ("projective", q + 1, q * q + q + 1)):
            system = System(points, size, source, 2)
            while system.lines < 1 << bits:
                if size > 3:
                    spaces.setdefault(system.lines, []).append(system)
                points = points * q + (source == "projective")
                system = System(points, size, source, system.dimension + 1)
    return spaces


def with_points(points: int) -> Iterator[System]:
    """Yield the systems on this many points with B ≡ 3 modulo 4: triples, and lines of AG(d, q)."""
    if is_triple_system(points):
        yield System(points, 3, "triples")
    for q in range(7, isqrt(points) + 1, 4):
        if is_prime_power(q):
            d = 2
            while q**d < points:
                d += 1
            if q**d == points:
                yield System(points, q, "affine", d)


def build(system: System) -> np.ndarray:
    """Make the sets of a system, int64, shape (lines, B): numbers of their points."""
    if system.source == "pairs":
        return np.stack(np.triu_indices(system.points, 1), axis=1)
    if system.source == "triples":
        return triples(system.points)
    if system.source == "affine":
        return geometry.affine(system.dimension, system.size).reshape(-1, system.size)
    return geometry.projective(system.dimension, system.size - 1)


def triples(points: int) -> np.ndarray:
    """Make a Steiner triple system on v ≡ 1 or 3 modulo 6 points, int64, shape (v(v-1)/6, 3).

    Point (x, i) of Z_g × Z_3 has number 3x + i; Skolem's further point is the last, v - 1.
    """
    g = points // 3  # order of the quasigroup: odd for Bose, even for Skolem
    x, y = np.triu_indices(g, 1)
    i = np.arange(3)[:, None]
    total = (x + y) % g
    if g % 2:
        product, idempotent = total * (g + 1) // 2 % g, np.arange(g)
        further = np.empty((0, 3), np.int64)
    else:
        product, idempotent = np.where(total % 2, g // 2 + total // 2, total // 2), np.arange(g // 2)
        lower, upper = 3 * idempotent + (i + 1) % 3, 3 * (idempotent + g // 2) + i
        further = np.stack([np.full_like(upper, points - 1), upper, lower], axis=-1).reshape(-1, 3)
    mixed = np.stack([3 * x + i, 3 * y + i, 3 * product + (i + 1) % 3], axis=-1).reshape(-1, 3)
    return np.concatenate([3 * idempotent[:, None] + np.arange(3), further, mixed])


def incidence(lines: np.ndarray, points: int) -> np.ndarray:
    """List the sets that contain each point, int64, shape (v, r₀), ascending."""
    return np.argsort(lines.ravel(), kind="stable").reshape(points, -1) // lines.shape[1]
