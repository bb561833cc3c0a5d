"""Codes from Steiner systems and Hadamard matrices: Steiner and Tremain frames, and simplices on lines.

Hadamard matrices without their column of ones give simplices: c rows of c - 1 entries ±1, inner products -1.
"""

from functools import lru_cache
from math import isqrt, sqrt

import numpy as np

from ..codes.constructions import hadamard
from ..codes.family import Family, Rows, Size, exactly
from . import steiner


def _simplex(order: int) -> np.ndarray:
    return hadamard.hadamard(order)[:, 1:].astype(np.float64)


def _simplices(sets: np.ndarray, weight: int) -> Rows:
    """Make a simplex of w + 1 rows on each set of w blocks; row j·(number of sets) + l is row j of set l."""
    shape = (weight + 1, *sets.shape)
    values = np.broadcast_to(_simplex(weight + 1)[:, None] / sqrt(weight), shape)
    return np.broadcast_to(sets, shape).reshape(-1, weight), values.reshape(-1, weight)


@lru_cache(maxsize=4096)
def _frames(blocks: int) -> tuple[steiner.System, ...]:
    """List the Steiner systems of k sets for which there is a Hadamard matrix of order r₀ + 1."""
    return tuple(s for s in steiner.with_lines(blocks) if hadamard.exists(s.degree + 1))


def steiner_sizes(blocks: int, weight: int | None) -> list[Size]:
    """List the Steiner frames over k blocks."""
    return [exactly(s.points * (s.degree + 1), s.degree) for s in _frames(blocks)]


def steiner_frame(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make the Steiner equiangular tight frame of S(2, B, v).

    Blocks are the sets of the system. Each point has a simplex of r₀ + 1 rows, supported on the
    r₀ = (v-1)/(B-1) sets that contain it. n = v(r₀ + 1), k = v(v-1)/(B(B-1)), w = r₀, coherence 1/r₀, the
    Welch bound. Row j·v + i is row j of point i.

    Fickus, Mixon, Tremain, "Steiner equiangular tight frames", Linear Algebra and its Applications 2012.
    """
    system = next(s for s in _frames(blocks) if (s.points * (s.degree + 1), s.degree) == (rows, weight))
    return _simplices(steiner.incidence(steiner.build(system), system.points), weight)


def lines_sizes(blocks: int, weight: int | None) -> list[Size]:
    """List the simplices on lines over k blocks."""
    systems = [s for s in steiner.with_points(blocks) if hadamard.exists(s.size + 1)]
    return [exactly(s.lines * (s.size + 1), s.size) for s in systems]


def simplex_lines(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make a simplex of w + 1 rows on each set of a Steiner system whose points are the blocks.

    w = 3 with triple systems: (k, n) = (9, 48); w = q with the lines of AG(d, q), q ≡ 3 modulo 4. n =
    k(k-1)(w+1) / (w(w-1)), coherence 1/w, tight. Row j·(number of sets) + l is row j of set l. The
    construction is new in this project.
    """
    system = next(s for s in steiner.with_points(blocks) if s.size == weight)
    return _simplices(steiner.build(system), weight)


def _tremain_points(blocks: int) -> int:
    """Return the v with k = (v + 2)(v + 3)/6, or 0."""
    v = (isqrt(24 * blocks + 1) - 5) // 2
    return v if (v + 2) * (v + 3) == 6 * blocks else 0


def tremain_sizes(blocks: int, weight: int | None) -> list[Size]:
    """List the Tremain frame over k blocks."""
    v = _tremain_points(blocks)
    if (v == 3 or steiner.is_triple_system(v)) and v % 2 and hadamard.exists((v + 1) // 2):
        return [exactly((v + 1) * (v + 2) // 2, v + 1)]
    return []


def tremain(rows: int, blocks: int, weight: int, seed: int) -> Rows:
    """Make the Tremain equiangular tight frame of a Steiner triple system on v points.

    Blocks are its v(v-1)/6 triples, its v points, and one more. With r₀ = (v-1)/2, point i has r₀ + 1 rows: a
    simplex ±1 on its r₀ triples, and √2 on the point. Further v + 1 rows are a simplex ±1/√2 on the points,
    and √(3/2) on the last block. All are divided by √(r₀ + 2): k = (v+2)(v+3)/6, n = (v+1)(v+2)/2, coherence
    1/(r₀ + 2), the Welch bound. Weights are r₀ + 1, and v + 1 for the further rows. Hadamard matrices of
    orders r₀ + 1 and v + 1 are needed.

    Fickus, Jasper, Mixon, Peterson, "Tremain equiangular tight frames", J. Combinatorial Theory A 2018.
    """
    v = _tremain_points(blocks)
    triples, degree = v * (v - 1) // 6, (v - 1) // 2
    indices, values = np.zeros((rows, v + 1), np.int64), np.zeros((rows, v + 1))
    of_points = slice(0, v * (degree + 1))
    shape = (degree + 1, v, degree)
    sets = steiner.incidence(steiner.triples(v), v)
    indices[of_points, :degree] = np.broadcast_to(sets, shape).reshape(-1, degree)
    values[of_points, :degree] = np.broadcast_to(_simplex(degree + 1)[:, None], shape).reshape(-1, degree)
    indices[of_points, degree] = triples + np.tile(np.arange(v), degree + 1)
    values[of_points, degree] = sqrt(2.0)
    further = slice(v * (degree + 1), rows)
    indices[further] = triples + np.arange(v + 1)
    values[further, :v] = _simplex(v + 1) / sqrt(2.0)
    values[further, v] = sqrt(1.5)
    return indices, values / sqrt(degree + 2)


STEINER = Family(
    "steiner",
    "equiangular tight frame of a Steiner system; meets the Welch bound",
    steiner_frame,
    steiner_sizes,
    period=None,
    coherence=lambda rows, blocks, weight: 1 / weight,
)
SIMPLEX_LINES = Family(
    "simplex-lines",
    "a regular simplex on each line of a Steiner system; tight",
    simplex_lines,
    lines_sizes,
    period=None,
    coherence=lambda rows, blocks, weight: 1 / weight,
)
TREMAIN = Family(
    "tremain",
    "equiangular tight frame of a Steiner triple system; meets the Welch bound",
    tremain,
    tremain_sizes,
    period=None,
    coherence=lambda rows, blocks, weight: 2 / (weight + 2),  # 1/(r₀ + 2) with w = v + 1 = 2 r₀ + 2
)
