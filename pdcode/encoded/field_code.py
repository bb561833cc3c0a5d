"""Codes whose symbols are values of a polynomial modulo a prime: decoding with errors and erasures.

A codeword is c_i = f(x_i), i = 1 … n, f a polynomial of degree < k over the field of p elements: a
Reed–Solomon code. Any k symbols determine f. Of q symbols, any e may be wrong if 2e ≤ q - k. A symbol that is
a vector counts as wrong if one of its elements is. The wrong ones are therefore found from single elements,
by Gao's decoder, until all elements of the others are consistent. Unlike random combinations of the elements,
this is exact with certainty.

Elements are residues from 0 to p - 1, uint64; a number z that may be negative is z mod p if 2|z| < p.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..kernels import field
from ..util.errors import InputError

PRIMES = {31: 2**31 - 1, 61: 2**61 - 1}
"""Mersenne primes, by their number of bits."""

Rows = Sequence[int] | np.ndarray


def residues(numbers: np.ndarray, prime: int) -> np.ndarray:
    """Return whole numbers, float64 or int64 below 2⁶³ in magnitude, modulo p, uint64."""
    return np.mod(numbers.astype(np.int64), prime).astype(np.uint64)


def to_signed(elements: np.ndarray, prime: int) -> np.ndarray:
    """Return the numbers of least magnitude with these residues, int64."""
    return elements.astype(np.int64) - np.where(elements > prime // 2, prime, 0)


def uniform(count: int, prime: int, draw: Callable[[int], bytes]) -> np.ndarray:
    """Return `count` independent uniform residues; ``draw(length)`` returns random bytes."""
    mask, accepted = np.uint64((1 << prime.bit_length()) - 1), np.empty(0, np.uint64)
    while len(accepted) < count:
        drawn = np.frombuffer(draw(8 * (count - len(accepted))), np.uint64) & mask
        accepted = np.concatenate([accepted, drawn[drawn < prime]])
    return accepted


def product(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """Return a @ b mod p, of residues (M, K) and (K, N); b may be transposed in memory."""
    out = np.empty((len(a), b.shape[1]), np.uint64)
    if b.flags.c_contiguous:
        field.product(np.ascontiguousarray(a), b, prime, out)
    else:
        field.product_transposed(np.ascontiguousarray(a), np.ascontiguousarray(b.T), prime, out)
    return out


def interpolation(points: np.ndarray, targets: np.ndarray, prime: int) -> np.ndarray:
    """Return C, shape (targets, points), mod p: values at the targets are C @ the values at the points."""
    out = np.empty((len(targets), len(points)), np.uint64)
    if out.size:
        field.basis(points, targets, prime, out, np.empty(len(points), np.uint64))
    return out


class FieldCode:
    """Code of n values of polynomials of degree < k modulo a prime p; see `real_code.RealCode`.

    The points x are distinct numbers from 0 to p - 1; k is the dimension; p is from 3 to 2⁶¹ - 1.
    """

    def __init__(self, points: Rows, dimension: int, prime: int) -> None:
        self.points = np.asarray(points, np.uint64)
        self.count, self.dimension, self.prime = len(self.points), dimension, prime
        fits = 1 <= dimension <= self.count == len(np.unique(self.points))
        if not fits or self.points.max() >= prime:
            raise InputError(f"code: {self.count} points modulo {prime}, for degree {dimension - 1}")

    def combination(self, rows: Rows, targets: np.ndarray) -> np.ndarray:
        """Return C, shape (targets, q): the polynomial's values at the targets are C @ payloads.

        `rows` are the numbers of the q ≥ k symbols of the payloads.
        """
        return interpolation(self.points[np.asarray(rows, np.int64)], targets, self.prime)

    def locate(self, rows: Rows, payloads: np.ndarray, most: int) -> list[int] | None:
        """Return the positions of wrong payloads in `rows`; None if no set of at most `most` explains them.

        `rows` are the numbers of the q symbols, and `payloads`, uint64 (q, s), the symbols; an element that
        is no residue is wrong. The answer is right if at most `most` payloads are wrong, and 2 · most ≤ q -
        k.
        """
        points = self.points[np.asarray(rows, np.int64)]
        valid = (payloads < self.prime).all(axis=1)
        wrong, kept = np.flatnonzero(~valid).tolist(), np.flatnonzero(valid)
        while len(wrong) <= most and len(kept) >= self.dimension:
            element = self._inconsistent(points[kept], payloads[kept])
            if element < 0:
                return sorted(wrong)
            errors = self._errors(points[kept], payloads[kept, element])
            if errors is None:
                return None
            wrong += kept[errors].tolist()
            kept = np.delete(kept, errors)
        return None

    def _inconsistent(self, points: np.ndarray, payloads: np.ndarray) -> int:
        """Return the number of an element that is not a polynomial's values, or -1."""
        first, rest = slice(self.dimension), slice(self.dimension, None)
        matrix = interpolation(points[first], points[rest], self.prime)
        predicted = product(matrix, payloads[first], self.prime)
        differs = (predicted != payloads[rest]).any(axis=0)
        return int(differs.argmax()) if differs.any() else -1

    def _errors(self, points: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        """Return the positions of the wrong values of one element; None if too many are wrong."""
        wrong, work = np.empty(len(points), np.int64), np.empty(5 * len(points) + 5, np.uint64)
        count = field.errors(points, values, self.dimension, self.prime, work, wrong)
        return None if count < 0 else wrong[:count]
