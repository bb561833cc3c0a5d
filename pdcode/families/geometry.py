"""Lines of the affine spaces AG(d, q) and projective spaces PG(d, q) over finite fields.

Any two points lie on one line: Steiner systems S(2, q, q^d) and S(2, q + 1, (q^(d+1) - 1)/(q - 1)).
"""

import numpy as np

from ..codes.constructions.finite_field import FiniteField


def points(d: int, q: int) -> np.ndarray:
    """List all points of AG(d, q), int64, shape (q^d, d): point number Σ x_j q^j has coordinates x_j."""
    return np.arange(q**d)[:, None] // q ** np.arange(d) % q


def directions(d: int, q: int) -> np.ndarray:
    """List the points of PG(d - 1, q), shape ((q^d - 1)/(q - 1), d).

    They are the vectors whose last nonzero coordinate is 1. Vectors that end with 1, the points of AG(d - 1,
    q), come before the vectors that end with 0.
    """
    if d == 1:
        return np.ones((1, 1), np.int64)
    finite, infinite = points(d - 1, q), directions(d - 1, q)
    ends = np.repeat([1, 0], [len(finite), len(infinite)])
    return np.concatenate([np.concatenate([finite, infinite]), ends[:, None]], axis=1)


def affine(d: int, q: int) -> np.ndarray:
    """List the lines of AG(d, q), direction by direction, int64, shape (directions, q^(d-1), q).

    The entries are the numbers of each line's points; the lines of a direction partition the points.
    """
    field, every = FiniteField(q), points(d, q)
    lines = []
    for direction in directions(d, q):
        last = np.flatnonzero(direction)[-1]
        start = every[every[:, last] == 0]
        steps = field.multiply(np.arange(q)[:, None], direction)
        lines.append(field.add(start[:, None], steps) @ q ** np.arange(d))
    return np.stack(lines)


def projective(d: int, q: int) -> np.ndarray:
    """List the lines of PG(d, q), int64, shape (lines, q + 1).

    The lines of AG(d, q), each with the point at infinity of its direction, come before the lines at
    infinity.
    """
    if d == 0:
        return np.empty((0, q + 1), np.int64)
    finite = affine(d, q)
    infinite = q**d + np.arange(len(finite))  # points at infinity: one for each direction
    ends = np.broadcast_to(infinite[:, None, None], (*finite.shape[:2], 1))
    proper = np.concatenate([finite, ends], axis=2).reshape(-1, q + 1)
    return np.concatenate([proper, q**d + projective(d - 1, q)])
