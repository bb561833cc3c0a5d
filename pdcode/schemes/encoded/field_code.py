"""Codes whose symbols are values of a polynomial modulo a prime: decoding with errors and erasures.

A codeword is c_i = f(x_i), i = 1 … n, f a polynomial of degree < k over the field of p elements: a
Reed–Solomon code. Any k symbols determine f. Of q symbols, e may be wrong if 2e ≤ q - k, whichever they are.
Symbols that are vectors are wrong as wholes: who sends one wrong element is a liar. So the wrong ones are
found from single elements, by Gao's decoder, until all elements of the others are consistent. That is exact:
unlike random combinations of the elements, it leaves nothing to chance.

Elements are residues from 0 to p - 1, uint64; a number z that may be negative is z mod p if 2|z| < p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...kernels import field
from ...util.errors import InputError

PRIMES = {31: 2**31 - 1, 61: 2**61 - 1}
"""Mersenne primes, by their number of bits."""

Rows = Sequence[int] | np.ndarray


def residues(numbers: np.ndarray, prime: int) -> np.ndarray:
    """Return whole numbers, float64 or int64 below 2⁶³ in magnitude, modulo p, uint64."""
    return np.mod(numbers.astype(np.int64), prime).astype(np.uint64)


def lifted(found: np.ndarray, prime: int) -> np.ndarray:
    """Return the numbers of least magnitude with these residues, int64."""
    return found.astype(np.int64) - np.where(found > prime // 2, prime, 0)


def uniform(count: int, prime: int, draw: Callable[[int], bytes]) -> np.ndarray:
    """Return independent uniform residues, shape (count,).

    Parameters
    ----------
    count, prime : int
    draw : callable
        ``draw(length)`` returns random bytes.
    """
    mask, found = np.uint64((1 << prime.bit_length()) - 1), np.empty(0, np.uint64)
    while len(found) < count:
        drawn = np.frombuffer(draw(8 * (count - len(found))), np.uint64) & mask
        found = np.concatenate([found, drawn[drawn < prime]])
    return found


def product(a: np.ndarray, b: np.ndarray, prime: int) -> np.ndarray:
    """Return a @ b mod p, of residues (M, K) and (K, N); b may be transposed in memory."""
    out = np.empty((len(a), b.shape[1]), np.uint64)
    if b.flags.c_contiguous:
        field.product(np.ascontiguousarray(a), b, prime, out)
    else:
        field.product_transposed(np.ascontiguousarray(a), np.ascontiguousarray(b.T), prime, out)
    return out


def interpolation(points: np.ndarray, targets: np.ndarray, prime: int) -> np.ndarray:
    """Return C, shape (targets, points): values at the targets are C @ values at the points, mod p."""
    out = np.empty((len(targets), len(points)), np.uint64)
    if out.size:
        field.basis(points, targets, prime, out, np.empty(len(points), np.uint64))
    return out


class FieldCode:
    """Code of the values of polynomials of degree < k modulo a prime; see `real_code.RealCode`.

    Parameters
    ----------
    points : array_like of int, shape (n,)
        x, distinct, from 0 to p - 1.
    dimension : int
        k.
    prime : int
        p, from 3 to 2⁶¹ - 1.

    Attributes
    ----------
    count, dimension, prime : int
        n, k and p.
    """

    def __init__(self, points: Rows, dimension: int, prime: int) -> None:
        self.points = np.asarray(points, np.uint64)
        self.count, self.dimension, self.prime = len(self.points), dimension, prime
        fits = 1 <= dimension <= self.count == len(np.unique(self.points))
        if not fits or self.points.max() >= prime:
            raise InputError(f"code: {self.count} points modulo {prime}, for degree {dimension - 1}")

    def combination(self, rows: Rows, targets: np.ndarray) -> np.ndarray:
        """Return C, shape (targets, q), such that C @ payloads are the polynomial's values at the targets.

        Parameters
        ----------
        rows : sequence of int
            Numbers of q ≥ k symbols.
        targets : ndarray of uint64
        """
        return interpolation(self.points[np.asarray(rows, np.int64)], targets, self.prime)

    def locate(self, rows: Rows, payloads: np.ndarray, most: int) -> list[int] | None:
        """Return which payloads are wrong, as positions in `rows`; None if no small set of them explains it.

        Parameters
        ----------
        rows : sequence of int
            Numbers of the q symbols.
        payloads : ndarray of uint64, shape (q, s)
            The symbols; what is no residue is wrong.
        most : int
            Largest number of wrong ones. If no more are, and 2 · most ≤ q - k, the answer is right.
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
        """Return an element of the payloads that is none of a polynomial's; -1: there is none."""
        first = slice(self.dimension)
        rest = slice(self.dimension, None)
        predicted = product(
            interpolation(points[first], points[rest], self.prime), payloads[first], self.prime
        )
        differs = (predicted != payloads[rest]).any(axis=0)
        return int(differs.argmax()) if differs.any() else -1

    def _errors(self, points: np.ndarray, word: np.ndarray) -> np.ndarray | None:
        """Return the places of the wrong values of one element; None if too many are wrong."""
        wrong, room = np.empty(len(points), np.int64), np.empty(5 * len(points) + 5, np.uint64)
        found = field.errors(points, word, self.dimension, self.prime, room, wrong)
        return None if found < 0 else wrong[:found]
