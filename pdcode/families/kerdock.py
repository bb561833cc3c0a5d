"""Kerdock codes: k/2 + 1 mutually unbiased orthonormal bases of R^k, k = 4^m."""

import numpy as np

from ..codes.constructions.finite_field import FiniteField
from ..codes.constructions.hadamard import hadamard
from ..codes.family import Family, Size


def sizes(blocks: int, weight: int | None) -> list[Size]:
    """List the size of the Kerdock code over k blocks, if k > 1 is a power of 4."""
    power_of_4 = blocks > 1 and blocks & (blocks - 1) == 0 and blocks.bit_length() % 2 == 1
    return [Size(blocks, blocks * (blocks // 2 + 1))] if power_of_4 else []


def coherence(rows: int, blocks: int, weight: int) -> float:
    """Return the coherence: 1/√k between rows of different bases, or 0 within one basis."""
    return 1 / np.sqrt(blocks) if rows > blocks else 0.0


def quadratic_forms(blocks: int, count: int) -> np.ndarray:
    """Make a Kerdock set of quadratic forms on F_2^M, k = 2^M, M even: int64, shape (count, k), count ≤ k/2.

    On GF(2^(M-1)) ⊕ GF(2): Q_a(x, ε) = Σ_j Tr((ax)^(1 + 2^j)) + ε Tr(ax), j = 1 … (M-2)/2, one for each a of
    the field. The alternating form of the sum of any two is nonsingular. The values, 0 and 1, are values at
    the points x + ε·2^(M-1), for a = 0 … count-1.
    """
    half = blocks // 2
    degree = half.bit_length() - 1
    field, elements = FiniteField(half), np.arange(half)
    conjugate, trace, form = elements, elements, np.zeros_like(elements)
    for j in range(1, degree):
        conjugate = field.multiply(conjugate, conjugate)  # x^(2^j)
        trace = trace ^ conjugate
        if 2 * j < degree:
            form = form ^ field.multiply(elements, conjugate)
    product = field.multiply(np.arange(count)[:, None], elements)  # ax
    linear, quadratic = trace[product], trace[form[product]]
    return np.concatenate([quadratic, quadratic ^ linear], axis=1)


def kerdock(rows: int, blocks: int, weight: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack Hadamard matrices over √k with the column signs (-1)^Q_a of a Kerdock set, and last the identity.

    n ≤ k(k/2 + 1), k = 4^m, coherence 1/√k, which no code of n > k(k+1)/2 rows beats (orthoplex bound); dense
    but for the identity. Each k rows from a multiple of k are an orthonormal basis.

    Kerdock, "A class of low-rate nonlinear binary codes", Information and Control 1972, in the form of
    MacWilliams and Sloane, chapter 15; lines: Calderbank, Cameron, Kantor, Seidel, "Z4-Kerdock codes,
    orthogonal spreads, and extremal Euclidean line-sets", Proc. London Math. Soc. 1997.
    """
    bases = min(-(-rows // blocks), blocks // 2)
    signs = 1 - 2 * quadratic_forms(blocks, bases)
    flat = hadamard(blocks) / np.sqrt(blocks)
    values = (flat[None] * signs[:, None]).reshape(-1, blocks)[:rows]
    indices = np.broadcast_to(np.arange(blocks), values.shape)
    if rows > len(values):
        unit = np.zeros((rows - len(values), blocks))
        unit[:, 0] = 1.0
        place = np.zeros(unit.shape, np.int64)
        place[:, 0] = np.arange(len(unit))
        indices, values = np.concatenate([indices, place]), np.concatenate([values, unit])
    return indices, values


KERDOCK = Family(
    "kerdock",
    "mutually unbiased bases of a Kerdock set; meets the orthoplex bound",
    kerdock,
    sizes,
    coherence=coherence,
)
