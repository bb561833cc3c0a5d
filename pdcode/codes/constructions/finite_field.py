"""Arithmetic of GF(q) for prime powers q, and of products of such fields, on arrays of integers.

An element of GF(p^e) is the integer whose digits to base p are the coefficients of a polynomial, taken modulo
the least irreducible monic polynomial of degree e; for q = 2^e addition is exclusive or. An element of a
product of fields is a number in mixed radix, one digit a field.
"""

from functools import cache, reduce

import numpy as np


@cache
def prime_powers(number: int) -> tuple[tuple[int, int], ...]:
    """Factor a number ≥ 1 into powers of distinct primes: ((p, e), …) with p rising."""
    factors, p = [], 2
    while p * p <= number:
        e = 0
        while number % p == 0:
            number, e = number // p, e + 1
        if e:
            factors.append((p, e))
        p += 1
    return (*factors, (number, 1)) if number > 1 else tuple(factors)


def is_prime_power(number: int) -> bool:
    """Return whether there is a field of this many elements."""
    return len(prime_powers(number)) == 1


def _digits(elements: np.ndarray | int, p: int, e: int) -> np.ndarray:
    return np.asarray(elements)[..., None] // p ** np.arange(e) % p


def _number(digits: np.ndarray, p: int) -> np.ndarray:
    return (digits * p ** np.arange(digits.shape[-1])).sum(axis=-1)


def _reduced(polynomial: np.ndarray, modulus: np.ndarray, p: int) -> np.ndarray:
    """Return the remainder modulo a monic polynomial; coefficients along the last axis, lowest first."""
    remainder, e = polynomial % p, len(modulus) - 1
    for top in range(remainder.shape[-1] - 1, e - 1, -1):
        remainder[..., top - e : top + 1] -= remainder[..., top, None] * modulus
        remainder %= p
    return remainder[..., :e]


@cache
def irreducible(p: int, e: int) -> tuple[int, ...]:
    """Find the coefficients, lowest first, of the least irreducible monic polynomial of degree e over GF(p).

    It is found by trial division: a reducible polynomial has a monic factor of at most half its degree.
    """
    divisors = [_digits(d + p**f, p, f + 1) for f in range(1, e // 2 + 1) for d in range(p**f)]
    for low in range(p**e):
        candidate = _digits(low + p**e, p, e + 1)
        if all(_reduced(candidate, divisor, p).any() for divisor in divisors):
            return tuple(int(c) for c in candidate)
    raise AssertionError(f"no irreducible polynomial of degree {e} over GF({p})")  # there always is one


class FiniteField:
    """The field GF(q) of a prime power q; methods take integer arrays that broadcast."""

    def __init__(self, q: int) -> None:
        ((self.p, self.e),) = prime_powers(q)
        self.q = q

    def add(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left + right."""
        if self.p == 2:
            return np.bitwise_xor(left, right)
        return self._digitwise(np.asarray(left), np.asarray(right), 1)

    def subtract(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left - right."""
        if self.p == 2:
            return np.bitwise_xor(left, right)
        return self._digitwise(np.asarray(left), np.asarray(right), -1)

    def _digitwise(self, left: np.ndarray, right: np.ndarray, sign: int) -> np.ndarray:
        total, unit = np.zeros(np.broadcast_shapes(left.shape, right.shape), np.int64), 1
        for _ in range(self.e):
            total += (left // unit + sign * (right // unit)) % self.p * unit
            unit *= self.p
        return total

    def multiply(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left · right."""
        p, e = self.p, self.e
        if e == 1:
            return np.asarray(left) * np.asarray(right) % p
        a, b = _digits(left, p, e), _digits(right, p, e)
        product = np.zeros((*np.broadcast_shapes(a.shape, b.shape)[:-1], 2 * e - 1), np.int64)
        for power in range(e):
            product[..., power : power + e] += a * b[..., power, None]
        return _number(_reduced(product, np.array(irreducible(p, e)), p), p)

    def quadratic_character(self) -> np.ndarray:
        """Return χ of every element, int8: 0 of 0, 1 of squares, -1 of others (q odd)."""
        character = np.full(self.q, -1, np.int8)
        elements = np.arange(self.q)
        character[self.multiply(elements, elements)] = 1
        character[0] = 0
        return character


class FieldProduct:
    """Product of the fields whose orders are the prime powers in m: a ring of m elements."""

    def __init__(self, m: int) -> None:
        self.fields = [FiniteField(p**e) for p, e in prime_powers(m)]
        self.units = np.cumprod([1, *(field.q for field in self.fields)])
        self.least = min((field.q for field in self.fields), default=1)

    def add(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left + right."""
        return self._fieldwise("add", left, right)

    def multiply(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left · right."""
        return self._fieldwise("multiply", left, right)

    def diagonal(self, elements: np.ndarray) -> np.ndarray:
        """Return (i, i, …, i) for i below the order of the smallest field: their differences are units."""
        return np.asarray(elements) * int(self.units[:-1].sum())

    def _fieldwise(self, operation: str, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        digits = (
            getattr(field, operation)(left // unit % field.q, right // unit % field.q) * unit
            for field, unit in zip(self.fields, self.units, strict=False)
        )
        return reduce(
            np.add, digits, np.zeros(np.broadcast_shapes(np.shape(left), np.shape(right)), np.int64)
        )
